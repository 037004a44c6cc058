"""Surfaces in NumPy archives: dnn-mode-connectivity's plane.npz and Landscaper's .npz.

An archive is read without trusting it: nothing is unpickled, and an array is only made once its
declared shape is known to fit what the file stores.
"""

import contextlib
import math
import warnings as python_warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from landscape.results import Profile, Surface
from landscape.storage import RunFileError

_LARGEST_ARRAY = 1 << 27
_LARGEST_RATIO = 1100  # deflate shrinks no further
_DAMAGED = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    MemoryError,
    RecursionError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

PLANE, LANDSCAPER = "dnn-mode-connectivity plane", "Landscaper"


def read_npz(path: Path, warnings: list[str]) -> tuple[str, type, dict[str, Any]]:
    """Read a surface from an archive of either kind.

    Args:
        path: The archive.
        warnings: Gains what a reader of the surface has to know.

    Returns:
        Name of the format, `Surface` or `Profile`, and its fields; facts hold what the format
        says of every file.

    Raises:
        RunFileError: If it is neither, damaged, or holds objects that would have to be unpickled.
    """
    with _told(path):
        names = names_of(path)
        if {"grid", "alphas", "betas"} <= names:
            return PLANE, Surface, _plane(path, names, warnings)
        if {"loss", "coordinates"} <= names:
            cls, fields = _landscaper(path, warnings)
            return LANDSCAPER, cls, fields
    listed = ", ".join(sorted(names)[:12]) or "no arrays"
    if {"ts", "tr_nll"} <= names:
        listed = "a curve of dnn-mode-connectivity (curve.npz), not a plane"
    raise RunFileError(
        f"{path}: expected dnn-mode-connectivity's plane.npz (grid, alphas, betas, tr_nll, ...) or "
        f"Landscaper's (loss, coordinates), got {listed}; weights of a model need --problem"
    )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into one error that names it."""
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # of NumPy about files of Python 2
            yield
    except RunFileError:
        raise
    except _DAMAGED as error:
        raise RunFileError(f"{path}: not a whole .npz archive ({error})") from None


def names_of(path: Path) -> set[str]:
    """Names of the arrays in an archive."""
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    return {name.removesuffix(".npy") for name in members if name.endswith(".npy")}


def read_array(path: Path, name: str) -> np.ndarray:
    """Read one array of numbers as float64, its header first.

    Raises:
        RunFileError: If it is missing, no numbers, or of another size than it declares.
    """

    def refuse(reason: str) -> RunFileError:
        return RunFileError(f"{path}: array {name!r} {reason}; refusing to read it")

    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise RunFileError(f"{path}: lacks the array {name!r}")
        info = archive.getinfo(f"{name}.npy")
        if info.file_size > min(_LARGEST_ARRAY, _LARGEST_RATIO * (info.compress_size + 64)):
            raise refuse(f"declares {info.file_size} bytes but stores {info.compress_size}")
        with archive.open(info) as stream:
            version = npy.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise refuse(f"is of .npy version {version}, expected 1.0 or 2.0")
            read_header = (
                npy.read_array_header_1_0 if version == (1, 0) else (npy.read_array_header_2_0)
            )
            shape, fortran, dtype = read_header(stream)
            if dtype.hasobject:
                raise refuse("holds Python objects, which would have to be unpickled")
            if dtype.kind not in "biuf" or dtype.subdtype is not None:
                raise refuse(f"must hold numbers, got {dtype}")
            size = math.prod(shape) * dtype.itemsize
            if min(shape, default=0) < 0 or size != info.file_size - stream.tell():
                raise refuse(f"declares {size} bytes of shape {shape}, and does not store them")
            data = stream.read()
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(np.float64)


def _read_shaped(path: Path, name: str, *shape: int | None) -> np.ndarray:
    array = read_array(path, name)
    sides = [None if want is None else side for side, want in zip(array.shape, shape, strict=False)]
    if array.ndim != len(shape) or sides != list(shape):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise RunFileError(f"{path}: {name!r} must be [{wanted}], got {list(array.shape)}")
    return array


def _plane(path: Path, names: set[str], warnings: list[str]) -> dict[str, Any]:
    """Source: Garipov et al. 2018; values at grid[i, j] = (alpha_i ‖u‖, beta_j ‖v‖)."""
    grid = _read_shaped(path, "grid", None, None, 2)
    shape = grid.shape[:2]
    if not grid.size:
        raise RunFileError(f"{path}: the grid is empty; plane.py did not end")
    alpha, beta = grid[:, 0, 0], grid[0, :, 1]
    _read_shaped(path, "alphas", shape[0])
    _read_shaped(path, "betas", shape[1])
    square = np.stack(np.meshgrid(alpha, beta, indexing="ij"), axis=-1)
    if not np.allclose(grid, square, rtol=1e-6, atol=1e-9 * np.abs(grid).max()):
        raise RunFileError(
            f"{path}: grid[i, j] must be (alpha i, beta j) times two lengths, got points that form "
            "no such grid; is it transposed?"
        )
    values = {
        ours: _read_shaped(path, name, *shape) * scale
        for ours, name, scale in (
            ("loss", "tr_nll", 1.0),
            ("accuracy", "tr_acc", 0.01),
            ("test_loss", "te_nll", 1.0),
            ("test_accuracy", "te_acc", 0.01),
        )
        if name in names or ours in ("loss", "accuracy")
    }
    bends = _read_shaped(path, "bend_coordinates", None, 2)
    warnings += [
        "the loss is tr_nll, the mean cross-entropy; tr_loss and te_loss add half the weight decay "
        "times the sum of the tensors' norms (not of their squares), and are left out",
        "the training numbers are of images as augmented for training: another pass would give "
        "slightly other ones",
    ]
    if "te_nll" in names:
        warnings.append(
            'its "test" set is the last 5000 training images unless plane.py ran with --use_test'
        )
    return {
        "alpha": alpha,
        "beta": beta,
        **values,
        "evaluated": np.ones(shape, bool),
        "axis_labels": ("along the end points", "toward the bend"),
        "mark_position": bends,
        "mark_labels": _bend_labels(len(bends)),
        **_curve(path, names, len(bends), warnings),
        "facts": {
            "unit": "weight distance",
            "bn": "recomputed",
            "loss": "cross-entropy",
            "data": "augmented training set (unnamed)",
        },
    }


def _bend_labels(size: int) -> tuple[str, ...]:
    if size < 2:
        return ("start",) * size
    inner = ["bend"] if size == 3 else [f"bend {number}" for number in range(1, size - 1)]
    return ("start", *inner, "end")


def _curve(path: Path, names: set[str], bends: int, warnings: list[str]) -> dict[str, Any]:
    """The trained curve as the surface's path; with three bends it lies in the plane."""
    if "curve_coordinates" not in names:
        return {}
    position = _read_shaped(path, "curve_coordinates", None, 2)
    warnings.append(
        f"the path is the trained curve at {len(position)} values of t, not a run's checkpoints; "
        "its own loss is not in the file"
    )
    if bends != 3:
        warnings.append(
            f"the plane goes through the first three of {bends} bends: the others and the curve "
            "are drawn where they project to, at an unknown distance"
        )
    return {
        "path_step": np.arange(len(position)),
        "path_position": position,
        "path_off_plane": np.full(len(position), 0.0 if bends == 3 else np.nan),
        "path_loss": np.full(len(position), np.nan),
    }


def _landscaper(path: Path, warnings: list[str]) -> tuple[type, dict[str, Any]]:
    """Landscaper moves by k − steps // 2 steps of 2 · distance / steps times ‖w‖."""
    coordinates = np.atleast_2d(read_array(path, "coordinates"))
    dimensions, steps = coordinates.shape[0], coordinates.shape[-1]
    if dimensions > 2:
        center = ", ".join([":", ":", *[str(steps // 2)] * (dimensions - 2)])
        raise RunFileError(
            f"{path}: a landscape with {dimensions} directions can't be drawn; slice it, here "
            f"through the model itself: np.savez(out, loss=loss[{center}], "
            "coordinates=coordinates[:2])"
        )
    loss = read_array(path, "loss")
    if coordinates.ndim != 2 or loss.shape != (steps,) * dimensions or not coordinates.size:
        raise RunFileError(
            f"{path}: 'loss' must have one axis per row of 'coordinates' [axis, steps], got "
            f"{list(loss.shape)} and {list(coordinates.shape)}"
        )
    axes = [_moved(axis, number, warnings) for number, axis in enumerate(coordinates, 1)]
    evaluated = _never_moved(loss, warnings)
    warnings += [
        "Landscaper replaced NaN by the mean, infinities by the extremes, and added random noise "
        "to every maximum; none of it is marked, so peaks here need not be real",
        "Landscaper scales each tensor of a direction to the root of its size before moving: a "
        "plane asked for along eigenvectors is not that plane",
    ]
    facts = {"data": "unnamed data"}
    values = np.where(evaluated, loss, np.nan)
    if dimensions == 1:
        rows = {"loss": values, "accuracy": np.full(steps, np.nan), "evaluated": evaluated}
        fields: dict[str, Any] = {name: row[None] for name, row in rows.items()}
        return Profile, {
            "alpha": axes[0],
            **fields,
            "axis_label": "direction 1, in ‖w‖",
            "facts": facts,
        }
    return Surface, {
        "alpha": axes[0],
        "beta": axes[1],
        "loss": values,
        "accuracy": np.full(loss.shape, np.nan),
        "evaluated": evaluated,
        "axis_labels": ("direction 1, in ‖w‖", "direction 2, in ‖w‖"),
        "facts": facts,
    }


def _moved(stored: np.ndarray, number: int, warnings: list[str]) -> np.ndarray:
    """Where the weights were, over ‖w‖ [steps], from the coordinates that the file states."""
    steps = len(stored)
    even = np.linspace(-stored[-1], stored[-1], steps)
    if not np.allclose(stored, even, rtol=1e-6, atol=1e-9 * abs(stored[-1])):
        warnings.append(
            f"the coordinates of direction {number} are not evenly spaced about 0, as Landscaper "
            "writes them: taken as they are"
        )
        return stored
    moved = (np.arange(steps) - steps // 2) * (stored[-1] - stored[0]) / steps
    warnings.append(
        f"coordinates of direction {number} corrected: the file says {stored[0]:.4g} to "
        f"{stored[-1]:.4g}, the weights went from {moved[0]:.4g} to {moved[-1]:.4g} of their norm"
    )
    return moved


def _never_moved(loss: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Where the weights were where the file says; early versions never moved below the center."""
    evaluated = np.ones(loss.shape, bool)
    center = loss.shape[0] // 2
    for axis in range(loss.ndim):
        rows = np.moveaxis(loss, axis, 0)
        if (rows[:center] == rows[center]).all() and (rows[center + 1 :] != rows[center]).any():
            np.moveaxis(evaluated, axis, 0)[:center] = False
            warnings.append(
                f"below 0, direction {axis + 1} only repeats the values at 0: this version of "
                "Landscaper never moved there; read as not evaluated"
            )
    return evaluated
