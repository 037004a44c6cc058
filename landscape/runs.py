"""Reading run folders, live or ended; `RunWriter` in writers.py makes them (docs/schema.md)."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from landscape.layouts import Layout
from landscape.results import SCHEMA_VERSION, Result, load_result, read_header
from landscape.storage import RunFileError, open_strict

__all__ = [
    "COLUMNS",
    "EVALUATIONS",
    "Checkpoint",
    "Run",
    "RunFileError",
    "StoredResult",
    "find_runs",
]

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
)
"""Columns of steps.h5, one row per update; units and meaning are in docs/schema.md."""

EVALUATIONS = ("step", "test_loss", "test_accuracy")


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


class Run:
    """Reads a run folder; never writes to the record.

    Args:
        path: The folder that holds run.json.

    Raises:
        RunFileError: If there is no run, or its run.json is damaged or of another schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / "run.json"
        if not file.is_file():
            what = "no such folder" if not self.path.is_dir() else "a folder without run.json"
            raise RunFileError(
                f"{self.path}: expected a run, got {what}; `landscape runs` lists runs"
            )
        try:
            header = json.loads(file.read_text())
            major = str(header["schema_version"]).split(".")[0]
            self.id: str = header["id"]
            self.method: str = header["method"]
            self.group: str = header["group"]
            self.color: int = int(header["color"])
            self.config: dict[str, Any] = header["config"]
            self.problem: dict[str, Any] = header["problem"]
            self.provenance: dict[str, Any] = header["provenance"]
            self.summary: dict[str, Any] = header["summary"]
            self.created: str = header["created"]
            self.total_steps: int | None = header["total_steps"]
            self.layout = Layout.from_json(header["layout"])
            self._status: str = header["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunFileError(f"{file}: damaged or not a run ({error!r})") from None
        if major != SCHEMA_VERSION.split(".")[0]:
            raise RunFileError(
                f"{file}: schema {header['schema_version']}, expected {SCHEMA_VERSION}"
            )
        self.reason: str = header.get("reason", "")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.method}, {self.status})"

    @property
    def name(self) -> str:
        """The folder's name: a label, not the identity."""
        return self.path.resolve().name

    @property
    def status(self) -> str:
        """One of "running", "finished", "failed", "died" (its writer was killed)."""
        if self._status != "running":
            return self._status
        with contextlib.suppress(FileNotFoundError), (self.path / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return "running"
        return "died"

    @property
    def _segments(self) -> list[Path]:
        return sorted(path for path in self.path.glob("segment-*") if path.is_dir())

    def _columns(self, group: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        parts: list[dict[str, np.ndarray]] = []
        for segment in self._segments:
            file = segment / "steps.h5"
            with open_strict(file, swmr=self._status == "running") as h5:
                if group not in h5 or any(name not in h5[group] for name in names):
                    raise RunFileError(f"{file}: group {group!r} lacks some of {names}")
                count = int(h5[group]["committed"][0])
                part = {name: h5[group][name][:count].astype(float) for name in names}
            if parts and count:  # a resumed run redoes the steps after its checkpoint
                kept = parts[-1]["step"] < part["step"][0]
                parts[-1] = {name: column[kept] for name, column in parts[-1].items()}
            parts.append(part)
        if not parts:
            raise RunFileError(f"{self.path}: the run holds no segment; nothing was recorded")
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    @property
    def steps(self) -> dict[str, np.ndarray]:
        """The committed rows: one float64 array [step] per column of `COLUMNS`."""
        return self._columns("steps", COLUMNS)

    @property
    def evaluations(self) -> dict[str, np.ndarray]:
        """Test evaluations: step, test_loss [nats], test_accuracy [fraction]."""
        return self._columns("evaluations", EVALUATIONS)

    def _snapshot_files(self, prefix: str) -> dict[int, Path]:
        found: dict[int, Path] = {}
        for segment in self._segments:
            for path in sorted((segment / "snapshots").glob(f"{prefix}-*.h5")):
                number = path.stem.removeprefix(f"{prefix}-")
                if number.isdigit():
                    found[int(number)] = path
        return dict(sorted(found.items()))

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which the parameters were kept."""
        return tuple(self._snapshot_files("checkpoint"))

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
            step = int(checkpoint)
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
        path = self._snapshot_files("checkpoint")[number]
        with open_strict(path) as file:
            theta = file["theta"][()]
            buffers = {name: np.asarray(data[()]) for name, data in file["buffers"].items()}
        if theta.shape != (self.layout.size,):
            raise RunFileError(f"{path}: theta has {theta.shape}, the layout ({self.layout.size},)")
        return Checkpoint(step=number, theta=theta, buffers=buffers)

    @cached_property
    def _displacement_index(self) -> list[tuple[np.ndarray, Path]]:
        index = []
        for path in self._snapshot_files("displacements").values():
            with open_strict(path) as file:
                index.append((file["step"][()], path))
        return index

    @property
    def displacement_steps(self) -> np.ndarray:
        """Steps whose full displacement was recorded; empty for SGD."""
        steps = [steps for steps, _ in self._displacement_index]
        return np.unique(np.concatenate(steps)) if steps else np.empty(0, np.int64)

    def iterate_displacements(
        self, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stream (steps [n], vectors float32 [n, param]) with start <= step < stop, by file."""
        for steps, path in self._displacement_index:
            wanted = (steps >= start) & (steps < (stop if stop is not None else np.inf))
            if wanted.any():
                first, last = np.flatnonzero(wanted)[[0, -1]]
                with open_strict(path) as file:
                    yield steps[first : last + 1], file["vectors"][first : last + 1]

    def displacements(
        self, start: int = 0, stop: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The recorded displacements with start <= step < stop: steps [n], vectors [n, param]."""
        parts = list(self.iterate_displacements(start, stop))
        if not parts:
            return np.empty(0, np.int64), np.empty((0, self.layout.size), np.float32)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def results(self, kind: str | None = None) -> list[StoredResult]:
        """The stored results, oldest first. Files that can't be read are left out here.

        Use `result_paths` to see every file, damaged ones too.
        """
        found = []
        for path in self.result_paths(kind):
            with contextlib.suppress(RunFileError):
                header = read_header(path)
                found.append(
                    StoredResult(
                        path=path,
                        kind=header["kind"],
                        key=path.stem.rpartition("-")[2],
                        options=header["options"],
                        facts=header["facts"],
                        created=str(header["provenance"].get("created", "")),
                    )
                )
        return sorted(found, key=lambda stored: stored.created)

    def result_paths(self, kind: str | None = None) -> list[Path]:
        """Every result file of the run, by name."""
        return sorted((self.path / "results").glob(f"{kind or '*'}-*.h5"))


def find_runs(root: str | Path) -> list[Run]:
    """The runs in a folder (or the run that it is), oldest first; damaged ones are left out."""
    root = Path(root)
    folders = [root] if (root / "run.json").is_file() else sorted(root.iterdir())
    runs = []
    for folder in folders:
        with contextlib.suppress(RunFileError):
            if (folder / "run.json").is_file():
                runs.append(Run(folder))
    return sorted(runs, key=lambda run: (run.created, run.name))
