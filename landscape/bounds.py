"""What Lanczos may have missed: bounds of the spectrum that hold with a stated probability.

A random start x holds a part |uᵀx| of every eigenvector u, hardly ever much less than 1/√param. A
Krylov space from x that shows nothing beyond some level bounds that part from above for every
eigenvalue beyond it. Where the second bound is below the first there is, but for bad luck in x, no
such eigenvalue.
"""

import math
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.99
"""Probability over random starts with which the bounds hold."""


def least_part(dimension: int, failure: float) -> float:
    """Return a length that a random unit vector's part along a given line is seldom below.

    Args:
        dimension: That of the space it is drawn from, uniformly on the sphere.
        failure: Probability that the part is smaller yet, at most.

    Source: the density of a coordinate on the sphere is largest at 0, there below √(dimension/2π).
    """
    return failure * math.sqrt(math.pi / (2 * dimension))


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a Krylov space of H has seen from its start x.

    Its next unit vector is q = p(H) x / norm, p the monic polynomial that vanishes at the Ritz
    values and at those that restarts have dropped. An eigenvector u with eigenvalue μ has the parts
    uᵀq = p(μ) uᵀx / norm, and uᵀy = tail uᵀq / (μ − θ) along a Ritz vector y with value θ; all
    together they are at most 1.

    Source: van Dorsselaer, Hochstenbach and van der Vorst, SIAM J. Matrix Anal. Appl. 22, 2000.
    """

    values: np.ndarray
    """Ritz values `[i]`."""
    tails: np.ndarray
    """‖H y − θ y‖ of each within the recurrence `[i]`."""
    dropped: np.ndarray
    """Ritz values dropped by restarts."""
    log_norm: float
    """Logarithm of the norm of p(H) x, the product of all β."""

    @property
    def top(self) -> float:
        """The largest Rayleigh quotient seen."""
        return float(np.concatenate([self.values, self.dropped]).max())

    def mirrored(self) -> "Sight":
        """The same of −H."""
        return Sight(
            values=-self.values, tails=self.tails, dropped=-self.dropped, log_norm=self.log_norm
        )

    def log_part(self, level: float) -> float:
        """Log of the largest |uᵀx| of an eigenvector u with an eigenvalue of `level` or above.

        Below `top` nothing is known: infinity.
        """
        if level <= self.top:
            return math.inf
        gaps = level - self.values
        log_next = float(np.log(gaps).sum() + np.log(level - self.dropped).sum()) - self.log_norm
        return -log_next - 0.5 * math.log1p(float(((self.tails / gaps) ** 2).sum()))

    def excludes(self, level: float, part: float) -> bool:
        """Whether no eigenvalue is `level` or above, if each u has at least `part` of x."""
        return self.log_part(level) <= math.log(part)

    def upper(self, part: float) -> float:
        """A level that no eigenvalue exceeds, if each eigenvector has at least `part` of x."""
        top = self.top
        above = max(abs(top), float(np.abs(self.values).max()), 1e-300)
        below = above * 1e-16
        while not self.excludes(top + above, part):
            above *= 2
        for _ in range(60):
            middle = math.sqrt(below * above)
            if self.excludes(top + middle, part):
                above = middle
            else:
                below = middle
        return top + above
