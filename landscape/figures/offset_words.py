"""What a line scan along the mean ε is called and how it is drawn, on screen and paper."""

from collections.abc import Sequence

import numpy as np

from landscape.figures.scales import choose_scale
from landscape.results import Offset

END = "an end of the line: the loss falls to there"
_SHORT = {
    "training loss": "training",
    "test loss": "test",
    "test loss, temperature scaled": "scaled",
}
TRAINING = ("training loss",)
TEST = ("test loss", "test loss, temperature scaled")


def shown_curves(results: Sequence[Offset], asked: Sequence[str] | None) -> list[str]:
    """Which losses a figure shows: those asked for, else all of one result, the first of several.

    Raises:
        ValueError: If no result has any of them.
    """
    known = list(dict.fromkeys(curve for result in results for curve in result.curves))
    wanted = known if asked is None and len(results) == 1 else list(asked or known[:1])
    shown = [curve for curve in wanted if curve in known]
    if not shown:
        raise ValueError(f"curves must be of {', '.join(known)}, got {', '.join(wanted)}")
    return shown


def offset_scale(values: Sequence[np.ndarray]) -> str:
    """Log where the highest loss is over ten times the lowest and all are positive."""
    flat = np.concatenate([np.ravel(row) for row in values] or [np.empty(0)])
    flat = flat[np.isfinite(flat)]
    wide = flat.size > 0 and flat.min() > 0 and flat.max() > 10 * flat.min()
    return choose_scale(None if wide else "linear", values)


def line_name(label: str, curve: str, *, several: bool, curves: Sequence[str]) -> str:
    """What a line is called: its run where there are several, its curve where there are several."""
    own = _SHORT.get(curve, curve) if len(curves) > 1 or not several else ""
    return " ".join(part for part in (label.split(" ")[0] if several else "", own) if part)


def at_end(result: Offset, at: int) -> int:
    """Where a minimum lies: -1 or 1 at an end of the line, 0 inside."""
    if result.minimum[at] <= result.alpha[0]:
        return -1
    return int(result.minimum[at] >= result.alpha[-1])
