"""Numbers that a run has: of its summary, of its record, and of results measured of it.

A name says where a number comes from: `test_loss` is of the summary; `steps.loss` the mean over
the last epoch, `steps.loss@100:200` that over the updates 100 <= t < 200, `steps.loss@100` one row;
`evaluations.test_loss` the last one, `evaluations.test_loss@100` that after 100 updates;
`trace.trace` is of the newest trace.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from landscape.runs import COLUMNS, EVALUATIONS, Run, StoredResult
from landscape.terminal import near

COSTS = ("recording_waited",)
"""Numbers of the summary that say what a run cost, not what it reached."""

_RECORDED = {
    "steps": tuple(name for name in COLUMNS if name not in ("step", "epoch")),
    "evaluations": EVALUATIONS[1:],
}
_ALWAYS = ("loss", "accuracy")  # in every row: a NaN there is one that training gave
_SAME = ("data_digest", "bn")
"""Facts that, like the options, must be equal for numbers to be comparable."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A scalar of each of several runs."""

    name: str
    unit: str
    values: np.ndarray
    """[run]."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the results that it comes from were measured with; empty for recorded numbers."""


def read_scalar(name: str, runs: Sequence[Run]) -> Reading:
    """Read a scalar of every run.

    Raises:
        ValueError: No run has such a scalar, a run lacks it, or the results that it comes from
            were measured with different settings.
        RunFileError: A record or a result can't be read.
    """
    source, dot, rest = name.partition(".")
    if dot and source in _RECORDED:
        values = [_recorded(run, source, rest) for run in runs]
        return Reading(name=name, unit=_unit(rest.partition("@")[0]), values=np.array(values))
    if dot and source in _MEASURED:
        return _measured(name, runs)
    for run in runs:
        if not _is_number(run.summary.get(name)):
            known = [*summary_scalars(run), *_recorded_names(), *map("{}.…".format, _MEASURED)]
            raise ValueError(
                f"{run.path} has no scalar {name!r}{near(name, known)}; --list shows what there is"
            )
    return Reading(
        name=name, unit=_unit(name), values=np.array([float(run.summary[name]) for run in runs])
    )


def summary_scalars(run: Run) -> list[str]:
    """The numbers of a run's summary, without its costs."""
    return [n for n, value in run.summary.items() if _is_number(value) and n not in COSTS]


def list_scalars(run: Run) -> list[str]:
    """Every scalar that a run has.

    Raises:
        RunFileError: If its record can't be read.
    """
    names = [name for name, value in run.summary.items() if _is_number(value)]
    tables = {"steps": run.steps, "evaluations": run.evaluations}
    for table, columns in _RECORDED.items():
        rows = tables[table]
        names += [f"{table}.{name}" for name in columns if np.isfinite(rows[name]).any()]
    newest = {_group_of(s): s for kind in _MEASURED for s in run.results(kind)}
    return names + [
        f"{prefix}.{name}" for prefix, s in newest.items() for name in _numbers(s.load())
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _recorded_names() -> list[str]:
    return [f"{table}.{name}" for table, columns in _RECORDED.items() for name in columns]


def _unit(name: str) -> str:
    if (name.startswith("rise.") and "rayleigh" not in name) or ".gain, " in name:
        return "nats"
    if ".minimum, " in name:
        return "mean ε"
    last = name.rpartition(".")[2]
    if last.endswith("loss") or last == "loss_rise":
        return "nats"
    return "fraction" if last.endswith("accuracy") else ""


def _recorded(run: Run, table: str, rest: str) -> float:
    """A mean of recorded rows; rows in which a column was not measured are left out."""
    column, at, where = rest.partition("@")
    if column not in _RECORDED[table]:
        known = _RECORDED[table]
        raise ValueError(
            f"{table} has no column {column!r}{near(column, known)}; there are {', '.join(known)}"
        )
    rows = run.steps if table == "steps" else run.evaluations
    if not len(rows["step"]):
        raise ValueError(f"{run.path} has no rows of {table}; was it imported?")
    values = rows[column][_rows(run, table, rows, where if at else None)]
    if column not in _ALWAYS and table == "steps":
        values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _rows(run: Run, table: str, rows: dict[str, np.ndarray], where: str | None) -> np.ndarray:
    """Which rows are meant [row]: those of a step, of a window, or at the end."""
    step = rows["step"]
    if where is None:
        if table == "evaluations":
            return step == step[-1]
        return np.floor(rows["epoch"]) == np.floor(rows["epoch"][-1])
    first, colon, last = where.partition(":")
    if not (first.isdecimal() and (last.isdecimal() if colon else not last)):
        raise ValueError(f"after @ must stand a step as 100, or 100:200, got {where!r}")
    chosen = (step >= int(first)) & (step < int(last)) if colon else step == int(first)
    if not chosen.any():
        raise ValueError(
            f"{run.path} has no row of {table} at {where}; they go from {step[0]:.0f} to "
            f"{step[-1]:.0f}"
        )
    return chosen


def _measured(name: str, runs: Sequence[Run]) -> Reading:
    """A number of each run's newest result of a kind that was measured as the first run's."""
    kind = name.partition(".")[0]
    values, wanted = [], {}
    for run in runs:
        found = [s for s in run.results(kind) if name.startswith(f"{_group_of(s)}.")]
        if not found:
            told = "".join(f" ({reason})" for reason in run.refused(kind))
            raise ValueError(
                f"{run.path} must have a stored result for {name!r}, got none{told}; measure it "
                f"with `landscape {_COMMANDS.get(kind, kind)} {run.path}`"
            )
        alike = [s for s in found if wanted in ({}, _asked(run, s))]
        if not alike:
            raise ValueError(_unlike(name, runs[0], wanted, run, _asked(run, found[-1])))
        wanted = wanted or _asked(run, alike[-1])
        values.append(_number_of(run, name, alike[-1]))
    return Reading(name=name, unit=_unit(name), values=np.array(values), settings=wanted)


def _number_of(run: Run, name: str, stored: StoredResult) -> float:
    numbers, prefix = _numbers(stored.load()), f"{_group_of(stored)}."
    short = name.removeprefix(prefix)
    if short not in numbers:
        raise ValueError(
            f"{run.path} has no scalar {name!r}{near(short, numbers)}; its newest "
            f"{stored.kind} has {', '.join(numbers)}"
        )
    return float(numbers[short])


def _unlike(name: str, first: Run, wanted: dict[str, Any], run: Run, found: dict[str, Any]) -> str:
    differ = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    if len(differ) > 1:  # which other options make it, too
        differ = [key for key in differ if key != "data_digest"]
    told = "; ".join(f"{key} {wanted.get(key)} and {found.get(key)}" for key in differ)
    return (
        f"{name} must be measured alike in all runs, got {told} in {first.path} and {run.path}; "
        "measure again with equal options"
    )


def _asked(run: Run, stored: StoredResult) -> dict[str, Any]:
    """What a result was measured with; the run's last checkpoint is "last", whatever its step."""
    asked = {**stored.options, **{k: stored.facts[k] for k in _SAME if k in stored.facts}}
    last = max(run.checkpoints, default=None)
    steps = asked.get("checkpoint"), asked.get("checkpoints")
    if last is not None and steps[0] == last:
        asked["checkpoint"] = "last"
    if last is not None and isinstance(steps[1], list) and last in steps[1]:
        asked["checkpoints"] = "up to the last"
    return {key: value for key, value in asked.items() if key != "update"}


def _group_of(stored: StoredResult) -> str:
    """The first part of the names of a result's numbers."""
    if stored.kind not in _OF_A_PERTURBATION:
        return stored.kind
    label = str(stored.options.get("perturbation") or "").lower().partition(" ")[0]
    parts = [stored.kind, str(stored.options.get("protocol", "")), label]
    return ".".join(part for part in parts if part)


def _of_fields(*names: str) -> Callable[[Any], dict[str, float]]:
    return lambda result: {name: float(getattr(result, name)) for name in names}


def _of_spectrum(result: Any) -> dict[str, float]:
    return {f"eigenvalue_{i + 1}": float(v) for i, v in enumerate(result.eigenvalues)}


def _of_sharpness(result: Any) -> dict[str, float]:
    """The rows of the table; of rows with equal names the later ones say their setting."""
    found = {"loss": result.loss, "mean_probability": result.mean_probability}
    for name, setting, value in zip(
        result.names, result.settings, result.value.tolist(), strict=True
    ):
        found[f"{name}, {setting}" if name in found else name] = value
    return found


def _of_directions(result: Any) -> dict[str, float]:
    """Of the whole run, and of its last window."""
    found = {"run_mean_cosine": result.run_mean_cosine}
    found |= {"mean_cosine": float(result.mean_cosine[-1]), "norm": float(result.norm[-1])}
    lags = zip(result.lags.tolist(), result.lag_cosine[-1].tolist(), strict=True)
    return found | {f"lag_{lag}": cosine for lag, cosine in lags}


def _of_curvature(result: Any) -> dict[str, float]:
    """At the last checkpoint."""
    found = {f"eigenvalue_{i + 1}": float(v) for i, v in enumerate(result.eigenvalues[-1])}
    for name in ("lowest", "trace", "multiplier", "gradient_norm"):
        if (values := getattr(result, name)).size:
            found[name] = float(values[-1])
    return found


def _of_consistency(result: Any) -> dict[str, float]:
    """Agreement, and means over batches of what was measured of each; all but NaN."""
    names = ("mean_cosine", "resultant_length", "participation", "noise_scale", "predicted_cosine")
    found = {name: float(getattr(result, name)) for name in names}
    for name in ("norms", "loss_rise", "cosine_gradient", "cosine_full", "radial"):
        values = getattr(result, name)
        found[f"mean_{name}"] = float(values.mean()) if values.size else math.nan
    return {n: v for n, v in found.items() if n in names[:2] or not math.isnan(v)}


def _of_rise(result: Any) -> dict[str, float]:
    """Means over batches, at the radius used and at each common one."""
    found = {}
    for place, rises in zip(result.places, result.rise, strict=True):
        for radius, values in zip(result.radii.tolist(), rises, strict=True):
            at = "" if math.isnan(radius) else f", radius {radius:g}"
            found[f"{place}{at}"] = float(values.mean())
    if result.rayleigh.size:
        found["rayleigh"] = float(result.rayleigh.mean())
        found["gradient_rayleigh"] = float(result.gradient_rayleigh.mean())
    return found


def _of_offset(result: Any) -> dict[str, float]:
    columns = {name: getattr(result, name).tolist() for name in ("minimum", "gain")}
    return {
        f"{name}, {curve}": value
        for name, values in columns.items()
        for curve, value in zip(result.curves, values, strict=True)
    }


_MEASURED: dict[str, Callable[[Any], dict[str, float]]] = {
    "spectrum": _of_spectrum,
    "trace": _of_fields("trace", "frobenius", "effective_rank"),
    "sharpness": _of_sharpness,
    "stability": _of_fields("multiplier"),
    "curvature": _of_curvature,
    "consistency": _of_consistency,
    "directions": _of_directions,
    "rise": _of_rise,
    "offset": _of_offset,
}
"""Kinds of results that hold single numbers, and which."""

_COMMANDS = {"trace": "spectrum"}
_OF_A_PERTURBATION = ("consistency", "rise", "offset")


def _numbers(result: Any) -> dict[str, float]:
    return _MEASURED[result.kind](result)
