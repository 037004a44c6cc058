"""Symmetric operators over parameters: what Lanczos and random probes are given."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from landscape.layouts import Layout
from landscape.objectives import Objective
from landscape.parts import part_of

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
    batches: Sequence[int] | None = None,
    settled: dict[str, Any] | None = None,
) -> Operator:
    """The Hessian of the mean loss at `objective.theta`.

    Args:
        objective: The loss as a function of theta.
        parameters: Patterns by commas, as "layer3.*,fc.weight": the Hessian in these tensors, a
            principal submatrix; vectors are then of their length, see `landscape.parts.embed`.
            "" is all.
        method: How products are taken, see `landscape.products.choose_product`.
        memory: Bytes that retained graphs may take.
        batches: Numbers of the batches to sum over, each with its share of all samples: what is
            missing for the Hessian is the sum over the other ones. All by default.
        settled: What an earlier choice found, to take the same method again.

    Raises:
        ValueError: If a pattern matches nothing, an argument is out of range, or the policy is
            "recomputed".
    """
    part = part_of(objective, parameters)
    return Operator(
        product=part.hessian_vector,
        origin=part.theta,
        layout=part.layout,
        facts={**part.facts, "operator": "Hessian of the mean loss"},
    )


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


def batch_numbers(objective: Objective, batches: Sequence[int] | None) -> tuple[int, ...]:
    """The batches that an operator sums over, all for None.

    Raises:
        ValueError: If one does not exist, or comes twice.
    """
    count = len(objective.batches)
    chosen = tuple(range(count) if batches is None else batches)
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(count)):
        raise ValueError(
            f"batches must be different numbers from 0 to {count - 1}, got {list(chosen)}"
        )
    return chosen


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
