"""What captions and inspectors say of the directions of a whole run."""

from typing import Any

import numpy as np

from landscape.figures.estimate_words import between, plus_minus
from landscape.figures.numbers import count, number
from landscape.figures.plane_words import Rows, fact
from landscape.results import Directions


def directions_subject(result: Directions, whose: str) -> str:
    """The first sentences of a caption; `whose` names net and method."""
    facts = result.facts
    text = (
        f"Directions of {count(result.vectors)} perturbations recorded in training{whose}, in "
        f"{count(len(result.start))} windows of {_window(facts)}. Thick, with 95 % interval: mean "
        "cosine over all pairs of a window; thin: of vectors "
        f"{_listed(result.lags)} apart; grey: 95 % of random sign flips. Norms: median and "
        "central 90 %. "
    )
    text += (
        f"Over all pairs of the run the mean cosine is {_run_cosine(result)} (95 % of random sign "
        f"flips {number(result.run_null_low)} to {number(result.run_null_high)})."
    )
    if facts.get("window") == "epoch":
        text += (
            " The batches of an epoch share out the data, so without a common direction the mean "
            "cosine of n is about −1/(n − 1)."
        )
    missing = _missing(facts)
    return f"{text} {missing[0].upper()}{missing[1:]}." if missing else text


def directions_rows(result: Directions) -> Rows:
    """Facts for an inspector."""
    facts = result.facts
    null = (result.run_null_low, result.run_null_high)
    return [
        ("Perturbation", result.perturbation),
        ("Vectors", f"{count(result.vectors)}, {fact(facts, 'vectors')}"),
        ("Windows", f"{count(len(result.start))} of {_window(facts)}"),
        ("Lags", _listed(result.lags)),
        ("Sampling", fact(facts, "sampling")),
        ("First window", _of_window(result, 0)),
        ("Last window", _of_window(result, -1)),
        ("Whole run", _run_cosine(result)),
        ("Null of the run", f"{number(null[0])} to {number(null[1])}"),
        ("Interval", fact(facts, "interval")),
        ("Missing", _missing(facts)),
    ]


def _window(facts: dict[str, Any]) -> str:
    window = fact(facts, "window")
    return "an epoch" if window == "epoch" else window


def _listed(lags: np.ndarray) -> str:
    names = [count(lag) for lag in lags]
    first = ", ".join(names[:-1])
    return (f"{first} and {names[-1]}" if first else names[0]) + (
        " step" if names == ["1"] else " steps"
    )


def _run_cosine(result: Directions) -> str:
    error = result.run_mean_cosine_error
    return plus_minus(result.run_mean_cosine, error if error > 0 else float("nan"))


def _of_window(result: Directions, at: int) -> str:
    if not len(result.start):
        return ""
    ends = (float(result.interval_low[at]), float(result.interval_high[at]))
    return f"mean cosine {number(float(result.mean_cosine[at]))}{between(ends)}"


def _missing(facts: dict[str, Any]) -> str:
    """What was not recorded or has no direction, or "" where nothing is missing."""
    said = {
        "missing_steps": "steps were not recorded",
        "vanished": "vectors have length 0",
        "not_finite": "vectors are not finite",
        "short_windows": "windows hold fewer than two vectors",
    }
    parts = [f"{count(facts[name])} {what}" for name, what in said.items() if facts.get(name)]
    if facts.get("status"):
        parts.append({"running": "training goes on"}.get(facts["status"], f"it {facts['status']}"))
    return "; ".join(parts)
