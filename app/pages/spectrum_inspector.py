"""The column beside a run's curvature: its numbers, what to mind, and how to read it."""

from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures.estimate_words import plus_minus
from landscape.figures.numbers import NONE, count, number, percent
from landscape.figures.screen_spectrum import unconverged
from landscape.figures.screen_stability import loose_multipliers, swing_of
from landscape.results import Curvature, Density, Result, Sharpness, Spectrum, Stability, Trace
from landscape.runs import StoredResult

from .. import panes
from ..inspector import described, run_section, troubles
from ..summaries import NAMES
from .spectrum_panes import bulk_end, negative_mass

_SHOWN = {
    "spectrum": ("spectrum", "density", "trace"),
    "training": ("curvature",),
    "layers": ("trace", "curvature"),
    "sharpness": ("sharpness",),
    "stability": ("stability",),
}
"""Kinds that a part of the page is about; the first that is there is described."""


def inspector(page: Any) -> list[Component]:
    """Summary, notices, how to read it, facts, caption, downloads."""
    parts = troubles(page.store, page.run)
    kinds = [kind for kind in _SHOWN[page.state.view] if _loaded(page, kind) is not None]
    if not kinds:
        return [*parts, run_section(page.run)]
    kind, stored = kinds[0], page.stored(kinds[0])
    result = _loaded(page, kind)
    told = [text for kind in kinds for text in notices(_loaded(page, kind))]
    minded = [html.Section([panes.notice(text) for text in told])] if told else []
    return [
        panes.section("Summary", *_summary(page, kind, result)),
        *parts,
        *minded,
        panes.section(
            "Reading it", *[html.P(text, className="reading") for text in _reading(page)]
        ),
        *described(page.store, page.run, stored, _command(page, kind, stored)),
    ]


def _loaded(page: Any, kind: str) -> Any:
    return page.curvature() if kind == "curvature" else page.found(kind)


def _command(page: Any, kind: str, stored: StoredResult) -> str:
    if kind == "curvature":
        return page.measured.command(kind)
    return page.measured.command(kind, f"--checkpoint {stored.facts.get('checkpoint', 'last')}")


def _summary(page: Any, kind: str, result: Any) -> list[Component]:
    if isinstance(result, Sharpness):
        return _sharpness_summary(result)
    if isinstance(result, Stability):
        return _stability_summary(result)
    if isinstance(result, Curvature):
        return _training_summary(result)
    if isinstance(result, Trace) and page.state.view == "layers":
        return [panes.facts(_trace_rows(result, None))]
    return _spectrum_summary(page.found("spectrum"), page.found("density"), page.found("trace"))


def _spectrum_summary(
    spectrum: Spectrum | None, density: Density | None, trace: Trace | None
) -> list[Component]:
    numbers: list[tuple[str, str]] = []
    rows: list[tuple[str, str]] = []
    if spectrum is not None and len(spectrum.eigenvalues):
        values = spectrum.eigenvalues
        numbers.append((number(float(values.max())), "λ max"))
        if spectrum.which in ("SA", "BE"):
            numbers.append((number(float(values.min())), "λ min"))
        elif values.min() < 0:
            numbers.append((number(float(values.min())), "lowest found"))
        rows += _bounds(spectrum)
        positive = np.sort(values)[::-1]
        if len(positive) >= 5 and positive[4] > 0:
            rows.append(("λ₁ / λ₅", number(float(positive[0] / positive[4]))))
    rows += _trace_rows(trace, density)
    if density is not None:
        if density.outliers.size:
            end = number(bulk_end(density))
            rows.append(("Outliers", f"{count(len(density.outliers))} found, the rest to {end}"))
        rows.append(("Negative mass", f"{percent(negative_mass(density))} below −σ"))
    return [*([panes.large(*numbers)] if numbers else []), panes.facts(rows)]


def _bounds(spectrum: Spectrum) -> list[tuple[str, str]]:
    """λ max between its certain lower and its probable upper bound."""
    low, high = spectrum.lambda_max_low, spectrum.lambda_max_high
    if not (np.isfinite(low) and np.isfinite(high)):
        return []
    sure = spectrum.facts.get("confidence")
    told = f", {percent(float(sure), 0)} sure" if isinstance(sure, int | float) else ""
    digits = next((n for n in range(4, 9) if number(low, n) != number(high, n)), 4)
    return [("λ max within", f"{number(low, digits)} to {number(high, digits)}{told}")]


def _trace_rows(trace: Trace | None, density: Density | None) -> list[tuple[str, str]]:
    if trace is not None:
        rows = [("Trace", plus_minus(trace.trace, trace.standard_error))]
        if np.isfinite(trace.frobenius):
            rows.append(("Frobenius", plus_minus(trace.frobenius, trace.frobenius_error)))
        if np.isfinite(trace.effective_rank):
            told = plus_minus(trace.effective_rank, trace.effective_rank_error)
            rows.append(("Effective rank", told))
        return rows
    known: Any = density.facts.get("trace") if density is not None else None
    if known is None or density is None:
        return []
    error = density.facts.get("trace_error")
    return [("Trace", plus_minus(float(known), float(error) if error else float("nan")))]


def _training_summary(curvature: Curvature) -> list[Component]:
    known = np.flatnonzero(np.isfinite(curvature.eigenvalues[:, :1]).any(axis=1))
    rows = [("Checkpoints", count(len(curvature.step)))]
    if not known.size:
        return [panes.facts(rows)]
    last = int(known[-1])
    numbers = [(number(float(curvature.eigenvalues[last, 0])), "λ max, last")]
    if curvature.lowest.size:
        numbers.append((number(float(curvature.lowest[last])), "λ min, last"))
    top = int(known[np.argmax(curvature.eigenvalues[known, 0])])
    highest = number(float(curvature.eigenvalues[top, 0]))
    rows.append(("Highest λ max", f"{highest} at step {count(curvature.step[top])}"))
    edge = curvature.edge[last] if curvature.edge.size else np.nan
    if np.isfinite(edge):
        rows.append(("Edge, last", number(float(edge))))
    known_edge = np.isfinite(curvature.edge).any()
    rows.append(("Edge is" if known_edge else "No edge", curvature.edge_label or NONE))
    if curvature.multiplier.size:
        rows.append(("Multiplier, last", number(float(curvature.multiplier[last]), 4)))
    rows.append(
        (
            "Loss, mean p",
            f"{number(float(curvature.loss[last]))}, "
            f"{number(float(curvature.mean_probability[last]))}",
        )
    )
    return [panes.large(*numbers), panes.facts(rows)]


def _sharpness_summary(sharpness: Sharpness) -> list[Component]:
    numbers = [
        (number(sharpness.loss), "train loss"),
        (number(sharpness.mean_probability), "mean p of the true class"),
    ]
    rows = [("Measures", count(len(sharpness.names)))]
    if sharpness.audit.size:
        moved = moved_by_audit(sharpness)
        told = f"{count(int(moved.sum()))} of {count(len(moved))} measures"
        rows.append(("Moved by the audit", told))
    return [panes.large(*numbers), panes.facts(rows)]


def moved_by_audit(sharpness: Sharpness) -> np.ndarray:
    """Which measures a change that leaves the function moves by over 1 % [measure]."""
    return (np.abs(np.nan_to_num(sharpness.audit, nan=1.0) - 1) > 0.01).any(axis=1)


def _stability_summary(stability: Stability) -> list[Component]:
    rows = [("Update", stability.update or NONE), ("Products", count(stability.products))]
    swing = swing_of(stability)
    if swing is not None:
        rows.insert(1, ("Swing |μ|", number(abs(swing), 4)))
    return [
        panes.large((number(stability.multiplier, 4), "leading |μ|; 1 is the edge")),
        panes.facts(rows),
    ]


def notices(result: Result) -> list[str]:
    """What is not as it was asked for: interrupted, or not converged."""
    told = []
    if result.facts.get("interrupted"):
        name = NAMES.get(result.kind, result.kind)
        told.append(f"The {name} was interrupted: what was known until then is shown.")
    if result.facts.get("caution"):
        told.append(f"Caution: {result.facts['caution']}.")
    if isinstance(result, Stability) and result.facts.get("left_out"):
        told.append(f"Not in the update map: {', '.join(map(str, result.facts['left_out']))}.")
    if isinstance(result, Spectrum) and not result.converged:
        loose = int(unconverged(result).sum())
        limit = number(result.tolerance * float(np.abs(result.eigenvalues).max(initial=0.0)), 2)
        told.append(
            f"Not converged: the residual of {loose} of {len(result.eigenvalues)} is above {limit}."
            if loose
            else "Not converged: further copies of a multiple eigenvalue may be missing."
        )
    if isinstance(result, Stability) and not result.converged:
        loose = int(loose_multipliers(result).sum())
        told.append(f"Not converged: {loose} of {len(result.residuals)} multipliers.")
    if isinstance(result, Curvature) and result.converged.size and not result.converged.all():
        steps = ", ".join(count(step) for step in result.step[~result.converged][:6])
        told.append(f"Not converged at {'step' if ',' not in steps else 'steps'} {steps}.")
    return told


def _reading(page: Any) -> list[str]:
    return [text for text in _READ[page.state.view](page) if text]


def _read_spectrum(page: Any) -> list[str]:
    density, spectrum = page.found("density"), page.found("spectrum")
    texts = []
    if density is not None and page.state.axis != "log":
        texts.append(
            "The band goes from the lowest to the highest probe. Stems are eigenvalues found one "
            "by one, exact to their residual; a bump without a stem is a node drawn with width σ, "
            "not a finding."
        )
    if density is not None and page.state.axis == "log":
        texts.append(
            "Nodes nearer to 0 than σ stand for clusters whose magnitudes are not known: they are "
            "not drawn here."
        )
    if spectrum is not None:
        texts.append(
            "A residual bounds the distance to the nearest eigenvalue with certainty. The lower "
            "bound of λ max is certain too; the upper one holds over random start vectors."
        )
    samples = (spectrum or density).facts.get("samples") if spectrum or density else None
    if isinstance(samples, int | float) and samples:
        texts.append(
            f"All of it is of {count(samples)} samples: λ max of a subset is on average above that "
            "of the whole data set."
        )
    return texts


def _read_training(page: Any) -> list[str]:
    curvature: Curvature | None = page.curvature()
    edge = curvature is not None and np.isfinite(curvature.edge).any()
    line = (
        "The edge is a statement about full-batch steps: for minibatches it is an upper guide."
        if edge
        else "No edge is drawn: no formula holds for this optimizer and these statistics. The "
        "stability multiplier takes its place where it was measured."
    )
    return [
        line,
        "Curvature of cross-entropy shrinks as the mean probability of the true class nears 1: a "
        "falling λ max need not be a flatter region.",
        "Hold a perturbation against the gradient: a random direction, the grey band, is no fair "
        "reference. SAM's ε of the whole data lies along the gradient, and so on its line.",
    ]


def _read_layers(page: Any) -> list[str]:
    del page
    return [
        "A layer's trace is that of its own block; the blocks sum to the trace of the whole. What "
        "couples layers is not in it.",
        "A layer with more parameters has a larger trace for the same curvature per parameter.",
    ]


def _read_sharpness(page: Any) -> list[str]:
    del page
    return [
        "No row is the sharpness, and rows do not compare: each has its own units. Worst cases are "
        "searched, so that they are lower bounds.",
        "The audit rescales weights so that the net computes the same function. A measure that it "
        "moves says something of the parametrization too.",
        "All of them fall as the mean probability of the true class nears 1: compare runs with it "
        "beside.",
    ]


def _read_stability(page: Any) -> list[str]:
    del page
    return [
        "Multipliers are eigenvalues of the Jacobian of the run's own update on (weights, "
        "momentum). Outside the circle a small deviation from the path grows with each step, "
        "inside it fades.",
        "Flat directions have multipliers of about 1, negative curvature has larger ones: what "
        "oscillates across a sharp valley is the multiplier farthest from 1, the swing.",
        "They are of the linearized update at one checkpoint: they tell of small deviations only.",
    ]


_READ = {
    "spectrum": _read_spectrum,
    "training": _read_training,
    "layers": _read_layers,
    "sharpness": _read_sharpness,
    "stability": _read_stability,
}
