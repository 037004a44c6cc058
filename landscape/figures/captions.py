"""Captions made from what a result says of itself: how it was measured, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from landscape.figures.claim_words import claim_subject
from landscape.figures.comparison_words import comparison_subject
from landscape.figures.connections import CONNECTED
from landscape.figures.curvature_captions import (
    curvature_subject,
    density_subject,
    sharpness_subject,
    spectrum_subject,
    stability_subject,
    trace_subject,
)
from landscape.figures.direction_words import offset_subject, part_subject, rise_subject
from landscape.figures.estimate_words import between
from landscape.figures.facts import (
    SHAPES,
    batch_norm,
    failures,
    of_whom,
    rise_text,
    seed_text,
)
from landscape.figures.facts import facts_rows as facts_rows
from landscape.figures.numbers import count, number
from landscape.figures.plane_words import (
    along_line,
    fact,
    imported_text,
    interpolation_text,
    listed,
    on_plane,
    precision_text,
)
from landscape.figures.quantities import quantity_of
from landscape.figures.window_words import directions_subject
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


def caption(
    result: Result,
    quantity: str | None = None,
    panels: Sequence[str] | None = None,
    scale: str | None = None,
    *,
    together: bool = False,
) -> str:
    """One paragraph for under a figure: what it shows, then how it was measured.

    Args:
        result: What was measured.
        quantity: What a figure of it shows, where that is not the loss.
        panels: Which panels a figure of curvature through training has, where not all; which part
            of a consistency ("shares", "components", "tensors") or of a loss rise ("rise",
            "transfer", "curvature") it shows.
        scale: "log" for a density over |λ|.
        together: Whether the figure shows several runs.
    """
    if isinstance(result, Curvature) and panels:
        subject = curvature_subject(result, panels, together=together)
    elif isinstance(result, Consistency) and panels:
        subject = part_subject(result, of_whom(result.facts), panels)
    elif isinstance(result, Rise) and panels:
        subject = rise_subject(result, of_whom(result.facts), panels)
    elif isinstance(result, Density) and scale == "log":
        subject = density_subject(result, over_magnitude=True)
    else:
        subject = _SUBJECTS[type(result)](result)
    if quantity is not None and subject.startswith("Loss"):
        title = _title(result, quantity)
        subject = title[0].upper() + title[1:] + subject.removeprefix("Loss")
    curved = quantity in (None, "convexity", "lambda_max")
    if curved and isinstance(result, Surface | Profile):
        subject += _eigenvalues_told(result)
    parts = (subject, _how(result), imported_text(result.facts))
    return " ".join(part for part in parts if part)


def _title(result: Result, quantity: str) -> str:
    if isinstance(result, Surface | Profile):
        return quantity_of(result, quantity).title
    return CONNECTED.get(quantity, quantity)


def _at_steps(facts: dict[str, Any]) -> str:
    """The steps of several runs' checkpoints, once where they are equal."""
    steps = [count(step) for step in facts.get("steps", [])]
    if not steps:
        return ""
    return f" at step {steps[0]}" if len(set(steps)) == 1 else f" at steps {', '.join(steps)}"


def _profile_subject(result: Profile) -> str:
    repeats = len(result.loss)
    text = f"Loss{of_whom(result.facts)} along {along_line(result.facts, repeats)}."
    if repeats > 1:
        text += " Line: median; band: lowest to highest repeat."
    if result.test_loss.size:
        text += " Dashed: test set."
    return text


def _surface_subject(result: Surface) -> str:
    text = f"Loss{of_whom(result.facts)}{on_plane(result.facts)}."
    if len(result.path_step):
        runs = len(np.unique(result.path_run))
        whose = f" of {listed(list(result.path_labels))}" if runs > 1 else ""
        text += (
            f" Path{'s' if runs > 1 else ''}: {count(len(result.path_step))} checkpoints{whose}, "
            f"at most {number(float(np.max(result.path_off_plane)))} out of the plane; points fade "
            "with that distance."
        )
    if len(result.mark_labels):
        text += f" Marked: {listed(list(result.mark_labels))}."
    return text


def _eigenvalues_told(result: Surface | Profile) -> str:
    """What the eigenvalue maps of a result mean; "" where there are none."""
    if not result.lambda_max.size:
        return ""
    noise = np.nan_to_num(result.lambda_residual) if result.lambda_residual.size else 0.0
    convex = int((result.lambda_min > noise).sum())
    text = (
        " Convexity |λmin/λmax| of the Hessian (Li et al. 2018, figure 7): near 0 the most "
        "negative curvature is small beside the largest; left out where λmax does not exceed its "
        "residual"
    )
    text += f"; at {count(convex)} points λmin is above 0" if convex else ""
    return text + ". Kinks of a ReLU net have no second derivative: their curvature is not in it."


def _barrier_subject(result: Barrier) -> str:
    names = listed(list(result.names)) if result.names else f"{len(result.height)} minima"
    names += _at_steps(result.facts)
    text = f"Loss{of_whom(result.facts)} on the straight lines between {names}."
    if len(result.height) > 2:
        text += (
            " Below the diagonal, bold: highest loss over the mean of both ends (Frankle et al. "
            "2020); under it: over the straight line between them (Entezari et al. 2022). Above: "
            "the lines. On the diagonal: the minima."
        )
    else:
        mean, line = result.height[0, 1], result.height_over_line[0, 1]
        text += (
            f" Barrier: {number(mean)} over the mean of both ends (Frankle et al. 2020), "
            f"{number(line)} over the straight line between them (Entezari et al. 2022)."
        )
    text += " Heights are lower bounds: the highest of the points measured."
    if result.test_loss.size:
        text += " Dashed: test set."
    return text + _alignment(result)


def _curve_subject(result: Curve) -> str:
    names = listed(list(result.names)) if result.names else "two minima"
    shape = SHAPES.get(result.shape, result.shape)
    names += _at_steps(result.facts)
    text = f"Loss{of_whom(result.facts)} on a trained {shape} curve between {names}"
    if len(result.training_loss):
        text += f" ({count(len(result.training_loss))} updates)"
    text += " and, grey, on the straight line."
    if result.test_loss.size:
        text += " Dashed: test set."
    text += " On the plane: circles minima, diamonds bends, in weight-space distance."
    return text + _alignment(result)


def _alignment(result: Result) -> str:
    said = fact(result.facts, "alignment").startswith("none")
    return " No permutation alignment." if said else ""


def _consistency_subject(result: Consistency) -> str:
    facts = result.facts
    where = of_whom(facts)
    if result.protocol == "frozen":
        what = f"of {result.perturbation or 'the'} perturbations of {len(result.step)} batches"
        what += " at frozen weights"
    else:
        what = f"of the {len(result.step)} perturbations recorded in training"
        if len(result.step):
            what += f", steps {count(result.step[0])} to {count(result.step[-1])}"
    sketched = ""
    if np.isfinite(result.mean_cosine_error):
        sketched = (
            f" {fact(facts, 'vectors')}; that of the mean from sketching is "
            f"{number(result.mean_cosine_error)}."
        )
    return (
        f"Pairwise cosine {what}{where}: mean {number(result.mean_cosine)}"
        f"{between((result.interval_low, result.interval_high))}; grey: 95 % of random sign flips "
        f"({number(result.null_low)} to {number(result.null_high)}).{sketched}"
    )


def _directions_subject(result: Directions) -> str:
    return directions_subject(result, of_whom(result.facts, step=False))


def _trajectory_subject(result: Trajectory) -> str:
    return (
        f"Path{of_whom(result.facts)}: {count(len(result.step))} checkpoints"
        f"{on_plane(result.facts)}; at most {number(float(np.max(result.off_plane)))} out of it."
    )


_SUBJECTS: dict[type[Result], Callable[[Any], str]] = {
    Profile: _profile_subject,
    Surface: _surface_subject,
    Barrier: _barrier_subject,
    Curve: _curve_subject,
    Spectrum: spectrum_subject,
    Density: density_subject,
    Trace: trace_subject,
    Sharpness: sharpness_subject,
    Stability: stability_subject,
    Curvature: curvature_subject,
    Consistency: _consistency_subject,
    Directions: _directions_subject,
    Rise: lambda result: rise_subject(result, of_whom(result.facts)),
    Offset: lambda result: offset_subject(result, of_whom(result.facts)),
    Trajectory: _trajectory_subject,
    Comparison: comparison_subject,
    Claim: claim_subject,
}


def _how(result: Result) -> str:
    """Data, BatchNorm, grid, precision and seed, as far as they are known, and what failed."""
    facts = result.facts
    samples = f"{count(facts['samples'])} samples" if "samples" in facts else ""
    data = fact(facts, "data")
    parts = [f"{samples} of {data}" if samples and data else samples or data]
    parts.append(f"{count(facts['test_samples'])} test samples" if "test_samples" in facts else "")
    parts.append(f"batch norm: {batch_norm(facts)}" if "bn" in facts else "")
    if isinstance(result, Surface):
        parts.append(f"{len(result.alpha)} × {len(result.beta)} points")
    if isinstance(result, Profile):
        parts.append(f"{len(result.alpha)} points")
    if isinstance(result, Barrier | Curve):
        parts.append(f"{len(result.t)} points")
    if isinstance(result, Surface | Profile):
        extent = rise_text(result)
        parts.append(f"extent grown {extent}" if extent else "")
        parts.append(failures(result))
    if isinstance(result, Surface) and result.interpolated.any():
        size = result.evaluated.size
        parts.append(interpolation_text(facts, int(result.evaluated.sum()), size))
    parts.append(precision_text(facts))
    parts.append(f"seed {seed_text(facts)}" if seed_text(facts) else "")
    text = "; ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}." if text else ""
