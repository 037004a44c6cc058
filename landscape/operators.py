"""Symmetric operators over parameters: what Lanczos and random probes are given."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from landscape.adversarial import aace_loss
from landscape.layouts import Layout
from landscape.objectives import Objective
from landscape.output_losses import LOOK, check_true_surface
from landscape.parts import part_of
from landscape.perturbations import Perturbation
from landscape.products import choose_product
from landscape.ranks import Ranks, shared

Progress = Callable[[int, int, str], None]
"""Called with products done, products allowed, and a short note of what is known so far."""


class NotFiniteError(ValueError):
    """A product of an operator with a vector holds NaN or infinity."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A symmetric linear map over parameters, known by its products with vectors."""

    product: Callable[[Tensor], Tensor]
    """`v [param] -> A v [param]`, linear and symmetric."""
    origin: Tensor
    """Where it was taken, `[param]`: gives vectors their length, dtype and device."""
    layout: Layout
    """Which tensors the entries of a vector are."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What it is and of which objective: "operator" and all facts of that objective."""

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self.origin.numel()

    def __call__(self, v: Tensor) -> Tensor:
        """The product A v [param]."""
        return self.product(v)


def hessian(
    objective: Objective,
    *,
    parameters: str = "",
    method: str = "auto",
    memory: float | None = None,
    ranks: Ranks | None = None,
) -> Operator:
    """The Hessian of the mean loss at `objective.theta`.

    Args:
        objective: The loss as a function of theta.
        parameters: Patterns by commas, as "layer3.*,fc.weight": the Hessian in these tensors, a
            principal submatrix; vectors are then of their length, see `landscape.parts.embed`.
            "" is all.
        method: How products are taken, see `landscape.products.choose_product`.
        memory: Bytes that graphs may take.
        ranks: The processes that share the data, each taking products over its own batches with
            the method that the first one chose; this one alone by default.

    Raises:
        ValueError: If a pattern matches nothing, an argument is out of range, or the policy is
            "recomputed"; or part of the loss is held fixed by detach(), see `surface_loss`.
    """
    part = part_of(objective, parameters)
    _check_surface(part)
    product, found = _chosen(part, method, memory, ranks or Ranks())
    operator = Operator(
        product=product,
        origin=part.theta,
        layout=part.layout,
        facts={**part.facts, **found, "operator": "Hessian of the mean loss"},
    )
    return shared(operator, ranks)


def _check_surface(part: Objective) -> None:
    with part.derivatives():
        inputs, targets = (tensor[:LOOK] for tensor in part.batches[0])
        _, output = part.batch_loss(part.parameters(part.theta), inputs, targets)
        check_true_surface(part.loss_fn, output, targets)


def _chosen(
    part: Objective, method: str, memory: float | None, ranks: Ranks
) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """The product over this process's batches, taken the way that the first process chose."""
    own = ranks.share(len(part.batches))
    product, settled = None, None
    if ranks.first:
        product = choose_product(part, method=method, memory=memory, batches=own)
        settled = product.settled
    settled = ranks.agree(settled)
    if product is None:
        product = choose_product(part, batches=own, settled=settled)
    return product, product.facts


def surface_loss(perturbation: Perturbation) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that a perturbation follows, as a surface that has a Hessian.

    AACE is trained by a target that is held fixed. Its gradient is that of the surface softplus(m),
    its second derivative is not: with p the probabilities, t the true class, q = p without t,
    scaled to sum to one, and u = e_t - q, the Hessian in the logits of the surface is
    p_t (1 - p_t) u uᵀ - p_t (diag(q) - q qᵀ), indefinite, and that of the fixed form
    diag(p) - p pᵀ. Here it is the surface.

    Returns:
        `loss_fn(logits, targets)` for an Objective.

    Raises:
        ValueError: If AACE has a threshold: then even its gradient is of no surface; or if its
            targets are random.
    """
    if perturbation.threshold > 0:
        raise ValueError(
            "a surface needs AACE without a threshold, got "
            f"threshold={perturbation.threshold:g}, which keeps a part of the target fixed that "
            "depends on the output: its gradient is not that of its value; take threshold=0"
        )
    if perturbation.is_random:
        raise ValueError(
            f"a surface must be the same at every call, got {perturbation.label} with random "
            'targets; take mode "ada" or "const"'
        )
    if not perturbation.has_own_loss:
        return functional.cross_entropy
    return aace_loss if perturbation.mode == "ada" else partial(aace_loss, mode=perturbation.mode)


def add_weight_decay(operator: Operator, weight_decay: float) -> Operator:
    """The operator A + weight_decay · I, as of the loss with ½ weight_decay ‖theta‖² added.

    Raises:
        ValueError: If the weight decay is not a finite number from 0 on.
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay must be a number from 0 on, got {weight_decay}")
    return replace(
        operator,
        product=lambda v: operator(v).add(v, alpha=weight_decay),
        facts={**operator.facts, "weight_decay": weight_decay},
    )


def as_operator(source: Objective | Operator) -> Operator:
    """An operator as it is; of an objective, its Hessian."""
    return source if isinstance(source, Operator) else hessian(source)


class Products:
    """Products of an operator: counted, and refused when not finite.

    Args:
        operator: What is applied.
        allowed: How many will be taken at most, for `progress`.
        progress: Called after each product, with `note`.
    """

    def __init__(self, operator: Operator, allowed: int, progress: Progress | None = None) -> None:
        self.operator, self.allowed, self.progress = operator, allowed, progress
        self.count = 0
        self.note = ""
        """What is known so far, in a few words, for `progress`."""

    def __call__(self, v: Tensor) -> Tensor:
        """The product A v [param].

        Raises:
            NotFiniteError: If it holds NaN or infinity.
        """
        product = self.operator(v)
        self.count += 1
        self.show()
        bad = ~torch.isfinite(product)
        if bad.any():
            first = int(bad.nonzero()[0])
            name = next(e.name for e in self.operator.layout if first < e.slice.stop)
            raise NotFiniteError(
                f"Hessian-vector products must be finite, got NaN or infinity in {int(bad.sum())} "
                f"of {bad.numel()} entries of product {self.count}, first in {name!r}; check that "
                "the loss is finite and twice differentiable at this theta"
            )
        return product

    def show(self, *, end: bool = False) -> None:
        """Tell `progress` where we are; at the end all that were taken are all there are."""
        if self.progress is not None:
            self.progress(self.count, self.count if end else self.allowed, self.note)
