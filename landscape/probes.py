"""Whether a fast path is right, by the numbers, and whether it is fast, by the clock."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from landscape.engines import Engine
from landscape.objectives import Evaluation, Objective
from landscape.precision import MixedEngine

Point = tuple[Tensor, Mapping[str, Any] | None]
"""Parameters [param] and, where they belong to the point, all buffers by name."""
Evaluate = Callable[[Any, Any], Evaluation]

_CLEARLY = 1.15  # good chunks differ by up to 8 %: a bar there would choose now one, now another
_CHUNKS = (16, 32, 64, 128)
_SHORTEST = 1e9  # multiplications and additions: some 20 ms of one core
_ROUNDS = 3  # all of which have to be won


def compare(
    engine: Engine | MixedEngine,
    points: Sequence[Point],
    truths: Sequence[Evaluation],
    tolerance: float,
) -> tuple[float, str]:
    """The largest relative deviation of the loss, and what is wrong, "" if nothing is."""
    error, wrong = 0.0, ""
    samples = engine.objective.facts["samples"]
    slack = max(100 * tolerance, 0.001) + 1.5 / samples
    rounding = torch.finfo(engine.objective.theta.dtype).eps / 2
    for (theta, buffers), truth in zip(points, truths, strict=True):
        found = engine.evaluate(theta, buffers)
        if not math.isfinite(truth.loss) and not math.isfinite(found.loss):
            continue  # such points are measured on the plain path
        error = max(error, deviation(found.loss, truth.loss))
        if not _near(found.loss, truth.loss, tolerance * abs(truth.loss) + rounding):
            wrong = wrong or f"the loss, {found.loss:.9g} and {truth.loss:.9g}"
        if not _near(found.accuracy, truth.accuracy, slack):
            wrong = wrong or f"the accuracy, {found.accuracy:.6g} and {truth.accuracy:.6g}"
        for name, value in truth.metrics.items():
            if not _near(found.metrics[name], value, slack * max(1.0, abs(value))):
                wrong = wrong or f"{name}, {found.metrics[name]:.6g} and {value:.6g}"
    return error, wrong


def _near(found: float, truth: float, slack: float) -> bool:
    if not math.isfinite(truth):
        return found == truth or (math.isnan(found) and math.isnan(truth))
    return abs(found - truth) <= slack


def deviation(found: float, truth: float) -> float:
    """|found - truth| / |truth|, absolute for a truth of 0; 0 where the truth is not finite."""
    if not math.isfinite(truth):
        return 0.0
    return abs(found - truth) / (abs(truth) or 1.0)


def is_short(objective: Objective) -> bool:
    """Whether a pass over the data is too short for any path to gain, or for a clock to tell.

    Decided by counting operations, so that it is the same every time.
    """
    inputs = objective.batches[0][0][:2]
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            objective.model(inputs)
    except (RuntimeError, ValueError, TypeError):
        return False
    each = counter.get_total_flops() / len(inputs)
    return 0 < each * objective.facts["samples"] < _SHORTEST


def find_chunk(engine: Engine) -> int:
    """The engine's chunk, or another that is clearly faster over some samples."""
    inputs = max((x for x, _ in engine.objective.batches), key=len)[: max(_CHUNKS)]
    rivals = sorted({*(c for c in _CHUNKS if c < len(inputs)), len(inputs)} - {engine.chunk})
    if inputs.device.type != "cpu" or not rivals:
        return engine.chunk
    engines = [engine, *(Engine(engine.objective, engine.kind, chunk) for chunk in rivals)]
    for rival in engines:
        rival.place(engine.objective.theta)
    return engines[_winner([lambda rival=rival: rival.outputs(inputs) for rival in engines])].chunk


def is_faster(one: Evaluate, other: Evaluate, points: Sequence[Point]) -> bool:
    """Whether one way to evaluate is clearly faster than another."""

    def runs(evaluate: Evaluate) -> Callable[[], Any]:
        return lambda: [evaluate(theta, buffers) for theta, buffers in points[:2]]

    return _winner([runs(other), runs(one)]) == 1


def _winner(runs: Sequence[Callable[[], Any]]) -> int:
    """The quickest of those that beat the first clearly in every round; 0, the first, if none does.

    Runs take turns, so that a neighbor's load hits all, and one is out once it has lost.
    """
    for run in runs:
        run()
    best = dict.fromkeys(range(1, len(runs)), math.inf)
    for _ in range(_ROUNDS):
        bar = _seconds(runs[0])
        took = {place: _seconds(runs[place]) for place in best}
        best = {p: min(best[p], took[p]) for p in best if took[p] * _CLEARLY < bar}
        if not best:
            return 0
    return min(best, key=best.__getitem__)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
