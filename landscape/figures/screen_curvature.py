"""Curvature through training on the screen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.scales import choose_scale, finite_range
from landscape.figures.summaries import last_finite
from landscape.figures.template import (
    add_end_labels,
    add_lr_drops,
    add_selected_step,
    new_figure,
    run_name,
    step_axis,
    value_axis,
)
from landscape.results import Curvature

Column = Callable[[Curvature], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A quantity that is followed through training: one value at each checkpoint."""

    title: str
    symbol: str
    """What a hover label calls it."""
    values: Column
    error: Column | None = None
    error_name: str = "standard error"
    scale: str | None = None
    of_pairs: bool = False
    """Whether it is of eigenpairs, which may not have converged."""


def _column(name: str) -> Column:
    def read(curvature: Curvature) -> np.ndarray:
        values = getattr(curvature, name)
        return values if values.size else np.full(len(curvature.step), np.nan)

    return read


def _first(name: str) -> Column:
    def read(curvature: Curvature) -> np.ndarray:
        values = getattr(curvature, name)
        return values[:, 0] if values.shape[1] else np.full(len(curvature.step), np.nan)

    return read


FOLLOWED = {
    "eigenvalues": Followed(
        title="largest eigenvalue λ",
        symbol="λ<sub>1</sub>",
        values=_first("eigenvalues"),
        error=_first("residuals"),
        error_name="residual",
        of_pairs=True,
    ),
    "lowest": Followed(
        title="smallest eigenvalue λ",
        symbol="λ<sub>min</sub>",
        values=_column("lowest"),
        error=_column("lowest_residual"),
        error_name="residual",
        scale="linear",
        of_pairs=True,
    ),
    "trace": Followed(
        title="trace", symbol="trace", values=_column("trace"), error=_column("trace_error")
    ),
    "frobenius": Followed(
        title="Frobenius norm ‖H‖",
        symbol="‖H‖",
        values=_column("frobenius"),
        error=_column("frobenius_error"),
    ),
    "multiplier": Followed(
        title="stability multiplier |μ|",
        symbol="|μ|",
        values=_column("multiplier"),
        error=_column("multiplier_residual"),
        error_name="residual",
        scale="linear",
    ),
    "loss": Followed(title="train loss", symbol="loss", values=_column("loss")),
    "mean_probability": Followed(
        title="mean p of the true class",
        symbol="mean p",
        values=_column("mean_probability"),
        scale="linear",
    ),
    "gradient_norm": Followed(
        title="gradient norm ‖g‖", symbol="‖g‖", values=_column("gradient_norm")
    ),
}
"""What `plot_curvature` draws, by name."""

EDGE_DASH = "6px,3px"


def plot_curvature(
    curvatures: Curvature | Items[Curvature],
    *,
    quantity: str = "eigenvalues",
    most: int = 5,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw one quantity of the curvature at every checkpoint measured.

    Bars are standard errors, of eigenvalues residuals. A hollow marker is a checkpoint whose
    eigenpairs did not all converge. Of eigenvalues, a single run shows its `most` largest and the
    edge of stability of its optimizer, where there is one; several runs the largest of each.

    Args:
        curvatures: One result, or (label, color, result) of each run.
        quantity: One of `FOLLOWED`.
        most: How many eigenvalues of a single run to draw.
        scale: "log", "linear", or None for the quantity's own: log where all are positive.
        limits: Lowest and highest value of the axis.
        drops: (step, lr) where the learning rate fell.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of a single run.

    Raises:
        ValueError: If there is no such quantity, or it was measured nowhere.
    """
    if quantity not in FOLLOWED:
        raise ValueError(f"quantity must be one of {', '.join(FOLLOWED)}, got {quantity!r}")
    followed, items = FOLLOWED[quantity], items_of(curvatures, color)
    values = [followed.values(result) for _, _, result in items]
    if not any(np.isfinite(v).any() for v in values):
        raise ValueError(f"{followed.title} must be measured at a checkpoint at least, got none")
    alone = len(items) == 1
    extra = _beside(items[0][2], quantity, most) if alone else []
    scale = choose_scale(scale or followed.scale, [*values, *extra])
    shown = [*values, *extra, *_bar_ends(items, followed)]
    axis = value_axis(*finite_range(shown, scale, limits), scale, followed.title)
    figure = new_figure(theme, "curves" if alone else "labeled")
    add_lr_drops(figure, drops, axis, theme)
    if quantity == "multiplier":
        _add_edge_line(figure, np.array([0.0, 1e12]), np.ones(2), "|μ| = 1", theme)
        _add_edge_label(figure, 0.0, 1.0, "edge", theme)
    if alone and quantity == "eigenvalues":
        _add_smaller(figure, items[0][2], most, items[0][1], theme)
        _add_edge(figure, items[0][2], scale, theme)
    for label, index, result in items:
        if quantity == "multiplier" and result.swing.size:
            _add_swing(figure, label, index, result, theme)
        _add_line(figure, label, index, result, followed, scale, theme)
    if not alone:
        ends = [
            (last_finite(v), run_name(label, index, theme))
            for v, (label, index, _) in zip(values, items, strict=True)
        ]
        add_end_labels(figure, ends, axis)
    figure.update_xaxes(step_axis(max(float(r.step[-1]) for _, _, r in items)))
    figure.update_yaxes(axis)
    add_selected_step(figure, selected, theme)
    return figure


def _beside(curvature: Curvature, quantity: str, most: int) -> list[np.ndarray]:
    """What else must fit on the value axis of a single run."""
    if quantity == "multiplier":
        return [np.ones(1), curvature.swing]
    if quantity != "eigenvalues":
        return []
    return [curvature.eigenvalues[:, 1:most], curvature.edge_level]


def _bar_ends(items: Items[Curvature], followed: Followed) -> list[np.ndarray]:
    """Where the bars end; of a bar longer than its value, the upper end only."""
    ends = []
    for _, _, curvature in items:
        values = followed.values(curvature)
        error = followed.error(curvature) if followed.error else np.zeros(len(values))
        short = np.abs(error) < np.abs(values)
        ends += [values + error, np.where(short, values - error, values)]
    return ends


def _add_line(
    figure: go.Figure,
    label: str,
    index: int,
    curvature: Curvature,
    followed: Followed,
    scale: str,
    theme: str,
) -> None:
    run, values = palette.run_color(index), followed.values(curvature)
    shade, ground = run.on(theme), palette.tokens(theme).surface
    error = np.nan_to_num(followed.error(curvature)) if followed.error else np.zeros(len(values))
    loose = np.zeros(len(values), bool)
    if followed.of_pairs and curvature.converged.size:
        loose = ~curvature.converged
    told = [
        (f"<br>{followed.error_name} {e:.2g}" if e > 0 else "")
        + ("<br>not converged" if rough else "")
        for e, rough in zip(error, loose, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=curvature.step,
            y=values,
            mode="lines+markers",
            line={"color": shade, "width": 1.8, "dash": run.plotly_dash},
            marker={
                "symbol": run.marker,
                "size": 7,
                "opacity": 1,
                "color": [ground if rough else shade for rough in loose],
                "line": {"color": shade, "width": 1.4},
            },
            error_y={
                "type": "data",
                "array": error,
                "arrayminus": np.minimum(error, 0.999 * np.abs(np.nan_to_num(values)))
                if scale == "log"
                else error,
                "thickness": 1.2,
                "width": 0,
                "color": shade,
            },
            customdata=told,
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + f"step %{{x:,.0f}}<br>{followed.symbol} = %{{y:.4~g}}%{{customdata}}"
                "<extra></extra>"
            ),
            name=label or followed.title,
        )
    )


def _add_swing(figure: go.Figure, label: str, index: int, curvature: Curvature, theme: str) -> None:
    """The multiplier of the largest curvature along the step, dotted."""
    figure.add_trace(
        go.Scatter(
            x=curvature.step,
            y=curvature.swing,
            mode="lines",
            line={"color": palette.run_color(index).on(theme), "width": 1.4, "dash": "2px,2px"},
            hovertemplate=(
                (f"{label}<br>" if label else "")
                + "step %{x:,.0f}<br>swing |μ| = %{y:.4~g}<extra></extra>"
            ),
            name="swing",
        )
    )


def _add_smaller(
    figure: go.Figure, curvature: Curvature, most: int, index: int, theme: str
) -> None:
    """The eigenvalues below the largest, faint, under it."""
    shade = palette.translucent(palette.run_color(index).on(theme), 0.4)
    for k in range(min(most, curvature.eigenvalues.shape[1]) - 1, 0, -1):
        figure.add_trace(
            go.Scatter(
                x=curvature.step,
                y=curvature.eigenvalues[:, k],
                mode="lines",
                line={"color": shade, "width": 1},
                hovertemplate=(
                    f"step %{{x:,.0f}}<br>λ<sub>{k + 1}</sub> = %{{y:.4~g}}<extra></extra>"
                ),
                name=f"λ{k + 1}",
            )
        )


def _add_edge(figure: go.Figure, curvature: Curvature, scale: str, theme: str) -> None:
    """The edge of stability as a staircase."""
    step, level = curvature.edge_step, curvature.edge_level
    known = np.flatnonzero(np.isfinite(level))
    if not known.size:
        return
    label, first = curvature.edge_label, int(known[0])
    _add_edge_line(figure, step, level, label, theme)
    height = float(np.log10(level[first])) if scale == "log" else float(level[first])
    _add_edge_label(figure, float(step[first]), height, label, theme)


def _add_edge_label(figure: go.Figure, x: float, y: float, text: str, theme: str) -> None:
    figure.add_annotation(
        x=x,
        y=y,
        text=text,
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
        xshift=4,
        yshift=2,
        borderpad=1,
        bgcolor=palette.tokens(theme).surface,  # where the line climbs through it
        font={"size": 11, "color": palette.tokens(theme).warn},
    )


def _add_edge_line(
    figure: go.Figure, steps: np.ndarray, edge: np.ndarray, label: str, theme: str
) -> None:
    warn = palette.tokens(theme).warn
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=edge,
            mode="lines" if np.isfinite(edge).sum() > 1 else "markers",
            marker={"symbol": "line-ew-open", "size": 14, "color": warn},
            line={"color": warn, "width": 1.3, "dash": EDGE_DASH, "shape": "hv"},
            hovertemplate=(
                f"step %{{x:,.0f}}<br>edge of stability {label}: %{{y:.4~g}}<extra></extra>"
            ),
            name="edge",
        )
    )
