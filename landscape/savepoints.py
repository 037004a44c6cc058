"""What a long computation leaves behind now and then, so that a killed one goes on from there."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from landscape.storage import RunFileError, open_strict, read_arrays, write_arrays

_SHARE = 0.05  # of the time, at most, goes into saving
_EVERY = 10.0  # seconds at least between two saves


class Savepoint(Protocol):
    """Keeps the latest state of one computation, as arrays by name."""

    def load(self) -> dict[str, np.ndarray] | None:
        """The last state that was saved, or None."""
        ...

    def due(self) -> bool:
        """Whether it is time to save again; asking costs nothing."""
        ...

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state in the place of the last one."""
        ...


class FileSavepoint:
    """A savepoint in a file of its own, replaced at once: a kill leaves the one before.

    Due every ten seconds, or so seldom that saving takes at most a twentieth of the time.

    Args:
        path: The file; what it holds must be of the same question.
        keep: Whether this process saves: of several that compute the same, the first does.
    """

    def __init__(self, path: Path, *, keep: bool = True) -> None:
        self._path, self._keep = path, keep
        self._next = time.monotonic() + _EVERY

    def load(self) -> dict[str, np.ndarray] | None:
        """The last state that was saved; None where there is none, or none that can be read."""
        try:
            with open_strict(self._path) as file:
                arrays = read_arrays(file)
        except RunFileError:
            return None
        arrays.pop("header", None)
        return arrays

    def due(self) -> bool:
        """Whether it is time to save again."""
        return self._keep and time.monotonic() >= self._next

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state in the place of the last one.

        Raises:
            OSError: If it can't be written, e.g. on a full disk.
        """
        if not self._keep:
            return
        start = time.monotonic()
        write_arrays(self._path, {}, {name: np.asarray(value) for name, value in state.items()})
        took = time.monotonic() - start
        self._next = time.monotonic() + max(_EVERY, took / _SHARE)
