"""Two groups of runs compared: differences with intervals, and whether they stay in a margin."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from landscape.groups import Group, Pairs, pair_groups, settings_apart
from landscape.intervals import sign_flip_probability, t_interval, t_quantile, welch_interval
from landscape.result_files import load_result, result_key, save_result
from landscape.results import Comparison, Result
from landscape.scalars import Reading, read_scalar, summary_scalars

_ENOUGH = 10_000  # runs


def compare_groups(
    a: Group,
    b: Group,
    scalars: Sequence[str] = (),
    *,
    margins: Mapping[str, float] | None = None,
    paired: bool = True,
) -> Comparison:
    """Compare two groups of runs by numbers that all of them have.

    Args:
        a: The runs of A; differences are A − B.
        b: The runs of B.
        scalars: Names as in `scalars.read_scalar`; all numbers of the summaries by default.
        margins: By name of a scalar, the difference up to which it counts as none.
        paired: Whether runs of equal seed are pairs; else intervals are Welch's.

    Raises:
        ValueError: There are no pairs, a run lacks a scalar, or a margin is not above 0 or of
            nothing that is compared.
        RunFileError: A record or a result can't be read.
    """
    pairs = pair_groups(a, b, paired=paired)
    names = list(dict.fromkeys(scalars)) or _shared_summary(pairs)
    margins = _checked(margins or {}, names)
    runs = (*pairs.a, *pairs.b)
    readings = [read_scalar(name, runs) for name in names]
    labels = (a.label, b.label)
    if a.label == b.label:
        labels = (f"{a.label} (A)", f"{b.label} (B)")
    return compare_readings(readings, pairs, labels=labels, margins=margins)


class Kept(NamedTuple):
    """A result of several runs and the file it lies in."""

    path: Path
    result: Any
    found: bool
    """Whether the same had been stored before."""


def keep_joint(result: Result, folder: Path, provenance: dict[str, Any]) -> Kept:
    """Store a comparison or claim among the results of several runs, once.

    It is named by all that it holds: numbers that were measured anew since are another answer.
    """
    key = result_key(
        result.kind,
        result.options,
        run="+".join(result.facts["runs"]),
        checkpoint=0,
        data_digest=result.digest,
    )
    path = folder / f"{result.kind}-{key}.h5"
    if path.exists():
        return Kept(path, load_result(path), True)
    signed = replace(result, provenance=provenance)
    save_result(signed, path)
    return Kept(path, signed, False)


def _shared_summary(pairs: Pairs) -> list[str]:
    runs = (*pairs.a, *pairs.b)
    names = [n for n in summary_scalars(runs[0]) if all(n in summary_scalars(r) for r in runs)]
    if not names:
        raise ValueError(
            "the runs' summaries share no number; name scalars by --scalar, which --list shows"
        )
    return names


def _checked(margins: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    for name, margin in margins.items():
        if name not in names:
            raise ValueError(
                f"a margin must be of a scalar that is compared, got {name!r}; compared are "
                f"{', '.join(names)}"
            )
        if not 0 < margin < math.inf:
            raise ValueError(f"a margin must be a number above 0, got {margin} of {name}")
    return dict(margins)


def compare_readings(
    readings: Sequence[Reading],
    pairs: Pairs,
    *,
    labels: tuple[str, str],
    margins: Mapping[str, float],
) -> Comparison:
    """Compare what was read of the runs of A, then of B."""
    paired, count = bool(pairs.seeds), len(pairs.a)
    rows = [
        _row(r.values[:count], r.values[count:], margins.get(r.name, math.nan), paired=paired)
        for r in readings
    ]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in _NUMBERS}
    return Comparison(
        labels=labels,
        names=tuple(reading.name for reading in readings),
        units=tuple(reading.unit for reading in readings),
        a=np.array([reading.values[:count] for reading in readings]),
        b=np.array([reading.values[count:] for reading in readings]),
        seeds=np.array(pairs.seeds, int),
        margin=np.array([margins.get(reading.name, math.nan) for reading in readings]),
        verdicts=tuple(_verdict(row) for row in rows),
        options={
            "scalars": [reading.name for reading in readings],
            "margins": dict(margins),
            "paired": paired,
        },
        facts=_facts(readings, pairs),
        **columns,
    )


def _facts(readings: Sequence[Reading], pairs: Pairs) -> dict[str, Any]:
    runs = (*pairs.a, *pairs.b)
    measured = {reading.name: reading.settings for reading in readings if reading.settings}
    return {
        "analysis": "comparison",
        "runs": [run.id for run in runs],
        "run_names": [run.name for run in runs],
        "group_sizes": [len(pairs.a), len(pairs.b)],
        "left_out": list(pairs.left_out),
        "settings_apart": settings_apart(pairs.a, pairs.b),
        **({"measured_with": measured} if measured else {}),
    }


_NUMBERS = (
    "difference",
    "interval_low",
    "interval_high",
    "equivalence_low",
    "equivalence_high",
    "probability",
    "runs_to_differ",
    "runs_to_equal",
)


def _row(a: np.ndarray, b: np.ndarray, margin: float, *, paired: bool) -> dict[str, float]:
    """Difference, intervals and probability of one scalar, and what more runs would change."""
    row = dict.fromkeys(_NUMBERS, math.nan)
    row |= {"margin": margin, "runs": min(len(a), len(b)), "spread": math.nan}
    row["difference"] = float(np.mean(a) - np.mean(b))
    if paired:
        row["probability"] = sign_flip_probability(a - b)
    if row["runs"] < 2 or not math.isfinite(row["difference"]):
        return row
    row["spread"] = _spread(a, b, paired=paired)
    if row["spread"] == 0:
        return row

    def interval(confidence: float) -> tuple[float, float]:
        if paired:
            return t_interval(a - b, confidence)
        return welch_interval(a, b, confidence)

    row["interval_low"], row["interval_high"] = interval(0.95)
    row["equivalence_low"], row["equivalence_high"] = interval(0.9)
    freedom = _freedom(a, b, paired=paired)
    room = margin - abs(row["difference"])
    row["runs_to_differ"] = fewest_runs(abs(row["difference"]), row["spread"], freedom, 0.975)
    row["runs_to_equal"] = fewest_runs(room, row["spread"], freedom, 0.95)
    return row


def _spread(a: np.ndarray, b: np.ndarray, *, paired: bool) -> float:
    """√n times the standard error of the difference of n runs each; 0 for rounding alone."""
    if paired:
        spread = float(np.std(a - b, ddof=1))
    else:
        spread = math.hypot(np.std(a, ddof=1), np.std(b, ddof=1))
    largest = max(np.abs(a).max(), np.abs(b).max())
    return spread if spread > 1e-13 * largest else 0.0


def _freedom(a: np.ndarray, b: np.ndarray, *, paired: bool) -> Callable[[int], float]:
    """Degrees of freedom with n runs in each group and spreads as they are."""
    if paired:
        return lambda n: n - 1
    first, second = float(np.var(a, ddof=1)), float(np.var(b, ddof=1))
    share = (first + second) ** 2 / (first**2 + second**2)
    return lambda n: max(share, 1) * (n - 1)


def fewest_runs(
    room: float, spread: float, freedom: Callable[[int], float], probability: float
) -> float:
    """Return the fewest runs of each group with which half an interval is shorter than the room.

    Args:
        room: How long half the interval may be.
        spread: √n times the standard error of n runs.
        freedom: Degrees of freedom of n runs.
        probability: Quantile of the interval's end, as 0.975.

    Returns:
        A whole number; NaN where 10,000 runs would not do.
    """

    def fits(n: int) -> bool:
        return t_quantile(probability, freedom(n)) * spread / math.sqrt(n) < room

    if not fits(_ENOUGH):
        return math.nan
    low, high = 1, 2  # low never fits
    while not fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return float(high)


def _verdict(row: Mapping[str, float]) -> str:
    if not math.isfinite(row["difference"]):
        return "not finite"
    if row["runs"] < 2:
        return "one run"
    if row["spread"] == 0:
        return "no spread"
    differs = not row["interval_low"] <= 0 <= row["interval_high"]
    inside = -row["margin"] < row["equivalence_low"] and row["equivalence_high"] < row["margin"]
    if differs:
        return "both" if inside else "differs"
    return "equivalent" if inside else "undecided"
