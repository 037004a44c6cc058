"""The directions of whole runs on paper: cosines and norms by window, and their matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import short
from landscape.figures.paper_axes import (
    add_color_bar,
    add_drops,
    draw_band,
    end_labels,
    name_room,
    run_marker,
    run_style,
    set_ticks,
    size_of,
    step_limits,
    tide_map,
    value_limits,
)
from landscape.figures.paper_curves import draw_null
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import finite_range, nice_ticks, step_top
from landscape.figures.summaries import (
    Curve,
    last_finite,
    marker_every,
    null_envelope,
    off_diagonal,
)
from landscape.figures.windows import (
    ALL_PAIRS,
    cell_edges,
    cosine_curves,
    last_step,
    norm_curve,
    nulls_of,
)
from landscape.results import Directions

PANELS = ("cosines", "norms")
_NULL = "null, 95 %"
_COSINES, _NORMS, _GAP = 1.42, 0.95, 0.13
_DASHES: tuple[Any, ...] = ("solid", (0, (3.2, 1.6)), (0, (1, 1.4)))
Label = tuple[float, str, int | None]


def draw_directions(
    runs: Directions | Items[Directions],
    *,
    venue: str = "icml",
    panels: Sequence[str] = PANELS,
    lag: int | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw how well the directions of a whole run agree, and how long they are, over steps.

    Above: the mean cosine over all pairs of each window with its bootstrap interval, over the
    widest of the runs' sign-flip nulls (95 %); thin lines, of a single run: the mean cosine at
    each lag. Below: median ‖ε‖ of each window, with a band that holds the central 90 %.

    Args:
        runs: One result, or (label, color, result) of each run.
        venue: Whose widths and type to use.
        panels: Of "cosines" and "norms".
        lag: Steps between the vectors whose cosine is drawn, instead of all pairs.
        limits: Lowest and highest cosine of the axis.
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.

    Raises:
        ValueError: If a panel is unknown, or the lag was not measured.
    """
    if not panels or not set(panels) <= set(PANELS):
        raise ValueError(f"panels must be of {', '.join(PANELS)}, got {', '.join(panels)}")
    sizes, items = venue_of(venue), items_of(runs, color)
    scale, lines = sizes.scale, cosine_curves(items, lag)
    room = name_room([name for name, *_ in lines] + [_NULL], sizes) * scale
    heights = [(_COSINES if panel == "cosines" else _NORMS) * scale for panel in panels]
    below, above = 0.36 * scale, (0.2 if len(drops) else 0.1) * scale
    gaps = _GAP * scale * (len(panels) - 1)
    figure = PaperFigure(sizes.column, sum(heights) + gaps + below + above, sizes)
    left, bottom = 0.5 * scale, sum(heights) + gaps + below
    with figure.style():
        for i, (panel, height) in enumerate(zip(panels, heights, strict=True)):
            bottom -= height
            axes = figure.place(left, bottom, sizes.column - left - room, height)
            bottom -= _GAP * scale
            step_limits(axes, 0, step_top(last_step(items))[0])
            add_drops(axes, drops, sizes) if i == 0 else _plain_drops(axes, drops)
            labels = (
                _draw_cosines(axes, items, lines, lag, limits)
                if panel == "cosines"
                else _draw_norms(axes, items)
            )
            end_labels(axes, labels, sizes)
            if i < len(panels) - 1:
                axes.set_xticklabels([])
                axes.set_xlabel("")
            if len(panels) > 1:
                _letter(axes, "ab"[i], left)
    return figure


def _draw_cosines(
    axes: Axes,
    items: Items[Directions],
    lines: Sequence[tuple[str, int, str, Curve]],
    lag: int | None,
    limits: tuple[float, float] | None,
) -> list[Label]:
    """Null, intervals and lines; what stands at their ends."""
    nulls = null_envelope(nulls_of(items) if lag is None else [])
    values = [part for *_, c in lines for part in (c.middle, c.low, c.high)]
    ends = finite_range([*values, nulls[1], nulls[2], np.zeros(1)], "linear", limits)
    value_limits(axes, *ends, "linear")
    draw_null(axes, nulls, axes.get_xlim()[1])
    for _, index, _, curve in lines:
        draw_band(axes, curve, index)
    labels: list[Label] = []
    for at, (name, index, what, curve) in enumerate(lines):
        style: Any = {**run_style(index), **run_marker(index), "zorder": 3}
        style["markevery"] = marker_every(len(curve.x))
        thin = len(items) == 1 and lag is None and what != ALL_PAIRS
        if thin:
            dash = _DASHES[min(at, len(_DASHES)) - 1]
            style |= {"marker": "", "lw": 0.6, "linestyle": dash, "alpha": 0.75, "zorder": 2.8}
        axes.plot(curve.x, curve.middle, **style, clip_on=False)
        labels.append((last_finite(curve.middle), name, None if thin else index))
    if lag is None:
        center = (last_finite(nulls[1]) + last_finite(nulls[2])) / 2
        labels.append((center, _NULL, None))
    one = len(items) == 1 and lag is None
    axes.set_ylabel("mean cosine" if one else f"mean cosine, {lines[0][2]}")
    return labels


def _draw_norms(axes: Axes, items: Items[Directions]) -> list[Label]:
    curves = [(name, index, norm_curve(result)) for name, index, result in items]
    values = [part for *_, c in curves for part in (c.middle, c.low, c.high)]
    value_limits(axes, *finite_range([*values, np.zeros(1)], "linear"), "linear")
    for _, index, curve in curves:
        draw_band(axes, curve, index)
        axes.plot(curve.x, curve.middle, zorder=3, **run_style(index))
    axes.set_ylabel(r"$\|\varepsilon\|$")
    if len(items) == 1:
        return []
    return [(last_finite(c.middle), name, index) for name, index, c in curves]


def _plain_drops(axes: Axes, drops: Sequence[tuple[float, float]]) -> None:
    for at, _ in drops:
        axes.axvline(at, color=palette.LIGHT.control, lw=0.6, ls=(0, (1, 2)), zorder=0.5)


def _letter(axes: Axes, letter: str, left: float) -> None:
    """A bold letter at the upper left of a panel, in its margin."""
    width, _ = size_of(axes)
    place = (-left * 72 / width, 1.0)
    axes.text(*place, f"({letter})", transform=axes.transAxes, va="top", fontweight="bold")


def draw_rotation(directions: Directions, *, venue: str = "icml") -> PaperFigure:
    """Draw the cosine of the mean directions of every two windows: how far the direction turns.

    The diagonal is grey and not part of the color scale.

    Args:
        directions: One result.
        venue: Whose widths and type to use.
    """
    sizes = venue_of(venue)
    matrix, limit = off_diagonal(directions.matrix)
    edges = cell_edges(directions)
    figure, axes, bar = _square(sizes)
    with figure.style():
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_facecolor(palette.LIGHT.diverged)
        axes.pcolormesh(
            edges,
            edges,
            np.ma.masked_invalid(matrix),
            cmap=tide_map(),
            vmin=-limit,
            vmax=limit,
            rasterized=True,
        )
        step_limits(axes, edges[0], edges[-1])
        axes.set_ylim(edges[-1], edges[0])
        ticks = nice_ticks(edges[0], edges[-1], about=4)
        large = edges[-1] >= 5000
        names = [short(float(tick) / 1000) for tick in ticks] if large else None
        set_ticks(axes.yaxis, ticks, names)
        axes.set_ylabel(axes.get_xlabel())
        marks = [(float(tick), short(float(tick))) for tick in nice_ticks(-limit, limit, 4)]
        add_color_bar(figure, bar, (-limit, limit), tide_map(), marks, "cosine")
    return figure


def _square(sizes: Venue) -> tuple[PaperFigure, Axes, Axes]:
    """A figure with a square plot and room for a color bar at its right."""
    scale = sizes.scale
    left, bottom, beside = 0.46 * scale, 0.36 * scale, 0.66 * scale
    side = min(sizes.column - left - beside, 2.2 * scale)
    figure = PaperFigure(left + side + beside, bottom + side + 0.1 * scale, sizes)
    bar = figure.place(left + side + 0.11 * scale, bottom, 0.085 * scale, side)
    return figure, figure.place(left, bottom, side, side), bar
