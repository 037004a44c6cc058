"""What was measured of several runs together: a claim, barriers, a curve, a plane they share."""

from collections.abc import Sequence
from typing import Any

from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures import paths
from landscape.figures.numbers import number
from landscape.runs import StoredResult

from .. import panes
from ..inspector import data_address, figure_address
from ..panes import Card, Pane, key
from ..store import PLANES, AnyRun, MissingError, Store, plane_of
from ..view_state import ViewState, encode

_KINDS = {"claim": "claim", "barrier": "barrier", "curve": "curve", "joint": "surface"}
"""Field of the address -> kind of result."""
_TITLES = {"claim": "Claim", "barrier": "Barrier", "curve": "Curve", "surface": "Joint surface"}


def cards(state: ViewState, store: Store, theme: str, runs: Sequence[AnyRun]) -> list[Card]:
    """Claim, barriers, curve and joint surface; nothing where there is but one run."""
    if len(store.runs()) < 2:
        return []
    page = _Between(state, store, theme, runs)
    first = [page.barrier(), page.surface()]
    second = [page.curve("along"), page.curve("error"), page.curve("plane")]
    has_curve = page.stored("curve") is not None
    return [
        *page.claim(),
        Card(panes=first, height=340, footer=page.footer(first[1].body)),
        Card(panes=second if has_curve else second[:1], height=256),
    ]


def exports(state: ViewState, store: Store) -> list[tuple[str, str]]:
    """Paper figures and data of what is shown."""
    joint = store.joint()
    links = []
    for name, kind in _KINDS.items():
        stored = _chosen(state, store, name)
        if joint is not None and stored is not None:
            links += [
                (f"{_TITLES[kind]}, PDF", figure_address(joint, stored, "pdf")),
                (f"{_TITLES[kind]}, CSV", data_address(joint, stored)),
            ]
    return links


def choices(state: ViewState, store: Store) -> list[Component]:
    """Controls for what there are several of."""
    joint = store.joint()
    parts: list[Component] = []
    for name, kind in _KINDS.items():
        found = store.results(joint, kind) if joint else []
        stored = _chosen(state, store, name)
        if len(found) > 1 and stored is not None:
            links = [(_told(s), encode(state.to(**{name: s.key}))) for s in reversed(found)]
            current = encode(state.to(**{name: stored.key}))
            parts.append(panes.choice(name, _TITLES[kind], links, current))
    return parts


def _chosen(state: ViewState, store: Store, name: str) -> StoredResult | None:
    """The result of the address, else the newest of its kind."""
    joint, key_ = store.joint(), getattr(state, name)
    found = store.results(joint, _KINDS[name]) if joint else []
    return next((s for s in found if s.key == key_), found[-1] if found else None)


def _told(stored: StoredResult) -> str:
    names = stored.facts.get("run_names") or stored.facts.get("weights") or []
    plane = PLANES.get(plane_of(stored), plane_of(stored)) if stored.kind == "surface" else ""
    return ", ".join([*([plane] if plane else []), *map(str, names)]) or stored.key


class _Between:
    """The panes of what several runs share."""

    def __init__(self, state: ViewState, store: Store, theme: str, runs: Sequence[AnyRun]) -> None:
        self.state, self.store, self.theme = state, store, theme
        self.runs = runs if len(runs) > 1 else store.runs()

    def stored(self, name: str) -> StoredResult | None:
        """What is shown, or None where nothing was measured."""
        return _chosen(self.state, self.store, name)

    def load(self, name: str) -> Any:
        """The result shown; raises what says how to measure it."""
        stored = self.stored(name)
        if stored is None:
            kind = _KINDS[name]
            command = self.store.joint_command(kind, self.runs)
            raise MissingError(f"No {_TITLES[kind].lower()} of these runs measured yet.", command)
        return self.store.load(stored)

    def pane(self, name: str, pane: str, title: str, draw: Any, **more: Any) -> Pane:
        """A pane of one of the three."""
        joint, stored = self.store.joint(), self.stored(name)
        address = data_address(joint, stored) if joint and stored else ""
        body = panes.shown(draw, self.store)
        return Pane(name=pane, title=title, body=body, download=address, **more)

    def claim(self) -> list[Card]:
        """The statements and their effects, a row of the figure for each; only if there are any."""
        if self.stored("claim") is None:
            return []

        def draw() -> panes.Body:
            return figures.plot_claim(self.load("claim"), theme=self.theme)

        result = panes.found(lambda: self.load("claim"))
        rows = len(result.row_names) if result is not None else 0
        keys = [key("filled: decided", "var(--run-0)", "disc")]
        pane = self.pane("claim", "claim", "Claim", draw, note="95 % over seeds", keys=keys)
        return [Card(panes=[pane], height=80 + 44 * rows)]

    def barrier(self) -> Pane:
        """The matrix of barriers, or the line between two minima."""

        def draw() -> panes.Body:
            return figures.plot_barrier(self.load("barrier"), theme=self.theme)

        result = panes.found(lambda: self.load("barrier"))
        note = ""
        if result is not None and len(result.height) > 2:
            note = "bold: over the ends' mean; under it: over the line"
        return self.pane("barrier", "barrier", "Barriers of the train loss", draw, note=note)

    def surface(self) -> Pane:
        """The plane that the runs share, with all their paths."""

        def draw() -> panes.Body:
            surface = self.load("joint")
            colors = self.store.colors(surface.path_labels)
            return figures.plot_surface(surface, theme=self.theme, color=colors)

        stored = self.stored("joint")
        note = PLANES.get(plane_of(stored), plane_of(stored)) if stored else ""
        return self.pane("joint", "joint", "Joint surface", draw, note=note, keys=self._open())

    def _open(self) -> list[Component]:
        joint, stored = self.store.joint(), self.stored("joint")
        if joint is None or stored is None:
            return []
        state = ViewState(page="surface", run=joint.id, surface=stored.key)
        return [panes.link("open its page", encode(state), className="open")]

    def footer(self, drawn: panes.Body) -> list[Component]:
        """The color bar of the joint surface, and whose paths are drawn."""
        meta = getattr(getattr(drawn, "layout", None), "meta", None)
        if not meta:
            return []
        labels = self.load("joint").path_labels
        colors = paths.colors_of(self.store.colors(labels), len(labels))
        bar = panes.color_bar("Joint surface, train loss", [(at, text) for at, text in meta["bar"]])
        keys = [
            key(label, f"var(--path-{color % 8})", "disc")
            for label, color in zip(labels, colors, strict=True)
        ]
        return [bar, *keys]

    def curve(self, view: str) -> Pane:
        """The trained curve: its loss, its error, or its place on its plane."""

        def draw() -> panes.Body:
            curve = self.load("curve")
            try:
                if view == "plane":
                    return figures.plot_curve(curve, view="plane", theme=self.theme)
                quantity = "error" if view == "error" else "loss"
                return figures.plot_curve(curve, quantity=quantity, theme=self.theme)
            except ValueError as error:
                raise MissingError(str(error)) from None

        result = panes.found(lambda: self.load("curve"))
        titles = {"along": "Loss along a curve", "error": "Error", "plane": "Plane of the curve"}
        note = ""
        if result is not None and view == "along":
            note = f"highest {number(float(result.loss.max()))}"
        if view == "plane":
            note = "diamonds: bends"
        return self.pane("curve", f"curve {view}", titles[view], draw, note=note)
