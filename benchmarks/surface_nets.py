"""The nets, data and directions that every contender of `make bench-surface` is given.

Nets are trained for a few steps on the images they are measured on, so that losses are those of a
net in training; the functions that return a Problem can be named to the command line.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape.problems import Problem
from training.data import load_data, normalize
from training.models import build_model


@dataclass(frozen=True)
class Case:
    """A net and how many images it is measured on."""

    name: str
    samples: int
    steps: int  # of SGD, on batches of 64
    reach: float  # length of a step of the 3 x 3 grid, relative to the weights


CASES = {
    "resnet-20": Case("resnet-20", samples=512, steps=40, reach=0.3),
    "wrn-28-2": Case("wrn-28-2", samples=128, steps=12, reach=0.3),
}


def images(samples: int) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST as CIFAR: padded to 32×32 pixels and repeated to 3 channels."""
    pixels, labels = (part[:samples] for part in load_data("fashion").train)
    padded = functional.pad(normalize(pixels, by=pixels), (2, 2, 2, 2), value=-0.8)
    return padded.repeat(1, 3, 1, 1), labels


def train(case: Case, x: Tensor, y: Tensor) -> nn.Module:
    """A few steps of SGD, then BatchNorm statistics of the data; the same bits every time."""
    model = build_model(case.name, classes=10, channels=3, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(case.steps):
        chosen = torch.arange(step * 64, (step + 1) * 64) % len(x)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over batches
        norm.reset_running_stats()
    with torch.no_grad():
        for batch in x.split(64):
            model(batch)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def directions(model: nn.Module, reach: float) -> list[list[Tensor]]:
    """Two directions whose tensors have the norm √numel up to one factor; zero for vectors.

    Landscaper scales every tensor of a direction to that norm: these are the directions that it
    leaves as they are.
    """
    generator = torch.Generator().manual_seed(1)
    weights = [p.detach() for p in model.parameters()]
    length = reach * math.sqrt(sum(float(w.double().square().sum()) for w in weights))
    found = []
    for _ in range(2):
        drawn = [torch.randn(w.shape, generator=generator) for w in weights]
        scaled = [
            d * (math.sqrt(d.numel()) / d.norm()) if d.ndim > 1 else torch.zeros_like(d)
            for d in drawn
        ]
        norm = math.sqrt(sum(float(d.double().square().sum()) for d in scaled))
        found.append([d * (length / norm) for d in scaled])
    return found


def prepare(case: Case, path: Path) -> None:
    """Write what every contender reads: weights, images, labels, directions."""
    x, y = images(case.samples)
    model = train(case, x, y)
    content = {"name": case.name, "reach": case.reach, "state": model.state_dict(), "x": x, "y": y}
    torch.save(content | {"directions": directions(model, case.reach)}, path)


def resnet_20() -> Problem:
    """ResNet-20 on 128 images, for the command line."""
    return Problem(
        model=build_model("resnet-20", classes=10, channels=3, seed=0),
        loss_fn=functional.cross_entropy,
        train=images(128),
    )


def smaller(case: Case) -> Case:
    """The same for a quick trial."""
    return replace(case, samples=case.samples // 4, steps=8)
