"""Orthonormal vectors over parameters: many at once, in no more memory than they need."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_PIECE = 1 << 20  # entries that are handled at a time in float64
# Entries over which float32 sums run on a CPU, in either pass of orthogonalization. Over a million
# they lose 2e-4; only the second pass needs to be better.
_SUMS = (1 << 18, 1 << 14)


class Basis:
    """Rows `[row, param]` in blocks: it grows without copying what is there.

    Args:
        like: A vector `[param]` of the dtype and on the device wanted.
        block: How many rows to add when they run out.
        first: Rows to begin with, taken as they are.
    """

    def __init__(self, like: Tensor, *, block: int, first: Tensor | None = None) -> None:
        self._like, self._block = like, block
        self._blocks = [] if first is None else [first]

    def __getitem__(self, row: int) -> Tensor:
        """A row `[param]`, to read or to write."""
        while row >= sum(map(len, self._blocks)):
            self._blocks.append(self._like.new_empty(self._block, self._like.numel()))
        for block in self._blocks:
            if row < len(block):
                return block[row]
            row -= len(block)
        raise IndexError(row)

    def blocks(self, count: int) -> Iterator[tuple[int, Tensor]]:
        """The first `count` rows, block by block: the number of the first row, and the rows."""
        first = 0
        for block in self._blocks:
            if first < count:
                yield first, block[: count - first]
            first += len(block)

    def project_out(self, vector: Tensor, count: int) -> tuple[Tensor, np.ndarray]:
        """Split a vector into the first `count` rows' parts and a rest orthogonal to them.

        The second pass also corrects the coefficients for the rounding of the first.

        Returns:
            The rest `[param]`, and the coefficients `[count]` in float64.

        Source: "twice is enough", Parlett, The Symmetric Eigenvalue Problem, section 6.9.
        """
        given, parts = vector, []
        for entries in _SUMS:
            for _, rows in self.blocks(count):
                part = _inner_products(rows, vector, entries)
                if vector is given:  # not ours: an operator may hand out its own buffer
                    vector = torch.addmv(vector, rows.T, part.to(vector), alpha=-1)
                else:
                    vector.addmv_(rows.T, part.to(vector), alpha=-1)
                parts.append(part)
        if not parts:
            return vector, np.empty(0)
        return vector, torch.cat(parts).cpu().numpy().reshape(2, count).sum(0)

    def rotate(self, matrix: np.ndarray) -> None:
        """Put `matrixᵀ @ rows` in the place of the first rows, for `matrix [row, new row]`."""
        blocks = [rows for _, rows in self.blocks(len(matrix))]
        turn = torch.from_numpy(np.ascontiguousarray(matrix.T)).to(self._like.device)
        width = max(1, _PIECE // max(1, len(matrix)))
        for begin in range(0, self._like.numel(), width):
            pieces = [block[:, begin : begin + width] for block in blocks]
            turned = turn @ torch.cat(pieces).double()
            for piece in pieces:
                piece[: len(turned)] = turned[: len(piece)]
                turned = turned[len(piece) :]

    def straighten(self, count: int) -> None:
        """Make the first `count` rows, all but orthonormal, more so: one Newton step."""
        gram = np.zeros((count, count))
        width = max(1, _PIECE // count)
        for begin in range(0, self._like.numel(), width):
            pieces = [rows[:, begin : begin + width] for _, rows in self.blocks(count)]
            piece = torch.cat(pieces).double()
            gram += (piece @ piece.T).cpu().numpy()
        self.rotate(1.5 * np.eye(count) - 0.5 * gram)

    def cut(self, count: int) -> Tensor:
        """Forget all but the first `count` rows, and return them `[count, param]`."""
        self._blocks = [rows for _, rows in self.blocks(count)]
        if len(self._blocks) > 1:
            self._blocks = [torch.cat(self._blocks)]
        return self._blocks[0]


def _inner_products(rows: Tensor, vector: Tensor, entries: int) -> Tensor:
    if vector.device.type != "cpu":  # elsewhere sums are taken as trees
        return (rows @ vector).double()
    cuts = range(0, len(vector), entries)
    parts = [rows[:, cut : cut + entries] @ vector[cut : cut + entries] for cut in cuts]
    return torch.stack(parts).sum(0, dtype=torch.float64)


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm, summed in float64: float32 loses 1e-5 over a million entries."""
    pieces = vector.split(_PIECE)
    norms = [torch.linalg.vector_norm(piece, dtype=torch.float64) for piece in pieces]
    return float(torch.linalg.vector_norm(torch.stack(norms)))
