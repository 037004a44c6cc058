"""The path of a run on the screen: positions, explained variance, distances, angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.numbers import percent
from landscape.figures.scales import finite_range, nice_ticks, step_top
from landscape.figures.summaries import leading_components
from landscape.figures.template import (
    add_lr_drops,
    add_selected_step,
    context_line,
    new_figure,
    run_line,
    step_axis,
    value_axis,
)
from landscape.results import Trajectory


def plot_trajectory(
    trajectory: Trajectory,
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the checkpoints on their plane, to scale, from grey at the start to the run's color."""
    tone = palette.tokens(theme)
    run = palette.run_color(color).on(theme)
    x, y = trajectory.position.T
    figure = new_figure(theme, "maps")
    line = {"color": palette.translucent(run, 0.45), "width": 1.4}
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="path"))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={
                "size": 7,
                "color": trajectory.step,
                "colorscale": [[0, tone.diverged], [1, run]],
                "line": {"width": 1, "color": tone.surface},
            },
            customdata=np.stack(
                [trajectory.step, trajectory.loss, trajectory.accuracy, trajectory.off_plane],
                axis=-1,
            ),
            hovertemplate=(
                "step %{customdata[0]:,.0f}<br>measured loss %{customdata[1]:.3~g}"
                "<br>accuracy %{customdata[2]:.1%}"
                "<br>out of the plane %{customdata[3]:.3~g}<extra></extra>"
            ),
            name="points",
        )
    )
    _add_ends(figure, x, y, run, tone)
    marks = [[np.interp(s, trajectory.step, axis) for axis in (x, y)] for s, _ in drops]
    at = np.array(marks, dtype=np.float64).reshape(-1, 2)
    _add_markers(figure, "lr drops", at, "triangle-down", 10, tone.text, tone.surface)
    ring = np.empty((0, 2))
    if selected is not None:
        ring = trajectory.position[[int(np.argmin(np.abs(trajectory.step - selected)))]]
    _add_markers(figure, "selected", ring, "circle-open", 17, tone.text, tone.text)
    shares = trajectory.explained
    titles = [
        f"{label}, {percent(float(shares[i]), 0)}"
        if i < len(shares) and np.isfinite(shares[i])
        else label
        for i, label in enumerate(trajectory.axis_labels)
    ]
    _frame(figure, trajectory.position, titles)
    return figure


def _frame(figure: go.Figure, position: np.ndarray, titles: Sequence[str]) -> None:
    middle = (position.max(axis=0) + position.min(axis=0)) / 2
    half = 0.56 * float(np.ptp(position, axis=0).max()) or 0.5
    ranges = [[float(m - half), float(m + half)] for m in middle]
    shared = {"mirror": True, "constrain": "domain", "nticks": 8}
    figure.update_xaxes(range=ranges[0], title_text=titles[0], **shared)
    figure.update_yaxes(range=ranges[1], title_text=titles[1], scaleanchor="x", **shared)


def _add_ends(
    figure: go.Figure, x: np.ndarray, y: np.ndarray, run: str, tone: palette.Tokens
) -> None:
    start = np.array([[x[0], y[0]]])
    end = np.array([[x[-1], y[-1]]])
    _add_markers(figure, "start", start, "square", 10, tone.surface, run)
    _add_markers(figure, "end", end, "circle", 12, run, tone.surface)


def _add_markers(
    figure: go.Figure, name: str, at: np.ndarray, symbol: str, size: float, fill: str, outline: str
) -> None:
    marker = {"symbol": symbol, "size": size, "color": fill, "line": {"width": 2, "color": outline}}
    figure.add_trace(
        go.Scatter(
            x=at[:, 0], y=at[:, 1], mode="markers", marker=marker, hoverinfo="skip", name=name
        )
    )


def plot_explained(trajectory: Trajectory, *, theme: str = "light", color: int = 0) -> go.Figure:
    """Draw the variance that each component explains, with a random walk's as hollow outlines."""
    tone = palette.tokens(theme)
    ranks, explained, null = leading_components(trajectory)
    figure = new_figure(theme, "curves")
    figure.add_trace(
        go.Bar(
            x=ranks,
            y=explained,
            width=0.62,
            marker={"color": palette.run_color(color).on(theme), "line": {"width": 0}},
            hovertemplate="PC %{x}<br>explains %{y:.1%}<extra></extra>",
            name="explained",
        )
    )
    figure.add_trace(
        go.Bar(
            x=ranks,
            y=null,
            width=0.82,
            marker={"color": "rgba(0,0,0,0)", "line": {"width": 1.4, "color": tone.muted}},
            hovertemplate="PC %{x}<br>random walk with these steps %{y:.1%}<extra></extra>",
            name="null",
        )
    )
    high = finite_range([explained, null], "linear")[1]
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(tickvals=ranks, title_text="principal component", showgrid=False)
    ticks = nice_ticks(0.0, high)
    figure.update_yaxes(
        range=[0, 1.08 * high],
        tickvals=ticks,
        ticktext=[percent(float(tick), 0) for tick in ticks],
        title_text="explained variance",
    )
    return figure


def _over_steps(
    trajectory: Trajectory,
    axis: dict[str, Any],
    traces: Sequence[go.Scatter],
    drops: Sequence[tuple[float, float]],
    selected: float | None,
    theme: str,
) -> go.Figure:
    figure = new_figure(theme, "curves")
    add_lr_drops(figure, drops, axis, theme)
    figure.add_traces(list(traces))
    figure.update_yaxes(axis)
    figure.update_xaxes(step_axis(float(trajectory.step[-1])))
    add_selected_step(figure, selected, theme)
    return figure


def plot_distances(
    trajectory: Trajectory,
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw each checkpoint's distance from the first one, and dotted to the last one."""
    traces = [
        go.Scatter(
            x=trajectory.step,
            y=values,
            mode="lines",
            line=line,
            hovertemplate=f"step %{{x:,.0f}}<br>{name} %{{y:.3~g}}<extra></extra>",
            name=name,
        )
        for name, values, line in (
            ("to the end", trajectory.distance_end, context_line(theme)),
            ("from the start", trajectory.distance_start, run_line(color, theme)),
        )
    ]
    both = [trajectory.distance_start, trajectory.distance_end]
    axis = value_axis(0.0, finite_range(both, "linear")[1], "linear", "distance ‖Δθ‖")
    return _over_steps(trajectory, axis, traces, drops, selected, theme)


def plot_step_lengths(
    trajectory: Trajectory,
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the distance between neighbouring checkpoints on a log axis."""
    trace = go.Scatter(
        x=(trajectory.step[1:] + trajectory.step[:-1]) / 2,
        y=trajectory.step_length,
        customdata=np.stack([trajectory.step[:-1], trajectory.step[1:]], axis=-1),
        mode="lines+markers",
        line=run_line(color, theme),
        marker={"size": 4},
        hovertemplate=(
            "steps %{customdata[0]:,.0f} to %{customdata[1]:,.0f}<br>moved %{y:.3~g}<extra></extra>"
        ),
        name="step length",
    )
    axis = value_axis(*finite_range([trajectory.step_length], "log"), "log", "step length ‖Δθ‖")
    return _over_steps(trajectory, axis, [trace], drops, selected, theme)


def plot_turning_angles(
    trajectory: Trajectory,
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the angle between neighbouring moves; the dashed 90° is what a random walk has."""
    null = go.Scatter(
        x=[0.0, step_top(float(trajectory.step[-1]))[0]],
        y=[90.0, 90.0],
        mode="lines",
        line={"color": palette.tokens(theme).muted, "width": 1.2, "dash": "6px,3px"},
        hoverinfo="skip",
        name="null",
    )
    trace = go.Scatter(
        x=trajectory.step[1:-1],
        y=trajectory.turning_angle,
        mode="lines+markers",
        line=run_line(color, theme),
        marker={"size": 4},
        hovertemplate="step %{x:,.0f}<br>turns by %{y:.0f}°<extra></extra>",
        name="turning angle",
    )
    axis = {
        "range": [0, 180],
        "tickvals": [0, 45, 90, 135, 180],
        "title": {"text": "turning angle, degrees"},
    }
    return _over_steps(trajectory, axis, [null, trace], drops, selected, theme)
