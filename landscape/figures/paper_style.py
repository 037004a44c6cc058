"""What all paper figures share: sizes by venue, type, and axes placed in inches."""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, NullLocator
from tueplots import figsizes

from landscape.figures import palette
from landscape.figures.numbers import short
from landscape.figures.scales import log_ticks, nice_ticks, spread

RASTER_DPI = 600
PNG_DPI = 300
MUTED = palette.LIGHT.muted
NULL = palette.LIGHT.null
SWATCH = 1.05
"""Room of the square before a name that its run's color can't be printed in, in em."""


@dataclass(frozen=True, kw_only=True)
class Venue:
    """Widths in inches and type sizes in points of a place of publication."""

    column: float
    text: float
    size: float = 8.0
    ticks: float = 7.0

    @property
    def scale(self) -> float:
        """How much larger than at 8 pt margins and gaps are."""
        return self.size / 8.0


def _width(name: str) -> float:
    return float(getattr(figsizes, name)()["figure.figsize"][0])


def _venue(column: str | float, text: str, size: float = 8.0) -> Venue:
    width = column if isinstance(column, float) else _width(column)
    return Venue(column=width, text=_width(text), size=size, ticks=size - 1)


VENUES = {
    "icml": _venue("icml2024_half", "icml2024_full"),
    "neurips": _venue(2.70, "neurips2024", 9.0),
    "iclr": _venue(2.70, "iclr2024", 9.0),
    "cvpr": _venue("cvpr2024_half", "cvpr2024_full"),
    "aaai": _venue("aaai2024_half", "aaai2024_full"),
    "uai": _venue("uai2023_half", "uai2023_full"),
    "jmlr": _venue(2.90, "jmlr2001", 9.0),
    "tmlr": _venue(3.15, "tmlr2023", 9.0),
    "slides": Venue(column=6.0, text=12.0, size=16.0, ticks=14.0),
}
"""Where text has one column, `column` is half of it: two panels side by side."""


def venue_of(name: str) -> Venue:
    """The sizes of a venue.

    Raises:
        ValueError: If the venue is unknown.
    """
    if name not in VENUES:
        raise ValueError(f"venue must be one of {', '.join(sorted(VENUES))}, got {name!r}")
    return VENUES[name]


def rc_params(venue: Venue) -> dict[str, Any]:
    """The matplotlib settings of a venue's figures."""
    ink = palette.INK
    return {
        "font.family": "serif",
        "font.serif": ["STIXGeneral"],
        "mathtext.fontset": "stix",
        "font.size": venue.size,
        "axes.titlesize": venue.size,
        "axes.labelsize": venue.size,
        "xtick.labelsize": venue.ticks,
        "ytick.labelsize": venue.ticks,
        "legend.fontsize": venue.ticks,
        "text.color": ink,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.labelpad": 2.5,
        "axes.titlepad": 4,
        "axes.unicode_minus": True,
        "xtick.direction": "out",
        "ytick.direction": "out",
        **{f"{axis}tick.major.size": 2.5 for axis in "xy"},
        **{f"{axis}tick.major.width": 0.5 for axis in "xy"},
        **{f"{axis}tick.minor.size": 1.5 for axis in "xy"},
        **{f"{axis}tick.minor.width": 0.4 for axis in "xy"},
        **{f"{axis}tick.major.pad": 2 for axis in "xy"},
        "lines.linewidth": 1,
        "lines.markersize": 3,
        "patch.linewidth": 0.5,
        "hatch.linewidth": 0.4,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "legend.handletextpad": 0.5,
        "pdf.fonttype": 42,
        "pdf.compression": 6,
        "ps.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "landscape",
        "savefig.dpi": 300,
        "figure.dpi": 150,
        "path.simplify": True,
    }


METADATA = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
"""What is left out of files, so that equal figures have equal bytes."""


class PaperFigure(Figure):
    """A matplotlib figure that keeps its style and its bytes wherever it is drawn or saved."""

    def __init__(self, width: float, height: float, venue: Venue) -> None:
        self.venue = venue
        with self.style():
            super().__init__(figsize=(width, height))

    def style(self) -> AbstractContextManager[None]:
        """The settings to draw under."""
        return mpl.rc_context(_defaults() | rc_params(self.venue))

    def draw(self, renderer: Any) -> None:
        """Draw under the figure's own settings."""
        with self.style():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save under the figure's own settings, by default without date or version inside."""
        kind = options.get("format")
        if kind is None:
            is_path = isinstance(fname, str | Path)
            kind = Path(fname).suffix.lstrip(".") if is_path else "png"
        options.setdefault("metadata", METADATA.get(kind.lower()))
        options.setdefault("dpi", PNG_DPI if kind.lower() == "png" else RASTER_DPI)
        with self.style():
            super().savefig(fname, **options)

    def to_bytes(self, kind: str) -> bytes:
        """The figure as a pdf, svg, eps or png file; equal figures give equal bytes."""
        buffer = io.BytesIO()
        self.savefig(buffer, format=kind)
        if kind == "eps":
            return re.sub(rb"%%CreationDate: .*\n", b"", buffer.getvalue(), count=1)
        return buffer.getvalue()

    def place(self, left: float, bottom: float, width: float, height: float, **more: Any) -> Any:
        """Add axes at a place given in inches."""
        across, up = self.get_size_inches()
        place = (left / across, bottom / up, width / across, height / up)
        with self.style():
            return self.add_axes(place, **more)


def _defaults() -> dict[str, Any]:
    """Matplotlib's own settings, whatever the user's are; the backend is not a style."""
    kept = {"backend", "backend_fallback", "interactive", "toolbar", "tk.window_focus"}
    return {k: v for k, v in mpl.rcParamsDefault.items() if k not in kept and "date" not in k}


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
    venue: Venue, height: float, *, right: float = 0.12, top: float = 0.08
) -> tuple[PaperFigure, Axes]:
    """A figure of one column with one plot, margins as in the venue's type."""
    scale = venue.scale
    figure = PaperFigure(venue.column, height * scale, venue)
    left, bottom = 0.46 * scale, 0.36 * scale
    width = venue.column - left - right * scale
    return figure, figure.place(left, bottom, width, (height - top) * scale - bottom)


def set_ticks(axis: Any, ticks: np.ndarray, labels: Sequence[str] | None = None) -> None:
    """Fixed ticks with our numbers."""
    axis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels([short(float(t)) for t in ticks] if labels is None else labels)


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
    size = axes.get_position().height * axes.figure.get_size_inches()[1] * 72
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


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in points of a text in the paper font."""
    font = FontProperties(family="STIXGeneral", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().x1) if text else 0.0


def panel_title(axes: Axes, letter: str, title: str, fact: str, venue: Venue) -> None:
    """A bold letter and a title at the left of the title line, one fact at its right if it fits."""
    place, (width, height) = axes.get_position(), axes.figure.get_size_inches() * 72
    width, height = place.width * width, place.height * height
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
