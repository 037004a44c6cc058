"""Panes of perturbation directions: what ε is made of, whether it climbs, where it leads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape.figures import interactive as figures
from landscape.figures import plot
from landscape.figures.alignments import perturbation_color
from landscape.figures.layer_agreement import agreement_of
from landscape.figures.measure_lines import (
    component_panel,
    places_of,
    radii_of,
    radius_text,
    share_panel,
    steep_panel,
)
from landscape.figures.numbers import count
from landscape.figures.offset_words import TEST, TRAINING
from landscape.figures.scales import color_bar
from landscape.figures.screen_tensors import cosine_limit
from landscape.results import Consistency

from .. import panes
from ..inspector import data_address
from ..panes import Card, Pane, key
from ..store import MissingError

_LINES, _MAPS = 220, 300
"""Heights of rows of lines and of maps in px."""
_PARTS = {
    "components": ("Parts of ε", "cosine to each"),
    "agreement": ("Parts alone", "mean cosine c̄"),
    "radial": ("Radial share", "cos(ε, w)"),
}
_LENGTHS = (
    ("norms", "norms", "‖ε‖"),
    ("relative", "relative", "‖ε‖ / ‖w‖"),
    ("cosine_gradient", "gradient", "cos(ε, ∇L)"),
)
_STEEP = {
    "share": ("Top eigenspace", "share of ε²"),
    "cosine": ("First eigenvector", "|cosine|"),
    "rayleigh": ("Curvature along ε", "uᵀHu / λ₁"),
}


def keys_of(items: Sequence[tuple[str, int, Any]], solid: str = "", dotted: str = "") -> list:
    """Whose color is whose, what dotted lines are, and what bars mean."""
    keys: list[Component] = [
        key(label, f"var(--run-{color % 8})", "square") for label, color, _ in items
    ]
    if dotted:
        keys += [key(solid, "var(--muted)"), key(dotted, "var(--muted)", "dotted")]
    return [*keys, html.Span("bars: 95 % interval of the mean over batches")]


def _pane(
    page: Any, name: str, title: str, note: str, draw: Callable[[], Any], download: str = ""
) -> Pane:
    body = panes.shown(draw, page.store)
    return Pane(name=name, title=title, note=note, body=body, download=download)


def _over_steps(page: Any) -> dict[str, Any]:
    return {
        "drops": page.drops,
        "total": page.run.total_steps,
        "selected": page.step,
        "named": False,
        "theme": page.theme,
    }


def parts_card(page: Any) -> Card:
    """Cosines of ε to its parts, how the parts agree, and the radial share."""
    items = page.groups("consistency")

    def draw(part: str) -> Any:
        if not component_panel(items, part).known:
            said = "No ε here has parts: only AACE's is taken apart." if part != "radial" else ""
            raise MissingError(said or "The cosine to the weights was not measured.")
        return figures.plot_components(items, part=part, **_over_steps(page))

    kept = [
        _pane(page, f"part {part}", title, note, lambda p=part: draw(p))
        for part, (title, note) in _PARTS.items()
    ]
    names = max((r.component_names for _, _, g in items for r in g), key=len, default=())
    return Card(panes=kept, height=_LINES, footer=keys_of(items, *names[:2]))


def rise_cards(page: Any) -> list[Card]:
    """The loss rise at each place on equal axes, then curvature along ε."""
    items = page.groups("rise")
    if not items:
        missing = page.missing("rise", "No loss rise measured: whether ε climbs is not known.")
        return [Card(panes=[_pane(page, "rise", "Loss rise and curvature along ε", "", missing)])]
    radii = radii_of(items)
    radius = radii[min(page.state.radius, len(radii) - 1)]
    rises = [
        _pane(
            page,
            f"rise {place}",
            f"Rise, {place}",
            "",
            lambda p=place: figures.plot_rise(items, place=p, radius=radius, **_over_steps(page)),
        )
        for place in places_of(items)
    ]
    keys = [html.Span(radius_text(radius)), *keys_of(items, "true", "to first order")]
    return [Card(panes=rises, height=_LINES, footer=keys), _steep_card(page, items)]


def _steep_card(page: Any, items: list) -> Card:
    if not steep_panel(items, "share").known:
        reason = "No eigenvectors were found with the loss rise."
        command = page.command("rise", "--k 5")
        body = panes.empty(reason, "Measure them with", command)
        return Card(panes=[Pane(name="steep", title="Curvature along ε", body=body)])
    kept = [
        _pane(
            page,
            f"steep {quantity}",
            title,
            note,
            lambda q=quantity: figures.plot_rise(
                items, part="curvature", quantity=q, **_over_steps(page)
            ),
        )
        for quantity, (title, note) in _STEEP.items()
    ]
    return Card(panes=kept, height=_LINES, footer=keys_of(items, "ε", "gradient of its batch"))


def length_card(page: Any) -> Card:
    """How long ε is, and where the gradient is."""
    items = page.groups("consistency")

    def draw(part: str) -> Any:
        if not component_panel(items, part).known:
            raise MissingError("No cosine gradient was measured.")
        return figures.plot_components(items, part=part, **_over_steps(page))

    kept = [
        _pane(page, name, title, "", lambda p=part: draw(p))
        for name, part, title in _LENGTHS
        if part != "relative" or component_panel(items, part).known
    ]
    return Card(panes=kept, height=_LINES, footer=keys_of(items, "own batch", "all data"))


def weights_card(page: Any) -> list[Card]:
    """How samples count, where that was measured."""
    items = page.groups("consistency")
    here = next((r for r in page.results("consistency").values() if r.true_probability.size), None)

    def probability() -> Any:
        if here is None:
            raise MissingError(f"No probabilities were stored at step {count(page.step)}.")
        return figures.plot_probability(here, theme=page.theme, color=7, named=False)

    def shares() -> Any:
        return figures.plot_shares(items, **_over_steps(page))

    if not share_panel(items).known:
        return []
    kept = [
        _pane(page, "shares", "Effective share of samples", "weights 1 − p; AACE p", shares),
        _pane(
            page, "probability", "True class", f"probability, step {count(page.step)}", probability
        ),
    ]
    return [Card(panes=kept, height=_LINES, footer=keys_of(items))]


def transfer_card(page: Any) -> list[Card]:
    """Transfer matrices at the step, on one scale."""
    found = {n: r for n, r in page.results("rise").items() if r.transfer.size}
    if not page.groups("rise"):
        return []
    if not found:
        missing = page.missing("rise", "No transfer of loss rises")
        return [Card(panes=[_pane(page, "transfer", "Transfer between batches", "", missing)])]
    limit = figures.transfer_limit(*found.values())
    kept = [
        _pane(
            page,
            f"transfer {label}",
            f"Transfer, {label}",
            f"step {count(page.step)}",
            lambda r=result: figures.plot_rise(r, part="transfer", limit=limit, theme=page.theme),
            download=data_address(page.run, page.stored("rise")[label]),
        )
        for label, result in found.items()
    ]
    bar = panes.color_bar("Rise, nats", color_bar((-limit, limit), "linear"), "tide")
    return [Card(panes=kept, height=_MAPS, footer=[bar, html.Span("one scale for all")])]


def offset_card(page: Any) -> Card:
    """The loss along the mean ε: training, and test with its temperature-scaled companion."""
    found = page.results("offset")
    if not found:
        missing = page.missing("offset", "No line scan along the mean ε")
        return Card(panes=[_pane(page, "offset", "Loss along the mean ε", "", missing)])
    items = [(label, perturbation_color(label), result) for label, result in found.items()]
    tested = any(TEST[0] in result.curves for result in found.values())
    sets = (("training", TRAINING), ("test", TEST)) if tested else (("training", TRAINING),)
    kept = [
        _pane(
            page,
            f"offset {name}",
            f"{name.capitalize()} loss along the mean ε",
            f"step {count(page.step)}",
            lambda c=curves: figures.plot_offset(items, curves=c, named=False, theme=page.theme),
            download=data_address(page.run, next(iter(page.stored("offset").values()))),
        )
        for name, curves in sets
    ]
    keys = keys_of(items)[:-1]
    keys.append(key("minimum, 95 % over samples", "var(--muted)", "hollow"))
    if tested:
        keys.append(key("test", "var(--muted)", "dashed"))
        keys.append(key("test, temperature scaled", "var(--muted)", "dotted"))
    return Card(panes=kept, height=260, footer=keys)


def tensors_card(page: Any) -> list[Card]:
    """Agreement layer by layer of each perturbation, on one scale."""
    items = [
        (label, color, [r for r in group if r.layer_products.size])
        for label, color, group in page.groups("consistency")
    ]
    items = [item for item in items if item[2]]
    if not items:
        return []
    limit = cosine_limit(*(agreement_of(group) for _, _, group in items))
    kept = [
        _pane(
            page,
            f"tensors {label}",
            f"Layer by layer, {label}",
            "mean pairwise cosine",
            lambda g=group, c=color: figures.plot_tensors(
                g, limit=limit, selected=page.step, theme=page.theme, color=c
            ),
        )
        for label, color, group in items
    ]
    bar = panes.color_bar("Mean cosine", color_bar((-limit, limit), "linear"), "tide")
    dot = html.Span("dot: within 95 % of random sign flips")
    return [Card(panes=kept, height=360, footer=[bar, dot])]


def direction_cards(page: Any) -> list[Card]:
    """The directions of the whole run as it trained."""
    stored = page.store.results(page.run, "directions")
    if not stored:
        command = page.store.command("directions", page.run)
        body = panes.empty(
            "The whole run's directions were not measured.", "Measure them with", command
        )
        return [Card(panes=[Pane(name="directions", title="The whole run", body=body)])]

    def draw(part: str) -> Any:
        style = {"drops": page.drops, "theme": page.theme, "color": page.run.color}
        style |= {"total": page.run.total_steps, "selected": page.step}
        return plot(page.store.load(stored[-1]), part=part, **style)

    address = data_address(page.run, stored[-1])
    parts = {
        "cosines": ("Through training", "cosines in windows and at lags"),
        "norms": ("‖ε‖", "median, central 90 %"),
        "matrix": ("Between windows", "cosine of mean directions"),
    }
    made = {
        part: _pane(page, f"directions {part}", *words, lambda p=part: draw(p), download=address)
        for part, words in parts.items()
    }
    return [
        Card(panes=[made["cosines"]], height=260),
        Card(panes=[made["matrix"], made["norms"]], height=_MAPS),
    ]


def largest_cosine(result: Consistency) -> float:
    """The largest |cosine| off the diagonal, at least 0.05."""
    off = np.abs(result.cosines[~np.eye(len(result.cosines), dtype=bool)])
    off = off[np.isfinite(off)]
    return max(float(off.max()), 0.05) if off.size else 1.0
