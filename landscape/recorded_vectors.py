"""The vectors that training recorded, window by window: full ones, or their sketches. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from landscape.runs import Run
from landscape.segments import displacement_rows

Blocks = Iterator[tuple[np.ndarray, np.ndarray]]
"""Steps `[n]` and vectors `[n, numbers]`, in the order of steps."""

_WINDOWS = 1000  # of which every two are compared
_WIDEST = 1 << 16  # numbers of a vector: the null alone holds 512 MB of these
_HELD = 1 << 26  # numbers of all vectors of a window, 256 MB
_BLOCK = 1024  # sketches read at a time


@dataclass(frozen=True)
class Source:
    """Where the vectors of a run come from."""

    steps: np.ndarray
    """Steps that have one."""
    blocks: Blocks
    numbers: int
    """Of each vector."""
    exact: bool
    said: str


def source_of(run: Run) -> Source:
    """Full vectors where every recorded step has one of a size that fits, else sketches."""
    recorded, full, size = run.recorded_steps, run.displacement_steps, run.layout.size
    if recorded.size < 2:
        raise ValueError(
            f"directions of a whole run need recorded displacements, got {recorded.size} in "
            f"{run.path} ({run.method}): measure at frozen weights, where batches are drawn anew: "
            f"`landscape consistency {run.path} --protocol frozen --checkpoint all`"
        )
    if full.size == recorded.size and size <= _WIDEST:
        kind = run.recording.get("dtype", "float32")
        said = "full vectors" + (f" kept as {kind}" if kind != "float32" else "")
        return Source(full, run.iterate_displacements(), size, True, said)
    sketched = displacement_rows(run.path)
    if sketched.size < 2:
        raise ValueError(
            "directions of a whole run need the sketch of every step, or full vectors of at most "
            f"{_WIDEST:,} numbers, got vectors of {size:,} in {run.path}; record sketches too"
        )
    numbers = int(run.recording["sketch"])
    said = f"sketches of {numbers} numbers"
    return Source(sketched, _sketches(run, sketched), numbers, numbers >= size, said)


def _sketches(run: Run, steps: np.ndarray) -> Blocks:
    for start in range(0, len(steps), _BLOCK):
        part = steps[start : start + _BLOCK]
        yield run.sketches(int(part[0]), int(part[-1]) + 1)


def window_edges(
    run: Run, rows: dict[str, np.ndarray], recorded: np.ndarray, window: int | str
) -> np.ndarray:
    """Return the steps at which windows begin, and the end of the last one; they leave no gap."""
    first, stop = int(recorded[0]), int(recorded[-1]) + 1
    if window == "epoch":
        inside = (rows["step"] >= first) & (rows["step"] < stop)
        steps, epochs = rows["step"][inside].astype(int), np.floor(rows["epoch"][inside])
        if not np.isfinite(epochs).all():
            raise ValueError(
                f"windows of an epoch need the column epoch of every step, which {run.path} lacks; "
                "take a number of steps"
            )
        edges = np.concatenate([[first], steps[1:][np.diff(epochs) != 0], [stop]])
    else:
        begin = first - first % int(window)
        edges = np.append(np.arange(begin, stop, int(window)), stop)
    if len(edges) - 1 > _WINDOWS:
        raise ValueError(
            f"every two windows are compared, at most {_WINDOWS:,}, got {len(edges) - 1:,}; take "
            f"windows of {-(-(stop - first) // _WINDOWS):,} steps or more"
        )
    if np.histogram(recorded, edges)[0].max() < 2:
        raise ValueError(
            f"a window needs two recorded displacements, got at most one in each of "
            f"{len(edges) - 1:,} windows of {run.path}; take windows of more steps"
        )
    return edges


def by_window(blocks: Blocks, stops: np.ndarray) -> Blocks:
    """Cut blocks of vectors in the order of steps into windows that end at these steps."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    at = 0
    for steps, vectors in blocks:
        while len(steps):
            inside = int(np.searchsorted(steps, stops[at]))
            parts.append((steps[:inside], vectors[:inside]))
            steps, vectors = steps[inside:], vectors[inside:]
            if len(steps):  # the window ends before the block does
                yield _joined(parts)
                parts, at = [(steps[:0], vectors[:0])], at + 1
    yield _joined(parts)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    held = sum(vectors.size for _, vectors in parts)
    if held > _HELD:
        raise ValueError(
            f"a window may hold {_HELD:,} numbers, got {held:,} at steps {parts[0][0][:1]} and on; "
            "take windows of fewer steps"
        )
    return np.concatenate([s for s, _ in parts]), np.concatenate([v for _, v in parts])
