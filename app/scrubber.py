"""The strip under the header of a run: its loss, and the checkpoint that every panel shows."""

from typing import Any
from urllib.parse import quote

import dash_mantine_components as dmc
import numpy as np
from dash import html

from landscape.figures.numbers import count
from landscape.figures.scales import lr_drops
from landscape.runs import RunFileError

from .panes import found
from .store import AnyRun, MissingError, Store, checkpoint_of
from .view_state import ViewState

_WIDTH, _HEIGHT = 1000, 26
_MOST_DROPS = 12


def scrubber(state: ViewState, store: Store) -> list[Any]:
    """The strip of a run; nothing where the run kept fewer than two checkpoints."""
    try:
        run = store.run(state.run)
        steps, kept = store.steps(run), run.checkpoints
    except (MissingError, RunFileError, OSError):
        return []
    if len(kept) < 2:
        return []
    first, last = kept[0], kept[-1]
    layers = [
        html.Span(className=f"strip run-{run.color % 8}", style=_mask(_loss_path(steps, last))),
        html.Span(className="strip drops", style=_mask(_ticks(_drops(steps), last, 0, _HEIGHT))),
        html.Span(className="strip kept", style=_mask(_ticks(kept, last, 22, _HEIGHT))),
        html.Span(
            className="strip measured",
            style=_mask(_ticks(_measured(run, store), last, 18, _HEIGHT)),
        ),
    ]
    slider = dmc.Slider(
        id={"slider": "step"},
        min=0,
        max=last,
        value=last,  # the browser moves it to the step of the address
        marks=[{"value": step} for step in kept],
        restrictToMarks=True,
        updatemode="mouseup",
        thumbLabel="checkpoint",
        labelAlwaysOn=False,
        size=2,
        thumbSize=14,
        className="slider",
    )
    return [
        html.Span("Checkpoint", className="scrubber-label"),
        html.Div([*layers, slider], className="scrubber-track"),
        html.Span(f"{count(first)} – {count(last)}", className="scrubber-ends"),
    ]


def selected_step(state: ViewState, run: AnyRun) -> int | None:
    """The checkpoint of the address, where the run keeps it."""
    kept = found(lambda: run.checkpoints) or ()
    return state.step if state.step in kept else None


def _drops(steps: dict[str, np.ndarray]) -> list[float]:
    drops = [step for step, _ in lr_drops(steps["step"], steps["lr"])]
    return drops if len(drops) <= _MOST_DROPS else []


def _measured(run: AnyRun, store: Store) -> list[int]:
    found = (stored for stored in store.results(run) if "checkpoint" in stored.facts)
    return sorted({checkpoint_of(stored) for stored in found})


def _loss_path(steps: dict[str, np.ndarray], last: int) -> str:
    """The loss on a log scale, at most 300 points, each the mean of its stretch."""
    good = np.isfinite(steps["loss"]) & (steps["loss"] > 0)
    if good.sum() < 2:
        return ""
    at, loss = steps["step"][good], np.log(steps["loss"][good])
    parts = np.array_split(np.arange(len(at)), min(300, len(at)))
    x = np.array([at[part].mean() for part in parts]) / last * _WIDTH
    y = np.array([loss[part].mean() for part in parts])
    y = 3 + (y.max() - y) / max(float(np.ptp(y)), 1e-9) * (_HEIGHT - 12)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="#000" stroke-width="1.4" '


def _ticks(steps: Any, last: int, top: float, bottom: float) -> str:
    marks = " ".join(f"M{step / last * _WIDTH:.1f} {top}V{bottom}" for step in steps)
    return f'<path d="{marks}" stroke="#000" stroke-width="1" ' if marks else ""


def _mask(shape: str) -> dict[str, str]:
    """A style that paints a shape in the element's own color, whatever the theme."""
    drawn = shape and f'{shape}vector-effect="non-scaling-stroke"/>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none">{drawn}</svg>'
    )
    return {"maskImage": f"url('data:image/svg+xml,{quote(svg)}')"}
