"""The one way in and out of files: strict reading of HDF5, all-or-nothing writing.

Plain h5py follows links out of a file and believes any declared size. Everything this toolkit
reads goes through `open_strict`, which accepts only what the toolkit itself writes.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# A deflated block can't shrink by more than about 1032x, so a larger ratio between declared and
# stored size is a forged shape; a few rows may be declared before they are written.
_LARGEST_RATIO = 1100
_ALWAYS_ALLOWED_BYTES = 1 << 19
_LARGEST_ARRAY = 1 << 40  # sparse files do declare it and have it
_LARGEST_CHUNK = 1 << 24  # read whole, however few of its numbers are asked for
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_LARGEST_TREE = 20_000
_ATTEMPTS = 24  # with pauses of 16 ms in all
SPARE_BYTES = 1 << 20
"""Kept free on the disk, so that a run can still be ended when its data no longer fit."""
_DAMAGED = (OSError, KeyError, RuntimeError, MemoryError)


class RunFileError(ValueError):
    """A file of a run or a result is missing, damaged or not what it claims to be."""


def _check_dataset(path: Path, name: str, item: h5py.Dataset, unread_text: bool) -> None:
    def refuse(reason: str) -> RunFileError:
        return RunFileError(f"{path}: data set {name!r} {reason}; refusing to read the file")

    if unread_text and item.dtype.kind == "O" and h5py.check_string_dtype(item.dtype):
        return
    if item.dtype.kind not in "biufcS" or item.shape is None:
        raise refuse(f"must hold numbers or fixed-length text, got {item.dtype} {item.shape}")
    if item.is_virtual:
        raise refuse("is virtual: it would be read from another file")
    if item.external:
        raise refuse("has external storage: it would be read from another file")
    plist = item.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        if plist.get_filter(index)[0] not in _FILTERS:
            raise refuse(f"uses filter {plist.get_filter(index)[0]}, which is not allowed")
    chunk = math.prod(item.chunks or (0,)) * item.dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        raise refuse(f"has chunks of {chunk} bytes, expected at most {_LARGEST_CHUNK}")
    stored, stop = item.id.get_storage_size(), _end_of(item)
    if max(stored, stop) > (size := path.stat().st_size):  # asked for last: live files grow
        raise refuse(f"has {stored} bytes stored up to {stop}, but the file ends at {size}")
    most = min(max(_ALWAYS_ALLOWED_BYTES, _LARGEST_RATIO * stored), _LARGEST_ARRAY)
    if item.nbytes > most:
        raise refuse(f"declares {item.nbytes} bytes but stores {stored}")


def _end_of(item: h5py.Dataset) -> int:
    """The place in the file where a data set's last byte is said to lie."""
    if item.chunks is None:
        return (item.id.get_offset() or 0) + item.id.get_storage_size()
    ends = [0]
    item.id.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))
    return max(ends)


def _check_group(
    path: Path, group: h5py.Group, seen: list[int], unread_text: bool, depth: int = 0
) -> None:
    if depth > 8:
        raise RunFileError(f"{path}: groups nest deeper than 8 levels; refusing to read the file")
    for name in group:
        seen[0] += 1
        if seen[0] > _LARGEST_TREE:
            raise RunFileError(f"{path}: more than {_LARGEST_TREE} objects; refusing to read it")
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise RunFileError(
                f"{path}: {name!r} in {group.name} is a {type(link).__name__}, expected data in "
                "the file itself; refusing to follow it"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_group(path, item, seen, unread_text, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _check_dataset(path, f"{group.name}/{name}".replace("//", "/"), item, unread_text)
        else:
            raise RunFileError(f"{path}: {item.name} is neither group nor data set; refusing")


@contextlib.contextmanager
def open_strict(
    path: str | Path, *, swmr: bool = False, unread_text: bool = False
) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, accepting only plain numeric data stored inside it.

    Args:
        path: The file.
        swmr: Whether a writer may still hold the file (single writer, multiple readers).
        unread_text: Whether text of any length may lie in the file, as in other tools' files. Its
            stored length can't be trusted, so the caller must not read it.

    Raises:
        RunFileError: If the file is missing, is not HDF5, is truncated, links out of itself, has
            external or virtual storage, declares far more than it stores, or uses kinds or
            filters that this toolkit never writes.
    """
    path = Path(path)
    if not path.is_file():
        raise RunFileError(f"{path}: no such file")
    try:
        file = _open_growing(path) if swmr else h5py.File(path, "r")
    except OSError as error:
        raise RunFileError(
            f"{path}: not a readable HDF5 file ({error}); is it truncated?"
        ) from None
    try:
        try:
            _check_group(path, file, [0], unread_text)
        except RunFileError:
            raise
        except (TypeError, ValueError) as error:  # kinds that h5py has no words for
            raise RunFileError(f"{path}: holds what can't be read ({error})") from None
        yield file
    except _DAMAGED as error:
        raise RunFileError(f"{path}: damaged or incomplete ({error})") from error
    finally:
        file.close()


def _open_growing(path: Path) -> h5py.File:
    """Open for SWMR reading with few attempts at a block that doesn't fit its checksum.

    HDF5 makes a hundred, pausing twice as long after each: a damaged file would hold us for ever.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    library = ctypes.CDLL(h5py.h5p.__file__)  # h5py has no call for it
    library.H5Pset_metadata_read_attempts(ctypes.c_int64(access.id), ctypes.c_uint(_ATTEMPTS))
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, access))


def require_array(file: h5py.File, name: str, dtype: type, *shape: int | None) -> h5py.Dataset:
    """Return a data set of an open file, not yet read; a size of None may be any.

    Raises:
        RunFileError: If it is missing, or of another kind or shape.
    """
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        raise RunFileError(f"{file.filename}: lacks the data set {name!r}")
    sides = [
        None if wanted is None else side for side, wanted in zip(item.shape, shape, strict=False)
    ]
    if item.dtype != dtype or len(item.shape) != len(shape) or sides != list(shape):
        expected = ", ".join("any" if side is None else str(side) for side in shape)
        raise RunFileError(
            f"{file.filename}: {name!r} must be {np.dtype(dtype)} [{expected}], got {item.dtype} "
            f"{list(item.shape)}; is the file from another model?"
        )
    return item


def read_arrays(file: h5py.File, group: str = "/") -> dict[str, np.ndarray]:
    """Read all data sets that lie directly in a group.

    Raises:
        RunFileError: If there is no such group.
    """
    items = file.get(group)
    if not isinstance(items, h5py.Group):
        raise RunFileError(f"{file.filename}: lacks the group {group!r}")
    found = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
    return {name: np.asarray(item[()]) for name, item in found.items()}


def require_space(folder: Path, size: int) -> None:
    """Refuse to write `size` bytes where they don't fit; HDF5 itself crashes on a full disk.

    Raises:
        OSError: If less than `size` and a mebibyte are free. File systems that don't tell pass.
    """
    usage = shutil.disk_usage(folder)
    if usage.total and usage.free < size + SPARE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: writing needs {(size + SPARE_BYTES) / 1e6:.1f} MB, "
            f"{usage.free / 1e6:.1f} MB are free; free some",
            str(folder),
        )


def write_arrays(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write an HDF5 file of arrays, with checksums, and a JSON header, whole or not at all."""
    require_space(path.parent, sum(array.nbytes for array in arrays.values()))
    text = np.frombuffer(json.dumps(plain(header), sort_keys=True).encode(), np.uint8)
    with (
        write_whole(path) as temporary,
        h5py.File(temporary, "w", libver=("v110", "v110")) as file,
    ):
        for name, array in {"header": text, **arrays}.items():
            checked = {"fletcher32": True} if array.size and array.ndim else {}
            file.create_dataset(name, data=array, **checked)


def digest_of(value: Any, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of a JSON-able value and of arrays by name: their kinds, shapes and bytes."""
    total = hashlib.sha256(canonical(value))
    for name in sorted(arrays):
        array = arrays[name]
        total.update(canonical([name, str(array.dtype), list(array.shape)]))
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


@contextlib.contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well, else vanishes."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of whole files; nobody may be writing in the folder."""
    for path in folder.glob(".*.tmp"):
        if path.is_file():
            path.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys."""
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(plain(value), indent=1, sort_keys=True) + "\n")


def plain(value: Any) -> Any:
    """Turn numpy scalars and arrays, tuples and paths into what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value


def canonical(value: Any) -> bytes:
    """JSON bytes that depend on the value alone, for hashes."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":")).encode()


def short_hash(value: Any, length: int = 12) -> str:
    """The first hexadecimal digits of the SHA-256 of a JSON-able value."""
    return hashlib.sha256(canonical(value)).hexdigest()[:length]
