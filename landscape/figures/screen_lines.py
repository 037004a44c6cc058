"""Measures of perturbations on the screen: lines over checkpoints, columns of one checkpoint."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.measure_lines import Line, Panel
from landscape.figures.scales import finite_range
from landscape.figures.summaries import last_finite
from landscape.figures.template import (
    add_end_labels,
    add_key,
    add_lr_drops,
    add_selected_step,
    context_line,
    new_figure,
    run_line,
    run_name,
    step_axis,
    value_axis,
    zero_line,
)
from landscape.intervals import t_interval

_ROOM = 0.06  # of the axis of steps on either side, so that bars and markers stand free


def plot_panel(
    panel: Panel,
    *,
    drops: Sequence[tuple[float, float]] = (),
    total: float | None = None,
    selected: float | None = None,
    named: bool = True,
    theme: str = "light",
) -> go.Figure:
    """Draw the lines of a panel, with 95 % intervals as bars and a line at 0.

    Args:
        panel: What to draw.
        drops: (step, lr) where the learning rate fell.
        total: Last step of the axis; by default the last result.
        selected: Step to mark.
        named: Whether lines are named at their ends and their styles above; a page has keys.
        theme: "light" or "dark".
    """
    axis = value_axis(*finite_range(panel.values, "linear"), "linear", panel.axis)
    figure = new_figure(theme, "labeled" if named else "curves")
    add_lr_drops(figure, drops, axis, theme)
    for line in panel.lines:
        figure.add_trace(_trace(line, panel, theme))
    if named:
        labels = [
            (last_finite(x.curve.middle), run_name(x.label, x.color, theme)) for x in panel.named
        ]
        add_end_labels(figure, labels, axis)
        if panel.key:
            add_key(figure, panel.key, theme)
    last = max((float(x.curve.x[-1]) for x in panel.lines if len(x.curve.x)), default=1.0)
    steps = step_axis(total if total is not None else last)
    low, high = steps["range"]
    steps["range"] = [low - _ROOM / 2 * high, high]
    figure.update_xaxes(steps)
    figure.update_yaxes(axis, **zero_line(theme))
    widest = max(len(label) for label in axis["ticktext"])
    figure.update_layout(margin={"l": max(54, 26 + 6.5 * widest)})
    add_selected_step(figure, selected, theme)
    return figure


def _trace(line: Line, panel: Panel, theme: str) -> go.Scatter:
    run, curve = palette.run_color(line.color), line.curve
    shade, ground = run.on(theme), palette.tokens(theme).surface
    style = (
        context_line(theme) | {"color": shade} if line.reference else run_line(line.color, theme)
    )
    what = panel.key.split(", ")[int(line.reference)].split(": ")[-1] if panel.key else ""
    name = ", ".join(part for part in (line.label, what) if part)
    return go.Scatter(
        x=curve.x,
        y=_plain(curve.middle),
        mode="lines+markers",
        line=style,
        marker={
            "symbol": run.marker,
            "size": 6,
            "color": ground if line.reference else shade,
            "line": {"color": shade, "width": 1.3},
            "opacity": 1,
        },
        error_y={
            "type": "data",
            "array": np.nan_to_num(curve.high - curve.middle),
            "arrayminus": np.nan_to_num(curve.middle - curve.low),
            "thickness": 1.2,
            "width": 0,
            "color": shade,
        },
        customdata=np.stack([_plain(curve.low), _plain(curve.high)], axis=-1),
        hovertemplate=(
            (f"{name}<br>" if name else "")
            + f"step %{{x:,.0f}}<br>{panel.axis} %{{y:.3~g}}"
            + "<br>95 % interval %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<extra></extra>"
        ),
        name=name or panel.title,
    )


def _plain(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


Column = tuple[str, np.ndarray, bool]


def plot_columns(
    columns: Sequence[Column], axis: str, *, key: str = "", theme: str = "light", color: int = 0
) -> go.Figure:
    """Draw every batch of one checkpoint as a dot, each column with its mean and 95 % interval.

    Args:
        columns: (name, values of the batches [n], whether a reference: hollow). Columns of equal
            names stand side by side.
        axis: Title of the value axis.
        key: What filled and hollow mean.
        theme: "light" or "dark".
        color: Color index of the run.
    """
    run, names = palette.run_color(color), list(dict.fromkeys(name for name, _, _ in columns))
    shade, tone = run.on(theme), palette.tokens(theme)
    values = [values for _, values, _ in columns]
    limits = finite_range([*values, np.zeros(1)], "linear")
    ends = value_axis(*limits, "linear", axis)
    figure = new_figure(theme, "curves")
    pairs = len(names) < len(columns)
    for name, found, hollow in columns:
        at = names.index(name) + (0.17 if hollow else -0.17) * pairs
        dots = {"symbol": run.marker, "size": 5, "color": palette.translucent(shade, 0.35)}
        if hollow:
            dots |= {"color": tone.surface, "line": {"color": shade, "width": 1}}
        figure.add_trace(
            go.Scatter(
                x=at + _jitter(len(found)),
                y=_plain(found),
                mode="markers",
                marker=dots | {"opacity": 1},
                hovertemplate=f"{name}<br>{axis} %{{y:.3~g}}<extra></extra>",
                name=f"{name}, reference" if hollow else name,
            )
        )
        figure.add_trace(_mean(at, found, tone.text, f"{name} mean"))
    if key:
        add_key(figure, key, theme)
    figure.update_xaxes(
        range=[-0.5, len(names) - 0.5],
        tickvals=list(range(len(names))),
        ticktext=names,
        title_text="batches, their mean and its 95 % interval",
        showgrid=False,
    )
    figure.update_yaxes(ends, **zero_line(theme))
    return figure


def _jitter(size: int) -> np.ndarray:
    """Places of dots side by side, so that equal values are seen: a van der Corput sequence."""
    places = [int(f"{i:b}"[::-1], 2) / 2 ** i.bit_length() if i else 0.0 for i in range(size)]
    return 0.2 * (np.array(places) - 0.5)


def _mean(at: float, values: np.ndarray, color: str, name: str) -> go.Scatter:
    known = bool(len(values)) and bool(np.isfinite(values).all())
    middle = float(values.mean()) if known else np.nan
    low, high = t_interval(values) if known else (np.nan, np.nan)
    return go.Scatter(
        x=[at],
        y=[middle],
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 16, "color": color, "line": {"width": 2}},
        error_y={
            "type": "data",
            "array": np.nan_to_num([high - middle]),
            "arrayminus": np.nan_to_num([middle - low]),
            "thickness": 1.6,
            "width": 0,
            "color": color,
        },
        customdata=[[low, high]],
        hovertemplate=(
            "mean %{y:.3~g}<br>95 % interval %{customdata[0]:.3~g} to %{customdata[1]:.3~g}"
            "<extra></extra>"
        ),
        name=name,
    )
