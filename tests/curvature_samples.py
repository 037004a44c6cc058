"""Results of curvature with known numbers, for tests of figures and exports."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from landscape.results import Curvature, Density, Sharpness, Spectrum, Stability, Trace

T = TypeVar("T")
CURVATURE_FACTS = {
    "run": "k3x9w0q2ab",
    "run_name": "fashion-sam",
    "method": "SAM",
    "model": "ConvNet",
    "parameters": 61706,
    "checkpoint": 480,
    "operator": "Hessian of the mean loss",
    "bn": "batch",
    "data": "fashion training set",
    "samples": 2000,
    "dtype": "float32",
    "loss": "cross_entropy",
    "seed": 7,
    "product": "double backward",
    "product_reason": "fastest of those that agree",
}
LAYERS = ("conv1", "conv2", "norm1", "conv3", "norm2", "linear")


def ends_spectrum(top: float = 20.0) -> Spectrum:
    """Six positive and four negative eigenvalues, both ends; the last two did not converge."""
    eigenvalues = top * np.array([1, 0.6, 0.45, 0.3, 0.2, 0.15, -0.2, -0.05, -0.02, -0.004])
    residuals = np.full(10, 2e-4 * top)
    residuals[-2:] = 3e-3 * top
    return Spectrum(
        eigenvalues=eigenvalues,
        residuals=residuals,
        matvecs=120,
        converged=False,
        which="BE",
        within=residuals < 1e-3 * top,
        lambda_max_low=top,
        lambda_max_high=1.04 * top,
        facts=CURVATURE_FACTS | {"confidence": 0.95},
    )


def deflated_density(top: float = 20.0, *, sigma: float = 0.05) -> Density:
    """1000 parameters, five eigenvalues found and deflated, 3 probes of 4 nodes for the rest."""
    bulk = np.array([[-0.2, 0.0, 0.1, 0.3], [-0.1, 0.0, 0.2, 0.4], [-0.15, 0.0, 0.1, 0.5]])
    return Density(
        nodes=bulk,
        weights=np.tile([0.1, 0.6, 0.2, 0.1], (3, 1)),
        size=1000,
        sigma=sigma,
        matvecs=12,
        outliers=top * np.array([1.0, 0.6, 0.4, 0.3, 0.2]),
        outlier_residuals=np.full(5, 1e-4 * top),
        facts=CURVATURE_FACTS | {"probe": "Rademacher", "trace": 93.5, "trace_error": 4.2},
    )


def trace(layers: int = 6) -> Trace:
    """20 probes about 100; the layers' traces sum to it, the third is negative."""
    samples = 100 + 10 * np.tile([1.0, -1.0], 10)
    shares = np.geomspace(1, 1000, layers)
    shares[2:3] *= -1
    error = float(samples.std(ddof=1) / np.sqrt(20))
    parts = 100 * shares / shares.sum()
    return Trace(
        samples=samples,
        trace=100.0,
        standard_error=error,
        interval_low=100 - 2.093 * error,
        interval_high=100 + 2.093 * error,
        frobenius=31.0,
        frobenius_error=1.5,
        effective_rank=10.4,
        effective_rank_error=1.1,
        layer_names=LAYERS if layers == 6 else tuple(f"block{i}.conv" for i in range(layers)),
        layer_size=np.geomspace(50, 40000, layers).astype(int),
        layer_trace=parts,
        layer_error=0.05 * np.abs(parts) + 0.02,
        size=61706,
        matvecs=20,
        facts=CURVATURE_FACTS,
    )


def sharpness(scale: float = 1.0) -> Sharpness:
    """Six measures; the SAM ones are lower bounds, the adaptive ones stand the audit."""
    value = scale * np.array([20.1, 100.0, 0.0312, 0.0401, 0.125, 0.0517])
    error = scale * np.array([np.nan, 2.29, np.nan, np.nan, 0.004, 0.0011])
    bound = np.array([False, False, True, True, False, True])
    return Sharpness(
        names=(
            "λmax",
            "trace",
            "SAM sharpness",
            "SAM sharpness",
            "average-case, Gaussian",
            "adaptive worst case",
        ),
        settings=("residual 1e−3", "20 probes", "ρ 0.05, 1 step", "ρ 0.05, 20 steps", "ρ 0.05", ""),
        value=value,
        standard_error=error,
        interval_low=value - 2.1 * error,
        interval_high=value + 2.1 * error,
        lower_bound=bound,
        audit_names=("neurons × 2", "BN scale × 2"),
        audit=np.array([[3.7, 1], [2.9, 1.2], [1.8, np.nan], [1.9, 1], [2.9, 1], [1.0, 1.0]]),
        loss=0.112,
        mean_probability=0.941,
        facts=CURVATURE_FACTS,
    )


def stability(leading: float = 1.04) -> Stability:
    """A real leading multiplier, two conjugate pairs and a negative one."""
    return Stability(
        multipliers_real=np.array([leading, 0.8, 0.8, 0.6, 0.6, -0.4]),
        multipliers_imag=np.array([0.0, 0.5, -0.5, 0.6, -0.6, 0.0]),
        residuals=np.full(6, 2e-4),
        multiplier=leading,
        update="SAM ρ=0.05, momentum 0.9",
        products=96,
        converged=True,
        facts=CURVATURE_FACTS,
    )


def curvature(*, scale: float = 1.0, edge: bool = True, checkpoints: int = 9) -> Curvature:
    """λ₁ rises to the edge 38 and, after the lr fell at step 300, on; checkpoint 4 is rough."""
    c, k = checkpoints, 5
    at = np.linspace(0, 1, c) if c > 1 else np.ones(1)
    top = scale * (6 + 34 * (1 - np.exp(-4 * at)))
    eigenvalues = top[:, None] * np.array([1, 0.6, 0.4, 0.3, 0.25])
    residuals = 1e-4 * eigenvalues
    residuals[4:5] *= 100
    shares = np.array([0.05, 0.1, -0.02, 0.2, 0.07, 0.6])
    traces = 5 * top
    after = at > 0.6
    lines = np.where(after, np.nan, 38.0)
    alignment = np.stack([0.9 * at, 0.6 * at, 0.2 * at], axis=1)[..., None] * 0.6 ** np.arange(k)
    none = "no line is known for AACE: measure the stability multiplier instead"
    label = "2 (1 + β) / η" if edge else none
    return Curvature(
        step=(480 * at).astype(int),
        eigenvalues=eigenvalues,
        residuals=residuals,
        lowest=-0.1 * top,
        lowest_residual=np.full(c, 1e-3),
        trace=traces,
        trace_error=0.03 * traces,
        frobenius=1.5 * top,
        frobenius_error=0.05 * top,
        layer_names=LAYERS,
        layer_size=np.array([150, 2400, 32, 19200, 64, 39860]),
        layer_trace=traces[:, None] * shares,
        layer_error=np.full((c, 6), 0.2),
        loss=2 * np.exp(-3 * at),
        mean_probability=1 - 0.8 * np.exp(-3 * at),
        gradient_norm=np.exp(-2 * at),
        learning_rate=np.where(after, 0.01, 0.1),
        edge=lines if edge else np.empty(0),
        edge_label=label,
        edge_step=(480 * at).astype(int) if edge else np.empty(0, int),
        edge_level=lines if edge else np.empty(0),
        multiplier=0.7 + 0.32 * at,
        multiplier_residual=np.full(c, 1e-4),
        swing=0.4 + 0.5 * at,
        direction_names=("gradient", "sam", "aace"),
        alignment=alignment,
        rayleigh=top[:, None] * np.array([0.7, 0.5, 0.1]),
        matvecs=900,
        converged=residuals[:, 0] < 1e-3 * top,
        facts=CURVATURE_FACTS | {"method": "SAM" if edge else "SAM+AACE", "checkpoint": 480},
    )


def three(make: Callable[[float], T], scales: Sequence[float]) -> list[tuple[str, int, T]]:
    """Results of three runs: (label, color, result) triples."""
    names = (("SGD", 2), ("SAM", 0), ("SAM+AACE", 1))
    return [(label, i, make(s)) for (label, i), s in zip(names, scales, strict=True)]
