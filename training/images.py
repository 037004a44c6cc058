"""Image files as small squares of bytes: Food-101 and folders of one's own."""

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .formats import Split
from .vision import import_torchvision

SIDE = 32  # pixels, as the nets of the papers take
PACKED_FOOD = f"food101-{SIDE}.npz"

Progress = Callable[[int, int], None]
"""Called with (images read, images in all)."""


def square_pixels(path: Path, side: int = SIDE) -> np.ndarray:
    """Return an image file as bytes `[channel, y, x]`: padded to a square, then resized.

    The image lies in the middle of black; resizing averages, which is bilinear with a filter as
    wide as the reduction.

    Raises:
        ValueError: The file can't be read as an image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} can't be read as an image ({error}); replace it") from error
    longer = max(image.size)
    square = Image.new("RGB", (longer, longer))
    square.paste(image, tuple((longer - length) // 2 for length in image.size))
    small = square.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def read_folder(folder: Path) -> tuple[Split, Split, int]:
    """Return training and test set of a folder of images, and the number of classes.

    Args:
        folder: Has train/ and test/ with a folder of images for each class in both. Classes are
            numbered in the order of their names.

    Raises:
        ValueError: Folders are missing or differ, or an image can't be read.
    """
    datasets = import_torchvision("torchvision.datasets")
    found = []
    for split in ("train", "test"):
        if not (folder / split).is_dir():
            raise ValueError(
                f"{folder} must have train/ and test/ with a folder of images per class, got no "
                f"{split}/"
            )
        try:
            found.append(datasets.ImageFolder(str(folder / split)))
        except FileNotFoundError as error:
            raise ValueError(f"{folder / split} must hold images by class: {error}") from None
    train, test = found
    if train.classes != test.classes or len(train.classes) < 2:
        raise ValueError(
            f"{folder}/train and {folder}/test must have the same classes, 2 at least, got "
            f"{', '.join(train.classes)} and {', '.join(test.classes)}"
        )
    splits = [
        _read([Path(path) for path, _ in part.samples], [label for _, label in part.samples])
        for part in found
    ]
    return splits[0], splits[1], len(train.classes)


def pack_food(folder: Path, target: Path, progress: Progress | None = None) -> None:
    """Read the 101,000 images of Food-101 once and keep them as bytes: 310 MB, no other files.

    Args:
        folder: Has images/ and meta/ as the archive does.
        target: The file to write; it is there whole or not at all.
        progress: Called after each image.

    Raises:
        ValueError: Something is missing or damaged.
    """
    lists = {split: _food_list(folder / "meta" / f"{split}.json") for split in ("train", "test")}
    classes = sorted(lists["train"])
    if sorted(lists["test"]) != classes:
        raise ValueError(f"{folder}/meta must list the same classes twice; fetch Food-101 again")
    total = sum(len(names) for split in lists.values() for names in split.values())
    arrays, done = {}, 0
    for split, by_class in lists.items():
        paths = [folder / "images" / f"{name}.jpg" for label in classes for name in by_class[label]]
        labels = [classes.index(label) for label in classes for _ in by_class[label]]

        def report(read: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + read, total)

        images, numbers = _read(paths, labels, report)
        done += len(paths)
        arrays |= {f"{split}_images": images.numpy(), f"{split}_labels": numbers.numpy()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        np.savez(Path(temporary) / target.name, **arrays)
        (Path(temporary) / target.name).replace(target)


def read_packed_food(folder: Path) -> tuple[Split, Split]:
    """Return training and test set of Food-101 as `pack_food` has kept them.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / PACKED_FOOD
    try:
        with np.load(path, allow_pickle=False) as content:
            splits = [
                (
                    torch.from_numpy(content[f"{split}_images"]),
                    torch.from_numpy(content[f"{split}_labels"]),
                )
                for split in ("train", "test")
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} can't be read ({error}); remove it and run `landscape data food101`"
        ) from None
    return splits[0], splits[1]


def _food_list(path: Path) -> dict[str, list[str]]:
    """Names of images by class; names that would leave the folder of images are refused."""
    try:
        content = json.loads(path.read_text())
        names = [name for names in content.values() for name in names]
        plain = all(isinstance(n, str) and ".." not in n and not n.startswith("/") for n in names)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} must list images by class ({error}); fetch it again") from None
    if not names or not plain:
        raise ValueError(f"{path} must list images as class/number; fetch it again")
    return content


def _read(paths: list[Path], labels: list[int], progress: Progress | None = None) -> Split:
    pixels = np.empty((len(paths), 3, SIDE, SIDE), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, image in enumerate(pool.map(square_pixels, paths)):
            pixels[index] = image
            if progress is not None:
                progress(index + 1, len(paths))
    return torch.from_numpy(pixels), torch.tensor(labels)
