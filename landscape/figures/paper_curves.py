"""Curves on paper: training curves, consistency over steps, matrices of cosines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import short
from landscape.figures.paper_axes import (
    NULL,
    add_color_bar,
    add_drops,
    curve_axes,
    draw_band,
    end_labels,
    name_room,
    run_marker,
    run_style,
    set_ticks,
    step_limits,
    tide_map,
    value_limits,
)
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.scales import choose_scale, finite_range, lr_drops, nice_ticks, step_top
from landscape.figures.summaries import (
    Curve,
    cosine_curve,
    last_finite,
    marker_every,
    null_envelope,
    off_diagonal,
)
from landscape.results import Consistency

FEW = 8
HEIGHT = 1.9


def draw_steps(
    runs: Mapping[str, np.ndarray] | Items[Mapping[str, np.ndarray]],
    *,
    venue: str = "icml",
    column: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw a recorded column over steps, raw, with the drops of the learning rate.

    Args:
        runs: The columns of one run, or (label, color, columns) of each run.
        venue: Whose widths and type to use.
        column: Name of the column.
        scale: "log", "linear", or None: log for a loss that allows it.
        limits: Lowest and highest value of the axis.
        color: Color index of a single run.

    Raises:
        ValueError: If a run has no such column.
    """
    sizes = venue_of(venue)
    items = items_of(runs, color)
    for label, _, steps in items:
        if column not in steps:
            raise ValueError(f"run {label!r} must have column {column!r}, got {sorted(steps)}")
    columns = [steps[column] for _, _, steps in items]
    scale = choose_scale(scale or (None if "loss" in column else "linear"), columns)
    names = [label for label, _, _ in items] if len(items) > 1 else []
    drops = sorted({d for _, _, s in items if "lr" in s for d in lr_drops(s["step"], s["lr"])})
    figure, axes = curve_axes(
        sizes, HEIGHT, right=name_room(names, sizes), top=0.2 if drops else 0.08
    )
    with figure.style():
        value_limits(axes, *finite_range(columns, scale, limits), scale)
        add_drops(axes, drops, sizes)
        for (_, index, steps), values in zip(items, columns, strict=True):
            shown = np.where(np.isfinite(values), values, np.nan)
            axes.plot(steps["step"], shown, lw=0.7, zorder=3, **run_style(index))
        lasts = [float(s["step"][-1]) for _, _, s in items if len(s["step"])]
        step_limits(axes, 0, step_top(max(lasts, default=1.0))[0])
        axes.set_ylabel(column.replace("_", " "))
        named = zip(columns, items, strict=True) if names else ()
        labels = [(last_finite(v), label, i) for v, (label, i, _) in named]
        end_labels(axes, labels, sizes)
    return figure


def draw_consistency(
    runs: Any,
    *,
    venue: str = "icml",
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw the mean pairwise cosine over steps, with its bootstrap interval and the null band.

    A single result, which has no axis of steps, is drawn as its matrix of cosines.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        venue: Whose widths and type to use.
        limits: Lowest and highest cosine of the axis.
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.
    """
    if isinstance(runs, Consistency):
        return draw_cosines(runs, venue=venue)
    sizes = venue_of(venue)
    items = items_of(runs, color)
    found = [cosine_curve(results) for _, _, results in items]
    nulls = null_envelope([(curve.x, low, high) for curve, low, high in found])
    everything = [part for c, _, _ in found for part in (c.middle, c.low, c.high)]
    everything += [nulls[1], nulls[2], np.zeros(1)]
    names = [label for label, _, _ in items] + ["null, 95 %"]
    figure, axes = curve_axes(
        sizes, HEIGHT, right=name_room(names, sizes), top=0.2 if len(drops) else 0.08
    )
    with figure.style():
        value_limits(axes, *finite_range(everything, "linear", limits), "linear")
        last = step_top(max(float(c.x[-1]) for c, _, _ in found))[0]
        step_limits(axes, 0, last)
        draw_null(axes, nulls, last)
        add_drops(axes, drops, sizes)
        for (curve, _, _), (_, index, _) in zip(found, items, strict=True):
            _draw_cosine(axes, curve, index)
        axes.set_ylabel("mean pairwise cosine")
        labels = [
            (last_finite(c.middle), label, i)
            for (c, _, _), (label, i, _) in zip(found, items, strict=True)
        ]
        center = (last_finite(nulls[1]) + last_finite(nulls[2])) / 2
        end_labels(axes, [*labels, (center, "null, 95 %", None)], sizes)
    return figure


def draw_null(axes: Axes, nulls: tuple[np.ndarray, np.ndarray, np.ndarray], last: float) -> None:
    """Draw the null over the full width: its first and last values reach to the axis ends."""
    x, low, high = nulls
    if not len(x):
        return
    x = np.concatenate([[0.0], x, [last]])
    low, high = np.pad(low, 1, mode="edge"), np.pad(high, 1, mode="edge")
    axes.fill_between(x, low, high, color=NULL, alpha=0.2, lw=0, zorder=0.4, gid="null")
    axes.axhline(0, color=palette.LIGHT.zero, lw=0.5, zorder=1.1)


def _draw_cosine(axes: Axes, curve: Curve, color: int) -> None:
    marked = np.arange(len(curve.x)) if len(curve.x) < FEW else marker_every(len(curve.x))
    if len(curve.x) < FEW:
        shade = palette.run_color(color).light
        axes.vlines(curve.x, curve.low, curve.high, color=shade, lw=0.8, zorder=2.5)
    else:
        draw_band(axes, curve, color)
    axes.plot(
        curve.x,
        curve.middle,
        markevery=marked,
        zorder=3,
        **run_style(color),
        **run_marker(color),
        clip_on=False,  # the last marker stands on the frame
    )


def draw_cosines(consistency: Consistency, *, venue: str = "icml") -> PaperFigure:
    """Draw the matrix of pairwise cosines; the diagonal is grey and not part of the scale."""
    sizes = venue_of(venue)
    matrix, limit = off_diagonal(consistency.cosines)
    scale = sizes.scale
    left, bottom, beside = 0.42 * scale, 0.36 * scale, 0.66 * scale
    side = min(sizes.column - left - beside, 2.2 * scale)
    figure = PaperFigure(left + side + beside, bottom + side + 0.08 * scale, sizes)
    axes = figure.place(left, bottom, side, side)
    online = len(np.unique(consistency.step)) == len(consistency.step) > 1
    at = consistency.step.astype(float) if online else np.arange(1.0, len(matrix) + 1)
    half = 0.5 * (at[1] - at[0]) if len(at) > 1 else 0.5
    ends = (float(at[0]) - half, float(at[-1]) + half)
    with figure.style():
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_facecolor(palette.LIGHT.diverged)
        axes.imshow(
            np.ma.masked_invalid(matrix),
            cmap=tide_map(),
            vmin=-limit,
            vmax=limit,
            extent=(*ends, *ends[::-1]),
            interpolation="none",
            origin="upper",
        )
        for axis in (axes.xaxis, axes.yaxis):
            set_ticks(axis, nice_ticks(ends[0] + half, ends[1] - half, about=4))
        axes.set_xlabel("step" if online else "batch")
        axes.set_ylabel("step" if online else "batch")
        place = figure.place(left + side + 0.11 * scale, bottom, 0.085 * scale, side)
        ticks = [(float(tick), short(float(tick))) for tick in nice_ticks(-limit, limit, 4)]
        add_color_bar(figure, place, (-limit, limit), tide_map(), ticks, "cosine")
    return figure
