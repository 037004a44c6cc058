"""Writing a run folder: one writer, then frozen; `results/` only gains files (docs/schema.md)."""

import datetime
import fcntl
import math
import secrets
import string
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from landscape.layouts import Layout
from landscape.result_files import SCHEMA_VERSION
from landscape.runs import COLUMNS, EVALUATIONS, find_runs
from landscape.storage import plain, require_space, short_hash, write_json, write_whole

_FLUSH_ROWS, _FLUSH_SECONDS = 64, 1.0
_DISPLACEMENT_BYTES = 64 << 20


def utc_now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _vector_chunk(size: int) -> int:
    return math.ceil(size / max(math.ceil(size / 2**18), 1))


class RunWriter:
    """Writes one run folder. Made by `RunWriter.create`, ended by `finish` or `fail`.

    Rows are appended to a single-writer-multiple-reader file and counted by `committed` last, so
    that a killed process leaves whole rows only; snapshots are written under a temporary name,
    closed, and renamed.
    """

    def __init__(self, path: Path, header: dict[str, Any], lock: Any) -> None:
        self.path, self._header, self._lock = path, header, lock
        self.layout = Layout.from_json(header["layout"])
        self.segment = path / "segment-000"
        self._snapshots = self.segment / "snapshots"
        self._snapshots.mkdir(parents=True)
        self._rows: list[dict[str, float]] = []
        self._displacements: list[tuple[int, np.ndarray]] = []
        self._flushed = time.monotonic()
        self._file = h5py.File(self.segment / "steps.h5", "w", libver=("v110", "v110"))
        self._data: dict[str, h5py.Dataset] = {}
        for group, columns in (("steps", COLUMNS), ("evaluations", EVALUATIONS)):
            for name in columns:
                self._data[f"{group}/{name}"] = self._file.create_dataset(
                    f"{group}/{name}", (0,), "f8", maxshape=(None,), chunks=(1024,)
                )
            # written now: what SWMR allocates later lies beyond the end of file readers know
            self._data[f"{group}/committed"] = self._file.create_dataset(
                f"{group}/committed", data=np.zeros(1, np.int64)
            )
        self._file.swmr_mode = True

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
        if late or len(self._rows) >= _FLUSH_ROWS:
            self._flush_rows()

    def _flush_rows(self) -> None:
        require_space(self.path, 0)
        rows, self._rows = self._rows, []
        self._write("steps", rows)
        self._flushed = time.monotonic()

    def _write(self, group: str, rows: list[dict[str, float]]) -> None:
        if not rows:
            return
        committed = self._data[f"{group}/committed"]
        start = int(committed[0])
        for column in COLUMNS if group == "steps" else EVALUATIONS:
            data = self._data[f"{group}/{column}"]
            data.resize((start + len(rows),))
            data[start:] = [float(row.get(column, np.nan)) for row in rows]
            data.flush()
        committed[0] = start + len(rows)
        committed.flush()

    def add_evaluation(self, step: int, test_loss: float, test_accuracy: float) -> None:
        """Add test loss (nats) and accuracy (fraction) after `step` updates."""
        self._check_open()
        require_space(self.path, 0)
        row = {"step": step, "test_loss": test_loss, "test_accuracy": test_accuracy}
        self._write("evaluations", [row])

    def save_checkpoint(self, step: int, theta: np.ndarray, buffers: dict[str, np.ndarray]) -> None:
        """Store theta [param] and all buffers after `step` updates; flushes everything before."""
        self._check_open()
        theta = np.ascontiguousarray(theta, np.float32)
        if theta.shape != (self.layout.size,):
            raise ValueError(f"theta must have shape ({self.layout.size},), got {theta.shape}")
        self._flush_rows()
        self._flush_displacements()
        require_space(self.path, theta.nbytes + sum(np.asarray(b).nbytes for b in buffers.values()))
        with (
            write_whole(self._snapshots / f"checkpoint-{step:08d}.h5") as temporary,
            h5py.File(temporary, "w", libver=("v110", "v110")) as file,
        ):
            chunks = (_vector_chunk(theta.size),)
            file.create_dataset("theta", data=theta, chunks=chunks, fletcher32=True)
            group = file.create_group("buffers")
            for name, value in buffers.items():
                group.create_dataset(name, data=np.asarray(value))

    def add_displacement(self, step: int, vector: np.ndarray) -> None:
        """Store what was added to the weights in update `step`, as [param], sign included."""
        self._check_open()
        if vector.shape != (self.layout.size,):
            raise ValueError(
                f"displacement must have shape ({self.layout.size},), got {vector.shape}"
            )
        self._displacements.append((step, np.array(vector, np.float32)))
        if len(self._displacements) * 4 * self.layout.size >= _DISPLACEMENT_BYTES:
            self._flush_displacements()

    def _flush_displacements(self) -> None:
        block, self._displacements = self._displacements, []
        if not block:
            return
        require_space(self.path, 4 * self.layout.size * len(block))
        with (
            write_whole(self._snapshots / f"displacements-{block[0][0]:08d}.h5") as temporary,
            h5py.File(temporary, "w", libver=("v110", "v110")) as file,
        ):
            file.create_dataset("step", data=np.array([step for step, _ in block], np.int64))
            file.create_dataset(
                "vectors",
                data=np.stack([vector for _, vector in block]),
                chunks=(1, _vector_chunk(self.layout.size)),
                fletcher32=True,
            )

    def finish(self, summary: dict[str, Any] | None = None) -> None:
        """End the run well, with its summary numbers (test_loss, test_accuracy, ...)."""
        self._check_open()
        self._end("finished", {"summary": plain(summary or {})})

    def fail(self, reason: str) -> None:
        """End the run as failed, keeping everything written so far."""
        self._check_open()
        waiting = len(self._displacements)
        try:
            self._flush_displacements()
        except OSError as error:
            reason = f"{reason}; the last {waiting} displacements are lost ({error})"
        self._end("failed", {"reason": reason})

    def _check_open(self) -> None:
        if self._header["status"] != "running":
            raise ValueError(f"{self.path}: the run has ended and is frozen; begin a new one")

    def _end(self, status: str, more: dict[str, Any]) -> None:
        try:
            self._write("steps", self._rows)  # what is kept free on the disk is kept for this
            self._flush_displacements()
            self._file.close()
            self._header.update(status=status, ended=utc_now(), **more)
            write_json(self.path / "run.json", self._header)
        finally:
            self._lock.close()


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
