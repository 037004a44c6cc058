"""How far a surface reaches when nobody says: as far as the loss rises, or the path goes."""

import math

import numpy as np

from landscape.objectives import Objective
from landscape.planes import Plane

_SMALLEST, _LARGEST = 1e-3, 1e2  # of ‖origin‖ / ‖direction‖
_HALVINGS = 5
_PERTURBED = ("sam", "usam", "aace")
_BEYOND = 1.5


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
    """A square around a path, with a fifth of it as margin, or more where there are few points.

    No axis is stretched, and the square is shifted by less than half a step, so that the origin
    lies on the grid; with 2 points it can't.

    Args:
        position: Coordinates [c, axis] on the plane.
        points: Points along each axis.
    """
    low, high = position.min(0), position.max(0)
    # where there are few points, half a step is more than the margin
    share = max(0.7, 0.55 * (points - 1) / (points - 2)) if points > 2 else 0.7
    half = share * float((high - low).max())
    step = 2 * half / (points - 1)
    start = (low + high) / 2 - half
    if points > 2:
        start = np.round(start / step) * step
    return (start[0], start[0] + 2 * half, start[1], start[1] + 2 * half)


def extent_of_span(plane: Plane, loss: float) -> list[float]:
    """Bounds of a plane along gradient and perturbations, so that w + ε lies well inside.

    Half as far again as ε; along the gradient as far as the longest ε or, alone, as far as a
    straight descent would take the loss to 0: L / ‖∇L‖. Directions of one's own are shown to 1.

    Args:
        plane: Made by `span_plane`.
        loss: The loss at the origin.
    """
    told = plane.facts["directions"]
    kinds = [str(facts.get("direction", "given")) for facts in told]
    norms = plane.facts["direction_norms"]
    reach = [norm for kind, norm in zip(kinds, norms, strict=True) if kind in _PERTURBED]
    bounds: list[float] = []
    for kind, facts in zip(kinds, told, strict=True):
        end = _BEYOND if kind in _PERTURBED else 1.0
        if kind == "gradient":
            end = _BEYOND * max(reach) if reach else abs(loss) / facts["gradient_norm"] or 1.0
        bounds += [-end, end]
    return bounds
