"""The segments of a run, joined at the steps from which it was taken up again."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from landscape.storage import RunFileError, open_strict, require_array

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "accuracy",
    "lr",
    "gradient_norm",
    "displacement_norm",
    "cosine_previous",
    "cosine_gradient",
    "loss_rise",
    "inner_perturbed_gradient",
    "cosine_perturbed_gradient",
    "cosine_lag_10",
    "cosine_lag_100",
    "cosine_mean",
    "effective_samples",
)
"""Columns of steps.h5, one row per update; units and meaning are in docs/schema.md."""

EVALUATIONS = ("step", "test_loss", "test_accuracy")

WINDOWS = ("start", "stop", "count", "resultant_length", "mean_cosine")
"""Columns of the windows between checkpoints."""

TABLES = {
    "steps": COLUMNS,
    "evaluations": EVALUATIONS,
    "windows": WINDOWS,
    "displacements": ("step",),
}
"""Tables of steps.h5 and their columns of single numbers, in float64."""

WIDE = ("sketch", "tensor_norms")
"""What `displacements` also has: several numbers per row, in float32."""


class Segment(NamedTuple):
    """A part of the record: rows with step < stop, checkpoints up to stop."""

    path: Path
    start: float
    """The step it was resumed from; -1 for the first one, infinite before its first row."""
    stop: float
    """The step from which a later segment took up the run again; infinite for the last one."""


def find_segments(run: Path) -> list[Segment]:
    """The segments of a run folder, in order.

    Raises:
        RunFileError: If there is none.
    """
    folders = sorted(path for path in run.glob("segment-*") if path.is_dir())
    if not folders:
        raise RunFileError(f"{run}: the run holds no segment; nothing was recorded")
    found, stop = [], math.inf
    for folder in reversed(folders[1:]):
        first = _committed(folder, "steps", ("step",))["step"][:1]
        start = float(first[0]) if len(first) else math.inf
        found.append(Segment(folder, start, stop))
        stop = min(start, stop)
    return [Segment(folders[0], -1, stop), *reversed(found)]


def read_steps(run: Path) -> dict[str, np.ndarray]:
    """The committed rows of all segments: float64 [step] for each of `COLUMNS`."""
    parts = []
    for segment in find_segments(run):
        rows = _committed(segment.path, "steps", COLUMNS)
        parts.append(_only(rows, rows["step"] < segment.stop))
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def read_evaluations(run: Path) -> dict[str, np.ndarray]:
    """The test evaluations of all segments: float64 [evaluation] for each of `EVALUATIONS`."""
    return _read_up_to(run, "evaluations", "step")


def read_windows(run: Path) -> dict[str, np.ndarray]:
    """The windows between checkpoints of all segments: float64 [window] for each of `WINDOWS`."""
    return _read_up_to(run, "windows", "stop")


def _read_up_to(run: Path, table: str, last: str) -> dict[str, np.ndarray]:
    """Rows that describe what had been done after so many updates, from all segments."""
    parts = []
    for segment in find_segments(run):
        rows = _committed(segment.path, table, TABLES[table])
        inside = (rows[last] > segment.start) & (rows[last] <= segment.stop)
        parts.append(_only(rows, inside))
    return {name: np.concatenate([part[name] for part in parts]) for name in TABLES[table]}


def displacement_rows(run: Path) -> np.ndarray:
    """The steps whose displacement was described: int64 [n]."""
    found = [np.empty(0, np.int64)]
    for segment in find_segments(run):
        steps = _committed(segment.path, "displacements", ("step",))["step"]
        found.append(steps[steps < segment.stop].astype(np.int64))
    return np.concatenate(found)


def read_wide(
    run: Path, column: str, start: int, stop: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """What a column of `WIDE` says at start <= step < stop: steps int64 [n], float32 [n, width].

    Raises:
        RunFileError: If it can't be read.
    """
    steps, parts = [], []
    for segment in find_segments(run):
        last = segment.stop if stop is None else min(stop, segment.stop)
        known = _committed(segment.path, "displacements", ("step",))["step"]
        rows = slice(*np.searchsorted(known, [start, last]))
        path = segment.path / "steps.h5"
        with open_strict(path, swmr=True) as file:
            data = require_array(file, f"displacements/{column}", np.float32, None, None)
            data.refresh()
            part = data[rows]
        if len(part) != rows.stop - rows.start:
            raise RunFileError(f"{path}: displacements/{column} lacks rows that are committed")
        steps.append(known[rows].astype(np.int64))
        parts.append(part)
    return np.concatenate(steps), np.concatenate(parts)


def checkpoint_files(run: Path) -> dict[int, Path]:
    """The files of the checkpoints, by step."""
    files = _snapshots(run, "checkpoint")
    return dict(sorted((step, path) for step, path, stop in files if step <= stop))


def displacement_files(run: Path) -> list[tuple[Path, float]]:
    """The files of displacements in order, each with the step at which its segment stops."""
    return [(path, stop) for _, path, stop in _snapshots(run, "displacements")]


def _snapshots(run: Path, prefix: str) -> list[tuple[int, Path, float]]:
    found: list[tuple[int, Path, float]] = []
    for segment in find_segments(run):
        for path in sorted((segment.path / "snapshots").glob(f"{prefix}-*.h5")):
            number = path.stem.removeprefix(f"{prefix}-")
            if number.isdecimal():
                found.append((int(number), path, segment.stop))
    return found


def _only(rows: dict[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[kept] for name, column in rows.items()}


def _committed(segment: Path, group: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The committed rows of one segment, whether its writer lives, has ended or was killed."""
    path = segment / "steps.h5"
    with open_strict(path, swmr=True) as file:
        count = int(require_array(file, f"{group}/committed", np.int64, 1)[0])
        rows = {}
        for name in names:
            column = require_array(file, f"{group}/{name}", np.float64, None)
            column.refresh()  # a live writer may have made it longer since the file was opened
            rows[name] = column[:count]
            if len(rows[name]) != count:
                raise RunFileError(
                    f"{path}: {group}/{name} holds {len(rows[name])} rows, expected the {count} "
                    "that are committed"
                )
    return rows
