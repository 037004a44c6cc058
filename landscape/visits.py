"""Going through the points of a surface, a profile or a line, none of them twice."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

Progress = Callable[[int, int], None]
Row = np.ndarray
"""What was measured at one point, float64 [column]."""


class Keeper(Protocol):
    """What keeps points: `landscape.work.Work` on disk, or `Memory`."""

    def settle(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was decided under this name, by `make` the first time."""
        ...

    def finished(self, columns: Sequence[str]) -> dict[int, Row]:
        """Return all points measured so far, by index."""
        ...

    def keep(self, index: int, values: Sequence[float]) -> None:
        """Keep one measured point."""
        ...

    def mine(self, position: int) -> bool:
        """Whether this process measures the point at this position of the visiting order."""
        ...


class Memory:
    """Keeps points as long as the program runs."""

    def __init__(self) -> None:
        self._points: dict[int, Row] = {}
        self._settled: dict[str, dict[str, Any]] = {}

    def settle(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was decided under this name, by `make` the first time."""
        if name not in self._settled:
            self._settled[name] = make()
        return self._settled[name]

    def finished(self, columns: Sequence[str]) -> dict[int, Row]:
        """Return all points measured so far, by index."""
        return dict(self._points)

    def keep(self, index: int, values: Sequence[float]) -> None:
        """Keep one measured point."""
        self._points[index] = np.array(values, float)

    def mine(self, position: int) -> bool:
        """Whether this process measures the point: always."""
        return True


def visit(
    order: Iterable[int],
    measure: Callable[[int], Row],
    columns: Sequence[str],
    keeper: Keeper,
    *,
    total: int,
    progress: Progress | None = None,
) -> dict[int, Row]:
    """Measure what is missing of the points in `order`, keeping each at once.

    Args:
        order: Indices of the points, in the order of their visit.
        measure: Gives the row of a point.
        columns: Names of the numbers of a row.
        keeper: Keeps them, and tells what was measured before or by others.
        total: Points in all, for `progress`.
        progress: Called with points done and points in total.

    Returns:
        All points measured so far, by index; with several processes, those of the others too.
    """
    known, shown = keeper.finished(columns), -1
    for position, index in enumerate(order):
        if index in known or not keeper.mine(position):
            continue
        known[index] = measure(index)
        keeper.keep(index, known[index].tolist())
        if progress is not None:
            progress(shown := len(known), total)
    known = keeper.finished(columns)
    if progress is not None and shown != len(known):
        progress(len(known), total)
    return known
