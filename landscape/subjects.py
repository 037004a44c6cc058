"""What an analysis looks at: a problem at a checkpoint of a run, or with weights of one's own."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.modules import layout_of, load_theta
from landscape.objectives import Objective
from landscape.problems import Problem
from landscape.runs import Run, RunFileError


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is analysed: a problem at one checkpoint of a run, or with weights of one's own."""

    problem: Problem
    folder: Path
    """Where results are kept."""
    run: Run | None = None
    checkpoint: int = 0

    @property
    def identity(self) -> str:
        """The run's id, or a digest of the weights where there is no run."""
        if self.run is not None:
            return self.run.id
        total = hashlib.sha256()
        for name, tensor in self.problem.model.state_dict().items():
            total.update(name.encode())
            total.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
        return total.hexdigest()

    def objective(self, *, samples: int, seed: int, bn: str, batch_size: int = 256) -> Objective:
        """The loss of the training data at this checkpoint, on a seeded subset."""
        data = select_samples(self.problem.train, samples=samples, seed=seed)
        options = {"bn": bn, "batch_size": batch_size}
        return Objective(self.problem.model, self.problem.loss_fn, data, **options)

    def facts(self, kind: str) -> dict[str, Any]:
        """Who was measured: run, method, checkpoint, data."""
        facts: dict[str, Any] = {"analysis": kind, "data": "training set, no augmentation"}
        if self.run is not None:
            data = self.run.summary.get("data", self.run.problem["name"])
            facts.update(
                run=self.run.id,
                run_name=self.run.name,
                method=self.run.method,
                checkpoint=self.checkpoint,
                data=f"{data} training set, no augmentation",
                training_seed=self.run.config.get("seed"),
            )
            if "model" in self.run.config:
                facts["model"] = self.run.config["model"]
        return facts


def subjects_of_run(run: Run, problem: Problem, checkpoint: str = "last") -> Iterator[Subject]:
    """The run's subjects at "first", "last", a step, several as "30,60", or "all".

    Raises:
        RunFileError: If the run is still being written, keeps no such checkpoint, or was not
            made by this problem.
    """
    if run.status == "running":
        raise RunFileError(
            f"{run.path} is still being written ({len(run.steps['step'])} of "
            f"{run.total_steps or '?'} steps); measure it when its training has ended"
        )
    wanted = run.checkpoints if checkpoint == "all" else str(checkpoint).split(",")
    for step in [run.resolve(item) for item in wanted]:
        yield Subject(
            problem=replace(problem, model=_at_checkpoint(run, problem, step)),
            folder=run.path / "results",
            run=run,
            checkpoint=step,
        )


def _at_checkpoint(run: Run, problem: Problem, step: int) -> torch.nn.Module:
    layout = layout_of(problem.model)
    if layout != run.layout:
        raise RunFileError(
            f"{run.path} holds {run.layout.size} parameters in {len(run.layout)} tensors, the "
            f"problem's model {layout.size} in {len(layout)}, or under other names; name the "
            "problem that the run was trained on"
        )
    checkpoint = run.checkpoint(step)
    return load_theta(problem.model, checkpoint.theta, checkpoint.buffers)


def select_samples(data: Any, *, samples: int, seed: int) -> Any:
    """A class-balanced subset of (inputs, targets), drawn without replacement.

    Args:
        data: `(inputs [n, ...], targets [n])`; anything else is returned as it is, whole.
        samples: Size of the subset; 0, or more than there are, takes all.
        seed: Seed of the draw.

    Returns:
        The subset, shuffled, so that classes are mixed.
    """
    if not (isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor)):
        return data
    inputs, targets = data
    if not 0 < samples < len(inputs):
        return data
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(inputs), generator=generator)
    if targets.ndim == 1 and not targets.is_floating_point():
        rank = torch.empty(len(inputs), dtype=torch.long)
        shuffled = targets.cpu()[order]
        for label in shuffled.unique():
            members = (shuffled == label).nonzero().squeeze(1)
            rank[members] = torch.arange(len(members))
        order = order[rank.argsort(stable=True)]
    chosen = order[:samples]
    chosen = chosen[torch.randperm(samples, generator=generator)]
    return inputs[chosen.to(inputs.device)], targets[chosen.to(targets.device)]
