"""What every kind of result has: arrays with named axes, how they were measured, what failed.

A result is a frozen value: no handle, no model, nothing of torch. Figures are drawn from a result
alone, and a result's file holds all that its caption says.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from landscape.storage import digest_of, plain


def axes(names: str, dtype: type = float, *, empty: bool = False) -> Any:
    """Declare an array field by the names of its axes, e.g. `axes("a b")`.

    Sizes of equal names must agree within a result; `n-1` is one less than `n`. With `empty`,
    the field defaults to an array without elements and may stay so.
    """
    metadata = {"axes": tuple(names.split()), "dtype": dtype, "empty": empty}
    if not empty:
        return field(metadata=metadata)
    return field(
        metadata=metadata,
        default_factory=lambda: np.empty((0,) * len(metadata["axes"]), dtype),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What every result has. Abstract: only the kinds below are made."""

    kind: ClassVar[str] = ""

    facts: dict[str, Any] = field(default_factory=dict)
    """How it was measured: plane, normalization, seed, bn, data, samples, dtype, ..."""
    options: dict[str, Any] = field(default_factory=dict)
    """The options that were asked for; part of the result's identity in a run."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """When, where and in how many seconds; not part of the digest."""

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        pending = []
        for item in dataclasses.fields(self):
            if "axes" not in item.metadata:
                continue
            array = getattr(self, item.name)
            if array is None:
                continue
            array = np.array(array, dtype=item.metadata["dtype"])
            array.setflags(write=False)
            object.__setattr__(self, item.name, array)
            if array.size == 0 and item.metadata["empty"]:
                continue
            if array.ndim != len(item.metadata["axes"]):
                raise ValueError(
                    f"{type(self).__name__}.{item.name} must have axes "
                    f"[{', '.join(item.metadata['axes'])}], got shape {array.shape}"
                )
            for name, size in zip(item.metadata["axes"], array.shape, strict=True):
                if "-" in name or name.isdigit():
                    pending.append((item.name, name, size))
                elif sizes.setdefault(name, size) != size:
                    raise ValueError(
                        f"{type(self).__name__}.{item.name} has {size} along axis {name!r}, "
                        f"expected {sizes[name]} as in the other arrays; is it transposed?"
                    )
        for owner, name, size in pending:
            base, _, less = name.partition("-")
            wanted = int(base) if base.isdigit() else max(sizes.get(base, 0) - int(less), 0)
            if size != wanted:
                raise ValueError(
                    f"{type(self).__name__}.{owner} must have {wanted} along axis {name!r}, "
                    f"got {size}"
                )

    @property
    def digest(self) -> str:
        """SHA-256 of arrays, scalars, facts and options; equal answers have equal digests."""
        value = [self.kind, scalars_of(self), self.facts, self.options]
        return digest_of(value, arrays_of(self))

    def save(self, path: str | Path) -> Path:
        """Write the result to one immutable HDF5 file.

        Raises:
            FileExistsError: If the file is there already.
        """
        from landscape.result_files import save_result

        return save_result(self, path)

    def plot(self, **style: Any) -> Any:
        """Draw for the screen: a plotly figure."""
        from landscape import figures

        return figures.plot(self, **style)

    def figure(self, **style: Any) -> Any:
        """Draw for paper: a matplotlib figure."""
        from landscape import figures

        return figures.draw(self, **style)


def arrays_of(result: Result) -> dict[str, np.ndarray]:
    """The arrays of a result by name; optional ones that it lacks are left out."""
    found = {}
    for item in dataclasses.fields(result):
        array = getattr(result, item.name) if "axes" in item.metadata else None
        if array is not None and (array.size or not item.metadata["empty"]):
            found[item.name] = array
    return found


def scalars_of(result: Result) -> dict[str, Any]:
    """What a result holds beside arrays and notes; empty lists of names are left out."""
    common = {"facts", "options", "provenance"}
    values = {
        item.name: plain(getattr(result, item.name))
        for item in dataclasses.fields(result)
        if "axes" not in item.metadata and item.name not in common
    }
    return {name: value for name, value in values.items() if value != []}
