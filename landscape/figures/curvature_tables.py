"""Results of curvature as tables of columns."""

from collections.abc import Mapping

import numpy as np

from landscape.results import Curvature, Density, Sharpness, Spectrum, Stability, Trace

Columns = Mapping[str, np.ndarray]


def eigenpairs(result: Spectrum) -> Columns:
    """Eigenvalues with their residuals, in the order found."""
    columns = {
        "rank": np.arange(1, len(result.eigenvalues) + 1),
        "eigenvalue": result.eigenvalues,
        "residual": result.residuals,
    }
    return columns | ({"within": result.within} if result.within.size else {})


def nodes(result: Density) -> Columns:
    """Nodes and weights of each probe."""
    probe = np.repeat(np.arange(len(result.nodes)), result.nodes.shape[1])
    return {"probe": probe, "node": result.nodes.ravel(), "weight": result.weights.ravel()}


def outliers(result: Density) -> Columns:
    """Eigenvalues found and deflated."""
    residuals = result.outlier_residuals
    known = residuals if residuals.size else np.full(len(result.outliers), np.nan)
    return {"eigenvalue": result.outliers, "residual": known}


def blocks(result: Trace) -> Columns:
    """The trace of the whole and of each layer's block."""
    size = len(result.layer_names)
    return {
        "block": np.array(["whole", *result.layer_names]),
        "parameters": np.concatenate([[result.size], _filled(result.layer_size, size)]),
        "trace": np.concatenate([[result.trace], _filled(result.layer_trace, size)]),
        "standard_error": np.concatenate(
            [[result.standard_error], _filled(result.layer_error, size)]
        ),
        "interval_low": np.concatenate([[result.interval_low], np.full(size, np.nan)]),
        "interval_high": np.concatenate([[result.interval_high], np.full(size, np.nan)]),
    }


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    return values if values.size else np.full(size, np.nan)


def probes(result: Trace) -> Columns:
    """The estimate of each probe."""
    return {"probe": np.arange(len(result.samples)), "estimate": result.samples}


def measures(result: Sharpness) -> Columns:
    """One row for each measure; the audit's ratios by the name of the change."""
    columns = {
        "measure": np.array(result.names),
        "setting": np.array(result.settings),
        "value": result.value,
        "standard_error": result.standard_error,
        "interval_low": result.interval_low,
        "interval_high": result.interval_high,
        "lower_bound": result.lower_bound,
    }
    if not result.audit.size:
        return columns
    return columns | dict(zip(result.audit_names, result.audit.T, strict=True))


def multipliers(result: Stability) -> Columns:
    """Multipliers of the update map, largest magnitude first."""
    return {
        "rank": np.arange(1, len(result.multipliers_real) + 1),
        "real": result.multipliers_real,
        "imaginary": result.multipliers_imag,
        "magnitude": np.hypot(result.multipliers_real, result.multipliers_imag),
        "residual": result.residuals,
    }


_AT_CHECKPOINTS = (
    "lowest",
    "lowest_residual",
    "trace",
    "trace_error",
    "frobenius",
    "frobenius_error",
    "loss",
    "mean_probability",
    "gradient_norm",
    "learning_rate",
    "edge",
    "multiplier",
    "multiplier_residual",
    "swing",
    "converged",
)


def checkpoints(result: Curvature) -> Columns:
    """One row for each checkpoint; what was not measured has no column."""
    columns = {"step": result.step}
    if result.eigenvalues.size:
        columns |= {"lambda_1": result.eigenvalues[:, 0], "residual_1": result.residuals[:, 0]}
    arrays = {name: getattr(result, name) for name in _AT_CHECKPOINTS}
    return columns | {name: array for name, array in arrays.items() if array.size}


def eigenvalues(result: Curvature) -> Columns:
    """The largest eigenvalues of each checkpoint."""
    c, k = result.eigenvalues.shape
    return {
        "step": np.repeat(result.step, k),
        "rank": np.tile(np.arange(1, k + 1), c),
        "eigenvalue": result.eigenvalues.ravel(),
        "residual": result.residuals.ravel(),
    }


def layers(result: Curvature) -> Columns:
    """The trace of each layer's block at each checkpoint."""
    size = len(result.layer_names) if result.layer_trace.size else 0
    steps = len(result.step)
    return {
        "step": np.repeat(result.step, size),
        "layer": np.tile(np.array(result.layer_names[:size], dtype=str), steps),
        "parameters": np.tile(_filled(result.layer_size, size), steps)[: size * steps],
        "trace": result.layer_trace.ravel(),
        "standard_error": _filled(result.layer_error, size * steps).ravel()[: size * steps],
    }


def directions(result: Curvature) -> Columns:
    """|cosine| of each direction to each eigenvector, and its Rayleigh quotient."""
    cosines, c = result.alignment, len(result.step)
    d, k = len(result.direction_names), cosines.shape[2] if cosines.size else 0
    at = {
        "step": np.repeat(result.step, d),
        "direction": np.tile(np.array(result.direction_names, dtype=str), c),
        "rayleigh": _filled(result.rayleigh, c * d).ravel(),
    }
    rows = cosines.reshape(c * d, k) if k else np.empty((c * d, 0))
    return at | {f"cosine_{i + 1}": rows[:, i] for i in range(k)}
