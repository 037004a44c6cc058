"""The analyses of lines, planes and curves: run + options -> measured, saved result."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape.answers import Progress, Stored, Unfinished, answer_by_points
from landscape.connectivity import measure_barrier
from landscape.curves import measure_curve
from landscape.estimates import estimate_points
from landscape.extents import extent_of_path, extent_of_span, find_extent
from landscape.objectives import Objective
from landscape.options import (
    BarrierOptions,
    CurveOptions,
    ProfileOptions,
    SurfaceOptions,
    asked,
)
from landscape.plane import Plane
from landscape.plane_choice import PlaneOptions, choose_plane, settled_plane
from landscape.results import Result
from landscape.subjects import Subject, digest_of_file
from landscape.surfaces import measure_profile, measure_surface
from landscape.trajectories import path_on_plane
from landscape.work import Work

_BEYOND_MINIMA = 0.5


def profile(
    subject: Subject,
    options: ProfileOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
    chunk: int | None = None,
) -> list[Stored | Unfinished]:
    """Loss along a direction."""
    objective, test = _objectives(subject, options)

    def measure(work: Work) -> Result:
        plane = settled_plane(work, lambda: choose_plane(subject, options, objective, axes=1))
        extent = _settled_extent(work, options, plane, objective, np.empty((0, 2)))
        return measure_profile(
            objective,
            plane,
            extent=extent,
            points=options.points,
            repeats=_repeats(options),
            test=test,
            eigenvalues=options.eigenvalues,
            precision=options.precision,
            chunk=chunk,
            work=work,
            progress=progress,
        )

    return _by_points(subject, "profile", options, objective, measure, again, shard)


def surface(
    subject: Subject,
    options: SurfaceOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
    chunk: int | None = None,
) -> list[Stored | Unfinished]:
    """Loss on a plane; for runs, with their checkpoints projected on it."""
    if options.tolerance is not None and shard[1] > 1:
        raise ValueError(
            "tolerance decides from all points which to measure next, so it can't be shared out; "
            f"measure in one process, or without tolerance, got share {shard[0]} of {shard[1]}"
        )
    objective, test = _objectives(subject, options)

    def measure(work: Work) -> Result:
        plane = settled_plane(work, lambda: choose_plane(subject, options, objective, axes=2))
        path = work.settle_arrays("path", lambda: _paths(subject, plane, objective))
        extent = _settled_extent(work, options, plane, objective, path.get("path_position"))
        result = measure_surface(
            objective,
            plane,
            extent=extent,
            points=options.points,
            test=test,
            eigenvalues=options.eigenvalues,
            precision=options.precision,
            tolerance=options.tolerance,
            chunk=chunk,
            work=work,
            progress=progress,
        )
        labels = tuple(run.name for run in subject.runs)
        return replace(result, **path, path_labels=labels if path and subject.runs else ())

    return _by_points(subject, "surface", options, objective, measure, again, shard)


def barrier(
    subject: Subject,
    options: BarrierOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
    chunk: int | None = None,
) -> list[Stored | Unfinished]:
    """Loss on the straight lines between the subject's minima."""
    objective, test = _objectives(subject, options)

    def measure(work: Work) -> Result:
        return measure_barrier(
            objective,
            subject.weights,
            points=options.points,
            test=test,
            chunk=chunk,
            work=work,
            progress=progress,
        )

    return _by_points(subject, "barrier", options, objective, measure, again, shard)


def curve(
    subject: Subject,
    options: CurveOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored | Unfinished]:
    """A trained path of low loss between the subject's two minima."""
    objective, test = _objectives(subject, options)
    first, last = subject.weights

    def measure(work: Work) -> Result:
        return measure_curve(
            objective,
            first,
            last,
            shape=options.shape,
            bends=options.bends,
            updates=options.updates,
            learning_rate=options.learning_rate,
            batch_size=options.batch_size,
            points=options.points,
            seed=options.seed,
            test=test,
            work=work,
            progress=progress,
        )

    return _by_points(subject, "curve", options, objective, measure, again, (0, 1))


def estimate(kind: str, subject: Subject, options: Any, *, chunk: int | None) -> dict[str, Any]:
    """What a profile, surface or barrier will cost: see `estimate_points`."""
    objective, test = _objectives(subject, options)
    minima = len(subject.weights)
    points = {
        "profile": lambda: options.points * _repeats(options),
        "surface": lambda: options.points**2,
        "barrier": lambda: minima + options.points * minima * (minima - 1) // 2,
    }[kind]()
    return estimate_points(
        [over for over in (objective, test) if over is not None],
        points=points,
        eigenvalues=getattr(options, "eigenvalues", False),
        precision=getattr(options, "precision", "full"),
        chunk=chunk,
    )


def _repeats(options: ProfileOptions) -> int:
    """Only random directions can be drawn anew."""
    return options.repeats if options.plane == "random" else 1


def _objectives(subject: Subject, options: Any) -> tuple[Objective, Objective | None]:
    training = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)
    if not options.test:
        return training, None
    return training, subject.test_objective(training, samples=options.samples, seed=options.seed)


def _by_points(
    subject: Subject,
    kind: str,
    options: Any,
    objective: Objective,
    measure: Callable[[Work], Result],
    again: bool,
    shard: tuple[int, int],
) -> list[Stored | Unfinished]:
    question = asked(options, checkpoint=subject.checkpoint)
    if files := [word for word in getattr(options, "plane", "").split(",") if "." in word]:
        question["files"] = [digest_of_file(Path(file)) for file in files]
    return [answer_by_points(subject, kind, question, objective, measure, again=again, shard=shard)]


def _paths(subject: Subject, plane: Plane, objective: Objective) -> dict[str, np.ndarray]:
    """The checkpoints of the subject's runs on the plane; fields of a `Surface`."""
    runs = (subject.run,) if subject.run else subject.runs
    if len(runs) == 1:
        return path_on_plane(runs[0], plane, objective)
    parts = [path_on_plane(run, plane, objective) for run in runs]
    if not parts:
        return {}
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    counts = [len(part["path_step"]) for part in parts]
    return {**joined, "path_run": np.repeat(np.arange(len(parts)), counts)}


def _settled_extent(
    work: Work,
    options: PlaneOptions,
    plane: Plane,
    objective: Objective,
    path: np.ndarray | None,
) -> Sequence[float]:
    def make() -> dict[str, Any]:
        return {"extent": [float(end) for end in _extent(options, plane, objective, path)]}

    return work.settle("extent", make)["extent"]


def _extent(
    options: PlaneOptions, plane: Plane, objective: Objective, path: np.ndarray | None
) -> Sequence[float]:
    axes = len(plane.directions)
    if options.extent is not None:
        return [-options.extent, options.extent] * axes
    if options.rise is not None:
        return find_extent(objective, plane, rise=options.rise)
    if options.plane == "hessian":
        # ½ λ a² = 1 nat along the sharpest direction
        end = float(np.sqrt(2 / max(abs(plane.facts["eigenvalues"][0]), 1e-12)))
        return [-end, end] * axes
    if options.plane == "minima" and axes == 1:
        return (-_BEYOND_MINIMA, 1 + _BEYOND_MINIMA)
    if options.plane == "minima":
        return extent_of_path(np.array([where for _, where in plane.marks]), options.points)
    if "directions" in plane.facts:
        return extent_of_span(plane, objective())
    if options.plane in ("trajectory", "joint") and path is not None and len(path):
        return extent_of_path(path, options.points)
    return [-1.0, 1.0] * axes
