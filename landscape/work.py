"""Unfinished work: the points of one result, kept one by one, so that a kill loses none.

A result that takes long is measured in a folder `<kind>-<key>.part` beside where it will lie. All
processes that measure it, at once or one after another, share what is settled there and find the
points that others finished.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.locks import BusyError, Lock, holder, locked, try_lock
from landscape.points import PointWriter, read_points
from landscape.storage import RunFileError, open_strict, read_arrays, write_arrays, write_json


class Work:
    """The kept points of one result; a context manager that holds its share of them.

    Args:
        folder: Made on entering; its name is that of the result and ".part". It goes when the last
            process has left it after `remove`, so nobody loses what he still reads.
        shard: Which share of the points this process measures, and of how many: (0, 1) is all.

    Raises:
        BusyError: On entering, while another process measures the same share, or divides the
            points in another number of shares.
        OSError: On entering, if the folder can't be written or its file system has no locks.
        ValueError: If there is no such share.
    """

    def __init__(self, folder: Path, *, shard: tuple[int, int] = (0, 1)) -> None:
        self.folder, self.shard = Path(folder), check_shard(*shard)
        self.name = self.folder.name.removesuffix(".part")
        self._columns: tuple[str, ...] = ()
        self._lock: Lock | None = None
        self._points: PointWriter | None = None

    def __enter__(self) -> "Work":
        with self._keeping():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._gate):
                self._clear()
                self.folder.mkdir(exist_ok=True)
                self._lock = self._claim()
        return self

    def __exit__(self, *error: object) -> None:
        if self._points is not None:
            self._points.close()
            self._points = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            with contextlib.suppress(OSError), locked(self._gate):
                self._clear()

    @property
    def _gate(self) -> Path:
        """Held while a folder of work is entered or removed: short, and never removed itself."""
        return self.folder.parent / ".work.lock"

    def _clear(self) -> None:
        """Delete what is no longer needed once nobody is in it; the gate is held."""
        if not self._done.exists() or any(map(_is_held, self._locks())):
            return
        gone = self.folder.with_name(f".{self.folder.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)  # at once, should we be killed meanwhile
        shutil.rmtree(gone, ignore_errors=True)

    def _claim(self) -> Lock:
        """Lock our share; the gate is held."""
        for path in self._locks():
            if not path.name.endswith(f"-of-{self.shard[1]}.lock") and _is_held(path):
                raise BusyError(self._busy(path))
        own = self.folder / f".{_label(self.shard)}.lock"
        if (lock := try_lock(own)) is None:
            raise BusyError(self._busy(own))
        return lock

    def _locks(self) -> list[Path]:
        return sorted(self.folder.glob(".*-of-*.lock"))

    @property
    def _done(self) -> Path:
        return self.folder / ".done"

    def _busy(self, path: Path) -> str:
        index, _, shards = path.name.strip(".").removesuffix(".lock").partition("-of-")
        what, who = self.folder.with_name(self.name), holder(path)
        advice = "wait until it has ended, or end it: what it finished is kept"
        if shards == "1":
            return f"{what} is being measured by {who}; {advice}"
        if int(shards) == self.shard[1]:
            return f"share {index}/{shards} of {what} is being measured by {who}; {advice}"
        return (
            f"{what} is being measured in {shards} shares, share {index}/{shards} by {who}; "
            f"take one of these shares, or {advice}"
        )

    def settle(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Decide something once, for all processes and all times until the work is removed.

        Args:
            name: What is decided: small letters and hyphens.
            make: Decides, as a JSON-able dict; called by the process that comes first, while the
                others wait.

        Returns:
            What was decided, as read from the file.

        Raises:
            RunFileError: If what was settled before is damaged.
            OSError: If it can't be written.
        """
        path = self.folder / f"{name}.json"
        with self._deciding(name):
            if not path.exists():
                value = dict(make())
                with self._keeping():
                    write_json(path, {"work": self.name, "value": value})
        try:
            settled = json.loads(path.read_text())
            matches = settled["work"] == self.name and isinstance(settled["value"], dict)
        except (ValueError, KeyError, TypeError):
            matches = False
        if not matches:
            raise RunFileError(f"{path}: damaged, or of other work; {self._advice}")
        return settled["value"]

    def settle_arrays(
        self, name: str, make: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Settle arrays, such as a plane's directions, as `settle` does: equal bits for everyone.

        Raises:
            RunFileError: If what was settled before is damaged.
            OSError: If it can't be written.
            ValueError: If an array is called "header" or has a slash in its name.
        """
        path = self.folder / f"{name}.h5"
        with self._deciding(name):
            if not path.exists():
                arrays = {key: np.asarray(array) for key, array in make().items()}
                if wrong := [key for key in arrays if key == "header" or "/" in key]:
                    raise ValueError(f"names of arrays must be plain, got {wrong[0]!r}; rename it")
                with self._keeping():
                    write_arrays(path, {"work": self.name}, arrays)
        try:
            with open_strict(path) as file:
                arrays = read_arrays(file)
            matches = json.loads(bytes(arrays.pop("header"))) == {"work": self.name}
        except (ValueError, KeyError) as error:
            raise RunFileError(f"{path}: damaged ({error}); {self._advice}") from None
        if not matches:
            raise RunFileError(f"{path}: of other work; {self._advice}")
        return arrays

    @contextlib.contextmanager
    def _deciding(self, name: str) -> Iterator[None]:
        if not re.fullmatch("[a-z][a-z-]*", name):
            raise ValueError(f"name must be small letters and hyphens, got {name!r}")
        with contextlib.ExitStack() as stack:
            with self._keeping():
                stack.enter_context(locked(self.folder / f".{name}.lock"))
            yield

    @property
    def _advice(self) -> str:
        return f"points may depend on it, so delete {self.folder}, and all is measured again"

    def finished(self, columns: Sequence[str]) -> dict[int, np.ndarray]:
        """The points that were finished by any process until now.

        Args:
            columns: What is measured at each point; `keep` takes values in this order.

        Returns:
            float64 [column] by index.

        Raises:
            RunFileError: If a file of points is damaged, or holds other columns or other work.
        """
        self._columns = tuple(columns)
        return read_points(self.folder, self.name, self._columns)

    def keep(self, index: int, values: Sequence[float]) -> None:
        """Keep a measured point; after the return no kill of the process can lose it.

        Args:
            index: Which point, from 0 on.
            values: What was measured, in the order of the columns given to `finished`.

        Raises:
            ValueError: If the number of values is not that of the columns.
            OSError: If it can't be written; all points kept before stay whole.
        """
        if len(values) != len(self._columns):
            raise ValueError(
                f"values must be {len(self._columns)} numbers {self._columns}, got {len(values)}"
            )
        with self._keeping():
            if self._points is None:
                self._points = PointWriter(
                    self.folder, _label(self.shard), self.name, self._columns
                )
            self._points.append(index, values)

    def mine(self, position: int) -> bool:
        """Whether the point at a position of the visiting order is in this process's share."""
        return position % self.shard[1] == self.shard[0]

    @contextlib.contextmanager
    def merging(self) -> Iterator[bool]:
        """Let one process at a time join the points of all to a result, save it and `remove`.

        Yields:
            Whether that is still to be done: False after another process did it.
        """
        with contextlib.ExitStack() as stack:
            with self._keeping():
                stack.enter_context(locked(self.folder / ".merge.lock"))
            yield not self._done.exists()

    def remove(self) -> None:
        """Have the folder deleted, now that the result is saved, when the last process leaves."""
        with self._keeping():
            self._done.touch()

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        """Say of an error in writing what became of the points."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}; points are kept here while they are measured: those finished "
                "are safe, and the same command goes on with the rest once this is mended",
                error.filename or str(self.folder),
            ) from error


def discard_stale(folder: Path, result: Path) -> None:
    """Delete the work of processes that were killed after the result had been saved.

    Nothing is deleted while a process works there, or where a point is younger than the result:
    then it is being measured again.
    """
    with contextlib.suppress(BusyError, FileNotFoundError):  # someone is at it, or was
        points = [path.stat().st_mtime_ns for path in folder.glob("*.points")]
        if not folder.is_dir() or result.stat().st_mtime_ns < max(points, default=0):
            return
        with Work(folder) as work:
            work.remove()


def parse_shard(text: str) -> tuple[int, int]:
    """Read "2/8": share 2 of the 8 shares 0 to 7.

    Raises:
        ValueError: If the text is no such share.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise ValueError(f"--shard must be like 0/8, the first of 8 shares, got {text!r}")
    return check_shard(int(found[1]), int(found[2]))


def shard_of_environment() -> tuple[int, int]:
    """The share of this process under torchrun (RANK of WORLD_SIZE); (0, 1) without it.

    Raises:
        ValueError: If the two variables are no share.
    """
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world is None:
        return 0, 1
    if not (rank.isdecimal() and world.isdecimal()):
        raise ValueError(
            f"RANK and WORLD_SIZE must be whole numbers as torchrun sets them, got {rank!r} and "
            f"{world!r}; unset them to measure all points here"
        )
    return check_shard(int(rank), int(world))


def check_shard(index: int, shards: int) -> tuple[int, int]:
    """Give a share back if there is one such.

    Raises:
        ValueError: If it is not one of 0 to shards - 1.
    """
    if shards < 1:
        raise ValueError(f"there must be at least one share, got {index}/{shards}; 0/1 is all")
    if not 0 <= index < shards:
        raise ValueError(
            f"shares are counted from 0: of {shards} they are 0/{shards} to {shards - 1}/{shards}, "
            f"got {index}/{shards}; a Slurm array of them is --array=0-{shards - 1}"
        )
    return index, shards


def _is_held(path: Path) -> bool:
    lock = try_lock(path)
    if lock is not None:
        lock.release()
    return lock is None


def _label(shard: tuple[int, int]) -> str:
    return f"{shard[0]}-of-{shard[1]}"
