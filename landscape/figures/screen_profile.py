"""Loss along directions, on the screen."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.quantities import Quantity, counterpart, quantity_of, values_of
from landscape.figures.scales import choose_scale, finite_range, nice_ticks
from landscape.figures.summaries import (
    Curve,
    diverged_at,
    last_finite,
    own_quantity,
    profile_curve,
)
from landscape.figures.template import (
    DASHED,
    TEST_DASH,
    add_end_labels,
    band,
    new_figure,
    run_line,
    run_name,
    value_axis,
    zero_line,
)
from landscape.results import Profile


def plot_profile(
    profiles: Profile | Items[Profile],
    *,
    quantity: str | None = None,
    right: str | None = None,
    scale: str | None = "linear",
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw a quantity along directions: median of the repeats, band from lowest to highest.

    A single profile shows its repeats as faint lines too, and dashed the same quantity on the test
    set. Positions where a repeat diverged carry a cross at the bottom, and the median has a gap
    there. Marked points of the line are named above the frame.

    Args:
        profiles: One profile, or (label, color, profile) of each run.
        quantity: "rise" (loss minus the loss at 0), "loss", "accuracy", "test_loss",
            "test_accuracy", the name of a metric, "lambda_max" or "convexity"; by default the
            rise, or the loss where the line goes through marked points.
        right: A second quantity of a single profile, drawn against an axis at the right.
        scale: "linear" or "log".
        limits: Lowest and highest value of the axis.
        theme: "light" or "dark".
        color: Color index of a single profile.

    Raises:
        ValueError: If a quantity was not measured, or `right` is asked for several profiles.
    """
    items = items_of(profiles, color)
    if right is not None and len(items) > 1:
        raise ValueError("a right axis needs a single profile, got several; draw them one by one")
    first = items[0][2]
    quantity = quantity or own_quantity(first)
    shown = quantity_of(first, quantity)
    curves = [(label, index, profile_curve(p, quantity)) for label, index, p in items]
    test = counterpart(first, quantity) if len(items) == 1 else None
    dashed = [profile_curve(first, test)] if test else []
    scale = choose_scale(scale, [c.low for _, _, c in curves])
    everything = [p for c in [*(c for _, _, c in curves), *dashed] for p in (c.low, c.high)]
    if limits is None and shown.limits:
        everything.append(np.array(shown.limits))
    title = f"{shown.title}, {DASHED}" if dashed else shown.title
    axis = value_axis(*finite_range(everything, scale, limits), scale, title)
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    for label, index, curve in curves:
        shade = palette.run_color(index).on(theme)
        figure.add_trace(band(curve.x, curve.low, curve.high, shade, name=f"{label} range"))
    for (label, index, curve), (_, _, profile) in zip(curves, items, strict=True):
        if len(items) == 1 and len(profile.loss) > 1:
            _add_repeats(figure, profile, quantity, index, theme)
        _add_middle(figure, label, curve, shown, run_line(index, theme, 2), label or "median")
        bottom = axis["range"][0]
        _add_diverged(figure, profile, 10**bottom if scale == "log" else bottom, theme)
    for curve in dashed:
        line = {**run_line(items[0][1], theme, 1.6), "dash": TEST_DASH}
        _add_middle(figure, "", curve, quantity_of(first, str(test)), line, "test")
    if len(items) > 1:
        labels = [(last_finite(c.middle), run_name(n, i, theme)) for n, i, c in curves]
        add_end_labels(figure, labels, axis)
    figure.update_xaxes(title_text=first.axis_label, nticks=5)
    if not len(first.mark_labels):
        figure.update_xaxes(zero_line(theme))
    figure.update_yaxes(axis)
    if quantity == "rise" and scale == "linear":
        figure.update_yaxes(zero_line(theme))
    if right is not None:
        _add_right(figure, first, right, theme)
    _add_marks(figure, first, theme)
    return figure


def _add_middle(
    figure: go.Figure,
    label: str,
    curve: Curve,
    quantity: Quantity,
    line: dict[str, Any],
    name: str,
    **place: str,
) -> None:
    form = quantity.form
    several = not np.array_equal(curve.low, curve.high, equal_nan=True)
    figure.add_trace(
        go.Scatter(
            x=curve.x,
            y=curve.middle,
            mode="lines",
            line=line,
            customdata=np.stack([curve.low, curve.high], axis=-1),
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + f"at %{{x:.3~g}}<br>{quantity.title} %{{y:{form}}}"
                + (
                    f"<br>repeats %{{customdata[0]:{form}}} to %{{customdata[1]:{form}}}"
                    if several
                    else ""
                )
                + "<extra></extra>"
            ),
            name=name,
            **place,
        )
    )


def _add_right(figure: go.Figure, profile: Profile, right: str, theme: str) -> None:
    """A second quantity in red against an axis at the right, dashed on the test set."""
    tone = palette.tokens(theme)
    test = counterpart(profile, right)
    curves = [(right, "solid"), *([(test, TEST_DASH)] if test else [])]
    drawn = [(quantity_of(profile, n), profile_curve(profile, n), dash) for n, dash in curves]
    title = drawn[0][0].title
    values = [curve.middle for _, curve, _ in drawn]
    axis = value_axis(*finite_range(values, "linear"), "linear", title)
    if drawn[0][0].fraction:
        ticks = nice_ticks(0, 1, 5)
        axis |= {"range": [0, 1.05], "tickvals": ticks, "ticktext": [f"{t:.0%}" for t in ticks]}
    for shown, curve, dash in drawn:
        line = {"color": tone.err, "width": 1.6, "dash": dash}
        _add_middle(figure, "", curve, shown, line, shown.name, yaxis="y2")
    font = {"color": tone.err}
    figure.update_layout(
        margin={"r": 58},
        yaxis2={
            **axis,
            "title": {"text": title, "font": font, "standoff": 6},
            "tickfont": font,
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
        },
    )


def _add_marks(figure: go.Figure, profile: Profile, theme: str) -> None:
    """Names of marked points above the frame, a line down from each."""
    tone = palette.tokens(theme)
    for at, name in zip(profile.mark_position, profile.mark_labels, strict=True):
        figure.add_vline(x=float(at), line={"color": tone.control, "width": 1}, layer="below")
        figure.add_annotation(
            x=float(at),
            y=1,
            yref="y domain",
            yanchor="bottom",
            showarrow=False,
            text=name,
            font={"size": 11, "color": tone.muted},
        )
    if len(profile.mark_labels):
        figure.update_layout(margin={"t": 24})


def _add_repeats(
    figure: go.Figure, profile: Profile, quantity: str, index: int, theme: str
) -> None:
    rows = values_of(profile, quantity)
    rows = np.where(np.isfinite(rows), rows, np.nan)
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
