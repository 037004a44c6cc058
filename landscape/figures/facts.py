"""What a result says of how it was measured, as rows for an inspector."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from landscape.figures.numbers import count, number, short
from landscape.results import (
    Consistency,
    Density,
    Profile,
    Result,
    Spectrum,
    Surface,
    Trajectory,
)

Rows = list[tuple[str, str]]

_BATCH_NORM = {
    "frozen": "running statistics, frozen",
    "recomputed": "statistics recomputed at each point",
    "batch": "statistics of each batch",
}
WHICH = {
    "LM": "largest magnitude",
    "LA": "largest",
    "SA": "smallest",
    "BE": "both ends",
}


def facts_rows(result: Result) -> Rows:
    """What was measured and how, as (label, value) rows; a fact that is not stored has no row.

    Example:
        >>> facts_rows(Profile(alpha=[0.0], loss=[[1.0]], accuracy=[[1.0]], evaluated=[[True]],
        ...                    facts={"samples": 10, "dtype": "float32"}))
        [('Points', '1'), ('Samples', '10'), ('Precision', 'float32')]
    """
    facts = result.facts
    rows = [
        ("Run", fact(facts, "run_name")),
        ("Method", fact(facts, "method")),
        ("Model", _model(facts)),
        ("Checkpoint", step_text(facts)),
        *_OWN_ROWS[type(result)](result),
        ("Loss", fact(facts, "loss")),
        ("Data", fact(facts, "data")),
        ("Samples", count(facts["samples"]) if "samples" in facts else ""),
        ("Batch norm", batch_norm(facts)),
        ("Seed", seed_text(facts)),
        ("Training seed", fact(facts, "training_seed")),
        ("Precision", fact(facts, "dtype")),
    ]
    return [(label, value) for label, value in rows if value]


def fact(facts: dict[str, Any], name: str) -> str:
    """A fact as text, or "" where it is not stored."""
    value = facts.get(name)
    return "" if value is None else str(value)


def _model(facts: dict[str, Any]) -> str:
    parts = [fact(facts, "model")]
    if "parameters" in facts:
        parts.append(f"{count(facts['parameters'])} parameters")
    return ", ".join(part for part in parts if part)


def step_text(facts: dict[str, Any]) -> str:
    """The checkpoint in words."""
    return f"step {count(facts['checkpoint'])}" if "checkpoint" in facts else ""


def batch_norm(facts: dict[str, Any]) -> str:
    """The BatchNorm policy in words."""
    return _BATCH_NORM.get(fact(facts, "bn"), fact(facts, "bn"))


def seed_text(facts: dict[str, Any]) -> str:
    """The seed, or the range of seeds of repeats."""
    if facts.get("seeds"):
        return f"{facts['seeds'][0]} to {facts['seeds'][-1]}"
    return fact(facts, "seed")


def _listed(values: Any, form: Callable[[float], str]) -> str:
    return " + ".join(form(float(value)) for value in np.atleast_1d(values))


def _variance(facts: dict[str, Any]) -> str:
    if "variance" not in facts:
        return ""
    text = _listed(facts["variance"], lambda v: short(100 * v)) + "\N{NO-BREAK SPACE}%"
    if "variance_null" in facts:
        null = _listed(facts["variance_null"], lambda v: short(100 * v, 2))
        text += f", random walk {null}\N{NO-BREAK SPACE}%"
    return text


def plane_text(facts: dict[str, Any]) -> str:
    """How the plane was chosen, in words."""
    plane = fact(facts, "plane")
    if plane == "trajectory":
        size = len(facts["checkpoints"]) if "checkpoints" in facts else None
        of = f"{size} checkpoints" if size else "the checkpoints"
        return f"first two principal components of {of}"
    if plane == "hessian":
        return "two top eigenvectors of the Hessian"
    return "random directions" if plane == "random" else plane


def _normalization(facts: dict[str, Any]) -> str:
    name = fact(facts, "normalization")
    if not name:
        return ""
    ignored = facts.get("ignore") or []
    return name + (f", without {' and '.join(map(str, ignored))} parameters" if ignored else "")


def _plane_rows(facts: dict[str, Any]) -> Rows:
    eigenvalues = facts.get("eigenvalues", [])
    return [
        ("Plane", plane_text(facts)),
        ("Variance", _variance(facts)),
        ("Origin", fact(facts, "origin")),
        ("Eigenvalues", ", ".join(number(float(v)) for v in eigenvalues[:2])),
        ("Eigengap", ", ".join(number(float(v)) for v in facts.get("eigengap", [])[:2])),
        ("Normalization", _normalization(facts)),
    ]


def _range(values: np.ndarray) -> str:
    return f"{short(float(values[0]))} to {short(float(values[-1]))}" if len(values) else ""


def failures(evaluated: np.ndarray, loss: np.ndarray) -> str:
    """How many points are not plain, or "" when all are."""
    diverged = int((evaluated & ~np.isfinite(loss)).sum())
    missing = int((~evaluated).sum())
    parts = [f"{count(diverged)} diverged"] if diverged else []
    parts += [f"{count(missing)} not evaluated"] if missing else []
    return ", ".join(parts)


def _profile_rows(result: Profile) -> Rows:
    repeats = len(result.loss)
    rows = _plane_rows(result.facts)
    if len(result.alpha) > 1:
        rows.append(("Extent", _range(result.alpha)))
    rows.append(("Points", count(len(result.alpha))))
    rows.append(("Repeats", count(repeats) if repeats > 1 else ""))
    rows.append(("Missing", failures(result.evaluated, result.loss)))
    return rows


def _surface_rows(result: Surface) -> Rows:
    grid = f"{len(result.alpha)} × {len(result.beta)}"
    rows = _plane_rows(result.facts)
    rows.append(("Extent", f"{_range(result.alpha)}, {_range(result.beta)}"))
    rows.append(("Grid", f"{grid}, {count(int(result.evaluated.sum()))} evaluated"))
    rows.append(("Missing", failures(result.evaluated, result.loss)))
    if len(result.path_step):
        rows.append(("Path", f"{count(len(result.path_step))} checkpoints"))
        rows.append(("Out of plane", f"at most {number(float(np.max(result.path_off_plane)))}"))
    return rows


def _trace(facts: dict[str, Any]) -> str:
    if "trace" not in facts:
        return ""
    error = facts.get("trace_error")
    known = error is not None and np.isfinite(error)
    return number(facts["trace"]) + (f" ± {number(error, 2)}" if known else "")


def _spectrum_rows(result: Spectrum) -> Rows:
    residual = float(np.max(result.residuals, initial=0.0))
    return [
        ("Operator", fact(result.facts, "operator")),
        ("Eigenpairs", f"{len(result.eigenvalues)}, {WHICH.get(result.which, result.which)}"),
        ("Largest residual", number(residual) if len(result.residuals) else ""),
        ("Tolerance", f"{short(result.tolerance)} of the largest |λ|"),
        ("Converged", "yes" if result.converged else "no"),
        ("Products", count(result.matvecs)),
    ]


def _density_rows(result: Density) -> Rows:
    probes, nodes = result.nodes.shape
    return [
        ("Operator", fact(result.facts, "operator")),
        ("Probes", count(probes)),
        ("Lanczos steps", count(nodes)),
        ("Width σ", number(result.sigma) if np.isfinite(result.sigma) else ""),
        ("Trace", _trace(result.facts)),
        ("Products", count(result.matvecs)),
    ]


def _consistency_rows(result: Consistency) -> Rows:
    facts = result.facts
    interval = (result.interval_low, result.interval_high)
    null = (result.null_low, result.null_high)
    vectors = f"{count(len(result.step))} {'batches' if result.protocol == 'frozen' else 'steps'}"
    return [
        ("Protocol", {"frozen": "frozen weights", "online": "online"}.get(result.protocol, "")),
        ("Perturbation", result.perturbation),
        ("Vectors", vectors),
        ("Batch size", count(facts["batch_size"]) if "batch_size" in facts else ""),
        ("Sampling", fact(facts, "sampling")),
        ("Mean cosine", number(result.mean_cosine) + between(interval)),
        ("Null", f"{number(null[0])} to {number(null[1])}" if np.isfinite(null).all() else ""),
        ("Resultant length", number(result.resultant_length)),
    ]


def between(ends: Sequence[float]) -> str:
    """A 95 % interval in brackets, or "" where there is none."""
    if not np.isfinite(ends).all():
        return ""
    return f" (95 % {number(float(ends[0]))} to {number(float(ends[1]))})"


def _trajectory_rows(result: Trajectory) -> Rows:
    return [
        *_plane_rows(result.facts),
        ("Checkpoints", count(len(result.step))),
        ("Steps", f"{count(result.step[0])} to {count(result.step[-1])}"),
        ("Out of plane", f"at most {number(float(np.max(result.off_plane)))}"),
    ]


_OWN_ROWS: dict[type[Result], Callable[[Any], Rows]] = {
    Profile: _profile_rows,
    Surface: _surface_rows,
    Spectrum: _spectrum_rows,
    Density: _density_rows,
    Consistency: _consistency_rows,
    Trajectory: _trajectory_rows,
}
