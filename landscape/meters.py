"""What is measured at a point of a plane: one row of numbers, whatever was asked for."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.fast import EvaluationPath, choose_path, precision_error
from landscape.objectives import Evaluation, Objective
from landscape.operators import NotFiniteError
from landscape.spectra import find_eigenpairs
from landscape.threads import threads
from landscape.visits import Keeper

Place = tuple[Tensor, Mapping[str, Any] | None]
"""Parameters [param] of a point, and all buffers by name where they belong to it."""

EIGENVALUES = ("lambda_min", "lambda_max", "lambda_residual")
_EIGENVALUE_TOLERANCE = 1e-2


class Meter:
    """Measures train and test data, loss, accuracy and metrics, and eigenvalues at a point.

    Args:
        objective: The loss over the training data.
        test: The loss over the test data, where it is wanted too.
        eigenvalues: Whether to find the extreme eigenvalues of the training loss's Hessian.
        precision: "full" (that of the objective), "bfloat16" or "mixed".
        chunk: Samples evaluated at a time; chosen by a short probe by default.
        first: Points at which a fast path is held to the plain one.
        keeper: Remembers the path, so that a resumed surface goes on along the same one.

    Raises:
        ValueError: If test and training data have other metrics, or an argument is unknown.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        test: Objective | None,
        eigenvalues: bool,
        precision: str,
        chunk: int | None,
        first: Sequence[Place],
        keeper: Keeper,
    ) -> None:
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1 sample, got {chunk}")
        self._objective, self._keeper = objective, keeper
        self._eigenvalues = eigenvalues
        self._paths: list[EvaluationPath] = []
        self.facts: dict[str, Any] = {}
        for name, over in (("", objective), ("test-", test)):
            if over is None:
                continue
            path, facts = _path(name, over, first, precision, chunk, keeper)
            self._paths.append(path)
            self.facts |= facts
        self.columns = _columns(objective, test, eigenvalues)
        if eigenvalues:
            self.facts["eigenvalue_tolerance"] = _EIGENVALUE_TOLERANCE

    def __call__(self, place: Place) -> np.ndarray:
        """The row of a point, float64 [column]: NaN and infinity as they come."""
        theta, buffers = place
        row: list[float] = []
        for path in self._paths:
            row += _numbers(path.evaluate(theta, buffers))
        if self._eigenvalues:
            row += self._extremes(theta, buffers, row[0])
        return np.array(row, float)

    def _extremes(
        self, theta: Tensor, buffers: Mapping[str, Any] | None, loss: float
    ) -> tuple[float, float, float]:
        if not math.isfinite(loss):
            return math.nan, math.nan, math.nan
        about = self._objective.at(theta, buffers)
        try:
            found = find_eigenpairs(
                about,
                k=min(2, theta.numel()),
                which="BE",
                tolerance=_EIGENVALUE_TOLERANCE,
                seed=0,
                copies=False,  # how often the extremes are multiple is not asked
            )
        except NotFiniteError:
            return math.nan, math.nan, math.nan
        values = found.eigenvalues
        return float(values[-1]), float(values[0]), float(found.residuals.max())

    def measure_precision(self, places: Callable[[], Sequence[Place]]) -> dict[str, Any]:
        """Hold some points of a reduced precision to full precision; facts of the error."""
        path = self._paths[0]
        if self.facts.get("precision", "full") == "full":
            return {}

        def make() -> dict[str, Any]:
            return precision_error(path, places())

        return {"precision_error": self._keeper.settle("precision-error", make)}

    def threads(self) -> AbstractContextManager[None]:
        """Use as many threads as were settled on: their number changes the last bits."""
        return threads(self.facts.get("threads") or torch.get_num_threads())


def _path(
    name: str,
    objective: Objective,
    first: Sequence[Place],
    precision: str,
    chunk: int | None,
    keeper: Keeper,
) -> tuple[EvaluationPath, dict[str, Any]]:
    made: list[EvaluationPath] = []

    def make() -> dict[str, Any]:
        made.append(choose_path(objective, first, precision=precision, chunk=chunk))
        return {"settled": made[0].settled, "facts": made[0].facts}

    chosen = keeper.settle(f"{name}path", make)
    path = made[0] if made else choose_path(objective, first, settled=chosen["settled"])
    prefix = name.replace("-", "_")
    return path, {f"{prefix}{key}": value for key, value in chosen["facts"].items()}


def _columns(objective: Objective, test: Objective | None, eigenvalues: bool) -> tuple[str, ...]:
    if test is not None and test.metrics.keys() != objective.metrics.keys():
        raise ValueError(
            f"training and test data must have the same metrics, got {[*objective.metrics]} and "
            f"{[*test.metrics]}"
        )
    names = ["loss", "accuracy", *(f"metric {name}" for name in objective.metrics)]
    if test is not None:
        names += [
            "test_loss",
            "test_accuracy",
            *(f"metric test {name}" for name in objective.metrics),
        ]
    return (*names, *(EIGENVALUES if eigenvalues else ()))


def _numbers(found: Evaluation) -> list[float]:
    return [found.loss, found.accuracy, *found.metrics.values()]


def fields_of(
    columns: Sequence[str], rows: Mapping[int, np.ndarray], shape: tuple[int, ...]
) -> dict[str, Any]:
    """The arrays of a result, by field: NaN and not evaluated where there is no row.

    Args:
        columns: Names of the numbers of a row.
        rows: Measured points by flat index.
        shape: Shape of the arrays, C order.
    """
    values = np.full((len(columns), math.prod(shape)), np.nan)
    evaluated = np.zeros(math.prod(shape), bool)
    for index, row in rows.items():
        values[:, index], evaluated[index] = row, True
    fields: dict[str, Any] = {"evaluated": evaluated.reshape(shape)}
    metrics, names = [], []
    for column, array in zip(columns, values.reshape(len(columns), *shape), strict=True):
        if column.startswith("metric "):
            metrics.append(array)
            names.append(column.removeprefix("metric "))
        else:
            fields[column] = array
    if metrics:
        fields |= {"metrics": np.stack(metrics), "metric_names": tuple(names)}
    return fields
