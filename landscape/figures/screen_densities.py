"""Densities of several runs on equal axes, and spectra over log |λ|, on the screen."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.densities import DensityCurve, density_curve, shared_axes
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import short
from landscape.figures.scales import SignedLog, log_ticks
from landscape.figures.screen_density import DENSITY_TITLE, power_axis
from landscape.figures.template import (
    add_end_labels,
    band,
    new_figure,
    run_line,
    run_name,
)
from landscape.quadrature import LogDensity, log_density
from landscape.results import Density

DECADE_TITLE = "eigenvalues per decade of |λ|"
NEGATIVE_DASH = "4px,3px"
_RUG = 0.045
"""Height of one run's row of ticks, as a share of the axis."""


def plot_densities(
    densities: Density | Items[Density],
    *,
    axis: str | None = None,
    width: float = 1.0,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw densities of several runs over one λ axis; ticks below are eigenvalues found one by one.

    Args:
        densities: One density, or (label, color, density) of each run.
        axis: "symlog", "linear", or None for symlog where a spectrum is wider than its bulk.
        width: What the stored widths are multiplied with.
        theme: "light" or "dark".
        color: Color index of a single density.

    Raises:
        ValueError: If the axis is unknown.
    """
    if axis not in ("symlog", "linear", None):
        raise ValueError(f"axis must be 'symlog' or 'linear', got {axis!r}")
    items = items_of(densities, color)
    curves = [density_curve(replace(d, sigma=width * d.sigma)) for _, _, d in items]
    shared = shared_axes(curves)
    scale, (bottom, top) = shared.signed_log, shared.levels
    signed = axis == "symlog" or (axis is None and shared.wide)
    figure = new_figure(theme, "labeled")
    ends = []
    for row, ((label, index, _), curve) in enumerate(zip(items, curves, strict=True)):
        x = scale.forward(curve.x) if signed else curve.x
        _add_density(figure, label, index, curve, x, bottom, theme)
        stems = scale.forward(curve.stems) if signed else curve.stems
        place = 1 - (row + 0.5) * 2 * _RUG
        _add_rug(figure, label, index, stems, curve.stems, place, (bottom, top), theme)
        ends.append((10 ** (np.log10(bottom) + place * np.log10(top / bottom)), label, index))
    vertical = {**power_axis(bottom, top, most=6), "title": {"text": DENSITY_TITLE}}
    figure.update_yaxes(vertical)
    add_end_labels(figure, [(v, run_name(n, i, theme)) for v, n, i in ends], vertical)
    _lambda_axis(figure, scale if signed else None, *shared.reach)
    return figure


def _lambda_axis(figure: go.Figure, scale: SignedLog | None, low: float, high: float) -> None:
    if scale is None:
        figure.update_xaxes(range=[low, high], title_text="eigenvalue λ", nticks=6)
        return
    ticks = scale.ticks(low, high)
    figure.update_xaxes(
        range=[float(end) for end in scale.forward(np.array([low, high]))],
        tickvals=scale.forward(ticks),
        ticktext=[short(float(tick)) for tick in ticks],
        title_text=f"eigenvalue λ, linear within ±{short(scale.threshold, 2)}",
    )


def _add_density(
    figure: go.Figure,
    label: str,
    index: int,
    curve: DensityCurve,
    x: np.ndarray,
    bottom: float,
    theme: str,
) -> None:
    floor = bottom / 10
    shade = palette.run_color(index).on(theme)
    low, high = np.maximum(curve.low, floor), np.maximum(curve.high, floor)
    figure.add_trace(band(x, low, high, shade, alpha=0.15, name=f"{label} range of probes"))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=np.where(curve.middle > 0, curve.middle, floor * 1e-3),
            customdata=curve.x,
            mode="lines",
            line=run_line(index, theme, 1.6),
            hovertemplate=(
                f"{label}<br>λ %{{customdata:.4~g}}<br>%{{y:.3~g}} per unit λ<extra></extra>"
            ),
            name=label,
        )
    )


def _add_rug(
    figure: go.Figure,
    label: str,
    index: int,
    at: np.ndarray,
    values: np.ndarray,
    place: float,
    levels: tuple[float, float],
    theme: str,
) -> None:
    """A row of markers at a height of the axis; a circle marks where nothing else is told."""
    y = 10 ** (np.log10(levels[0]) + place * np.log10(levels[1] / levels[0]))
    figure.add_trace(
        go.Scatter(
            x=at,
            y=np.full(len(at), y),
            customdata=values,
            mode="markers",
            marker={
                "symbol": "line-ns",
                "size": 11,
                "line": {"color": palette.run_color(index).on(theme), "width": 1.6},
            },
            hovertemplate=f"{label}<br>found eigenvalue λ = %{{customdata:.4~g}}<extra></extra>",
            name=f"{label} found",
        )
    )


def plot_log_density(
    density: Density,
    *,
    width: float = 1.0,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw a spectrum over log |λ|: positive eigenvalues solid, negative ones dashed.

    Ticks below are eigenvalues found one by one. What lies below the floor has a magnitude that the
    quadrature does not know: it is not drawn, and its count is in `figure.layout.meta["below"]`.

    Args:
        density: Nodes and weights of each probe.
        width: What the usual width of the Gaussians is multiplied with.
        theme: "light" or "dark".
        color: Color index of the run.
    """
    usual = log_density(density)
    logs = log_density(density, width=width * usual.width) if width != 1.0 else usual
    shade = palette.run_color(color).on(theme)
    shades = {"positive": shade, "negative": palette.tokens(theme).err}
    bottom, top = _decade_levels(logs)
    figure = new_figure(theme, "curves")
    for name, rows in (("positive", logs.positive), ("negative", logs.negative)):
        _add_part(figure, name, logs, rows, shades[name], bottom)
    found = density.outliers
    for name, part in (("positive", found[found > 0]), ("negative", -found[found < 0])):
        _add_ticks(figure, name, part, shades[name], (bottom, top))
    low = logs.decades[0]
    high = max(logs.decades[-1], float(np.log10(np.abs(found).max(initial=1e-300))) + 0.1)
    ticks = log_ticks(10.0**low, 10.0**high)
    figure.update_xaxes(
        type="log",
        range=[float(low), float(high)],
        tickvals=ticks,
        ticktext=[short(float(tick)) for tick in ticks],
        title_text="|eigenvalue λ|",
    )
    figure.update_yaxes(power_axis(bottom, top, most=6), title_text=DECADE_TITLE)
    below = float(logs.below.mean())
    figure.update_layout(meta={"below": below, "floor": logs.floor, "width": logs.width})
    return figure


def _decade_levels(logs: LogDensity) -> tuple[float, float]:
    peak = float(max(logs.positive.max(initial=0.0), logs.negative.max(initial=0.0), 1.0))
    top = 10.0 ** np.ceil(np.log10(1.2 * peak))
    return float(min(top * 1e-6, 1e-2)), float(top)


def _add_part(
    figure: go.Figure, name: str, logs: LogDensity, rows: np.ndarray, shade: str, bottom: float
) -> None:
    if not rows.any():
        return
    x, floor = 10.0**logs.decades, bottom / 10
    low, high = np.maximum(rows.min(axis=0), floor), np.maximum(rows.max(axis=0), floor)
    figure.add_trace(band(x, low, high, shade, name=f"{name} range of probes"))
    middle = rows.mean(axis=0)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=np.where(middle > 0, middle, floor * 1e-3),
            mode="lines",
            line={
                "color": shade,
                "width": 1.8,
                "dash": NEGATIVE_DASH if name == "negative" else "solid",
            },
            hovertemplate=f"{name}, |λ| %{{x:.3~g}}<br>%{{y:.3~g}} per decade<extra></extra>",
            name=name,
        )
    )


def _add_ticks(
    figure: go.Figure, name: str, found: np.ndarray, shade: str, levels: tuple[float, float]
) -> None:
    y = 10 ** (np.log10(levels[0]) + _RUG * np.log10(levels[1] / levels[0]))
    sign = "" if name == "positive" else "−"
    figure.add_trace(
        go.Scatter(
            x=found,
            y=np.full(len(found), y),
            mode="markers",
            marker={"symbol": "line-ns", "size": 12, "line": {"color": shade, "width": 1.6}},
            hovertemplate=f"found eigenvalue λ = {sign}%{{x:.4~g}}<extra></extra>",
            name=f"{name} found",
        )
    )
