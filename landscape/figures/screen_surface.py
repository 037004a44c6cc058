"""A surface on the screen, seen from above: field, cell states, contour lines, path."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.contours import Label, joined, levels_of, lines_at, place_labels
from landscape.figures.fields import Field, ends, field_of, refine
from landscape.figures.paths import marks_of, paths_of, taken
from landscape.figures.scales import color_bar, color_bar_text
from landscape.figures.screen_marks import add_legend, add_marks, add_path, hover_of
from landscape.figures.screen_surface3d import plot_surface_3d
from landscape.figures.template import add_color_bar, new_figure
from landscape.results import Surface

WHITE_THIN = "rgba(255,255,255,0.30)"
WHITE_LINE = "rgba(255,255,255,0.62)"
DOT = palette.translucent(palette.INK, 0.6)


def plot_surface(
    surface: Surface,
    *,
    view: str = "contour",
    quantity: str = "loss",
    scale: str | None = None,
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int | Sequence[int] = 0,
    path: bool = True,
    drops: Sequence[tuple[float, float]] = (),
    selected: float | None = None,
    bar: bool = False,
) -> go.Figure:
    """Draw a surface as a contour map or in 3D.

    Cells are evaluated (colored), interpolated (colored, with a dot), diverged (grey with a cross),
    without a value of this quantity (grey) or not evaluated (hatched); no cell is filled silently.
    `figure.layout.meta` holds scale, limits, ticks of the color bar and the counts of each state,
    for the pane's header and footer.

    Args:
        surface: What was measured.
        view: "contour" or "3d".
        quantity: "loss", "accuracy", "test_loss", "test_accuracy", the name of a metric, or of the
            Hessian "lambda_max" or "convexity", the ratio |λmin/λmax| (Li et al. 2018, figure 7).
        scale: "log", "linear", or None: log for losses and eigenvalues that allow it.
        limits: Lowest and highest value of the color map; give the same to compared surfaces.
        theme: "light" or "dark".
        color: Color index of the run, for the path; of several runs that of the first, or a list.
        path: Whether to draw the runs' checkpoints.
        drops: (step, lr) where the learning rate fell, marked on the path.
        selected: Step of the checkpoint to ring.
        bar: Whether to add a color bar; a page draws one of its own for all its panes.

    Raises:
        ValueError: If view or theme is unknown, the quantity was not measured, or the limits don't
            fit the scale.
    """
    field = field_of(surface, quantity=quantity, scale=scale, limits=limits)
    tracks = paths_of(surface, field, color) if path else []
    if view == "3d":
        figure = plot_surface_3d(surface, field, tracks, theme=theme)
    elif view == "contour":
        marks = marks_of(surface, field, tracks)
        figure = _contour(surface, field, taken(field, tracks, marks), theme=theme)
        add_marks(figure, field, marks)  # first: where a path ends at one, its end is seen
        for track in tracks:
            add_path(figure, track, drops, selected)
    else:
        raise ValueError(f"view must be 'contour' or '3d', got {view!r}")
    meta = surface_meta(field)
    figure.update_layout(meta=meta)
    if bar:
        name = "surface" if view == "3d" else "field"
        title = field.quantity.title
        add_color_bar(figure, name, field.height_limits, meta["bar"], title, theme)
        add_legend(figure, tracks, theme)
    return figure


def surface_meta(field: Field) -> dict[str, Any]:
    """What the pane's header and footer say of a drawn surface."""
    return {
        "quantity": field.quantity.name,
        "title": field.quantity.title,
        "scale": field.scale,
        "limits": list(field.limits),
        "header": color_bar_text(field.limits, field.scale, clipped=field.clipped),
        "bar": [list(tick) for tick in color_bar(field.limits, field.scale, clipped=field.clipped)],
        "evaluated": int((np.isfinite(field.values) & ~field.interpolated).sum()),
        "diverged": int(field.diverged.sum()),
        "blank": int(field.blank.sum()),
        "interpolated": int(field.interpolated.sum()),
        "missing": int(field.missing.sum()),
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


def _contour(
    surface: Surface, field: Field, away_from: Sequence[np.ndarray], *, theme: str
) -> go.Figure:
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
    _add_states(figure, field, theme)
    _add_lines(figure, field, away_from)
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
    lines, data = hover_of(surface)
    told = np.where(field.interpolated, "<br>interpolated", "")
    return go.Heatmap(
        x=field.x,
        y=field.y,
        z=np.where(field.diverged, np.nan, field.values),
        customdata=data.transpose(1, 0, 2),
        text=told if field.interpolated.any() else None,
        colorscale=[[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]],
        showscale=False,
        hoverongaps=False,
        hovertemplate="<br>".join(lines)
        + ("%{text}" if field.interpolated.any() else "")
        + "<extra></extra>",
        name="measured",
    )


def _add_states(figure: go.Figure, field: Field, theme: str) -> None:
    color = palette.tokens(theme)
    for mask, shade, told, name in (
        (field.blank, color.line, f"no value of {field.quantity.title} here", "blank"),
        (field.diverged, color.diverged, "diverged: the loss is not finite here", "diverged"),
    ):
        if mask.any():
            figure.add_trace(_flat(field, mask, shade, told, name))
    cross = {"symbol": "x-thin", "size": 5, "line": {"width": 1.2, "color": color.err}}
    _add_cells(figure, field, field.diverged, cross, "crosses")
    _add_cells(figure, field, field.interpolated, {"size": 2.2, "color": DOT}, "interpolated")


def _flat(field: Field, mask: np.ndarray, shade: str, told: str, name: str) -> go.Heatmap:
    return go.Heatmap(
        x=field.x,
        y=field.y,
        z=np.where(mask, 1.0, np.nan),
        colorscale=[[0, shade], [1, shade]],
        showscale=False,
        hoverongaps=False,
        hovertemplate=f"{told}<extra></extra>",
        name=name,
    )


def _add_cells(
    figure: go.Figure, field: Field, mask: np.ndarray, marker: dict[str, Any], name: str
) -> None:
    rows, columns = np.nonzero(mask)
    if len(rows):
        at = {"x": field.x[columns], "y": field.y[rows]}
        figure.add_trace(
            go.Scatter(**at, mode="markers", marker=marker, hoverinfo="skip", name=name)
        )


def _add_lines(figure: go.Figure, field: Field, away_from: Sequence[np.ndarray]) -> None:
    thin, labeled = levels_of(field)
    lines = lines_at(field, labeled)
    for kind, drawn, color, width in (
        ("thin lines", lines_at(field, thin), WHITE_THIN, 0.6),
        ("lines", lines, WHITE_LINE, 0.9),
    ):
        x, y = joined(drawn)
        line = {"color": color, "width": width}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name=kind))
    for label in place_labels(field, labeled, lines, away_from=away_from):
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
