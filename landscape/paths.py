"""The paths of runs through weight space, known by the inner products of their checkpoints."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from landscape.runs import Run

_BLOCK_BYTES = 1 << 27

Place = tuple[Run, int]


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
    def step_length(self) -> np.ndarray:
        """Distance [c-1] between neighbouring checkpoints."""
        return _step_length(self.gram)

    @property
    def turning_angle(self) -> np.ndarray:
        """Angle [c-2] between neighbouring moves in degrees; NaN where one has no length."""
        lengths = self.step_length
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.diag(_moves(self.gram), 1) / (lengths[1:] * lengths[:-1])
        return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal components of the checkpoints about their mean.

        Returns:
            Variance along each, descending [c], as sums of squares, and coefficients [c, c] such
            that component k is Σ_i coefficients[i, k] (θ_i − θ_last), of length √variance[k].
        """
        return _components(self.gram)

    @property
    def explained(self) -> np.ndarray:
        """Share of variance along each principal component [c-1], descending; NaN if none moves."""
        return _shares(self.components()[0])

    @property
    def explained_null(self) -> np.ndarray:
        """The same shares [c-1] expected of a random walk with this path's step lengths."""
        return random_walk_variance(self.step_length)

    def directions(self, count: int) -> np.ndarray:
        """The first principal components as orthonormal rows [count, param], float64.

        Raises:
            ValueError: If the checkpoints span fewer directions.
        """
        places = _places([self.run], [self.step])
        return _directions(places, len(places) - 1, self.gram, count)


@dataclass(frozen=True, kw_only=True)
class JointPath:
    """Inner products of the checkpoints of several runs, seen from the last one of the first."""

    runs: tuple[Run, ...]
    steps: tuple[np.ndarray, ...]
    """Steps of the checkpoints of each run."""
    gram: np.ndarray
    """⟨θ_i − θ_last, θ_j − θ_last⟩ over all checkpoints, run after run, float64 [c, c]."""

    @property
    def explained(self) -> np.ndarray:
        """Share of variance along each principal component [c-1], descending; NaN if none moves."""
        return _shares(_components(self.gram)[0])

    @property
    def explained_null(self) -> np.ndarray:
        """The same shares [c-1] expected of random walks with the runs' step lengths.

        Every run sets out from where it did and takes independent steps, orthogonal to each other
        and to the starts in high dimension: the inner products are those of the starts, plus each
        walk's own block L diag(s²) Lᵀ. Runs from one start are the arms of one walk.
        """
        bounds = np.cumsum([0, *(len(step) for step in self.steps)])
        start = np.repeat(bounds[:-1], np.diff(bounds))
        expected = self.gram[np.ix_(start, start)]
        for first, stop in pairwise(bounds):
            rows = slice(first, stop)
            expected[rows, rows] += _walk_gram(_step_length(self.gram[rows, rows]))
        return _shares(_components(expected)[0])

    def directions(self, count: int) -> np.ndarray:
        """The first principal components as orthonormal rows [count, param], float64.

        Raises:
            ValueError: If the checkpoints span fewer directions.
        """
        places = _places(self.runs, self.steps)
        return _directions(places, len(self.steps[0]) - 1, self.gram, count)


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
    places = _places([run], [step])
    return RunPath(run=run, step=step, gram=_inner_products(places, len(places) - 1))


def measure_joint_path(runs: Sequence[Run]) -> JointPath:
    """Take the inner products of several runs' checkpoints, two blocks in memory at once.

    Raises:
        ValueError: If there are fewer than 2 runs or one twice, layouts differ, a run keeps no
            checkpoint, or one is not finite.
    """
    if len(runs) < 2 or len({run.id for run in runs}) < len(runs):
        raise ValueError(
            "a joint path needs at least 2 different runs, got "
            f"{', '.join(str(run.path) for run in runs) or 'none'}"
        )
    first = runs[0]
    for run in runs:
        if run.layout != first.layout:
            raise ValueError(
                f"runs on one plane must have one layout, got {first.layout.size} parameters in "
                f"{len(first.layout)} tensors in {first.path}, {run.layout.size} in "
                f"{len(run.layout)}, or under other names, in {run.path}"
            )
        run.resolve("last")
    steps = tuple(np.array(run.checkpoints, np.int64) for run in runs)
    gram = _inner_products(_places(runs, steps), len(steps[0]) - 1)
    return JointPath(runs=tuple(runs), steps=steps, gram=gram)


def random_walk_variance(step_length: np.ndarray) -> np.ndarray:
    """Share of variance along each principal component [n] of a random walk of n steps.

    In high dimension independent steps are orthogonal, so the walk's inner products are
    L diag(s²) Lᵀ with L the lower triangle of ones: for equal steps 60.8 %, 15.2 %, 6.8 %, ...

    Args:
        step_length: Lengths s of the steps [n].

    Source: Antognini and Sohl-Dickstein, NeurIPS 2018, section 3.
    """
    return _shares(_components(_walk_gram(step_length))[0])


def _walk_gram(step_length: np.ndarray) -> np.ndarray:
    """Inner products [n+1, n+1] of the points of a walk, seen from its start."""
    count = len(step_length)
    walk = np.tri(count + 1, count, -1) * step_length
    return walk @ walk.T


def _moves(gram: np.ndarray) -> np.ndarray:
    """Inner products [c-1, c-1] of the moves between neighbouring checkpoints."""
    return np.diff(np.diff(gram, axis=0), axis=1)


def _step_length(gram: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(np.diag(_moves(gram)), 0))


def _components(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances [c], descending, and coefficients [c, c] of the components about the mean."""
    values, vectors = np.linalg.eigh(_centered(gram))
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def _shares(values: np.ndarray) -> np.ndarray:
    """Shares of the total; NaN where nothing moves. The last, centering's zero, is left out."""
    with np.errstate(invalid="ignore"):
        return values[:-1] / values.sum()


def _centered(gram: np.ndarray) -> np.ndarray:
    gram = gram - gram.mean(axis=0)
    gram = gram - gram.mean(axis=1, keepdims=True)
    return (gram + gram.T) / 2


def _places(runs: Sequence[Run], steps: Sequence[np.ndarray]) -> list[Place]:
    pairs = zip(runs, steps, strict=True)
    return [(run, int(step)) for run, own in pairs for step in own]


def _inner_products(places: Sequence[Place], base: int) -> np.ndarray:
    """Return ⟨θ_i − θ_base, θ_j − θ_base⟩ [c, c] of finite checkpoints."""
    gram = np.zeros((len(places), len(places)))
    origin = _theta(places[base])
    first, second = (_block_memory(origin, len(places)) for _ in range(2))
    for rows, block in _read_blocks(places, origin, first):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            run, step = places[rows.start + int(np.flatnonzero(~finite)[0])]
            raise ValueError(
                f"checkpoints must be finite, got NaN or infinity at step {step} of {run.path}; "
                "the run diverged, take a random plane"
            )
        gram[rows, rows] = block @ block.T
        for columns, other in _read_blocks(places, origin, second, stop=rows.start):
            gram[rows, columns] = block @ other.T
            gram[columns, rows] = gram[rows, columns].T
    return gram


def _directions(places: Sequence[Place], base: int, gram: np.ndarray, count: int) -> np.ndarray:
    values, coefficients = _components(gram)
    spanned = int((values > 1e-10 * values[0]).sum())
    if spanned < count:
        paths = ", ".join(dict.fromkeys(str(run.path) for run, _ in places))
        raise ValueError(
            f"the checkpoints must span {count} directions, got {spanned} in {paths}: "
            "they lie on a line or do not move; take a random plane"
        )
    origin = _theta(places[base])
    rows = np.zeros((count, origin.size))
    for index, block in _read_blocks(places, origin, _block_memory(origin, len(places))):
        rows += coefficients[index, :count].T @ block
    return _orthonormal(rows)


def _theta(place: Place) -> np.ndarray:
    run, step = place
    return run.checkpoint(step).theta.astype(float)


def _block_memory(origin: np.ndarray, places: int) -> np.ndarray:
    """Room for a block of checkpoints [row, param]."""
    return np.empty((min(max(1, _BLOCK_BYTES // origin.nbytes), places), origin.size))


def _read_blocks(
    places: Sequence[Place], origin: np.ndarray, memory: np.ndarray, stop: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, θ − origin [row, param]) over the checkpoints before `stop`, all in `memory`."""
    end = len(places) if stop is None else stop
    for start in range(0, end, len(memory)):
        rows = slice(start, min(start + len(memory), end))
        block = memory[: rows.stop - start]
        for row, (run, step) in zip(block, places[rows], strict=True):
            np.subtract(run.checkpoint(step).theta, origin, out=row)
        yield rows, block


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
