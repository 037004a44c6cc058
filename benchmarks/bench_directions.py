"""Time and memory of the directions of a whole run: `make bench-directions`.

A run as long as one of the paper's is written with sketches of a planted series: 200 epochs of 391
steps, 4096 numbers each, as of a net of 36,479,194 parameters. A process of its own then measures
it. Results go to benchmarks/directions/<date>.json and .md. Needs 1.4 GB of disk.
"""

import argparse
import datetime
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from landscape.layouts import Entry, Layout
from landscape.runs import Run
from landscape.whole_runs import measure_directions
from landscape.writers import RunWriter

RESULTS = Path(__file__).parent / "directions"
EPOCHS, STEPS, NUMBERS, PARAMETERS = 200, 391, 4096, 36_479_194
SHARE, TURN = 0.5, 1.0
"""Mean cosine of vectors with one mean, and the angle by which that turns over the run."""
MEMORY, SECONDS = 2e9, 600


def write(path: Path, epochs: int) -> None:
    """Record sketches of unit vectors whose mean turns slowly."""
    rng = np.random.default_rng(0)
    first, second = np.linalg.qr(rng.normal(size=(NUMBERS, 2)))[0].T
    writer = RunWriter.create(
        path,
        config={},
        problem={"name": None, "options": {}},
        layout=Layout((Entry(name="w", shape=(PARAMETERS,), offset=0, kind="weight"),)),
        method="SAM",
        recording={"sketch": NUMBERS},
    )
    for step in range(epochs * STEPS):
        angle = TURN * step / (epochs * STEPS)
        mean = np.sqrt(SHARE) * (np.cos(angle) * first + np.sin(angle) * second)
        noise = rng.standard_normal(NUMBERS, np.float32) * np.sqrt((1 - SHARE) / NUMBERS)
        vector = (mean + noise).astype(np.float32)
        writer.describe_displacement(step, vector, np.ones(1))
        writer.append({"step": step, "epoch": step / STEPS, "displacement_norm": 1.0})
    writer.finish()


def measure(path: Path) -> dict[str, Any]:
    """Seconds and peak memory of this process, and how far the answers are from what is planted."""
    began = time.perf_counter()
    result = measure_directions(Run(path), seed=0)
    seconds = time.perf_counter() - began
    windows = len(result.start)
    apart = TURN * (windows - 1) / windows
    planted = SHARE * 2 * (1 - math.cos(TURN)) / TURN**2
    return {
        "vectors": result.vectors,
        "windows": windows,
        "seconds": seconds,
        "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "run_mean_cosine": result.run_mean_cosine,
        "planted": planted,
        "stated_error": result.run_mean_cosine_error,
        "ends": float(result.matrix[0, -1]),
        "planted_ends": math.cos(apart),
    }


def report(row: dict[str, Any], where: dict[str, Any]) -> str:
    reached = row["memory"] <= MEMORY and row["seconds"] <= SECONDS
    return "\n".join(
        [
            "# Directions of a whole run",
            "",
            f"{where['processor']} ({where['capability']}), {where['threads']} threads, numpy "
            f"{where['versions']['numpy']}, load {where['load'][0]:.1f}, commit {where['commit']}.",
            "",
            f"{row['vectors']:,} steps, sketches of {NUMBERS} numbers, {row['windows']} windows: "
            f"{row['seconds']:.0f} s, {row['memory'] / 1e9:.2f} GB at most.",
            "",
            f"Mean cosine of the run {row['run_mean_cosine']:.4f} (planted {row['planted']:.4f}); "
            f"first and last window {row['ends']:.4f} (planted {row['planted_ends']:.4f}).",
            "",
            f"At most {MEMORY / 1e9:.0f} GB and {SECONDS} s: {'reached' if reached else 'MISSED'}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer for a try")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    from machines import machine

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        write(path, args.epochs)
        command = [sys.executable, __file__, "--measure", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    row, where = json.loads(done.stdout), machine("numpy", "h5py")
    text = report(row, where)
    print(text)
    if args.epochs == EPOCHS:
        RESULTS.mkdir(exist_ok=True)
        stem = RESULTS / datetime.date.today().isoformat()
        stem.with_suffix(".md").write_text(text + "\n")
        data = {"machine": where, "row": row}
        stem.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
