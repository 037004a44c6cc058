"""How samples count and what ε is made of, on paper."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.measure_lines import (
    COMPONENTS,
    component_panel,
    groups_of,
    probability_shares,
    share_panel,
)
from landscape.figures.numbers import count
from landscape.figures.paper_axes import set_ticks, value_limits, with_math
from landscape.figures.paper_lines import draw_key, draw_panel, panel_row, title_panels
from landscape.figures.paper_rise import draw_panels
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.scales import nice_ticks
from landscape.results import Consistency


def draw_shares(
    runs: Any,
    *,
    venue: str = "icml",
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw the effective share of a batch's samples over checkpoints, and the probabilities.

    The histogram is of the last checkpoint at which probabilities of the true class are stored.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        venue: Whose widths and type to use.
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.

    Raises:
        ValueError: If the share was measured nowhere.
    """
    sizes, groups = venue_of(venue), groups_of(runs, color)
    panel = share_panel(groups)
    if not panel.known:
        raise ValueError("the effective share must be measured, got none")
    known = [(i, r) for _, i, group in groups for r in group if r.true_probability.size]
    figure, axes = panel_row(sizes, 2 if known else 1)
    with figure.style():
        draw_panel(axes[0], panel, drops)
        titles = [panel.title]
        if known:
            index, last = max(known, key=lambda pair: int(pair[1].step[0]))
            _histogram(axes[1], last, index)
            titles.append(with_math(f"Probabilities at step {count(last.step[0])}"))
        title_panels(axes, titles, sizes)
        draw_key(axes[0], [(label, index) for label, index, _ in groups], "", sizes)
    return figure


def _histogram(axes: Axes, result: Consistency, color: int) -> None:
    share, edges, total = probability_shares(result)
    value_limits(axes, max(0.5 / max(total, 1), 1e-6), 1.0, "log")
    shade = palette.run_color(color).light
    axes.stairs(share, edges, fill=True, color=shade, alpha=0.55, lw=0, gid="probability")
    axes.set_xlim(0, 1)
    set_ticks(axes.xaxis, nice_ticks(0, 1))
    axes.set_xlabel("probability of the true class")
    axes.set_ylabel("share of samples")


def draw_components(
    runs: Any,
    *,
    venue: str = "icml",
    parts: Sequence[str] = COMPONENTS,
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw what ε is made of over checkpoints, one panel for each aspect that was measured.

    Args:
        runs: One result, the results of one run, or (label, color, results) of each run.
        venue: Whose widths and type to use.
        parts: Of "components" (cosine of ε to its parts), "agreement" (mean pairwise cosine of each
            part alone), "radial" (cosine to the weights), "gradient" (to the task-loss gradient),
            "norms" and "relative" (‖ε‖, and as part of ‖w‖).
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.

    Raises:
        ValueError: If a part is unknown, or none was measured.
    """
    groups = groups_of(runs, color)
    panels = [component_panel(groups, part) for part in parts]
    return draw_panels(panels, groups, venue_of(venue), drops)
