"""The directions of whole runs on the screen: cosines and norms by window, and their matrix."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.scales import finite_range
from landscape.figures.screen_consistency import add_null
from landscape.figures.screen_cosines import cosine_map
from landscape.figures.summaries import Curve, last_finite, marker_every, null_envelope
from landscape.figures.template import (
    add_end_labels,
    add_lr_drops,
    add_selected_step,
    band,
    new_figure,
    null_name,
    run_line,
    run_name,
    step_axis,
    value_axis,
    zero_line,
)
from landscape.figures.windows import (
    ALL_PAIRS,
    cell_edges,
    cosine_curves,
    last_step,
    matrix_cells,
    norm_curve,
    nulls_of,
)
from landscape.results import Directions

_SHADES = (0.85, 0.6, 0.4)
_DASHES = ("solid", "5px,3px", "1.5px,2.5px")
"""How strong lines of the first, second and further lags are, and their dashes."""


def plot_directions(
    runs: Directions | Items[Directions],
    *,
    part: Literal["cosines", "matrix", "norms"] = "cosines",
    lag: int | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    total: float | None = None,
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
    bar: bool = False,
) -> go.Figure:
    """Draw how well the directions of a whole run agree.

    - cosines: the mean cosine over all pairs of each window with its bootstrap interval, over the
      widest of the runs' sign-flip nulls (95 %); of a single run also the mean cosine at each lag.
    - matrix: the cosine of the mean directions of every two windows of one run; the diagonal is
      grey and not part of the color scale.
    - norms: median ‖ε‖ of each window, with a band that holds the central 90 %.

    Args:
        runs: One result, or (label, color, result) of each run.
        part: What to draw.
        lag: Steps between the vectors whose cosine is drawn, instead of all pairs.
        limits: Lowest and highest value of the axis or of the color scale.
        drops: (step, lr) where the learning rate fell.
        total: Last step of the axis; by default the end of the last window.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of a single run.
        bar: Whether a matrix gets a color bar; a page draws its own.

    Raises:
        ValueError: If the part is unknown, the lag was not measured, or a matrix is asked for of
            several runs.
    """
    items = items_of(runs, color)
    if part == "matrix":
        if len(items) > 1:
            raise ValueError(f"a matrix shows one run, got {len(items)}; draw one at a time")
        return _matrix(items[0][2], selected, limits, theme, bar)
    if part not in ("cosines", "norms"):
        raise ValueError(f"part must be cosines, matrix or norms, got {part!r}")
    figure = new_figure(theme, "labeled" if part == "cosines" or len(items) > 1 else "curves")
    steps = step_axis(total if total is not None else last_step(items))
    draw = _draw_cosines if part == "cosines" else _draw_norms
    axis, labels = draw(figure, items, lag, limits, drops, steps["range"][1], theme)
    add_end_labels(figure, labels, axis)
    figure.update_xaxes(steps)
    figure.update_yaxes(axis, **zero_line(theme))
    add_selected_step(figure, selected, theme)
    return figure


def _draw_cosines(
    figure: go.Figure,
    items: Items[Directions],
    lag: int | None,
    limits: tuple[float, float] | None,
    drops: Sequence[tuple[float, float]],
    end: float,
    theme: str,
) -> tuple[dict[str, Any], list[tuple[float, str]]]:
    """Null, intervals and lines; the value axis, and (value, name) of each line's end."""
    lines = cosine_curves(items, lag)
    nulls = null_envelope(nulls_of(items) if lag is None else [])
    values = [part for *_, c in lines for part in (c.middle, c.low, c.high)]
    ends = finite_range([*values, nulls[1], nulls[2], np.zeros(1)], "linear", limits)
    title = "mean cosine" if len(items) == 1 and lag is None else f"mean cosine, {lines[0][2]}"
    axis = value_axis(*ends, "linear", title)
    add_null(figure, nulls, end, theme)
    add_lr_drops(figure, drops, axis, theme, named=True)
    for name, index, _, curve in lines:
        shade = palette.run_color(index).on(theme)
        if np.isfinite(curve.low).any():
            figure.add_trace(band(curve.x, curve.low, curve.high, shade, name=f"{name} interval"))
    labels = []
    for at, (name, index, what, curve) in reversed(list(enumerate(lines))):
        of_lag = at if len(items) == 1 and what != ALL_PAIRS else 0
        figure.add_trace(_line(name, index, what, curve, of_lag, theme))
        labels.append((last_finite(curve.middle), _end_name(name, index, what, of_lag, theme)))
    if lag is None:
        labels.append(((last_finite(nulls[1]) + last_finite(nulls[2])) / 2, null_name(theme)))
    return axis, labels


def _line(name: str, index: int, what: str, curve: Curve, of_lag: int, theme: str) -> go.Scatter:
    """A line with markers for all pairs, a thin one for the lag of this rank."""
    run = palette.run_color(index)
    if of_lag:
        rank = min(of_lag, len(_SHADES)) - 1
        shade = palette.translucent(run.on(theme), _SHADES[rank])
        style: dict[str, Any] = {"color": shade, "width": 1.2, "dash": _DASHES[rank]}
    else:
        style = run_line(index, theme)
    marked = np.zeros(len(curve.x))
    marked[[] if of_lag else marker_every(len(curve.x))] = 7
    interval = np.isfinite(curve.low).any()
    return go.Scatter(
        x=curve.x,
        y=curve.middle,
        mode="lines" if of_lag else "lines+markers",
        line=style,
        marker={"symbol": run.marker, "size": marked, "opacity": 1, "line": {"width": 0}},
        customdata=np.stack([curve.low, curve.high], axis=-1),
        hovertemplate=(
            (f"{name}<br>" if name != what else "")
            + f"window about step %{{x:,.0f}}<br>{what}: mean cosine %{{y:.3f}}"
            + ("<br>95 % interval %{customdata[0]:.3f} to %{customdata[1]:.3f}" if interval else "")
            + "<extra></extra>"
        ),
        name=name or what,
    )


def _end_name(name: str, index: int, what: str, of_lag: int, theme: str) -> str:
    if of_lag:
        return f'<span style="color:{palette.tokens(theme).muted}">{name}</span>'
    return run_name(name or what, index, theme)


def _draw_norms(
    figure: go.Figure,
    items: Items[Directions],
    lag: int | None,
    limits: tuple[float, float] | None,
    drops: Sequence[tuple[float, float]],
    end: float,
    theme: str,
) -> tuple[dict[str, Any], list[tuple[float, str]]]:
    del lag, end
    curves = [(name, index, norm_curve(result)) for name, index, result in items]
    values = [part for *_, c in curves for part in (c.middle, c.low, c.high)]
    axis = value_axis(*finite_range([*values, np.zeros(1)], "linear", limits), "linear", "‖ε‖")
    add_lr_drops(figure, drops, axis, theme)
    for name, index, curve in curves:
        shade = palette.run_color(index).on(theme)
        figure.add_trace(band(curve.x, curve.low, curve.high, shade, name=f"{name} 90 %".strip()))
    for name, index, curve in curves:
        figure.add_trace(
            go.Scatter(
                x=curve.x,
                y=curve.middle,
                mode="lines",
                line=run_line(index, theme),
                customdata=np.stack([curve.low, curve.high], axis=-1),
                hovertemplate=(
                    f"{name}<br>window about step %{{x:,.0f}}<br>median ‖ε‖ %{{y:.3~g}}"
                    "<br>90 % from %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<extra></extra>"
                ),
                name=name or "‖ε‖",
            )
        )
    if len(items) == 1:
        return axis, []
    return axis, [(last_finite(c.middle), run_name(n, i, theme)) for n, i, c in curves]


def _matrix(
    result: Directions,
    selected: float | None,
    limits: tuple[float, float] | None,
    theme: str,
    bar: bool,
) -> go.Figure:
    edges = cell_edges(result)
    figure = cosine_map(
        result.matrix,
        edges,
        (edges[0], edges[-1]),
        "step",
        "steps %{customdata[0]}<br>cosine of mean directions %{z:.3f} ± %{customdata[1]:.2g}",
        limit=None if limits is None else limits[1],
        cells=matrix_cells(result),
        theme=theme,
        bar=bar,
    )
    add_selected_step(figure, selected, theme)
    return figure
