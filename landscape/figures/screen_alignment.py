"""Where gradient and perturbations point among the top eigenvectors, on the screen."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.alignments import direction_colors, random_cosine, spoken
from landscape.figures.scales import choose_scale, finite_range
from landscape.figures.template import (
    add_lr_drops,
    add_selected_step,
    band,
    context_line,
    new_figure,
    run_line,
    step_axis,
    value_axis,
)
from landscape.results import Curvature


def plot_alignment(
    curvature: Curvature,
    *,
    quantity: str = "cosine",
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
) -> go.Figure:
    """Draw how far directions lie along the largest curvature, at every checkpoint measured.

    Args:
        curvature: With directions measured.
        quantity: "cosine" for |cos| to the first eigenvector, over the band in which 95 % of random
            directions lie; "share" for the part of the direction's squared length inside the
            space of all eigenvectors found; "rayleigh" for uᵀHu beside λ₁.
        drops: (step, lr) where the learning rate fell.
        selected: Step to mark.
        theme: "light" or "dark".

    Raises:
        ValueError: If there is no such quantity, or it was not measured.
    """
    if quantity not in ("cosine", "share", "rayleigh"):
        raise ValueError(f"quantity must be 'cosine', 'share' or 'rayleigh', got {quantity!r}")
    rows = _rows(curvature, quantity)
    if not np.isfinite(rows).any():
        raise ValueError("the alignment of a direction at least must be measured, got none")
    axis, figure = _frame(curvature, rows, quantity, theme)
    add_lr_drops(figure, drops, axis, theme)
    _add_context(figure, curvature, quantity, theme)
    names = curvature.direction_names
    lines = list(zip(names, direction_colors(names), rows.T, strict=True))
    for name, index, row in reversed(lines):  # the gradient, dashed, over SAM's, which lies on it
        run = palette.run_color(index)
        figure.add_trace(
            go.Scatter(
                x=curvature.step,
                y=row,
                mode="lines+markers",
                line=run_line(index, theme),
                marker={"symbol": run.marker, "size": 6, "color": run.on(theme)},
                hovertemplate=f"{spoken(name)}<br>step %{{x:,.0f}}<br>%{{y:.3~g}}<extra></extra>",
                name=name,
            )
        )
    figure.update_xaxes(step_axis(float(curvature.step[-1])))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure


def _rows(curvature: Curvature, quantity: str) -> np.ndarray:
    """Values [c, direction]; NaN where there are none."""
    blank = np.full((len(curvature.step), len(curvature.direction_names)), np.nan)
    if quantity == "rayleigh":
        return curvature.rayleigh if curvature.rayleigh.size else blank
    if not curvature.alignment.size:
        return blank
    if quantity == "share":
        return np.sum(curvature.alignment**2, axis=2)
    return curvature.alignment[:, :, 0]


def _add_context(figure: go.Figure, curvature: Curvature, quantity: str, theme: str) -> None:
    """What the lines are to be read against."""
    ends = np.array([0.0, 2.0 * max(float(curvature.step[-1]), 1.0)])
    if quantity == "rayleigh":
        top = curvature.eigenvalues[:, 0]
        line = context_line(theme)
        hover = "step %{x:,.0f}<br>λ<sub>1</sub> = %{y:.4~g}<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=curvature.step, y=top, mode="lines", line=line, hovertemplate=hover, name="λ1"
            )
        )
        return
    high = random_cosine(curvature)
    if quantity == "cosine" and np.isfinite(high):
        shade = palette.tokens(theme).null
        figure.add_trace(band(ends, np.zeros(2), np.full(2, high), shade, name="null"))


def _frame(
    curvature: Curvature, rows: np.ndarray, quantity: str, theme: str
) -> tuple[dict, go.Figure]:
    if quantity == "rayleigh":
        values = [rows, curvature.eigenvalues[:, :1]]
        scale = choose_scale(None, values)
        axis = value_axis(*finite_range(values, scale), scale, "uᵀHu")
    else:
        found = f"share in {curvature.eigenvalues.shape[1]} eigenvectors"
        title = "|cos| to eigenvector 1" if quantity == "cosine" else found
        axis = value_axis(0.0, 1.0, "linear", title)
    return axis, new_figure(theme, "curves")
