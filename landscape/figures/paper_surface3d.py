"""A surface on paper in 3D: hillshaded mesh, floor, contour lines and path that hide behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from landscape.figures import palette
from landscape.figures.contours import lines_at
from landscape.figures.fields import Field, ends, field_of, refine, sample
from landscape.figures.numbers import short
from landscape.figures.paper_style import PaperFigure, venue_of
from landscape.figures.paths import Path, paths_of
from landscape.figures.scales import few_ticks, nice_ticks, one_two_five
from landscape.results import Surface

Space = Any  # 3D axes: matplotlib types them as plane ones

ELEVATION, AZIMUTH = 38.0, -118.0
_BOX = (1.12, 1.0, 0.62)
_ZOOM = 0.865
_EYE_DISTANCE = 10.0
_BELOW = 0.62
_LIGHT_AZIMUTH, _LIGHT_ALTITUDE = 235.0, 52.0
_SHADE = (0.72, 1.12)
_LIFT = 0.012
_PLACE = (-0.085, -0.075, 1.2, 1.2)


def draw_surface3d(
    surface: Surface,
    *,
    venue: str = "icml",
    quantity: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    color: int | Sequence[int] = 0,
    path: bool = True,
    drops: Sequence[tuple[float, float]] = (),
) -> PaperFigure:
    """Draw a surface in 3D over a pale floor of its colors; height and color are one value.

    The mesh is a picture at 600 dpi, all else is vector. The path runs at its measured loss. The
    contour map of `draw_surface` is the evidence; this view hides what lies behind.

    Args:
        surface: What was measured.
        venue: Whose widths and type to use.
        quantity: "loss", "accuracy", "test_loss", "test_accuracy", the name of a metric,
            "lambda_max" or "convexity".
        scale: "log", "linear", or None: log for losses and eigenvalues that allow it.
        limits: Lowest and highest value of color and height.
        color: Color index of the run, for the path; of several runs that of the first, or a list.
        path: Whether to draw the runs' checkpoints.
        drops: (step, lr) where the learning rate fell, marked on the path.

    Raises:
        ValueError: If the venue is unknown, the quantity was not measured, or the limits don't fit
            the scale.
    """
    sizes = venue_of(venue)
    field = field_of(surface, quantity=quantity, scale=scale, limits=limits)
    figure = PaperFigure(sizes.column, sizes.column * 2.55 / 3.25, sizes)
    with figure.style():
        axes: Space = figure.add_axes(_PLACE, projection="3d", computed_zorder=False)
        view = _View(field)
        _set_up(axes, surface, field, view, sizes.scale)
        if min(field.height.shape) > 1 and np.isfinite(field.height).any():
            _draw_floor(axes, field, view)
            _draw_mesh(axes, field)
        _draw_contours(axes, field, view)
        for track in paths_of(surface, field, color) if path else ():
            if np.isfinite(track.loss).any():
                _draw_path(axes, track, field, view, drops)
    return figure


class _View:
    """The box that the axes show, and what the surface hides in it."""

    def __init__(self, field: Field) -> None:
        low, high = field.height_limits
        self.unit = 1.0 if field.scale == "log" else (high - low) / 4
        self.floor = low - _BELOW * self.unit
        (left, right), (near, far) = ends(field.x), ends(field.y)
        self.low = np.array([left, near, self.floor])
        self.high = np.array([right, far, high + 0.02 * (high - low)])
        width, depth = field.spans
        across = depth / width if field.equal else _BOX[1] / _BOX[0]
        self.box = np.array([_BOX[0], _BOX[0] * across, _BOX[2]])
        self.field = field

    def boxed(self, points: np.ndarray) -> np.ndarray:
        """Data coordinates [n, 3] to the box, which is centered at 0."""
        return ((points - self.low) / (self.high - self.low) - 0.5) * self.box

    def visible(self, points: np.ndarray) -> np.ndarray:
        """Whether points [n, 3] are seen: marched to the viewer, none passes below the surface."""
        elevation, azimuth = np.radians([ELEVATION, AZIMUTH])
        flat = np.cos(elevation)
        eye = _EYE_DISTANCE * np.array(
            [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)]
        )
        start = self.boxed(points)
        way = eye - start
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        seen = np.ones(len(points), dtype=bool)
        for t in np.linspace(0.03, 1.6, 80):
            at = start + t * way
            inside = np.all(np.abs(at[:, :2]) <= self.box[:2] / 2, axis=1)
            place = (at / self.box + 0.5) * (self.high - self.low) + self.low
            top = np.full(len(points), -np.inf)
            below = self.field.lift(sample(self.field, place[inside, :2]))
            top[inside] = np.where(np.isfinite(below), below, -np.inf)
            seen &= ~(top > place[:, 2] + 0.004 * (self.high[2] - self.low[2]))
        return seen


def _set_up(axes: Space, surface: Surface, field: Field, view: _View, size: float) -> None:
    axes.view_init(ELEVATION, AZIMUTH)
    axes.set_proj_type("persp", focal_length=0.9)
    axes.set_box_aspect(tuple(view.box), zoom=_ZOOM)
    axes.set_xlim(view.low[0], view.high[0], view_margin=0)
    axes.set_ylim(view.low[1], view.high[1], view_margin=0)
    axes.set_zlim(view.low[2], view.high[2], view_margin=0)
    axes.grid(False)
    axes.patch.set_alpha(0)
    axes.set_xlabel(surface.axis_labels[0], labelpad=-11 + 6 * size)
    axes.set_ylabel(surface.axis_labels[1], labelpad=-11 + 7 * size)
    axes.zaxis.set_rotate_label(False)
    axes.set_zlabel(field.quantity.title, labelpad=-10 + 6 * size, rotation=93)
    ticks = few_ticks(field.limits, field.scale)
    axes.set_xticks(nice_ticks(*ends(field.x), about=3))
    axes.set_yticks(nice_ticks(*ends(field.y), about=3))
    axes.set_zticks(field.lift(ticks), [short(float(tick)) for tick in ticks])
    axes.xaxis.set_major_formatter(lambda v, _: short(float(v)))
    axes.yaxis.set_major_formatter(lambda v, _: short(float(v)))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set_visible(False)
        axis.line.set_linewidth(0.5)
    axes.tick_params(pad=-5 + 2 * size)
    axes.tick_params(axis="z", pad=-5 + 4 * size)


def _draw_floor(axes: Space, field: Field, view: _View) -> None:
    x, y, height = refine(field, sides=100)
    low, high = field.height_limits
    banded = np.clip((np.floor((height - low) / (high - low) * 20) + 0.5) / 20, 0, 1)
    colors = 0.42 * _colors(banded) + 0.58
    z = np.full(height.shape, view.floor)
    _add_quads(axes, x, y, z, colors, np.isfinite(height), zorder=1)


def _draw_mesh(axes: Space, field: Field) -> None:
    x, y, height = refine(field, sides=120)
    low, high = field.height_limits
    colors = _colors((height - low) / (high - low)) * _shade(x, y, height)[..., None]
    _add_quads(axes, x, y, height, np.clip(colors, 0, 1), np.isfinite(height), zorder=3)


def _colors(places: np.ndarray) -> np.ndarray:
    """Red, green, blue in 0..1 of places on the map."""
    index = np.nan_to_num(places * 255).round().clip(0, 255).astype(int)
    return palette.BASIN[index] / 255


def _shade(x: np.ndarray, y: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Hillshade as a factor on the color, 1 where the surface is flat."""
    span = np.nanmax(height) - np.nanmin(height) or 1.0
    rise = 0.55 * height / span
    dy, dx = np.gradient(rise, (y - y[0]) / np.ptp(y), (x - x[0]) / np.ptp(x))
    azimuth, altitude = np.radians([_LIGHT_AZIMUTH, _LIGHT_ALTITUDE])
    light = np.array(
        [
            np.cos(altitude) * np.cos(azimuth),
            np.cos(altitude) * np.sin(azimuth),
            np.sin(altitude),
        ]
    )
    facing = (light[2] - dx * light[0] - dy * light[1]) / np.sqrt(1 + dx**2 + dy**2)
    return np.clip(np.nan_to_num(facing / light[2], nan=1.0), *_SHADE)


def _add_quads(
    axes: Space,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    colors: np.ndarray,
    drawn: np.ndarray,
    *,
    zorder: float,
) -> None:
    """Add one quad per cell whose four corners are there, in the mean color of its corners."""
    grid = np.stack([*np.meshgrid(x, y), z], axis=-1)
    corners = (np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, 1:], np.s_[1:, :-1])
    whole = np.all([drawn[corner] for corner in corners], axis=0)
    quads = np.stack([grid[corner][whole] for corner in corners], axis=1)
    face = np.mean([colors[corner][whole] for corner in corners], axis=0)
    mesh = Poly3DCollection(quads, facecolors=face, edgecolors="none", antialiased=False)
    mesh.set(rasterized=True, zorder=zorder)
    axes.add_collection3d(mesh, autolim=False)


def _draw_contours(axes: Space, field: Field, view: _View) -> None:
    levels = one_two_five(*field.limits) if field.scale == "log" else nice_ticks(*field.limits)
    for level, lines in zip(levels, lines_at(field, levels), strict=True):
        height = float(field.lift(np.array([level]))[0])
        for line in lines:
            z = np.full(len(line), height + _LIFT * view.unit)
            _add_seen(axes, np.column_stack([line, z]), view, color="white", lw=0.45, alpha=0.85)


def _add_seen(axes: Space, points: np.ndarray, view: _View, **style: Any) -> None:
    """Draw the parts of a line that the surface does not hide."""
    finite = np.isfinite(points).all(axis=1)
    seen = np.zeros(len(points), dtype=bool)
    seen[finite] = view.visible(points[finite])
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(int), [0]])))
    for start, stop in bounds.reshape(-1, 2):
        if stop - start > 1:
            axes.plot(*points[start:stop].T, **{"zorder": 4, "ls": "solid", **style})


def _dense(points: np.ndarray, per: int = 12) -> np.ndarray:
    """A polyline with `per` points for each of its segments."""
    at = np.linspace(0, len(points) - 1, (len(points) - 1) * per + 1)
    return np.stack([np.interp(at, np.arange(len(points)), c) for c in points.T], axis=1)


def _draw_path(
    axes: Space,
    track: Path,
    field: Field,
    view: _View,
    drops: Sequence[tuple[float, float]],
) -> None:
    run = palette.run_color(track.color).light
    x, y = track.position.T
    inside = (x >= field.x[0]) & (x <= field.x[-1]) & (y >= field.y[0]) & (y <= field.y[-1])
    z = np.where(inside, field.lift(track.loss) + 2 * _LIFT * view.unit, np.nan)
    points = np.stack([x, y, z], axis=1)
    shadow = np.stack([x, y, np.where(inside, view.floor, np.nan)], axis=1)
    axes.plot(*shadow.T, color=run, lw=0.8, alpha=0.75, ls="solid", zorder=1.5)
    below = np.stack([x, y, field.lift(track.below)], axis=1)
    for top, foot in zip(points, below, strict=True):
        if np.isfinite([*top, *foot]).all():
            stem = _dense(np.stack([top, foot]))
            _add_seen(axes, stem, view, color=run, lw=0.35, alpha=0.9)
    line = _dense(points)
    _add_seen(axes, line, view, color="white", lw=2.2, zorder=5)
    _add_seen(axes, line, view, color=run, lw=1.2, zorder=5.1)
    plumb = np.array([points[-1], shadow[-1]])
    axes.plot(*plumb.T, color=palette.INK, lw=0.6, ls=(0, (1, 1.4)), zorder=2)
    shared = {"ls": "none", "zorder": 6}
    axes.plot(*shadow[[-1]].T, marker="o", ms=4, mfc=run, mec="white", mew=0.6, ls="none", zorder=2)
    if np.isfinite(points[0]).all() and view.visible(points[[0]])[0]:
        axes.plot(*points[[0]].T, marker="s", ms=4.2, mfc="white", mec=run, mew=0.9, **shared)
    for step, _ in drops:
        at = np.array([[np.interp(step, track.step, c) for c in points.T]])
        if np.isfinite(at).all() and view.visible(at)[0]:
            mark = {"marker": "v", "ms": 3.6, "mfc": palette.INK, "mec": "white", "mew": 0.4}
            axes.plot(*at.T, **mark, **shared)
