"""A trained curve between two minima, on paper: loss, error, and the curve on its plane."""

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.connections import CONNECTED, along, quantities_connected, room, short_names
from landscape.figures.paper_axes import (
    MUTED,
    TEST_DASH,
    panel_title,
    run_style,
    set_ticks,
    size_of,
    value_limits,
)
from landscape.figures.paper_barrier import name_ends
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import choose_scale, finite_range, nice_ticks
from landscape.results import Curve

_LEFT, _BOTTOM, _TOP, _RIGHT, _GAP, _HEIGHT = 0.46, 0.52, 0.24, 0.14, 0.56, 1.45


def draw_curve(
    curve: Curve,
    *,
    venue: str = "icml",
    quantity: str | None = None,
    scale: str | None = "linear",
    color: int = 0,
) -> PaperFigure:
    """Draw a curve between two minima beside the straight line, and the curve on its plane.

    On the plane circles are minima and diamonds bends. What was measured on the test set is dashed.

    Args:
        curve: What was measured.
        venue: Whose widths and type to use.
        quantity: "loss", "error", "test_loss" or "test_error"; by default the loss and, where there
            are classes, the error in a panel of its own.
        scale: "linear" or "log".
        color: Color index of the curve; the straight line is grey.

    Raises:
        ValueError: If venue or quantity is unknown, or the quantity was not measured.
    """
    sizes = venue_of(venue)
    measured = [name for name in ("loss", "error") if name in quantities_connected(curve)]
    shown = measured if quantity is None else [quantity]
    unit, count = sizes.scale, len(shown) + 1
    panel = (sizes.text - (_LEFT + _RIGHT + _GAP * (count - 1)) * unit) / count
    height = min(panel, _HEIGHT * unit)
    figure = PaperFigure(sizes.text, height + (_BOTTOM + _TOP) * unit, sizes)
    panels = [
        figure.place(_LEFT * unit + i * (panel + _GAP * unit), _BOTTOM * unit, panel, height)
        for i in range(count)
    ]
    with figure.style():
        for i, (axes, name) in enumerate(zip(panels, shown, strict=False)):
            _draw_along(axes, curve, name, scale, color)
            panel_title(axes, "abc"[i], CONNECTED[name], "", sizes)
        _draw_plane(panels[-1], curve, color, sizes)
        panel_title(panels[-1], "abc"[len(shown)], "plane", "", sizes)
    return figure


def _draw_along(axes: Axes, curve: Curve, quantity: str, scale: str | None, color: int) -> None:
    lines = along(curve, quantity)
    chosen = choose_scale(scale, list(lines.values()))
    value_limits(axes, *finite_range([*lines.values()], chosen), chosen)
    for name in reversed(lines):
        style = run_style(color) if name.startswith("curve") else {"color": MUTED}
        dash = TEST_DASH if name.endswith("test") else "solid"
        width = 1.1 if name == "curve" else 0.8
        axes.plot(curve.t, lines[name], **{**style, "linestyle": dash, "lw": width}, gid=name)
    name_ends(axes, short_names(curve.names, 2))
    axes.set_xlabel("position $t$")
    axes.set_ylabel(CONNECTED[quantity])


def _draw_plane(axes: Axes, curve: Curve, color: int, venue: Venue) -> None:
    run, scale = palette.run_color(color).light, venue.scale
    ends = curve.position[[0, -1]]
    axes.plot(*ends.T, lw=0.8, color=MUTED, zorder=2)
    axes.plot(*curve.position.T, lw=1.1, color=run, zorder=3, gid="curve")
    shared = {"ls": "none", "mec": "white", "mew": 0.6 * scale, "zorder": 4}
    axes.plot(*curve.bend_position.T, marker="D", ms=4 * scale, mfc=run, gid="bends", **shared)
    axes.plot(*ends.T, marker="o", ms=4.6 * scale, mfc=palette.INK, gid="minima", **shared)
    everything = np.concatenate([curve.position, curve.bend_position])
    below = everything[:, 1].mean() >= ends[:, 1].mean()
    for (a, b), name in zip(ends, short_names(curve.names, 2), strict=True):
        axes.annotate(
            name,
            (a, b),
            xytext=(0, (-5 if below else 5) * scale),
            textcoords="offset points",
            ha="center",
            va="top" if below else "bottom",
            fontsize=venue.ticks,
        )
    axes.spines[["top", "right"]].set_visible(True)
    limits = _to_scale(room(everything[:, 0]), room(everything[:, 1], 0.22), size_of(axes))
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    for axis, reach in zip((axes.xaxis, axes.yaxis), limits, strict=True):
        set_ticks(axis, nice_ticks(*reach, about=3))
    axes.set_xlabel("distance along the line")
    axes.set_ylabel("distance beside it")


def _to_scale(
    x: tuple[float, float], y: tuple[float, float], size: tuple[float, float]
) -> list[tuple[float, float]]:
    """Limits widened about their middles until both axes of a plot of a size have one scale."""
    unit = max((x[1] - x[0]) / size[0], (y[1] - y[0]) / size[1])
    halves = [unit * side / 2 for side in size]
    middles = [(limits[0] + limits[1]) / 2 for limits in (x, y)]
    return [(at - half, at + half) for at, half in zip(middles, halves, strict=True)]
