"""What the command line says of a result: its few numbers, its caption, its file."""

import shutil
import textwrap
from typing import Any

from landscape.terminal import duration, number


def headline(result: Any) -> dict[str, Any]:
    """The few numbers of a result that a reader wants first."""
    import numpy as np

    if result.kind in ("profile", "surface"):
        finite = result.loss[np.isfinite(result.loss)]
        low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
        return {
            "points": int(result.evaluated.sum()),
            "lowest loss": float(low),
            "highest loss": float(high),
            "diverged": int((result.evaluated & ~np.isfinite(result.loss)).sum()),
        }
    if result.kind == "barrier":
        others = ~np.eye(len(result.names), dtype=bool)
        return {
            "minima": len(result.names),
            "highest barrier": float(result.height[others].max()),
            "over the line": float(result.height_over_line[others].max()),
            "of the error": float(result.error_height[others].max()),
        }
    if result.kind == "curve":
        return {
            "highest loss on the curve": float(result.loss.max()),
            "on the line": float(result.line_loss.max()),
            "at the ends": float(max(result.loss[0], result.loss[-1])),
        }
    if result.kind == "spectrum":
        return {
            "λ1": float(result.eigenvalues[0]),
            f"λ{len(result.eigenvalues)}": float(result.eigenvalues[-1]),
            "largest residual": float(result.residuals.max()),
            "matvecs": result.matvecs,
            "converged": result.converged,
        }
    if result.kind == "density":
        trace, error = result.facts.get("trace"), result.facts.get("trace_error")
        return {"trace": trace, "standard error": error, "matvecs": result.matvecs}
    if result.kind == "consistency":
        return {
            "mean cosine": result.mean_cosine,
            "interval low": result.interval_low,
            "interval high": result.interval_high,
            "null low": result.null_low,
            "null high": result.null_high,
            "resultant length": result.resultant_length,
        }
    return {
        "checkpoints": len(result.step),
        "variance in the plane": float(result.explained[:2].sum()),
        "null": float(result.explained_null[:2].sum()),
        "largest off-plane distance": float(result.off_plane.max()),
    }


def report(stored: Any, where: str) -> str:
    """A stored result in a few lines that fit the terminal."""
    from landscape.figures.captions import caption

    result = stored.result
    what = result.kind
    if what == "consistency":
        what = f"consistency, {result.protocol}, {result.perturbation}"
    numbers = ", ".join(
        f"{name} {value if isinstance(value, bool | int) else number(value)}"
        for name, value in headline(result).items()
    )
    seconds = result.provenance.get("seconds", 0)
    state = "measured before" if stored.found else f"measured in {duration(seconds)}"
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    texts = [
        textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
        for text in (numbers, caption(result))
    ]
    return "\n".join([f"{what} of {where}", *texts, f"  {stored.path} ({state})"])
