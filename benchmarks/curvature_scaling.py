"""Time and memory against the number of parameters, and two one-thread ranks against one."""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import surface_nets
import torch
from contenders import ROOT
from torch.nn import functional

from landscape import Objective, find_eigenpairs
from landscape.operators import hessian
from landscape.result_files import load_result
from training.models import build_model

NETS = ("resnet-20", "resnet-56", "wrn-28-2", "wrn-16-4", "wrn-28-10")
SAMPLES = 8  # few, so that the vectors weigh as much as the activations
STEPS = 8
PROBES, ROUNDS = (4, 24), 3


def measure_scaling(*, smaller: bool) -> list[dict[str, Any]]:
    """One process for each net: seconds of a product, peak memory over what was there before."""
    rows = []
    for name in NETS[:2] if smaller else NETS:
        command = [sys.executable, str(Path(__file__)), name]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def _scaling(name: str) -> dict[str, Any]:
    x, y = surface_nets.images(SAMPLES)
    model = build_model(name, classes=10, channels=3, seed=0).eval()
    objective = Objective(model, functional.cross_entropy, (x, y))
    size = objective.theta.numel()
    v = torch.randn(size, generator=torch.Generator().manual_seed(0))
    operator = hessian(objective)
    operator(v)
    graph = _peak()
    start = time.perf_counter()
    operator(v)
    seconds = time.perf_counter() - start
    del operator
    start = time.perf_counter()
    found = find_eigenpairs(
        objective, k=2, tolerance=1e-9, seed=0, copies=False, max_matvecs=STEPS, max_vectors=STEPS
    )
    whole = time.perf_counter() - start
    vectors = (_peak() - graph) / (4 * size)
    return {
        "net": name,
        "parameters": size,
        "samples": SAMPLES,
        "product_seconds": seconds,
        "seconds": whole,
        "products": found.matvecs,
        "basis": STEPS,
        "memory_bytes": _peak(),
        "memory_of_product_bytes": graph,
        "vectors": vectors,
        "product": found.facts.get("product"),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_ranks(folder: Path, *, smaller: bool) -> dict[str, Any]:
    """Products per second of the command line by one and by two ranks, one thread each, in turn.

    The rate is that of the products between two numbers of probes: imports and set-up, which
    ranks do at the same time on other cores, drop out.
    """
    state = folder / "ranks.pt"
    x, y = surface_nets.images(128)
    case = surface_nets.smaller(surface_nets.CASES["resnet-20"])
    torch.save(surface_nets.train(case, x, y).state_dict(), state)
    seconds: dict[str, list[float]] = {}
    found: dict[int, np.ndarray] = {}
    for turn in range(1 if smaller else ROUNDS):
        for probes in PROBES:
            for ranks in (1, 2):
                out = folder / f"ranks-{ranks}-{probes}-{turn}"
                start = time.perf_counter()
                _spectrum(ranks, probes, state, out)
                seconds.setdefault(f"{ranks} ranks, {probes} probes", []).append(
                    time.perf_counter() - start
                )
                (file,) = sorted(out.rglob("trace-*.h5"))
                found[ranks] = load_result(file).samples
    few, many = PROBES
    rate = {
        ranks: (many - few)
        / (
            statistics.median(seconds[f"{ranks} ranks, {many} probes"])
            - statistics.median(seconds[f"{ranks} ranks, {few} probes"])
        )
        for ranks in (1, 2)
    }
    difference = np.abs(found[2] - found[1]) / np.abs(found[1])
    return {
        "seconds": seconds,
        "products_per_second": rate,
        "gain": rate[2] / rate[1],
        "largest_difference": float(difference.max()),
    }


def _spectrum(ranks: int, probes: int, state: Path, out: Path) -> None:
    launch = [sys.executable, "-m"]
    if ranks > 1:
        launch += ["torch.distributed.run", "--nproc-per-node", str(ranks), "-m"]
    problem = f"{ROOT / 'benchmarks' / 'curvature_scaling.py'}:problem_for_ranks"
    command = [*launch, "landscape", "spectrum", "--problem", problem, "--state", str(state)]
    command += [
        "--out",
        str(out),
        "--samples",
        "0",
        "--k",
        "1",
        "--copies",
        "false",
        "--probes",
        "0",
    ]
    command += ["--trace-probes", str(probes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "benchmarks")}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    if done.returncode:
        said = re.findall(r"^landscape: .*", done.stderr, re.MULTILINE)
        raise SystemExit(f"benchmark: {ranks} ranks: {(said or [done.stderr[-1500:]])[-1]}")


def problem_for_ranks() -> Any:
    """ResNet-20 on 128 images in batches of 32, for the command line."""
    from torch.utils.data import DataLoader, TensorDataset

    from landscape.problems import Problem

    return Problem(
        model=build_model("resnet-20", classes=10, channels=3, seed=0),
        loss_fn=functional.cross_entropy,
        train=DataLoader(TensorDataset(*surface_nets.images(128)), batch_size=32),
    )


if __name__ == "__main__":
    print(json.dumps(_scaling(sys.argv[1])))
