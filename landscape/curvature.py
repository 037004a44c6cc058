"""Curvature through training: eigenvalues, traces, alignments and edges at a run's checkpoints."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from landscape.alignment import direction_names
from landscape.curvature_rows import Asked, Row, measure_row
from landscape.edges import Edge, edge_of_stability
from landscape.objectives import Objective
from landscape.operators import Operator, Progress, hessian
from landscape.perturbations import Perturbation
from landscape.results import Curvature
from landscape.runs import Run
from landscape.savepoints import Savepoint
from landscape.stability import has_batch_norm
from landscape.storage import plain
from landscape.update_maps import check_known_map
from landscape.updates import update_of_run

_MOST_CHANGES = 200  # of the learning rate at which the edge is told

_FIELDS = (
    "step",
    "eigenvalues",
    "residuals",
    "lowest",
    "lowest_residual",
    "trace",
    "trace_error",
    "frobenius",
    "frobenius_error",
    "layer_trace",
    "layer_error",
    "loss",
    "mean_probability",
    "gradient_norm",
    "learning_rate",
    "multiplier",
    "multiplier_residual",
    "swing",
    "alignment",
    "rayleigh",
)


def measure_curvature(
    run: Run,
    objective: Objective,
    *,
    checkpoints: Sequence[int],
    k: int = 5,
    tolerance: float = 1e-3,
    probes: int = 10,
    perturbations: Sequence[Perturbation] = (),
    stability: bool = False,
    batches: str = "each",
    seed: int,
    operator: Callable[[Objective], Operator] = hessian,
    savepoint: Savepoint | None = None,
    progress: Progress | None = None,
) -> Curvature:
    """Measure curvature at checkpoints of a run, each with its own buffers.

    The k largest eigenvalues are searched from the eigenvectors of the checkpoint before, mixed
    with a random vector, until a further search from random vectors finds nothing that is missing:
    the start saves products and hides nothing. The smallest one is searched from a random vector.

    The edge is that of the run's own step where a formula holds (`edge_of_stability`): with
    bn="batch" or without BatchNorm, for what optimizer and perturbation the run recorded. It holds
    for full-batch training, which a run shows by one step per epoch. Where none holds the edge is
    empty and `edge_label` says why.

    Args:
        run: A run that has ended.
        objective: The loss of the run's problem, under the BatchNorm policy to measure with.
        checkpoints: Steps, each with a checkpoint; measured in rising order.
        k: Largest eigenvalues.
        tolerance: Of residuals of eigenpairs and multipliers, relative to the largest magnitude.
        probes: Random vectors of trace and Frobenius norm; 0 leaves them out.
        perturbations: Whose alignment is measured beside the gradient's, see `measure_alignment`.
        stability: Whether to find the multiplier of the run's update at each checkpoint.
        batches: "each" or "whole": the data of the update, see `landscape.update_maps.UpdateMap`.
        seed: Seed of all start vectors and probes.
        operator: Makes the Hessian from the objective at a checkpoint.
        savepoint: Where finished checkpoints are kept.
        progress: Called with checkpoints done and in total, and what is at hand.

    Returns:
        One row for each checkpoint; NaN, and not converged, where the loss there is not finite.
        After Ctrl-C the finished checkpoints, with `facts["interrupted"]`.

    Raises:
        ValueError: If the objective is of another model, no checkpoint is asked for, the
            multiplier is asked for and the update is not known, or the saved state is of another
            request.
        RunFileError: If a checkpoint is not kept.
        KeyboardInterrupt: Ctrl-C before the first checkpoint was finished.

    Source: Cohen et al., Gradient descent on neural networks typically occurs at the edge of
        stability, ICLR 2021.
    """
    if run.layout != objective.layout:
        raise ValueError(
            f"the objective must be of the run's model, got {objective.layout.size} parameters in "
            f"{len(objective.layout)} tensors, {run.path} has {run.layout.size} in "
            f"{len(run.layout)}, or under other names"
        )
    if not checkpoints:
        raise ValueError("at least one checkpoint must be asked for, got none")
    steps = [run.resolve(step) for step in sorted(set(checkpoints))]
    for step in steps if stability else ():
        check_known_map(update_of_run(run, step))  # refused before anything is measured
    asked = Asked(
        k=k,
        tolerance=tolerance,
        probes=probes,
        perturbations=tuple(perturbations),
        stability=stability,
        batches=batches,
        seed=seed,
        operator=operator,
    )
    series = _Series(run=run, objective=objective, steps=steps, asked=asked, progress=progress)
    series.restore(savepoint)
    interrupted = False
    try:
        series.measure(savepoint)
    except KeyboardInterrupt:
        if not series.rows:
            raise
        interrupted = True
        if savepoint is not None:
            savepoint.save(series.state())
    return series.result(interrupted)


@dataclass(kw_only=True)
class _Series:
    """The checkpoints measured so far, and what is asked of each."""

    run: Run
    objective: Objective
    steps: list[int]
    asked: Asked
    progress: Progress | None
    rows: list[Row] = field(default_factory=list)
    vectors: np.ndarray | None = None  # eigenvectors of the last checkpoint [k, param]
    notes: dict[str, Any] = field(default_factory=dict)  # of the first checkpoint that has them

    def measure(self, savepoint: Savepoint | None) -> None:
        """Measure what is missing."""
        for step in self.steps[len(self.rows) :]:
            self._tell(f"step {step}")
            found = measure_row(
                self.run,
                self.objective,
                step,
                self.asked,
                start=self.vectors,
                tell=partial(self._tell_of, step),
            )
            self.rows.append(found.row)
            self.vectors = self.vectors if found.vectors is None else found.vectors
            self.notes = found.notes | self.notes
            self._tell(f"step {step}, λ₁ {found.row['eigenvalues'][0]:.4g}")
            if savepoint is not None and savepoint.due():
                savepoint.save(self.state())

    def _tell(self, note: str) -> None:
        if self.progress is not None:
            self.progress(len(self.rows), len(self.steps), note)

    def _tell_of(self, step: int, note: str) -> None:
        self._tell(f"step {step}, {note}")

    def _stacked(self, name: str) -> np.ndarray:
        """A field of all rows; NaN where a row lacks it, empty where all do."""
        known = [row[name] for row in self.rows if name in row]
        if not known:
            return np.empty(0)
        missing = np.full(known[0].shape, np.nan)
        return np.stack([row.get(name, missing) for row in self.rows])

    def state(self) -> dict[str, np.ndarray]:
        """The finished rows, and what the next checkpoint starts from."""
        names = sorted({name for row in self.rows for name in row})
        state = {f"row_{name}": self._stacked(name) for name in names}
        if self.vectors is not None:
            state["vectors"] = self.vectors
        notes = json.dumps(plain(self.notes)).encode()
        return state | {"notes": np.frombuffer(notes, np.uint8), "request": self._request}

    def restore(self, savepoint: Savepoint | None) -> None:
        """Take up finished rows.

        Raises:
            ValueError: If they are of another request.
        """
        state = None if savepoint is None else savepoint.load()
        if not state:
            return
        steps = state["row_step"].tolist() if "row_step" in state else []
        fits = np.array_equal(state["request"], self._request)
        if not fits or steps != self.steps[: len(steps)]:
            raise ValueError(
                f"the saved state must be of the same request, got one of steps {steps} with "
                f"other settings than {self._request.tolist()}; remove it to begin anew"
            )
        self.notes = json.loads(state["notes"].tobytes())
        self.vectors = state.get("vectors")
        columns = {
            name.removeprefix("row_"): values
            for name, values in state.items()
            if name.startswith("row_")
        }
        self.rows = [
            {name: values[place] for name, values in columns.items()} for place in range(len(steps))
        ]

    @property
    def _request(self) -> np.ndarray:
        """What a saved state must be of."""
        asked = self.asked
        numbers = (self.objective.layout.size, asked.k, asked.probes, asked.stability, asked.seed)
        return np.array([*numbers, len(asked.perturbations), asked.tolerance], float)

    def result(self, interrupted: bool) -> Curvature:
        """The result of the rows there are."""
        edges = self._edges()
        line = next((edge for edge in edges.values() if edge.label), edges[min(edges)])
        levels = {step: edge.value for step, edge in edges.items()} if line.label else {}
        fields: dict[str, Any] = {name: self._stacked(name) for name in _FIELDS}
        aligned = fields["alignment"].size > 0
        return Curvature(
            **fields,
            layer_names=tuple(self.notes.get("layer_names", ())),
            layer_size=np.array(self.notes.get("layer_size", ()), int),
            edge=np.array([levels[int(row["step"])] for row in self.rows if levels], float),
            edge_label=line.label or line.reason,
            edge_step=np.array([*levels], int),
            edge_level=np.array([*levels.values()], float),
            direction_names=direction_names(self.asked.perturbations) if aligned else (),
            matvecs=int(self._stacked("matvecs").sum()),
            converged=self._stacked("converged").astype(bool),
            facts=self._facts(line, interrupted),
        )

    def _edges(self) -> dict[int, Edge]:
        """The edge at each checkpoint and wherever the learning rate changed between them."""
        policy = self.objective.facts["bn"] if has_batch_norm(self.objective) else None
        recorded = self.run.steps
        norms = dict(zip(recorded["step"], recorded["gradient_norm"], strict=True))
        norms |= {float(row["step"]): float(row["gradient_norm"]) for row in self.rows}
        steps = {int(row["step"]) for row in self.rows}
        steps |= _rate_changes(recorded, min(steps), max(steps))
        whole, edges = _is_full_batch(recorded), {}
        for step in sorted(steps):
            try:
                update = update_of_run(self.run, step)
            except ValueError as error:
                edges[step] = Edge(value=math.nan, label="", reason=str(error))
                continue
            edges[step] = edge_of_stability(update, norms[step], bn=policy, full_batch=whole)
        return edges

    def _facts(self, line: Edge, interrupted: bool) -> dict[str, Any]:
        asked = self.asked
        facts = {
            **self.objective.facts,
            **self.notes.get("operator", {}),
            "tolerance": asked.tolerance,
            "seed": asked.seed,
            "probes": asked.probes,
            "perturbations": [perturbation.label for perturbation in asked.perturbations],
            "directions_of": "all data, under the policy bn",
            "alignment_null": math.sqrt(2 / (math.pi * self.objective.layout.size)),
        }
        if line.label and line.reason:
            facts["edge_holds"] = line.reason
        if asked.stability:
            facts |= self.notes.get("update", {})
            facts["swing_real"] = self._stacked("swing_real").tolist()
        if interrupted:
            facts["interrupted"] = True
            facts["missing_steps"] = self.steps[len(self.rows) :]
        return facts


def _rate_changes(rows: Mapping[str, np.ndarray], first: int, last: int) -> set[int]:
    """Steps between two at which the learning rate changed, of many some evenly chosen ones."""
    steps, changed = rows["step"][1:], np.diff(rows["lr"]) != 0
    found = steps[changed & (steps > first) & (steps < last)].astype(int)
    chosen = np.linspace(0, len(found) - 1, min(len(found), _MOST_CHANGES)).round().astype(int)
    return set(found[chosen].tolist())


def _is_full_batch(rows: Mapping[str, np.ndarray]) -> bool:
    """Whether one step was recorded per epoch."""
    epochs = np.diff(rows["epoch"])
    return bool(epochs.size) and bool((epochs == 1).all())
