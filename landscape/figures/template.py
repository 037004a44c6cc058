"""What all screen figures share: theme, axes, margins, end labels, and the graph's config."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.numbers import short, step
from landscape.figures.scales import log_ticks, nice_ticks, spread, step_top

FONT = (
    '"Segoe UI","SF Pro Text",-apple-system,BlinkMacSystemFont,Roboto,"Helvetica Neue",'
    '"Noto Sans","Liberation Sans",Arial,sans-serif'
)
MONO = '"SF Mono",SFMono-Regular,Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",monospace'
MARGINS = {
    "curves": {"l": 54, "r": 20, "t": 8, "b": 42},
    "labeled": {"l": 54, "r": 92, "t": 22, "b": 42},
    "maps": {"l": 46, "r": 14, "t": 8, "b": 42},
    "small": {"l": 34, "r": 14, "t": 6, "b": 24},
}
"""Margins in px by kind of pane; "labeled" has room for names at the ends of lines."""

TEST_DASH = "6px,3px"
"""Dash of what was measured on the test set, where the training set's line is solid."""
DASHED = "test dashed"
"""What axes and keys say of it."""

_LONGEST_NAME = 15
_PLOT_HEIGHT = 140.0  # of the smallest pane with names at line ends, in pixels
_END_LABEL = 15.0 / _PLOT_HEIGHT


def graph_config() -> dict[str, Any]:
    """The config of every graph: no mode bar, no logo, and nothing that leaves the machine."""
    return {
        "displayModeBar": False,
        "displaylogo": False,
        "showSendToCloud": False,
        "showEditInChartStudio": False,
        "plotlyServerURL": "",
        "scrollZoom": False,
        "responsive": True,
    }


def template(theme: str) -> go.layout.Template:
    """The plotly template of a theme."""
    color = palette.tokens(theme)
    axis = {
        "showgrid": True,
        "gridcolor": color.grid,
        "gridwidth": 1,
        "zeroline": False,
        "showline": True,
        "linecolor": color.line_strong,
        "linewidth": 1,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": color.line_strong,
        "tickfont": {"size": 11, "color": color.muted},
        "title": {"font": {"size": 12, "color": color.muted}, "standoff": 6},
        "automargin": False,
    }
    layout = go.Layout(
        font={"family": FONT, "size": 12, "color": color.text},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        dragmode="pan",
        hovermode="closest",
        hoverlabel={
            "bgcolor": color.raised,
            "bordercolor": color.line_strong,
            "font": {"family": FONT, "size": 12, "color": color.text},
            "align": "left",
        },
        xaxis=axis,
        yaxis=axis,
        margin=MARGINS["curves"],
    )
    return go.layout.Template(layout=layout)


def new_figure(theme: str, margin: str = "curves") -> go.Figure:
    """An empty figure of a theme with the margins of a kind of pane."""
    figure = go.Figure()
    figure.update_layout(template=template(theme), margin=MARGINS[margin], uirevision="keep")
    return figure


def add_color_bar(
    figure: go.Figure,
    name: str,
    limits: tuple[float, float],
    bar: Sequence[Sequence[Any]],
    title: str,
    theme: str,
) -> None:
    """Give a trace plotly's own color bar, for figures that stand alone.

    Args:
        figure: The figure.
        name: Name of the trace whose colors the bar explains.
        limits: The trace's lowest and highest color value.
        bar: (fraction, label) of each tick.
        title: What the color is.
        theme: "light" or "dark".
    """
    low, high = limits
    color = palette.tokens(theme)
    figure.update_traces(
        selector={"name": name},
        showscale=True,
        colorbar={
            "thickness": 9,
            "len": 1,
            "outlinewidth": 0,
            "tickmode": "array",
            "tickvals": [low + at * (high - low) for at, _ in bar],
            "ticktext": [label for _, label in bar],
            "ticks": "outside",
            "ticklen": 3,
            "tickfont": {"size": 11, "color": color.muted},
            "title": {"text": title, "font": {"size": 12, "color": color.muted}},
        },
    )
    figure.update_layout(margin={"r": 80})


def step_axis(last: float, title: str = "step") -> dict[str, Any]:
    """A step axis from 0 to the last step rounded up to a tick."""
    top, ticks = step_top(last)
    return {
        "range": [0, top],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [step(float(tick)) for tick in ticks],
        "title": {"text": title},
    }


def value_axis(low: float, high: float, scale: str, title: str) -> dict[str, Any]:
    """A value axis from low to high with our ticks, padded by 5 % at ends that are not 0."""
    ends = np.log10([low, high]) if scale == "log" else np.array([low, high])
    margin = 0.05 * float(np.ptp(ends)) or 0.5
    ends = ends + np.array([0.0 if scale == "linear" and low == 0 else -margin, margin])
    inner = 10**ends if scale == "log" else ends
    ticks = log_ticks(*inner) if scale == "log" else nice_ticks(*inner)
    return {
        "type": scale,
        "range": [float(end) for end in ends],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [short(float(tick)) for tick in ticks],
        "title": {"text": title},
    }


def run_name(label: str, color: int, theme: str, *, swatch: bool = False) -> str:
    """A run's name in its color; where that is not legible, in ink beside a square of it."""
    run, ink = palette.run_color(color).on(theme), palette.tokens(theme).text
    short_label = label if len(label) <= _LONGEST_NAME else label[: _LONGEST_NAME - 1] + "…"
    legible = theme == "dark" or color % len(palette.RUNS) in palette.WORD_RUNS
    if legible and not swatch:
        return f'<span style="color:{run}">{short_label}</span>'
    return f'<span style="color:{run}">■</span> <span style="color:{ink}">{short_label}</span>'


def add_end_labels(
    figure: go.Figure, labels: Sequence[tuple[float, str]], axis: dict[str, Any]
) -> None:
    """Write names at the right end of lines, moved apart where they would overlap.

    Args:
        figure: The figure.
        labels: (value at the end, text) of each line.
        axis: The value axis as `value_axis` gives it.
    """
    low, high = axis["range"]
    labels = [label for label in labels if np.isfinite(label[0])]
    wanted = []
    for value, _ in labels:
        at = value if axis.get("type") != "log" else np.log10(value) if value > 0 else low
        wanted.append(float(np.clip((at - low) / (high - low), 0, 1)))
    places = spread(wanted, _END_LABEL, 0.0, 1.0)
    for place, (_, text) in zip(places, labels, strict=True):
        figure.add_annotation(
            x=1,
            y=place,
            xref="x domain",
            yref="y domain",
            xanchor="left",
            yanchor="middle",  # else plotly changes it at a third of the height
            xshift=7,
            showarrow=False,
            text=text,
            font={"size": 11},
        )


def add_key(figure: go.Figure, text: str, theme: str, *, at: str = "right") -> None:
    """Write what lines mean above the frame, at its left or right end, and make room for it."""
    figure.add_annotation(
        x=1 if at == "right" else 0,
        y=1,
        xref="x domain",
        yref="y domain",
        xanchor=at,
        yanchor="bottom",
        yshift=4,
        showarrow=False,
        text=text,
        font={"size": 11.5, "color": palette.tokens(theme).muted},
    )
    figure.update_layout(margin={"t": 26})


def add_lr_drops(
    figure: go.Figure,
    drops: Sequence[tuple[float, float]],
    axis: dict[str, Any],
    theme: str,
    *,
    named: bool = False,
) -> None:
    """Draw a dashed vertical line at each step where the learning rate fell.

    A trace, not a shape: plotly.js 4 can't put a shape between grid and data on an axis' domain.

    Args:
        figure: The figure, before its data are added.
        drops: (step, lr) of each drop.
        axis: The value axis as `value_axis` gives it.
        theme: "light" or "dark".
        named: Whether to write the learning rates above the plot.
    """
    if not drops:
        return
    color = palette.tokens(theme)
    low, high = axis["range"]
    ends = np.array([2 * low - high, 2 * high - low, np.nan])
    at = np.array([start for start, _ in drops], dtype=np.float64)
    figure.add_trace(
        go.Scatter(
            x=np.repeat(at, 3),
            y=np.tile(10**ends if axis.get("type") == "log" else ends, len(at)),
            mode="lines",
            line={"color": color.zero, "width": 1, "dash": "2px,3px"},
            hoverinfo="skip",
            name="lr drops",
        )
    )
    for i, (place, lr) in enumerate(drops if named else ()):
        figure.add_annotation(
            x=place,
            y=1,
            yref="y domain",
            yanchor="bottom",
            xanchor="left",
            xshift=-2,
            showarrow=False,
            text=("lr " if i == 0 else "") + short(lr),
            font={"size": 10.5, "color": color.faint},
        )


def zero_line(theme: str) -> dict[str, Any]:
    """Axis options that draw a line where the axis is 0, for axes on which 0 means something."""
    color = palette.tokens(theme).zero
    return {"zeroline": True, "zerolinecolor": color, "zerolinewidth": 1}


def add_selected_step(figure: go.Figure, selected: float | None, theme: str) -> None:
    """Mark the step that the page's scrubber stands on."""
    if selected is not None:
        line = {"color": palette.tokens(theme).text, "width": 1}
        figure.add_vline(x=selected, line=line, layer="above", name="selected step")


def null_name(theme: str) -> str:
    """The label at the end of a null band."""
    return f'<span style="color:{palette.tokens(theme).muted}">null, 95 %</span>'


def run_line(color: int, theme: str, width: float = 1.8) -> dict[str, Any]:
    """The line style of a run."""
    run = palette.run_color(color)
    return {"color": run.on(theme), "width": width, "dash": run.plotly_dash}


def context_line(theme: str) -> dict[str, Any]:
    """The dotted line of what is shown for comparison."""
    return {"color": palette.tokens(theme).muted, "width": 1.4, "dash": "2px,3px"}


def band(
    x: np.ndarray, low: np.ndarray, high: np.ndarray, color: str, *, alpha: float = 0.2, name: str
) -> go.Scatter:
    """A filled band without outline from low to high; gaps in either stay gaps."""
    xs, ys = [], []
    for start, stop in _runs(np.isfinite(low) & np.isfinite(high)):
        part = slice(start, stop)
        xs += [x[part], x[part][::-1], [np.nan]]
        ys += [high[part], low[part][::-1], [np.nan]]
    return go.Scatter(
        x=np.concatenate(xs) if xs else [],
        y=np.concatenate(ys) if ys else [],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=palette.translucent(color, alpha),
        hoverinfo="skip",
        name=name,
    )


def _runs(keep: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of each stretch of True."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], keep.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in bounds.reshape(-1, 2)]
