"""What a result says of how it was measured, as rows for an inspector."""

from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.figures.claim_words import claim_rows
from landscape.figures.comparison_words import comparison_rows
from landscape.figures.curvature_facts import (
    curvature_rows,
    density_rows,
    sharpness_rows,
    spectrum_rows,
    stability_rows,
    trace_rows,
)
from landscape.figures.direction_words import consistency_more, offset_rows, rise_rows_told
from landscape.figures.estimate_words import between
from landscape.figures.numbers import count, number, short
from landscape.figures.plane_words import Rows, evaluation_rows, fact, plane_rows
from landscape.figures.window_words import directions_rows
from landscape.results import (
    Barrier,
    Claim,
    Comparison,
    Consistency,
    Curvature,
    Curve,
    Density,
    Directions,
    Offset,
    Profile,
    Result,
    Rise,
    Sharpness,
    Spectrum,
    Stability,
    Surface,
    Trace,
    Trajectory,
)

_BATCH_NORM = {
    "frozen": "running statistics, frozen",
    "recomputed": "statistics recomputed at each point",
    "batch": "statistics of each batch",
    "interpolated": "statistics interpolated between those of the weights",
}
SHAPES = {"bezier": "quadratic Bezier", "polygon": "polygon"}


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
        ("Test samples", count(facts["test_samples"]) if "test_samples" in facts else ""),
        ("Batch norm", batch_norm(facts)),
        ("Seed", seed_text(facts)),
        ("Training seed", fact(facts, "training_seed")),
        *evaluation_rows(facts, *_filled(result)),
    ]
    return [(label, value) for label, value in rows if value]


def _filled(result: Result) -> tuple[int, int]:
    """Points evaluated and points in total of a surface that is interpolated in part."""
    if isinstance(result, Surface) and result.interpolated.size:
        return int(result.evaluated.sum()), result.evaluated.size
    return 0, 0


def _model(facts: dict[str, Any]) -> str:
    parts = [fact(facts, "model")]
    if "parameters" in facts:
        parts.append(f"{count(facts['parameters'])} parameters")
    return ", ".join(part for part in parts if part)


def step_text(facts: dict[str, Any]) -> str:
    """The checkpoint in words."""
    return f"step {count(facts['checkpoint'])}" if "checkpoint" in facts else ""


def of_whom(facts: dict[str, Any], *, step: bool = True) -> str:
    """Model, method and step, as far as they are known: of ConvNet (SAM+AACE) at step 480."""
    model, method = fact(facts, "model"), fact(facts, "method")
    text = f" of {model}" if model else ""
    if method:
        text += f" ({method})" if model else f" of {method}"
    at = step_text(facts) if step else ""
    return text + (f" at {at}" if at else "")


def batch_norm(facts: dict[str, Any]) -> str:
    """The BatchNorm policy in words."""
    return _BATCH_NORM.get(fact(facts, "bn"), fact(facts, "bn"))


def seed_text(facts: dict[str, Any]) -> str:
    """The seed, or the range of seeds of repeats."""
    if facts.get("seeds"):
        return f"{facts['seeds'][0]} to {facts['seeds'][-1]}"
    return fact(facts, "seed")


def _range(values: np.ndarray) -> str:
    return f"{short(float(values[0]))} to {short(float(values[-1]))}" if len(values) else ""


def failures(result: Profile | Surface) -> str:
    """How many points are not plain, or "" when all are."""
    diverged = int((result.evaluated & ~np.isfinite(result.loss)).sum())
    known = result.evaluated
    if isinstance(result, Surface) and result.interpolated.size:
        known = known | result.interpolated
    missing = int((~known).sum())
    parts = [f"{count(diverged)} diverged"] if diverged else []
    parts += [f"{count(missing)} not evaluated"] if missing else []
    return ", ".join(parts)


def rise_text(result: Profile | Surface) -> str:
    """By which factor the loss rises at the ends of an extent found for it, or ""."""
    rise = result.facts.get("rise", result.options.get("rise"))
    return f"until the loss is {short(float(rise))} times that at the origin" if rise else ""


def _profile_rows(result: Profile) -> Rows:
    repeats = len(result.loss)
    rows = plane_rows(result.facts)
    if len(result.alpha) > 1:
        rows.append(("Extent", _range(result.alpha)))
        rows.append(("Extent found", rise_text(result)))
    rows.append(("Points", count(len(result.alpha))))
    rows.append(("Repeats", count(repeats) if repeats > 1 else ""))
    rows.append(("Missing", failures(result)))
    return rows


def _surface_rows(result: Surface) -> Rows:
    grid = f"{len(result.alpha)} × {len(result.beta)}"
    rows = plane_rows(result.facts)
    rows.append(("Extent", f"{_range(result.alpha)}, {_range(result.beta)}"))
    rows.append(("Extent found", rise_text(result)))
    rows.append(("Grid", f"{grid}, {count(int(result.evaluated.sum()))} evaluated"))
    rows.append(("Missing", failures(result)))
    if len(result.path_step):
        rows.append(("Path", f"{count(len(result.path_step))} checkpoints"))
        rows.append(("Out of plane", f"at most {number(float(np.max(result.path_off_plane)))}"))
    return rows


def _barrier_rows(result: Barrier) -> Rows:
    pairs = np.triu_indices(len(result.height), 1)
    rows = [
        ("Minima", ", ".join(result.names)),
        ("Distances", _spread(result.distance[pairs])),
        ("Barrier", _spread(result.height[pairs])),
        ("Over the line", _spread(result.height_over_line[pairs])),
        ("Error barrier", _spread(result.error_height[pairs])),
        ("Points", f"{count(len(result.t))} on each line, ends among them"),
        ("Missing", count(missing) if (missing := int((~result.evaluated).sum())) else ""),
    ]
    return [*rows, ("Alignment", fact(result.facts, "alignment"))]


def _spread(values: np.ndarray) -> str:
    """The lowest and the highest of several values, or the only one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, high = number(float(finite.min())), number(float(finite.max()))
    return low if low == high else f"{low} to {high}"


def _curve_rows(result: Curve) -> Rows:
    facts = result.facts
    updates = count(len(result.training_loss)) if len(result.training_loss) else ""
    return [
        ("Minima", " and ".join(result.names)),
        ("Curve", SHAPES.get(result.shape, result.shape)),
        ("Bends", count(len(result.bend_position))),
        ("Trained for", f"{updates} updates" if updates else ""),
        ("Learning rate", short(facts["learning_rate"]) if "learning_rate" in facts else ""),
        ("Highest loss", f"{_highest(result.loss)}, on the line {_highest(result.line_loss)}"),
        ("Out of plane", f"at most {_highest(result.off_plane)}"),
        ("Distance", number(facts["distance"]) if "distance" in facts else ""),
        ("Points", count(len(result.t))),
        ("Alignment", fact(facts, "alignment")),
    ]


def _highest(values: np.ndarray) -> str:
    return number(float(np.max(values))) if len(values) else ""


def _consistency_rows(result: Consistency) -> Rows:
    facts = result.facts
    interval = (result.interval_low, result.interval_high)
    null, error = (result.null_low, result.null_high), result.mean_cosine_error
    vectors = f"{count(len(result.step))} {'batches' if result.protocol == 'frozen' else 'steps'}"
    return [
        ("Protocol", {"frozen": "frozen weights", "online": "online"}.get(result.protocol, "")),
        ("Perturbation", result.perturbation),
        ("Vectors", vectors),
        ("Batch size", count(facts["batch_size"]) if "batch_size" in facts else ""),
        ("Sampling", fact(facts, "sampling")),
        ("Cosines", fact(facts, "vectors")),
        ("Mean cosine", number(result.mean_cosine) + between(interval)),
        ("Error of sketches", number(error) if np.isfinite(error) else ""),
        ("Null", f"{number(null[0])} to {number(null[1])}" if np.isfinite(null).all() else ""),
        ("Resultant length", number(result.resultant_length)),
        ("Burn-in", f"{count(facts['burn_in'])} batches" if "burn_in" in facts else ""),
        ("Gradient of all data", fact(facts, "full_gradient")),
        ("Largest tensors", _shares_of(facts.get("largest_layers", []))),
        *consistency_more(result),
    ]


def _shares_of(layers: list[Any]) -> str:
    """Name tensors with their share of the squared length."""
    return ", ".join(f"{name} {share:.0%}" for name, share, _ in layers)


def _trajectory_rows(result: Trajectory) -> Rows:
    return [
        *plane_rows(result.facts),
        ("Checkpoints", count(len(result.step))),
        ("Steps", f"{count(result.step[0])} to {count(result.step[-1])}"),
        ("Out of plane", f"at most {number(float(np.max(result.off_plane)))}"),
    ]


_OWN_ROWS: dict[type[Result], Callable[[Any], Rows]] = {
    Profile: _profile_rows,
    Surface: _surface_rows,
    Barrier: _barrier_rows,
    Curve: _curve_rows,
    Spectrum: spectrum_rows,
    Density: density_rows,
    Trace: trace_rows,
    Sharpness: sharpness_rows,
    Stability: stability_rows,
    Curvature: curvature_rows,
    Consistency: _consistency_rows,
    Directions: directions_rows,
    Rise: rise_rows_told,
    Offset: offset_rows,
    Trajectory: _trajectory_rows,
    Comparison: comparison_rows,
    Claim: claim_rows,
}
