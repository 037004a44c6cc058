"""Batches at frozen weights, and what a perturbation adds there for each of them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape import guards, tensor_lists
from landscape.batches import PARTITION_SEED, Batch
from landscape.displacements import Memory, adaptive_names, climb, next_displacement
from landscape.objectives import Objective
from landscape.perturbations import Perturbation
from landscape.ranks import Ranks

BURN_IN = 50  # batches from which the memory of VaSSO and F-SAM is made at frozen weights
FULL_SAMPLES = 10_000  # of the gradient of all data: more would cost more than the batches do

_BURN_IN_STREAM, _TARGET_STREAM = 1, 2  # beside that of the batches that are measured


def prepare_model(objective: Objective, bn: str, batch_size: int) -> nn.Module:
    """Return a module at the objective's theta, BatchNorm set up for "batch" or "frozen".

    Raises:
        ValueError: The model has no statistics for it.
    """
    model = objective.module()
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
    objective: Objective, batches: int, batch_size: int, seed: int, *, stream: int = 0
) -> Iterator[Batch]:
    """Yield batches of samples drawn one by one, with replacement, from all of the data.

    One seed gives the same batches, whatever is measured on them; each stream gives others.
    """
    if stream:
        seed = _derived(seed, stream)
    where = _places(objective)
    generator = torch.Generator().manual_seed(seed)
    for drawn in torch.randint(len(where), (batches, batch_size), generator=generator).tolist():
        yield _gathered(objective, [where[index] for index in drawn])


def target_generator(seed: int, batch: int) -> torch.Generator:
    """Return what random targets of a batch are drawn by, whichever process measures it."""
    return torch.Generator().manual_seed(_derived(seed, _TARGET_STREAM, batch))


def _derived(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def draw_burn_in(objective: Objective, batches: int, batch_size: int, seed: int) -> Iterator[Batch]:
    """Yield the batches from which memories are made: of the same sampling, another stream."""
    return draw_batches(objective, batches, batch_size, seed, stream=_BURN_IN_STREAM)


def cover_data(objective: Objective, batch_size: int) -> list[list[tuple[int, int]]]:
    """Return the samples of each batch of a fixed partition, at most 10,000 in all.

    Sizes differ by one at most, so that no batch is too small for its statistics.
    """
    where = _places(objective)
    generator = torch.Generator().manual_seed(PARTITION_SEED)
    order = torch.randperm(len(where), generator=generator)[:FULL_SAMPLES]
    parts = order.tensor_split(-(-len(order) // batch_size))
    return [[where[index] for index in part.tolist()] for part in parts]


def _places(objective: Objective) -> list[tuple[int, int]]:
    return [(i, j) for i, (inputs, _) in enumerate(objective.batches) for j in range(len(inputs))]


def _gathered(objective: Objective, places: Sequence[tuple[int, int]]) -> Batch:
    inputs = torch.stack([objective.batches[i][0][j] for i, j in places])
    return inputs, torch.stack([objective.batches[i][1][j] for i, j in places])


@dataclass(frozen=True)
class Passed:
    """A batch's forward pass at the frozen weights, with its graph: all perturbations share it."""

    inputs: Tensor
    targets: Tensor
    output: Any
    loss: Tensor
    """Mean task loss, in nats."""
    gradient: list[Tensor]
    """Gradient of the task loss, one tensor per trainable parameter."""
    probability: Tensor | None
    """Probability of each sample's true class [sample]; None where targets are no classes."""
    is_cross_entropy: bool
    """Whether the task loss has the value of the cross-entropy."""
    weights: Tensor | None
    """|∂ℓ/∂z| of each sample's task loss ℓ to the logit z of its true class [sample]."""


@dataclass(frozen=True)
class Followed:
    """The gradient of the loss that a perturbation follows."""

    gradient: list[Tensor]
    weights: Tensor | None
    """|∂ℓ/∂z| of each sample's loss ℓ to the logit z of its true class [sample]: 1 − p for the
    cross-entropy, p for AACE."""


@dataclass(frozen=True)
class Displaced:
    """What one batch gives at the frozen weights, one tensor per trainable parameter."""

    output: Tensor | None
    """The model's output at the weights; None where it is no tensor."""
    loss: Tensor
    """Mean task loss, in nats."""
    gradient: list[Tensor]
    """Gradient of the task loss."""
    moves: list[Tensor]
    """The displacement ε that training would add."""


class Displacer:
    """Finds the displacement of one batch after another at one model's weights.

    Several may share a model: `pass_forward` once, then `follow` of each, then `displace` of each,
    which may move the weights.

    Args:
        model: As `prepare_model` gives it; its weights are moved and brought back.
        loss_fn: The task loss, a mean over the batch.
        perturbation: Which.
        memory: Of a direction that has one.
        generator: For random targets.
        length: What every displacement is scaled to; as the perturbation makes it by default.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Tensor], Tensor],
        perturbation: Perturbation,
        memory: Memory | None = None,
        generator: torch.Generator | None = None,
        *,
        length: float | None = None,
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.model, self.loss_fn, self.length = model, loss_fn, length
        self.perturbation, self.memory, self.generator = perturbation, memory, generator
        self.weights: list[Tensor] = [p for _, p in named]
        self._adaptive = adaptive_names(name for name, _ in named)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Displaced:
        """Return loss, gradient and displacement of a batch."""
        passed = self.pass_forward(inputs, targets)
        return self.displace(passed, self.follow(passed))

    def pass_forward(self, inputs: Tensor, targets: Tensor) -> Passed:
        """Return a batch's output, task loss and gradient."""
        output = self.model(inputs)
        loss = self.loss_fn(output, targets)
        gradient, slope = _gradients(loss, self.weights, output)
        probability, weights, plain = None, None, False
        if slope is not None and _are_classes(output, targets):
            log_p = output.detach().cpu().double().log_softmax(1)
            log_p = log_p.gather(1, targets.cpu().long()[:, None]).squeeze(1)
            plain = math.isclose(
                float(loss.detach()), -float(log_p.mean()), rel_tol=1e-4, abs_tol=1e-6
            )
            probability = log_p.exp()
            weights = -torch.expm1(log_p) if plain else _true_slopes(slope, targets)
        return Passed(inputs, targets, output, loss, gradient, probability, plain, weights)

    def follow(self, passed: Passed) -> Followed:
        """Return the gradient that is followed; weights must not have moved since the pass."""
        if not self.perturbation.has_own_loss:
            return Followed(passed.gradient, passed.weights)
        loss = self._followed_loss(passed.output, passed.targets)
        gradient, slope = _gradients(loss, self.weights, passed.output)
        if slope is None or passed.probability is None:
            return Followed(gradient, None)
        return Followed(gradient, _true_slopes(slope, passed.targets))

    def displace(self, passed: Passed, followed: Followed) -> Displaced:
        """Return the displacement along the gradient that is followed."""
        moves = self._moves(followed.gradient, passed.inputs, passed.targets)
        if self.length is not None:
            moves = _scaled_to(moves, self.length)
        output = passed.output.detach() if isinstance(passed.output, Tensor) else None
        return Displaced(output, passed.loss.detach(), passed.gradient, moves)

    def burn_in(self, batches: Iterable[Batch]) -> None:
        """Make the memory of the batches, in their order, as updates with frozen weights would."""
        for inputs, targets in batches:
            self.remember(self.follow(self.pass_forward(inputs, targets)))

    def remember(self, followed: Followed) -> None:
        """Make the memory what it is after one more update."""
        before = [p.detach() for p in self.weights]
        _, self.memory = next_displacement(
            self.perturbation, followed.gradient, before, self.memory, adaptive=self._adaptive
        )

    def full_gradient(
        self,
        objective: Objective,
        batch_size: int,
        *,
        ranks: Ranks | None = None,
        told: Callable[[], None] = lambda: None,
    ) -> np.ndarray:
        """Return the task gradient [param] of all data, or of 10,000 samples, by `cover_data`.

        Args:
            objective: Whose data.
            batch_size: Most samples of a batch, on which the statistics of BatchNorm depend.
            ranks: The processes that share the batches.
            told: Called after each batch.
        """
        ranks = ranks or Ranks()
        total = np.zeros(objective.layout.size)
        parts = cover_data(objective, batch_size)
        count = sum(map(len, parts))
        for part in ranks.share(len(parts)):
            places = parts[part]
            inputs, targets = _gathered(objective, places)
            gradient, _ = _gradients(self.loss_fn(self.model(inputs), targets), self.weights, None)
            total += len(places) / count * flat_array(gradient)
            told()
        return ranks.sum(torch.from_numpy(total)).numpy()

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
            loss = self._followed_loss(self.model(inputs), targets)
            return _gradients(loss, self.weights, None)[0]

        moves = climb(perturbation, followed, before, gradient_at, adaptive=self._adaptive)
        self._go_to(before)
        return moves

    def _followed_loss(self, output: Any, targets: Tensor) -> Tensor:
        if self.perturbation.has_own_loss:
            return self.perturbation.loss(output, targets, self.generator)
        return self.loss_fn(output, targets)

    @torch.no_grad()
    def _go_to(self, place: Sequence[Tensor]) -> None:
        for weight, value in zip(self.weights, place, strict=True):
            weight.copy_(value)


def _gradients(
    loss: Tensor, weights: list[Tensor], output: Any
) -> tuple[list[Tensor], Tensor | None]:
    """Return the gradient by weight, and that by the output where it is a tensor."""
    more = [output] if isinstance(output, Tensor) and output.requires_grad else []
    found = torch.autograd.grad(
        loss, [*weights, *more], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found[: len(weights)]), found[-1] if more else None


def _are_classes(output: Any, targets: Tensor) -> bool:
    if not guards.are_classes(output, targets) or output.ndim != 2 or len(targets) == 0:
        return False
    return 0 <= int(targets.min()) and int(targets.max()) < output.shape[1]


def _true_slopes(slope: Tensor, targets: Tensor) -> Tensor:
    """Return |∂ℓ/∂z| [sample] of losses ℓ by their true logits z, from the slope of their mean."""
    own = slope.cpu().double().gather(1, targets.cpu().long()[:, None]).squeeze(1)
    return own.abs() * len(targets)


def _scaled_to(moves: list[Tensor], length: float) -> list[Tensor]:
    """Return the displacement at that length; as it is where it has no direction."""
    norm = math.hypot(*(float(part) for part in tensor_lists.norms(moves)))
    if not 0 < norm < float("inf"):
        return moves
    return [move * (length / norm) for move in moves]


def flat_array(tensors: Sequence[Tensor]) -> np.ndarray:
    """Return one array [param] in theta's order, float32 or better."""
    flat = torch.cat([t.detach().reshape(-1).cpu() for t in tensors])
    return (flat if flat.dtype == torch.float64 else flat.float()).numpy()
