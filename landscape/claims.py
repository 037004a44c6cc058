"""Statements held against runs: effects over seeds, intervals, and verdicts by margins."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from landscape.comparisons import fewest_runs
from landscape.evidence import Evidence, MissingEvidenceError
from landscape.intervals import t_interval
from landscape.results import Claim
from landscape.statements import DRAWS, STATEMENTS, Row, Statement

SUPPORTS, CONTRADICTS, UNDECIDED = "supports", "contradicts", "undecided"


def measure_claim(
    evidence: Evidence, statements: Sequence[Statement] = STATEMENTS, *, seed: int
) -> Claim:
    """Hold statements against runs.

    A row of a statement is the effect in each run of a group, or each pair of runs. The verdict
    comes from the t-interval over seeds: "above" is supported where the 95 % interval lies above
    the margin and contradicted where it lies below, "below" the other way; "within" is supported
    where the 90 % interval lies inside ± margin and contradicted where that of 95 % lies outside.
    All else is undecided, as is a single seed. A statement is supported if all its rows are, and
    contradicted if one is.

    Args:
        evidence: Runs and what was measured of them.
        statements: What is said.
        seed: Of the nested bootstrap.
    """
    rows = [
        (i, row, _judged(row, statement, seed))
        for i, statement in enumerate(statements)
        for row in _rows(statement, evidence)
    ]
    seeds = sorted({s for runs in evidence.groups.values() for s in runs})
    told = [found for _, _, found in rows]
    columns: dict[str, Any] = {
        name: np.array([found[name] for found in told], float).reshape(len(rows))
        for name in _NUMBERS
    }
    return Claim(
        statements=tuple(s.name for s in statements),
        sources=tuple(s.source for s in statements),
        texts=tuple(s.text for s in statements),
        effects=tuple(s.effect for s in statements),
        units=tuple(s.unit for s in statements),
        relations=tuple(s.relation for s in statements),
        margin=np.array([s.margin for s in statements]),
        verdicts=tuple(
            _joined([found["verdict"] for j, _, found in rows if j == i])
            for i in range(len(statements))
        ),
        row_statement=np.array([i for i, _, _ in rows], int),
        row_names=tuple(row.label for _, row, _ in rows),
        seeds=np.array(seeds, int),
        values=np.array([[row.values.get(s, math.nan) for s in seeds] for _, row, _ in rows]),
        row_verdicts=tuple(found["verdict"] for found in told),
        changes=tuple(found["change"] for found in told),
        facts=_facts(evidence, seed),
        **columns,
    )


_NUMBERS = (
    "estimate",
    "interval_low",
    "interval_high",
    "equivalence_low",
    "equivalence_high",
    "nested_low",
    "nested_high",
)


def _facts(evidence: Evidence, seed: int) -> dict[str, Any]:
    runs = [run for group in evidence.groups.values() for run in group.values()]
    return {
        "analysis": "claim",
        "runs": [run.id for run in runs],
        "run_names": [run.name for run in runs],
        "methods": {method: len(group) for method, group in evidence.groups.items()},
        "results": {
            "/".join(part for part in key if part): result.digest
            for key, result in evidence.results.items()
        },
        "nested": f"{DRAWS} draws of seeds, and of batches within each",
        "seed": seed,
    }


def _rows(statement: Statement, evidence: Evidence) -> Iterator[Row]:
    """The rows of a statement; one without values, named by what is lacking, where they fail."""
    try:
        yield from statement.rows(evidence)
    except MissingEvidenceError as error:
        yield Row(label=str(error), values={})


def _judged(row: Row, statement: Statement, seed: int) -> dict[str, Any]:
    values = np.array(list(row.values.values()), float)
    found: dict[str, Any] = dict.fromkeys(_NUMBERS, math.nan)
    if len(values):
        found["estimate"] = float(values.mean())
        found["interval_low"], found["interval_high"] = t_interval(values, 0.95)
        found["equivalence_low"], found["equivalence_high"] = t_interval(values, 0.9)
        found["nested_low"], found["nested_high"] = nested_interval(row, seed)
    found["verdict"] = judge(statement, found)
    found["change"] = _change(statement, found, values)
    return found


def judge(statement: Statement, found: dict[str, Any]) -> str:
    """The verdict of an effect's intervals on a statement; undecided where there is none."""
    low, high, margin = found["interval_low"], found["interval_high"], statement.margin
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDECIDED
    if statement.relation == "within":
        if -margin < found["equivalence_low"] and found["equivalence_high"] < margin:
            return SUPPORTS
        return CONTRADICTS if low > margin or high < -margin else UNDECIDED
    if statement.relation == "below":
        low, high, margin = -high, -low, -margin
    if low > margin:
        return SUPPORTS
    return CONTRADICTS if high < margin else UNDECIDED


def _joined(verdicts: Sequence[str]) -> str:
    if CONTRADICTS in verdicts:
        return CONTRADICTS
    return SUPPORTS if set(verdicts) == {SUPPORTS} else UNDECIDED


def nested_interval(row: Row, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % bootstrap interval of a row's mean: seeds are drawn, and batches within each.

    NaN for a single seed, and where the effect does not come from batches.
    """
    if row.draws is None or len(row.draws) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng([seed, 4])
    within = np.stack(list(row.draws.values()))  # [seed, draw]
    picks = rng.integers(0, len(within), (draws, len(within)))
    batches = rng.integers(0, within.shape[1], (draws, len(within)))
    low, high = np.nanquantile(within[picks, batches].mean(1), [0.025, 0.975])
    return float(low), float(high)


def _change(statement: Statement, found: dict[str, Any], values: np.ndarray) -> str:
    """What would change a verdict, in words."""
    if len(values) == 0:
        return "these have to be measured"
    if not np.isfinite(values).all():
        return "an effect is not finite; it has to be measured again"
    if len(values) == 1:
        return "one seed has no interval; train at least two more"
    if found["verdict"] == UNDECIDED:
        return _deciding(statement, found, values)
    if statement.relation == "within":
        inner = max(abs(found["equivalence_low"]), abs(found["equivalence_high"]))
        outer = min(abs(found["interval_low"]), abs(found["interval_high"]))
        bound = inner if found["verdict"] == SUPPORTS else outer
        word = "less" if found["verdict"] == SUPPORTS else "more"
        return _margin_words(bound, word)
    ends = [found["interval_low"], found["interval_high"]]
    supports_above = (statement.relation == "above") == (found["verdict"] == SUPPORTS)
    bound, word = (ends[0], "more") if supports_above else (ends[1], "less")
    return _margin_words(bound, word)


def _margin_words(bound: float, word: str) -> str:
    """A bound with three digits, rounded to the side on which it is true."""
    if bound == 0 or not math.isfinite(bound):
        return f"a margin of {bound:g} or {word}"
    unit = 10.0 ** (math.floor(math.log10(abs(bound))) - 2)
    rounded = (math.ceil if word == "more" else math.floor)(bound / unit) * unit
    return f"a margin of {rounded:.3g} or {word}".replace("-", "−")


def _deciding(statement: Statement, found: dict[str, Any], values: np.ndarray) -> str:
    """How many seeds would decide, if their mean and spread stayed as they are."""
    margin, mean = statement.margin, found["estimate"]
    spread, probability = float(np.std(values, ddof=1)), 0.975
    room = abs(mean - margin)
    if statement.relation == "within":
        room = abs(abs(mean) - margin)
        probability = 0.95 if abs(mean) < margin else 0.975
    seeds = fewest_runs(room, spread, lambda n: n - 1, probability)
    if math.isnan(seeds):
        return "no number of seeds, as they are"
    return f"{seeds:.0f} seeds, if mean and spread stayed as they are"
