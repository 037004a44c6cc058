"""The sharpness table on paper: rules as in booktabs, numbers aligned at their decimal points."""

import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes

from landscape.figures import palette
from landscape.figures.items import Items
from landscape.figures.paper_axes import MUTED, SWATCH, name_color, text_width
from landscape.figures.paper_style import PaperFigure, Venue, venue_of
from landscape.figures.sharpness_tables import Cell, SharpnessTable, sharpness_table
from landscape.results import Sharpness

_GAP = 10.0  # points at 8 pt between columns
_SPACE = 0.35  # em between a value and its error
_LINE, _ROW, _PAD = 1.12, 0.42, 3.0  # line height in em, space between rows in em, rule to text
_SHARES = (0.4, 0.3, 0.24, 0.19, 0.15, 0.12)
"""Of the text width that a column of words may take: the first with which the table fits it."""


@dataclass
class _Column:
    """A column of the table: its head, its place, and how wide each part is, in points."""

    head: str
    width: float
    left: float = 0.0
    parts: tuple[float, ...] = ()
    color: int | None = None
    lines: list[list[str]] = field(default_factory=list)


def draw_sharpness(
    sharpness: Sharpness | Items[Sharpness],
    *,
    venue: str = "icml",
    audit: bool | None = None,
    color: int = 0,
) -> PaperFigure:
    """Draw the table of sharpness measures; ≥ stands before what is a lower bound only.

    It takes the width it needs: that of a column, or up to that of the text.

    Args:
        sharpness: One result, or (label, color, result) of each run, side by side.
        venue: Whose widths and type to use.
        audit: Whether the ratios of the invariance audit are shown; by default of a single run.
        color: Color index of a single run.
    """
    sizes = venue_of(venue)
    table = sharpness_table(sharpness, color, audit=audit)
    columns, width = _fitted(table, sizes)
    heights = _heights(table, columns, sizes)
    scale = sizes.scale
    head = max((len(c.head.splitlines()) for c in columns), default=1) * _LINE * sizes.ticks
    inner = head + sum(heights) + 4 * _PAD * scale
    figure = PaperFigure(width / 72, inner / 72 + 0.04, sizes)
    axes = figure.place(0.0, 0.02, width / 72, inner / 72)
    with figure.style():
        axes.set_xlim(0, width)
        axes.set_ylim(-inner, 0)
        axes.set_axis_off()
        _draw_table(axes, table, columns, heights, head, sizes)
    return figure


def _fitted(table: SharpnessTable, venue: Venue) -> tuple[list[_Column], float]:
    """Columns in their places and the whole width, words broken until that is the text's."""
    for share in _SHARES:
        columns = _columns(table, venue, share)
        width = _placed(columns, venue)
        if width <= 72 * venue.text:
            break
    return columns, width


def _columns(table: SharpnessTable, venue: Venue, share: float) -> list[_Column]:
    words = [[name for name, _ in table.measures], [setting for _, setting in table.measures]]
    columns = [
        _words(head, column, venue, share)
        for head, column in zip(("measure", "setting"), words, strict=True)
        if any(column)
    ]
    several = len(table.runs) > 1
    for run, (label, index) in enumerate(table.runs):
        cells = [row[run] for row in table.cells]
        columns.append(_numbers(label if several else "value", cells, venue))
        columns[-1].color = index if several else None
        if any(cell.interval for cell in cells) and not several:
            columns.append(_words("95 % interval", [c.interval for c in cells], venue, 0.4))
    for i, name in enumerate(table.audit_names):
        columns.append(_words(name, [row[i] for row in table.audit], venue, min(share, 0.16)))
    return columns


def _words(head: str, cells: list[str], venue: Venue, most: float) -> _Column:
    """A column of words, broken where they are longer than it may be wide."""
    room = most * 72 * venue.text
    lines = [_broken(cell, room, venue.ticks) for cell in cells]
    heads = _broken(head, room, venue.ticks)
    flat = [line for cell in [heads, *lines] for line in cell]
    width = max(text_width(line, venue.ticks) for line in flat)
    return _Column(head="\n".join(heads), width=width, lines=lines)


def _broken(text: str, room: float, size: float) -> list[str]:
    """A text as lines that fit a width in points; words longer than it are cut."""
    width = text_width(text, size)
    letters = math.ceil(len(text) * room / width) if width > room else len(text)
    while letters < len(text) and letters > 4:
        lines = textwrap.wrap(text, letters)
        if max(text_width(line, size) for line in lines) <= room:
            return lines
        letters -= 1
    return [text]


def _numbers(head: str, cells: list[Cell], venue: Venue) -> _Column:
    """A column of numbers: whole digits, decimals, error; several runs' intervals below."""
    size = venue.ticks
    parts = [_parts(cell) for cell in cells]
    widths = tuple(
        max(text_width(part, size) + (_SPACE * size if part else 0.0) for part in column)
        for column in zip(*parts, strict=True)
    )
    heads = [head] if head == "value" else _broken(head, 0.2 * 72 * venue.text, size)
    bold = SWATCH * size if head != "value" else 0.0
    beneath = [text_width(cell.interval, size) for cell in cells] if bold else [0.0]
    widest = max(*(text_width(line, size, bold=bold > 0) + bold for line in heads), *beneath)
    return _Column(head="\n".join(heads), width=max(sum(widths), widest), parts=widths)


def _parts(cell: Cell) -> tuple[str, str, str]:
    whole, dot, decimals = cell.value.partition(".")
    error = f"± {cell.error}" if cell.error else ""
    return f"≥ {whole}" if cell.bound else whole, dot + decimals, error


def _placed(columns: list[_Column], venue: Venue) -> float:
    """Put columns beside each other; gives the whole width, at least that of a column."""
    gap, left = _GAP * venue.scale, 0.5
    for column in columns:
        column.left = left
        left += column.width + gap
    used, wanted = left - gap + 0.5, 72 * venue.column
    if used < wanted and len(columns) > 1:
        for i, column in enumerate(columns):
            column.left += i * (wanted - used) / (len(columns) - 1)
    return max(used, wanted)


def _heights(table: SharpnessTable, columns: list[_Column], venue: Venue) -> list[float]:
    several = len(table.runs) > 1
    heights = []
    for i, row in enumerate(table.cells):
        lines = max((len(c.lines[i]) for c in columns if c.lines), default=1)
        beneath = several and any(cell.interval for cell in row)
        em = max(lines * _LINE, _LINE + (1.05 if beneath else 0.0)) + _ROW
        heights.append(em * venue.ticks)
    return heights


def _draw_table(
    axes: Axes,
    table: SharpnessTable,
    columns: list[_Column],
    heights: list[float],
    head: float,
    venue: Venue,
) -> None:
    pad, size = _PAD * venue.scale, venue.ticks
    width = axes.get_xlim()[1]
    rule: Any = {"color": palette.INK, "solid_capstyle": "butt"}
    axes.plot([0, width], [-0.5, -0.5], lw=0.8 * venue.scale, **rule)
    for column in columns:
        _draw_head(axes, column, -pad - head, venue)
    y = -head - 2 * pad
    axes.plot([0, width], [y, y], lw=0.5 * venue.scale, **rule)
    y -= pad
    runs = [column for column in columns if column.parts]
    for i, height in enumerate(heights):
        top = y - 0.95 * size
        for column in (c for c in columns if c.lines):
            _draw_words(axes, column, i, top, venue)
        for column, cell in zip(runs, table.cells[i], strict=True):
            _draw_cell(axes, column, cell, top, venue, beneath=len(runs) > 1)
        y -= height
    bottom = axes.get_ylim()[0] + 0.5
    axes.plot([0, width], [bottom, bottom], lw=0.8 * venue.scale, **rule)


def _draw_head(axes: Axes, column: _Column, y: float, venue: Venue) -> None:
    shared: Any = {"fontsize": venue.ticks, "va": "baseline"}
    for i, line in enumerate(reversed(column.head.splitlines())):
        up = y + (0.2 + i * _LINE) * venue.ticks
        if column.color is None:
            right = not _is_left(column) and not column.parts
            x = column.left + (column.width if right else 0.0)
            axes.text(x, up, line, ha="right" if right else "left", **shared)
            continue
        run = palette.run_color(column.color).light
        axes.text(column.left, up, "■", color=run, **shared)
        bold: Any = {"color": name_color(column.color), "fontweight": "bold"}
        axes.text(column.left + SWATCH * venue.ticks, up, line, **bold, **shared)


def _is_left(column: _Column) -> bool:
    return column.head in ("measure", "setting")


def _draw_words(axes: Axes, column: _Column, row: int, top: float, venue: Venue) -> None:
    left = _is_left(column)
    x = column.left + (0.0 if left else column.width)
    ink = MUTED if column.head == "setting" else palette.INK
    for i, line in enumerate(column.lines[row]):
        y = top - i * _LINE * venue.ticks
        ha = "left" if left else "right"
        axes.text(x, y, line, ha=ha, va="baseline", fontsize=venue.ticks, color=ink)


def _draw_cell(
    axes: Axes, column: _Column, cell: Cell, top: float, venue: Venue, *, beneath: bool
) -> None:
    whole, decimals, error = _parts(cell)
    digits, after, _ = column.parts
    dot = column.left + digits
    shared: Any = {"fontsize": venue.ticks, "va": "baseline"}
    gap = _SPACE * venue.ticks
    axes.text(dot, top, whole, ha="right", **shared)
    axes.text(dot, top, decimals, **shared)
    axes.text(dot + after + gap, top, error, color=MUTED, **shared)
    if beneath and cell.interval:
        small: Any = {"fontsize": venue.ticks, "color": MUTED, "va": "baseline"}
        axes.text(column.left, top - 1.05 * venue.ticks, cell.interval, **small)
