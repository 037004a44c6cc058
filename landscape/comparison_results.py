"""The result of two groups of runs compared."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from landscape.result_base import Result, axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Result):
    """Two groups of runs, A and B, by numbers that each of their runs has.

    Source: Schuirmann 1987 of equivalence, by the 90 % interval; Fisher 1935 of sign flips.
    """

    kind: ClassVar[str] = "comparison"

    labels: tuple[str, ...] = ()
    """What A and B are called."""
    names: tuple[str, ...] = ()
    """Name of each scalar, e.g. "test_loss"."""
    units: tuple[str, ...] = ()
    """Unit of each; "" where it has none."""
    a: np.ndarray = axes("scalar a")
    b: np.ndarray = axes("scalar b")
    """The scalars of each run; of pairs, in the order of `seeds`."""
    seeds: np.ndarray = axes("pair", int, empty=True)
    """Seed of each pair; empty where groups are not paired."""
    difference: np.ndarray = axes("scalar")
    """Mean of A minus mean of B."""
    interval_low: np.ndarray = axes("scalar")
    interval_high: np.ndarray = axes("scalar")
    """95 % t-interval of the difference, of pairs or Welch's; NaN where there is none."""
    equivalence_low: np.ndarray = axes("scalar")
    equivalence_high: np.ndarray = axes("scalar")
    """The same at 90 %, which two one-sided tests at 5 % hold against the margin."""
    probability: np.ndarray = axes("scalar")
    """How often random signs of the paired differences give a mean as far from 0, exactly."""
    margin: np.ndarray = axes("scalar")
    """Differences within ± this count as none; NaN where no margin was named."""
    runs_to_differ: np.ndarray = axes("scalar")
    """Fewest runs of each group with which zero would be left out; NaN where 10,000 would not."""
    runs_to_equal: np.ndarray = axes("scalar")
    """Fewest with which the 90 % interval would lie inside the margin. Both if mean and spread
    stay as they are."""
    verdicts: tuple[str, ...] = ()
    """ "differs", "equivalent", "both", "undecided", or why there is none: "one run", "no spread",
    "not finite"."""
