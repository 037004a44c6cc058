"""Barriers between minima, on paper: their matrix, or the line between two."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from landscape.figures import palette
from landscape.figures.connections import (
    CONNECTED,
    Lines,
    cell_lines,
    height_limits,
    lines_of,
    short_names,
)
from landscape.figures.numbers import number, short
from landscape.figures.paper_axes import (
    MUTED,
    TEST_DASH,
    add_color_bar,
    basin_map,
    curve_axes,
    run_style,
    set_ticks,
    size_of,
    text_width,
    value_limits,
)
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import finite_range, nice_ticks
from landscape.results import Barrier

_MOST_IN_COLUMN = 5
_LARGEST_CELL, _MANY_CELLS = 0.62, 0.46
_BAR, _BAR_GAP, _BAR_LABELS = 0.085, 0.11, 0.42


def draw_barrier(
    barrier: Barrier, *, venue: str = "icml", quantity: str = "loss", color: int = 0
) -> PaperFigure:
    """Draw the barriers between minima.

    Two minima: the line between them, with the rise over the mean of both ends marked. More: a
    matrix. Below the diagonal each cell is colored by the barrier over the mean of both ends, which
    it states in bold, over the one above the straight line between the ends; above the diagonal
    each cell shows the line itself, all on one scale; the diagonal gives the minima's own values.
    The test set is dashed.

    Args:
        barrier: What was measured.
        venue: Whose widths and type to use.
        quantity: "loss", "error", "test_loss" or "test_error".
        color: Color index of the lines.

    Raises:
        ValueError: If venue or quantity is unknown, or the quantity was not measured.
    """
    sizes, lines = venue_of(venue), lines_of(barrier, quantity)
    if len(barrier.height) == 2:
        return _draw_line(barrier, lines, CONNECTED[quantity], sizes, color)
    return _draw_matrix(barrier, lines, CONNECTED[quantity], sizes, color)


def _draw_line(barrier: Barrier, lines: Lines, title: str, venue: Venue, color: int) -> PaperFigure:
    figure, axes = curve_axes(venue, 2.06, right=0.12, top=0.2, below=0.52)
    values, t = lines.values[0, 1], barrier.t
    arrays = [values] if lines.test is None else [values, lines.test[0, 1]]
    with figure.style():
        value_limits(axes, *finite_range(arrays, "linear"), "linear")
        ends = values[[0, -1]]
        axes.plot([0, 1], ends, lw=0.8, color=MUTED, ls=(0, (1, 1.6)), zorder=2)
        axes.plot(t, values, lw=1.1, zorder=3, gid="line", **run_style(color))
        if lines.test is not None:
            style = {**run_style(color), "linestyle": TEST_DASH}
            axes.plot(t, lines.test[0, 1], lw=0.9, zorder=3, gid="test", **style)
        if np.isfinite(lines.height[0, 1]):
            top, mean = int(np.argmax(values)), float(ends.mean())
            axes.axhline(mean, color=palette.LIGHT.zero, lw=0.5, zorder=1)
            axes.plot(
                t[[top, top]], [mean, values[top]], lw=0.9, color=palette.LIGHT.err, gid="barrier"
            )
        name_ends(axes, short_names(barrier.names, 2))
        axes.set_xlabel("position $t$ on the line")
        axes.set_ylabel(title)
        told = lines.told()
        size = venue.ticks * min(1.0, size_of(axes)[0] / text_width(told, venue.ticks))
        axes.text(0, 1.02, told, transform=axes.transAxes, fontsize=size, color=palette.LIGHT.err)
    return figure


def name_ends(axes: Axes, names: list[str]) -> None:
    """An axis from 0 to 1 with the minima's names under its ends."""
    axes.set_xlim(-0.02, 1.02)
    labels = [f"0\n{names[0]}", "0.25", "0.5", "0.75", f"1\n{names[1]}"]
    set_ticks(axes.xaxis, np.array([0, 0.25, 0.5, 0.75, 1]), labels)


def _draw_matrix(
    barrier: Barrier, lines: Lines, title: str, venue: Venue, color: int
) -> PaperFigure:
    scale, m = venue.scale, len(barrier.height)
    names = short_names(barrier.names, m)
    widest = max(text_width(name, venue.ticks) for name in names) / 72
    left = widest + 0.1 * scale
    beside = (_BAR_GAP + _BAR + _BAR_LABELS) * scale
    few = m <= _MOST_IN_COLUMN
    width, cell = (venue.column, _LARGEST_CELL) if few else (venue.text, _MANY_CELLS)
    side = min(width - left - beside, m * cell * scale)
    turned = widest * 72 + 4 > 72 * side / m
    bottom = widest * 0.75 + 0.14 * scale if turned else 0.2 * scale
    figure = PaperFigure(left + side + beside, bottom + side + 0.24 * scale, venue)
    axes = figure.place(left, bottom, side, side)
    with figure.style():
        _draw_cells(axes, lines, venue)
        for values, style in (
            (lines.values, {"lw": 0.9, **run_style(color)}),
            (lines.test, {"lw": 0.7, **run_style(color), "linestyle": (0, (2.2, 1.2))}),
        ):
            if values is not None:
                x, y, _ = cell_lines(barrier.t, values, lines.range)
                axes.plot(x, y, zorder=3, **style)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_xlim(-0.5, m - 0.5)
        axes.set_ylim(m - 0.5, -0.5)
        for axis in (axes.xaxis, axes.yaxis):
            set_ticks(axis, np.arange(m), names)
        axes.tick_params(length=0)
        if turned:
            axes.tick_params(axis="x", labelrotation=40)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        low, high = lines.range
        axes.text(
            1,
            1.0 + 4 / size_of(axes)[1],
            f"lines {short(low)} – {short(high)}",
            transform=axes.transAxes,
            ha="right",
            fontsize=max(6.5, venue.ticks - 0.5),
            color=MUTED,
        )
        place = figure.place(left + side + _BAR_GAP * scale, bottom, _BAR * scale, side)
        limits = height_limits(lines)
        ticks = [(float(tick), short(float(tick))) for tick in nice_ticks(*limits, 4)]
        add_color_bar(figure, place, limits, basin_map(), ticks, f"{title} barrier")
    return figure


def _draw_cells(axes: Axes, lines: Lines, venue: Venue) -> None:
    """Colored cells with both heights below the diagonal, the minima's own values on it."""
    limits, m = height_limits(lines), len(lines.height)
    cell = size_of(axes)[0] / m
    size = min(venue.ticks, cell / 2.6)
    words: dict[str, Any] = {"ha": "center", "fontsize": size}
    for i in range(m):
        for j in range(m):
            height, shade = lines.height[i, j], "#FFFFFF" if i != j else palette.LIGHT.sunken
            if i > j and np.isfinite(height):
                shade = palette.map_color(float((height - limits[0]) / (limits[1] - limits[0])))
            axes.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fc=shade, ec=palette.LIGHT.line, lw=0.4)
            )
            if i > j:
                ink = palette.INK if palette.is_light(shade) else "white"
                bold = number(height, 2)
                axes.text(j, i - 0.04, bold, color=ink, va="bottom", fontweight="bold", **words)
                over = number(lines.height_over_line[i, j], 2)
                axes.text(j, i + 0.06, over, color=ink, va="top", **words)
        own = number(lines.values[i, (i + 1) % m, 0], 2)
        axes.text(i, i, own, color=MUTED, va="center", **words)
