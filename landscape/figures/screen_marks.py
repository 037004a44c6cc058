"""What stands on a contour map on the screen: paths of runs, marked points, their names."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.contours import joined
from landscape.figures.fields import Field
from landscape.figures.paths import Mark, Path
from landscape.figures.quantities import QUANTITIES, quantities_of, values_of
from landscape.figures.template import run_name
from landscape.results import Surface

CASING = "rgba(255,255,255,0.92)"
_PLATE = "rgba(255,255,255,0.78)"
_NEAR_BORDER = 0.15


def hover_of(surface: Surface) -> tuple[list[str], np.ndarray]:
    """Lines of a hover label, and their numbers [a, b, quantity]: all that was measured there."""
    lines = [f"{surface.axis_labels[0]} %{{x:.3~g}}, {surface.axis_labels[1]} %{{y:.3~g}}"]
    names = quantities_of(surface)
    for i, name in enumerate(names):
        known = QUANTITIES.get(name)
        form = known.form if known else ".3~g"
        lines.append(f"{known.title if known else name} %{{customdata[{i}]:{form}}}")
    return lines, np.stack([values_of(surface, name) for name in names], axis=-1)


def add_path(
    figure: go.Figure,
    track: Path,
    drops: Sequence[tuple[float, float]],
    selected: float | None,
) -> None:
    """Draw a run's checkpoints: points fade with their distance from the plane."""
    run = palette.run_color(track.color).light
    x, y = track.position.T
    casing = {"color": CASING, "width": 5.2}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=casing, hoverinfo="skip", name="casing")
    )
    for name, parts, dash in (
        ("path", track.segments(dashed=False), "solid"),
        ("path above surface", track.segments(dashed=True), "5px,3px"),
    ):
        px, py = joined([parts])
        line = {"color": run, "width": 2.5, "dash": dash}
        figure.add_trace(
            go.Scatter(x=px, y=py, mode="lines", line=line, hoverinfo="skip", name=name)
        )
    figure.add_trace(_points(track, run))
    ends = {
        "start": (0, {"symbol": "square", "size": 10, "color": "#FFFFFF"}, run),
        "end": (-1, {"symbol": "circle", "size": 12, "color": run}, "#FFFFFF"),
    }
    for name, (i, marker, outline) in ends.items():
        marker["line"] = {"width": 2, "color": outline}
        at = {"x": x[[i]], "y": y[[i]]}
        figure.add_trace(
            go.Scatter(**at, mode="markers", marker=marker, hoverinfo="skip", name=name)
        )
    _add_drops(figure, track, drops)
    _add_ring(figure, track, selected)


def _points(track: Path, run: str) -> go.Scatter:
    fills = [palette.blend(run, "#FFFFFF", float(share)) for share in track.hollow]
    return go.Scatter(
        x=track.position[:, 0],
        y=track.position[:, 1],
        mode="markers",
        marker={"size": 5, "color": fills, "line": {"width": 1.1, "color": run}},
        customdata=np.stack([track.step, track.loss, track.below, track.off_plane], axis=-1),
        hovertemplate=(f"{track.label}<br>" if track.label else "")
        + (
            "step %{customdata[0]:,.0f}<br>measured loss %{customdata[1]:.3~g}"
            "<br>surface below %{customdata[2]:.3~g}"
            "<br>out of the plane %{customdata[3]:.3~g}<extra></extra>"
        ),
        name="points",
    )


def _add_drops(figure: go.Figure, track: Path, drops: Sequence[tuple[float, float]]) -> None:
    at = np.array([track.at(step) for step, _ in drops]).reshape(-1, 2)
    figure.add_trace(
        go.Scatter(
            x=at[:, 0],
            y=at[:, 1],
            mode="markers",
            marker={
                "symbol": "triangle-down",
                "size": 10,
                "color": palette.INK,
                "line": {"width": 1.2, "color": "#FFFFFF"},
            },
            customdata=np.array(drops, dtype=np.float64).reshape(-1, 2),
            hovertemplate="lr %{customdata[1]:.3~g} from step %{customdata[0]:,.0f}<extra></extra>",
            name="lr drops",
        )
    )


def _add_ring(figure: go.Figure, track: Path, selected: float | None) -> None:
    ring = track.position[[track.nearest(selected)]] if selected is not None else np.empty((0, 2))
    for size, color in ((21, "#FFFFFF"), (17, palette.INK)):
        marker = {"symbol": "circle-open", "size": size, "color": color, "line": {"width": 2}}
        figure.add_trace(
            go.Scatter(
                x=ring[:, 0],
                y=ring[:, 1],
                mode="markers",
                marker=marker,
                hoverinfo="skip",
                name="selected",
            )
        )


def add_marks(figure: go.Figure, field: Field, marks: Sequence[Mark]) -> None:
    """Draw marked points as rings with names, and arrows from w to where ε leads."""
    if not marks:
        return
    ring = {"symbol": "circle", "size": 11, "color": "#FFFFFF"}
    figure.add_trace(
        go.Scatter(
            x=[mark.x for mark in marks],
            y=[mark.y for mark in marks],
            mode="markers",
            marker={**ring, "line": {"width": 2.4, "color": palette.INK}},
            text=[mark.name for mark in marks],
            hovertemplate="%{text}<br>%{x:.3~g}, %{y:.3~g}<extra></extra>",
            name="marks",
        )
    )
    for mark in marks:
        if mark.displaced:
            ends = {"ax": 0, "ay": 0, "axref": "x", "ayref": "y", "standoff": 7, "startstandoff": 7}
            for width, shade in ((4.2, CASING), (1.8, palette.INK)):  # dark on dark is not seen
                head = {"arrowhead": 2, "arrowwidth": width, "arrowcolor": shade}
                head["arrowsize"] = 1 if shade == palette.INK else 0.6
                figure.add_annotation(x=mark.x, y=mark.y, text="", showarrow=True, **ends, **head)
        along = (mark.x - field.x[0]) / field.spans[0]
        left, right = along < _NEAR_BORDER, along > 1 - _NEAR_BORDER
        figure.add_annotation(
            x=mark.x,
            y=mark.y,
            text=mark.name,
            xanchor="left" if left else "right" if right else "center",
            xshift=-8 if left else 8 if right else 0,
            yanchor="bottom" if mark.above else "top",
            yshift=8 if mark.above else -8,
            showarrow=False,
            bgcolor=_PLATE,
            borderpad=1,
            font={"size": 11.5, "color": palette.INK},
        )


def add_legend(figure: go.Figure, tracks: Sequence[Path], theme: str) -> None:
    """Write the names of several runs above a map that stands alone."""
    if len(tracks) < 2:
        return
    named = [run_name(track.label, track.color, theme, swatch=True) for track in tracks]
    figure.add_annotation(
        x=0,
        y=1,
        xref="x domain",
        yref="y domain",
        xanchor="left",
        yanchor="bottom",
        yshift=6,
        showarrow=False,
        align="left",
        text="    ".join(named),
        font={"size": 11.5},
    )
    figure.update_layout(margin={"t": 34})
