"""Run + options -> measured, saved result. Glue only: the mathematics is in the modules it calls.

What lies on lines, planes and curves is in `surface_analyses`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from landscape.answers import Progress, Stored, answer
from landscape.consistency import measure_consistency, online_consistency
from landscape.densities import estimate_density
from landscape.options import (
    ConsistencyOptions,
    SpectrumOptions,
    TrajectoryOptions,
    asked,
)
from landscape.perturbations import Perturbation
from landscape.results import Result, Spectrum
from landscape.runs import Run
from landscape.spectra import find_eigenpairs
from landscape.subjects import Subject
from landscape.surface_analyses import barrier, curve, profile, surface
from landscape.trajectories import measure_trajectory


def spectrum(
    subject: Subject,
    options: SpectrumOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """Eigenpairs of the Hessian and, unless `probes` is 0, its spectral density."""
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)

    def eigenpairs() -> Result:
        found: Spectrum = find_eigenpairs(
            objective,
            k=options.k,
            which=options.which,
            tolerance=options.tolerance,
            seed=options.seed,
            progress=progress,
        )
        return replace(found, eigenvectors=None)

    def density() -> Result:
        return estimate_density(
            objective,
            probes=options.probes,
            steps=options.steps,
            seed=options.seed,
            progress=progress,
        )

    common = asked(options, checkpoint=subject.checkpoint)
    shared = {name: common[name] for name in ("checkpoint", "samples", "bn", "seed")}
    asks = {name: common[name] for name in ("k", "which", "tolerance")}
    answers = [answer(subject, "spectrum", {**shared, **asks}, objective, eigenpairs, again)]
    if options.probes:
        asks = {name: common[name] for name in ("probes", "steps")}
        answers.append(answer(subject, "density", {**shared, **asks}, objective, density, again))
    return answers


def consistency(
    subject: Subject,
    options: ConsistencyOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """The frozen protocol for every perturbation asked for, and what training recorded."""
    answers = []
    common = asked(options, checkpoint=subject.checkpoint)
    if options.protocol != "online":
        size = options.batch_size or subject.batch_size
        objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)
        for name in options.perturbations.split(","):
            perturbation = subject.perturbation(name)
            names = ("checkpoint", "samples", "batches", "bn", "seed")
            question = {key: common[key] for key in names}
            question.update(protocol="frozen", perturbation=perturbation.label, batch_size=size)

            def frozen(perturbation: Perturbation = perturbation) -> Result:
                return measure_consistency(
                    objective,
                    perturbation,
                    batches=options.batches,
                    batch_size=size,
                    seed=options.seed,
                    bn=options.bn,
                    step=subject.checkpoint,
                    progress=progress,
                )

            answers.append(answer(subject, "consistency", question, objective, frozen, again))
    if options.protocol != "frozen":
        answers += _online(subject, options, again)
    return answers


def _online(subject: Subject, options: ConsistencyOptions, again: bool) -> list[Stored]:
    run = subject.run
    recorded = run.displacement_steps if run else np.empty(0)
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

    def measure(run: Run = run) -> Result:
        return online_consistency(run, start=start, stop=stop, seed=options.seed)

    return [answer(subject, "consistency", question, None, measure, again)]


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
    "consistency": consistency,
    "trajectory": trajectory,
}
