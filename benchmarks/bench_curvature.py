"""Curvature: our speed against other tools, on the same Hessian and to the same residual.

`make bench-curvature` sets up and runs this. Each contender is a process of its own
(curvature_peers.py) with the same weights, images and threads; repeats go round all of them in
turn. Results go to benchmarks/curvature/<date>.json, .pdf and .png; the exit status is 1 where
products or eigenvalues disagree or a contender failed.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import surface_nets
import torch
from contenders import ROOT, Contender
from curvature_report import draw, summarize
from curvature_scaling import measure_ranks, measure_scaling
from machines import machine
from torch.nn import functional

from landscape import Objective
from training.models import build_model

PEERS = ("pyhessian", "hessian-eigenthings", "curvlinops")
PACKAGES = ("torch", "numpy", "scipy", "pyhessian", "curvlinops-for-pytorch", "hessian-eigenthings")
BATCHES = (64, 0)  # tried for those that take batches; 0 is all images at once
TOLERANCE = 1e-3  # of the largest |λ|
AGREEMENT = 2e-3  # of products and eigenvalues
SAMPLES = {"resnet-20": 256, "wrn-28-2": 64}
DENSITY = {"probes": 2, "steps": 20}


class Table:
    """All contenders of one net."""

    def __init__(self, case: surface_nets.Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.work = folder / f"{case.name}.pt"
        surface_nets.prepare(case, self.work)
        content = torch.load(self.work)
        model = build_model(case.name, classes=10, channels=3, seed=0)
        model.load_state_dict(content["state"])
        data = (content["x"], content["y"])
        self.objective = Objective(model, functional.cross_entropy, data)
        self.batch = {name: self._fastest(name) for name in PEERS[1:]}
        self.running = {name: self._start(name) for name in ("landscape", *PEERS)}

    def _start(self, name: str, batch: int = 0) -> Contender:
        batch = batch or getattr(self, "batch", {}).get(name, 0)
        settings = (str(batch),) if batch else ()
        contender = Contender(
            name,
            sys.executable,
            self.work,
            self.folder,
            script="curvature_peers.py",
            settings=settings,
        )
        contender.receive()
        return contender

    def _fastest(self, name: str) -> int:
        """The batch size at which a contender's product is fastest."""
        seconds = {}
        for batch in BATCHES:
            contender = self._start(name, batch)
            for _ in range(2):
                seconds[batch] = contender.ask(task="product")["seconds"]
            contender.close()
        return min(seconds, key=seconds.__getitem__)

    def products(self, rounds: int) -> dict[str, list[float]]:
        """Seconds of one product, in turn; the first round warms up and is held to the plain."""
        times: dict[str, list[float]] = {name: [] for name in self.running}
        size = self.objective.theta.numel()
        v = torch.randn(size, generator=torch.Generator().manual_seed(0))
        truth = self.objective.hessian_vector(v).double()
        self.errors = {}
        for turn in range(rounds + 1):
            for name, contender in self.running.items():
                found = contender.ask(task="product", rounds=2)
                if turn:
                    times[name].append(found["seconds"])
                else:
                    product = torch.from_numpy(np.load(found["vectors"])).double()
                    self.errors[name] = float((product - truth).norm() / truth.norm())
                    self.built = getattr(self, "built", {}) | {name: found["build_seconds"]}
        return times

    def eigenpairs(self, rounds: int) -> dict[str, dict[str, Any]]:
        """Top five end to end, building included, with true residuals of the vectors."""
        steps = self._steps_for_eigenthings()
        asks: dict[str, tuple[str, dict[str, Any]]] = {
            "landscape": ("landscape", {"copies": False}),
            "landscape, copies looked for": ("landscape", {}),
            "pyhessian": ("pyhessian", {}),
            "hessian-eigenthings": ("hessian-eigenthings", {"max_iter": steps}),
            "curvlinops": ("curvlinops", {}),
        }
        rows: dict[str, dict[str, Any]] = {row: {"seconds": []} for row in asks}
        for _ in range(rounds):
            for row, (name, request) in asks.items():
                found = self.running[name].ask(task="eigenpairs", **request)
                own = name == "landscape"  # its time holds the building: it takes an objective
                built = 0.0 if own else self.built[name]
                rows[row]["seconds"].append(found["seconds"] + built)
                rows[row] |= {"products": found["products"], "values": found["values"]}
                if len(rows[row]["seconds"]) == 1:
                    rows[row]["residual"] = self._residual(found["vectors"])
        return rows

    def _steps_for_eigenthings(self) -> int:
        """The least number of steps at which its five residuals are within the tolerance."""
        low, high = 5, 40
        while high - low > 1:
            steps = (low + high) // 2
            found = self.running["hessian-eigenthings"].ask(task="eigenpairs", max_iter=steps)
            enough = self._residual(found["vectors"]) <= TOLERANCE
            low, high = (low, steps) if enough else (steps, high)
        return high

    def _residual(self, vectors: str) -> float:
        """Largest ‖H v − λ v‖ / max |λ|, by the plain product."""
        rows = [row / row.norm() for row in torch.from_numpy(np.load(vectors)).float()]
        products = [self.objective.hessian_vector(row).double() for row in rows]
        pairs = list(zip(rows, products, strict=True))
        values = [float(row.double() @ product) for row, product in pairs]
        rests = [
            float((product - value * row.double()).norm())
            for (row, product), value in zip(pairs, values, strict=True)
        ]
        return max(rests) / max(map(abs, values))

    def densities(self, rounds: int) -> dict[str, list[float]]:
        """Seconds of a density, in turn."""
        times: dict[str, list[float]] = {"landscape": [], "curvlinops": []}
        for _ in range(rounds):
            for name, found in times.items():
                found.append(self.running[name].ask(task="density", **DENSITY)["seconds"])
        return times

    def close(self) -> None:
        """End all processes."""
        for contender in self.running.values():
            contender.close()


def measure_net(case: surface_nets.Case, folder: Path, rounds: int) -> dict[str, Any]:
    """Products, top five and density of one net."""
    table = Table(case, folder)
    try:
        products = table.products(rounds)
        found: dict[str, Any] = {
            "samples": case.samples,
            "parameters": table.objective.theta.numel(),
            "batch": table.batch,
            "products": products,
            "product_errors": table.errors,
            "build_seconds": table.built,
            "facts": table.running["landscape"].ask(task="product")["facts"],
        }
        if case.name == "resnet-20":
            found["eigenpairs"] = table.eigenpairs(rounds)
            found["densities"] = table.densities(max(2, rounds - 2))
    finally:
        table.close()
    return found


def disagreements(nets: dict[str, Any]) -> list[str]:
    """What is not the same Hessian, or did not reach what was asked."""
    wrong = []
    for name, net in nets.items():
        for tool, error in net["product_errors"].items():
            if not error <= AGREEMENT:
                wrong.append(f"{name}: {tool}'s product is off by {error:.1e}")
        rows = net.get("eigenpairs", {})
        for row, found in rows.items():
            if row == "pyhessian":
                continue  # its default stop reaches no residual; reported
            if not found["residual"] <= 1.5 * TOLERANCE:
                wrong.append(f"{name}: {row} ends at a residual of {found['residual']:.1e}")
            truth = np.sort(rows["landscape"]["values"])
            if not np.allclose(np.sort(found["values"]), truth, rtol=AGREEMENT):
                wrong.append(f"{name}: {row} finds {found['values']}")
    return wrong


def _save(report: dict[str, Any], stem: Path) -> None:
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


def main() -> int:
    """Measure, report, draw; 1 where contenders disagree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smaller", action="store_true", help="a quick trial")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "curvature")
    parts = ["ranks", "scaling", *SAMPLES]
    about = "measure this part again, into the report of today"
    parser.add_argument("--only", choices=parts, help=about)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / datetime.date.today().isoformat()
    report: dict[str, Any] = {"machine": machine(*PACKAGES), "nets": {}}
    if args.only:
        report = json.loads(stem.with_suffix(".json").read_text())
    with tempfile.TemporaryDirectory() as place:
        for part in [args.only] if args.only else parts:
            print(part, flush=True)
            if part == "ranks":
                report[part] = measure_ranks(Path(place), smaller=args.smaller)
            elif part == "scaling":
                report[part] = measure_scaling(smaller=args.smaller)
            else:
                case = replace(surface_nets.CASES[part], samples=SAMPLES[part])
                chosen = surface_nets.smaller(case) if args.smaller else case
                report["nets"][part] = measure_net(chosen, Path(place), args.rounds)
            _save(report, stem)  # half an hour is not lost for what comes last
    report["summary"] = summarize(report)
    _save(report, stem)
    draw(report, stem)
    wrong = disagreements(report["nets"])
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{stem}.json")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
