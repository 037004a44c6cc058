"""Symmetric operators over parameters: what Lanczos and random probes are given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.layouts import Layout
from landscape.objectives import Objective

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


def hessian(objective: Objective) -> Operator:
    """The Hessian of the mean loss at `objective.theta`."""
    return Operator(
        product=objective.hessian_vector,
        origin=objective.theta,
        layout=objective.layout,
        facts={**objective.facts, "operator": "Hessian of the mean loss"},
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
