"""A plane in weight space: an origin, one or two directions, and what lies on it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Mark = tuple[str, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Plane:
    """An origin and one or two directions in the layout of theta.

    Args:
        origin: Point of the plane with coordinates 0 [param].
        directions: Directions [axis, param], of any length and angle but not parallel.
        labels: Names of the axes; "direction 1", ... by default.
        facts: How the plane was chosen; stored with what is measured on it.
        buffers: Where statistics move with the weights: the buffers of the origin by name and,
            for every direction, what is added per unit of it. Empty where they stand still.
        marks: Points to show: name and coordinates.

    Raises:
        ValueError: If shapes don't fit, a number isn't finite, or the directions span no plane.
    """

    origin: Tensor
    directions: Tensor
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    facts: dict[str, Any] = field(default_factory=lambda: {"plane": "given"}, kw_only=True)
    buffers: tuple[Mapping[str, Tensor], ...] = field(default=(), kw_only=True)
    marks: tuple[Mark, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        rows, origin = self.directions, self.origin
        if rows.ndim != 2 or origin.ndim != 1 or rows.shape[1] != origin.numel():
            raise ValueError(
                "a plane needs an origin [param] and directions [axis, param], got shapes "
                f"{tuple(origin.shape)} and {tuple(rows.shape)}"
            )
        if len(rows) not in (1, 2):
            raise ValueError(f"a plane needs 1 or 2 directions, got {len(rows)}")
        if not (origin.isfinite().all() and rows.isfinite().all()):
            raise ValueError(
                "origin and directions must be finite, got NaN or infinity; did training diverge?"
            )
        gram = self._gram()
        unit = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)).clip(min=1e-300))
        if (np.diag(gram) == 0).any() or np.linalg.det(unit) < 1e-12:
            raise ValueError(
                "directions must be non-zero and not parallel, got norms "
                f"{np.sqrt(np.diag(gram)).tolist()} and cosines {unit.tolist()}"
            )
        default = tuple(f"direction {i + 1}" for i in range(len(rows)))
        object.__setattr__(self, "labels", tuple(self.labels) or default)
        if len(self.labels) != len(rows):
            raise ValueError(f"{len(rows)} axes need as many labels, got {self.labels}")
        _check_buffers(self.buffers, len(rows))
        _check_marks(self.marks, len(rows))

    def point(self, a: float, b: float = 0.0) -> Tensor:
        """The parameters [param] at origin + a · direction 1 + b · direction 2."""
        point = self.origin + a * self.directions[0]
        return point if len(self.directions) == 1 else point + b * self.directions[1]

    def buffers_at(self, a: float, b: float = 0.0) -> dict[str, Tensor] | None:
        """All buffers at a point of the plane, on the CPU; None where the plane carries none.

        Floating-point ones are affine in (a, b), summed in float64. A running variance that falls
        below 0 outside its ends is 0 there, since none is negative. Other buffers, such as
        counters, are the origin's.
        """
        if not self.buffers:
            return None
        origin, *slopes = self.buffers
        found = {}
        for name, start in origin.items():
            value = start
            if start.is_floating_point():
                value = start.double()
                for step, slope in zip((a, b), slopes, strict=False):
                    value = value + step * slope[name].double()
                if name.rpartition(".")[2] == "running_var":
                    value = value.clamp(min=0)
            found[name] = value.to(start.dtype, copy=True)
        return found

    def project(self, thetas: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest point of the plane to each theta, by least squares.

        Args:
            thetas: Parameters [n, param].

        Returns:
            Coordinates [n, axis] and Euclidean distance to the plane [n], float64.

        Raises:
            ValueError: If the parameters are not in the plane's layout.
        """
        thetas = torch.tensor(thetas) if isinstance(thetas, np.ndarray) else thetas.detach()
        if thetas.ndim != 2 or thetas.shape[1] != self.origin.numel():
            raise ValueError(
                f"thetas must be [n, {self.origin.numel()}], got shape {tuple(thetas.shape)}"
            )
        directions = self.directions.cpu().double()
        inverse = torch.linalg.inv(directions @ directions.T)
        positions, distances = [], []
        for theta in thetas:
            rest = theta.cpu().double() - self.origin.cpu().double()
            position = torch.zeros(len(directions), dtype=torch.float64)
            for _ in range(2):  # the second pass takes back what rounding left in the first
                part = inverse @ (directions @ rest)
                position, rest = position + part, rest - part @ directions
            positions.append(position)
            distances.append(rest.norm())
        return _stack(positions, len(directions)), _stack(distances)

    def like(self, theta: Tensor) -> "Plane":
        """The plane on the device and in the type of theta [param]; buffers stay on the CPU.

        Raises:
            ValueError: If the plane has another number of parameters.
        """
        if theta.shape != self.origin.shape:
            raise ValueError(
                f"the plane must be of the objective's {theta.numel()} parameters, got one of "
                f"{self.origin.numel()}; was it made for another model?"
            )
        return replace(self, origin=self.origin.to(theta), directions=self.directions.to(theta))

    def _gram(self) -> np.ndarray:
        rows = self.directions.detach().cpu().double()
        return (rows @ rows.T).numpy()


def fix_sign(direction: Tensor) -> Tensor:
    """The direction [param] or its opposite: its component largest in magnitude is positive."""
    return direction if direction[direction.abs().argmax()] >= 0 else -direction


def _stack(values: list[Tensor], *shape: int) -> np.ndarray:
    return torch.stack(values).numpy() if values else np.empty((0, *shape))


def _check_buffers(buffers: tuple[Mapping[str, Tensor], ...], axes: int) -> None:
    if not buffers:
        return
    if len(buffers) != axes + 1:
        raise ValueError(
            f"buffers must be those of the origin and one change per direction, {axes + 1} in "
            f"all, got {len(buffers)}"
        )
    origin, *slopes = buffers
    moving = {name: b.shape for name, b in origin.items() if b.is_floating_point()}
    for slope in slopes:
        if {name: change.shape for name, change in slope.items()} != moving:
            wrong = sorted(slope.keys() ^ moving.keys()) or ["a shape"]
            raise ValueError(
                "changes of buffers must be those of the origin's floating-point buffers, got a "
                f"difference in {', '.join(wrong[:4])}"
            )
        for name, change in slope.items():
            if not change.isfinite().all():
                raise ValueError(
                    f"changes of buffers must be finite, got NaN or infinity in {name!r}; did "
                    "training diverge?"
                )


def _check_marks(marks: tuple[Mark, ...], axes: int) -> None:
    for name, position in marks:
        if len(position) != axes or not all(math.isfinite(x) for x in position):
            raise ValueError(
                f"the mark {name!r} must have {axes} finite coordinates, got {position}"
            )
