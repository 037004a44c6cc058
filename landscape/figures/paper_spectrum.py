"""Spectra on paper: found eigenvalues, density, eigenvalues through training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from landscape.figures import palette
from landscape.figures.densities import DensityCurve, density_curve
from landscape.figures.items import Items, is_items, items_of
from landscape.figures.numbers import number, short
from landscape.figures.paper_axes import (
    MUTED,
    add_drops,
    curve_axes,
    end_labels,
    name_room,
    run_marker,
    run_style,
    set_ticks,
    step_limits,
    value_limits,
)
from landscape.figures.paper_curves import HEIGHT
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.scales import choose_scale, finite_range, nice_ticks, step_top
from landscape.figures.summaries import eigenvalue_history, last_finite
from landscape.results import Density, Spectrum


def draw_spectrum(
    spectra: Spectrum | Items[Spectrum],
    *,
    venue: str = "icml",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw found eigenvalues by falling magnitude, with residuals; hollow ones are negative.

    Args:
        spectra: One spectrum, or (label, color, spectrum) of each run.
        venue: Whose widths and type to use.
        scale: "log", "linear", or None for log where no eigenvalue is 0.
        limits: Lowest and highest |λ| of the axis.
        color: Color index of a single spectrum.
    """
    sizes = venue_of(venue)
    items = items_of(spectra, color)
    magnitudes = [np.abs(s.eigenvalues) for _, _, s in items]
    if scale is None and any((m == 0).any() for m in magnitudes):
        scale = "linear"
    scale = choose_scale(scale, magnitudes)
    names = [label for label, _, _ in items] if len(items) > 1 else []
    figure, axes = curve_axes(sizes, HEIGHT, right=name_room(names, sizes))
    with figure.style():
        low, high = finite_range(magnitudes, scale, limits)
        value_limits(axes, 0.0 if scale == "linear" and limits is None else low, high, scale)
        for _, index, spectrum in items:
            _draw_scree(axes, spectrum, index)
        most = max(1, *(len(m) for m in magnitudes))
        axes.set_xlim(0.5, most + 0.5)
        ticks = nice_ticks(0, most)
        set_ticks(axes.xaxis, np.unique(np.maximum(np.round(ticks), 1)))
        axes.set_xlabel(r"rank by $|\lambda|$")
        axes.set_ylabel(r"$|\lambda|$")
        named = zip(magnitudes, items, strict=True) if names else ()
        labels = [(float(np.min(m)), label, i) for m, (label, i, _) in named]
        end_labels(axes, labels, sizes)
    return figure


def _draw_scree(axes: Axes, spectrum: Spectrum, color: int) -> None:
    order = np.argsort(-np.abs(spectrum.eigenvalues), kind="stable")
    values, residuals = spectrum.eigenvalues[order], spectrum.residuals[order]
    rank, magnitude = np.arange(1, len(values) + 1), np.abs(values)
    run = palette.run_color(color)
    axes.plot(rank, magnitude, color=run.light, alpha=0.35, lw=0.6, ls="solid", zorder=2)
    low = np.maximum(magnitude - residuals, 1e-3 * magnitude)
    axes.vlines(rank, low, magnitude + residuals, color=run.light, lw=0.7, zorder=2.5)
    for sign, fill in ((values > 0, run.light), (values <= 0, "white")):
        axes.plot(
            rank[sign],
            magnitude[sign],
            ls="none",
            marker=run.paper_marker,
            ms=3.4,
            mfc=fill,
            mec=run.light,
            mew=0.7,
            zorder=3,
        )


def draw_density(
    density: Density,
    spectrum: Spectrum | None = None,
    *,
    venue: str = "icml",
    context: Density | None = None,
    axis: str | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw a spectral density in eigenvalues per unit λ, so that one eigenvalue has area 1.

    Eigenpairs that were found one by one leave the curve and stand as stems of height 1. The band
    goes from the lowest to the highest probe.

    Args:
        density: Nodes and weights of each probe.
        spectrum: Found eigenpairs of the same Hessian.
        venue: Whose widths and type to use.
        context: A density to compare with, drawn dotted.
        axis: "symlog", "linear", or None for symlog where the spectrum is wider than its bulk.
        color: Color index of the run.

    Raises:
        ValueError: If the axis is unknown.
    """
    if axis not in ("symlog", "linear", None):
        raise ValueError(f"axis must be 'symlog' or 'linear', got {axis!r}")
    sizes = venue_of(venue)
    curve = density_curve(density, spectrum)
    signed = axis == "symlog" or (axis is None and curve.wide)
    figure, axes = curve_axes(sizes, HEIGHT)
    with figure.style():
        _density_axes(axes, curve, signed)
        floor = curve.levels()[0] / 10
        shade = palette.run_color(color).light
        low, high = np.maximum(curve.low, floor), np.maximum(curve.high, floor)
        axes.fill_between(curve.x, low, high, color=shade, alpha=0.2, lw=0, zorder=1)
        if context is not None:
            other = density_curve(context)
            rest = np.maximum(other.middle, floor)
            axes.plot(other.x, rest, color=MUTED, lw=0.8, ls=(0, (1, 1.4)), zorder=2)
        axes.plot(curve.x, np.maximum(curve.middle, floor), color=shade, lw=1, ls="solid", zorder=3)
        if len(curve.stems):
            axes.vlines(curve.stems, floor, 1.0, color=shade, lw=0.8, zorder=3)
            axes.plot(curve.stems, np.ones(len(curve.stems)), "o", ms=1.8, color=shade, zorder=3.1)
            axes.annotate(
                rf"$\lambda_1$ = {number(float(curve.stems[-1]))}",
                (curve.stems[-1], 1.0),
                xytext=(3, 4),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=sizes.ticks,
            )
    return figure


def _density_axes(axes: Axes, curve: DensityCurve, signed: bool) -> None:
    low, high = curve.reach
    if signed:
        scale = curve.signed_log
        axes.set_xscale("function", functions=(scale.forward, scale.inverse))
        set_ticks(axes.xaxis, scale.ticks(low, high, most=7))
        linear = short(scale.threshold, 2)
        axes.set_xlabel(rf"eigenvalue $\lambda$ (linear within ±{linear})")
    else:
        set_ticks(axes.xaxis, nice_ticks(low, high, about=5))
        axes.set_xlabel(r"eigenvalue $\lambda$")
    axes.set_xlim(low, high)
    bottom, top = curve.levels()
    first, last = round(np.log10(bottom)), round(np.log10(top))
    stride = max(1, -(-(last - first) // 5))
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    exponents = range(first, last + 1, stride)
    axes.yaxis.set_major_locator(FixedLocator([10.0**e for e in exponents]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels(["1" if e == 0 else rf"$10^{{{e}}}$" for e in exponents])
    axes.set_ylabel(r"eigenvalues per unit $\lambda$")


def draw_eigenvalues(
    histories: Any,
    *,
    venue: str = "icml",
    most: int = 5,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw the largest eigenvalues found through training; hollow ones did not converge.

    Args:
        histories: (step, spectrum) pairs, or (label, color, pairs) of each run.
        venue: Whose widths and type to use.
        most: How many eigenvalues of a single run to draw.
        scale: "log", "linear", or None for log where all are positive.
        limits: Lowest and highest λ of the axis.
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.
    """
    sizes = venue_of(venue)
    items = items_of(histories) if is_items(histories) else [("", color, histories)]
    shown = most if len(items) == 1 else 1
    found = [eigenvalue_history(pairs, shown) for _, _, pairs in items]
    scale = choose_scale(scale, [rows for _, rows in found])
    names = [label for label, _, _ in items if label]
    figure, axes = curve_axes(
        sizes, HEIGHT, right=name_room(names, sizes), top=0.2 if len(drops) else 0.08
    )
    with figure.style():
        value_limits(axes, *finite_range([r for _, r in found], scale, limits), scale)
        step_limits(axes, 0, step_top(max(float(s[-1]) for s, _ in found))[0])
        add_drops(axes, drops, sizes)
        for (steps, rows), (_, index, pairs) in zip(found, items, strict=True):
            _draw_history(axes, steps, rows, pairs, index)
        axes.set_ylabel(r"largest eigenvalue $\lambda$")
        labels = [
            (last_finite(rows[:, 0]), label, i)
            for (_, rows), (label, i, _) in zip(found, items, strict=True)
            if label
        ]
        end_labels(axes, labels, sizes)
    return figure


def _draw_history(
    axes: Axes,
    steps: np.ndarray,
    rows: np.ndarray,
    pairs: Sequence[tuple[float, Spectrum]],
    color: int,
) -> None:
    run = palette.run_color(color)
    for k in range(rows.shape[1] - 1, 0, -1):
        axes.plot(steps, rows[:, k], color=run.light, alpha=0.4, lw=0.6, ls="solid", zorder=2)
    # clip_on=False: the last marker stands on the frame
    axes.plot(steps, rows[:, 0], zorder=3, **run_style(color), **run_marker(color), clip_on=False)
    converged = np.array([s.converged for _, s in sorted(pairs, key=lambda pair: pair[0])])
    hollow = {**run_marker(color), "markerfacecolor": "white", "ls": "none", "zorder": 3.1}
    axes.plot(steps[~converged], rows[~converged, 0], **hollow, clip_on=False)
