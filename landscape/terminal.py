"""What the command line shows: progress with ETA, tables that fit, times and sizes."""

import difflib
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Progress(Protocol):
    """Told how far a measurement is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total`, and a few words of what is known so far."""
        ...


class ProgressBar:
    """A tqdm bar fed with (done, total, note), made at the first call; use as a context manager."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label, self._quiet, self._bar = label, quiet, None

    def __enter__(self) -> "ProgressBar":
        return self

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is done, and a few words of what is known so far."""
        if self._quiet:
            return
        if self._bar is None:
            from tqdm import tqdm

            columns = shutil.get_terminal_size((80, 24)).columns
            self._bar = tqdm(
                total=total,
                initial=max(done - 1, 0),  # what was there before says nothing about the pace
                desc=self._label,
                file=sys.stderr,
                ncols=min(columns, 100) - 1,
                mininterval=0.2 if sys.stderr.isatty() else 20,  # a log needs no animation
                leave=False,
                bar_format="{desc} {percentage:3.0f} % |{bar}| "
                "{n}/{total}, {remaining} left{postfix}",
            )
        if total != self._bar.total:
            self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def number(value: Any, digits: int = 3) -> str:
    """Three significant digits; an en dash where there is no value."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return "–"
    return "–" if math.isnan(value) else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Seconds as "8 s" or "2 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Align columns, the first `left` to the left; cut the widest until the table fits.

    Columns at the right are dropped, and said, where even cut ones don't fit the terminal.
    """
    limit = shutil.get_terminal_size((80, 24)).columns
    cells = [list(heads), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    kept = len(widths)
    while sum(widths[:kept]) + 2 * (kept - 1) > limit:
        widest = max(range(kept), key=lambda i: widths[i])
        if widths[widest] > 14:
            widths[widest] -= 1
        elif kept > 2:
            kept -= 1
        else:
            break
    lines = []
    for row in cells:
        texts = []
        for i, text in enumerate(row[:kept]):
            if len(text) > widths[i]:
                text = text[: widths[i] - 1] + "…"
            texts.append(text.ljust(widths[i]) if i < left else text.rjust(widths[i]))
        lines.append("  ".join(texts).rstrip())
    if kept < len(heads):
        lines.append(f"(not shown here: {', '.join(heads[kept:])}; widen the terminal)")
    return "\n".join(lines)


def near(word: str, known: Iterable[str]) -> str:
    """A hint like " (did you mean 'surface'?)", or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
