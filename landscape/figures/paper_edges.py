"""Edges of stability on paper: dashed, with their formula on the line."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.paper_axes import size_of, text_width
from landscape.figures.paper_style import Venue

Line = tuple[np.ndarray, np.ndarray]
Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in axes fractions."""
_WARN = palette.LIGHT.warn
_PLACES = 16
_UP = 2.0  # points between line and label


def draw_edge(
    axes: Axes,
    segments: Sequence[np.ndarray],
    label: str,
    lines: Sequence[Line],
    venue: Venue,
    taken: Sequence[Box] = (),
) -> Box | None:
    """Draw an edge and write its label where it covers no line.

    Args:
        axes: The plot, its limits set.
        segments: Staircases (step, λ) [points, 2].
        label: What it is the edge of; where it is too long, "edge of stability".
        lines: (x, y) of the lines that the label must keep clear of.
        venue: Whose type to use.
        taken: Where other labels stand, in axes fractions.

    Returns:
        Where the label stands, or None where there is no edge.
    """
    for points in segments:
        axes.plot(*points.T, color=_WARN, lw=0.9, ls=(0, (4, 2)), zorder=2.6, gid="edge")
    if not segments:
        return None
    width, _ = size_of(axes)
    if not label or text_width(label, venue.ticks) > 0.9 * width:
        label = "edge of stability"
    edges: list[Line] = [(points[:, 0], points[:, 1]) for points in segments]
    box = _free_place(axes, segments, label, [*lines, *edges], venue, taken)
    axes.annotate(
        label,
        ((box[0] + box[2]) / 2, box[1]),
        xycoords="axes fraction",
        ha="center",
        va="bottom",
        color=_WARN,
        fontsize=venue.ticks,
        zorder=4,
    )
    return box


def draw_level(axes: Axes, at: float, label: str, lines: Sequence[Line], venue: Venue) -> None:
    """Draw an edge that is the same at all steps."""
    draw_edge(axes, [np.array([(x, at) for x in axes.get_xlim()])], label, lines, venue)


def _free_place(
    axes: Axes,
    segments: Sequence[np.ndarray],
    label: str,
    lines: Sequence[Line],
    venue: Venue,
    taken: Sequence[Box],
) -> Box:
    """Where the label stands: just above or below the edge, where it covers least."""
    width, height = size_of(axes)
    half = (text_width(label, venue.ticks) / 2 + 2) / width
    tall, up = 1.05 * venue.ticks / height, _UP / height
    spots = np.concatenate([_sampled(axes, np.stack(line, axis=-1)) for line in lines])
    pieces = np.concatenate([_sampled(axes, points) for points in segments])
    pieces = pieces[(pieces[:, 1] >= 0) & (pieces[:, 1] <= 1)]
    best, least = (0.5 - half, 0.5, 0.5 + half, 0.5 + tall), np.inf
    for x in np.linspace(half, max(1 - half, half), _PLACES):
        near = pieces[np.abs(pieces[:, 0] - x) <= half]
        if not len(near):
            continue
        for y in (float(near[:, 1].max()) + up, float(near[:, 1].min()) - up - tall):
            box = (float(x) - half, y, float(x) + half, y + tall)
            inside = (spots > box[:2]) & (spots < box[2:])
            hits = int(inside.all(axis=1).sum())
            hits += 1000 * (sum(_overlap(box, other) for other in taken) + (y < 0 or box[3] > 1.02))
            if hits < least:
                best, least = box, hits
    return best


def _overlap(box: Box, other: Box) -> bool:
    return all(box[i] < other[i + 2] and other[i] < box[i + 2] for i in (0, 1))


def _sampled(axes: Axes, points: np.ndarray) -> np.ndarray:
    """Points along a line, close together, in axes fractions [points, 2]; gaps are left out."""
    to_axes = axes.transData + axes.transAxes.inverted()
    with np.errstate(invalid="ignore", divide="ignore"):
        placed = to_axes.transform(np.asarray(points, dtype=float))
    if len(placed) < 2:
        return placed[np.isfinite(placed).all(axis=1)]
    share = np.linspace(0, 1, 25)[:, None, None]
    between = (1 - share) * placed[:-1] + share * placed[1:]
    flat = between.reshape(-1, 2)
    return flat[np.isfinite(flat).all(axis=1)]
