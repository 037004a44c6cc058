"""The built-in problems, by the short name a run stores: model, loss and data, rebuilt alike."""

from collections.abc import Callable

from torch.nn import functional

from landscape.problems import Problem

from .data import Dataset, load_data, normalize, training_subset
from .models import MODELS, build_model


def make_problem(dataset: Dataset, *, model: str, seed: int, train_samples: int) -> Problem:
    """Return a freshly initialized model with the data it is trained and tested on.

    The same arguments give the same bits. Images are normalized with the statistics of the training
    subset; nothing is augmented.

    Args:
        dataset: Raw images and labels.
        model: One of `training.models.MODELS`.
        seed: Seed of the weights. The subset does not depend on it.
        train_samples: Size of the class-balanced training subset, 0 for all.

    Raises:
        ValueError: The model takes images of another size, or there are too few of them.
    """
    images, labels = training_subset(dataset, train_samples)
    test_images, test_labels = dataset.test
    _, channels, height, width = images.shape
    network = build_model(model, classes=dataset.classes, channels=channels, seed=seed)
    side = MODELS[model][0]
    if (height, width) != (side, side):
        fitting = [name for name, (other, _) in MODELS.items() if other == height]
        raise ValueError(
            f"{model} takes images of {side}×{side} pixels, but {dataset.name} has "
            f"{height}×{width}; choose --model {' or '.join(fitting)}"
        )
    return Problem(
        model=network,
        loss_fn=functional.cross_entropy,
        train=(normalize(images, by=images), labels),
        test=(normalize(test_images, by=images), test_labels),
    )


def fashion(*, model: str = "conv28", seed: int = 0, train_samples: int = 10_000) -> Problem:
    """Return the classification of Fashion-MNIST; arguments as in `make_problem`."""
    data = load_data("fashion")
    return make_problem(data, model=model, seed=seed, train_samples=train_samples)


def digits(*, model: str = "conv8", seed: int = 0, train_samples: int = 0) -> Problem:
    """Return the classification of scikit-learn's digits; arguments as in `make_problem`."""
    data = load_data("digits")
    return make_problem(data, model=model, seed=seed, train_samples=train_samples)


PROBLEMS: dict[str, Callable[..., Problem]] = {"fashion": fashion, "digits": digits}
"""The makers by the name a run stores; they take the options stored beside it."""
