"""The figures and the cross-over table of a claim's report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.evidence import AACE, SAM, Evidence, MissingEvidenceError
from landscape.figures import paper
from landscape.figures.captions import caption
from landscape.figures.estimate_words import fixed
from landscape.figures.numbers import NONE
from landscape.figures.paper_style import PaperFigure
from landscape.results import Claim, Consistency, Result

_COLORS = {"sam": 0, "aace": 1}
_NAMES = {"sam": "SAM", "aace": "AACE"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure of the report."""

    title: str
    figure: PaperFigure
    caption: str


def report_figures(claim: Claim, evidence: Evidence, *, venue: str) -> list[Shown]:
    """The claim itself, then what it was judged by: the first seed of SAM's and AACE's runs."""
    shown = [Shown(title="Statements", figure=paper.draw_claim(claim, venue=venue), caption="")]
    for title, draw in _FIGURES.items():
        try:
            shown += draw(title, evidence, venue)
        except MissingEvidenceError:
            continue  # the report says what was not measured
    return shown


def _recorded(title: str, evidence: Evidence, venue: str) -> Iterator[Shown]:
    found = {method: evidence.directions(_first(evidence, method)) for method in (SAM, AACE)}
    items = [(method, color, found[method]) for color, method in enumerate(found)]
    figure = paper.draw_directions(items, venue=venue)
    yield Shown(title=title, figure=figure, caption=_captions(found))


def _through(
    draw: Callable[..., Any], methods: Sequence[str] = (AACE,), **more: Any
) -> Callable[..., Iterator[Shown]]:
    """Both perturbations through the training of the first run of each method."""

    def shown(title: str, evidence: Evidence, venue: str) -> Iterator[Shown]:
        for method in methods:
            run = _first(evidence, method)
            found = {name: evidence.through(run, key) for key, name in _NAMES.items()}
            figure = draw(_items(found), venue=venue, **more)
            last = {name: results[-1] for name, results in found.items()}
            yield Shown(title=f"{title}, {method}'s run", figure=figure, caption=_captions(last))

    return shown


def _rotations(title: str, evidence: Evidence, venue: str) -> Iterator[Shown]:
    for method in (SAM, AACE):
        result = evidence.directions(_first(evidence, method))
        figure = paper.draw_rotation(result, venue=venue)
        yield Shown(title=f"{title}, {method}'s run", figure=figure, caption=caption(result))


def _frozen_matrices(title: str, evidence: Evidence, venue: str) -> Iterator[Shown]:
    for name, result in _pair(evidence, evidence.frozen).items():
        figure = paper.draw_cosines(result, venue=venue)
        yield Shown(title=f"{title}, {name}'s ε", figure=figure, caption=caption(result))


def _rises(part: str) -> Callable[[str, Evidence, str], Iterator[Shown]]:
    def draw(title: str, evidence: Evidence, venue: str) -> Iterator[Shown]:
        found = _pair(evidence, evidence.rise)
        figure = paper.draw_rise(_items(found), part=part, venue=venue)
        yield Shown(title=title, figure=figure, caption=_captions(found))

    return draw


def _offsets(title: str, evidence: Evidence, venue: str) -> Iterator[Shown]:
    found = _pair(evidence, evidence.offset)
    figure = paper.draw_offset(_items(found), venue=venue)
    yield Shown(title=title, figure=figure, caption=_captions(found))


_FIGURES: dict[str, Callable[[str, Evidence, str], Iterator[Shown]]] = {
    "Agreement at frozen weights": _through(paper.draw_consistency, (SAM, AACE)),
    "What ε is made of": _through(paper.draw_components),
    "Which samples of a batch count": _through(paper.draw_shares),
    "Agreement layer by layer": _through(paper.draw_tensors),
    "Agreement and length of ε as recorded": _recorded,
    "Mean directions of epochs": _rotations,
    "Pairs of batches at the last checkpoint of AACE's run": _frozen_matrices,
    "Rise of the loss at the last checkpoint of AACE's run": _rises("rise"),
    "Curvature along ε at the last checkpoint of AACE's run": _rises("curvature"),
    "Loss along the mean ε at the last checkpoint of AACE's run": _offsets,
}


def _first(evidence: Evidence, method: str) -> Any:
    return next(iter(evidence.runs(method).values()))


def _pair(evidence: Evidence, find: Callable[[Any, str], Any]) -> dict[str, Any]:
    """What was measured of SAM's ε and AACE's at the first of AACE's runs."""
    run = _first(evidence, AACE)
    return {_NAMES[name]: find(run, name) for name in _NAMES}


def _items(found: Mapping[str, Any]) -> list[tuple[str, int, Any]]:
    return [(name, _COLORS[name.lower()], result) for name, result in found.items()]


def _captions(found: Mapping[str, Result]) -> str:
    return " ".join(f"{name}: {caption(result)}" for name, result in found.items())


def cross_over(evidence: Evidence) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: weights by method, perturbations in columns, mean and range over seeds."""
    names = list(dict.fromkeys(key[2] for key in evidence.results if key[1] == "frozen"))
    heads = ["weights trained by", *(_label(evidence, name) for name in names)]
    rows = []
    for method in evidence.methods:
        runs = evidence.runs(method).values()
        cells = []
        for name in names:
            found = [evidence.results.get((run.id, "frozen", name)) for run in runs]
            cells.append(_cell([r.mean_cosine for r in found if isinstance(r, Consistency)]))
        rows.append([method, *cells])
    return heads, rows


def _label(evidence: Evidence, name: str) -> str:
    labels = {
        result.perturbation
        for key, result in evidence.results.items()
        if key[1:] == ("frozen", name) and isinstance(result, Consistency)
    }
    return labels.pop() if len(labels) == 1 else name


def _cell(cosines: Sequence[float]) -> str:
    if not cosines:
        return NONE
    mean, low, high = (fixed(float(v), 2) for v in (np.mean(cosines), min(cosines), max(cosines)))
    return f"{mean} ({low} to {high})" if len(cosines) > 1 else mean
