"""The path of a run through weight space, known by the inner products of its checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from landscape.runs import Run

_BLOCK_BYTES = 1 << 27


@dataclass(frozen=True, kw_only=True)
class RunPath:
    """Inner products of a run's checkpoints, seen from the last one. All else follows."""

    run: Run
    step: np.ndarray
    """Steps of the checkpoints [c]."""
    gram: np.ndarray
    """⟨θ_i − θ_last, θ_j − θ_last⟩, float64 [c, c]."""

    def distances(self, checkpoint: int) -> np.ndarray:
        """Euclidean distance [c] of every checkpoint to the one at this index."""
        squares = np.diag(self.gram)
        return np.sqrt(np.maximum(squares + squares[checkpoint] - 2 * self.gram[checkpoint], 0))

    @property
    def _moves(self) -> np.ndarray:
        """Inner products [c-1, c-1] of the moves between neighbouring checkpoints."""
        return np.diff(np.diff(self.gram, axis=0), axis=1)

    @property
    def step_length(self) -> np.ndarray:
        """Distance [c-1] between neighbouring checkpoints."""
        return np.sqrt(np.maximum(np.diag(self._moves), 0))

    @property
    def turning_angle(self) -> np.ndarray:
        """Angle [c-2] between neighbouring moves in degrees; NaN where one has no length."""
        lengths = self.step_length
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.diag(self._moves, 1) / (lengths[1:] * lengths[:-1])
        return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal components of the checkpoints about their mean.

        Returns:
            Variance along each, descending [c], as sums of squares, and coefficients [c, c] such
            that component k is Σ_i coefficients[i, k] (θ_i − θ_last), of length √variance[k].
        """
        values, vectors = np.linalg.eigh(_centered(self.gram))
        return np.maximum(values[::-1], 0), vectors[:, ::-1]

    @property
    def explained(self) -> np.ndarray:
        """Share of variance along each principal component [c-1], descending; NaN if none moves."""
        values, _ = self.components()
        return _shares(values)

    @property
    def explained_null(self) -> np.ndarray:
        """The same shares [c-1] expected of a random walk with this path's step lengths."""
        return random_walk_variance(self.step_length)

    def directions(self, count: int) -> np.ndarray:
        """The first principal components as orthonormal rows [count, param], float64.

        Raises:
            ValueError: If the checkpoints span fewer directions.
        """
        values, coefficients = self.components()
        spanned = int((values > 1e-10 * values[0]).sum())
        if spanned < count:
            raise ValueError(
                f"the checkpoints must span {count} directions, got {spanned} in {self.run.path}: "
                "they lie on a line or do not move; take a random plane"
            )
        rows = 0.0
        for index, block in _read_blocks(self.run, self.step):
            rows = rows + coefficients[index, :count].T @ block
        return _orthonormal(np.asarray(rows))


def measure_path(run: Run) -> RunPath:
    """Take the inner products of a run's checkpoints, with two blocks of them in memory at once.

    Raises:
        ValueError: If there are fewer than 3 checkpoints, or one is not finite.
    """
    step = np.array(run.checkpoints, np.int64)
    if len(step) < 3:
        raise ValueError(
            f"the path of a run needs at least 3 checkpoints, got {len(step)} in {run.path}; "
            "train with a shorter checkpoint interval, or take a random plane"
        )
    gram = np.zeros((len(step), len(step)))
    for rows, block in _read_blocks(run, step):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"checkpoints must be finite, got NaN or infinity at step "
                f"{step[rows][~finite][0]} of {run.path}; the run diverged, take a random plane"
            )
        gram[rows, rows] = block @ block.T
        for columns, other in _read_blocks(run, step, stop=rows.start):
            gram[rows, columns] = block @ other.T
            gram[columns, rows] = gram[rows, columns].T
    return RunPath(run=run, step=step, gram=gram)


def random_walk_variance(step_length: np.ndarray) -> np.ndarray:
    """Share of variance along each principal component [n] of a random walk of n steps.

    In high dimension independent steps are orthogonal, so the walk's inner products are
    L diag(s²) Lᵀ with L the lower triangle of ones: for equal steps 60.8 %, 15.2 %, 6.8 %, ...

    Args:
        step_length: Lengths s of the steps [n].

    Source: Antognini and Sohl-Dickstein, NeurIPS 2018, section 3.
    """
    count = len(step_length)
    walk = np.tri(count + 1, count, -1) * step_length
    return _shares(np.maximum(np.linalg.eigvalsh(_centered(walk @ walk.T))[::-1], 0))


def _shares(values: np.ndarray) -> np.ndarray:
    """Shares of the total; NaN where nothing moves. The last, centering's zero, is left out."""
    with np.errstate(invalid="ignore"):
        return values[:-1] / values.sum()


def _centered(gram: np.ndarray) -> np.ndarray:
    gram = gram - gram.mean(axis=0)
    gram = gram - gram.mean(axis=1, keepdims=True)
    return (gram + gram.T) / 2


def _read_blocks(
    run: Run, step: np.ndarray, stop: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, θ − θ_last as float64 [row, param]) over the checkpoints before `stop`."""
    last = run.checkpoint(int(step[-1])).theta.astype(float)
    size = max(1, _BLOCK_BYTES // last.nbytes)
    end = len(step) if stop is None else stop
    for start in range(0, end, size):
        rows = slice(start, min(start + size, end))
        yield rows, np.stack([run.checkpoint(int(s)).theta - last for s in step[rows]])


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Gram-Schmidt, twice per row, in order."""
    done: list[np.ndarray] = []
    for row in rows:
        for _ in range(2):
            for other in done:
                row = row - (row @ other) * other
            row = row / np.linalg.norm(row)
        done.append(row)
    return np.stack(done)
