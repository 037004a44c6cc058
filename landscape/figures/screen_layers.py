"""Curvature layer by layer on the screen: a heat map through training, or one checkpoint."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.numbers import layer_label, short
from landscape.figures.scales import SignedLog, nice_ticks
from landscape.figures.template import add_color_bar, new_figure, zero_line
from landscape.results import Curvature, Trace

_DECADES = 3
_CHARACTER = 6.2  # px of a tick label's letter
_LONGEST = 22


def plot_layers(
    result: Curvature | Trace,
    *,
    per_parameter: bool = False,
    selected: float | None = None,
    theme: str = "light",
    bar: bool = False,
    color: int = 0,
) -> go.Figure:
    """Draw the trace of each layer's own block: a map over checkpoints, or dots of one checkpoint.

    The map's colors are symmetric about 0, linear near it and logarithmic beyond. A dot in a cell,
    and a hollow marker, say that 0 is within two standard errors. `figure.layout.meta` holds the
    ticks of the color bar.

    Args:
        result: Curvature through training, or one trace, with layers measured.
        per_parameter: Whether to divide by the layer's number of parameters: its mean curvature.
        selected: Step to mark on the map.
        theme: "light" or "dark".
        bar: Whether to add the color bar to the map.
        color: Color index of the run, for one checkpoint.

    Raises:
        ValueError: If no layer was measured.
    """
    if not result.layer_trace.size:
        raise ValueError(
            "traces must be measured layer by layer, got none; the method hutchinson gives them"
        )
    if per_parameter and not result.layer_size.size:
        raise ValueError("a trace per parameter needs the layers' sizes, got none")
    divisor = result.layer_size if per_parameter else np.ones(len(result.layer_names))
    known = (
        result.layer_error if result.layer_error.size else np.full_like(result.layer_trace, np.nan)
    )
    values, errors = result.layer_trace / divisor, known / divisor
    title = "trace per parameter" if per_parameter else "trace of the layer's block"
    if isinstance(result, Trace):
        return _dots(result, values, errors, title, theme, color)
    figure = _map(result, values, errors, title, theme, bar)
    if selected is not None and selected in result.step:
        at = int(np.searchsorted(result.step, selected))
        line = {"color": palette.tokens(theme).text, "width": 1.4}
        figure.add_shape(
            type="rect", x0=at - 0.5, x1=at + 0.5, y0=0, y1=1, yref="y domain", line=line
        )
    return figure


def layer_limits(values: np.ndarray) -> tuple[SignedLog, float]:
    """The color scale of a layer map: linear to a thousandth of the largest, and that."""
    finite = np.abs(values[np.isfinite(values)])
    top = float(finite.max(initial=0.0)) or 1.0
    return SignedLog(top * 10.0**-_DECADES), top


def _map(
    result: Curvature,
    values: np.ndarray,
    errors: np.ndarray,
    title: str,
    theme: str,
    bar: bool,
) -> go.Figure:
    scale, top = layer_limits(values)
    limit = float(scale.forward(top))
    names = result.layer_names
    figure = layered_figure(theme, names)
    columns = np.arange(len(result.step))
    told = np.stack(
        [
            np.broadcast_to(result.step[:, None], values.shape),
            values,
            errors,
        ],
        axis=-1,
    )
    figure.add_trace(
        go.Heatmap(
            x=columns,
            y=np.arange(len(names)),
            z=scale.forward(values).T,
            customdata=told.transpose(1, 0, 2),
            text=np.tile(np.array(result.layer_names)[:, None], (1, len(columns))),
            zmin=-limit,
            zmax=limit,
            xgap=1,
            ygap=1,
            colorscale=palette.gradient_stops(palette.TIDE_STOPS[theme]),
            showscale=False,
            hoverongaps=False,
            hovertemplate=(
                "%{text}<br>step %{customdata[0]:,.0f}<br>"
                f"{title} %{{customdata[1]:.3~g}} ± %{{customdata[2]:.2~g}}<extra></extra>"
            ),
            name="layers",
        )
    )
    _add_unsure(figure, values, errors, theme)
    stride = max(1, int(np.ceil(len(columns) / 8)))
    figure.update_xaxes(
        range=[-0.5, len(columns) - 0.5],
        tickvals=columns[::stride],
        ticktext=[f"{s:,}".replace(",", "\N{THIN SPACE}") for s in result.step[::stride]],
        title_text="step of the checkpoint",
        showgrid=False,
        mirror=True,
    )
    meta = layer_meta(values)
    figure.update_layout(meta=meta)
    if bar:
        add_color_bar(figure, "layers", (-limit, limit), meta["bar"], title, theme)
    return figure


def layer_meta(values: np.ndarray) -> dict[str, Any]:
    """Limits and ticks of a layer map's color bar."""
    scale, top = layer_limits(values)
    limit = float(scale.forward(top))
    ticks = scale.ticks(-top, top, most=7)
    marks = [[(float(scale.forward(t)) + limit) / (2 * limit), short(float(t))] for t in ticks]
    return {"limits": [-top, top], "scale": "signed log", "bar": marks}


def _add_unsure(figure: go.Figure, values: np.ndarray, errors: np.ndarray, theme: str) -> None:
    unsure = np.argwhere(np.abs(values) < 2 * errors)
    figure.add_trace(
        go.Scatter(
            x=unsure[:, 0],
            y=unsure[:, 1],
            mode="markers",
            marker={"size": 3.5, "color": palette.tokens(theme).muted},
            hoverinfo="skip",
            name="unsure",
        )
    )


def _dots(
    result: Trace, values: np.ndarray, errors: np.ndarray, title: str, theme: str, color: int
) -> go.Figure:
    run = palette.run_color(color)
    shade, ground = run.on(theme), palette.tokens(theme).surface
    figure = layered_figure(theme, result.layer_names)
    figure.add_trace(
        go.Scatter(
            x=values,
            y=np.arange(len(values)),
            mode="markers",
            marker={
                "symbol": run.marker,
                "size": 7,
                "opacity": 1,
                "color": [
                    ground if abs(v) < 2 * e else shade for v, e in zip(values, errors, strict=True)
                ],
                "line": {"color": shade, "width": 1.4},
            },
            error_x={
                "type": "data",
                "array": np.nan_to_num(errors),
                "thickness": 1.2,
                "width": 0,
                "color": shade,
            },
            customdata=np.stack([result.layer_size, errors], axis=-1)
            if result.layer_size.size
            else np.stack([np.full(len(values), np.nan), errors], axis=-1),
            text=list(result.layer_names),
            hovertemplate=(
                f"%{{text}}<br>{title} %{{x:.4~g}} ± %{{customdata[1]:.2~g}}"
                "<br>%{customdata[0]:,.0f} parameters<extra></extra>"
            ),
            name="layers",
        )
    )
    low = float(np.nanmin(np.append(values - np.nan_to_num(errors), 0.0)))
    high = float(np.nanmax(np.append(values + np.nan_to_num(errors), 0.0)))
    pad = 0.05 * ((high - low) or 1.0)
    ticks = nice_ticks(low, high, 4)
    figure.update_xaxes(
        range=[low - pad, high + pad],
        tickvals=ticks,
        ticktext=[short(float(t)) for t in ticks],
        title_text=title,
        **zero_line(theme),
    )
    return figure


def _names(names: tuple[str, ...]) -> list[str]:
    """Names short enough for an axis; what is left out is in the middle."""
    half, names = (_LONGEST - 1) // 2, tuple(map(layer_label, names))
    return [n if len(n) <= _LONGEST else f"{n[:half]}…{n[-half:]}" for n in names]


def layered_figure(theme: str, names: tuple[str, ...]) -> go.Figure:
    """A figure with one row per layer, the first at the top."""
    figure, shown = new_figure(theme, "curves"), _names(names)
    widest = max(len(name) for name in shown)
    stride = max(1, int(np.ceil(len(names) / 24)))
    figure.update_yaxes(
        range=[len(names) - 0.5, -0.5],
        tickvals=np.arange(len(names))[::stride],
        ticktext=shown[::stride],
        showgrid=False,
    )
    figure.update_layout(margin={"l": round(16 + _CHARACTER * widest)})
    return figure
