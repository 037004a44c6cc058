"""Loss along directions, on paper."""

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.fields import ends
from landscape.figures.items import Items, items_of
from landscape.figures.paper_axes import (
    MUTED,
    TEST_DASH,
    curve_axes,
    draw_band,
    end_labels,
    name_room,
    run_style,
    set_ticks,
    value_limits,
)
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.quantities import counterpart, quantity_of
from landscape.figures.scales import choose_scale, finite_range, nice_ticks
from landscape.figures.summaries import (
    Curve,
    diverged_at,
    last_finite,
    own_quantity,
    profile_curve,
)
from landscape.results import Profile

HEIGHT = 1.9
_RIGHT = palette.LIGHT.err


def draw_profile(
    profiles: Profile | Items[Profile],
    *,
    venue: str = "icml",
    quantity: str | None = None,
    right: str | None = None,
    scale: str | None = "linear",
    limits: tuple[float, float] | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw a quantity along directions: median of the repeats, band from lowest to highest.

    A single profile has the same quantity on the test set, dashed. Marked points of the line are
    named above the frame.

    Args:
        profiles: One profile, or (label, color, profile) of each run.
        venue: Whose widths and type to use.
        quantity: "rise" (loss minus the loss at 0), "loss", "accuracy", "test_loss",
            "test_accuracy", the name of a metric, "lambda_max" or "convexity"; by default the
            rise, or the loss where the line goes through marked points.
        right: A second quantity of a single profile, drawn against an axis at the right.
        scale: "linear" or "log".
        limits: Lowest and highest value of the axis.
        color: Color index of a single profile.

    Raises:
        ValueError: If a quantity was not measured, or `right` is asked for several profiles.
    """
    sizes = venue_of(venue)
    items = items_of(profiles, color)
    if right is not None and len(items) > 1:
        raise ValueError("a right axis needs a single profile, got several; draw them one by one")
    first = items[0][2]
    quantity = quantity or own_quantity(first)
    shown = quantity_of(first, quantity)
    curves = [profile_curve(profile, quantity) for _, _, profile in items]
    test = counterpart(first, quantity) if len(items) == 1 else None
    dashed = [profile_curve(first, test)] if test else []
    scale = choose_scale(scale, [curve.low for curve in curves])
    names = [label for label, _, _ in items] if len(items) > 1 else []
    marked = 0.2 if len(first.mark_labels) else 0.08
    beside = 0.46 if right is not None else name_room(names, sizes)
    figure, axes = curve_axes(sizes, HEIGHT, right=beside, top=marked)
    with figure.style():
        everything = [part for c in [*curves, *dashed] for part in (c.low, c.high)]
        everything += [np.array(shown.limits)] if shown.limits else []
        value_limits(axes, *finite_range(everything, scale, limits), scale)
        for curve, (_, index, profile) in zip(curves, items, strict=True):
            _draw_curve(axes, curve, index, profile)
        for curve in dashed:
            style = {**run_style(items[0][1]), "linestyle": TEST_DASH}
            axes.plot(curve.x, curve.middle, lw=0.9, zorder=3, gid="test", **style)
        _name_line(axes, first, sizes)
        axes.set_ylabel(shown.title)
        lasts = [last_finite(curve.middle) for curve in curves]
        named = zip(lasts, items, strict=True) if names else ()
        end_labels(axes, [(end, label, i) for end, (label, i, _) in named], sizes)
        if right is not None:
            _draw_right(axes, first, right)
    return figure


def _draw_curve(axes: Axes, curve: Curve, color: int, profile: Profile) -> None:
    draw_band(axes, curve, color)
    axes.plot(curve.x, curve.middle, lw=1.1, zorder=3, **run_style(color))
    at = diverged_at(profile)
    bottom = np.full(len(at), axes.get_ylim()[0])
    mark = {"marker": "x", "ms": 2.5, "mew": 0.6, "clip_on": False}
    axes.plot(at, bottom, ls="none", color=palette.LIGHT.err, zorder=4, **mark)


def _name_line(axes: Axes, profile: Profile, venue: Venue) -> None:
    """The line's axis, and its marked points named above the frame."""
    reach = ends(profile.alpha)
    axes.set_xlim(*reach)
    set_ticks(axes.xaxis, nice_ticks(*reach, about=4))
    axes.set_xlabel(profile.axis_label)
    for at in profile.mark_position if len(profile.mark_labels) else np.zeros(1):
        axes.axvline(float(at), color=palette.LIGHT.zero, lw=0.5, zorder=0.5)
    for at, name in zip(profile.mark_position, profile.mark_labels, strict=True):
        axes.annotate(
            name,
            (float(at), 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=venue.ticks,
            color=MUTED,
        )


def _draw_right(axes: Axes, profile: Profile, right: str) -> None:
    """A second quantity in red against an axis at the right, dashed on the test set."""
    shown, test = quantity_of(profile, right), counterpart(profile, right)
    beside = axes.twinx()
    curves = [profile_curve(profile, name) for name in (right, *([test] if test else []))]
    for curve, dash in zip(curves, ("solid", TEST_DASH), strict=False):
        beside.plot(curve.x, curve.middle, lw=0.9, color=_RIGHT, linestyle=dash, zorder=2.5)
    if shown.fraction:
        beside.set_ylim(0, 1.05)
        ticks = nice_ticks(0, 1, 5)
        set_ticks(beside.yaxis, ticks, [f"{tick:.0%}" for tick in ticks])
    else:
        value_limits(beside, *finite_range([c.middle for c in curves], "linear"), "linear")
    beside.spines["right"].set_visible(True)
    beside.spines["right"].set_color(_RIGHT)
    beside.tick_params(axis="y", colors=_RIGHT)
    beside.set_ylabel(shown.title, color=_RIGHT)
