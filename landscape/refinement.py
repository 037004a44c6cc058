"""Fewer evaluations of a surface: from coarse to fine, until held-out points say it is enough."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from landscape.grids import flat_indices, nested_grids, visiting_order

QUANTILE = 0.95
"""Share of the interpolated points that the stated error speaks of."""
CONFIDENCE = 0.95
"""Least probability, over the draw of the held-out points, that the stated error holds."""

_SPARE_COST = 160  # points the next grid would add for each held-out point that may be off
_MOST_SPARE = 8
_FEWEST = 9  # points along an axis from which on a picture may be interpolated
_BATCH = 16  # held-out points asked for at once: a grid that won't do is soon found out
_STREAM = 2  # random stream of a seed; directions have 0 and 1
_STENCIL = 4  # nodes along an axis: cubic


@dataclass(frozen=True, eq=False)
class Filled:
    """A quantity at every point of a grid, some of it interpolated."""

    values: np.ndarray
    """The quantity [a, b]; NaN where it was neither evaluated nor interpolated."""
    interpolated: np.ndarray
    """Whether a value is interpolated [a, b]."""
    facts: dict[str, Any]
    """What the held-out points say, ready for JSON. `bound` is the stated error: the `statistic`
    over the interpolated points is no larger, with probability `confidence`; None where the
    points don't tell. `error` is the same percentile of the held-out `points` alone. `nodes`
    points were interpolated from, `evaluated` `of` all were measured."""


class Refinement:
    """Which points of a grid to evaluate; the others are interpolated.

    The nested grids of the visiting order are tried from coarse to fine. On each, the logarithm
    of the loss is interpolated by cubics through the 4 x 4 nearest nodes, and compared with the
    loss itself at m held-out points: the first, in one random order of all points, that are
    neither nodes nor within reach of a node whose loss is not finite and positive. (Points within
    such reach are not interpolated but evaluated.)

    A grid passes when all of the m errors |Δ log loss| but the j largest are within the
    tolerance. The largest of those is the stated error: 95 % of the points left have none larger.
    By the hypergeometric distribution of how many of the worst points are drawn this fails with
    a probability of at most α, whatever the surface is like; m is the smallest number for which
    that is so, and j is larger on finer grids, where giving up costs more. α is 5 % over the
    number of grids, so all that is stated on the way holds together with probability 95 %. A
    grid that fails is given up at once; its held-out points serve again on the next one.

    What to do next follows from the finished points alone: a resumed measurement goes on as if it
    had never stopped.

    Args:
        shape: Points along each axis, at least 2.
        tolerance: Largest |Δ log loss| wanted: 0.02 is 2 % of the loss.
        seed: Seed of the held-out points.

    Raises:
        ValueError: If the tolerance is not a finite number above 0, or the seed no whole number.

    Source: Wilks 1941, "Determination of sample sizes for setting tolerance limits", here for a
        finite number of points, with α divided among the grids (Bonferroni).

    Example:
        >>> refinement, loss = Refinement((51, 51), tolerance=0.02, seed=0), {}
        >>> while len(wanted := refinement.next(loss)):
        ...     loss |= {int(i): 1.0 + (i // 51 / 25 - 1) ** 2 for i in wanted}
        >>> len(loss) < 300, refinement.fill(loss).facts["bound"] < 0.02
        (True, True)
    """

    def __init__(self, shape: tuple[int, ...], *, tolerance: float, seed: int) -> None:
        _check(tolerance, seed)
        self.shape, self.tolerance, self.seed = tuple(shape), float(tolerance), int(seed)
        self._order, self._grids = _geometry(self.shape)
        self._draw = np.random.default_rng((self.seed, _STREAM)).permutation(self._order.size)
        self._alpha = (1 - CONFIDENCE) / max(1, len(self._grids))

    def next(self, loss: Mapping[int, float]) -> np.ndarray:
        """The points to evaluate next, given the loss at those that are finished.

        Args:
            loss: Loss by flat C-order index; NaN and infinity where the model gave them.

        Returns:
            Flat C-order indices, none of them finished; empty when there is nothing left to do.
        """
        return self._walk(_Points(loss, self._order.size))[0]

    def fill(
        self,
        loss: Mapping[int, float],
        other: Mapping[int, float] | None = None,
        *,
        relative: bool = True,
    ) -> Filled:
        """Interpolate what was not evaluated.

        Args:
            loss: The finished loss by flat C-order index, when `next(loss)` is empty.
            other: Another quantity at the same points, to interpolate in place of the loss. It
                was not held to the tolerance; its error is stated on the same grounds.
            relative: Interpolate the logarithm and state errors of the logarithm; otherwise of
                the quantity itself, between the smallest and largest value found.

        Raises:
            ValueError: If points are missing.
        """
        finished = _Points(loss, self._order.size)
        missing, look = self._walk(finished)
        if missing.size:
            raise ValueError(
                f"{missing.size} points must be evaluated first; take those that next() names"
            )
        shown = finished if other is None else _Points(other, self._order.size)
        values, interpolated = shown.values.copy(), np.zeros(self._order.size, bool)
        stated: dict[str, Any] = {"points": 0, "error": 0.0, "bound": 0.0}
        if look is not None:
            guess = look.grid.interpolate(shown, relative)
            interpolated = ~finished.done & np.isfinite(guess)
            values[interpolated] = guess[interpolated]
            stated = look.state(guess, shown.values, relative)
        facts = {
            **stated,
            "statistic": f"{QUANTILE:.0%} percentile of |Δ{' log' * relative}|",
            "confidence": CONFIDENCE,
            "tolerance": self.tolerance,
            "seed": self.seed,
            "nodes": values.size if look is None else look.grid.nodes.size,
            "evaluated": int(finished.done.sum()),
            "of": values.size,
        }
        return Filled(values.reshape(self.shape), interpolated.reshape(self.shape), facts)

    def _walk(self, finished: "_Points") -> tuple[np.ndarray, "_Look | None"]:
        """The points to evaluate next, and the look that was good enough, if one was."""
        drawn, largest, broken = 0, 0, False
        for grid in self._grids:
            missing = finished.missing(self._order[: grid.nodes.size])
            if missing.size:
                return missing, None
            reach = grid.reach(finished)
            broken |= bool(reach.any())
            population = self._draw[~(grid.is_node | reach)[self._draw]]
            look = _plan(grid, population, self._alpha, largest, drawn if broken else 0)
            if look is None:
                continue
            missing = look.missing(finished, self.tolerance)
            if missing is not None:
                beyond = finished.missing(np.flatnonzero(reach))
                return (missing if missing.size else beyond), look
            drawn, largest = drawn + look.held_out.size, look.held_out.size
        return finished.missing(self._order), None


class _Points:
    """Finished values by flat index."""

    def __init__(self, values: Mapping[int, float], size: int) -> None:
        self.values, self.done = np.full(size, np.nan), np.zeros(size, bool)
        index = np.fromiter(values, int, len(values))
        self.values[index] = np.fromiter(values.values(), float, len(values))
        self.done[index] = True

    def missing(self, wanted: np.ndarray) -> np.ndarray:
        return wanted[~self.done[wanted]]


class _Grid:
    """One of the nested grids, as nodes to interpolate from."""

    def __init__(
        self, axes: tuple[np.ndarray, ...], finer: tuple[np.ndarray, ...], shape: tuple[int, ...]
    ) -> None:
        self.nodes = flat_indices(axes, shape)
        self.is_node = np.zeros(math.prod(shape), bool)
        self.is_node[self.nodes] = True
        added = math.prod(map(len, finer)) - self.nodes.size
        # Held-out points whose error may be larger than the stated one.
        self.spare = min(_MOST_SPARE, added // _SPARE_COST)
        self._shape = tuple(map(len, axes))
        self._weights = [_weights(axis, n) for axis, n in zip(axes, shape, strict=True)]

    def interpolate(self, points: _Points, relative: bool = True) -> np.ndarray:
        """The quantity at every point [n], NaN within reach of nodes that can't be used."""
        used = _scaled(points.values[self.nodes], relative)
        values = self._spread(self._weights, np.where(np.isfinite(used), used, 0.0))
        if relative:
            with np.errstate(over="ignore"):
                values = np.exp(values)
        elif np.isfinite(used).any():  # an accuracy stays within 0 and 1
            finite = points.values[np.isfinite(points.values)]
            values = np.clip(values, finite.min(), finite.max())
        return np.where(self.reach(points, relative), np.nan, values)

    def reach(self, points: _Points, relative: bool = True) -> np.ndarray:
        """Whether a point [n] would be interpolated from a node that can't be used."""
        bad = ~np.isfinite(_scaled(points.values[self.nodes], relative))
        return self._spread([weights != 0 for weights in self._weights], bad)

    def _spread(self, weights: list[np.ndarray], nodes: np.ndarray) -> np.ndarray:
        spread = nodes.reshape(self._shape)
        for axis, matrix in enumerate(weights):
            spread = np.moveaxis(np.tensordot(matrix, spread, (1, axis)), 0, axis)
        return spread.ravel()


@cache
def _geometry(shape: tuple[int, ...]) -> tuple[np.ndarray, list[_Grid]]:
    """The visiting order, and the nested grids that a surface may be interpolated from."""
    grids = [
        _Grid(axes, finer, shape)
        for axes, finer in pairwise(nested_grids(shape))
        if all(len(axis) >= min(_FEWEST, n) for axis, n in zip(axes, shape, strict=True))
    ]
    return visiting_order(shape), grids


@dataclass(frozen=True, eq=False)
class _Look:
    """A grid held against points that were left out of it."""

    grid: _Grid
    population: np.ndarray  # points that may be interpolated
    held_out: np.ndarray  # the first of them

    def missing(self, finished: _Points, tolerance: float) -> np.ndarray | None:
        """The held-out points to evaluate next: none when it is good enough, None if it is not."""
        guess, off = self.grid.interpolate(finished), 0
        for start in range(0, self.held_out.size, _BATCH):
            batch = self.held_out[start : start + _BATCH]
            missing = finished.missing(batch)
            if missing.size:
                return missing
            off += int((_error(guess[batch], finished.values[batch], True) > tolerance).sum())
            if off > self.grid.spare:
                return None
        return self.held_out[:0]

    def state(self, guess: np.ndarray, truth: np.ndarray, relative: bool) -> dict[str, Any]:
        """The error of a quantity; not stated where some of it can't be interpolated."""
        held_out = self.held_out[np.isfinite(guess[self.held_out])]
        errors = np.sort(_error(guess[held_out], truth[held_out], relative))
        whole = np.isfinite(guess[self.population]).all()
        bound = errors[-1 - self.grid.spare] if whole else np.inf
        found = np.quantile(errors, QUANTILE, method="higher") if errors.size else np.inf
        return {
            "points": errors.size,
            "error": float(found) if np.isfinite(found) else None,
            "bound": float(bound) if np.isfinite(bound) else None,
        }


def _plan(
    grid: _Grid, population: np.ndarray, alpha: float, least: int, known: int
) -> _Look | None:
    """What to hold a grid against, or None where that would be most of what is left.

    At least as many points as on the grid before, so that these serve again. Near diverged nodes
    some may not: so many points that are left may be known already, and are not counted as left.
    """
    size = _sample_size(population.size, grid.spare, known, least, alpha)
    if size > population.size / 2:
        return None
    return _Look(grid, population, population[:size])


def _weights(nodes: np.ndarray, count: int) -> np.ndarray:
    """Weights [count, node] of cubic interpolation through the nearest nodes of an axis."""
    width, points = min(_STENCIL, len(nodes)), np.arange(count)
    before = np.searchsorted(nodes, points, side="right") - 1
    start = np.clip(before - (width // 2 - 1), 0, len(nodes) - width)
    weights = np.zeros((count, len(nodes)))
    for i in range(width):
        factors = np.ones(count)
        for k in range(width):
            if k != i:
                there, here = nodes[start + k], nodes[start + i]
                factors *= (points - there) / (here - there)
        weights[points, start + i] = factors
    return weights


def _scaled(values: np.ndarray, relative: bool) -> np.ndarray:
    if not relative:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values)


def _error(guess: np.ndarray, truth: np.ndarray, relative: bool) -> np.ndarray:
    """Size of the error; infinite where the truth is not finite, or has no logarithm."""
    error = np.abs(_scaled(guess, relative) - _scaled(truth, relative))
    return np.where(np.isfinite(error), error, np.inf)


@cache
def _sample_size(population: int, spare: int, known: int, least: int, alpha: float) -> int:
    """Fewest held-out points that state an error, `least` or more; or more than there are."""
    sizes = range(max(spare + 1, least), population + 1)
    return next((m for m in sizes if _risk(population, m, spare, known) <= alpha), population + 1)


def _risk(population: int, sample: int, spare: int, known: int = 0) -> float:
    """The largest probability with which a held-out order statistic understates the error.

    The order statistic is the sample's largest value after `spare` larger ones. More than 5 % of
    the points left have a larger error only if at most `spare` of the `worst` were drawn.
    """
    left = max(0, population - sample - known)
    worst = math.floor(round((1 - QUANTILE) * left, 9)) + spare + 1
    fewest = max(0, worst + sample - population)
    return sum(
        math.exp(
            _log_comb(worst, drawn)
            + _log_comb(population - worst, sample - drawn)
            - _log_comb(population, sample)
        )
        for drawn in range(fewest, min(spare, worst, sample) + 1)
    )


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _check(tolerance: float, seed: int) -> None:
    number = isinstance(tolerance, int | float | np.number) and not isinstance(tolerance, bool)
    if not (number and 0 < tolerance < math.inf):
        raise ValueError(
            "tolerance must be a finite number above 0, the error of log loss wanted: 0.02 is 2 % "
            f"of the loss; got {tolerance!r}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed!r}")
