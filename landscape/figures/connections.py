"""What figures show of barriers and curves between minima. Numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landscape.figures.numbers import number
from landscape.results import Barrier, Curve
from landscape.terminal import near

CONNECTED = {
    "loss": "loss",
    "error": "error",
    "test_loss": "test loss",
    "test_error": "test error",
}
"""What barriers and curves can be drawn of, and how it is called; the error is 1 − accuracy."""

INSIDE = 0.78
"""Share of a cell's side that the line in it takes."""
_LONGEST = 16


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A quantity on the lines between minima, and its barriers."""

    values: np.ndarray
    """[m, m, t]."""
    test: np.ndarray | None
    """The same on the test set, where it was measured and is not `values` itself."""
    height: np.ndarray
    """Maximum over the mean of both ends [m, m]."""
    height_over_line: np.ndarray
    """Maximum over the straight line between both ends [m, m]."""

    def told(self) -> str:
        """Both heights of the barrier between two minima, in words."""
        mean, line = number(self.height[0, 1]), number(self.height_over_line[0, 1])
        return f"{mean} over the ends' mean, {line} over the line"

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest finite value of all lines between different minima."""
        pairs = ~np.eye(len(self.values), dtype=bool)
        arrays = [self.values[pairs]] + ([] if self.test is None else [self.test[pairs]])
        finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
        if not finite.size:
            return 0.0, 1.0
        low, high = float(finite.min()), float(finite.max())
        return (low, high) if high > low else (low - 0.5, low + 0.5)


def lines_of(barrier: Barrier, quantity: str = "loss") -> Lines:
    """A quantity of a barrier with its heights.

    Raises:
        ValueError: If the quantity is unknown or was not measured.
    """
    values = _needed(barrier, quantity)
    if quantity in ("loss", "error"):
        test = _connected(barrier, f"test_{quantity}")
        stored = ("height", "height_over_line")
        names = stored if quantity == "loss" else tuple(f"error_{name}" for name in stored)
        height, over_line = (getattr(barrier, name) for name in names)
    else:
        test = None
        height, over_line = heights(barrier.t, values)
    return Lines(values=values, test=test, height=height, height_over_line=over_line)


def heights(t: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barriers of lines [..., t]: the maximum over the mean of the ends, and over their chord.

    A line with a missing value has no barrier (NaN): what is missing could be the maximum.

    Source: Frankle et al. 2020, section 2; Entezari et al. 2022, definition 2.1.
    """
    first, last = values[..., :1], values[..., -1:]
    over_mean = (values - (first + last) / 2).max(axis=-1)
    return over_mean, (values - (1 - t) * first - t * last).max(axis=-1)


def quantities_connected(result: Barrier | Curve) -> tuple[str, ...]:
    """Names of what was measured and can be drawn, loss first."""
    return tuple(name for name in CONNECTED if _connected(result, name) is not None)


def along(curve: Curve, quantity: str = "loss") -> dict[str, np.ndarray]:
    """A quantity [t] on the curve and on the straight line, and on the test set where measured.

    Raises:
        ValueError: If the quantity is unknown or was not measured.
    """
    found = {"curve": _needed(curve, quantity), "line": _connected(curve, f"line_{quantity}")}
    if quantity in ("loss", "error"):
        found["curve, test"] = _connected(curve, f"test_{quantity}")
        found["line, test"] = _connected(curve, f"line_test_{quantity}")
    return {name: values for name, values in found.items() if values is not None}


def _needed(result: Barrier | Curve, quantity: str) -> np.ndarray:
    if quantity not in CONNECTED:
        raise ValueError(
            f"quantity must be one of {', '.join(CONNECTED)}, got {quantity!r}"
            f"{near(quantity, CONNECTED)}"
        )
    values = _connected(result, quantity)
    if values is None:
        raise ValueError(
            f"{CONNECTED[quantity]} must be measured to be drawn, got none; draw quantity='loss'"
        )
    return values


def _connected(result: Barrier | Curve, name: str) -> np.ndarray | None:
    """A quantity by name, e.g. "line_test_error"; None where it was not measured."""
    is_error = name.endswith("error")
    array = getattr(result, name.replace("error", "accuracy") if is_error else name)
    if not array.size or (is_error and np.isnan(array).all()):
        return None
    return 1 - array if is_error else array


def height_limits(lines: Lines) -> tuple[float, float]:
    """The color scale of a matrix of barriers: 0 to the highest finite one."""
    finite = lines.height[np.isfinite(lines.height)]
    return 0.0, float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def cell_lines(
    t: np.ndarray, values: np.ndarray, limits: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines above the diagonal as one x and y in cells with gaps between, and (t, value) [n, 2]."""
    low, high = limits
    xs, ys, told = [], [], []
    gap = np.array([np.nan])
    for i, j in zip(*np.triu_indices(len(values), 1), strict=True):
        line = np.where(np.isfinite(values[i, j]), values[i, j], np.nan)
        xs += [j + INSIDE * (t - 0.5), gap]
        ys += [i - INSIDE * ((line - low) / (high - low) - 0.5), gap]
        told += [np.stack([t, line], axis=-1), np.full((1, 2), np.nan)]
    return np.concatenate(xs), np.concatenate(ys), np.concatenate(told)


def short_names(names: Sequence[str], count: int) -> list[str]:
    """Names of minima, short enough for an axis; numbers where they have none."""
    given = names if len(names) == count else [str(i + 1) for i in range(count)]
    return [n if len(n) <= _LONGEST else n[: _LONGEST - 1] + "…" for n in given]


def room(values: np.ndarray, share: float = 0.12) -> tuple[float, float]:
    """Limits of an axis with a share of its length to spare at both ends."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return -0.5, 0.5
    margin = share * float(np.ptp(finite)) or 0.5
    return float(finite.min()) - margin, float(finite.max()) + margin
