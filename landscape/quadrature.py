"""What the nodes and weights of a spectral density say: curves, moments, and how sure they are.

A density is stored as the Ritz values and weights of each probe. So width and axis are chosen when
it is drawn, and nothing is computed again.
"""

import math
from dataclasses import dataclass

import numpy as np

from landscape.results import Density

_REACH = 12.0  # widths beyond which a Gaussian is below 1e-31 of its peak


def remaining(density: Density) -> int:
    """How many eigenvalues the nodes describe: all but the outliers found and deflated."""
    return density.size - len(density.outliers)


def curve(density: Density, grid: np.ndarray, *, sigma: float | None = None) -> np.ndarray:
    """Broaden the nodes to eigenvalues per unit λ.

    Each probe's curve is n Σ w_i N(λ; θ_i, σ²), n the eigenvalues without the deflated outliers,
    which are to be drawn as stems of exactly 1. Its integral is n.

    Args:
        density: Nodes and weights.
        grid: λ at which the curve is wanted `[grid]`.
        sigma: Width of the Gaussians in units of λ; the density's own unless told.

    Returns:
        Eigenvalues per unit λ `[probe, grid]`.

    Raises:
        ValueError: The width is not above 0.

    Source: Ghorbani, Krishnan and Xiao, ICML 2019, section 2.
    """
    width = density.sigma if sigma is None else sigma
    return _broadened(density.nodes, remaining(density) * density.weights, np.asarray(grid), width)


def power_sums(density: Density, degree: int) -> np.ndarray:
    """Estimate Σ λ^degree over all eigenvalues, outliers included, from each probe `[probe]`.

    Degree 1 is the trace, degree 2 the squared Frobenius norm. The deflated outliers count
    exactly; for the rest the quadrature of m steps adds no error up to degree 2 m − 1, so that
    what is left is the probes' own spread.
    """
    rest = np.nansum(density.weights * density.nodes**degree, axis=1)
    return (density.outliers**degree).sum() + remaining(density) * rest


@dataclass(frozen=True, kw_only=True)
class LogDensity:
    """A spectrum over log₁₀|λ|, in eigenvalues per decade; positive and negative parts apart.

    Near 0 it is weak. Lanczos resolves eigenvalues in units of the whole range, not relative to
    themselves: nodes below about `sigma` stand for clusters whose magnitudes it does not know. They
    are counted in `below` and not drawn.
    """

    decades: np.ndarray
    """log₁₀|λ| `[grid]`, five widths beyond the outermost nodes that count."""
    positive: np.ndarray
    negative: np.ndarray
    """Eigenvalues per decade `[probe, grid]`, outliers not among them."""
    below: np.ndarray
    """Eigenvalues with |λ| under the floor `[probe]`, drawn in neither curve."""
    floor: float
    """Smallest |λ| that counts, in units of λ."""
    width: float
    """Width of the Gaussian that each node is drawn with, in decades."""


def log_density(
    density: Density, *, points: int = 600, floor: float | None = None, width: float | None = None
) -> LogDensity:
    """Broaden the nodes over log₁₀|λ|: the same nodes and weights, another axis.

    Positive curve, negative curve and `below` together count all eigenvalues but the outliers.

    Args:
        density: Nodes and weights.
        points: Size of the grid, at least 2.
        floor: Smallest |λ| that counts; the density's `sigma` unless told.
        width: Width of the Gaussians in decades; the median spacing of the nodes on this axis, by
            mass, unless told, and at least two steps of the grid.

    Raises:
        ValueError: Points below 2, or a floor or width that is not above 0.

    Source: Papyan, Traces of Class/Cross-Class Structure Pervade Deep Learning Spectra, JMLR 2020,
        section 2 (the log-spectrum).
    """
    floor = density.sigma if floor is None else floor
    if not floor > 0:
        raise ValueError(f"floor must be above 0, |λ| below it is not drawn, got {floor}")
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    nodes = np.where(np.isnan(density.nodes), 0.0, density.nodes)
    mass = np.where(np.isnan(density.nodes), 0.0, remaining(density) * density.weights)
    beyond = np.abs(nodes) >= floor
    at = np.log10(np.where(beyond, np.abs(nodes), floor))
    low, high = float(at[beyond].min(initial=math.inf)), float(at.max())
    low = min(low, high)
    if width is None:
        width = _log_spacing(np.where(beyond, nodes, np.nan), density.weights)
        width = max(width, 2 * (high - low) / (points - 1)) or 0.1
    decades = np.linspace(low - 5 * width, high + 5 * width, points)
    return LogDensity(
        decades=decades,
        positive=_broadened(at, np.where(beyond & (nodes > 0), mass, 0.0), decades, width),
        negative=_broadened(at, np.where(beyond & (nodes < 0), mass, 0.0), decades, width),
        below=np.where(beyond, 0.0, mass).sum(axis=1),
        floor=floor,
        width=width,
    )


def node_spacing(nodes: np.ndarray, weights: np.ndarray) -> float:
    """Return the median node spacing by mass: half of the spectrum is finer resolved, half coarser.

    Args:
        nodes: Ascending within each probe `[probe, node]`; NaN where a probe ended early.
        weights: Mass of each node `[probe, node]`.

    Returns:
        The spacing; 0 where single nodes hold half of the mass.
    """
    gaps, mass = [], []
    for theta, weight in zip(nodes, weights, strict=True):
        there = np.isfinite(theta)
        theta, weight = theta[there], weight[there]
        gaps.append(np.gradient(theta) if len(theta) > 1 else np.zeros(len(theta)))
        mass.append(weight)
    gap, share = np.concatenate(gaps), np.concatenate(mass)
    if not len(gap):
        return 0.0
    order = np.argsort(gap)
    middle = int(np.searchsorted(np.cumsum(share[order]), share.sum() / 2))
    return float(gap[order][min(middle, len(order) - 1)])


def wasserstein_bound(
    *, size: int, probes: int, steps: np.ndarray, sphere: bool, confidence: float = 0.95
) -> float:
    """Bound the distance of the quadrature to the true spectrum, as a share of its range.

    With probability `confidence` over probes, W₁(quadrature, spectrum) <= t (λ_max − λ_min), where
    t = 12 / (2 m − 1) + s. The first part is what m Lanczos steps leave out; it is 0 for a probe
    whose Krylov space was exhausted. The second is the sampling error, √(ln(2 n / η) / ((n + 2) N))
    for N probes from the sphere, η = 1 − confidence. For Rademacher probes zᵀPz has for a projector
    P the upper tail of χ² at most, and so has zᵀ(1 − P)z = n − zᵀPz: by Laurent and Massart's bound
    s = 2 √(x / (n N)) + 2 x / (n N), x = ln(2 n / η). It is a worst case: practice is far better.

    Args:
        size: Number of eigenvalues n.
        probes: Number of probes N.
        steps: Lanczos steps m of each probe `[probe]`; 0 for one whose Krylov space was exhausted.
        sphere: Whether probes come from the sphere; else their entries are ±1.
        confidence: Probability with which the bound holds.

    Source: Chen, Trogdon and Ubaru, Analysis of stochastic Lanczos quadrature, ICML 2021, theorem
        1, with its two halves of t added; Laurent and Massart, Annals of Statistics 2000, lemma 1.
    """
    exponent = math.log(2 * size / (1 - confidence))
    if sphere:
        sampling = math.sqrt(exponent / ((size + 2) * probes))
    else:
        sampling = 2 * math.sqrt(exponent / (size * probes)) + 2 * exponent / (size * probes)
    steps = np.asarray(steps, float)
    left_out = np.where(steps > 0, 12 / (2 * np.maximum(steps, 1) - 1), 0.0).mean()
    return min(1.0, float(left_out) + sampling)


def probe_distance(density: Density) -> float:
    """Return the mean W₁ distance of a probe's distribution to that of all, in units of λ.

    NaN for a single probe.
    """
    probes = len(density.nodes)
    if probes < 2:
        return math.nan
    there = np.isfinite(density.nodes)
    nodes = density.nodes[there]
    order = np.argsort(nodes)
    mass = np.zeros((probes, len(nodes)))
    mass[np.nonzero(there)[0], np.arange(len(nodes))] = density.weights[there]
    reached = np.cumsum(mass[:, order], axis=1)
    away = np.abs(reached - reached.mean(axis=0))[:, :-1]
    return float((away * np.diff(nodes[order])).sum(axis=1).mean())


def _log_spacing(nodes: np.ndarray, weights: np.ndarray) -> float:
    """Return the median spacing by mass of log₁₀|node|, each sign apart."""
    rows, shares = [], []
    for sign in (1, -1):
        with np.errstate(invalid="ignore"):
            at = np.log10(np.where(sign * nodes > 0, np.abs(nodes), np.nan))
        rows += list(at[:, ::sign])
        shares += list(weights[:, ::sign])
    return node_spacing(np.array(rows), np.array(shares))


def _broadened(nodes: np.ndarray, mass: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """Draw each node as a Gaussian that holds its mass: `[probe, grid]`."""
    if not width > 0:
        raise ValueError(f"a node's width must be above 0, got {width}")
    order = np.argsort(grid)
    ascending = grid[order]
    total = np.zeros((len(nodes), len(grid)))
    for row, (centers, shares) in enumerate(zip(nodes, mass, strict=True)):
        for center, share in zip(centers, shares, strict=True):
            if share > 0:  # NaN, where a probe ended early, is not
                low, high = center - _REACH * width, center + _REACH * width
                near = order[slice(*np.searchsorted(ascending, [low, high]))]
                total[row, near] += share * np.exp(-0.5 * ((grid[near] - center) / width) ** 2)
    return total / (width * math.sqrt(2 * math.pi))
