"""Agreement of directions layer by layer on the screen, with the layers' shares of ε."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.layer_agreement import Agreement, agreement_of
from landscape.figures.numbers import count, short
from landscape.figures.scales import nice_ticks
from landscape.figures.screen_layers import layered_figure
from landscape.figures.template import add_color_bar
from landscape.results import Consistency

_MAP, _BARS = (0.0, 0.72), (0.77, 1.0)


def plot_tensors(
    results: Consistency | Sequence[Consistency],
    *,
    by: str | None = None,
    limit: float | None = None,
    selected: float | None = None,
    theme: str = "light",
    color: int = 0,
    bar: bool = False,
) -> go.Figure:
    """Draw the mean pairwise cosine of each layer over checkpoints, and its share of ‖ε‖².

    The colors are symmetric about 0. A dot in a cell says that its cosine lies within the central
    95 % of random sign flips. The bars are of the selected checkpoint, else of the last.

    Args:
        results: One perturbation at checkpoints.
        by: "tensor", "block", or None for tensors while they are few.
        limit: Largest |cosine| of the color scale.
        selected: Step to mark.
        theme: "light" or "dark".
        color: Color index of the bars.
        bar: Whether to add the color bar.

    Raises:
        ValueError: If no layer was measured.
    """
    found = agreement_of([results] if isinstance(results, Consistency) else results, by)
    at = _selected(found, selected)
    top = cosine_limit(found) if limit is None else limit
    figure = layered_figure(theme, found.names)
    figure.add_trace(_cells(found, top, theme))
    figure.add_trace(_dots(found, theme))
    figure.add_trace(_bars(found, at, theme, color))
    columns = np.arange(len(found.step))
    stride = max(1, int(np.ceil(len(columns) / 6)))
    figure.update_xaxes(
        domain=_MAP,
        range=[-0.5, len(columns) - 0.5],
        tickvals=columns[::stride],
        ticktext=[count(s) for s in found.step[::stride]],
        title_text="step of the checkpoint",
        showgrid=False,
        mirror=True,
    )
    figure.update_layout(xaxis2=_bar_axis(found.share[at]))
    if selected is not None and selected in found.step:
        line = {"color": palette.tokens(theme).text, "width": 1.4}
        ends = {"x0": at - 0.5, "x1": at + 0.5, "y0": 0, "y1": 1}
        figure.add_shape(type="rect", yref="y domain", line=line, **ends)
    marks = [[(t + top) / (2 * top), short(t)] for t in nice_ticks(-top, top, 4).tolist()]
    figure.update_layout(meta={"limits": [-top, top], "scale": "linear", "bar": marks})
    if bar:
        add_color_bar(figure, "cosines", (-top, top), marks, "mean cosine", theme)
    return figure


def cosine_limit(*found: Agreement) -> float:
    """The largest |mean cosine| of several maps: their common color scale."""
    sizes = np.concatenate([np.abs(agreement.cosine).ravel() for agreement in found])
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.max(initial=0.0)) or 1.0


def _selected(found: Agreement, selected: float | None) -> int:
    here = np.flatnonzero(found.step == selected) if selected is not None else np.empty(0, int)
    return int(here[0]) if len(here) else len(found.step) - 1


def _cells(found: Agreement, top: float, theme: str) -> go.Heatmap:
    steps = np.broadcast_to(found.step[:, None], found.cosine.shape)
    return go.Heatmap(
        x=np.arange(len(found.step)),
        y=np.arange(len(found.names)),
        z=found.cosine.T,
        customdata=np.stack([steps, found.null, found.share], axis=-1).transpose(1, 0, 2),
        text=np.tile(np.array(found.names)[:, None], (1, len(found.step))),
        zmin=-top,
        zmax=top,
        xgap=1,
        ygap=1,
        colorscale=palette.gradient_stops(palette.TIDE_STOPS[theme]),
        showscale=False,
        hoverongaps=False,
        hovertemplate=(
            "%{text}<br>step %{customdata[0]:,.0f}<br>mean cosine %{z:.3f}"
            "<br>null ±%{customdata[1]:.2~g}<br>%{customdata[2]:.1%} of ‖ε‖²<extra></extra>"
        ),
        name="cosines",
    )


def _dots(found: Agreement, theme: str) -> go.Scatter:
    within = np.argwhere(np.abs(found.cosine) < found.null)
    return go.Scatter(
        x=within[:, 0],
        y=within[:, 1],
        mode="markers",
        marker={"size": 3.5, "color": palette.tokens(theme).muted},
        hoverinfo="skip",
        name="within the null",
    )


def _bars(found: Agreement, at: int, theme: str, color: int) -> go.Bar:
    shade = palette.run_color(color).on(theme)
    return go.Bar(
        x=found.share[at],
        y=np.arange(len(found.names)),
        orientation="h",
        xaxis="x2",
        width=0.7,
        marker={"color": palette.translucent(shade, 0.6), "line": {"width": 0}},
        text=list(found.names),
        textposition="none",
        hovertemplate=(
            f"%{{text}}<br>step {count(found.step[at])}<br>%{{x:.1%}} of ‖ε‖²<extra></extra>"
        ),
        name="shares",
    )


def _bar_axis(share: np.ndarray) -> dict:
    top = float(np.nanmax(share, initial=0.0)) * 1.05 or 1.0
    ticks = nice_ticks(0.0, top, 2)[[0, -1]]
    return {
        "domain": _BARS,
        "anchor": "y",
        "range": [0, top],
        "tickvals": ticks,
        "ticktext": [f"{short(100 * t)} %" for t in ticks.tolist()],
        "tickangle": 0,
        "title": {"text": "share of ‖ε‖²"},
    }
