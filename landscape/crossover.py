"""One table of how well every perturbation agrees at the weights of every run. No torch."""

import math
import shutil
from collections.abc import Sequence
from typing import Any

from landscape.terminal import table

_NUMBERS = ("mean_cosine", "interval_low", "interval_high", "null_low", "null_high")


def crossover(measured: Sequence[tuple[str, Sequence[Any]]]) -> dict[str, Any] | None:
    """Return the numbers of the frozen protocol by weights and perturbation, as JSON has them.

    Each number is a list of rows, one for each place; None where a pair was not measured.

    Args:
        measured: Pairs of where, as "sam-0 at step 60", and each `Consistency` measured there.

    Returns:
        None for a single place, which needs no table.
    """
    rows = [
        (where, {r.perturbation: r for r in found if r.protocol == "frozen"})
        for where, found in measured
    ]
    rows = [row for row in rows if row[1]]
    if len(rows) < 2:
        return None
    columns = list(dict.fromkeys(label for _, found in rows for label in found))
    numbers = {
        name: [[getattr(found.get(label), name, None) for label in columns] for _, found in rows]
        for name in _NUMBERS
    }
    places = [where for where, _ in rows]
    return {"kind": "crossover", "weights": places, "perturbations": columns, **numbers}


def crossover_text(crossed: dict[str, Any]) -> str:
    """Return it as text that fits the terminal: columns that do not fit follow below.

    Two lines for each place: the mean cosine with its interval, and the null.
    """
    heads, places = crossed["perturbations"], crossed["weights"]
    cells = [_cells(crossed, row) for row in range(len(places))]
    shown = ["mean cosine [95 % interval]; below it, 95 % of random sign flips"]
    for columns in _pages(heads, places, cells):
        rows = []
        for place, (upper, lower) in zip(places, cells, strict=True):
            rows.append([place, *(upper[i] for i in columns)])
            rows.append(["", *(lower[i] for i in columns)])
        shown.append(table(["", *(heads[i] for i in columns)], rows))
    return "\n\n".join(shown)


def _cells(crossed: dict[str, Any], row: int) -> tuple[list[str], list[str]]:
    """Return the upper and the lower line of a place."""
    upper, lower = [], []
    for mean, low, high, null_low, null_high in zip(
        *(crossed[name][row] for name in _NUMBERS), strict=True
    ):
        upper.append("–" if mean is None else f"{_cosine(mean)} {_range(low, high)}")
        lower.append("" if mean is None else _range(null_low, null_high))
    return upper, lower


def _range(low: float, high: float) -> str:
    return f"[{_cosine(low)}, {_cosine(high)}]"


def _cosine(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _pages(
    heads: Sequence[str], places: Sequence[str], cells: Sequence[tuple[list[str], list[str]]]
) -> list[list[int]]:
    """Return the columns that fit beside each other, page by page; at least one on each."""
    limit = shutil.get_terminal_size((80, 24)).columns
    first = max(map(len, places))
    pages: list[list[int]] = []
    used = limit
    for i, head in enumerate(heads):
        width = 2 + max(len(head), *(len(line[i]) for pair in cells for line in pair))
        if used + width > limit:
            pages.append([])
            used = first
        pages[-1].append(i)
        used += width
    return pages
