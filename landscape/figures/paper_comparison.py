"""Differences between two groups of runs on paper: a forest plot, a row for each scalar."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.comparison_words import reach_of, scalar_label, verdict_words
from landscape.figures.paper_axes import MUTED, run_marker, set_ticks, text_width
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import nice_ticks
from landscape.results import Comparison

_ROW, _WORDS = 0.5, 0.42  # inches at 8 pt: a row, and what of it is above its line


def draw_comparison(comparison: Comparison, *, venue: str = "icml", color: int = 0) -> PaperFigure:
    """Draw a row for each scalar: difference of means, its interval, the margin as a band.

    Each row has an axis of its own, in the scalar's unit, with zero in the middle. The thin line is
    the 95 % interval, the thick one that of 90 %, which is held against the margin. A hollow marker
    does not differ from zero.

    Args:
        comparison: What was compared.
        venue: Whose widths and type to use.
        color: Color index of the markers.
    """
    sizes = venue_of(venue)
    scale, rows = sizes.scale, max(len(comparison.names), 1)
    height = (_ROW * rows + 0.2) * scale
    figure = PaperFigure(sizes.column, height, sizes)
    left, width = 0.12 * scale, sizes.column - 0.24 * scale
    with figure.style():
        for i, reach in enumerate(reach_of(comparison)):
            bottom = height - (0.2 + _ROW * (i + 1) - 0.17) * scale
            axes = figure.place(left, bottom, width, (_ROW - _WORDS + 0.06) * scale)
            _draw_row(axes, comparison, i, float(reach), color)
            _name_row(axes, comparison, i, sizes)
        title = " − ".join(comparison.labels or ("A", "B"))
        figure.text(0.5, 1 - 0.13 * scale / height, title, ha="center", fontsize=sizes.size)
    return figure


def _draw_row(axes: Axes, comparison: Comparison, i: int, reach: float, color: int) -> None:
    axes.set_xlim(-1.15 * reach, 1.15 * reach)
    axes.set_ylim(-1, 1)
    set_ticks(axes.xaxis, nice_ticks(-reach, reach, about=4))
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=palette.LIGHT.zero, lw=0.6, zorder=1)
    margin = float(comparison.margin[i])
    if np.isfinite(margin):
        shade = palette.LIGHT.ok_soft
        axes.axvspan(-margin, margin, color=shade, lw=0, zorder=0.5, gid="margin")
    shade = palette.run_color(color).light
    for name, width in (("interval", 0.7), ("equivalence", 1.8)):
        ends = [getattr(comparison, f"{name}_{end}")[i] for end in ("low", "high")]
        axes.plot(ends, [0, 0], color=shade, lw=width, zorder=2, gid=name)
    style: Any = {**run_marker(color), "ls": "none", "zorder": 3, "markeredgewidth": 0.8}
    if comparison.verdicts[i] not in ("differs", "both"):
        style["markerfacecolor"] = "white"
    axes.plot([float(comparison.difference[i])], [0], gid="difference", **style)


def _name_row(axes: Axes, comparison: Comparison, i: int, venue: Venue) -> None:
    """The scalar above its axis at the left, the verdict at the right where both fit."""
    name, verdict = scalar_label(comparison, i), verdict_words(comparison, i)
    shared: Any = {"transform": axes.transAxes, "va": "bottom", "fontsize": venue.ticks}
    room = 72 * (venue.column - 0.3 * venue.scale)
    axes.text(0, 1.05, name, **shared)
    if text_width(f"{name}  {verdict}", venue.ticks) < room:
        axes.text(1, 1.05, verdict, ha="right", color=MUTED, **shared)
