"""Estimates of the trace on the screen."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.scales import finite_range, nice_ticks
from landscape.figures.template import (
    add_end_labels,
    add_lr_drops,
    add_selected_step,
    band,
    new_figure,
    run_name,
    step_axis,
    value_axis,
)
from landscape.results import Trace


def plot_trace(
    traces: Trace | Items[Trace],
    *,
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the estimate of each probe, the mean of those so far, and the 95 % interval of all.

    Args:
        traces: One result, or (label, color, trace) of each run.
        limits: Lowest and highest value of the axis.
        theme: "light" or "dark".
        color: Color index of a single trace.
    """
    items = items_of(traces, color)
    shown = [np.append(t.samples, [t.interval_low, t.interval_high]) for _, _, t in items]
    axis = value_axis(*finite_range(shown, "linear", limits), "linear", "trace")
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    most = max(1, *(len(t.samples) for _, _, t in items))
    for label, index, trace in items:
        _add_probes(figure, label, index, trace, most, theme)
    if len(items) > 1:
        ends = [(t.trace, run_name(n, i, theme)) for n, i, t in items]
        add_end_labels(figure, ends, axis)
    ticks = nice_ticks(0, most) if most > 2 else np.arange(most + 1)
    figure.update_xaxes(range=[0.5, most + 0.5], tickvals=ticks[ticks >= 1], title_text="probe")
    figure.update_yaxes(axis)
    return figure


def _add_probes(
    figure: go.Figure, label: str, index: int, trace: Trace, most: int, theme: str
) -> None:
    run = palette.run_color(index)
    shade = run.on(theme)
    probe = np.arange(1, len(trace.samples) + 1)
    before = f"{label}<br>" if label else ""
    ends = np.array([0.5, most + 0.5])
    low, high = np.full(2, trace.interval_low), np.full(2, trace.interval_high)
    figure.add_trace(band(ends, low, high, shade, name=f"{label} 95 % interval".strip()))
    figure.add_trace(
        go.Scatter(
            x=probe,
            y=trace.samples,
            mode="markers",
            marker={
                "symbol": run.marker,
                "size": 5,
                "color": palette.translucent(shade, 0.45),
                "opacity": 1,
            },
            hovertemplate=before + "probe %{x}<br>estimate %{y:.4~g}<extra></extra>",
            name=f"{label} probes".strip(),
        )
    )
    figure.add_trace(
        go.Scatter(
            x=probe,
            y=np.cumsum(trace.samples) / probe,
            mode="lines",
            line={"color": shade, "width": 1.8, "dash": run.plotly_dash},
            hovertemplate=before + "mean of %{x} probes: %{y:.4~g}<extra></extra>",
            name=f"{label} mean".strip(),
        )
    )


def plot_traces(
    history: Sequence[tuple[float, Trace]],
    *,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the trace through training, each with its 95 % interval over probes.

    Args:
        history: (step, trace) pairs.
        limits: Lowest and highest value of the axis.
        drops: (step, lr) where the learning rate fell.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of the run.
    """
    ordered = sorted(history, key=lambda pair: pair[0])
    steps = np.array([float(step) for step, _ in ordered])
    fields = ("trace", "interval_low", "interval_high")
    value, low, high = (np.array([getattr(t, name) for _, t in ordered]) for name in fields)
    shown = [value, low, high, np.zeros(1)]
    axis = value_axis(*finite_range(shown, "linear", limits), "linear", "trace")
    figure = new_figure(theme, "curves")
    add_lr_drops(figure, drops, axis, theme)
    run = palette.run_color(color)
    shade = run.on(theme)
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=value,
            mode="lines+markers",
            line={"color": shade, "width": 1.8, "dash": run.plotly_dash},
            marker={"symbol": run.marker, "size": 7},
            error_y={
                "type": "data",
                "array": np.nan_to_num(high - value),
                "arrayminus": np.nan_to_num(value - low),
                "thickness": 1.2,
                "width": 0,
                "color": shade,
            },
            customdata=np.stack([low, high], axis=-1),
            hovertemplate=(
                "step %{x:,.0f}<br>trace %{y:.4~g}<br>95 % %{customdata[0]:.4~g} to "
                "%{customdata[1]:.4~g}<extra></extra>"
            ),
            name="trace",
        )
    )
    figure.update_xaxes(step_axis(float(steps[-1])))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure
