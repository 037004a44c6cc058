"""Results of groups of runs: two compared, and statements judged by them."""

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim(Result):
    """Statements held against groups of runs: the effect of each, its interval and the verdict.

    A statement has a row for each group of runs that it is about. Intervals are over seeds.
    """

    kind: ClassVar[str] = "claim"

    statements: tuple[str, ...] = ()
    """Name of each statement."""
    sources: tuple[str, ...] = ()
    """ "paper" or "explanation"."""
    texts: tuple[str, ...] = ()
    """What each says."""
    effects: tuple[str, ...] = ()
    """What is measured for each."""
    units: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    """ "above", "below" or "within" the margin."""
    margin: np.ndarray = axes("statement")
    verdicts: tuple[str, ...] = ()
    """ "supports", "contradicts" or "undecided"."""
    row_statement: np.ndarray = axes("row", int)
    """Which statement a row is of."""
    row_names: tuple[str, ...] = ()
    """Whose runs."""
    seeds: np.ndarray = axes("seed", int)
    values: np.ndarray = axes("row seed")
    """Effect in each run, or pair of runs; NaN where there is none."""
    estimate: np.ndarray = axes("row")
    """Mean over seeds."""
    interval_low: np.ndarray = axes("row")
    interval_high: np.ndarray = axes("row")
    """95 % t-interval over seeds; NaN for one seed."""
    equivalence_low: np.ndarray = axes("row")
    equivalence_high: np.ndarray = axes("row")
    """The same at 90 %, which supports "within"."""
    nested_low: np.ndarray = axes("row")
    nested_high: np.ndarray = axes("row")
    """95 % bootstrap of batches within runs, within seeds; NaN where there are no batches."""
    row_verdicts: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    """What would change the verdict of each row."""
