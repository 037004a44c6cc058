"""Tables of sharpness on the screen, as dots with intervals."""

import numpy as np
import plotly.graph_objects as go

from landscape.figures import palette
from landscape.figures.estimate_words import interval, plus_minus
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import NONE, number
from landscape.figures.scales import log_ticks
from landscape.figures.template import new_figure
from landscape.results import Sharpness

Measure = tuple[str, int]
"""Name of a measure, and how many of that name stand before it in its table."""

ROW = 40
"""Height of one measure in px."""
AUDIT_MARKS = ("x-thin", "cross-thin", "asterisk", "y-down")
_TIMES = "×\N{THIN SPACE}"


def measures_of(sharpness: Sharpness) -> list[Measure]:
    """What was measured, in the order of the result."""
    names = sharpness.names
    return [(name, names[:at].count(name)) for at, name in enumerate(names)]


def all_measures(items: Items[Sharpness]) -> list[Measure]:
    """Everything that any of several tables measured, in the order of the first that has it."""
    return list(dict.fromkeys(m for _, _, table in items for m in measures_of(table)))


def setting_text(items: Items[Sharpness], measure: Measure) -> str:
    """What a measure was measured with; where tables differ, what each says."""
    said = []
    for _, _, table in items:
        there = measures_of(table)
        if measure in there and table.settings:
            said.append(table.settings[there.index(measure)])
    return " / ".join(dict.fromkeys(text for text in said if text))


def value_text(sharpness: Sharpness, at: int) -> str:
    """A measure's value with its standard error, or as the lower bound that it is."""
    value, error = float(sharpness.value[at]), float(sharpness.standard_error[at])
    return plus_minus(value, error, lower_bound=bool(sharpness.lower_bound[at]))


def interval_text(sharpness: Sharpness, at: int) -> str:
    """A measure's 95 % interval, or a dash where no honest one is known."""
    low, high = float(sharpness.interval_low[at]), float(sharpness.interval_high[at])
    return interval(low, high, float(sharpness.standard_error[at])) or NONE


def ratio_text(ratio: float) -> str:
    """How many times its value a measure has after a change that leaves the function."""
    return _TIMES + number(ratio) if np.isfinite(ratio) else NONE


def plot_sharpness(
    sharpness: Sharpness | Items[Sharpness],
    *,
    limits: tuple[float, float] | None = None,
    theme: str = "light",
    color: int = 0,
) -> go.Figure:
    """Draw one row per measure: value, 95 % interval, and "≥" where it is a lower bound.

    Only dots of one row compare: every measure has its own units. A hollow dot is a negative value,
    drawn at its magnitude. Of a single table, thin marks are the values after each change of the
    audit: a measure without a mark beside its dot is invariant.

    Args:
        sharpness: One table, or (label, color, table) of each run.
        limits: Lowest and highest magnitude of the axis.
        theme: "light" or "dark".
        color: Color index of a single table.

    Raises:
        ValueError: If no measure has a finite value other than 0.
    """
    items = items_of(sharpness, color)
    rows = all_measures(items)
    figure = new_figure(theme, "curves")
    low, high = _range(items) if limits is None else limits
    for label, index, table in items:
        at = np.array([rows.index(m) for m in measures_of(table)], dtype=float)
        if len(items) == 1:
            _add_audit(figure, table, at, theme)
        _add_values(figure, label, index, table, at, theme)
    ends = np.log10([low, high]) + 0.04 * np.log10(high / low) * np.array([-1, 1])
    ticks = log_ticks(low, high)
    figure.update_xaxes(
        type="log",
        range=[float(end) for end in ends],
        tickvals=ticks,
        ticktext=[number(float(t), 1) for t in ticks],
        title_text="value, each row in its own units",
    )
    _name_rows(figure, [(name, setting_text(items, (name, at))) for name, at in rows], theme)
    return figure


def _range(items: Items[Sharpness]) -> tuple[float, float]:
    drawn = [
        np.abs(
            np.concatenate(
                [t.value, t.interval_low, t.interval_high, (t.value[:, None] * t.audit).ravel()]
                if len(items) == 1 and t.audit.size
                else [t.value, t.interval_low, t.interval_high]
            )
        )
        for _, _, t in items
    ]
    finite = np.concatenate(drawn)
    finite = finite[np.isfinite(finite) & (finite > 0)]
    if not finite.size:
        raise ValueError("a table of sharpness must have a finite value other than 0, got none")
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > 1.5 * low else (low / 2, high * 2)


def _add_values(
    figure: go.Figure, label: str, index: int, table: Sharpness, at: np.ndarray, theme: str
) -> None:
    run = palette.run_color(index)
    shade, ground = run.on(theme), palette.tokens(theme).surface
    size = np.abs(table.value)
    known = np.isfinite(table.interval_low) & np.isfinite(table.interval_high)
    above = np.where(known, table.interval_high - table.value, 0.0)
    below = np.where(known, table.value - table.interval_low, 0.0)
    negative = table.value < 0
    up, down = np.where(negative, below, above), np.where(negative, above, below)
    told = [
        "<br>".join(
            part
            for part in (
                name,
                table.settings[i] if table.settings else "",
                value_text(table, i),
                f"95 % {interval_text(table, i)}" if known[i] else "",
            )
            if part
        )
        for i, name in enumerate(table.names)
    ]
    figure.add_trace(
        go.Scatter(
            x=np.where(size > 0, size, np.nan),
            y=at,
            mode="markers+text",
            text=["≥ " if bound else "" for bound in table.lower_bound],
            textposition="middle left",
            textfont={"size": 12, "color": palette.tokens(theme).text},
            marker={
                "symbol": run.marker,
                "size": 8,
                "opacity": 1,
                "color": [ground if minus else shade for minus in negative],
                "line": {"color": shade, "width": 1.5},
            },
            error_x={
                "type": "data",
                "array": up,
                "arrayminus": np.minimum(down, 0.999 * np.nan_to_num(size)),
                "thickness": 1.4,
                "width": 0,
                "color": shade,
            },
            customdata=told,
            hovertemplate=(f"{label}<br>" if label else "") + "%{customdata}<extra></extra>",
            name=label or "measures",
        )
    )


def _add_audit(figure: go.Figure, table: Sharpness, at: np.ndarray, theme: str) -> None:
    if not table.audit.size:
        return
    shade = palette.tokens(theme).muted
    for change, name in enumerate(table.audit_names):
        after = np.abs(table.value * table.audit[:, change])
        figure.add_trace(
            go.Scatter(
                x=np.where(after > 0, after, np.nan),
                y=at,
                mode="markers",
                marker={
                    "symbol": AUDIT_MARKS[change % len(AUDIT_MARKS)],
                    "size": 8,
                    "line": {"color": shade, "width": 1.4},
                },
                customdata=[ratio_text(float(r)) for r in table.audit[:, change]],
                hovertemplate=f"after {name}<br>%{{customdata}}<extra></extra>",
                name=name,
            )
        )


def _name_rows(figure: go.Figure, rows: list[tuple[str, str]], theme: str) -> None:
    """Each measure's name over its row, where it takes no width."""
    tone = palette.tokens(theme)
    figure.update_yaxes(
        range=[len(rows) - 0.6, -0.85],
        tickvals=np.arange(len(rows)),
        showticklabels=False,
        ticks="",
    )
    for at, (name, setting) in enumerate(rows):
        more = f' <span style="color:{tone.faint}">{setting}</span>' if setting else ""
        figure.add_annotation(
            x=0,
            xref="x domain",
            y=at - 0.2,
            xanchor="left",
            yanchor="bottom",
            xshift=4,
            showarrow=False,
            text=name + more,
            font={"size": 11, "color": tone.text},
        )
    figure.update_layout(margin={"l": 16})
