"""The column beside a surface: the checkpoint chosen, what is not plain, facts and downloads."""

import shlex
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.numbers import count, number, percent
from landscape.results import Surface
from landscape.runs import StoredResult

from .. import panes
from ..folders import ResultFolder
from ..inspector import described, run_section, troubles
from ..store import AnyRun, Store, checkpoint_of, plane_of


def inspector(page: Any, surface: Surface | None) -> list[Component]:
    """The sections for a page of a surface, as `app.pages.surface` makes it."""
    run, store, stored = page.run, page.store, page.stored
    parts: list[Component] = troubles(store, run)
    if stored is None or surface is None:
        return [*parts, run_section(run)]
    point = _point(page, surface)
    command = _command(store, run, stored)
    known = page.state.quantity in figures.quantities_of(surface)
    drawing = page.drawing if known else {"scale": page.state.scale}
    return [
        *point,
        *parts,
        *_cells(surface),
        *described(store, run, stored, command, **drawing),
    ]


def _command(store: Store, run: AnyRun, stored: StoredResult) -> str:
    """The command line that makes a surface."""
    origin = stored.facts.get("imported_from")
    if isinstance(origin, dict):
        return f"landscape import {shlex.quote(str(origin.get('file', 'FILE')))}"
    options = [f"--plane {plane_of(stored).replace(' and ', ',')}"]
    if not isinstance(run, ResultFolder):
        options.append(f"--checkpoint {checkpoint_of(stored)}")
    return store.command("surface", run, *options)


def _point(page: Any, surface: Surface) -> list[Component]:
    """The checkpoint that the scrubber stands on, where the surface carries it."""
    if not len(surface.path_step) or len(surface.path_labels) > 1:
        return []
    wanted = page.selected if page.selected is not None else surface.path_step[-1]
    at = int(np.argmin(np.abs(surface.path_step - wanted)))
    trajectory = panes.found(page.trajectory)
    accuracy = float("nan")
    if trajectory is not None and surface.path_step[at] in trajectory.step:
        accuracy = trajectory.accuracy[list(trajectory.step).index(surface.path_step[at])]
    a, b = surface.path_position[at]
    rows = [
        ("step", f"{count(surface.path_step[at])} of {count(surface.path_step[-1])}"),
        ("position", f"{number(a)}, {number(b)}"),
        ("out of plane", number(surface.path_off_plane[at])),
    ]
    head = panes.large(
        (number(surface.path_loss[at]), "train loss"), (percent(accuracy), "train accuracy")
    )
    return [panes.section("Selected checkpoint", head, panes.facts(rows))]


def _cells(surface: Surface) -> list[Component]:
    meta = figures.surface_meta(figures.field_of(surface))
    words = ("diverged", "diverged"), ("interpolated", "interpolated"), ("missing", "not evaluated")
    told = [f"{meta[name]} {word}" for name, word in words if meta[name]]
    if told:
        told[0] = told[0].replace(" ", " points ", 1)
    origin = surface.facts.get("imported_from")
    warnings = origin.get("warnings", []) if isinstance(origin, dict) else []
    notices = [panes.notice(", ".join(told) + ".")] if told else []
    notices += [panes.notice(str(warning)) for warning in warnings]
    return [html.Section(notices)] if notices else []
