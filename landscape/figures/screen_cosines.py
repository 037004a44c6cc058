"""Matrices of pairwise cosines on the screen."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.numbers import short
from landscape.figures.scales import nice_ticks
from landscape.figures.summaries import off_diagonal
from landscape.figures.template import add_color_bar, new_figure
from landscape.results import Consistency


def plot_cosines(consistency: Consistency, *, theme: str = "light", bar: bool = False) -> go.Figure:
    """Draw the matrix of pairwise cosines; the diagonal is grey and not part of the color scale.

    `figure.layout.meta` holds limits and ticks of the color bar; `bar` adds one to the figure.
    """
    size = len(consistency.cosines)
    online = len(np.unique(consistency.step)) == len(consistency.step) > 1
    at = consistency.step.astype(float) if online else np.arange(1.0, size + 1)
    unit = "step" if online else "batch"
    half = 0.5 * float(at[1] - at[0]) if len(at) > 1 else 0.5
    return cosine_map(
        consistency.cosines,
        at,
        (float(at[0]) - half, float(at[-1]) + half),
        unit,
        f"{unit}s %{{x:,.0f}} and %{{y:,.0f}}<br>cosine %{{z:.3f}}",
        theme=theme,
        bar=bar,
    )


def cosine_map(
    cosines: np.ndarray,
    at: np.ndarray,
    ends: tuple[float, float],
    unit: str,
    hover: str,
    *,
    limit: float | None = None,
    cells: Any = None,
    theme: str,
    bar: bool,
) -> go.Figure:
    """Draw a matrix of cosines as a map without its diagonal.

    Args:
        cosines: The matrix `[n, n]`.
        at: Places of its rows and columns `[n]`, or where they begin and end `[n + 1]`.
        ends: First and last place of both axes.
        unit: What places are.
        hover: What is said of a cell.
        limit: Largest |cosine| of the color scale; by default that of the matrix.
        cells: What the hover text takes from `customdata`, by cell.
        theme: "light" or "dark".
        bar: Whether to add a color bar.
    """
    matrix, largest = off_diagonal(cosines)
    limit = largest if limit is None else limit
    figure = new_figure(theme, "maps")
    figure.add_trace(
        go.Heatmap(
            x=at,
            y=at,
            z=matrix,
            zmin=-limit,
            zmax=limit,
            colorscale=palette.gradient_stops(palette.TIDE_STOPS[theme]),
            showscale=False,
            hoverongaps=False,
            customdata=cells,
            hovertemplate=f"{hover}<extra></extra>",
            name="cosines",
        )
    )
    grey = palette.tokens(theme).diverged
    figure.add_trace(
        go.Heatmap(
            x=at,
            y=at,
            z=np.where(np.eye(len(matrix), dtype=bool), 1.0, np.nan),
            colorscale=[[0, grey], [1, grey]],
            showscale=False,
            hoverongaps=False,
            hoverinfo="skip",
            name="diagonal",
        )
    )
    shared = {"mirror": True, "showgrid": False, "constrain": "domain", "nticks": 5}
    figure.update_xaxes(range=[*ends], title_text=unit, **shared)
    figure.update_yaxes(range=[*ends[::-1]], title_text=unit, scaleanchor="x", **shared)
    ticks = nice_ticks(-limit, limit, 4)
    marks = [[(float(t) + limit) / (2 * limit), short(float(t))] for t in ticks]
    figure.update_layout(meta={"limits": [-limit, limit], "scale": "linear", "bar": marks})
    if bar:
        add_color_bar(figure, "cosines", (-limit, limit), marks, "cosine", theme)
    return figure
