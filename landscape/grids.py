"""Grids of points: their axes, and the order in which a picture emerges from coarse to fine."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

COARSE_SHARE = 0.0625
"""Share of the points at which the first picture worth looking at is complete."""


def grid_axes(
    extent: float | Sequence[float], points: int | tuple[int, ...], axes: int
) -> list[np.ndarray]:
    """Evenly spaced axes; mirrored bounds give exactly mirrored axes, with an exact zero.

    Args:
        extent: A float e for [-e, e] on every axis, or a lower and an upper bound for each.
        points: Points along every axis, or one number for each; at least 2.
        axes: 1 or 2.

    Returns:
        One array [points] for each axis.

    Raises:
        ValueError: If a bound or a number is out of range.
    """
    bounds, counts = _bounds(extent, axes), _counts(points, axes)
    return [_axis(bounds[2 * i], bounds[2 * i + 1], count) for i, count in enumerate(counts)]


def nested_grids(shape: tuple[int, ...]) -> list[tuple[np.ndarray, ...]]:
    """Grids inside a grid, each of which contains the one before; the last one is the grid itself.

    The first has the ends of each axis, and its center where it has one; each further one halves
    the gaps of the axis that is coarsest. One of them has about 6 % of the points, evenly spread.

    Args:
        shape: Points along each axis, at least 2.

    Returns:
        For each grid the indices along each axis, ascending.

    Raises:
        ValueError: If the grid has no axis, or an axis has fewer than 2 points.
    """
    if not shape or min(shape) < 2:
        raise ValueError(f"a grid needs at least 2 points along each axis, got shape {shape}")
    ladders = [_ladder(count, COARSE_SHARE ** (1 / len(shape))) for count in shape]
    rungs = [0] * len(shape)
    grids = [tuple(ladder[0] for ladder in ladders)]
    while any(rung + 1 < len(ladder) for rung, ladder in zip(rungs, ladders, strict=True)):
        gaps = [np.diff(grid).max() / (n - 1) for grid, n in zip(grids[-1], shape, strict=True)]
        open_gaps = [
            gap if rung + 1 < len(ladder) else 0.0
            for gap, rung, ladder in zip(gaps, rungs, ladders, strict=True)
        ]
        rungs[int(np.argmax(open_gaps))] += 1
        grids.append(tuple(ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True)))
    return grids


def levels(shape: tuple[int, ...]) -> list[np.ndarray]:
    """What each of the nested grids adds to the one before.

    Args:
        shape: Points along each axis, at least 2.

    Returns:
        Flat C-order indices, ascending within a level; every index of the grid is in one level.
    """
    added, seen = [], np.zeros(math.prod(shape), bool)
    for grid in nested_grids(shape):
        flat = flat_indices(grid, shape)
        added.append(flat[~seen[flat]])
        seen[flat] = True
    return added


def flat_indices(grid: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Flat C-order indices, ascending, of the points where the given rows and columns cross."""
    return np.ravel_multi_index(np.ix_(*grid), shape).ravel()


def visiting_order(shape: tuple[int, ...]) -> np.ndarray:
    """Every point of a grid once, coarse to fine: after about 6 % a coarse picture is complete.

    Args:
        shape: Points along each axis, at least 2.

    Returns:
        Flat C-order indices [point].
    """
    return np.concatenate(levels(shape))


def _ladder(count: int, share: float) -> list[np.ndarray]:
    """Nested indices of one axis, from its ends over a share of its points to all of them."""
    half = max(1, round((count - 1) * share / 2))
    if 2 * half >= count - 1:
        return _halved(np.arange(count), count)
    lower = np.floor(np.arange(half + 1) * (count - 1) / (2 * half) + 0.5).astype(int)
    coarse = np.concatenate([lower, count - 1 - lower[-2::-1]])
    return _halved(coarse, count)[:-1] + _between(coarse, count)


def _halved(nodes: np.ndarray, count: int) -> list[np.ndarray]:
    """Nested parts of the given nodes, from their ends (and center, of an odd axis) to all."""
    last = len(nodes) - 1
    start = np.array([0, last // 2, last]) if count % 2 and last > 1 else np.array([0, last])
    return [nodes[kept] for kept in _between(start, len(nodes))]


def _between(kept: np.ndarray, count: int) -> list[np.ndarray]:
    """The kept indices, then with the middles of their gaps, and so on to all of them."""
    rungs = [kept]
    while len(kept) < count:
        gaps = np.diff(kept)
        if gaps.max() <= 3:  # a gap of 3 has no middle: both of its points come at once
            kept = np.arange(count)
        else:
            wide = gaps > 1
            kept = np.sort(np.concatenate([kept, (kept[:-1] + gaps // 2)[wide]]))
        rungs.append(kept)
    return rungs


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


def _counts(points: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    given: tuple[Any, ...] = tuple(points) if isinstance(points, tuple | list) else (points,) * axes
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in given)
    if len(given) != axes or not whole or min(given) < 2:
        form = "a whole number" if axes == 1 else "a whole number or (a, b)"
        raise ValueError(
            f"points must be {form}, at least 2 along each axis, got {points!r}; 21 is a good start"
        )
    return tuple(int(n) for n in given)
