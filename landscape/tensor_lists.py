"""Arithmetic on lists of tensors, one per parameter, by torch's `_foreach` operations.

On a GPU these take one launch for all tensors, where a loop takes one for each of them.
"""
# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence

import torch
from torch import Tensor


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies without a graph."""
    copies = [torch.empty_like(t) for t in tensors]
    copy(tensors, into=copies)
    return copies


@torch.no_grad()
def copy(tensors: Sequence[Tensor], *, into: Sequence[Tensor]) -> None:
    """Copy each tensor into another."""
    torch._foreach_copy_([_own(t) for t in into], [_own(t) for t in tensors])


def _own(tensor: Tensor) -> Tensor:
    """Return what this rank has of a sharded tensor (FSDP2), which shares its memory."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def add(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    """Return left + right."""
    return list(torch._foreach_add(list(left), list(right)))


def add_in_place(left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    """Make left left + right."""
    torch._foreach_add_(list(left), list(right))


def subtract(
    left: Sequence[Tensor], right: Sequence[Tensor], *, factor: float = 1.0
) -> list[Tensor]:
    """Return left − factor right."""
    return list(torch._foreach_sub(list(left), list(right), alpha=factor))


def multiply(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    """Return the elementwise products."""
    return list(torch._foreach_mul(list(left), list(right)))


def scale(tensors: Sequence[Tensor], by: float | Tensor) -> list[Tensor]:
    """Return the tensors times a number, which may lie on another device."""
    if isinstance(by, Tensor) and any(t.device != by.device for t in tensors):
        return [t * by.to(t.device) for t in tensors]
    return list(torch._foreach_mul(list(tensors), by))


def interpolate(begin: Sequence[Tensor], end: Sequence[Tensor], weight: float) -> list[Tensor]:
    """Return begin + weight (end − begin)."""
    return list(torch._foreach_lerp(list(begin), list(end), weight))


def magnitudes(tensors: Sequence[Tensor], *, more: float) -> list[Tensor]:
    """Return |t| + more."""
    return list(torch._foreach_add(torch._foreach_abs(list(tensors)), more))


def norms(tensors: Sequence[Tensor], order: float = 2.0) -> list[Tensor]:
    """Return the norm of each tensor, a scalar in its kind of number."""
    return list(torch._foreach_norm(list(tensors), order))
