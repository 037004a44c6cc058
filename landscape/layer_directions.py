"""How well directions agree tensor by tensor and block by block, and which dominate. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landscape.directions import agreement_of
from landscape.results import Consistency


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """Agreement of the vectors over each layer alone, and each layer's part in the whole."""

    names: tuple[str, ...]
    mean_cosine: np.ndarray
    """[layer]; NaN where the vectors vanish there."""
    null_low: np.ndarray
    null_high: np.ndarray
    """[layer]: central 95 % under random sign flips, the same for all layers."""
    interval_low: np.ndarray
    interval_high: np.ndarray
    """[layer]: 95 % bootstrap over vectors, the same draws for all layers."""
    share: np.ndarray
    """[layer]: share of Σ‖ε‖²; they sum to 1."""
    contribution: np.ndarray
    """[layer]: what it adds to the mean cosine of whole vectors; they sum to it."""


def agreement_by_layer(
    result: Consistency, *, blocks: bool = False, seed: int = 0
) -> LayerAgreement:
    """Return how well the vectors of a result agree over each tensor, or each block of tensors.

    Args:
        result: With `layer_products`, as the frozen protocol gives them.
        blocks: Whether tensors are joined by `blocks_of`.
        seed: Seed of null and bootstrap.

    Raises:
        ValueError: The result holds nothing by tensor.
    """
    if not len(result.layer_products):
        raise ValueError(
            f"expected a result with layer_products, got one of the {result.protocol} protocol "
            "without; measure the frozen protocol"
        )
    names, products = result.layer_names, result.layer_products
    if blocks:
        members = blocks_of(names)
        names = tuple(members)
        products = np.stack([products[rows].sum(0) for rows in members.values()])
    found = [agreement_of(inner, seed)._asdict() for inner in products]
    share, contribution = parts_of_the_whole(products)
    return LayerAgreement(
        names=tuple(names),
        **{name: np.array([one[name] for one in found]) for name in found[0]},
        share=share,
        contribution=contribution,
    )


def blocks_of(layer_names: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of the tensors of each block, in their order.

    A block is the module at the first number in a tensor's name, with numbers that follow it:
    layer1.0 of layer1.0.conv1.weight, or blocks.3 of blocks.3.attn.qkv.bias. Without a number it is
    the first module: head of head.weight. A tensor of the model itself is a block of its own.
    """
    members: dict[str, list[int]] = {}
    for row, name in enumerate(layer_names):
        parts = name.split(".")
        modules = parts[:-1] or parts
        numbered = [part.isdigit() for part in modules]
        end = 1
        if any(numbered):
            end = numbered.index(True) + 1
            while end < len(modules) and numbered[end]:
                end += 1
        members.setdefault(".".join(modules[:end]), []).append(row)
    return members


def largest_layers(result: Consistency, count: int = 3) -> list[tuple[str, float, float]]:
    """Return name, share of Σ‖ε‖² and contribution to the mean cosine of those with most of it."""
    share, contribution = parts_of_the_whole(result.layer_products)
    order = np.argsort(-share, kind="stable")[:count]
    return [
        (result.layer_names[i], float(share[i]), float(contribution[i]))
        for i in order
        if np.isfinite(share[i])
    ]


def parts_of_the_whole(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each layer's share of Σ‖ε‖² and part in the mean cosine, from [layer, n, n]."""
    squares = np.diagonal(products, axis1=1, axis2=2)
    whole = squares.sum(0)
    kept = np.flatnonzero(np.isfinite(whole) & (whole > 0))
    missing = np.full(len(products), np.nan)
    if not len(kept):
        return missing, missing
    share = squares[:, kept].sum(1) / whole[kept].sum()
    if len(kept) < 2:
        return share, missing
    norms = np.sqrt(whole[kept])
    unit = products[:, kept[:, None], kept] / np.outer(norms, norms)
    own = np.trace(unit, axis1=1, axis2=2)
    return share, (unit.sum((1, 2)) - own) / (len(kept) * (len(kept) - 1))
