"""Statistics of the unit vectors of one window of training steps. No torch.

Neighbouring steps share weights and, where a perturbation remembers, gradients: they are not drawn
independently, and the interval says so. All vectors of a window lie in memory, those of a run never
do.
"""

import math
from statistics import NormalDist

import numpy as np

from landscape.intervals import t_quantile

DRAWS = 2048  # of the null and of the bootstrap
_PART = 512  # draws, or rows, whose products are formed at a time
_SEEN = 128  # steps of a window of which every pair tells how errors go together

Band = tuple[float, float]
NO_BAND = (math.nan, math.nan)


def unit_vectors(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors float32 `[k, m]` of those rows `[n, m]` that have a direction, and norms.

    The norms `[n]` are 0 or not finite where there is no direction.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    kept = has_direction(norms)
    return (rows[kept] / norms[kept, None]).astype(np.float32), norms


def has_direction(norms: np.ndarray) -> np.ndarray:
    """Return which lengths are those of a direction: finite and not 0."""
    return np.isfinite(norms) & (norms > 0)


def mean_of_pairs(square: float, count: int) -> float:
    """Return the mean cosine over pairs of n unit vectors from ‖their sum‖²; NaN below two."""
    return (square - count) / (count * (count - 1)) if count > 1 else math.nan


def block_length(unit: np.ndarray) -> int:
    """Return how many neighbours of the unit vectors `[n, m]` a bootstrap draws together.

    n^(1/3), rounded up; more where the cosines to the mean of the window have a lag-1
    autocorrelation r > 0: (√6 r / (1 - r²))^(2/3) n^(1/3), which is best for the mean of an
    autoregressive series. At most n / 8, so that there are blocks to draw.

    Source: Politis and White, Automatic block-length selection for the dependent bootstrap, 2004.
    """
    count = len(unit)
    along = unit @ unit.sum(axis=0) - 1
    along -= along.mean()
    square = float(along @ along)
    r = min(max(float(along[1:] @ along[:-1]) / square, 0.0), 0.97) if square > 0 else 0.0
    best = max(1.0, (math.sqrt(6) * r / (1 - r**2)) ** (2 / 3)) * count ** (1 / 3)
    return max(1, min(math.ceil(round(best, 9)), count // 8))


class SignFlips:
    """The mean cosine of `s_i u_i` over random signs s, of each window and of all of them.

    It holds `[DRAWS, numbers]` sums in float32, whatever the number of steps.

    Args:
        numbers: Numbers of each vector.
        seed: Seed of the signs.
    """

    def __init__(self, numbers: int, seed: int) -> None:
        self._sums = np.zeros((DRAWS, numbers), np.float32)
        self._random = np.random.default_rng([seed, 0])

    def add(self, unit: np.ndarray) -> Band:
        """Add the unit vectors `[n, numbers]` of a window; return the central 95 % of its own."""
        count, squares = len(unit), np.empty(DRAWS)
        for start in range(0, DRAWS, _PART):
            part = slice(start, start + _PART)
            drawn = self._random.integers(0, 2, (len(squares[part]), count), np.int8)
            sums = (2 * drawn.astype(np.float32) - 1) @ unit
            squares[part] = _squares(sums)
            self._sums[part] += sums
        return _central(squares, count)

    def band(self, count: int) -> Band:
        """Return the central 95 % over all `count` vectors that were added."""
        return _central(_squares(self._sums), count)


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)


def _central(squares: np.ndarray, count: int) -> Band:
    if count < 2:
        return NO_BAND
    low, high = np.quantile((squares - count) / (count * (count - 1)), [0.025, 0.975])
    return float(low), float(high)


def block_interval(unit: np.ndarray, block: int, random: np.random.Generator) -> Band:
    """Return the 95 % bootstrap interval of the mean cosine over blocks of neighbours.

    As many blocks of `block` vectors as there are, are drawn with replacement. Of a block drawn
    twice, pairs of one copy with the other say nothing of agreement and are left out. Percentiles
    are widened for the number of blocks, as Student's t is. NaN below three blocks.

    Source: Hesterberg, What teachers should know about the bootstrap, 2015 (expanded percentiles).
    """
    starts = np.arange(0, len(unit), block)
    blocks = len(starts)
    if blocks < 3:
        return NO_BAND
    sizes = np.diff(np.append(starts, len(unit))).astype(np.float64)
    sums = np.add.reduceat(unit, starts, axis=0, dtype=np.float64)
    products = sums @ sums.T
    own, own_pairs = np.diag(products) - sizes, sizes * (sizes - 1)
    np.fill_diagonal(products, 0.0)
    weights = random.multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS).astype(np.float64)
    total = ((weights @ products) * weights).sum(1) + weights @ own
    pairs = (weights @ sizes) ** 2 - weights**2 @ sizes**2 + weights @ own_pairs
    usable = (weights > 0).sum(1) > 1  # one block only has no pairs but its own
    reach = math.sqrt(blocks / (blocks - 1)) * t_quantile(0.975, blocks - 1)
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(total[usable] / pairs[usable], [tail, 1 - tail])
    return float(low), float(high)


def participation_ratio(unit: np.ndarray, *, exact: bool) -> float:
    """Return (Σ λ)² / Σ λ² of the eigenvalues of the Gram matrix of unit vectors `[n, m]`.

    Σ λ² is the sum of all squared cosines. Sketches of m numbers add their variance (1 - c²)² / m
    to each, which is taken off.
    """
    count, numbers = unit.shape
    if count < 2:
        return math.nan
    squares = 0.0
    for start in range(0, count, _PART):
        cosines = unit[start : start + _PART] @ unit.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = 1.0
        cosines = cosines.astype(np.float64) ** 2
        squares += cosines.sum()
        if not exact:
            squares -= ((1 - np.minimum(cosines, 1.0)) ** 2).sum() / numbers
    return min(max(count**2 / squares, 1.0), float(count)) if squares > 0 else float(count)


def mean_lag_error(later: np.ndarray, earlier: np.ndarray, random: np.random.Generator) -> float:
    """Return the standard deviation, from sketching, of the mean cosine of n pairs of sketches.

    All errors come from one map, so those of vectors with a common direction go together. To first
    order the error of the cosine c of u and v is tr(A E), A = (u vᵀ + v uᵀ)/2 - c (u uᵀ + v vᵀ)/2
    and E random, with variance 2 ‖A‖² / m. So that of the mean is 2 ‖mean A‖² / m, where
    ‖mean A‖² = mean ⟨A_s, A_t⟩: ‖A_t‖² = (1 - c²)² / 2 for s = t, the rest from the cosines of at
    most 128 pairs drawn at random.

    Args:
        later: Unit vectors `[n, m]`.
        earlier: Those that they are compared with `[n, m]`.
        random: Draws these pairs.
    """
    count, numbers = later.shape
    cosines = np.einsum("ij,ij->i", later, earlier, dtype=np.float64)
    own = 0.5 * ((1 - np.minimum(cosines**2, 1.0)) ** 2).mean()
    if count == 1:
        return math.sqrt(2 * own / numbers)
    seen = np.sort(random.choice(count, min(count, _SEEN), replace=False))
    u, v, c = later[seen], earlier[seen], cosines[seen]
    p, q, x = (u @ u.T, v @ v.T, u @ v.T)
    products = (p * q + x * x.T) / 2
    mixed = c[None, :] * (p * x.T + x * q) / 2
    products += c[:, None] * c[None, :] * (p**2 + q**2 + x**2 + x.T**2) / 4 - mixed - mixed.T
    other = (products.sum() - np.trace(products)) / (len(seen) * (len(seen) - 1))
    mean = own / count + (1 - 1 / count) * max(float(other), 0.0)
    return math.sqrt(2 * mean / numbers)


def pairs_error(
    pairs: np.ndarray, lengths: np.ndarray, counts: np.ndarray, numbers: int
) -> np.ndarray:
    """Return the standard deviation, from sketching, of mean cosines between windows `[w, w]`.

    As in `mean_lag_error`, with A = (a bᵀ + b aᵀ)/2 - p (mean u uᵀ + mean v vᵀ)/2 of the mean
    vectors a and b, p = ⟨a, b⟩, and u = a + noise, whose own part has a squared norm of
    (1 - ‖a‖²)² / n.

    Args:
        pairs: Mean cosine of vectors, one of each window `[w, w]`.
        lengths: Resultant lengths ‖a‖ `[w]`.
        counts: Vectors n of each window `[w]`.
        numbers: Numbers m of a sketch.
    """
    squares = lengths**2
    p, spread = pairs**2, squares**2 + (1 - squares) ** 2 / np.maximum(counts, 1)
    norms = (np.outer(squares, squares) + p) / 2 + p**2 / 2
    norms += p * (np.add.outer(spread, spread) / 4 - np.add.outer(squares, squares))
    return np.sqrt(2 * np.maximum(norms, 0.0) / numbers)


def run_error(pairs: np.ndarray, counts: np.ndarray, mean: float, numbers: int) -> float:
    """Return the standard deviation, from sketching, of the mean cosine of the whole run.

    As in `mean_lag_error`, with A = s sᵀ - mean p u uᵀ, s the mean of all unit vectors and
    p = ⟨s, u⟩, where a vector is the mean of its window and noise. Where all windows have one
    direction it is `directions.sketch_mean_error`.

    Args:
        pairs: Mean cosine of vectors, one of each window, or two of one `[w, w]`.
        counts: Vectors of each window `[w]`.
        mean: Mean cosine over all pairs.
        numbers: Numbers m of a sketch.
    """
    total, c = int(counts.sum()), min(max(mean, 0.0), 1.0)
    if total < 2:
        return math.nan
    weights, between = counts / total, np.nan_to_num(pairs)
    p = between @ weights
    norm = weights @ p * (weights @ p) - 2 * weights @ p**3
    norm += (weights * p) @ between**2 @ (weights * p)
    noise = (1 - c) ** 2 * (4 * c / total + 2 / total**2 + 4 * c * (1 - c) / total)
    return math.sqrt((2 * max(float(norm), 0.0) + noise) / numbers)
