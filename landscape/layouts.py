"""The layout of theta: where each trainable tensor lies in the flat parameter vector."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One trainable tensor inside theta."""

    name: str
    """Name from `named_parameters()`; a tied tensor appears once, under its first name."""
    shape: tuple[int, ...]
    """Shape of the tensor, stored row-major."""
    offset: int
    """Index of its first number in theta."""
    kind: str
    """ "weight" | "bias" | "norm" | "embedding"."""

    @property
    def size(self) -> int:
        """How many numbers of theta the tensor takes."""
        return math.prod(self.shape)

    @property
    def slice(self) -> slice:
        """The tensor's place in theta."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class Layout:
    """The entries of theta, in `named_parameters()` order."""

    entries: tuple[Entry, ...]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        """Length of theta."""
        return sum(entry.size for entry in self.entries)

    def to_json(self) -> list[dict[str, Any]]:
        """The index table as it is stored in a run."""
        return [
            {"name": e.name, "shape": list(e.shape), "offset": e.offset, "kind": e.kind}
            for e in self.entries
        ]

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, Any]]) -> "Layout":
        """Rebuild a layout from its stored index table.

        Raises:
            ValueError: If the entries do not tile theta without gap or overlap.
        """
        entries = tuple(
            Entry(
                name=str(row["name"]),
                shape=tuple(int(side) for side in row["shape"]),
                offset=int(row["offset"]),
                kind=str(row["kind"]),
            )
            for row in rows
        )
        expected = 0
        for entry in entries:
            if entry.offset != expected or min(entry.shape, default=0) < 0:
                raise ValueError(
                    f"layout entry {entry.name!r} must begin at {expected}, got {entry.offset} and "
                    f"shape {entry.shape}; the stored index table is damaged"
                )
            expected += entry.size
        return cls(entries)
