"""Writing a run folder: one writer, then frozen; `results/` only gains files (docs/schema.md)."""

import contextlib
import datetime
import fcntl
import json
import secrets
import shutil
import string
import time
from pathlib import Path
from typing import Any, TextIO

import h5py
import numpy as np

from landscape import segments
from landscape.layouts import Layout
from landscape.locks import BusyError
from landscape.result_files import SCHEMA_VERSION
from landscape.runs import COLUMNS, Run, find_runs
from landscape.step_files import StepFile
from landscape.storage import (
    plain,
    remove_unfinished,
    require_space,
    short_hash,
    write_json,
    write_whole,
)
from landscape.vectors import STORED, chunk_of, sync_files, write_vectors

_FLUSH_ROWS, _FLUSH_SECONDS = 64, 1.0
_FLUSH_BYTES = 1 << 18  # of sketches: readers refuse 512 kB that are declared and not stored
_DISPLACEMENT_BYTES = 64 << 20
_ATTEMPTS = 20


def utc_now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunWriter:
    """Writes one run folder. Made by `create` or `resume`, ended by `finish` or `fail`.

    Rows are appended to a single-writer-multiple-reader file and counted by `committed` last, so
    that a killed process leaves whole rows only; snapshots are written under a temporary name,
    closed, and renamed.
    """

    def __init__(self, path: Path, header: dict[str, Any], lock: Any, number: int = 0) -> None:
        self.path, self._header, self._lock = path, header, lock
        self.layout = Layout.from_json(header["layout"])
        self.segment = path / f"segment-{number:03d}"
        self._snapshots = self.segment / "snapshots"
        self._kind = np.dtype(STORED[header["recording"]["dtype"]])
        self._rows: list[dict[str, float]] = []
        self._described: list[dict[str, Any]] = []
        self._displacements: list[tuple[int, np.ndarray, float]] = []
        self._start = 0
        self._flushed = time.monotonic()
        unfinished = path / f".{self.segment.name}.tmp"  # a segment is there whole or not at all
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "snapshots").mkdir(parents=True)
        self._file = StepFile(
            unfinished / "steps.h5",
            sketch=header["recording"]["sketch"],
            tensors=len(self.layout),
        )
        unfinished.rename(self.segment)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        config: dict[str, Any],
        problem: dict[str, Any],
        layout: Layout,
        method: str,
        group: str | None = None,
        color: int | None = None,
        total_steps: int | None = None,
        provenance: dict[str, Any] | None = None,
        recording: dict[str, Any] | None = None,
    ) -> "RunWriter":
        """Begin a run in a new folder.

        Args:
            path: The folder; it must not exist.
            config: Settings of the run, JSON-able, complete enough to repeat it.
            problem: `{"name": ..., "options": {...}}`: what model, loss and data to rebuild.
            layout: Layout of theta.
            method: Label of the method, e.g. "SAM+AACE".
            group: Identity of the settings without the seed; made from `config` by default.
            color: Index of the run color; by default that of the group's other runs in the
                same folder, else the first free one, beginning with the method's own.
            total_steps: Planned updates, for progress.
            provenance: Versions, device, commit, command: where the numbers come from.
            recording: What is recorded of each step (`recording.Recording`): at least `dtype` of
                the vectors and `sketch`, the numbers of a sketch.

        Raises:
            FileExistsError: If the folder exists.
            ValueError: If there is no such color.
        """
        if color is not None and color not in range(8):
            raise ValueError(f"color must be an index of the eight run colors, 0 to 7, got {color}")
        path = Path(path)
        group = group or short_hash({k: v for k, v in config.items() if k != "seed"})
        header = {
            "schema_version": SCHEMA_VERSION,
            "id": "".join(
                secrets.choice(string.ascii_lowercase + string.digits) for _ in range(10)
            ),
            "status": "running",
            "created": utc_now(),
            "ended": None,
            "method": method,
            "group": group,
            "color": _choose_color(path.parent, group, method) if color is None else color,
            "config": plain(config),
            "problem": plain(problem),
            "layout": layout.to_json(),
            "total_steps": total_steps,
            "provenance": plain(provenance or {}),
            "recording": {"dtype": "float32", "sketch": 1} | plain(recording or {}),
            "resumed": [],
            "summary": {},
        }
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise FileExistsError(
                f"the output folder must not exist, but {path} does; choose another --out"
            ) from None
        lock = (path / ".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer = cls(path, header, lock)
        write_json(path / "run.json", header)  # last: what has a run.json can be read
        return writer

    @classmethod
    def resume(cls, path: str | Path, step: int) -> "RunWriter":
        """Take up a run that was killed or failed, in a new segment that begins at `step`.

        What was recorded from `step` on is forgotten by readers once the new segment has a row.

        Args:
            path: The run's folder.
            step: Updates made before; all of them are recorded.

        Raises:
            RunFileError: If there is no run, or it is damaged.
            BusyError: If another process writes the run.
            ValueError: If the run has finished, or has no rows up to `step`.
        """
        path = Path(path)
        run = Run(path)
        lock = (path / ".lock").open("a")
        try:
            if not _take(lock):
                raise BusyError(
                    f"{path}: another process is writing this run; wait for its end, or stop it"
                )
            header = json.loads((path / "run.json").read_text(encoding="utf-8"))
            if header["status"] == "finished":
                raise ValueError(f"{path}: the run has finished and is frozen; begin a new one")
            rows = run.steps["step"]
            if step < 0 or not np.array_equal(rows[:step], np.arange(step)):
                raise ValueError(
                    f"{path}: to resume at step {step}, all updates before it must be recorded; "
                    f"got {len(rows)} rows; resume at an earlier checkpoint"
                )
            for folder in (path, *path.glob("segment-*/snapshots")):
                remove_unfinished(folder)
            number = 1 + int(segments.find_segments(path)[-1].path.name.removeprefix("segment-"))
            for name in ("reason", "missing_from"):
                header.pop(name, None)
            header |= {"status": "running", "ended": None}
            header["resumed"] = [*header["resumed"], {"step": step, "time": utc_now()}]
            writer = cls(path, header, lock, number)
            writer._start = step
            write_json(path / "run.json", header)
        except BaseException:
            lock.close()
            raise
        return writer

    @property
    def id(self) -> str:
        """The run's random identity."""
        return self._header["id"]

    def append(self, row: dict[str, float]) -> None:
        """Add the row of one update; columns not given are NaN.

        Raises:
            ValueError: If a column is unknown.
        """
        self._check_open()
        if unknown := set(row) - set(COLUMNS):
            raise ValueError(f"unknown columns {sorted(unknown)}; expected some of {COLUMNS}")
        self._rows.append(dict(row))
        late = time.monotonic() - self._flushed > _FLUSH_SECONDS
        if late or len(self._rows) >= _FLUSH_ROWS or self._sketch_bytes() >= _FLUSH_BYTES:
            self.flush()

    def describe_displacement(
        self, step: int, sketch: np.ndarray, tensor_norms: np.ndarray
    ) -> None:
        """Add what is kept of every displacement: its sketch [m] and its norms by tensor."""
        self._check_open()
        row = {"step": step, "sketch": sketch, "tensor_norms": tensor_norms}
        self._described.append(row)

    def flush(self) -> None:
        """Let readers see all rows there are."""
        require_space(self.path, self._sketch_bytes())
        self._write_rows()

    def _sketch_bytes(self) -> int:
        return sum(row["sketch"].nbytes for row in self._described)

    def flush_all(self) -> None:
        """Let readers see rows and full displacements."""
        self.flush()  # first: its first row tells where a segment begins
        self._flush_displacements()

    def _write_rows(self) -> None:
        self._file.add("displacements", self._described)
        self._described = []
        self._file.add("steps", self._rows)  # last: a step that has a row is described whole
        self._rows = []
        self._flushed = time.monotonic()

    def add_evaluation(self, step: int, test_loss: float, test_accuracy: float) -> None:
        """Add test loss (nats) and accuracy (fraction) after `step` updates."""
        self._check_open()
        require_space(self.path, 0)
        row = {"step": step, "test_loss": test_loss, "test_accuracy": test_accuracy}
        self._file.add("evaluations", [row])

    def add_window(
        self, start: int, stop: int, count: int, resultant_length: float, mean_cosine: float
    ) -> None:
        """Add how well the displacements of the updates start <= t < stop agree."""
        self._check_open()
        require_space(self.path, 0)
        numbers = (start, stop, count, resultant_length, mean_cosine)
        self._file.add("windows", [dict(zip(segments.WINDOWS, numbers, strict=True))])

    def save_checkpoint(self, step: int, theta: np.ndarray, buffers: dict[str, np.ndarray]) -> None:
        """Store theta [param] and all buffers after `step` updates; flushes everything before."""
        self._check_open()
        theta = np.ascontiguousarray(theta, np.float32)
        if theta.shape != (self.layout.size,):
            raise ValueError(f"theta must have shape ({self.layout.size},), got {theta.shape}")
        self.flush_all()
        require_space(self.path, theta.nbytes + sum(np.asarray(b).nbytes for b in buffers.values()))
        with (
            write_whole(self._snapshots / f"checkpoint-{step:08d}.h5") as temporary,
            h5py.File(temporary, "w", libver=("v110", "v110")) as file,
        ):
            chunks = (chunk_of(theta.size),)
            file.create_dataset("theta", data=theta, chunks=chunks, fletcher32=True)
            group = file.create_group("buffers")
            for name, value in buffers.items():
                group.create_dataset(name, data=np.asarray(value))

    def add_displacement(self, step: int, vector: np.ndarray, scale: float = 1.0) -> None:
        """Store what was added to the weights in update `step`, as [param], sign included.

        Args:
            step: The update.
            vector: The displacement; or, in a run of float16, the displacement divided by `scale`,
                in one of bfloat16, the upper halves of its float32 numbers as uint16.
            scale: As above.
        """
        self._check_open()
        if vector.shape != (self.layout.size,):
            raise ValueError(
                f"displacement must have shape ({self.layout.size},), got {vector.shape}"
            )
        if self._kind != np.float32 and vector.dtype != self._kind:
            raise ValueError(f"vectors of this run must be {self._kind}, got {vector.dtype}")
        self._displacements.append((step, np.array(vector, self._kind), scale))
        if len(self._displacements) * vector.size * self._kind.itemsize >= _DISPLACEMENT_BYTES:
            self.flush_all()

    def _flush_displacements(self) -> None:
        block = self._displacements
        if not block:
            return
        require_space(self.path, sum(vector.nbytes for _, vector, _ in block))
        write_vectors(self._snapshots / f"displacements-{block[0][0]:08d}.h5", block)
        self._displacements = []

    def finish(self, summary: dict[str, Any] | None = None) -> None:
        """End the run well, with its summary numbers (test_loss, test_accuracy, ...)."""
        self._check_open()
        try:
            self._write_rows()
            self._flush_displacements()
            self._file.close()
            sync_files(self.segment)
        except BaseException:
            self._lock.close()
            raise
        self._end("finished", {"summary": plain(summary or {})})

    def fail(self, reason: str, *, steps: int | None = None) -> None:
        """End the run as failed, keeping everything written so far.

        Args:
            reason: Why, for people.
            steps: Updates made; run.json tells the first of them that is not recorded.
        """
        self._check_open()
        lost = [step for step, _, _ in self._displacements]
        try:
            self._flush_displacements()
            lost = []
        except OSError as error:
            reason = f"{reason}; the last {len(lost)} displacements are lost ({error})"
        with contextlib.suppress(OSError):  # what is lost is told below
            self._write_rows()  # what is kept free on the disk is kept for this
        rows = self._start + self._file.committed("steps")
        if steps is not None and rows < steps:
            lost.append(rows)
            reason = f"{reason}; updates {rows} to {steps - 1} are not recorded"
        self._file.close()
        self._end("failed", {"reason": reason} | ({"missing_from": min(lost)} if lost else {}))

    def _check_open(self) -> None:
        if self._header["status"] != "running":
            raise ValueError(f"{self.path}: the run has ended and is frozen; begin a new one")

    def _end(self, status: str, more: dict[str, Any]) -> None:
        try:
            self._header.update(status=status, ended=utc_now(), **more)
            write_json(self.path / "run.json", self._header)
        finally:
            self._lock.close()


def _take(lock: TextIO) -> bool:
    """Lock a file within a second; readers that look whether it is held hold it for a moment."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(1 / _ATTEMPTS)
    return False


def _choose_color(root: Path, group: str, method: str) -> int:
    siblings = find_runs(root) if root.is_dir() else []
    for run in siblings:
        if run.group == group:
            return run.color
    taken = {run.color for run in siblings}
    preferred = {"SAM": 0, "SAM+AACE": 1, "SGD": 2}.get(method, 3)
    free = [color for color in (preferred, *range(8)) if color not in taken]
    return free[0] if free else int(group, 16) % 8 if _is_hex(group) else preferred


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in string.hexdigits for letter in text)
