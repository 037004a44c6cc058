"""A surface on the screen in 3D: surface, floor, path at its measured loss."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.contours import joined
from landscape.figures.fields import Field, sample
from landscape.figures.numbers import short
from landscape.figures.paths import Path
from landscape.figures.scales import few_ticks
from landscape.figures.screen_marks import hover_of
from landscape.figures.template import new_figure
from landscape.results import Surface

CAMERA = {
    "eye": {"x": -1.06, "y": -1.64, "z": 1.00},
    "center": {"x": 0.02, "y": 0.02, "z": -0.19},
    "projection": {"type": "perspective"},
}
"""The view a home button restores."""

_LIGHTING = {"ambient": 0.70, "diffuse": 0.55, "specular": 0.06, "roughness": 0.85, "fresnel": 0.02}
_LIGHT_FROM = {"x": -4000, "y": -6000, "z": 9000}
_BELOW = 0.62
_LIFT = 0.035
_BANDS = 5


def plot_surface_3d(
    surface: Surface, field: Field, tracks: Sequence[Path], *, theme: str
) -> go.Figure:
    """Draw a field as a lit surface over a flat floor of the same colors.

    Height and color show the same value. Paths run at their measured loss, with stems to the
    surface below.
    """
    figure = new_figure(theme, "maps")
    figure.add_trace(_surface_trace(surface, field))
    floor = _floor_height(field)
    figure.add_trace(_floor_trace(field, floor, theme))
    for track in tracks:
        if np.isfinite(track.loss).any():
            _add_path(figure, track, field, floor, palette.run_color(track.color).on(theme))
    _add_marks(figure, surface, field, theme)
    figure.update_layout(scene=_scene(surface, field, floor, theme))
    figure.update_layout(margin={"l": 16, "r": 0, "t": 0, "b": 0})
    return figure


def _unit(field: Field) -> float:
    """One decade, or on a linear scale a quarter of the range."""
    low, high = field.height_limits
    return 1.0 if field.scale == "log" else (high - low) / 4


def _floor_height(field: Field) -> float:
    return field.height_limits[0] - _BELOW * _unit(field)


def _lines(field: Field) -> dict[str, Any]:
    low, high = field.height_limits
    size = _unit(field) / _BANDS
    line = {"show": True, "color": "#DCE9E4", "width": 1}
    start = float(np.ceil(low / size) * size)
    return {"z": {**line, "start": start, "end": high, "size": size}}


def _surface_trace(surface: Surface, field: Field) -> go.Surface:
    low, high = field.height_limits
    # plotly.js reads customdata of a surface transposed: [a, b] where z is [b, a]
    lines, measured = hover_of(surface)
    return go.Surface(
        x=field.x,
        y=field.y,
        z=field.height,
        cmin=low,
        cmax=high,
        colorscale=palette.gradient_stops(),
        showscale=False,
        lighting=_LIGHTING,
        lightposition=_LIGHT_FROM,
        contours=_lines(field),
        customdata=measured,
        hovertemplate="<br>".join(lines) + "<extra></extra>",
        name="surface",
    )


def _floor_trace(field: Field, floor: float, theme: str) -> go.Surface:
    low, high = field.height_limits
    size = _unit(field) / _BANDS
    banded = (np.floor(field.height / size) + 0.5) * size
    ground = palette.tokens(theme).surface
    share = 0.62 if theme == "light" else 0.66
    stops = [(at, palette.blend(c, ground, share)) for at, c in palette.gradient_stops()]
    return go.Surface(
        x=field.x,
        y=field.y,
        z=np.where(np.isnan(field.height), np.nan, floor),
        surfacecolor=banded,
        cmin=low,
        cmax=high,
        colorscale=stops,
        showscale=False,
        lighting={"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},
        hoverinfo="skip",
        name="floor",
    )


def _add_path(figure: go.Figure, track: Path, field: Field, floor: float, run: str) -> None:
    x, y = track.position.T
    inside = (x >= field.x[0]) & (x <= field.x[-1]) & (y >= field.y[0]) & (y <= field.y[-1])
    z = np.where(inside, field.lift(track.loss), np.nan)
    lift = _LIFT * _unit(field)
    figure.add_trace(
        go.Scatter3d(
            x=x,
            y=y,
            z=z + lift,
            mode="lines+markers",
            line={"color": run, "width": 6},
            marker={"size": 2.5, "color": run},
            customdata=np.stack([track.step, track.loss, track.below, track.off_plane], axis=-1),
            hovertemplate=(
                "step %{customdata[0]:,.0f}<br>measured loss %{customdata[1]:.3~g}"
                "<br>surface below %{customdata[2]:.3~g}"
                "<br>out of the plane %{customdata[3]:.3~g}<extra></extra>"
            ),
            name="path",
        )
    )
    stems = [
        np.array([[a, b, top + lift], [a, b, low]])
        for a, b, top, low in zip(x, y, z, field.lift(track.below), strict=True)
        if np.isfinite([top, low]).all()
    ]
    for name, lines, width in (
        ("stems", stems, 1.5),
        ("shadow", [np.stack([x, y, np.where(inside, floor + 0.02, np.nan)], axis=1)], 3),
    ):
        px, py, pz = joined3(lines)
        line = {"color": run, "width": width}
        figure.add_trace(
            go.Scatter3d(
                x=px, y=py, z=pz, mode="lines", line=line, opacity=0.7, hoverinfo="skip", name=name
            )
        )
    plumb = {"x": x[[-1, -1]], "y": y[[-1, -1]], "z": np.array([z[-1], floor + 0.02])}
    line = {"color": run, "width": 2, "dash": "dot"}
    figure.add_trace(go.Scatter3d(**plumb, mode="lines", line=line, hoverinfo="skip", name="plumb"))
    for name, i, symbol, fill in (("start", 0, "square", "#FFFFFF"), ("end", -1, "circle", run)):
        figure.add_trace(
            go.Scatter3d(
                x=x[[i]],
                y=y[[i]],
                z=z[[i]] + lift,
                mode="markers",
                marker={
                    "symbol": symbol,
                    "size": 5,
                    "color": fill,
                    "line": {"color": run, "width": 2},
                },
                hoverinfo="skip",
                name=name,
            )
        )


def _add_marks(figure: go.Figure, surface: Surface, field: Field, theme: str) -> None:
    """Marked points on the surface, with their names."""
    if not len(surface.mark_labels):
        return
    color = palette.tokens(theme)
    x, y = surface.mark_position.T
    figure.add_trace(
        go.Scatter3d(
            x=x,
            y=y,
            z=field.lift(sample(field, surface.mark_position)) + _LIFT * _unit(field),
            mode="markers+text",
            text=list(surface.mark_labels),
            textposition="top center",
            textfont={"size": 11, "color": color.text},
            marker={"size": 4.5, "color": "#FFFFFF", "line": {"color": palette.INK, "width": 2}},
            hoverinfo="skip",
            name="marks",
        )
    )


def joined3(lines: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines in space as one x, y and z with NaN between lines."""
    x, y = joined([[line[:, :2] for line in lines]])
    z, _ = joined([[line[:, [2, 2]] for line in lines]])
    return x, y, z


def _scene(surface: Surface, field: Field, floor: float, theme: str) -> dict[str, Any]:
    color = palette.tokens(theme)
    low, high = field.height_limits
    ticks = few_ticks(field.limits, field.scale)
    axis = {
        "showbackground": False,
        "showspikes": False,
        "showgrid": True,
        "gridcolor": color.line,
        "zeroline": False,
        "showline": False,
        "tickfont": {"size": 10, "color": color.muted},
        "nticks": 4,
    }
    titled = {"font": {"size": 11, "color": color.muted}}
    width, depth = field.spans
    across = 1.2 if field.equal else 1.1
    return {
        "xaxis": {**axis, "title": {"text": surface.axis_labels[0], **titled}},
        "yaxis": {**axis, "title": {"text": surface.axis_labels[1], **titled}},
        "zaxis": {
            **axis,
            "title": {"text": ""},
            "range": [floor - 0.04 * _unit(field), high + 0.08 * (high - low)],
            "tickmode": "array",
            "tickvals": field.lift(ticks),
            "ticktext": [short(float(tick)) for tick in ticks],
        },
        "aspectmode": "manual",
        "aspectratio": {
            "x": across,
            "y": across * (depth / width if field.equal else 1.0),
            "z": 0.62,
        },
        "camera": CAMERA,
        "uirevision": "keep",
        "dragmode": "turntable",
    }
