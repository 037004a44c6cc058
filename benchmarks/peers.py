"""One contender of `make bench-surface`, in a process of its own: the same points, its own way.

`python benchmarks/peers.py NAME WORK.pt` reads one request a line, as JSON, and answers in one:
seconds, when each point was done, and losses [a, b] on the grid, NaN where it has no value of its
own. What the contenders share is loaded before the clock starts; imports are not timed.
"""

import copy
import importlib
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from training.models import build_model

Found = dict[str, Any]


class Work:
    """Weights, data and directions as `surface_nets.prepare` wrote them."""

    def __init__(self, path: str) -> None:
        content = torch.load(path)
        self.model = build_model(content["name"], classes=10, channels=3, seed=0)
        self.model.load_state_dict(content["state"])
        self.model.eval()
        self.x, self.y = content["x"], content["y"]
        self.directions = content["directions"]
        self.reach = content["reach"]
        self.stamps: list[float] = []

    def stamp(self, *_: Any) -> None:
        self.stamps.append(time.perf_counter())


def ours(work: Work, points: Any = 5, precision: str = "full", samples: int = 0) -> Found:
    """`measure_surface`, as a user calls it."""
    from landscape import Objective, Plane, measure_surface

    data = (work.x[:samples], work.y[:samples]) if samples else (work.x, work.y)
    points = tuple(points) if isinstance(points, list) else points
    objective = Objective(work.model, functional.cross_entropy, data)
    vectors = torch.stack([nn.utils.parameters_to_vector(d) for d in work.directions])
    surface = measure_surface(
        objective,
        Plane(objective.theta, vectors),
        extent=1.0,
        points=points,
        precision=precision,
        progress=work.stamp,
    )
    wanted = ("path", "chunk", "threads", "precision", "path_error", "path_note", "precision_error")
    facts = {name: surface.facts[name] for name in wanted if name in surface.facts}
    return {"loss": surface.loss, "accuracy": surface.accuracy, "facts": facts}


def tomgoldstein(
    work: Work,
    batch: int = 128,
    loaders: int = 2,
    share: tuple[int, int] = (0, 1),
    points: int = 3,
) -> Found:
    """Li et al.'s way: weights plus directions into the net, then a pass over a DataLoader.

    `batch`, `loaders` (--threads) and ranks (`share`) are the settings its script has; what it
    does besides (images decoded anew for each pass, a file rewritten at each point) is left out.
    """
    net = copy.deepcopy(work.model)
    weights = [p.data.clone() for p in net.parameters()]
    data = DataLoader(TensorDataset(work.x, work.y), batch_size=batch, num_workers=loaders)
    loss, accuracy = np.full((points, points), np.nan), np.full((points, points), np.nan)
    axis = np.linspace(-1, 1, points)
    rank, ranks = share
    for index in range(rank, points * points, ranks):
        a, b = (float(axis[i]) for i in divmod(index, points))
        for p, w, d1, d2 in zip(net.parameters(), weights, *work.directions, strict=True):
            p.data = w + (d1 * a + d2 * b)
        loss.flat[index], accuracy.flat[index] = _pass_over(net, data)
        work.stamp()
    return {"loss": loss, "accuracy": accuracy}


def _pass_over(net: nn.Module, data: DataLoader) -> tuple[float, float]:
    criterion = nn.CrossEntropyLoss()
    total, correct, seen = 0.0, 0, 0
    net.eval()
    with torch.no_grad():
        for inputs, targets in data:
            outputs = net(inputs)
            total += criterion(outputs, targets).item() * len(inputs)
            correct += outputs.max(1).indices.eq(targets).sum().item()
            seen += len(inputs)
    return total / seen, correct / seen


def loss_landscapes(work: Work, points: int = 3) -> Found:
    """loss-landscapes: `planar_interpolation` takes our directions, `Loss` is its own metric.

    It scans in a snake and steps before it measures: in even rows column j holds the loss of
    column j + 1, the last one outside the grid. Values are put where they belong.
    """
    import loss_landscapes
    from loss_landscapes import metrics

    class Stamped(metrics.Loss):
        def __call__(self, wrapper: Any) -> float:
            value = super().__call__(wrapper)
            work.stamp()
            return value

    def moved(a: float, b: float) -> nn.Module:
        model = copy.deepcopy(work.model)
        for p, d1, d2 in zip(model.parameters(), *work.directions, strict=True):
            p.data.add_(d1 * a + d2 * b)
        return model

    step = 2 / (points - 1)
    far = step * points - 1
    raw = loss_landscapes.planar_interpolation(
        moved(-1, -1),
        moved(far, -1),
        moved(-1, far),
        Stamped(nn.CrossEntropyLoss(), work.x, work.y),
        steps=points,
    )
    loss = np.full((points, points), np.nan)
    loss[0::2, 1:] = raw[0::2, :-1]
    loss[1::2] = raw[1::2]
    return {"loss": loss}


def landscaper(work: Work, points: int = 3) -> Found:
    """Landscaper's `compute_loss_landscape` over batches of 128 in memory.

    It adds noise to the largest value, which is left out. Its `distance` is that of half the
    grid plus half a step, relative to the weights.
    """
    from landscaper.compute import compute_loss_landscape  # pyright: ignore[reportMissingImports]

    batches = list(zip(work.x.split(128), work.y.split(128), strict=True))
    values = []

    def mean_loss(model: nn.Module, data: Any) -> float:
        total = sum(functional.cross_entropy(model(x), y).item() * len(x) for x, y in data)
        values.append(total / sum(len(x) for x, _ in data))
        work.stamp()
        return values[-1]

    loss, _ = compute_loss_landscape(
        work.model,
        batches,
        work.directions,
        mean_loss,
        steps=points,
        distance=work.reach * points / (points - 1),
        dim=2,
        device="cpu",
    )
    changed = loss != np.array(values).reshape(points, points)
    return {"loss": np.where(changed, math.nan, loss)}


CONTENDERS: dict[str, Callable[..., Found]] = {
    "landscape": ours,
    "tomgoldstein": tomgoldstein,
    "loss-landscapes": loss_landscapes,
    "landscaper": landscaper,
}
IMPORTS = {
    "landscape": "landscape.surfaces",
    "loss-landscapes": "loss_landscapes.main",
    "landscaper": "landscaper.compute",
}


def answer(contender: Callable[..., Found], work: Work, request: dict[str, Any]) -> Found:
    work.stamps.clear()
    start = time.perf_counter()
    found = contender(work, **request)
    seconds = time.perf_counter() - start
    gaps = len(work.stamps) - 1
    return {
        "loss": found["loss"].tolist(),
        "accuracy": found["accuracy"].tolist() if "accuracy" in found else None,
        "facts": found.get("facts", {}),
        "seconds": seconds,
        "points": len(work.stamps),
        "point_seconds": (work.stamps[-1] - work.stamps[0]) / gaps if gaps else seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the contenders print is no reply
    name, path = sys.argv[1:]
    if name in IMPORTS:
        importlib.import_module(IMPORTS[name])
    work = Work(path)
    print("{}", file=replies, flush=True)
    for line in sys.stdin:
        print(
            json.dumps(answer(CONTENDERS[name], work, json.loads(line))), file=replies, flush=True
        )


if __name__ == "__main__":
    main()
