"""The spectral density of an operator by stochastic Lanczos quadrature."""

import math

import numpy as np
import torch

from landscape.lanczos import lanczos
from landscape.objectives import Objective
from landscape.operators import Operator, Products, Progress, as_operator
from landscape.results import Density


def estimate_density(
    source: Objective | Operator,
    *,
    probes: int,
    steps: int,
    seed: int,
    progress: Progress | None = None,
) -> Density:
    """Estimate the spectral density of the Hessian by stochastic Lanczos quadrature.

    Each Rademacher probe v (entries ±1/√param) gives nodes θ_i, the Ritz values of `steps` Lanczos
    steps, and weights w_i, the squared first components of the eigenvectors of T. Σ w_i θ_i^p is
    vᵀ H^p v for p <= 2 steps − 1, and the density is Σ w_i N(θ_i, σ²), averaged over probes. σ is
    the median of the node spacing by mass: half of the spectrum is drawn at least as smooth as it
    is resolved, whatever the units of the loss. With single nodes it is 1 % of the largest |θ|.

    Args:
        source: The loss as a function of theta, for its Hessian; or any operator.
        probes: How many random vectors, at least 1; the trace has an error from 2 on.
        steps: Lanczos steps of each, at least 1. With as many as there are distinct eigenvalues
            the quadrature is exact, and NaN fills the nodes of a probe that needed fewer.
        seed: Seed of the probes.
        progress: Called with products done and products allowed.

    Returns:
        The density; `facts["trace"]` and its standard error over probes, `facts["trace_error"]`
        (NaN for a single probe), come from the same products.

    Raises:
        ValueError: Probes or steps below 1, or a product is not finite.

    Source: Ghorbani, Krishnan and Xiao, ICML 2019, section 2; Golub and Meurant, Matrices,
        Moments and Quadrature, chapter 6.
    """
    for name, value in (("probes", probes), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    operator = as_operator(source)
    size = operator.size
    steps = min(steps, size)
    products = Products(operator, probes * steps, progress)
    generator = torch.Generator().manual_seed(seed)
    nodes, weights = np.full((2, probes, steps), np.nan)
    traces = np.empty(probes)
    for probe in range(probes):
        signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
        known = lanczos(products, signs.to(operator.origin) / math.sqrt(size), steps)
        values, _, vectors = known.ritz()
        nodes[probe, : len(values)] = values
        weights[probe, : len(values)] = vectors[0] ** 2
        traces[probe] = size * known.alpha[0]
    products.show(end=True)
    error = float(traces.std(ddof=1)) / math.sqrt(probes) if probes > 1 else math.nan
    return Density(
        nodes=nodes,
        weights=weights,
        size=size,
        sigma=_spacing(nodes, weights),
        matvecs=products.count,
        facts={
            **operator.facts,
            "seed": seed,
            "probes": probes,
            "steps": steps,
            "probe": "Rademacher",
            "sigma_rule": "median node spacing by mass",
            "trace": float(traces.mean()),
            "trace_error": error,
        },
    )


def _spacing(nodes: np.ndarray, weights: np.ndarray) -> float:
    """Return the median node spacing by mass; 1 % of the largest |node| for single nodes."""
    gaps, mass = [], []
    for theta, weight in zip(nodes, weights, strict=True):
        theta, weight = theta[np.isfinite(theta)], weight[np.isfinite(theta)]
        gaps.append(np.gradient(theta) if len(theta) > 1 else np.zeros(1))
        mass.append(weight)
    gap, share = np.concatenate(gaps), np.concatenate(mass)
    order = np.argsort(gap)
    middle = np.searchsorted(np.cumsum(share[order]), share.sum() / 2)
    return float(gap[order][middle]) or 0.01 * float(np.nanmax(np.abs(nodes)))
