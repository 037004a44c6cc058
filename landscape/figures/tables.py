"""Results as tables of columns, and as CSV."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.figures import curvature_tables as of_curvature
from landscape.figures import direction_tables as of_directions
from landscape.results import (
    Barrier,
    Claim,
    Comparison,
    Consistency,
    Curve,
    Directions,
    Profile,
    Result,
    Surface,
    Trajectory,
)
from landscape.storage import RunFileError
from landscape.terminal import near

Columns = Mapping[str, np.ndarray]


def _grid(*axes: np.ndarray) -> list[np.ndarray]:
    return [part.ravel() for part in np.meshgrid(*axes, indexing="ij")]


def _before(values: np.ndarray, size: int) -> np.ndarray:
    """Values between two (or three) rows as a column [size], at the later (or middle) row."""
    column = np.full(size, np.nan)
    first = size - len(values) - (size - len(values)) // 2
    column[first : first + len(values)] = values
    return column


_MEASURED = (
    "loss",
    "accuracy",
    "test_loss",
    "test_accuracy",
    "lambda_min",
    "lambda_max",
    "lambda_residual",
    "evaluated",
    "interpolated",
)


def _columns(result: Result, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays by name as columns; those that a result lacks are left out."""
    arrays = {name: getattr(result, name, np.empty(0)) for name in names}
    return {name: array.ravel() for name, array in arrays.items() if array.size}


def _metrics(result: Profile | Surface) -> dict[str, np.ndarray]:
    named = zip(result.metric_names, result.metrics, strict=True)
    return {name: values.ravel() for name, values in named}


def _profile(result: Profile) -> Columns:
    repeat, alpha = _grid(np.arange(len(result.loss)), result.alpha)
    places = {"repeat": repeat, "alpha": alpha}
    return places | _columns(result, _MEASURED) | _metrics(result)


def _surface(result: Surface) -> Columns:
    alpha, beta = _grid(result.alpha, result.beta)
    places = {"alpha": alpha, "beta": beta}
    return places | _columns(result, _MEASURED) | _metrics(result)


def _marks(result: Profile | Surface) -> Columns:
    axes = ("alpha",) if isinstance(result, Profile) else ("alpha", "beta")
    position = result.mark_position.reshape(len(result.mark_labels), len(axes))
    return {"mark": np.array(result.mark_labels)} | dict(zip(axes, position.T, strict=True))


def _heights(result: Barrier) -> Columns:
    i, j = np.triu_indices(len(result.height), 1)
    names = ("height", "height_over_line", "error_height", "error_height_over_line", "distance")
    columns = {name: getattr(result, name)[i, j] for name in names}
    return {"i": i, "j": j} | _named(result, i, j) | columns


def _lines(result: Barrier) -> Columns:
    i, j = np.triu_indices(len(result.height), 1)
    size = len(result.t)
    columns = {"i": np.repeat(i, size), "j": np.repeat(j, size), "t": np.tile(result.t, len(i))}
    measured = ("loss", "accuracy", "test_loss", "test_accuracy", "evaluated")
    arrays = {name: getattr(result, name) for name in measured}
    return columns | {name: array[i, j].ravel() for name, array in arrays.items() if array.size}


def _named(result: Barrier, i: np.ndarray, j: np.ndarray) -> dict[str, np.ndarray]:
    names = np.array(result.names)
    return {"from": names[i], "to": names[j]} if len(names) else {}


def _curve(result: Curve) -> Columns:
    x, y = result.position.T
    names = ("loss", "accuracy", "test_loss", "test_accuracy")
    measured = _columns(result, (*names, *(f"line_{name}" for name in names)))
    return {"t": result.t} | measured | {"x": x, "y": y, "off_plane": result.off_plane}


def _training(result: Curve) -> Columns:
    return {"update": np.arange(len(result.training_loss)), "loss": result.training_loss}


def _path(result: Surface) -> Columns:
    alpha, beta = result.path_position.reshape(-1, 2).T
    runs = {"run": result.path_run} if result.path_run.size else {}
    return runs | {
        "step": result.path_step,
        "alpha": alpha,
        "beta": beta,
        "off_plane": result.path_off_plane,
        "loss": result.path_loss,
    }


def _cosines(result: Consistency) -> Columns:
    i, j = _grid(*[np.arange(len(result.step))] * 2)
    steps = {"step_i": result.step[i], "step_j": result.step[j]}
    return {"i": i, "j": j, **steps, "cosine": result.cosines.ravel()}


def _vectors(result: Consistency) -> Columns:
    return {
        "step": result.step,
        "norm": result.norms,
        "cosine_previous": _before(result.consecutive, len(result.step)),
        "loss_rise": result.loss_rise,
        "cosine_gradient": result.cosine_gradient,
        **of_directions.vector_columns(result),
    }


def _windows(result: Directions) -> Columns:
    of_cosine = ("mean_cosine", "null_low", "null_high", "interval_low", "interval_high")
    more = ("mean_cosine_error", "resultant_length", "participation", "norm", "norm_low")
    names = ("start", "stop", "count", *of_cosine, *more, "norm_high", "effective_share")
    return _columns(result, names)


def _lags(result: Directions) -> Columns:
    start, lag = _grid(result.start, result.lags)
    names = ("lag_cosine", "lag_low", "lag_high", "lag_error")
    return {"start": start, "lag": lag} | _columns(result, names)


def _rotation(result: Directions) -> Columns:
    i, j = _grid(*[np.arange(len(result.start))] * 2)
    names = ("matrix", "matrix_error", "pairs", "pairs_error")
    return {"start_i": result.start[i], "start_j": result.start[j]} | _columns(result, names)


def _trajectory(result: Trajectory) -> Columns:
    x, y = result.position.T
    names = ("off_plane", "distance_start", "distance_end", "loss", "accuracy")
    return {
        "step": result.step,
        "x": x,
        "y": y,
        **{name: getattr(result, name) for name in names},
        "step_length": _before(result.step_length, len(result.step)),
        "turning_angle": _before(result.turning_angle, len(result.step)),
    }


def _components(result: Trajectory) -> Columns:
    rank = np.arange(1, len(result.explained) + 1)
    return {"component": rank, "explained": result.explained, "null": result.explained_null}


def _scalars(result: Comparison) -> Columns:
    ends = ("interval_low", "interval_high", "equivalence_low", "equivalence_high")
    more = ("probability", "margin", "runs_to_differ", "runs_to_equal")
    numbers = {name: getattr(result, name) for name in ("difference", *ends, *more)}
    words = {"scalar": np.array(result.names), "unit": np.array(result.units)}
    means = {"mean_a": result.a.mean(axis=1), "mean_b": result.b.mean(axis=1)}
    return words | means | numbers | {"verdict": np.array(result.verdicts)}


def _values(result: Comparison) -> Columns:
    sizes = result.a.shape[1], result.b.shape[1]
    group, run = np.repeat(["a", "b"], sizes), np.concatenate([np.arange(n) for n in sizes])
    scalars = np.repeat(result.names, sum(sizes))
    count = len(result.names)
    values = np.concatenate([result.a, result.b], axis=1).ravel()
    columns = {"scalar": scalars, "group": np.tile(group, count), "run": np.tile(run, count)}
    return columns | {"value": values}


def _effects(result: Claim) -> Columns:
    ends = ("interval_low", "interval_high", "equivalence_low", "equivalence_high")
    numbers = {n: getattr(result, n) for n in ("estimate", *ends, "nested_low", "nested_high")}
    of = result.row_statement
    words = {
        "statement": np.array(result.statements)[of],
        "runs": np.array(result.row_names),
        "unit": np.array(result.units)[of],
        "relation": np.array(result.relations)[of],
        "margin": result.margin[of],
    }
    verdicts = {"verdict": np.array(result.row_verdicts), "change": np.array(result.changes)}
    return words | numbers | verdicts


def _verdicts(result: Claim) -> Columns:
    names = ("statements", "sources", "verdicts", "texts", "effects")
    return {name.rstrip("s"): np.array(getattr(result, name)) for name in names}


def _effects_by_seed(result: Claim) -> Columns:
    rows, seeds = result.values.shape
    of = np.repeat(result.row_statement, seeds)
    return {
        "statement": np.array(result.statements)[of],
        "runs": np.repeat(result.row_names, seeds),
        "seed": np.tile(result.seeds, rows),
        "value": result.values.ravel(),
    }


TABLES: dict[str, dict[str, Callable[[Any], Columns]]] = {
    "profile": {"points": _profile, "marks": _marks},
    "surface": {"points": _surface, "path": _path, "marks": _marks},
    "barrier": {"heights": _heights, "lines": _lines},
    "curve": {"points": _curve, "training": _training},
    "spectrum": {"eigenvalues": of_curvature.eigenpairs},
    "density": {"nodes": of_curvature.nodes, "outliers": of_curvature.outliers},
    "trace": {"blocks": of_curvature.blocks, "probes": of_curvature.probes},
    "sharpness": {"measures": of_curvature.measures},
    "stability": {"multipliers": of_curvature.multipliers},
    "curvature": {
        "checkpoints": of_curvature.checkpoints,
        "eigenvalues": of_curvature.eigenvalues,
        "layers": of_curvature.layers,
        "directions": of_curvature.directions,
    },
    "directions": {"windows": _windows, "lags": _lags, "matrix": _rotation},
    "consistency": {
        "cosines": _cosines,
        "vectors": _vectors,
        "tensors": of_directions.tensors,
        "probabilities": of_directions.probabilities,
    },
    "rise": {
        "batches": of_directions.rises,
        "transfer": of_directions.transfers,
        "alignment": of_directions.alignments,
    },
    "offset": {"points": of_directions.scans, "minima": of_directions.minima},
    "trajectory": {"checkpoints": _trajectory, "components": _components},
    "comparison": {"scalars": _scalars, "values": _values},
    "claim": {"effects": _effects, "verdicts": _verdicts, "values": _effects_by_seed},
}
"""Tables of each kind of result; the first is the one a plain CSV holds."""


def columns_of(result: Result, table: str | None = None) -> Columns:
    """A result as a table of columns of equal length.

    Raises:
        ValueError: If the kind has no such table.
    """
    tables = TABLES[result.kind]
    if table is not None and table not in tables:
        raise ValueError(
            f"a {result.kind} has the tables {', '.join(tables)}, got {table!r}"
            f"{near(table, tables)}"
        )
    return tables[table or next(iter(tables))](result)


def csv_of(data: Result | Columns, table: str | None = None) -> str:
    """A result's table, or columns, as CSV text; numbers keep every digit.

    Example:
        >>> print(csv_of({"step": np.arange(2), "loss": np.array([0.5, np.nan])}), end="")
        step,loss
        0,0.5
        1,nan
    """
    columns = columns_of(data, table) if isinstance(data, Result) else data
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True))
    return text.getvalue()


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV of numbers as `csv_of` writes it.

    Raises:
        RunFileError: If the file is missing or not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = list(csv.reader(file))
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(head))
    except (OSError, ValueError) as error:
        raise RunFileError(f"{path}: not a table of numbers ({error})") from None
    return dict(zip(head, values.T, strict=True))
