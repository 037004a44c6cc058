"""Loss along directions, on the screen."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.scales import choose_scale, finite_range
from landscape.figures.summaries import diverged_at, last_finite, profile_curve
from landscape.figures.template import (
    add_end_labels,
    band,
    new_figure,
    run_line,
    run_name,
    value_axis,
    zero_line,
)
from landscape.results import Profile

PROFILE_TITLES = {"rise": "loss − loss at 0", "loss": "loss", "accuracy": "accuracy"}


def plot_profile(
    profiles: Profile | Items[Profile],
    *,
    value: str = "rise",
    scale: str = "linear",
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the loss along directions: median of the repeats, band from lowest to highest.

    A single profile shows its repeats as faint lines too. Positions where a repeat diverged carry
    a cross at the bottom, and the median has a gap there.

    Args:
        profiles: One profile, or (label, color, profile) of each run.
        value: "rise" (loss minus the loss at 0), "loss" or "accuracy".
        scale: "linear" or "log".
        limits: Lowest and highest value of the axis.
        theme: "light" or "dark".
        color: Color index of a single profile.
    """
    items = items_of(profiles, color)
    curves = [(label, index, profile_curve(p, value)) for label, index, p in items]
    scale = choose_scale(scale, [c.low for _, _, c in curves])
    everything = [part for _, _, c in curves for part in (c.low, c.high)]
    axis = value_axis(*finite_range(everything, scale, limits), scale, PROFILE_TITLES[value])
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    for label, index, curve in curves:
        shade = palette.run_color(index).on(theme)
        figure.add_trace(band(curve.x, curve.low, curve.high, shade, name=f"{label} range"))
    for (label, index, curve), (_, _, profile) in zip(curves, items, strict=True):
        if len(items) == 1 and len(profile.loss) > 1:
            _add_repeats(figure, profile, value, index, theme)
        _add_middle(figure, label, index, curve, value, theme)
        bottom = axis["range"][0]
        _add_diverged(figure, profile, 10**bottom if scale == "log" else bottom, theme)
    if len(items) > 1:
        labels = [(last_finite(c.middle), run_name(n, i, theme)) for n, i, c in curves]
        add_end_labels(figure, labels, axis)
    figure.update_xaxes(title_text=items[0][2].axis_label, nticks=5, **zero_line(theme))
    figure.update_yaxes(axis)
    if value == "rise" and scale == "linear":
        figure.update_yaxes(zero_line(theme))
    return figure


def _add_middle(
    figure: go.Figure, label: str, index: int, curve: Any, value: str, theme: str
) -> None:
    figure.add_trace(
        go.Scatter(
            x=curve.x,
            y=curve.middle,
            mode="lines",
            line=run_line(index, theme, 2),
            customdata=np.stack([curve.low, curve.high], axis=-1),
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + f"at %{{x:.3~g}}<br>{PROFILE_TITLES[value]} %{{y:.3~g}}"
                "<br>repeats %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<extra></extra>"
            ),
            name=label or "median",
        )
    )


def _add_repeats(figure: go.Figure, profile: Profile, value: str, index: int, theme: str) -> None:
    rows = profile.accuracy if value == "accuracy" else profile.loss
    rows = np.where(np.isfinite(rows), rows, np.nan)
    if value == "rise":
        rows = rows - rows[:, [int(np.argmin(np.abs(profile.alpha)))]]
    gap = np.full((len(rows), 1), np.nan)
    x = np.concatenate([np.tile(profile.alpha, (len(rows), 1)), gap], axis=1)
    shade = palette.translucent(palette.run_color(index).on(theme), 0.3)
    figure.add_trace(
        go.Scatter(
            x=x.ravel(),
            y=np.concatenate([rows, gap], axis=1).ravel(),
            mode="lines",
            line={"color": shade, "width": 1},
            hoverinfo="skip",
            name="repeats",
        )
    )


def _add_diverged(figure: go.Figure, profile: Profile, bottom: float, theme: str) -> None:
    at = diverged_at(profile)
    if not len(at):
        return
    marker = {
        "symbol": "x-thin",
        "size": 6,
        "line": {"width": 1.4, "color": palette.tokens(theme).err},
    }
    figure.add_trace(
        go.Scatter(
            x=at,
            y=np.full(len(at), bottom),
            cliponaxis=False,
            mode="markers",
            marker=marker,
            hovertemplate="a repeat diverged at %{x:.3~g}<extra></extra>",
            name="diverged",
        )
    )
