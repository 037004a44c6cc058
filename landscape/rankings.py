"""Which eigenvalues are asked for: largest in magnitude, at either end, or at both."""

from collections.abc import Callable

import numpy as np

WHICH = ("LM", "LA", "SA", "BE")


def order_of(values: np.ndarray, which: str) -> np.ndarray:
    """Return the order in which values are given."""
    keys = {"LM": -np.abs(values), "SA": values}.get(which, -values)
    return np.argsort(keys, kind="stable")


def ends_of(which: str, k: int) -> list[tuple[Callable[..., np.ndarray], int]]:
    """List what to rank eigenvalues by, and how many of the first to take."""
    if which == "LM":
        return [(np.abs, k)]
    top = {"LA": k, "SA": 0, "BE": (k + 1) // 2}[which]
    ends = [(np.positive, top), (np.negative, k - top)]
    return [(key, count) for key, count in ends if count]


def signs_of(key: Callable[..., np.ndarray]) -> list[int]:
    """List the signs with which the first by a key lie at the top."""
    return [sign for sign in (1, -1) if key(sign) > 0]


def best_of(values: np.ndarray, which: str, k: int) -> np.ndarray:
    """Mask the k best values, or all."""
    mask = np.zeros(len(values), bool)
    for key, count in ends_of(which, k):
        mask[np.argsort(-key(values), kind="stable")[:count]] = True
    return mask
