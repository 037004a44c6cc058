"""Answers to questions: measured once, stored under the question's name, found again.

A result is named by its kind, all options that change the answer, the run, the checkpoint and a
digest of the data. Points measured one by one survive whatever ends the process.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape.objectives import Objective
from landscape.provenance import describe_environment
from landscape.ranks import Ranks
from landscape.result_files import load_result, result_key, save_result
from landscape.results import Result
from landscape.runs import read_stored
from landscape.savepoints import FileSavepoint, Savepoint
from landscape.subjects import Record, Subject
from landscape.terminal import Progress
from landscape.work import Work, discard_stale
from landscape.writers import utc_now

__all__ = [
    "Interrupted",
    "Progress",
    "Stored",
    "Unfinished",
    "answer",
    "answer_by_points",
    "answer_in_steps",
    "answer_together",
]


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


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """What was known of a result when Ctrl-C came; its file lies in no results folder."""

    result: Result
    folder: Path
    """Where the state is kept from which the next process goes on."""


def answer(
    subject: Subject | Record,
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


def answer_together(
    subject: Subject,
    kind: str,
    questions: Sequence[dict[str, Any]],
    objective: Objective | None,
    measure: Callable[[list[int]], Sequence[Result]],
    again: bool,
    ranks: Ranks | None = None,
) -> list[Stored]:
    """Find the answers to several questions; those that are not there are measured in one go.

    Args:
        subject: What is measured.
        kind: Kind of the results.
        questions: All options that change the answer, of each.
        objective: Whose data they are about; None for what was recorded.
        measure: Gives the results of the questions with these numbers, in their order.
        again: Whether to measure even what is there.
        ranks: The processes that measure together; the first stores.
    """
    ranks = ranks or Ranks()
    paths = [_path(subject, kind, question, objective) for question in questions]
    asked = ranks.agree([i for i, path in enumerate(paths) if again or not path.exists()])
    start = time.monotonic()
    measured = dict(zip(asked, measure(asked) if asked else (), strict=True))
    answers = []
    for i, (path, question) in enumerate(zip(paths, questions, strict=True)):
        if i not in measured:
            answers.append(_found(path, subject))
            continue
        result = _signed(measured[i], subject, kind, question, objective, start)
        if ranks.first:
            save_result(result, path, replace=again)
        answers.append(Stored(path=path, result=result, found=False))
    return answers


def answer_in_steps(
    subject: Subject,
    kind: str,
    question: dict[str, Any],
    objective: Objective,
    measure: Callable[[Savepoint], Result],
    *,
    again: bool,
    first: bool = True,
) -> Stored | Interrupted:
    """Find the answer, or measure and store it; a killed measurement goes on where it was saved.

    Args:
        subject: What is measured.
        kind: Kind of the result.
        question: All options that change the answer.
        objective: Whose data they are about.
        measure: Measures, beginning at what the savepoint holds and saving there.
        again: Whether to measure even what is there.
        first: Whether this is the process that stores, of several that measure the same together.

    Raises:
        ValueError: If another process is measuring the same.
    """
    path = _path(subject, kind, question, objective)
    folder = path.with_suffix(".part")
    if path.exists() and not again:
        discard_stale(folder, path)
        return _found(path, subject)
    start = time.monotonic()
    with Work(folder) if first else nullcontext() as work:
        savepoint = FileSavepoint(folder / "savepoint.h5", keep=first)
        result = _signed(measure(savepoint), subject, kind, question, objective, start)
        if result.facts.get("interrupted"):
            return Interrupted(result=result, folder=folder)
        if work is not None:
            save_result(result, path, replace=again)
            work.remove()
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
    subject: Subject | Record, kind: str, question: dict[str, Any], objective: Objective | None
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


def _found(path: Path, subject: Subject | Record) -> Stored:
    read_stored(path, subject.run.id if subject.run else None)
    return Stored(path=path, result=load_result(path), found=True)


def _signed(
    result: Result,
    subject: Subject | Record,
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
