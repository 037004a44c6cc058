"""What the frozen protocol takes on ResNet-20: `make bench-consistency`.

50 batches of 128 of 10,000 random images at the net's first weights: what is measured costs the
same wherever the weights are. All that `measure_consistencies` does counts: the gradient of all
data, the batches that VaSSO and F-SAM are burnt in with, products and intervals. Results go to
benchmarks/consistency/<date>.json and .md.
"""

import argparse
import datetime
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from machines import machine
from torch.nn import functional

from landscape.frozen_protocol import VECTOR_BYTES, measure_consistencies
from landscape.objectives import Objective
from landscape.perturbations import Perturbation, aace, asam, friendly_sam, sam, vasso
from training.models import build_model

RESULTS = Path(__file__).parent / "consistency"
BATCH, BATCHES, SAMPLES = 128, 50, 10_000
GOAL = 180.0
FAMILY = [sam(), aace(), asam(), vasso(), friendly_sam()]
CASES: dict[str, tuple[str, list[Perturbation], float]] = {
    "pair": ("SAM and AACE", [sam(), aace()], VECTOR_BYTES),
    "spilled": ("the same, vectors in a temporary file", [sam(), aace()], 0.0),
    "family": ("SAM, AACE, ASAM, VaSSO and F-SAM", FAMILY, VECTOR_BYTES),
}


def measure(name: str, objective: Objective, batches: int) -> dict[str, Any]:
    """Seconds of one case, by the clock and of all cores; the process's largest memory so far."""
    label, perturbations, budget = CASES[name]
    began, busy = time.perf_counter(), time.process_time()
    results = measure_consistencies(
        objective, perturbations, batches=batches, batch_size=BATCH, seed=0, budget=budget
    )
    return {
        "case": label,
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - busy,
        "load": os.getloadavg()[0],
        "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "mean_cosine": {r.perturbation: r.mean_cosine for r in results},
    }


def write(rows: list[dict[str, Any]], parameters: int, stem: Path) -> None:
    """Keep the rows beside those of today that are of other cases, and write the table."""
    where, path = machine("torch", "numpy"), stem.with_suffix(".json")
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    by_case = {row["case"]: row for row in [*kept, *rows]}
    rows = [by_case[label] for label, *_ in CASES.values() if label in by_case]
    path.write_text(
        json.dumps({"machine": where, "parameters": parameters, "rows": rows}, indent=1) + "\n"
    )
    lines = [
        f"# The frozen protocol on ResNet-20, {BATCHES} batches of {BATCH}",
        "",
        f"{where['processor']} ({where['capability']}), {where['threads']} threads, torch "
        f"{where['versions']['torch']}, commit {where['commit']}. {parameters} parameters; the "
        f"gradient of all data is of {SAMPLES} samples.",
        "",
        "| perturbations | s | s of all cores | load of the machine | memory at most, GB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['seconds']:.0f} | {r['processor_seconds']:.0f} | {r['load']:.1f} | "
        f"{r['memory'] / 1e9:.1f} |"
        for r in rows
    ]
    if pair := by_case.get(CASES["pair"][0]):
        verdict = "reached" if pair["seconds"] < GOAL else "MISSED"
        lines += ["", f"SAM and AACE in less than {GOAL:.0f} s: {verdict}."]
    text = "\n".join(lines) + "\n"
    stem.with_suffix(".md").write_text(text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, help="batches measured, fewer for a try")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model = build_model("resnet-20", classes=10, channels=3, seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(SAMPLES, 3, 32, 32, generator=generator)
    targets = torch.randint(10, (SAMPLES,), generator=generator)
    objective = Objective(model, functional.cross_entropy, (images, targets), bn="batch")
    rows = []
    for name in args.cases:
        rows.append(measure(name, objective, args.batches or BATCHES))
        print(f"{name}: {rows[-1]['seconds']:.1f} s", flush=True)
    if args.batches:
        return
    RESULTS.mkdir(exist_ok=True)
    write(rows, objective.layout.size, RESULTS / datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
