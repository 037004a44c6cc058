"""The left column: pages of the library, the run picker, and pages of the run."""

from typing import Any

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from . import measured
from .panes import icon, link, swatch
from .store import AnyRun, Store
from .view_state import RUN_PAGES, ViewState, encode

_TITLES = {
    "overview": "Overview",
    "surface": "Surface",
    "spectrum": "Spectrum",
    "consistency": "Consistency",
}


def folder_label(store: Store) -> list[Any]:
    """Name of the folder and how many runs it holds."""
    count = len(store.runs())
    many = "1 run" if count == 1 else f"{count} runs"
    return [icon("folder"), html.Span(store.root.name), html.Span(many, className="faint")]


def navigation(state: ViewState, store: Store) -> list[Any]:
    """The groups "Library" and "Run"."""
    runs = store.runs()
    chosen = next((run for run in runs if run.id == state.run), runs[0] if runs else None)
    compared = len(state.select) if state.page == "compare" and state.select else None
    content: list[Any] = [
        html.H2("Library"),
        _item("runs", "Runs", encode(ViewState(page="runs", run=state.run)), state, len(runs)),
        _item("compare", "Compare", _compare_address(state), state, compared),
    ]
    if chosen is not None:
        shown = state if state.run in (None, chosen.id) else ViewState(page="unknown")
        content += [html.H2("Run"), _picker(runs, chosen, state)]
        content += [
            _item(page, title, _run_address(state, page, chosen), shown, count)
            for page, title in _TITLES.items()
            for count in [_count(store, chosen, page)]
        ]
    return [html.Div(content, className="nav"), _foot(store)]


def _count(store: Store, run: AnyRun, page: str) -> int | None:
    """How many results a page shows, as far as they are its own."""
    if page == "overview":
        return None
    kinds = {"spectrum": measured.KINDS, "consistency": measured.DIRECTIONAL}.get(page, (page,))
    return sum(len(store.results(run, kind)) for kind in kinds)


def _compare_address(state: ViewState) -> str:
    return encode(ViewState(page="compare", select=state.select or None, run=state.run))


def _run_address(state: ViewState, page: str, run: AnyRun) -> str:
    step = state.step if state.run == run.id else None
    return encode(ViewState(page=page, run=run.id, step=step))


def _item(page: str, title: str, href: str, state: ViewState, count: int | None) -> Component:
    active = page == state.page
    content: list[Any] = [icon(page), html.Span(title, className="nav-label")]
    if count:
        content.append(html.Span(str(count), className="count"))
    current = {"aria-current": "page"} if active else {}
    return html.Div(
        link(content, href, title=title, className="nav-item", **current),
        className="nav-row active" if active else "nav-row",
    )


def _picker(runs: list[AnyRun], chosen: AnyRun, state: ViewState) -> Component:
    page = state.page if state.page in RUN_PAGES else "overview"
    options = [
        {"label": run.name, "value": encode(ViewState(page=page, run=run.id))} for run in runs
    ]
    current = encode(ViewState(page=page, run=chosen.id))
    select = dmc.Select(
        id={"choice": "run", "at": current},
        data=options,
        value=current,
        leftSection=swatch(chosen.color),
        leftSectionPointerEvents="none",
        allowDeselect=False,
        searchable=len(runs) > 8,
        nothingFoundMessage="no such run",
        maxDropdownHeight=360,
        comboboxProps={"width": 260, "position": "bottom-start"},
        classNames={"input": "picker-input", "option": "option", "dropdown": "menu"},
        **{"aria-label": "run"},
    )
    more = [chosen.method, str(chosen.problem.get("name", ""))]
    seed = chosen.config.get("seed")
    more += [f"seed {seed}"] if seed is not None else []
    facts = html.Span(" · ".join(text for text in more if text), className="picker-facts")
    return html.Div([select, facts], className="picker")


def _foot(store: Store) -> html.Div:
    return html.Div(
        ["Read-only view of", html.Br(), html.Span(store.root.resolve().name, dir="ltr")],
        className="nav-foot",
        title=str(store.root),
    )
