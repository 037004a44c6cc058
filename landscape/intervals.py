"""Intervals of means and of their differences, by Student's t distribution, and of shares."""

import math
from statistics import NormalDist

import numpy as np

_NODES = np.polynomial.legendre.leggauss(64)
_MOST_FLIPPED = 20  # pairs, a million signs


def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution, to about 12 digits.

    With t = √freedom tan φ the distribution function is a finite sum of powers of cos φ, which is
    solved for φ by bisection. Between whole degrees of freedom, where Welch's interval is, it is
    an integral, and 5 digits or more are right.

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom, at least 1.

    Raises:
        ValueError: An argument is out of range.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.1, 26.7.3 and 26.7.4.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, got {probability}")
    if freedom < 1:
        raise ValueError(f"freedom must be at least 1, got {freedom}")
    low, high = -math.pi / 2, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _below(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def t_interval(samples: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return the t-interval of the mean of independent samples `[sample]`; NaN for a single one."""
    if len(samples) < 2:
        return math.nan, math.nan
    middle = float(np.mean(samples))
    half = t_quantile((1 + confidence) / 2, len(samples) - 1) * standard_error(samples)
    return middle - half, middle + half


def wilson_interval(count: int, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share of which `count` of `samples` independent draws were seen.

    Raises:
        ValueError: There is no sample, or `count` is not one of 0 .. samples.

    Source: Wilson, J. Am. Stat. Assoc. 22, 1927.
    """
    if not 0 <= count <= samples or samples < 1:
        raise ValueError(f"count must lie in 0 .. samples, of at least 1, got {count} of {samples}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = count / samples, z**2 / samples
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)


def standard_error(samples: np.ndarray) -> float:
    """Return the standard error of the mean of independent samples; NaN for a single one."""
    if len(samples) < 2:
        return math.nan
    return float(np.std(samples, ddof=1)) / math.sqrt(len(samples))


def welch_interval(
    first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Welch's interval of mean(first) − mean(second) of independent samples.

    NaN where either has a single sample, or neither has any spread.

    Source: Welch, Biometrika 34, 1947, with the degrees of freedom of Satterthwaite.
    """
    if min(len(first), len(second)) < 2:
        return math.nan, math.nan
    shares = standard_error(first) ** 2, standard_error(second) ** 2
    total = sum(shares)
    if not total > 0:
        return math.nan, math.nan
    freedom = total**2 / (shares[0] ** 2 / (len(first) - 1) + shares[1] ** 2 / (len(second) - 1))
    middle = float(np.mean(first) - np.mean(second))
    half = t_quantile((1 + confidence) / 2, freedom) * math.sqrt(total)
    return middle - half, middle + half


def sign_flip_probability(differences: np.ndarray) -> float:
    """Return how often random signs of the differences `[pair]` give a mean as far from 0.

    All 2ⁿ signs are tried, so that it is exact, and at least 2¹⁻ⁿ; NaN above 20 pairs.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    if not 0 < len(differences) <= _MOST_FLIPPED or not np.isfinite(differences).all():
        return math.nan
    sums = np.array([differences[0]], float)  # the other half of the signs is its mirror image
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    rounding = 1e-12 * np.abs(differences).sum()
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - rounding))


def _below(angle: float, freedom: float) -> float:
    """Return the probability of t < √freedom tan(angle)."""
    if freedom % 1:
        return _below_between(angle, freedom)
    sine, square = math.sin(angle), math.cos(angle) ** 2
    if freedom % 2:
        order = np.arange(1, (freedom - 1) // 2)
        terms = np.cumprod(np.concatenate([[1.0], 2 * order / (2 * order + 1) * square]))
        inner = sine * math.cos(angle) * float(terms.sum()) if freedom > 1 else 0.0
        return 0.5 + (angle + inner) / math.pi
    order = np.arange(1, freedom // 2)
    terms = np.cumprod(np.concatenate([[1.0], (2 * order - 1) / (2 * order) * square]))
    return 0.5 + 0.5 * sine * float(terms.sum())


def _below_between(angle: float, freedom: float) -> float:
    """Return the same by Gauss and Legendre, up to where nothing but the tail is left."""
    reach = min(abs(angle), 12 / math.sqrt(freedom))
    places, weights = _NODES
    density = np.cos(reach * (places + 1) / 2) ** (freedom - 1)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    return 0.5 + math.copysign(math.exp(scale) * reach / 2 * float(weights @ density), angle)
