"""Loss and distance along a run's path, on the screen."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.fields import field_of, sample
from landscape.figures.scales import choose_scale, finite_range
from landscape.figures.template import (
    add_lr_drops,
    add_selected_step,
    context_line,
    new_figure,
    run_line,
    step_axis,
    value_axis,
)
from landscape.results import Surface, Trajectory


def plot_path_loss(
    result: Surface | Trajectory,
    *,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the measured loss of a run's checkpoints, and dotted the surface below them.

    The surface has gaps where a checkpoint lies outside the grid or beside a missing point.

    Raises:
        ValueError: If the surface has no path.
    """
    figure = new_figure(theme, "curves")
    steps, loss, below = _along(result)
    scale = choose_scale(scale, [loss, below])
    axis = value_axis(*finite_range([loss, below], scale, limits), scale, "loss")
    add_lr_drops(figure, drops, axis, theme)
    if np.isfinite(below).any():
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=below,
                mode="lines",
                line=context_line(theme),
                hovertemplate="step %{x:,.0f}<br>surface below %{y:.3~g}<extra></extra>",
                name="surface below",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=np.where(np.isfinite(loss), loss, np.nan),
            mode="lines+markers",
            line=run_line(color, theme),
            marker={"size": 4},
            hovertemplate="step %{x:,.0f}<br>measured loss %{y:.3~g}<extra></extra>",
            name="measured",
        )
    )
    figure.update_xaxes(step_axis(float(steps[-1])))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure


def _along(result: Surface | Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, measured loss, and the surface below (NaN where there is none)."""
    if isinstance(result, Trajectory):
        return result.step, result.loss, np.full(len(result.step), np.nan)
    if not len(result.path_step):
        raise ValueError("the surface must hold a run's checkpoints, got one without a path")
    return result.path_step, result.path_loss, sample(field_of(result), result.path_position)


def plot_path_distance(
    result: Surface | Trajectory,
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw how far the checkpoints lie out of the plane, and dotted their way to the last one.

    Raises:
        ValueError: If the surface has no path.
    """
    steps, _, _ = _along(result)
    is_surface = isinstance(result, Surface)
    position = result.path_position if is_surface else result.position
    off_plane = result.path_off_plane if is_surface else result.off_plane
    to_end = np.hypot(*(position - position[-1]).T)
    figure = new_figure(theme, "curves")
    run = palette.run_color(color).on(theme)
    high = finite_range([off_plane, to_end], "linear")[1]
    axis = value_axis(0.0, high, "linear", "distance ‖Δθ‖")
    add_lr_drops(figure, drops, axis, theme)
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=off_plane,
            mode="lines",
            line=run_line(color, theme),
            fill="tozeroy",
            fillcolor=palette.translucent(run, 0.12),
            hovertemplate="step %{x:,.0f}<br>out of the plane %{y:.3~g}<extra></extra>",
            name="out of the plane",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=to_end,
            mode="lines",
            line=context_line(theme),
            hovertemplate="step %{x:,.0f}<br>to the end, in the plane %{y:.3~g}<extra></extra>",
            name="to the end",
        )
    )
    figure.update_xaxes(step_axis(float(steps[-1])))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure
