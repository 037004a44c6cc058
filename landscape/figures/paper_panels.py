"""Panels of curvature through training on paper, one line for each run or direction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.alignments import (
    direction_colors,
    kind_of,
    random_cosine,
    spoken,
    trained_with,
)
from landscape.figures.paper_axes import (
    NULL,
    draw_band,
    run_marker,
    run_style,
    value_limits,
)
from landscape.figures.paper_edges import draw_level
from landscape.figures.paper_style import Venue
from landscape.figures.scales import finite_range
from landscape.figures.summaries import Curve, last_finite, marker_every
from landscape.results import Curvature

Run = tuple[str, int, Curvature]
Label = tuple[float, str, int | None]
FEW = 8


@dataclass(frozen=True)
class Frame:
    """What all panels share."""

    sizes: Venue
    most: int
    scale: str | None
    limits: tuple[float, float] | None
    drops: Sequence[tuple[float, float]]
    last: float


def draw_line(
    axes: Axes, run: Curvature, values: np.ndarray, color: int, *, of_pairs: bool = False
) -> None:
    """A line with markers; where it is of eigenpairs, those that did not converge are hollow."""
    marked = np.arange(len(values)) if len(values) <= 2 * FEW else marker_every(len(values))
    style: Any = {**run_style(color), **run_marker(color)}
    # clip_on=False: the last marker stands on the frame
    axes.plot(run.step, values, markevery=marked, zorder=3, **style, clip_on=False)
    loose = ~run.converged if of_pairs and run.converged.size else np.zeros(len(values), bool)
    hollow: Any = {**run_marker(color), "markerfacecolor": "white", "ls": "none"}
    axes.plot(run.step[loose], values[loose], zorder=3.1, **hollow, clip_on=False)


def run_ends(items: Sequence[Run], values: Sequence[np.ndarray]) -> list[Label]:
    """Names of several runs at the ends of their lines."""
    if len(items) == 1:
        return []
    return [(last_finite(v), label, i) for v, (label, i, _) in zip(values, items, strict=True)]


def run_names(items: Sequence[Run], most: int) -> list[str]:
    """Names of several runs; a single one is not named."""
    del most
    return [label for label, _, _ in items] if len(items) > 1 else []


def leading(run: Curvature) -> np.ndarray:
    """The largest eigenvalue at each checkpoint [c]; NaN where there is none."""
    blank = np.full(len(run.step), np.nan)
    return run.eigenvalues[:, 0] if run.eigenvalues.size else blank


def draw_trace_panel(axes: Axes, items: Sequence[Run], frame: Frame) -> list[Label]:
    """The trace with its standard error: a band, or bars of few checkpoints."""
    del frame
    values = [
        run.trace if run.trace.size else np.full(len(run.step), np.nan) for _, _, run in items
    ]
    errors = [
        np.nan_to_num(run.trace_error) if run.trace_error.size else np.zeros(len(v))
        for (_, _, run), v in zip(items, values, strict=True)
    ]
    ends = [v + s * e for v, e in zip(values, errors, strict=True) for s in (-1, 1)]
    low, high = finite_range(ends, "linear")
    value_limits(axes, 0.0 if 0 < low < 0.5 * high else low, high, "linear")
    for (_, index, run), middle, error in zip(items, values, errors, strict=True):
        low_end, high_end = middle - error, middle + error
        if len(middle) < FEW:
            shade = palette.run_color(index).light
            axes.vlines(run.step, low_end, high_end, color=shade, lw=0.8, zorder=2.5)
        else:
            draw_band(axes, Curve(x=run.step, middle=middle, low=low_end, high=high_end), index)
        draw_line(axes, run, middle, index)
    axes.set_ylabel("trace")
    return run_ends(items, values)


def draw_multiplier_panel(axes: Axes, items: Sequence[Run], frame: Frame) -> list[Label]:
    """The stability multiplier over its edge, 1."""
    blank = [np.full(len(run.step), np.nan) for _, _, run in items]
    values = [
        run.multiplier if run.multiplier.size else empty
        for (_, _, run), empty in zip(items, blank, strict=True)
    ]
    swings = [run.swing for _, _, run in items]
    value_limits(axes, *finite_range([*values, *swings, np.ones(1)], "linear"), "linear")
    for (_, index, run), row in zip(items, values, strict=True):
        draw_line(axes, run, row, index)
        if run.swing.size:
            axes.plot(run.step, run.swing, **{**run_style(index), "linestyle": ":"}, zorder=2.9)
    lines = [(run.step, row) for (_, _, run), row in zip(items, values, strict=True)]
    draw_level(axes, 1.0, "edge of stability", lines, frame.sizes)
    axes.set_ylabel(r"multiplier $|\mu|$")
    return run_ends(items, values)


# -- directions -------------------------------------------------------------------------------


def _own_direction(item: Run) -> str:
    """The perturbation that a run trained with, as far as it was measured; else the gradient."""
    label, _, run = item
    method = f"{run.facts.get('method', '')} {label}"
    names = {kind_of(name).upper(): name for name in run.direction_names}
    for name in (*trained_with(method), "GRADIENT"):
        if name in names:
            return names[name]
    return run.direction_names[0] if run.direction_names else ""


def _directions(items: Sequence[Run]) -> list[tuple[Run, str, str, int]]:
    """(run, direction, its name at the line's end, color index) of each line."""
    if len(items) == 1:
        item = items[0]
        names = item[2].direction_names
        colors = direction_colors(names)
        return [(item, n, spoken(n), i) for n, i in zip(names, colors, strict=True)]
    found = [(item, _own_direction(item)) for item in items]
    return [(item, name, item[0], item[1]) for item, name in found if name]


def direction_names(items: Sequence[Run], most: int) -> list[str]:
    """What stands at the right of a panel of directions."""
    del most
    return [*(name for _, _, name, _ in _directions(items)), "null, 95 %"]


def _of_direction(run: Curvature, direction: str, quantity: str) -> np.ndarray:
    """|cos| to the first eigenvector, or uᵀHu over λ1, at each checkpoint [c]."""
    at = run.direction_names.index(direction)
    blank = np.full(len(run.step), np.nan)
    if quantity == "alignment":
        return run.alignment[:, at, 0] if run.alignment.size else blank
    top = np.where(leading(run) > 0, leading(run), np.nan)
    return run.rayleigh[:, at] / top if run.rayleigh.size else blank


def draw_directions(quantity: str) -> Callable[[Axes, Sequence[Run], Frame], list[Label]]:
    """Make a panel of directions: their "alignment" over its null, or "rayleigh" quotients."""

    def draw(axes: Axes, items: Sequence[Run], frame: Frame) -> list[Label]:
        del frame
        shown = _directions(items)
        values = [_of_direction(item[2], name, quantity) for item, name, _, _ in shown]
        nulls = [random_cosine(run) for _, _, run in items] if quantity == "alignment" else []
        null = max((n for n in nulls if np.isfinite(n)), default=np.nan)
        low, high = finite_range([*values, np.array([0.0, null])], "linear")
        value_limits(axes, low, high, "linear")
        labels: list[Label] = []
        if np.isfinite(null):
            ends = axes.get_xlim()
            axes.fill_between(ends, 0, null, color=NULL, alpha=0.2, lw=0, zorder=0.4, gid="null")
            labels.append((null / 2, "null, 95 %", None))
        if low < 0:
            axes.axhline(0, color=palette.LIGHT.zero, lw=0.5, zorder=1.1)
        for (item, _, name, index), row in zip(shown, values, strict=True):
            draw_line(axes, item[2], row, index, of_pairs=True)
            labels.append((last_finite(row), name, index))
        title = (
            r"$|\cos(\cdot, v_1)|$"
            if quantity == "alignment"
            else r"$u^\mathsf{T}\! H u\,/\,\lambda_1$"
        )
        axes.set_ylabel(title)
        return labels

    return draw
