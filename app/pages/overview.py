"""One run at a glance: what training recorded, its settings and what has been measured."""

from collections.abc import Callable
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.numbers import count, number, percent, step

from .. import panes
from ..inspector import download_section, run_downloads, run_section, troubles
from ..panes import Card, Pane, View, icon, key
from ..scrubber import selected_step
from ..store import AnyRun, MissingError, Store
from ..summaries import KINDS, NAMES, Summary, summarize
from ..view_state import ViewState, encode, showing

_LEFT_OUT = ("versions", "git", "command", "time", "cpus", "host")


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of one run."""
    run = store.run(state.run)
    summary = summarize(run, store)
    draw = _Curves(state, run, store, theme)
    color = f"var(--run-{run.color % 8})"
    first = [
        draw.pane(
            "loss",
            "Loss",
            "",
            keys=[key("train", color), key("test", color, "dotted")],
        ),
        draw.pane(
            "accuracy", "Accuracy", "", keys=[key("train", color), key("test", color, "dotted")]
        ),
        draw.pane("lr", "Learning rate", "", scale="linear"),
    ]
    if run.method.upper() == "SGD":  # adds no perturbation
        second = [draw.pane("gradient_norm", "‖g‖", "norm of the batch's gradient at w")]
    else:
        second = [
            draw.pane("displacement_norm", "‖ε‖", "norm of the perturbation"),
            draw.pane("cosine_previous", "cos(εₜ, εₜ₋₁)", "to the step before"),
            draw.pane("loss_rise", "Loss rise", "L(w + ε) − L(w) on the batch"),
        ]
    return View(
        title="Overview",
        chips=[panes.run_chip(run), panes.chip(run.method), panes.chip(run.status)],
        buttons=[panes.export_menu("Export", _exports(run))],
        cards=[Card(panes=first, height=330), Card(panes=second, height=270)],
        inspector=_inspector(run, summary, store),
        shape=f"overview {run.id}",
    )


def _exports(run: AnyRun) -> list[tuple[str, str]]:
    links = run_downloads(run, ("steps", "Train loss"))
    return [*links, ("Every step, CSV", f"/data/{run.id}/steps.csv")]


class _Curves:
    """Draws recorded columns of one run, all with the same step axis."""

    def __init__(self, state: ViewState, run: AnyRun, store: Store, theme: str) -> None:
        self.run, self.store, self.theme = run, store, theme
        self.selected = selected_step(state, run)

    def pane(self, column: str, title: str, note: str, **how: Any) -> Pane:
        """A pane of one column."""
        keys = how.pop("keys", ())
        body = panes.shown(self._draw(column, how), self.store)
        return Pane(
            name=column,
            title=title,
            note=note,
            keys=keys,
            body=body,
            download=f"/data/{self.run.id}/steps.csv",
        )

    def _draw(self, column: str, how: dict) -> Callable[[], panes.Body]:
        def draw() -> panes.Body:
            steps = self.store.steps(self.run)
            if not np.isfinite(steps[column]).any():
                raise MissingError(f"This run recorded no {column.replace('_', ' ')}.")
            tests = []
            if column in ("loss", "accuracy"):
                tests = [("test", self.run.color, self.store.evaluations(self.run))]
            return figures.plot_steps(
                steps,
                column=column,
                evaluations=tests,
                total=self.run.total_steps,
                selected=self.selected,
                theme=self.theme,
                color=self.run.color,
                **how,
            )

        return draw


def _inspector(run: AnyRun, summary: Summary, store: Store) -> list[Component]:
    numbers = panes.large(
        (number(summary.train_loss), "train loss"),
        (percent(summary.test_accuracy), "test accuracy"),
        (step(summary.steps), f"of {step(summary.total)} steps"),
    )
    command = run.provenance.get("command")
    told = " ".join(map(str, command)) if isinstance(command, list) else command
    data = [("CSV of every step", f"/data/{run.id}/steps.csv")]
    return [
        html.Section([_state(run), numbers]),
        *troubles(store, run),
        run_section(run),
        panes.section("Measured", _measured(run, summary)),
        panes.section("Environment", panes.facts(_environment(run))),
        download_section(data, _command(told, run)),
    ]


def _state(run: AnyRun) -> Component:
    title = [panes.swatch(run.color), html.Span(run.name, className="name")]
    return html.Div(html.H2(title), className="section-head")


def _command(told: Any, run: AnyRun) -> str:
    if told:
        return str(told)
    preset = run.config.get("preset")
    return f"landscape train --preset {preset} --out {run.name}" if preset else "landscape train"


def _measured(run: AnyRun, summary: Summary) -> Component:
    items = [
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
    return html.Ul(items, className="measured-list")


def _environment(run: AnyRun) -> list[tuple[str, str]]:
    rows = [("run id", run.id), ("created", run.created)]
    if run.layout is not None:
        rows.append(("parameters", count(run.layout.size)))
    kept = panes.found(lambda: run.checkpoints)
    rows.append(("checkpoints", count(len(kept)) if kept is not None else "–"))
    versions = run.provenance.get("versions", {})
    rows += [(str(k), str(v)) for k, v in versions.items()] if isinstance(versions, dict) else []
    git = run.provenance.get("git")
    if isinstance(git, dict):
        dirty = ", with local changes" if git.get("dirty") else ""
        rows.append(("commit", str(git.get("commit", ""))[:10] + dirty))
    rows += [(k, str(v)) for k, v in run.provenance.items() if k not in _LEFT_OUT]
    return rows
