"""The path of a run on paper: its plane, and the variance the plane explains."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize

from landscape.figures import palette
from landscape.figures.numbers import percent
from landscape.figures.paper_axes import MUTED, panel_title, set_ticks
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import finite_range, nice_ticks
from landscape.figures.summaries import leading_components
from landscape.results import Trajectory


def draw_trajectory(
    trajectory: Trajectory,
    *,
    venue: str = "icml",
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw the checkpoints on their plane, and the explained variance beside its null.

    Args:
        trajectory: What was measured.
        venue: Whose widths and type to use.
        drops: (step, lr) where the learning rate fell, marked on the path.
        color: Color index of the run.
    """
    sizes = venue_of(venue)
    scale = sizes.scale
    left, bottom, gap, top = 0.40 * scale, 0.36 * scale, 0.52 * scale, 0.24 * scale
    side = (sizes.column - left - gap - 0.06 * scale) * 0.58
    rest = sizes.column - left - gap - 0.06 * scale - side
    figure = PaperFigure(sizes.column, bottom + side + top, sizes)
    path = figure.place(left, bottom, side, side)
    bars = figure.place(left + side + gap, bottom, rest, side)
    with figure.style():
        _draw_plane(path, trajectory, drops, color, sizes)
        panel_title(path, "a", "path", "", sizes)
        _draw_bars(bars, trajectory, color)
        panel_title(bars, "b", "variance", "", sizes)
    return figure


def _draw_plane(
    axes: Axes,
    trajectory: Trajectory,
    drops: Sequence[tuple[float, float]],
    color: int,
    venue: Venue,
) -> None:
    run, scale = palette.run_color(color).light, venue.scale
    x, y = trajectory.position.T
    ramp = LinearSegmentedColormap.from_list("steps", [palette.LIGHT.diverged, run])
    norm = Normalize(float(trajectory.step[0]), float(trajectory.step[-1]) or 1.0)
    pairs = np.stack([trajectory.position[:-1], trajectory.position[1:]], axis=1)
    shades = ramp(norm(trajectory.step[1:].astype(float)))
    axes.add_collection(LineCollection(list(pairs), colors=shades, linewidths=0.8 * scale))
    points = {"s": (2.6 * scale) ** 2, "cmap": ramp, "norm": norm, "zorder": 3, "linewidths": 0}
    axes.scatter(x, y, c=trajectory.step, **points)
    shared = {"ls": "none", "zorder": 4}
    axes.plot(x[0], y[0], marker="s", ms=4 * scale, mfc="white", mec=run, mew=0.8 * scale, **shared)
    axes.plot(
        x[-1], y[-1], marker="o", ms=4.6 * scale, mfc=run, mec="white", mew=0.6 * scale, **shared
    )
    for step, _ in drops:
        at = [np.interp(step, trajectory.step, axis) for axis in (x, y)]
        mark = {"marker": "v", "ms": 3.6 * scale, "mfc": palette.INK, "mec": "white", "mew": 0.4}
        axes.plot(*at, **mark, **shared)
    middle = (trajectory.position.max(axis=0) + trajectory.position.min(axis=0)) / 2
    half = 0.56 * float(np.ptp(trajectory.position, axis=0).max()) or 0.5
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    set_ticks(axes.xaxis, nice_ticks(middle[0] - half, middle[0] + half, about=3))
    set_ticks(axes.yaxis, nice_ticks(middle[1] - half, middle[1] + half, about=3))
    axes.set_xlabel(trajectory.axis_labels[0])
    axes.set_ylabel(trajectory.axis_labels[1])


def _draw_bars(axes: Axes, trajectory: Trajectory, color: int) -> None:
    ranks, explained, null = leading_components(trajectory)
    run = palette.run_color(color).light
    axes.bar(ranks, explained, width=0.58, color=run, lw=0, zorder=2)
    axes.bar(
        ranks,
        null,
        width=0.82,
        facecolor="none",
        edgecolor=MUTED,
        lw=0.7,
        zorder=3,
        gid="null",
    )
    high = finite_range([explained, null], "linear")[1]
    ticks = nice_ticks(0.0, high, about=4)
    axes.set_xlim(0.4, len(ranks) + 0.6)
    axes.set_ylim(0, 1.08 * high)
    set_ticks(axes.xaxis, ranks)
    set_ticks(axes.yaxis, ticks, [percent(float(tick), 0) for tick in ticks])
    axes.set_xlabel("component")
