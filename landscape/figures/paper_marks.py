"""What stands on a contour map on paper: paths of runs, marked points, their names."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from landscape.figures import palette
from landscape.figures.fields import Field
from landscape.figures.paper_axes import size_of, text_width
from landscape.figures.paper_style import Venue
from landscape.figures.paths import Mark, Path

LINE = 0.15
"""Height in inches at 8 pt of a row of names."""
_SWATCH, _BETWEEN = 9.0, 9.0  # points: the square with its gap, and from name to name


def draw_path(
    axes: Axes,
    track: Path,
    drops: Sequence[tuple[float, float]],
    venue: Venue,
) -> None:
    """Draw a run's checkpoints: points fade with their distance from the plane."""
    run, scale = palette.run_color(track.color).light, venue.scale
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


def draw_marks(axes: Axes, field: Field, marks: Sequence[Mark], venue: Venue) -> None:
    """Draw marked points as rings with names, and arrows from w to where ε leads."""
    scale, (width, _) = venue.scale, size_of(axes)
    ring = {"marker": "o", "ms": 4.4 * scale, "mfc": "white", "mec": palette.INK}
    plate = {"boxstyle": "square,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.78}
    for mark in marks:
        if mark.displaced:
            arrow = {"arrowstyle": "-|>", "color": palette.INK, "lw": 0.8 * scale}
            arrow |= {"shrinkA": 3 * scale, "shrinkB": 3 * scale, "mutation_scale": 6 * scale}
            casing = [withStroke(linewidth=2.4 * scale, foreground="white")]
            arrow |= {"path_effects": casing}  # dark on dark would not be seen
            axes.annotate("", (mark.x, mark.y), (0, 0), arrowprops=arrow, zorder=2.8)
        axes.plot(mark.x, mark.y, ls="none", mew=1.1 * scale, zorder=2.9, gid="mark", **ring)
        half = text_width(mark.name, venue.ticks) / 2 + 2
        place = (mark.x - field.x[0]) / field.spans[0] * width
        across = min(max(place, half), max(width - half, half)) - place
        axes.annotate(
            mark.name,
            (mark.x, mark.y),
            xytext=(across, (5 if mark.above else -5) * scale),
            textcoords="offset points",
            ha="center",
            va="bottom" if mark.above else "top",
            fontsize=venue.ticks,
            bbox=plate,
            zorder=3.7,
        )


def legend_rows(tracks: Sequence[Path], venue: Venue) -> list[list[tuple[float, Path]]]:
    """Where the names of several runs stand above a map: rows of (points from the left, path)."""
    if len(tracks) < 2:
        return []
    width = 72 * (venue.column - 0.4 * venue.scale)
    rows: list[list[tuple[float, Path]]] = [[]]
    across = 0.0
    for track in tracks:
        room = _SWATCH * venue.scale + text_width(track.label, venue.ticks)
        if rows[-1] and across + room > width:
            rows.append([])
            across = 0.0
        rows[-1].append((across, track))
        across += room + _BETWEEN * venue.scale
    return rows


def draw_legend(axes: Axes, rows: Sequence[Sequence[tuple[float, Path]]], venue: Venue) -> None:
    """Write the names of several runs above a map, as `legend_rows` places them."""
    width, height = size_of(axes)
    for i, row in enumerate(rows):
        up = 1 + (3.5 + 72 * LINE * (len(rows) - 1 - i)) * venue.scale / height
        for across, track in row:
            run = palette.run_color(track.color).light
            shared = {"transform": axes.transAxes, "clip_on": False}
            middle = up + 0.32 * venue.ticks / height
            axes.plot(
                [(across + 3 * venue.scale) / width],
                [middle],
                marker="s",
                ms=4 * venue.scale,
                mfc=run,
                mec=run,
                ls="none",
                **shared,
            )
            axes.text(
                (across + _SWATCH * venue.scale) / width,
                up,
                track.label,
                fontsize=venue.ticks,
                va="baseline",
                **shared,
            )
