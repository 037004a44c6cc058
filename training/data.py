"""The data sets: where they are found, a class-balanced subset, batched augmentation.

Images stay bytes until they are normalized, so that their statistics are exact integers: the same
on every machine and for any number of threads.
"""

import gzip
import math
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .vision import import_torchvision

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
_SPLIT_SEED = 0  # of the digits into training and test set, and of every training subset
_DIGITS_TEST = 360
_PARTS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images and labels, and where they come from."""

    # Name for the reader: "Fashion-MNIST" or "digits".
    name: str
    # Images uint8 [sample, channel, y, x] and labels int64 [sample].
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    # Number of classes; labels are 0 .. classes - 1.
    classes: int
    # Folder or library the images were read from.
    source: str
    # Why this data set and this source, one sentence for the reader.
    why: str


def load_data(name: str) -> Dataset:
    """Load "fashion" (Fashion-MNIST, 60,000 + 10,000 images) or "digits" (scikit-learn's, 1,797).

    Fashion-MNIST is looked for in $LANDSCAPE_DATA, the checkout's data_cache/, the user's cache
    folder and Debian's dataset-fashion-mnist; where it is in none, torchvision downloads it into
    `data_folder()`.

    Raises:
        ValueError: The name is unknown, the files are damaged, or there are none and they can't
            be downloaded.
    """
    if name == "digits":
        return _load_digits("asked for")
    if name != "fashion":
        raise ValueError(f"data must be fashion or digits, got {name!r}")
    folder, why = _find_fashion()
    if folder is None:
        raise ValueError(
            f"{why}; install Debian's dataset-fashion-mnist, put its four .gz files in a folder "
            "named by LANDSCAPE_DATA, or use a digits-* preset"
        )
    return _load_fashion(folder, why)


def choose_data() -> Dataset:
    """Return Fashion-MNIST where it can be had, else the digits; `why` says which and why.

    Raises:
        ValueError: The files found are damaged.
    """
    folder, why = _find_fashion()
    return _load_fashion(folder, why) if folder else _load_digits(f"as {why}")


def data_folder() -> Path:
    """Return where data and the demo are kept: the first folder of ours that can be written.

    $LANDSCAPE_DATA, else the checkout's data_cache/, else the user's cache folder; it may not exist
    yet.

    Raises:
        ValueError: None can be written.
    """
    for folder in _own_folders():
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if nearest.is_dir() and os.access(nearest, os.W_OK):
            return folder
    raise ValueError(
        f"one of {', '.join(map(str, _own_folders()))} must be a folder that can be written; "
        "name another by LANDSCAPE_DATA"
    )


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
    shape = (1, len(counts), 1, 1)
    mean, deviation = torch.stack(shift).float(), torch.stack(scale).float()
    return (images - mean.view(shape)) / deviation.view(shape)


def augment_batch(
    images: Tensor, generator: torch.Generator, *, shift: int, flip: bool, background: float
) -> Tensor:
    """Return the images moved by up to `shift` pixels each way, and mirrored with probability ½.

    Random numbers are drawn on the CPU, so every device sees the same images.

    Args:
        images: `[sample, channel, y, x]`, on any device.
        generator: CPU generator; the only source of randomness.
        shift: Largest shift along each axis, pixels.
        flip: Whether to mirror left and right.
        background: Value of the pixels that move in.
    """
    samples, _, height, width = images.shape
    device = images.device
    offset = torch.randint(0, 2 * shift + 1, (2, samples, 1), generator=generator).to(device)
    columns = torch.arange(width, device=device).expand(samples, width)
    if flip:
        mirrored = torch.rand(samples, 1, generator=generator) < 0.5
        columns = torch.where(mirrored.to(device), columns.flip(1), columns)
    rows = torch.arange(height, device=device) + offset[0]
    padded = functional.pad(images, (shift,) * 4, value=background)
    sample = torch.arange(samples, device=device)[:, None, None]
    picked = padded[sample, :, rows[:, :, None], (columns + offset[1])[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _own_folders() -> list[Path]:
    """Where data may be put: $LANDSCAPE_DATA, the checkout's data_cache, the user's cache."""
    checkout = Path(__file__).resolve().parent.parent / "data_cache"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = [Path(os.environ["LANDSCAPE_DATA"])] if os.environ.get("LANDSCAPE_DATA") else []
    in_checkout = [checkout] if (checkout / "README.md").is_file() else []
    return [*named, *in_checkout, cache / "aace-landscape"]


def _find_fashion() -> tuple[Path | None, str]:
    """The folder of Fashion-MNIST, downloaded if need be, and how it came; or None and why not."""
    roots = [*_own_folders(), DEBIAN]
    for root in roots:
        if folder := _fashion_in(root):
            return folder, f"found in {folder}"
    folder, reason = _download_fashion()
    if folder:
        return folder, f"downloaded to {folder}"
    return None, (
        f"Fashion-MNIST is in none of {', '.join(map(str, roots))}, and it can't be downloaded "
        f"({reason})"
    )


def _fashion_in(root: Path) -> Path | None:
    """The folder below root with all four files, plain or .gz, as Debian or torchvision lay it."""
    for folder in (root, root / "fashion-mnist", root / "FashionMNIST" / "raw"):
        if all(_idx_file(folder, name) for part in _PARTS.values() for name in part[:2]):
            return folder
    return None


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)


def _load_fashion(folder: Path, why: str) -> Dataset:
    splits = {}
    for split, (images, labels, samples) in _PARTS.items():
        pixels = read_idx(_idx_file(folder, images) or folder / images)
        classes = read_idx(_idx_file(folder, labels) or folder / labels)
        if pixels.shape != (samples, 28, 28) or classes.shape != (samples,) or classes.max() > 9:
            raise ValueError(
                f"Fashion-MNIST's {split} set must be {samples} images of 28×28 with labels "
                f"0 .. 9, got {pixels.shape} and {classes.shape} in {folder}; is it another data "
                "set?"
            )
        splits[split] = (torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(classes).long())
    return Dataset(name="Fashion-MNIST", classes=10, source=str(folder), why=why, **splits)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzip-compressed.

    Raises:
        ValueError: The file is damaged, cut short, or of another kind.

    Source: file format section of the MNIST page (LeCun, Cortes, Burges): two zero bytes, type 8,
        number of axes, big-endian 32-bit sizes, then the values, last axis fastest.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} can't be read ({error}); fetch it again") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(
            f"{path} must be an IDX file of bytes, got first bytes {data[:4].hex()!r}; "
            "fetch it again"
        )
    start = 4 + 4 * data[3]
    shape = [int(size) for size in np.frombuffer(data[4:start], ">u4")]
    if len(data) - start != math.prod(shape):
        raise ValueError(
            f"{path} must hold {shape} = {math.prod(shape)} bytes after its head, got "
            f"{len(data) - start}; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def _download_fashion() -> tuple[Path | None, str]:
    """Let torchvision fetch the four files; return their folder, or None and why not."""
    datasets = import_torchvision("torchvision.datasets")
    mirror = datasets.FashionMNIST.mirrors[0]
    try:  # torchvision waits without limit for a network that swallows packets
        urllib.request.urlopen(urllib.request.Request(mirror, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        pass  # whatever it answers, it answers
    except OSError as error:
        return None, f"no answer from {mirror}: {error}"
    try:
        target = data_folder() / "fashion-mnist"
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target) as temporary:
            datasets.FashionMNIST(temporary, download=True)
            for path in (Path(temporary) / "FashionMNIST" / "raw").glob("*.gz"):
                path.replace(target / path.name)
    except (OSError, RuntimeError, ValueError) as error:
        return None, str(error)
    return target, ""


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
