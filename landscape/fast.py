"""The fastest way to evaluate an objective at many points, held to the plain one first."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from landscape.engines import KINDS, PLAIN, Engine
from landscape.objectives import Evaluation, Objective
from landscape.precision import MixedEngine
from landscape.probes import Point, compare, deviation, find_chunk, is_faster, is_short

PRECISIONS = ("full", "bfloat16", "mixed")

_CHUNK = 32  # the fastest or near it for every convolutional net measured
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
_LOW_TOLERANCE = {"bfloat16": 0.1, "mixed": 0.01}
_SURELY = 1.5  # a lead over the plain path that needs no second look

Place = Tensor | tuple[Tensor, Mapping[str, Any] | None]
_Engine = Engine | MixedEngine


class EvaluationPath:
    """A way to evaluate an objective, chosen by `choose_path`."""

    def __init__(
        self,
        objective: Objective,
        facts: dict[str, Any],
        *,
        engine: _Engine | None,
        exact: Engine | None,
    ) -> None:
        self.facts = facts
        """What was chosen and found (JSON): path, chunk, threads, precision, path_error (largest
        relative deviation of the loss from the plain path's where it was held to it), path_note
        (why no faster path was taken)."""
        self.settled = {**facts, "exact": PLAIN if exact is None else exact.kind}
        """What `choose_path` needs to make this path again without a probe (JSON)."""
        self._objective, self._engine, self._exact = objective, engine, exact

    def evaluate(self, theta: Tensor | Any, buffers: Mapping[str, Any] | None = None) -> Evaluation:
        """Loss, accuracy and metrics at theta [param]; all buffers by name where given.

        A point where the fast path fails is measured on the plain one, and the note says so; one
        whose loss is not finite is too, as overflow may come out as NaN or infinity.

        Raises:
            ValueError: If theta or the buffers do not fit the model.
        """
        return self._evaluate(self._engine, theta, buffers)

    def evaluate_exact(
        self, theta: Tensor | Any, buffers: Mapping[str, Any] | None = None
    ) -> Evaluation:
        """The same in the objective's own precision."""
        return self._evaluate(self._exact, theta, buffers)

    def _evaluate(
        self, engine: _Engine | None, theta: Tensor | Any, buffers: Mapping[str, Any] | None
    ) -> Evaluation:
        if engine is None:
            return self._objective.evaluate(theta, buffers=buffers)
        try:
            found = engine.evaluate(theta, buffers)
            if math.isfinite(found.loss):
                return found
            return self._objective.evaluate(theta, buffers=buffers)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            found = self._objective.evaluate(theta, buffers=buffers)
            note = f"some points on the plain path: {_reason(error)}"
            if note not in self.facts["path_note"]:
                self.facts["path_note"] = "; ".join(filter(None, (self.facts["path_note"], note)))
            return found


def choose_path(
    objective: Objective,
    thetas: Iterable[Place],
    *,
    precision: str = "full",
    chunk: int | None = None,
    settled: Mapping[str, Any] | None = None,
) -> EvaluationPath:
    """Choose the fastest path that agrees with the plain one at some points.

    Tried in turn: "folded+fused" (BatchNorm folded into convolutions, which oneDNN runs with the
    sums behind them), "folded" (the same by public operations), "chunked" (the model's own
    forward with weights in place), "plain" (`objective.evaluate`). A path is taken if at all
    points its loss deviates by at most 1e-5 (float64: 1e-12) of it or one rounding of 1, which is
    what log-softmax loses by itself, and accuracy and metrics by no more than ties between
    classes explain. Where the plain path is faster it is taken, and where a pass is so short that
    no clock could tell, always.

    Args:
        objective: The loss as a function of theta.
        thetas: A few points to hold the path to the plain one at, e.g. the first of a surface:
            parameters [param], or pairs of them with all buffers by name. A single one is joined
            by a point near it.
        precision: "full" is the objective's own type. "bfloat16" computes in that but for
            folding, the last layer and the loss. "mixed" corrects it to within 1 % of the loss,
            see `MixedEngine`.
        chunk: Samples at a time; by default 32 with convolutions, a whole batch without, and
            another number where a probe finds it more than 15 % faster. Given one, the path is
            chosen without a clock, so that two measurements have equal bits.
        settled: `EvaluationPath.settled` of an earlier path, to get the same bits again with the
            same number of threads. The other settings are then not used.

    Raises:
        ValueError: If an argument is out of range.
    """
    if settled is not None:
        return _again(objective, settled)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk must be a whole number from 1 on, got {chunk!r}")
    short = is_short(objective)
    if short and precision != "bfloat16":
        facts = _facts(objective, None, None, precision)
        note = "" if precision == "full" else "; full precision"
        facts |= {"path_error": 0.0, "path_note": f"a pass is too short to gain{note}"}
        return EvaluationPath(objective, facts, engine=None, exact=None)
    if short and chunk is None:
        chunk = _default_chunk(objective)
    timed = chunk is None  # equal bits from two measurements: no clock has a say
    points = _points(objective, thetas)
    begun = time.perf_counter()
    truths = [objective.evaluate(theta, buffers=buffers) for theta, buffers in points]
    plain_seconds = time.perf_counter() - begun
    notes: list[str] = []
    exact, error, seconds = _first_right(objective, points, truths, chunk, notes)
    engine: _Engine | None = exact
    if precision != "full":
        engine, error = _reduced(exact, precision, points, truths, notes, timed)
    if timed and exact is not None and engine is exact and seconds * _SURELY > plain_seconds:
        if is_faster(_plain(objective), exact.evaluate, points):
            engine, exact, error = None, None, 0.0
            notes.append("the plain path is faster")
    facts = _facts(objective, engine, exact, precision) | {
        "path_error": error,
        "path_note": "; ".join(dict.fromkeys(notes)),
    }
    return EvaluationPath(objective, facts, engine=engine, exact=exact)


def precision_error(path: EvaluationPath, thetas: Iterable[Place]) -> dict[str, float]:
    """The error of the losses of a path in reduced precision, relative to the full loss.

    Args:
        path: The path.
        thetas: Points to compare at: parameters [param], or pairs of them with buffers.

    Returns:
        "points" that have a finite loss, and "rms" and "max" over them, 0 without any.
    """
    errors = []
    for theta, buffers in map(_pair, thetas):
        truth = path.evaluate_exact(theta, buffers).loss
        if math.isfinite(truth):
            errors.append(deviation(path.evaluate(theta, buffers).loss, truth))
    rms = math.sqrt(sum(error**2 for error in errors) / max(len(errors), 1))
    return {"points": len(errors), "rms": rms, "max": max(errors, default=0.0)}


def _again(objective: Objective, settled: Mapping[str, Any]) -> EvaluationPath:
    facts = {name: value for name, value in settled.items() if name != "exact"}
    exact = engine = None
    if settled["exact"] != PLAIN:
        try:
            exact = Engine(objective, settled["exact"], settled["chunk"])
            engine = _in_precision(exact, settled["precision"])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            exact = None
            facts |= {"path": PLAIN, "path_note": f"{settled['path']}: {_reason(error)}"}
    return EvaluationPath(objective, facts, engine=engine, exact=exact)


def _in_precision(exact: Engine, precision: str) -> _Engine:
    if precision == "full":
        return exact
    low = Engine(exact.objective, exact.kind, exact.chunk, torch.bfloat16)
    return low if precision == "bfloat16" else MixedEngine(low, exact)


def _first_right(
    objective: Objective,
    points: Sequence[Point],
    truths: Sequence[Evaluation],
    chunk: int | None,
    notes: list[str],
) -> tuple[Engine | None, float, float]:
    """The first engine that agrees with the plain path, its error and its seconds."""
    for kind in _kinds(objective):
        try:
            engine = Engine(objective, kind, chunk or _default_chunk(objective))
            if chunk is None and _has(objective, _ConvNd):
                engine = _with_chunk(engine, find_chunk(engine))
            begun = time.perf_counter()
            error, wrong = compare(engine, points, truths, _TOLERANCE[objective.theta.dtype])
        except torch.OutOfMemoryError:
            raise
        except Exception as failure:
            notes.append(_reason(failure))
            continue
        if not wrong:
            return engine, error, time.perf_counter() - begun
        notes.append(f"{kind} differs from the plain path in {wrong}")
    return None, 0.0, 0.0


def _reduced(
    exact: Engine | None,
    precision: str,
    points: Sequence[Point],
    truths: Sequence[Evaluation],
    notes: list[str],
    timed: bool,
) -> tuple[_Engine | None, float]:
    """The engine in reduced precision if it's near the truth, else the exact one."""
    if exact is None:
        return None, 0.0
    try:
        engine = _in_precision(exact, precision)
        error, wrong = compare(engine, points, truths, _LOW_TOLERANCE[precision])
        if wrong:
            notes.append(f"{precision} differs from the plain path in {wrong}")
        elif timed and precision == "mixed" and is_faster(exact.evaluate, engine.evaluate, points):
            notes.append("full precision is faster than mixed")
        else:
            return engine, error
    except torch.OutOfMemoryError:
        raise
    except Exception as failure:
        notes.append(f"{precision}: {_reason(failure)}")
    return exact, compare(exact, points, truths, math.inf)[0]


def _plain(objective: Objective) -> Any:
    return lambda theta, buffers: objective.evaluate(theta, buffers=buffers)


def _with_chunk(engine: Engine, chunk: int) -> Engine:
    return engine if chunk == engine.chunk else Engine(engine.objective, engine.kind, chunk)


def _kinds(objective: Objective) -> Sequence[str]:
    if _has(objective, _ConvNd):
        return KINDS[:-1]
    return KINDS[1:-1] if _has(objective, _BatchNorm) else KINDS[2:-1]


def _has(objective: Objective, kind: Any) -> bool:
    return any(isinstance(module, kind) for module in objective.model.modules())


def _default_chunk(objective: Objective) -> int:
    largest = objective.facts["batch_size"]
    cuts = objective.theta.device.type == "cpu" and _has(objective, _ConvNd)
    return min(_CHUNK, largest) if cuts else largest


def _points(objective: Objective, thetas: Iterable[Place]) -> list[Point]:
    points = [_pair(theta) for theta in thetas] or [(objective.theta, None)]
    if len(points) == 1:
        theta, buffers = points[0]
        points.append((torch.as_tensor(theta) * 1.01, buffers))
    return points


def _pair(place: Place) -> Point:
    return place if isinstance(place, tuple) else (place, None)


def _facts(
    objective: Objective, engine: _Engine | None, exact: Engine | None, precision: str
) -> dict[str, Any]:
    return {
        "path": PLAIN if exact is None else exact.kind,
        "chunk": objective.facts["batch_size"] if exact is None else exact.chunk,
        "threads": torch.get_num_threads(),
        "precision": "full" if engine is exact else precision,
    }


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
