"""How samples count and what ε is made of, on the screen."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.measure_lines import (
    component_panel,
    groups_of,
    probability_shares,
    share_panel,
)
from landscape.figures.numbers import count
from landscape.figures.screen_lines import plot_panel
from landscape.figures.template import add_key, new_figure, value_axis
from landscape.results import Consistency


def plot_shares(runs: Any, *, color: int = 0, theme: str = "light", **style: Any) -> go.Figure:
    """Draw which share of a batch's samples counts effectively: (Σ s)² / (n Σ s²).

    Samples weigh by s = 1 − p where the cross-entropy is followed, by p for AACE, p the probability
    of the true class. 1 says that all count alike.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        color: Color index of a single run.
        theme: "light" or "dark".
        style: Further keywords of `plot_panel`.

    Raises:
        ValueError: If it was measured nowhere.
    """
    panel = share_panel(groups_of(runs, color))
    if not panel.known:
        raise ValueError("the effective share must be measured, got none")
    figure = plot_panel(panel, theme=theme, **style)
    figure.update_yaxes(value_axis(0.0, 1.0, "linear", panel.axis))
    return figure


def plot_components(
    runs: Any, *, part: str = "components", color: int = 0, theme: str = "light", **style: Any
) -> go.Figure:
    """Draw what ε is made of, over checkpoints.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        part: "components" for the cosine of ε to each of its parts, "agreement" for the mean
            pairwise cosine of each part alone, "radial" for the cosine to the weights, "gradient"
            for that to the task-loss gradient of the batch and of all data.
        color: Color index of a single run.
        theme: "light" or "dark".
        style: Further keywords of `plot_panel`.

    Raises:
        ValueError: If there is no such part, or it was measured nowhere.
    """
    panel = component_panel(groups_of(runs, color), part)
    if not panel.known:
        raise ValueError(f"the {part} of ε must be measured, got none")
    return plot_panel(panel, theme=theme, **style)


def plot_probability(
    result: Consistency, *, theme: str = "light", color: int = 0, named: bool = True
) -> go.Figure:
    """Draw the histogram of the probability of the true class, over all samples of all batches.

    The axis of shares is logarithmic: late in training few samples carry the cross-entropy.

    Args:
        result: With probabilities.
        theme: "light" or "dark".
        color: Color index of the run.
        named: Whether the numbers of samples and batches stand above.

    Raises:
        ValueError: If they were not measured.
    """
    if not result.true_probability.size:
        raise ValueError("probabilities of the true class must be measured, got none")
    share, edges, total = probability_shares(result)
    shade = palette.run_color(color).on(theme)
    figure = new_figure(theme, "curves")
    figure.add_trace(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.where(share > 0, share, np.nan),
            width=np.diff(edges),
            marker={
                "color": palette.translucent(shade, 0.55),
                "line": {"color": shade, "width": 1},
            },
            customdata=np.stack([edges[:-1], edges[1:], share * total], axis=-1),
            hovertemplate=(
                "p %{customdata[0]:.2f} to %{customdata[1]:.2f}<br>%{y:.3~g} of all samples"
                "<br>%{customdata[2]:,.0f} samples<extra></extra>"
            ),
            name="probabilities",
        )
    )
    axis = value_axis(max(0.5 / max(total, 1), 1e-6), 1.0, "log", "share of samples")
    figure.update_xaxes(range=[0, 1], title_text="probability of the true class", nticks=6)
    figure.update_yaxes(axis)
    if named:
        text = f"{count(total)} samples of {count(len(result.step))} batches"
        add_key(figure, text, theme)
    return figure
