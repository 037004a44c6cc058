"""Directions that the loss gives: gradient, sharpest one, perturbations of the SAM family."""

from bisect import bisect_right
from dataclasses import asdict
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from landscape.displacements import adaptive_mask, climb
from landscape.objectives import Objective
from landscape.perturbations import Perturbation, check_function_of_weights
from landscape.plane import fix_sign
from landscape.spans import Direction
from landscape.spectra import find_eigenpairs


def gradient_direction(objective: Objective) -> Direction:
    """The gradient of the objective at its theta, uphill, of length 1 in weight distance.

    `facts["gradient_norm"]` is the slope at the origin, in nats per unit.

    Raises:
        ValueError: If the gradient is zero or not finite, or the objective has none
            (`bn="recomputed"`).
    """
    gradient = objective.gradient().cpu().double()
    norm = float(gradient.norm())
    _check_length(norm, "the gradient")
    return Direction(
        name="gradient",
        label="gradient",
        vector=gradient / norm,
        facts={"direction": "gradient", "gradient_norm": norm, "bn": objective.facts["bn"]},
    )


def sharpest_direction(objective: Objective, *, tolerance: float = 1e-3, seed: int) -> Direction:
    """The Hessian's eigenvector of the largest eigenvalue, of length 1 in weight distance.

    Args:
        objective: The loss.
        tolerance: Largest residual, relative to the largest |λ|.
        seed: Seed of the Lanczos start.

    Raises:
        ValueError: If the objective has no second derivative (`bn="recomputed"`).
    """
    found = find_eigenpairs(objective, k=1, which="LA", tolerance=tolerance, seed=seed)
    assert found.eigenvectors is not None
    vector = fix_sign(torch.tensor(found.eigenvectors[0]).double())
    return Direction(
        name="sharpest",
        label="eigenvector 1",
        vector=vector / vector.norm(),
        facts={
            "direction": "sharpest",
            "eigenvalue": float(found.eigenvalues[0]),
            "residual": float(found.residuals[0]),
            "bn": objective.facts["bn"],
        },
    )


def perturbation_direction(
    objective: Objective, perturbation: Perturbation, *, batch_size: int = 128, seed: int
) -> Direction:
    """The displacement ε of a perturbation on one batch: one unit along it is w + ε.

    The batch is drawn with replacement from the objective's data; it is the first batch of
    `measure_consistency` for the same seed. As in training, BatchNorm uses the batch's own
    statistics; gradients are not clipped, data not augmented, dropout is inactive. SAM follows the
    objective's loss, AACE its own. A batch, because SAM's ε on all the data is along the gradient.

    Args:
        objective: Weights, loss and data.
        perturbation: As `sam()` or `aace()`; without memory and random targets. A schedule is at
            its largest radius.
        batch_size: Samples in the batch.
        seed: Seed of the draw.

    Raises:
        ValueError: If the batch doesn't fit the model, ε is zero or not finite, or targets are no
            classes for AACE, or the perturbation has a memory or random targets.
    """
    check_function_of_weights(perturbation, "a direction")
    inputs, targets = _draw_batch(objective, batch_size, seed)
    loss_fn = perturbation.loss if perturbation.has_own_loss else objective.loss_fn
    batch = Objective(
        objective.model, loss_fn, (inputs, targets), bn="batch", batch_size=batch_size
    ).at(objective.theta)
    (moved,) = climb(
        perturbation,
        [batch.gradient()],
        [objective.theta],
        lambda place: [batch.gradient(place[0])],
        adaptive=[adaptive_mask(objective.layout).to(objective.theta.device)],
    )
    norm = float(moved.double().norm())
    _check_length(norm, f"the displacement of {perturbation.label}")
    facts: dict[str, Any] = {
        "direction": perturbation.name,
        "perturbation": perturbation.label,
        "settings": asdict(perturbation) | {"sign": perturbation.sign},
        "bn": "batch",
        "batch_size": batch_size,
        "sampling": "one batch, drawn with replacement",
        "seed": seed,
    }
    return Direction(
        name=perturbation.name,
        label=f"ε {perturbation.label}",
        vector=moved,
        facts=facts,
        mark=f"w + ε {perturbation.word}",
    )


def _draw_batch(objective: Objective, batch_size: int, seed: int) -> tuple[Tensor, Tensor]:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number from 1 on, got {batch_size!r}")
    ends = list(accumulate(len(inputs) for inputs, _ in objective.batches))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(ends[-1], (batch_size,), generator=generator).tolist()
    places = []
    for sample in drawn:
        index = bisect_right(ends, sample)
        places.append((index, sample - ends[index]))  # from the end of the batch, so negative
    inputs = torch.stack([objective.batches[i][0][j] for i, j in places])
    return inputs, torch.stack([objective.batches[i][1][j] for i, j in places])


def _check_length(norm: float, what: str) -> None:
    if not 0 < norm < float("inf"):
        raise ValueError(
            f"{what} must be finite and not zero to be an axis, got length {norm}; is the loss at "
            "its minimum, or too small for the type?"
        )
