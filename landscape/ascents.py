"""Climbing the loss inside a ball about the weights: lower bounds of the worst case."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from landscape.batches import Batch
from landscape.objectives import Objective

Slope = tuple[float, Tensor]
"""A loss and its gradient [param]."""
Tell = Callable[[int, int, str], None]
"""Called with steps done, steps allowed, and what is known so far."""

_FIRST = 2.0  # step in radii: from anywhere in the ball across it
_LONGEST = 8.0
_SHORTEST = 1e-3
_ENOUGH = 1e-4  # a step that adds less than this share of the rise is the last


@dataclass(frozen=True, kw_only=True)
class Ball:
    """Displacements e with ‖e ⊘ scale‖ at most a radius; e = scale · u with u in a plain ball."""

    radius: float
    norm: Literal["2", "inf"] = "2"
    scale: Tensor | None = None
    """Positive or zero, `[param]`: a weight of scale 0 stays. None is 1 everywhere."""

    def place(self, u: Tensor) -> Tensor:
        """The displacement e [param] of a point u of the plain ball."""
        return u if self.scale is None else self.scale * u

    def farthest(self, direction: Tensor) -> Tensor | None:
        """The u [param] of the ball that is farthest along a direction; None for no direction."""
        if self.norm == "inf":
            return self.radius * direction.sign() if bool(direction.any()) else None
        length = _length(direction)
        return direction * (self.radius / length) if 0 < length < math.inf else None

    def nearest(self, u: Tensor) -> Tensor:
        """The point [param] of the ball that is nearest to u."""
        if self.norm == "inf":
            return u.clamp(-self.radius, self.radius)
        length = _length(u)
        return u if length <= self.radius else u * (self.radius / length)


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """The highest point found."""

    rise: float
    """L(w + e) − L(w): a lower bound of its maximum over the ball. NaN where no loss was finite."""
    displacement: Tensor
    """e [param]."""
    slopes: int
    """Losses with gradients that were taken."""


def slope(objective: Objective, theta: Tensor, batches: Sequence[Batch] | None = None) -> Slope:
    """The mean loss and its gradient [param] at theta, over all data or over some batches of it.

    Raises:
        ValueError: If the objective has no derivatives.
    """
    total, gradient = 0.0, torch.zeros_like(theta)
    with objective.derivatives():
        leaf = theta.detach().clone().requires_grad_()
        for share, loss in _weighted_losses(objective, leaf, batches):
            gradient.add_(torch.autograd.grad(loss, leaf)[0], alpha=share)
            total += share * float(loss.detach())
    return total, gradient


def ascend(
    function: Callable[[Tensor], Slope],
    theta: Tensor,
    ball: Ball,
    *,
    base: Slope,
    directions: Iterable[Tensor] = (),
    steps: int,
    tell: Tell | None = None,
) -> Ascent:
    """Climb from the far ends of several directions by projected gradient steps; keep the best.

    The first direction is the gradient at the center, whose far end is the one-step estimate of
    SAM. A step goes along the steepest direction of the ball's norm and back into the ball; long
    steps are power iteration. One that does not climb is taken back, and the next are shorter.

    Args:
        function: `theta -> (loss, gradient)`.
        theta: Center w [param].
        ball: Where e may lie.
        base: Loss and gradient at the center.
        directions: Further ones to start along, in the coordinates u of the ball [param].
        steps: Most slopes to take from each start, that of the start included.
        tell: Called after each.

    Source: Madry et al. 2018, section 2.1, projected gradient; Foret et al. 2021, equation 2.
    """
    starts = [ball.place(base[1]), *directions]
    best = Ascent(rise=0.0, displacement=torch.zeros_like(theta), slopes=0)
    heights, taken = [], 0
    for index, direction in enumerate(starts):
        u = ball.farthest(direction)
        if u is None:
            continue
        climb = _Climb(function, theta, ball, base[0], u)
        for step in range(steps):
            if tell is not None:
                done = index * steps + step
                tell(done, len(starts) * steps, f"≥ {max(best.rise, climb.rise):.4g}")
            if not climb.go():
                break
        taken += climb.slopes
        heights.append(climb.rise)
        if climb.rise > best.rise:
            best = Ascent(rise=climb.rise, displacement=ball.place(climb.u), slopes=0)
    known = math.isfinite(base[0]) and (not heights or max(heights) > -math.inf)
    rise = best.rise if known else math.nan
    return Ascent(rise=rise, displacement=best.displacement, slopes=taken)


class _Climb:
    """One climb: where it stands, and how long its next step is."""

    def __init__(
        self,
        function: Callable[[Tensor], Slope],
        theta: Tensor,
        ball: Ball,
        base: float,
        start: Tensor,
    ) -> None:
        self._function, self._theta, self._ball, self._base = function, theta, ball, base
        self._next, self._step = start, _FIRST
        self._along: Tensor | None = None
        self.u, self.rise, self.slopes = start, -math.inf, 0

    def go(self) -> bool:
        """Take the loss at the next point; whether there is another one to go to."""
        loss, gradient = self._function(self._theta + self._ball.place(self._next))
        self.slopes += 1
        gain = loss - self._base - self.rise
        if gain > 0:
            last = gain <= _ENOUGH * abs(loss - self._base)
            first = self._along is None
            self.u, self.rise = self._next, loss - self._base
            self._along = self._ball.farthest(self._ball.place(gradient))
            self._step = _FIRST if first else min(2 * self._step, _LONGEST)
            if last or self.rise == math.inf:
                return False
        else:
            self._step /= 4
        if self._along is None or self._step < _SHORTEST:
            return False
        self._next = self._ball.nearest(self.u + self._step * self._along)
        return not torch.equal(self._next, self.u)


def _weighted_losses(
    objective: Objective, leaf: Tensor, batches: Sequence[Batch] | None
) -> Iterable[tuple[float, Tensor]]:
    if batches is None:
        return objective.weighted_losses(leaf)
    total = sum(len(targets) for _, targets in batches)
    return (
        (len(targets) / total, objective.batch_loss(objective.parameters(leaf), inputs, targets)[0])
        for inputs, targets in batches
    )


def _length(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
