"""How far a surface reaches when nobody says: as far as the loss rises, or the path goes."""

import math

import numpy as np

from landscape.objectives import Objective
from landscape.planes import Plane

_SMALLEST, _LARGEST = 1e-3, 1e2  # of ‖origin‖ / ‖direction‖
_HALVINGS = 5


def find_extent(objective: Objective, plane: Plane, *, rise: float) -> tuple[float, ...]:
    """Grow each axis, to both sides alike, until the loss has risen by a factor.

    The extent e of an axis is where the larger of L(e) and L(−e) first reaches rise · L(0), to
    2 %: found by doubling, then by bisection of log e. A loss that is not finite has risen.

    Args:
        objective: The loss.
        plane: Origin and directions.
        rise: Factor above 1.

    Returns:
        Bounds (−e, e) per axis, in multiples of the directions.

    Raises:
        ValueError: If `rise` is not above 1, the loss at the origin is not above 0, or a loss
            does not rise that far within a hundred lengths of the origin.
    """
    if not (math.isfinite(rise) and rise > 1):
        raise ValueError(f"rise must be a factor above 1, got {rise}; 10 is a good start")
    plane = plane.like(objective.theta)
    center = objective.evaluate(plane.origin, buffers=plane.buffers_at(0.0, 0.0)).loss
    if not (math.isfinite(center) and center > 0):
        raise ValueError(
            f"rise needs a loss above 0 to multiply, got {center:.4g} at the origin; give extent"
        )
    bounds: list[float] = []
    for axis in range(len(plane.directions)):
        end = _end(objective, plane, axis, rise * center)
        bounds += [-end, end]
    return tuple(bounds)


def _end(objective: Objective, plane: Plane, axis: int, target: float) -> float:
    length = float(plane.directions[axis].double().norm())
    unit = (float(plane.origin.double().norm()) or 1.0) / length

    def risen(extent: float) -> bool:
        for sign in (1.0, -1.0):
            where = [0.0, 0.0]
            where[axis] = sign * extent
            theta = plane.point(*where[: len(plane.directions)])
            loss = objective.evaluate(theta, buffers=plane.buffers_at(*where)).loss
            if not loss < target:  # NaN has risen too
                return True
        return False

    high = _SMALLEST * unit
    while not risen(high):
        high *= 2
        if high > _LARGEST * unit:
            raise ValueError(
                f"the loss must rise to {target:.4g} along {plane.labels[axis]!r}, got less within "
                f"{_LARGEST:g} lengths of the origin; take a smaller rise, or give extent"
            )
    low = high / 2
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if risen(middle) else (middle, high)
    return high


def extent_of_path(position: np.ndarray, points: int) -> tuple[float, float, float, float]:
    """A square around a path, with a fifth of it as margin.

    No axis is stretched, and the square is shifted by less than half a step, so that the origin
    lies on the grid.

    Args:
        position: Coordinates [c, axis] on the plane.
        points: Points along each axis.
    """
    low, high = position.min(0), position.max(0)
    half = 0.7 * float((high - low).max())
    step = 2 * half / (points - 1)
    start = np.round(((low + high) / 2 - half) / step) * step
    return (start[0], start[0] + 2 * half, start[1], start[1] + 2 * half)
