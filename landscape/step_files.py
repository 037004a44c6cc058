"""Writing steps.h5: tables that grow while others read them (docs/schema.md, steps.h5)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from landscape.segments import TABLES, WIDE

_CHUNK = 1 << 15  # numbers of a chunk of several numbers per row
Row = dict[str, Any]


class StepFile:
    """A new steps.h5. Rows are counted by `committed` last: a kill leaves whole rows only.

    Args:
        path: The file; it must not exist.
        sketch: Numbers of a sketch.
        tensors: Tensors of theta.
    """

    def __init__(self, path: Path, *, sketch: int, tensors: int) -> None:
        self._path, self._broken = path, False
        self._counts = dict.fromkeys(TABLES, 0)
        self._file = h5py.File(path, "x", libver=("v110", "v110"))
        self._data: dict[str, h5py.Dataset] = {}
        for table, columns in TABLES.items():
            for name in columns:
                self._data[f"{table}/{name}"] = self._file.create_dataset(
                    f"{table}/{name}", (0,), "f8", maxshape=(None,), chunks=(1024,)
                )
            # written now: what SWMR allocates later lies beyond the end of file readers know
            self._data[f"{table}/committed"] = self._file.create_dataset(
                f"{table}/committed", data=np.zeros(1, np.int64)
            )
        for name, width in zip(WIDE, (sketch, tensors), strict=True):
            self._data[f"displacements/{name}"] = self._file.create_dataset(
                f"displacements/{name}",
                (0, width),
                "f4",
                maxshape=(None, width),
                chunks=(max(_CHUNK // max(width, 1), 1), max(width, 1)),
            )
        self._file.swmr_mode = True

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows; columns of single numbers that are not given are NaN.

        Raises:
            OSError: They can't be written. Nothing is written to the file from then on.
        """
        if not rows:
            return
        if self._broken:
            raise OSError(f"{self._path}: an earlier row could not be written")
        try:
            self._append(table, rows)
        except (OSError, RuntimeError) as error:  # RuntimeError: what h5py has no other kind for
            self._broken = True
            reason = str(error).partition("\n")[0]
            raise OSError(
                f"{self._path}: rows can't be written ({reason}); is there room?"
            ) from error
        self._counts[table] += len(rows)

    def _append(self, table: str, rows: Sequence[Row]) -> None:
        start = self._counts[table]
        for name, data in self._data.items():
            group, _, column = name.partition("/")
            if group != table or column == "committed":
                continue
            data.resize(start + len(rows), axis=0)
            data[start:] = np.array([row.get(column, np.nan) for row in rows], data.dtype)
            data.flush()
        committed = self._data[f"{table}/committed"]
        committed[0] = start + len(rows)
        committed.flush()

    def committed(self, table: str) -> int:
        """How many rows of a table there are."""
        return self._counts[table]

    def close(self) -> None:
        """Close the file; after an error, leave it as a kill would.

        HDF5 would try to write the rest when the process ends, and crash. It is given a place that
        takes everything instead.
        """
        if self._broken:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._file.id.get_vfd_handle())
            os.close(nowhere)
        self._file.close()
