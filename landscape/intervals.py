"""Intervals of means, by Student's t distribution, and of shares."""

import math
from statistics import NormalDist

import numpy as np


def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution, to about 12 digits.

    With t = √freedom tan φ the distribution function is a finite sum of powers of cos φ, which is
    solved for φ by bisection.

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom, a whole number, at least 1.

    Raises:
        ValueError: An argument is out of range.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
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


def _below(angle: float, freedom: int) -> float:
    """Return the probability of t < √freedom tan(angle)."""
    sine, square = math.sin(angle), math.cos(angle) ** 2
    if freedom % 2:
        order = np.arange(1, (freedom - 1) // 2)
        terms = np.cumprod(np.concatenate([[1.0], 2 * order / (2 * order + 1) * square]))
        inner = sine * math.cos(angle) * float(terms.sum()) if freedom > 1 else 0.0
        return 0.5 + (angle + inner) / math.pi
    order = np.arange(1, freedom // 2)
    terms = np.cumprod(np.concatenate([[1.0], (2 * order - 1) / (2 * order) * square]))
    return 0.5 + 0.5 * sine * float(terms.sum())
