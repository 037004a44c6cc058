"""Bends of a curve between two minima: how they shape it, and how they are trained."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from landscape import guards
from landscape.batches import Batch
from landscape.modules import batch_norms, private_copy
from landscape.objectives import Objective

SHAPES = ("bezier", "polygon")
NOISE = 1e-3
"""How far a bend begins off the chord, as a share of the chord's length."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How bends are trained; the arguments of `landscape.curves.measure_curve`.

    Raises:
        ValueError: If one is out of range.
    """

    shape: str
    bends: int
    updates: int
    learning_rate: float
    momentum: float
    batch_size: int
    nodes: int
    seed: int

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {self.shape!r}")
        lowest = {"bends": 1, "updates": 1, "batch_size": 0, "nodes": 0, "seed": 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(f"{name} must be a whole number from {low} on, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, got {self.momentum!r}")

    def rate(self, update: int) -> float:
        """The learning rate: constant for half of the updates, then linear to a hundredth."""
        done = update / self.updates
        return self.learning_rate * max(0.01, min(1.0, 1 - 0.99 * (done - 0.5) / 0.4))


def control_weights(shape: str, bends: int, t: float) -> np.ndarray:
    """How much of each control point is in the point of a curve at t.

    Args:
        shape: "bezier" (Bernstein polynomials) or "polygon" (pieces of equal length in t).
        bends: Control points between the ends.
        t: Position from 0 to 1.

    Returns:
        Weights [first, bends, last], which sum to 1; exactly the ends at 0 and 1.
    """
    pieces = bends + 1
    index = np.arange(pieces + 1)
    if shape == "polygon":
        return np.clip(1 - np.abs(t * pieces - index), 0.0, None)
    binomial = np.array([math.comb(pieces, k) for k in index], float)
    return binomial * t**index * (1 - t) ** (pieces - index)


def curve_point(controls: Tensor, shape: str, t: float) -> Tensor:
    """The point [param] at t of the curve with these control points [first, bends, last]."""
    weights = control_weights(shape, len(controls) - 2, t)
    return torch.tensor(weights).to(controls) @ controls


def train_bends(
    objective: Objective,
    first: Tensor,
    last: Tensor,
    training: Training,
    report: Callable[[int], None],
) -> tuple[Tensor, np.ndarray]:
    """Minimize the mean loss over a curve from `first` to `last` [param] by SGD.

    Args:
        objective: The loss and its data; BatchNorm uses batch statistics, or the model's own with
            bn="frozen".
        first: The end at t = 0.
        last: The end at t = 1.
        training: How.
        report: Called with the number of updates done.

    Returns:
        Control points [first, bends, last], and the loss of each update, seen before it.

    Raises:
        ValueError: If loss or gradient are not finite.

    Source: Garipov et al. 2018, section 3.3.
    """
    start, draws, order = (np.random.default_rng((training.seed, use)) for use in range(3))
    controls = _start(first, last, training.bends, start)
    velocity = torch.zeros_like(controls[1:-1])
    gradient_at = _gradient(objective)
    batches = _minibatches(objective, training.batch_size, order)
    losses = np.empty(training.updates)
    for update in range(training.updates):
        batch, loss = next(batches), 0.0
        gradient = torch.zeros_like(velocity)
        for t, share in _draw(training, draws):
            found, slope = gradient_at(curve_point(controls, training.shape, t), batch)
            loss += share * found
            weights = control_weights(training.shape, training.bends, t)[1:-1]
            gradient += share * torch.outer(torch.tensor(weights).to(slope), slope)
        losses[update] = loss
        if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
            raise ValueError(
                f"the curve's loss and gradient must stay finite, got loss {loss} in update "
                f"{update + 1} of {training.updates}; lower learning_rate, which is "
                f"{training.learning_rate:g}"
            )
        velocity.mul_(training.momentum).add_(gradient)
        controls[1:-1] -= training.rate(update) * velocity
        report(update + 1)
    return controls, losses


def _start(first: Tensor, last: Tensor, bends: int, generator: np.random.Generator) -> Tensor:
    """Control points evenly spaced on the chord, the bends moved a little off it."""
    controls = torch.stack([torch.lerp(first, last, k / (bends + 1)) for k in range(bends + 2)])
    noise = torch.from_numpy(generator.standard_normal((bends, len(first))))
    noise *= NOISE * (last - first).cpu().double().norm() / noise.norm(dim=1, keepdim=True)
    controls[1:-1] += noise.to(controls)
    return controls


def _draw(training: Training, generator: np.random.Generator) -> list[tuple[float, float]]:
    """Positions t of an update, and the share of each in its loss."""
    if training.nodes == 0:
        return [(float(generator.random()), 1.0)]
    pieces = training.bends + 1 if training.shape == "polygon" else 1
    nodes, shares = np.polynomial.legendre.leggauss(training.nodes)
    return [
        ((piece + (node + 1) / 2) / pieces, share / 2 / pieces)
        for piece in range(pieces)
        for node, share in zip(nodes.tolist(), shares.tolist(), strict=True)
    ]


def _minibatches(
    objective: Objective, batch_size: int, generator: np.random.Generator
) -> Iterator[list[Batch]]:
    """Yield the batches of each update, without end."""
    if batch_size == 0:
        while True:
            yield objective.batches
    if len({(x.shape[1:], y.shape[1:]) for x, y in objective.batches}) > 1:
        raise ValueError("minibatches need samples of one shape, got several; take batch_size=0")
    inputs, targets = (torch.cat(parts) for parts in zip(*objective.batches, strict=True))
    size = min(batch_size, len(inputs))
    while True:
        order = torch.from_numpy(generator.permutation(len(inputs))).to(inputs.device)
        for start in range(0, len(inputs) - size + 1, size):
            rows = order[start : start + size]
            yield [(inputs[rows], targets[rows])]


def _gradient(objective: Objective) -> Callable[[Tensor, list[Batch]], tuple[float, Tensor]]:
    """Return a function that gives the mean loss over batches, and its gradient [param]."""
    model, layout = private_copy(objective.model, None, None), objective.layout
    if objective.facts["bn"] != "frozen":
        batch_norms(model, "batch")
    types = {entry.name: model.get_parameter(entry.name).dtype for entry in layout}

    def gradient(theta: Tensor, batches: list[Batch]) -> tuple[float, Tensor]:
        samples, mean, total = sum(len(x) for x, _ in batches), 0.0, torch.zeros_like(theta)
        with torch.inference_mode(False), torch.enable_grad():
            theta = theta.clone().requires_grad_()
            for inputs, targets in batches:
                values = {
                    entry.name: theta[entry.slice].view(entry.shape).to(types[entry.name])
                    for entry in layout
                }
                with guards.explaining_output(model, inputs):
                    output = functional_call(model, values, (inputs,))
                loss = guards.batch_loss(objective.loss_fn, output, targets)
                mean += len(inputs) / samples * float(loss.detach())
                total += len(inputs) / samples * torch.autograd.grad(loss, theta)[0]
        return mean, total

    return gradient
