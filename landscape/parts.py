"""Part of a net: an objective of some of its tensors only, the rest held where they are."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from landscape.filters import moving_entries
from landscape.layouts import Entry, Layout
from landscape.objectives import Objective


class PartialObjective(Objective):
    """The loss as a function of some tensors; `theta` and `layout` are of those alone.

    Gradients and products are taken with respect to those tensors only, which costs less. Made by
    `part_of`; shares data and model with the whole.

    Args:
        whole: The objective that the part is of.
        entries: What moves, in the whole's layout.
    """

    def __init__(self, whole: Objective, entries: tuple[Entry, ...]) -> None:
        vars(self).update(vars(whole))
        self._fixed = {name: t.detach() for name, t in whole.parameters(whole.theta).items()}
        self._dtypes = [self._fixed[entry.name].dtype for entry in entries]
        self.theta = torch.cat([whole.theta[entry.slice] for entry in entries])
        self.layout = _close_ranks(entries)

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta [part] by name, all other parameters as they are, and the buffers."""
        return self._fixed | super().parameters(theta)


def part_of(objective: Objective, parameters: str) -> Objective:
    """The objective as a function of the tensors named, or as it is where none are.

    Args:
        objective: The loss as a function of the whole theta.
        parameters: Patterns by commas, as "layer3.*,fc.weight", with `*`, `?` and `[...]` as in
            file names. "" is all.

    Raises:
        ValueError: If a pattern matches no tensor.
    """
    patterns = tuple(filter(None, (word.strip() for word in parameters.split(","))))
    if not patterns:
        return objective
    entries = moving_entries(objective.layout, parameters=patterns)
    part = PartialObjective(objective, entries)
    part.facts = {**objective.facts, "parameters_of": ",".join(patterns)}
    return part


def embed(vectors: Tensor, part: Layout, whole: Layout) -> Tensor:
    """Vectors over part of a net as vectors over all of it, zero elsewhere.

    Args:
        vectors: `[..., part]`, one or several.
        part: Their layout, as `Operator.layout`.
        whole: The layout of theta, as `Objective.layout`.

    Returns:
        `[..., param]`, of the same type.

    Raises:
        ValueError: If the vectors do not fit the part, or the part is not one of the whole.
    """
    if vectors.shape[-1:] != (part.size,):
        raise ValueError(
            f"vectors must be of the part's length, {part.size}, got shape {tuple(vectors.shape)}"
        )
    result = vectors.new_zeros(*vectors.shape[:-1], whole.size)
    for entry, place in _places(part, whole):
        result[..., place.slice] = vectors[..., entry.slice]
    return result


def restrict(vectors: Tensor, part: Layout, whole: Layout) -> Tensor:
    """What vectors over a net `[..., param]` are over part of it `[..., part]`.

    Raises:
        ValueError: If the vectors do not fit the whole, or the part is not one of it.
    """
    if vectors.shape[-1:] != (whole.size,):
        raise ValueError(
            f"vectors must be of the net's length, {whole.size}, got shape {tuple(vectors.shape)}"
        )
    return torch.cat([vectors[..., place.slice] for _, place in _places(part, whole)], dim=-1)


def _places(part: Layout, whole: Layout) -> list[tuple[Entry, Entry]]:
    """Each tensor of the part with its entry in the whole."""
    known = {entry.name: entry for entry in whole}
    for entry in part:
        if entry.name not in known or known[entry.name].shape != entry.shape:
            raise ValueError(
                f"the part must be of this net, got {entry.name!r} of shape {entry.shape}, which "
                "is not in its layout; is it of another model?"
            )
    return [(entry, known[entry.name]) for entry in part]


def _close_ranks(entries: tuple[Entry, ...]) -> Layout:
    """The layout of these tensors alone, one after the other."""
    moved, offset = [], 0
    for entry in entries:
        moved.append(replace(entry, offset=offset))
        offset += math.prod(entry.shape)
    return Layout(tuple(moved))
