"""What the rounds say: medians and ranges, shares of the ceiling, targets; printed as tables."""

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machines import machine

TG = "tomgoldstein"
GRID = 51 * 51  # the field's usual surface
Seconds = Callable[[dict[str, Any]], float]
# net, our row, the other row, factor wanted, goal
RATIOS = [
    ("resnet-20", "float32", f"{TG}, fastest", 1.8, 2.2),
    ("resnet-20", "float32", "loss-landscapes", 3.5, None),
    ("resnet-20", "bfloat16", f"{TG}, fastest", 7.0, None),
    ("wrn-28-2", "float32", f"{TG}, fastest", 1.5, 1.7),
    ("wrn-28-2", "float32", "loss-landscapes", 1.7, None),
]


def machine_and_peers(peers: Path | None, note: str, threads: int) -> dict[str, Any]:
    """Where this was measured, with which versions and by which command."""
    return machine("torch", "numpy", "loss-landscapes") | {
        "cores": os.cpu_count(),
        "threads": threads,
        "landscaper": note if peers else f"left out: {note}",
    }


def summarize(report: dict[str, Any]) -> dict[str, Any]:
    """Per net and row: seconds, ratio to the tomgoldstein-style loop, share of the ceiling."""
    found: dict[str, Any] = {}
    for name, net in report["nets"].items():
        rows = net["rows"]
        found[name] = {row: _row(rows, row, net["ceilings"]) for row in rows}
        print(f"\n{name}, {net['samples']} images, {report['machine']['threads']} threads")
        print(f"{'':26} s/point set-up s   x TG (range)  x TG at 51x51 (range)  ceiling    error")
        for row, values in found[name].items():
            share = f"{values['share_51']['median']:.0%}" if "share_51" in values else ""
            print(
                f"{row:26}{values['seconds_per_point']:8.4f}{values['setup_seconds']:9.2f}  "
                f"{_spread(values['ratio']):>17}{_spread(values['ratio_51']):>18}"
                f"{share:>9}{values['error_max']:9.1e}"
            )
        settings = ", ".join(
            f"{s['batch']}/{s['loaders']}/{s['ranks']} {s['point_seconds']:.3f}"
            for s in net["settings"]
        )
        print(f"TG settings, batch/loaders/ranks and s/point: {settings}")
        memory = ", ".join(f"{k} points {v >> 20} MiB" for k, v in net["memory"].items())
        print(f"peak memory: {memory}")
    return found


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} ({values['low']:.2f}-{values['high']:.2f})"


def targets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target with what was measured, at 51×51 points and as it was; printed."""
    found = []
    for net, row, other, wanted, goal in RATIOS:
        rows = report["nets"][net]["rows"]
        whole = _ratios(rows, row, other, _on_large_grid)
        found.append((f"{net} {row} against {other}", wanted, goal, whole))
        found[-1] += (_ratios(rows, row, other, _per_point),)
    for net, rows in report["summary"].items():
        shares = (rows["float32"]["share_51"], rows["float32"]["share"])
        found.append((f"{net} float32, share of the ceiling", 0.75, 0.9, *shares))
    if report["ranks"].get("gain"):
        gain = _summary(report["ranks"]["gain"])
        found.append(("two one-thread ranks against one", 1.7, None, gain, gain))
    names = ("target", "wanted", "goal", "at_51", "as_measured")
    listed = [dict[str, Any](zip(names, target, strict=True)) for target in found]
    print(f"\n{'':52} at 51x51  as measured")
    for target in listed:
        target["met"] = target["at_51"]["median"] >= target["wanted"]
        print(
            f"{target['target']:52}{target['at_51']['median']:9.2f}"
            f"{target['as_measured']['median']:13.2f}   wanted {target['wanted']:.2f}: "
            f"{'met' if target['met'] else 'MISSED'}"
        )
    return listed


def _row(rows: dict[str, Any], row: str, ceilings: dict[str, Any]) -> dict[str, Any]:
    answers, slowest = rows[row], f"{TG}, fastest"
    values: dict[str, Any] = {
        "points": answers[0]["points"],
        "seconds_per_point": statistics.median(map(_per_point, answers)),
        "setup_seconds": statistics.median(map(_setup, answers)),
        "ratio": _ratios(rows, row, slowest, _per_point),
        "ratio_51": _ratios(rows, row, slowest, _on_large_grid),
        "error_max": max(a["error"]["max"] for a in answers),
        "error_rms": max(a["error"]["rms"] for a in answers),
        "error_points": answers[0]["error"]["points"],
        "facts": answers[0]["facts"],
    }
    if row in ceilings:
        bare = [ceiling["seconds"] for ceiling in ceilings[row]]
        values["ceiling_seconds"] = statistics.median(bare)
        for name, seconds in (("share", _per_point), ("share_51", _on_large_grid)):
            shares = [c / seconds(a) for c, a in zip(bare, answers, strict=True)]
            values[name] = _summary(shares)
    return values


def _ratios(rows: dict[str, Any], row: str, other: str, seconds: Seconds) -> dict[str, float]:
    """How many times faster `row` is than `other`, round by round."""
    pairs = zip(rows[row], rows[other], strict=True)
    return _summary([seconds(theirs) / seconds(ours) for ours, theirs in pairs])


def _summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _per_point(answer: dict[str, Any]) -> float:
    """Seconds of the whole surface by its points."""
    return answer["seconds"] / answer["points"]


def _setup(answer: dict[str, Any]) -> float:
    """Seconds that don't grow with the points."""
    return max(0.0, answer["seconds"] - answer["points"] * answer["point_seconds"])


def _on_large_grid(answer: dict[str, Any]) -> float:
    """Seconds by point on the field's usual grid: the same set-up, shared by more points."""
    return _setup(answer) / GRID + answer["point_seconds"]
