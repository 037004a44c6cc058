"""Contour lines at 1-2-5 levels and the places of their labels: numbers only, no drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import contourpy
import numpy as np

from landscape.figures.fields import Field
from landscape.figures.numbers import short
from landscape.figures.scales import nice_ticks, one_two_five

# Distances for labels are shares of the plane's longer side.
_SPACING = 0.01
_HALF_LABEL = 0.035
_TO_BORDER = 0.05
_TO_PATH = 0.055
_TO_LABEL = 0.10
_FLAT_ONE = 15.0


@dataclass(frozen=True, kw_only=True)
class Label:
    """A level's label on its line."""

    x: float
    y: float
    angle: float
    """Degrees counter-clockwise on the drawn plane, within ±90."""
    level: float
    text: str


def levels_of(field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Levels of a field's lines in true units: (thin ones, labeled ones).

    On a log scale labels stand at 1-2-5 and thin lines at ten per decade; over three and a half
    decades there are no thin lines, over six only powers of ten. On a linear scale labels stand at
    round values with four thin lines between.
    """
    low, high = field.limits
    if field.scale == "linear":
        labeled = nice_ticks(low, high, 6)
        if len(labeled) < 2:
            return np.empty(0), labeled
        fine = (labeled[1] - labeled[0]) / 5
        thin = np.arange(math.ceil(low / fine), math.floor(high / fine) + 1)
        return thin[thin % 5 != 0] * fine, labeled
    decades = math.log10(high / low)
    if decades < 0.3:
        return np.empty(0), nice_ticks(low, high, 4)
    labeled = one_two_five(low, high)
    if decades > 6:
        labeled = labeled[[math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9) for v in labeled]]
    first, last = math.ceil(10 * math.log10(low)), math.floor(10 * math.log10(high))
    tenths = np.arange(first, last + 1)
    thin = tenths[~np.isin(tenths % 10, (0, 3, 7))] if decades <= 3.5 else tenths[:0]
    return 10.0 ** (thin / 10), labeled


def lines_at(field: Field, levels: np.ndarray) -> list[list[np.ndarray]]:
    """Lines [point, 2] of each level, straight inside each grid cell.

    Cells with a missing corner have no lines, and clipped regions no lines of their own.
    """
    if min(len(field.x), len(field.y)) < 2:
        return [[] for _ in levels]
    height = np.ma.masked_invalid(field.height)
    generator = contourpy.contour_generator(field.x, field.y, height, corner_mask=False)
    heights = field.lift(np.asarray(levels, dtype=np.float64))
    low, high = field.height_limits
    inside = (heights > low) & (heights < high)
    return [
        [np.asarray(line) for line in generator.lines(float(h))] if ok else []
        for h, ok in zip(heights, inside, strict=True)
    ]


def joined(lines: Sequence[Sequence[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """All lines as one x and one y, with NaN between lines."""
    gap = np.full((1, 2), np.nan)
    parts = [part for level in lines for line in level for part in (line, gap)]
    points = np.concatenate(parts[:-1]) if parts else np.empty((0, 2))
    return points[:, 0], points[:, 1]


def place_labels(
    field: Field,
    levels: np.ndarray,
    lines: Sequence[Sequence[np.ndarray]],
    *,
    away_from: Sequence[np.ndarray] = (),
    room: float = 1.0,
) -> list[Label]:
    """Choose at most one place per level: on its line, straight, clear of border, path and labels.

    Args:
        field: The field drawn.
        levels: Levels in true units.
        lines: Their lines, as `lines_at` gives them.
        away_from: Polylines [c, 2] to keep away from: paths, and marks as lines of one point.
        room: Size of a label relative to one on a 400 px pane.
    """
    spans = np.array(field.spans)
    unit = np.full(2, spans.max()) if field.equal else spans
    origin = np.array([field.x[0], field.y[0]])
    dense = [_dense((line - origin) / unit) for line in away_from if len(line)]
    barrier = np.concatenate([np.empty((0, 2)), *dense])
    away = _preferred(field, origin, unit, barrier)
    placed: list[Label] = []
    centers: list[np.ndarray] = []
    for level, level_lines in zip(levels, lines, strict=True):
        text = short(float(level))
        best: tuple[float, np.ndarray, float] | None = None
        for line in level_lines:
            points = _dense((line - origin) / unit)
            for cost, point, angle in _candidates(points, spans / unit, barrier, away, text, room):
                near = [np.hypot(*(point - center)) for center in centers]
                if near and min(near) < _TO_LABEL * room:
                    continue
                if best is None or cost < best[0]:
                    best = cost, point, angle
        if best is not None:
            x, y = best[1] * unit + origin
            centers.append(best[1])
            placed.append(Label(x=float(x), y=float(y), angle=best[2], level=level, text=text))
    return placed


def _dense(line: np.ndarray) -> np.ndarray:
    """The line with points at even distances."""
    keep = np.concatenate([[True], np.any(np.diff(line, axis=0) != 0, axis=1)])
    line = line[keep]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(0, along[-1] + _SPACING / 2, _SPACING)
    return np.stack([np.interp(at, along, line[:, i]) for i in range(2)], axis=1)


def _preferred(
    field: Field, origin: np.ndarray, unit: np.ndarray, barrier: np.ndarray
) -> tuple[np.ndarray, float]:
    """The lowest point, and the direction from it in which labels line up: away from the path."""
    if np.isnan(field.height).all():
        return np.zeros(2), 0.0
    row, column = np.unravel_index(np.nanargmin(field.height), field.height.shape)
    lowest = (np.array([field.x[column], field.y[row]]) - origin) / unit
    lean = lowest - barrier.mean(axis=0) if len(barrier) else np.array([-1.0, -1.0])
    return lowest, math.atan2(lean[1], lean[0])


def _candidates(
    points: np.ndarray,
    sides: np.ndarray,
    barrier: np.ndarray,
    away: tuple[np.ndarray, float],
    text: str,
    room: float,
) -> list[tuple[float, np.ndarray, float]]:
    """(cost, place, angle) of every place on a line that a label fits."""
    reach = max(2, round(_HALF_LABEL * room / _SPACING))
    found = []
    for i in range(reach, len(points) - reach):
        chord = points[i + reach] - points[i - reach]
        straight = float(np.hypot(*chord)) / (2 * reach * _SPACING)
        point = points[i]
        border = float(min(point.min(), (sides - point).min()))
        if straight < 0.95 or border < _TO_BORDER * room:
            continue
        if len(barrier) and np.hypot(*(barrier - point).T).min() < _TO_PATH * room:
            continue
        angle = (math.degrees(math.atan2(chord[1], chord[0])) + 90) % 180 - 90
        if text == "1" and abs(angle) > _FLAT_ONE:
            continue
        ray = point - away[0]
        turn = abs((math.atan2(ray[1], ray[0]) - away[1] + math.pi) % (2 * math.pi) - math.pi)
        cost = turn + abs(angle) / 180 + 10 * (1 - straight)
        found.append((cost, point, angle))
    return found


def cut(line: np.ndarray, labels: Sequence[Label], gap: float) -> list[np.ndarray]:
    """The line without the parts closer than `gap` (in units of the plane) to a label."""
    if not labels or len(line) < 2:
        return [line]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    extra = np.arange(0, along[-1], gap / 8)
    at = np.unique(np.concatenate([along, extra]))
    dense = np.stack([np.interp(at, along, line[:, i]) for i in range(2)], axis=1)
    keep = np.ones(len(dense), dtype=bool)
    for label in labels:
        keep &= np.hypot(dense[:, 0] - label.x, dense[:, 1] - label.y) > gap
    breaks = np.flatnonzero(np.diff(keep.astype(int))) + 1
    pieces = zip(np.split(dense, breaks), np.split(keep, breaks), strict=True)
    return [piece for piece, kept in pieces if kept[0] and len(piece) > 1]
