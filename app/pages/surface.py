"""The loss on a plane, from above and in 3D, with the path of training drawn on it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures import paths
from landscape.figures.numbers import count
from landscape.figures.scales import lr_drops
from landscape.results import Surface
from landscape.runs import RunFileError, StoredResult

from .. import panes
from ..folders import ResultFolder
from ..inspector import (
    data_address,
    downloads,
    figure_address,
)
from ..panes import Card, Pane, View, key
from ..scrubber import selected_step
from ..store import PLANES, AnyRun, MissingError, Store, checkpoint_of, plane_of
from ..view_state import ViewState, encode
from .surface_inspector import inspector


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of a run's surfaces, profile and trajectory."""
    run = store.run(state.run)
    stored = panes.found(lambda: chosen(state, run, store))
    page = _Page(state, store, theme, run, stored)
    surface = panes.found(page.surface)
    chips = [panes.run_chip(run)]
    if stored is not None and "checkpoint" in stored.facts:
        chips.append(panes.chip("center: checkpoint", html.B(count(checkpoint_of(stored)))))
    return View(
        title="Surface",
        chips=chips,
        buttons=[panes.export_menu("Export", page.exports(stored))] if stored else [],
        toolbar=_toolbar(state, store, run, stored, surface),
        cards=page.cards(),
        inspector=inspector(page, surface),
        shape=f"surface {run.id}",
    )


def chosen(state: ViewState, run: AnyRun, store: Store) -> StoredResult:
    """The surface of the address, else the newest on the plane of the path, else the newest.

    Raises:
        MissingError: If there is no such surface.
    """
    if state.surface is not None:
        return store.find(run, "surface", state.surface)
    there = store.results(run, "surface")
    if not there:
        raise MissingError("No surface measured yet.", store.command("surface", run, "--points 21"))
    on_path = [stored for stored in there if plane_of(stored) == "trajectory"]
    return (on_path or there)[-1]


def _state_keys(meta: dict[str, Any]) -> list[Component]:
    """Keys of the states that cells of a drawn surface are in, the plain one excepted."""
    states = (
        ("interpolated", "interpolated", "var(--text)", "dot"),
        ("diverged", "diverged", "var(--err)", "diverged"),
        ("blank", "no value", "var(--line)", "square"),
        ("missing", "not evaluated", "var(--zero)", "hatch"),
    )
    return [key(text, color, style) for name, text, color, style in states if meta[name]]


class _Page:
    """The panes of one surface."""

    def __init__(
        self,
        state: ViewState,
        store: Store,
        theme: str,
        run: AnyRun,
        stored: StoredResult | None,
    ) -> None:
        self.state, self.store, self.theme, self.run, self.stored = state, store, theme, run, stored
        self.selected = selected_step(state, run)
        steps = panes.found(lambda: store.steps(run))
        self.drops = lr_drops(steps["step"], steps["lr"]) if steps else []
        self.drawing = {"quantity": state.quantity, "scale": state.scale}

    def surface(self) -> Surface:
        """The surface shown; raises what says why there is none."""
        return self.store.load(self.stored or chosen(self.state, self.run, self.store))

    def trajectory(self) -> Any:
        """The newest trajectory; raises what says why there is none."""
        return self.store.load(self.store.at(self.run, "trajectory", None))

    def exports(self, stored: StoredResult) -> list[tuple[str, str]]:
        """Paper figures and data of what is shown."""
        links = [
            (f"Surface, {form}", href) for form, href in downloads(self.run, stored, **self.drawing)
        ]
        query = urlencode(self.drawing)
        links.append(("3D, PDF", f"/figure/{self.run.id}/surface3d/{stored.key}.pdf?{query}"))
        for kind in ("profile", "trajectory"):
            other = panes.found(lambda kind=kind: self.store.at(self.run, kind, None))
            if other is not None:
                links.append((f"{kind.capitalize()}, PDF", figure_address(self.run, other, "pdf")))
                links.append((f"{kind.capitalize()}, CSV", data_address(self.run, other)))
        return links

    def cards(self) -> list[Card]:
        """Maps, the path, profile and trajectory."""
        kinds = {"split": ("contour", "3d"), "contour": ("contour",), "scene": ("3d",)}
        kept = [self._map(kind) for kind in kinds[self.state.show]]
        maps = Card(panes=kept, height=400, footer=self._footer(kept[0].body))
        along = Card(panes=[self._path_loss(), self._path_distance()], height=206)
        line = Card(panes=[self._profile(), self._explained()], height=230)
        path = Card(panes=[self._lengths(), self._angles(), self._distances()], height=206)
        if not isinstance(self.run, ResultFolder):
            return [maps, along, line, path]
        kinds = {stored.kind for stored in self.store.results(self.run)}
        surface = panes.found(self.surface)
        shown = [
            (along, surface is not None and len(surface.path_step)),
            (line, kinds & {"profile", "trajectory"}),
            (path, "trajectory" in kinds),
        ]
        return [maps, *(card for card, wanted in shown if wanted)]

    def _map(self, kind: str) -> Pane:
        def draw() -> panes.Body:
            try:
                return figures.plot_surface(
                    self.surface(),
                    view=kind,
                    quantity=self.state.quantity,
                    scale=self._scale(),
                    theme=self.theme,
                    color=self._colors(),
                    drops=self.drops,
                    selected=self.selected,
                )
            except RunFileError:
                raise
            except ValueError as error:
                raise MissingError(str(error)) from None

        body = panes.shown(draw, self.store)
        meta = getattr(getattr(body, "layout", None), "meta", None) or {}
        value = panes.quantity_name(self.state.quantity)
        is_scene = kind == "3d"
        note = (
            f"height and color: {value}, {meta.get('scale', '')}"
            if is_scene
            else meta.get("header")
        )
        return Pane(
            name="scene" if is_scene else "contour",
            title="Surface" if is_scene else "Contour",
            note=(note or "") if meta else "",
            body=body,
            scene=is_scene,
            download=data_address(self.run, self.stored) if self.stored and not is_scene else "",
        )

    def _scale(self) -> str | None:
        return None if self.state.scale == "log" else self.state.scale

    def _colors(self) -> int | list[int]:
        """The run's color, or one for each run of a joint plane."""
        labels = self.surface().path_labels
        return self.store.colors(labels) if labels else self.run.color

    def _footer(self, drawn: panes.Body) -> list[Component]:
        meta = getattr(getattr(drawn, "layout", None), "meta", None)
        if not meta:
            return []
        name = panes.capital(panes.quantity_name(self.state.quantity))
        parts: list[Component] = [panes.color_bar(name, [(at, text) for at, text in meta["bar"]])]
        return [*parts, *self._path_marks(), *_state_keys(meta)]

    def _path_marks(self) -> list[Component]:
        surface = self.surface()
        parts: list[Component] = []
        if len(surface.path_labels) > 1:
            colors = paths.colors_of(self._colors(), len(surface.path_labels))
            parts += [
                key(label, f"var(--path-{color % 8})", "disc")
                for label, color in zip(surface.path_labels, colors, strict=True)
            ]
        elif len(surface.path_step):
            color = f"var(--path-{self.run.color % 8})"
            parts += [key("start", color, "start"), key("end", color, "disc")]
            parts += [key("lr drop", "var(--text)", "drop")] if self.drops else []
            parts += [key("in the plane", color, "disc"), key("out of it", color, "ring")]
        if len(surface.mark_labels):
            parts.append(key("marked", "var(--text)", "ring"))
        return parts

    def _with_path(self) -> Surface:
        try:
            surface = self.surface()
        except MissingError:
            raise MissingError("Shown once a surface is measured.") from None
        if not len(surface.path_step):
            raise MissingError("This surface carries no checkpoints of a run.")
        return surface

    def _path_loss(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_path_loss(self._with_path(), **self._along())

        return self._pane(
            "path-loss",
            "Loss along the path",
            draw,
            self._path_keys("measured", "surface below it"),
        )

    def _path_distance(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_path_distance(self._with_path(), **self._along())

        keys = self._path_keys("out of the plane", "to the end, in the plane")
        return self._pane("path-distance", "Distance", draw, keys)

    def _along(self) -> dict[str, Any]:
        return {
            "drops": self.drops,
            "selected": self.selected,
            "theme": self.theme,
            "color": self._colors(),
        }

    def _path_keys(self, solid: str, dotted: str) -> list[Component]:
        return [
            key(solid, "var(--text)" if self._several() else f"var(--run-{self.run.color % 8})"),
            key(dotted, "var(--text)" if self._several() else "var(--muted)", "dotted"),
        ]

    def _several(self) -> bool:
        surface = panes.found(self.surface)
        return surface is not None and len(surface.path_labels) > 1

    def _profile(self) -> Pane:
        def draw() -> panes.Body:
            profile = self.store.load(self.store.at(self.run, "profile", None))
            return figures.plot_profile(profile, theme=self.theme, color=self.run.color)

        return self._pane("profile", "Profile", draw, note="median, lowest to highest")

    def _explained(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_explained(self.trajectory(), **self._plain())

        return self._pane("explained", "Explained variance", draw, note="outline: random walk")

    def _lengths(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_step_lengths(self.trajectory(), **self._plain())

        return self._pane("lengths", "Step length", draw, note="between checkpoints")

    def _angles(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_turning_angles(self.trajectory(), **self._plain())

        return self._pane("angles", "Turning angle", draw, note="dashed: random walk")

    def _distances(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_distances(self.trajectory(), **self._plain())

        return self._pane("distances", "Distance", draw, note="from the start, to the end")

    def _plain(self) -> dict[str, Any]:
        return {"theme": self.theme, "color": self.run.color}

    def _pane(
        self, name: str, title: str, draw: Any, keys: Sequence[Component] = (), note: str = ""
    ) -> Pane:
        body = panes.shown(draw, self.store)
        return Pane(name=name, title=title, body=body, keys=keys, note=note)


def _toolbar(
    state: ViewState,
    store: Store,
    run: AnyRun,
    stored: StoredResult | None,
    surface: Surface | None,
) -> list[Component]:
    if stored is None or surface is None:
        return []
    shows = (("split", "Split"), ("contour", "Contour"), ("scene", "3D"))
    others = store.results(run, "surface")
    steps = {checkpoint_of(other) for other in others}
    planes = [(_told(o, steps), encode(state.to(surface=o.key))) for o in reversed(others)]
    parts: list[Component] = [
        panes.segmented(
            "panes",
            [(text, encode(state.to(show=name)), name == state.show) for name, text in shows],
        ),
        panes.choice("plane", "Plane", planes, encode(state.to(surface=stored.key))),
    ]
    measured = figures.quantities_of(surface)
    if len(measured) > 1:
        values = [(name, panes.quantity_name(name)) for name in measured]
        parts.append(_choice(state, "quantity", "Quantity", values))
    known = figures.QUANTITIES.get(state.quantity)
    if known is not None and known.scale is None:  # the others are linear
        parts.append(_choice(state, "scale", "Scale", (("log", "log"), ("linear", "linear"))))
    return parts


def _choice(
    state: ViewState, name: str, label: str, options: Sequence[tuple[str, str]]
) -> Component:
    links = [(text, encode(state.to(**{name: option}))) for option, text in options]
    return panes.choice(name, label, links, encode(state))


def _told(stored: StoredResult, steps: set[int]) -> str:
    """What tells a stored surface from the others."""
    plane = plane_of(stored)
    points = stored.options.get("points")
    size = f", {points} points" if points else ""
    at = f", step {checkpoint_of(stored)}" if len(steps) > 1 else ""
    return f"{PLANES.get(plane, plane)}{size}{at}"
