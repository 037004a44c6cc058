"""Speed of training: `make bench-training`.

What a step of each method costs in steps of SGD, how many images a second our loop trains on beside
plain ones, and what bfloat16 and torch.compile bring. All are measured in turn, round by round, on
random images. Results go to benchmarks/training/<date>.json and .md; the exit status is 1 where the
plain loop's update is another one than ours.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytorch_optimizer
import torch
from contenders import ROOT
from machines import machine
from plain_loop import PlainSAM, aace, loader, plain_update
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from training_report import AGREEMENT, write

from landscape.optimizers import SAM, frozen_batchnorm
from landscape.problems import Problem
from landscape.ranks import Ranks
from training.batches import Batches
from training.config import TrainConfig
from training.failures import FiniteWatch
from training.jobs import Job
from training.models import build_model
from training.networks import network_of
from training.optimizers import make_optimizer
from training.updates import make_update

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
BATCH = 256 if CUDA else 128
STEPS = {"conv28": 40, "resnet-20": 3, "wrn-28-2": 1}  # updates of one measurement
METHODS = ("sgd", "sam", "sam+aace", "vasso", "f-sam", "asam", "gsam")
LOOPS = ("wrn-28-10",) if CUDA else ("resnet-20", "wrn-28-2")
LOOP_UPDATES = 20 if CUDA else 3
WORKERS = min(8, os.cpu_count() or 1)
RHO = 0.2
Seconds = dict[str, list[float]]


def make_job(name: str, method: str, **settings: Any) -> Job:
    """A training of a net on random images, a thousand or so."""
    fashion = name == "conv28"
    config = TrainConfig(
        data="fashion" if fashion else "cifar10",
        model=name,
        method=method,
        batch_size=BATCH,
        steps=1000,
        **settings,
    )
    size, channels = (28, 1) if fashion else (32, 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8 * BATCH, channels, size, size, generator=generator).to(DEVICE)
    y = torch.randint(10, (8 * BATCH,), generator=generator).to(DEVICE)
    model = build_model(name, classes=10, channels=channels, seed=0)
    model = model.to(device=DEVICE, memory_format=torch.channels_last)
    data = (x, y)
    problem = Problem(model=model, loss_fn=functional.cross_entropy, train=data, test=data)
    network = network_of(config, model, Ranks())
    batches = Batches(config, problem.train)
    return Job(config, problem, network, make_optimizer(config, model), batches, Ranks())


def update(job: Job, watch: FiniteWatch) -> None:
    """An update as `landscape train` makes it, recording left out."""
    _, inputs, targets = next(job.batches)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        watch.add(job.step, make_update(job, inputs, targets))
    watch.check(job.step)
    job.step += 1


def updates_of(job: Job, count: int) -> Callable[[], float]:
    """A measurement: seconds of an update, the mean of some."""
    watch = FiniteWatch(job.problem.model, Path(), lr_at=job.config.lr_at, flush=lambda: None)

    def run() -> float:
        return timed(lambda: update(job, watch), count)

    return run


def timed(work: Callable[[], Any], count: int) -> float:
    """Seconds of one of `count` pieces of work."""
    _wait()
    began = time.perf_counter()
    for _ in range(count):
        work()
    _wait()
    return (time.perf_counter() - began) / count


def _wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def in_turn(works: dict[str, Callable[[], float]], rounds: int) -> Seconds:
    """Seconds of each in every round; the first round warms up, each begins with another."""
    found: Seconds = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds + 1):
        begin = turn % len(names)
        for name in names[begin:] + names[:begin]:
            seconds = works[name]()
            if turn:
                found[name].append(seconds)
    return found


def measure_steps(name: str, rounds: int) -> dict[str, Any]:
    """An update by each method, and forward and backward passes alone."""
    count = STEPS[name]
    works = {method: updates_of(make_job(name, method), count) for method in METHODS}
    job = make_job(name, "sgd")
    _, inputs, targets = next(job.batches)

    def one_pass() -> None:
        job.problem.loss_fn(job.network(inputs), targets).backward()

    def two_passes() -> None:
        one_pass()
        job.optimizer.zero_grad()
        with frozen_batchnorm(job.problem.model):
            one_pass()
        job.optimizer.zero_grad()

    works["two passes"] = lambda: timed(two_passes, count)
    return {"seconds": in_turn(works, rounds)}


def measure_loops(name: str, rounds: int) -> dict[str, Any]:
    """Images a second with SAM+AACE: our loop, and plain ones."""
    settings: dict[str, Any] = {"precision": "bfloat16", "compile": True} if CUDA else {}
    job = make_job(name, "sam+aace", rho=RHO, **settings)
    images = torch.randint(256, (BATCH * (LOOP_UPDATES + 1), 32, 32, 3), dtype=torch.uint8)
    data = images, torch.randint(10, (len(images),))
    works = {
        "landscape": updates_of(job, LOOP_UPDATES),
        "plain loop": plain(name, data, WORKERS, own_sam),
        "plain loop, no processes": plain(name, data, 0, own_sam),
        "plain loop, SAM of pytorch_optimizer": plain(name, data, WORKERS, their_sam),
    }
    flops = operations(job)
    return {
        "images": BATCH,
        "settings": settings,
        "seconds": in_turn(works, rounds),
        "disagreement": disagreement(name),
        "operations": flops,
        "bare": bare_rate(torch.bfloat16 if settings else torch.float32),
    }


def own_sam(params: Any) -> tuple[Any, Callable[..., Any]]:
    """AACE as in its authors' code: downwards, not normalized."""
    options = {"lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4}
    return PlainSAM(params, rho=RHO, sign=-1, normalize=False, **options), aace


def their_sam(params: Any) -> tuple[Any, Callable[..., Any]]:
    """It goes upwards and normalizes, which takes no longer."""
    options = {"lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4}
    optimizer = pytorch_optimizer.SAM(params, torch.optim.SGD, rho=RHO, **options)
    first, second = optimizer.first_step, optimizer.second_step
    optimizer.first_step = lambda: first(zero_grad=True)
    optimizer.second_step = lambda: second(zero_grad=True)
    return optimizer, lambda logits, targets: -aace(logits, targets)


def plain(name: str, data: Any, workers: int, make_sam: Any) -> Callable[[], float]:
    """A measurement: an update of a plain loop, its processes started and one batch trained on."""
    model = build_model(name, classes=10, channels=3, seed=0).to(DEVICE)
    optimizer, loss = make_sam(model.parameters())
    batches = loader(*data, BATCH, workers)

    def run() -> float:
        iterator = iter(batches)

        def one() -> None:
            inputs, targets = (part.to(DEVICE) for part in next(iterator))
            plain_update(model, optimizer, inputs, targets, loss)

        one()
        return timed(one, LOOP_UPDATES)

    return run


def disagreement(name: str) -> float:
    """How far the plain loop's update of the same batch is from ours, as a share of it.

    In float64, where no ReLU flips by rounding.
    """
    config = TrainConfig(data="cifar10", model=name, method="sam+aace", rho=RHO)
    x, y = torch.randn(8, 3, 32, 32).double(), torch.randint(10, (8,))
    ours, theirs, before = (
        build_model(name, classes=10, channels=3, seed=0).double() for _ in range(3)
    )
    optimizer = make_optimizer(config, ours)
    assert isinstance(optimizer, SAM)
    optimizer.perturbation.loss(ours(x), y).backward()
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(ours):
        functional.cross_entropy(ours(x), y).backward()
    optimizer.second_step()
    plain_update(theirs, own_sam(theirs.parameters())[0], x, y)
    vectors = [torch.nn.utils.parameters_to_vector(m.parameters()) for m in (ours, theirs, before)]
    one, other, start = (vector.detach() for vector in vectors)
    return float((one - other).norm() / (one - start).norm())


def operations(job: Job) -> float:
    """Floating-point operations of an update for one image: two forward and backward passes."""
    _, inputs, targets = next(job.batches)
    with FlopCounterMode(display=False) as counter:
        job.problem.loss_fn(job.problem.model(inputs[:4]), targets[:4]).backward()
    job.optimizer.zero_grad()
    return 2 * counter.get_total_flops() / 4


def bare_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 8192 if CUDA else 2048
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b, 1) for _ in range(6))


def measure_compile(name: str, rounds: int) -> dict[str, Any]:
    """A step of SAM+AACE in both precisions, eager and compiled; seconds to compile."""
    works, first = {}, {}
    for precision, compiled in product(("float32", "bfloat16"), (False, True)):
        row = precision + (", compiled" if compiled else "")
        job = make_job(name, "sam+aace", precision=precision, compile=compiled)
        works[row] = updates_of(job, STEPS[name])
        first[row] = works[row]() * STEPS[name]  # the updates after it take next to nothing
    return {"seconds": in_turn(works, rounds), "first": first}


MEASURES = {"steps": measure_steps, "loops": measure_loops, "compile": measure_compile}
PARTS = [
    *(f"steps:{name}" for name in STEPS),
    *(f"loops:{name}" for name in LOOPS),
    *(f"compile:{name}" for name in STEPS if name != "conv28"),
]


def main() -> int:
    """Measure and report; 1 where the plain loop does something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "training")
    about = "measure these parts again, into the report of today"
    parser.add_argument("--only", nargs="+", choices=PARTS, help=about)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / datetime.date.today().isoformat()
    path = stem.with_suffix(".json")
    kept = json.loads(path.read_text()) if args.only and path.exists() else {}
    report: dict[str, Any] = {"machine": {}, "parts": {}, **kept}
    with tempfile.TemporaryDirectory() as place:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = place  # what was compiled before is compiled again
        for part in args.only or PARTS:
            print(part, flush=True)
            what, _, name = part.partition(":")
            load = list(os.getloadavg())
            found = MEASURES[what](name, args.rounds)
            report["parts"][part] = {"load": load, **found}
            report["machine"] = machine("torch", "numpy", "pytorch_optimizer", "torchvision")
            path.write_text(json.dumps(report, indent=1) + "\n")
    write(report, stem.with_suffix(".md"))
    wrong = [
        f"{part}: the plain loop's update is off by {found['disagreement']:.1e}"
        for part, found in report["parts"].items()
        if found.get("disagreement", 0) > AGREEMENT
    ]
    for line in wrong:
        print(f"WRONG: {line}")
    print(path)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
