"""Captions made from what a result says of itself: how it was measured, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.figures.facts import (
    WHICH,
    batch_norm,
    between,
    fact,
    failures,
    plane_text,
    seed_text,
    step_text,
)
from landscape.figures.facts import facts_rows as facts_rows
from landscape.figures.numbers import count, number, percent
from landscape.results import (
    Consistency,
    Density,
    Profile,
    Result,
    Spectrum,
    Surface,
    Trajectory,
)


def caption(result: Result) -> str:
    """One paragraph for under a figure: what it shows, then how it was measured."""
    how = _how(result)
    return " ".join(part for part in (_SUBJECTS[type(result)](result), how) if part)


def _of_whom(facts: dict[str, Any]) -> str:
    """Model, method and step, as far as they are known: of ConvNet (SAM+AACE) at step 480."""
    model, method, step = fact(facts, "model"), fact(facts, "method"), step_text(facts)
    text = f" of {model}" if model else ""
    if method:
        text += f" ({method})" if model else f" of {method}"
    return text + (f" at {step}" if step else "")


def _on_plane(facts: dict[str, Any]) -> str:
    plane = plane_text(facts)
    if not plane:
        return ""
    text = f", on the plane of {'the ' if plane[:5] in ('first', 'two t') else ''}{plane}"
    if "variance" in facts:
        text += f", which hold {percent(float(np.sum(facts['variance'])))} of the path's variance"
        if "variance_null" in facts:
            null = percent(float(np.sum(facts["variance_null"])), 0)
            text += f" (a random walk with these steps: {null})"
    if "normalization" in facts and facts["normalization"] != "none":
        text += f", {facts['normalization']}-normalized"
    return text


def _profile_subject(result: Profile) -> str:
    repeats = len(result.loss)
    text = f"Loss{_of_whom(result.facts)} along {_line(result.facts, repeats)}."
    if repeats > 1:
        text += " Line: median; band: lowest to highest repeat."
    return text


def _line(facts: dict[str, Any], repeats: int) -> str:
    kind = "random direction" if facts.get("plane") == "random" else "direction"
    normal = facts.get("normalization")
    normalized = f"{normal}-normalized " if normal and normal != "none" else ""
    return f"{repeats} {normalized}{kind}s" if repeats > 1 else f"one {normalized}{kind}"


def _surface_subject(result: Surface) -> str:
    text = f"Loss{_of_whom(result.facts)}{_on_plane(result.facts)}."
    if len(result.path_step):
        text += (
            f" Path: {count(len(result.path_step))} checkpoints, at most "
            f"{number(float(np.max(result.path_off_plane)))} out of the plane; points fade with "
            "that distance."
        )
    return text


def _spectrum_subject(result: Spectrum) -> str:
    which = WHICH.get(result.which, result.which)
    text = f"The {len(result.eigenvalues)} Hessian eigenvalues ({which}){_of_whom(result.facts)}"
    if len(result.residuals):
        text += f", residuals at most {number(float(result.residuals.max()))}"
    text += "." if result.converged else ", not converged."
    return text + (" Hollow: negative." if (result.eigenvalues < 0).any() else "")


def _density_subject(result: Density) -> str:
    probes, nodes = result.nodes.shape
    return (
        f"Hessian spectral density{_of_whom(result.facts)}, in eigenvalues per unit λ, by "
        f"stochastic Lanczos quadrature with {nodes} steps and {probes} "
        f"probe{'s' if probes > 1 else ''} (width {number(result.sigma)}). "
        "Band: lowest to highest probe."
    )


def _consistency_subject(result: Consistency) -> str:
    facts = result.facts
    where = _of_whom(facts)
    if result.protocol == "frozen":
        what = f"of {result.perturbation or 'the'} perturbations of {len(result.step)} batches"
        what += " at frozen weights"
    else:
        what = f"of the {len(result.step)} perturbations recorded in training"
        if len(result.step):
            what += f", steps {count(result.step[0])} to {count(result.step[-1])}"
    return (
        f"Pairwise cosine {what}{where}: mean {number(result.mean_cosine)}"
        f"{between((result.interval_low, result.interval_high))}; grey: 95 % of random sign flips "
        f"({number(result.null_low)} to {number(result.null_high)})."
    )


def _trajectory_subject(result: Trajectory) -> str:
    return (
        f"Path{_of_whom(result.facts)}: {count(len(result.step))} checkpoints"
        f"{_on_plane(result.facts)}; at most {number(float(np.max(result.off_plane)))} out of it."
    )


_SUBJECTS: dict[type[Result], Callable[[Any], str]] = {
    Profile: _profile_subject,
    Surface: _surface_subject,
    Spectrum: _spectrum_subject,
    Density: _density_subject,
    Consistency: _consistency_subject,
    Trajectory: _trajectory_subject,
}


def _how(result: Result) -> str:
    """Data, BatchNorm, grid, precision and seed, as far as they are known, and what failed."""
    facts = result.facts
    samples = f"{count(facts['samples'])} samples" if "samples" in facts else ""
    data = fact(facts, "data")
    parts = [f"{samples} of {data}" if samples and data else samples or data]
    parts.append(f"batch norm: {batch_norm(facts)}" if "bn" in facts else "")
    if isinstance(result, Surface):
        parts.append(f"{len(result.alpha)} × {len(result.beta)} points")
    if isinstance(result, Profile):
        parts.append(f"{len(result.alpha)} points")
    if isinstance(result, Surface | Profile):
        parts.append(failures(result.evaluated, result.loss))
    parts.append(fact(facts, "dtype"))
    parts.append(f"seed {seed_text(facts)}" if seed_text(facts) else "")
    text = "; ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}." if text else ""
