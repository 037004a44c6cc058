"""Multipliers of the update map on paper: the complex plane with the unit circle."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import number
from landscape.figures.paper_axes import (
    SWATCH,
    run_marker,
    set_ticks,
    size_of,
    text_width,
    tick_names,
    with_math,
)
from landscape.figures.paper_marks import LINE
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import nice_ticks
from landscape.results import Stability

Run = tuple[str, int, Stability]


def draw_stability(
    stabilities: Stability | Items[Stability],
    *,
    venue: str = "icml",
    limit: float | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw the multipliers of the update map; on the circle, |μ| = 1, is the edge of stability.

    Hollow ones have residuals above the tolerance. The leading one of a single run is labeled, and
    the one farthest from 1; of several runs the magnitudes of the leading ones stand above.

    Args:
        stabilities: One result, or (label, color, result) of each run.
        venue: Whose widths and type to use.
        limit: Largest |real| and |imaginary| part of the axes.
        color: Color index of a single run.
    """
    sizes, items = venue_of(venue), items_of(stabilities, color)
    scale = sizes.scale
    reach = _reach(items) if limit is None else float(limit)
    ticks = nice_ticks(-reach, reach, about=4)
    widest = max(text_width(name, sizes.ticks) for name in tick_names(ticks)) / 72
    left, bottom, right = max(0.46 * scale, widest + 0.26 * scale), 0.36 * scale, 0.08 * scale
    rows = len(items) if len(items) > 1 else 0
    above = (0.08 + rows * LINE) * scale
    side = min(sizes.column - left - right, 2.3 * scale)
    figure = PaperFigure(left + side + right, bottom + side + above, sizes)
    axes = figure.place(left, bottom, side, side)
    with figure.style():
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        set_ticks(axes.xaxis, ticks)
        set_ticks(axes.yaxis, ticks)
        axes.set_xlabel(r"Re $\mu$")
        axes.set_ylabel(r"Im $\mu$")
        _draw_circle(axes)
        for item in items:
            _draw_multipliers(axes, item)
        if len(items) == 1:
            _label_leading(axes, items[0][2], reach, sizes)
        else:
            _list_leading(axes, items, sizes)
    return figure


def _reach(items: list[Run]) -> float:
    parts = [np.abs([s.multipliers_real, s.multipliers_imag]).ravel() for _, _, s in items]
    flat = np.concatenate([*parts, np.ones(1)])
    return 1.15 * float(flat[np.isfinite(flat)].max())


def _draw_circle(axes: Axes) -> None:
    line: Any = {"color": palette.LIGHT.zero, "lw": 0.5, "zorder": 1}
    axes.axhline(0, **line)
    axes.axvline(0, **line)
    warn = palette.LIGHT.warn
    axes.add_patch(Circle((0, 0), 1, fc="none", ec=warn, lw=0.9, ls=(0, (4, 2)), zorder=2))


def _draw_multipliers(axes: Axes, item: Run) -> None:
    _, index, result = item
    shade = palette.run_color(index).light
    largest = np.hypot(result.multipliers_real, result.multipliers_imag).max(initial=0.0)
    loose = result.residuals > result.tolerance * largest
    for chosen, fill in ((~loose, shade), (loose, "white")):
        style: Any = {**run_marker(index), "markerfacecolor": fill, "ls": "none", "zorder": 3}
        style["markeredgewidth"] = 0.7
        x, y = result.multipliers_real[chosen], result.multipliers_imag[chosen]
        axes.plot(x, y, **style)


def _label_leading(axes: Axes, result: Stability, reach: float, venue: Venue) -> None:
    """Magnitudes of the leading multiplier and of the one farthest from 1, beside them."""
    points = np.stack([result.multipliers_real, result.multipliers_imag], axis=1)
    known = np.isfinite(points).all(axis=1)
    if not known.any():
        return
    magnitude = np.where(known, np.hypot(*points.T), -1.0)
    away = np.where(known, np.hypot(points[:, 0] - 1, points[:, 1]), -1.0)
    leading, farthest = int(magnitude.argmax()), int(away.argmax())
    named = {leading: with_math(r"$|\mu_1|$ = " + number(float(magnitude[leading]), 4))}
    if result.facts.get("swing") and farthest != leading:
        named[farthest] = with_math(r"$|\mu|$ = " + number(float(magnitude[farthest]), 4))
    width, _ = size_of(axes)
    for i, text in named.items():
        x, y = points[i]
        half = (text_width(text, venue.ticks) / 2 + 2) / width * 2 * reach
        place = min(max(x, half - reach), reach - half)
        inside = 0.94 * min(abs(x), float(np.sqrt(max(1 - y * y, 0.0)))) - half
        if inside > 0 and abs(x) < 1.5:
            place = float(np.copysign(inside, x))
        up = -1 if y > 0.8 * reach else 1
        axes.annotate(
            text,
            (place, y),
            xytext=(0, up * 5 * venue.scale),
            textcoords="offset points",
            ha="center",
            va="bottom" if up > 0 else "top",
            fontsize=venue.ticks,
            bbox={"boxstyle": "square,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.8},
            zorder=4,
        )


def _list_leading(axes: Axes, items: list[Run], venue: Venue) -> None:
    """A line for each run above the plot: its name and the magnitude of its leading multiplier."""
    size = venue.ticks
    across = max(text_width(label, size) for label, _, _ in items) + (SWATCH + 1) * size
    for i, (label, index, result) in enumerate(items):
        up = 4 + 72 * LINE * venue.scale * (len(items) - 1 - i)
        shared: Any = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "va": "bottom",
            "fontsize": size,
            "annotation_clip": False,
        }
        axes.annotate("■", (0, 1), xytext=(0, up), color=palette.run_color(index).light, **shared)
        axes.annotate(label, (0, 1), xytext=(SWATCH * size, up), **shared)
        leading = with_math(r"$|\mu_1|$ = " + number(result.multiplier, 4))
        axes.annotate(leading, (0, 1), xytext=(across, up), **shared)
