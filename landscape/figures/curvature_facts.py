"""What results of curvature say of themselves, as rows for an inspector and as parts of words."""

import math
from typing import Any

import numpy as np

from landscape.figures.estimate_words import interval, plus_minus
from landscape.figures.numbers import count, number, percent, short
from landscape.figures.plane_words import Rows, fact, listed
from landscape.figures.summaries import scree
from landscape.quadrature import power_sums, wasserstein_bound
from landscape.results import Curvature, Density, Sharpness, Spectrum, Stability, Trace

WHICH = {
    "LM": "largest magnitude",
    "LA": "largest",
    "SA": "smallest",
    "BE": "both ends",
}
_METHODS = {"hutchinson": "Hutchinson", "hutch++": "Hutch++"}


def operator_text(facts: dict[str, Any]) -> str:
    """The operator with what it is restricted to, e.g. "Hessian of the mean loss"."""
    text = fact(facts, "operator") or "Hessian"
    patterns = facts.get("parameters_of")
    if patterns:
        names = [patterns] if isinstance(patterns, str) else [str(name) for name in patterns]
        text += f" in the parameters {listed(names)}"
    decay = facts.get("weight_decay")
    return text + (f", weight decay {short(float(decay))} included" if decay else "")


def operator_rows(facts: dict[str, Any]) -> Rows:
    """Rows that say of which operator a result is and how its products were made."""
    method, reason = fact(facts, "product"), fact(facts, "product_reason")
    error = facts.get("product_error")
    return [
        ("Operator", operator_text(facts) if fact(facts, "operator") else ""),
        ("Products by", f"{method} ({reason})" if method and reason else method),
        ("Product error", number(float(error), 2) if isinstance(error, int | float) else ""),
        ("Interrupted", "yes, what was known by then" if facts.get("interrupted") else ""),
    ]


def method_text(result: Trace) -> str:
    """The estimator's name."""
    return _METHODS.get(result.method, result.method)


def largest_of(result: Spectrum) -> np.ndarray:
    """The largest eigenvalues, descending: those found that none left out can lie between."""
    values = np.sort(result.eigenvalues)[::-1]
    if result.which == "SA":
        return values[:0]
    if result.which == "BE":
        return values[: (len(values) + 1) // 2]
    return values[values > 0] if result.which == "LM" else values


def spread_text(largest: np.ndarray) -> str:
    """λ₁/λ₅, or "" where fewer than five positive ones are known."""
    if len(largest) < 5 or not largest[4] > 0:
        return ""
    return number(float(largest[0] / largest[4]))


def trace_of(density: Density) -> tuple[float, float]:
    """Trace and its standard error over probes: those stored, else of the nodes themselves."""
    facts = density.facts
    if facts.get("trace") is not None:
        error = facts.get("trace_error")
        return float(facts["trace"]), math.nan if error is None else float(error)
    sums, probes = power_sums(density, 1), len(density.nodes)
    error = float(sums.std(ddof=1)) / math.sqrt(probes) if probes > 1 else math.nan
    return float(sums.mean()), error


def largest_deflated(density: Density) -> np.ndarray:
    """The largest eigenvalues, descending: those deflated that lie above all nodes and above 0."""
    values = np.sort(density.outliers)[::-1]
    rest = np.nanmax(density.nodes, initial=0.0)
    return values[values > rest]


def wasserstein_share(density: Density) -> float:
    """Bound of the W₁ distance to the true spectrum as a share of its range; 1 says nothing."""
    if density.facts.get("w1_share") is not None:
        return float(density.facts["w1_share"])
    found = np.isfinite(density.nodes).sum(axis=1)
    full = density.nodes.shape[1]
    sphere = fact(density.facts, "probe").lower() != "rademacher"
    return wasserstein_bound(
        size=max(density.size, 1),
        probes=len(density.nodes),
        steps=np.where(found < full, 0, found),
        sphere=sphere,
    )


def bounds_text(result: Spectrum) -> str:
    """The certain lower and the probable upper bound of λmax, or ""."""
    if not math.isfinite(result.lambda_max_low):
        return ""
    text = f"at least {number(result.lambda_max_low)} for certain"
    if math.isfinite(result.lambda_max_high):
        level = result.facts.get("confidence")
        sure = f" with probability {percent(float(level), 0)}" if level else ""
        text += f", at most {number(result.lambda_max_high)}{sure}"
    return text


def spectrum_rows(result: Spectrum) -> Rows:
    """Rows of found eigenpairs."""
    residual = float(np.max(result.residuals, initial=0.0))
    loose = int((~scree(result).within).sum())
    return [
        *operator_rows(result.facts),
        ("Eigenpairs", f"{len(result.eigenvalues)}, {WHICH.get(result.which, result.which)}"),
        ("Largest residual", number(residual) if len(result.residuals) else ""),
        ("Tolerance", f"{short(result.tolerance)} of the largest |λ|"),
        ("Converged", "yes" if result.converged else _loose(loose, len(result.residuals))),
        ("λmax", bounds_text(result)),
        ("λ1/λ5", spread_text(largest_of(result))),
        ("Products", count(result.matvecs)),
    ]


def _loose(loose: int, size: int) -> str:
    return f"no, {count(loose)} of {count(size)} pairs above tolerance" if loose else "no"


def density_rows(result: Density) -> Rows:
    """Rows of a spectral density."""
    probes, nodes = result.nodes.shape
    share = wasserstein_share(result)
    return [
        *operator_rows(result.facts),
        ("Probes", count(probes)),
        ("Lanczos steps", count(nodes)),
        ("Width σ", number(result.sigma) if math.isfinite(result.sigma) else ""),
        ("Deflated", count(len(result.outliers)) if result.outliers.size else ""),
        ("λ1", _known(_first(largest_deflated(result)))),
        ("λ1/λ5", spread_text(largest_deflated(result))),
        ("Trace", _known(*trace_of(result))),
        ("W1 bound", f"{percent(share, 0)} of the range (95 %)" if share < 1 else ""),
        ("Deflation error", _known(float(result.facts.get("deflation_error", math.nan)))),
        ("Products", count(result.matvecs)),
    ]


def _first(values: np.ndarray) -> float:
    return float(values[0]) if len(values) else math.nan


def _known(value: float, error: float = math.nan) -> str:
    return plus_minus(value, error) if math.isfinite(value) else ""


def trace_rows(result: Trace) -> Rows:
    """Rows of a trace."""
    return [
        *operator_rows(result.facts),
        ("Estimator", method_text(result)),
        ("Probes", count(len(result.samples))),
        ("Trace", _known(result.trace, result.standard_error)),
        ("95 % interval", interval_text(result)),
        ("Frobenius norm", _known(result.frobenius, result.frobenius_error)),
        ("Effective rank", _known(result.effective_rank, result.effective_rank_error)),
        ("Layers", count(len(result.layer_trace)) if result.layer_trace.size else ""),
        ("Products", count(result.matvecs)),
    ]


def interval_text(result: Trace) -> str:
    """The 95 % interval with the decimals of the trace beside it, or ""."""
    return interval(result.interval_low, result.interval_high, result.standard_error)


def sharpness_rows(result: Sharpness) -> Rows:
    """Rows of a sharpness table, one for each measure."""
    values = zip(
        result.names,
        result.settings,
        result.value,
        result.standard_error,
        result.lower_bound,
        strict=True,
    )
    measures = [
        (name, plus_minus(float(value), float(error), lower_bound=bool(bound)) + _said(setting))
        for name, setting, value, error, bound in values
    ]
    return [
        *operator_rows(result.facts),
        *measures,
        ("Loss at the checkpoint", _known(result.loss)),
        ("Mean p of the true class", _known(result.mean_probability)),
        ("Audited by", ", ".join(result.audit_names)),
    ]


def _said(setting: str) -> str:
    return f" ({setting})" if setting else ""


def stability_rows(result: Stability) -> Rows:
    """Rows of stability multipliers."""
    residual = float(np.max(result.residuals, initial=0.0))
    return [
        *operator_rows(result.facts),
        ("Update", result.update),
        ("Leading multiplier", f"|μ| = {number(result.multiplier, 4)}"),
        ("Multipliers", count(len(result.multipliers_real))),
        ("Largest residual", number(residual) if len(result.residuals) else ""),
        ("Tolerance", short(result.tolerance)),
        ("Converged", "yes" if result.converged else "no"),
        ("Products", count(result.products)),
    ]


def curvature_rows(result: Curvature) -> Rows:
    """Rows of curvature through training."""
    steps = result.step
    reached = int(result.converged.sum()) if result.converged.size else 0
    told = f"{count(reached)} of {count(len(steps))} checkpoints" if result.converged.size else ""
    last = result.eigenvalues[-1] if len(steps) else np.empty(0)
    return [
        *operator_rows(result.facts),
        ("Checkpoints", count(len(steps))),
        ("Steps", f"{count(steps[0])} to {count(steps[-1])}" if len(steps) else ""),
        ("Eigenvalues", f"{count(result.eigenvalues.shape[1])} largest"),
        ("λ1, last", _known(_first(last))),
        ("λ1/λ5, last", spread_text(last)),
        ("Trace, last", _last(result.trace, result.trace_error)),
        ("Edge of stability", result.edge_label),
        ("Multiplier, last", _last(result.multiplier, np.empty(0))),
        ("Directions", ", ".join(result.direction_names)),
        ("Layers", count(len(result.layer_names)) if result.layer_names else ""),
        ("Converged", told),
        ("Products", count(result.matvecs)),
    ]


def _last(values: np.ndarray, errors: np.ndarray) -> str:
    if not values.size:
        return ""
    return _known(float(values[-1]), float(errors[-1]) if errors.size else math.nan)
