"""Old files of other tools as results that plot and export like ours.

Files are known by what they hold, not by their names. What is wrong in them is corrected where
that can be done and said in any case: `facts["imported_from"]["warnings"]`.
"""

import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.foreign_h5 import read_projections, read_surface
from landscape.foreign_npz import read_npz
from landscape.result_files import save_result
from landscape.results import Profile, Surface
from landscape.storage import RunFileError
from landscape.writers import utc_now

Paths = str | Path | Sequence[str | Path]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
_LONGEST_STEM = 120


def read_foreign(path: str | Path, *, projections: Paths | None = None) -> Surface | Profile:
    """Read a surface or a line that another tool measured.

    Read are surfaces, lines and Hessian maps of tomgoldstein/loss-landscape (HDF5), plane.npz of
    dnn-mode-connectivity, and Landscaper's .npz. Values that were never filled are NaN and not
    evaluated, percent become fractions, and `alpha[i]`, `beta[j]` are where `loss[i, j]` was
    measured.

    Args:
        path: The file.
        projections: Checkpoints projected on the plane, by tomgoldstein/loss-landscape: its file
            and, perhaps, the direction file they were projected on.

    Returns:
        The result; `facts["imported_from"]` has format, file, its SHA-256 and warnings in words.

    Raises:
        RunFileError: If a file is missing, damaged, of another kind, or can't be drawn.
        ValueError: If projections are given to something else than a surface.

    Source: Li et al. 2018; Garipov et al. 2018.
    """
    path = Path(path)
    warnings: list[str] = []
    name, cls, fields = _reader(path)(path, warnings)
    _check_axes(path, fields)
    facts = {"plane": "given", **fields.pop("facts")}
    if projections is not None:
        if cls is not Surface:
            raise ValueError(f"projections need a surface, got a line: {path}; leave them out")
        path_fields = read_projections(_listed(projections), warnings)
        facts |= path_fields.pop("facts")
        fields |= path_fields
        if "variance" in facts:
            fields["axis_labels"] = ("PC 1", "PC 2")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    facts["imported_from"] = {
        "format": name,
        "file": path.name,
        "sha256": sha256,
        "warnings": warnings,
    }
    return cls(**fields, facts=facts, provenance={"created": utc_now()})


def import_file(
    path: str | Path, out: str | Path | None = None, projections: Paths | None = None
) -> Path:
    """Save another tool's file as a result that figures, exports and the dashboard read.

    Args:
        path: The file.
        out: The new file, which ends in .h5, or its folder. By default it lies beside the old
            one, as KIND-NAME.h5.
        projections: As for `read_foreign`.

    Returns:
        The new file.

    Raises:
        FileExistsError: If it is there already.
        RunFileError: If a file is missing, damaged, or of another kind.
        ValueError: If projections are given to something else than a surface.
    """
    return _import(Path(path), out, projections)[0]


def import_files(
    paths: Sequence[str | Path],
    out: str | Path | None = None,
    projections: Paths | None = None,
) -> Iterator[str]:
    """Import files one after the other and tell of each what it is and what is wrong with it.

    Args:
        paths: The files.
        out: As for `import_file`; a folder where there are several files.
        projections: As for `import_file`, for one file only.

    Yields:
        Lines to print, one text per file.

    Raises:
        ValueError: If several files would become one, or share projections.
        FileExistsError: If a new file is there already.
        RunFileError: If a file is missing, damaged, or of another kind.
    """
    if not paths:
        raise ValueError("expected files to import, got none; for example: plane.npz")
    if len(paths) > 1 and out is not None and Path(out).suffix == ".h5":
        raise ValueError(f"several files need a folder to go to, got the file {out}")
    if len(paths) > 1 and projections is not None:
        raise ValueError("projections belong to one surface; import the files one by one")
    for path in paths:
        yield _report(*_import(Path(path), out, projections))


def _import(
    path: Path, out: str | Path | None, projections: Paths | None
) -> tuple[Path, Surface | Profile]:
    result = read_foreign(path, projections=projections)
    # a name of one word: the dashboard takes what follows the last "-" for the result's key
    stem = re.sub(r"[^\w.=]+", "_", path.stem, flags=re.ASCII).strip("_")[-_LONGEST_STEM:]
    target = Path(out) if out is not None else path.parent
    if target.suffix != ".h5" or target.is_dir():
        target = target / f"{result.kind}-{stem}.h5"
    return save_result(result, target), result


def _report(target: Path, result: Surface | Profile) -> str:
    """What came out of an import, in words."""
    origin = result.facts["imported_from"]
    points = " × ".join(
        str(side) for side in result.loss.shape[-(1 + (result.kind == "surface")) :]
    )
    what = f"{target}: {result.kind} of {points} points from {origin['file']} ({origin['format']})"
    notes = [f"  - {warning}" for warning in origin["warnings"]]
    return "\n".join([what, *notes, f"next: landscape figure {shlex.quote(str(target))}"])


def _check_axes(path: Path, fields: dict[str, Any]) -> None:
    for name in {"alpha", "beta"} & fields.keys():
        axis = fields[name]
        if len(axis) < 2 or not np.isfinite(axis).all() or not (np.diff(axis) > 0).all():
            raise RunFileError(
                f"{path}: coordinates must be at least 2 different finite numbers in rising order, "
                f"got {len(axis)} along {name}: {axis[:4]}"
            )


def _listed(projections: Paths) -> list[Path]:
    if isinstance(projections, str | Path):
        return [Path(projections)]
    if not projections:
        raise ValueError("projections must be a file or several, got none")
    return [Path(path) for path in projections]


def _reader(path: Path) -> Any:
    """What reads a file, by its first bytes."""
    if not path.is_file():
        raise RunFileError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return read_surface
    if start.startswith(_ZIP):
        return read_npz
    raise RunFileError(
        f"{path}: expected an HDF5 file or an .npz archive, got neither; read are surfaces of "
        "tomgoldstein/loss-landscape, dnn-mode-connectivity and Landscaper, and weights of a model "
        "with --problem module:function"
    )
