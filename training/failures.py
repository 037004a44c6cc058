"""Numbers that stop being finite: noticed on the device, and told with their first tensor."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape import tensor_lists
from landscape.segments import checkpoint_files

EVERY = 20
"""Updates between looks at a GPU, which has to be waited for; on a CPU each one is looked at."""

_LOSSES = ("loss", "perturbed_loss")
_NEVER = -1


class FiniteWatch:
    """Keeps, on the device, the step at which each tensor was first not finite.

    Args:
        model: The model that is trained; its parameters and their gradients are watched.
        run: The folder of the run, whose checkpoints are told.
        lr_at: The learning rate of a step, to be told.
        flush: Waits until checkpoints are on file, so that the last good one can be told.
        hint: Which setting to make smaller.
        every: Updates between looks; by default `EVERY`, or 1 on a CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Path,
        *,
        lr_at: Callable[[int], float],
        flush: Callable[[], None],
        hint: str = "lr",
        every: int | None = None,
    ) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._device = self._parameters[0].device
        self._run, self._lr_at, self._hint, self._flush = run, lr_at, hint, flush
        self._every = every or (1 if self._device.type == "cpu" else EVERY)
        self._zero = torch.zeros((), device=self._device)
        count = len(_LOSSES) + 2 * len(named)
        self._first = torch.full((count,), _NEVER, device=self._device)

    @torch.no_grad()
    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Note what is not finite after an update; nothing waits for the device.

        Args:
            step: The update just made.
            row: Its `loss` and, where there is one, `perturbed_loss`, as tensors.
        """
        losses = [row.get(name, self._zero) for name in _LOSSES]
        gradients = [self._zero if p.grad is None else p.grad for p in self._parameters]
        # the largest magnitude of each; what is NaN stays NaN
        sizes = tensor_lists.norms([*gradients, *self._parameters], float("inf"))
        finite = torch.stack([size.float() for size in (*losses, *sizes)]).isfinite()
        self._first = torch.where(finite | (self._first != _NEVER), self._first, step)

    def check(self, step: int, *, now: bool = False) -> None:
        """Look whether all was finite so far, where a look is due.

        Args:
            step: The update just made.
            now: Whether to look in any case: before a checkpoint is kept, and at the end.

        Raises:
            ValueError: Something was not. It names the step, the first tensor, and the last good
                checkpoint.
        """
        if not now and (step + 1) % self._every:
            return
        first = self._first.tolist()
        found = [value for value in first if value != _NEVER]
        if found:
            raise ValueError(self._told(first, min(found), step))

    def _told(self, first: list[int], at: int, step: int) -> str:
        late = f", noticed at step {step}" if step > at else ""
        bad = [name.replace("_", " ") for name, f in zip(_LOSSES, first, strict=False) if f == at]
        what = f"the {bad[0]}" if bad else "all numbers"
        return (
            f"{what} must stay finite, but did not at step {at} with lr "
            f"{self._lr_at(at):g}{late}; "
            f"{self._culprit(first, at)}; {self._last_good(first, at)}. Choose a smaller "
            f"{self._hint}. The run keeps its steps and reads as failed"
        )

    def _culprit(self, first: list[int], at: int) -> str:
        """The tensor with which it began. Gradients are made from the last layer to the first."""
        count = len(self._names)
        steps = first[len(_LOSSES) :]
        gradients = [i for i in range(count) if steps[i] == at]
        if gradients:
            return f"the first tensor was the gradient of {self._names[gradients[-1]]}"
        parameters = [i for i in range(count) if steps[count + i] == at]
        if parameters:
            return f"the first tensor was the parameter {self._names[parameters[0]]}"
        return "parameters and gradients were still finite"

    def _last_good(self, first: list[int], at: int) -> str:
        """The last checkpoint whose weights had a finite loss."""
        self._flush()
        bound = at - 1 if first[0] == at else at
        kept = {step: path for step, path in checkpoint_files(self._run).items() if step <= bound}
        if not kept:
            return "no checkpoint is good"
        last = max(kept)
        return f"the last good checkpoint is {last}, {kept[last]}"
