"""The frame of every page, and the one callback that fills it from the address.

A page is built once; after that only slots and figures that differ are sent, and 3D figures are
patched, because plotly forgets camera and zoom when a figure is replaced.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import dash
import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import ALL, ClientsideFunction, Input, Output, Patch, State, ctx, dcc, html, no_update
from plotly.io.json import to_json_plotly

from landscape.runs import RunFileError

from . import panes
from .folders import ResultFolder
from .navigation import folder_label, navigation
from .panes import Card, Pane, View, icon
from .scrubber import scrubber
from .store import MissingError, Store
from .view_state import RUN_PAGES, VIEWS, ViewState, decode, encode, showing

Page = Callable[[ViewState, Store, str], View]


def layout() -> dmc.MantineProvider:
    """Header, navigation, page and inspector, all still empty."""
    shell = dmc.AppShell(
        [
            dmc.AppShellHeader(_header()),
            dmc.AppShellNavbar(html.Nav(id="nav", **{"aria-label": "pages"})),
            dmc.AppShellMain(
                [html.Div(id="scrubber"), html.Main(id="page", className="page", tabIndex=-1)]
            ),
            dmc.AppShellAside(html.Aside(id="inspector", **{"aria-label": "inspector"})),
        ],
        id="shell",
        header={"height": 48},
        navbar={"width": {"base": 56, "md": 200}, "breakpoint": 1},
        aside={"width": 300, "breakpoint": "lg", "collapsed": {"desktop": True, "mobile": True}},
        padding=0,
        transitionDuration=0,
    )
    return dmc.MantineProvider(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="theme"),
            dcc.Store(id="mounted"),
            shell,
        ],
        id="mantine",
        defaultColorScheme="auto",
        theme={"breakpoints": {"sm": "47.5em", "md": "62.5em", "lg": "80em"}},
    )


def _header() -> html.Div:
    return html.Div(
        [
            panes.link([icon("mark"), html.Strong("Landscape")], "/", className="wordmark"),
            html.Div(id="folder", className="folder"),
            html.Span(className="stretch"),
            _tool("link", "copy link", **{"data-action": "copy-link"}),
            _tool("theme", "light or dark", id="theme-button"),
            _tool("panel", "inspector", id="drawer-button"),
        ],
        className="header",
    )


def _tool(symbol: str, label: str, **more: Any) -> html.Button:
    attributes = {"title": label, "aria-label": label, "type": "button", **more}
    return html.Button(icon(symbol), className="icon-button", **attributes)


def view_of(state: ViewState, store: Store, theme: str, pages: Mapping[str, Page]) -> View:
    """The view of a state; what can't be shown gives a page that says why."""
    try:
        if state.page not in pages:
            raise MissingError("There is no such page.")
        return pages[state.page](state, store, theme)
    except (MissingError, RunFileError, OSError) as error:
        pane = Pane(
            name="trouble",
            title="This view can't be shown",
            body=html.Div(
                [
                    html.P(store.told(error), className="why"),
                    panes.link("Back to the runs", "/runs", className="button"),
                ],
                className="empty",
            ),
        )
        title = "Not found" if isinstance(error, MissingError) else "Can't be read"
        return View(title=title, cards=[Card(panes=[pane], height=240)], shape="trouble")


def build(view: View) -> list[Any]:
    """The components of a whole page."""
    filled = _slots(view)
    cards = [
        html.Section(_card(card, place), id={"slot": f"card {place}"}, className="card")
        for place, card in enumerate(view.cards)
    ]
    return [
        html.Div(filled["head"], id={"slot": "head"}, className="page-head"),
        html.Div(filled["toolbar"], id={"slot": "toolbar"}, className="toolbar"),
        *cards,
    ]


def _card(card: Card, place: int) -> list[Any]:
    row = html.Div([_pane(pane, card) for pane in card.panes], className="panes")
    if not card.footer:
        return [row]
    return [row, html.Div(card.footer, id={"slot": f"footer {place}"}, className="footer")]


def _pane(pane: Pane, card: Card) -> html.Div:
    size = {"flex": f"{pane.grow} 1 0"} if not isinstance(pane.grow, str) else {"width": pane.grow}
    if card.height:
        size["--height"] = f"{card.height}px"
    name = {"slot": f"head {pane.name}"}
    head = [] if pane.bare else [html.Div(panes.pane_head(pane), id=name, className="pane-head")]
    return html.Div(
        [*head, panes.graph(pane)],
        className="pane" if not isinstance(pane.grow, str) else "pane fixed",
        style=size,
        **{"data-pane": pane.name},
    )


def _slots(view: View) -> dict[str, Any]:
    head = [
        html.H1(view.title),
        *view.chips,
        html.Span(className="stretch"),
        *view.buttons,
    ]
    filled: dict[str, Any] = {"head": head, "toolbar": list(view.toolbar), **view.extra}
    for place, card in enumerate(view.cards):
        filled[f"footer {place}"] = list(card.footer)
    for pane in view.panes:
        filled[f"head {pane.name}"] = panes.pane_head(pane)
        if not isinstance(pane.body, go.Figure):
            filled[f"body {pane.name}"] = pane.body
    return filled


def _shapes(view: View) -> list[Any]:
    return [
        [
            card.height,
            bool(card.footer),
            [[pane.name, isinstance(pane.body, go.Figure), pane.grow] for pane in card.panes],
        ]
        for card in view.cards
    ]


def _digest(content: Any) -> str:
    text = to_json_plotly(content, engine="json")
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def mount(view: View, before: Mapping[str, Any], rest: Mapping[str, Any]) -> "Update":
    """What must change in the browser to show a view.

    Args:
        view: The view to show.
        before: What `mounted` said: shape and digests of what is there.
        rest: Content of the parts around the page, by id.
    """
    shapes = _shapes(view)
    content = {f"slot {name}": value for name, value in _slots(view).items()}
    content |= {f"figure {p.name}": p.body for p in view.panes if isinstance(p.body, go.Figure)}
    content |= {f"rest {name}": value for name, value in rest.items()}
    digests = {name: _digest(value) for name, value in content.items()}
    update = Update(
        mounted={
            "shape": view.shape,
            "cards": shapes,
            "digests": digests,
            "title": view.title,
            "inspector": view.inspector is not None,
        }
    )
    old = before.get("digests", {})
    changed = {name: value for name, value in content.items() if digests[name] != old.get(name)}
    update.rest = {n: changed[f"rest {n}"] for n in rest if f"rest {n}" in changed}
    if before.get("shape") != view.shape or len(before.get("cards", [])) != len(shapes):
        update.page = build(view)
        return update
    rebuilt = set()
    for place, card in enumerate(view.cards):
        if shapes[place] != before["cards"][place]:
            update.slots[f"card {place}"] = _card(card, place)
            rebuilt |= {f"footer {place}", *(f"body {pane.name}" for pane in card.panes)}
            rebuilt |= {f"head {pane.name}" for pane in card.panes}
            rebuilt |= {f"figure {pane.name}" for pane in card.panes}
    for name, value in changed.items():
        kind, _, short = name.partition(" ")
        if kind == "slot" and short not in rebuilt:
            update.slots[short] = value
        elif kind == "figure" and name not in rebuilt:
            scene = next(pane.scene for pane in view.panes if pane.name == short)
            update.figures[short] = patched(value) if scene else value
    return update


class Update:
    """What the browser has to change: the page whole, or some of its slots and figures."""

    def __init__(self, mounted: dict[str, Any]) -> None:
        self.mounted = mounted
        self.page: Any = no_update
        self.slots: dict[str, Any] = {}
        self.figures: dict[str, Any] = {}
        self.rest: dict[str, Any] = {}


def patched(figure: go.Figure) -> Patch:
    """A change to a 3D figure of everything but its camera, which stays where the user left it."""
    new = figure.to_plotly_json()
    patch = Patch()
    patch["data"] = new["data"]
    for name, value in new["layout"].items():
        if not name.startswith("scene"):
            patch["layout"][name] = value
            continue
        for part, content in value.items():
            if part != "camera":
                patch["layout"][name][part] = content
    return patch


def address(store: Store, pathname: str | None, search: str | None) -> ViewState:
    """The view an address stands for; the root of a single run is the run itself."""
    state = decode(pathname, search)
    runs = store.runs() if (pathname or "/") == "/" and store.is_run else []
    if not runs:
        return state
    if not isinstance(runs[0], ResultFolder):
        return ViewState(page="overview", run=runs[0].id)
    there = [showing(stored.kind, runs[0].id) for stored in store.results(runs[0])]
    known = [state for state in there if state.page in RUN_PAGES]
    first = ViewState(page="surface", run=runs[0].id)
    return min(known, key=lambda s: (RUN_PAGES.index(s.page), VIEWS.index(s.view)), default=first)


def register(app: dash.Dash, store: Store, pages: Mapping[str, Page]) -> None:
    """Connect the frame to the address bar and to the theme."""

    @app.callback(
        Output("page", "children"),
        Output({"slot": ALL}, "children"),
        Output({"figure": ALL}, "figure"),
        Output("inspector", "children"),
        Output("nav", "children"),
        Output("scrubber", "children"),
        Output("folder", "children"),
        Output("mounted", "data"),
        Input("url", "pathname"),
        Input("url", "search"),
        Input("theme", "data"),
        State("mounted", "data"),
    )
    def show(pathname: str, search: str, theme: str, mounted: dict | None) -> tuple:
        state = address(store, pathname, search)
        view = view_of(state, store, "dark" if theme == "dark" else "light", pages)
        rest = {
            "inspector": list(view.inspector or []),
            "nav": navigation(state, store),
            "scrubber": scrubber(state, store) if state.page in RUN_PAGES else [],
            "folder": folder_label(store),
        }
        update = mount(view, mounted or {}, rest)
        slots, figures = ctx.outputs_list[1], ctx.outputs_list[2]
        return (
            update.page,
            [update.slots.get(out["id"]["slot"], no_update) for out in slots],
            [update.figures.get(out["id"]["figure"], no_update) for out in figures],
            *(update.rest.get(name, no_update) for name in rest),
            update.mounted,
        )

    _register_clientside(app)


def _register_clientside(app: dash.Dash) -> None:
    def browser(name: str, *arguments: Any, **more: Any) -> None:
        app.clientside_callback(ClientsideFunction("landscape", name), *arguments, **more)

    browser(
        "theme",
        Output("theme", "data"),
        Output("mantine", "forceColorScheme"),
        Input("theme-button", "n_clicks"),
    )
    browser(
        "go",
        Output("url", "href"),
        Input({"choice": ALL, "at": ALL}, "value"),
        prevent_initial_call=True,
    )
    browser(
        "step",
        Output("url", "search", allow_duplicate=True),
        Input({"slider": ALL}, "value"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    browser("follow", Output({"slider": ALL}, "value"), Input("url", "search"))
    browser(
        "drawer",
        Output("shell", "aside"),
        Input("drawer-button", "n_clicks"),
        Input("mounted", "data"),
    )
    browser("title", Input("mounted", "data"))


__all__ = ["address", "build", "encode", "layout", "mount", "register", "view_of"]
