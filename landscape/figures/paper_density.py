"""Spectral densities on paper: eigenvalues per unit λ, or per decade of |λ|."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from landscape.figures import palette
from landscape.figures.curvature_facts import (
    largest_deflated,
    largest_of,
    spread_text,
    trace_of,
)
from landscape.figures.densities import DensityCurve, SharedAxes, density_curve, shared_axes
from landscape.figures.estimate_words import plus_minus
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import number, short
from landscape.figures.paper_axes import (
    MUTED,
    SWATCH,
    curve_axes,
    name_color,
    run_style,
    set_ticks,
    size_of,
    text_width,
    with_math,
)
from landscape.figures.paper_curves import HEIGHT
from landscape.figures.paper_marks import LINE
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.scales import log_ticks, nice_ticks
from landscape.quadrature import LogDensity, log_density
from landscape.results import Density, Spectrum

Run = tuple[str, int, Density]
NEGATIVE: Any = (0, (2.2, 1.2))
"""Dash of the negative part over |λ|."""
_DECADES = 6
_HEADS = (r"$\lambda_1$", r"$\lambda_1/\lambda_5$", "trace", r"$\sigma$")


def draw_density(
    densities: Density | Items[Density],
    spectrum: Spectrum | Sequence[Spectrum | None] | None = None,
    *,
    venue: str = "icml",
    context: Density | None = None,
    axis: str | None = None,
    scale: str | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw spectral densities in eigenvalues per unit λ, so that one eigenvalue has area 1.

    Eigenpairs that were found one by one leave the curve and stand as stems of height 1. The band
    goes from the lowest to the highest probe. Runs share their axes. Above stand λ1, λ1/λ5 where
    five are known, the trace with its standard error, and the width σ.

    Args:
        densities: One density, or (label, color, density) of each run.
        spectrum: Found eigenpairs of the same Hessian, of each run where there are several. Where
            some were deflated, those are the stems.
        venue: Whose widths and type to use.
        context: A density to compare with, drawn dotted.
        axis: "symlog", "linear", or None for symlog where the spectrum is wider than its bulk.
        scale: "log" for eigenvalues per decade of |λ|, those of negative ones dashed.
        color: Color index of a single run.

    Raises:
        ValueError: If axis or scale is unknown, or there is a context over |λ|.
    """
    if axis not in ("symlog", "linear", None):
        raise ValueError(f"axis must be 'symlog' or 'linear', got {axis!r}")
    if scale not in ("log", None):
        raise ValueError(f"scale must be 'log' or left out, got {scale!r}")
    if scale and context is not None:
        raise ValueError("a context is drawn over λ, not over |λ|; leave out scale or context")
    sizes, items = venue_of(venue), items_of(densities, color)
    found = _of_each(spectrum, len(items))
    rows = [_numbers(density, pairs) for (_, _, density), pairs in zip(items, found, strict=True)]
    lines = len(items) + 1 if len(items) > 1 else 1
    figure, axes = curve_axes(sizes, HEIGHT + LINE * lines, top=0.06 + LINE * lines)
    with figure.style():
        if scale:
            _draw_over_magnitude(axes, items, sizes)
        else:
            _draw_over_lambda(axes, items, found, context, axis, sizes)
        _write_numbers(axes, items, rows, sizes)
    return figure


def _of_each(
    spectrum: Spectrum | Sequence[Spectrum | None] | None, size: int
) -> list[Spectrum | None]:
    given = [spectrum] if spectrum is None or isinstance(spectrum, Spectrum) else list(spectrum)
    if len(given) > size:
        raise ValueError(f"spectrum must be one for each density, got {len(given)} for {size}")
    return given + [None] * (size - len(given))


# -- numbers above ----------------------------------------------------------------------------


def _numbers(density: Density, spectrum: Spectrum | None) -> list[str]:
    """λ1, λ1/λ5, trace and σ in words; "" where a number is not known."""
    largest = largest_deflated(density) if spectrum is None else largest_of(spectrum)
    nodes = density.nodes[np.isfinite(density.nodes)]
    first = number(float(largest[0])) if len(largest) else ""
    if not len(largest) and nodes.size:
        first = f"≥ {number(float(nodes.max()))}"  # a Ritz value is below the largest eigenvalue
    value, error = trace_of(density)
    trace = plus_minus(value, error) if math.isfinite(value) else ""
    return [first, spread_text(largest), trace, short(density.sigma)]


def _write_numbers(
    axes: Axes, items: Sequence[Run], rows: Sequence[Sequence[str]], venue: Venue
) -> None:
    """The numbers of a single run in one line above the plot, of several as columns."""
    size, (width, _) = venue.ticks, size_of(axes)
    pitch = 72 * LINE * venue.scale
    if len(items) == 1:
        words = [_equal(head, text) for head, text in zip(_HEADS, rows[0], strict=True) if text]
        _write(axes, 0.0, 4.0, with_math(",  ".join(words)), venue)
        return
    names = [label for label, _, _ in items]
    left = max(text_width(name, size, bold=True) for name in names) + (SWATCH + 1.2) * size
    kept = [i for i in range(len(_HEADS)) if any(row[i] for row in rows)]
    wide = [max(text_width(t, size) for t in (*(r[i] for r in rows), _HEADS[i])) for i in kept]
    gap = min((width - left - sum(wide)) / max(len(kept) - 1, 1), 2 * size)
    for i, across in zip(kept, np.cumsum([left, *(w + gap for w in wide[:-1])]), strict=True):
        _write(axes, float(across), 4 + pitch * len(items), _HEADS[i], venue, color=MUTED)
        for row, words in enumerate(rows):
            up = 4 + pitch * (len(items) - 1 - row)
            _write(axes, float(across), up, with_math(words[i]), venue)
    for row, (label, index, _) in enumerate(items):
        up = 4 + pitch * (len(items) - 1 - row)
        _write(axes, 0.0, up, "■", venue, color=palette.run_color(index).light)
        _write(axes, SWATCH * size, up, label, venue, color=name_color(index), bold=True)


def _equal(head: str, text: str) -> str:
    if head == "trace":
        return f"{head} {text}"
    return f"{head} {text}" if text.startswith("≥") else f"{head} = {text}"


def _write(
    axes: Axes,
    across: float,
    up: float,
    text: str,
    venue: Venue,
    *,
    color: str = palette.INK,
    bold: bool = False,
) -> None:
    axes.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(across, up),
        textcoords="offset points",
        va="baseline",
        color=color,
        fontsize=venue.ticks,
        fontweight="bold" if bold else "normal",
        annotation_clip=False,
    )


# -- over λ -----------------------------------------------------------------------------------


def _draw_over_lambda(
    axes: Axes,
    items: Sequence[Run],
    found: Sequence[Spectrum | None],
    context: Density | None,
    axis: str | None,
    venue: Venue,
) -> None:
    curves = [density_curve(d, pairs) for (_, _, d), pairs in zip(items, found, strict=True)]
    shared = shared_axes(curves)
    signed = axis == "symlog" or (axis is None and shared.wide)
    _lambda_axes(axes, shared, signed)
    axes.axvline(0, color=palette.LIGHT.zero, lw=0.5, zorder=0.8, gid="zero")
    floor = shared.levels[0] / 10
    if context is not None:
        other = density_curve(context)
        rest = np.maximum(other.middle, floor)
        axes.plot(other.x, rest, color=MUTED, lw=0.8, ls=(0, (1, 1.4)), zorder=2)
    for (_, index, _), curve in zip(items, curves, strict=True):
        _draw_curve(axes, curve, index, floor, alone=len(items) == 1)
    top = curves[0].stems
    if len(items) == 1 and len(top) and top[-1] > 0:
        axes.annotate(
            r"$\lambda_1$",
            (top[-1], 1.0),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=venue.ticks,
        )


def _draw_curve(axes: Axes, curve: DensityCurve, color: int, floor: float, *, alone: bool) -> None:
    shade = palette.run_color(color).light
    low, high = np.maximum(curve.low, floor), np.maximum(curve.high, floor)
    axes.fill_between(curve.x, low, high, color=shade, alpha=0.2, lw=0, zorder=1)
    style: Any = {"color": shade, "ls": "solid"} if alone else run_style(color)
    axes.plot(curve.x, np.maximum(curve.middle, floor), lw=1, zorder=3, **style)
    if len(curve.stems):
        axes.vlines(curve.stems, floor, 1.0, color=shade, lw=0.8, zorder=3)
        marker = "o" if alone else palette.run_color(color).paper_marker
        axes.plot(curve.stems, np.ones(len(curve.stems)), marker, ms=1.8, color=shade, zorder=3.1)


def _lambda_axes(axes: Axes, shared: SharedAxes, signed: bool) -> None:
    low, high = shared.reach
    if signed:
        scale = shared.signed_log
        axes.set_xscale("function", functions=(scale.forward, scale.inverse))
        set_ticks(axes.xaxis, scale.ticks(low, high, most=7))
        linear = short(scale.threshold, 2)
        axes.set_xlabel(rf"eigenvalue $\lambda$ (linear within ±{linear})")
    else:
        set_ticks(axes.xaxis, nice_ticks(low, high, about=5))
        axes.set_xlabel(r"eigenvalue $\lambda$")
    axes.set_xlim(low, high)
    _power_axis(axes, *shared.levels)
    axes.set_ylabel(r"eigenvalues per unit $\lambda$")


def _power_axis(axes: Axes, bottom: float, top: float) -> None:
    first, last = round(np.log10(bottom)), round(np.log10(top))
    stride = max(1, -(-(last - first) // 5))
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    exponents = range(first, last + 1, stride)
    axes.yaxis.set_major_locator(FixedLocator([10.0**e for e in exponents]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels(["1" if e == 0 else rf"$10^{{{e}}}$" for e in exponents])


# -- over |λ| ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One sign of a spectrum over |λ|."""

    rows: np.ndarray
    stems: np.ndarray
    negative: bool


def _draw_over_magnitude(axes: Axes, items: Sequence[Run], venue: Venue) -> None:
    logs = [log_density(density) for _, _, density in items]
    found = [np.abs(d.outliers[d.outliers != 0]) for _, _, d in items]
    peak = max(float(p.max(initial=1.0)) for g in logs for p in (g.positive, g.negative))
    top = 10.0 ** math.ceil(math.log10(8 * peak))
    bottom = 10.0 ** min(round(math.log10(top)) - _DECADES, -1)
    pairs = list(zip(logs, found, strict=True))
    reach = [np.concatenate([g.decades[[0, -1]], np.log10(at)]) for g, at in pairs]
    low, high = min(float(r.min()) for r in reach), max(float(r.max()) for r in reach)
    high += 0.03 * (high - low)
    _power_axis(axes, bottom, top)
    axes.set_xlim(low, high)
    ticks = log_ticks(10.0**low, 10.0**high, most=7)
    set_ticks(axes.xaxis, np.log10(ticks), [short(float(tick)) for tick in ticks])
    axes.set_xlabel(r"$|\lambda|$")
    axes.set_ylabel(r"eigenvalues per decade of $|\lambda|$")
    for (_, index, density), log in zip(items, logs, strict=True):
        shade = palette.run_color(index).light
        for part in _parts(density, log):
            ink = palette.LIGHT.err if part.negative and len(items) == 1 else shade
            _draw_part(axes, log, part, ink, bottom / 10)
    _say_below(axes, logs, venue)


def _parts(density: Density, log: LogDensity) -> list[_Part]:
    outliers = density.outliers
    return [
        _Part(log.negative, -outliers[outliers < 0], negative=True),
        _Part(log.positive, outliers[outliers > 0], negative=False),
    ]


def _draw_part(axes: Axes, log: LogDensity, part: _Part, ink: str, floor: float) -> None:
    if part.rows.any():
        low, high = (np.maximum(f(part.rows, axis=0), floor) for f in (np.min, np.max))
        axes.fill_between(log.decades, low, high, color=ink, alpha=0.2, lw=0, zorder=1)
        middle = np.maximum(part.rows.mean(axis=0), floor)
        dash = NEGATIVE if part.negative else "solid"
        axes.plot(log.decades, middle, color=ink, lw=1, ls=dash, zorder=3)
    if len(part.stems):
        at = np.log10(part.stems)
        fill = "white" if part.negative else ink
        axes.vlines(at, floor, 1.0, color=ink, lw=0.8, zorder=3)
        dots: Any = {"ls": "none", "marker": "o", "ms": 2.2, "mfc": fill, "mec": ink, "mew": 0.6}
        axes.plot(at, np.ones(len(at)), zorder=3.1, **dots)


def _say_below(axes: Axes, logs: Sequence[LogDensity], venue: Venue) -> None:
    """What dashes mean, and how many eigenvalues lie where magnitudes are not known."""
    lines = [r"dashed: $\lambda$ < 0"] if any(log.negative.any() for log in logs) else []
    if len(logs) == 1:
        below = number(float(logs[0].below.mean()), 2)
        lines.append(rf"$|\lambda|$ < {short(logs[0].floor, 2)}: {below} eigenvalues, not drawn")
    for i, text in enumerate(lines):
        axes.annotate(
            with_math(text),
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, -2 - 1.2 * i * venue.ticks),
            textcoords="offset points",
            ha="right",
            va="top",
            color=MUTED,
            fontsize=venue.ticks,
        )
