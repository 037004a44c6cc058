"""A trained curve between two minima, on the screen: along t, and on its plane."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.connections import CONNECTED, along, room, short_names
from landscape.figures.scales import choose_scale, finite_range
from landscape.figures.template import (
    DASHED,
    TEST_DASH,
    add_key,
    context_line,
    new_figure,
    run_line,
    value_axis,
)
from landscape.results import Curve

_FLATTEST = 0.5
"""Least height of the plane of a curve, as a share of its width."""


def plot_curve(
    curve: Curve,
    *,
    view: str = "along",
    quantity: str = "loss",
    scale: str | None = "linear",
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw a curve between two minima beside the straight line.

    Args:
        curve: What was measured.
        view: "along" shows a quantity at each t, on the test set dashed; "plane" the curve on the
            plane of the minima and the middle bend: circles are minima, diamonds bends.
        quantity: "loss", "error", "test_loss" or "test_error".
        scale: "linear" or "log".
        limits: Lowest and highest value of the axis.
        theme: "light" or "dark".
        color: Color index of the curve; the straight line is grey.

    Raises:
        ValueError: If the view or quantity is unknown, or the quantity was not measured.
    """
    if view == "plane":
        return _plot_plane(curve, theme, color)
    if view != "along":
        raise ValueError(f"view must be 'along' or 'plane', got {view!r}")
    lines = along(curve, quantity)
    title = CONNECTED[quantity]
    scale = choose_scale(scale, list(lines.values()))
    figure = new_figure(theme, "curves")
    for name in reversed(lines):
        line = _line_style(name, theme, color)
        shown = np.where(np.isfinite(lines[name]), lines[name], np.nan)
        told = f"{name}<br>t %{{x:.2f}}<br>{title} %{{y:.3~g}}<extra></extra>"
        figure.add_trace(
            go.Scatter(x=curve.t, y=shown, mode="lines", line=line, hovertemplate=told, name=name)
        )
    first, last = short_names(curve.names, 2)
    figure.update_xaxes(
        title_text="position t",
        range=[-0.02, 1.02],
        tickvals=[0, 0.5, 1],
        ticktext=[f"0<br>{first}", "0.5", f"1<br>{last}"],
        tickangle=0,  # names stay level in a narrow pane
    )
    figure.update_yaxes(value_axis(*finite_range([*lines.values()], scale, limits), scale, title))
    figure.update_layout(margin={"b": 52, "r": 28})
    _add_key(figure, lines, theme, color)
    return figure


def _add_key(figure: go.Figure, lines: Iterable[str], theme: str, color: int) -> None:
    shades = {
        "curve": palette.run_color(color).on(theme),
        "straight line": palette.tokens(theme).muted,
    }
    words = [f'<span style="color:{shade}">■</span> {name}' for name, shade in shades.items()]
    dashed = [DASHED] if any(name.endswith("test") for name in lines) else []
    add_key(figure, "   ".join([*words, *dashed]), theme, at="left")


def _line_style(name: str, theme: str, color: int) -> dict[str, Any]:
    style = run_line(color, theme, 2)
    if name.startswith("line"):
        style = {**style, "color": context_line(theme)["color"], "width": 1.5}
    return {**style, "dash": TEST_DASH if name.endswith("test") else "solid"}


def _plot_plane(curve: Curve, theme: str, color: int) -> go.Figure:
    figure = new_figure(theme, "maps")
    tone, run = palette.tokens(theme), palette.run_color(color).on(theme)
    x, y = curve.position.T
    skip = {"hoverinfo": "skip"}
    straight = {"color": tone.muted, "width": 1.5}
    ends = curve.position[[0, -1]]
    figure.add_trace(
        go.Scatter(
            x=ends[:, 0], y=ends[:, 1], mode="lines", line=straight, name="straight line", **skip
        )
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": run, "width": 2.2},
            customdata=np.stack([curve.t, curve.loss, curve.off_plane], axis=-1),
            hovertemplate=(
                "t %{customdata[0]:.2f}<br>loss %{customdata[1]:.3~g}"
                "<br>out of the plane %{customdata[2]:.3~g}<extra></extra>"
            ),
            name="curve",
        )
    )
    marks = (
        ("bends", curve.bend_position, {"symbol": "diamond", "size": 10, "color": run}),
        ("minima", ends, {"symbol": "circle", "size": 11, "color": tone.text}),
    )
    for name, at, marker in marks:
        marker = {**marker, "line": {"color": tone.surface, "width": 1.4}}
        told = f"{name}<br>%{{x:.3~g}}, %{{y:.3~g}}<extra></extra>"
        place = {"x": at[:, 0], "y": at[:, 1]}
        figure.add_trace(
            go.Scatter(**place, mode="markers", marker=marker, hovertemplate=told, name=name)
        )
    below = curve.bend_position.size and curve.bend_position[:, 1].mean() >= ends[:, 1].mean()
    for (a, b), name in zip(ends, short_names(curve.names, 2), strict=True):
        figure.add_annotation(
            x=a,
            y=b,
            text=name,
            yanchor="top" if below else "bottom",
            yshift=-8 if below else 8,
            showarrow=False,
            font={"size": 11.5},
        )
    shared = {"mirror": True, "constrain": "domain", "nticks": 6}
    everything = np.concatenate([curve.position, curve.bend_position])
    (left, right), (low, high) = (room(values) for values in everything.T)
    flat = max(_FLATTEST * (right - left) - (high - low), 0) / 2  # names need room beside a line
    beside = 0.12 * (right - left)
    low, high = low - flat - beside * bool(below), high + flat + beside * (not below)
    figure.update_xaxes(
        title_text="distance along the straight line", range=[left, right], **shared
    )
    figure.update_yaxes(
        title_text="distance beside it",
        range=[low, high],
        scaleanchor="x",
        scaleratio=1,
        **shared,
    )
    return figure
