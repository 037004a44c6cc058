"""Whether ε climbs on the screen: loss rises, their transfer between batches, curvature along ε."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.measure_lines import (
    Panel,
    groups_of,
    places_of,
    radii_of,
    radius_text,
    rise_panel,
    rise_rows,
    steep_panel,
    steep_rows,
    steep_words,
)
from landscape.figures.numbers import short
from landscape.figures.scales import nice_ticks
from landscape.figures.screen_lines import plot_columns, plot_panel
from landscape.figures.template import add_color_bar, add_key, new_figure
from landscape.results import Rise

PARTS = ("rise", "transfer", "curvature")


def plot_rise(
    runs: Any,
    *,
    part: str = "rise",
    place: str | None = None,
    radius: float = float("nan"),
    quantity: str = "share",
    limit: float | None = None,
    color: int = 0,
    theme: str = "light",
    bar: bool = False,
    **style: Any,
) -> go.Figure:
    """Draw the loss rise that ε causes, or where ε lies among the eigenvectors.

    Over checkpoints, points are means over batches with 95 % t-intervals. A single result is drawn
    batch by batch.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        part: "rise" for the true rise and that to first order; "transfer" for the rise on each
            batch by the ε of each other, of one result; "curvature" for ε among the eigenvectors
            of the Hessian, beside the gradient of the same batch.
        place: Whose loss: "same batch", "another batch", "test batch"; by default the first. Panels
            of all places have equal axes.
        radius: Length of ε, one of those measured; NaN for its own.
        quantity: Of the curvature: "share" of ε² in the eigenvectors found, "cosine" to the first,
            "rayleigh" for uᵀHu over λ₁.
        limit: Largest |rise| of the color scale of a transfer matrix.
        color: Color index of a single run.
        theme: "light" or "dark".
        bar: Whether a transfer matrix gets a color bar; a page draws its own.
        style: Further keywords of `plot_panel`.

    Raises:
        ValueError: If there is no such part, place or quantity, or it was measured nowhere.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if part == "transfer":
        return _transfer(runs, limit, theme, bar)
    if isinstance(runs, Rise):
        columns = _rise_columns if part == "rise" else _steep_columns
        return columns(runs, radius if part == "rise" else quantity, theme, color)
    groups = groups_of(runs, color)
    if part == "curvature":
        return _drawn(steep_panel(groups, quantity), theme, style)
    place = place if place is not None else next(iter(places_of(groups)), "same batch")
    if not any(radius == r or (np.isnan(radius) and np.isnan(r)) for r in radii_of(groups)):
        known = ", ".join(short(r) for r in radii_of(groups)[1:])
        raise ValueError(f"radius must be NaN or one of those measured, {known}; got {radius}")
    return _drawn(rise_panel(groups, place, radius), theme, style)


def _drawn(panel: Panel, theme: str, style: dict[str, Any]) -> go.Figure:
    if not panel.known:
        raise ValueError(f"{panel.title.lower()}: must be measured, got none")
    return plot_panel(panel, theme=theme, **style)


def _rise_columns(result: Rise, radius: Any, theme: str, color: int) -> go.Figure:
    columns = [
        (place, rise_rows(result, place, radius)[at], at == 1)
        for place in result.places
        for at in (0, 1)
    ]
    key = f"{radius_text(radius)}; filled: true, hollow: to first order"
    return plot_columns(columns, "L(w + ε) − L(w), nats", key=key, theme=theme, color=color)


def _steep_columns(result: Rise, quantity: Any, theme: str, color: int) -> go.Figure:
    _, axis = steep_words([("", color, [result])], quantity)
    own, gradient = steep_rows(result, quantity)
    if not own.size:
        raise ValueError("eigenvectors must be measured, got none")
    columns = [("ε", own, False), ("gradient of its batch", gradient, True)]
    return plot_columns(columns, axis, theme=theme, color=color)


def transfer_limit(*results: Rise) -> float:
    """The largest finite |rise| of several transfer matrices: their common color scale."""
    sizes = np.concatenate([np.abs(result.transfer).ravel() for result in results] or [np.empty(0)])
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.max(initial=0.0)) or 1.0


def _transfer(result: Any, limit: float | None, theme: str, bar: bool) -> go.Figure:
    if not isinstance(result, Rise) or not result.transfer.size:
        raise ValueError("a transfer matrix is of one result that has one; draw them one by one")
    top = transfer_limit(result) if limit is None else limit
    at = np.arange(1, len(result.transfer) + 1)
    figure = new_figure(theme, "maps")
    figure.add_trace(
        go.Heatmap(
            x=at,
            y=at,
            z=np.where(np.isfinite(result.transfer), result.transfer, np.nan),
            zmin=-top,
            zmax=top,
            colorscale=palette.gradient_stops(palette.TIDE_STOPS[theme]),
            showscale=False,
            hoverongaps=False,
            hovertemplate=(
                "ε of batch %{y}, loss of batch %{x}<br>rise %{z:.3~g} nats<extra></extra>"
            ),
            name="transfer",
        )
    )
    ends = [0.5, len(at) + 0.5]
    shared = {"mirror": True, "showgrid": False, "constrain": "domain", "nticks": 6}
    figure.update_xaxes(range=ends, title_text="loss of batch", **shared)
    figure.update_yaxes(range=ends[::-1], title_text="ε of batch", scaleanchor="x", **shared)
    marks = [[(t + top) / (2 * top), short(t)] for t in nice_ticks(-top, top, 4).tolist()]
    figure.update_layout(meta={"limits": [-top, top], "scale": "linear", "bar": marks})
    if bar:
        add_color_bar(figure, "transfer", (-top, top), marks, "rise, nats", theme)
        add_key(figure, "ε as trained", theme)
    return figure
