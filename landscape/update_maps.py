"""An update as a map of (weights, momentum) on fixed data, and its derivative.

The map is what `torch.optim.SGD`, inside `landscape.optimizers.SAM` where weights are perturbed,
does in a step. With several batches it is the mean of what they do.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from landscape.adversarial import aace_loss
from landscape.displacement_tangents import move_with_tangent, update_gradient_tangent
from landscape.displacements import NORM_FLOOR, adaptive_mask, update_gradient
from landscape.lanczos import norm
from landscape.objectives import Objective
from landscape.operators import Operator, hessian
from landscape.perturbations import Perturbation, check_function_of_weights
from landscape.updates import Update

BATCHES = ("each", "whole")

BatchLoss = Callable[[Tensor, Any, Tensor], Tensor]
"""`loss(task_loss, output, targets)` of one batch: what is differentiated."""


class NoJacobianError(ValueError):
    """The update jumps where its Jacobian was asked for."""


def followed_loss(perturbation: Perturbation) -> BatchLoss:
    """The loss of a batch whose gradient the perturbation takes, right in its second derivative.

    SAM follows the task loss. AACE without a threshold follows softplus(m), m being the margin
    of the true class. With a threshold t its gradient is Σ φ(m) ∇m, φ = p − min(p, t) (1 − p) and
    p = σ(m), of a target held fixed; as φ depends on the margin alone, it is the gradient of
    Φ(m) = ∫ φ too: softplus(m) − p where p ≤ t, (1 + t) softplus(m) − t m + t (log t − 1) else.
    """
    if not perturbation.has_own_loss:
        return lambda task, output, targets: task
    threshold = perturbation.threshold
    if threshold and perturbation.mode != "ada":
        raise ValueError(
            f"the second derivative of {perturbation.label} is not known: its target keeps a part "
            'on the true class that depends on the output; take threshold 0 or mode "ada"'
        )
    if threshold == 0:
        return lambda task, output, targets: perturbation.loss(output, targets)

    def loss(task: Tensor, output: Any, targets: Tensor) -> Tensor:
        softplus = aace_loss(output, targets, reduction="none")
        margin = softplus - functional.cross_entropy(output, targets, reduction="none")
        low = softplus - margin.sigmoid()
        high = (1 + threshold) * softplus - threshold * margin
        high = high + threshold * (np.log(threshold) - 1)
        return torch.where(margin.sigmoid() <= threshold, low, high).mean()

    return loss


def perturbation_gradient(objective: Objective, perturbation: Perturbation) -> Tensor:
    """Gradient [param] at `objective.theta` of what a perturbation follows, over all data."""
    everything = range(len(objective.batches))
    with objective.derivatives():
        loss = followed_loss(perturbation)
        return _differentiate(objective, objective.theta, everything, loss)[0]


class UpdateMap:
    """The update as a map of weights and momentum on an objective's data, and its Jacobian.

    With batches="each" every batch of the objective's partition has its own ε, and the step is the
    mean of the batches' steps: what training with batches of this size does on average. With
    batches="whole" one ε is taken from the gradient over all data, and the step from the gradient
    over all data at w + ε: full-batch training. With one batch, or without a perturbation, both
    are the same. Batch statistics are those of the objective's policy, in both gradients.

    Args:
        objective: The task loss; the Jacobian is taken at its theta.
        update: What is done.
        batches: "each" or "whole".
        operator: The Hessian of the objective, for updates without a perturbation, which take no
            other; made here by default.

    Raises:
        ValueError: If `batches` is neither, the objective has no derivatives, or the update's
            perturbation is not a function of weights and batch that is differentiated here.
    """

    def __init__(
        self,
        objective: Objective,
        update: Update,
        *,
        batches: str = "each",
        operator: Operator | None = None,
    ) -> None:
        if batches not in BATCHES:
            raise ValueError(f'batches must be "each" or "whole", got {batches!r}')
        check_known_map(update)
        self.objective, self.update = objective, update
        self._adaptive = adaptive_mask(objective.layout).to(objective.theta.device)
        count = len(objective.batches)
        self._groups: list[Sequence[int]] = (
            [[index] for index in range(count)] if batches == "each" else [range(count)]
        )
        self._hessian: Operator | None = None
        if update.perturbation is None:
            self._hessian = hessian(objective) if operator is None else operator
        self._smooth = False

    @property
    def size(self) -> int:
        """Length of a state: weights, and momentum where there is any."""
        return self.objective.theta.numel() * (2 if self.update.momentum else 1)

    def step(self, theta: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and momentum `[param]` after one update of these.

        Zero momentum stands for a first step; with dampening torch's own takes g, not (1 − τ) g.
        """
        return self._move(theta, momentum, self._gradient(theta))

    def jvp(self, theta: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """The Jacobian's product with a tangent (weights `[param]`, momentum `[param]`).

        Taken at `objective.theta`; it does not depend on the momentum there. With a perturbation
        one product costs two of a Hessian: at w and at w + ε.

        Raises:
            NoJacobianError: If a normalized perturbation's gradient vanishes.
        """
        if self._hessian is not None:
            return self._move(theta, momentum, self._hessian(theta))
        self.check()
        total = torch.zeros_like(theta)
        perturbation = self.update.perturbation
        assert perturbation is not None
        with self.objective.derivatives():
            for share, group in self._shares():
                there = self._displacement(self.objective.theta, group, theta)
                place = self.objective.theta + there.move
                after, part = _differentiate(
                    self.objective, place, group, _task, theta + there.move_tangent
                )
                if perturbation.alpha:
                    part = update_gradient_tangent(
                        perturbation, there.gradient, after, there.gradient_tangent, part
                    )
                total.add_(part, alpha=share)
        return self._move(theta, momentum, total)

    def check(self) -> None:
        """Refuse to differentiate a normalized perturbation where its gradient vanishes.

        A gradient counts as zero where rounding the weights would turn it.

        Raises:
            NoJacobianError: If it does, for any batch.
        """
        perturbation = self.update.perturbation
        if self._smooth or perturbation is None or not perturbation.normalize:
            return
        objective, loss = self.objective, followed_loss(perturbation)
        rounding = torch.finfo(objective.theta.dtype).eps * norm(objective.theta)
        with objective.derivatives():
            for _, group in self._shares():
                gradient, _ = _differentiate(objective, objective.theta, group, loss)
                length = norm(gradient)
                unit = gradient / length if length else gradient
                _, bend = _differentiate(objective, objective.theta, group, loss, unit)
                if length <= max(1e3 * NORM_FLOOR, rounding * norm(bend)):
                    whose = f"batch {group[0]}" if len(self._groups) > 1 else "the data"
                    raise NoJacobianError(
                        f"{perturbation.label} must have a gradient to follow, got one of norm "
                        f"{length:.3g} on {whose}: ε = ρ g / ‖g‖ jumps there and the update has no "
                        "Jacobian; measure an earlier checkpoint, or an unnormalized perturbation"
                    )
        self._smooth = True

    def _shares(self) -> Iterator[tuple[float, Sequence[int]]]:
        shares = self.objective.shares
        for group in self._groups:
            yield sum(shares[index] for index in group), group

    def _gradient(self, theta: Tensor) -> Tensor:
        """The gradient of the task loss that the update uses at theta, without weight decay."""
        total = torch.zeros_like(theta)
        with self.objective.derivatives():
            for share, group in self._shares():
                perturbation = self.update.perturbation
                if perturbation is None:
                    part, _ = _differentiate(self.objective, theta, group, _task)
                else:
                    there = self._displacement(theta, group, None)
                    part, _ = _differentiate(self.objective, theta + there.move, group, _task)
                    (part,) = update_gradient(perturbation, [there.gradient], [part])
                total.add_(part, alpha=share)
        return total

    def _displacement(
        self, theta: Tensor, group: Sequence[int], tangent: Tensor | None
    ) -> "_Displaced":
        """ε of some batches at theta and its gradient, with derivatives along a tangent."""
        perturbation = self.update.perturbation
        assert perturbation is not None
        loss = followed_loss(perturbation)
        gradient, bend = _differentiate(self.objective, theta, group, loss, tangent)
        along = torch.zeros_like(theta) if tangent is None else tangent
        move, turn = move_with_tangent(perturbation, gradient, theta, bend, along, self._adaptive)
        return _Displaced(gradient, bend, move, turn)

    def _move(self, theta: Tensor, momentum: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The step once the gradient is known; it is linear, so tangents go through it as well."""
        update = self.update
        gradient = gradient + update.weight_decay * theta
        if update.momentum == 0:
            return theta - update.learning_rate * gradient, torch.zeros_like(momentum)
        momentum = update.momentum * momentum + (1 - update.dampening) * gradient
        used = gradient + update.momentum * momentum if update.nesterov else momentum
        return theta - update.learning_rate * used, momentum


def check_known_map(update: Update) -> None:
    """Refuse an update whose map of (weights, momentum) is not known here.

    Raises:
        ValueError: If its ε depends on more than weights and batch, takes several ascent steps, or
            has a radius that follows a schedule.
    """
    perturbation = update.perturbation
    if perturbation is None:
        return
    check_function_of_weights(perturbation, "the map of an update")
    followed_loss(perturbation)
    if perturbation.ascent_steps > 1:
        raise ValueError(
            f"the map of an update is differentiated for one ascent step, got {perturbation.label}"
        )
    if perturbation.schedule != "constant":
        raise ValueError(
            f"the map of an update has the radius of its step, got {perturbation.label}; take "
            "perturbation.at(factor)"
        )


class _Displaced(NamedTuple):
    """What a perturbation makes of some batches `[param]`, with derivatives along a tangent."""

    gradient: Tensor
    gradient_tangent: Tensor
    move: Tensor
    move_tangent: Tensor


def _task(task: Tensor, output: Any, targets: Tensor) -> Tensor:
    return task


def _differentiate(
    objective: Objective,
    theta: Tensor,
    batches: Sequence[int],
    loss: BatchLoss,
    tangent: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradient of the mean loss of some batches, and its derivative along a tangent (or zero)."""
    place = theta.detach().clone().requires_grad_()
    gradient, product = torch.zeros_like(theta), torch.zeros_like(theta)
    shares = objective.shares
    whole = sum(shares[index] for index in batches)
    for index in batches:
        inputs, targets = objective.batches[index]
        task, output = objective.batch_loss(objective.parameters(place), inputs, targets)
        value = loss(task, output, targets)
        (slope,) = torch.autograd.grad(value, place, create_graph=tangent is not None)
        gradient.add_(slope.detach(), alpha=shares[index] / whole)
        if tangent is not None and slope.requires_grad:
            (part,) = torch.autograd.grad(slope, place, tangent, allow_unused=True)
            if part is not None:
                product.add_(part, alpha=shares[index] / whole)
    return gradient, product
