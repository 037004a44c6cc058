"""Compare a GPU with the CPU: 50 SAM+AACE steps, a 5x5 surface, eigenpairs.

`make gpu-check` runs it and writes benchmarks/gpu/<date>.json: agreement, memory, images per
second. `python benchmarks/gpu_check.py --device cpu` tries the script itself where there is none.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from landscape import (
    SAM,
    Objective,
    find_eigenpairs,
    frozen_batchnorm,
    measure_surface,
    perturbations,
    random_plane,
)
from training.models import build_model

STEPS, BATCH = 50, 256


def train(device: str, images: torch.Tensor, labels: torch.Tensor) -> tuple[object, float]:
    model = build_model("conv28", classes=10, channels=1, seed=0).to(device)
    aace = perturbations.aace(rho=0.2)
    optimizer = SAM(model.parameters(), torch.optim.SGD, perturbation=aace, lr=0.05, momentum=0.9)
    images, labels = images.to(device), labels.to(device)
    start = time.perf_counter()
    for step in range(STEPS):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH, device=device) % len(images)
        x, y = images[chosen], labels[chosen]
        aace.loss(model(x), y).backward()
        optimizer.first_step(zero_grad=True)
        with frozen_batchnorm(model):
            functional.cross_entropy(model(x), y).backward()
        optimizer.second_step(zero_grad=True)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return model, STEPS * BATCH / (time.perf_counter() - start)


def measure(device: str, model: torch.nn.Module, data: tuple) -> dict[str, object]:
    objective = Objective(model.cpu(), functional.cross_entropy, data, device=device)
    start = time.perf_counter()
    surface = measure_surface(objective, random_plane(objective, seed=0), extent=1.0, points=5)
    surface_seconds = time.perf_counter() - start
    start = time.perf_counter()
    spectrum = find_eigenpairs(objective, k=3, which="LM", tolerance=1e-3, seed=0)
    return {
        "loss": surface.loss,
        "eigenvalues": spectrum.eigenvalues,
        "residuals": spectrum.residuals.tolist(),
        "surface_seconds": surface_seconds,
        "spectrum_seconds": time.perf_counter() - start,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", default=str(Path(__file__).parent / "gpu"))
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "gpu-check: expected a CUDA device, found none; nothing was measured", file=sys.stderr
        )
        return 2
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(10, 1, 28, 28, generator=generator)
    labels = torch.arange(STEPS * BATCH) % 10
    images = centers[labels] + torch.randn(STEPS * BATCH, 1, 28, 28, generator=generator)
    held = (images[:512], labels[:512])

    train(args.device, images, labels)  # warm-up: the first launch compiles and allocates
    on_cpu, cpu_rate = train("cpu", images, labels)
    on_device, rate = train(args.device, images, labels)
    peak = torch.cuda.max_memory_allocated() if args.device.startswith("cuda") else None
    # Both devices measure the same weights: training itself amplifies rounding step by step.
    slow, fast = measure("cpu", on_cpu, held), measure(args.device, on_cpu, held)
    after = [
        Objective(model.cpu(), functional.cross_entropy, held)() for model in (on_cpu, on_device)
    ]
    cuda = args.device.startswith("cuda")
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if cuda else args.device,
        "torch": torch.__version__,
        "images_per_second": {"cpu": cpu_rate, "device": rate},
        "loss_after_50_steps": {"cpu": after[0], "device": after[1]},
        "surface_largest_relative_difference": float(
            np.max(np.abs(fast["loss"] - slow["loss"]) / np.abs(slow["loss"]))
        ),
        "eigenvalues": {
            "cpu": slow["eigenvalues"].tolist(),
            "device": fast["eigenvalues"].tolist(),
        },
        "residuals": {"cpu": slow["residuals"], "device": fast["residuals"]},
        "seconds": {
            name: {"cpu": slow[name], "device": fast[name]}
            for name in ("surface_seconds", "spectrum_seconds")
        },
        "peak_memory_bytes": peak,
    }
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{report['date'][:10]}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    print(f"written to {path}")
    agree = report["surface_largest_relative_difference"] < 1e-4 and np.allclose(
        slow["eigenvalues"], fast["eigenvalues"], rtol=2e-3
    )
    print("CPU and device agree" if agree else "CPU and device DISAGREE")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
