"""Figures of results: plotly for the screen, matplotlib for paper.

`plot` and `draw` look the function of a result's kind up in one table and load its library only
then. The named functions are in `landscape.figures.interactive` and `landscape.figures.paper`.
"""

from importlib import import_module
from typing import Any

FIGURES = {
    "profile": ("plot_profile", "draw_profile"),
    "surface": ("plot_surface", "draw_surface"),
    "barrier": ("plot_barrier", "draw_barrier"),
    "curve": ("plot_curve", "draw_curve"),
    "spectrum": ("plot_spectrum", "draw_spectrum"),
    "density": ("plot_density", "draw_density"),
    "trace": ("plot_trace", "draw_trace"),
    "sharpness": ("plot_sharpness", "draw_sharpness"),
    "stability": ("plot_stability", "draw_stability"),
    "curvature": ("plot_curvature", "draw_curvature"),
    "consistency": ("plot_consistency", "draw_consistency"),
    "directions": ("plot_directions", "draw_directions"),
    "rise": ("plot_rise", "draw_rise"),
    "offset": ("plot_offset", "draw_offset"),
    "trajectory": ("plot_trajectory", "draw_trajectory"),
    "comparison": ("plot_comparison", "draw_comparison"),
    "claim": ("plot_claim", "draw_claim"),
}
"""Kind of result -> (screen function, paper function)."""
_WITH_BAR = ("surface", "barrier", "consistency", "directions")


def plot(result: Any, **style: Any) -> Any:
    """Draw a result for the screen, as a figure that stands alone: maps have a color bar.

    Args:
        result: Any result.
        style: Keywords of the kind's `plot_x`.

    Returns:
        A plotly figure.

    Raises:
        ValueError: If there is no figure of this kind.
    """
    function = getattr(import_module("landscape.figures.interactive"), _names(result)[0])
    if result.kind in _WITH_BAR:
        style.setdefault("bar", True)
    return function(result, **style)


def draw(result: Any, **style: Any) -> Any:
    """Draw a result for paper.

    Args:
        result: Any result.
        style: Keywords of the kind's `draw_x`.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If there is no figure of this kind.
    """
    return getattr(import_module("landscape.figures.paper"), _names(result)[1])(result, **style)


def _names(result: Any) -> tuple[str, str]:
    kind = getattr(result, "kind", type(result).__name__)
    if kind not in FIGURES:
        raise ValueError(f"there are figures of {sorted(FIGURES)}, got a {kind!r}")
    return FIGURES[kind]
