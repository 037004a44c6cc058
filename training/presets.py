"""Settings to begin with, by name: small runs, those of `make study`, those of the AACE paper."""

from collections.abc import Callable
from functools import partial

from .config import TrainConfig

METHODS = {
    "sgd": "sgd",
    "sam": "sam",
    "aace": "sam+aace",
    "vasso": "vasso",
    "f-sam": "f-sam",
    "asam": "asam",
    "gsam": "gsam",
}
"""The methods by their word in a preset's name."""

STUDIED = ("sgd", "sam", "aace", "vasso", "f-sam")
"""Those that `make study` compares."""


def digits(method: str) -> TrainConfig:
    """Return scikit-learn's digits: under two seconds with SGD on a laptop."""
    return TrainConfig(
        preset=f"digits-{method}",
        data="digits",
        model="conv8",
        method=METHODS[method],
        steps=240,
        batch_size=64,
        lr=0.05,
        train_samples=0,
        checkpoint_every=15,
    )


def fashion(method: str) -> TrainConfig:
    """Return 10,000 Fashion-MNIST images; schedule and decay as in the AACE paper.

    The learning rate is twice the paper's: 600 updates are 8 epochs, not 200.
    """
    return TrainConfig(preset=f"fashion-{method}", method=METHODS[method])


def study(method: str) -> TrainConfig:
    """Return a run of `make study`: 10,000 Fashion-MNIST images until SGD has learned them all.

    Learning rate, schedule and decay are the paper's, the radius is the method's default. SGD has
    the epochs of the others, half of their gradients. A checkpoint is kept at each epoch.
    """
    return TrainConfig(
        preset=f"study-{method}",
        method=METHODS[method],
        steps=0,
        epochs=60,
        lr=0.1,
        checkpoint_every=78,
        record="every:10",
    )


def paper(data: str, model: str, method: str) -> TrainConfig:
    """Return a run of the AACE paper: 200 epochs, and as SGD has one gradient a step, its 400.

    Args:
        data: cifar10, cifar100, fashion or food101.
        model: wrn for WRN-28-10, or pyramidnet for PyramidNet-272 with α 200.
        method: sgd, sam or aace.

    Source: Ratchatorn and Tanaka, ICIP 2024, and its code.
    """
    wide = model == "wrn"
    return TrainConfig(
        preset=f"{data}-{model}-{method}",
        data=data,
        model="wrn-28-10" if wide else "pyramidnet-272-200",
        zero_head=wide,
        method=METHODS[method],
        steps=0,
        epochs=400 if method == "sgd" else 200,
        batch_size=256 if wide else 64,
        lr=0.1,
        train_samples=0,
        recipe="cutout" if data == "fashion" else "auto",
        checkpoint_every=2000 if wide else 8000,  # 10 epochs of CIFAR
        evaluation_samples=0,
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    **{f"digits-{method}": partial(digits, method) for method in METHODS},
    **{f"fashion-{method}": partial(fashion, method) for method in METHODS},
    **{f"study-{method}": partial(study, method) for method in STUDIED},
    **{
        f"{data}-{model}-{method}": partial(paper, data, model, method)
        for data in ("cifar10", "cifar100", "fashion", "food101")
        for model in ("wrn", "pyramidnet")
        for method in ("sgd", "sam", "aace")
    },
}
"""The presets by the name that the command line takes."""
