"""What finds the ε of batches at an objective's weights, with its memory."""

from typing import Any

import torch

from landscape.displacements import Memory
from landscape.frozen import BURN_IN, Displacer, draw_burn_in, prepare_model
from landscape.objectives import Objective
from landscape.perturbations import Perturbation


def make_displacer(
    objective: Objective,
    perturbation: Perturbation,
    *,
    bn: str,
    batch_size: int,
    seed: int,
    memory: Memory | None = None,
) -> tuple[Displacer, dict[str, Any]]:
    """Return what finds displacements, on a copy of the objective's model, and facts of it.

    Args:
        objective: Weights, loss and data.
        perturbation: Which.
        bn: "batch" or "frozen".
        batch_size: Samples of a batch.
        seed: Of random targets; and, in another stream, of the batches of a burn-in.
        memory: Of a direction that has one; by default that of `BURN_IN` other batches, drawn from
            the same data at the same weights.

    Raises:
        ValueError: bn is another, the model has no statistics for it, or a perturbation without
            memory is given one.
    """
    if bn not in ("batch", "frozen"):
        raise ValueError(f'bn must be "batch" or "frozen", got {bn!r}')
    if memory is not None and not perturbation.has_memory:
        raise ValueError(f"{perturbation.label} has no memory, got one; leave it out")
    model = prepare_model(objective, bn, batch_size)
    generator = torch.Generator().manual_seed(seed) if perturbation.is_random else None
    displacer = Displacer(model, objective.loss_fn, perturbation, memory, generator)
    if not perturbation.has_memory or memory is not None:
        return displacer, {}
    displacer.burn_in(draw_burn_in(objective, BURN_IN, batch_size, seed))
    return displacer, {"burn_in": BURN_IN}
