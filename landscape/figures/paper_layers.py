"""Curvature layer by layer on paper: bars of one checkpoint, a map through training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from landscape.figures import palette
from landscape.figures.curvature_facts import interval_text
from landscape.figures.estimate_words import plus_minus
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import count, layer_label, short
from landscape.figures.paper_axes import (
    add_color_bar,
    basin_map,
    curve_axes,
    run_marker,
    set_ticks,
    text_width,
    tide_map,
)
from landscape.figures.paper_marks import LINE
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import (
    MAX_DECADES,
    SignedLog,
    finite_range,
    log_ticks,
    nice_ticks,
)
from landscape.results import Curvature, Trace

_ROW, _TIGHT, _FEW = 0.135, 0.092, 24
"""Height in inches at 8 pt of a layer's row, of one among many, and from how many on."""
_NAMES = 0.42  # of the figure's width at most
_SIGNED_DECADES = 3
_CELLS = 4000
"""Cells from which on a map is a picture in the file, not shapes."""


@dataclass(frozen=True)
class _Rows:
    """Names and heights of the rows of a figure with one row per layer."""

    names: list[str]
    row: float
    left: float
    type_size: float

    @property
    def height(self) -> float:
        return self.row * max(len(self.names), 2)


def layer_rows(layers: tuple[str, ...], venue: Venue, width: float) -> _Rows:
    """Names and heights of one row per layer in a figure of a width in inches."""
    many = len(layers) > _FEW
    size = max(6.0, venue.ticks - 1) if many else venue.ticks
    room = _NAMES * width * 72
    names = [_cut(layer_label(name), room, size) for name in layers]
    widest = max((text_width(name, size) for name in names), default=0.0)
    row = (_TIGHT if many else _ROW) * venue.scale
    # pixels widen letters: 8 % of room for that
    return _Rows(names, row, max(1.08 * widest / 72 + 0.09 * venue.scale, 0.3), size)


def _cut(name: str, room: float, size: float) -> str:
    """A name short enough; what is left out is in the middle."""
    kept = len(name)
    while text_width(name, size) > room and kept > 4:
        kept -= 1
        half = kept // 2
        name = f"{name[: kept - half]}…{name[-half:]}"
        kept = len(name) - 1
    return name


def name_rows(axes: Axes, rows: _Rows) -> None:
    """Give a plot one row per layer, the first at the top."""
    axes.set_ylim(len(rows.names) - 0.5, -0.5)
    set_ticks(axes.yaxis, np.arange(len(rows.names)), rows.names)
    axes.tick_params(axis="y", length=0, labelsize=rows.type_size)


def _of_layers(result: Trace | Curvature, per_parameter: bool) -> tuple[np.ndarray, np.ndarray]:
    """Traces and standard errors, divided by the layers' sizes where wanted."""
    if per_parameter and not result.layer_size.size:
        raise ValueError("layers must have sizes to be drawn per parameter, got none")
    divisor = np.maximum(result.layer_size, 1) if per_parameter else 1.0
    traces = result.layer_trace / divisor
    errors = result.layer_error / divisor if result.layer_error.size else np.full_like(traces, 0)
    return traces, errors


def draw_trace(
    traces: Trace | Items[Trace],
    *,
    venue: str = "icml",
    per_parameter: bool = False,
    limits: tuple[float, float] | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw the trace of each layer's own block as a bar with its standard error.

    The whole trace with its 95 % interval stands above. Where no layers were measured, the
    estimates of the probes are drawn, with mean and interval.

    Args:
        traces: One trace, or (label, color, trace) of each run, layers in equal order.
        venue: Whose widths and type to use.
        per_parameter: Whether to divide by the layer's number of parameters.
        limits: Lowest and highest value of the axis.
        color: Color index of a single trace.

    Raises:
        ValueError: If layers of runs differ, or have no sizes and are wanted per parameter.
    """
    sizes, items = venue_of(venue), items_of(traces, color)
    layers = items[0][2].layer_names
    if any(trace.layer_names != layers for _, _, trace in items):
        raise ValueError("traces in one figure must be of the same layers; draw them one by one")
    if not layers:
        return _draw_probes(items, sizes, limits)
    rows = layer_rows(layers, sizes, sizes.column)
    above, below = (LINE * len(items) + 0.05) * sizes.scale, 0.36 * sizes.scale
    figure = PaperFigure(sizes.column, rows.height + above + below, sizes)
    width = sizes.column - rows.left - 0.12 * sizes.scale
    axes = figure.place(rows.left, below, width, rows.height)
    found = [_of_layers(trace, per_parameter) for _, _, trace in items]
    with figure.style():
        name_rows(axes, rows)
        ends = [v + sign * np.nan_to_num(e) for v, e in found for sign in (-1, 1)]
        _value_axis(axes, [*ends, np.zeros(1)], limits)
        axes.set_xlabel("trace per parameter" if per_parameter else "trace of the layer’s block")
        axes.axvline(0, color=palette.INK, lw=0.5, zorder=1.5)
        thick = 0.72 / len(items)
        for i, ((_, index, _), (values, errors)) in enumerate(zip(items, found, strict=True)):
            shade = palette.run_color(index).light
            at = np.arange(len(values)) + (i - (len(items) - 1) / 2) * thick
            axes.barh(at, values, 0.86 * thick, color=shade, alpha=0.55, lw=0, zorder=2)
            axes.hlines(at, values - errors, values + errors, color=palette.INK, lw=0.8, zorder=3)
        _whole(axes, items, sizes, rows.left)
    return figure


def _value_axis(axes: Axes, values: list[np.ndarray], limits: tuple[float, float] | None) -> None:
    low, high = finite_range(values, "linear", limits)
    pad = 0.0 if limits else 0.03 * (high - low)
    axes.set_xlim(low - (pad if low else 0.0), high + (pad if high else 0.0))
    set_ticks(axes.xaxis, nice_ticks(*axes.get_xlim(), about=4))


def _whole(axes: Axes, items: list[tuple[str, int, Trace]], venue: Venue, before: float) -> None:
    """The whole trace of each run, one line each, above the plot from the figure's left edge."""
    size, inch = venue.ticks, 72
    start = -before * inch + 2
    names = [label if len(items) > 1 else "" for label, _, _ in items]
    across = max(text_width(name, size) for name in names)
    for i, (name, (_, index, trace)) in enumerate(zip(names, items, strict=True)):
        ends = interval_text(trace)
        words = f"trace {plus_minus(trace.trace, trace.standard_error)}"
        words += f" (95 % {ends})" if ends else ""
        up = 4 + LINE * inch * venue.scale * (len(items) - 1 - i)
        shared = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "va": "bottom",
            "fontsize": size,
            "annotation_clip": False,
        }
        x = start
        if name:
            shade = palette.run_color(index).light
            axes.annotate("■", (0, 1), xytext=(x, up), color=shade, **shared)
            axes.annotate(name, (0, 1), xytext=(x + 1.05 * size, up), **shared)
            x += across + 2.2 * size
        axes.annotate(words, (0, 1), xytext=(x, up), **shared)


def _draw_probes(
    items: list[tuple[str, int, Trace]], venue: Venue, limits: tuple[float, float] | None
) -> PaperFigure:
    """Dots of the probes over mean and interval, one row per run."""
    many = max((len(trace.samples) for _, _, trace in items), default=0)
    figure, axes = curve_axes(
        venue, 0.55 + 0.45 * len(items), top=LINE * len(items) + 0.05, below=0.36
    )
    with figure.style():
        samples = [trace.samples for _, _, trace in items]
        known = [[t.interval_low, t.interval_high, t.trace] for _, _, t in items]
        _value_axis(axes, [*samples, np.array(known, dtype=float)], limits)
        axes.set_xlabel(f"trace, {count(many)} probes")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(items) - 0.5, -0.5)
        for i, (_, index, trace) in enumerate(items):
            shade = palette.run_color(index).light
            low, high = trace.interval_low, trace.interval_high
            axes.fill_betweenx([i - 0.3, i + 0.3], low, high, color=shade, alpha=0.18, lw=0)
            axes.vlines([trace.trace], i - 0.3, i + 0.3, color=shade, lw=1)
            spots = i + 0.22 * np.sin(2.4 * np.arange(len(trace.samples)))
            dots: Any = run_marker(index) | {"markersize": 2.0, "ls": "none"}
            axes.plot(trace.samples, spots, **dots)
        _whole(axes, items, venue, 0.46 * venue.scale)
    return figure


def draw_layers(
    curvature: Curvature,
    *,
    venue: str = "icml",
    per_parameter: bool = False,
    limits: tuple[float, float] | None = None,
) -> PaperFigure:
    """Draw the trace of each layer's own block at every checkpoint as a map.

    The color is logarithmic; where a trace is negative, it is symmetric about 0 and linear near
    it. A dot says that 0 is within two standard errors; grey cells were not measured.

    Args:
        curvature: Curvature through training, with layers measured.
        venue: Whose widths and type to use.
        per_parameter: Whether to divide by the layer's number of parameters.
        limits: Lowest and highest value of the color scale; of a signed one the highest counts.

    Raises:
        ValueError: If no layer was measured.
    """
    if not curvature.layer_trace.size:
        raise ValueError("traces must be measured layer by layer, got none; measure more probes")
    sizes = venue_of(venue)
    values, errors = _of_layers(curvature, per_parameter)
    rows, scale = layer_rows(curvature.layer_names, sizes, sizes.column), sizes.scale
    below, beside, above = 0.36 * scale, 0.62 * scale, 0.08 * scale
    height = max(rows.height, 0.8 * scale)
    figure = PaperFigure(sizes.column, height + below + above, sizes)
    width = sizes.column - rows.left - beside
    axes = figure.place(rows.left, below, width, height)
    with figure.style():
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_facecolor(palette.LIGHT.diverged)
        shown, ends, colors, ticks = _shades(values, limits)
        columns = np.arange(len(curvature.step))
        axes.pcolormesh(
            np.arange(len(columns) + 1) - 0.5,
            np.arange(len(rows.names) + 1) - 0.5,
            np.ma.masked_invalid(shown.T),
            cmap=colors,
            vmin=ends[0],
            vmax=ends[1],
            edgecolors="face",
            linewidth=0.1,
            rasterized=values.size > _CELLS,
        )
        unsure = np.argwhere(np.abs(values) < 2 * errors)
        dots: Any = {"ls": "none", "marker": "o", "ms": 1.3, "mew": 0, "color": palette.INK}
        axes.plot(unsure[:, 0], unsure[:, 1], gid="unsure", **dots)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        name_rows(axes, rows)
        _name_steps(axes, curvature.step, width * 72, sizes)
        title = "per parameter" if per_parameter else "trace"
        place = figure.place(rows.left + width + 0.1 * scale, below, 0.085 * scale, height)
        add_color_bar(figure, place, ends, colors, ticks, title)
    return figure


def _name_steps(axes: Axes, steps: np.ndarray, width: float, venue: Venue) -> None:
    large = len(steps) > 0 and steps[-1] >= 5000
    names = [short(float(s) / 1000 if large else float(s), 6) for s in steps]
    room = max((text_width(name, venue.ticks) for name in names), default=0.0) + 6
    stride = max(1, int(np.ceil(len(steps) * room / width)))
    set_ticks(axes.xaxis, np.arange(len(steps))[::stride], names[::stride])
    axes.set_xlabel("step of the checkpoint" + (r" / $10^3$" if large else ""))


Shades = tuple[np.ndarray, tuple[float, float], ListedColormap, list[tuple[float, str]]]


def _shades(values: np.ndarray, limits: tuple[float, float] | None) -> Shades:
    """What is mapped to color, its limits, the map, and (place, label) of the bar's ticks."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and (limits is None or limits[0] > 0):
        low, high = finite_range([finite], "log", limits)
        low = max(low, high * 10**-MAX_DECADES)
        ticks = [(float(np.log10(t)), short(float(t))) for t in log_ticks(low, high, most=6)]
        return np.log10(values), (np.log10(low), np.log10(high)), basin_map(), ticks
    top = float(np.abs(finite).max(initial=0.0)) if limits is None else float(limits[1])
    top = top or 1.0
    scale = SignedLog(top * 10.0**-_SIGNED_DECADES)
    limit = float(scale.forward(top))
    ticks = [(float(scale.forward(t)), short(float(t))) for t in scale.ticks(-top, top, most=7)]
    return scale.forward(values), (-limit, limit), tide_map(), ticks
