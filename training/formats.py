"""Readers of the files that data sets come in. Nothing in a file is ever run."""

import gzip
import math
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Split = tuple[Tensor, Tensor]
"""Images uint8 [sample, channel, y, x] and labels int64 [sample]."""


def read_fashion(folder: Path) -> tuple[Split, Split]:
    """Return training and test set of Fashion-MNIST from its four IDX files, plain or .gz.

    Raises:
        ValueError: A file is damaged, or they hold something else.
    """
    train, test = (_read_idx_pair(folder, name) for name in ("train", "t10k"))
    return train, test


def _read_idx_pair(folder: Path, name: str) -> Split:
    files = [folder / f"{name}-{rest}-ubyte" for rest in ("images-idx3", "labels-idx1")]
    packed = [file.with_name(f"{file.name}.gz") for file in files]
    pixels, labels = (
        read_idx(gz if gz.is_file() else plain) for plain, gz in zip(files, packed, strict=True)
    )
    if pixels.shape[1:] != (28, 28) or labels.shape != pixels.shape[:1]:
        raise ValueError(
            f"{name} must be images of 28×28 with a label each, got {pixels.shape} and "
            f"{labels.shape} in {folder}; is it another data set?"
        )
    return _split(pixels[:, None], labels, 10, folder)


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


def read_cifar(folder: Path, train: list[str], test: list[str], labels: str) -> tuple[Split, Split]:
    """Return training and test set from CIFAR's files for Python.

    Args:
        folder: Where the files lie.
        train: Names of the files of the training set, in order.
        test: Names of those of the test set.
        labels: The entry that holds the labels, "labels" or "fine_labels".

    Raises:
        ValueError: A file is damaged or holds something else.
    """
    classes = 100 if labels == "fine_labels" else 10
    splits = []
    for names in (train, test):
        parts = [_read_cifar_batch(folder / name, labels.encode()) for name in names]
        pixels, found = (np.concatenate(column) for column in zip(*parts, strict=True))
        splits.append(_split(pixels.reshape(-1, 3, 32, 32), found, classes, folder))
    return splits[0], splits[1]


def _read_cifar_batch(path: Path, labels: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()
        pixels, found = content[b"data"].bytes(), np.array(content[labels], np.int64)
    except Exception as error:  # unpickling raises whatever the bytes lead it to
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} must be a batch of CIFAR for Python with entries data and "
            f"{labels.decode()} ({reason}); fetch it again"
        ) from None
    if pixels.shape != (len(found), 3 * 32 * 32):
        raise ValueError(
            f"{path} must hold a row of 3072 bytes for each of its {len(found)} labels, got "
            f"{pixels.shape}; fetch it again"
        )
    return pixels, found


class _Array:
    """What a pickled array says of itself, taken down without calling numpy."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.by_columns, self.raw = state

    def bytes(self) -> np.ndarray:
        """The array, if it is one of bytes."""
        if not isinstance(self.dtype, _Dtype) or self.dtype.code != b"u1":
            raise ValueError("its data are no bytes")
        order = "F" if self.by_columns else "C"
        return np.frombuffer(self.raw, np.uint8).reshape(self.shape, order=order)


class _Dtype:
    """The kind of a pickled array's elements."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.encode() if isinstance(code, str) else code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Byte order and the like, which bytes don't have."""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, numbers, strings and arrays of bytes; calls nothing that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no data need")
        return _KNOWN[module, name]


def read_svhn(folder: Path) -> tuple[Split, Split]:
    """Return training and test set of SVHN's cropped digits from its two .mat files.

    Raises:
        ValueError: A file is damaged or holds something else.
    """
    train, test = (_read_svhn_file(folder / f"{name}_32x32.mat") for name in ("train", "test"))
    return train, test


def _read_svhn_file(path: Path) -> Split:
    from scipy.io import loadmat  # 0.3 s that other data need not wait for

    try:
        content = loadmat(str(path))
        pixels, labels = content["X"], content["y"].astype(np.int64).ravel()
    except Exception as error:  # loadmat raises whatever the bytes lead it to
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} must be a MATLAB file with X and y ({reason}); fetch it again"
        ) from None
    if pixels.dtype != np.uint8 or pixels.shape != (32, 32, 3, len(labels)):
        raise ValueError(
            f"{path} must hold bytes [32, 32, 3, sample] for its {len(labels)} labels, got "
            f"{pixels.dtype} {list(pixels.shape)}; fetch it again"
        )
    labels[labels == 10] = 0  # the files count digits from 1 to 10
    return _split(pixels.transpose(3, 2, 0, 1), labels, 10, path)


def _split(pixels: np.ndarray, labels: np.ndarray, classes: int, where: Path) -> Split:
    """Tensors of their own memory; labels are checked."""
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        span = f"{labels.min()} .. {labels.max()}" if len(labels) else "none"
        raise ValueError(
            f"labels must be 0 .. {classes - 1}, got {span} in {where}; is it another data set?"
        )
    return torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64))
