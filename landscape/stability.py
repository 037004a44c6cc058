"""The stability multiplier of the update that a run was trained with."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.arnoldi import LARGEST, End, Leading, find_leading
from landscape.objectives import Objective
from landscape.operators import NotFiniteError, Operator, Progress
from landscape.results import Stability
from landscape.savepoints import Savepoint
from landscape.update_maps import UpdateMap
from landscape.updates import Update

_DATA = {
    "each": "every batch with its own step, and their mean",
    "whole": "one step from all data",
}
_MEANING = (
    "below 1 a small deviation from the path fades, above 1 it grows by this factor each step; "
    "directions in which the loss is flat have 1, just below it with weight decay"
)


def measure_stability(
    objective: Objective,
    update: Update,
    *,
    k: int = 1,
    tolerance: float = 1e-3,
    seed: int,
    batches: str = "each",
    max_products: int | None = None,
    max_vectors: int = 40,
    operator: Operator | None = None,
    savepoint: Savepoint | None = None,
    progress: Progress | None = None,
) -> Stability:
    """Find the leading eigenvalues μ of the Jacobian of an update at `objective.theta`.

    The map takes (w, m) to (w′, m′), as `landscape.update_maps.UpdateMap` does: perturbation,
    momentum, weight decay and, with bn="batch", batch statistics included. Magnitude 1 is the
    edge: of gradient descent μ = 1 − η λ, which leaves the unit disk at −1 for λ = 2/η and at +1
    for a negative λ. The two mean different things: across a sharp valley steps swing to and fro
    and grow; along negative curvature they go on one way, as they should. So besides the k largest
    magnitudes the multiplier farthest from 1 is found, that of the largest curvature along the
    step: `facts["swing"]`, also last among the multipliers where it is not one of the k. Where a
    formula for the edge of stability is known, it says when this one reaches magnitude 1.

    A net has flat directions, so the largest magnitude is about 1 or more once training has
    settled; how far above says how fast the path is left. Away from a fixed point the Jacobian
    tells how nearby paths part in one step.

    Args:
        objective: The task loss, with the statistics that training used: bn="batch".
        update: What is done, see `update_of_run`.
        k: Multipliers wanted, largest magnitude first; conjugate pairs come whole.
        tolerance: Largest residual, relative to the largest magnitude. Residuals are those of
            vectors (w, η m), in which both halves are of one unit.
        seed: Seed of the start vector.
        batches: "each" or "whole", see `UpdateMap`.
        max_products: Most products with the Jacobian; default 10 k + 200.
        max_vectors: Vectors of the basis that are kept, each as long as the state.
        operator: The Hessian of the objective, where it is at hand, for plain SGD.
        savepoint: Where the basis is kept now and then.
        progress: Called with products done and products allowed.

    Returns:
        The multipliers, of which a multiple one may be found once only.

    Raises:
        NoJacobianError: If the update is normalized SAM's and a gradient vanishes.
        ValueError: If a product is not finite, or an argument is out of range.
        KeyboardInterrupt: Ctrl-C before anything was known.
    """
    mapping = UpdateMap(objective, update, batches=batches, operator=operator)
    size = mapping.size
    if not 1 <= k <= size:
        raise ValueError(f"k must lie between 1 and the length of the state, {size}, got {k}")
    ends: list[End] = [(LARGEST, k), (_swing, 1)]
    ends = ends if k < size else ends[:1]
    allowed = 10 * k + 200 if max_products is None else max_products
    product = _Product(mapping, allowed, progress)
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = find_leading(
        product,
        start.to(objective.theta),
        ends=ends,
        tolerance=tolerance,
        seed=seed,
        max_products=allowed,
        max_vectors=max(max_vectors, min(2 * (k + 1) + 4, size)),
        savepoint=savepoint,
        note=product.told,
    )
    product.count = found.products
    product.show(end=True)
    return Stability(
        multipliers_real=np.real(found.values),
        multipliers_imag=np.imag(found.values),
        residuals=found.residuals,
        multiplier=float(np.abs(found.values[0])),
        update=update.label,
        products=found.products,
        converged=found.converged,
        tolerance=tolerance,
        facts=_facts(objective, update, batches, found)
        | {"k": k, "tolerance": tolerance, "seed": seed, "state_size": size},
    )


def has_batch_norm(objective: Objective) -> bool:
    """Whether the model normalizes by statistics of a batch."""
    return any(isinstance(module, _BatchNorm) for module in objective.model.modules())


def _swing(values: np.ndarray) -> np.ndarray:
    return np.abs(values - 1)


class _Product:
    """Products with the Jacobian on vectors (w, η m): counted, told, refused when not finite."""

    def __init__(self, mapping: UpdateMap, allowed: int, progress: Progress | None) -> None:
        self.mapping, self.allowed, self.progress = mapping, allowed, progress
        self.count, self.note = 0, ""

    def __call__(self, v: Tensor) -> Tensor:
        update, length = self.mapping.update, self.mapping.objective.theta.numel()
        theta = v[:length]
        if not update.momentum:
            product = self.mapping.jvp(theta, torch.zeros_like(theta))[0]
        else:
            rate = update.learning_rate
            moved, momentum = self.mapping.jvp(theta, v[length:] / rate)
            product = torch.cat([moved, rate * momentum])
        self.count += 1
        if not torch.isfinite(product).all():
            raise NotFiniteError(
                f"products with the update's Jacobian must be finite, got NaN or infinity in "
                f"product {self.count} of {update.label}; check that the loss is finite and twice "
                "differentiable at these weights and at w + ε"
            )
        self.show()
        return product

    def told(self, note: str) -> None:
        """Take up what is known so far, for `progress`."""
        self.note = note

    def show(self, *, end: bool = False) -> None:
        """Tell `progress` where we are."""
        if self.progress is not None:
            self.progress(self.count, self.count if end else self.allowed, self.note)


def _facts(objective: Objective, update: Update, batches: str, found: Leading) -> dict[str, Any]:
    farthest = int(np.argmax(_swing(found.values)))
    facts: dict[str, Any] = {
        **objective.facts,
        "operator": "Jacobian of the update",
        "update": asdict(update),
        "batches": f"{batches}: {_DATA[batches]}",
        "multiplier_means": _MEANING,
        "swing": {
            "real": float(found.values[farthest].real),
            "imag": float(found.values[farthest].imag),
            "magnitude": float(np.abs(found.values[farthest])),
            "residual": float(found.residuals[farthest]),
        },
    }
    if update.left_out:
        facts["left_out"] = list(update.left_out)
    if has_batch_norm(objective) and objective.facts["bn"] != "batch":
        facts["caution"] = 'not the objective that is trained: take bn="batch"'
    if found.interrupted:
        facts["interrupted"] = True
    return facts
