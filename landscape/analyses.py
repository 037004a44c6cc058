"""Run + options -> measured, saved result. Glue only: the mathematics is in the modules it calls.

The same question is answered once: a result is named by its kind, all options that change the
answer, the run, the checkpoint and a digest of the data, and is found again under that name.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape import perturbations
from landscape.consistency import measure_consistency, online_consistency
from landscape.objectives import Objective
from landscape.options import (
    OPTIONS,
    ConsistencyOptions,
    ProfileOptions,
    SpectrumOptions,
    SurfaceOptions,
    TrajectoryOptions,
    asked,
)
from landscape.planes import Plane, hessian_plane, random_plane, trajectory_plane
from landscape.provenance import describe_environment
from landscape.result_files import load_result, result_key, save_result
from landscape.results import Result, Spectrum
from landscape.runs import Run, read_stored
from landscape.spectra import estimate_density, find_eigenpairs
from landscape.subjects import Subject
from landscape.surfaces import measure_profile, measure_surface
from landscape.trajectories import measure_trajectory, path_on_plane
from landscape.writers import utc_now

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A result and the file it lies in."""

    path: Path
    result: Result
    found: bool
    """Whether it had been measured before."""


def _answer(
    subject: Subject,
    kind: str,
    question: dict[str, Any],
    objective: Objective | None,
    measure: Callable[[], Result],
    again: bool,
) -> Stored:
    digest = objective.facts["data_digest"] if objective else "recorded"
    key = result_key(
        kind,
        question,
        run=subject.identity,
        checkpoint=subject.checkpoint,
        data_digest=digest,
    )
    path = subject.folder / f"{kind}-{key}.h5"
    if path.exists() and not again:
        read_stored(path, subject.run.id if subject.run else None)
        return Stored(path=path, result=load_result(path), found=True)
    start = time.monotonic()
    result = measure()
    result = replace(
        result,
        options=question,
        facts={**result.facts, **subject.facts(kind)},
        provenance={
            **describe_environment(objective.theta.device if objective else None),
            "created": utc_now(),
            "seconds": round(time.monotonic() - start, 3),
        },
    )
    save_result(result, path, replace=again)
    return Stored(path=path, result=result, found=False)


def profile(
    subject: Subject,
    options: ProfileOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """Loss along random directions."""
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)

    def measure() -> Result:
        plane = random_plane(
            objective, normalization=options.normalization, seed=options.seed, axes=1
        )
        return measure_profile(
            objective,
            plane,
            extent=options.extent,
            points=options.points,
            repeats=options.repeats,
            progress=progress,
        )

    question = asked(options, checkpoint=subject.checkpoint)
    return [_answer(subject, "profile", question, objective, measure, again)]


def surface(
    subject: Subject,
    options: SurfaceOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """Loss on a plane; for a run, with its checkpoints projected on it."""
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)

    def measure() -> Result:
        plane = _plane(subject, options, objective)
        path = path_on_plane(subject.run, plane, objective) if subject.run else {}
        result = measure_surface(
            objective,
            plane,
            extent=_extent(options, plane, path),
            points=options.points,
            progress=progress,
        )
        return replace(result, **path)

    question = asked(options, checkpoint=subject.checkpoint)
    return [_answer(subject, "surface", question, objective, measure, again)]


def _plane(subject: Subject, options: SurfaceOptions, objective: Objective) -> Plane:
    if options.plane == "random":
        return random_plane(objective, normalization=options.normalization, seed=options.seed)
    if options.plane == "hessian":
        return hessian_plane(objective, seed=options.seed)
    if subject.run is None:
        raise ValueError(
            "a trajectory plane needs a run with checkpoints, got one set of weights; "
            "choose --plane random or hessian"
        )
    return trajectory_plane(subject.run)


def _extent(
    options: SurfaceOptions, plane: Plane, path: dict[str, Any]
) -> float | tuple[float, float, float, float]:
    if options.extent is not None:
        return options.extent
    if options.plane == "random":
        return 1.0
    if options.plane == "hessian":
        # ½ λ a² = 1 nat along the sharpest direction
        return float(np.sqrt(2 / max(abs(plane.facts["eigenvalues"][0]), 1e-12)))
    # A square around the path, so that no axis is stretched, with a fifth of it as margin, and
    # shifted by less than half a step so that the last checkpoint lies on the grid.
    low, high = path["path_position"].min(0), path["path_position"].max(0)
    half = 0.7 * float((high - low).max())
    step = 2 * half / (options.points - 1)
    start = np.round(((low + high) / 2 - half) / step) * step
    return (start[0], start[0] + 2 * half, start[1], start[1] + 2 * half)


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
    answers = [_answer(subject, "spectrum", {**shared, **asks}, objective, eigenpairs, again)]
    if options.probes:
        asks = {name: common[name] for name in ("probes", "steps")}
        answers.append(_answer(subject, "density", {**shared, **asks}, objective, density, again))
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
        trained = subject.run.config.get("batch_size", 128) if subject.run else 128
        size = options.batch_size or int(trained)
        objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)
        for name in options.perturbations.split(","):
            perturbation = _perturbation(subject, name)
            names = ("checkpoint", "samples", "batches", "bn", "seed")
            question = {key: common[key] for key in names}
            question.update(protocol="frozen", perturbation=perturbation.label, batch_size=size)

            def frozen(perturbation: perturbations.Perturbation = perturbation) -> Result:
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

            answers.append(_answer(subject, "consistency", question, objective, frozen, again))
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

    return [_answer(subject, "consistency", question, None, measure, again)]


def _perturbation(subject: Subject, name: str) -> perturbations.Perturbation:
    """The perturbation by name, with the run's own settings where it trained with it."""
    settings = subject.run.config if subject.run else {}
    trained = str(settings.get("method", "")).rpartition("+")[2] == name
    if name == "sam":
        return perturbations.sam(settings["rho"]) if trained else perturbations.sam()
    if name == "aace" and trained:
        return perturbations.aace(
            settings["rho"],
            normalize=settings["aace_normalize"],
            threshold=settings["aace_threshold"],
        )
    if name == "aace":
        return perturbations.aace()
    raise ValueError(f"perturbations must be sam, aace, or both by comma, got {name!r}")


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

    return [_answer(subject, "trajectory", asked(options), objective, measure, again)]


ANALYSES: dict[str, Callable[..., list[Stored]]] = {
    "profile": profile,
    "surface": surface,
    "spectrum": spectrum,
    "consistency": consistency,
    "trajectory": trajectory,
}
assert set(ANALYSES) == set(OPTIONS)
