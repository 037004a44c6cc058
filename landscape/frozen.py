"""Batches at frozen weights, and what a perturbation adds there for each of them."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.displacements import Memory, adaptive_names, climb, next_displacement
from landscape.objectives import Objective
from landscape.perturbations import Perturbation

BURN_IN = 50  # batches from which the memory of VaSSO and F-SAM is made at frozen weights


def prepare_model(model: nn.Module, bn: str, batch_size: int) -> nn.Module:
    """Return a copy of the model with BatchNorm set up for the policy, "batch" or "frozen".

    Raises:
        ValueError: The model has no statistics for it.
    """
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        if bn == "batch" and batch_size == 1:
            raise ValueError(
                f"BatchNorm {name!r} has no batch statistics for batch_size 1; take bn='frozen'"
            )
        if bn == "frozen" and module.running_mean is None:
            raise ValueError(f"BatchNorm {name!r} has no running statistics; take bn='batch'")
        module.training = bn == "batch"
    return model


def draw_batches(
    objective: Objective, batches: int, batch_size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of samples drawn one by one, with replacement, from all of the data.

    One seed gives the same batches, whatever is measured on them.
    """
    where = [(i, j) for i, (inputs, _) in enumerate(objective.batches) for j in range(len(inputs))]
    generator = torch.Generator().manual_seed(seed)
    for drawn in torch.randint(len(where), (batches, batch_size), generator=generator).tolist():
        places = [where[index] for index in drawn]
        inputs = torch.stack([objective.batches[i][0][j] for i, j in places])
        yield inputs, torch.stack([objective.batches[i][1][j] for i, j in places])


@dataclass(frozen=True)
class Displaced:
    """What one batch gives at the frozen weights, one tensor per trainable parameter."""

    output: Any
    """The model's output at the weights."""
    loss: Tensor
    """Mean task loss, in nats."""
    gradient: list[Tensor]
    """Gradient of the task loss."""
    moves: list[Tensor]
    """The displacement ε that training would add."""


class Displacer:
    """Finds the displacement of one batch after another at one model's weights.

    Args:
        model: As `prepare_model` gives it; its weights are moved and brought back.
        loss_fn: The task loss, a mean over the batch.
        perturbation: Which.
        memory: Of a direction that has one.
        generator: For random targets.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Tensor], Tensor],
        perturbation: Perturbation,
        memory: Memory | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.model, self.loss_fn = model, loss_fn
        self.perturbation, self.memory, self.generator = perturbation, memory, generator
        self.weights: list[Tensor] = [p for _, p in named]
        self._adaptive = adaptive_names(name for name, _ in named)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Displaced:
        """Return loss, gradient and displacement of a batch."""
        output = self.model(inputs)
        loss = self.loss_fn(output, targets)
        gradient = _gradient(loss, self.weights)
        followed = gradient
        if self.perturbation.has_own_loss:
            followed = self._own_gradient(output, targets)
        moves = self._moves(followed, inputs, targets)
        return Displaced(output.detach(), loss.detach(), gradient, moves)

    def burn_in(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Make the memory of the batches, in their order, as updates with frozen weights would."""
        for inputs, targets in batches:
            output = self.model(inputs)
            if self.perturbation.has_own_loss:
                followed = self._own_gradient(output, targets)
            else:
                followed = _gradient(self.loss_fn(output, targets), self.weights)
            before = [p.detach() for p in self.weights]
            _, self.memory = next_displacement(
                self.perturbation, followed, before, self.memory, adaptive=self._adaptive
            )

    @torch.no_grad()
    def loss_at(self, moves: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> float:
        """Return the mean task loss of a batch at weights + moves, in nats."""
        before = [p.detach().clone() for p in self.weights]
        self._go_to([start + move for start, move in zip(before, moves, strict=True)])
        loss = float(self.loss_fn(self.model(inputs), targets))
        self._go_to(before)
        return loss

    def _moves(self, followed: list[Tensor], inputs: Tensor, targets: Tensor) -> list[Tensor]:
        perturbation = self.perturbation
        before = [p.detach().clone() for p in self.weights]
        if perturbation.has_memory:
            return next_displacement(
                perturbation, followed, before, self.memory, adaptive=self._adaptive
            )[0]

        def gradient_at(place: list[Tensor]) -> list[Tensor]:
            self._go_to(place)
            output = self.model(inputs)
            if perturbation.has_own_loss:
                return self._own_gradient(output, targets)
            return _gradient(self.loss_fn(output, targets), self.weights)

        moves = climb(perturbation, followed, before, gradient_at, adaptive=self._adaptive)
        self._go_to(before)
        return moves

    def _own_gradient(self, output: Any, targets: Tensor) -> list[Tensor]:
        loss = self.perturbation.loss(output, targets, self.generator)
        return _gradient(loss, self.weights)

    @torch.no_grad()
    def _go_to(self, place: Sequence[Tensor]) -> None:
        for weight, value in zip(self.weights, place, strict=True):
            weight.copy_(value)


def _gradient(loss: Tensor, weights: list[Tensor]) -> list[Tensor]:
    return list(
        torch.autograd.grad(
            loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


def flat_array(tensors: Sequence[Tensor]) -> np.ndarray:
    """Return one array [param] in theta's order, float32 or better."""
    flat = torch.cat([t.detach().reshape(-1).cpu() for t in tensors])
    return (flat if flat.dtype == torch.float64 else flat.float()).numpy()
