"""Statistics of directions: how well vectors agree, how well they would by chance. No torch."""

from typing import Any, NamedTuple

import numpy as np

from landscape.results import Consistency

_DRAWS = 4096  # of the null and of the bootstrap
_COLUMNS = 1 << 18  # numbers of each vector that are widened to float64 at a time


def consistency_of(
    vectors: np.ndarray,
    *,
    step: np.ndarray,
    protocol: str,
    perturbation: str,
    seed: int,
    loss_rise: np.ndarray | None = None,
    cosine_gradient: np.ndarray | None = None,
    facts: dict[str, Any] | None = None,
) -> Consistency:
    """Summarize how well vectors agree in direction.

    With the Gram matrix of the unit vectors u_i, the resultant length is `R = |sum u_i| / n` and
    the mean cosine over pairs i ≠ j is `(n R² - 1) / (n - 1)`, an identity. For random directions
    R is about 1/√n, the mean cosine about 0.

    - Null: the central 95 % of the mean cosine of `s_i u_i` over random signs s. It keeps dimension
      and anisotropy as they are and takes only the common direction away.
    - Interval: 95 % percentile bootstrap over the vectors. A vector drawn twice has cosine 1 to
      itself, which says nothing about batches: pairs of one and the same vector are left out.
      NaN below three vectors.

    A vector of length zero, or with numbers that are not finite, has no direction: its cosines are
    NaN, it is left out of the summary numbers, and counted in `facts`.

    Args:
        vectors: Displacements `[n, param]`, at least two.
        step: Training step of each `[n]`.
        protocol: "frozen" or "online".
        perturbation: Label of the perturbation.
        seed: Seed of null and bootstrap.
        loss_rise: Loss rise of each on its own batch `[n]`, in nats; NaN unless given.
        cosine_gradient: Cosine of each to its batch's task-loss gradient `[n]`; NaN unless given.
        facts: How the vectors were measured.

    Raises:
        ValueError: Fewer than two vectors, or not `[n, param]`.

    Source: Mardia and Jupp, Directional Statistics, 2000, section 9.2 (resultant length).
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"vectors must be [n, param] with n of 2 or more, got {array.shape}")
    return summarize(
        inner_products(array, array),
        step=np.asarray(step),
        protocol=protocol,
        perturbation=perturbation,
        seed=seed,
        loss_rise=loss_rise,
        cosine_gradient=cosine_gradient,
        facts=facts,
    )


def summarize(
    products: np.ndarray,
    *,
    step: np.ndarray,
    protocol: str,
    perturbation: str,
    seed: int,
    loss_rise: np.ndarray | None = None,
    cosine_gradient: np.ndarray | None = None,
    facts: dict[str, Any] | None = None,
    cosine_error: np.ndarray | None = None,
    sketch: int | None = None,
    fields: dict[str, Any] | None = None,
) -> Consistency:
    """Make the result of `consistency_of` from the inner products `[n, n]` of the vectors alone.

    Args:
        products: Inner products; exact, or from sketches.
        step: As for `consistency_of`, like all that is not named here.
        protocol: See there.
        perturbation: See there.
        seed: See there.
        loss_rise: See there.
        cosine_gradient: See there.
        facts: See there.
        cosine_error: Standard deviation of each cosine `[n, n]` where sketches were used.
        sketch: Numbers of the sketches.
        fields: More fields of the result, as they are.
    """
    count = len(products)
    norms = np.sqrt(np.diag(products))
    defined = np.isfinite(norms) & (norms > 0)
    lengths = np.where(defined, norms, np.nan)
    cosines = _cosines_of(products, lengths)
    kept = cosines[np.ix_(defined, defined)]
    found = agreement_of(products, seed)
    missing = np.full(count, np.nan)
    more: dict[str, Any] = {}
    if cosine_error is not None and sketch is not None:
        more = {
            "cosine_error": cosine_error,
            "mean_cosine_error": sketch_mean_error(found.mean_cosine, len(kept), sketch),
        }
    more |= fields or {}
    return Consistency(
        **more,
        protocol=protocol,
        perturbation=perturbation,
        step=step,
        cosines=cosines,
        norms=norms,
        **found._asdict(),
        resultant_length=_resultant_length(kept),
        leave_one_out=_leave_one_out(cosines, defined),
        participation=_participation(kept),
        consecutive=np.diagonal(cosines, 1),
        loss_rise=missing if loss_rise is None else loss_rise,
        cosine_gradient=missing if cosine_gradient is None else cosine_gradient,
        facts=(facts or {})
        | {
            "seed": seed,
            "vanished": int((norms == 0).sum()),
            "not_finite": int((~np.isfinite(norms)).sum()),
            "null": f"95 % of {_DRAWS} random sign flips",
            "interval": f"95 % of {_DRAWS} bootstrap draws of batches, pairs of one batch left out",
        },
    )


def sketch_cosines(sketches: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of sketches and their standard deviations, both `[n, n]`.

    A cosine c from m numbers is off by about (1 - c²) / √m; by nothing if m is the `size` of the
    vectors. NaN where a sketch has no length.

    Source: delta method on products whose errors have covariance (⟨a, c⟩⟨b, d⟩ + ⟨a, d⟩⟨b, c⟩) / m.
    """
    wide = np.asarray(sketches, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(lengths > 0, lengths, np.nan)
    cosines = np.clip(unit @ unit.T, -1, 1)
    numbers = wide.shape[1]
    error = np.zeros_like(cosines) if numbers >= size else (1 - cosines**2) / np.sqrt(numbers)
    np.fill_diagonal(error, 0.0)
    return cosines, error


def sketch_mean_error(mean_cosine: float, count: int, numbers: int) -> float:
    """Return the standard deviation of the mean cosine of n vectors that comes from sketching.

    For vectors that share one direction and are independent otherwise, with mean cosine c from
    sketches of m numbers: (1 - c) √((2 (c + 1/n)² + 4 c (1 - c) / n) / m). For c = 0 that is
    √2 / (n √m).
    """
    if count < 2:
        return float("nan")
    c = min(max(mean_cosine, 0.0), 1.0)
    spread = 2 * (c + 1 / count) ** 2 + 4 * c * (1 - c) / count
    return float((1 - c) * np.sqrt(spread / numbers))


def inner_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return left @ right.T in float64, a range of columns at a time."""
    total = np.zeros((len(left), len(right)))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is counted later
        for start in range(0, left.shape[1], _COLUMNS):
            part = slice(start, start + _COLUMNS)
            total += left[:, part].astype(np.float64) @ right[:, part].astype(np.float64).T
    return total


class Agreement(NamedTuple):
    """Mean cosine over pairs i ≠ j, its null and its interval, as `consistency_of` has them."""

    mean_cosine: float
    null_low: float
    null_high: float
    interval_low: float
    interval_high: float


def agreement_of(products: np.ndarray, seed: int) -> Agreement:
    """Return how well vectors with these inner products `[n, n]` agree.

    Vectors without a direction are left out; NaN where fewer than two are left.
    """
    norms = np.sqrt(np.diag(products))
    kept = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    cosines = _cosines_of(products[np.ix_(kept, kept)], norms[kept])
    null, interval = _null_band(cosines, seed), _bootstrap_interval(cosines, seed)
    return Agreement(_mean_cosine(cosines), *null, *interval)


def gradient_noise(products: np.ndarray, batch_size: int) -> tuple[float, float]:
    """Return the noise scale of gradients, in samples, and the mean cosine that follows from it.

    Of n gradients, each the mean over a batch of B samples, tr Σ / ‖μ‖² = B / SNR with
    `SNR = ‖mean‖² / tr(variance) − 1/n`, from which the mean's own noise is taken off. Isotropic
    noise of it gives a mean cosine of SNR / (1 + SNR) = B / (B + noise scale).

    Args:
        products: Inner products of the gradients `[n, n]`; what is not finite is left out.
        batch_size: B.

    Returns:
        The noise scale, NaN where SNR is not above 0: no mean stands out from the noise. The
        cosine, which is then 0 or a little below. Both NaN below two gradients.

    Source: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, equation 2.9.
    """
    kept = np.flatnonzero(np.isfinite(np.diag(products)))
    count = len(kept)
    if count < 2:
        return np.nan, np.nan
    inner = products[np.ix_(kept, kept)]
    mean = inner.sum() / count**2
    variance = (np.trace(inner) - count * mean) / (count - 1)
    if not variance > 1e-14 * mean:  # all alike, but for rounding
        return (0.0, 1.0) if mean > 0 else (np.nan, np.nan)
    snr = mean / variance - 1 / count
    return float(batch_size / snr) if snr > 0 else np.nan, float(snr / (1 + snr))


def _cosines_of(products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the cosines `[n, n]`, exactly 1 on the diagonal; NaN where a length is NaN."""
    cosines = products / np.outer(lengths, lengths)
    cosines = (cosines + cosines.T) / 2
    np.fill_diagonal(cosines, np.where(np.isfinite(lengths), 1.0, np.nan))
    return cosines


def _leave_one_out(cosines: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return the cosine of each unit vector to the sum of the others, NaN where that vanishes."""
    found = np.full(len(cosines), np.nan)
    kept = cosines[np.ix_(defined, defined)]
    toward = kept.sum(1) - 1
    squares = kept.sum() - 2 * toward - 1
    usable = squares > 1e-12 * len(kept) ** 2
    found[defined] = np.divide(
        toward, np.sqrt(np.where(usable, squares, np.nan)), where=usable, out=toward * np.nan
    )
    return found


def _participation(cosines: np.ndarray) -> float:
    """Return (Σ λ)² / Σ λ² of the eigenvalues, which are the squared sum and sum of squares."""
    return float(len(cosines) ** 2 / (cosines**2).sum()) if len(cosines) else np.nan


def _mean_cosine(cosines: np.ndarray) -> float:
    count = len(cosines)
    return float((cosines.sum() - count) / (count * (count - 1))) if count > 1 else np.nan


def _resultant_length(cosines: np.ndarray) -> float:
    """Return |sum u| / n; rounding may bring a sum of zero slightly below it."""
    return float(np.sqrt(max(cosines.sum(), 0.0)) / len(cosines)) if len(cosines) else np.nan


def _null_band(cosines: np.ndarray, seed: int) -> tuple[float, float]:
    count = len(cosines)
    if count < 2:
        return np.nan, np.nan
    signs = np.random.default_rng([seed, 0]).choice([-1.0, 1.0], (_DRAWS, count))
    sums = ((signs @ cosines) * signs).sum(1)
    low, high = np.quantile((sums - count) / (count * (count - 1)), [0.025, 0.975])
    return float(low), float(high)


def _bootstrap_interval(cosines: np.ndarray, seed: int) -> tuple[float, float]:
    """Weigh vectors by how often they are drawn; a draw of one vector only has no pairs."""
    count = len(cosines)
    if count < 3:
        return np.nan, np.nan
    chances = np.full(count, 1 / count)
    weights = np.random.default_rng([seed, 1]).multinomial(count, chances, _DRAWS).astype(float)
    same = (weights**2).sum(1)
    usable = same < count**2
    sums = ((weights @ cosines) * weights).sum(1) - same
    low, high = np.quantile(sums[usable] / (count**2 - same[usable]), [0.025, 0.975])
    return float(low), float(high)
