"""What a long computation leaves behind now and then, so that a killed one goes on from there."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from landscape.locks import hold_lock
from landscape.storage import RunFileError, open_strict


class Savepoint(Protocol):
    """Keeps the latest state of one computation, as arrays by name."""

    def load(self) -> dict[str, np.ndarray] | None:
        """The last state that was saved, or None."""
        ...

    def due(self) -> bool:
        """Whether it is time to save again: asked often, so that saving costs little."""
        ...

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state in the place of the last one."""
        ...
