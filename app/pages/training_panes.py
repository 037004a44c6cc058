"""Panes of curvature through training: eigenvalues with edges, alignment, layers, traces."""

from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.facts import batch_norm
from landscape.figures.numbers import count
from landscape.results import Curvature

from .. import panes
from ..panes import Pane, key
from ..store import MissingError
from .spectrum_panes import download

_EDGE = "var(--warn)"
_GRADIENT = 3  # its run color is the first that is dashed


def largest(page: Any) -> Pane:
    """The largest eigenvalues through training, with the edge where it was measured.

    Spectra of single checkpoints are drawn where no curvature through training was measured, and
    of every operator but the Hessian, which alone is followed through training.
    """
    if _of_hessian(page) and page.curvature() is not None:
        return edges(page)

    def draw() -> panes.Body:
        history = page.measured.series("spectrum")
        if not history:
            command = page.measured.command("spectrum", "--checkpoint all")
            raise MissingError("No spectrum measured yet.", command)
        return figures.plot_eigenvalues(
            history,
            drops=page.drops,
            selected=page.step,
            theme=page.theme,
            color=page.run.color,
        )

    return Pane(
        name="largest",
        title="Largest eigenvalue",
        note="at checkpoints",
        keys=[key("λ max", page.color)],
        body=page.body(draw),
        download=download(page, "spectrum"),
    )


def _of_hessian(page: Any) -> bool:
    """Whether the page shows the operator that is followed through training."""
    return page.state.operator == "hessian" and not page.measured.chosen()


def edges(page: Any) -> Pane:
    """The largest eigenvalues and the optimizer's edge of stability."""
    curvature: Curvature | None = page.curvature()
    keys: list[Component] = []
    if curvature is not None:
        keys = [key("λ₁", page.color)]
        if np.isfinite(curvature.edge).any():
            keys.append(key("edge", _EDGE, "dashed"))
        if curvature.converged.size and not curvature.converged.all():
            keys.append(key("not converged", page.color, "hollow"))
        if curvature.facts.get("bn"):
            keys.append(html.Span(f"BN: {batch_norm(curvature.facts)}", className="key"))
    return _followed(page, "eigenvalues", "largest", "Largest eigenvalue", keys=keys, most=5)


def lowest(page: Any) -> Pane:
    """The smallest eigenvalue."""
    return _followed(page, "lowest", "lowest", "Smallest eigenvalue", note="bars: residuals")


def traces(page: Any) -> Pane:
    """The trace of the whole, as it was followed."""
    return _followed(page, "trace", "followed trace", "Trace", note="± 1 standard error")


def trace(page: Any) -> Pane:
    """The trace at every checkpoint measured, with 95 % intervals.

    Where a single checkpoint was measured on its own, the trace that was followed is shown.
    """
    curvature = page.curvature()
    followed = curvature is not None and np.isfinite(curvature.trace).any()
    if followed and _of_hessian(page) and len(page.measured.steps("trace")) < 2:
        return traces(page)

    def draw() -> panes.Body:
        history = page.measured.series("trace")
        if not history:
            page.load("trace")
        return figures.plot_traces(
            history,
            drops=page.drops,
            selected=page.step,
            theme=page.theme,
            color=page.run.color,
        )

    shown = page.found("trace")
    probes = f" of {count(len(shown.samples))} probes" if shown is not None else ""
    return Pane(
        name="trace",
        title="Trace",
        note=f"95 % interval{probes}" if shown is not None else "",
        body=page.body(draw),
        download=download(page, "trace"),
    )


def probability(page: Any) -> Pane:
    """What curvature of cross-entropy depends on beside the weights."""
    return _followed(page, "mean_probability", "probability", "Mean p, true class")


def multiplier(page: Any) -> Pane:
    """The stability multiplier of the run's own update map."""
    return _followed(
        page,
        "multiplier",
        "multiplier",
        "Stability multiplier",
        keys=[
            key("leading", page.color),
            key("swing, farthest from 1", page.color, "dotted"),
        ],
        options=("--stability",),
    )


def _followed(
    page: Any,
    quantity: str,
    name: str,
    title: str,
    *,
    note: str = "",
    keys: list[Component] | None = None,
    options: tuple[str, ...] = (),
    **how: Any,
) -> Pane:
    def draw() -> panes.Body:
        curvature = page.measured.curvature()
        if not np.isfinite(figures.FOLLOWED[quantity].values(curvature)).any():
            told = f"No {title[0].lower() + title[1:]} measured through training."
            raise MissingError(told, page.measured.command("curvature", *options))
        return figures.plot_curvature(
            curvature,
            quantity=quantity,
            drops=page.drops,
            selected=page.step,
            theme=page.theme,
            color=page.run.color,
            **how,
        )

    curvature = page.curvature()
    return Pane(
        name=name,
        title=title,
        note=note,
        keys=keys or () if curvature is not None else (),
        body=page.body(draw),
        download=download(page, "curvature"),
    )


def _told(draw: Any, command: str) -> panes.Body:
    """What is drawn; a quantity that was not measured is told with the command."""
    try:
        return draw()
    except ValueError as error:
        raise MissingError(panes.capital(str(error)), command) from None


def alignment(page: Any) -> Pane:
    """|cosine| of gradient and perturbations to the first eigenvector."""
    return _aligned(page, "cosine", "alignment", "Alignment")


def share(page: Any) -> Pane:
    """How much of each direction lies among the eigenvectors found."""
    return _aligned(page, "share", "share", "Inside the top space")


def rayleigh(page: Any) -> Pane:
    """Curvature along each direction."""
    return _aligned(page, "rayleigh", "rayleigh", "Curvature along them")


def _aligned(page: Any, quantity: str, name: str, title: str) -> Pane:
    def draw() -> panes.Body:
        curvature = page.measured.curvature()
        return _told(
            lambda: figures.plot_alignment(
                curvature,
                quantity=quantity,
                drops=page.drops,
                selected=page.step,
                theme=page.theme,
            ),
            page.measured.command("curvature"),
        )

    return Pane(
        name=name,
        title=title,
        body=page.body(draw),
        download=download(page, "curvature"),
    )


def directions_footer(page: Any) -> list[Component]:
    """The key of the panes of directions."""
    curvature = page.curvature()
    if curvature is None or not curvature.direction_names:
        return []
    keys = []
    names = curvature.direction_names
    for name, index in zip(names, figures.direction_colors(names), strict=True):
        style = "dashed" if index == _GRADIENT else "solid"
        keys.append(key(figures.spoken(name), f"var(--run-{index % 8})", style))
    return [
        *keys,
        key("95 % of random directions", "var(--null)", "band"),
        key("λ₁", "var(--muted)", "dotted"),
    ]


def layer_names(page: Any) -> tuple[str, ...]:
    """The layers that were measured."""
    curvature, trace = page.curvature(), page.found("trace")
    return max([r.layer_names for r in (curvature, trace) if r is not None] or [()], key=len)


def layers(page: Any) -> Pane:
    """Trace of each layer's block at every checkpoint."""

    def draw() -> panes.Body:
        curvature = page.measured.curvature()
        return _told(
            lambda: figures.plot_layers(curvature, selected=page.step, theme=page.theme),
            page.measured.command("curvature"),
        )

    curvature = page.curvature()
    note = f"Hessian, batch norm: {batch_norm(curvature.facts)}" if curvature is not None else ""
    return Pane(
        name="layers",
        title="Trace by layer, through training",
        note=note,
        body=page.body(draw),
        download=download(page, "curvature"),
    )


def layers_footer(page: Any, drawn: panes.Body) -> list[Component]:
    """The color bar of the layers' map."""
    meta = getattr(getattr(drawn, "layout", None), "meta", None)
    if not meta:
        return []
    bar = panes.color_bar("Trace", [(at, text) for at, text in meta["bar"]], "tide")
    return [bar, key("0 within two standard errors", "var(--muted)", "dot")]


def layer_dots(page: Any, *, per_parameter: bool = False) -> Pane:
    """Traces of the layers at the page's checkpoint."""

    def draw() -> panes.Body:
        trace = page.load("trace")
        return _told(
            lambda: figures.plot_layers(
                trace, per_parameter=per_parameter, theme=page.theme, color=page.run.color
            ),
            page.measured.command("trace", f"--checkpoint {page.step}"),
        )

    return Pane(
        name="layer means" if per_parameter else "layer traces",
        title="Trace per parameter" if per_parameter else "Trace by layer",
        note="± 1 standard error; hollow: within two of 0",
        body=page.body(draw),
        download=download(page, "trace"),
    )
