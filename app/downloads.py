"""Addresses from which data and paper figures are loaded down; each names a run and a result.

/data/RUN/steps.csv              /data/RUN/KIND/KEY.csv | h5
/figure/RUN/KIND.FORM            what a kind of figure shows of a whole run
/figure/RUN/KIND/KEY.FORM        one result; FORM is pdf, svg, png, or zip with the recipe
/figure/compare/KIND.FORM        several runs in one figure, ?select=RUN,RUN
"""

import io
import re
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import flask

from landscape.exports import csv_of, record, save_figure
from landscape.figures.scales import lr_drops
from landscape.figures.subjects import Drawing, drawing_of_result, drawing_of_runs
from landscape.runs import Run, RunFileError

from . import measured
from .folders import JointFolder
from .panes import found
from .store import AnyRun, MissingError, Store, checkpoint_of

_MAPS = ("surface", "surface3d")
_STORED = {"surface3d": "surface", "rotation": "directions"}
"""Kinds of figures that are drawn of results of another kind."""
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "h5": "application/x-hdf5",
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "png": "image/png",
    "zip": "application/zip",
}
_FORMS = ("pdf", "svg", "png", "zip")
_one_at_a_time = threading.Lock()  # matplotlib's settings are global


def register(server: flask.Flask, store: Store) -> None:
    """Answer the addresses above from a store."""

    def answered(make: Callable[..., flask.Response]) -> Callable[..., flask.Response]:
        def answer(**names: str) -> flask.Response:
            try:
                return make(store, **names)
            except MissingError as error:
                return _refused(store.told(error), 404)
            except (RunFileError, OSError, ValueError) as error:
                return _refused(store.told(error), 400)

        answer.__name__ = make.__name__
        return answer

    routes = {
        "/data/<run_id>/steps.csv": steps_csv,
        "/data/<run_id>/<kind>/<key>.<form>": result_data,
        "/figure/compare/<kind>.<form>": compared_figure,
        "/figure/<run_id>/<kind>.<form>": run_figure,
        "/figure/<run_id>/<kind>/<key>.<form>": result_figure,
    }
    for route, make in routes.items():
        server.add_url_rule(route, view_func=answered(make))


def _refused(reason: str, status: int) -> flask.Response:
    return flask.Response(f"{reason}\n", status=status, mimetype="text/plain")


def _attached(content: bytes | str, name: str, form: str) -> flask.Response:
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "landscape"
    response = flask.Response(content, content_type=_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="{safe}.{form}"'
    return response


def steps_csv(store: Store, run_id: str) -> flask.Response:
    """Every recorded row of a run."""
    run = store.run(run_id)
    return _attached(csv_of(store.steps(run)), f"{run.name}-steps", "csv")


def result_data(store: Store, run_id: str, kind: str, key: str, form: str) -> flask.Response:
    """The first table of a result, or its file."""
    run = store.run(run_id)
    stored = store.find(run, kind, key)
    if form == "csv":
        return _attached(csv_of(store.load(stored)), f"{run.name}-{kind}-{key}", "csv")
    if form == "h5":
        return _attached(stored.path.read_bytes(), f"{run.name}-{kind}-{key}", "h5")
    raise ValueError(f"data come as csv or h5, got {form!r}")


def result_figure(store: Store, run_id: str, kind: str, key: str, form: str) -> flask.Response:
    """The paper figure of one result."""
    run = store.run(run_id)
    stored = store.find(run, _STORED.get(kind, kind), key)
    shown = "cosines" if kind == "consistency" else kind
    drawing = drawing_of_result(store.load(stored), shown)
    style: dict[str, Any] = {} if shown in ("cosines", "rotation") else {"color": run.color}
    if isinstance(run, JointFolder) and shown in _MAPS:
        style["color"] = store.colors(drawing.subject.path_labels)
    if shown in (*_MAPS, "directions", "trajectory"):
        style["drops"] = _drops(store, run)
    if shown == "density":
        alike = measured.alike(store, run, stored)
        style["spectrum"] = found(lambda: alike.load("spectrum", checkpoint_of(stored)))
    return _drawn(drawing, shown, form, f"{run.name}-{kind}-{key}", style)


def run_figure(store: Store, run_id: str, kind: str, form: str) -> flask.Response:
    """The paper figure of a kind that shows a whole run: steps, eigenvalues, consistency."""
    run = store.run(run_id)
    if not isinstance(run, Run):
        raise MissingError(f"{run.name} holds results only: no run was recorded.")
    return _drawn(drawing_of_runs([run], kind), kind, form, f"{run.name}-{kind}", {})


def compared_figure(store: Store, kind: str, form: str) -> flask.Response:
    """One paper figure of several runs."""
    wanted = flask.request.args.get("select", "").split(",")
    runs = [run for run in map(store.run, wanted) if isinstance(run, Run)]
    if kind != "surface":
        return _drawn(drawing_of_runs(runs, kind), kind, form, f"compare-{kind}", {})
    plane = flask.request.args.get("plane", "random")
    items = [(run.name, run.color, store.load(store.on_plane(run, plane))) for run in runs]
    return _drawn(
        Drawing(function="draw_surface", subject=items), kind, form, "compare-surface", {}
    )


def _drops(store: Store, run: AnyRun) -> list[tuple[float, float]]:
    steps = found(lambda: store.steps(run))
    return lr_drops(steps["step"], steps["lr"]) if steps else []


def _drawn(
    drawing: Drawing, kind: str, form: str, name: str, style: dict[str, Any]
) -> flask.Response:
    if form not in _FORMS:
        raise ValueError(f"figures come as {', '.join(_FORMS)}, got {form!r}")
    drawing = replace(drawing, style={**drawing.style, **style, **_asked(kind)})
    with _one_at_a_time:
        paper = import_module("landscape.figures.paper")  # matplotlib: only when asked for
        figure = getattr(paper, drawing.function)(drawing.subject, **drawing.style)
        content = _zipped(figure, drawing, name) if form == "zip" else figure.to_bytes(form)
    return _attached(content, name, form)


def _zipped(figure: Any, drawing: Drawing, name: str) -> bytes:
    """Figure, recipe and data, as `landscape.exports.redraw` reads them."""
    recipe, data = record(drawing)
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w") as archive:
        stem = Path(folder) / re.sub(r"[^A-Za-z0-9_-]+", "-", name)
        for path in save_figure(figure, stem, recipe=recipe, data=data):
            archive.write(path, path.name)
    return buffer.getvalue()


def _asked(kind: str) -> dict[str, Any]:
    """How the address wants the figure drawn."""
    given = flask.request.args
    style: dict[str, Any] = {"venue": given.get("venue", "icml")}
    if "quantity" in given and kind in (*_MAPS, "profile", "barrier", "curve"):
        style["quantity"] = given["quantity"]
    if kind in _MAPS:
        style["scale"] = "linear" if given.get("scale") == "linear" else None
        if "limits" in given:
            low, _, high = given["limits"].partition(",")
            style["limits"] = (float(low), float(high))
    return style
