"""What is trained, how far it is, and the way it begins."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from landscape.optimizers import SAM
from landscape.problems import Problem
from landscape.ranks import Ranks, local_device

from .batches import Batches
from .config import OWN, TrainConfig
from .networks import network_of, synchronize_batchnorm
from .optimizers import make_optimizer
from .problems import problem_of, read_own


@dataclass
class Job:
    """What is trained, and how far it is."""

    config: TrainConfig
    problem: Problem
    # Gives the logits of a batch in training; the parameters are those of the problem's model.
    network: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    # The processes that share each batch.
    ranks: Ranks
    # Updates made.
    step: int = 0

    @property
    def apart(self) -> bool:
        """Whether each rank perturbs its samples by itself, and only the updates are joined."""
        return self.ranks.world > 1 and bool(self.config.method_settings().get("m"))

    def passes(self) -> AbstractContextManager[None]:
        """Where the passes of an update are made: what they leave is joined, but if apart."""
        if self.apart and isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return nullcontext()

    def join_buffers(self) -> None:
        """Give all ranks the mean of their running statistics, which only evaluations use."""
        if self.config.sync_batchnorm:
            return  # they are equal
        buffers = [b for b in self.problem.model.buffers() if b.is_floating_point()]
        for buffer, mean in zip(buffers, self.ranks.mean(buffers), strict=True):
            assert mean is not None
            buffer.copy_(mean)

    def state(self) -> dict[str, Any]:
        """All that the next updates depend on; the ranks must ask for it together."""
        return {
            "step": self.step,
            "model": self.problem.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state(),
            "ranks": self.ranks.gather(self._own_state()),
        }

    def _own_state(self) -> dict[str, Any]:
        """What differs between ranks."""
        return {
            "random": torch.get_rng_state(),  # of dropout in a model of one's own
            "buffers": {n: b.cpu() for n, b in self.problem.model.named_buffers()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Become what `state` says.

        Raises:
            ValueError: It is of another number of ranks.
        """
        ranks = len(state["ranks"])
        if ranks != self.ranks.world:
            raise ValueError(
                f"the run must go on with as many ranks as it was trained by, {ranks}, got "
                f"{self.ranks.world}; start {f'{ranks} by torchrun' if ranks > 1 else 'it alone'}"
            )
        self.step = state["step"]
        self.problem.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load(state["batches"])
        own = state["ranks"][self.ranks.rank]
        torch.set_rng_state(own["random"])
        for name, buffer in self.problem.model.named_buffers():
            buffer.copy_(own["buffers"][name])


def prepare(
    config: TrainConfig, own: tuple[str, Problem] | None, ranks: Ranks
) -> tuple[Job, dict[str, Any], dict[str, str]]:
    """Return the job at its beginning, what rebuilds its problem, and what its data are.

    Raises:
        ValueError: The data are missing or don't fit the settings, or the ranks can't share them.
    """
    config.check_ranks(ranks.world)
    problem, origin, told = problem_of(config) if own is None else _of_own(config, *own)
    _check_same_data(problem, ranks)
    problem = _on_device(problem, local_device(device_of(config)))
    if config.sync_batchnorm and ranks.world > 1:
        problem = replace(problem, model=synchronize_batchnorm(problem.model))
    if not ranks.first:
        torch.manual_seed(torch.initial_seed() + ranks.rank)  # dropout of its own
    batches = Batches(config, problem.train, (ranks.rank, ranks.world))
    config = config.with_steps(len(problem.train[0]))
    optimizer = make_optimizer(config, problem.model)
    job = Job(config, problem, network_of(config, problem.model, ranks), optimizer, batches, ranks)
    if job.apart and isinstance(optimizer, SAM):
        optimizer.base_optimizer.register_step_pre_hook(partial(_join_gradients, ranks))
    return job, origin, told


def _join_gradients(ranks: Ranks, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Give all ranks the mean of their gradients, just before the update."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for param, gradient in zip(params, ranks.mean([p.grad for p in params]), strict=True):
        param.grad = gradient


def _check_same_data(problem: Problem, ranks: Ranks) -> None:
    """Refuse data that are not the same in all ranks, as those drawn without a seed."""
    if ranks.world == 1:
        return
    parts = (*problem.train, *problem.test)
    found = ranks.gather([(tuple(p.shape), float(p.double().sum())) for p in parts])
    if any(other != found[0] for other in found):
        raise ValueError(
            "all ranks must have the same data, got different ones: a problem of one's own has to "
            "draw with a seed"
        )


def _of_own(
    config: TrainConfig, name: str, problem: Problem
) -> tuple[Problem, dict[str, Any], dict[str, str]]:
    """As `problem_of`; what rebuilds the problem is code that has to be named again."""
    if config.data != OWN:
        raise ValueError(
            f"data must be {OWN} where a problem of one's own is trained, got {config.data}"
        )
    return read_own(problem), {"name": name, "options": {}}, {"data": name, "data_source": name}


def device_of(config: TrainConfig) -> torch.device:
    """Return the device that a config names.

    Raises:
        ValueError: It can't be used here.
    """
    name = config.device
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
