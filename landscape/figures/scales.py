"""Axes and color bars as numbers: limits, ticks, signed logarithm, places of labels."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from landscape.figures.numbers import short

MAX_DECADES = 6.0
"""A logarithmic scale reaches at most this far below its top: rounding noise is no structure."""


def choose_scale(scale: str | None, values: Iterable[np.ndarray]) -> str:
    """The scale asked for, or "log" where the values allow it.

    Args:
        scale: "log", "linear", or None for "log" unless a finite value is negative or all are 0.
        values: Arrays that will share the scale.

    Raises:
        ValueError: If the scale is unknown, or logarithmic for negative values.
    """
    if scale not in ("log", "linear", None):
        raise ValueError(f"scale must be 'log' or 'linear', got {scale!r}")
    if scale == "linear":
        return scale
    finite = _finite(values)
    if scale == "log" and finite.size and finite.min() < 0:
        raise ValueError(
            f"a log scale needs values of at least 0, got {finite.min():g}; use scale='linear'"
        )
    allowed = finite.size > 0 and finite.min() >= 0 and finite.max() > 0
    return "log" if scale == "log" or allowed else "linear"


def shared_limits(values: Iterable[np.ndarray], scale: str) -> tuple[float, float]:
    """Limits that every figure of a comparison uses.

    The lowest finite value to the highest, except that a log scale spans at most six decades and
    that the top is clipped to the next of 1-2-5 above the 99th percentile when the highest value
    is over ten times that.
    """
    finite = _finite(values)
    if scale == "log":
        finite = finite[finite > 0]
    if not finite.size:
        return (0.1, 1.0) if scale == "log" else (0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    usual = float(np.quantile(finite, 0.99))
    if usual > 0:
        cap = next_nice(usual)
        high = cap if high > 10 * cap else high
    if scale == "log":
        low = max(low, high * 10**-MAX_DECADES)
        return (low, high) if high > low * 1.001 else (low / 1.5, low * 1.5)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _finite(values: Iterable[np.ndarray]) -> np.ndarray:
    flat = np.concatenate([np.ravel(array) for array in values] or [np.empty(0)])
    return flat[np.isfinite(flat)]


def finite_range(
    arrays: Sequence[np.ndarray], scale: str, limits: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The limits asked for, or lowest to highest finite value that the scale can show."""
    if limits is not None:
        return float(limits[0]), float(limits[1])
    flat = np.concatenate([np.ravel(array) for array in arrays] or [np.empty(0)])
    flat = flat[np.isfinite(flat)]
    if scale == "log":
        flat = flat[flat > 0]
    if not flat.size:
        return (0.1, 1.0) if scale == "log" else (0.0, 1.0)
    low, high = float(flat.min()), float(flat.max())
    if high > low:
        return low, high
    return (low / 2, low * 2) if scale == "log" else (low - 0.5, low + 0.5)


def next_nice(value: float) -> float:
    """The smallest of 1-2-5 times a power of ten that is at least a positive value."""
    decade = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 5, 10):
        if factor * decade >= value * (1 - 1e-9):
            return float(f"{factor * decade:.12g}")
    raise AssertionError("10 times the decade below a value is above it")


def one_two_five(low: float, high: float) -> np.ndarray:
    """All of 1-2-5 times powers of ten from low to high, both positive."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
    return np.array([v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)])


def nice_ticks(low: float, high: float, about: int = 5) -> np.ndarray:
    """Multiples of a 1-2-5 step from low to high, about as many as asked for and at least 3."""
    if not high > low:
        return np.array([low])
    while True:
        interval = next_nice((high - low) / (about + 0.5))
        first, last = math.ceil(low / interval - 1e-9), math.floor(high / interval + 1e-9)
        if last - first >= 2:
            return np.array([float(f"{k * interval:.12g}") for k in range(first, last + 1)])
        about += 1


def log_ticks(low: float, high: float, most: int = 6) -> np.ndarray:
    """Ticks of a log axis: 1-2-5, or powers of ten, or every few powers; at most `most`."""
    ticks = one_two_five(low, high)
    if len(ticks) <= most:
        return ticks if len(ticks) >= 3 else nice_ticks(low, high, 3)
    span = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers = [k for k in span if low * (1 - 1e-9) <= 10.0**k <= high * (1 + 1e-9)]
    stride = math.ceil(len(powers) / most)
    return np.array([float(f"1e{k}") for k in powers if k % stride == 0])


def few_ticks(limits: tuple[float, float], scale: str, most: int = 4) -> np.ndarray:
    """Three or four ticks, for the vertical axis of a 3D view."""
    if scale == "linear":
        return nice_ticks(*limits, about=most - 1)
    ticks = one_two_five(*limits)
    if not 2 <= len(ticks) <= 3 * most:
        return log_ticks(*limits, most=most)
    return ticks[:: math.ceil(len(ticks) / most)]


def fraction(value: float, limits: tuple[float, float], scale: str) -> float:
    """Where a value lies between the limits, 0 to 1 inside."""
    low, high = limits
    if scale == "log":
        low, high = math.log10(low), math.log10(high)
        value = math.log10(value) if value > 0 else -math.inf
    return (value - low) / (high - low)


def color_bar(
    limits: tuple[float, float], scale: str, *, clipped: bool = False
) -> list[tuple[float, str]]:
    """Ticks of the color bar as (fraction from its left end, label).

    Args:
        limits: Lowest and highest value of the bar.
        scale: "log" or "linear".
        clipped: Whether values above the limits exist; the end is then labeled "≥".
    """
    ticks = log_ticks(*limits, most=9) if scale == "log" else nice_ticks(*limits)
    bar = [(fraction(tick, limits, scale), short(float(tick))) for tick in ticks]
    if clipped:
        bar = [(at, label) for at, label in bar if at < 0.93]
        bar.append((1.0, "≥" + short(limits[1])))
    return bar


def color_bar_text(limits: tuple[float, float], scale: str, *, clipped: bool = False) -> str:
    """The limits in words for a pane's header, e.g. "log scale, clipped 0.012 – 4"."""
    return f"{scale} scale, {'clipped ' if clipped else ''}{short(limits[0])} – {short(limits[1])}"


@dataclass(frozen=True)
class SignedLog:
    """x ↦ sign(x)·log10(1 + |x|/threshold): linear near 0, logarithmic far from it."""

    threshold: float

    def forward(self, values: np.ndarray | float) -> np.ndarray:
        """Values to axis positions."""
        values = np.asarray(values, dtype=np.float64)
        return np.sign(values) * np.log10(1 + np.abs(values) / self.threshold)

    def inverse(self, positions: np.ndarray | float) -> np.ndarray:
        """Axis positions to values."""
        positions = np.asarray(positions, dtype=np.float64)
        return np.sign(positions) * self.threshold * (10 ** np.abs(positions) - 1)

    def ticks(self, low: float, high: float, most: int = 9) -> np.ndarray:
        """0 and signed powers of ten above the threshold, inside low to high."""
        top = math.floor(math.log10(max(abs(low), abs(high), self.threshold)))
        powers = range(math.ceil(math.log10(self.threshold) + 0.2), top + 1)
        magnitudes = np.array([float(f"1e{k}") for k in powers])
        inside = [m for m in (*-magnitudes, *magnitudes) if low <= m <= high]
        stride = math.ceil((len(inside) + 1) / most)
        kept = magnitudes[::-1][::stride]
        return np.array(sorted({m for m in (*-kept, 0.0, *kept) if low <= m <= high}))


def step_top(last: float) -> tuple[float, np.ndarray]:
    """The end of a step axis, rounded up to a tick, and its ticks from 0."""
    if not last > 0:
        return 1.0, np.array([0.0, 1.0])
    interval = next_nice(last / 5)
    top = interval * math.ceil(last / interval - 1e-9)
    return float(top), np.arange(0, top + interval / 2, interval)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least `gap` apart and inside low to high if that fits."""
    order = np.argsort(wanted, kind="stable")
    places = np.clip(np.asarray(wanted, dtype=np.float64)[order], low, high)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    if len(places) and places[-1] > high:
        places[-1] = high
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - gap)
    result = np.empty(len(places))
    result[order] = places
    return [float(place) for place in result]


def thin_out(x: np.ndarray, y: np.ndarray, points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """A curve short enough for the screen that keeps every extreme, and every gap as a gap.

    Each bin of neighbouring points gives its lowest and its highest point, and its first NaN.
    """
    if len(x) <= points:
        return x, y
    edges = np.linspace(0, len(x), max(1, points // 3) + 1).astype(int)
    kept: set[int] = {0, len(x) - 1}
    for start, stop in itertools.pairwise(edges):
        part = y[start:stop]
        missing = np.isnan(part)
        if missing.any():
            kept.add(start + int(np.argmax(missing)))
        if not missing.all():
            kept |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    index = np.array(sorted(kept))
    return x[index], y[index]


def lr_drops(steps: np.ndarray, lr: np.ndarray, factor: float = 0.6) -> list[tuple[float, float]]:
    """Steps at which a constant learning rate fell at once to under `factor` times itself.

    Returns:
        (step, learning rate from there on) of each drop; a smooth schedule has none.
    """
    if len(lr) < 3:
        return []
    fell = np.flatnonzero(lr[2:] < factor * lr[1:-1]) + 2
    return [(float(steps[i]), float(lr[i])) for i in fell if lr[i] > 0 and lr[i - 1] == lr[i - 2]]
