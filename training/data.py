"""The data sets as tensors: loading by name, a class-balanced subset, normalization.

Images stay bytes until they are normalized, so that their statistics are exact integers: the same
on every machine and for any number of threads.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .datasets import SOURCES, fetch_data, find_data, how_to, missing
from .formats import Split
from .images import read_folder

_SPLIT_SEED = 0  # of the digits into training and test set, and of every training subset
_DIGITS_TEST = 360


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images and labels, and where they come from."""

    # Name for the reader, as "Fashion-MNIST" or "digits".
    name: str
    # Images uint8 [sample, channel, y, x] and labels int64 [sample].
    train: Split
    test: Split
    # Number of classes; labels are 0 .. classes - 1.
    classes: int
    # Folder or library the images were read from.
    source: str
    # Why this data set and this source, one sentence for the reader.
    why: str
    # As in `datasets.Source`.
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def load_data(name: str) -> Dataset:
    """Load a data set: "digits" (scikit-learn's), one of `SOURCES`, or "folder:PATH".

    Files are looked for in $LANDSCAPE_DATA, the checkout's data_cache/, the user's cache folder and
    Debian's. Of those that are in none, Fashion-MNIST, which is small, is downloaded into
    `data_folder()`. The folder of images of one's own is as `read_folder` says.

    Raises:
        ValueError: The name is unknown, the files are damaged, or there are none.
    """
    if name == "digits":
        return _load_digits("asked for")
    if name.startswith("folder:"):
        return _load_folder(Path(name.removeprefix("folder:")))
    if name not in SOURCES:
        raise ValueError(f"data must be digits, {', '.join(SOURCES)} or folder:PATH, got {name!r}")
    folder, how = find_data(name), "found in"
    if folder is None and name != "fashion":
        size = SOURCES[name].size
        raise ValueError(
            f"{missing(name)}; `landscape data {name}` fetches it ({size}), or {how_to(name)}"
        )
    if folder is None:
        folder, how = fetch_data(name), "downloaded to"
    return _load_files(name, folder, f"{how} {folder}")


def choose_data() -> Dataset:
    """Return Fashion-MNIST where it can be had, else the digits; `why` says which and why.

    Raises:
        ValueError: The files found are damaged.
    """
    try:
        fetch_data("fashion")
    except ValueError as error:
        return _load_digits(f"as {error}")
    return load_data("fashion")


def balanced_subset(labels: Tensor, samples: int, *, seed: int) -> Tensor:
    """Return the indices, rising, of a class-balanced subset: class sizes differ by one at most.

    Args:
        labels: Classes `[sample]`.
        samples: Size of the subset.
        seed: Seed of the draw.

    Raises:
        ValueError: There are not enough samples, in all or of some class.
    """
    classes = int(labels.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in range(classes):
        members = (labels == label).nonzero().squeeze(1)
        share = samples // classes + (label < samples % classes)
        if share > len(members):
            raise ValueError(
                f"a class-balanced subset of {samples} takes {share} samples of each of {classes} "
                f"classes, but class {label} has {len(members)} of the {len(labels)}; use at most "
                f"{int(labels.bincount().min()) * classes}, or 0 for all"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:share]])
    return torch.cat(chosen).sort().values


def training_subset(dataset: Dataset, samples: int) -> tuple[Tensor, Tensor]:
    """Return the training images and labels, or a class-balanced subset; the same for every run.

    Args:
        dataset: The data set.
        samples: Size of the subset, 0 for all.
    """
    images, labels = dataset.train
    if samples == 0:
        return images, labels
    index = balanced_subset(labels, samples, seed=_SPLIT_SEED)
    return images[index], labels[index]


def held_out_subset(dataset: Dataset, samples: int, *, train_samples: int) -> tuple[Tensor, Tensor]:
    """Return a class-balanced subset of the training images that `training_subset` leaves out.

    It is the same for every run. A temperature is fitted on it, so that the test set stays unused.

    Args:
        dataset: The data set.
        samples: Size of the subset.
        train_samples: Size of the training subset.

    Raises:
        ValueError: All images are trained on, or those left are not enough.
    """
    if train_samples == 0:
        raise ValueError("train_samples must leave images out to hold out, got 0, which takes all")
    images, labels = dataset.train
    left = torch.ones(len(labels), dtype=torch.bool)
    left[balanced_subset(labels, train_samples, seed=_SPLIT_SEED)] = False
    index = left.nonzero().squeeze(1)
    index = index[balanced_subset(labels[index], samples, seed=_SPLIT_SEED)]
    return images[index], labels[index]


def normalize(images: Tensor, *, by: Tensor) -> Tensor:
    """Return float32 images with the mean 0 and standard deviation 1 of the images `by`.

    Args:
        images: uint8 `[sample, channel, y, x]`.
        by: uint8 images whose statistics are used, over all samples and pixels of a channel.
    """
    counts = [channel.flatten().bincount(minlength=256).double() for channel in by.unbind(1)]
    values = torch.arange(256, dtype=torch.float64)
    shift, scale = [], []
    for count in counts:
        mean = (count @ values) / count.sum()
        shift.append(mean)
        scale.append(((count @ values.square()) / count.sum() - mean.square()).sqrt())
    return _scaled(images, torch.stack(shift), torch.stack(scale))


def normalize_for(dataset: Dataset, images: Tensor, *, by: Tensor) -> Tensor:
    """Return images normalized with the data set's own statistics, else as `normalize` does."""
    if dataset.statistics is None:
        return normalize(images, by=by)
    mean, deviation = torch.tensor(dataset.statistics, dtype=torch.float64) * 255
    return _scaled(images, mean, deviation)


def _scaled(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    shape = (1, -1, 1, 1)
    return (images - mean.float().view(shape)) / deviation.float().view(shape)


def _load_files(name: str, folder: Path, why: str) -> Dataset:
    source = SOURCES[name]
    train, test = source.read(folder)
    return Dataset(
        name=source.title,
        train=train,
        test=test,
        classes=source.classes,
        source=str(folder),
        why=why,
        statistics=source.statistics,
    )


def _load_folder(folder: Path) -> Dataset:
    train, test, classes = read_folder(folder)
    return Dataset(
        name=folder.resolve().name,
        train=train,
        test=test,
        classes=classes,
        source=str(folder),
        why="asked for",
    )


def _load_digits(why: str) -> Dataset:
    from sklearn.datasets import load_digits  # 1.5 s that Fashion-MNIST need not wait for

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    test = torch.zeros(len(labels), dtype=torch.bool)
    test[balanced_subset(labels, _DIGITS_TEST, seed=_SPLIT_SEED)] = True
    return Dataset(
        name="digits",
        train=(images[~test], labels[~test]),
        test=(images[test], labels[test]),
        classes=10,
        source="scikit-learn",
        why=why,
    )
