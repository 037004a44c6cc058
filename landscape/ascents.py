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
_ENOUGH = 3e-4  # a step that adds less than this share of the rise is the last


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
    axes: Sequence[Tensor] = (),
    steps: int,
    tell: Tell | None = None,
) -> Ascent:
    """Climb by projected gradient steps from ends of the ball along several axes; keep the best.

    The first start is the far end along the gradient at the center, the one-step estimate of SAM.
    Of each axis it is the higher of both ends. A step goes along the steepest direction of the
    ball's norm and back into the ball; long steps are power iteration. One that does not climb is
    taken back, and the next are shorter; one that adds less than 0.03 % is the last.

    Args:
        function: `theta -> (loss, gradient)`.
        theta: Center w [param].
        ball: Where e may lie.
        base: Loss and gradient at the center.
        axes: Further directions to start along, in the coordinates u of the ball [param].
        steps: Most slopes to take on each climb, that of its start included.
        tell: Called before each.

    Source: Madry et al. 2018, section 2.1, projected gradient; Foret et al. 2021, equation 2.
    """
    starts = [[ball.place(base[1])], *([axis, -axis] for axis in axes)]
    best, tried = (0.0, torch.zeros_like(theta)), []
    for index, ends in enumerate(starts):
        places = [u for u in map(ball.farthest, ends) if u is not None]
        climbs = [_Climb(function, theta, ball, base[0], u) for u in places]
        for climb in climbs:
            climb.go()
        if not climbs:
            continue
        higher = max(climbs, key=lambda climb: climb.rise)
        for step in range(1, steps):
            if tell is not None:
                done = index * steps + step
                tell(done, len(starts) * steps, f"≥ {max(best[0], higher.rise):.4g}")
            if not higher.go():
                break
        tried.append(higher.rise)
        if higher.rise > best[0]:
            best = higher.rise, ball.place(higher.u)
    known = math.isfinite(base[0]) and (not tried or max(tried) > -math.inf)
    return Ascent(rise=best[0] if known else math.nan, displacement=best[1])


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
        self._next: Tensor | None = start
        self._along: Tensor | None = None
        self._step = _FIRST
        self.u, self.rise = start, -math.inf

    def go(self) -> bool:
        """Take the loss at the next point; whether there is another one to go to."""
        if self._next is None:
            return False
        loss, gradient = self._function(self._theta + self._ball.place(self._next))
        gain = loss - self._base - self.rise
        small = False
        if gain > 0:
            small = gain <= _ENOUGH * abs(loss - self._base) or loss == math.inf
            self._step = _FIRST if self._along is None else min(2 * self._step, _LONGEST)
            self._along = self._ball.farthest(self._ball.place(gradient))
            self.u, self.rise = self._next, loss - self._base
        else:
            self._step /= 4
        self._next = None
        if self._along is not None and self._step >= _SHORTEST and not small:
            there = self._ball.nearest(self.u + self._step * self._along)
            self._next = None if torch.equal(there, self.u) else there
        return self._next is not None


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
