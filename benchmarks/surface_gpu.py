"""Surfaces on a GPU: a whole one of ResNet-56, and points per second as a share of the peak."""

import time
from typing import Any

import torch
from ceiling import layers_of
from torch.nn import functional

from landscape import Objective, measure_surface, random_plane
from training.models import build_model

DTYPES = {"full": torch.float32, "bfloat16": torch.bfloat16}
# net, images, points along an axis, precision
JOBS = [
    ("resnet-56", 50_000, 51, "bfloat16"),
    ("resnet-20", 50_000, 5, "full"),
    ("resnet-20", 50_000, 5, "bfloat16"),
    ("wrn-28-10", 10_000, 3, "full"),
    ("wrn-28-10", 10_000, 3, "bfloat16"),
]
TRIAL = [("resnet-20", 32, 2, "full"), ("resnet-20", 32, 2, "bfloat16")]


def measure_gpu(device: str) -> dict[str, Any]:
    """Every job with its share of the matrix-product peak; tiny ones where there is no GPU."""
    cuda = device != "cpu"
    size = 8192 if cuda else 512
    peaks = {name: matmul_peak(device, dtype, size) for name, dtype in DTYPES.items()}
    name = torch.cuda.get_device_name() if cuda else "cpu, a trial of the code"
    jobs = [_job(device, *job, peak=peaks[job[3]]) for job in (JOBS if cuda else TRIAL)]
    print(f"\n{name}: matrix products reach {peaks} FLOP/s")
    for job in jobs:
        print(
            f"{job['net']:10} {job['precision']:9} {job['images']} images, {job['points']} points"
            f" in {job['seconds']:.1f} s, {job['points_per_second']:.2f}/s, "
            f"{job['share_of_peak']:.1%} of the peak, path {job['path']}"
        )
    return {"device": name, "peak": peaks, "jobs": jobs}


def matmul_peak(device: str, dtype: torch.dtype, size: int, calls: int = 10) -> float:
    """FLOP/s of square matrix products, as fast as this dtype goes by default."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        a @ b
    _wait(device)
    return 2 * size**3 * calls / (time.perf_counter() - start)


def _job(
    device: str, net: str, images: int, points: int, precision: str, *, peak: float
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, 3, 32, 32, generator=generator)
    y = torch.randint(10, (images,), generator=generator)
    model = build_model(net, classes=10, channels=3, seed=0).eval()
    flop = sum(
        count * 2 * torch.Size(weight).numel() * (shape[1] // stride[0]) ** 2
        for (shape, weight, stride, _), count in layers_of(model, x[0]).items()
    )
    _wait(device)
    start = time.perf_counter()
    objective = Objective(model, functional.cross_entropy, (x, y), device=device)
    plane = random_plane(objective, seed=0)
    surface = measure_surface(objective, plane, extent=0.5, points=points, precision=precision)
    _wait(device)
    seconds = time.perf_counter() - start
    return {
        "net": net,
        "images": images,
        "points": points**2,
        "precision": precision,
        "seconds": seconds,
        "points_per_second": points**2 / seconds,
        "flop_per_point": flop * images,
        "share_of_peak": flop * images * points**2 / seconds / peak,
        "path": surface.facts["path"],
        "facts": {k: v for k, v in surface.facts.items() if k.startswith(("path", "precision"))},
    }


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
