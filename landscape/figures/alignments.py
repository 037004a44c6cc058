"""Directions whose alignment with the largest curvature was measured: names, colors, null."""

import itertools
import math
import re
from collections.abc import Sequence

from landscape.results import Curvature

DIRECTIONS = {"sam": 0, "aace": 1, "usam": 2}
"""Color index of a perturbation, the same everywhere; the gradient has the one after."""


_ABBREVIATIONS = {*DIRECTIONS, "asam", "gsam", "le-sam"}


_PERTURBATIONS = ("SAM", "AACE", "USAM", "VASSO", "F-SAM", "GSAM", "ASAM")
_TRAINED = ("AACE", "VASSO", "F-SAM", "LE-SAM", "GSAM", "ASAM", "USAM", "SAM")


def trained_with(method: str) -> tuple[str, ...]:
    """Perturbations in a method's label, in capitals, the one that decides first.

    AACE and SAM of "SAM+AACE"; none of "SGD".
    """
    words = re.split(r"[^A-Z-]+", method.upper())
    return tuple(name for name in _TRAINED if name in words)


def perturbation_color(label: str) -> int:
    """Color index of a perturbation by its label, as of "AACE ρ=0.2": the same in every figure."""
    name = label.upper().split(" ")[0].split("+")[-1]
    return _PERTURBATIONS.index(name) if name in _PERTURBATIONS else len(_PERTURBATIONS)


def direction_colors(names: Sequence[str]) -> list[int]:
    """Color index of each direction; a further one of a kind takes a color of its own."""
    taken: list[int] = []
    for name in names:
        first = DIRECTIONS.get(kind_of(name), len(DIRECTIONS))
        taken.append(next(i for i in itertools.count(first, len(DIRECTIONS) + 1) if i not in taken))
    return taken


def kind_of(name: str) -> str:
    """A direction without its settings: sam of "SAM ρ=0.05"."""
    return name.lower().split()[0] if name.strip() else ""


def spoken(name: str) -> str:
    """A direction as words: perturbations are abbreviations."""
    return name.upper() if name.lower() in _ABBREVIATIONS else name


def random_cosine(curvature: Curvature) -> float:
    """Below this lie 95 % of |cos| between a random direction and a fixed one; NaN if not known.

    A coordinate of a random unit vector of d entries is nearly normal with variance 1/d.
    """
    size = curvature.facts.get("parameters") or int(curvature.layer_size.sum())
    known = isinstance(size, int | float) and size > 0
    return min(1.96 / math.sqrt(size), 1.0) if known else math.nan
