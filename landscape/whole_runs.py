"""The directions of a whole run: agreement within windows of its steps, and between them. No torch.

What training recorded is read once, block by block. Memory holds the vectors of one window, one sum
for each window and the sums of the null, never all vectors and never a cosine of every pair.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from landscape.directions import sketch_mean_error
from landscape.recorded_vectors import Source, by_window, source_of, window_edges
from landscape.results import Directions
from landscape.runs import Run
from landscape.window_statistics import (
    DRAWS,
    NO_BAND,
    SignFlips,
    block_interval,
    block_length,
    has_direction,
    mean_lag_error,
    mean_of_pairs,
    pairs_error,
    participation_ratio,
    run_error,
    unit_vectors,
)

Progress = Callable[[int, int], None]

LAGS = (1, 10, 100)
_EXACT = {1: "cosine_previous", 10: "cosine_lag_10", 100: "cosine_lag_100"}


def measure_directions(
    run: Run,
    *,
    window: int | Literal["epoch"] = "epoch",
    lags: Sequence[int] = LAGS,
    block: int | None = None,
    seed: int,
    progress: Progress | None = None,
) -> Directions:
    """Measure how well the displacements that training recorded agree, over the whole run.

    Full vectors are taken where every recorded step has one of at most 65,536 numbers, else the
    sketches; what comes from sketches carries their error. Cosines of lags 1, 10 and 100 that
    training measured are exact and go before those of sketches.

    A displacement of length zero, or with numbers that are not finite, has no direction: it is left
    out and counted in `facts`, as are steps of which none was recorded. A window with fewer than
    two has no mean cosine: NaN. A run that is still written, or was killed, is measured as far as
    it goes.

    Args:
        run: A run with recorded displacements, full or as sketches.
        window: "epoch", by the column `epoch` of the run, or a number of steps.
        lags: Steps between two displacements whose cosine is taken.
        block: Neighbouring displacements that the bootstrap draws together; chosen by
            `window_statistics.block_length` unless given.
        seed: Seed of null and bootstrap.
        progress: Called with windows done and in total.

    Raises:
        ValueError: The run has fewer than two recorded displacements, no window has two, or there
            are too many windows or vectors in one of them for memory; or a setting is out of range.

    Source: Mardia and Jupp, Directional Statistics, 2000, section 9.2 (resultant length).
    """
    _check(window, lags, block)
    source = source_of(run)
    rows = run.steps
    edges = window_edges(run, rows, source.steps, window)
    found = _Windows(source, rows, edges, tuple(lags), block, seed)
    for number, (steps, vectors) in enumerate(by_window(source.blocks, edges[1:])):
        found.add(number, steps, vectors)
        if progress is not None:
            progress(number + 1, len(edges) - 1)
    return found.result(run, window)


def _check(window: int | str, lags: Sequence[int], block: int | None) -> None:
    if window != "epoch" and (not isinstance(window, int) or window < 2):
        raise ValueError(f'window must be "epoch" or 2 steps or more, got {window!r}')
    if not lags or min(lags) < 1 or len(set(lags)) < len(lags):
        raise ValueError(f"lags must be different steps of 1 or more, got {tuple(lags)}")
    if block is not None and block < 1:
        raise ValueError(f"block must be 1 step or more, got {block}")


class _Windows:
    """What is known of each window, one after another, and what all of them share."""

    def __init__(
        self,
        source: Source,
        rows: dict[str, np.ndarray],
        edges: np.ndarray,
        lags: tuple[int, ...],
        block: int | None,
        seed: int,
    ) -> None:
        self._source, self._rows, self._edges = source, rows, edges
        self._lags, self._block, self._seed = lags, block, seed
        self._flips = SignFlips(source.numbers, seed)
        self._random = np.random.default_rng([seed, 1])
        self._means = np.full((len(edges) - 1, source.numbers), np.nan, np.float32)
        self._total = np.zeros(source.numbers)
        self._columns: dict[str, list[Any]] = {}
        self._before = (np.empty(0, np.int64), np.empty((0, source.numbers), np.float32))
        self._blocks: list[int] = []
        self._vanished = self._not_finite = self._missing = 0

    def add(self, number: int, steps: np.ndarray, vectors: np.ndarray) -> None:
        """Measure the next window, of which these steps have vectors."""
        start, stop = self._edges[number : number + 2]
        at = slice(*np.searchsorted(self._rows["step"], [start, stop]))
        rows = {name: column[at] for name, column in self._rows.items()}
        unit, norms = unit_vectors(vectors)
        self._vanished += int((norms == 0).sum())
        self._not_finite += int((~np.isfinite(norms)).sum())
        self._missing += int((~np.isin(rows["step"], steps)).sum())
        steps = steps[has_direction(norms)]
        self._keep(start=start, stop=stop, count=len(unit))
        self._agreement(number, unit)
        self._scalars(rows)
        self._by_lag(rows, steps, unit)

    def _keep(self, **values: Any) -> None:
        for name, value in values.items():
            self._columns.setdefault(name, []).append(value)

    def _agreement(self, number: int, unit: np.ndarray) -> None:
        count = len(unit)
        total = unit.sum(axis=0, dtype=np.float64)
        self._total += total
        if count:
            self._means[number] = total / count
        square = float(total @ total)
        mean = mean_of_pairs(square, count)
        null = self._flips.add(unit)
        interval = NO_BAND
        if count > 1:
            self._blocks.append(self._block or block_length(unit))
            interval = block_interval(unit, self._blocks[-1], self._random)
        self._keep(
            mean_cosine=mean,
            null_low=null[0],
            null_high=null[1],
            interval_low=interval[0],
            interval_high=interval[1],
            mean_cosine_error=self._error(sketch_mean_error(mean, count, self._source.numbers)),
            resultant_length=np.sqrt(square) / count if count else np.nan,
            participation=participation_ratio(unit, exact=self._source.exact),
        )

    def _error(self, of_sketches: Any) -> Any:
        """Return what an error from sketches is: 0 where vectors are exact; NaN stays."""
        return of_sketches * 0 if self._source.exact else of_sketches

    def _scalars(self, rows: dict[str, np.ndarray]) -> None:
        norms, shares = rows["displacement_norm"], rows["effective_samples"]
        low, middle, high = _quantiles(norms, (0.05, 0.5, 0.95))
        share = shares[np.isfinite(shares)]
        self._keep(norm=middle, norm_low=low, norm_high=high)
        self._keep(effective_share=share.mean() if len(share) else np.nan)

    def _by_lag(self, rows: dict[str, np.ndarray], steps: np.ndarray, unit: np.ndarray) -> None:
        """Cosines of each lag whose later step lies in the window: measured, else of vectors."""
        known = np.concatenate([self._before[0], steps])
        vectors = np.concatenate([self._before[1], unit])
        found = [self._lag(rows, known, vectors, len(self._before[0]), lag) for lag in self._lags]
        names = ("lag_cosine", "lag_low", "lag_high", "lag_error")
        self._keep(**dict(zip(names, np.transpose(found), strict=True)))
        recent = known > known[-1] - max(self._lags) if len(known) else slice(0)
        self._before = known[recent], vectors[recent]

    def _lag(
        self,
        rows: dict[str, np.ndarray],
        known: np.ndarray,
        vectors: np.ndarray,
        first: int,
        lag: int,
    ) -> tuple[float, float, float, float]:
        """Return mean, 5 %, 95 % and error of the mean; the window begins at `first` of `known`."""
        column = rows[_EXACT[lag]] if lag in _EXACT else np.full(len(rows["step"]), np.nan)
        measured = np.isfinite(column)
        later = np.arange(first, len(known))
        earlier = np.searchsorted(known, known[later] - lag)
        pair = (known[earlier] == known[later] - lag) & ~np.isin(
            known[later], rows["step"][measured]
        )
        later, earlier = later[pair], earlier[pair]
        more = np.einsum("ij,ij->i", vectors[later], vectors[earlier], dtype=np.float64)
        cosines = np.concatenate([column[measured], more])
        if not len(cosines):
            return np.nan, np.nan, np.nan, np.nan
        low, high = _quantiles(cosines, (0.05, 0.95))
        error = 0.0
        if len(more) and not self._source.exact:
            error = mean_lag_error(vectors[later], vectors[earlier], self._random)
        return float(cosines.mean()), low, high, error * len(more) / len(cosines)

    def result(self, run: Run, window: int | str) -> Directions:
        """Put the windows together."""
        columns: dict[str, Any] = {n: np.array(values) for n, values in self._columns.items()}
        shares = columns.pop("effective_share")
        if np.isfinite(shares).any():
            columns["effective_share"] = shares
        count = int(columns["count"].sum())
        mean = mean_of_pairs(float(self._total @ self._total), count)
        null = self._flips.band(count)
        lengths = columns["resultant_length"]
        pairs = self._means.astype(np.float64) @ self._means.T
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = np.clip(pairs / np.outer(lengths, lengths), -1, 1)
        np.fill_diagonal(matrix, np.where(columns["count"] > 0, 1.0, np.nan))
        between = pairs_error(pairs, lengths, columns["count"], self._source.numbers)
        np.fill_diagonal(pairs, columns["mean_cosine"])
        np.fill_diagonal(between, columns["mean_cosine_error"])
        error = run_error(pairs, columns["count"], mean, self._source.numbers)
        return Directions(
            **columns,
            perturbation=str(run.provenance.get("perturbation") or run.method),
            lags=np.array(self._lags),
            matrix=matrix,
            matrix_error=self._error((1 - matrix**2) / np.sqrt(self._source.numbers)),
            pairs=pairs,
            pairs_error=self._error(between),
            run_mean_cosine=mean,
            run_null_low=null[0],
            run_null_high=null[1],
            vectors=count,
            run_mean_cosine_error=self._error(error),
            facts=self._facts(run, window),
        )

    def _facts(self, run: Run, window: int | str) -> dict[str, Any]:
        short = int((np.array(self._columns["count"]) < 2).sum())
        status = {"status": run.status} if run.status != "finished" else {}
        lengths = sorted({min(self._blocks), max(self._blocks)})
        return status | {
            "run": run.id,
            "run_name": run.name,
            "method": run.method,
            "parameters": run.layout.size,
            "window": "epoch" if window == "epoch" else f"{window} steps",
            "steps": [int(self._edges[0]), int(self._edges[-1])],
            "sampling": "batches of training, in order",
            "vectors": self._source.said,
            "seed": self._seed,
            "vanished": self._vanished,
            "not_finite": self._not_finite,
            "missing_steps": self._missing,
            "short_windows": short,
            "null": f"95 % of {DRAWS} random sign flips",
            "interval": f"95 % of {DRAWS} bootstrap draws of blocks of "
            f"{' to '.join(map(str, lengths))} neighbouring vectors, pairs of two copies of one "
            "block left out",
        }


def _quantiles(values: np.ndarray, at: tuple[float, ...]) -> list[float]:
    finite = values[np.isfinite(values)]
    return [float(q) for q in np.quantile(finite, at)] if len(finite) else [np.nan] * len(at)
