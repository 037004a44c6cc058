"""Writing steps.h5: tables that grow while others read them (docs/schema.md, steps.h5)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from landscape.segments import TABLES, WIDE

_CHUNK = 1 << 16  # numbers of a chunk of several numbers per row
Row = dict[str, Any]


class StepFile:
    """A new steps.h5. Rows are counted by `committed` last: a kill leaves whole rows only.

    Args:
        path: The file; it must not exist.
        sketch: Numbers of a sketch.
        tensors: Tensors of theta.
    """

    def __init__(self, path: Path, *, sketch: int, tensors: int) -> None:
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
        """Append rows; columns of single numbers that are not given are NaN."""
        if not rows:
            return
        start = self.committed(table)
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
        return int(self._data[f"{table}/committed"][0])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
