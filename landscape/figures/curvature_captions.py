"""What captions of curvature say of their subject: the estimator and what its error covers."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from landscape.figures.alignments import spoken
from landscape.figures.curvature_facts import (
    WHICH,
    bounds_text,
    interval_text,
    largest_deflated,
    largest_of,
    method_text,
    operator_text,
    spread_text,
    trace_of,
    wasserstein_share,
)
from landscape.figures.estimate_words import plus_minus
from landscape.figures.facts import of_whom
from landscape.figures.numbers import count, number, percent
from landscape.figures.plane_words import fact, listed
from landscape.figures.summaries import scree
from landscape.results import Curvature, Density, Sharpness, Spectrum, Stability, Trace

PANELS = ("eigenvalues", "trace", "alignment", "rayleigh", "multiplier", "layers")
"""What a figure of curvature through training can show."""


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _interrupted(facts: dict[str, Any]) -> str:
    return "Interrupted: what was known by then." if facts.get("interrupted") else ""


def _of(facts: dict[str, Any], *, step: bool = True) -> str:
    """Of which operator and of whom."""
    return f" of the {operator_text(facts)}{of_whom(facts, step=step)}"


def spectrum_subject(result: Spectrum) -> str:
    """Which eigenvalues, how well they are known, and what marks mean."""
    loose, size = int((~scree(result).within).sum()), len(result.eigenvalues)
    which = WHICH.get(result.which, result.which)
    what = f"The {count(size)} eigenvalues ({which})" if size > 1 else f"Eigenvalue ({which})"
    text = f"{what}{_of(result.facts)}"
    if len(result.residuals):
        text += f", residuals at most {number(float(result.residuals.max()))}"
    text += "." if result.converged else ", not converged."
    bounds, spread = bounds_text(result), spread_text(largest_of(result))
    return _sentences(
        text,
        f"Crossed out: {count(loose)} above the tolerance." if loose else "",
        "Hollow: negative." if (result.eigenvalues < 0).any() else "",
        "Bars: residuals, within which an eigenvalue lies for certain." if size else "",
        f"λmax is {bounds}." if bounds else "",
        f"λ1/λ5 = {spread}." if spread else "",
        _interrupted(result.facts),
    )


def density_subject(result: Density, *, over_magnitude: bool = False) -> str:
    """How the density was estimated, what is drawn apart from it, and what its error covers.

    Args:
        result: The density.
        over_magnitude: Whether it is drawn over |λ|.
    """
    probes, nodes = result.nodes.shape
    per = "decade of |λ|" if over_magnitude else "unit λ"
    # over |λ| Gaussians have a width of their own, and below σ no magnitude is known
    width = f"Gaussians of width σ = {number(result.sigma)}"
    width = f"|λ| known down to {number(result.sigma)}" if over_magnitude else width
    operator = operator_text(result.facts)
    text = (
        f"Spectral density of the {operator}{of_whom(result.facts)}, in eigenvalues per {per}, by "
        f"stochastic Lanczos quadrature with {nodes} steps and {probes} "
        f"probe{'s' if probes > 1 else ''} ({width})."
    )
    return _sentences(
        text,
        "Dashed, hollow: negative eigenvalues." if over_magnitude else "",
        "Band: lowest to highest probe." if probes > 1 else "",
        _deflated(result),
        _numbers(result),
        _wasserstein(result),
        _interrupted(result.facts),
    )


def _deflated(result: Density) -> str:
    size = len(result.outliers)
    if not size:
        return ""
    worst = f" (residuals at most {number(float(result.outlier_residuals.max()))})"
    return (
        f"Stems, each of height 1: {count(size)} eigenvalue{'s' if size > 1 else ''} found one by "
        f"one{worst if len(result.outlier_residuals) else ''} and deflated; the curve is of the "
        f"other {count(result.size - size)}."
    )


def _numbers(result: Density) -> str:
    largest = largest_deflated(result)
    spread = spread_text(largest)
    value, error = trace_of(result)
    over = " (standard error over probes)" if math.isfinite(error) else ""
    parts = [f"Trace {plus_minus(value, error)}{over}"] if math.isfinite(value) else []
    parts += [f"λ1 = {number(float(largest[0]))}"] if len(largest) else []
    parts += [f"λ1/λ5 = {spread}"] if spread else []
    return f"{', '.join(parts)}." if parts else ""


def _wasserstein(result: Density) -> str:
    share = wasserstein_share(result)
    if share < 1:
        text = (
            "With probability 95 % the cumulated curve before smoothing is within a Wasserstein "
            f"distance of {percent(share, 0)} of the range of λ; this says nothing of the tails"
        )
    else:
        text = "So few steps and probes give no bound of the distance to the true spectrum"
    return f"{text}, and the choice of data is in no error given."


def trace_subject(result: Trace) -> str:
    """The trace with its interval, and what the interval covers."""
    probes = len(result.samples)
    ends = interval_text(result)
    text = (
        f"Trace{_of(result.facts)}: {plus_minus(result.trace, result.standard_error)}"
        f"{f' (95 % {ends})' if ends else ''}, by {method_text(result)} with {count(probes)} "
        f"probe{'s' if probes != 1 else ''}."
    )
    norm = ""
    if math.isfinite(result.frobenius):
        norm = f"Frobenius norm {plus_minus(result.frobenius, result.frobenius_error)}"
        if math.isfinite(result.effective_rank):
            rank = plus_minus(result.effective_rank, result.effective_rank_error)
            norm += f", effective rank {rank}"
        norm += "."
    shown = "Dots: the probes." if not result.layer_trace.size else "Bars: each layer's own block."
    return _sentences(
        text,
        norm,
        f"{shown} ±: standard errors over probes, which cover neither data nor training.",
        _interrupted(result.facts),
    )


def sharpness_subject(result: Sharpness) -> str:
    """What the table's columns mean."""
    facts = result.facts
    text = f"Sharpness{of_whom(facts)}"
    known = []
    if math.isfinite(result.loss):
        known.append(f"loss {number(result.loss)}")
    if math.isfinite(result.mean_probability):
        known.append(f"mean probability of the true class {number(result.mean_probability)}")
    text += f" ({', '.join(known)})." if known else "."
    return _sentences(
        text,
        "≥: a lower bound only." if result.lower_bound.any() else "",
        "±: standard error; intervals of 95 % where an honest one is known; both cover the random "
        "draws, not the choice of data."
        if np.isfinite(result.standard_error).any()
        else "",
        "Audit: value after a change of the weights that leaves the function as it is, over the "
        "value before; 1 is invariant."
        if result.audit.size
        else "",
        _interrupted(facts),
    )


def stability_subject(result: Stability) -> str:
    """The multipliers of which map, and what 1 means."""
    size = len(result.multipliers_real)
    of = f" of {result.update}" if result.update else ""
    text = (
        f"The {count(size)} largest multipliers of the update map{of}{of_whom(result.facts)}: "
        "eigenvalues of its Jacobian on weights and momentum"
    )
    if len(result.residuals):
        text += f", residuals at most {number(float(result.residuals.max()))}"
    text += "." if result.converged else ", not converged."
    caution = fact(result.facts, "caution")
    return _sentences(
        text,
        f"The leading one has |μ| = {number(result.multiplier, 4)}."
        if math.isfinite(result.multiplier)
        else "",
        "Circle: |μ| = 1, the edge of stability; outside, a small deviation grows.",
        _swing(result.facts),
        f"{caution[0].upper()}{caution[1:]}." if caution else "",
        _interrupted(result.facts),
    )


def _swing(facts: dict[str, Any]) -> str:
    """The multiplier of the largest curvature along the step, where it was found."""
    swing = facts.get("swing") or {}
    if "magnitude" not in swing:
        return ""
    return (
        f"Farthest from 1, that of the largest curvature along the step: |μ| = "
        f"{number(float(swing['magnitude']), 4)}."
    )


def curvature_subject(
    result: Curvature, panels: Sequence[str] = PANELS, *, together: bool = False
) -> str:
    """What is followed through training, panel by panel; of runs together the largest only."""
    steps = result.step
    span = f", {count(len(steps))} checkpoint{'s' if len(steps) != 1 else ''}"
    if len(steps) > 1:
        span += f", steps {count(steps[0])} to {count(steps[-1])}"
    text = f"Curvature{_of(result.facts, step=False)} through training{span}."
    told = {
        "eigenvalues": partial(_eigenvalues, together=together),
        "trace": _trace,
        "alignment": _alignment,
        "rayleigh": _rayleigh,
        "multiplier": _multiplier,
        "layers": _layers,
    }
    return _sentences(text, *(told[panel](result) for panel in panels), _interrupted(result.facts))


def _eigenvalues(result: Curvature, together: bool) -> str:
    size = result.eigenvalues.shape[1] if result.eigenvalues.ndim > 1 else 0
    more = size > 1 and not together
    text = f"Lines: the {count(size)} largest eigenvalues" if more else "Line: λ1"
    lowest = np.isfinite(result.lowest).any() and not together
    text += ", and the lowest." if lowest else "."
    loose = int((~result.converged).sum()) if result.converged.size else 0
    edge = ""
    if np.isfinite(result.edge).any():
        of = f" {result.edge_label}" if result.edge_label else ""
        reason = fact(result.facts, "edge_holds")
        edge = f"Dashed: edge of stability{of}{', ' + reason if reason else ''}."
    elif result.edge_label:
        edge = f"No edge of stability is drawn: {result.edge_label}."
    hollow = f"Hollow: {count(loose)} checkpoint{'s' if loose > 1 else ''} above the tolerance."
    return _sentences(text, hollow if loose else "", edge)


def _trace(result: Curvature) -> str:
    if not np.isfinite(result.trace).any():
        return ""
    probes = result.facts.get("probes")
    over = f" over {count(probes)} probes" if isinstance(probes, int) else " over probes"
    return f"Trace: ± standard error{over}." if result.trace_error.size else ""


def _alignment(result: Curvature) -> str:
    if not result.alignment.size:
        return ""
    names = listed([spoken(name) for name in result.direction_names])
    return f"Alignment: |cosine| of {names} to the first eigenvector; grey: 95 % of random ones."


def _rayleigh(result: Curvature) -> str:
    return "Rayleigh quotients of the same directions over λ1." if result.rayleigh.size else ""


def _multiplier(result: Curvature) -> str:
    if not np.isfinite(result.multiplier).any():
        return ""
    return (
        "Multiplier: leading |eigenvalue| of the Jacobian of the run's own update; 1 is the edge. "
        "Dotted: the one farthest from 1, of the largest curvature along the step, which alone "
        "tells of steps that swing."
    )


def _layers(result: Curvature) -> str:
    if not result.layer_trace.size:
        return ""
    return "Layers: trace of each layer's own block; dots: 0 within two standard errors."
