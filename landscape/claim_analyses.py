"""What a claim needs to know of runs, measured and stored run by run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from landscape import analyses
from landscape.answers import Stored
from landscape.claim_options import ClaimOptions
from landscape.evidence import AACE, SAM, THROUGH, Evidence, Key
from landscape.options import ConsistencyOptions, DirectionsOptions, OffsetOptions, RiseOptions
from landscape.perturbations import sam
from landscape.problems import Problem
from landscape.results import Result
from landscape.runs import Run
from landscape.subjects import record_of_run, subjects_of_run
from landscape.updates import perturbation_of_run

BOTH = ("sam", "aace")
"""Perturbations that the statements are about; those of the other methods join the cross-over."""
CURVED = 1000  # samples of the Hessian
FOLLOWED = 7  # checkpoints at which the first run of SAM and of AACE is followed
ALONG, POINTS = 2000, 16  # samples and places on the line of an offset


class Question(NamedTuple):
    """One analysis of one run, and how its results are filed."""

    run: Run
    analysis: str
    filed: str
    names: tuple[str, ...]
    options: Any


def gather_evidence(
    groups: Mapping[str, Mapping[int, Run]],
    problem_of: Callable[[Run], Problem],
    options: ClaimOptions,
    *,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    told: Callable[[str], None] | None = None,
) -> Evidence:
    """Measure what is missing of every run, store each answer among the run's results.

    A run that was measured before is not measured again; a killed measurement loses one answer.

    Args:
        groups: Runs by method and seed.
        problem_of: Model and data of a run.
        options: Sizes and seed.
        device: Where to compute.
        progress: Called with answers done and in total.
        told: Called with what is measured next.
    """
    questions = list(_questions(groups, options))
    results: dict[Key, Result] = {}
    lacking: dict[Key, str] = {}
    for done, question in enumerate(questions):
        if told is not None:
            told(f"{question.filed} of {question.run.name}")
        keys = [(question.run.id, question.filed, name) for name in question.names]
        try:
            answers = _answers(question, problem_of, device)
        except ValueError as error:
            lacking |= dict.fromkeys(keys, str(error))
            answers = []
        results |= {key: answer.result for key, answer in zip(keys, answers, strict=False)}
        if progress is not None:
            progress(done + 1, len(questions))
    return Evidence(groups, results, lacking)


def _answers(
    question: Question, problem_of: Callable[[Run], Problem], device: str | None
) -> list[Stored]:
    measure = analyses.ANALYSES[question.analysis]
    if question.analysis == "directions":
        return measure(record_of_run(question.run), question.options)
    step = question.options.checkpoint
    (subject,) = subjects_of_run(question.run, problem_of(question.run), step)
    return measure(replace(subject, device=device), question.options)


def _questions(
    groups: Mapping[str, Mapping[int, Run]], options: ClaimOptions
) -> Iterator[Question]:
    family = _family(groups)
    radius = _radius(groups)
    sizes: dict[str, Any] = {"batches": options.batches, "seed": options.seed}
    for method, runs in groups.items():
        for run in runs.values():
            frozen = {"protocol": "frozen", "samples": options.samples, **sizes}
            every = ConsistencyOptions(perturbations=",".join(family), **frozen)
            yield Question(run, "consistency", "frozen", family, every)
            early = str(_early(run))
            first = ConsistencyOptions(perturbations=",".join(BOTH), checkpoint=early, **frozen)
            yield Question(run, "consistency", "early", BOTH, first)
            if perturbation_of_run(run) is not None:
                recorded = DirectionsOptions(seed=options.seed)
                yield Question(run, "directions", "directions", ("",), recorded)
            names = ",".join(BOTH)
            if method in (SAM, AACE):
                along = RiseOptions(
                    perturbations=names,
                    samples=options.samples,
                    radii=f"{radius:g},1",
                    k=1,
                    curvature_samples=CURVED,
                    **sizes,
                )
                yield Question(run, "rise", "rise", BOTH, along)
            if method in (SAM, AACE) and run is next(iter(runs.values())):
                for step in _spread(run):
                    at = ConsistencyOptions(perturbations=names, checkpoint=str(step), **frozen)
                    yield Question(run, "consistency", f"{THROUGH}{step}", BOTH, at)
            if method == AACE:
                line = OffsetOptions(perturbations=names, samples=ALONG, points=POINTS, **sizes)
                yield Question(run, "offset", "offset", BOTH, line)


def _family(groups: Mapping[str, Mapping[int, Run]]) -> tuple[str, ...]:
    """SAM, AACE, and the perturbations of the other runs."""
    found = [perturbation_of_run(next(iter(runs.values()))) for runs in groups.values()]
    return tuple(dict.fromkeys([*BOTH, *(p.name for p in found if p is not None)]))


def _radius(groups: Mapping[str, Mapping[int, Run]]) -> float:
    """SAM's radius: that of its runs, or its default."""
    for run in groups.get(SAM, {}).values():
        if (trained := perturbation_of_run(run)) is not None:
            return trained.rho
    return sam().rho


def _spread(run: Run) -> list[int]:
    """Checkpoints spread over training, first and last among them."""
    places = np.linspace(0, len(run.checkpoints) - 1, FOLLOWED).round().astype(int)
    return [run.checkpoints[place] for place in dict.fromkeys(places.tolist())]


def _early(run: Run) -> int:
    """The first checkpoint after training began; the first of all where there is none."""
    later = [step for step in run.checkpoints if step > 0]
    return later[0] if later else run.checkpoints[0]
