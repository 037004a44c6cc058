"""Found eigenvalues on paper: of one checkpoint, and through training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.items import Items, is_items, items_of
from landscape.figures.paper_axes import (
    add_drops,
    curve_axes,
    end_labels,
    name_room,
    run_marker,
    run_style,
    set_ticks,
    signed_limits,
    step_limits,
    value_limits,
)
from landscape.figures.paper_curves import HEIGHT
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.scales import choose_scale, finite_range, nice_ticks, step_top
from landscape.figures.summaries import Scree, eigenvalue_history, last_finite, scree
from landscape.results import Spectrum


def draw_spectrum(
    spectra: Spectrum | Items[Spectrum],
    *,
    venue: str = "icml",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw found eigenvalues by falling magnitude, with residuals as bars.

    Negative ones are hollow, and of a single run red; those with residuals above the tolerance are
    crossed out. A signed axis keeps the sign and sorts from the largest down.

    Args:
        spectra: One spectrum, or (label, color, spectrum) of each run.
        venue: Whose widths and type to use.
        scale: "log" and "linear" of |λ|, "symlog" of λ, or None: log where no eigenvalue is 0.
        limits: Lowest and highest value of the axis.
        color: Color index of a single spectrum.
    """
    sizes = venue_of(venue)
    items = items_of(spectra, color)
    signed = scale == "symlog"
    found = [scree(spectrum, signed=signed) for _, _, spectrum in items]
    shown = [s.values if signed else s.magnitudes for s in found]
    if scale is None and any((values == 0).any() for values in shown):
        scale = "linear"
    scale = "symlog" if signed else choose_scale(scale, shown)
    names = [label for label, _, _ in items] if len(items) > 1 else []
    figure, axes = curve_axes(sizes, HEIGHT, right=name_room(names, sizes))
    with figure.style():
        _scree_axis(axes, shown, scale, limits)
        for (_, index, _), one, values in zip(items, found, shown, strict=True):
            _draw_scree(axes, one, values, index, alone=len(items) == 1)
        most = max(1, *(len(values) for values in shown))
        axes.set_xlim(0.5, most + 0.5)
        ticks = nice_ticks(0, most)
        set_ticks(axes.xaxis, np.unique(np.maximum(np.round(ticks), 1)))
        magnitude = r"$\lambda$" if signed else r"$|\lambda|$"
        axes.set_xlabel(f"rank by {magnitude}")
        axes.set_ylabel(magnitude)
        named = zip(shown, items, strict=True) if names else ()
        labels = [(float(v[-1]), label, i) for v, (label, i, _) in named if len(v)]
        end_labels(axes, labels, sizes)
    return figure


def _scree_axis(
    axes: Axes, shown: list[np.ndarray], scale: str, limits: tuple[float, float] | None
) -> None:
    if scale == "symlog":
        flat = np.concatenate(shown)
        signed_limits(axes, *finite_range([*shown, np.zeros(1)], "linear", limits), flat)
        axes.axhline(0, color=palette.LIGHT.zero, lw=0.5, zorder=1.1)
        return
    low, high = finite_range(shown, scale, limits)
    value_limits(axes, 0.0 if scale == "linear" and limits is None else low, high, scale)


def _draw_scree(axes: Axes, found: Scree, values: np.ndarray, color: int, *, alone: bool) -> None:
    run, rank = palette.run_color(color), np.arange(1, len(values) + 1)
    axes.plot(rank, values, color=run.light, alpha=0.35, lw=0.6, ls="solid", zorder=2)
    low = values - found.residuals
    if axes.get_yscale() == "log":
        low = np.maximum(low, 1e-3 * values)
    below = palette.LIGHT.err if alone else run.light
    positive = found.values > 0
    for chosen, ink, fill in ((positive, run.light, run.light), (~positive, below, "white")):
        at, shown = rank[chosen], values[chosen]
        high = shown + found.residuals[chosen]
        axes.vlines(at, low[chosen], high, color=ink, lw=0.7, zorder=2.5, gid="residual")
        dots: Any = {"ls": "none", "marker": run.paper_marker, "ms": 3.4, "mfc": fill, "mec": ink}
        axes.plot(at, shown, mew=0.7, zorder=3, **dots)
    loose = ~found.within
    cross: Any = {"ls": "none", "marker": "x", "ms": 5.2, "mew": 0.8, "color": palette.INK}
    axes.plot(rank[loose], values[loose], zorder=3.2, gid="loose", **cross)


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
