"""What each sample tells by itself: its loss, the slope of it along a vector, its true class."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape import guards
from landscape.objectives import Objective


def mean_probability(objective: Objective) -> float:
    """Mean probability of the true class at `objective.theta`; NaN where there are no classes."""
    values, total, count = objective.parameters(objective.theta), 0.0, 0
    with torch.inference_mode():
        for inputs, targets in objective.batches:
            _, output = objective.batch_loss(values, inputs, targets)
            if not guards.are_classes(output, targets):
                return math.nan
            share = output.double().softmax(1).gather(1, targets.unsqueeze(1))
            total, count = total + float(share.sum()), count + targets.numel()
    return total / count


def sample_losses(objective: Objective, outputs: Sequence[Any]) -> np.ndarray:
    """Return the task loss of each sample, float64 [sample], in nats.

    Args:
        objective: Whose loss and targets.
        outputs: The model's output for each of its batches, as `objective.outputs(theta)`.

    Raises:
        ValueError: An output is no tensor with a row for each sample, or the loss can't be taken
            of one sample.
    """

    def loss_of(output: Tensor, target: Tensor) -> Tensor:
        return objective.loss_fn(output.unsqueeze(0), target.unsqueeze(0))

    losses = []
    for (_, targets), output in zip(objective.batches, outputs, strict=True):
        if not isinstance(output, Tensor) or output.shape[:1] != targets.shape[:1]:
            raise ValueError(
                "the loss of each sample needs an output with a row for each, got "
                f"{list(getattr(output, 'shape', ())) or type(output).__name__} for "
                f"{len(targets)} samples"
            )
        try:
            losses.append(torch.func.vmap(loss_of)(output, targets).double().cpu().numpy())
        except RuntimeError as failure:
            raise ValueError(
                f"{objective.facts['loss']} must take one sample under torch.func.vmap, it said: "
                f"{str(failure).splitlines()[0]}"
            ) from failure
    return np.concatenate(losses)


def mean_square_slope(objective: Objective, v: Tensor) -> float:
    """Mean of ⟨∇ℓ_i, v⟩² over samples, vᵀ F v with F the second moment of their gradients.

    ∇ℓ_i is taken as the derivative of the sample's loss with respect to its output, and that of
    the output along v; with batch statistics the outputs of a batch move together. NaN where the
    output is no tensor with a row for each sample.

    Args:
        objective: The loss, at `objective.theta`.
        v: Direction `[param]`.

    Raises:
        ValueError: If the policy is "recomputed".
    """
    total = 0.0
    for share, (inputs, targets) in zip(objective.shares, objective.batches, strict=True):
        slopes = _slopes(objective, v, inputs, targets)
        if slopes is None:
            return math.nan
        total += share * float(slopes.square().mean())
    return total


def _slopes(objective: Objective, v: Tensor, inputs: Tensor, targets: Tensor) -> Tensor | None:
    """⟨∇ℓ_i, v⟩ of each sample, float64 [sample]; None where the output has no row for each."""
    with objective.derivatives():
        leaf = objective.theta.detach().clone().requires_grad_()
        loss, output = objective.batch_loss(objective.parameters(leaf), inputs, targets)
        if not isinstance(output, Tensor) or output.shape[:1] != targets.shape[:1]:
            return None
        outer = torch.autograd.grad(loss, output, retain_graph=True)[0]
        probe = torch.zeros_like(output, requires_grad=True)
        pulled = torch.autograd.grad(output, leaf, probe, create_graph=True)[0]
        moved = torch.autograd.grad(pulled, probe, v)[0]
    return (outer.double() * moved.double()).reshape(len(targets), -1).sum(1) * len(targets)
