"""Found eigenvalues on the screen, at one checkpoint and through training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, is_items, items_of
from landscape.figures.scales import choose_scale, finite_range, nice_ticks
from landscape.figures.summaries import eigenvalue_history, last_finite
from landscape.figures.template import (
    add_end_labels,
    add_lr_drops,
    add_selected_step,
    new_figure,
    run_name,
    step_axis,
    value_axis,
)
from landscape.results import Spectrum

History = Sequence[tuple[float, Spectrum]]


def plot_spectrum(
    spectra: Spectrum | Items[Spectrum],
    *,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw found eigenvalues by falling magnitude; positive filled, negative hollow.

    Of a single spectrum, negative ones are red too. Bars are the residuals: an eigenvalue lies
    within each. A cross marks a pair whose residual is above the tolerance.

    Args:
        spectra: One spectrum, or (label, color, spectrum) of each run.
        scale: "log", "linear", or None for log where no eigenvalue is 0.
        limits: Lowest and highest |λ| of the axis.
        theme: "light" or "dark".
        color: Color index of a single spectrum.
    """
    items = items_of(spectra, color)
    magnitudes = [np.abs(s.eigenvalues) for _, _, s in items]
    if scale is None and any((m == 0).any() for m in magnitudes):
        scale = "linear"
    scale = choose_scale(scale, magnitudes)
    low, high = finite_range(magnitudes, scale, limits)
    axis = value_axis(0.0 if scale == "linear" and limits is None else low, high, scale, "|λ|")
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    for label, index, spectrum in items:
        _add_scree(figure, label, index, spectrum, scale, theme, alone=len(items) == 1)
    if len(items) > 1:
        labels = [
            (float(m.min()), run_name(n, i, theme))
            for m, (n, i, _) in zip(magnitudes, items, strict=True)
        ]
        add_end_labels(figure, labels, axis)
    most = max(1, *(len(m) for m in magnitudes))
    figure.update_xaxes(
        range=[0.5, most + 0.5], tickvals=_rank_ticks(most), title_text="rank by |λ|"
    )
    figure.update_yaxes(axis)
    return figure


def _rank_ticks(most: int) -> np.ndarray:
    if most <= 10:
        return np.arange(1, most + 1)
    return np.unique(np.concatenate([[1], nice_ticks(0, most)[1:]]))


def _add_scree(
    figure: go.Figure,
    label: str,
    index: int,
    spectrum: Spectrum,
    scale: str,
    theme: str,
    *,
    alone: bool,
) -> None:
    order = np.argsort(-np.abs(spectrum.eigenvalues), kind="stable")
    values, residuals = spectrum.eigenvalues[order], spectrum.residuals[order]
    magnitude = np.abs(values)
    run = palette.run_color(index)
    tone = palette.tokens(theme)
    edges = [run.on(theme) if value > 0 or not alone else tone.err for value in values]
    rank = np.arange(1, len(values) + 1)
    down = np.minimum(residuals, 0.999 * magnitude) if scale == "log" else residuals
    figure.add_trace(
        go.Scatter(
            x=rank,
            y=magnitude,
            mode="lines+markers",
            line={"color": palette.translucent(run.on(theme), 0.35), "width": 1},
            marker={
                "symbol": run.marker,
                "size": 8,
                "color": [run.on(theme) if value > 0 else tone.surface for value in values],
                "line": {"color": edges, "width": 1.6},
                "opacity": 1,
            },
            error_y={
                "type": "data",
                "array": residuals,
                "arrayminus": down,
                "thickness": 1.2,
                "width": 0,
                "color": run.on(theme),
            },
            customdata=np.stack([values, residuals], axis=-1),
            hovertemplate=(
                (f"{label}<br>" if label else "") + "λ<sub>%{x}</sub> = %{customdata[0]:.4~g}"
                "<br>residual %{customdata[1]:.2~g}<extra></extra>"
            ),
            name=label or "eigenvalues",
        )
    )
    loose = unconverged(spectrum)[order]
    if loose.any():
        figure.add_trace(
            go.Scatter(
                x=rank[loose],
                y=magnitude[loose],
                mode="markers",
                marker={"symbol": "x-thin", "size": 11, "line": {"color": tone.text, "width": 1.4}},
                hoverinfo="skip",
                name=f"{label} not converged".strip(),
            )
        )


def unconverged(spectrum: Spectrum) -> np.ndarray:
    """Which pairs have a residual above the tolerance [k]."""
    if spectrum.within.size:
        return ~spectrum.within
    top = float(np.abs(spectrum.eigenvalues).max(initial=0.0))
    return spectrum.residuals > spectrum.tolerance * top


def plot_eigenvalues(
    histories: Any,
    *,
    most: int = 5,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the largest eigenvalues found through training.

    A single run shows its `most` largest, the others faint; several runs the largest of each. A
    hollow marker is a spectrum that did not converge.

    Args:
        histories: (step, spectrum) pairs, or (label, color, pairs) of each run.
        most: How many eigenvalues of a single run to draw.
        scale: "log", "linear", or None for log where all are positive.
        limits: Lowest and highest λ of the axis.
        drops: (step, lr) where the learning rate fell.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of a single run.
    """
    items = items_of(histories, color) if is_items(histories) else [("", color, histories)]
    shown = most if len(items) == 1 else 1
    curves = [(n, i, h, *eigenvalue_history(h, shown)) for n, i, h in items]
    values = [rows for *_, rows in curves]
    scale = choose_scale(scale, values)
    axis = value_axis(*finite_range(values, scale, limits), scale, "largest eigenvalue λ")
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    add_lr_drops(figure, drops, axis, theme)
    for label, index, history, steps, rows in curves:
        for k in range(shown - 1, -1, -1):
            _add_eigenvalue(figure, label, index, history, steps, rows[:, k], k, theme)
    if len(items) > 1:
        labels = [(last_finite(r[:, 0]), run_name(n, i, theme)) for n, i, _, _, r in curves]
        add_end_labels(figure, labels, axis)
    figure.update_xaxes(step_axis(max(float(s[-1]) for *_, s, _ in curves)))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure


def _add_eigenvalue(
    figure: go.Figure,
    label: str,
    index: int,
    history: History,
    steps: np.ndarray,
    values: np.ndarray,
    k: int,
    theme: str,
) -> None:
    run = palette.run_color(index)
    solid = run.on(theme) if k == 0 else palette.translucent(run.on(theme), 0.4)
    ground = palette.tokens(theme).surface
    converged = [s.converged for _, s in sorted(history, key=lambda pair: pair[0])]
    marker = {
        "symbol": run.marker,
        "size": 7 if k == 0 else 4,
        "color": [solid if ok else ground for ok in converged],
        "line": {"color": solid, "width": 1.4 if k == 0 else 1},
    }
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=values,
            mode="lines+markers",
            line={"color": solid, "width": 1.8 if k == 0 else 1, "dash": run.plotly_dash},
            marker=marker,
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + f"step %{{x:,.0f}}<br>λ<sub>{k + 1}</sub> = %{{y:.4~g}}<extra></extra>"
            ),
            name=f"{label} λ{k + 1}".strip(),
        )
    )
