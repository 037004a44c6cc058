"""Consistency of perturbation directions on the screen."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.scales import finite_range, step_top
from landscape.figures.screen_cosines import plot_cosines
from landscape.figures.summaries import (
    Curve,
    column_curve,
    consecutive_null,
    cosine_curve,
    last_finite,
    marker_every,
    null_envelope,
)
from landscape.figures.template import (
    add_end_labels,
    add_lr_drops,
    add_selected_step,
    band,
    new_figure,
    null_name,
    run_line,
    run_name,
    step_axis,
    value_axis,
    zero_line,
)
from landscape.results import Consistency

FEW = 8
"""With fewer points than this an interval is drawn as bars, else as a band."""
COLUMN_TITLES = {
    "norms": "‖ε‖",
    "loss_rise": "L(w + ε) − L(w), nats",
    "cosine_gradient": "cos(ε, ∇L)",
}
Group = Sequence[Consistency]


def plot_consistency(
    runs: Consistency | Group | Items[Group],
    *,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    total: float | None = None,
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
    bar: bool = False,
) -> go.Figure:
    """Draw the mean pairwise cosine over steps, with its bootstrap interval and the null band.

    The grey band is the widest of the runs' sign-flip nulls (95 %). A single result, which has
    no axis of steps, is drawn as its matrix of cosines.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        limits: Lowest and highest cosine of the axis.
        drops: (step, lr) where the learning rate fell.
        total: Last step of the axis; by default the last result.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of a single run.
        bar: Whether a matrix gets a color bar; a page draws its own.
    """
    if isinstance(runs, Consistency):
        return plot_cosines(runs, theme=theme, bar=bar)
    items = items_of(runs, color)
    found = [(label, index, *cosine_curve(results)) for label, index, results in items]
    curves = [(label, index, curve) for label, index, curve, _, _ in found]
    nulls = null_envelope([(curve.x, low, high) for _, _, curve, low, high in found])
    last = max(float(curve.x[-1]) for _, _, curve in curves)
    everything = [part for _, _, c in curves for part in (c.middle, c.low, c.high)]
    everything += [nulls[1], nulls[2], np.zeros(1)]
    axis = value_axis(*finite_range(everything, "linear", limits), "linear", "mean pairwise cosine")
    figure = new_figure(theme, "labeled")
    steps = step_axis(total if total is not None else last)
    add_null(figure, nulls, steps["range"][1], theme)
    add_lr_drops(figure, drops, axis, theme, named=True)
    for label, index, curve in curves:
        _add_interval(figure, label, index, curve, theme)
    for label, index, curve in curves:
        _add_cosine(figure, label, index, curve, theme)
    labels = [(last_finite(c.middle), run_name(n, i, theme)) for n, i, c in curves if n]
    center = (last_finite(nulls[1]) + last_finite(nulls[2])) / 2
    add_end_labels(figure, [*labels, (center, null_name(theme))], axis)
    figure.update_xaxes(steps)
    figure.update_yaxes(axis, **zero_line(theme))
    add_selected_step(figure, selected, theme)
    return figure


def add_null(
    figure: go.Figure, nulls: tuple[np.ndarray, np.ndarray, np.ndarray], end: float, theme: str
) -> None:
    """Draw the null over the full width: its first and last values reach to the axis ends."""
    x, low, high = nulls
    if not len(x):
        return
    x = np.concatenate([[0.0], x, [end]])
    low, high = np.pad(low, 1, mode="edge"), np.pad(high, 1, mode="edge")
    figure.add_trace(band(x, low, high, palette.tokens(theme).null, name="null"))


def _add_interval(figure: go.Figure, label: str, index: int, curve: Curve, theme: str) -> None:
    if len(curve.x) < FEW:
        return
    shade = palette.run_color(index).on(theme)
    figure.add_trace(band(curve.x, curve.low, curve.high, shade, name=f"{label} interval"))


def _add_cosine(figure: go.Figure, label: str, index: int, curve: Curve, theme: str) -> None:
    run = palette.run_color(index)
    few = len(curve.x) < FEW
    marked = np.zeros(len(curve.x))
    marked[np.arange(len(curve.x)) if few else marker_every(len(curve.x))] = 7
    bars = {
        "type": "data",
        "array": curve.high - curve.middle,
        "arrayminus": curve.middle - curve.low,
        "thickness": 1.2,
        "width": 0,
        "color": run.on(theme),
    }
    figure.add_trace(
        go.Scatter(
            x=curve.x,
            y=curve.middle,
            mode="lines+markers",
            line=run_line(index, theme),
            marker={"symbol": run.marker, "size": marked, "opacity": 1, "line": {"width": 0}},
            error_y=bars if few else None,
            customdata=np.stack([curve.low, curve.high], axis=-1),
            hovertemplate=(
                (f"{label}<br>" if label else "") + "step %{x:,.0f}<br>mean cosine %{y:.3f}"
                "<br>95 % interval %{customdata[0]:.3f} to %{customdata[1]:.3f}<extra></extra>"
            ),
            name=label or "mean cosine",
        )
    )


def plot_consecutive(
    results: Consistency | Items[Consistency],
    *,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the cosine of each perturbation to the one before, their mean, and the mean's null.

    Dots are single steps; the line is the mean over the window. The grey band holds the mean in
    95 % of random sign flips.
    """
    items = items_of(results, color)
    figure = new_figure(theme, "labeled")
    null = max(consecutive_null(r.consecutive) for _, _, r in items)
    ends = [r.step for _, _, r in items]
    first, last = min(float(s[0]) for s in ends), max(float(s[-1]) for s in ends)
    values = [r.consecutive for _, _, r in items]
    axis = value_axis(*finite_range([*values, np.zeros(1)], "linear"), "linear", "cos(εₜ, εₜ₋₁)")
    if np.isfinite(null):
        span = np.array([first, last])
        figure.add_trace(
            band(
                span,
                np.full(2, -null),
                np.full(2, null),
                palette.tokens(theme).null,
                name="null of the mean",
            )
        )
    add_lr_drops(figure, drops, axis, theme)
    labels = []
    for label, index, result in items:
        mean = _add_consecutive(figure, label, index, result, theme)
        labels.append((mean, run_name(label or "mean", index, theme)))
    labels.append((0.0, null_name(theme)))
    add_end_labels(figure, labels, axis)
    pad = 0.01 * (last - first)
    figure.update_xaxes(range=[first - pad, last + pad], title_text="step", nticks=5)
    figure.update_yaxes(axis, **zero_line(theme))
    add_selected_step(figure, selected, theme)
    return figure


def _add_consecutive(
    figure: go.Figure, label: str, index: int, result: Consistency, theme: str
) -> float:
    run = palette.run_color(index)
    steps, values = result.step[1:].astype(float), result.consecutive
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=np.where(np.isfinite(values), values, np.nan),
            mode="markers",
            marker={
                "size": 4,
                "symbol": run.marker,
                "color": palette.translucent(run.on(theme), 0.55),
            },
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + "step %{x:,.0f}<br>cosine to the step before %{y:.3f}<extra></extra>"
            ),
            name=label or "cosine",
        )
    )
    finite = values[np.isfinite(values)]
    mean = float(finite.mean()) if len(finite) else float("nan")
    figure.add_trace(
        go.Scatter(
            x=[float(result.step[0]), float(result.step[-1])],
            y=[mean, mean],
            mode="lines",
            line=run_line(index, theme),
            hovertemplate="mean over the window %{y:.3f}<extra></extra>",
            name=f"{label} mean".strip(),
        )
    )
    return mean


def plot_norms(
    runs: Consistency | Group | Items[Group],
    *,
    column: str = "norms",
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw the norm of the perturbations, or the loss rise they cause, over steps.

    A window of training shows each step; checkpoints show the median over batches with a band
    from the lowest to the highest batch.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        column: "norms", "loss_rise" or "cosine_gradient".
        drops: (step, lr) where the learning rate fell.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of a single run.

    Raises:
        ValueError: If the column is unknown.
    """
    if column not in COLUMN_TITLES:
        raise ValueError(f"column must be one of {sorted(COLUMN_TITLES)}, got {column!r}")
    items = [
        (label, index, [r] if isinstance(r, Consistency) else list(r))
        for label, index, r in items_of(runs, color)
    ]
    curves = [(label, index, column_curve(results, column)) for label, index, results in items]
    everything = [part for _, _, c in curves for part in (c.middle, c.low, c.high)]
    axis = value_axis(
        *finite_range([*everything, np.zeros(1)], "linear"), "linear", COLUMN_TITLES[column]
    )
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    add_lr_drops(figure, drops, axis, theme)
    for label, index, curve in curves:
        shade = palette.run_color(index).on(theme)
        if np.isfinite(curve.low).any():
            figure.add_trace(band(curve.x, curve.low, curve.high, shade, name=f"{label} range"))
        figure.add_trace(_column_trace(label, index, curve, column, theme))
    if len(items) > 1:
        labels = [(last_finite(c.middle), run_name(n, i, theme)) for n, i, c in curves]
        add_end_labels(figure, labels, axis)
    first, last = min(float(c.x[0]) for _, _, c in curves), max(float(c.x[-1]) for *_, c in curves)
    if first > 0.5 * step_top(last)[0]:
        figure.update_xaxes(range=[first - 0.5, last + 0.5], title_text="step", nticks=5)
    else:
        figure.update_xaxes(step_axis(last))
    figure.update_yaxes(axis, **zero_line(theme))
    add_selected_step(figure, selected, theme)
    return figure


def _column_trace(label: str, index: int, curve: Curve, column: str, theme: str) -> go.Scatter:
    run = palette.run_color(index)
    return go.Scatter(
        x=curve.x,
        y=np.where(np.isfinite(curve.middle), curve.middle, np.nan),
        mode="lines+markers" if len(curve.x) <= 60 else "lines",
        line=run_line(index, theme, 1.6),
        marker={"symbol": run.marker, "size": 5},
        hovertemplate=(
            (f"{label}<br>" if label else "")
            + f"step %{{x:,.0f}}<br>{COLUMN_TITLES[column]} %{{y:.3~g}}<extra></extra>"
        ),
        name=label or column,
    )
