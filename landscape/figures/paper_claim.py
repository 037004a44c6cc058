"""Statements and the effects they are judged by on paper: a forest plot, a row for each effect."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.claim_words import SIGNS, SPOKEN, bound_words, effect_words
from landscape.figures.paper_axes import MUTED, run_marker, set_ticks
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import nice_ticks
from landscape.results import Claim

_ROW = 0.46  # inches at 8 pt
_LONGEST = 26  # letters of a row's runs


def draw_claim(claim: Claim, *, venue: str = "icml", color: int = 0) -> PaperFigure:
    """Draw a row for each effect: its value in each seed, the mean, its interval, the margin.

    Each row has an axis of its own, in the unit of its statement. The shaded side supports the
    statement. Small dots are seeds; the marker is their mean with the 95 % t-interval, filled where
    it decides.

    Args:
        claim: What was judged.
        venue: Whose widths and type to use.
        color: Color index of the markers.
    """
    sizes = venue_of(venue)
    scale, rows = sizes.scale, max(len(claim.row_names), 1)
    height = (_ROW * rows + 0.1) * scale
    figure = PaperFigure(sizes.text, height, sizes)
    left, width = 0.23 * sizes.text, 0.53 * sizes.text
    with figure.style():
        for i, statement in enumerate(claim.row_statement.tolist()):
            bottom = height - (_ROW * (i + 1) - 0.17) * scale
            axes = figure.place(left, bottom, width, (_ROW - 0.27) * scale)
            _draw_row(axes, claim, i, statement, color)
            _name_row(axes, claim, i, statement, sizes)
    return figure


def _draw_row(axes: Axes, claim: Claim, i: int, statement: int, color: int) -> None:
    low, high = row_limits(claim, i)
    axes.set_xlim(low, high)
    axes.set_ylim(-1, 1)
    set_ticks(axes.xaxis, nice_ticks(low, high, about=4))
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    margin, relation = float(claim.margin[statement]), claim.relations[statement]
    ends = {"above": (margin, high), "below": (low, margin), "within": (-margin, margin)}[relation]
    axes.axvspan(*ends, color=palette.LIGHT.ok_soft, lw=0, zorder=0.5, gid="supports")
    for edge in (margin, -margin) if relation == "within" else (margin,):
        axes.axvline(edge, color=palette.LIGHT.ok, lw=0.6, ls=(0, (3, 2)), zorder=1)
    shade = palette.run_color(color).light
    values = claim.values[i][np.isfinite(claim.values[i])]
    axes.plot(values, np.full(len(values), -0.55), ".", ms=2.5, color=shade, gid="seeds")
    interval = [float(claim.interval_low[i]), float(claim.interval_high[i])]
    axes.plot(interval, [0.15, 0.15], color=shade, lw=0.9, zorder=2, gid="interval")
    style: Any = {**run_marker(color), "ls": "none", "zorder": 3, "markeredgewidth": 0.8}
    if claim.row_verdicts[i] == "undecided":
        style["markerfacecolor"] = "white"
    axes.plot([float(claim.estimate[i])], [0.15], gid="effect", **style)


def _name_row(axes: Axes, claim: Claim, i: int, statement: int, venue: Venue) -> None:
    """Statement and runs at the left of the axis, effect and verdict at the right."""
    shared: Any = {"transform": axes.transAxes, "fontsize": venue.ticks}
    unit = claim.units[statement]
    name = f"{claim.statements[statement]}, {unit}" if unit else claim.statements[statement]
    axes.text(-0.03, 0.78, name, ha="right", va="center", **shared)
    label = claim.row_names[i]
    if len(label) > _LONGEST:
        label = f"{label[: _LONGEST - 1]}…"
    axes.text(-0.03, 0.12, label, ha="right", va="center", color=MUTED, **shared)
    mean, ends = effect_words(claim, i)
    axes.text(1.03, 0.78, f"{mean} ({ends})", va="center", **shared)
    verdict = claim.row_verdicts[i]
    told = f"{bound_words(claim, statement)}: {SIGNS[verdict]} {SPOKEN[verdict]}"
    axes.text(1.03, 0.12, told, va="center", color=MUTED, **shared)


def row_limits(claim: Claim, i: int) -> tuple[float, float]:
    """Lowest and highest value that the axis of a row shows: interval, seeds, margin, a frame."""
    statement = int(claim.row_statement[i])
    margin = float(claim.margin[statement])
    shown = [margin, -margin if claim.relations[statement] == "within" else margin]
    shown += [claim.interval_low[i], claim.interval_high[i], *claim.values[i]]
    known = np.array([value for value in shown if np.isfinite(value)], float)
    low, high = float(known.min()), float(known.max())
    frame = 0.12 * (high - low) or 0.5 * max(abs(high), 1e-3)
    return low - frame, high + frame
