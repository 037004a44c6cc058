"""Many long vectors at once, in memory while they fit, and their inner products. No torch."""

import os
import tempfile
from collections.abc import Sequence

import numpy as np

from landscape.directions import inner_products


class VectorStack:
    """Vectors `[n, param]`, or the share of them that one process has, written one by one.

    Beyond the budget they lie in a file without a name in the folder for temporary files (`TMPDIR`
    chooses it), which is gone with the stack.

    Args:
        held: Which vectors, by number.
        size: Numbers of each.
        dtype: float32 or float64.
        budget: Bytes that may lie in memory.

    Raises:
        ValueError: There is no room for the file.
    """

    def __init__(
        self, held: Sequence[int], size: int, dtype: type | np.dtype, *, budget: float
    ) -> None:
        self._places = {row: place for place, row in enumerate(held)}
        shape, wanted = (len(held), size), len(held) * size * np.dtype(dtype).itemsize
        self.in_memory = wanted <= budget
        if self.in_memory:
            self.rows = np.full(shape, np.nan, dtype)
            return
        with tempfile.TemporaryFile() as file:
            _reserve(file.fileno(), wanted)
            self.rows = np.memmap(file, dtype, mode="r+", shape=shape)

    def __setitem__(self, row: int, vector: np.ndarray) -> None:
        """Write a vector `[param]`."""
        self.rows[self._places[row]] = vector

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a vector `[param]`."""
        return self.rows[self._places[row]]

    def products(self, other: "VectorStack", parts: Sequence[slice]) -> np.ndarray:
        """Return the inner products `[part, n, n]` with another stack, over each range of columns.

        In float64; of each vector a part at a time is read.
        """
        return np.stack([inner_products(self.rows[:, p], other.rows[:, p]) for p in parts])


def _reserve(descriptor: int, wanted: int) -> None:
    """Take the room at once: a disk that fills up later would end the process without a word."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, wanted)
        else:
            os.truncate(descriptor, wanted)
    except OSError as error:
        raise ValueError(
            f"{wanted / 1e9:.1f} GB of vectors need room in {tempfile.gettempdir()}, got "
            f"{error.strerror}; free some, name another folder by TMPDIR, or draw fewer batches"
        ) from error
