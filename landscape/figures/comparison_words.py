"""Comparisons in words: verdicts, what would change them, and how many are left to chance."""

import math

import numpy as np

from landscape.figures.estimate_words import interval, value_and_error
from landscape.figures.numbers import NONE, count, number, short
from landscape.figures.plane_words import Rows, listed
from landscape.results import Comparison

_VERDICTS = {
    "differs": "differs",
    "undecided": "undecided",
    "one run": "no interval: one run",
    "no spread": "no interval: no spread",
    "not finite": "not finite",
}


def scalar_label(result: Comparison, i: int) -> str:
    """A scalar with its unit."""
    return ", ".join(part for part in (result.names[i], result.units[i]) if part)


def verdict_words(result: Comparison, i: int) -> str:
    """The verdict of a scalar, e.g. "equivalent within ±0.01"."""
    verdict, margin = result.verdicts[i], f"±{short(float(result.margin[i]))}"
    if verdict == "equivalent":
        return f"equivalent within {margin}"
    if verdict == "both":
        return f"differs, but equivalent within {margin}"
    return _VERDICTS[verdict]


def change_words(result: Comparison, i: int) -> str:
    """How many runs would decide what is undecided, or ""."""
    if result.verdicts[i] != "undecided":
        return ""
    differ, equal = float(result.runs_to_differ[i]), float(result.runs_to_equal[i])
    parts = [] if math.isnan(differ) else [f"{count(differ)} runs each to leave out zero"]
    if not math.isnan(equal):
        parts.append(f"{count(equal)} to stay within ±{short(float(result.margin[i]))}")
    return " or ".join(parts) or "no number of runs would decide it"


def runs_words(result: Comparison) -> str:
    """Of how many runs a comparison is."""
    first, second = result.a.shape[1], result.b.shape[1]
    if not result.seeds.size:
        return f"{first} and {second} runs, not paired"
    seeds = ", ".join(map(str, result.seeds))
    return f"{first} pair{'s' if first > 1 else ''} of runs, seed{'s' * (first > 1)} {seeds}"


def chance_words(result: Comparison) -> str:
    """How many intervals leave out zero, and how many would by chance."""
    shown = sum(not math.isnan(low) for low in result.interval_low)
    clear = sum(verdict in ("differs", "both") for verdict in result.verdicts)
    if not shown:
        return ""
    return (
        f"Of {count(shown)} interval{'s' if shown > 1 else ''} {count(clear)} "
        f"leave{'s' if clear == 1 else ''} out zero; if nothing differed, "
        f"{number(0.05 * shown, 2)} would be expected to."
    )


def settings_words(result: Comparison) -> str:
    """Settings that differ between A and B, or ""."""
    apart = result.facts.get("settings_apart") or {}
    return "; ".join(f"{name} {a} / {b}" for name, (a, b) in apart.items())


def measured_words(result: Comparison) -> str:
    """What the results that scalars come from were measured with, or ""."""
    groups: dict[str, list[str]] = {}
    for name, settings in (result.facts.get("measured_with") or {}).items():
        told = [
            f"{k} {v}" for k, v in settings.items() if k != "data_digest" and v not in ("", None)
        ]
        groups.setdefault(", ".join(told), []).append(name)
    return " ".join(f"{listed(names)}: {told}." for told, names in groups.items() if told)


def comparison_subject(result: Comparison) -> str:
    """The caption's first sentences."""
    a, b = result.labels or ("A", "B")
    paired = result.seeds.size > 0
    text = f"Difference of means, {a} minus {b}, over {runs_words(result)}, with "
    text += f"{'t-intervals' if paired else 'Welch intervals'} of 95 %"
    if not all(math.isnan(margin) for margin in result.margin):
        text += "; equivalent where that of 90 % (in figures thick) lies inside the margin"
    parts = [f"{text}.", chance_words(result)]
    if paired and result.a.shape[1] > 1:
        least = number(2.0 ** (1 - result.a.shape[1]), 2)
        parts.append(f"p: exact, by sign flips of the pairs; with so many it is at least {least}.")
    if any(verdict == "undecided" for verdict in result.verdicts):
        parts.append("Runs that would decide: if mean and spread stayed as they are.")
    settings = settings_words(result)
    parts.append(f"Settings, {a} / {b}: {settings}." if settings else "")
    parts.append(measured_words(result))
    left_out = list(result.facts.get("left_out", []))
    parts.append(f"Left out, without a partner: {listed(left_out)}." if left_out else "")
    return " ".join(part for part in parts if part)


def comparison_rows(result: Comparison) -> Rows:
    """What an inspector says of a comparison."""
    return [
        ("Groups", " and ".join(result.labels)),
        ("Runs", runs_words(result)),
        ("Scalars", count(len(result.names))),
        ("Intervals", chance_words(result)),
        ("Settings", settings_words(result)),
    ]


def reach_of(comparison: Comparison) -> np.ndarray:
    """The largest |value| that the row of each scalar shows [scalar]; 1 where there is none."""
    shown = np.stack(
        [
            comparison.difference,
            comparison.interval_low,
            comparison.interval_high,
            comparison.margin,
        ]
    )
    largest = np.abs(np.where(np.isfinite(shown), shown, 0.0)).max(axis=0, initial=0.0)
    return np.where(largest > 0, largest, 1.0)


def difference_words(result: Comparison, i: int) -> tuple[str, str]:
    """Difference and 95 % interval of a scalar, with the decimals that the interval tells."""
    ends = float(result.interval_low[i]), float(result.interval_high[i])
    half = (ends[1] - ends[0]) / 2
    return _decimal(float(result.difference[i]), half), interval(*ends, half) or NONE


def _decimal(value: float, error: float) -> str:
    return value_and_error(value, error)[0]


def comparison_grid(result: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a comparison as a table of words."""
    heads = ["scalar", *(result.labels or ("A", "B")), "difference", "95 %", "p", "verdict"]
    rows = []
    for i in range(len(result.names)):
        half = float(result.interval_high[i] - result.interval_low[i]) / 2
        means = [_decimal(float(group[i].mean()), half) for group in (result.a, result.b)]
        probability = number(float(result.probability[i]), 2)
        told = difference_words(result, i)
        label, verdict = scalar_label(result, i), verdict_words(result, i)
        rows.append([label, *means, *told, probability, verdict])
    return heads, rows
