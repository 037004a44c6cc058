"""Sharpness as a table of words: one row for each measure, as text, LaTeX, or for a figure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from landscape.figures.estimate_words import interval, value_and_error
from landscape.figures.items import Items, items_of
from landscape.figures.numbers import MINUS, NONE, THIN_SPACE, number
from landscape.results import Sharpness

_NUMBER = re.compile(rf"(\d[\d.{THIN_SPACE}]*(?:e{MINUS}?\d+)?)")


_BESIDE = {
    "loss": ("mean loss", "in nats, at the weights"),
    "mean_probability": ("mean true-class probability", "curvature shrinks as it nears 1"),
}
"""What stands under the measures: without it runs can't be compared by them."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one run says of one measure."""

    value: str = NONE
    error: str = ""
    bound: bool = False
    """Whether the value is a lower bound only."""
    interval: str = ""

    @property
    def text(self) -> str:
        """Value and error on one line."""
        text = f"{self.value} ± {self.error}" if self.error else self.value
        return f"≥ {text}" if self.bound else text


@dataclass(frozen=True, kw_only=True)
class SharpnessTable:
    """Measures by runs. The audit is that of a single run; of several it would be a table each."""

    runs: tuple[tuple[str, int], ...]
    """Name and color index of each run."""
    measures: tuple[tuple[str, str], ...]
    """Name and setting of each row."""
    cells: tuple[tuple[Cell, ...], ...]
    """`cells[row][run]`."""
    audit_names: tuple[str, ...] = ()
    audit: tuple[tuple[str, ...], ...] = ()
    """Ratios of each row."""


def sharpness_table(
    sharpness: Sharpness | Items[Sharpness], color: int = 0, *, audit: bool | None = None
) -> SharpnessTable:
    """Sort the measures of runs into rows: those of equal name share one, in their order.

    Settings that differ between runs stand beside each other: numbers in the order of the runs.
    Under them stand loss and mean true-class probability.

    Args:
        sharpness: One result, or (label, color, result) of each run.
        color: Color index of a single run.
        audit: Whether the invariance audit is shown; by default where there is a single run.
    """
    items = items_of(sharpness, color)
    results = [result for _, _, result in items]
    measures = list(dict.fromkeys(row for result in results for row in _rows(result)))
    beside = [
        (words, [float(getattr(result, name)) for result in results])
        for name, words in _BESIDE.items()
    ]
    beside = [(words, values) for words, values in beside if not all(map(math.isnan, values))]
    cells = [tuple(_cell(result, row) for result in results) for row in measures]
    cells += [tuple(Cell(value=number(value)) for value in values) for _, values in beside]
    first = results[0]
    shown = (len(items) == 1 if audit is None else audit) and first.audit.size > 0
    ratios = [tuple(_ratio(float(r)) for r in row) for row in first.audit] if shown else []
    ratios += [(NONE,) * len(first.audit_names) for _ in beside] if shown else []
    return SharpnessTable(
        runs=tuple((label, index) for label, index, _ in items),
        measures=(*[(row[0], _settings(items, row)) for row in measures], *[w for w, _ in beside]),
        cells=tuple(cells),
        audit_names=first.audit_names if shown else (),
        audit=tuple(ratios),
    )


def _rows(result: Sharpness) -> list[tuple[str, int]]:
    """Name of each measure, and how many of this name come before it."""
    return [(name, result.names[:i].count(name)) for i, name in enumerate(result.names)]


def _settings(items: Sequence[tuple[str, int, Sharpness]], row: tuple[str, int]) -> str:
    found = [dict(zip(_rows(r), r.settings, strict=True)).get(row, "") for _, _, r in items]
    return _together([setting for setting in found if setting])


def _together(settings: list[str]) -> str:
    """Settings of several runs: numbers that differ stand beside each other, in order of runs."""
    parts = [_NUMBER.split(setting) for setting in settings]
    if len({tuple(part[::2]) for part in parts}) > 1:  # in other words
        return " / ".join(dict.fromkeys(settings))
    places = zip(*parts, strict=True)
    return "".join(" / ".join(p) if len(set(p)) > 1 else p[0] for p in places)


def _cell(result: Sharpness, row: tuple[str, int]) -> Cell:
    rows = _rows(result)
    if row not in rows:
        return Cell()
    i = rows.index(row)
    error = float(result.standard_error[i])
    value, spread = value_and_error(float(result.value[i]), error)
    ends = float(result.interval_low[i]), float(result.interval_high[i])
    return Cell(
        value=value,
        error=spread,
        bound=bool(result.lower_bound[i]) and value != NONE,
        interval=interval(*ends, error),
    )


def _ratio(ratio: float) -> str:
    return NONE if math.isnan(ratio) else f"× {number(ratio)}"


def grid_of(table: SharpnessTable) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table in words; columns that would be empty are left out."""
    several = len(table.runs) > 1
    columns = [
        ("measure", [name for name, _ in table.measures]),
        ("setting", [setting for _, setting in table.measures]),
    ]
    for run, (label, _) in enumerate(table.runs):
        cells = [row[run] for row in table.cells]
        columns.append((label if several else "value", [cell.text for cell in cells]))
        name = f"{label}, 95 %" if several else "95 % interval"
        columns.append((name, [cell.interval for cell in cells]))
    columns += [(name, [row[i] for row in table.audit]) for i, name in enumerate(table.audit_names)]
    kept = [(head, words) for head, words in columns if any(words)]
    rows = [list(row) for row in zip(*(words for _, words in kept), strict=True)]
    return [head for head, _ in kept], rows


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MINUS: "$-$",
    THIN_SPACE: r"\,",
    NONE: "--",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "∞": r"$\infty$",
}


def latex_of(table: SharpnessTable) -> str:
    """The table as a LaTeX tabular; needs the package booktabs."""
    heads, rows = grid_of(table)
    return latex_of_grid(heads, rows, left=sum(head in ("measure", "setting") for head in heads))


def latex_of_grid(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table of words, the first `left` columns to the left, as a LaTeX tabular."""
    lines = [" & ".join(_escaped(word) for word in row) + r" \\" for row in (heads, *rows)]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    spec = "l" * left + "r" * (len(heads) - left)
    return "\n".join([rf"\begin{{tabular}}{{{spec}}}", *body, r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
