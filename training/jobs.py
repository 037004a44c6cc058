"""What is trained, how far it is, and the way it begins."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.problems import Problem

from .batches import Batches
from .config import OWN, TrainConfig
from .networks import network_of
from .optimizers import make_optimizer
from .problems import problem_of, read_own


@dataclass
class Job:
    """What is trained, and how far it is."""

    config: TrainConfig
    problem: Problem
    # Gives the logits of a batch in training; the parameters are those of the problem's model.
    network: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    batches: Batches
    # Updates made.
    step: int = 0

    def state(self) -> dict[str, Any]:
        """All that the next updates depend on."""
        return {
            "step": self.step,
            "model": self.problem.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state(),
            "random": torch.get_rng_state(),  # of dropout in a model of one's own
        }

    def load(self, state: dict[str, Any]) -> None:
        """Become what `state` says."""
        self.step = state["step"]
        self.problem.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load(state["batches"])
        torch.set_rng_state(state["random"])


def prepare(
    config: TrainConfig, own: tuple[str, Problem] | None
) -> tuple[Job, dict[str, Any], dict[str, str]]:
    """Return the job at its beginning, what rebuilds its problem, and what its data are."""
    device = _device(config.device)
    problem, origin, told = problem_of(config) if own is None else _of_own(config, *own)
    problem = _on_device(problem, device)
    batches = Batches(config, problem.train)
    config = config.with_steps(len(problem.train[0]))
    optimizer = make_optimizer(config, problem.model)
    job = Job(config, problem, network_of(config, problem.model), optimizer, batches)
    return job, origin, told


def _of_own(
    config: TrainConfig, name: str, problem: Problem
) -> tuple[Problem, dict[str, Any], dict[str, str]]:
    """As `problem_of`; what rebuilds the problem is code that has to be named again."""
    if config.data != OWN:
        raise ValueError(
            f"data must be {OWN} where a problem of one's own is trained, got {config.data}"
        )
    return read_own(problem), {"name": name, "options": {}}, {"data": name, "data_source": name}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device must be usable here, got {name!r} ({reason}); try cpu") from None


def _on_device(problem: Problem, device: torch.device) -> Problem:
    """The problem with model and data on the device; convolutions are faster channels-last."""
    return Problem(
        model=problem.model.to(device=device, memory_format=torch.channels_last),
        loss_fn=problem.loss_fn,
        train=tuple(part.to(device) for part in problem.train),
        test=tuple(part.to(device) for part in problem.test),
    )
