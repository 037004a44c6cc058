"""Surfaces on paper: contour maps side by side, with one color bar."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

from landscape.figures import palette
from landscape.figures.contours import Label, cut, levels_of, lines_at, place_labels
from landscape.figures.fields import Field, edges, ends, field_of, refine, scale_and_limits
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import percent, short
from landscape.figures.paper_axes import add_color_bar, basin_map, panel_title, set_ticks, size_of
from landscape.figures.paper_marks import LINE, draw_legend, draw_marks, draw_path, legend_rows
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.paths import Path, marks_of, paths_of, taken
from landscape.figures.quantities import quantity_of
from landscape.figures.scales import log_ticks, nice_ticks
from landscape.results import Surface

MOST_ACROSS = 3
_LEFT, _BOTTOM, _GAP, _WIDE_GAP, _TITLE, _TOP = 0.40, 0.34, 0.16, 0.28, 0.22, 0.06
_BAR_GAP, _BAR, _BAR_LABELS = 0.11, 0.085, 0.42
_LABEL_SIZE = 6.0


def draw_surface(
    surfaces: Surface | Items[Surface],
    *,
    venue: str = "icml",
    quantity: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    color: int | Sequence[int] = 0,
    path: bool = True,
    drops: Sequence[tuple[float, float]] = (),
) -> PaperFigure:
    """Draw surfaces as contour maps with one color scale for all.

    One surface takes a column, several the text width in rows of three. Cells that diverged are
    grey with a cross, those without a value of the quantity grey, interpolated ones have a dot, and
    those that were not evaluated are hatched. Paths of several runs on one surface are named above.

    Args:
        surfaces: One surface, or (label, color, surface) of each run.
        venue: Whose widths and type to use.
        quantity: "loss", "accuracy", "test_loss", "test_accuracy", the name of a metric,
            "lambda_max" or "convexity".
        scale: "log", "linear", or None: log for losses and eigenvalues that allow it.
        limits: Lowest and highest value of the color map.
        color: Color index of a single run, for its path; of several runs on one surface that of
            the first, or a list.
        path: Whether to draw the runs' checkpoints.
        drops: (step, lr) where the learning rate fell, marked on the paths.

    Raises:
        ValueError: If the venue is unknown, the quantity was not measured, or the limits don't fit
            the scale.
    """
    items = items_of(surfaces, color if isinstance(color, int) else 0)
    several = [] if isinstance(color, int) else list(color)
    sizes = venue_of(venue)
    scale, limits = scale_and_limits([s for _, _, s in items], quantity, scale, limits)
    fields = [field_of(s, quantity=quantity, scale=scale, limits=limits) for _, _, s in items]
    tracks = [
        paths_of(surface, field, several or index) if path else []
        for field, (_, index, surface) in zip(fields, items, strict=True)
    ]
    names = legend_rows(tracks[0], sizes) if len(items) == 1 else []
    figure, panels, bar = _layout(fields, sizes, len(names))
    with figure.style():
        for i, (axes, field, (label, _, surface)) in enumerate(
            zip(panels, fields, items, strict=True)
        ):
            _draw_panel(axes, surface, field, tracks[i], drops, sizes)
            _name_axes(axes, surface, first=i % MOST_ACROSS == 0, shared=_one_frame(fields))
            if len(items) > 1:
                panel_title(axes, "abcdefghi"[i], label, panel_fact(surface), sizes)
        draw_legend(panels[0], names, sizes)
        _draw_bar(figure, bar, fields, quantity_of(items[0][2], quantity).title)
    return figure


def panel_fact(surface: Surface) -> str:
    """The one fact above a panel: the share of variance that its plane holds."""
    variance = surface.facts.get("variance")
    return "" if variance is None else f"{percent(float(np.sum(variance)), 0)} of variance"


def _layout(
    fields: Sequence[Field], venue: Venue, rows_above: int
) -> tuple[PaperFigure, list[Axes], Axes]:
    scale, count = venue.scale, len(fields)
    across = min(count, MOST_ACROSS)
    rows = -(-count // across)
    width = venue.column if count == 1 else venue.text
    between = _GAP if _one_frame(fields) else _WIDE_GAP
    beside = _LEFT + between * (across - 1) + _BAR_GAP + _BAR + _BAR_LABELS
    side = (width - beside * scale) / across
    ratio = max(f.spans[1] / f.spans[0] if f.equal else 1.0 for f in fields)
    tall = side * min(max(ratio, 0.4), 1.6)
    above = (_TITLE if count > 1 else _TOP + LINE * rows_above) * scale
    row = tall + above
    gap = _BOTTOM * scale
    figure = PaperFigure(width, rows * (row + gap), venue)
    panels = []
    for i in range(count):
        left = _LEFT * scale + (i % across) * (side + between * scale)
        bottom = gap + (rows - 1 - i // across) * (row + gap)
        panels.append(figure.place(left, bottom, side, tall))
    left = width - (_BAR + _BAR_LABELS) * scale
    bar = figure.place(left, gap + (rows - 1) * (row + gap), _BAR * scale, tall)
    return figure, panels, bar


def _one_frame(fields: Sequence[Field]) -> bool:
    """Whether all panels have the same ticks on y, so that the first one's numbers serve all."""
    return len({(float(field.y[0]), float(field.y[-1])) for field in fields}) == 1


def _name_axes(axes: Axes, surface: Surface, *, first: bool, shared: bool) -> None:
    axes.set_xlabel(surface.axis_labels[0])
    if first:
        axes.set_ylabel(surface.axis_labels[1])
    elif shared:
        axes.set_yticklabels([])


def _draw_panel(
    axes: Axes,
    surface: Surface,
    field: Field,
    tracks: Sequence[Path],
    drops: Sequence[tuple[float, float]],
    venue: Venue,
) -> None:
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xlim(*ends(field.x))
    axes.set_ylim(*ends(field.y))
    if field.equal:
        axes.set_aspect("equal", adjustable="box")
    set_ticks(axes.xaxis, nice_ticks(*ends(field.x), about=3))
    set_ticks(axes.yaxis, nice_ticks(*ends(field.y), about=3))
    _draw_cells(axes, field, venue)
    marks = marks_of(surface, field, tracks)
    _draw_lines(axes, field, taken(field, tracks, marks))
    draw_marks(axes, field, marks, venue)
    for track in tracks:
        draw_path(axes, track, drops, venue)


def _draw_cells(axes: Axes, field: Field, venue: Venue) -> None:
    if field.missing.any():
        axes.add_patch(
            Rectangle(
                (ends(field.x)[0], ends(field.y)[0]),
                *field.spans,
                facecolor=palette.LIGHT.sunken,
                edgecolor=palette.LIGHT.zero,
                hatch="///////",
                linewidth=0,
                zorder=0,
            )
        )
    x, y, height = refine(field, sides=400)
    low, high = field.height_limits
    axes.pcolormesh(
        edges(x),
        edges(y),
        np.ma.masked_invalid(height),
        cmap=basin_map(),
        vmin=low,
        vmax=high,
        rasterized=True,
        zorder=1,
        gid="field",
    )
    for mask, shade in (
        (field.blank, palette.LIGHT.line),
        (field.diverged, palette.LIGHT.diverged),
    ):
        if mask.any():
            flat = np.ma.masked_where(~mask, np.ones(mask.shape))
            colors = ListedColormap([shade])
            axes.pcolormesh(
                edges(field.x), edges(field.y), flat, cmap=colors, rasterized=True, zorder=1.5
            )
    cross = {"marker": "x", "ms": 2.2 * venue.scale, "mew": 0.5, "color": palette.LIGHT.err}
    dot = {"marker": "o", "ms": 1.1 * venue.scale, "mew": 0, "color": palette.INK, "alpha": 0.6}
    for mask, style in ((field.diverged, cross), (field.interpolated, dot)):
        rows, columns = np.nonzero(mask)
        if len(rows):
            axes.plot(field.x[columns], field.y[rows], ls="none", zorder=1.6, **style)


def _draw_lines(axes: Axes, field: Field, away_from: Sequence[np.ndarray]) -> None:
    thin, labeled = levels_of(field)
    for level in lines_at(field, thin):
        for line in level:
            axes.plot(*line.T, color="white", lw=0.25, alpha=0.45, ls="solid", zorder=2)
    lines = lines_at(field, labeled)
    width = size_of(axes)[0]
    unit = max(field.spans) / width
    labels = place_labels(field, labeled, lines, away_from=away_from, room=1.3 * 129 / width)
    for level, drawn in zip(labeled, lines, strict=True):
        own = [label for label in labels if label.level == level]
        gap = unit * (2 + 0.27 * _LABEL_SIZE * len(own[0].text)) if own else 0.0
        for line in drawn:
            for part in cut(line, own, gap) if own else [line]:
                axes.plot(*part.T, color="white", lw=0.5, alpha=0.85, ls="solid", zorder=2.2)
    for label in labels:
        _draw_label(axes, field, label)


def _draw_label(axes: Axes, field: Field, label: Label) -> None:
    ground = palette.map_color(float(field.place(np.array([label.level]))[0]))
    axes.text(
        label.x,
        label.y,
        label.text,
        rotation=label.angle,
        rotation_mode="anchor",
        ha="center",
        va="center_baseline",
        fontsize=_LABEL_SIZE,
        color=palette.INK if palette.is_light(ground) else "white",
        clip_on=True,
        zorder=2.3,
    )


def _draw_bar(figure: PaperFigure, axes: Axes, fields: Sequence[Field], title: str) -> None:
    field = fields[0]
    pick = log_ticks(*field.limits, most=9) if field.scale == "log" else nice_ticks(*field.limits)
    ticks = [(float(field.lift(tick)), short(float(tick))) for tick in pick]
    clipped = any(f.clipped for f in fields)
    add_color_bar(figure, axes, field.height_limits, basin_map(), ticks, title, clipped=clipped)
