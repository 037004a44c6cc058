"""Planes of one model: random, of the Hessian, of the paths that training took."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from landscape.filters import KINDS, NORMALIZATIONS, Scaling, moving_entries
from landscape.objectives import Objective
from landscape.paths import RunPath, measure_joint_path, measure_path
from landscape.plane import Plane, fix_sign
from landscape.runs import Run
from landscape.terminal import near

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "Plane",
    "hessian_plane",
    "joint_plane",
    "plane_of_path",
    "random_plane",
    "trajectory_plane",
]


def random_plane(
    objective: Objective,
    *,
    normalization: str = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    orthogonalize: bool = False,
    parameters: Sequence[str] = (),
    seed: int,
    axes: int = 2,
) -> Plane:
    """Draw random directions through the objective's theta, scaled to its weights.

    Every tensor is drawn from N(0, 1) on the CPU, one local generator per seed and axis, so a
    seed means the same plane on every device, and the same numbers whatever moves. Then, per filter
    f (see `filters.filter_shape`), d_f ← d_f ‖w_f‖ / (‖d_f‖ + 1e-10). The two directions are
    nearly orthogonal, `facts["direction_cosine"]` says how nearly, unless made so.

    Args:
        objective: What gives theta and layout.
        normalization: "filter", "layer" (a whole tensor as one filter), "model" (all that moves
            as one) or "none".
        ignore: Kinds of parameters that stay where they are, of "weight", "bias", "norm" and
            "embedding"; () moves all, a vector as one filter.
        orthogonalize: Turn the second direction until it is orthogonal to the first, with the norms
            of its filters kept.
        parameters: Patterns of the names of the only parameters that move, as "layer3.*" or
            "*.weight"; () is all that is not ignored.
        seed: Seed of the draw.
        axes: 1 or 2 directions.

    Raises:
        ValueError: If an argument is not one of these, or nothing is left to move.

    Source: Li et al., NeurIPS 2018, section 4, and its public code.
    """
    _check_random(normalization, orthogonalize, seed, axes)
    entries = moving_entries(objective.layout, ignore=ignore, parameters=parameters)
    weights = objective.theta.detach().cpu().double()
    scaling = Scaling(weights, entries, objective.model, normalization)
    rows = []
    for axis in range(axes):
        generator = np.random.default_rng((seed, axis))
        draw = torch.from_numpy(generator.standard_normal(weights.numel()))
        row = scaling.scale(draw)
        _check_moves(int((row != 0).sum()), axes, ignore)
        if rows and orthogonalize:
            row = scaling.scale_orthogonal(draw, rows[0])
        rows.append(fix_sign(row))
    directions = torch.stack(rows)
    norms = directions.norm(dim=1)
    facts: dict[str, Any] = {
        "plane": "random",
        "normalization": normalization,
        "ignore": list(ignore),
        "orthogonalized": orthogonalize,
        "parameters_moved": list(parameters),
        "weights_moved": int((directions[0] != 0).sum()),
        "seed": seed,
        "direction_norms": norms.tolist(),
    }
    if axes == 2:
        facts["direction_cosine"] = float(directions[0] @ directions[1] / norms.prod())
    return Plane(objective.theta, directions.to(objective.theta), facts=facts)


def trajectory_plane(run: Run) -> Plane:
    """The plane of a run's path: its first two principal components, through the last checkpoint.

    Components are those of the checkpoints about their mean, as orthonormal directions; the
    plane goes through the last checkpoint, not through the mean, so it is not the best fit.
    `facts` has the share of variance of both, and what a random walk of the same step lengths
    would give: about 76 % for equal steps.

    Args:
        run: A run with at least 3 checkpoints.

    Raises:
        ValueError: If there are fewer, one isn't finite, or they lie on a line.
    """
    return plane_of_path(measure_path(run))


def plane_of_path(path: RunPath) -> Plane:
    """The trajectory plane of a path that is measured already."""
    last = path.run.checkpoint(int(path.step[-1])).theta
    rows = [fix_sign(torch.from_numpy(row)) for row in path.directions(2)]
    return Plane(
        torch.tensor(last),
        torch.stack(rows).float(),
        labels=("PC 1", "PC 2"),
        facts={
            "plane": "trajectory",
            "plane_run": path.run.id,
            "normalization": "none",
            "unit": "weight distance",
            "centered": "mean of the checkpoints",
            "origin": f"last checkpoint, step {int(path.step[-1])}",
            "variance": path.explained[:2].tolist(),
            "variance_null": path.explained_null[:2].tolist(),
            "checkpoints": path.step.tolist(),
        },
    )


def joint_plane(runs: Sequence[Run]) -> Plane:
    """One plane for several runs: the first two principal components of all their checkpoints.

    As `trajectory_plane`, with the checkpoints of all runs about their common mean, each counting
    once, so a run with more of them weighs more. The origin is the last checkpoint of the first
    run. `facts["variance_null"]` is what runs would give that set out from the same starts and walk
    at random with the same step lengths. The last checkpoint of every run is marked;
    `Plane.project` tells how far off the plane any of them lies.

    Args:
        runs: At least 2 runs of one layout.

    Raises:
        ValueError: If there are fewer, layouts differ, a checkpoint isn't finite, or all lie on a
            line.
    """
    path = measure_joint_path(runs)
    rows = [fix_sign(torch.from_numpy(row)) for row in path.directions(2)]
    last = [run.checkpoint(int(step[-1])).theta for run, step in zip(runs, path.steps, strict=True)]
    names = _distinct_names(runs)
    plane = Plane(
        torch.tensor(last[0]),
        torch.stack(rows).float(),
        labels=("PC 1", "PC 2"),
        facts={
            "plane": "joint",
            "plane_runs": [run.id for run in runs],
            "plane_run_names": names,
            "normalization": "none",
            "unit": "weight distance",
            "centered": "mean of the checkpoints of all runs",
            "origin": f"last checkpoint of {names[0]}, step {int(path.steps[0][-1])}",
            "variance": path.explained[:2].tolist(),
            "variance_null": path.explained_null[:2].tolist(),
            "null": "random walks from the runs' own starts with their own step lengths",
            "checkpoints": [step.tolist() for step in path.steps],
        },
    )
    places = [tuple(plane.project(theta[None])[0][0].tolist()) for theta in last]
    return replace(plane, marks=tuple(zip(names, places, strict=True)))


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    """Names of runs, with the id where two are called the same."""
    named = Counter(run.name for run in runs)
    return [f"{run.name} ({run.id})" if named[run.name] > 1 else run.name for run in runs]


def hessian_plane(objective: Objective, *, tolerance: float = 1e-3, seed: int) -> Plane:
    """The plane of the two largest eigenvalues of the Hessian at the objective's theta.

    `facts["eigengap"]` is λ_i − λ_{i+1} of the eigenvalues found, in units of λ: where a gap is
    no larger than the residuals, that axis (or, for the last gap, the plane) is arbitrary.

    Args:
        objective: The loss, at least 2 parameters.
        tolerance: Largest residual of an eigenpair, relative to the largest |λ|.
        seed: Seed of the Lanczos start.

    Raises:
        ValueError: If theta has fewer than 2 parameters.
    """
    from landscape.spectra import find_eigenpairs

    if objective.layout.size < 2:
        raise ValueError(
            f"a plane needs at least 2 parameters, got {objective.layout.size}; measure a profile"
        )
    wanted = min(3, objective.layout.size)
    found = find_eigenpairs(objective, k=wanted, which="LA", tolerance=tolerance, seed=seed)
    assert found.eigenvectors is not None
    rows = [fix_sign(torch.tensor(row).double()) for row in found.eigenvectors[:2]]
    directions = torch.stack([row / row.norm() for row in rows]).to(objective.theta)
    return Plane(
        objective.theta,
        directions,
        labels=("eigenvector 1", "eigenvector 2"),
        facts={
            "plane": "hessian",
            "normalization": "none",
            "unit": "weight distance",
            "seed": seed,
            "tolerance": tolerance,
            "eigenvalues": found.eigenvalues.tolist(),
            "eigengap": (-np.diff(found.eigenvalues)).tolist(),
            "residuals": found.residuals.tolist(),
            "converged": found.converged,
        },
    )


def _check_moves(moving: int, axes: int, ignore: Sequence[str]) -> None:
    if moving == 0:
        raise ValueError(
            f"a direction must move something, got zero: all parameters are ignored "
            f'({", ".join(ignore)}) or have zero weights; take ignore=() or normalization="none"'
        )
    if moving < axes:
        raise ValueError(
            f"a plane needs at least 2 parameters that move, got {moving}; take axes=1"
        )


def _check_random(normalization: str, orthogonalize: bool, seed: int, axes: int) -> None:
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}"
            f"{near(normalization, NORMALIZATIONS)}"
        )
    if not isinstance(orthogonalize, bool):
        raise ValueError(f"orthogonalize must be True or False, got {orthogonalize!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed!r}")
    if axes not in (1, 2):
        raise ValueError(f"axes must be 1 or 2, got {axes!r}")
