"""Checks that the options of several analyses share."""

import math
from typing import Any


def at_least(options: Any, **least: int) -> None:
    """Refuse options below their bounds; None passes."""
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def positive(options: Any, *names: str) -> None:
    """Refuse options that are not above 0, or not finite; None passes."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above 0, got {value}")
