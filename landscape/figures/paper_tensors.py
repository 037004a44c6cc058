"""Agreement of directions layer by layer on paper, with the layers' shares of ε."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.layer_agreement import Agreement, agreement_of
from landscape.figures.measure_lines import groups_of
from landscape.figures.numbers import count, short
from landscape.figures.paper_axes import add_color_bar, set_ticks, tide_map
from landscape.figures.paper_layers import layer_rows, name_rows
from landscape.figures.paper_lines import title_panels
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.scales import nice_ticks

_SHARES, _GAP, _BAR = 0.22, 0.04, 0.62
"""Width of the bars of shares as part of a map's, and gaps in inches at 8 pt."""


def draw_tensors(
    runs: Any, *, by: str | None = None, venue: str = "icml", color: int = 0
) -> PaperFigure:
    """Draw the mean pairwise cosine of each layer over checkpoints, and its share of ‖ε‖².

    One map for each perturbation, on one scale symmetric about 0. A dot: within the central 95 %
    of random sign flips. The bars are of the last checkpoint.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each perturbation.
        by: "tensor", "block", or None for tensors while they are few.
        venue: Whose widths and type to use.
        color: Color index of a single run.

    Raises:
        ValueError: If no layer was measured.
    """
    sizes = venue_of(venue)
    measured = [
        (label, index, [r for r in group if r.layer_products.size])
        for label, index, group in groups_of(runs, color)
    ]
    shown = [(label, i, agreement_of(group, by)) for label, i, group in measured if group]
    if not shown:
        raise ValueError("directions must be measured layer by layer, got none")
    top = max(float(np.nanmax(np.abs(found.cosine), initial=0.0)) for _, _, found in shown) or 1.0
    names = shown[0][2].names
    width, scale = (sizes.column if len(shown) == 1 else sizes.text), sizes.scale
    rows = layer_rows(names, sizes, width)
    below, above, beside, apart = (x * scale for x in (0.36, 0.2, _BAR, 0.16))
    figure = PaperFigure(width, rows.height + below + above, sizes)
    each = (width - rows.left - beside - apart * (len(shown) - 1)) / len(shown)
    with figure.style():
        maps = []
        for i, (_, index, found) in enumerate(shown):
            left = rows.left + i * (each + apart)
            wide = each * (1 - _SHARES) - _GAP * scale
            axes = figure.place(left, below, wide, rows.height)
            _map(axes, found, top)
            name_rows(axes, rows)
            bars = figure.place(left + each * (1 - _SHARES), below, each * _SHARES, rows.height)
            _bars(bars, found, index)
            if i:
                axes.set_yticklabels([])
            maps.append(axes)
        title_panels(maps, [label for label, _, _ in shown], sizes)
        place = figure.place(width - beside + 0.1 * scale, below, 0.085 * scale, rows.height)
        ticks = [(float(tick), short(float(tick))) for tick in nice_ticks(-top, top, 4)]
        add_color_bar(figure, place, (-top, top), tide_map(), ticks, "mean cosine")
    return figure


def _map(axes: Axes, found: Agreement, top: float) -> None:
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_facecolor(palette.LIGHT.diverged)
    size = len(found.step)
    axes.imshow(
        np.ma.masked_invalid(found.cosine.T),
        cmap=tide_map(),
        vmin=-top,
        vmax=top,
        aspect="auto",
        interpolation="none",
    )
    within = np.argwhere(np.abs(found.cosine) < found.null)
    axes.plot(within[:, 0], within[:, 1], ".", ms=1.8, color=palette.LIGHT.muted, gid="null")
    stride = max(1, int(np.ceil(size / 4)))
    at = np.arange(size)[::-1][::stride][::-1]
    set_ticks(axes.xaxis, at, [count(float(step)) for step in found.step[at]])
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_xlabel("step")


def _bars(axes: Axes, found: Agreement, index: int) -> None:
    shade = palette.run_color(index).light
    axes.barh(np.arange(len(found.names)), found.share[-1], 0.7, color=shade, alpha=0.6, lw=0)
    axes.set_ylim(len(found.names) - 0.5, -0.5)
    axes.set_yticks([])
    top = float(np.nanmax(found.share[-1], initial=0.0)) * 1.05 or 1.0
    axes.set_xlim(0, top)
    last = float(nice_ticks(0, top, 2)[-1])
    set_ticks(axes.xaxis, np.array([0.0, last]), ["", f"{short(100 * last)} %"])
    axes.set_xlabel("of ‖ε‖²")
