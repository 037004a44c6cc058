"""Answers to questions: measured once, stored under the question's name, found again.

A result is named by its kind, all options that change the answer, the run, the checkpoint and a
digest of the data. Points measured one by one survive whatever ends the process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape.objectives import Objective
from landscape.provenance import describe_environment
from landscape.result_files import load_result, result_key, save_result
from landscape.results import Result
from landscape.runs import read_stored
from landscape.subjects import Subject
from landscape.work import Work, discard_stale
from landscape.writers import utc_now

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A result and the file it lies in."""

    path: Path
    result: Result
    found: bool
    """Whether it had been measured before."""


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A result of which other processes still measure their share."""

    kind: str
    folder: Path
    """Where the points are kept until all are there."""
    done: int
    total: int


def answer(
    subject: Subject,
    kind: str,
    question: dict[str, Any],
    objective: Objective | None,
    measure: Callable[[], Result],
    again: bool,
) -> Stored:
    """Find the answer, or measure and store it."""
    path = _path(subject, kind, question, objective)
    if path.exists() and not again:
        return _found(path, subject)
    start = time.monotonic()
    result = _signed(measure(), subject, kind, question, objective, start)
    save_result(result, path, replace=again)
    return Stored(path=path, result=result, found=False)


def answer_by_points(
    subject: Subject,
    kind: str,
    question: dict[str, Any],
    objective: Objective,
    measure: Callable[[Work], Result],
    *,
    again: bool,
    shard: tuple[int, int],
) -> Stored | Unfinished:
    """Find the answer, or measure it point by point; whoever ends last stores it.

    Raises:
        ValueError: If another process is measuring the same points.
    """
    path = _path(subject, kind, question, objective)
    folder = path.with_suffix(".part")
    if path.exists() and not again:
        discard_stale(folder, path)
        return _found(path, subject)
    start = time.monotonic()
    with Work(folder, shard=shard) as work:
        if path.exists() and not again:  # stored while we were on our way here
            work.remove()
            return _found(path, subject)
        result = measure(work)
        missing = _missing(result)
        if missing.any():
            return Unfinished(
                kind=kind,
                folder=folder,
                done=int((~missing).sum()),
                total=missing.size,
            )
        with work.merging() as first:
            if not first:
                return _found(path, subject)
            result = _signed(result, subject, kind, question, objective, start)
            save_result(result, path, replace=again)
            work.remove()
    return Stored(path=path, result=result, found=False)


def _missing(result: Any) -> np.ndarray:
    """Which points nobody has measured or interpolated yet."""
    known = getattr(result, "evaluated", np.ones(1, bool))
    interpolated = getattr(result, "interpolated", np.empty(0))
    return ~(known | interpolated) if interpolated.size else ~known


def _path(
    subject: Subject, kind: str, question: dict[str, Any], objective: Objective | None
) -> Path:
    digest = objective.facts["data_digest"] if objective else "recorded"
    key = result_key(
        kind,
        question,
        run=subject.identity,
        checkpoint=subject.checkpoint,
        data_digest=digest,
    )
    return subject.folder / f"{kind}-{key}.h5"


def _found(path: Path, subject: Subject) -> Stored:
    read_stored(path, subject.run.id if subject.run else None)
    return Stored(path=path, result=load_result(path), found=True)


def _signed(
    result: Result,
    subject: Subject,
    kind: str,
    question: dict[str, Any],
    objective: Objective | None,
    start: float,
) -> Result:
    return replace(
        result,
        options=question,
        facts={**result.facts, **subject.facts(kind)},
        provenance={
            **describe_environment(objective.theta.device if objective else None),
            "created": utc_now(),
            "seconds": round(time.monotonic() - start, 3),
        },
    )
