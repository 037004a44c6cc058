"""What figures of a whole run's directions show, window by window. Numbers only."""

from collections.abc import Sequence

import numpy as np

from landscape.figures.items import Items
from landscape.figures.summaries import Curve
from landscape.results import Directions

ALL_PAIRS = "all pairs"
_DASHES = ("", ", dashed", ", dotted")
"""How lines of the first, second and further lags are drawn."""


def middles(result: Directions) -> np.ndarray:
    """The middle step of each window."""
    return (result.start + result.stop) / 2


def pair_curve(result: Directions) -> Curve:
    """Mean cosine over all pairs of each window, with its bootstrap interval."""
    return Curve(
        x=middles(result),
        middle=result.mean_cosine,
        low=result.interval_low,
        high=result.interval_high,
    )


def lag_curve(result: Directions, lag: int) -> Curve:
    """Mean cosine of vectors so many steps apart, later one in the window; no band.

    Raises:
        ValueError: If the lag was not measured.
    """
    if lag not in result.lags:
        known = ", ".join(map(str, result.lags))
        raise ValueError(f"lag must be one of {known}, got {lag}; measure it with --lags")
    values = result.lag_cosine[:, list(result.lags).index(lag)]
    blank = np.full(len(values), np.nan)
    return Curve(x=middles(result), middle=values, low=blank, high=blank)


def norm_curve(result: Directions) -> Curve:
    """Median ‖ε‖ of each window with its central 90 %."""
    return Curve(x=middles(result), middle=result.norm, low=result.norm_low, high=result.norm_high)


def cosine_curves(items: Items[Directions], lag: int | None) -> list[tuple[str, int, str, Curve]]:
    """(name at the line's end, color index, what the line is, curve) of each line of cosines.

    One run has a line for all pairs and one for each lag; of several runs each has the line that
    is asked for: that of a lag, or of all pairs.
    """
    if len(items) > 1 or lag is not None:
        what = ALL_PAIRS if lag is None else lag_name(lag)
        curves = [pair_curve(r) if lag is None else lag_curve(r, lag) for _, _, r in items]
        return [(name, i, what, c) for (name, i, _), c in zip(items, curves, strict=True)]
    _, index, result = items[0]
    found = [(ALL_PAIRS, index, ALL_PAIRS, pair_curve(result))]
    for value in result.lags.tolist():
        curve = lag_curve(result, value)
        if np.isfinite(curve.middle).any():
            what = lag_name(value)
            dash = _DASHES[min(len(found), len(_DASHES)) - 1]
            found.append((f"{what}{dash}", index, what, curve))
    return found


def lag_name(lag: int) -> str:
    """A lag as figures call it."""
    return f"lag {lag}"


def nulls_of(items: Items[Directions]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(step, low, high) of the sign-flip null of each run."""
    return [(middles(r), r.null_low, r.null_high) for _, _, r in items]


def last_step(items: Items[Directions]) -> float:
    """The end of the last window of all runs."""
    return max((float(r.stop[-1]) for _, _, r in items if len(r.stop)), default=1.0)


def cell_edges(result: Directions) -> np.ndarray:
    """Steps at which the cells of the matrix begin, and the end of the last one."""
    return np.append(result.start, result.stop[-1:]).astype(float)


def matrix_cells(result: Directions) -> Sequence[Sequence[tuple[str, float]]]:
    """What a cell is of, in words, and its error: [w][w]."""
    spans = [f"{a:,} to {b - 1:,}" for a, b in zip(result.start, result.stop, strict=True)]
    return [
        [(f"{row} and {column}", float(e)) for column, e in zip(spans, errors, strict=True)]
        for row, errors in zip(spans, result.matrix_error, strict=True)
    ]
