"""Two or more runs side by side: same axes, one color range, the same numbers."""

from typing import Any
from urllib.parse import urlencode

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.numbers import number, percent
from landscape.figures.quantities import values_of
from landscape.results import Surface
from landscape.runs import RunFileError

from .. import panes
from ..inspector import data_address
from ..panes import Card, Pane, View, icon, key
from ..store import AnyRun, MissingError, Store, checkpoint_of
from ..summaries import own_perturbation, summarize
from ..view_state import ViewState, encode
from . import between, compare_curvature
from .consistency import perturbation_of, protocol_of
from .runs import default_selection

_IN_A_ROW, _MOST = 3, 6
_STORED = {"eigenvalues": "spectrum"}
_TOLD = {
    "random": "same-seed random directions",
    "trajectory": "each run's own path (PCA 1–2)",
    "hessian": "each run's own top eigenvectors",
}


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page that compares runs."""
    everyone = store.runs()
    ids = default_selection(everyone) if state.select is None else state.select
    runs = [run for run in everyone if run.id in ids][:_MOST]
    state = state.to(select=tuple(run.id for run in runs))
    page = _Page(state, store, theme, runs)
    links = page.exports() if runs else []
    return View(
        title="Compare",
        chips=[_chip(run, state) for run in runs],
        buttons=[panes.export_menu("Export", links)] if links else [],
        toolbar=page.toolbar(everyone),
        cards=page.cards(),
        shape=f"compare {' '.join(run.id for run in runs)}",
    )


def _chip(run: AnyRun, state: ViewState) -> Component:
    left = tuple(other for other in state.select or () if other != run.id)
    remove = panes.link(
        icon("close"),
        encode(state.to(select=left)),
        className="icon-button",
        title=f"leave out {run.name}",
    )
    return panes.chip(panes.swatch(run.color), html.Span(run.name, className="name"), remove)


class _Page:
    """The panes of a comparison."""

    def __init__(self, state: ViewState, store: Store, theme: str, runs: list[AnyRun]) -> None:
        self.state, self.store, self.theme, self.runs = state, store, theme, runs
        self.stored = {
            run.id: panes.found(lambda run=run: store.on_plane(run, state.plane)) for run in runs
        }
        loaded = {
            name: panes.found(lambda s=stored: store.load(s)) if stored else None
            for name, stored in self.stored.items()
        }
        self.surfaces: dict[str, Surface] = {k: s for k, s in loaded.items() if s is not None}

    def exports(self) -> list[tuple[str, str]]:
        """The comparison as paper figures, and the data of each surface."""
        chosen = ",".join(run.id for run in self.runs)
        links = [
            (f"{title}, PDF", f"/figure/compare/{kind}.pdf?select={chosen}")
            for kind, title in (
                ("steps", "Loss"),
                ("profile", "Profile"),
                ("eigenvalues", "Eigenvalues"),
                ("density", "Densities"),
                ("curvature", "Curvature through training"),
                ("sharpness", "Sharpness"),
                ("consistency", "Consistency"),
            )
            if kind == "steps"
            or all(self.store.results(r, _STORED.get(kind, kind)) for r in self.runs)
        ]
        if len(self.surfaces) == len(self.runs):
            query = {"select": chosen, "plane": self.state.plane}
            query |= {"quantity": self.state.quantity, "scale": self.state.scale}
            links.insert(0, ("Surfaces, PDF", "/figure/compare/surface.pdf?" + urlencode(query)))
        shown = [(run, self.stored[run.id]) for run in self.runs]
        links += between.exports(self.state, self.store)
        links += [(f"{run.name}: surface, CSV", data_address(run, s)) for run, s in shown if s]
        return links

    def _all_have(self, kind: str) -> bool:
        return all(self.store.results(run, kind) for run in self.runs)

    def toolbar(self, everyone: list[AnyRun]) -> list[Component]:
        """Plane, value and scale, and what else can be added."""
        if not self.runs:
            return [self._add(everyone)]
        fields = [
            self._choice("plane", "Plane", tuple(_TOLD.items())),
            self._choice("quantity", "Quantity", self._quantities()),
            self._choice("scale", "Scale", (("log", "log"), ("linear", "linear"))),
        ]
        missing = [run for run in everyone if run not in self.runs]
        fields += between.choices(self.state, self.store)
        return [*fields, self._add(missing)] if missing and len(self.runs) < _MOST else fields

    def _choice(self, name: str, label: str, options: Any) -> Component:
        links = [(text, encode(self.state.to(**{name: option}))) for option, text in options]
        return panes.choice(name, label, links, encode(self.state))

    def _quantities(self) -> list[tuple[str, str]]:
        """What every surface shown was measured in."""
        of_all = [figures.quantities_of(surface) for surface in self.surfaces.values()]
        first = of_all[0] if of_all else ("loss",)
        names = [name for name in first if all(name in other for other in of_all)]
        return [(name, panes.quantity_name(name)) for name in names]

    def _add(self, missing: list[AnyRun]) -> Component:
        chosen = self.state.select or ()
        links = [(run.name, encode(self.state.to(select=(*chosen, run.id)))) for run in missing]
        return panes.choice("add", "Add run", links, "")

    def _range(self) -> tuple[str, tuple[float, float]]:
        scale = None if self.state.scale == "log" else self.state.scale
        return figures.scale_and_limits([*self.surfaces.values()], self.state.quantity, scale)

    def cards(self) -> list[Card]:
        """Surfaces in rows of three, then curves and numbers."""
        if len(self.runs) < 1:
            body = panes.empty("No run is chosen.", "Choose runs on the list or with Add run.")
            return [
                Card(panes=[Pane(name="none", title="Nothing to compare", body=body)], height=240)
            ]
        maps = [self._map(run) for run in self.runs]
        rows = [maps[at : at + _IN_A_ROW] for at in range(0, len(maps), _IN_A_ROW)]
        cards = [Card(panes=row, height=320) for row in rows[:-1]]
        cards.append(Card(panes=rows[-1], height=320, footer=self._footer()))
        second = [self._losses(), self._profiles(), self._numbers()]
        return [
            *cards,
            Card(panes=second, height=256),
            *compare_curvature.cards(self.store, self.theme, self.runs),
            Card(panes=[self._consistency()], height=240),
            *between.cards(self.state, self.store, self.theme, self.runs),
        ]

    def _map(self, run: AnyRun) -> Pane:
        def draw() -> panes.Body:
            stored = self.store.on_plane(run, self.state.plane)
            scale, limits = self._range()
            return figures.plot_surface(
                self.store.load(stored),
                quantity=self.state.quantity,
                scale=scale,
                limits=limits,
                theme=self.theme,
                color=run.color,
            )

        stored = self.stored[run.id]
        return Pane(
            name=f"map {run.id}",
            title=run.name,
            swatch=run.color,
            note=f"checkpoint {checkpoint_of(stored)}" if stored else "",
            body=self._shown(draw),
            download=data_address(run, stored) if stored else "",
        )

    def _shown(self, draw: Any) -> panes.Body:
        def checked() -> panes.Body:
            try:
                return draw()
            except RunFileError:
                raise
            except ValueError as error:
                raise MissingError(str(error)) from None

        return panes.shown(checked, self.store)

    def _footer(self) -> list[Component]:
        drawn = next((s for s in self.surfaces.values()), None)
        if drawn is None:
            return []
        try:
            scale, limits = self._range()
        except ValueError:
            return []
        arrays = [values_of(surface, self.state.quantity) for surface in self.surfaces.values()]
        clipped = any((a[np.isfinite(a)] > limits[1] * (1 + 1e-9)).any() for a in arrays)
        name = panes.capital(panes.quantity_name(self.state.quantity))
        bar = panes.color_bar(name, figures.color_bar(limits, scale, clipped=clipped))
        said = figures.color_bar_text(limits, scale, clipped=clipped)
        return [
            bar,
            html.Span(f"one range for all: {said}"),
            html.Span(className="stretch"),
            html.Span(self._planes_told(), className="linked"),
        ]

    def _planes_told(self) -> str:
        if self.state.plane != "random":
            return "planes differ: each run's own, so distances don't compare"
        keys = ("seed", "normalization", "points", "extent")
        same = [
            {name: s.options.get(name) for name in keys}
            for s in self.stored.values()
            if s is not None
        ]
        if any(options != same[0] for options in same):
            return "planes differ: seed, normalization or grid are not the same"
        return "same seed, normalization and grid; filters scaled to each run's weights"

    def _losses(self) -> Pane:
        def draw() -> panes.Body:
            recorded = [(run.name, run.color, self.store.steps(run)) for run in self.runs]
            recorded = [item for item in recorded if len(item[2]["loss"])]
            if not recorded:
                raise MissingError("Nothing was recorded.")
            return figures.plot_steps(recorded, column="loss", theme=self.theme)

        return Pane(name="losses", title="Loss", note="train, log", body=self._shown(draw))

    def _profiles(self) -> Pane:
        def draw() -> panes.Body:
            items = [
                (run.name, run.color, self.store.load(self.store.at(run, "profile", None)))
                for run in self.runs
                if self.store.results(run, "profile")
            ]
            if not items:
                command = self.store.command("profile", self.runs[0])
                raise MissingError("No profile measured yet.", command)
            return figures.plot_profile(items, theme=self.theme)

        return Pane(
            name="profiles",
            title="Profile",
            note="rise L − L(center): median, lowest to highest",
            body=self._shown(draw),
        )

    def _consistency(self) -> Pane:
        def draw() -> panes.Body:
            items = []
            for run in self.runs:
                own = own_perturbation(run)
                kept = [
                    self.store.load(s)
                    for s in self.store.results(run, "consistency")
                    if own
                    and protocol_of(s) == "frozen"
                    and perturbation_of(s).upper().startswith(own)
                ]
                if kept:
                    items.append((run.name, run.color, kept))
            if not items:
                command = self.store.command("consistency", self.runs[0], "--checkpoint all")
                raise MissingError("No run has a consistency of its own perturbation.", command)
            return figures.plot_consistency(items, theme=self.theme)

        return Pane(
            name="agreement",
            title="Direction consistency",
            note="each run's own perturbation, frozen weights; SGD has none",
            keys=[key("95 % of random sign flips", "var(--null)", "band")],
            body=self._shown(draw),
        )

    def _numbers(self) -> Pane:
        all_of = [summarize(run, self.store) for run in self.runs]

        def row(name: str, pick: Any) -> tuple:
            return (name, *(pick(summary) for summary in all_of))

        rows = [
            row("test accuracy", lambda s: percent(s.test_accuracy)),
            row("test loss", lambda s: number(s.test_loss)),
            row("train loss, last 20 steps", lambda s: number(s.train_loss)),
            row("λ max", lambda s: number(s.eigenvalue)),
            row("cosine c̄", lambda s: number(s.cosine, 2)),
            row(
                "its null",
                lambda s: (
                    " to ".join(number(end, 2) for end in s.null) if s.null[0] == s.null[0] else "–"
                ),
            ),
        ]
        heads = ["", *[html.Span([panes.swatch(run.color), run.name]) for run in self.runs]]
        return Pane(
            name="numbers",
            title="Numbers",
            note="1 seed each, no ±",
            body=panes.table(heads, rows, label="numbers of the runs"),
        )
