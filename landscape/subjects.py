"""What an analysis looks at: a problem at a checkpoint of a run, or with weights of one's own."""

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.modules import Weights, buffers_of, flatten, layout_of, load_theta
from landscape.objectives import Objective
from landscape.perturbations import (
    Perturbation,
    aace,
    asam,
    friendly_sam,
    gsam,
    sam,
    usam,
    vasso,
)
from landscape.problems import Problem
from landscape.runs import Run, RunFileError
from landscape.states import load_state
from landscape.updates import perturbation_of_run

_PERTURBATIONS: dict[str, Callable[..., Perturbation]] = {
    "sam": sam,
    "usam": usam,
    "asam": asam,
    "aace": aace,
    "vasso": vasso,
    "f-sam": friendly_sam,
    "gsam": gsam,
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is analysed: a problem at a checkpoint of a run, with weights of one's own, or several.

    Several runs, or weights, are one subject for what lies between them.
    """

    problem: Problem
    folder: Path
    """Where results are kept."""
    run: Run | None = None
    checkpoint: int = 0
    weights: tuple[Weights, ...] = ()
    """The minima of an analysis of several; empty for one."""
    runs: tuple[Run, ...] = ()
    """The runs that they come from, where they come from runs."""
    checkpoints: tuple[int, ...] = ()
    """The step of each of these runs."""
    device: str | None = None
    """Where to compute; where the model is, by default."""

    @property
    def identity(self) -> str:
        """The run's id, a digest of the weights where there is no run, or those of several."""
        if self.run is not None:
            return self.run.id
        if self.runs:
            steps = zip(self.runs, self.checkpoints, strict=True)
            return "+".join(f"{run.id}@{step}" for run, step in steps)
        if self.weights:
            return "+".join(_digest({"theta": weights.theta}) for weights in self.weights)
        return _digest(self.problem.model.state_dict())

    def objective(
        self, *, samples: int, seed: int, bn: str, batch_size: int = 256, loss_fn: Any = None
    ) -> Objective:
        """The loss of the training data at this checkpoint, on a seeded subset.

        Args:
            samples: Size of the subset; 0 for all.
            seed: Seed of its draw.
            bn: BatchNorm policy.
            batch_size: Samples of a batch.
            loss_fn: Another loss than the problem's.
        """
        options = {"bn": bn, "batch_size": batch_size, "loss_fn": loss_fn}
        return self._objective(self.problem.train, samples, seed, **options)

    def test_objective(self, training: Objective, *, samples: int, seed: int) -> Objective:
        """The loss of the test data, with the BatchNorm policy of `training` and its statistics.

        Raises:
            ValueError: If the problem has no test data.
        """
        if self.problem.test is None:
            raise ValueError(
                "the problem must have test data to measure them, got none; give Problem(test=...)"
            )
        options = {"bn": training.facts["bn"], "statistics": training}
        return self._objective(self.problem.test, samples, seed, **options)

    def _objective(
        self, whole: Any, samples: int, seed: int, *, loss_fn: Any = None, **options: Any
    ) -> Objective:
        return Objective(
            self.problem.model,
            self.problem.loss_fn if loss_fn is None else loss_fn,
            select_samples(whole, samples=samples, seed=seed),
            device=self.device,
            metrics=self.problem.metrics,
            **options,
        )

    @property
    def batch_size(self) -> int:
        """Samples of a training step; with m-sharpness of a chunk, which has an ε of its own."""
        config = self.run.config if self.run else {}
        return int(config.get("m") or config.get("batch_size", 128))

    def perturbation(self, word: str) -> Perturbation:
        """A perturbation by name, with the run's own settings where it trained with it.

        Args:
            word: As "aace", or with another radius than its default, as "aace@0.1".

        Raises:
            ValueError: If there is none of this name, or it needs a radius.
        """
        name, at, text = word.strip().partition("@")
        trained = perturbation_of_run(self.run) if self.run else None
        own = trained if trained is not None and trained.name == name else None
        if own is None and (name not in _PERTURBATIONS or (name == "usam" and not at)):
            raise ValueError(
                f"perturbations must be {', '.join(_PERTURBATIONS)}, several by comma, or that of "
                "the run's own training, each as NAME or NAME@RADIUS, and usam with a radius, got "
                f"{word!r}" + (f", trained with {trained.name}" if trained else "")
            )
        if not at:
            return own or _PERTURBATIONS[name]()
        try:
            radius = float(text)
        except ValueError:
            raise ValueError(f"a radius must be a number, as sam@0.05, got {word!r}") from None
        return replace(own, rho=radius) if own else _PERTURBATIONS[name](radius)

    def facts(self, kind: str) -> dict[str, Any]:
        """Who was measured: run, method, checkpoint, data."""
        facts: dict[str, Any] = {"analysis": kind, "data": "training set, no augmentation"}
        if self.weights:
            facts["weights"] = [weights.name for weights in self.weights]
        first = self.run or (self.runs[0] if self.runs else None)
        if first is not None:
            if data := first.summary.get("data", first.problem["name"]):
                facts["data"] = f"{data} training set, no augmentation"
            if "model" in first.config:
                facts["model"] = first.config["model"]
        if self.runs:
            facts["runs"] = [run.id for run in self.runs]
            facts["run_names"] = [run.name for run in self.runs]
            facts["steps"] = list(self.checkpoints)
        if self.run is not None:
            facts.update(
                run=self.run.id,
                run_name=self.run.name,
                method=self.run.method,
                checkpoint=self.checkpoint,
                training_seed=self.run.config.get("seed"),
            )
        return facts


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run recorded, which is measured without its model and data, as far as it goes."""

    run: Run
    checkpoint: int
    """Updates recorded when it was looked at: a longer record is another question."""

    @property
    def identity(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def folder(self) -> Path:
        """Where results are kept."""
        return self.run.path / "results"

    def facts(self, kind: str) -> dict[str, Any]:
        """Who was measured: run, method, last step, and the data it was trained on."""
        run = self.run
        data = run.summary.get("data", run.problem["name"])
        return {
            "analysis": kind,
            "data": f"{data} training set, as trained" if data else "training set, as trained",
            **({"model": run.config["model"]} if "model" in run.config else {}),
            "run": run.id,
            "run_name": run.name,
            "method": run.method,
            "checkpoint": self.checkpoint,
            "training_seed": run.config.get("seed"),
        }


def record_of_run(run: Run) -> Record:
    """The record of a run, live or ended."""
    return Record(run=run, checkpoint=run.updates)


def digest_of_file(path: Path) -> str:
    """A digest of what a file holds, where that is part of a question.

    Raises:
        ValueError: If there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(state: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in state.items():
        total.update(name.encode())
        total.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return total.hexdigest()


def subject_of_runs(runs: Sequence[Run], problem: Problem, checkpoint: str = "last") -> Subject:
    """Several runs of one problem as one subject, each at "first", "last" or a step.

    Results go to the folder `joint` beside the first run.

    Raises:
        RunFileError: If a run is still being written, keeps no such checkpoint, or was made by
            another problem.
        ValueError: If a run is named twice, or several checkpoints are asked for.
    """
    if "," in str(checkpoint) or checkpoint == "all":
        raise ValueError(
            f"several runs are measured at one checkpoint each, got {checkpoint!r}; take last, "
            "first or a step"
        )
    if len({run.id for run in runs}) < len(runs):
        raise ValueError(f"each run may stand once, got {', '.join(str(run.path) for run in runs)}")
    others = [run for run in runs if run.problem["name"] != runs[0].problem["name"]]
    if others:
        raise RunFileError(
            f"all runs must be of one problem, got {runs[0].problem['name']!r} in {runs[0].path} "
            f"and {others[0].problem['name']!r} in {others[0].path}"
        )
    found, subjects = [], []
    for run in runs:
        (subject,) = subjects_of_run(run, problem, checkpoint)
        model = subject.problem.model
        name = run.name if checkpoint == "last" else f"{run.name} at {subject.checkpoint}"
        found.append(Weights(name, flatten(model), buffers_of(model)))
        subjects.append(subject)
    return Subject(
        problem=subjects[0].problem,
        folder=runs[0].path.parent / "joint",
        weights=tuple(found),
        runs=tuple(runs),
        checkpoints=tuple(subject.checkpoint for subject in subjects),
    )


def subject_of_states(problem: Problem, states: Sequence[str], folder: Path) -> Subject:
    """One's own model with several files of weights, as one subject.

    Raises:
        ValueError: If a file does not fit the model.
    """
    found = []
    for state in states:
        model = copy.deepcopy(problem.model)
        load_state(model, state)
        found.append(Weights(Path(state).stem, flatten(model), buffers_of(model)))
    load_state(problem.model, states[0])
    return Subject(problem=problem, folder=folder, weights=tuple(found))


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
