"""Eigenvalues of the Hessian: their density, the largest ones, and how they move in training."""

from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.numbers import count, number
from landscape.figures.scales import lr_drops
from landscape.results import Density, Spectrum
from landscape.runs import StoredResult

from .. import panes
from ..inspector import data_address, described, downloads, run_downloads, run_section, troubles
from ..panes import Card, Pane, View, key
from ..store import AnyRun, MissingError, Store, checkpoint_of
from ..view_state import ViewState, encode


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of a run's spectra."""
    run = store.run(state.run)
    page = _Page(state, store, theme, run)
    stored = panes.found(lambda: store.at(run, "spectrum", page.step))
    chips = [panes.run_chip(run)]
    if page.step is not None:
        chips.append(panes.chip("checkpoint", html.B(count(page.step))))
    return View(
        title="Spectrum",
        chips=chips,
        buttons=[panes.export_menu("Export", page.exports(stored))] if stored else [],
        toolbar=_toolbar(state, store, run, page.step),
        cards=[
            Card(panes=[page.density(), page.table()], height=308),
            Card(panes=[page.history(), page.scree()], height=290),
        ],
        inspector=page.inspector(stored),
        shape=f"spectrum {run.id}",
    )


def measured_steps(run: AnyRun, store: Store) -> list[int]:
    """The checkpoints at which a spectrum or a density was measured."""
    both = [*store.results(run, "spectrum"), *store.results(run, "density")]
    return sorted({checkpoint_of(stored) for stored in both})


class _Page:
    """The panes of one checkpoint's spectrum."""

    def __init__(self, state: ViewState, store: Store, theme: str, run: AnyRun) -> None:
        self.store, self.theme, self.run = store, theme, run
        measured = measured_steps(run, store)
        self.step = state.step if state.step is not None else (measured or [None])[-1]
        self.color = f"var(--run-{run.color % 8})"
        steps = panes.found(lambda: store.steps(run))
        self.drops = lr_drops(steps["step"], steps["lr"]) if steps else []

    def spectrum(self) -> Spectrum:
        """The eigenvalues shown; raises what says why there are none."""
        return self.store.load(self.store.at(self.run, "spectrum", self.step))

    def density(self) -> Pane:
        """Eigenvalues per unit λ, found ones as stems; an early checkpoint dotted."""
        context = self._context()

        def draw() -> panes.Body:
            density = self.store.load(self.store.at(self.run, "density", self.step))
            return figures.plot_density(
                density,
                panes.found(self.spectrum),
                context=panes.found(lambda: self.store.load(context)) if context else None,
                theme=self.theme,
                color=self.run.color,
            )

        body = panes.shown(draw, self.store)
        keys = [key("lowest to highest probe", self.color, "band")]
        if context is not None:
            keys.append(key(f"step {count(checkpoint_of(context))}", "var(--muted)", "dotted"))
        stored = panes.found(lambda: self.store.at(self.run, "density", self.step))
        return Pane(
            name="density",
            title="Density",
            note="eigenvalues per unit λ",
            keys=keys if stored else (),
            body=body,
            download=data_address(self.run, stored) if stored else "",
        )

    def exports(self, stored: StoredResult) -> list[tuple[str, str]]:
        """Paper figures and data of what is shown."""
        density = panes.found(lambda: self.store.at(self.run, "density", self.step))
        links = run_downloads(self.run, ("eigenvalues", "Largest eigenvalue"))
        for title, result in (("Density", density), ("Eigenvalues", stored)):
            if result is not None:
                links += [(f"{title}, {form}", href) for form, href in downloads(self.run, result)]
        return links

    def _context(self) -> StoredResult | None:
        """The first checkpoint's density, where another one is shown."""
        there = self.store.results(self.run, "density")
        first = min(there, key=checkpoint_of, default=None)
        if first is None or self.step is None or checkpoint_of(first) >= self.step:
            return None
        return first

    def table(self) -> Pane:
        """The eigenvalues found, with their residuals."""

        def draw() -> panes.Body:
            spectrum = self.spectrum()
            order = np.argsort(-np.abs(spectrum.eigenvalues), kind="stable")
            rows = [
                (str(rank), number(spectrum.eigenvalues[at], 4), number(spectrum.residuals[at], 1))
                for rank, at in enumerate(order, 1)
            ]
            return panes.table(("#", "λ", "residual"), rows, label="eigenvalues")

        stored = panes.found(lambda: self.store.at(self.run, "spectrum", self.step))
        return Pane(
            name="eigenvalues",
            title="Eigenvalues",
            body=panes.shown(draw, self.store),
            download=data_address(self.run, stored) if stored else "",
            grow="262px",
        )

    def history(self) -> Pane:
        """The largest eigenvalues at every checkpoint measured."""

        def draw() -> panes.Body:
            history = self.store.series(self.run, "spectrum")
            if not history:
                command = self.store.command("spectrum", self.run, "--checkpoint all")
                raise MissingError("No spectrum measured yet.", command)
            return figures.plot_eigenvalues(
                history,
                drops=self.drops,
                selected=self.step,
                theme=self.theme,
                color=self.run.color,
            )

        return Pane(
            name="history",
            title="Largest eigenvalue",
            note="through training",
            keys=[key("λ max", self.color)],
            body=panes.shown(draw, self.store),
        )

    def scree(self) -> Pane:
        """Magnitudes by rank."""

        def draw() -> panes.Body:
            return figures.plot_spectrum(self.spectrum(), theme=self.theme, color=self.run.color)

        return Pane(
            name="scree",
            title="Scree",
            note="bars: residuals, hollow: negative",
            body=panes.shown(draw, self.store),
        )

    def inspector(self, stored: StoredResult | None) -> list[Component]:
        """Summary, facts, caption, downloads."""
        parts = troubles(self.store, self.run)
        spectrum = panes.found(self.spectrum)
        if stored is None or spectrum is None:
            return [*parts, run_section(self.run)]
        density = panes.found(
            lambda: self.store.load(self.store.at(self.run, "density", self.step))
        )
        command = self.store.command("spectrum", self.run, f"--checkpoint {self.step}")
        return [
            panes.section("Summary", *_summary(spectrum, density)),
            *parts,
            *_unconverged(spectrum),
            *described(self.store, self.run, stored, command),
        ]


def _summary(spectrum: Spectrum, density: Density | None) -> list[Component]:
    values = spectrum.eigenvalues
    numbers = [(number(values.max()), "λ max")]
    if spectrum.which in ("SA", "BE") or values.min() < 0:
        numbers.append((number(values.min()), "lowest found"))
    rows: list[tuple[str, str]] = []
    positive = np.sort(values)[::-1]
    if len(positive) >= 5 and positive[4] > 0:
        rows.append(("λ₁ / λ₅", number(positive[0] / positive[4])))
    rows.append(("largest residual", number(spectrum.residuals.max(), 2)))
    rows.append(("matvecs", count(spectrum.matvecs)))
    trace: Any = density.facts.get("trace") if density is not None else None
    if trace is not None and density is not None:
        error = density.facts.get("trace_error")
        told = number(float(trace)) + (f" ± {number(float(error), 2)}" if error else "")
        rows.append(("trace", told))
    return [panes.large(*numbers), panes.facts(rows)]


def _unconverged(spectrum: Spectrum) -> list[Component]:
    if spectrum.converged:
        return []
    limit = number(spectrum.tolerance * float(np.abs(spectrum.eigenvalues).max()), 2)
    text = f"Not converged: a residual is above {limit}, the tolerance times the largest |λ|."
    return [html.Section(panes.notice(text))]


def _toolbar(state: ViewState, store: Store, run: AnyRun, step: int | None) -> list[Component]:
    steps = measured_steps(run, store)
    if step is None or not steps:
        return []
    links = [(count(other), encode(state.to(step=other))) for other in sorted({*steps, step})]
    return [panes.choice("step", "Checkpoint", links, encode(state.to(step=step)))]
