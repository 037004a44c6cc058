"""The loss along the mean perturbation on paper: w, w + ε, and where the minimum lies."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.offset_words import TEST, TRAINING, at_end, offset_scale
from landscape.figures.paper_axes import (
    MUTED,
    TEST_DASH,
    run_marker,
    set_ticks,
    value_limits,
)
from landscape.figures.paper_lines import DOTTED, draw_key, panel_row, title_panels
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import finite_range, nice_ticks
from landscape.results import Offset

Run = tuple[str, int, Offset]


def draw_offset(
    runs: Offset | Items[Offset],
    *,
    venue: str = "icml",
    scale: str | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw the loss along the mean ε, w at 0 and w + ε at 1: training, and test where there is one.

    A ring is the minimum; its bar is the 95 % bootstrap interval over samples. A minimum at an end
    of the line is a triangle that points outward.

    Args:
        runs: One result, or (label, color, result) of each perturbation or run, on equal axes.
        venue: Whose widths and type to use.
        scale: "log", "linear", or None: log where the highest loss is over ten times the lowest.
        color: Color index of a single result.
    """
    sizes, items = venue_of(venue), items_of(runs, color)
    panels = [TRAINING, TEST] if any(TEST[0] in r.curves for _, _, r in items) else [TRAINING]
    figure, axes = panel_row(sizes, len(panels))
    with figure.style():
        for plot, curves in zip(axes, panels, strict=True):
            _draw_lines(plot, items, curves, scale, sizes)
        title_panels(axes, ["Training loss", "Test loss"][: len(panels)], sizes)
        words = "ring: minimum, 95 %" + ("; dotted: temperature scaled" if panels[1:] else "")
        draw_key(axes[0], [(label, index) for label, index, _ in items], words, sizes, lines=False)
    return figure


def _draw_lines(
    axes: Axes, items: list[Run], curves: tuple[str, ...], scale: str | None, venue: Venue
) -> None:
    shown = [
        (index, result, result.curves.index(curve), curve)
        for _, index, result in items
        for curve in curves
        if curve in result.curves
    ]
    values = [result.loss[at] for _, result, at, _ in shown]
    scale = scale or offset_scale(values)
    value_limits(axes, *finite_range(values, scale), scale)
    ends = min(r.alpha[0] for _, r, _, _ in shown), max(r.alpha[-1] for _, r, _, _ in shown)
    axes.set_xlim(*ends)
    set_ticks(axes.xaxis, nice_ticks(*ends, about=4))
    _draw_places(axes, venue)
    dashes: dict[str, Any] = {TRAINING[0]: "solid", TEST[0]: TEST_DASH, TEST[1]: DOTTED}
    for index, result, at, curve in shown:
        loss = np.where(np.isfinite(result.loss[at]), result.loss[at], np.nan)
        shade = palette.run_color(index).light
        axes.plot(result.alpha, loss, color=shade, ls=dashes[curve], zorder=2.5)
        _draw_minimum(axes, result, at, index)
    axes.set_xlabel("multiple of mean ε")
    axes.set_ylabel("loss, nats")


def _draw_places(axes: Axes, venue: Venue) -> None:
    for at, name, dash in ((0.0, "w", "solid"), (1.0, "w + ε", (0, (3, 2)))):
        axes.axvline(at, color=palette.LIGHT.control, lw=0.6, ls=dash, zorder=1)
        axes.annotate(
            name,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -1),
            textcoords="offset points",
            ha="left",
            va="top",
            fontsize=venue.ticks,
            color=MUTED,
        )


def _draw_minimum(axes: Axes, result: Offset, at: int, index: int) -> None:
    place, end = float(result.minimum[at]), at_end(result, at)
    value = float(np.interp(place, result.alpha, result.loss[at]))
    shade = palette.run_color(index).light
    axes.hlines([value], result.minimum_low[at], result.minimum_high[at], color=shade, lw=1.4)
    style: Any = run_marker(index) | {"markerfacecolor": "white", "markeredgewidth": 1.0}
    style |= {"markersize": 4.2, "marker": {-1: "<", 0: style["marker"], 1: ">"}[end]}
    axes.plot([place], [value], ls="none", zorder=4, clip_on=False, gid="minimum", **style)
