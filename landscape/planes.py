"""Planes in weight space: an origin and directions, and how they were chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from landscape.layouts import Entry
from landscape.objectives import Objective
from landscape.paths import RunPath, measure_path
from landscape.runs import Run
from landscape.terminal import near

NORMALIZATIONS = ("filter", "layer", "model", "none")
KINDS = ("weight", "bias", "norm", "embedding")

_TINY = 1e-10  # keeps a zero filter from dividing by zero, as in Li et al.'s code


@dataclass(frozen=True, eq=False)
class Plane:
    """An origin and one or two directions in the layout of theta.

    Args:
        origin: Point of the plane with coordinates 0 [param].
        directions: Directions [axis, param], of any length and angle but not parallel.
        labels: Names of the axes; "direction 1", ... by default.
        facts: How the plane was chosen; stored with what is measured on it.

    Raises:
        ValueError: If shapes don't fit, a number isn't finite, or the directions span no plane.
    """

    origin: Tensor
    directions: Tensor
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    facts: dict[str, Any] = field(default_factory=lambda: {"plane": "given"}, kw_only=True)

    def __post_init__(self) -> None:
        rows, origin = self.directions, self.origin
        if rows.ndim != 2 or origin.ndim != 1 or rows.shape[1] != origin.numel():
            raise ValueError(
                "a plane needs an origin [param] and directions [axis, param], got shapes "
                f"{tuple(origin.shape)} and {tuple(rows.shape)}"
            )
        if len(rows) not in (1, 2):
            raise ValueError(f"a plane needs 1 or 2 directions, got {len(rows)}")
        if not (origin.isfinite().all() and rows.isfinite().all()):
            raise ValueError(
                "origin and directions must be finite, got NaN or infinity; did training diverge?"
            )
        gram = self._gram()
        unit = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)).clip(min=1e-300))
        if (np.diag(gram) == 0).any() or np.linalg.det(unit) < 1e-12:
            raise ValueError(
                "directions must be non-zero and not parallel, got norms "
                f"{np.sqrt(np.diag(gram)).tolist()} and cosines {unit.tolist()}"
            )
        default = tuple(f"direction {i + 1}" for i in range(len(rows)))
        object.__setattr__(self, "labels", tuple(self.labels) or default)

    def point(self, a: float, b: float = 0.0) -> Tensor:
        """The parameters [param] at origin + a · direction 1 + b · direction 2."""
        point = self.origin + a * self.directions[0]
        return point if len(self.directions) == 1 else point + b * self.directions[1]

    def project(self, thetas: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest point of the plane to each theta, by least squares.

        Args:
            thetas: Parameters [n, param].

        Returns:
            Coordinates [n, axis] and Euclidean distance to the plane [n], float64.

        Raises:
            ValueError: If the parameters are not in the plane's layout.
        """
        thetas = torch.tensor(thetas) if isinstance(thetas, np.ndarray) else thetas.detach()
        if thetas.ndim != 2 or thetas.shape[1] != self.origin.numel():
            raise ValueError(
                f"thetas must be [n, {self.origin.numel()}], got shape {tuple(thetas.shape)}"
            )
        directions = self.directions.cpu().double()
        inverse = torch.linalg.inv(directions @ directions.T)
        positions, distances = [], []
        for theta in thetas:
            rest = theta.cpu().double() - self.origin.cpu().double()
            position = torch.zeros(len(directions), dtype=torch.float64)
            for _ in range(2):  # the second pass takes back what rounding left in the first
                part = inverse @ (directions @ rest)
                position, rest = position + part, rest - part @ directions
            positions.append(position)
            distances.append(rest.norm())
        return _stack(positions, len(directions)), _stack(distances)

    def like(self, theta: Tensor) -> "Plane":
        """The plane on the device and in the type of theta [param].

        Raises:
            ValueError: If the plane has another number of parameters.
        """
        if theta.shape != self.origin.shape:
            raise ValueError(
                f"the plane must be of the objective's {theta.numel()} parameters, got one of "
                f"{self.origin.numel()}; was it made for another model?"
            )
        return replace(self, origin=self.origin.to(theta), directions=self.directions.to(theta))

    def _gram(self) -> np.ndarray:
        rows = self.directions.detach().cpu().double()
        return (rows @ rows.T).numpy()


def random_plane(
    objective: Objective,
    *,
    normalization: str = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    seed: int,
    axes: int = 2,
) -> Plane:
    """Draw random directions through the objective's theta, scaled to its weights.

    Every tensor is drawn from N(0, 1) on the CPU, one local generator per seed and axis, so a
    seed means the same plane on every device. Then, per filter f (an output channel of a
    convolution, a row of a linear or embedding layer), d_f ← d_f ‖w_f‖ / (‖d_f‖ + 1e-10).
    The two directions are nearly, not exactly, orthogonal.

    Args:
        objective: What gives theta and layout.
        normalization: "filter", "layer" (a whole tensor as one filter), "model" (all that moves
            as one) or "none".
        ignore: Kinds of parameters that stay where they are, of "weight", "bias", "norm" and
            "embedding"; () moves all, a vector as one filter.
        seed: Seed of the draw.
        axes: 1 or 2 directions.

    Raises:
        ValueError: If an argument is not one of these, or nothing is left to move.

    Source: Li et al., NeurIPS 2018, section 4, and its public code.
    """
    _check_random(normalization, ignore, seed)
    weights = objective.theta.detach().cpu().double()
    rows = []
    for axis in range(axes):
        generator = np.random.default_rng((seed, axis))
        draw = torch.from_numpy(generator.standard_normal(weights.numel()))
        rows.append(_positive(_scaled(objective, draw, weights, normalization, ignore)))
    directions = torch.stack(rows)
    if not bool((directions != 0).any(dim=1).all()):
        raise ValueError(
            f"a direction must move something, got zero: all parameters are ignored "
            f'({", ".join(ignore)}) or have zero weights; take ignore=() or normalization="none"'
        )
    norms = directions.norm(dim=1)
    facts = {
        "plane": "random",
        "normalization": normalization,
        "ignore": list(ignore),
        "seed": seed,
        "direction_norms": norms.tolist(),
    }
    if axes == 2:
        facts["direction_cosine"] = float(directions[0] @ directions[1] / norms.prod())
    return Plane(objective.theta, directions.to(objective.theta), facts=facts)


def _scaled(
    objective: Objective, draw: Tensor, weights: Tensor, normalization: str, ignore: Sequence[str]
) -> Tensor:
    moved = torch.zeros_like(draw)
    for entry in objective.layout:
        if entry.kind in ignore:
            continue
        part, weight = draw[entry.slice], weights[entry.slice]
        if normalization in ("filter", "layer"):
            whole = normalization == "layer"
            shape, within = ((1, -1), (1,)) if whole else _filters(entry, objective.model)
            part, weight = part.view(shape), weight.view(shape)
            scale = weight.norm(dim=within, keepdim=True)
            part = part * scale / (part.norm(dim=within, keepdim=True) + _TINY)
        moved[entry.slice] = part.reshape(-1)
    if normalization == "model":
        moved *= weights[moved != 0].norm() / (moved.norm() + _TINY)
    return moved


def _filters(entry: Entry, model: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape to view a tensor in, and the axes that lie within one filter."""
    if len(entry.shape) <= 1:
        return (1, -1), (1,)
    owner = model.get_submodule(entry.name.rpartition(".")[0])
    if isinstance(owner, _ConvTransposeNd):  # stored [in, out / groups, ...]
        groups, inputs, outputs = owner.groups, *entry.shape[:2]
        return (groups, inputs // groups, outputs, -1), (1, 3)
    return (entry.shape[0], -1), (1,)


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
    rows = [_positive(torch.from_numpy(row)) for row in path.directions(2)]
    return Plane(
        torch.tensor(last),
        torch.stack(rows).float(),
        labels=("PC 1", "PC 2"),
        facts={
            "plane": "trajectory",
            "plane_run": path.run.id,
            "normalization": "none",
            "centered": "mean of the checkpoints",
            "origin": f"last checkpoint, step {int(path.step[-1])}",
            "variance": path.explained[:2].tolist(),
            "variance_null": path.explained_null[:2].tolist(),
            "checkpoints": path.step.tolist(),
        },
    )


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
    rows = [_positive(torch.tensor(row).double()) for row in found.eigenvectors[:2]]
    directions = torch.stack([row / row.norm() for row in rows]).to(objective.theta)
    return Plane(
        objective.theta,
        directions,
        labels=("eigenvector 1", "eigenvector 2"),
        facts={
            "plane": "hessian",
            "normalization": "none",
            "seed": seed,
            "tolerance": tolerance,
            "eigenvalues": found.eigenvalues.tolist(),
            "eigengap": (-np.diff(found.eigenvalues)).tolist(),
            "residuals": found.residuals.tolist(),
            "converged": found.converged,
        },
    )


def _positive(direction: Tensor) -> Tensor:
    """Fix the sign: the component largest in magnitude is positive."""
    return direction if direction[direction.abs().argmax()] >= 0 else -direction


def _stack(values: list[Tensor], *shape: int) -> np.ndarray:
    return torch.stack(values).numpy() if values else np.empty((0, *shape))


def _check_random(normalization: str, ignore: Sequence[str], seed: int) -> None:
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}"
            f"{near(normalization, NORMALIZATIONS)}"
        )
    if isinstance(ignore, str) or not set(ignore) <= set(KINDS):
        raise ValueError(f"ignore must be a tuple of some of {', '.join(KINDS)}, got {ignore!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed!r}")
