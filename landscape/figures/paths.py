"""Checkpoints of runs on a drawn surface: where they are, how far the picture can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landscape.figures.fields import Field, sample
from landscape.figures.palette import RUNS
from landscape.results import Surface

ABOVE = 1.5
"""A path is dashed where the measured loss is more than this many times the surface below it."""
HOLLOW_AT = 0.25
"""A point is hollow at this distance out of the plane, as a share of the plane's shorter side."""
_FRAME = 0.11  # of the plane's height: where a name above or below would leave the frame
_NAME = 0.06  # of the plane's longer side: half the width of a name, and its distance to the mark


@dataclass(frozen=True, kw_only=True)
class Path:
    """The checkpoints on a surface [c]."""

    step: np.ndarray
    position: np.ndarray
    """[c, 2]."""
    off_plane: np.ndarray
    """Distance out of the plane."""
    loss: np.ndarray
    """Measured at the checkpoint."""
    below: np.ndarray
    """The drawn surface below it; NaN outside the grid."""
    hollow: np.ndarray
    """0 in the plane, 1 at or beyond `HOLLOW_AT`: how far the picture is from the weights."""
    color: int = 0
    """Color index of the run."""
    label: str = ""
    """Name of the run, where several are drawn."""

    def at(self, step: float) -> np.ndarray:
        """Position [2] at a step, straight between checkpoints."""
        return np.array([np.interp(step, self.step, self.position[:, i]) for i in range(2)])

    def nearest(self, step: float) -> int:
        """Index of the checkpoint nearest to a step."""
        return int(np.argmin(np.abs(self.step - step)))

    def segments(self, *, dashed: bool) -> list[np.ndarray]:
        """Polylines of the segments whose ends are (or are not) far above the surface."""
        with np.errstate(invalid="ignore"):
            far = self.loss > ABOVE * self.below
        wanted = (far[1:] | far[:-1]) == dashed
        bounds = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(int), [0]])))
        return [self.position[a : b + 1] for a, b in bounds.reshape(-1, 2)]


def paths_of(surface: Surface, field: Field, color: int | Sequence[int] = 0) -> list[Path]:
    """The surface's paths, one per run; none where it has none.

    Args:
        surface: What was measured.
        field: How it is drawn.
        color: Color index of the run; of several runs that of the first, or one for each.
    """
    if not len(surface.path_step):
        return []
    if not surface.path_run.size:
        return [_path(surface, field, slice(None), colors_of(color, 1)[0], "")]
    runs = np.unique(surface.path_run)
    colors = colors_of(color, int(runs[-1]) + 1)
    names = surface.path_labels
    return [
        _path(
            surface,
            field,
            surface.path_run == run,
            colors[run],
            names[run] if run < len(names) else "",
        )
        for run in map(int, runs)
    ]


def colors_of(color: int | Sequence[int], count: int) -> list[int]:
    """One color index for each of several runs: those given, else following ones."""
    given = [color] if isinstance(color, int) else list(color)
    return given[:count] + [(given[-1] + i + 1) % len(RUNS) for i in range(count - len(given))]


def _path(surface: Surface, field: Field, kept: slice | np.ndarray, color: int, label: str) -> Path:
    position, off_plane = surface.path_position[kept], surface.path_off_plane[kept]
    is_loss = field.quantity.name == "loss"
    loss = surface.path_loss[kept] if is_loss else np.full(len(position), np.nan)
    reach = HOLLOW_AT * min(field.spans)
    return Path(
        step=surface.path_step[kept],
        position=position,
        off_plane=off_plane,
        loss=loss,
        below=sample(field, position),
        hollow=np.clip(np.nan_to_num(off_plane / reach, nan=1.0), 0, 1),
        color=color,
        label=label,
    )


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A marked point of a surface and the side of it on which its name stands."""

    x: float
    y: float
    name: str
    above: bool

    @property
    def displaced(self) -> bool:
        """Whether it lies one displacement from w, which an arrow shows."""
        return self.name.startswith("w + ")


def marks_of(surface: Surface, field: Field, tracks: Sequence[Path] = ()) -> list[Mark]:
    """The marked points; names stand away from the other marks and the paths, in the frame."""
    if not len(surface.mark_labels):
        return []
    heights = np.concatenate([surface.mark_position[:, 1], *(t.position[:, 1] for t in tracks)])
    found = []
    for (x, y), name in zip(surface.mark_position, surface.mark_labels, strict=True):
        up = (y - field.y[0]) / field.spans[1]
        above = up < 1 - _FRAME if y >= heights.mean() else up < _FRAME
        found.append(Mark(x=float(x), y=float(y), name=name, above=bool(above)))
    return found


def taken(field: Field, tracks: Sequence[Path], marks: Sequence[Mark]) -> list[np.ndarray]:
    """Where paths, marks and their names are drawn, as polylines [c, 2]: labels keep away."""
    reach = _NAME * max(field.spans)
    lines = [track.position for track in tracks]
    for mark in marks:
        level = mark.y + (reach if mark.above else -reach)
        lines.append(np.array([[mark.x, mark.y], [mark.x - reach, level], [mark.x + reach, level]]))
    return lines
