"""The loss along the mean perturbation on the screen: w, w + ε, and where the minimum lies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.offset_words import (
    END,
    TEST,
    at_end,
    line_name,
    offset_scale,
    shown_curves,
)
from landscape.figures.scales import finite_range
from landscape.figures.template import (
    TEST_DASH,
    add_end_labels,
    add_key,
    new_figure,
    run_name,
    value_axis,
)
from landscape.results import Offset

_DASHES = {"training loss": "solid", "test loss": TEST_DASH}
_SCALED = "2px,2px"


def plot_offset(
    runs: Offset | Items[Offset],
    *,
    curves: Sequence[str] | None = None,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    named: bool = True,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the loss along the mean ε, with w at 0 and w + ε at 1.

    A ring is the minimum; its bar is the 95 % bootstrap interval over samples. A minimum at an end
    of the line is a triangle that points outward: the loss still falls there.

    Args:
        runs: One result, or (label, color, result) of each perturbation or run, on equal axes.
        curves: Which losses, by their names; by default all of one result, the training loss of
            several.
        scale: "log", "linear", or None: log where the highest loss is over ten times the lowest.
        limits: Lowest and highest loss of the axis.
        named: Whether lines are named at their ends and above; a page has keys.
        theme: "light" or "dark".
        color: Color index of a single result.

    Raises:
        ValueError: If none of the curves was measured.
    """
    items = items_of(runs, color)
    chosen = shown_curves([result for _, _, result in items], curves)
    values = [r.loss[r.curves.index(c)] for _, _, r in items for c in chosen if c in r.curves]
    scale = scale or offset_scale(values)
    axis = value_axis(*finite_range(values, scale, limits), scale, f"{_subject(chosen)}, nats")
    figure = new_figure(theme, "labeled" if named else "curves")
    _add_places(figure, axis, theme)
    labels = []
    for label, index, result in items:
        for curve in chosen:
            if curve not in result.curves:
                continue
            at = result.curves.index(curve)
            name = line_name(label, curve, several=len(items) > 1, curves=chosen)
            figure.add_trace(_line(result, at, name, index, curve, theme))
            figure.add_trace(_minimum(result, at, name, index, theme))
            labels.append((float(result.loss[at, -1]), run_name(name, index, theme)))
    if named:
        add_end_labels(figure, labels, axis)
        scaled = "; dotted: temperature scaled" if TEST[1] in chosen else ""
        add_key(figure, f"ring: minimum, 95 %{scaled}", theme)
    ends = [float(f([r.alpha[i] for _, _, r in items])) for f, i in ((min, 0), (max, -1))]
    figure.update_xaxes(range=ends, title_text="multiple of mean ε", nticks=7)
    figure.update_yaxes(axis)
    return figure


def _subject(curves: Sequence[str]) -> str:
    return (
        curves[0] if len(curves) == 1 else "test loss" if "training loss" not in curves else "loss"
    )


def _add_places(figure: go.Figure, axis: dict[str, Any], theme: str) -> None:
    """Vertical lines at w and at w + ε, named inside the frame's upper end."""
    tone = palette.tokens(theme)
    low, high = axis["range"]
    ends = np.array([2 * low - high, 2 * high - low])
    for at, name, dash in ((0.0, "w", "solid"), (1.0, "w + ε", "5px,3px")):
        figure.add_trace(
            go.Scatter(
                x=[at, at],
                y=10**ends if axis["type"] == "log" else ends,
                mode="lines",
                line={"color": tone.control, "width": 1, "dash": dash},
                hoverinfo="skip",
                name=name,
            )
        )
        figure.add_annotation(
            x=at,
            y=1,
            yref="y domain",
            xanchor="left",
            yanchor="top",
            xshift=1,
            showarrow=False,
            text=name,
            font={"size": 11, "color": tone.muted},
        )


def _line(result: Offset, at: int, name: str, index: int, curve: str, theme: str) -> go.Scatter:
    loss = np.where(np.isfinite(result.loss[at]), result.loss[at], np.nan)
    shade = palette.run_color(index).on(theme)
    return go.Scatter(
        x=result.alpha,
        y=loss,
        mode="lines",
        line={"color": shade, "width": 1.8, "dash": _DASHES.get(curve, _SCALED)},
        customdata=100 * result.accuracy[at],
        hovertemplate=(
            f"{name}<br>w + %{{x:.3~g}} ε<br>{curve} %{{y:.4~g}} nats"
            "<br>accuracy %{customdata:.2f} %<extra></extra>"
        ),
        name=name,
    )


def _minimum(result: Offset, at: int, name: str, index: int, theme: str) -> go.Scatter:
    run, ground = palette.run_color(index), palette.tokens(theme).surface
    place, low, high = result.minimum[at], result.minimum_low[at], result.minimum_high[at]
    end = at_end(result, at)
    symbol = run.marker if not end else f"triangle-{'left' if end < 0 else 'right'}"
    return go.Scatter(
        x=[place],
        y=[np.interp(place, result.alpha, result.loss[at])],
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 9,
            "color": ground,
            "line": {"color": run.on(theme), "width": 1.8},
            "opacity": 1,
        },
        error_x={
            "type": "data",
            "array": np.nan_to_num([high - place]),
            "arrayminus": np.nan_to_num([place - low]),
            "thickness": 2,
            "width": 0,
            "color": run.on(theme),
        },
        customdata=[[low, high]],
        hovertemplate=(
            f"{name}<br>minimum at %{{x:.3~g}}{f' ({END})' if end else ''}"
            "<br>95 % %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<extra></extra>"
        ),
        cliponaxis=False,
        name=f"{name}, minimum",
    )
