"""The plane that was asked for, chosen once for all processes that measure on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from landscape.direction_files import read_directions
from landscape.objectives import Objective
from landscape.options import ProfileOptions, SurfaceOptions
from landscape.plane import Plane
from landscape.planes import hessian_plane, joint_plane, random_plane, trajectory_plane
from landscape.slopes import gradient_direction, perturbation_direction, sharpest_direction
from landscape.spans import Direction, line_plane, span_plane, three_point_plane
from landscape.storage import plain
from landscape.subjects import Subject
from landscape.surface_options import DIRECTIONS
from landscape.work import Work

PlaneOptions = ProfileOptions | SurfaceOptions


def choose_plane(
    subject: Subject, options: PlaneOptions, objective: Objective, *, axes: int
) -> Plane:
    """The plane that was asked for.

    Raises:
        ValueError: If the subject lacks what it is made of.
    """
    asked_for = options.plane
    if asked_for == "random":
        moves = {
            "normalization": options.normalization,
            "ignore": tuple(filter(None, options.ignore.split(","))),
            "parameters": tuple(filter(None, options.parameters.split(","))),
        }
        if isinstance(options, SurfaceOptions):
            moves["orthogonalize"] = options.orthogonalize
        return random_plane(objective, **moves, seed=options.seed, axes=axes)
    if asked_for == "hessian":
        plane = hessian_plane(objective, seed=options.seed)
        return plane if axes == 2 else _first_axis(plane)
    if asked_for == "minima":
        return line_plane(*subject.weights) if axes == 1 else three_point_plane(*subject.weights)
    if asked_for in ("trajectory", "joint"):
        runs = subject.runs or ((subject.run,) if subject.run else ())
        if not runs:
            raise ValueError(
                f"a {asked_for} plane needs runs with checkpoints, got one's own weights; choose "
                "another plane"
            )
        return joint_plane(runs) if asked_for == "joint" else trajectory_plane(runs[0])
    directions: list[Direction] = []
    for word in asked_for.split(","):
        directions += _directions(subject, word, objective, options.seed)
    if len(directions) < axes:
        raise ValueError(
            f"a surface needs two directions, got {len(directions)} in {asked_for}; name another"
        )
    return span_plane(objective.theta, directions[:axes])


def _directions(subject: Subject, word: str, objective: Objective, seed: int) -> list[Direction]:
    if word == "gradient":
        return [gradient_direction(objective)]
    if word == "sharpest":
        return [sharpest_direction(objective, seed=seed)]
    if word in DIRECTIONS:
        trained = subject.objective(samples=0, seed=seed, bn="batch")
        perturbation = subject.perturbation(word)
        size = subject.batch_size
        return [perturbation_direction(trained, perturbation, batch_size=size, seed=seed)]
    return list(read_directions(Path(word), objective.layout))


def _first_axis(plane: Plane) -> Plane:
    return replace(plane, directions=plane.directions[:1], labels=plane.labels[:1])


def settled_plane(work: Work, make: Callable[[], Plane]) -> Plane:
    """The plane that the first process chose: every other one, and a resumed one, takes it."""
    arrays = work.settle_arrays("plane", lambda: _plane_arrays(make()))
    told = json.loads(bytes(arrays["told"]).decode())
    buffers = [
        {name: torch.from_numpy(arrays[f"buffer {i} {k}"]) for k, name in enumerate(names)}
        for i, names in enumerate(told["buffers"])
    ]
    return Plane(
        torch.from_numpy(arrays["origin"]),
        torch.from_numpy(arrays["directions"]),
        labels=tuple(told["labels"]),
        facts=told["facts"],
        buffers=tuple(buffers),
        marks=tuple((name, tuple(where)) for name, where in told["marks"]),
    )


def _plane_arrays(plane: Plane) -> dict[str, np.ndarray]:
    told = {
        "labels": plane.labels,
        "facts": plane.facts,
        "marks": plane.marks,
        "buffers": [list(buffers) for buffers in plane.buffers],
    }
    arrays = {
        "origin": plane.origin.cpu().numpy(),
        "directions": plane.directions.cpu().numpy(),
        "told": np.frombuffer(json.dumps(plain(told)).encode(), np.uint8),
    }
    for i, buffers in enumerate(plane.buffers):
        for k, tensor in enumerate(buffers.values()):
            arrays[f"buffer {i} {k}"] = tensor.cpu().numpy()
    return arrays
