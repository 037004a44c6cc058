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
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.paths import Path, path_of
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
    value: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    color: int = 0,
    path: bool = True,
    drops: Sequence[tuple[float, float]] = (),
) -> PaperFigure:
    """Draw surfaces as contour maps with one color scale for all.

    One surface takes a column, several the text width in rows of three. Cells that diverged are
    grey with a cross, cells that were not evaluated are hatched.

    Args:
        surfaces: One surface, or (label, color, surface) of each run.
        venue: Whose widths and type to use.
        value: "loss" or "accuracy".
        scale: "log", "linear", or None for log where the values allow it.
        limits: Lowest and highest value of the color map.
        color: Color index of a single run, for its path.
        path: Whether to draw the runs' checkpoints.
        drops: (step, lr) where the learning rate fell, marked on the paths.

    Raises:
        ValueError: If venue or value is unknown, or the limits don't fit the scale.
    """
    items = items_of(surfaces, color)
    sizes = venue_of(venue)
    scale, limits = scale_and_limits([s for _, _, s in items], value, scale, limits)
    fields = [field_of(s, value=value, scale=scale, limits=limits) for _, _, s in items]
    figure, panels, bar = _layout(fields, sizes)
    with figure.style():
        for i, (axes, field, (label, index, surface)) in enumerate(
            zip(panels, fields, items, strict=True)
        ):
            track = path_of(surface, field) if path else None
            _draw_panel(axes, field, track, index, drops, sizes)
            _name_axes(axes, surface, first=i % MOST_ACROSS == 0, shared=_one_frame(fields))
            if len(items) > 1:
                panel_title(axes, "abcdefghi"[i], label, panel_fact(surface), sizes)
        _draw_bar(figure, bar, fields, "accuracy" if value == "accuracy" else "loss")
    return figure


def panel_fact(surface: Surface) -> str:
    """The one fact above a panel: the share of variance that its plane holds."""
    variance = surface.facts.get("variance")
    return "" if variance is None else f"{percent(float(np.sum(variance)), 0)} of variance"


def _layout(fields: Sequence[Field], venue: Venue) -> tuple[PaperFigure, list[Axes], Axes]:
    scale, count = venue.scale, len(fields)
    across = min(count, MOST_ACROSS)
    rows = -(-count // across)
    width = venue.column if count == 1 else venue.text
    between = _GAP if _one_frame(fields) else _WIDE_GAP
    beside = _LEFT + between * (across - 1) + _BAR_GAP + _BAR + _BAR_LABELS
    side = (width - beside * scale) / across
    ratio = max(f.spans[1] / f.spans[0] if f.equal else 1.0 for f in fields)
    tall = side * min(max(ratio, 0.4), 1.6)
    above = (_TITLE if count > 1 else _TOP) * scale
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
    field: Field,
    track: Path | None,
    color: int,
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
    _draw_lines(axes, field, track)
    if track is not None:
        _draw_path(axes, track, color, drops, venue)


def _draw_cells(axes: Axes, field: Field, venue: Venue) -> None:
    if not field.evaluated.all():
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
    if field.diverged.any():
        grey = ListedColormap([palette.LIGHT.diverged])
        mask = np.ma.masked_where(~field.diverged, np.ones(field.diverged.shape))
        axes.pcolormesh(
            edges(field.x), edges(field.y), mask, cmap=grey, rasterized=True, zorder=1.5
        )
        rows, columns = np.nonzero(field.diverged)
        axes.plot(
            field.x[columns],
            field.y[rows],
            ls="none",
            marker="x",
            ms=2.2 * venue.scale,
            mew=0.5,
            color=palette.LIGHT.err,
            zorder=1.6,
        )


def _draw_lines(axes: Axes, field: Field, track: Path | None) -> None:
    thin, labeled = levels_of(field)
    for level in lines_at(field, thin):
        for line in level:
            axes.plot(*line.T, color="white", lw=0.25, alpha=0.45, ls="solid", zorder=2)
    lines = lines_at(field, labeled)
    width = size_of(axes)[0]
    unit = max(field.spans) / width
    positions = None if track is None else track.position
    labels = place_labels(field, labeled, lines, path=positions, room=1.3 * 129 / width)
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


def _draw_path(
    axes: Axes,
    track: Path,
    color: int,
    drops: Sequence[tuple[float, float]],
    venue: Venue,
) -> None:
    run, scale = palette.run_color(color).light, venue.scale
    axes.plot(*track.position.T, color="white", lw=2.0 * scale, alpha=0.92, ls="solid", zorder=3)
    for dashed, style in ((False, "solid"), (True, (0, (2.2, 1.4)))):
        for part in track.segments(dashed=dashed):
            axes.plot(*part.T, color=run, lw=0.9 * scale, ls=style, zorder=3.1)
    fills = [palette.blend(run, "#FFFFFF", float(share)) for share in track.hollow]
    axes.scatter(
        *track.position.T,
        s=(2.3 * scale) ** 2,
        c=fills,
        edgecolors=run,
        linewidths=0.4 * scale,
        zorder=3.2,
    )
    shared = {"ls": "none", "zorder": 3.4, "clip_on": True}
    start, end = track.position[0], track.position[-1]
    axes.plot(*start, marker="s", ms=4.2 * scale, mfc="white", mec=run, mew=0.9 * scale, **shared)
    axes.plot(*end, marker="o", ms=5 * scale, mfc=run, mec="white", mew=0.8 * scale, **shared)
    for step, _ in drops:
        mark = {"marker": "v", "ms": 3.6 * scale, "mfc": palette.INK, "mec": "white"}
        axes.plot(*track.at(step), mew=0.4 * scale, **mark, **shared)


def _draw_bar(figure: PaperFigure, axes: Axes, fields: Sequence[Field], title: str) -> None:
    field = fields[0]
    pick = log_ticks(*field.limits, most=9) if field.scale == "log" else nice_ticks(*field.limits)
    ticks = [(float(field.lift(tick)), short(float(tick))) for tick in pick]
    clipped = any(f.clipped for f in fields)
    add_color_bar(figure, axes, field.height_limits, basin_map(), ticks, title, clipped=clipped)
