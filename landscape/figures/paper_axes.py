"""Plots of paper figures: axes in inches, ticks, names at line ends, panel titles, color bars."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, NullLocator

from landscape.figures import palette
from landscape.figures.numbers import THIN_SPACE, short
from landscape.figures.paper_style import PaperFigure, Venue
from landscape.figures.scales import SignedLog, log_ticks, nice_ticks, spread
from landscape.figures.summaries import Curve

MUTED = palette.LIGHT.muted
NULL = palette.LIGHT.null
TEST_DASH: Any = (0, (3.5, 1.8))
"""Dash of what was measured on the test set, where the training set's line is solid."""
SWATCH = 1.05
"""Room of the square before a name that its run's color can't be printed in, in em."""


def basin_map() -> ListedColormap:
    """The basin map for matplotlib."""
    return ListedColormap(palette.BASIN / 255, name="basin")


def tide_map() -> ListedColormap:
    """The tide map of print for matplotlib."""
    return ListedColormap(palette.TIDE["light"] / 255, name="tide")


def run_style(color: int) -> dict[str, Any]:
    """Color and dash of a run's line on paper."""
    run = palette.run_color(color)
    dash: Any = (0, tuple(length * 0.8 for length in run.dash)) if run.dash else "solid"
    return {"color": run.light, "linestyle": dash}


def run_marker(color: int) -> dict[str, Any]:
    """Marker of a run on paper."""
    run = palette.run_color(color)
    return {
        "marker": run.paper_marker,
        "markerfacecolor": run.light,
        "markeredgecolor": run.light,
        "markeredgewidth": 0.4,
        "markersize": 4.2 if run.paper_marker == "*" else 3.0,
    }


def curve_axes(
    venue: Venue, height: float, *, right: float = 0.12, top: float = 0.08, below: float = 0.36
) -> tuple[PaperFigure, Axes]:
    """A figure of one column with one plot, margins as in the venue's type."""
    scale = venue.scale
    figure = PaperFigure(venue.column, height * scale, venue)
    left, bottom = 0.46 * scale, below * scale
    width = venue.column - left - right * scale
    return figure, figure.place(left, bottom, width, (height - top) * scale - bottom)


def set_ticks(axis: Any, ticks: np.ndarray, labels: Sequence[str] | None = None) -> None:
    """Fixed ticks with our numbers."""
    axis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels(tick_names(ticks) if labels is None else labels)


def tick_names(ticks: np.ndarray) -> list[str]:
    """Ticks in words: as many digits as tell them apart; long ones as powers of ten."""
    names = []
    for digits in range(3, 10):
        names = [short(float(tick), digits) for tick in ticks]
        if len(set(names)) == len(names):
            break
    if max(map(len, names), default=0) <= 7:
        return names
    powers = [_power(float(tick)) for tick in ticks]
    shorter = len(set(powers)) == len(powers) and max(map(len, powers)) < max(map(len, names))
    return powers if shorter else names


def _power(tick: float) -> str:
    mantissa, _, exponent = f"{tick:.2e}".partition("e")
    return f"{short(float(mantissa))}e{short(float(exponent))}" if tick else "0"


def value_limits(axes: Axes, low: float, high: float, scale: str) -> None:
    """Set y's scale, range (5 % beyond ends that are not 0) and ticks."""
    ends = np.log10([low, high]) if scale == "log" else np.array([low, high])
    margin = 0.05 * float(np.ptp(ends)) or 0.5
    ends = ends + np.array([0.0 if scale == "linear" and low == 0 else -margin, margin])
    inner = 10**ends if scale == "log" else ends
    axes.set_yscale(scale)
    axes.set_ylim(*inner)
    ticks = log_ticks(*inner, most=5) if scale == "log" else nice_ticks(*inner, about=4)
    set_ticks(axes.yaxis, ticks)


def signed_limits(axes: Axes, low: float, high: float, values: np.ndarray) -> None:
    """Set y to a signed log, linear up to the tenth percentile of |values|."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    top = max(abs(low), abs(high))
    linear = float(np.quantile(sizes, 0.1)) if sizes.size else top
    scale = SignedLog(max(linear, 1e-6 * top) or 1.0)
    ends = scale.forward(np.array([low, high]))
    margin = 0.05 * float(np.ptp(ends)) or 0.5
    low, high = scale.inverse(ends + np.array([-margin, margin])).tolist()
    axes.set_yscale("function", functions=(scale.forward, scale.inverse))
    axes.set_ylim(low, high)
    ticks = scale.ticks(low, high, most=6)
    set_ticks(axes.yaxis, ticks if len(ticks) > 1 else nice_ticks(low, high, 3))


def step_limits(axes: Axes, first: float, last: float) -> None:
    """Set x to steps, in thousands where they are that large."""
    ticks = nice_ticks(first, last, about=4)
    axes.set_xlim(first, last)
    if last >= 5000:
        set_ticks(axes.xaxis, ticks, [short(float(tick) / 1000) for tick in ticks])
        axes.set_xlabel(r"step / $10^3$")
    else:
        set_ticks(axes.xaxis, ticks)
        axes.set_xlabel("step")


def end_labels(axes: Axes, labels: Sequence[tuple[float, str, int | None]], venue: Venue) -> None:
    """Write names at the right end of lines, moved apart where they would overlap.

    Args:
        axes: The plot, its limits set.
        labels: (value at the end, name, color index) of each line; None for the null band.
        venue: Whose type to use.
    """
    labels = [label for label in labels if np.isfinite(label[0]) and label[1]]
    to_axes = axes.transScale.transform
    low, high = (to_axes((1.0, end))[1] for end in axes.get_ylim())
    wanted = [float((to_axes((1.0, v))[1] - low) / (high - low)) for v, _, _ in labels]
    size = size_of(axes)[1]
    places = spread(np.clip(wanted, 0, 1).tolist(), 1.15 * venue.ticks / size, 0.0, 1.0)
    for place, (_, text, color) in zip(places, labels, strict=True):
        across = 4.0
        if color is not None and not _legible(color):
            _end_label(axes, place, across, "■", palette.run_color(color).light, venue)
            across += SWATCH * venue.ticks
        ink = MUTED if color is None else name_color(color)
        _end_label(axes, place, across, text, ink, venue, bold=color is not None)


def _end_label(
    axes: Axes,
    place: float,
    across: float,
    text: str,
    color: str,
    venue: Venue,
    *,
    bold: bool = False,
) -> None:
    axes.annotate(
        text,
        (1, place),
        xycoords="axes fraction",
        xytext=(across, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        color=color,
        fontsize=venue.ticks,
        fontweight="bold" if bold else "normal",
        annotation_clip=False,
    )


def name_room(names: Sequence[str], venue: Venue) -> float:
    """Width at 8 pt, in inches, of the right margin that holds names at line ends."""
    widest = max((text_width(name, venue.ticks, bold=True) for name in names if name), default=0.0)
    swatch = SWATCH * venue.ticks if widest else 0.0
    return max(0.12, (widest + swatch + 6) / 72 / venue.scale)


def _legible(color: int) -> bool:
    return color % len(palette.RUNS) in palette.WORD_RUNS


def name_color(color: int) -> str:
    """The color in which a run's name is printed: its own where it is legible on white."""
    return palette.run_color(color).light if _legible(color) else palette.INK


def add_drops(axes: Axes, drops: Sequence[tuple[float, float]], venue: Venue) -> None:
    """Dotted lines where the learning rate fell, its value above the frame."""
    for i, (at, lr) in enumerate(drops):
        axes.axvline(at, color=palette.LIGHT.control, lw=0.6, ls=(0, (1, 2)), zorder=0.5)
        axes.annotate(
            ("lr " if i == 0 else "") + short(lr),
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=max(6.0, venue.ticks - 1),
            color=MUTED,
        )


def with_math(text: str) -> str:
    """A text that has formulas in it: their font has no thin space."""
    return text.replace(THIN_SPACE, r"$\,$")


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in points of a text in the paper font."""
    font = FontProperties(family="STIXGeneral", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().x1) if text else 0.0


def panel_title(axes: Axes, letter: str, title: str, fact: str, venue: Venue) -> None:
    """A bold letter and a title at the left of the title line, one fact at its right if it fits."""
    width, height = size_of(axes)
    small = max(6.5, venue.ticks - 0.5)
    mark = f"({letter})" if letter else ""
    across = text_width(mark, venue.size, bold=True) + 0.5 * venue.size if mark else 0.0
    used = across + text_width(title, venue.size) + text_width(fact, small) + venue.size
    shared = {"transform": axes.transAxes, "va": "bottom"}
    up = 1 + 4.0 / height
    axes.text(0, up, mark, fontweight="bold", **shared)
    axes.text(across / width, up, title, **shared)
    if used <= width:
        axes.text(1, up, fact, ha="right", color=MUTED, fontsize=small, **shared)


def size_of(axes: Axes) -> tuple[float, float]:
    """Width and height of a plot in points."""
    inch = axes.figure.dpi / 72
    return float(axes.bbox.width) / inch, float(axes.bbox.height) / inch


def draw_band(axes: Axes, curve: Curve, color: int) -> None:
    """Fill between a curve's lowest and highest values."""
    shade = palette.run_color(color).light
    axes.fill_between(curve.x, curve.low, curve.high, color=shade, alpha=0.18, lw=0, zorder=2)


def add_color_bar(
    figure: PaperFigure,
    axes: Axes,
    limits: tuple[float, float],
    colors: ListedColormap,
    ticks: Sequence[tuple[float, str]],
    title: str,
    *,
    clipped: bool = False,
) -> None:
    """Fill axes with a color bar.

    Args:
        figure: The figure.
        axes: Where the bar goes.
        limits: Lowest and highest value of the map.
        colors: The map.
        ticks: (value, label) pairs.
        title: What the color is.
        clipped: Whether values above the limits exist; the bar then ends in a triangle.
    """
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), colors),
        cax=axes,
        extend="max" if clipped else "neither",
        extendfrac=0.04,
    )
    assert bar.solids is not None
    bar.solids.set_rasterized(True)
    bar.outline.set_linewidth(0.4)
    bar.set_ticks([value for value, _ in ticks], labels=[label for _, label in ticks])
    bar.ax.tick_params(which="minor", length=0)
    bar.set_label(title, labelpad=2)
