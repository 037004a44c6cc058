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

_CLEARLY = 1.07  # less is within the noise of a short probe
_CHUNKS = (16, 32, 64, 128)
_SHORTEST = 1e9  # multiplications and additions: some 20 ms of one core
_SHORT = 0.3  # seconds that a race of what is quick may take


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
    """|found - truth| / |truth|; 0 where both are the same, be it NaN or infinity."""
    if found == truth or not math.isfinite(truth):
        return 0.0
    return abs(found - truth) / abs(truth) if truth else math.inf


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
    seconds = _race([lambda rival=rival: rival.outputs(inputs) for rival in engines])
    fastest = min(range(len(engines)), key=seconds.__getitem__)
    return engines[fastest if seconds[fastest] * _CLEARLY < seconds[0] else 0].chunk


def is_faster(one: Evaluate, other: Evaluate, points: Sequence[Point]) -> bool:
    """Whether one way to evaluate is clearly faster than another."""

    def runs(evaluate: Evaluate) -> Callable[[], Any]:
        return lambda: [evaluate(theta, buffers) for theta, buffers in points[:2]]

    seconds = _race([runs(one), runs(other)])
    return seconds[0] * _CLEARLY < seconds[1]


def _race(runs: Sequence[Callable[[], Any]]) -> list[float]:
    """The least seconds that each took, in turns: twice at least, more if it's quick."""
    best, begun, rounds = [math.inf] * len(runs), time.perf_counter(), 0
    while rounds < 2 or (rounds < 50 and time.perf_counter() - begun < _SHORT):
        for place, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[place] = min(best[place], time.perf_counter() - start)
        rounds += 1
    return best
