"""Losses from bfloat16 outputs, corrected by float32 where bfloat16 can't resolve them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from landscape import guards
from landscape.engines import Engine, score_of
from landscape.objectives import Evaluation, Objective

_SHARES = (1 / 16, 1 / 8)
_ALLOWED = 0.005  # of the loss, at three standard errors: half of what is promised
_ERRORS = 3.0
_FEWEST = 8


class MixedEngine:
    """Evaluates in bfloat16 and repeats in full precision what the loss depends on most.

    Rounding the outputs by δz_i changes the mean loss by Σ g_i·δz_i to first order, g_i being its
    derivative by the outputs of sample i. The samples with the largest ‖g_i‖ (near a minimum, those
    few that carry the loss) are evaluated anew in full precision, and as many at random from the
    others. These give the error of the rest by its mean, which is subtracted, and a standard
    error, to be trusted because the large terms are out. If three of them are above 0.5 % of the
    loss, twice as many samples are taken, and then the whole point in full precision. All of that
    depends on nothing but the point.

    Args:
        low: Evaluates in bfloat16.
        full: Evaluates the same objective in its own type.
    """

    def __init__(self, low: Engine, full: Engine) -> None:
        self._low, self._full, self.objective = low, full, full.objective
        self._sizes = [len(targets) for _, targets in self.objective.batches]
        self._samples = sum(self._sizes)
        generator = torch.Generator().manual_seed(0)
        self._order = torch.randperm(self._samples, generator=generator)

    def evaluate(self, theta: Tensor | Any, buffers: Mapping[str, Any] | None = None) -> Evaluation:
        """Loss, accuracy and metrics at theta [param], with all buffers by name where given."""
        with torch.inference_mode():
            self._low.place(theta, buffers)
            outputs = [self._low.outputs(x) for x, _ in self.objective.batches]
        slopes = _slopes(self.objective, outputs)
        reach = torch.cat([slope.flatten(1).norm(dim=1) for slope in slopes]).cpu()
        with torch.inference_mode():
            self._full.place(theta, buffers)
        for share in _SHARES:
            count = max(math.ceil(share * self._samples), _FEWEST)
            if 4 * count > self._samples:
                break
            found = self._corrected(outputs, slopes, reach, count)
            if found is not None:
                return found
        return self._full.evaluate(theta, buffers)

    def _corrected(
        self, outputs: list[Tensor], slopes: list[Tensor], reach: Tensor, count: int
    ) -> Evaluation | None:
        """The evaluation with `2 count` samples in full precision; None if that isn't enough."""
        top = torch.zeros(self._samples, dtype=torch.bool)
        top[reach.argsort(descending=True, stable=True)[:count]] = True
        drawn = self._order[~top[self._order]][:count]
        again = top.clone()
        again[drawn] = True
        mixed = self._replaced(outputs, again)
        found = score_of(self.objective, mixed)
        after = _slopes(self.objective, mixed)
        change = torch.cat(
            [
                ((a + b) / 2 * (z - y)).flatten(1).sum(1).double().cpu()
                for a, b, z, y in zip(slopes, after, mixed, outputs, strict=True)
            ]
        )[drawn]
        rest = self._samples - int(again.sum())
        loss = found.loss + rest * float(change.mean())
        error = rest * float(change.std()) / math.sqrt(count)
        if not _ERRORS * error <= _ALLOWED * abs(loss):
            return None
        return Evaluation(loss=loss, accuracy=found.accuracy, metrics=found.metrics)

    @torch.inference_mode()
    def _replaced(self, outputs: list[Tensor], again: Tensor) -> list[Tensor]:
        """The outputs, with those of some samples [sample] in full precision."""
        parts = again.split(self._sizes)
        batches = zip(self.objective.batches, parts, strict=True)
        inputs = torch.cat([x[rows.to(x.device)] for (x, _), rows in batches])
        exact = self._full.outputs(inputs)
        mixed = []
        pieces = exact.split([int(rows.sum()) for rows in parts])
        for output, rows, piece in zip(outputs, parts, pieces, strict=True):
            mixed.append(output.clone())
            mixed[-1][rows.to(output.device)] = piece
        return mixed


def _slopes(objective: Objective, outputs: Sequence[Tensor]) -> list[Tensor]:
    """The derivative of the mean loss by the outputs, batch by batch."""
    total = sum(len(output) for output in outputs)
    slopes = []
    with torch.inference_mode(False), torch.enable_grad():
        for (_, targets), output in zip(objective.batches, outputs, strict=True):
            z = output.clone().requires_grad_()
            loss = guards.batch_loss(objective.loss_fn, z, targets)
            slopes.append(torch.autograd.grad(loss, z)[0] * (len(output) / total))
    return slopes
