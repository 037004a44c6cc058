"""How far directions of training point along the sharpest directions of the loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.displacements import adaptive_mask, climb
from landscape.lanczos import norm
from landscape.objectives import Objective
from landscape.operators import Operator, as_operator
from landscape.perturbations import Perturbation, check_function_of_weights
from landscape.update_maps import perturbation_gradient


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Directions beside the leading eigenvectors at one checkpoint."""

    names: tuple[str, ...]
    """The gradient, and each perturbation."""
    cosines: np.ndarray
    """|cosine| of each direction to each eigenvector `[direction, k]`."""
    rayleigh: np.ndarray
    """uᵀ H u of each unit direction u `[direction]`."""
    norms: np.ndarray
    """Length of each: ‖g‖, and ‖ε‖ in weight units `[direction]`."""
    null: float
    """Mean |cosine| of an isotropic random direction, √(2 / (π param))."""
    products: int
    """Hessian products used."""


def direction_names(perturbations: Sequence[Perturbation]) -> tuple[str, ...]:
    """The gradient and short names; with their settings where a short name comes twice."""
    short = [perturbation.name for perturbation in perturbations]
    labels = [p.name if short.count(p.name) == 1 else p.label for p in perturbations]
    return ("gradient", *labels)


def measure_alignment(
    objective: Objective,
    eigenvectors: Tensor | np.ndarray,
    perturbations: Sequence[Perturbation] = (),
    *,
    operator: Operator | None = None,
) -> Alignment:
    """Measure |cosines| and Rayleigh quotients of the gradient and of displacements ε.

    Everything is of all the objective's data at `objective.theta` and of its BatchNorm policy: the
    gradient of the mean loss, and the ε that full-batch training would take from the gradient, over
    the same data, of what the perturbation follows. SAM's ε then lies along the gradient and has
    its values; AACE's follows another loss. Random directions are no fair reference for either:
    hold an ε against the gradient. A direction of length 0 has NaN. Within the eigenvectors of a
    multiple eigenvalue only the root of the sum of squares means something.

    Args:
        objective: The task loss.
        eigenvectors: Unit vectors `[k, param]`, as `Spectrum.eigenvectors`.
        perturbations: As sam() and aace(), without memory and random targets; one along the task
            loss's gradient takes no product.
        operator: What the quotients are of; the Hessian of the objective by default.

    Raises:
        ValueError: If the eigenvectors do not fit the objective, or a perturbation does not fit
            its outputs, has a memory or random targets.
    """
    if isinstance(eigenvectors, np.ndarray):
        eigenvectors = torch.tensor(eigenvectors)  # a copy: those of a result are read-only
    rows = eigenvectors.to(objective.theta)
    if rows.ndim != 2 or rows.shape[1] != objective.theta.numel():
        raise ValueError(
            f"eigenvectors must be [k, {objective.theta.numel()}], got {list(rows.shape)}"
        )
    operator = as_operator(objective) if operator is None else operator
    for perturbation in perturbations:
        check_function_of_weights(perturbation, "an alignment")
    gradient = objective.gradient()
    moves = [_whole_displacement(objective, p, gradient) for p in perturbations]
    vectors = [gradient, *moves]
    quotients, products = [rayleigh_quotient(operator, gradient)], 1
    for perturbation, vector in zip(perturbations, moves, strict=True):
        own = not along_gradient(perturbation)
        quotients.append(rayleigh_quotient(operator, vector) if own else quotients[0])
        products += own
    return Alignment(
        names=direction_names(perturbations),
        cosines=np.stack([absolute_cosines(rows, vector) for vector in vectors]),
        rayleigh=np.array(quotients),
        norms=np.array([norm(vector) for vector in vectors]),
        null=math.sqrt(2 / (math.pi * rows.shape[1])),
        products=products,
    )


def along_gradient(perturbation: Perturbation) -> bool:
    """Whether ε lies along the gradient of the task loss, as SAM's does."""
    plain = perturbation.metric == "identity" and perturbation.ascent_steps == 1
    return plain and not (perturbation.has_own_loss or perturbation.has_memory)


def _whole_displacement(
    objective: Objective, perturbation: Perturbation, gradient: Tensor
) -> Tensor:
    """ε of all data, given the gradient of the task loss."""

    def followed(here: Objective) -> Tensor:
        if perturbation.has_own_loss:
            return perturbation_gradient(here, perturbation)
        return gradient if here is objective else here.gradient()

    (move,) = climb(
        perturbation,
        [followed(objective)],
        [objective.theta],
        lambda place: [followed(objective.at(place[0]))],
        adaptive=[adaptive_mask(objective.layout).to(objective.theta.device)],
    )
    return move


def rayleigh_quotient(operator: Operator, vector: Tensor) -> float:
    """Return uᵀ A u of u = v / ‖v‖, in nats per squared weight unit; NaN of a zero vector."""
    length = norm(vector)
    if length == 0:
        return math.nan
    unit = vector / length
    return float((unit * operator(unit)).sum(dtype=torch.float64))


def absolute_cosines(rows: Tensor, vector: Tensor) -> np.ndarray:
    """Return |cosine| of a vector `[param]` to each row of `[k, param]`; NaN of a zero vector."""
    products = (rows * vector).sum(1, dtype=torch.float64).abs().cpu().numpy()
    lengths = np.array([norm(row) for row in rows]) * norm(vector)
    return np.divide(products, lengths, out=np.full(len(rows), np.nan), where=lengths > 0)
