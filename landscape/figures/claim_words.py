"""A claim in words: verdicts, effects with their intervals, and what would change them."""

import numpy as np

from landscape.figures.estimate_words import interval, value_and_error
from landscape.figures.numbers import MINUS, NONE, count, number, short
from landscape.figures.plane_words import Rows, listed
from landscape.results import Claim

SIGNS = {"supports": "+", "contradicts": MINUS, "undecided": "?"}
"""A sign beside each verdict, so that it is not told by color alone."""
SPOKEN = {"supports": "supported", "contradicts": "contradicted", "undecided": "undecided"}
"""What a statement is."""


def rows_of(result: Claim, statement: int) -> np.ndarray:
    """Which rows are of a statement."""
    return np.flatnonzero(result.row_statement == statement)


def bound_words(result: Claim, statement: int) -> str:
    """What an effect must be to support a statement, e.g. "above 0.1"."""
    margin, relation = float(result.margin[statement]), result.relations[statement]
    if relation == "within":
        return f"within ±{short(margin)}"
    return f"{relation} {short(margin)}"


def effect_words(result: Claim, row: int) -> tuple[str, str]:
    """Mean over seeds and 95 % interval of a row, with the decimals that the interval tells."""
    low, high = float(result.interval_low[row]), float(result.interval_high[row])
    half = (high - low) / 2
    return value_and_error(float(result.estimate[row]), half)[0], interval(low, high, half) or NONE


def nested_words(result: Claim, row: int) -> str:
    """The bootstrap interval of a row, with the decimals of the other one."""
    half = float(result.interval_high[row] - result.interval_low[row]) / 2
    return interval(float(result.nested_low[row]), float(result.nested_high[row]), half) or NONE


def verdict_counts(result: Claim, source: str) -> str:
    """How many statements of a source have each verdict."""
    found = [v for v, s in zip(result.verdicts, result.sources, strict=True) if s == source]
    told = [f"{found.count(verdict)} {word}" for verdict, word in SPOKEN.items()]
    return f"of {count(len(found))}, {listed(told)}"


def chance_words(result: Claim) -> str:
    """How many intervals there are, and how many would miss by chance."""
    known = int(np.isfinite(result.interval_low).sum())
    if not known:
        return "No interval: one seed decides nothing."
    return (
        f"{count(known)} intervals of 95 %, not corrected for their number: "
        f"{number(0.05 * known, 2)} of them would miss the true effect by chance."
    )


def claim_subject(result: Claim) -> str:
    """The caption's first sentences."""
    seeds = ", ".join(map(str, result.seeds))
    methods = result.facts.get("methods") or {}
    told = listed([f"{count(n)} of {method}" for method, n in methods.items()])
    parts = [
        f"Statements of the paper: {verdict_counts(result, 'paper')}; explanations: "
        f"{verdict_counts(result, 'explanation')}.",
        f"Runs: {told}; seeds {seeds}." if told else f"Seeds {seeds}.",
        "Each effect is the mean over seeds with its 95 % t-interval; it supports where the whole "
        "interval is on the shaded side of the margin.",
        chance_words(result),
    ]
    return " ".join(parts)


def claim_rows(result: Claim) -> Rows:
    """What an inspector says of a claim."""
    methods = result.facts.get("methods") or {}
    return [
        ("Runs", listed([f"{count(n)} {method}" for method, n in methods.items()])),
        ("Seeds", ", ".join(map(str, result.seeds))),
        ("Paper", verdict_counts(result, "paper")),
        ("Explanations", verdict_counts(result, "explanation")),
        ("Intervals", chance_words(result)),
    ]


def claim_grid(result: Claim) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a claim as a table of words."""
    heads = ["statement", "runs", "effect", "95 %", "nested", "supported if", "verdict"]
    rows = []
    for i, statement in enumerate(result.row_statement.tolist()):
        mean, ends = effect_words(result, i)
        unit = result.units[statement]
        name = result.statements[statement]
        rows.append(
            [
                f"{name}, {unit}" if unit else name,
                result.row_names[i],
                mean,
                ends,
                nested_words(result, i),
                bound_words(result, statement),
                result.row_verdicts[i],
            ]
        )
    return heads, rows
