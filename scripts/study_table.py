"""The report of `make study`: Markdown for people, JSON with every number."""

import datetime
import json
import math
import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from study_measures import COMPARED, HELD_OUT, MEASURES, differences, elapsed, means
from study_runs import AT_ONCE

from landscape.intervals import t_quantile
from landscape.provenance import processor_name
from landscape.terminal import duration
from training.config import TrainConfig
from training.methods import LABELS
from training.presets import METHODS, PRESETS

STATED = ("test_error", "test_ce", "test_ce_scaled")
"""Measures whose differences are put into words."""

LEARNED = 99.0
"""Training accuracy in percent that SGD is wanted to reach."""


def summarize(
    runs: Sequence[Mapping[str, Any]], config: TrainConfig, command: str
) -> dict[str, Any]:
    """All that the table says, as numbers."""
    report = {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": _machine(),
        "epochs": config.epochs,
        "steps": config.with_steps(config.train_samples).steps,
        "held_out_samples": HELD_OUT,
        "seconds_in_all": sum(run["seconds"] for run in runs),
        "seconds_elapsed": elapsed(runs),
        "bytes": sum(run["bytes"] for run in runs),
        "methods": means(runs),
        "differences": differences(runs),
        "runs": list(runs),
    }
    return report | {"statement": statement(report), "learned": learned(report)}


def _machine() -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
    }


def statement(report: Mapping[str, Any]) -> str:
    """What AACE (else the last method) changes, and how many differences are clear of zero."""
    rows = [row for row in report["differences"] if row["measure"] in STATED]
    if not rows or any(math.isnan(row["low"]) for row in rows):
        return (
            "Nothing is said of differences: that takes SGD or SAM, another method and two seeds."
        )
    methods = [row["method"] for row in rows]
    focus = "aace" if "aace" in methods else methods[-1]
    told: dict[str, list[str]] = {}
    for row in rows:
        if row["method"] == focus:
            name, _, unit = MEASURES[row["measure"]].label.partition(", ")
            told.setdefault(_pair(row), []).append(f"{name} {_difference(row)} {unit}")
    listed = "; ".join(f"{pair}: {', '.join(texts)}" for pair, texts in told.items())
    clear = sum(not row["low"] <= 0 <= row["high"] for row in rows)
    return (
        f"{listed} (mean and 95 % interval over {len(rows[0]['values'])} seeds). Of the "
        f"{len(rows)} such differences of all methods {clear} have an interval that leaves out "
        f"zero; if no method differed from any other, {0.05 * len(rows):.1f} would be expected to."
    )


def _pair(row: Mapping[str, Any]) -> str:
    return f"{_label(row['method'])} − {_label(row['base'])}"


def learned(report: Mapping[str, Any]) -> str:
    """Whether SGD has learned its training images, in a sentence."""
    if "sgd" not in report["methods"]:
        return "SGD was not trained, so whether it learns the training images is not known."
    values = report["methods"]["sgd"]["train_accuracy"]["values"]
    low = f"{min(values):.2f}"
    if min(values) >= LEARNED:
        return (
            f"SGD reached the wanted 99 % training accuracy with every seed; the lowest is {low} %."
        )
    missed = sum(value < LEARNED for value in values)
    return (
        f"SGD did NOT reach the wanted 99 % training accuracy with {missed} of {len(values)} "
        f"seeds; the lowest is {low} %."
    )


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    seeds = len(next(iter(report["methods"].values()))["test_ce"]["values"])
    return f"""# make study, {report["date"]}

{_filled(_circumstances(report, seeds))}

{_filled(report["statement"])}

{_filled(report["learned"])}

## Methods

Mean over {seeds} seeds ± 95 % t-interval. All in eval mode at the last step, without augmentation.

{_methods(report)}

{_filled(_calibration(report))}

## Differences

Paired by seed, which shares initial weights and order of the images; mean with 95 % t-interval.

{_pairs(report)}

## Two sources of spread

{_filled(_spreads(seeds))}

{_spread(report)}

## What this does not say

{_filled(_limits(report))}
"""


def _limits(report: Mapping[str, Any]) -> str:
    radii = {method: PRESETS[f"study-{method}"]().resolved_rho for method in report["methods"]}
    told = ", ".join(f"{_label(method)} {rho}" for method, rho in radii.items() if rho is not None)
    return (
        f"ρ is each method's default ({told or 'none here'}; that of AACE multiplies its gradient, "
        "the others are lengths) and was not tuned, so a difference between two methods is one of "
        "radius too. There is one learning rate, one net and one data set. SGD has the epochs of "
        "the others, so half of their gradients."
    )


def _circumstances(report: Mapping[str, Any], seeds: int) -> str:
    """What was trained, where, by which command and in what time."""
    machine, stopped = report["machine"], sum(len(run["spans"]) > 1 for run in report["runs"])
    who = "One run was" if stopped == 1 else f"{stopped} runs were"
    again = f" {who} stopped and taken up again." if stopped else ""
    return (
        f"`{report['command']}`: Fashion-MNIST, 10,000 training images, conv28 (BatchNorm), "
        f"{report['epochs']} epochs = {report['steps']} updates of 128, lr 0.1 with the paper's "
        f"drops, {seeds} seeds. {machine['cores']} cores of {machine['processor']}, torch "
        f"{machine['versions']['torch']}, {AT_ONCE} runs at a time with one thread each: "
        f"{duration(report['seconds_elapsed'])} of training, {duration(report['seconds_in_all'])} "
        f"summed over runs, beside whatever else the machine did.{again} The runs take "
        f"{report['bytes'] / 1e9:.2g} GB."
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _calibration(report: Mapping[str, Any]) -> str:
    return (
        f"T is fitted on {report['held_out_samples']:,} training images that no run was trained "
        'on; "scaled" means that logits are divided by it. ECE: top label, 15 bins of equal width. '
        'Its estimate is biased upwards: "ECE of a calibrated net" is what a calibrated net with '
        "the confidences of the scaled one would show."
    )


def _spreads(seeds: int) -> str:
    told = f"Half-widths of 95 % intervals: over test images for seed 0 / over {seeds} seeds. "
    if seeds < 2:
        return told + "One seed has none over seeds."
    factor = t_quantile(0.975, seeds - 1)
    return told + f"The latter is {factor:.2f} standard errors, with many seeds it would be 1.96."


def _methods(report: Mapping[str, Any]) -> str:
    methods = report["methods"]
    rows = [
        [measure.label, *[_mean(methods[m][name], measure.digits) for m in methods]]
        for name, measure in MEASURES.items()
    ]
    return _table(["", *map(_label, methods)], rows)


def _pairs(report: Mapping[str, Any]) -> str:
    rows: dict[tuple[str, str], list[str]] = {}
    for row in report["differences"]:
        rows.setdefault((row["method"], row["base"]), [_pair(row)]).append(_difference(row))
    labels = [measure.label for measure in COMPARED.values()]
    return _table(["", *labels], list(rows.values())) if rows else "None: they need SGD or SAM."


def _spread(report: Mapping[str, Any]) -> str:
    methods = report["methods"]
    first = {run["method"]: run for run in report["runs"] if run["seed"] == 0}
    rows = []
    for name, measure in COMPARED.items():
        row = [measure.label]
        for method in methods:
            low, high = measure.interval(first[method])
            over = methods[method][name]
            texts = [
                _number((b - a) / 2, measure.digits)
                for a, b in ((low, high), (over["low"], over["high"]))
            ]
            row.append(" / ".join(texts))
        rows.append(row)
    return _table(["", *map(_label, methods)], rows)


def _label(method: str) -> str:
    return LABELS[METHODS[method]]


def _mean(value: Mapping[str, Any], digits: int) -> str:
    half = _number((value["high"] - value["low"]) / 2, digits)
    return f"{_number(value['mean'], digits)} ± {half}"


def _difference(row: Mapping[str, Any]) -> str:
    digits = MEASURES[row["measure"]].digits
    mean, low, high = (_number(row[key], digits) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # no "-0.00"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(report: Mapping[str, Any], folder: Path) -> Path:
    """Write DATE.json and DATE.md; the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report['date']}.md"
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.write_text(markdown(report), encoding="utf-8")
    return path
