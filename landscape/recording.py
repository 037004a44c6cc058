"""How much of a run is recorded: which full displacements, in which kind of number, and why."""

import math
from dataclasses import asdict, dataclass
from typing import Any

BUDGET = 20_000_000_000
"""Bytes that a run may take by default."""

SKETCH = 4096
"""Numbers of a sketch by default."""

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Kinds of number that vectors are stored in, and what one takes."""

_ROW_BYTES = 200  # a row of steps.h5, about


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is recorded of each step, decided once when the run begins."""

    asked: str
    """What was asked for: full, every:K, sketch or auto."""
    every: int
    """Steps between full displacements: 1 keeps all, 0 none."""
    until: int | None
    """Step from which on no full displacement is kept; None: there is no such step."""
    dtype: str
    """Kind of number of the full displacements."""
    sketch: int
    """Numbers of each sketch; that of a vector not longer than this is exact."""
    sketch_seed: int
    """Seed of the sketches. Sketches of one seed and size compare across runs."""
    budget: int
    """Bytes that `auto` plans with."""
    planned_bytes: int | None
    """What the whole run takes, about; None where the number of steps is not known."""
    reason: str
    """Why, as a sentence for people."""

    def keeps(self, step: int) -> bool:
        """Whether the full displacement of a step is kept."""
        inside = self.until is None or step < self.until
        return self.every > 0 and step % self.every == 0 and inside

    def to_json(self) -> dict[str, Any]:
        """The decision as run.json holds it."""
        return asdict(self)


def choose_recording(
    asked: str,
    *,
    size: int,
    tensors: int,
    total_steps: int | None,
    checkpoint_every: int,
    budget: int = BUDGET,
    dtype: str = "float32",
    sketch: int = SKETCH,
    sketch_seed: int = 0,
) -> Recording:
    """Decide what is recorded of a run.

    Scalars and sketch are recorded of every step. `auto` keeps all full displacements while the
    whole run fits the budget, else every K-th with the smallest K that fits. Without `total_steps`
    it keeps all until they, sketches and scalars have filled the budget.

    Args:
        asked: "full", "every:K", "sketch" (no full vectors) or "auto".
        size: Parameters.
        tensors: Tensors of theta.
        total_steps: Planned updates.
        checkpoint_every: Updates between checkpoints.
        budget: Bytes that `auto` may plan with.
        dtype: "float32", "float16" or "bfloat16"; the latter two are lossy.
        sketch: Numbers of a sketch.
        sketch_seed: Seed of the sketches.

    Raises:
        ValueError: An argument is out of range.
    """
    stride = stride_of(asked)
    if dtype not in BYTES:
        raise ValueError(f"record_dtype must be one of {', '.join(BYTES)}, got {dtype!r}")
    if budget < 1 or sketch < 2 or sketch_seed < 0:
        raise ValueError(
            "record_budget must be 1 byte or more, sketch 2 numbers or more, sketch_seed 0 or "
            f"more, got {budget}, {sketch}, {sketch_seed}"
        )
    sketch = min(sketch, size)
    vector, step_bytes = size * BYTES[dtype], _ROW_BYTES + 4 * (sketch + tensors)
    until = None
    if total_steps is None:
        if stride is None:
            stride, until = 1, budget // max(vector + step_bytes, 1)
            reason = (
                f"the number of steps is not known: full displacements of the first {until} steps "
                f"fit {_size(budget)}"
            )
        else:
            reason = f"{asked} was asked for"
        planned = None
    else:
        fixed = total_steps * step_bytes + (total_steps // checkpoint_every + 2) * 4 * size
        if stride is None:
            stride, reason = _fitting(total_steps, vector, budget, fixed)
        else:
            reason = f"{asked} was asked for"
        kept = math.ceil(total_steps / stride) if stride else 0
        planned = fixed + kept * vector
        reason += f"; the whole run takes about {_size(planned)}"
    if BYTES[dtype] < 4 and stride:
        reason += f"; full displacements are rounded to {dtype}"
    return Recording(
        asked=asked,
        every=stride,
        until=until,
        dtype=dtype,
        sketch=sketch,
        sketch_seed=sketch_seed,
        budget=budget,
        planned_bytes=planned,
        reason=reason,
    )


def stride_of(asked: str) -> int | None:
    """Return the steps between full vectors, 0 for none, None where it is to be chosen.

    Raises:
        ValueError: It is no policy.
    """
    known = {"full": 1, "sketch": 0, "auto": None}
    if asked in known:
        return known[asked]
    word, _, number = asked.partition(":")
    if word == "every" and number.isdecimal() and int(number) > 0:
        return int(number)
    raise ValueError(
        f"record must be full, sketch, auto or every:K with K of 1 or more, got {asked!r}"
    )


def _fitting(total_steps: int, vector: int, budget: int, fixed: int) -> tuple[int, str]:
    """Return the smallest stride that fits the budget, 0 where none does, and why."""
    whole = total_steps * vector
    if fixed + whole <= budget:
        return 1, f"all full displacements fit {_size(budget)}"
    room = (budget - fixed) // vector
    if room < 1:
        return 0, f"no full displacement fits {_size(budget)} beside checkpoints and sketches"
    stride = math.ceil(total_steps / room)
    return stride, (
        f"all full displacements would take {_size(whole)}, which does not fit {_size(budget)}; "
        f"every {stride}th does"
    )


def _size(count: int) -> str:
    """Say a number of bytes in decimal units."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
