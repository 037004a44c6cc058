"""What recording costs: `make bench-recording`.

The hook alone, as a share of a SAM step on the same machine and threads. Each net is trained for a
few SAM steps, which are timed; then `Recorder.step` is called with the vectors of the last one, at
least 100 times, and the run is ended with fsync. All of it counts: the calls, waiting for the
writing thread, the end. As the thread has nothing to run beside, its work is counted in full.
Results go to benchmarks/recording/<date>.json and .md.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machines import machine
from torch.nn import functional

from landscape import SAM, Recorder, perturbations
from landscape.optimizers import frozen_batchnorm
from training.models import build_model

RESULTS = Path(__file__).parent / "recording"
BATCH = 128
GOAL = 0.01
CASES = {"resnet-20": (9, 200), "wrn-28-2": (5, 120), "wrn-28-10": (1, 10)}
"""SAM steps timed and calls of the hook, by net."""


def one_step(model: Any, optimizer: SAM, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """A SAM update; what `Recorder.step` is given of it."""
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(x), y)
    loss.backward()
    gradient = [p.grad for p in model.parameters()]
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(model):
        perturbed = functional.cross_entropy(model(x), y)
        perturbed.backward()
    optimizer.second_step()
    return {
        "loss": loss.detach(),
        "displacement": optimizer.displacement,
        "gradient": gradient,
        "perturbed_loss": perturbed.detach(),
        "perturbed_gradient": [p.grad for p in model.parameters()],
    }


def measure(name: str, record: str, steps: int, calls: int, folder: Path) -> dict[str, Any]:
    """Seconds of a step and of the hook, and what the hook wrote."""
    torch.manual_seed(0)
    model = build_model(name, classes=10, channels=3, seed=0)
    model = model.to(memory_format=torch.channels_last)
    x, y = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    x = x.to(memory_format=torch.channels_last)
    optimizer = SAM(
        model.parameters(), torch.optim.SGD, perturbation=perturbations.sam(0.05), lr=0.1
    )
    given, times = {}, []
    for _ in range(steps + (steps > 1)):
        began = time.perf_counter()
        given = one_step(model, optimizer, x, y)
        times.append(time.perf_counter() - began)
    step = statistics.median(times[1:] or times)
    path = folder / f"{name}-{record.replace(':', '-')}"
    recorder = Recorder(
        path, model, optimizer, checkpoint_every=10**9, total_steps=calls, record=record
    )
    began, inside = time.perf_counter(), 0.0
    for _ in range(calls):
        called = time.perf_counter()
        recorder.step(**given, epoch=0.0)
        inside += time.perf_counter() - called
    recorder.finish()
    whole = time.perf_counter() - began
    size = sum(file.stat().st_size for file in path.rglob("*.h5"))
    shutil.rmtree(path)
    return {
        "net": name,
        "record": record,
        "parameters": sum(p.numel() for p in model.parameters()),
        "calls": calls,
        "load": os.getloadavg()[0],
        "step_seconds": step,
        "call_seconds": inside / calls,
        "hook_seconds": whole / calls,
        "share": whole / calls / step,
        "bytes_per_step": size / calls,
    }


def write(rows: list[dict[str, Any]], stem: Path) -> None:
    """Keep the rows beside those of today that are of other nets, and write the table."""
    path = stem.with_suffix(".json")
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    measured = {row["net"] for row in rows}
    rows = [row for row in kept if row["net"] not in measured] + rows
    where = machine("torch", "numpy", "h5py")
    path.write_text(json.dumps({"machine": where, "batch": BATCH, "rows": rows}, indent=1) + "\n")
    lines = [
        "# Recording, as a share of a SAM step",
        "",
        f"{where['processor']} ({where['capability']}), {where['threads']} threads, torch "
        f"{where['versions']['torch']}, batches of {BATCH}, commit {where['commit']}.",
        "",
        "| net | kept | step, s | call, ms | in all, ms | share | MB a step |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['net']} | {row['record']} | {row['step_seconds']:.3f} | "
        f"{1e3 * row['call_seconds']:.2f} | {1e3 * row['hook_seconds']:.2f} | "
        f"{100 * row['share']:.2f} % | {row['bytes_per_step'] / 1e6:.2f} |"
        for row in rows
    ]
    missed = [f"{row['net']}, {row['record']}" for row in rows if row["share"] > GOAL]
    verdict = f"MISSED by {'; '.join(missed)}" if missed else "reached"
    lines += ["", f"At most {100 * GOAL:.0f} % of a step: {verdict}."]
    text = "\n".join(lines) + "\n"
    stem.with_suffix(".md").write_text(text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--steps", type=int, help="SAM steps timed, fewer for a try")
    parser.add_argument("--calls", type=int, help="calls of the hook, fewer for a try")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.nets:
            steps, calls = CASES[name]
            for record in ("full", "sketch"):
                row = measure(name, record, args.steps or steps, args.calls or calls, Path(folder))
                rows.append(row)
                print(f"{name}, {record}: {100 * row['share']:.2f} % of a step", flush=True)
    if args.steps or args.calls:
        return
    RESULTS.mkdir(exist_ok=True)
    write(rows, RESULTS / datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
