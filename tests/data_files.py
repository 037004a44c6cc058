"""Small data sets in the real formats of their files."""

import gzip
import http.server
import json
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

FASHION = ("train", 40), ("t10k", 20)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's files by HTTP on this machine; gives the address, which ends in a slash."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(np.uint8).tobytes()


def write_fashion(folder: Path, packed: bool = True) -> Path:
    """A Fashion-MNIST of 40 + 20 images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in FASHION:
        pixels = rng.integers(0, 256, (count, 28, 28))
        for name, values in (("images-idx3", pixels), ("labels-idx1", np.arange(count) % 10)):
            content = gzip.compress(idx(values)) if packed else idx(values)
            path = folder / f"{split}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(content)
    return folder


def _text(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def cifar_batch(pixels: np.ndarray, labels: list[int], entry: str = "labels") -> bytes:
    """A batch as Python 2 and its numpy pickled them, which is what CIFAR's archives hold."""
    dtype = b"cnumpy\ndtype\n" + _text(b"u1") + _int(0) + _int(1) + b"\x87R"
    dtype += b"(" + _int(3) + _text(b"|") + b"NNN" + _int(-1) + _int(-1) + _int(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    array += _int(0) + b"\x85" + _text(b"b") + b"\x87R"
    shape = _int(pixels.shape[0]) + _int(pixels.shape[1]) + b"\x86"
    array += b"(" + _int(1) + shape + dtype + b"\x89" + _text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(_int(label) for label in labels) + b"e"
    entries = _text(b"data") + array + _text(entry.encode()) + numbers
    return b"\x80\x02}(" + entries + _text(b"batch_label") + _text(b"made here") + b"u."


def write_cifar10(folder: Path, samples: int = 4) -> dict[str, tuple[np.ndarray, list[int]]]:
    """CIFAR-10 with as many images in each of its six files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (samples, 3072), np.uint8)
        labels = rng.integers(0, 10, samples).tolist()
        (folder / name).write_bytes(cifar_batch(pixels, labels))
        written[name] = pixels, labels
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, 2))
    return written


def write_cifar100(folder: Path) -> dict[str, tuple[np.ndarray, list[int]]]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    written = {}
    for name, samples in (("train", 6), ("test", 3)):
        pixels = rng.integers(0, 256, (samples, 3072), np.uint8)
        labels = rng.integers(0, 100, samples).tolist()
        (folder / name).write_bytes(cifar_batch(pixels, labels, "fine_labels"))
        written[name] = pixels, labels
    return written


def pack(folder: Path, archive: Path) -> Path:
    """The folder as a .tar.gz that has the folder's name inside."""
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    return archive


def write_svhn(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """SVHN of 7 + 4 images, whose files count the digits from 1 to 10."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    written = {}
    for name, samples in (("train", 7), ("test", 4)):
        pixels = rng.integers(0, 256, (32, 32, 3, samples), np.uint8)
        labels = np.arange(4, 4 + samples, dtype=np.uint8)[:, None]
        savemat(folder / f"{name}_32x32.mat", {"X": pixels, "y": labels})
        written[name] = pixels, labels
    return written


def write_image(path: Path, seed: int, size: tuple[int, int], mode: str = "RGB") -> None:
    """A smooth image of this width and height, which JPEG keeps well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)


def write_food(folder: Path) -> Path:
    """Food-101 of two classes: 4 + 2 images of several shapes, listed out of order."""
    names = {
        "train": {"pho": ["pho/7", "pho/3"], "apple_pie": ["apple_pie/9", "apple_pie/1"]},
        "test": {"pho": ["pho/5"], "apple_pie": ["apple_pie/2"]},
    }
    (folder / "meta").mkdir(parents=True)
    for split, by_class in names.items():
        (folder / "meta" / f"{split}.json").write_text(json.dumps(by_class))
        for name in (name for listed in by_class.values() for name in listed):
            number = int(name[-1])
            size = ((64, 48), (48, 64), (50, 50))[number % 3]
            mode = "L" if number == 9 else "RGB"
            write_image(folder / "images" / f"{name}.jpg", number, size, mode)
    return folder


def write_image_folder(folder: Path) -> Path:
    """A folder of PNG images of one's own: train/ and test/ with classes cat and dog."""
    for number, name in enumerate(("train/cat/b", "train/cat/a", "train/dog/a", "test/cat/a")):
        write_image(folder / f"{name}.png", number, (40, 30))
    write_image(folder / "test" / "dog" / "deeper" / "x.png", 9, (20, 33))
    return folder
