"""What pages are made of: a `View` holds cards, cards hold panes, a pane holds a figure or text.

A view is a plain value. The shell builds its components once and afterwards changes only what
differs, so that graphs keep their zoom, hover and camera.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from landscape.figures.quantities import QUANTITIES
from landscape.figures.template import graph_config
from landscape.runs import RunFileError

from .folders import ResultFolder
from .store import AnyRun, MissingError, Store

Body = go.Figure | Component


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One figure or table under a title."""

    name: str
    """Unique on its page; part of the id of its graph."""
    title: str
    body: Body
    swatch: int | None = None
    """Run color shown before the title."""
    note: str = ""
    """Subtitle: scale, protocol, what a band means."""
    keys: Sequence[Component] = ()
    """Line keys, see `key`."""
    scene: bool = False
    """Whether it is 3D: such a figure is patched, never replaced, so the camera stays."""
    download: str = ""
    """Address of its data as CSV, or "" where there is nothing to load down."""
    bare: bool = False
    """Whether the head is left out: the page's own title says it."""
    grow: float | str = 1
    """Share of the card's width, or a fixed width in CSS units."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Panes side by side, with one footer for the color bar and key of all of them."""

    panes: Sequence[Pane]
    height: int | None = None
    """Height of the panes' bodies in px; None fits the content."""
    footer: Sequence[Component] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """A page: what the shell needs to show it."""

    title: str
    cards: Sequence[Card]
    chips: Sequence[Component] = ()
    buttons: Sequence[Component] = ()
    toolbar: Sequence[Component] = ()
    inspector: Sequence[Component] | None = None
    """Sections at the right; None leaves the inspector out."""
    shape: str = ""
    """What the page is built for; a change of it builds the page anew."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Content of further slots by name, for pages with parts of their own."""

    @property
    def panes(self) -> list[Pane]:
        """All panes, card by card."""
        return [pane for card in self.cards for pane in card.panes]


def icon(name: str) -> html.Span:
    """A 16 px symbol of assets/icons.css."""
    return html.Span(className=f"icon icon-{name}", **{"aria-hidden": "true"})


def swatch(color: int) -> html.Span:
    """The square in a run's color."""
    return html.Span(className=f"swatch run-{color % 8}", **{"aria-hidden": "true"})


def link(content: Any, href: str, **attributes: Any) -> html.A:
    """A link inside the app: the address changes and the page stays (assets/actions.js)."""
    return html.A(content, href=href, **{"data-link": "", **attributes})


def chip(*content: Any) -> html.Span:
    """A pill that says what is shown."""
    return html.Span(content, className="chip")


def run_chip(run: AnyRun) -> html.Span:
    """Swatch, name and seed of a run; what is no run has no color."""
    seed = run.config.get("seed")
    more = [html.Span(f"seed {seed}", className="faint")] if seed is not None else []
    mark = [] if isinstance(run, ResultFolder) else [swatch(run.color)]
    return chip(*mark, html.Span(run.name, className="name"), *more)


def key(label: str, color: str, style: str = "solid") -> html.Span:
    """A line key: `color` is a CSS color, `style` one of `.key-*` in assets/panes.css."""
    mark = html.I(className=f"key-{style}", style={"color": color})
    return html.Span([mark, label], className="key")


def mark_key(label: str, mark: str) -> html.Span:
    """A key whose mark is a character."""
    return html.Span([html.Span(mark, **{"aria-hidden": "true"}), label], className="key")


def quantity_name(name: str) -> str:
    """What a quantity is called in a control and beside a color bar."""
    known = QUANTITIES.get(name)
    title = known.title if known else name
    return f"train {title}" if name in ("loss", "accuracy") else title


def capital(text: str) -> str:
    """The text with its first letter in upper case; formulas and Greek letters stay."""
    return text[0].upper() + text[1:] if text[:1].isascii() else text


def segmented(label: str, options: Sequence[tuple[str, str, bool]]) -> html.Div:
    """The control that changes the view: (label, address, chosen) each."""
    links = [
        link(
            text,
            href,
            className="segment chosen" if chosen else "segment",
            **({"aria-current": "true"} if chosen else {}),
        )
        for text, href, chosen in options
    ]
    return html.Div(links, className="segmented", role="group", **{"aria-label": label})


def choice(name: str, label: str, options: Sequence[tuple[str, str]], current: str) -> Component:
    """A field with its label inside; options are (label, address), `current` an address."""
    widest = max([len(text) for text, _ in options], default=0)
    inset = 18 + 6.4 * len(label)
    return dmc.Select(
        id={"choice": name, "at": current},
        data=[{"label": text, "value": href} for text, href in options],
        value=current,
        leftSection=html.Span(label, className="field-label"),
        leftSectionWidth=inset,
        leftSectionPointerEvents="none",
        rightSection=icon("chevron"),
        rightSectionPointerEvents="none",
        allowDeselect=False,
        checkIconPosition="right",
        maxDropdownHeight=320,
        w=min(inset + 6.6 * widest + 46, 310),
        classNames={"input": "field", "option": "option", "dropdown": "menu"},
        **{"aria-label": label},
    )


def section(title: str, *content: Any, copy: str = "") -> html.Section:
    """One part of the inspector; `copy` is text for its copy button."""
    head: list[Component] = [html.H2(title)]
    if copy:
        head.append(copy_button(copy, f"copy {title.lower()}"))
    return html.Section([html.Div(head, className="section-head"), *content])


def copy_button(text: str, label: str) -> html.Button:
    """A button that copies a text."""
    return html.Button(
        icon("copy"),
        className="icon-button",
        title=label,
        type="button",
        **{"data-copy": text, "aria-label": label},
    )


def facts(rows: Sequence[tuple[str, str]]) -> html.Dl:
    """Names and values."""
    cells = [(html.Dt(name), html.Dd(value)) for name, value in rows]
    return html.Dl([cell for pair in cells for cell in pair], className="facts")


def large(*numbers: tuple[str, str]) -> html.Div:
    """Large numbers as (value, what it is)."""
    return html.Div(
        [html.Div([html.Strong(value), html.Span(what)]) for value, what in numbers],
        className="large",
    )


def code(command: str) -> html.Div:
    """A command line with a copy button."""
    return html.Div(
        [html.Code(command), copy_button(command, "copy command")],
        className="code",
    )


def notice(text: str, level: str = "warn") -> html.Div:
    """One sentence on a soft ground; `level` is warn or err."""
    return html.Div(
        [icon("warning"), html.Span(text)],
        className=f"notice {level}",
        role="alert" if level == "err" else "note",
    )


def empty(reason: str, hint: str = "", command: str = "") -> html.Div:
    """Why a pane is empty and what fills it."""
    content: list[Component] = [html.P(reason, className="why")]
    if hint:
        content.append(html.P(hint))
    if command:
        content.append(code(command))
    return html.Div(content, className="empty")


def shown(draw: Callable[[], Body], store: Store) -> Body:
    """Draw, or say in the pane's place why there is nothing to draw."""
    try:
        return draw()
    except MissingError as missing:
        hint = "Measure it with" if missing.command else ""
        return empty(missing.reason, hint, missing.command)
    except (RunFileError, OSError) as error:
        return html.Div(notice(store.told(error), "err"), className="empty")


def found(look: Callable[[], Any]) -> Any:
    """What `look` finds, or None where it is missing or can't be read."""
    try:
        return look()
    except (MissingError, RunFileError, OSError):
        return None


def table(
    heads: Sequence[Any], rows: Sequence[Sequence[Any]], *, label: str, words: int = 1
) -> html.Div:
    """A table whose first `words` columns are words and the others numbers."""
    kinds = ["word" if place < words else "number" for place in range(len(heads))]
    head = html.Tr(
        [html.Th(text, className=k, scope="col") for text, k in zip(heads, kinds, strict=True)]
    )
    body = [
        html.Tr([html.Td(x, className=k) for x, k in zip(row, kinds, strict=True)]) for row in rows
    ]
    return html.Div(
        html.Table([html.Thead(head), html.Tbody(body)], **{"aria-label": label}),
        className="table",
    )


def export_menu(title: str, links: Sequence[tuple[str, str]]) -> html.Details:
    """The primary button: downloads as (label, address)."""
    return html.Details(
        [
            html.Summary([icon("download"), title], className="button primary"),
            html.Div([html.A(text, href=href, download="") for text, href in links]),
        ],
        className="drop",
    )


def graph(pane: Pane) -> Component:
    """The component of a pane's body."""
    if not isinstance(pane.body, go.Figure):
        return html.Div(pane.body, id={"slot": f"body {pane.name}"}, className="pane-body")
    return html.Div(
        dcc.Graph(
            id={"figure": pane.name},
            figure=pane.body,
            config=graph_config(),
            responsive=True,
            className="graph",
        ),
        className="pane-body",
        role="figure",
        **{"aria-label": f"{pane.title}: {pane.note}".strip(": ")},
    )


def pane_head(pane: Pane) -> list[Component]:
    """Title, subtitle, keys and buttons of a pane."""
    mark = [swatch(pane.swatch)] if pane.swatch is not None else []
    content: list[Component] = [html.H2([*mark, pane.title])]
    if pane.note:
        content.append(html.Span(pane.note, className="note"))
    content.append(html.Div(list(pane.keys), className="keys"))
    if pane.scene and isinstance(pane.body, go.Figure):
        camera = json.dumps(pane.body.layout.scene.camera.to_plotly_json())
        content.append(_button("home", "home", "back to the first view", **{"data-home": camera}))
    if pane.download:
        content.append(
            html.A(
                icon("download"),
                href=pane.download,
                className="icon-button",
                title="data as CSV",
                download="",
                **{"aria-label": f"{pane.title}: data as CSV"},
            )
        )
    if isinstance(pane.body, go.Figure):
        content.append(_button("expand", "expand", "full screen"))
    return content


def _button(symbol: str, action: str, label: str, **more: str) -> html.Button:
    return html.Button(
        icon(symbol),
        className="icon-button",
        title=label,
        type="button",
        **{"data-action": action, "aria-label": label, **more},
    )


def color_bar(title: str, ticks: Sequence[tuple[float, str]], colors: str = "basin") -> Component:
    """One bar for all maps of a card; ticks are (fraction from the left, label)."""
    marks = [html.Span(label, style={"left": f"{100 * at:.2f}%"}) for at, label in ticks]
    scale = html.Div([html.I(className=f"bar-map {colors}"), *marks], className="bar-scale")
    return html.Div([html.Span(title), scale], className="bar")
