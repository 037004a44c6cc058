"""Full displacements on file: float32, or lossy in half the bytes (docs/schema.md, Snapshots)."""

import math
import os
from pathlib import Path

import h5py
import numpy as np

from landscape.storage import require_array, write_whole

STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
"""What vectors lie in files as. bfloat16, which HDF5 doesn't know, is the upper half of float32."""


def chunk_of(size: int) -> int:
    """Numbers of a chunk: even parts of a vector, of at most 2**18."""
    return math.ceil(size / max(math.ceil(size / 2**18), 1))


def write_vectors(path: Path, block: list[tuple[int, np.ndarray, float]]) -> None:
    """Write (step, vector, scale) in a file of its own, whole or not at all."""
    size, kind = block[0][1].size, block[0][1].dtype
    with write_whole(path) as temporary, h5py.File(temporary, "w", libver=("v110", "v110")) as file:
        file.create_dataset("step", data=np.array([step for step, _, _ in block], np.int64))
        data = file.create_dataset(
            "vectors", (len(block), size), kind, chunks=(1, chunk_of(size)), fletcher32=True
        )
        for row, (_, vector, _) in enumerate(block):
            data[row] = vector
        if kind == np.float16:
            file.create_dataset("scale", data=np.array([scale for _, _, scale in block]))


def stored_vectors(file: h5py.File, count: int | None, size: int | None) -> h5py.Dataset:
    """Return the vectors of an open file [count, size], not yet read, in any of the kinds.

    Raises:
        RunFileError: If they are missing, or of another kind or shape.
    """
    item = file.get("vectors")
    found = item.dtype if isinstance(item, h5py.Dataset) else None
    kind = next((kind for kind in STORED.values() if found == kind), np.float32)
    vectors = require_array(file, "vectors", kind, count, size)
    if kind == np.float16:
        require_array(file, "scale", np.float64, len(vectors))
    return vectors


def widened(file: h5py.File, rows: slice) -> np.ndarray:
    """Read vectors as float32 [n, size], whatever they are stored in."""
    vectors = stored_vectors(file, None, None)[rows]
    if vectors.dtype == np.uint16:
        return (vectors.astype(np.uint32) << 16).view(np.float32)
    if vectors.dtype == np.float16:
        scale = require_array(file, "scale", np.float64, None)[rows]
        return (vectors.astype(np.float64) * scale[:, None]).astype(np.float32)
    return vectors


def sync_files(folder: Path) -> None:
    """Have the disk itself hold what was written to the files below a folder."""
    for path in [*folder.rglob("*.h5"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
