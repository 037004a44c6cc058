"""Sketches: short vectors whose cosines are about those of the long ones they are made of."""

import math

import numpy as np
import torch
from torch import Tensor

_ROWS = 64  # rows that are turned at a time: 2 MiB of indices for 4096 numbers


class Sketcher:
    """Projects vectors [param] to [numbers] by random signs: a linear map S, drawn from a seed.

    The vector is cut into rows of `numbers` numbers. Each number gets a random sign, each row is
    turned by a random number of places, and the rows are added. So two numbers of different rows
    meet with probability 1/m and cancel on average: E⟨Sx, Sy⟩ = ⟨x, y⟩, and the variance is at
    most (‖x‖²‖y‖² + ⟨x, y⟩²) / m. The cosine c of two sketches then has a standard deviation of
    about (1 - c²) / √m. One row alone keeps all products as they are.

    Signs and turns come from PCG64 on the CPU, so a seed means one map on every device; sums may
    differ in the last bits. It holds one byte per parameter.

    Args:
        size: Parameters.
        numbers: Numbers m of a sketch; at most `size` are used.
        seed: Seed of the map.
        device: Where vectors lie.

    Source: Charikar, Chen and Farach-Colton, Finding frequent items in data streams, 2002, whose
    random buckets are here those of whole rows; Pagh, Compressed matrix multiplication, 2013.
    """

    def __init__(self, size: int, numbers: int, seed: int, device: torch.device | str) -> None:
        self.numbers = min(numbers, size)
        rows = math.ceil(size / self.numbers)
        random = np.random.PCG64([seed, self.numbers])
        turns = (random.random_raw(rows) % self.numbers).astype(np.int64)
        words = random.random_raw(math.ceil(size / 64)).astype("<u8")
        signs = np.unpackbits(words.view(np.uint8), count=size).astype(np.int8) * 2 - 1
        self._signs = torch.from_numpy(signs).to(device)
        self._turns: list[int] = turns.tolist()
        self._device_turns = torch.from_numpy(turns).to(device)[:, None]
        self._places = torch.arange(self.numbers, device=device)

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the sketch [numbers] of a vector [param], in float32."""
        twice = torch.zeros(2 * self.numbers, device=vector.device)
        add = self._add_one_by_one if vector.device.type == "cpu" else self._add_together
        for start in range(0, len(self._turns), _ROWS):
            part = slice(start * self.numbers, (start + _ROWS) * self.numbers)
            signed = (vector[part] * self._signs[part]).float()
            if missing := -len(signed) % self.numbers:
                signed = torch.nn.functional.pad(signed, (0, missing))
            add(twice, signed.view(-1, self.numbers), start)
        return twice[: self.numbers] + twice[self.numbers :]

    def _add_one_by_one(self, twice: Tensor, rows: Tensor, start: int) -> None:
        """Add each row at its turn; what goes beyond the end is added to the beginning later."""
        sums = twice.numpy()  # whose calls cost a quarter of torch's
        for row, turn in zip(rows.numpy(), self._turns[start:], strict=False):
            sums[turn : turn + self.numbers] += row

    def _add_together(self, twice: Tensor, rows: Tensor, start: int) -> None:
        """Add turned rows with few launches, each of which costs more than its work on a GPU."""
        places = (self._places - self._device_turns[start : start + _ROWS]) % self.numbers
        twice[: self.numbers] += rows.gather(1, places).sum(0)
