"""The panel of eigenvalues through training on paper, with edges of stability."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.paper_axes import signed_limits, size_of, value_limits
from landscape.figures.paper_edges import draw_edge
from landscape.figures.paper_panels import (
    Frame,
    Label,
    Run,
    draw_line,
    leading,
    run_ends,
    run_names,
)
from landscape.figures.paper_style import Venue
from landscape.figures.scales import choose_scale, finite_range
from landscape.figures.summaries import edge_segments, last_finite

_WIDE = 100.0
"""From how many times the median on the largest |λ| asks for a signed log axis."""


def _lowest(items: Sequence[Run]) -> np.ndarray:
    """The lowest eigenvalue of a single run, where it was measured."""
    return items[0][2].lowest if len(items) == 1 else np.empty(0)


def eigenvalue_names(items: Sequence[Run], most: int) -> list[str]:
    """What stands at the right of the eigenvalue panel."""
    if len(items) > 1:
        return run_names(items, most)
    return [r"$\lambda_{\min}$" if np.isfinite(_lowest(items)).any() else r"$\lambda_1$"]


def draw_eigenvalue_panel(axes: Axes, items: Sequence[Run], frame: Frame) -> list[Label]:
    """The largest eigenvalues, the lowest of a single run, and the edges; gives the end labels."""
    alone, lowest = len(items) == 1, _lowest(items)
    rows = [run.eigenvalues[:, : frame.most if alone else 1] for _, _, run in items]
    edges = [run.edge_level for _, _, run in items]
    _eigenvalue_axis(axes, [*rows, lowest], edges, frame)
    labels = run_ends(items, [leading(run) for _, _, run in items])
    if alone:
        labels = _draw_smaller(axes, items[0], rows[0], lowest)
    for _, index, run in items:
        draw_line(axes, run, leading(run), index, of_pairs=True)
    axes.set_ylabel(r"eigenvalue $\lambda$" if alone else r"largest eigenvalue $\lambda_1$")
    lines = [(run.step, row) for (_, _, run), r in zip(items, rows, strict=True) for row in r.T]
    _draw_edges(axes, items, lines, frame)
    return labels


def _lift(axes: Axes, venue: Venue) -> None:
    """Make room for a label above the highest line."""
    share = 1 + 1.2 * venue.ticks / size_of(axes)[1]
    scale = axes.yaxis.get_transform()
    ends = scale.transform(np.array(axes.get_ylim()))
    top = scale.inverted().transform(ends[:1] + share * np.diff(ends))
    axes.set_ylim(axes.get_ylim()[0], float(top[0]))


def _eigenvalue_axis(
    axes: Axes, values: list[np.ndarray], edges: list[np.ndarray], frame: Frame
) -> None:
    values, scale = [*values, *edges], frame.scale
    flat = np.concatenate([v.ravel() for v in values])
    flat = flat[np.isfinite(flat)]
    if scale is None and flat.size and flat.min() < 0:
        sizes = np.abs(flat[flat != 0])
        scale = "symlog" if sizes.max() > _WIDE * np.median(sizes) else "linear"
    if scale != "symlog":
        scale = choose_scale(scale, [flat])
        value_limits(axes, *finite_range([flat], scale, frame.limits), scale)
    else:
        signed_limits(axes, *finite_range([flat], "linear", frame.limits), flat)
    if any(np.isfinite(edge).any() for edge in edges):
        _lift(axes, frame.sizes)
    if axes.get_ylim()[0] < 0:
        axes.axhline(0, color=palette.LIGHT.zero, lw=0.5, zorder=1.1)


def _draw_smaller(axes: Axes, item: Run, rows: np.ndarray, lowest: np.ndarray) -> list[Label]:
    """The smaller eigenvalues of a single run, faint, and its lowest one."""
    _, index, run = item
    shade = palette.run_color(index).light
    labels: list[Label] = [(last_finite(leading(run)), r"$\lambda_1$", None)]
    dot: Any = {"marker": "o", "ms": 1.8} if len(run.step) == 1 else {}
    for k in range(rows.shape[1] - 1, 0, -1):
        axes.plot(run.step, rows[:, k], color=shade, alpha=0.4, lw=0.6, ls="solid", zorder=2, **dot)
    if rows.shape[1] > 1:
        labels.append((last_finite(rows[:, -1]), rf"$\lambda_{{{rows.shape[1]}}}$", None))
    if lowest.size:
        axes.plot(run.step, lowest, color=shade, lw=0.8, ls=(0, (1, 1.2)), zorder=2.2, **dot)
        labels.append((last_finite(lowest), r"$\lambda_{\min}$", None))
    return labels


def _draw_edges(axes: Axes, items: Sequence[Run], lines: Any, frame: Frame) -> None:
    """The edges of all runs, equal ones once; several are told apart by their runs' names."""
    found: list[tuple[str, str, list[np.ndarray]]] = []
    for label, _, run in items:
        segments = edge_segments(run, frame.last)
        if segments and not any(_alike(segments, known) for _, _, known in found):
            found.append((label, run.edge_label, segments))
    taken = []
    everything = [(p[:, 0], p[:, 1]) for _, _, segments in found for p in segments]
    lines = [*lines, *everything]
    for name, label, segments in sorted(found, key=lambda edge: -float(edge[2][0][0, 1])):
        told = f"{label}, {name}" if len(found) > 1 and name else label
        box = draw_edge(axes, segments, told, lines, frame.sizes, taken)
        taken += [box] if box else []


def _alike(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    same = len(some) == len(others)
    return same and all(
        a.shape == b.shape and np.allclose(a, b) for a, b in zip(some, others, strict=True)
    )
