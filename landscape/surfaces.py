"""Loss along a direction and on a plane, at points that are computed directly from the origin."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from landscape.objectives import Objective
from landscape.planes import Plane, random_plane
from landscape.results import Profile, Surface

Progress = Callable[[int, int], None]


def measure_profile(
    objective: Objective,
    plane: Plane,
    *,
    extent: float | Sequence[float],
    points: int,
    repeats: int = 1,
    progress: Progress | None = None,
) -> Profile:
    """Measure the loss along the plane's first direction.

    Args:
        objective: The loss as a function of theta.
        plane: Origin and direction.
        extent: Multiples of the direction: a float e for [-e, e], or two bounds.
        points: Points on the line, at least 2; with an odd number between symmetric bounds the
            middle one is the origin itself.
        repeats: Directions measured; those after the first are drawn anew, with seeds seed + 1,
            seed + 2, ..., so they need a random plane.
        progress: Called with points done and points in total.

    Returns:
        Loss and accuracy [repeat, a] as measured: NaN and infinity are kept.

    Raises:
        ValueError: If an argument is out of range, or the plane is of another model.
    """
    (alpha,) = _axes(extent, points, 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int | np.integer) or repeats < 1:
        raise ValueError(f"repeats must be a whole number from 1 on, got {repeats!r}")
    plane = plane.like(objective.theta)
    facts = _facts(objective, plane, alpha)
    shape = (int(repeats), len(alpha))
    if repeats > 1:
        facts["seeds"] = [_seed(plane) + repeat for repeat in range(repeats)]

    def thetas() -> Iterator[Tensor]:
        for repeat in range(repeats):
            line = plane if repeat == 0 else _redrawn(objective, plane, _seed(plane) + repeat)
            yield from (line.point(a) for a in alpha)

    loss, accuracy = _measure(objective, thetas(), shape, progress)
    facts["center_loss"] = _center_loss(objective, plane, loss[0], alpha)
    label = "random direction" if plane.facts.get("plane") == "random" else plane.labels[0]
    return Profile(
        alpha=alpha,
        loss=loss,
        accuracy=accuracy,
        evaluated=np.ones(shape, bool),
        axis_label=label,
        facts=facts,
    )


def measure_surface(
    objective: Objective,
    plane: Plane,
    *,
    extent: float | Sequence[float],
    points: int | tuple[int, int],
    progress: Progress | None = None,
) -> Surface:
    """Measure the loss on a grid on the plane.

    Args:
        objective: The loss as a function of theta.
        plane: Origin and two directions.
        extent: Multiples of the directions: a float e for [-e, e] on both axes, or four bounds
            (a0, a1, b0, b1).
        points: Points along each axis, or (a, b); at least 2. With odd numbers between symmetric
            bounds the middle point is the origin itself; `facts["center_on_grid"]` says so.
        progress: Called with points done and points in total.

    Returns:
        Loss and accuracy [a, b] as measured: NaN and infinity are kept.

    Raises:
        ValueError: If an argument is out of range, or the plane is of another model.
    """
    alpha, beta = _axes(extent, points, 2)
    if len(plane.directions) != 2:
        raise ValueError(
            f"a surface needs a plane with 2 directions, got {len(plane.directions)}; draw it with "
            "axes=2, or measure a profile"
        )
    plane = plane.like(objective.theta)
    thetas = (plane.point(a, b) for a in alpha for b in beta)
    shape = (len(alpha), len(beta))
    loss, accuracy = _measure(objective, thetas, shape, progress)
    facts = _facts(objective, plane, alpha, beta)
    facts["center_loss"] = _center_loss(objective, plane, loss, alpha, beta)
    return Surface(
        alpha=alpha,
        beta=beta,
        loss=loss,
        accuracy=accuracy,
        evaluated=np.ones(shape, bool),
        axis_labels=(plane.labels[0], plane.labels[1]),
        facts=facts,
    )


def _measure(
    objective: Objective,
    thetas: Iterator[Tensor],
    shape: tuple[int, int],
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    loss, accuracy = np.full(shape, np.nan), np.full(shape, np.nan)
    for done, theta in enumerate(thetas):
        found = objective.evaluate(theta)
        loss.flat[done], accuracy.flat[done] = found.loss, found.accuracy
        if progress is not None:
            progress(done + 1, loss.size)
    return loss, accuracy


def _facts(objective: Objective, plane: Plane, *axes: np.ndarray) -> dict[str, Any]:
    return {
        **objective.facts,
        **plane.facts,
        "extent": [float(end) for axis in axes for end in (axis[0], axis[-1])],
        "points": [len(axis) for axis in axes],
        "center_on_grid": all(0.0 in axis for axis in axes),
    }


def _center_loss(objective: Objective, plane: Plane, loss: np.ndarray, *axes: np.ndarray) -> float:
    """The loss at the origin: off the grid where the grid leaves it out."""
    if all(0.0 in axis for axis in axes):
        return float(loss[tuple(int(np.flatnonzero(axis == 0)[0]) for axis in axes)])
    return objective(plane.origin)


def _seed(plane: Plane) -> int:
    if plane.facts.get("plane") != "random":
        raise ValueError(
            "repeats draw new random directions, so they need a random plane, got plane "
            f"{plane.facts.get('plane', 'given')!r}; take repeats=1 or random_plane"
        )
    return plane.facts["seed"]


def _redrawn(objective: Objective, plane: Plane, seed: int) -> Plane:
    settings = {name: plane.facts[name] for name in ("normalization", "ignore")}
    drawn = random_plane(objective, **settings, seed=seed, axes=1)
    return Plane(plane.origin, drawn.directions)


def _axes(
    extent: float | Sequence[float], points: int | tuple[int, int], axes: int
) -> list[np.ndarray]:
    bounds, counts = _bounds(extent, axes), _counts(points, axes)
    return [_axis(bounds[2 * i], bounds[2 * i + 1], count) for i, count in enumerate(counts)]


def _axis(low: float, high: float, count: int) -> np.ndarray:
    """Evenly spaced, exactly mirrored about zero for mirrored bounds; zero is exactly zero."""
    index = np.arange(count)
    axis = (low * (count - 1 - index) + high * index) / (count - 1)
    axis[0], axis[-1] = low, high
    return np.where(np.abs(axis) < 1e-12 * (high - low), 0.0, axis)


def _bounds(extent: float | Sequence[float], axes: int) -> tuple[float, ...]:
    given = [
        float(end) for end in (extent if isinstance(extent, Sequence | np.ndarray) else (extent,))
    ]
    bounds = tuple([-given[0], given[0]] * axes) if len(given) == 1 else tuple(given)
    fits = len(bounds) == 2 * axes and all(map(math.isfinite, bounds))
    if not fits or any(low >= high for low, high in zip(bounds[::2], bounds[1::2], strict=True)):
        form = "(a0, a1)" if axes == 1 else "(a0, a1, b0, b1)"
        raise ValueError(
            f"extent must be a number above 0, or bounds {form} in ascending pairs, got {extent!r}"
        )
    return bounds


def _counts(points: int | tuple[int, int], axes: int) -> tuple[int, ...]:
    given: tuple[Any, ...] = tuple(points) if isinstance(points, tuple | list) else (points,) * axes
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in given)
    if len(given) != axes or not whole or min(given) < 2:
        form = "a whole number" if axes == 1 else "a whole number or (a, b)"
        raise ValueError(
            f"points must be {form}, at least 2 along each axis, got {points!r}; 21 is a good start"
        )
    return tuple(int(n) for n in given)
