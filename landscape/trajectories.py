"""The checkpoints of a run on a plane: where they lie, how far off it, and their true loss."""

from collections.abc import Callable

import numpy as np

from landscape.objectives import Evaluation, Objective
from landscape.paths import measure_path
from landscape.planes import Plane, plane_of_path
from landscape.results import Trajectory
from landscape.runs import Run

Progress = Callable[[int, int], None]


def measure_trajectory(
    run: Run,
    objective: Objective,
    plane: Plane | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Measure where a run went: positions on a plane, distances, angles, and losses.

    Args:
        run: A run with at least 3 checkpoints.
        objective: The loss of the run's problem.
        plane: Where to project; the run's own `trajectory_plane` by default.
        progress: Called with checkpoints done and checkpoints in total.

    Returns:
        Loss and accuracy of each checkpoint with its own buffers; share of variance of all
        principal components beside that of a random walk with the same step lengths.

    Raises:
        ValueError: If the run has fewer checkpoints, one isn't finite, or objective or plane are
            of another model.
    """
    path = measure_path(run)
    plane = plane_of_path(path) if plane is None else plane
    if len(plane.directions) != 2:
        raise ValueError(
            f"a trajectory needs a plane with 2 directions, got {len(plane.directions)}"
        )
    position, off_plane, found = _follow(run, objective, plane, progress)
    return Trajectory(
        step=path.step,
        position=position,
        off_plane=off_plane,
        explained=path.explained,
        explained_null=path.explained_null,
        distance_start=path.distances(0),
        distance_end=path.distances(-1),
        step_length=path.step_length,
        turning_angle=path.turning_angle,
        loss=np.array([evaluation.loss for evaluation in found]),
        accuracy=np.array([evaluation.accuracy for evaluation in found]),
        axis_labels=(plane.labels[0], plane.labels[1]),
        facts={**objective.facts, **plane.facts},
    )


def path_on_plane(run: Run, plane: Plane, objective: Objective) -> dict[str, np.ndarray]:
    """Project a run's checkpoints on a plane, for the surface drawn on it.

    Returns:
        The fields of a `Surface`: `path_step` [c], `path_position` [c, axis], `path_off_plane`
        [c] and `path_loss` [c], the measured loss of each checkpoint with its own buffers.

    Raises:
        ValueError: If objective or plane are of another model than the run.
    """
    position, off_plane, found = _follow(run, objective, plane, None)
    return {
        "path_step": np.array(run.checkpoints, np.int64),
        "path_position": position,
        "path_off_plane": off_plane,
        "path_loss": np.array([evaluation.loss for evaluation in found]),
    }


def _follow(
    run: Run, objective: Objective, plane: Plane, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, list[Evaluation]]:
    """Positions [c, axis], distances to the plane [c] and evaluations, one checkpoint at a time."""
    if run.layout != objective.layout:
        raise ValueError(
            f"the objective must be of the run's model, got {objective.layout.size} parameters in "
            f"{len(objective.layout)} tensors, {run.path} has {run.layout.size} in "
            f"{len(run.layout)}, or under other names"
        )
    position, off_plane, found = [], [], []
    for step in run.checkpoints:
        checkpoint = run.checkpoint(step)
        where, distance = plane.project(checkpoint.theta[None])
        position.append(where[0])
        off_plane.append(distance[0])
        found.append(objective.evaluate(checkpoint.theta, buffers=checkpoint.buffers))
        if progress is not None:
            progress(len(found), len(run.checkpoints))
    return np.array(position), np.array(off_plane), found
