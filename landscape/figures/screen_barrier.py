"""Barriers between minima, on the screen: their matrix, or the line between two."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.connections import (
    CONNECTED,
    Lines,
    cell_lines,
    height_limits,
    lines_of,
    short_names,
)
from landscape.figures.numbers import number, short
from landscape.figures.scales import color_bar, finite_range
from landscape.figures.template import (
    DASHED,
    TEST_DASH,
    add_color_bar,
    add_key,
    context_line,
    new_figure,
    run_line,
    value_axis,
)
from landscape.results import Barrier

_FEW = 5
"""Up to so many minima numbers stand in their usual size."""
_TURNED_FROM = 28
"""Names of more letters in one row are turned."""


def plot_barrier(
    barrier: Barrier,
    *,
    quantity: str = "loss",
    theme: str = "light",
    color: int = 0,
    bar: bool = False,
) -> go.Figure:
    """Draw the barriers between minima.

    Two minima: the line between them, with the rise over the mean of both ends marked. More: a
    matrix. Below the diagonal each cell is colored by the barrier over the mean of both ends, which
    it states in bold, over the one above the straight line between the ends; above the diagonal
    each cell shows the line itself, all on one scale; the diagonal gives the minima's own values.
    The test set is dashed.

    Args:
        barrier: What was measured.
        quantity: "loss", "error", "test_loss" or "test_error".
        theme: "light" or "dark".
        color: Color index of the lines.
        bar: Whether to add a color bar.

    Raises:
        ValueError: If the quantity is unknown or was not measured.
    """
    lines = lines_of(barrier, quantity)
    if len(barrier.height) == 2:
        return _plot_line(barrier, lines, CONNECTED[quantity], theme, color)
    return _plot_matrix(barrier, lines, CONNECTED[quantity], theme, color, bar)


def _plot_line(barrier: Barrier, lines: Lines, title: str, theme: str, color: int) -> go.Figure:
    figure = new_figure(theme, "curves")
    tone = palette.tokens(theme)
    values, t = lines.values[0, 1], barrier.t
    arrays = [values] if lines.test is None else [values, lines.test[0, 1]]
    shown = title if lines.test is None else f"{title}, {DASHED}"
    axis = value_axis(*finite_range(arrays, "linear"), "linear", shown)
    ends = values[[0, -1]]
    _add(figure, [0, 1], ends, "line between the ends", context_line(theme), None)
    _add(figure, t, values, title, run_line(color, theme, 2), title)
    if lines.test is not None:
        style = {**run_line(color, theme, 1.6), "dash": TEST_DASH}
        _add(figure, t, lines.test[0, 1], f"test {title}", style, f"test {title}")
    if np.isfinite(lines.height[0, 1]):
        top = int(np.argmax(values))
        stem = {"color": tone.err, "width": 1.6}
        _add(figure, t[[top, top]], np.array([ends.mean(), values[top]]), "barrier", stem, None)
        _add(
            figure,
            [0, 1],
            np.full(2, ends.mean()),
            "mean of the ends",
            {"color": tone.zero, "width": 1},
            None,
        )
    told = f'<span style="color:{tone.err}">{lines.told()}</span>'
    add_key(
        figure, told + (", dashed: test set" if lines.test is not None else ""), theme, at="left"
    )
    first, last = short_names(barrier.names, len(barrier.height))
    figure.update_xaxes(
        title_text="position t on the line",
        range=[-0.02, 1.02],
        tickvals=[0, 0.5, 1],
        ticktext=[f"0<br>{first}", "0.5", f"1<br>{last}"],
        tickangle=0,  # names stay level in a narrow pane
    )
    figure.update_yaxes(axis)
    figure.update_layout(margin={"b": 52, "r": 28})
    return figure


def _add(
    figure: go.Figure, x: Any, y: np.ndarray, name: str, line: dict[str, Any], told: str | None
) -> None:
    hover: dict[str, Any] = {"hoverinfo": "skip"}
    if told is not None:
        hover = {"hovertemplate": f"t %{{x:.2f}}<br>{told} %{{y:.3~g}}<extra></extra>"}
    shown = np.where(np.isfinite(y), y, np.nan)
    figure.add_trace(go.Scatter(x=x, y=shown, mode="lines", line=line, name=name, **hover))


def _plot_matrix(
    barrier: Barrier, lines: Lines, title: str, theme: str, color: int, bar: bool
) -> go.Figure:
    figure = new_figure(theme, "maps")
    limits = height_limits(lines)
    figure.add_trace(_heat(barrier, lines, title, limits))
    for style, values, name in (
        (run_line(color, theme, 1.8), lines.values, title),
        ({**run_line(color, theme, 1.4), "dash": TEST_DASH}, lines.test, f"test {title}"),
    ):
        if values is not None:
            x, y, told = cell_lines(barrier.t, values, lines.range)
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    line=style,
                    customdata=told,
                    hovertemplate=(
                        f"t %{{customdata[0]:.2f}}<br>{name} %{{customdata[1]:.3~g}}<extra></extra>"
                    ),
                    name=name,
                )
            )
    _add_numbers(figure, lines, limits, theme)
    _frame(figure, short_names(barrier.names, len(barrier.height)), theme)
    low, high = lines.range
    ticks = [list(tick) for tick in color_bar(limits, "linear")]
    told = f"lines {short(low)} – {short(high)}"
    add_key(figure, told if lines.test is None else f"{told}, {DASHED}", theme)
    figure.update_layout(
        meta={
            "title": f"barrier of the {title}",
            "bar": ticks,
        }
    )
    if bar:
        add_color_bar(figure, "barriers", limits, ticks, f"{title} barrier", theme)
    return figure


def _heat(barrier: Barrier, lines: Lines, title: str, limits: tuple[float, float]) -> go.Heatmap:
    m = len(lines.height)
    below = np.tril(np.ones((m, m), bool), -1)
    names = short_names(barrier.names, len(barrier.height))
    text = [[f"{names[j]} – {names[i]}" for j in range(m)] for i in range(m)]
    return go.Heatmap(
        x=np.arange(m),
        y=np.arange(m),
        z=np.where(below & np.isfinite(lines.height), lines.height, np.nan),
        zmin=limits[0],
        zmax=limits[1],
        xgap=1,
        ygap=1,
        text=text,
        customdata=np.stack([lines.height, lines.height_over_line, barrier.distance], axis=-1),
        colorscale=palette.gradient_stops(),
        showscale=False,
        hoverongaps=False,
        hovertemplate=(
            f"%{{text}}<br>{title}: %{{customdata[0]:.3~g}} over the mean of the ends"
            "<br>%{customdata[1]:.3~g} over the line between them"
            "<br>distance %{customdata[2]:.3~g}<extra></extra>"
        ),
        name="barriers",
    )


def _add_numbers(figure: go.Figure, lines: Lines, limits: tuple[float, float], theme: str) -> None:
    """Both heights in the cells below the diagonal, the minima's own values on it."""
    tone = palette.tokens(theme)
    size = 11.5 if len(lines.height) <= _FEW else 9.5
    for i in range(len(lines.height)):
        for j in range(i):
            height, over_line = lines.height[i, j], lines.height_over_line[i, j]
            place = (height - limits[0]) / (limits[1] - limits[0])
            light = np.isfinite(place) and palette.is_light(palette.map_color(float(place)))
            ink = palette.INK if light else "#FFFFFF" if np.isfinite(place) else tone.text
            text = f"<b>{number(height, 2)}</b><br>{number(over_line, 2)}"
            font = {"size": size, "color": ink}
            figure.add_annotation(x=j, y=i, text=text, showarrow=False, font=font)
        own = lines.values[i, (i + 1) % len(lines.values), 0]
        font = {"size": size, "color": tone.muted}
        figure.add_annotation(x=i, y=i, text=number(own, 2), showarrow=False, font=font)


def _frame(figure: go.Figure, names: list[str], theme: str) -> None:
    m = len(names)
    tone = palette.tokens(theme)
    for i in range(m):
        for j in range(i, m):
            box = {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
            fill = tone.sunken if i == j else None
            line = {"color": tone.line, "width": 1}
            figure.add_shape(type="rect", layer="below", fillcolor=fill, line=line, **box)
    widest = max(len(name) for name in names)
    turned = sum(map(len, names)) > _TURNED_FROM
    shared = {
        "tickvals": list(range(m)),
        "ticktext": names,
        "showgrid": False,
        "ticks": "",
        "mirror": True,
        "constrain": "domain",
    }
    figure.update_xaxes(**shared, range=[-0.5, m - 0.5], tickangle=-35 if turned else 0)
    figure.update_yaxes(**shared, range=[m - 0.5, -0.5], scaleanchor="x", scaleratio=1)
    left = 18 + round(6.4 * widest)
    figure.update_layout(
        margin={"l": left, "t": 26, "b": 18 + round(4.2 * widest) if turned else 30}
    )
