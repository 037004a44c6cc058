"""Curvature of several runs side by side: densities, largest eigenvalues, sharpness tables."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from dash import html

from landscape.figures import interactive as figures
from landscape.figures.numbers import NONE, count, number
from landscape.figures.screen_sharpness import all_measures, measures_of, setting_text, value_text
from landscape.results import Result, Sharpness

from .. import panes
from ..measured import Measured
from ..panes import Card, Pane
from ..store import AnyRun, MissingError, Store

Items = list[tuple[str, int, Any]]
_ALIKE = {"bn": "batch norm", "data_digest": "data", "loss": "loss"}
"""Facts that must be equal for values to compare, and what they are called."""


def cards(store: Store, theme: str, runs: Sequence[AnyRun]) -> list[Card]:
    """Densities and largest eigenvalues over equal axes, then the sharpness of each run."""
    page = _Curved(store, theme, runs)
    return [
        Card(panes=[page.densities(), page.largest()], height=290),
        Card(panes=[page.sharpness()]),
    ]


class _Curved:
    """The panes of the Hessians of several runs."""

    def __init__(self, store: Store, theme: str, runs: Sequence[AnyRun]) -> None:
        self.store, self.theme, self.runs = store, theme, runs

    def items(self, kind: str) -> Items:
        """The last result of a kind of each run that has one."""
        found = []
        for run in self.runs:
            own = Measured(store=self.store, run=run)
            if kind == "curvature":
                result = panes.found(own.curvature)
            else:
                result = panes.found(lambda own=own: own.load(kind, None))
            if result is not None:
                found.append((run.name, run.color, result))
        return found

    def measured(self, kind: str) -> Items:
        """The same; raises what says how to measure it where there is none."""
        items = self.items(kind)
        if not items:
            command = self.store.command(kind, self.runs[0])
            raise MissingError(f"No {kind} of these runs measured yet.", command)
        return items

    def densities(self) -> Pane:
        """All densities over one axis."""

        def draw() -> panes.Body:
            return figures.plot_densities(self.measured("density"), theme=self.theme)

        items = self.items("density")
        return Pane(
            name="densities",
            title="Spectral density",
            note=_noted(items, "ticks: found one by one"),
            body=panes.shown(draw, self.store),
        )

    def largest(self) -> Pane:
        """The largest eigenvalue through training."""

        def draw() -> panes.Body:
            followed = self.items("curvature")
            if followed:
                return figures.plot_curvature(followed, theme=self.theme)
            series = [
                (run.name, run.color, Measured(store=self.store, run=run).series("spectrum"))
                for run in self.runs
            ]
            series = [item for item in series if item[2]]
            if not series:
                command = self.store.command("curvature", self.runs[0])
                raise MissingError("No curvature through training measured yet.", command)
            return figures.plot_eigenvalues(series, theme=self.theme)

        items = self.items("curvature")
        return Pane(
            name="largest",
            title="Largest eigenvalue",
            note=_noted(items, "through training"),
            body=_said(draw, self.store),
        )

    def sharpness(self) -> Pane:
        """Measure by run: values as they are, nothing ranked."""

        def draw() -> panes.Body:
            return sharpness_table(self.measured("sharpness"))

        items = self.items("sharpness")
        return Pane(
            name="sharpness",
            title="Sharpness",
            note=_noted(items, "last checkpoint of each; ≥: a lower bound; rows do not compare"),
            body=panes.shown(draw, self.store),
        )


def sharpness_table(items: Sequence[tuple[str, int, Sharpness]]) -> html.Div:
    """One row per measure and setting, one column per run, then what the values depend on."""
    rows: list[tuple[str, ...]] = []
    for measure in all_measures(items):
        cells = []
        for _, _, table in items:
            there = measures_of(table)
            cells.append(value_text(table, there.index(measure)) if measure in there else NONE)
        rows.append((measure[0], setting_text(items, measure) or NONE, *cells))
    beside: list[tuple[str, Callable[[Sharpness], str]]] = [
        ("train loss", lambda table: number(table.loss)),
        ("mean p of the true class", lambda table: number(table.mean_probability)),
        ("checkpoint", lambda table: count(table.facts.get("checkpoint", np.nan))),
    ]
    rows += [(name, NONE, *(told(table) for _, _, table in items)) for name, told in beside]
    heads = [html.Span([panes.swatch(color), name]) for name, color, _ in items]
    return panes.table(["measure", "setting", *heads], rows, label="sharpness of the runs", words=2)


def _noted(items: Items, usual: str) -> str:
    """The usual note, or what makes the values not comparable."""
    differs = [told for name, told in _ALIKE.items() if _differ([r for _, _, r in items], name)]
    if not differs:
        return usual if items else ""
    return f"{' and '.join(differs)} differ: values don't compare"


def _differ(results: Sequence[Result], name: str) -> bool:
    return len({str(result.facts.get(name)) for result in results}) > 1


def _said(draw: Callable[[], panes.Body], store: Store) -> panes.Body:
    def checked() -> panes.Body:
        try:
            return draw()
        except ValueError as error:
            raise MissingError(panes.capital(str(error))) from None

    return panes.shown(checked, store)
