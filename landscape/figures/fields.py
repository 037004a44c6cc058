"""A surface made ready to draw: one value, on one scale, with the state of every cell.

Results store `loss[a, b]` with alpha along x; pictures want rows along y. `field_of` is the one
place that transposes: everything after it is `[b, a]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landscape.figures.quantities import Quantity, quantity_of, values_of
from landscape.figures.scales import choose_scale, shared_limits
from landscape.results import Surface

MOST_SIDES = 200
"""Refined fields have at most this many cells a side."""
EQUAL_UP_TO = 2.5
"""Planes whose sides differ by more than this factor are stretched instead of drawn to scale."""
UNIT = "weight distance"
"""The fact `unit` of planes whose axes are Euclidean distances; those are always drawn to scale."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What a picture of a surface shows; arrays are `[b, a]`, rows along y."""

    x: np.ndarray
    """alpha [a]."""
    y: np.ndarray
    """beta [b]."""
    values: np.ndarray
    """In true units; NaN where not finite."""
    height: np.ndarray
    """log10 of the values or the values, clipped to the limits; NaN where not finite."""
    diverged: np.ndarray
    """Evaluated, but the loss is not finite."""
    blank: np.ndarray
    """Evaluated with a finite loss, but without this quantity: not measured, or only noise."""
    interpolated: np.ndarray
    """Not evaluated, but with a value that was interpolated."""
    missing: np.ndarray
    """Without any value, because the point was not evaluated."""
    scale: str
    limits: tuple[float, float]
    clipped: bool
    """Whether finite values above the limits exist."""
    quantity: Quantity
    to_scale: bool = False
    """Whether both axes are distances in weight space, so that they share a scale in any case."""

    @property
    def height_limits(self) -> tuple[float, float]:
        """The limits on the field's scale."""
        low, high = self.lift(np.array(self.limits))
        return float(low), float(high)

    @property
    def spans(self) -> tuple[float, float]:
        """Width and height of the plane."""
        return float(np.ptp(self.x)) or 1.0, float(np.ptp(self.y)) or 1.0

    @property
    def equal(self) -> bool:
        """Whether both axes are drawn to one scale."""
        return self.to_scale or max(self.spans) <= EQUAL_UP_TO * min(self.spans)

    def lift(self, values: np.ndarray) -> np.ndarray:
        """Values in true units to heights, clipped to the limits; NaN and inf stay."""
        values = np.asarray(values, dtype=np.float64)
        clipped = np.where(np.isfinite(values), np.clip(values, *self.limits), values)
        if self.scale == "linear":
            return clipped
        return np.log10(clipped, where=np.isfinite(clipped), out=clipped.copy())

    def lower(self, heights: np.ndarray) -> np.ndarray:
        """Heights to values in true units."""
        return 10.0**heights if self.scale == "log" else np.asarray(heights)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where values lie on the color map, 0 to 1."""
        low, high = self.height_limits
        return (self.lift(values) - low) / (high - low)


def scale_and_limits(
    surfaces: Sequence[Surface],
    quantity: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
) -> tuple[str, tuple[float, float]]:
    """One scale and one pair of limits for all surfaces of a comparison.

    Raises:
        ValueError: If a surface has no such quantity, a logarithmic scale is asked for negative
            values, or limits don't fit it.
    """
    arrays = [values_of(surface, quantity) for surface in surfaces]
    usual = quantity_of(surfaces[0], quantity) if surfaces else None
    chosen = choose_scale(scale or (usual.scale if usual else None), arrays)
    if limits is None and usual and usual.limits and chosen == usual.scale:
        return chosen, usual.limits
    if limits is None:
        return chosen, shared_limits(arrays, chosen)
    low, high = (float(limit) for limit in limits)
    if not low < high or (chosen == "log" and low <= 0):
        above = "above 0 " if chosen == "log" else ""
        raise ValueError(f"limits must rise {above}on a {chosen} scale, got {limits}")
    return chosen, (low, high)


def field_of(
    surface: Surface,
    *,
    quantity: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Field:
    """Choose scale and limits and lay the surface out for drawing: x along alpha."""
    scale, limits = scale_and_limits([surface], quantity, scale, limits)
    values, loss = values_of(surface, quantity).T, surface.loss.T
    evaluated = surface.evaluated.T
    finite = np.isfinite(values)
    filled = surface.interpolated.T if surface.interpolated.size else np.zeros_like(evaluated)
    bare = Field(
        x=surface.alpha,
        y=surface.beta,
        values=np.where(finite, values, np.nan),
        height=np.empty(0),
        diverged=evaluated & ~np.isfinite(loss),
        blank=evaluated & np.isfinite(loss) & ~finite,
        interpolated=filled & ~evaluated & finite,
        missing=~evaluated & ~finite,
        scale=scale,
        limits=limits,
        clipped=bool((values[finite] > limits[1] * (1 + 1e-9)).any()),
        quantity=quantity_of(surface, quantity),
        to_scale=surface.facts.get("unit") == UNIT,
    )
    return Field(**{**vars(bare), "height": bare.lift(bare.values)})


def ends(axis: np.ndarray) -> tuple[float, float]:
    """First and last place of an axis; a single place gets half a unit on both sides."""
    if len(axis) == 1:
        return float(axis[0]) - 0.5, float(axis[0]) + 0.5
    return float(axis[0]), float(axis[-1])


def edges(centers: np.ndarray) -> np.ndarray:
    """Borders of the cells around grid points [n] -> [n + 1], half a spacing beyond the ends."""
    if len(centers) == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    first = centers[0] - (centers[1] - centers[0]) / 2
    last = centers[-1] + (centers[-1] - centers[-2]) / 2
    return np.concatenate([[first], middle, [last]])


def _fractions(axis: np.ndarray, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell index and position inside it of an even number of sub-cells per cell."""
    cells = len(axis) - 1
    factor = 2 * (sides // (2 * cells))
    index = np.repeat(np.arange(cells), factor)
    inside = np.tile((np.arange(factor) + 0.5) / factor, cells)
    return index, inside


def refine(field: Field, sides: int = MOST_SIDES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Refine a field bilinearly for display: x [p], y [q] and height [q, p] of small cells.

    Between four finite grid points heights are bilinear. Where one of the four is missing the
    others share its weight, and only half way to it is drawn: a missing cell stays missing. Grids
    too large to be refined come back as they are.
    """
    if max(len(field.x), len(field.y)) > sides // 2 or min(len(field.x), len(field.y)) < 2:
        return field.x, field.y, field.height
    (i, s), (j, t) = _fractions(field.x, sides), _fractions(field.y, sides)
    x = field.x[i] + s * (field.x[i + 1] - field.x[i])
    y = field.y[j] + t * (field.y[j + 1] - field.y[j])
    rows, t = j[:, None], t[:, None]
    total, share = np.zeros((len(y), len(x))), np.zeros((len(y), len(x)))
    for up, right, weight in (
        (0, 0, (1 - t) * (1 - s)),
        (0, 1, (1 - t) * s),
        (1, 0, t * (1 - s)),
        (1, 1, t * s),
    ):
        corner = field.height[rows + up, i + right]
        finite = np.isfinite(corner)
        total += np.where(finite, weight * corner, 0.0)
        share += np.where(finite, weight, 0.0)
    drawn = np.isfinite(field.height[rows + (t > 0.5), i + (s > 0.5)])
    return x, y, np.divide(total, share, where=drawn, out=np.full(total.shape, np.nan))


def sample(field: Field, positions: np.ndarray) -> np.ndarray:
    """Values of the drawn surface, in true units, at positions [c, 2] -> [c].

    Bilinear on the field's scale; NaN outside the grid and beside a missing point. On a log scale
    values below the lower limit count as that limit; values above the upper one are not clipped.
    """
    result = np.full(len(positions), np.nan)
    if min(len(field.x), len(field.y)) < 2:
        return result
    free = field.values
    if field.scale == "log":
        free = np.log10(np.maximum(free, field.limits[0]))
    for c, (a, b) in enumerate(positions):
        if not (field.x[0] <= a <= field.x[-1] and field.y[0] <= b <= field.y[-1]):
            continue
        i = min(int(np.searchsorted(field.x, a, "right")) - 1, len(field.x) - 2)
        j = min(int(np.searchsorted(field.y, b, "right")) - 1, len(field.y) - 2)
        s = (a - field.x[i]) / (field.x[i + 1] - field.x[i])
        t = (b - field.y[j]) / (field.y[j + 1] - field.y[j])
        weights = np.array([[(1 - t) * (1 - s), (1 - t) * s], [t * (1 - s), t * s]])
        corners = free[j : j + 2, i : i + 2]
        result[c] = np.sum(weights * np.where(weights > 0, corners, 0.0))
    return field.lower(result)
