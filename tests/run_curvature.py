"""Curvature of the synthetic runs of `samples`, in numbers that follow simple formulas."""

import numpy as np

from landscape.results import Curvature, Density, Result, Sharpness, Spectrum, Stability, Trace

SHAPE = np.array([1.0, 0.62, 0.4, 0.31, 0.22, 0.12, 0.08, -0.05])
"""Eigenvalues, as shares of the largest."""
LAYERS, SIZES = ("conv.weight", "norm.weight", "head.weight", "head.bias"), (36, 4, 20, 5)
SHARES = np.array([0.3, -0.002, 0.6, 0.102])
HESSIAN = "Hessian of the mean loss"
GAUSS_NEWTON = "generalized Gauss-Newton (= Fisher for cross-entropy)"


def curvature_results(
    method: str, sharp: float, steps: tuple[int, ...], facts: dict, rng: np.random.Generator
) -> list[Result]:
    """Everything that is measured of curvature: at every second checkpoint, and through training.

    Only the last checkpoint has a Gauss-Newton spectrum, a sharpness table and multipliers.
    """
    last = facts | {"checkpoint": steps[-1], "operator": HESSIAN}
    results: list[Result] = []
    for step in steps[::2]:
        here = last | {"checkpoint": step}
        top = sharp * (1 + step / steps[-1])
        results += [spectrum(top, here), trace(top, here, rng)]
    ggn = last | {"operator": GAUSS_NEWTON}
    for step in (0, steps[-1]):
        results.append(density(sharp * (1 + step / steps[-1]), last | {"checkpoint": step}, rng))
    return [
        *results,
        spectrum(1.9 * sharp, ggn, operator="ggn"),
        sharpness(2 * sharp, last),
        stability(0.5 + 0.07 * sharp, last | {"bn": "batch"}),
        curvature(method, sharp, np.array(steps), facts | {"bn": "batch", "operator": HESSIAN}),
    ]


def spectrum(top: float, facts: dict, operator: str = "hessian") -> Spectrum:
    values = top * (np.abs(SHAPE) if operator == "ggn" else SHAPE)
    return Spectrum(
        eigenvalues=values,
        residuals=np.abs(values) * 1e-4,
        matvecs=64,
        converged=True,
        which="LM",
        tolerance=1e-3,
        within=np.ones(len(values), bool),
        lambda_max_low=top,
        lambda_max_high=1.03 * top,
        facts=facts | {"confidence": 0.95},
        options={"k": 8, "which": "LM", "seed": 0, "operator": operator, "bn": "frozen"},
    )


def density(top: float, facts: dict, rng: np.random.Generator) -> Density:
    """The four largest eigenvalues deflated; 4 probes of 12 nodes for the bulk."""
    size = sum(SIZES)
    nodes = np.sort(np.linspace(-0.02, 0.25, 12) * top) * (1 + 0.01 * rng.normal(size=(4, 1)))
    weights = np.exp(-10 * np.abs(nodes) / top)
    return Density(
        nodes=nodes,
        weights=weights / weights.sum(axis=1, keepdims=True),
        size=size,
        sigma=0.01 * top,
        matvecs=48,
        outliers=top * SHAPE[:4],
        outlier_residuals=1e-4 * top * SHAPE[:4],
        facts=facts,
        options={"probes": 4, "steps": 12, "seed": 0, "operator": "hessian", "bn": "frozen"},
    )


def trace(top: float, facts: dict, rng: np.random.Generator) -> Trace:
    mean = float(top * SHAPE.sum() * 1.2)
    samples = mean * (1 + 0.1 * rng.normal(size=20))
    error = float(samples.std(ddof=1) / np.sqrt(20))
    return Trace(
        samples=samples,
        trace=float(samples.mean()),
        standard_error=error,
        interval_low=float(samples.mean()) - 2.093 * error,
        interval_high=float(samples.mean()) + 2.093 * error,
        frobenius=float(top * np.linalg.norm(SHAPE)),
        frobenius_error=0.03 * top,
        effective_rank=5.1,
        effective_rank_error=0.6,
        layer_names=LAYERS,
        layer_size=np.array(SIZES),
        layer_trace=mean * SHARES,
        layer_error=0.04 * mean * np.abs(SHARES) + 0.01,
        size=sum(SIZES),
        matvecs=20,
        facts=facts,
        options={"probes": 20, "seed": 0, "operator": "hessian", "bn": "frozen"},
    )


def sharpness(top: float, facts: dict) -> Sharpness:
    names = ("λmax", "trace", "SAM sharpness, 1 step", "SAM sharpness, n steps", "average case")
    settings = (f"residual {top:.1e}", "20 probes", "ρ 0.05", "ρ 0.05, 20 steps", "ρ 0.05")
    value = top * np.array([1.0, 3.2, 0.0051, 0.0068, 0.004])
    error = top * np.array([np.nan, 0.07, np.nan, np.nan, 0.0002])
    return Sharpness(
        names=(*names, "adaptive worst case"),
        settings=(*settings, "ρ 0.5, 20 steps"),
        value=np.append(value, 0.02 * top),
        standard_error=np.append(error, np.nan),
        interval_low=np.append(value - 2.1 * error, np.nan),
        interval_high=np.append(value + 2.1 * error, np.nan),
        lower_bound=np.array([False, False, True, True, False, True]),
        audit_names=("neurons × 2", "BN scale × 2"),
        audit=np.array([[3.7, 1], [2.9, 1.2], [1.8, np.nan], [1.9, 1], [2.9, 1], [1.0, 1.0]]),
        loss=0.061,
        mean_probability=0.95,
        facts=facts,
        options={"seed": 0, "bn": "frozen"},
    )


def stability(leading: float, facts: dict) -> Stability:
    values = np.array([leading, 0.4 + 0.3j, 0.4 - 0.3j, -0.4])
    return Stability(
        multipliers_real=values.real,
        multipliers_imag=values.imag,
        residuals=np.array([1e-4, 2e-4, 2e-4, 5e-3]),
        multiplier=leading,
        update=f"{facts['method']}, momentum 0.9",
        products=60,
        converged=False,
        facts=facts | {"swing": {"real": -0.4, "imag": 0.0, "magnitude": 0.4}},
        options={"k": 4, "seed": 0, "bn": "batch"},
    )


def curvature(method: str, sharp: float, step: np.ndarray, facts: dict) -> Curvature:
    """λ₁ is that of `spectrum` at each step; the lr falls at step 160; no edge for AACE."""
    c, along = len(step), step / step[-1]
    top = sharp * (1 + along)
    rate = np.where(step < 160, 0.1, 0.02)
    own = method == "SAM+AACE"
    residuals = 1e-4 * top[:, None] * np.abs(SHAPE[:5])
    residuals[1] *= 100
    cosines = np.stack([0.3 + 0.4 * along, 0.25 + 0.3 * along, 0.1 + 0 * along], axis=1)
    return Curvature(
        step=step,
        eigenvalues=top[:, None] * SHAPE[:5],
        residuals=residuals,
        lowest=-0.05 * top,
        lowest_residual=1e-3 * top,
        trace=top * SHAPE.sum() * 1.2,
        trace_error=0.1 * top,
        frobenius=top * np.linalg.norm(SHAPE),
        frobenius_error=0.03 * top,
        layer_names=LAYERS,
        layer_size=np.array(SIZES),
        layer_trace=3 * top[:, None] * SHARES,
        layer_error=np.full((c, 4), 0.05),
        loss=2.2 * np.exp(-step / 45) + 0.06,
        mean_probability=0.95 - 0.8 * np.exp(-step / 45),
        gradient_norm=np.exp(-step / 90),
        learning_rate=rate,
        edge=np.empty(0) if own else 3.8 / rate / 4,
        edge_label="no edge is known for AACE" if own else "2 (1 + β) / η",
        edge_step=np.empty(0, int) if own else step,
        edge_level=np.empty(0) if own else 3.8 / rate / 4,
        multiplier=0.7 + 0.04 * top,
        multiplier_residual=np.full(c, 1e-4),
        direction_names=("gradient", "sam", "aace"),
        alignment=cosines[..., None] * 0.6 ** np.arange(5),
        rayleigh=top[:, None] * np.array([0.5, 0.4, 0.05]),
        matvecs=900,
        converged=np.arange(c) != 1,
        facts=facts,
        options={"k": 5, "seed": 0, "bn": "batch"},
    )
