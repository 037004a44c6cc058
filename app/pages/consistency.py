"""How well perturbation directions agree, between batches and between steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures.alignments import perturbation_color
from landscape.figures.measure_lines import radii_of, radius_text
from landscape.figures.numbers import count
from landscape.figures.scales import color_bar, lr_drops
from landscape.results import Consistency
from landscape.runs import StoredResult

from .. import panes
from ..inspector import data_address, described, downloads, run_downloads, run_section, troubles
from ..panes import Card, Pane, View, key
from ..store import AnyRun, MissingError, Store, checkpoint_of
from ..view_state import ViewState, encode
from . import consistency_panes as own
from .consistency_numbers import numbers_table, offset_table, rise_table

_KINDS = {
    "consistency": "Consistency",
    "shares": "How samples count",
    "components": "Parts of ε",
    "norms": "Length of ε",
    "tensors": "Layer by layer",
}
_OF_RISE = {"rise": "Loss rise", "transfer": "Transfer", "alignment": "Curvature along ε"}
"""Figures of a whole run that the export menu offers, by what they are made of."""


def view(state: ViewState, store: Store, theme: str) -> View:
    """The page of a run's direction consistency."""
    run = store.run(state.run)
    page = _Page(state, store, theme, run)
    chips = [panes.run_chip(run)]
    if page.step is not None:
        chips.append(panes.chip("checkpoint", html.B(count(page.step))))
    protocols = (("frozen", "Frozen weights"), ("online", "Online"))
    links = [(t, encode(state.to(protocol=p)), p == state.protocol) for p, t in protocols]
    cards = page.cards()
    return View(
        title="Consistency",
        chips=chips,
        buttons=[panes.export_menu("Export", page.exports())] if page.here else [],
        toolbar=[panes.segmented("protocol", links), *page.fields()],
        cards=cards,
        inspector=page.inspector(),
        shape=" ".join(["consistency", run.id, *(p.name for card in cards for p in card.panes)]),
    )


class _Page:
    """The panes of one protocol at one checkpoint."""

    def __init__(self, state: ViewState, store: Store, theme: str, run: AnyRun) -> None:
        self.state, self.store, self.theme, self.run = state, store, theme, run
        steps = panes.found(lambda: store.steps(run))
        self.drops = lr_drops(steps["step"], steps["lr"]) if steps else []
        everything = store.results(run, "consistency")
        self.kinds = {
            "consistency": [s for s in everything if protocol_of(s) == state.protocol],
            "rise": store.results(run, "rise"),
            "offset": store.results(run, "offset"),
        }
        shown = self.kinds if state.protocol == "frozen" else ("consistency",)
        self.steps = sorted({checkpoint_of(s) for kind in shown for s in self.kinds[kind]})
        self.step = state.step if state.step is not None else (self.steps or [None])[-1]
        self.here = self.stored("consistency")

    def stored(self, kind: str) -> dict[str, StoredResult]:
        """The newest results of a kind at the checkpoint by perturbation."""
        here = [s for s in self.kinds[kind] if checkpoint_of(s) == self.step]
        return by_perturbation(here)

    def results(self, kind: str) -> dict[str, Any]:
        """Those results, as far as they can be read."""
        found = [(label, self._read([stored])) for label, stored in self.stored(kind).items()]
        return {label: results[0] for label, results in found if results}

    def _read(self, stored: Sequence[StoredResult]) -> list[Any]:
        """Results without those that can't be read, which the inspector tells."""
        found = [panes.found(lambda s=one: self.store.load(s)) for one in stored]
        return [result for result in found if result is not None]

    def groups(self, kind: str) -> list[tuple[str, int, list[Any]]]:
        """Perturbations with their newest result at every checkpoint, and their colors."""
        groups: dict[str, dict[int, StoredResult]] = {}
        for stored in self.kinds[kind]:
            groups.setdefault(perturbation_of(stored), {})[checkpoint_of(stored)] = stored
        read = [
            (label, perturbation_color(label), self._read([of[step] for step in sorted(of)]))
            for label, of in groups.items()
        ]
        return sorted((item for item in read if item[2]), key=lambda item: item[1])

    def command(self, kind: str, *options: str) -> str:
        """What measures a kind at the checkpoint."""
        at = [f"--checkpoint {self.step}"] if self.step is not None else []
        return self.store.command(kind, self.run, *at, *options)

    def missing(self, kind: str, reason: str) -> Any:
        """Draws nothing but says why, and where a kind was measured."""

        def say() -> panes.Body:
            there = {checkpoint_of(stored) for stored in self.kinds[kind]}
            where = f" at checkpoint {self.step}" if there and self.step is not None else ""
            raise MissingError(reason.rstrip(".") + where + ".", self.command(kind))

        return say

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
        kinds = dict(_KINDS if self.detailed else {"consistency": "Consistency"})
        kinds |= _OF_RISE if self.kinds["rise"] else {}
        kinds |= {"offset": "Loss along ε"} if self.kinds["offset"] else {}
        links = run_downloads(self.run, *kinds.items())
        for label, stored in self.here.items():
            links += [(f"{label}, {form}", href) for form, href in downloads(self.run, stored)]
        return links

    def fields(self) -> list[Component]:
        """The checkpoint, and the length of ε along which the loss rises, where several are."""
        fields = []
        if len(self.steps) > 1 and self.step is not None:
            steps = sorted({*self.steps, self.step})
            links = [(count(step), encode(self.state.to(step=step))) for step in steps]
            current = encode(self.state.to(step=self.step))
            fields.append(panes.choice("step", "Checkpoint", links, current))
        radii = radii_of(self.groups("rise"))
        if self.state.protocol == "frozen" and len(radii) > 1:
            links = [
                (radius_text(radius), encode(self.state.to(radius=i)))
                for i, radius in enumerate(radii)
            ]
            at = min(self.state.radius, len(radii) - 1)
            fields.append(panes.choice("radius", "Rise at", links, links[at][1]))
        return fields

    @property
    def detailed(self) -> bool:
        """Whether a result says what ε is made of, as those of older versions do not."""
        groups = self.groups("consistency")
        return any(r.radial.size for _, _, group in groups for r in group)

    def cards(self) -> list[Card]:
        """Agreement over training first; then by protocol."""
        first = [self._through_training()]
        if self.state.protocol == "online":
            first.append(self._recorded())
        cards = [Card(panes=first, height=260)]
        matrices, bar = self._matrices()
        shown = [Card(panes=matrices, height=300, footer=bar)] if self.here else []
        if self.state.protocol == "online":
            return [*cards, *self._windows(), *shown, *own.direction_cards(self)]
        if self.detailed:
            cards.append(own.parts_card(self))
        elif self.kinds["consistency"]:
            cards.append(Card(panes=[self._older()]))
        cards += own.rise_cards(self)
        if self.kinds["consistency"]:
            cards += [own.length_card(self), *own.weights_card(self)]
        tensors = own.tensors_card(self)
        return [*cards, *shown, *own.transfer_card(self), own.offset_card(self), *tensors]

    def _older(self) -> Pane:
        body = panes.empty(
            "Stored without the parts of ε, the weights of samples and layers.",
            "Measure again with",
            self.store.command("consistency", self.run, "--checkpoint all"),
        )
        return Pane(name="parts", title="What ε is made of", body=body)

    def _windows(self) -> list[Card]:
        if not self.kinds["consistency"]:
            return []
        columns = [("consecutive", "To the one before"), ("norms", "‖ε‖")]
        kept = [self._single(column, title) for column, title in (*columns, ("loss_rise", "Rise"))]
        return [Card(panes=kept, height=210)]

    def _series(self) -> list[tuple[str, int, list[Consistency]]]:
        items = self.groups("consistency")
        if not items:
            self.load()
        return items

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
        note = "mean and its null" if column == "consecutive" else "each step"

        def draw() -> panes.Body:
            if column == "consecutive":
                items = [(label, perturbation_color(label), r) for label, r in self.load().items()]
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
        limit = max(own.largest_cosine(result) for result in loaded.values())
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
        tables = [panes.section(f"Checkpoint {count(self.step)}", numbers_table(loaded))]
        if self.state.protocol == "frozen":
            rises, scans = self.results("rise"), self.results("offset")
            tables += [panes.section("Loss rise, nats", rise_table(rises))] if rises else []
            tables += [panes.section("Along the mean ε", offset_table(scans))] if scans else []
        return [
            *tables,
            *parts,
            *described(self.store, self.run, stored, self._command()),
        ]


def by_perturbation(found: Sequence[StoredResult]) -> dict[str, StoredResult]:
    """The newest result of each perturbation, in the order of their colors."""
    newest = {perturbation_of(stored): stored for stored in found}
    return dict(sorted(newest.items(), key=lambda item: perturbation_color(item[0])))


def protocol_of(stored: StoredResult) -> str:
    """The protocol of a stored consistency."""
    return str(stored.options.get("protocol", "frozen"))


def perturbation_of(stored: StoredResult) -> str:
    """The perturbation of a stored consistency."""
    told = stored.options.get("perturbation") or stored.facts.get("perturbation")
    return str(told or stored.facts.get("method") or "recorded")
