"""A surface on the screen, seen from above: field, cell states, contour lines, path."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.contours import Label, joined, levels_of, lines_at, place_labels
from landscape.figures.fields import Field, ends, field_of, refine
from landscape.figures.paths import Path, path_of
from landscape.figures.scales import color_bar, color_bar_text
from landscape.figures.screen_surface3d import plot_surface_3d
from landscape.figures.template import add_color_bar, new_figure
from landscape.results import Surface

WHITE_THIN = "rgba(255,255,255,0.30)"
WHITE_LINE = "rgba(255,255,255,0.62)"
CASING = "rgba(255,255,255,0.92)"


def plot_surface(
    surface: Surface,
    *,
    view: str = "contour",
    value: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
    path: bool = True,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    bar: bool = False,
) -> go.Figure:
    """Draw a surface as a contour map or in 3D.

    Cells are evaluated (colored), diverged (grey with a cross) or not evaluated (hatched); no cell
    is filled silently. `figure.layout.meta` holds scale, limits, ticks of the color bar and the
    counts of each state, for the pane's header and footer.

    Args:
        surface: What was measured.
        view: "contour" or "3d".
        value: "loss" or "accuracy".
        scale: "log", "linear", or None for log where the values allow it.
        limits: Lowest and highest value of the color map; give the same to compared surfaces.
        theme: "light" or "dark".
        color: Color index of the run, for the path.
        path: Whether to draw the run's checkpoints.
        drops: (step, lr) where the learning rate fell, marked on the path.
        selected: Step of the checkpoint to ring.
        bar: Whether to add a color bar; a page draws one of its own for all its panes.

    Raises:
        ValueError: If view, value or theme is unknown, or the limits don't fit the scale.
    """
    field = field_of(surface, value=value, scale=scale, limits=limits)
    track = path_of(surface, field) if path else None
    if view == "3d":
        figure = plot_surface_3d(surface, field, track, theme=theme, color=color)
    elif view == "contour":
        figure = _contour(surface, field, track, theme=theme)
        if track is not None:
            _add_path(figure, track, color, drops, selected)
    else:
        raise ValueError(f"view must be 'contour' or '3d', got {view!r}")
    meta = surface_meta(field)
    figure.update_layout(meta=meta)
    if bar:
        name = "surface" if view == "3d" else "field"
        add_color_bar(figure, name, field.height_limits, meta["bar"], value, theme)
    return figure


def surface_meta(field: Field) -> dict[str, Any]:
    """What the pane's header and footer say of a drawn surface."""
    return {
        "value": field.value,
        "scale": field.scale,
        "limits": list(field.limits),
        "header": color_bar_text(field.limits, field.scale, clipped=field.clipped),
        "bar": [list(tick) for tick in color_bar(field.limits, field.scale, clipped=field.clipped)],
        "evaluated": int((field.evaluated & ~field.diverged).sum()),
        "diverged": int(field.diverged.sum()),
        "missing": int((~field.evaluated).sum()),
    }


def hatch(theme: str) -> str:
    """The pattern of what was not evaluated, as an SVG data URI."""
    color = palette.tokens(theme)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400"><defs><pattern id="h" '
        'width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" fill="{color.sunken}"/>'
        f'<path d="M0.5 0V6" stroke="{color.zero}" stroke-width="1"/></pattern></defs>'
        '<rect width="400" height="400" fill="url(#h)"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _contour(surface: Surface, field: Field, track: Path | None, *, theme: str) -> go.Figure:
    figure = new_figure(theme, "maps")
    figure.add_layout_image(
        source=hatch(theme),
        xref="x domain",
        yref="y domain",
        x=0,
        y=1,
        sizex=1,
        sizey=1,
        sizing="fill",
        layer="below",
    )
    figure.add_trace(_field_trace(field))
    _add_diverged(figure, field, theme)
    _add_lines(figure, field, track)
    figure.add_trace(_hover_trace(surface, field))
    _frame(figure, surface, field)
    return figure


def _frame(figure: go.Figure, surface: Surface, field: Field) -> None:
    shared = {"mirror": True, "showgrid": False, "constrain": "domain", "nticks": 8}
    figure.update_xaxes(range=list(ends(field.x)), title_text=surface.axis_labels[0], **shared)
    figure.update_yaxes(range=list(ends(field.y)), title_text=surface.axis_labels[1], **shared)
    if field.equal:
        figure.update_yaxes(scaleanchor="x", scaleratio=1)


def _field_trace(field: Field) -> go.Heatmap:
    x, y, height = refine(field)
    low, high = field.height_limits
    return go.Heatmap(
        x=x,
        y=y,
        z=height.astype(np.float32),
        zmin=low,
        zmax=high,
        zsmooth=False,
        colorscale=palette.gradient_stops(),
        showscale=False,
        hoverinfo="skip",
        name="field",
    )


def _hover_trace(surface: Surface, field: Field) -> go.Heatmap:
    """A clear layer on the measured grid: hover and clicks give what was measured there."""
    loss, accuracy = surface.loss.T, surface.accuracy.T
    shown = np.where(np.isfinite(loss), field.values, np.nan)
    lines = [f"{surface.axis_labels[0]} %{{x:.3~g}}, {surface.axis_labels[1]} %{{y:.3~g}}"]
    lines.append("loss %{customdata[0]:.3~g}")
    if np.isfinite(accuracy).any():
        lines.append("accuracy %{customdata[1]:.1%}")
    return go.Heatmap(
        x=field.x,
        y=field.y,
        z=shown,
        customdata=np.stack([loss, accuracy], axis=-1),
        colorscale=[[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]],
        showscale=False,
        hoverongaps=False,
        hovertemplate="<br>".join(lines) + "<extra></extra>",
        name="measured",
    )


def _add_diverged(figure: go.Figure, field: Field, theme: str) -> None:
    color = palette.tokens(theme)
    rows, columns = np.nonzero(field.diverged)
    if not len(rows):
        return
    figure.add_trace(
        go.Heatmap(
            x=field.x,
            y=field.y,
            z=np.where(field.diverged, 1.0, np.nan),
            colorscale=[[0, color.diverged], [1, color.diverged]],
            showscale=False,
            hoverongaps=False,
            hovertemplate="diverged: the loss is not finite here<extra></extra>",
            name="diverged",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=field.x[columns],
            y=field.y[rows],
            mode="markers",
            marker={"symbol": "x-thin", "size": 5, "line": {"width": 1.2, "color": color.err}},
            hoverinfo="skip",
            name="crosses",
        )
    )


def _add_lines(figure: go.Figure, field: Field, track: Path | None) -> None:
    thin, labeled = levels_of(field)
    lines = lines_at(field, labeled)
    for kind, drawn, color, width in (
        ("thin lines", lines_at(field, thin), WHITE_THIN, 0.6),
        ("lines", lines, WHITE_LINE, 0.9),
    ):
        x, y = joined(drawn)
        line = {"color": color, "width": width}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name=kind))
    positions = None if track is None else track.position
    for label in place_labels(field, labeled, lines, path=positions):
        figure.add_annotation(**_label(field, label))


def _label(field: Field, label: Label) -> dict[str, Any]:
    ground = palette.map_color(float(field.place(np.array([label.level]))[0]))
    return {
        "x": label.x,
        "y": label.y,
        "text": label.text,
        "textangle": -label.angle,
        "showarrow": False,
        "font": {
            "size": 10.5,
            "color": palette.INK if palette.is_light(ground) else "#FFFFFF",
            "shadow": ", ".join([f"0 0 2px {ground}"] * 4),
        },
    }


def _add_path(
    figure: go.Figure,
    track: Path,
    color: int,
    drops: Sequence[tuple[float, float]],
    selected: float | None,
) -> None:
    run = palette.run_color(color).light
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
    _add_marks(figure, track, drops, selected)


def _points(track: Path, run: str) -> go.Scatter:
    fills = [palette.blend(run, "#FFFFFF", float(share)) for share in track.hollow]
    return go.Scatter(
        x=track.position[:, 0],
        y=track.position[:, 1],
        mode="markers",
        marker={"size": 5, "color": fills, "line": {"width": 1.1, "color": run}},
        customdata=np.stack([track.step, track.loss, track.below, track.off_plane], axis=-1),
        hovertemplate=(
            "step %{customdata[0]:,.0f}<br>measured loss %{customdata[1]:.3~g}"
            "<br>surface below %{customdata[2]:.3~g}"
            "<br>out of the plane %{customdata[3]:.3~g}<extra></extra>"
        ),
        name="points",
    )


def _add_marks(
    figure: go.Figure,
    track: Path,
    drops: Sequence[tuple[float, float]],
    selected: float | None,
) -> None:
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
