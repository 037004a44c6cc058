"""Curvature through training on paper: panels over a common axis of steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.items import Items, items_of
from landscape.figures.paper_axes import add_drops, end_labels, name_room, step_limits
from landscape.figures.paper_eigenvalues import draw_eigenvalue_panel, eigenvalue_names
from landscape.figures.paper_panels import (
    Frame,
    Label,
    Run,
    direction_names,
    draw_directions,
    draw_multiplier_panel,
    draw_trace_panel,
    run_names,
)
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.scales import step_top
from landscape.results import Curvature

_FIRST, _NEXT, _GAP = 1.42, 0.95, 0.13


def draw_curvature(
    curvatures: Curvature | Items[Curvature],
    *,
    venue: str = "icml",
    panels: Sequence[str] | None = None,
    most: int = 5,
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    drops: Sequence[tuple[float, float]] = (),
    color: int = 0,
) -> PaperFigure:
    """Draw curvature at every checkpoint measured, one panel under the other.

    A hollow marker is a checkpoint at which not all residuals are within the tolerance. The edge
    of stability is drawn where there is one. Of several runs only the largest eigenvalue is shown,
    and the alignment of the perturbation that each trained with.

    Args:
        curvatures: One result, or (label, color, result) of each run.
        venue: Whose widths and type to use.
        panels: Of "eigenvalues", "trace", "alignment" (|cos| to the first eigenvector),
            "rayleigh" (Rayleigh quotients over λ1), "multiplier" (of the update map); by default
            the first two, as far as they were measured. Layers have `draw_layers`.
        most: How many eigenvalues of a single run to draw.
        scale: Of the eigenvalues: "log", "linear", "symlog", or None for log where all are
            positive.
        limits: Lowest and highest λ of that axis.
        drops: (step, lr) where the learning rate fell.
        color: Color index of a single run.

    Raises:
        ValueError: If a panel is unknown or was measured nowhere.
    """
    sizes, items = venue_of(venue), items_of(curvatures, color)
    shown = _chosen(items, panels)
    last = step_top(max((float(c.step[-1]) for _, _, c in items if len(c.step)), default=1.0))[0]
    frame = Frame(sizes, most, scale, limits, drops, last)
    room = max(name_room(_PANELS[panel].names(items, most), sizes) for panel in shown)
    factor = sizes.scale
    heights = [(_FIRST if i == 0 else _NEXT) * factor for i in range(len(shown))]
    below, above = 0.36 * factor, (0.2 if len(drops) else 0.1) * factor
    figure = PaperFigure(
        sizes.column, sum(heights) + _GAP * factor * (len(shown) - 1) + below + above, sizes
    )
    left, bottom = 0.5 * factor, below
    places = []
    for height in reversed(heights):
        places.insert(0, (left, bottom, sizes.column - left - room * factor, height))
        bottom += height + _GAP * factor
    with figure.style():
        for i, (panel, place) in enumerate(zip(shown, places, strict=True)):
            axes = figure.place(*place)
            step_limits(axes, 0, last)
            labels = _PANELS[panel].draw(axes, items, frame)
            add_drops(axes, drops, sizes) if i == 0 else _plain_drops(axes, drops)
            end_labels(axes, labels, sizes)
            if i < len(shown) - 1:
                axes.set_xticklabels([])
                axes.set_xlabel("")
            if len(shown) > 1:
                _letter(axes, "abcde"[i], left)
    return figure


def _chosen(items: Sequence[Run], panels: Sequence[str] | None) -> list[str]:
    asked = ("eigenvalues", "trace") if panels is None else panels
    for panel in asked:
        if panel not in _PANELS:
            raise ValueError(f"panels must be of {', '.join(_PANELS)}, got {panel!r}")
    known = [p for p in asked if any(_PANELS[p].known(c) for _, _, c in items)]
    missing = [p for p in asked if p not in known]
    if not known or (panels is not None and missing):
        raise ValueError(
            f"{', '.join(missing or asked)} must be measured to be drawn, got none; leave it out "
            "or measure it with `landscape curvature`"
        )
    return known


def _plain_drops(axes: Axes, drops: Sequence[tuple[float, float]]) -> None:
    for at, _ in drops:
        axes.axvline(at, color=palette.LIGHT.control, lw=0.6, ls=(0, (1, 2)), zorder=0.5)


def _letter(axes: Axes, letter: str, left: float) -> None:
    axes.annotate(
        f"({letter})",
        (0, 1),
        xycoords="axes fraction",
        xytext=(1.5 - 72 * left, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontweight="bold",
    )


@dataclass(frozen=True)
class _Panel:
    """How one panel is drawn, who is named at its right, and whether it was measured."""

    draw: Callable[[Axes, Sequence[Run], Frame], list[Label]]
    names: Callable[[Sequence[Run], int], list[str]]
    known: Callable[[Curvature], bool]


def _measured(name: str) -> Callable[[Curvature], bool]:
    return lambda run: bool(np.isfinite(getattr(run, name)).any())


_PANELS = {
    "eigenvalues": _Panel(draw_eigenvalue_panel, eigenvalue_names, lambda run: True),
    "trace": _Panel(draw_trace_panel, run_names, _measured("trace")),
    "alignment": _Panel(draw_directions("alignment"), direction_names, _measured("alignment")),
    "rayleigh": _Panel(draw_directions("rayleigh"), direction_names, _measured("rayleigh")),
    "multiplier": _Panel(draw_multiplier_panel, run_names, _measured("multiplier")),
}
