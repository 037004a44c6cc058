"""Whether ε climbs on paper: loss rises, their transfer between batches, curvature along ε."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.figures import palette
from landscape.figures.items import items_of
from landscape.figures.measure_lines import (
    QUANTITIES,
    Panel,
    groups_of,
    places_of,
    radius_text,
    rise_panel,
    rise_rows,
    steep_panel,
    steep_rows,
    steep_words,
)
from landscape.figures.numbers import short
from landscape.figures.paper_axes import add_color_bar, set_ticks, tide_map
from landscape.figures.paper_lines import (
    draw_columns,
    draw_key,
    draw_panel,
    panel_row,
    title_panels,
)
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import nice_ticks
from landscape.results import Rise

PARTS = ("rise", "transfer", "curvature")


def draw_rise(
    runs: Any,
    *,
    part: str = "rise",
    radius: float = float("nan"),
    venue: str = "icml",
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw the loss rise that ε causes, or where ε lies among the eigenvectors.

    Over checkpoints, points are means over batches with 95 % t-intervals. A single result is drawn
    batch by batch.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        part: "rise": one panel for each place, on equal axes; "transfer": a matrix of each run's
            last result, on one scale; "curvature": share in the eigenvectors found, |cos| to the
            first and Rayleigh quotient, beside the gradient of the same batch.
        radius: Length of ε, one of those measured; NaN for its own.
        venue: Whose widths and type to use.
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.

    Raises:
        ValueError: If there is no such part, or it was measured nowhere.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    sizes = venue_of(venue)
    if part == "transfer":
        return _draw_transfers(runs, sizes, color)
    if isinstance(runs, Rise):
        return _draw_batches(runs, part, radius, sizes, color)
    groups = groups_of(runs, color)
    if part == "rise":
        panels = [rise_panel(groups, place, radius) for place in places_of(groups)]
    else:
        panels = [steep_panel(groups, quantity) for quantity in QUANTITIES]
    words = f"{radius_text(radius)}; " if part == "rise" else ""
    return draw_panels(panels, groups, sizes, drops, shared=part == "rise", more=words)


def draw_panels(
    panels: Sequence[Panel],
    groups: Sequence[tuple[str, int, Any]],
    sizes: Venue,
    drops: Sequence[tuple[float, float]],
    *,
    shared: bool = False,
    more: str = "",
) -> PaperFigure:
    """Draw those panels side by side that were measured, under one key.

    Raises:
        ValueError: If none was measured.
    """
    known = [panel for panel in panels if panel.known]
    if not known:
        titles = ", ".join(panel.title.lower() for panel in panels) or "a loss rise"
        raise ValueError(f"{titles}: at least one must be measured, got none")
    figure, axes = panel_row(sizes, len(known), shared=shared)
    with figure.style():
        for i, (plot, panel) in enumerate(zip(axes, known, strict=True)):
            draw_panel(plot, panel, drops)
            if shared and i:
                plot.set_ylabel("")
                plot.set_yticklabels([])
        title_panels(axes, [panel.title for panel in known], sizes)
        names = [(label, index) for label, index, _ in groups]
        draw_key(axes[0], names, more + _key(known), sizes)
    return figure


def _key(panels: Sequence[Panel]) -> str:
    """What line styles mean, once where it is the same in all panels, else what is dotted."""
    keys = list(dict.fromkeys(panel.key for panel in panels if panel.key))
    if len(keys) == 1:
        return keys[0]
    letters = [", ".join("abcdef"[i] for i, p in enumerate(panels) if p.key == key) for key in keys]
    dotted = [key.rpartition(", ")[2].replace("dotted: ", "dotted ") for key in keys]
    return "; ".join(f"{at}: {what}" for at, what in zip(letters, dotted, strict=True))


def _draw_batches(result: Rise, part: str, radius: float, sizes: Venue, color: int) -> PaperFigure:
    if part == "rise":
        columns = [
            (place, rise_rows(result, place, radius)[at], at == 1)
            for place in result.places
            for at in (0, 1)
        ]
        figure, axes = panel_row(sizes, 1, key=False)
        with figure.style():
            draw_columns(axes[0], columns, "L(w + ε) − L(w), nats", color)
            words = f"{radius_text(radius)}; hollow: to first order"
            title_panels(axes, [words], sizes)
        return figure
    if not result.eigenvalues.size:
        raise ValueError("eigenvectors must be measured, got none")
    figure, axes = panel_row(sizes, len(QUANTITIES), key=False)
    with figure.style():
        for plot, quantity in zip(axes, QUANTITIES, strict=True):
            own, gradient = steep_rows(result, quantity)
            title = steep_words([("", color, [result])], quantity)[1]
            draw_columns(
                plot, [("ε", own, False), ("∇L of its batch", gradient, True)], title, color
            )
        titles = [steep_words([("", color, [result])], q)[0] for q in QUANTITIES]
        title_panels(axes, titles, sizes)
    return figure


def _draw_transfers(runs: Any, sizes: Venue, color: int) -> PaperFigure:
    """One matrix for each run, on one scale symmetric about 0, with one color bar."""
    last = [
        (label, found[-1] if isinstance(found, list | tuple) else found)
        for label, _, found in items_of(runs, color)
    ]
    shown = [(label, result) for label, result in last if result.transfer.size]
    if not shown:
        raise ValueError("a transfer matrix must be measured, got none")
    values = np.concatenate([np.abs(result.transfer).ravel() for _, result in shown])
    top = float(values[np.isfinite(values)].max(initial=0.0)) or 1.0
    scale = sizes.scale
    left, below, above, gap, beside = (x * scale for x in (0.42, 0.36, 0.2, 0.16, 0.72))
    width = sizes.column if len(shown) == 1 else sizes.text
    side = (width - left - beside - gap * (len(shown) - 1)) / len(shown)
    side = min(side, 2.0 * scale)
    width = left + side * len(shown) + gap * (len(shown) - 1) + beside
    figure = PaperFigure(width, below + side + above, sizes)
    with figure.style():
        axes = [figure.place(left + i * (side + gap), below, side, side) for i in range(len(shown))]
        for i, (plot, (_, result)) in enumerate(zip(axes, shown, strict=True)):
            _matrix(plot, result, top)
            plot.set_ylabel("" if i else "ε of batch")
            if i:
                plot.set_yticklabels([])
        title_panels(axes, [label for label, _ in shown], sizes)
        place = figure.place(width - beside + 0.1 * scale, below, 0.085 * scale, side)
        ticks = [(float(tick), short(float(tick))) for tick in nice_ticks(-top, top, 4)]
        add_color_bar(figure, place, (-top, top), tide_map(), ticks, "rise, nats")
    return figure


def _matrix(axes: Any, result: Rise, top: float) -> None:
    size = len(result.transfer)
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_facecolor(palette.LIGHT.diverged)
    ends = (0.5, size + 0.5)
    axes.imshow(
        np.ma.masked_invalid(result.transfer),
        cmap=tide_map(),
        vmin=-top,
        vmax=top,
        extent=(*ends, *ends[::-1]),
        interpolation="none",
        origin="upper",
    )
    for axis in (axes.xaxis, axes.yaxis):
        set_ticks(axis, nice_ticks(1, size, about=4) if size > 2 else np.arange(1, size + 1))
    axes.set_xlabel("loss of batch")
