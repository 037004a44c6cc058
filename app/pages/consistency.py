"""How well perturbation directions agree, between batches and between steps."""

from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.numbers import count, number
from landscape.figures.scales import color_bar, lr_drops
from landscape.results import Consistency
from landscape.runs import StoredResult

from .. import panes
from ..inspector import data_address, described, downloads, run_downloads, run_section, troubles
from ..panes import Card, Pane, View, key
from ..store import AnyRun, MissingError, Store, checkpoint_of
from ..view_state import ViewState, encode

_COLORS = {"SAM": 0, "USAM": 3, "AACE": 1}
"""Run colors of the perturbations: those that runs trained with them have by default."""


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of a run's direction consistency."""
    run = store.run(state.run)
    page = _Page(state, store, theme, run)
    chips = [panes.run_chip(run)]
    if page.step is not None:
        chips.append(panes.chip("checkpoint", html.B(count(page.step))))
    protocols = (("frozen", "Frozen weights"), ("online", "Online"))
    links = [(t, encode(state.to(protocol=p)), p == state.protocol) for p, t in protocols]
    return View(
        title="Consistency",
        chips=chips,
        buttons=[panes.export_menu("Export", page.exports())] if page.here else [],
        toolbar=[panes.segmented("protocol", links), *page.fields()],
        cards=page.cards(),
        inspector=page.inspector(),
        shape=f"consistency {run.id} {state.protocol}",
    )


class _Page:
    """The panes of one protocol at one checkpoint."""

    def __init__(self, state: ViewState, store: Store, theme: str, run: AnyRun) -> None:
        self.state, self.store, self.theme, self.run = state, store, theme, run
        steps = panes.found(lambda: store.steps(run))
        self.drops = lr_drops(steps["step"], steps["lr"]) if steps else []
        everything = store.results(run, "consistency")
        self.stored = [s for s in everything if protocol_of(s) == state.protocol]
        self.steps = sorted({checkpoint_of(s) for s in self.stored})
        self.step = state.step if state.step is not None else (self.steps or [None])[-1]
        here = [s for s in self.stored if checkpoint_of(s) == self.step]
        self.here = {perturbation_of(s): s for s in here}

    def load(self) -> dict[str, Consistency]:
        """The results at the checkpoint by perturbation; raises what says why there are none."""
        if not self.here:
            where = f" at checkpoint {self.step}" if self.steps else ""
            raise MissingError(
                f"No {self.state.protocol} consistency measured{where}.", self._command()
            )
        return {label: self.store.load(stored) for label, stored in self.here.items()}

    def _command(self) -> str:
        options = [f"--protocol {self.state.protocol}"]
        options += [f"--checkpoint {self.step}"] if self.step is not None else []
        return self.store.command("consistency", self.run, *options)

    def exports(self) -> list[tuple[str, str]]:
        """Paper figures and data of what is shown."""
        links = run_downloads(self.run, ("consistency", "Consistency"))
        for label, stored in self.here.items():
            links += [(f"{label}, {form}", href) for form, href in downloads(self.run, stored)]
        return links

    def fields(self) -> list[Component]:
        """The checkpoint, where several were measured."""
        if len(self.steps) < 2 or self.step is None:
            return []
        steps = sorted({*self.steps, self.step})
        links = [(count(step), encode(self.state.to(step=step))) for step in steps]
        current = encode(self.state.to(step=self.step))
        return [panes.choice("step", "Checkpoint", links, current)]

    def cards(self) -> list[Card]:
        """Agreement over training, single vectors, matrices."""
        first = [self._through_training()]
        if self.state.protocol == "online":
            first.append(self._recorded())
        matrices, bar = self._matrices()
        return [
            Card(panes=first, height=260),
            Card(panes=self._vectors(), height=210),
            Card(panes=matrices, height=300, footer=bar),
        ]

    def _vectors(self) -> list[Pane]:
        columns = [("norms", "‖ε‖"), ("loss_rise", "Loss rise"), ("cosine_gradient", "cos(ε, g)")]
        if self.state.protocol == "online":
            columns = [("consecutive", "To the one before"), *columns[:2]]
        return [self._single(column, title) for column, title in columns]

    def _spread(self) -> str:
        online = self.state.protocol == "online"
        return "each step" if online else "median, range of batches"

    def _series(self) -> list[tuple[str, int, list[Consistency]]]:
        if not self.stored:
            self.load()
        labels = list(dict.fromkeys(perturbation_of(s) for s in self.stored))
        return [
            (
                label,
                color_of(label),
                [self.store.load(s) for s in self.stored if perturbation_of(s) == label],
            )
            for label in labels
        ]

    def _through_training(self) -> Pane:
        def draw() -> panes.Body:
            return figures.plot_consistency(
                self._series(),
                drops=self.drops,
                total=self.run.total_steps,
                selected=self.step,
                theme=self.theme,
            )

        return Pane(
            name="agreement",
            title="Direction consistency",
            note="mean pairwise cosine c̄",
            keys=[
                key("bars: 95 % interval over batches", "var(--muted)"),
                key("95 % of random sign flips", "var(--null)", "band"),
            ],
            body=panes.shown(draw, self.store),
        )

    def _recorded(self) -> Pane:
        def draw() -> panes.Body:
            steps = self.store.steps(self.run)
            if not np.isfinite(steps["cosine_previous"]).any():
                raise MissingError("This run recorded no perturbations.")
            return figures.plot_steps(
                steps,
                column="cosine_previous",
                scale="linear",
                total=self.run.total_steps,
                selected=self.step,
                theme=self.theme,
                color=self.run.color,
            )

        return Pane(
            name="recorded",
            title="cos(εₜ, εₜ₋₁)",
            note="recorded at every step",
            body=panes.shown(draw, self.store),
        )

    def _single(self, column: str, title: str) -> Pane:
        note = "mean and its null" if column == "consecutive" else self._spread()

        def draw() -> panes.Body:
            if column == "consecutive":
                items = [(label, color_of(label), r) for label, r in self.load().items()]
                return figures.plot_consecutive(items, theme=self.theme)
            items = self._series()
            if not any(np.isfinite(getattr(r, column)).any() for _, _, rs in items for r in rs):
                raise MissingError(f"No {column.replace('_', ' ')} was measured.")
            return figures.plot_norms(items, column=column, drops=self.drops, theme=self.theme)

        return Pane(name=column, title=title, note=note, body=panes.shown(draw, self.store))

    def _matrices(self) -> tuple[list[Pane], list[Component]]:
        loaded = panes.found(self.load)
        if not loaded:
            body = panes.shown(
                lambda: figures.plot_cosines(next(iter(self.load().values()))), self.store
            )
            return [Pane(name="matrix", title="Pairwise cosines", body=body)], []
        limit = max(largest_cosine(result) for result in loaded.values())
        kept = []
        for label, result in loaded.items():
            stored = self.here[label]
            kept.append(
                Pane(
                    name=f"matrix {label}",
                    title=label,
                    note="cosine of every pair",
                    body=panes.shown(lambda r=result: self._matrix(r, limit), self.store),
                    download=data_address(self.run, stored),
                )
            )
        bar = panes.color_bar("Cosine", color_bar((-limit, limit), "linear"), "tide")
        return kept, [bar, html.Span("one scale for all; the diagonal is left out of it")]

    def _matrix(self, result: Consistency, limit: float) -> panes.Body:
        figure = figures.plot_cosines(result, theme=self.theme)
        figure.update_traces(zmin=-limit, zmax=limit, selector={"name": "cosines"})
        return figure

    def inspector(self) -> list[Component]:
        """Numbers beside their null, facts, caption, downloads."""
        parts = troubles(self.store, self.run)
        loaded = panes.found(self.load)
        if not loaded:
            return [*parts, run_section(self.run)]
        stored = next(iter(self.here.values()))
        return [
            panes.section(f"Checkpoint {count(self.step)}", numbers_table(loaded)),
            *parts,
            *described(self.store, self.run, stored, self._command()),
        ]


def protocol_of(stored: StoredResult) -> str:
    """The protocol of a stored consistency."""
    return str(stored.options.get("protocol", "frozen"))


def perturbation_of(stored: StoredResult) -> str:
    """The perturbation of a stored consistency."""
    told = stored.options.get("perturbation") or stored.facts.get("perturbation")
    return str(told or stored.facts.get("method") or "recorded")


def color_of(label: str) -> int:
    """The run color of a perturbation."""
    return _COLORS.get(label.split()[0].split("+")[-1].upper(), 2)


def largest_cosine(result: Consistency) -> float:
    """The largest |cosine| off the diagonal, at least 0.05."""
    off = np.abs(result.cosines[~np.eye(len(result.cosines), dtype=bool)])
    off = off[np.isfinite(off)]
    return max(float(off.max()), 0.05) if off.size else 1.0


def numbers_table(results: dict[str, Consistency]) -> Component:
    """Metric by perturbation, with the nulls as rows of their own."""

    def row(name: str, pick: Any) -> tuple:
        return (name, *(pick(result) for result in results.values()))

    heads = ["", *[label.split()[0] for label in results]]
    rows = [
        row("mean cos c̄", lambda r: number(r.mean_cosine, 2)),
        row("  95 %, low", lambda r: number(r.interval_low, 2)),
        row("  95 %, high", lambda r: number(r.interval_high, 2)),
        row("null of c̄, low", lambda r: number(r.null_low, 2)),
        row("null of c̄, high", lambda r: number(r.null_high, 2)),
        row("resultant R", lambda r: number(r.resultant_length, 2)),
        row("  at random, 1/√n", lambda r: number(len(r.norms) ** -0.5, 2)),
        row("median ‖ε‖", lambda r: number(float(np.nanmedian(r.norms)), 2)),
        row("median rise", lambda r: number(_median(r.loss_rise), 2)),
    ]
    return panes.table(heads, rows, label="consistency beside its null")


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
