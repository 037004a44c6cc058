"""Directions read from files: one's own vectors, and those of older tools."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from landscape.layouts import Layout
from landscape.spans import Direction
from landscape.storage import RunFileError, digest_of, open_strict, read_arrays

_FLAT = ("direction_1", "direction_2")
_GROUPS = ("xdirection", "ydirection")
_LARGEST_ITEM = 16  # bytes of a number, at most


def read_directions(path: str | Path, layout: Layout) -> list[Direction]:
    """Read one or two directions [param] in the layout of theta; nothing is unpickled.

    By the ending of the file:

    - `.safetensors` and `.npz`: one tensor per parameter, under its name, for one direction; or
      flat vectors "direction_1" and, for two, "direction_2".
    - `.npy`: [param], or [1 or 2, param].
    - `.h5`: directions of tomgoldstein/loss-landscape, groups "xdirection" and "ydirection" with
      data sets "0", "1", ... in the order of `parameters()`.

    Args:
        path: The file.
        layout: The layout that the directions must have.

    Raises:
        RunFileError: If the file is missing, damaged, of another kind, or of another model.
    """
    path = Path(path)
    if not path.is_file():
        raise RunFileError(f"{path}: no such file")
    if path.suffix not in _READERS:
        raise RunFileError(
            f"{path}: directions must be in a file of {', '.join(_READERS)}, got {path.suffix!r}"
        )
    rows = _READERS[path.suffix](path, layout)
    for row in rows:
        if not np.isfinite(row).all() or not row.any():
            what = "NaN or infinity" if not np.isfinite(row).all() else "zero"
            raise RunFileError(f"{path}: a direction must be finite and not zero, got {what}")
    labels = [path.stem] if len(rows) == 1 else [f"{path.stem} {i + 1}" for i in range(len(rows))]
    facts = {
        "direction": "given",
        "file": path.name,
        "digest": digest_of("directions", {str(i): row for i, row in enumerate(rows)})[:12],
    }
    return [
        Direction(name="given", label=label, vector=torch.from_numpy(row), facts=facts)
        for label, row in zip(labels, rows, strict=True)
    ]


def _read_safetensors(path: Path, layout: Layout) -> list[np.ndarray]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        arrays = {  # numpy has no bfloat16
            name: (tensor.double() if tensor.is_floating_point() else tensor).numpy()
            for name, tensor in tensors.items()
        }
        return _from_names(path, arrays, layout)
    except (SafetensorError, OSError) as error:
        raise RunFileError(f"{path}: not a readable safetensors file ({error})") from None


def _read_npz(path: Path, layout: Layout) -> list[np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(item.file_size for item in archive.infolist())
        most = 2 * layout.size * _LARGEST_ITEM + (1 << 16) * (len(layout) + 2)
        if declared > most:
            raise RunFileError(
                f"{path}: declares {declared} bytes, two directions of {layout.size} parameters "
                f"have at most {most}; is it from another model?"
            )
        with np.load(path, allow_pickle=False) as file:
            return _from_names(path, {name: file[name] for name in file.files}, layout)
    except RunFileError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise RunFileError(f"{path}: not a readable archive of arrays ({error})") from None


def _read_npy(path: Path, layout: Layout) -> list[np.ndarray]:
    try:
        rows = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise RunFileError(f"{path}: not a readable array ({error})") from None
    rows = np.atleast_2d(rows)
    if rows.ndim != 2 or len(rows) not in (1, 2):
        raise RunFileError(
            f"{path}: directions must be [{layout.size}] or [2, {layout.size}], got shape "
            f"{rows.shape}"
        )
    return [_flat(path, "a row", row, layout) for row in rows]


def _read_h5(path: Path, layout: Layout) -> list[np.ndarray]:
    with open_strict(path) as file:
        groups = [name for name in _GROUPS if name in file]
        if "xdirection" not in groups:
            raise RunFileError(
                f"{path}: directions of tomgoldstein/loss-landscape lie in the group 'xdirection', "
                f"got {', '.join(file) or 'nothing'}; a surface is drawn with `landscape import`"
            )
        return [_from_order(path, name, read_arrays(file, name), layout) for name in groups]


def _from_order(
    path: Path, group: str, arrays: Mapping[str, np.ndarray], layout: Layout
) -> np.ndarray:
    """One direction of data sets "0", "1", ... in the order of the layout's tensors."""
    if arrays.keys() != {str(i) for i in range(len(layout))}:
        raise RunFileError(
            f"{path}: {group!r} must have {len(layout)} data sets '0', '1', ..., one for each "
            f"trainable tensor, got {len(arrays)}; directions of states (dir_type='states') hold "
            "statistics of BatchNorm too: make them with dir_type='weights'"
        )
    named = {entry.name: arrays[str(i)] for i, entry in enumerate(layout)}
    return _from_tensors(path, named, layout)


def _from_names(path: Path, arrays: Mapping[str, Any], layout: Layout) -> list[np.ndarray]:
    names = {entry.name for entry in layout}
    if arrays.keys() == names:
        return [_from_tensors(path, arrays, layout)]
    if arrays.keys() in ({_FLAT[0]}, set(_FLAT)):
        return [_flat(path, repr(name), arrays[name], layout) for name in sorted(arrays)]
    wrong = sorted(arrays.keys() ^ names)
    raise RunFileError(
        f"{path}: directions must be one tensor for each of the {len(layout)} trainable "
        f"parameters, under its name (zeros where it stands still), or flat vectors "
        f"{_FLAT[0]!r} and {_FLAT[1]!r}, got a difference in {', '.join(wrong[:4])}"
    )


def _from_tensors(path: Path, arrays: Mapping[str, Any], layout: Layout) -> np.ndarray:
    row = np.empty(layout.size)
    for entry in layout:
        array = _numbers(path, repr(entry.name), arrays[entry.name])
        if array.shape != entry.shape:
            raise RunFileError(
                f"{path}: {entry.name!r} must have shape {list(entry.shape)}, got "
                f"{list(array.shape)}; is it of another model?"
            )
        row[entry.slice] = array.reshape(-1)
    return row


def _flat(path: Path, name: str, array: Any, layout: Layout) -> np.ndarray:
    array = _numbers(path, name, array)
    if array.shape != (layout.size,):
        raise RunFileError(
            f"{path}: {name} must have the layout of theta, [{layout.size}], got "
            f"{list(array.shape)}; is it of another model?"
        )
    return array.astype(float)


def _numbers(path: Path, name: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "fiu":
        raise RunFileError(f"{path}: {name} must hold real numbers, got {array.dtype}")
    return array


_READERS: dict[str, Callable[[Path, Layout], list[np.ndarray]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".h5": _read_h5,
}
