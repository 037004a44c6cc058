"""What a measurement will cost, told before it starts."""

import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from landscape.fast import choose_path
from landscape.objectives import Objective
from landscape.spectra import find_eigenpairs

_TIMED = 3


def estimate_points(
    objectives: Sequence[Objective],
    *,
    points: int,
    eigenvalues: bool = False,
    precision: str = "full",
    chunk: int | None = None,
) -> dict[str, Any]:
    """Measure one point and multiply.

    Args:
        objectives: The losses evaluated at each point: training data, test data.
        points: Points in all.
        eigenvalues: Whether the extreme Hessian eigenvalues are found at each point.
        precision: As for `measure_surface`.
        chunk: Samples evaluated at a time.

    Returns:
        "points", "samples", "batches", "path", "chunk", "threads"; "seconds_setup",
        "seconds_point" and "seconds" in all; "memory", the bytes this process held at its peak,
        which does not grow with the points.
    """
    start = time.monotonic()
    seconds, batches, samples = 0.0, 0, 0
    facts: dict[str, Any] = {}
    for objective in objectives:
        path = choose_path(objective, [objective.theta], precision=precision, chunk=chunk)
        seconds += min(_timed(path, objective) for _ in range(_TIMED))
        facts = facts or path.facts
        batches += -(-objective.facts["samples"] // int(path.facts.get("chunk") or 256))
        samples += objective.facts["samples"]
    setup = time.monotonic() - start
    if eigenvalues:
        begun = time.monotonic()
        few = min(2, objectives[0].theta.numel())
        find_eigenpairs(objectives[0], k=few, which="BE", tolerance=1e-2, seed=0, copies=False)
        seconds += time.monotonic() - begun
    return {
        "points": points,
        "samples": samples,
        "batches": batches,
        **{name: facts.get(name) for name in ("path", "chunk", "threads")},
        "seconds_setup": round(setup, 3),
        "seconds_point": round(seconds, 6),
        "seconds": round(setup + points * seconds, 1),
        "memory": _peak_memory(objectives[0].theta.device),
    }


def _timed(path: Any, objective: Objective) -> float:
    begun = time.perf_counter()
    path.evaluate(objective.theta)  # a float comes back: the device has finished
    return time.perf_counter() - begun


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
