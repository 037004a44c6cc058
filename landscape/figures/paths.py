"""A run's checkpoints on a drawn surface: where they are and how far the picture can be trusted."""

from dataclasses import dataclass

import numpy as np

from landscape.figures.fields import Field, sample
from landscape.results import Surface

ABOVE = 1.5
"""A path is dashed where the measured loss is more than this many times the surface below it."""
HOLLOW_AT = 0.25
"""A point is hollow at this distance out of the plane, as a share of the plane's shorter side."""


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


def path_of(surface: Surface, field: Field) -> Path | None:
    """The surface's path, or None where it has none."""
    if not len(surface.path_step):
        return None
    loss = surface.path_loss if field.value == "loss" else np.full(len(surface.path_step), np.nan)
    off_plane = surface.path_off_plane
    return Path(
        step=surface.path_step,
        position=surface.path_position,
        off_plane=off_plane,
        loss=loss,
        below=sample(field, surface.path_position),
        hollow=np.clip(np.nan_to_num(off_plane / (HOLLOW_AT * min(field.spans)), nan=1.0), 0, 1),
    )
