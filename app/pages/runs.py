"""The list of runs, the loss of those ticked, and the run under the pointer's last click."""

from typing import Any
from urllib.parse import quote

import dash
import dash_ag_grid as dag
import dash_mantine_components as dmc
import numpy as np
from dash import ClientsideFunction, Input, Output, State, dcc, html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.numbers import count, number, percent, step

from .. import panes
from ..inspector import run_section, troubles
from ..panes import Card, Pane, View, icon
from ..store import AnyRun, MissingError, Store
from ..summaries import (
    GROUPS,
    KINDS,
    LAST_ROWS,
    NAMES,
    Summary,
    counts_told,
    differing,
    settings,
    summarize,
)
from ..view_state import ViewState, encode, showing

_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--surface)', foregroundColor: 'var(--text)', "
    "accentColor: 'var(--accent)', borderColor: 'var(--line)', headerTextColor: 'var(--muted)', "
    "headerBackgroundColor: 'var(--surface)', rowHoverColor: 'var(--sunken)', "
    "selectedRowBackgroundColor: 'var(--accent-soft)', fontFamily: 'inherit', fontSize: 12.5, "
    "headerFontWeight: 400, rowHeight: 34, headerHeight: 34, wrapperBorder: false, "
    "headerColumnResizeHandleColor: 'transparent', "
    "checkboxUncheckedBorderColor: 'var(--control)', spacing: 6})"
)
_MOST_ROWS = 12


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of all runs."""
    runs = store.runs()
    summaries = {run.id: summarize(run, store) for run in runs}
    ids = default_selection(runs) if state.select is None else state.select
    ticked = [run for run in runs if run.id in ids]
    card = Card(panes=[_list(runs, summaries, store)], footer=_footer(runs, ticked))
    return View(
        title="Runs",
        chips=[panes.chip(html.B(str(len(runs))), "run" if len(runs) == 1 else "runs")],
        buttons=[_compare_button(ticked, state.run)],
        toolbar=_toolbar(),
        cards=[card, Card(panes=[_losses(ticked, store, theme)], height=330)],
        inspector=_inspector(_inspected(state, runs, ticked), summaries, store, theme),
        shape="runs",
    )


def default_selection(runs: list[AnyRun]) -> tuple[str, ...]:
    """The newest run of each method, finished ones first, at most four: ticked from the start."""
    newest = {run.method: run.id for run in sorted(runs, key=lambda run: run.status == "finished")}
    return tuple(list(newest.values())[-4:])


def _inspected(state: ViewState, runs: list[AnyRun], ticked: list[AnyRun]) -> AnyRun | None:
    named = [run for run in runs if run.id == state.run]
    return next(iter(named + ticked + runs), None)


def _compare_button(ticked: list[AnyRun], run: str | None) -> Component:
    ids = tuple(run.id for run in ticked)
    many = f"{len(ids)} runs" if len(ids) != 1 else "1 run"
    href = encode(ViewState(page="compare", select=ids, run=run))
    return panes.link([icon("compare"), f"Compare {many}"], href, className="button primary")


def _toolbar() -> list[Component]:
    return [
        dmc.TextInput(
            id="runs-filter",
            placeholder="Filter by name, method or setting",
            leftSection=icon("search"),
            w=300,
            classNames={"input": "field filter"},
            **{"aria-label": "filter runs"},
        )
    ]


def _footer(runs: list[AnyRun], ticked: list[AnyRun]) -> list[Component]:
    unequal, equal = differing(runs)
    said = [html.Span([html.B(str(len(ticked))), f" of {len(runs)} selected"])]
    if len(runs) > 1:
        named = f" ({', '.join(unequal[:6])}{', …' if len(unequal) > 6 else ''})" if unequal else ""
        said.append(
            html.Span(f"{equal} settings are equal in all runs, {len(unequal)} differ{named}")
        )
    return said


def _list(runs: list[AnyRun], summaries: dict[str, Summary], store: Store) -> Pane:
    rows = [_row(run, summaries[run.id], store) for run in runs]
    for row, spark in zip(rows, _sparklines(runs, summaries, store), strict=True):
        row["spark"] = spark
    ids = default_selection(runs)
    grid = dag.AgGrid(
        id="runs-grid",
        rowData=rows,
        columnDefs=_columns(),
        getRowId="params.data.id",
        selectedRows={"ids": list(ids)},
        columnSize="responsiveSizeToFit",
        className="runs-grid",
        style={"height": None if len(rows) <= _MOST_ROWS else f"{34 * (_MOST_ROWS + 1) + 2}px"},
        dashGridOptions={
            "theme": {"function": _THEME},
            "domLayout": "autoHeight" if len(rows) <= _MOST_ROWS else "normal",
            "rowSelection": {"mode": "multiRow", "enableClickSelection": False},
            "selectionColumnDef": {"width": 38, "maxWidth": 38, "resizable": False},
            "animateRows": False,
            "suppressCellFocus": False,
            "tooltipShowDelay": 400,
        },
    )
    trouble = [panes.notice(f"{name}: {why}", "err") for name, why in store.unreadable.items()]
    body = html.Div([*trouble, grid, dcc.Store(id="runs-default", data=list(ids))])
    return Pane(name="list", title="Runs", body=body, bare=True)


def _columns() -> list[dict[str, Any]]:
    def numeric(field: str, name: str, digits: int, tip: str, percent: bool = False) -> dict:
        shown = f"shown(params.value, {digits}, {str(percent).lower()})"
        return {
            "field": field,
            "headerName": name,
            "headerTooltip": tip,
            "type": "rightAligned",
            "valueFormatter": {"function": shown},
            "minWidth": 70,
        }

    return [
        {
            "field": "name",
            "headerName": "Run",
            "cellRenderer": "RunName",
            "flex": 2,
            "minWidth": 120,
        },
        {"field": "state", "headerName": "State", "cellRenderer": "RunState", "minWidth": 104},
        {"field": "method", "headerName": "Method", "minWidth": 98},
        {
            "field": "spark",
            "headerName": "Train loss",
            "headerTooltip": "log scale, the same for all runs; length is progress",
            "cellRenderer": "Sparkline",
            "sortable": False,
            "minWidth": 118,
        },
        numeric("train_loss", "Last", 3, f"train loss, mean of the last {LAST_ROWS} steps"),
        numeric("test_accuracy", "Test %", 3, "test accuracy at the end", percent=True),
        numeric("eigenvalue", "λ max", 3, "largest Hessian eigenvalue, last checkpoint measured"),
        numeric("cosine", "Cosine", 2, "mean cosine of its own perturbation, frozen protocol"),
        {
            "colId": "measured",
            "headerName": "Measured",
            "cellRenderer": "Measured",
            "sortable": False,
            "minWidth": 118,
        },
    ]


def _row(run: AnyRun, summary: Summary, store: Store) -> dict[str, Any]:
    def finite(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return {
        "id": run.id,
        "name": run.name,
        "color": run.color % 8,
        "href": encode(ViewState(page="overview", run=run.id)),
        "state": run.status,
        "progress": summary.progress,
        "method": run.method,
        "train_loss": finite(summary.train_loss),
        "test_accuracy": finite(summary.test_accuracy),
        "eigenvalue": finite(summary.eigenvalue),
        "cosine": finite(summary.cosine),
        "measured": {name: counts_told(summary.measured, of) for name, of in GROUPS.items()},
        "settings": " ".join(settings(run).values()),
    }


def _sparklines(runs: list[AnyRun], summaries: dict[str, Summary], store: Store) -> list[str]:
    """Each run's train loss as a CSS image, one log scale and one axis of steps for all."""
    losses = [(panes.found(lambda run=run: store.steps(run)) or {}).get("loss") for run in runs]
    positive = [loss[np.isfinite(loss) & (loss > 0)] for loss in losses if loss is not None]
    heights = np.concatenate([*positive, np.empty(0)])
    if not heights.size:
        return [""] * len(runs)
    limits = (float(heights.min()), float(heights.max()))
    longest = max(max(summary.total, 1) for summary in summaries.values())
    return [
        _css_image(
            figures.sparkline(
                loss, limits=limits, progress=summaries[run.id].steps / longest, color=run.color
            )
        )
        if loss is not None and len(loss)
        else ""
        for run, loss in zip(runs, losses, strict=True)
    ]


def _css_image(svg: str) -> str:
    return f"url('data:image/svg+xml,{quote(svg)}')"


def _losses(ticked: list[AnyRun], store: Store, theme: str) -> Pane:
    def draw() -> panes.Body:
        recorded = [(run.name, run.color, store.steps(run)) for run in ticked]
        recorded = [item for item in recorded if len(item[2]["loss"])]
        if not recorded:
            raise MissingError("No run is selected." if not ticked else "Nothing was recorded.")
        return figures.plot_steps(recorded, column="loss", theme=theme)

    return Pane(
        name="losses",
        title="Loss of the selected runs",
        note="each batch of training, log, no smoothing",
        keys=[panes.key(run.name, f"var(--run-{run.color % 8})", "square") for run in ticked],
        body=panes.shown(draw, store),
    )


def _inspector(
    run: AnyRun | None, summaries: dict[str, Summary], store: Store, theme: str
) -> list[Component]:
    if run is None:
        return []
    summary = summaries[run.id]
    head = html.Div(
        html.H2([panes.swatch(run.color), html.Span(run.name, className="name")]),
        className="section-head",
    )
    numbers = panes.large(
        (number(summary.train_loss), "train loss"),
        (percent(summary.test_accuracy), "test accuracy"),
        (step(summary.steps), f"of {step(summary.total)} steps"),
    )
    measured = [
        html.Li(
            panes.link(
                [
                    icon(kind),
                    html.Span(panes.capital(NAMES.get(kind, kind))),
                    html.Span(count(summary.measured[kind]) if summary.measured[kind] else "–"),
                ],
                encode(showing(kind, run.id)),
            )
        )
        for kind in KINDS
    ]
    opened = encode(ViewState(page="overview", run=run.id))
    return [
        html.Section([head, numbers]),
        *troubles(store, run),
        run_section(run),
        panes.section("Measured", html.Ul(measured, className="measured-list")),
        html.Section(
            html.Div(panes.link("Open run", opened, className="button small"), className="buttons")
        ),
    ]


def register(app: dash.Dash, store: Store) -> None:
    """Connect the list's ticks, its filter and its clicks to the address."""
    app.clientside_callback(
        ClientsideFunction("landscape", "select"),
        Output("url", "search", allow_duplicate=True),
        Input("runs-grid", "selectedRows"),
        State("url", "search"),
        State("runs-default", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("landscape", "tick"),
        Output("runs-grid", "selectedRows"),
        Input("url", "search"),
        State("runs-grid", "selectedRows"),
        State("runs-default", "data"),
    )
    app.clientside_callback(
        ClientsideFunction("landscape", "inspect"),
        Output("url", "search", allow_duplicate=True),
        Input("runs-grid", "cellClicked"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("landscape", "filter"),
        Output("runs-grid", "dashGridOptions"),
        Input("runs-filter", "value"),
        State("runs-grid", "dashGridOptions"),
        prevent_initial_call=True,
    )
