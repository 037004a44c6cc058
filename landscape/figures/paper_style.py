"""What all paper figures share: sizes by venue, type, and axes placed in inches."""

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from tueplots import figsizes

from landscape.figures import palette

RASTER_DPI = 600
PNG_DPI = 300


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
    width = _width(column) if isinstance(column, str) else column
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
        settings: Any = _defaults() | rc_params(self.venue)
        return mpl.rc_context(settings)

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
