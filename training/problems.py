"""The built-in problems, by the short name a run stores: model, loss and data, rebuilt alike."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from landscape.batches import read_batches
from landscape.problems import Problem

from .config import TrainConfig
from .data import Dataset, load_data, normalize_for, training_subset
from .models import MODELS, build_model


def make_problem(
    dataset: Dataset, *, model: str, seed: int, train_samples: int, zero_head: bool = False
) -> Problem:
    """Return a freshly initialized model with the data it is trained and tested on.

    The same arguments give the same bits. Images are normalized with the statistics of the training
    subset, or those that belong to the data set; nothing is augmented.

    Args:
        dataset: Raw images and labels.
        model: One of `training.models.MODELS`.
        seed: Seed of the weights. The subset does not depend on it.
        train_samples: Size of the class-balanced training subset, 0 for all.
        zero_head: Whether the model's last layer begins with zeros.

    Raises:
        ValueError: The model takes images of another size, or there are too few of them.
    """
    images, labels = training_subset(dataset, train_samples)
    test_images, test_labels = dataset.test
    _check_size(model, dataset)
    network = build_model(
        model, classes=dataset.classes, channels=images.shape[1], seed=seed, zero_head=zero_head
    )
    return Problem(
        model=network,
        loss_fn=functional.cross_entropy,
        train=(normalize_for(dataset, images, by=images), labels),
        test=(normalize_for(dataset, test_images, by=images), test_labels),
    )


def _check_size(model: str, dataset: Dataset) -> None:
    """Refuse a model that takes images of another size; an unknown one is left to `build_model`."""
    height, width = dataset.train[0].shape[2:]
    if model not in MODELS or (height == width and height in MODELS[model].sides):
        return
    sides = " or ".join(f"{side}×{side}" for side in MODELS[model].sides)
    fitting = [name for name, other in MODELS.items() if height in other.sides]
    remedy = f"choose --model {' or '.join(fitting)}" if fitting else "choose other images"
    raise ValueError(
        f"{model} takes images of {sides} pixels, but {dataset.name} has {height}×{width}; {remedy}"
    )


def _images(
    data: str, *, model: str, seed: int = 0, train_samples: int = 0, zero_head: bool = False
) -> Problem:
    """Load data by name and make their problem."""
    return make_problem(
        load_data(data), model=model, seed=seed, train_samples=train_samples, zero_head=zero_head
    )


def folder(
    *, path: str, model: str, seed: int = 0, train_samples: int = 0, zero_head: bool = False
) -> Problem:
    """Return the classification of images in a folder of one's own; see `make_problem`."""
    return _images(
        f"folder:{path}", model=model, seed=seed, train_samples=train_samples, zero_head=zero_head
    )


PROBLEMS: dict[str, Callable[..., Problem]] = {
    "fashion": partial(_images, "fashion", model="conv28", train_samples=10_000),
    "digits": partial(_images, "digits", model="conv8"),
    "cifar10": partial(_images, "cifar10"),
    "cifar100": partial(_images, "cifar100"),
    "svhn": partial(_images, "svhn"),
    "food101": partial(_images, "food101"),
    "folder": folder,
}
"""The makers by the name a run stores; they take the options stored beside it."""


def problem_of(config: TrainConfig) -> tuple[Problem, dict[str, Any], dict[str, str]]:
    """Return the problem that a config trains, what rebuilds it, and what its data are.

    Raises:
        ValueError: The data are missing or don't fit the model.
    """
    name, _, path = config.data.partition(":")
    options = {
        "model": config.model,
        "seed": config.seed,
        "train_samples": config.train_samples,
        "zero_head": config.zero_head,
    }
    dataset = load_data(config.data)
    problem = make_problem(dataset, **options)
    options |= {"path": str(Path(path).resolve())} if path else {}
    told = {"data": dataset.name, "data_source": dataset.source}
    return problem, {"name": name, "options": options}, told


def read_own(problem: Problem) -> Problem:
    """Return a problem of the user's own with its data read once into tensors.

    Raises:
        ValueError: There are no test data, or data that are not the same when read again.
        TypeError: The data can't be read as pairs of tensors.
    """
    if problem.test is None:
        raise ValueError(
            "a problem to train must have test data, got none; return Problem(model, loss_fn, "
            "train, test)"
        )
    read = {}
    for split in ("train", "test"):
        batches, _ = read_batches(getattr(problem, split), batch_size=1000, mixed=False)
        read[split] = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    return replace(problem, **read)
