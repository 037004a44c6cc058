"""Multipliers of a run's own update map in the complex plane."""

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import number
from landscape.figures.scales import nice_ticks
from landscape.figures.template import new_figure, zero_line
from landscape.results import Stability


def plot_stability(
    stabilities: Stability | Items[Stability],
    *,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the multipliers found in the complex plane; the unit circle is the edge of stability.

    What lies outside the circle grows from step to step, what lies inside fades. A hollow marker is
    a multiplier whose residual is above the tolerance.

    Args:
        stabilities: One result, or (label, color, stability) of each run.
        theme: "light" or "dark".
        color: Color index of a single result.
    """
    items = items_of(stabilities, color)
    figure = new_figure(theme, "maps")
    _add_circle(figure, theme)
    for label, index, result in items:
        _add_multipliers(figure, label, index, result, theme)
        _add_labels(figure, label, result, theme, alone=len(items) == 1)
    values = np.concatenate([multipliers_of(s) for _, _, s in items] or [np.empty(0)])
    reach = 1.15 * max(1.0, float(np.abs(values[np.isfinite(values)]).max(initial=1.0)))
    ticks = nice_ticks(-reach, reach, 5)
    shared = {"range": [-reach, reach], "tickvals": ticks, "constrain": "domain"}
    figure.update_xaxes(title_text="Re μ", **shared, **zero_line(theme))
    figure.update_yaxes(title_text="Im μ", scaleanchor="x", **shared, **zero_line(theme))
    return figure


def multipliers_of(stability: Stability) -> np.ndarray:
    """The multipliers as complex numbers [k]."""
    return stability.multipliers_real + 1j * stability.multipliers_imag


def _add_circle(figure: go.Figure, theme: str) -> None:
    turn = np.linspace(0, 2 * np.pi, 181)
    figure.add_trace(
        go.Scatter(
            x=np.cos(turn),
            y=np.sin(turn),
            mode="lines",
            line={"color": palette.tokens(theme).warn, "width": 1.3, "dash": "6px,3px"},
            hoverinfo="skip",
            name="unit circle",
        )
    )
    figure.add_annotation(
        x=0.72,
        y=-0.72,
        text="edge",
        showarrow=False,
        xanchor="left",
        yanchor="top",
        font={"size": 11, "color": palette.tokens(theme).warn},
    )


def _add_multipliers(
    figure: go.Figure, label: str, index: int, stability: Stability, theme: str
) -> None:
    run, values = palette.run_color(index), multipliers_of(stability)
    shade, ground = run.on(theme), palette.tokens(theme).surface
    loose = loose_multipliers(stability)
    told = np.stack(
        [np.abs(values), np.degrees(np.angle(values)), stability.residuals], axis=-1
    ).reshape(len(values), 3)
    figure.add_trace(
        go.Scatter(
            x=np.real(values),
            y=np.imag(values),
            mode="markers",
            marker={
                "symbol": run.marker,
                "size": 8,
                "opacity": 1,
                "color": [ground if rough else shade for rough in loose],
                "line": {"color": shade, "width": 1.5},
            },
            customdata=told,
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + "μ = %{x:.4~g} + %{y:.4~g} i<br>|μ| = %{customdata[0]:.4~g}, "
                "angle %{customdata[1]:.3~g}°<br>residual %{customdata[2]:.2~g}<extra></extra>"
            ),
            name=label or "multipliers",
        )
    )


def loose_multipliers(stability: Stability) -> np.ndarray:
    """Which multipliers have a residual above the tolerance times their magnitude."""
    return stability.residuals > stability.tolerance * np.abs(multipliers_of(stability))


def swing_of(stability: Stability) -> complex | None:
    """The multiplier farthest from 1, that of the largest curvature along the step, if known."""
    said = stability.facts.get("swing")
    if not isinstance(said, dict) or not {"real", "imag"} <= said.keys():
        return None
    return complex(said["real"], said["imag"])


def _add_labels(
    figure: go.Figure, label: str, stability: Stability, theme: str, *, alone: bool
) -> None:
    """Name the leading multiplier and the one that swings, once where they are the same."""
    values = multipliers_of(stability)
    if not len(values) or not np.isfinite(stability.multiplier):
        return
    before = "" if alone else f"{label} "
    lead = complex(values[int(np.argmax(np.abs(values)))])
    _add_name(figure, lead, f"{before}|μ| = {number(stability.multiplier, 4)}", "bottom", theme)
    swing = swing_of(stability)
    if swing is not None and alone and abs(swing - lead) > 1e-9 * abs(lead):
        _add_name(figure, swing, f"swing {number(abs(swing), 4)}", "top", theme)


def _add_name(figure: go.Figure, at: complex, text: str, anchor: str, theme: str) -> None:
    """Above a multiplier (anchor "bottom") or below it, so that two near ones keep apart."""
    right = at.real > 0
    figure.add_annotation(
        x=at.real,
        y=abs(at.imag) if anchor == "bottom" else -abs(at.imag),
        text=text,
        showarrow=False,
        xanchor="right" if right else "left",
        yanchor=anchor,
        xshift=6 if right else -6,
        yshift=7 if anchor == "bottom" else -7,
        font={"size": 11, "color": palette.tokens(theme).text},
    )
