"""Differences between two groups of runs, on the screen: a row for each scalar."""

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.comparison_words import (
    difference_words,
    reach_of,
    scalar_label,
    verdict_words,
)
from landscape.figures.template import new_figure, zero_line
from landscape.results import Comparison


def plot_comparison(comparison: Comparison, *, theme: str = "light", color: int = 0) -> go.Figure:
    """Draw a row for each scalar: difference, 95 % interval, and the margin as a band.

    Each row has its own unit: lengths are in shares of its reach, true numbers in words.

    Args:
        comparison: What was compared.
        theme: "light" or "dark".
        color: Color index of the rows.
    """
    figure, run = new_figure(theme, "maps"), palette.run_color(color)
    rows = range(len(comparison.names))
    reach = reach_of(comparison)
    for row, margin in zip(rows, comparison.margin / reach, strict=True):
        if np.isfinite(margin):
            shade = palette.translucent(palette.tokens(theme).ok, 0.2)
            ends = {"x0": -margin, "x1": margin, "y0": row - 0.3, "y1": row + 0.3}
            figure.add_shape(type="rect", fillcolor=shade, line_width=0, layer="below", **ends)
    middle = comparison.difference / reach
    ends = (comparison.interval_low / reach, comparison.interval_high / reach)
    figure.add_trace(
        go.Scatter(
            x=middle,
            y=[*rows],
            mode="markers",
            error_x={"array": ends[1] - middle, "arrayminus": middle - ends[0], "thickness": 1.5},
            marker={"symbol": run.marker, "size": 8, "color": run.on(theme)},
            customdata=[_told(comparison, i) for i in rows],
            hovertemplate="%{customdata}<extra></extra>",
            name="difference",
        )
    )
    labels = [f"{scalar_label(comparison, i)}<br>{_difference(comparison, i)}" for i in rows]
    figure.update_yaxes(tickvals=[*rows], ticktext=labels, autorange="reversed", automargin=True)
    title = " − ".join(comparison.labels or ("A", "B")) + ", each row in its own unit"
    figure.update_xaxes(title_text=title, range=[-1.1, 1.1], tickvals=[0], **zero_line(theme))
    return figure


def _difference(comparison: Comparison, i: int) -> str:
    return "{} ({})".format(*difference_words(comparison, i))


def _told(comparison: Comparison, i: int) -> str:
    return (
        f"{scalar_label(comparison, i)}<br>{_difference(comparison, i)}<br>"
        f"{verdict_words(comparison, i)}"
    )
