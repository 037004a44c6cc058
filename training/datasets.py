"""The data sets that come as files: where they are found, how they are fetched or brought by hand.

Files are fetched from the addresses and held to the MD5 sums that torchvision lists.
"""

import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .data_folders import data_folder, search_folders
from .formats import Split, read_cifar, read_fashion, read_svhn
from .images import PACKED_FOOD, Progress, pack_food, read_packed_food
from .vision import import_torchvision

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as files."""

    # Name for the reader.
    title: str
    # What it holds, for the reader.
    about: str
    classes: int
    # Folders below a searched one that the files may lie in, the one they are fetched to last.
    folders: tuple[str, ...]
    # Names of the files; those of IDX may be compressed, with .gz behind the name.
    files: tuple[str, ...]
    # read(folder): training and test set.
    read: Callable[[Path], tuple[Split, Split]]
    # Size of the download, for the reader.
    size: str
    # What to put into the data folder by hand, and where it comes from.
    by_hand: str
    # Mean and deviation by channel that images are normalized with, of pixels from 0 to 1; those
    # of the training images where there are none.
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None


_CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CIFAR10 = [f"data_batch_{n}" for n in range(1, 6)]

SOURCES = {
    "fashion": Source(
        title="Fashion-MNIST",
        about="60,000 + 10,000 images of 28×28, 10 classes",
        classes=10,
        folders=("", "FashionMNIST/raw", "fashion-mnist"),
        files=tuple(
            f"{split}-{rest}-ubyte"
            for split in ("train", "t10k")
            for rest in ("images-idx3", "labels-idx1")
        ),
        read=read_fashion,
        size="30 MB",
        by_hand="its four files (https://github.com/zalandoresearch/fashion-mnist, or Debian's "
        "package dataset-fashion-mnist)",
    ),
    "cifar10": Source(
        title="CIFAR-10",
        about="50,000 + 10,000 images of 32×32, 10 classes",
        classes=10,
        folders=("", "cifar-10-batches-py"),
        files=(*_CIFAR10, "test_batch"),
        read=partial(read_cifar, train=_CIFAR10, test=["test_batch"], labels="labels"),
        size="170 MB",
        by_hand="the folder cifar-10-batches-py with data_batch_1 to data_batch_5 and test_batch, "
        f"which is in cifar-10-python.tar.gz ({_CIFAR_PAGE})",
    ),
    "cifar100": Source(
        title="CIFAR-100",
        about="50,000 + 10,000 images of 32×32, 100 classes",
        classes=100,
        folders=("cifar-100-python",),
        files=("train", "test"),
        read=partial(read_cifar, train=["train"], test=["test"], labels="fine_labels"),
        size="170 MB",
        by_hand="the folder cifar-100-python with train and test, which is in "
        f"cifar-100-python.tar.gz ({_CIFAR_PAGE})",
    ),
    "svhn": Source(
        title="SVHN",
        about="73,257 + 26,032 images of 32×32, 10 classes",
        classes=10,
        folders=("", "svhn"),
        files=("train_32x32.mat", "test_32x32.mat"),
        read=read_svhn,
        size="250 MB",
        by_hand="train_32x32.mat and test_32x32.mat (http://ufldl.stanford.edu/housenumbers)",
    ),
    "food101": Source(
        title="Food-101",
        about="75,750 + 25,250 images, made 32×32, 101 classes",
        classes=101,
        folders=("", "food-101"),
        files=(PACKED_FOOD,),
        read=read_packed_food,
        size="5 GB",
        by_hand="the folder food-101 with images/ and meta/, which is in food-101.tar.gz "
        "(https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101), and give this command again",
        statistics=_IMAGENET,  # as the AACE paper's code
    ),
}
"""The data sets by the name that configurations use."""


def find_data(name: str) -> Path | None:
    """Return the first folder that holds all files of a data set, or None."""
    source = SOURCES[name]
    for root in search_folders():
        for below in source.folders:
            if all(_file(root / below, file) for file in source.files):
                return root / below
    return None


def list_data() -> list[tuple[str, str, str]]:
    """Return name, what it holds, and where it was found, of every data set."""
    rows = [("digits", "digits: 1,437 + 360 images of 8×8, 10 classes", "comes with scikit-learn")]
    for name, source in SOURCES.items():
        folder = find_data(name)
        where = f"not here; {source.size} to fetch"
        if folder:
            files = [_file(folder, file) for file in source.files]
            size = sum(file.stat().st_size for file in files if file)
            where = f"{size / 1e6:.0f} MB in {folder}"
        rows.append((name, f"{source.title}: {source.about}", where))
    return rows


def _file(folder: Path, name: str) -> Path | None:
    names = (f"{name}.gz", name) if name.endswith("-ubyte") else (name,)
    return next((folder / n for n in names if (folder / n).is_file()), None)


def fetch_data(name: str, progress: Progress | None = None) -> Path:
    """Return a data set's folder; where there is none, fetch it into `data_folder()` first.

    What is fetched is there whole or not at all.

    Args:
        name: One of `SOURCES`.
        progress: Called after each image where images have to be made smaller.

    Raises:
        ValueError: There is no network, the files that came are others, or no folder to put them.
    """
    if folder := find_data(name):
        return folder
    target = data_folder() / SOURCES[name].folders[-1]
    if name == "food101" and (raw := _unpacked_food()):
        pack_food(raw, target / PACKED_FOOD, progress)
        return target
    try:
        _download(name, target, progress)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise ValueError(
            f"{missing(name)}, and it can't be downloaded ({error}); {how_to(name)}"
        ) from error
    return target


def missing(name: str) -> str:
    """Say where a data set was looked for in vain."""
    return f"{SOURCES[name].title} is in none of {', '.join(map(str, search_folders()))}"


def how_to(name: str) -> str:
    """Say how to bring a data set by hand."""
    return (
        f"put {SOURCES[name].by_hand} into {data_folder()}, or name another folder by "
        "LANDSCAPE_DATA"
    )


class _Download(NamedTuple):
    address: str
    file: str
    md5: str


def _downloads(name: str) -> list[_Download]:
    """What torchvision would fetch; it would also unpickle CIFAR, which is why it is not asked."""
    datasets = import_torchvision("torchvision.datasets")
    if name == "fashion":
        kind = datasets.FashionMNIST
        return [_Download(f"{kind.mirrors[0]}{file}", file, md5) for file, md5 in kind.resources]
    if name == "svhn":
        return [_Download(*datasets.SVHN.split_list[split]) for split in ("train", "test")]
    if name == "food101":
        kind = datasets.Food101
        return [_Download(kind._URL, Path(kind._URL).name, kind._MD5)]
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    return [_Download(kind.url, kind.filename, kind.tgz_md5)]


def _download(name: str, target: Path, progress: Progress | None) -> None:
    downloads = _downloads(name)
    _check_answers(downloads[0].address)
    utils = import_torchvision("torchvision.datasets.utils")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        made = Path(temporary) / "made"
        for item in downloads:
            utils.download_url(item.address, str(made), item.file, item.md5)
        if not downloads[0].file.endswith(".tar.gz"):
            _move(made, target)
            return
        with tarfile.open(made / downloads[0].file) as archive:
            archive.extractall(temporary, filter="data")
        unpacked = Path(temporary) / target.name
        if name == "food101":  # 5 GB of images, which 310 MB of bytes replace
            pack_food(unpacked, target / PACKED_FOOD, progress)
        else:
            _move(unpacked, target)


def _check_answers(address: str) -> None:
    """Raise OSError unless there is a network; torchvision would wait for it without limit."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        pass  # whatever it answers, it answers
    except OSError as error:
        raise OSError(f"no answer from {address}: {error}") from error


def _move(folder: Path, target: Path) -> None:
    """Put the files into the target, which may hold others; the last one makes it complete."""
    target.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.move(path, target / path.name)


def _unpacked_food() -> Path | None:
    """The folder of Food-101's images, where somebody has put it."""
    folders = [root / "food-101" for root in search_folders()]
    return next((f for f in folders if (f / "images").is_dir() and (f / "meta").is_dir()), None)
