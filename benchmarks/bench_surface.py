"""Surfaces: our speed against other tools and against bare convolutions, values compared.

`make bench-surface` sets up and runs this. Each contender is a process of its own (peers.py) with
the same weights, images, directions and threads; repeats go round all of them in turn. Results go
to benchmarks/surface/<date>.json, .pdf and .png; the exit status is 1 where values disagree, where
a fast path was not taken, where a contender failed or memory grows with the points.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import surface_nets
import torch
from ceiling import layers_of, measure_ceiling
from contenders import ROOT, Contender, make_peers
from surface_figure import draw
from surface_gpu import measure_gpu
from surface_ranks import measure_ranks
from surface_report import machine_and_peers, summarize, targets

from training.models import build_model

OURS = {"float32": "full", "mixed": "mixed", "bfloat16": "bfloat16"}
GRIDS = {"float32": 5, "mixed": 5, "bfloat16": 9}  # points along an axis; that of the others is 3
TG = "tomgoldstein"
# What its command line sets: batch size, loader processes (--threads), ranks (mpirun -n).
RELEASED = {"batch": 128, "loaders": 2, "ranks": 1}
SETTINGS = [
    RELEASED,
    *({"batch": batch, "loaders": 0, "ranks": 1} for batch in (128, 32, 64, 256, 512)),
    {"batch": 128, "loaders": 0, "ranks": 2},
]
AGREE = {"float32", TG, "loss-landscapes", "landscaper"}  # to within
AGREEMENT = 1e-5  # of the loss
COMMON = {"loss-landscapes": 7, "landscaper": 8}  # of 9 points; see peers.py for the others
MIXED_ERROR = 1e-2


class Table:
    """All contenders of one net, with what was measured."""

    def __init__(self, case: surface_nets.Case, folder: Path, peers: Path | None) -> None:
        work = folder / f"{case.name}.pt"
        surface_nets.prepare(case, work)
        content = torch.load(work)
        model = build_model(case.name, classes=10, channels=3, seed=0).eval()
        self.case, self.work, self.folder = case, work, folder
        self.layers = layers_of(model, content["x"][0])
        pythons = {"landscape": sys.executable, "loss-landscapes": sys.executable}
        if peers is not None:
            pythons["landscaper"] = str(peers)
        self.contenders = {
            name: Contender(name, python, work, folder) for name, python in pythons.items()
        }
        self.tg = {
            ranks: [
                Contender(TG, sys.executable, work, folder, threads=1 if ranks > 1 else None)
                for _ in range(ranks)
            ]
            for ranks in (1, 2)
        }
        for contender in self._all():
            contender.receive()
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.ceilings: dict[str, list[dict[str, Any]]] = {"float32": [], "bfloat16": []}

    def tomgoldstein(self, setting: dict[str, int], points: int = 3) -> dict[str, Any]:
        """One surface of the tomgoldstein-style loop; ranks run at the same time."""
        workers = self.tg[setting["ranks"]]
        for rank, worker in enumerate(workers):
            share = (rank, len(workers))
            request = {key: setting[key] for key in ("batch", "loaders")}
            worker.send(points=points, share=share, **request)
        answers = [worker.receive() for worker in workers]
        found = answers[0] | {"seconds": max(answer["seconds"] for answer in answers)}
        found["points"] = sum(answer["points"] for answer in answers)
        found["point_seconds"] = max(a["point_seconds"] for a in answers) / len(workers)
        for other in answers[1:]:
            for name in ("loss", "accuracy"):
                found[name] = np.where(np.isnan(found[name]), other[name], found[name]).tolist()
        return found

    def settle(self, points: int) -> None:
        """Try the settings that the tomgoldstein-style loop has; keep the fastest at batch 128."""
        self.tomgoldstein(RELEASED, points)
        self.settings = [
            setting
            | {
                "point_seconds": (found := self.tomgoldstein(setting, points))["seconds"]
                / found["points"]
            }
            for setting in SETTINGS
        ]
        documented = [setting for setting in self.settings if setting["batch"] == 128]
        self.fastest = min(documented, key=lambda setting: setting["point_seconds"])

    def repeat(self) -> None:
        """One round: every contender once, then the convolutions alone."""
        for name, precision in OURS.items():
            self._note(
                name, self.contenders["landscape"].ask(precision=precision, points=GRIDS[name])
            )
        self._note(f"{TG}, as released", self.tomgoldstein(RELEASED))
        self._note(f"{TG}, fastest", self.tomgoldstein(self.fastest))
        for name in self.contenders:
            if name != "landscape":
                self._note(name, self.contenders[name].ask(points=3))
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            found = measure_ceiling(self.layers, self.case.samples, dtype)
            self.ceilings[name].append(found)

    def memory(self) -> dict[str, int]:
        """Peak memory of a fresh process for 25 and for 250 points, in bytes."""
        found = {}
        for points in ([5, 5], [25, 10]):
            fresh = Contender("landscape", sys.executable, self.work, self.folder)
            fresh.receive()
            answer = fresh.ask(points=points, samples=64)
            found[str(points[0] * points[1])] = answer["peak_memory_bytes"]
            fresh.close()
        return found

    def faults(self) -> list[str]:
        """What must not be: fallbacks, and values that disagree with the plain loop's."""
        truth = np.array(self.rows[f"{TG}, fastest"][0]["loss"])
        fine = np.array(self.rows["float32"][0]["loss"])
        found = []
        for name, answers in self.rows.items():
            for answer in answers:
                loss = np.array(answer["loss"])
                step = (len(loss) - 1) // 2
                error = _error(loss[::step, ::step], truth)
                answer["error"] = error
                if error["points"] != COMMON.get(name, 9):
                    found.append(f"{name} has a value at {error['points']} of the common points")
                if name.split(",")[0] in AGREE and not error["max"] <= AGREEMENT:
                    found.append(f"{name} differs from {TG} by {error['max']:.1e}")
                if name == "float32" and (wrong := self._miscounted(answer)):
                    found.append(
                        f"{name} counts {wrong:.1f} correct images more or fewer than {TG}"
                    )
                if name in OURS:
                    found += _fallbacks(name, answer["facts"])
                if name in ("mixed", "bfloat16"):
                    step = (len(loss) - 1) // (len(fine) - 1)
                    answer["error"] = error = _error(loss[::step, ::step], fine)
                if name == "mixed" and not error["max"] <= MIXED_ERROR:
                    found.append(f"mixed is off by {error['max']:.1e}")
        return [f"{self.case.name}: {fault}" for fault in dict.fromkeys(found)]

    def _miscounted(self, answer: dict[str, Any]) -> float:
        """Images by which accuracy differs at some point, beyond one that may be a tie."""
        truth = np.array(self.rows[f"{TG}, fastest"][0]["accuracy"])
        images = np.abs(np.array(answer["accuracy"])[::2, ::2] - truth) * self.case.samples
        return float(images.max()) if images.max() > 1.5 else 0.0

    def close(self) -> None:
        for contender in self._all():
            contender.close()

    def _all(self) -> list[Contender]:
        return [*self.contenders.values(), *self.tg[1], *self.tg[2]]

    def _note(self, name: str, answer: dict[str, Any]) -> None:
        self.rows.setdefault(name, []).append(answer)


def _fallbacks(name: str, facts: dict[str, Any]) -> list[str]:
    """Whether anything was computed on the plain path, or in higher precision, but for speed."""
    path, note = facts.get("path", "plain"), facts.get("path_note", "")
    if path == "plain" or "plain" in note:
        return [f"{name} fell back to the plain path: {note or path}"]
    if facts["precision"] != OURS[name] and "faster" not in note:
        return [f"{name} was measured in precision {facts['precision']!r}: {note}"]
    return []


def _error(loss: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Relative to the truth, where both have a value."""
    common = ~np.isnan(loss) & ~np.isnan(truth)
    if not common.any():
        return {"points": 0, "max": float("nan"), "rms": float("nan")}
    relative = np.abs(loss[common] - truth[common]) / np.abs(truth[common])
    rms = float(np.sqrt(np.mean(relative**2)))
    return {"points": int(common.sum()), "max": float(relative.max()), "rms": rms}


def measure_case(name: str, args: argparse.Namespace, folder: Path, peers: Path | None) -> dict:
    case = surface_nets.CASES[name]
    if args.quick:
        case = surface_nets.smaller(case)
    table = Table(case, folder, peers)
    try:
        table.settle(points=2)
        print(f"{name}: {TG}-style loop, fastest at batch 128: {table.fastest}", flush=True)
        for index in range(args.repeats):
            table.repeat()
            print(f"{name}: round {index + 1} of {args.repeats}", flush=True)
        faults = table.faults()
        memory = table.memory()
    finally:
        table.close()
    if memory["250"] > 1.05 * memory["25"]:
        faults.append(f"{name}: memory grows with the points, {memory}")
    return {
        "samples": case.samples,
        "settings": table.settings,
        "rows": table.rows,
        "ceilings": table.ceilings,
        "memory": memory,
        "faults": faults,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a trial of about a minute")
    parser.add_argument("--repeats", type=int, help="rounds (default: 5, quick 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "surface")
    parser.add_argument("--gpu-trial", action="store_true", help="the GPU part, tiny, on the CPU")
    args = parser.parse_args()
    args.repeats = args.repeats or (1 if args.quick else 5)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    start = datetime.datetime.now(datetime.UTC)
    report: dict[str, Any] = {"date": start.isoformat(timespec="seconds"), "quick": args.quick}
    peers, note = make_peers(ROOT / ".venv" / "peers")
    report["machine"] = machine_and_peers(peers, note, args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report["nets"] = {
            name: measure_case(name, args, folder, peers) for name in surface_nets.CASES
        }
        report["ranks"] = measure_ranks(folder, quick=args.quick)
    if torch.cuda.is_available() or args.gpu_trial:
        report["gpu"] = measure_gpu("cuda" if torch.cuda.is_available() else "cpu")
    report["summary"] = summarize(report)
    report["targets"] = targets(report)
    report["seconds"] = (datetime.datetime.now(datetime.UTC) - start).total_seconds()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{report['date'][:10]}{'-quick' if args.quick else ''}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    draw(report, path.with_suffix(""))
    faults = [fault for net in report["nets"].values() for fault in net["faults"]]
    faults += report["ranks"]["faults"]
    print(f"written to {path}, with .pdf and .png, after {report['seconds']:.0f} s")
    for fault in faults:
        print(f"bench-surface: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
