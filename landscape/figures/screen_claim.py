"""Statements and the effects they are judged by, on the screen: a row for each effect."""

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.claim_words import SIGNS, bound_words, effect_words, nested_words
from landscape.figures.template import new_figure, zero_line
from landscape.results import Claim


def plot_claim(claim: Claim, *, theme: str = "light", color: int = 0) -> go.Figure:
    """Draw a row for each effect: its mean over seeds, 95 % interval, and the side that supports.

    Each row has its own unit: the margin is in the middle, and lengths are in shares of the row's
    reach; true numbers are in words. "Within" has both margins.

    Args:
        claim: What was judged.
        theme: "light" or "dark".
        color: Color index of the rows.
    """
    figure, run = new_figure(theme, "maps"), palette.run_color(color)
    rows = range(len(claim.row_names))
    shade = palette.translucent(palette.tokens(theme).ok, 0.2)
    placed = [_placed(claim, i) for i in rows]
    for row, (ends, _) in zip(rows, placed, strict=True):
        sides = {"x0": ends[0], "x1": ends[1], "y0": row - 0.3, "y1": row + 0.3}
        figure.add_shape(type="rect", fillcolor=shade, line_width=0, layer="below", **sides)
    numbers = np.array([values for _, values in placed]).reshape(len(placed), 3)
    middle, low, high = numbers.T
    decided = [verdict != "undecided" for verdict in claim.row_verdicts]
    symbols = [run.marker if known else f"{run.marker}-open" for known in decided]
    figure.add_trace(
        go.Scatter(
            x=middle,
            y=[*rows],
            mode="markers",
            error_x={"array": high - middle, "arrayminus": middle - low, "thickness": 1.5},
            marker={"symbol": symbols, "size": 9, "color": run.on(theme)},
            customdata=[_told(claim, i) for i in rows],
            hovertemplate="%{customdata}<extra></extra>",
            name="effect",
        )
    )
    labels = [_label(claim, i) for i in rows]
    figure.update_yaxes(tickvals=[*rows], ticktext=labels, autorange="reversed", automargin=True)
    title = "effect beside its margin, each row in its own unit; the shaded side supports"
    figure.update_xaxes(title_text=title, range=[-1.1, 1.1], **zero_line(theme))
    figure.update_xaxes(tickvals=[0], ticktext=["margin; within: 0"])
    return figure


def _placed(claim: Claim, i: int) -> tuple[tuple[float, float], list[float]]:
    """The side that supports and mean, low and high, in shares of the row's reach."""
    statement = int(claim.row_statement[i])
    margin, relation = float(claim.margin[statement]), claim.relations[statement]
    middle = 0.0 if relation == "within" else margin
    values = np.array([claim.estimate[i], claim.interval_low[i], claim.interval_high[i]], float)
    shown = np.abs(values[np.isfinite(values)] - middle)
    reach = max([*shown.tolist(), margin if relation == "within" else 0.0]) or 1.0
    edge = margin / reach
    ends = {"above": (0.0, 1.1), "below": (-1.1, 0.0), "within": (-edge, edge)}[relation]
    return ends, ((values - middle) / reach).tolist()


def _label(claim: Claim, i: int) -> str:
    name = claim.statements[int(claim.row_statement[i])]
    return f"{name}, {claim.row_names[i]}<br>{SIGNS[claim.row_verdicts[i]]} {claim.row_verdicts[i]}"


def _told(claim: Claim, i: int) -> str:
    statement = int(claim.row_statement[i])
    mean, ends = effect_words(claim, i)
    unit = claim.units[statement]
    return (
        f"{claim.texts[statement]}<br>{claim.effects[statement]}<br>{mean} {unit} (95 % {ends}; "
        f"nested {nested_words(claim, i)})<br>supported if {bound_words(claim, statement)}: "
        f"{claim.row_verdicts[i]}<br>what would change it: {claim.changes[i]}"
    )
