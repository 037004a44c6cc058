"""Measures of perturbations on paper: panels side by side under one key."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.measure_lines import Line, Panel
from landscape.figures.paper_axes import (
    panel_title,
    run_marker,
    run_style,
    set_ticks,
    size_of,
    step_limits,
    text_width,
    value_limits,
)
from landscape.figures.paper_style import PaperFigure, Venue
from landscape.figures.scales import finite_range, step_top
from landscape.intervals import t_interval

HEIGHT = 1.95
_LEFT, _BELOW, _TITLE, _KEY, _END = 0.5, 0.36, 0.2, 0.17, 0.08
_PRINTED = {"uᵀHu / λ₁": r"$u^\mathsf{T}\! H u\,/\,\lambda_1$"}
DOTTED: Any = (0, (1.2, 1.4))


def printed(text: str) -> str:
    """A title of an axis with what the paper font lacks as a formula."""
    return _PRINTED.get(text, text)


def panel_row(
    venue: Venue, count: int, *, shared: bool = False, height: float = HEIGHT, key: bool = True
) -> tuple[PaperFigure, list[Axes]]:
    """A figure of `count` plots side by side, with room for titles and a key above.

    One plot is as wide as a column, several are as wide as the text. Of plots with a shared value
    axis only the first has room for numbers.
    """
    scale = venue.scale
    width = venue.column if count == 1 else venue.text
    figure = PaperFigure(width, height * scale, venue)
    above = (_TITLE + (_KEY if key else 0.0)) * scale
    left, between = _LEFT * scale, (0.14 if shared else _LEFT) * scale
    each = (width - left - between * (count - 1) - _END * scale) / count
    tall = height * scale - _BELOW * scale - above
    places = [left + i * (each + between) for i in range(count)]
    return figure, [figure.place(at, _BELOW * scale, each, tall) for at in places]


def title_panels(axes: Sequence[Axes], titles: Sequence[str], venue: Venue) -> None:
    """Name the panels, with letters where there are several."""
    for i, (plot, title) in enumerate(zip(axes, titles, strict=True)):
        panel_title(plot, "abcdef"[i] if len(axes) > 1 else "", title, "", venue)


def draw_key(
    axes: Axes, names: Sequence[tuple[str, int]], text: str, venue: Venue, *, lines: bool = True
) -> None:
    """Write whose color and marker is whose above the first plot, and what line styles mean."""
    width, height = size_of(axes)
    up = 1 + (_TITLE * 72 * venue.scale + 1) / height
    middle = up + 0.32 * venue.ticks / height
    shared: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    mark = 13.0 * venue.scale if lines else 6.0 * venue.scale
    across = 0.0
    for name, index in names:
        style: Any = run_style(index) if lines else {"linestyle": "none"}
        axes.plot(
            [(across + part * mark) / width for part in ((0, 0.5, 1) if lines else (0.5,))],
            [middle] * (3 if lines else 1),
            markevery=[1] if lines else [0],
            **(style | run_marker(index) | shared),
        )
        across += mark + 3
        axes.text(across / width, up, name, fontsize=venue.ticks, va="baseline", **shared)
        across += text_width(name, venue.ticks) * 1.06 + 9 * venue.scale
    tone = palette.LIGHT.muted
    axes.text(across / width, up, text, fontsize=venue.ticks, va="baseline", color=tone, **shared)


def draw_panel(axes: Axes, panel: Panel, drops: Sequence[tuple[float, float]] = ()) -> None:
    """Draw the lines of a panel over steps, 95 % intervals as bars, with a line at 0."""
    value_limits(axes, *finite_range(panel.values, "linear"), "linear")
    last = max((float(x.curve.x[-1]) for x in panel.lines if len(x.curve.x)), default=1.0)
    step_limits(axes, 0, step_top(last)[0])
    axes.set_xlim(-0.03 * axes.get_xlim()[1], axes.get_xlim()[1])
    axes.axhline(0, color=palette.LIGHT.zero, lw=0.5, zorder=1.1)
    for at, _ in drops:
        axes.axvline(at, color=palette.LIGHT.control, lw=0.6, ls=(0, (1, 2)), zorder=0.5)
    for line in panel.lines:
        _draw_line(axes, line)
    axes.set_ylabel(printed(panel.axis))


def _draw_line(axes: Axes, line: Line) -> None:
    curve, shade = line.curve, palette.run_color(line.color).light
    style: Any = run_style(line.color) | run_marker(line.color)
    if line.reference:
        style |= {"linestyle": DOTTED, "markerfacecolor": "white", "linewidth": 0.8}
    axes.vlines(curve.x, curve.low, curve.high, color=shade, lw=0.8, zorder=2.5)
    axes.plot(curve.x, curve.middle, zorder=3, **style, clip_on=False)


def draw_columns(
    axes: Axes, columns: Sequence[tuple[str, np.ndarray, bool]], title: str, color: int
) -> None:
    """Draw every batch of one checkpoint as a dot, each column with its mean and 95 % interval.

    Args:
        axes: The plot.
        columns: (name, values of the batches [n], whether a reference: hollow).
        title: Of the value axis.
        color: Color index of the run.
    """
    names = list(dict.fromkeys(name for name, _, _ in columns))
    pairs = len(names) < len(columns)
    everything = [*(values for _, values, _ in columns), np.zeros(1)]
    value_limits(axes, *finite_range(everything, "linear"), "linear")
    axes.axhline(0, color=palette.LIGHT.zero, lw=0.5, zorder=1.1)
    for name, values, hollow in columns:
        at = names.index(name) + (0.18 if hollow else -0.18) * pairs
        dots: Any = run_marker(color) | {"linestyle": "none", "alpha": 0.5}
        dots |= {"markersize": 2.2} | ({"markerfacecolor": "white"} if hollow else {})
        axes.plot(at + 0.16 * (np.arange(len(values)) % 3 - 1) / 2, values, zorder=2, **dots)
        if len(values) and np.isfinite(values).all():
            low, high = t_interval(values)
            axes.vlines([at], low, high, color=palette.INK, lw=1, zorder=3)
            axes.hlines([values.mean()], at - 0.13, at + 0.13, color=palette.INK, lw=1, zorder=3)
    axes.set_xlim(-0.5, len(names) - 0.5)
    set_ticks(axes.xaxis, np.arange(len(names)), names)
    axes.set_ylabel(printed(title))
