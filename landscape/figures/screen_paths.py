"""Loss and distance along a run's path, on the screen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.fields import field_of
from landscape.figures.paths import Path, colors_of, paths_of
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
    color: int | Sequence[int] = 0,
) -> go.Figure:
    """Draw the measured loss of a run's checkpoints, and dotted the surface below them.

    The surface has gaps where a checkpoint lies outside the grid or beside a missing point.

    Raises:
        ValueError: If the surface has no path.
    """
    figure = new_figure(theme, "curves")
    tracks = _along(result, color)
    arrays = [part for track in tracks for part in (track.loss, track.below)]
    scale = choose_scale(scale, arrays)
    axis = value_axis(*finite_range(arrays, scale, limits), scale, "loss")
    add_lr_drops(figure, drops, axis, theme)
    for track in tracks:
        if np.isfinite(track.below).any():
            _add_line(figure, track, track.below, "surface below", _context(tracks, track, theme))
    for track in tracks:
        loss = np.where(np.isfinite(track.loss), track.loss, np.nan)
        style = {"mode": "lines+markers", "marker": {"size": 4}}
        _add_line(figure, track, loss, "measured loss", run_line(track.color, theme), **style)
    figure.update_xaxes(step_axis(max(float(track.step[-1]) for track in tracks)))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure


def _add_line(
    figure: go.Figure,
    track: Path,
    values: np.ndarray,
    what: str,
    line: dict[str, Any],
    **style: Any,
) -> None:
    head = f"{track.label}, " if track.label else ""
    figure.add_trace(
        go.Scatter(
            x=track.step,
            y=values,
            line=line,
            hovertemplate=f"{head}step %{{x:,.0f}}<br>{what} %{{y:.3~g}}<extra></extra>",
            name=f"{track.label} {what}".strip(),
            **{"mode": "lines", **style},
        )
    )


def _context(tracks: Sequence[Path], track: Path, theme: str) -> dict[str, Any]:
    """The dotted line beside a path's own: of several runs in the run's color."""
    line = context_line(theme)
    return line if len(tracks) == 1 else {**line, "color": palette.run_color(track.color).on(theme)}


def _along(result: Surface | Trajectory, color: int | Sequence[int]) -> list[Path]:
    """The paths of a surface, or of a trajectory, which has no surface below."""
    if isinstance(result, Surface):
        if not len(result.path_step):
            raise ValueError("the surface must hold a run's checkpoints, got one without a path")
        return paths_of(result, field_of(result), color)
    nothing = np.full(len(result.step), np.nan)
    return [
        Path(
            step=result.step,
            position=result.position,
            off_plane=result.off_plane,
            loss=result.loss,
            below=nothing,
            hollow=nothing,
            color=colors_of(color, 1)[0],
        )
    ]


def plot_path_distance(
    result: Surface | Trajectory,
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int | Sequence[int] = 0,
) -> go.Figure:
    """Draw how far the checkpoints lie out of the plane, and dotted their way to the last one.

    Raises:
        ValueError: If the surface has no path.
    """
    tracks = _along(result, color)
    to_end = [np.hypot(*(track.position - track.position[-1]).T) for track in tracks]
    figure = new_figure(theme, "curves")
    high = finite_range([*to_end, *(track.off_plane for track in tracks)], "linear")[1]
    axis = value_axis(0.0, high, "linear", "distance ‖Δθ‖")
    add_lr_drops(figure, drops, axis, theme)
    for track in tracks:
        shade = palette.translucent(palette.run_color(track.color).on(theme), 0.12)
        fill = {"fill": "tozeroy", "fillcolor": shade} if len(tracks) == 1 else {}
        line = run_line(track.color, theme)
        _add_line(figure, track, track.off_plane, "out of the plane", line, **fill)
    for track, distance in zip(tracks, to_end, strict=True):
        line = _context(tracks, track, theme)
        _add_line(figure, track, distance, "to the end, in the plane", line)
    figure.update_xaxes(step_axis(max(float(track.step[-1]) for track in tracks)))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure
