"""Run + options -> measured, saved result. Glue only: the mathematics is in the modules it calls.

What lies on lines, planes and curves is in `surface_analyses`, what is made of Hessian products in
`curvature_analyses`, what lies along perturbations in `direction_analyses`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.answers import Progress, Stored, answer, answer_together
from landscape.consistency import online_consistency
from landscape.curvature_analyses import curvature, sharpness, spectrum, stability
from landscape.direction_analyses import offset, rise
from landscape.frozen_protocol import measure_consistencies
from landscape.options import (
    OPTIONS,
    ConsistencyOptions,
    DirectionsOptions,
    TrajectoryOptions,
    asked,
)
from landscape.ranks import Ranks
from landscape.results import Consistency, Result
from landscape.runs import Run
from landscape.subjects import Record, Subject
from landscape.surface_analyses import barrier, curve, profile, surface
from landscape.trajectories import measure_trajectory
from landscape.whole_runs import measure_directions

_EDITION = 2  # of what a consistency holds: one of before answers no question that is asked now


def consistency(
    subject: Subject,
    options: ConsistencyOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
) -> list[Stored]:
    """The frozen protocol for every perturbation asked for, and what training recorded."""
    answers = []
    ranks = ranks or Ranks()
    if options.protocol != "online":
        answers += _frozen(subject, options, again, progress, ranks)
    if options.protocol != "frozen":
        answers += _online(subject, options, again, ranks)
    return answers


def _frozen(
    subject: Subject,
    options: ConsistencyOptions,
    again: bool,
    progress: Progress | None,
    ranks: Ranks,
) -> list[Stored]:
    size = options.batch_size or subject.batch_size
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)
    words = options.perturbations.split(",")
    perturbations = list(dict.fromkeys(subject.perturbation(word) for word in words))
    names = ("checkpoint", "samples", "batches", "bn", "seed")
    common = {key: asked(options, checkpoint=subject.checkpoint)[key] for key in names}
    common |= {"protocol": "frozen", "batch_size": size, "edition": _EDITION}
    if options.radius:
        common["radius"] = options.radius
    questions = [
        common
        | {"perturbation": perturbation.label}
        | ({"burn_in": options.burn_in} if perturbation.has_memory else {})
        for perturbation in perturbations
    ]

    def measure(which: list[int]) -> list[Consistency]:
        return measure_consistencies(
            objective,
            [perturbations[i] for i in which],
            batches=options.batches,
            batch_size=size,
            seed=options.seed,
            bn=options.bn,
            step=subject.checkpoint,
            burn_in=options.burn_in,
            radius=options.radius or None,
            ranks=ranks,
            progress=progress,
        )

    return answer_together(subject, "consistency", questions, objective, measure, again, ranks)


def _online(
    subject: Subject, options: ConsistencyOptions, again: bool, ranks: Ranks
) -> list[Stored]:
    run = subject.run
    recorded = run.recorded_steps if run else np.empty(0)
    before = recorded[recorded < subject.checkpoint]
    if run is None or len(before) < 2:
        if options.protocol == "online":
            raise ValueError(
                "the online protocol needs at least two recorded displacements before the "
                f"checkpoint, got {len(before)}; take --protocol frozen, which draws its own"
            )
        return []
    window = before[-options.window :]
    start, stop = int(window[0]), int(window[-1]) + 1
    question = {"protocol": "online", "start": start, "stop": stop, "seed": options.seed}
    question |= {"edition": _EDITION}

    def measure(_: list[int], run: Run = run) -> list[Consistency]:
        return [online_consistency(run, start=start, stop=stop, seed=options.seed)]

    return answer_together(subject, "consistency", [question], None, measure, again, ranks)


def directions(
    record: Record,
    options: DirectionsOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """The directions of all that training recorded, window by window."""

    def measure() -> Result:
        return measure_directions(
            record.run,
            window=options.window or "epoch",
            lags=[int(lag) for lag in options.lags.split(",")],
            block=options.block or None,
            seed=options.seed,
            progress=progress,
        )

    return [answer(record, "directions", asked(options), None, measure, again)]


def trajectory(
    subject: Subject,
    options: TrajectoryOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """The run's checkpoints on the plane of their first two principal components."""
    run = subject.run
    if run is None:
        raise ValueError("a trajectory needs a run with checkpoints, got one set of weights")
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)

    def measure() -> Result:
        return measure_trajectory(run, objective, progress=progress)

    return [answer(subject, "trajectory", asked(options), objective, measure, again)]


ANALYSES: dict[str, Callable[..., list[Any]]] = {
    "profile": profile,
    "surface": surface,
    "barrier": barrier,
    "curve": curve,
    "spectrum": spectrum,
    "sharpness": sharpness,
    "stability": stability,
    "curvature": curvature,
    "consistency": consistency,
    "rise": rise,
    "offset": offset,
    "directions": directions,
    "trajectory": trajectory,
}
assert set(ANALYSES) == set(OPTIONS)
