"""Curvature of a run: spectrum, its way through training, layers, sharpness and stability."""

from collections.abc import Callable
from typing import Any

from dash import html
from dash.development.base_component import Component

from landscape.figures.numbers import count, number
from landscape.figures.scales import lr_drops
from landscape.runs import RunFileError, StoredResult

from .. import panes
from ..inspector import downloads, run_downloads
from ..measured import OPERATORS, SPECTRAL, Measured, variant_text
from ..panes import Card, View
from ..store import AnyRun, MissingError, Store
from ..view_state import WIDTHS, ViewState, encode
from . import sharpness_panes, spectrum_inspector, spectrum_panes, training_panes

VIEWS = {
    "spectrum": "Spectrum",
    "training": "Through training",
    "layers": "Layers",
    "sharpness": "Sharpness",
    "stability": "Stability",
}
_AXES = {"auto": "auto", "linear": "linear", "symlog": "signed log", "log": "log |λ|"}


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of a run's curvature."""
    run = store.run(state.run)
    page = Page(state, store, theme, run)
    chips = [panes.run_chip(run)]
    if page.step is not None and state.view != "training":
        chips.append(panes.chip("checkpoint", html.B(count(page.step))))
    links = page.exports()
    return View(
        title="Spectrum",
        chips=chips,
        buttons=[panes.export_menu("Export", links)] if links else [],
        toolbar=_toolbar(page),
        cards=_CARDS[state.view](page),
        inspector=spectrum_inspector.inspector(page),
        shape=f"spectrum {run.id} {state.view}",
    )


class Page:
    """What the panes of the page share: the results shown, and how they are drawn."""

    def __init__(self, state: ViewState, store: Store, theme: str, run: AnyRun) -> None:
        self.state, self.store, self.theme, self.run = state, store, theme, run
        self.measured = Measured(
            store=store, run=run, operator=state.operator, variant=state.variant
        )
        self.kinds = {
            "sharpness": ("sharpness",),
            "stability": ("stability",),
            "layers": ("trace",),
            "training": (),
        }.get(state.view, SPECTRAL)
        steps = self.measured.steps(*self.kinds)
        self.step = state.step if state.step is not None else (steps or [None])[-1]
        self.color = f"var(--run-{run.color % 8})"
        recorded = panes.found(lambda: store.steps(run))
        self.drops = lr_drops(recorded["step"], recorded["lr"]) if recorded else []

    def load(self, kind: str) -> Any:
        """The result of a kind at the page's checkpoint; raises what says why there is none."""
        return self.measured.load(kind, self.step)

    def found(self, kind: str) -> Any:
        """The same, or None."""
        return panes.found(lambda: self.load(kind))

    def stored(self, kind: str) -> StoredResult | None:
        """What is known of the file of that result, or None."""
        if kind == "curvature":
            return panes.found(self.measured.through_training)
        return panes.found(lambda: self.measured.stored(kind, self.step))

    def curvature(self) -> Any:
        """Curvature through training, or None."""
        return panes.found(self.measured.curvature)

    def body(self, draw: Callable[[], panes.Body]) -> panes.Body:
        """What is drawn, or why there is nothing to draw."""

        def checked() -> panes.Body:
            try:
                return draw()
            except RunFileError:
                raise
            except ValueError as error:
                raise MissingError(panes.capital(str(error))) from None

        return panes.shown(checked, self.store)

    def exports(self) -> list[tuple[str, str]]:
        """Paper figures and data of what is shown."""
        links = []
        if self.state.view == "spectrum" and self.measured.results("spectrum"):
            links += run_downloads(self.run, ("eigenvalues", "Largest eigenvalue"))
        if self.state.view == "layers" and training_panes.layer_names(self):
            links += run_downloads(self.run, ("layers", "Layers"))
        for kind in _EXPORTED[self.state.view]:
            stored = self.stored(kind)
            if stored is not None:
                title = _TITLES[kind]
                links += [(f"{title}, {form}", at) for form, at in downloads(self.run, stored)]
        return links


_TITLES = {
    "density": "Density",
    "spectrum": "Eigenvalues",
    "trace": "Trace",
    "curvature": "Through training",
    "sharpness": "Sharpness",
    "stability": "Stability",
}
_EXPORTED = {
    "spectrum": SPECTRAL,
    "training": ("curvature",),
    "layers": ("curvature", "trace"),
    "sharpness": ("sharpness",),
    "stability": ("stability",),
}


def _spectrum_cards(page: Page) -> list[Card]:
    if page.state.operator != "hessian" and not page.measured.variants():
        return [Card(panes=[spectrum_panes.nothing(page)], height=300)]
    return [
        Card(panes=[spectrum_panes.density(page), spectrum_panes.table(page)], height=308),
        Card(panes=[training_panes.largest(page), training_panes.trace(page)], height=300),
        Card(panes=[spectrum_panes.scree(page), spectrum_panes.probes(page)], height=270),
    ]


def _training_cards(page: Page) -> list[Card]:
    return [
        Card(panes=[training_panes.edges(page), training_panes.lowest(page)], height=308),
        Card(
            panes=[
                training_panes.alignment(page),
                training_panes.share(page),
                training_panes.rayleigh(page),
            ],
            height=256,
            footer=training_panes.directions_footer(page),
        ),
        Card(
            panes=[
                training_panes.traces(page),
                training_panes.multiplier(page),
                training_panes.probability(page),
            ],
            height=256,
        ),
    ]


def _layer_cards(page: Page) -> list[Card]:
    names = training_panes.layer_names(page)
    height = max(240, 56 + 22 * len(names))
    drawn = training_panes.layers(page)
    return [
        Card(panes=[drawn], height=height, footer=training_panes.layers_footer(page, drawn.body)),
        Card(
            panes=[
                training_panes.layer_dots(page),
                training_panes.layer_dots(page, per_parameter=True),
            ],
            height=height,
        ),
    ]


def _sharpness_cards(page: Page) -> list[Card]:
    return [
        Card(panes=[sharpness_panes.table(page)]),
        Card(panes=[sharpness_panes.dots(page)], height=sharpness_panes.dots_height(page)),
    ]


def _stability_cards(page: Page) -> list[Card]:
    return [
        Card(
            panes=[sharpness_panes.multipliers(page), sharpness_panes.multiplier_table(page)],
            height=400,
        ),
        Card(panes=[training_panes.multiplier(page)], height=256),
    ]


_CARDS: dict[str, Callable[[Page], list[Card]]] = {
    "spectrum": _spectrum_cards,
    "training": _training_cards,
    "layers": _layer_cards,
    "sharpness": _sharpness_cards,
    "stability": _stability_cards,
}


def _toolbar(page: Page) -> list[Component]:
    state = page.state
    views = [
        (title, encode(state.to(view=name)), state.view == name) for name, title in VIEWS.items()
    ]
    parts: list[Component] = [panes.segmented("part of the page", views)]
    if state.view in ("spectrum", "layers"):
        operators = [
            (title, encode(state.to(operator=name, variant=None)), state.operator == name)
            for name, (title, _) in OPERATORS.items()
        ]
        parts += [panes.segmented("operator", operators), *_variants(page)]
    parts += _steps(page)
    if state.view == "spectrum" and page.stored("density") is not None:
        parts += _drawing(page)
    return parts


def _variants(page: Page) -> list[Component]:
    there = page.measured.variants()
    if len(there) < 2:
        return []
    links = [
        (variant_text(s), encode(page.state.to(variant=name or None))) for name, s in there.items()
    ]
    current = encode(page.state.to(variant=page.measured.chosen() or None))
    return [panes.choice("variant", "Of", links, current)]


def _steps(page: Page) -> list[Component]:
    steps = page.measured.steps(*page.kinds)
    if page.step is None or not steps:
        return []
    links = [
        (count(other), encode(page.state.to(step=other))) for other in sorted({*steps, page.step})
    ]
    return [panes.choice("step", "Checkpoint", links, encode(page.state.to(step=page.step)))]


def _drawing(page: Page) -> list[Component]:
    """How the density is drawn: nothing of it is measured again."""
    state, density = page.state, page.found("density")
    axes = [(title, encode(state.to(axis=name))) for name, title in _AXES.items()]
    parts = [panes.choice("axis", "Axis", axes, encode(state))]
    if density is not None:
        widths = [
            (
                f"× {factor:g}"
                if state.axis == "log"
                else f"σ {number(factor * density.sigma, 2)}",
                encode(state.to(width=factor)),
            )
            for factor in WIDTHS
        ]
        parts.append(panes.choice("width", "Width", widths, encode(state)))
    return parts
