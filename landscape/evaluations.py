"""What one pass over the data gives: loss, accuracy and metrics of a model's outputs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape import guards
from landscape.batches import Batch


@dataclass(frozen=True)
class Evaluation:
    """What one pass over the data gives."""

    loss: float
    """Mean task loss in nats."""
    accuracy: float
    """Fraction of correct classes; NaN where the targets are not class indices."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The objective's own metrics by name, as means over samples."""


def score(
    outputs: Iterable[Any],
    batches: Sequence[Batch],
    loss_fn: Callable[[Any, Tensor], Tensor],
    metrics: Mapping[str, Callable[[Any, Tensor], Any]],
) -> Evaluation:
    """Loss, accuracy and metrics of the outputs of all batches, in order.

    Batches are weighted by size, and sums taken in float64.

    Args:
        outputs: The model's output of each batch.
        batches: (inputs, targets) of each.
        loss_fn: `loss_fn(output, targets)`, the mean over a batch.
        metrics: Further means by name.

    Raises:
        ValueError: If an output doesn't fit the loss or a metric.
    """
    losses, correct, predicted = [], [], 0
    measured: dict[str, list[Tensor]] = {name: [] for name in metrics}
    for (_, targets), output in zip(batches, outputs, strict=True):
        losses.append(guards.batch_loss(loss_fn, output, targets).detach())
        for name, metric in metrics.items():
            measured[name].append(guards.batch_metric(name, metric, output, targets))
        if guards.are_classes(output, targets):
            best = output.max(dim=1)
            correct.append(((best.indices == targets) & ~best.values.isnan()).sum())
            predicted += targets.numel()
    sizes = torch.tensor([len(targets) for _, targets in batches]).double()

    def mean(values: list[Tensor]) -> float:
        return float(_float64(values) @ sizes / sizes.sum())

    return Evaluation(
        loss=mean(losses),
        accuracy=float(_float64(correct).sum() / predicted) if predicted else math.nan,
        metrics={name: mean(values) for name, values in measured.items()},
    )


def _float64(values: list[Tensor]) -> Tensor:
    return torch.stack(values).cpu().double()
