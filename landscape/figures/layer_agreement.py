"""Agreement of directions tensor by tensor, or block by block. Numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landscape.layer_directions import blocks_of, parts_of_the_whole
from landscape.results import Consistency

MOST_TENSORS = 24
"""With more tensors than this a figure shows blocks."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Mean cosine of each tensor or block at each checkpoint, and its share of ‖ε‖²."""

    names: tuple[str, ...]
    step: np.ndarray
    """Updates before each checkpoint [c]."""
    cosine: np.ndarray
    """Mean cosine over pairs of batches [c, layer]; NaN where a vector vanished."""
    null: np.ndarray
    """Half width of its central 95 % under random sign flips [c, layer]."""
    share: np.ndarray
    """Share of Σ‖ε‖² [c, layer]."""


def agreement_of(results: Sequence[Consistency], by: str | None = None) -> Agreement:
    """The agreement layer by layer of one perturbation through training.

    Args:
        results: Of the frozen protocol; those without layers, or with others than the last
            result's, are left out.
        by: "tensor" or "block", as `blocks_of` joins tensors; None for tensors while they are few.

    Raises:
        ValueError: If no layer was measured, or `by` is unknown.
    """
    if by not in (None, "tensor", "block"):
        raise ValueError(f"by must be 'tensor' or 'block', got {by!r}")
    measured = sorted((r for r in results if r.layer_products.size), key=lambda r: r.step[0])
    if not measured:
        raise ValueError("directions must be measured layer by layer, got none")
    tensors = measured[-1].layer_names
    kept = [r for r in measured if r.layer_names == tensors]
    if by is None:
        by = "tensor" if len(tensors) <= MOST_TENSORS else "block"
    members = {n: [i] for i, n in enumerate(tensors)} if by == "tensor" else blocks_of(tensors)
    layers = [np.stack([r.layer_products[m].sum(0) for m in members.values()]) for r in kept]
    found = [_cosines(products) for products in layers]
    return Agreement(
        names=tuple(members),
        step=np.array([int(r.step[0]) for r in kept]),
        cosine=np.array([cosine for cosine, _ in found]),
        null=np.array([null for _, null in found]),
        share=np.array([parts_of_the_whole(products)[0] for products in layers]),
    )


def _cosines(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine and its null of each layer, from inner products [layer, n, n].

    Products of two of n random signs are uncorrelated, so that the mean over pairs of s_i s_j c_ij
    has standard deviation sqrt(Σ c²) over the number of pairs: at once for all layers of a page,
    where `agreement_by_layer` would draw signs for each.
    """
    squares = np.diagonal(products, axis1=1, axis2=2)
    lengths = np.sqrt(np.where(squares > 0, squares, np.nan))
    pairs = np.triu_indices(products.shape[1], 1)
    cosines = (products / (lengths[:, :, None] * lengths[:, None, :]))[:, pairs[0], pairs[1]]
    count = max(cosines.shape[1], 1)
    null = 1.96 * np.sqrt(np.sum(cosines**2, axis=1)) / count
    return cosines.sum(axis=1) / count, null
