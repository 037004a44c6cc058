"""Reading run folders, live or ended; `RunWriter` in writers.py makes them (docs/schema.md)."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landscape import segments
from landscape.layouts import Layout
from landscape.result_files import SCHEMA_VERSION, load_result, read_header
from landscape.results import Result
from landscape.segments import COLUMNS, EVALUATIONS
from landscape.storage import RunFileError, open_strict, read_arrays, require_array
from landscape.vectors import stored_vectors, widened

__all__ = [
    "COLUMNS",
    "EVALUATIONS",
    "Checkpoint",
    "Run",
    "RunFileError",
    "StoredResult",
    "find_runs",
]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Parameters and buffers after `step` updates."""

    step: int
    theta: np.ndarray
    """float32 [param], in the run's layout."""
    buffers: dict[str, np.ndarray]
    """All buffers by name, e.g. BatchNorm's running statistics."""


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result file of a run, known by its header; the arrays are read by `load`."""

    path: Path
    kind: str
    key: str
    options: dict[str, Any]
    facts: dict[str, Any]
    created: str

    def load(self) -> Result:
        """Read the result whole.

        Raises:
            RunFileError: If the file is damaged.
        """
        return load_result(self.path)


def read_stored(path: str | Path, run: str | None = None) -> StoredResult:
    """Read what a result file says of itself.

    Args:
        path: The file.
        run: Id of the run it must belong to; results of one's own model belong to none.

    Raises:
        RunFileError: If the file is damaged, or belongs to another run.
    """
    path = Path(path)
    header = read_header(path)
    owner = header["facts"].get("run")
    if run is not None and owner not in (None, run):
        raise RunFileError(
            f"{path}: expected a result of run {run}, got one of run {owner}; move it there, or "
            "measure this run"
        )
    return StoredResult(
        path=path,
        kind=header["kind"],
        key=path.stem.rpartition("-")[2],
        options=header["options"],
        facts=header["facts"],
        created=str(header["provenance"].get("created", "")),
    )


class Run:
    """Reads a run folder; never writes to the record.

    Args:
        path: The folder that holds run.json.

    Raises:
        RunFileError: If there is no run, or its run.json is damaged or of another schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        header = read_run_header(self.path)
        self.id: str = header["id"]
        self.method: str = header["method"]
        self.group: str = header["group"]
        self.color: int = header["color"]
        self.config: dict[str, Any] = header["config"]
        self.problem: dict[str, Any] = header["problem"]
        self.provenance: dict[str, Any] = header["provenance"]
        self.summary: dict[str, Any] = header["summary"]
        self.created: str = header["created"]
        self.total_steps: int | None = header["total_steps"]
        self.layout: Layout = header["layout"]
        self.reason: str = header.get("reason", "")
        self.recording: dict[str, Any] = header["recording"]
        self.missing_from: int | None = header.get("missing_from")
        self._status: str = header["status"]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.method}, {self.status})"

    @property
    def name(self) -> str:
        """The folder's name: a label, not the identity."""
        return self.path.resolve().name

    @property
    def status(self) -> str:
        """One of "running", "finished", "failed", "died" (its writer was killed)."""
        if self._status == "running" and not self._is_held():
            # let go since run.json was read: ended meanwhile, or killed
            self._status = read_run_header(self.path)["status"]
            return "died" if self._status == "running" else self._status
        return self._status

    def _is_held(self) -> bool:
        with contextlib.suppress(FileNotFoundError), (self.path / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def steps(self) -> dict[str, np.ndarray]:
        """The committed rows: one float64 array [step] per column of `COLUMNS`.

        Raises:
            RunFileError: If they can't be read.
        """
        return segments.read_steps(self.path)

    @property
    def updates(self) -> int:
        """Updates made: those recorded, or those before the last checkpoint of an imported run.

        Raises:
            RunFileError: If they can't be read.
        """
        rows = self.steps["step"]
        return int(rows[-1]) + 1 if len(rows) else max(self.checkpoints, default=0)

    @property
    def evaluations(self) -> dict[str, np.ndarray]:
        """Test evaluations: step, test_loss [nats], test_accuracy [fraction].

        Raises:
            RunFileError: If they can't be read.
        """
        return segments.read_evaluations(self.path)

    @property
    def windows(self) -> dict[str, np.ndarray]:
        """Agreement of the displacements between two checkpoints, exact: one row per window.

        Of the unit vectors u of the updates start <= t < stop: `count` n, `resultant_length`
        R = |sum u| / n, `mean_cosine` over all pairs, (n R² - 1) / (n - 1).

        Raises:
            RunFileError: If they can't be read.
        """
        return segments.read_windows(self.path)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which the parameters were kept."""
        return tuple(segments.checkpoint_files(self.path))

    def resolve(self, checkpoint: str | int) -> int:
        """The step of "first", "last" or a stored step.

        Raises:
            RunFileError: If the run keeps no such checkpoint.
        """
        kept = self.checkpoints
        if not kept:
            raise RunFileError(f"{self.path}: the run keeps no checkpoint; it ended too early")
        if checkpoint in ("first", "last"):
            return kept[0] if checkpoint == "first" else kept[-1]
        try:
            step = int(str(checkpoint))
        except ValueError:
            step = None
        if step not in kept:
            raise RunFileError(
                f"checkpoint must be first, last or one of {', '.join(map(str, kept))}, "
                f"got {checkpoint!r} for {self.path}"
            )
        return step

    def checkpoint(self, step: str | int = "last") -> Checkpoint:
        """Read one checkpoint.

        Raises:
            RunFileError: If it is not kept, damaged, or of another size than the layout.
        """
        number = self.resolve(step)
        path = segments.checkpoint_files(self.path)[number]
        with open_strict(path) as file:
            theta = require_array(file, "theta", np.float32, self.layout.size)[()]
            buffers = read_arrays(file, "buffers")
        return Checkpoint(step=number, theta=theta, buffers=buffers)

    @property
    def _displacement_index(self) -> list[tuple[np.ndarray, Path]]:
        index = []
        for path, stop in segments.displacement_files(self.path):
            with open_strict(path) as file:
                steps = require_array(file, "step", np.int64, None)[()]
                stored_vectors(file, len(steps), self.layout.size)
            index.append((steps[steps < stop], path))
        return index

    @property
    def displacement_steps(self) -> np.ndarray:
        """Steps whose full displacement was recorded; empty for SGD."""
        return np.concatenate([np.empty(0, np.int64), *(s for s, _ in self._displacement_index)])

    def iterate_displacements(
        self, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stream (steps [n], vectors float32 [n, param]) with start <= step < stop, by file."""
        for steps, path in self._displacement_index:
            wanted = (steps >= start) & (steps < (stop if stop is not None else np.inf))
            if wanted.any():
                first, last = np.flatnonzero(wanted)[[0, -1]]
                part = slice(first, last + 1)
                with open_strict(path) as file:
                    vectors = widened(file, part)
                yield steps[part], vectors

    def displacements(
        self, start: int = 0, stop: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The recorded displacements with start <= step < stop: steps [n], vectors [n, param]."""
        parts = list(self.iterate_displacements(start, stop))
        if not parts:
            return np.empty(0, np.int64), np.empty((0, self.layout.size), np.float32)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    @property
    def recorded_steps(self) -> np.ndarray:
        """Steps of which a sketch or the full displacement was recorded; empty for SGD."""
        return np.union1d(self.displacement_steps, segments.displacement_rows(self.path))

    def sketches(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The sketches of displacements with start <= step < stop: steps [n], float32 [n, m].

        The cosine of two sketches is that of their displacements with a standard deviation of about
        (1 - c²) / √m; it is exact where m is the number of parameters. `directions.sketch_cosines`
        gives both.

        Raises:
            RunFileError: If they can't be read.
        """
        return segments.read_wide(self.path, "sketch", start, stop)

    def tensor_norms(
        self, start: int = 0, stop: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The displacements' norms by tensor of the layout: steps [n], float32 [n, tensor].

        Raises:
            RunFileError: If they can't be read.
        """
        return segments.read_wide(self.path, "tensor_norms", start, stop)

    def results(self, kind: str | None = None) -> list[StoredResult]:
        """The stored results, oldest first. Files that can't be read are left out here.

        Use `result_paths` to see every file, damaged ones too.
        """
        found = []
        for path in self.result_paths(kind):
            with contextlib.suppress(RunFileError):
                found.append(read_stored(path, self.id))
        return sorted(found, key=lambda stored: stored.created)

    def refused(self, kind: str | None = None) -> list[str]:
        """Why result files of the run are left out of `results`: damaged, or another run's."""
        told = []
        for path in self.result_paths(kind):
            try:
                read_stored(path, self.id)
            except RunFileError as error:
                told.append(str(error))
        return told

    def result_paths(self, kind: str | None = None) -> list[Path]:
        """Every result file of the run, by name."""
        return sorted((self.path / "results").glob(f"{kind or '*'}-*.h5"))


_HEADER: dict[str, Any] = {
    "id": str,
    "status": str,
    "created": str,
    "method": str,
    "group": str,
    "color": int,
    "config": dict,
    "problem": dict,
    "layout": list,
    "total_steps": (int, type(None)),
    "provenance": dict,
    "recording": dict,
    "summary": dict,
}


def read_run_header(path: Path) -> dict[str, Any]:
    """Read run.json, checked, with its layout built."""
    file = path / "run.json"
    if not file.is_file():
        what = "no such folder" if not path.is_dir() else "a folder without run.json"
        raise RunFileError(f"{path}: expected a run, got {what}; `landscape runs` lists runs")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        schema = str(header["schema_version"])
        if schema.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise RunFileError(
                f"{file}: schema {schema}, expected {SCHEMA_VERSION}; read it with the version of "
                "the toolkit that wrote it"
            )
        for name, kind in _HEADER.items():
            if not isinstance(header[name], kind):
                raise TypeError(f"{name} is {header[name]!r}")
        if header["color"] not in range(8) or not {"name", "options"} <= set(header["problem"]):
            raise ValueError(f"color {header['color']}, problem {header['problem']}")
        header["layout"] = Layout.from_json(header["layout"])
    except RunFileError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFileError(f"{file}: damaged or not a run ({error!r})") from None
    return header


def find_runs(root: str | Path) -> list[Run]:
    """The runs in a folder (or the run that it is), oldest first; damaged ones are left out."""
    root = Path(root)
    inside = (path for path in root.iterdir() if not path.name.startswith("."))  # unfinished
    folders = [root] if (root / "run.json").is_file() else sorted(inside)
    runs = []
    for folder in folders:
        with contextlib.suppress(RunFileError):
            if (folder / "run.json").is_file():
                runs.append(Run(folder))
    return sorted(runs, key=lambda run: (run.created, run.name))
