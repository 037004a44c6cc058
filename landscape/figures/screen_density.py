"""Spectral densities on the screen."""

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.densities import DensityCurve, density_curve
from landscape.figures.numbers import MINUS, number, short
from landscape.figures.template import band, context_line, new_figure, run_line
from landscape.results import Density, Spectrum

DENSITY_TITLE = "eigenvalues per unit λ"


def plot_density(
    density: Density,
    spectrum: Spectrum | None = None,
    *,
    context: Density | None = None,
    axis: str | None = None,
    width: float = 1.0,
    inset: bool = True,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw a spectral density in eigenvalues per unit λ, so that one eigenvalue has area 1.

    Eigenpairs that were found one by one leave the curve and stand as stems of height 1. The band
    goes from the lowest to the highest probe.

    Args:
        density: Nodes and weights of each probe.
        spectrum: Found eigenpairs of the same Hessian.
        context: A density to compare with, drawn dotted.
        axis: "symlog", "linear", or None for symlog where the spectrum is wider than its bulk.
        width: What the stored width is multiplied with; nodes and weights stay as they are.
        inset: Whether to add the bulk on a linear axis, where the axis is not linear.
        theme: "light" or "dark".
        color: Color index of the run.

    Raises:
        ValueError: If the axis is unknown.
    """
    if axis not in ("symlog", "linear", None):
        raise ValueError(f"axis must be 'symlog' or 'linear', got {axis!r}")
    curve = density_curve(replace(density, sigma=width * density.sigma), spectrum)
    other = None
    if context is not None:
        other = density_curve(replace(context, sigma=width * context.sigma))
    signed = axis == "symlog" or (axis is None and curve.wide)
    figure = new_figure(theme, "curves")
    _add_density(figure, curve, other, signed, color, theme)
    _add_stems(figure, curve, signed, color, theme)
    _density_axes(figure, curve, signed)
    if inset and signed and curve.wide:
        _add_inset(figure, curve, color, theme)
    return figure


def _across(curve: DensityCurve, values: np.ndarray, signed: bool) -> np.ndarray:
    return curve.signed_log.forward(values) if signed else values


def _add_density(
    figure: go.Figure,
    curve: DensityCurve,
    other: DensityCurve | None,
    signed: bool,
    color: int,
    theme: str,
) -> None:
    floor = curve.levels()[0] / 10
    x = _across(curve, curve.x, signed)
    low, high = np.maximum(curve.low, floor), np.maximum(curve.high, floor)
    shade = palette.run_color(color).on(theme)
    figure.add_trace(band(x, low, high, shade, name="range of probes"))
    hover = "λ %{customdata:.4~g}<br>%{y:.3~g} eigenvalues per unit λ<extra></extra>"
    if other is not None:
        figure.add_trace(
            go.Scatter(
                x=_across(curve, other.x, signed),
                y=np.where(other.middle > 0, other.middle, np.nan),
                customdata=other.x,
                mode="lines",
                line=context_line(theme),
                hovertemplate=hover,
                name="context",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=np.where(curve.middle > 0, curve.middle, floor * 1e-3),
            customdata=curve.x,
            mode="lines",
            line=run_line(color, theme),
            hovertemplate=hover,
            name="density",
        )
    )


def _add_stems(
    figure: go.Figure, curve: DensityCurve, signed: bool, color: int, theme: str
) -> None:
    if not len(curve.stems):
        return
    shade = palette.run_color(color).on(theme)
    at = _across(curve, curve.stems, signed)
    floor = curve.levels()[0] / 10
    x = np.stack([at, at, np.full(len(at), np.nan)], axis=1).ravel()
    y = np.tile([floor, 1.0, np.nan], len(at))
    line = {"color": shade, "width": 1.4}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="stem lines")
    )
    figure.add_trace(
        go.Scatter(
            x=at,
            y=np.ones(len(at)),
            mode="markers",
            marker={"size": 5, "color": shade},
            customdata=curve.stems,
            hovertemplate="found eigenvalue λ = %{customdata:.4~g}<extra></extra>",
            name="stems",
        )
    )
    figure.add_annotation(
        x=float(at[-1]),
        y=0.0,
        yanchor="bottom",
        xanchor="right",
        xshift=6,
        yshift=6,
        showarrow=False,
        text=f"λ<sub>1</sub> = {number(float(curve.stems[-1]))}",
        font={"size": 11, "color": palette.tokens(theme).text},
    )


def _power(exponent: int) -> str:
    if exponent in (0, 1):
        return "1" if exponent == 0 else "10"
    return f"10<sup>{str(exponent).replace('-', MINUS)}</sup>"


def power_axis(low: float, high: float, most: int) -> dict[str, Any]:
    """A log axis between two powers of ten, with at most `most` ticks."""
    first, last = round(np.log10(low)), round(np.log10(high))
    stride = max(1, int(np.ceil((last - first) / most)))
    exponents = [e for e in range(first, last + 1) if (e - first) % stride == 0]
    return {
        "type": "log",
        "range": [first, last],
        "tickvals": [10.0**e for e in exponents],
        "ticktext": [_power(e) for e in exponents],
    }


def _density_axes(figure: go.Figure, curve: DensityCurve, signed: bool) -> None:
    low, high = curve.reach
    title = "eigenvalue λ"
    if signed:
        ticks = curve.signed_log.ticks(low, high)
        figure.update_xaxes(
            range=[float(end) for end in curve.signed_log.forward(np.array([low, high]))],
            tickvals=curve.signed_log.forward(ticks),
            ticktext=[short(float(tick)) for tick in ticks],
            title_text=f"{title}, linear within ±{short(curve.signed_log.threshold, 2)}",
        )
    else:
        figure.update_xaxes(range=[low, high], title_text=title, nticks=6)
    figure.update_yaxes(power_axis(*curve.levels(), most=6), title_text=DENSITY_TITLE)


def _add_inset(figure: go.Figure, curve: DensityCurve, color: int, theme: str) -> None:
    """The bulk on a linear axis, upper right, where stems of height 1 leave room."""
    tone = palette.tokens(theme)
    low, high = curve.bulk
    inside = (curve.x >= low) & (curve.x <= high)
    figure.add_shape(
        type="rect",
        xref="paper",
        yref="paper",
        x0=0.635,
        x1=1.0,
        y0=0.52,
        y1=1.0,
        fillcolor=tone.surface,
        line_width=0,
        layer="below",
    )
    figure.add_trace(
        go.Scatter(
            x=curve.x[inside],
            y=np.where(curve.middle[inside] > 0, curve.middle[inside], np.nan),
            mode="lines",
            line=run_line(color, theme, 1.4),
            hovertemplate="λ %{x:.3~g}<br>%{y:.3~g} per unit λ<extra></extra>",
            xaxis="x2",
            yaxis="y2",
            name="bulk",
        )
    )
    levels = curve.levels()
    small = {"tickfont": {"size": 10, "color": tone.muted}, "title": {"text": ""}}
    top = 10 ** np.ceil(np.log10(levels[1]))
    figure.update_layout(
        xaxis2={**small, "domain": [0.70, 0.99], "anchor": "y2", "range": [low, high], "nticks": 4},
        yaxis2={
            **small,
            **power_axis(max(levels[0], top * 1e-6), top, most=3),
            "domain": [0.62, 0.98],
            "anchor": "x2",
        },
    )
