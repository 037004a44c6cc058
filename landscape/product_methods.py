"""Ways to multiply the Hessian of a mean loss with a vector, for `landscape.products`.

Each is called with a vector as one tensor per entry of the layout, within
`objective.derivatives()`, and returns the product likewise. Sums over the pieces of the data are
in float64, as a data set may have thousands.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks

from landscape.differentiable import Outputs

Piece = tuple[float, Tensor, Tensor]
"""Share of the samples, inputs and targets of what goes through the model at a time."""
Parts = Sequence[Tensor]
"""A vector as one tensor per entry of the layout."""
Sums = list[Tensor | None]
"""Float64 sums so far; None where nothing was added yet."""


class DoubleBackward:
    """The derivative of the gradient along a vector, by differentiating the gradient's graph.

    Where BatchNorm is folded, weights w(θ) are made of the parameters once and for all pieces,
    whose graphs reach down to w only: H v = Jᵀ H_w J v + Σ_i g_i ∇²w_i v, with J = ∂w/∂θ and the
    gradient g by w.

    Args:
        outputs: The model as a function of theta.
        pieces: The data.
        kept: Whether graphs are made here once, or anew for each product, which then takes
            another forward and backward pass, and memory for one piece.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
    """

    def __init__(self, outputs: Outputs, pieces: Sequence[Piece], *, kept: bool) -> None:
        self._outputs, self._pieces, self._kept = outputs, pieces, kept
        self._leaves = outputs.leaves()
        prepared = outputs.prepare(self._leaves)
        self._folded = [value for value in prepared.values() if value.grad_fn is not None]
        fresh = {id(value): value.detach().requires_grad_() for value in self._folded}
        self._values = {name: fresh.get(id(value), value) for name, value in prepared.items()}
        self._inputs = [*self._leaves, *fresh.values()]
        self._graphs: list[list[GradientEdge | None]] = []
        slopes = self._prepare_pieces()
        self._slopes = [slope.requires_grad_() for slope in _like(slopes, self._folded)]
        self._fold_gradient: list[GradientEdge | None] = [None] * len(self._leaves)
        if self._folded:
            found = torch.autograd.grad(
                self._folded, self._leaves, self._slopes, create_graph=True, allow_unused=True
            )
            self._fold_gradient = [_edge(part) for part in found]

    @property
    def weights(self) -> list[Tensor]:
        """What the network is called with, parameters and folded weights."""
        return self._inputs

    def __call__(self, parts: Parts) -> list[Tensor]:
        """The product, one tensor per entry."""
        tangents, curved = self._through_fold(parts)
        total: Sums = [None] * len(self._inputs)
        for place, (share, inputs, targets) in enumerate(self._pieces):
            edges = self._graphs[place] if self._kept else self._edges(inputs, targets)
            _add(total, _grad(edges, self._inputs, tangents, keep=self._kept), share)
        product, back = total[: len(self._leaves)], total[len(self._leaves) :]
        _add(product, curved)
        _add(product, _grad(self._folded, self._leaves, _like(back, self._folded), keep=True))
        return _like(product, self._leaves)

    def _prepare_pieces(self) -> Sums:
        """Make the graphs that are kept; the gradient by the folded weights."""
        slopes: Sums = [None] * len(self._folded)
        if not self._kept and not slopes:
            return slopes
        for share, inputs, targets in self._pieces:
            found = self._gradient(inputs, targets, graph=self._kept)
            _add(slopes, found[len(self._leaves) :], share)
            if self._kept:
                self._graphs.append([_edge(part) for part in found])
        return slopes

    def _edges(self, inputs: Tensor, targets: Tensor) -> list[GradientEdge | None]:
        return [_edge(part) for part in self._gradient(inputs, targets)]

    def _gradient(
        self, inputs: Tensor, targets: Tensor, *, graph: bool = True
    ) -> Sequence[Tensor | None]:
        loss = self._outputs.loss(self._values, inputs, targets)
        return torch.autograd.grad(loss, self._inputs, create_graph=graph, allow_unused=True)

    def _through_fold(self, parts: Parts) -> tuple[list[Tensor], Sequence[Tensor | None]]:
        """Return v and J v, and Σ_i g_i ∇²w_i v."""
        found = _grad(self._fold_gradient, [*self._slopes, *self._leaves], parts, keep=True)
        moved, curved = found[: len(self._slopes)], found[len(self._slopes) :]
        return [*parts, *_like(moved, self._folded)], curved


class ForwardOverReverse:
    """The derivative of the gradient along a vector, by forward mode; on the plain path.

    As jvp of jacrev: jvp of grad fails in torch 2.13 where a squared error follows a linear layer.

    Args:
        outputs: The model as a function of theta.
        pieces: The data.
    """

    def __init__(self, outputs: Outputs, pieces: Sequence[Piece]) -> None:
        self._outputs, self._pieces = outputs, pieces
        self._leaves = tuple(leaf.detach() for leaf in outputs.leaves())

    def __call__(self, parts: Parts) -> list[Tensor]:
        """The product, one tensor per entry."""
        total: Sums = [None] * len(self._leaves)
        every = tuple(range(len(self._leaves)))
        for share, inputs, targets in self._pieces:

            def loss(*leaves: Tensor, x: Tensor = inputs, y: Tensor = targets) -> Tensor:
                return self._outputs.loss(self._outputs.prepare(leaves), x, y)

            gradient = torch.func.jacrev(loss, argnums=every)
            with warnings.catch_warnings():  # torch's own forward mode calls what it deprecates
                warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
                moved = torch.func.jvp(gradient, self._leaves, tuple(parts))[1]
            _add(total, moved, share)
        return _like(total, self._leaves)


class Difference:
    """(g(θ + h v/‖v‖) - g(θ - h v/‖v‖)) ‖v‖ / 2h, with two gradients; on the plain path.

    Args:
        outputs: The model as a function of theta.
        pieces: The data.
        step: h.
    """

    def __init__(self, outputs: Outputs, pieces: Sequence[Piece], step: float) -> None:
        self._outputs, self._pieces, self._step = outputs, pieces, step
        self._leaves = [leaf.detach() for leaf in outputs.leaves()]

    def __call__(self, parts: Parts) -> list[Tensor]:
        """The product, one tensor per entry."""
        total: Sums = [None] * len(self._leaves)
        norm = float(torch.stack([part.double().square().sum() for part in parts]).sum().sqrt())
        if norm == 0:
            return _like(total, self._leaves)
        for sign in (1, -1):
            way = sign * self._step / norm
            moved = [
                torch.add(leaf, part, alpha=way).requires_grad_()
                for leaf, part in zip(self._leaves, parts, strict=True)
            ]
            values = self._outputs.prepare(moved)
            for share, inputs, targets in self._pieces:
                loss = self._outputs.loss(values, inputs, targets)
                gradient = torch.autograd.grad(loss, moved, allow_unused=True)
                _add(total, gradient, share / (2 * way))
        return _like(total, self._leaves)


@contextmanager
def counted_graphs() -> Iterator[dict[int, torch.UntypedStorage]]:
    """Collect the storages that graphs made within it hold, each once."""
    held: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield held


def _add(total: Sums, parts: Sequence[Tensor | None], share: float = 1.0) -> None:
    for place, part in enumerate(parts):
        if part is not None:
            so_far = total[place]
            if so_far is None:
                so_far = total[place] = torch.zeros_like(part, dtype=torch.float64)
            so_far.add_(part.detach(), alpha=share)


def _like(total: Sequence[Tensor | None], values: Sequence[Tensor]) -> list[Tensor]:
    """The sums in the types of the values; zeros where nothing was added."""
    return [
        torch.zeros_like(value) if part is None else part.to(value.dtype)
        for part, value in zip(total, values, strict=True)
    ]


def _edge(part: Tensor | None) -> GradientEdge | None:
    """Where a gradient's graph begins, so that the gradient itself need not be held."""
    return None if part is None or not part.requires_grad else get_gradient_edge(part)


def _grad(
    ends: Sequence[Tensor | GradientEdge | None],
    inputs: Sequence[Tensor],
    along: Sequence[Tensor],
    *,
    keep: bool,
) -> Sequence[Tensor | None]:
    """Derivatives of Σ ends · along by the inputs; None where there is none."""
    pairs = [
        (end if isinstance(end, GradientEdge) else get_gradient_edge(end), vector)
        for end, vector in zip(ends, along, strict=True)
        if end is not None
    ]
    if not pairs:
        return [None] * len(inputs)
    edges, vectors = zip(*pairs, strict=True)
    return torch.autograd.grad(edges, inputs, vectors, retain_graph=keep, allow_unused=True)
