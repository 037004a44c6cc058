"""Parts of the SAM optimizer that know tensors and no state."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from landscape.displacements import Memory, update_gradient
from landscape.perturbations import Perturbation

Gradients = list[Tensor | None]
"""One per parameter, None where there is none."""


def unscale(optimizer: torch.optim.Optimizer, scaler: Any, params: Sequence[Tensor]) -> bool:
    """Unscale the gradients, unless that was done, and tell whether they are finite.

    Args:
        optimizer: What the caller's `scaler.unscale_` was or would be given.
        scaler: A `torch.amp.GradScaler`; it is updated, which makes it ready for the next backward.
        params: The optimizer's parameters.
    """
    try:
        scaler.unscale_(optimizer)
    except RuntimeError as error:
        if "already been called" not in str(error):
            raise
    finite = all(bool(torch.isfinite(p.grad).all()) for p in params if p.grad is not None)
    scaler.update()
    return finite


def final_gradients(perturbation: Perturbation, before: Gradients, after: Gradients) -> Gradients:
    """Return what the base optimizer is given: `update_gradient` of those that there are."""
    if not perturbation.alpha:
        return after
    found = list(after)
    both = [
        (i, b, a)
        for i, (b, a) in enumerate(zip(before, after, strict=True))
        if b is not None and a is not None
    ]
    made = update_gradient(perturbation, [b for _, b, _ in both], [a for _, _, a in both])
    for (i, _, _), gradient in zip(both, made, strict=True):
        found[i] = gradient
    return found


def mean_gradients(chunks: Sequence[Gradients]) -> Gradients:
    """Return the mean over chunks; a chunk without a gradient counts as zero."""
    means: Gradients = []
    for parts in zip(*chunks, strict=True):
        held = [part for part in parts if part is not None]
        # added one to the other, which keeps the memory format that a fused optimizer relies on
        means.append(functools.reduce(torch.add, held) / len(chunks) if held else None)
    return means


def loaded_memory(memory: Memory | None, params: Sequence[Tensor]) -> Gradients | None:
    """Return a copy of a memory beside its parameters.

    Raises:
        ValueError: It is of other parameters.
    """
    if memory is None:
        return None
    shapes = [None if m is None else tuple(m.shape) for m in memory]
    if len(memory) != len(params) or any(
        s not in (None, tuple(p.shape)) for s, p in zip(shapes, params, strict=True)
    ):
        raise ValueError(
            f"the running mean must be of the same parameters, got shapes {shapes[:6]} for "
            f"{[tuple(p.shape) for p in params[:6]]}"
        )
    return [
        None if m is None else m.detach().clone().to(p.device)
        for m, p in zip(memory, params, strict=True)
    ]
