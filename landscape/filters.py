"""The filters of a network, and directions scaled to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.parametrize import ParametrizationList

from landscape.layouts import Entry, Layout
from landscape.terminal import near

NORMALIZATIONS = ("filter", "layer", "model", "none")
KINDS = ("weight", "bias", "norm", "embedding")

_TINY = 1e-10  # keeps a zero filter from dividing by zero, as in Li et al.'s code
_ROUNDS = 200  # of Gram-Schmidt and scaling; a few do unless filters have few numbers
_ORTHOGONAL = 1e-9
_HEADS = {"in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"}


def moving_entries(
    layout: Layout, *, ignore: Sequence[str] = (), parameters: Sequence[str] = ()
) -> tuple[Entry, ...]:
    """The tensors that a direction moves.

    Args:
        layout: All tensors of theta.
        ignore: Kinds that stay where they are.
        parameters: Patterns such as "layer3.*" or "*.weight", with `*`, `?` and `[...]` as in
            file names: only tensors whose names match one move. () is all.

    Raises:
        ValueError: If a pattern moves nothing, or kinds are not kinds.
    """
    if isinstance(ignore, str) or not set(ignore) <= set(KINDS):
        raise ValueError(f"ignore must be a tuple of some of {', '.join(KINDS)}, got {ignore!r}")
    if isinstance(parameters, str):
        raise ValueError(f"parameters must be a tuple of patterns, got the text {parameters!r}")
    for pattern in parameters:
        _check_pattern(layout, pattern, ignore)
    return tuple(
        entry
        for entry in layout
        if entry.kind not in ignore
        and (not parameters or any(fnmatchcase(entry.name, p) for p in parameters))
    )


def _check_pattern(layout: Layout, pattern: str, ignore: Sequence[str]) -> None:
    names = [entry.name for entry in layout]
    matching = [entry for entry in layout if fnmatchcase(entry.name, pattern)]
    if not matching:
        owners = {".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 1)}
        inside = f"; for all of a module write '{pattern}.*'" if pattern in owners else ""
        hint = inside or near(pattern, [*names, *(f"{owner}.*" for owner in sorted(owners))])
        raise ValueError(
            f"parameters must match names of the model, got {pattern!r}, which matches none of "
            f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}{hint}"
        )
    if all(entry.kind in ignore for entry in matching):
        kinds = sorted({entry.kind for entry in matching})
        raise ValueError(
            f"parameters must move something, got {pattern!r}, which names only what is ignored "
            f"({', '.join(kinds)}); take ignore=()"
        )


@dataclass(frozen=True, eq=False)
class Scaling:
    """How directions are scaled to the weights: Li et al.'s normalization and its variants."""

    weights: Tensor
    """The weights [param], float64."""
    entries: tuple[Entry, ...]
    """The tensors that move; directions are zero outside."""
    model: nn.Module
    """Its modules tell what a filter is."""
    normalization: str
    """ "filter", "layer" (a tensor is one filter), "model" (all that moves is) or "none"."""

    def scale(self, draw: Tensor) -> Tensor:
        """Scale a draw [param]: per filter f, d_f ← d_f ‖w_f‖ / (‖d_f‖ + 1e-10).

        Source: Li et al., NeurIPS 2018, section 4, and its public code.
        """
        moved = torch.zeros_like(draw)
        for entry in self.entries:
            part, weight = draw[entry.slice], self.weights[entry.slice]
            if self.normalization in ("filter", "layer"):
                whole = self.normalization == "layer"
                shape, within = ((1, -1), (1,)) if whole else filter_shape(entry, self.model)
                part, weight = part.view(shape), weight.view(shape)
                norm = weight.norm(dim=within, keepdim=True)
                part = part * norm / (part.norm(dim=within, keepdim=True) + _TINY)
            moved[entry.slice] = part.reshape(-1)
        if self.normalization == "model":
            moved *= self.weights[moved != 0].norm() / (moved.norm() + _TINY)
        return moved

    def scale_orthogonal(self, draw: Tensor, other: Tensor) -> Tensor:
        """Scale a draw [param] and turn it until it is orthogonal to another direction [param].

        Gram-Schmidt alone would change the norms of filters, scaling afterwards the angle. Both in
        turn settle on a direction with both, close to the draw: each round leaves a share of the
        cosine of about one over the numbers in a filter.

        Raises:
            ValueError: If both can't be had, as with filters of one number each.
        """
        size = other.norm()
        direction = self.scale(draw)
        for _ in range(_ROUNDS):
            direction = self.scale(direction - (direction @ other) / size**2 * other)
            if abs(direction @ other) < _ORTHOGONAL * size * direction.norm():
                return direction
        raise ValueError(
            f"orthogonal directions of normalization {self.normalization!r} must have filters of "
            f"several numbers, got a cosine of {float(direction @ other / size**2):.2g} at best; "
            'take orthogonalize=False or normalization="layer"'
        )


def filter_shape(entry: Entry, model: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape to view a tensor in, and the axes of that shape that lie within one filter.

    A filter is what makes one output: an output channel of a convolution, also of a grouped or
    depthwise one and of a transposed one, whose output channels lie on another axis; a row of a
    linear, recurrent or embedding layer, and of each factor of a low-rank adapter. In
    `nn.MultiheadAttention` it is one head of the query, key or value projection, since rows within
    a head can be rotated and the function stays; its output projection is cut by rows. Attention of
    other classes, also with a fused projection, is cut by rows: nothing tells its heads. Vectors,
    and so normalization layers, are one filter.

    Source: Li et al., NeurIPS 2018, section 4, for the filters of convolutions and rows.
    """
    if len(entry.shape) <= 1 or entry.size == 0:
        return (1, -1), (1,)
    owner = _owner(entry, model)
    if isinstance(owner, _ConvTransposeNd):  # stored [in, out / groups, ...]
        groups, inputs, outputs = owner.groups, *entry.shape[:2]
        return (groups, inputs // groups, outputs, -1), (1, 3)
    if isinstance(owner, nn.MultiheadAttention) and _HEADS & set(entry.name.split(".")):
        return (entry.shape[0] // owner.head_dim, -1), (1,)
    return (entry.shape[0], -1), (1,)


def _owner(entry: Entry, model: nn.Module) -> nn.Module:
    """The layer that a tensor belongs to, seen through parametrizations."""
    path = entry.name.rpartition(".")[0]
    if isinstance(model.get_submodule(path), ParametrizationList):
        path = path.rpartition("parametrizations.")[0].rstrip(".")
    return model.get_submodule(path)
