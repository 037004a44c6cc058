"""What the app knows of a folder: its runs and their results.

They are read when asked for and kept while the files stay the same. Pages name runs by id and
results by key, never by path.
"""

import os
import shlex
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from landscape.figures.subjects import JOINT
from landscape.result_files import load_result
from landscape.results import Curve, Result, Spectrum
from landscape.runs import Run, RunFileError, StoredResult, read_stored
from landscape.storage import short_hash

from .folders import JointFolder, ResultFolder

T = TypeVar("T")


class Kept:
    """The last values made, by key; making one again costs only time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made by `make` where it isn't kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


class MissingError(LookupError):
    """Something that has not been measured.

    Attributes:
        reason: One line: what is missing.
        command: The command line that makes it, or "".
    """

    def __init__(self, reason: str, command: str = "") -> None:
        super().__init__(reason)
        self.reason, self.command = reason, command


AnyRun = Run | ResultFolder

PLANES = {
    "random": "random directions",
    "trajectory": "path PCA 1–2",
    "hessian": "top Hessian eigenvectors",
    "joint": "joint PCA 1–2 of the runs",
    "minima": "through minima",
    "given": "given directions",
}
"""Kinds of planes in words."""


class Store:
    """The runs below a folder.

    Args:
        root: A run, a folder of runs, a folder of result files, or one result file.

    Raises:
        ValueError: If there is no such folder, or neither a run nor a result in it.
    """

    def __init__(self, root: str | Path) -> None:
        root = Path(root).resolve()
        self.root = root.parent if root.is_file() else root
        self._only = root if root.is_file() else None
        if not self.root.is_dir():
            raise ValueError(
                f"the app shows a run or a folder of runs, got {root}, which does not exist; "
                "record one with `landscape train` or `landscape demo`"
            )
        self._runs, self._headers = Kept(1024), Kept(8192)
        self._records, self._results = Kept(64), Kept(64)
        self.unreadable: dict[str, str] = {}
        """Folders that look like runs but can't be read, and why."""
        if not self.runs() and not self.unreadable:
            raise ValueError(
                f"the app shows a run or a folder of runs, got {root}, which holds neither runs "
                "nor results; record one with `landscape train` or `landscape demo`"
            )

    @property
    def is_run(self) -> bool:
        """Whether the folder is itself one run, or one set of results."""
        return (self.root / "run.json").is_file() or not self._folders()

    def joint(self) -> JointFolder | None:
        """The results of several runs together, or None where there are none."""
        folder = self.root / JOINT
        inside = folder.is_dir() and folder.resolve().is_relative_to(self.root)
        return JointFolder(folder) if inside and self._only is None else None

    def _folders(self) -> list[Path]:
        if self._only is not None:
            return []
        if (self.root / "run.json").is_file():
            return [self.root]
        inside = (path for path in self.root.iterdir() if (path / "run.json").is_file())
        named = (path for path in inside if not path.name.startswith("."))  # those are unfinished
        return sorted(path for path in named if path.resolve().is_relative_to(self.root))

    def runs(self) -> list[AnyRun]:
        """The runs, oldest first. What can't be read is told in `unreadable`."""
        folders = self._folders()
        found: list[AnyRun] = []
        unreadable = {}
        for folder in folders:
            try:
                found.append(self._run(folder))
            except (RunFileError, OSError) as error:
                unreadable[folder.name] = self.told(error)
        self.unreadable = unreadable
        if not folders and any(self.root.glob("*.h5")):
            return [ResultFolder(self.root, self._only)]
        return sorted(found, key=lambda run: (run.created, run.name))

    def _run(self, folder: Path) -> Run:
        return self._runs.get((folder, _stamp(folder / "run.json")), lambda: Run(folder))

    def run(self, run_id: str | None) -> AnyRun:
        """The run of an id.

        Raises:
            MissingError: If there is none in this folder.
        """
        joint = self.joint()
        for run in [*self.runs(), *([joint] if joint else [])]:
            if run.id == run_id:
                return run
        raise MissingError(f"No run with the id {run_id} in {self.root.name}.")

    def _record(self, run: AnyRun, what: str) -> dict[str, np.ndarray]:
        if isinstance(run, ResultFolder):
            return getattr(run, what)
        files = tuple(_stamp(path) for path in sorted(run.path.glob("segment-*/steps.h5")))
        return self._records.get((what, run.id, files), lambda: getattr(run, what))

    def steps(self, run: AnyRun) -> dict[str, np.ndarray]:
        """The recorded rows, one array [step] per column; empty while there are none."""
        return self._record(run, "steps")

    def evaluations(self, run: AnyRun) -> dict[str, np.ndarray]:
        """The test evaluations; empty while there are none."""
        return self._record(run, "evaluations")

    def results(self, run: AnyRun, kind: str | None = None) -> list[StoredResult]:
        """The readable results of a run, oldest first."""
        own = (None, run.id) if isinstance(run, Run) else None
        found = [
            stored
            for stored in map(self._stored, self._files(run))
            if stored and (own is None or stored.facts.get("run") in own)
        ]
        wanted = (stored for stored in found if kind in (None, stored.kind))
        return sorted(wanted, key=lambda stored: stored.created)

    def damaged(self, run: AnyRun) -> list[str]:
        """The result files of a run that are not shown, and why: damaged, or another run's."""
        told = []
        shown = {stored.path for stored in self.results(run)}
        for path in self._files(run):
            if path not in shown:
                try:
                    read_stored(path, run.id)
                except (RunFileError, OSError) as error:
                    told.append(self.told(error))
        return told

    def _files(self, run: AnyRun) -> list[Path]:
        """The run's result files; links out of the folder are not followed."""
        return [path for path in run.result_paths() if path.resolve().is_relative_to(self.root)]

    def _stored(self, path: Path) -> StoredResult | None:
        return self._headers.get((path, _stamp(path)), lambda: _read(path))

    def load(self, stored: StoredResult) -> Any:
        """Read a result with its arrays, without eigenvectors and bends; the last 64 are kept.

        Raises:
            RunFileError: If the file is damaged.
        """
        return self._results.get((stored.path, _stamp(stored.path)), lambda: _load(stored.path))

    def find(self, run: AnyRun, kind: str, key: str) -> StoredResult:
        """The result of a kind and key.

        Raises:
            MissingError: If the run has none.
        """
        for stored in self.results(run, kind):
            if stored.key == key:
                return stored
        raise MissingError(f"{run.name} has no {kind} with the key {key}.", self.command(kind, run))

    def at(self, run: AnyRun, kind: str, step: int | None) -> StoredResult:
        """The newest result of a kind at a checkpoint; None is the last that has one.

        Raises:
            MissingError: If there is none.
        """
        found = self.results(run, kind)
        if not found:
            raise MissingError(f"No {kind} measured yet.", self.command(kind, run))
        wanted = max(checkpoint_of(stored) for stored in found) if step is None else step
        there = [stored for stored in found if checkpoint_of(stored) == wanted]
        if not there:
            options = f"--checkpoint {wanted}"
            raise MissingError(
                f"No {kind} at checkpoint {wanted}.", self.command(kind, run, options)
            )
        return there[-1]

    def on_plane(self, run: AnyRun, plane: str) -> StoredResult:
        """The newest surface on a kind of plane.

        Raises:
            MissingError: If there is none.
        """
        there = [stored for stored in self.results(run, "surface") if plane_of(stored) == plane]
        if not there:
            told = f"No surface measured on {PLANES.get(plane, plane)}."
            raise MissingError(told, self.command("surface", run, f"--plane {plane}"))
        return there[-1]

    def colors(self, names: Sequence[str]) -> list[int] | int:
        """Color indices of runs by name, or the first color where they are not all here."""
        known = {run.name: run.color for run in self.runs()}
        if not names or not known.keys() >= set(names):
            return 0
        return [known[name] for name in names]

    def series(self, run: AnyRun, kind: str) -> list[tuple[int, Any]]:
        """The newest result of a kind at each checkpoint, in the order of steps."""
        newest = {checkpoint_of(stored): stored for stored in self.results(run, kind)}
        return [(step, self.load(newest[step])) for step in sorted(newest)]

    def command(self, analysis: str, run: AnyRun, *options: str) -> str:
        """The command line that measures something of a run."""
        name = {"density": "spectrum", "trace": "spectrum"}.get(analysis, analysis)
        if isinstance(run, JointFolder):
            return self.joint_command(name, self.runs(), *options)
        path = shlex.quote(self.path_of(run))
        if isinstance(run, ResultFolder):
            source = f"--problem MODULE:FUNCTION --state WEIGHTS --out {path}"
            return f"landscape {name} {source}"
        return " ".join(["landscape", name, path, *_problem_option(analysis, [run]), *options])

    def joint_command(self, analysis: str, runs: Sequence[AnyRun], *options: str) -> str:
        """The command line that measures something of several runs together."""
        chosen = runs[:2] if analysis == "curve" else runs
        paths = [shlex.quote(self.path_of(run)) for run in chosen]
        if analysis == "surface" and not any(text.startswith("--plane") for text in options):
            options = ("--plane joint", *options)
        asked = _problem_option(analysis, runs)
        return " ".join(["landscape", analysis, *paths, *asked, *options])

    def path_of(self, run: AnyRun) -> str:
        """Where a run lies, as one would type it here."""
        where = (run.only if isinstance(run, ResultFolder) else None) or run.path
        path = os.path.relpath(where)
        return str(where) if path.startswith("..") else path

    def told(self, error: Exception) -> str:
        """An error's text with file names relative to the folder shown."""
        return str(error).replace(f"{self.root.parent}{os.sep}", "")


def _problem_option(analysis: str, runs: Sequence[AnyRun]) -> list[str]:
    """What names the problem of runs that were not trained on one of the toolkit's own."""
    trained = [run for run in runs if not isinstance(run, ResultFolder)]
    if analysis == "figure" or not trained:
        return []
    name = trained[0].problem["name"]
    if name is None:
        return ["--problem MODULE:FUNCTION"]
    return [f"--problem {shlex.quote(name)}"] if ":" in name else []


def plane_of(stored: StoredResult) -> str:
    """The kind of plane of a stored surface."""
    return str(stored.options.get("plane") or stored.facts.get("plane") or "given")


def checkpoint_of(stored: StoredResult | Result) -> int:
    """The step of the checkpoint a result was measured at; 0 where it tells none."""
    step = stored.facts.get("checkpoint", 0)
    return int(step) if isinstance(step, int | float) else 0


def _read(path: Path) -> StoredResult | None:
    try:
        stored = read_stored(path)
    except (RunFileError, OSError):
        return None
    return stored if stored.key.isalnum() else replace(stored, key=short_hash(path.name))


def _load(path: Path) -> Result:
    result = load_result(path)
    if isinstance(result, Curve):
        return replace(result, bends=None)
    return replace(result, eigenvectors=None) if isinstance(result, Spectrum) else result


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
