"""What the rounds say: medians and ranges, shares of the ceiling, targets; printed as tables."""

import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from contenders import ROOT

TG = "tomgoldstein"
GRID = 51 * 51  # the field's usual surface, to which set-up and points are put together
# net, our row, the other row, factor wanted, goal
RATIOS = [
    ("resnet-20", "float32", f"{TG}, fastest", 1.8, 2.2),
    ("resnet-20", "float32", "loss-landscapes", 3.5, None),
    ("resnet-20", "bfloat16", f"{TG}, fastest", 7.0, None),
    ("wrn-28-2", "float32", f"{TG}, fastest", 1.5, 1.7),
    ("wrn-28-2", "float32", "loss-landscapes", 1.7, None),
]


def machine(peers: Path | None, note: str, threads: int) -> dict[str, Any]:
    """Where this was measured, with which versions and by which command."""
    model = "unknown"
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model n")), model)
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, check=False, capture_output=True, text=True)
    names = ("torch", "numpy", "loss-landscapes")
    return {
        "processor": model,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
        "landscaper": note if peers else f"left out: {note}",
        "commit": commit.stdout.strip(),
        "command": " ".join(["python", *sys.argv]),
    }


def summarize(report: dict[str, Any]) -> dict[str, Any]:
    """Per net and row: seconds, ratio to the tomgoldstein-style loop, share of the ceiling."""
    found: dict[str, Any] = {}
    for name, net in report["nets"].items():
        rows = net["rows"]
        found[name] = {row: _row(rows, row, net["ceilings"]) for row in rows}
        print(f"\n{name}, {net['samples']} images, {report['machine']['threads']} threads")
        print(
            f"{'':26}{'s/point':>9}{'set-up s':>9}{'x TG':>7}{'range':>13}{'at 51x51':>10}"
            f"{'ceiling':>9}{'error':>9}"
        )
        for row, values in found[name].items():
            low, high = values["ratio_range"]
            share = f"{values['share']:.0%}" if "share" in values else ""
            print(
                f"{row:26}{values['seconds_per_point']:9.4f}{values['setup_seconds']:9.2f}"
                f"{values['ratio']:7.2f}{f'{low:.2f}-{high:.2f}':>13}"
                f"{values['ratio_51']:10.2f}{share:>9}{values['error_max']:9.1e}"
            )
        settings = ", ".join(
            f"{s['batch']}/{s['loaders']}/{s['ranks']} {s['point_seconds']:.3f}"
            for s in net["settings"]
        )
        print(f"TG settings, batch/loaders/ranks and s/point: {settings}")
        memory = ", ".join(f"{k} points {v >> 20} MiB" for k, v in net["memory"].items())
        print(f"peak memory: {memory}")
    return found


def ratios(rows: dict[str, Any], row: str, other: str) -> list[float]:
    """How many times faster `row` is than `other` in each round, set-up included."""
    return [_per_point(b) / _per_point(a) for a, b in zip(rows[row], rows[other], strict=True)]


def targets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target with what was measured; printed."""
    found = []
    for net, row, other, wanted, goal in RATIOS:
        rows = report["nets"][net]["rows"]
        value = statistics.median(ratios(rows, row, other))
        found.append(
            {
                "target": f"{net} {row} against {other}",
                "wanted": wanted,
                "goal": goal,
                "measured": value,
            }
        )
    for net, rows in report["summary"].items():
        found.append(
            {
                "target": f"{net} float32, share of the ceiling",
                "wanted": 0.75,
                "goal": 0.9,
                "measured": rows["float32"]["share"],
            }
        )
    if report["ranks"].get("gain"):
        found.append(
            {
                "target": "two one-thread ranks against one",
                "wanted": 1.7,
                "goal": None,
                "measured": statistics.median(report["ranks"]["gain"]),
            }
        )
    print()
    for target in found:
        target["met"] = target["measured"] >= target["wanted"]
        verdict = "met" if target["met"] else "MISSED"
        print(
            f"{target['target']:52} {target['measured']:6.2f}  wanted {target['wanted']:.2f}"
            f"  {verdict}"
        )
    return found


def _row(rows: dict[str, Any], row: str, ceilings: dict[str, Any]) -> dict[str, Any]:
    answers = rows[row]
    against = ratios(rows, row, f"{TG}, fastest")
    setup = [max(0.0, a["seconds"] - a["points"] * a["point_seconds"]) for a in answers]
    large = [s / GRID + a["point_seconds"] for s, a in zip(setup, answers, strict=True)]
    slow = [_per_point(a) for a in rows[f"{TG}, fastest"]]
    values: dict[str, Any] = {
        "seconds_per_point": statistics.median(map(_per_point, answers)),
        "points": answers[0]["points"],
        "setup_seconds": statistics.median(setup),
        "ratio": statistics.median(against),
        "ratio_range": [min(against), max(against)],
        "ratio_51": statistics.median([s / x for s, x in zip(slow, large, strict=True)]),
        "error_max": max(a["error"]["max"] for a in answers),
        "error_rms": max(a["error"]["rms"] for a in answers),
        "error_points": answers[0]["error"]["points"],
        "facts": answers[0]["facts"],
    }
    if row in ceilings:
        bare = [c["seconds"] for c in ceilings[row]]
        values["ceiling_seconds"] = statistics.median(bare)
        values["share"] = statistics.median(
            [c / _per_point(a) for c, a in zip(bare, answers, strict=True)]
        )
        values["share_51"] = statistics.median([c / x for c, x in zip(bare, large, strict=True)])
    return values


def _per_point(answer: dict[str, Any]) -> float:
    return answer["seconds"] / answer["points"]
