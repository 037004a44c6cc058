"""The batches of a training run: shuffled anew each epoch and changed at random, from its seed."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from .augmentation import RECIPES, augment_batch
from .config import TrainConfig


class Batches:
    """Batches for ever, as (epoch, inputs, targets); an epoch has full batches only.

    Args:
        config: Seed, batch size, and how images are changed.
        data: Inputs and targets of the training set, on the device.
        share: (rank, ranks): which of equal parts of each batch this process takes. Order and
            changes are drawn for the whole batch, so that the ranks have what one process has.

    Raises:
        ValueError: A batch is larger than the training set.
    """

    def __init__(
        self, config: TrainConfig, data: tuple[Tensor, Tensor], share: tuple[int, int] = (0, 1)
    ) -> None:
        self._inputs, self._targets = data
        self._rank, self._ranks = share
        self._size, samples = config.batch_size, len(data[0])
        self._per_epoch = samples // self._size
        if self._per_epoch == 0:
            raise ValueError(
                f"batch_size must be at most the {samples} training samples, got {self._size}"
            )
        self._order, self._changes = (_generator(config.seed, u) for u in ("order", "augmentation"))
        self._recipe = RECIPES[config.resolved_recipe] if config.augment else None
        # black, as if padded before they were normalized
        self._background = self._inputs.amin((0, 2, 3)) if config.augment else None
        self._epoch, self._number = 0, 0
        self._shuffle()

    def __next__(self) -> tuple[float, Tensor, Tensor]:
        """The next batch, with its epoch and how far into it."""
        if self._number == self._per_epoch:
            self._epoch, self._number = self._epoch + 1, 0
            self._shuffle()
        begin = self._number * self._size
        index = self._indices[begin : begin + self._size]
        inputs, targets = self._inputs[index], self._targets[index]
        if self._recipe is not None and self._background is not None:
            inputs = augment_batch(inputs, self._changes, self._recipe, background=self._background)
        epoch = self._epoch + self._number / self._per_epoch
        self._number += 1
        parts = (part.tensor_split(self._ranks)[self._rank] for part in (inputs, targets))
        return epoch, *parts

    def state(self) -> dict[str, Any]:
        """Where they are: numbers, and the generators' states."""
        return {
            "epoch": self._epoch,
            "number": self._number,
            "order": self._shuffled_from,
            "changes": self._changes.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self._epoch, self._number = state["epoch"], state["number"]
        self._order.set_state(state["order"])
        self._changes.set_state(state["changes"])
        self._shuffle()

    def _shuffle(self) -> None:
        """Draw the order of an epoch, remembering what it was drawn from."""
        self._shuffled_from = self._order.get_state()
        order = torch.randperm(len(self._inputs), generator=self._order)
        self._indices = order.to(self._inputs.device, non_blocking=True)


def _generator(seed: int, use: str) -> torch.Generator:
    """A CPU generator of its own for each use of a run's seed."""
    digest = hashlib.sha256(f"{seed} {use}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))
