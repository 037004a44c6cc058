"""Two one-thread ranks against one: the command line under torchrun."""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import surface_nets
import torch
from contenders import ROOT

from landscape.result_files import load_result

SMALL, ROUNDS = 3, 2


def measure_ranks(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Wall time of a small and a large surface by one and by two ranks, in turn.

    The rate is that of the points between the two sizes, so that imports and set-up, which ranks
    do at the same time on other cores, drop out; `whole` compares the large surface as it is.
    """
    state = folder / "resnet-20-ranks.pt"
    x, y = surface_nets.images(128)
    case = surface_nets.CASES["resnet-20"]
    torch.save(surface_nets.train(surface_nets.smaller(case), x, y).state_dict(), state)
    large = 5 if quick else 11
    seconds: dict[tuple[int, int], list[float]] = {}
    digests, faults = set(), []
    for round_ in range(1 if quick else ROUNDS):
        for points in (SMALL, large):
            for ranks in (1, 2):
                out = folder / f"ranks-{ranks}-{points}-{round_}"
                start = time.perf_counter()
                fault = _surface(ranks, points, state, out)
                seconds.setdefault((ranks, points), []).append(time.perf_counter() - start)
                if fault:
                    return {"faults": [f"{ranks} rank(s): {fault}"]}
                if points == large:
                    digests.add(_digest(out))
    if len(digests) != 1:
        faults.append(f"one and two ranks give other bits: {sorted(map(str, digests))}")
    rounds = range(len(seconds[1, large]))
    rate = {
        ranks: [
            (large**2 - SMALL**2) / (seconds[ranks, large][i] - seconds[ranks, SMALL][i])
            for i in rounds
        ]
        for ranks in (1, 2)
    }
    return {
        "points": large**2,
        "seconds": {f"{r} rank(s), {p}x{p}": times for (r, p), times in seconds.items()},
        "gain": [rate[2][i] / rate[1][i] for i in rounds],
        "whole": statistics.median(seconds[1, large]) / statistics.median(seconds[2, large]),
        "faults": faults,
    }


def _surface(ranks: int, points: int, state: Path, out: Path) -> str:
    """Run the command; what went wrong, or nothing."""
    launch = [sys.executable, "-m"]
    if ranks > 1:
        launch += ["torch.distributed.run", "--nproc-per-node", str(ranks), "-m"]
    problem = f"{ROOT / 'benchmarks' / 'surface_nets.py'}:resnet_20"
    command = [*launch, "landscape", "surface", "--problem", problem, "--state", str(state)]
    command += ["--out", str(out), "--points", str(points), "--samples", "0", "--extent", "0.3"]
    command += ["--chunk", "32"]  # a probed one may differ from run to run, and so the last bits
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    if done.returncode == 0:
        return ""
    said = re.findall(r"^landscape: .*", done.stderr, re.MULTILINE)
    return (said or done.stderr.strip().splitlines() or ["no message"])[-1]


def _digest(out: Path) -> str | None:
    files = sorted(out.rglob("surface-*.h5"))
    return load_result(files[0]).digest if len(files) == 1 else None
