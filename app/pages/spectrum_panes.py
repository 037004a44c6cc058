"""Panes of one checkpoint's spectrum: density, eigenvalues, scree, trace."""

from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.estimate_words import plus_minus
from landscape.figures.numbers import count, number
from landscape.figures.screen_spectrum import unconverged
from landscape.results import Curvature, Density, Spectrum
from landscape.runs import StoredResult

from .. import panes
from ..inspector import data_address
from ..measured import OPERATORS
from ..panes import Pane, key
from ..store import checkpoint_of


def download(page: Any, kind: str) -> str:
    """Where the data of a kind can be loaded down, or "" where there are none."""
    stored = page.stored(kind)
    return data_address(page.run, stored) if stored else ""


def density(page: Any) -> Pane:
    """Eigenvalues per unit λ, found ones as stems; an early checkpoint dotted."""
    context, state = _context(page), page.state
    over_log = state.axis == "log"

    def draw() -> panes.Body:
        shown = page.load("density")
        how = {"width": state.width, "theme": page.theme, "color": page.run.color}
        if over_log:
            return figures.plot_log_density(shown, **how)
        return figures.plot_density(
            shown,
            page.found("spectrum"),
            context=panes.found(lambda: page.store.load(context)) if context else None,
            axis=None if state.axis == "auto" else state.axis,
            **how,
        )

    body = page.body(draw)
    keys = [key("lowest to highest probe", page.color, "band")]
    if over_log:
        keys = [key("positive", page.color), key("negative", "var(--err)", "dashed"), *keys]
    elif context is not None:
        keys.append(key(f"step {count(checkpoint_of(context))}", "var(--muted)", "dotted"))
    return Pane(
        name="density",
        title="Density",
        note=_numbers(page),
        keys=keys if page.stored("density") else (),
        body=body,
        download=download(page, "density"),
    )


def _numbers(page: Any) -> str:
    """What a figure's legend would say: the trace and the largest eigenvalue."""
    spectrum, trace = page.found("spectrum"), page.found("trace")
    told = [f"trace {plus_minus(trace.trace, trace.standard_error)}"] if trace is not None else []
    if spectrum is not None and len(spectrum.eigenvalues):
        told.insert(0, f"λ max {number(float(spectrum.eigenvalues.max()))}")
    return ", ".join(told)


def _context(page: Any) -> StoredResult | None:
    """The first checkpoint's density, where another one is shown."""
    there = page.measured.results("density")
    first = min(there, key=checkpoint_of, default=None)
    if first is None or page.step is None or checkpoint_of(first) >= page.step:
        return None
    return first


def nothing(page: Any) -> Pane:
    """What to do where nothing of an operator was measured."""
    title, what = OPERATORS[page.state.operator]
    command = page.measured.command("spectrum")
    body = panes.empty(f"Not measured: the {what}.", "Measure its spectrum with", command)
    return Pane(name="nothing", title=title, body=body)


def table(page: Any) -> Pane:
    """The eigenvalues found, with their residuals and how far the run's direction lies along."""

    def draw() -> panes.Body:
        spectrum = page.load("spectrum")
        order = np.argsort(-np.abs(spectrum.eigenvalues), kind="stable")
        cosines, name = cosines_of(spectrum, page.curvature(), page.step, page.run.method)
        loose = unconverged(spectrum)
        rows = [
            (
                str(rank),
                number(spectrum.eigenvalues[at], 4),
                number(spectrum.residuals[at], 1) + ("*" if loose[at] else ""),
                number(cosines[at], 2),
            )
            for rank, at in enumerate(order, 1)
        ]
        head = html.Span("|cos ε|", title=f"ε: {name}" if name else _NO_COSINES)
        body = panes.table(("#", "λ", "residual", head), rows, label="eigenvalues")
        if not loose.any():
            return body
        limit = number(spectrum.tolerance * float(np.abs(spectrum.eigenvalues).max()), 2)
        note = html.P(f"* not converged: above {limit}", className="table-note")
        return html.Div([body, note], className="noted")

    spectrum = page.found("spectrum")
    return Pane(
        name="eigenvalues",
        title="Eigenvalues",
        note=_converged_text(spectrum) if spectrum is not None else "",
        body=page.body(draw),
        download=download(page, "spectrum"),
        grow="272px",
    )


_NO_COSINES = "measured by landscape curvature, at checkpoints where both are"


def _converged_text(spectrum: Spectrum) -> str:
    loose, total = int(unconverged(spectrum).sum()), len(spectrum.eigenvalues)
    return f"{total - loose} of {total} converged" if loose else f"{total} converged"


def cosines_of(
    spectrum: Spectrum, curvature: Curvature | None, step: int | None, method: str
) -> tuple[np.ndarray, str]:
    """|cosine| of the run's own direction to each eigenvector [k], and the direction's name.

    The eigenvectors are those that curvature through training found at the same checkpoint; they
    are taken for the same where the eigenvalues agree within both residuals and only there.
    """
    cosines = np.full(len(spectrum.eigenvalues), np.nan)
    if curvature is None or not curvature.alignment.size or step not in curvature.step:
        return cosines, ""
    row = int(np.flatnonzero(curvature.step == step)[0])
    name = own_direction(curvature.direction_names, method)
    values = curvature.alignment[row, curvature.direction_names.index(name)]
    away = np.abs(spectrum.eigenvalues[:, None] - curvature.eigenvalues[row])
    allowed = (
        spectrum.residuals[:, None]
        + curvature.residuals[row]
        + 1e-3 * np.abs(curvature.eigenvalues[row])
    )
    same = away <= allowed
    alone = same & (same.sum(axis=0) == 1) & (same.sum(axis=1) == 1)[:, None]
    at, other = np.nonzero(alone)
    cosines[at] = values[other]
    return cosines, name


def own_direction(names: tuple[str, ...], method: str) -> str:
    """The direction that a run's training used, as far as it was measured; else the first."""
    words = method.upper().split("+")
    return next(
        (n for word in reversed(words) for n in names if n.upper().split()[0] == word), names[0]
    )


def scree(page: Any) -> Pane:
    """Magnitudes by rank."""

    def draw() -> panes.Body:
        return figures.plot_spectrum(page.load("spectrum"), theme=page.theme, color=page.run.color)

    spectrum = page.found("spectrum")
    keys: list[Component] = []
    if spectrum is not None:
        keys = [key("positive", page.color, "disc")]
        if (spectrum.eigenvalues < 0).any():
            keys.append(key("negative", "var(--err)", "hollow"))
        if unconverged(spectrum).any():
            keys.append(key("not converged", "var(--text)", "cross"))
    return Pane(
        name="scree",
        title="Scree",
        note="bars: residuals",
        keys=keys,
        body=page.body(draw),
        download=download(page, "spectrum"),
    )


def probes(page: Any) -> Pane:
    """The estimates that the trace is the mean of."""

    def draw() -> panes.Body:
        return figures.plot_trace(page.load("trace"), theme=page.theme, color=page.run.color)

    shown = page.found("trace")
    keys = [key("mean so far", page.color), key("95 % of all", page.color, "band")]
    return Pane(
        name="probes",
        title="Trace, probe by probe",
        note={"hutch++": "Hutch++"}.get(shown.method, "") if shown is not None else "",
        keys=keys if shown is not None else (),
        body=page.body(draw),
        download=download(page, "trace"),
    )


def negative_mass(density: Density) -> float:
    """Share of all eigenvalues below −σ: the mean over probes, with the outliers found."""
    rest = density.size - len(density.outliers)
    if not density.size or not density.nodes.size:
        return float("nan")
    below = np.where(density.nodes < -density.sigma, density.weights, 0.0).sum(axis=1)
    return float((below.mean() * rest + (density.outliers < 0).sum()) / density.size)


def bulk_end(density: Density) -> float:
    """The largest node that is left once outliers are deflated."""
    finite = density.nodes[np.isfinite(density.nodes)]
    return float(finite.max()) if finite.size else float("nan")
