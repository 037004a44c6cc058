"""Training curves on the screen, and the sparkline of a run list."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.scales import choose_scale, finite_range, fraction, lr_drops, thin_out
from landscape.figures.summaries import last_finite
from landscape.figures.template import (
    add_end_labels,
    add_lr_drops,
    add_selected_step,
    new_figure,
    run_line,
    run_name,
    step_axis,
    value_axis,
)


def plot_steps(
    runs: Mapping[str, np.ndarray] | Items[Mapping[str, np.ndarray]],
    *,
    column: str = "loss",
    evaluations: Items[Mapping[str, np.ndarray]] = (),
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    total: float | None = None,
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw a recorded column over steps, raw, with the drops of the learning rate.

    Args:
        runs: The columns of one run, or (label, color, columns) of each run.
        column: Name of the column.
        evaluations: (label, color, evaluations) of runs whose `test_<column>` is drawn dotted.
        scale: "log", "linear", or None: log for a loss that allows it.
        limits: Lowest and highest value of the axis.
        total: Last step of the axis; by default the last step there is.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of a single run.

    Raises:
        ValueError: If a run has no such column.
    """
    items = items_of(runs, color)
    for label, _, steps in items:
        if column not in steps:
            raise ValueError(f"run {label!r} must have column {column!r}, got {sorted(steps)}")
    test = f"test_{column}"
    tested = [(n, i, e) for n, i, e in evaluations if test in e and len(e["step"])]
    columns = [steps[column] for _, _, steps in items] + [e[test] for _, _, e in tested]
    wanted = scale if scale or "loss" in column or column == "lr" else "linear"
    scale = choose_scale(wanted, columns)
    axis = value_axis(*finite_range(columns, scale, limits), scale, column.replace("_", " "))
    figure = new_figure(theme, "labeled" if len(items) > 1 else "curves")
    drops = sorted({d for _, _, s in items if "lr" in s for d in lr_drops(s["step"], s["lr"])})
    add_lr_drops(figure, drops, axis, theme)
    for label, index, steps in items:
        _add_steps(figure, label, index, steps["step"], steps[column], column, theme)
    for label, index, steps in tested:
        _add_tested(figure, label, index, steps["step"], steps[test], theme)
    if len(items) > 1:
        labels = [(last_finite(s[column]), run_name(n, i, theme)) for n, i, s in items]
        add_end_labels(figure, labels, axis)
    ends = [float(s["step"][-1]) for _, _, s in items if len(s["step"])]
    figure.update_xaxes(step_axis(total if total is not None else max(ends, default=1.0)))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure


def _add_steps(
    figure: go.Figure,
    label: str,
    index: int,
    steps: np.ndarray,
    values: np.ndarray,
    column: str,
    theme: str,
) -> None:
    x, y = thin_out(steps, np.where(np.isfinite(values), values, np.nan))
    sparse = bool(np.isnan(values).mean() > 0.5) if len(values) else False
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines+markers" if sparse else "lines",
            connectgaps=sparse,
            line=run_line(index, theme, 1.4),
            marker={"size": 3},
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + f"step %{{x:,.0f}}<br>{column.replace('_', ' ')} %{{y:.3~g}}<extra></extra>"
            ),
            name=label or column,
        )
    )


def _add_tested(
    figure: go.Figure, label: str, index: int, steps: np.ndarray, values: np.ndarray, theme: str
) -> None:
    run = palette.run_color(index)
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=values,
            mode="lines+markers",
            line={"color": run.on(theme), "width": 1.4, "dash": "2px,3px"},
            marker={"size": 5, "symbol": run.marker, "color": run.on(theme)},
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + "step %{x:,.0f}<br>test %{y:.3~g}<extra></extra>"
            ),
            name=f"{label} test".strip(),
        )
    )


def sparkline(
    values: np.ndarray,
    *,
    limits: tuple[float, float] | None = None,
    progress: float = 1.0,
    theme: str = "light",
    color: int = 0,
    width: int = 96,
    height: int = 22,
) -> str:
    """A small log curve with a dot at its end, as SVG text for a cell of the run list.

    Args:
        values: The curve [step]; what is not positive and finite is left out.
        limits: Lowest and highest value, the same for all rows.
        progress: Share of the width that the curve takes: how much of the run is done.
        theme: "light" or "dark".
        color: Color index of the run.
        width: In px.
        height: In px.
    """
    x, y = thin_out(np.arange(len(values), dtype=np.float64), np.asarray(values), points=200)
    shown = np.isfinite(y) & (y > 0)
    x, y = x[shown], y[shown]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="train loss">'
    )
    if not len(y):
        return head + "</svg>"
    limits = finite_range([y], "log", limits)
    reach = (width - 8) * float(np.clip(progress, 0, 1))
    across = 3 + reach * x / max(len(values) - 1, 1)
    places = np.array([fraction(float(v), limits, "log") for v in y])
    down = 3 + (height - 6) * (1 - np.clip(places, 0, 1))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    stroke = palette.run_color(color).on(theme)
    return (
        f'{head}<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="1.4" '
        f'stroke-linejoin="round"/><circle cx="{across[-1]:.1f}" cy="{down[-1]:.1f}" r="2.2" '
        f'fill="{stroke}"/></svg>'
    )
