"""Surfaces and projections in the HDF5 files of tomgoldstein/loss-landscape."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from landscape.results import Profile, Surface
from landscape.storage import RunFileError, open_strict

SURFACE = "tomgoldstein/loss-landscape surface"
_MOST_POINTS = 1 << 24
_UNFILLED = -1.0
_PARALLEL = 1 - 1e-6


def read_surface(path: Path, warnings: list[str]) -> tuple[str, type, dict[str, Any]]:
    """Read a surface, a line or a Hessian map.

    Args:
        path: The file.
        warnings: Gains what a reader of the surface has to know.

    Returns:
        Name of the format, `Surface` or `Profile`, and its fields.

    Raises:
        RunFileError: If it is another kind of file, or damaged.
    """
    with open_strict(path, unread_text=True) as file:
        _require_surface(path, file)
        names = ["xcoordinates", "ycoordinates"][: 2 if "ycoordinates" in file else 1]
        axes = [_numbers(file, name, 1) for name in names]
        found = {
            name: _on_grid(_numbers(file, name, len(axes)), axes, path, name)
            for name in ("train_loss", "train_acc", "test_loss", "test_acc", "max_eig", "min_eig")
            if name in file
        }
    axes, found = _ascending(axes, found)
    values = _losses(path, found, warnings) | _eigenvalues(found, warnings)
    if len({len(axis) for axis in axes}) == 2:
        warnings.append(
            f"the arrays are declared {len(axes[0])} × {len(axes[1])} but were filled row by row "
            "of y; read that way, so pictures made with the declared shape differ from this one"
        )
    facts = _facts(path, found, warnings)
    if len(axes) == 1:
        fields = {name: value[None] for name, value in values.items()}
        return SURFACE, Profile, {"alpha": axes[0], **fields, "facts": facts}
    return SURFACE, Surface, {"alpha": axes[0], "beta": axes[1], **values, "facts": facts}


def _require_surface(path: Path, file: h5py.File) -> None:
    """Refuse what is no surface, saying what it is and what to do with it."""
    if "xcoordinates" in file:
        return
    if "header" in file:
        what = "a result of this toolkit: `landscape figure` draws it as it is"
    elif _has_directions(file):
        what = (
            "directions, without losses: measure on them with `landscape surface RUN --plane FILE`"
        )
    elif "proj_xcoord" in file:
        what = "a projected path: give it as `projections` beside the surface it belongs to"
    else:
        what = f"{', '.join(sorted(file)[:12]) or 'nothing'}"
    raise RunFileError(
        f"{path}: expected a surface of tomgoldstein/loss-landscape (xcoordinates, train_loss, "
        f"...), got {what}"
    )


def _has_directions(file: h5py.File) -> bool:
    return isinstance(file.get("xdirection"), h5py.Group)


def _numbers(file: h5py.File, name: str, dimensions: int) -> np.ndarray:
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        raise RunFileError(f"{file.filename}: lacks the data set {name!r}")
    size = math.prod(item.shape or ())
    if item.dtype.kind not in "biuf" or len(item.shape or ()) != dimensions or size > _MOST_POINTS:
        raise RunFileError(
            f"{file.filename}: {name!r} must be numbers with {dimensions} axes and at most "
            f"{_MOST_POINTS} values, got {item.dtype} {list(item.shape)}"
        )
    return np.asarray(item[()], np.float64)


def _on_grid(values: np.ndarray, axes: list[np.ndarray], path: Path, name: str) -> np.ndarray:
    """Values as [x, y]: declared (nx, ny), but filled in the order of a meshgrid, (ny, nx)."""
    sides = [len(axis) for axis in axes]
    if sorted(values.shape) != sorted(sides):
        raise RunFileError(
            f"{path}: {name!r} must be {sides} as the coordinates say, got {list(values.shape)}"
        )
    return values.ravel().reshape(sides[::-1]).T


def _ascending(
    axes: list[np.ndarray], found: dict[str, np.ndarray]
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Coordinates in rising order, and the values with them."""
    orders = [np.argsort(axis, kind="stable") for axis in axes]
    rising = [axis[order] for axis, order in zip(axes, orders, strict=True)]
    return rising, {name: values[np.ix_(*orders)] for name, values in found.items()}


def _losses(path: Path, found: dict[str, np.ndarray], warnings: list[str]) -> dict[str, Any]:
    """Loss and accuracy of both sets; NaN and not evaluated where they were never filled."""
    if not found:
        raise RunFileError(
            f"{path}: the surface was set up but holds neither losses nor eigenvalues; nothing was "
            "evaluated"
        )
    first = "train" if "train_loss" in found or "test_loss" not in found else "test"
    loss, accuracy, evaluated = _split(first, found, warnings)
    values = {"loss": loss, "accuracy": accuracy, "evaluated": evaluated}
    if first == "test":
        warnings.append("the file holds no training loss: the loss shown is the test set's")
    elif "train_loss" not in found:
        warnings.append("the file holds eigenvalues and no loss")
    elif "test_loss" in found:
        values["test_loss"], values["test_accuracy"], _ = _split("test", found, warnings)
    missing = int((~evaluated).sum())
    if missing and f"{first}_loss" in found:
        warnings.append(f"{missing} of {evaluated.size} points were never filled: not evaluated")
    return values


def _split(
    which: str, found: dict[str, np.ndarray], warnings: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss, accuracy as a fraction, and which points were filled, of the train or test set."""
    shape = next(iter(found.values())).shape
    loss = found.get(f"{which}_loss", np.full(shape, _UNFILLED))
    percent = found.get(f"{which}_acc", np.full(shape, _UNFILLED))
    unfilled = (loss == _UNFILLED) & (percent == _UNFILLED)
    if unfilled.any() and f"{which}_loss" in found and f"{which}_acc" not in found:
        warnings.append(
            f"without {which}_acc, a {which} loss of exactly -1 can't be told from a point that "
            "was never filled: taken as never filled"
        )
    percent = np.where(percent == _UNFILLED, np.nan, percent)
    known = percent[np.isfinite(percent)]
    if known.size and (known.min() < 0 or known.max() > 100):
        warnings.append(f"{which}_acc holds values outside 0 to 100 %: left out")
        percent = np.full(shape, np.nan)
    elif known.size and 0 < known.max() <= 1:
        warnings.append(
            f"{which}_acc is nowhere over 1 and was read as percent, as this format has it; if it "
            "holds fractions, accuracies here are 100 times too small"
        )
    return np.where(unfilled, np.nan, loss), percent / 100, ~unfilled


def _eigenvalues(found: dict[str, np.ndarray], warnings: list[str]) -> dict[str, Any]:
    """Extreme eigenvalues; unfilled is a largest of -1 with a smallest of +1, which can't be."""
    if "max_eig" not in found:
        return {}
    largest = found["max_eig"]
    smallest = found.get("min_eig")
    unfilled = largest == _UNFILLED
    if smallest is not None:
        unfilled &= smallest == -_UNFILLED
    if unfilled.all():
        return {}
    warnings.append(
        "the eigenvalues are sums over the batches: as many times too large as there were batches, "
        "which the file does not tell (their ratio is right); without biases and norm parameters, "
        "to a relative tolerance of 0.01"
    )
    values = {"lambda_max": np.where(unfilled, np.nan, largest)}
    if smallest is not None:
        values["lambda_min"] = np.where(unfilled, np.nan, smallest)
    return values


def _facts(path: Path, found: dict[str, np.ndarray], warnings: list[str]) -> dict[str, Any]:
    """What the file's name says, as the tool makes it, of normalization and batch norm."""
    sets = {"train_loss": "training set", "test_loss": "test set"}
    which = [f"{text} (unnamed)" for name, text in sets.items() if name in found]
    facts: dict[str, Any] = {"data": which[0] if which else "unnamed data"}
    name = path.name
    if path.parent.name.startswith("PCA_") and not re.search(r"_(weights|states)[_.]", name):
        name = f"{path.parent.name}.{name}"
    moved = re.findall(r"_(weights|states)(?=[_.])", name)
    if moved:
        facts["bn"] = "frozen" if moved[-1] == "weights" else "interpolated"
    normal = re.findall(r"_[xy]norm=(filter|layer|weight)(?=[_.])", name)
    if normal:
        facts["normalization"] = " and ".join(dict.fromkeys(normal))
    if re.search(r"ignore=biasbn(?=[_.])", name):
        facts["ignore"] = ["bias", "norm"]
    if facts.keys() - {"data"}:
        warnings.append(
            "batch norm, normalization and ignored parameters are taken from the file's name"
        )
    return facts


def read_projections(paths: Sequence[Path], warnings: list[str]) -> dict[str, Any]:
    """Read a projected path, in the surface's own coordinates where its directions are known.

    Args:
        paths: The projections and, perhaps, the direction file they belong to; one that lies
            beside them under the name that the tool gives is found.
        warnings: Gains what a reader of the path has to know.

    Returns:
        Fields of a `Surface`, and `facts`.

    Raises:
        RunFileError: If there are no projections in the files, or they are damaged.
    """
    projections, directions, position = _sorted_out(paths)
    facts: dict[str, Any] = {}
    if directions is not None:
        position, facts = _rescaled(position, projections, directions, warnings)
    else:
        warnings.append(
            "the path's coordinates are Euclidean lengths, the surface's are multiples of its "
            "directions: they agree if the directions are orthonormal, as PCA's; give the "
            "direction file too to have them converted"
        )
    warnings.append(
        f"the {len(position)} projected checkpoints are numbered in the order of the file; their "
        "steps, their loss and their distance to the plane are not in it"
    )
    if not np.allclose(position[-1], 0, atol=1e-3 * np.abs(position).max()):
        warnings.append(
            f"the path ends at ({position[-1][0]:.4g}, {position[-1][1]:.4g}), not at 0: its last "
            "checkpoint is not the weights that coordinates are relative to"
        )
    unknown = np.full(len(position), np.nan)
    return {
        "path_step": np.arange(len(position)),
        "path_position": position,
        "path_off_plane": unknown,
        "path_loss": unknown,
        "facts": facts,
    }


def _sorted_out(paths: Sequence[Path]) -> tuple[Path, Path | None, np.ndarray]:
    """The projections, the direction file if there is one, and the positions [c, 2]."""
    projections, directions, position = None, None, np.empty((0, 2))
    for path in paths:
        with open_strict(path, unread_text=True) as file:
            if "proj_xcoord" in file:
                axes = [_numbers(file, f"proj_{axis}coord", 1) for axis in "xy"]
                if len({len(axis) for axis in axes}) > 1 or not np.isfinite(axes).all():
                    raise RunFileError(
                        f"{path}: proj_xcoord and proj_ycoord must be finite and of equal length"
                    )
                projections, position = path, np.stack(axes, axis=1)
            elif _has_directions(file):
                directions = path
            else:
                raise RunFileError(
                    f"{path}: expected projections (proj_xcoord, proj_ycoord) or directions "
                    f"(xdirection, ydirection), got {', '.join(sorted(file)[:12]) or 'nothing'}"
                )
    if projections is None or not len(position):
        raise RunFileError(
            f"{paths[0]}: holds no projected path; that lies in the file whose name ends in "
            "_proj_cos.h5"
        )
    beside = projections.with_name(re.sub(r"_proj_\w+\.h5$", "", projections.name))
    if directions is None and beside != projections and beside.is_file():
        directions = beside
    return projections, directions, position


def _rescaled(
    position: np.ndarray, projections: Path, directions: Path, warnings: list[str]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Positions in multiples of the directions [c, 2], and what their file says of the variance.

    The tool stores ⟨w, d⟩ / ‖d‖ for each direction d; coordinates c on the plane solve G c = ⟨w, d⟩
    with G the directions' inner products.
    """
    facts: dict[str, Any] = {}
    with open_strict(directions, unread_text=True) as file:
        gram = _gram(file)
        if "explained_variance_ratio_" in file:
            facts["variance"] = _numbers(file, "explained_variance_ratio_", 1)[:2].tolist()
            warnings.append(
                "the directions are principal components about the path's mean, coordinates are "
                "relative to the last weights: the share of variance is about the mean"
            )
    lengths = np.sqrt(np.diag(gram))
    if abs(gram[0, 1]) >= _PARALLEL * lengths.prod():
        warnings.append("the two directions are parallel or zero: the path was left as stored")
    elif np.allclose(gram, np.eye(2), atol=1e-3):
        facts["unit"] = "weight distance"
    elif "_proj_lstsq" not in projections.name:
        position = np.linalg.solve(gram, (position * lengths).T).T
        warnings.append(
            f"the directions are {lengths[0]:.4g} and {lengths[1]:.4g} long at a cosine of "
            f"{gram[0, 1] / lengths.prod():.3f}: the path's coordinates, stored as lengths along "
            "each, were converted to the surface's"
        )
    return position, facts


def _gram(file: h5py.File) -> np.ndarray:
    """Inner products of the two directions [2, 2], a tensor at a time."""
    x, y = (file.get(name) for name in ("xdirection", "ydirection"))
    if not isinstance(x, h5py.Group) or not isinstance(y, h5py.Group) or set(x) != set(y):
        raise RunFileError(
            f"{file.filename}: expected two directions of the same tensors, xdirection and "
            "ydirection"
        )
    gram = np.zeros((2, 2))
    for name in x:
        pair = [item for item in (x[name], y[name]) if isinstance(item, h5py.Dataset)]
        shapes = {item.shape for item in pair if item.dtype.kind in "biuf"}
        if len(pair) < 2 or len(shapes) != 1 or any(item.dtype.kind not in "biuf" for item in pair):
            raise RunFileError(
                f"{file.filename}: tensor {name!r} must be numbers of one shape in both directions"
            )
        if shapes != {()}:  # the tool leaves counters out
            rows = np.stack([np.asarray(item[()], np.float64).ravel() for item in pair])
            gram += rows @ rows.T
    return gram
