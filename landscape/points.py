"""Files of measured points: appended row by row, whole whenever their process is killed.

A file is a header, one line of JSON, and rows of equal size: index int64, values float64 [column],
and a CRC-32 over the header and these, all little-endian. A row is one `write`; a file is written
by one process and never opened for writing again (docs/decisions/0010).
"""

import errno
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from landscape.storage import RunFileError, canonical, require_space, write_whole

_VERSION = 1
_LONGEST_HEADER = 1 << 16
_ADVICE = "delete this file, and its points are measured again"


class PointWriter:
    """Appends points to a new file `<stem>.<number>.points` in a folder.

    Raises:
        OSError: If the folder can't be written or the disk is full.
    """

    def __init__(self, folder: Path, stem: str, work: str, columns: Sequence[str]) -> None:
        taken = [int(path.name.split(".")[-2]) for path in folder.glob(f"{stem}.*.points")]
        self.path = folder / f"{stem}.{max(taken, default=-1) + 1}.points"
        self._columns = tuple(columns)
        header = _header(work, columns)
        require_space(folder, len(header))
        with write_whole(self.path) as temporary:
            temporary.write_bytes(header)
        self._seed, self._size = zlib.crc32(header), len(header)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, index: int, values: Sequence[float]) -> None:
        """Add a point; after the return a kill of this process can't take it back.

        Args:
            index: Which point, from 0 on.
            values: What was measured there [column].

        Raises:
            OSError: If it can't be written; what was appended before stays whole.
        """
        row = np.zeros((), _row(len(self._columns)))
        row["index"], row["values"] = index, values
        row["check"] = zlib.crc32(row.tobytes()[:-4], self._seed)
        require_space(self.path.parent, row.nbytes)
        written = 0
        try:
            written = os.write(self._descriptor, row.tobytes())
        finally:
            if written != row.nbytes:  # a later row must not follow half a row
                os.ftruncate(self._descriptor, self._size)
        if written != row.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._size += written

    def close(self) -> None:
        """End the file."""
        os.close(self._descriptor)


def read_points(folder: Path, work: str, columns: Sequence[str]) -> dict[int, np.ndarray]:
    """Read the points in all files of a folder, whether their writers live, ended or were killed.

    Args:
        folder: Where the files lie.
        work: What they must belong to.
        columns: What they must hold of each point.

    Returns:
        float64 [column] by index. What a kill or a power cut left of a last row is no point.

    Raises:
        RunFileError: If a file is damaged, or holds something else.
    """
    found: dict[int, np.ndarray] = {}
    for path in sorted(folder.glob("*.points")):
        rows = _read_rows(path, _header(work, columns), len(columns))
        for index, values in zip(rows["index"].tolist(), rows["values"].copy(), strict=True):
            found.setdefault(index, values)
    return found


def _row(columns: int) -> np.dtype:
    return np.dtype([("index", "<i8"), ("values", "<f8", (columns,)), ("check", "<u4")])


def _header(work: str, columns: Sequence[str]) -> bytes:
    settings = {"kind": "points", "version": _VERSION, "work": work, "columns": list(columns)}
    return canonical(settings) + b"\n"


def _read_rows(path: Path, header: bytes, columns: int) -> np.ndarray:
    content = path.read_bytes()
    if not content.startswith(header):
        raise RunFileError(f"{path}: {_difference(content, header)}; {_ADVICE}")
    kind, seed, start = _row(columns), zlib.crc32(header), len(header)
    size = kind.itemsize
    rows = np.frombuffer(content, kind, (len(content) - start) // size, start)
    whole = len(rows)
    while whole and not any(rows[whole - 1].tobytes()):  # room that was never filled
        whole -= 1
    for number, check in enumerate(rows["check"][:whole].tolist()):
        first = start + number * size
        if zlib.crc32(content[first : first + size - 4], seed) != check:
            raise RunFileError(f"{path}: row {number} is damaged (checksum differs); {_ADVICE}")
    return rows[:whole]


def _difference(content: bytes, header: bytes) -> str:
    """How the header of a file differs from the expected one."""
    line, wanted = content[:_LONGEST_HEADER].split(b"\n")[0], json.loads(header)
    try:
        got = json.loads(line)
        names = [name for name in wanted if got.get(name) != wanted[name]]
    except (ValueError, AttributeError):
        names = []
    if not names or names[0] not in got:
        return "is no file of points, or damaged"
    return f"is of {names[0]} {got[names[0]]!r}, expected {wanted[names[0]]!r}"
