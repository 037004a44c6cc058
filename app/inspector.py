"""The column at the right: what a figure shows, how it was measured, and how to take it away."""

import shlex
from collections.abc import Sequence
from urllib.parse import urlencode

from dash import html
from dash.development.base_component import Component

from landscape.figures.captions import caption, facts_rows
from landscape.runs import Run, StoredResult

from . import panes
from .folders import ResultFolder
from .store import AnyRun, Store
from .summaries import settings

PAPER = ("pdf", "svg", "png")
_DATA = (("CSV", "csv"), ("HDF5", "h5"))


def data_address(run: AnyRun, stored: StoredResult, form: str = "csv") -> str:
    """Where the arrays of a result can be loaded down: csv or h5."""
    return f"/data/{run.id}/{stored.kind}/{stored.key}.{form}"


def figure_address(run: AnyRun, stored: StoredResult, form: str, **drawing: str) -> str:
    """Where the paper figure of a result can be loaded down."""
    query = "?" + urlencode(drawing) if drawing else ""
    return f"/figure/{run.id}/{stored.kind}/{stored.key}.{form}{query}"


def downloads(run: AnyRun, stored: StoredResult, **drawing: str) -> list[tuple[str, str]]:
    """Everything a result can be taken away as: (label, address)."""
    paper = [(form.upper(), figure_address(run, stored, form, **drawing)) for form in PAPER]
    data = [(label, data_address(run, stored, form)) for label, form in _DATA]
    return [*paper, *data, ("Recipe", figure_address(run, stored, "zip", **drawing))]


def run_downloads(run: AnyRun, *kinds: tuple[str, str]) -> list[tuple[str, str]]:
    """Figures that show a whole run, as (kind, title): for the export menu."""
    if isinstance(run, ResultFolder):
        return []
    return [(f"{title}, PDF", f"/figure/{run.id}/{kind}.pdf") for kind, title in kinds]


def figure_command(store: Store, run: AnyRun, stored: StoredResult) -> str:
    """The command line that draws a result for paper."""
    shown = "cosines" if stored.kind == "consistency" else stored.kind
    newest = store.results(run, stored.kind)[-1].key == stored.key
    options = "--venue icml --format pdf"
    if newest and isinstance(run, Run):
        return store.command("figure", run, shown, options)
    path = store.path_of(run)
    if isinstance(run, Run):
        path += f"/results/{stored.path.name}"
    elif run.only is None:
        path += f"/{stored.path.name}"
    return f"landscape figure {shlex.quote(path)} {shown} {options}"


def described(
    store: Store, run: AnyRun, stored: StoredResult, command: str, **drawing: str
) -> list[Component]:
    """Facts, caption and downloads of a result.

    Args:
        store: Where the result is kept.
        run: The run it belongs to.
        stored: The result.
        command: The command line that makes it.
        drawing: How it is drawn, handed to the paper figure.

    Raises:
        RunFileError: If the result is damaged.
    """
    result = store.load(stored)
    text = caption(result, drawing.get("quantity"))
    return [
        panes.section("Facts", panes.facts(facts_rows(result))),
        panes.section("Caption", html.P(text, className="caption"), copy=text),
        download_section(
            downloads(run, stored, **drawing), command, figure_command(store, run, stored)
        ),
    ]


def download_section(links: Sequence[tuple[str, str]], *commands: str) -> Component:
    """Buttons to take figure and data away, and the command lines that make them."""
    buttons = [
        html.A(label, href=href, className="button small", download="") for label, href in links
    ]
    codes = [panes.code(command) for command in commands]
    return panes.section("Download", html.Div(buttons, className="buttons"), *codes)


def run_section(run: AnyRun) -> Component:
    """The settings of a run."""
    rows = {"method": run.method} | {n: t for n, t in settings(run).items() if n != "method"}
    return panes.section("Settings", panes.facts([(n.replace("_", " "), rows[n]) for n in rows]))


def troubles(store: Store, run: AnyRun) -> list[Component]:
    """Notices of what can't be read or did not end well in a run."""
    told = [panes.notice(text, "err") for text in store.damaged(run)]
    if run.status in ("failed", "died"):
        why = run.reason or "its writer was killed; what it recorded is shown"
        told.insert(0, panes.notice(f"The run {run.status}: {why}"))
    return [html.Section(told)] if told else []
