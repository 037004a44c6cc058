"""What recording costs: `make bench-recording`.

The hook alone, as a share of a SAM step on the same machine and threads. Each net is trained for a
few SAM steps, which are timed; then `Recorder.step` is called with the vectors of the last one, at
least 100 times, and the run is ended with fsync. All of it counts: the calls, waiting for the
writing thread, the end. As the thread has nothing to run beside, its work is counted in full.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from landscape import SAM, Recorder, perturbations
from landscape.optimizers import frozen_batchnorm
from landscape.provenance import describe_environment
from training.models import build_model

RESULTS = Path(__file__).parent / "recording"
BATCH = 128
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
        "step_seconds": step,
        "call_seconds": inside / calls,
        "hook_seconds": whole / calls,
        "share": whole / calls / step,
        "bytes_per_step": size / calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(CASES))
    parser.add_argument("--steps", type=int, help="SAM steps timed, fewer for a try")
    parser.add_argument("--calls", type=int, help="calls of the hook, fewer for a try")
    args = parser.parse_args()
    rows = []
    print(f"{'net':10} {'record':8} {'step':>9} {'call':>9} {'in all':>9} {'share':>7} {'MB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.nets:
            steps, calls = CASES[name]
            for record in ("full", "sketch"):
                row = measure(name, record, args.steps or steps, args.calls or calls, Path(folder))
                rows.append(row)
                print(
                    f"{name:10} {record:8} {row['step_seconds']:8.3f}s "
                    f"{1e3 * row['call_seconds']:7.2f}ms {1e3 * row['hook_seconds']:7.2f}ms "
                    f"{100 * row['share']:6.2f}% {row['bytes_per_step'] / 1e6:6.2f}",
                    flush=True,
                )
    if args.steps or args.calls:
        return
    RESULTS.mkdir(exist_ok=True)
    told = {"environment": describe_environment(), "batch": BATCH, "rows": rows}
    (RESULTS / "recording.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
