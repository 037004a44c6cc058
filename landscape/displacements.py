"""What a perturbation adds to the weights, and what it makes of the gradient found there.

Pure functions of gradients, weights and, where a direction has one, an explicit memory: the
optimizer, the analyses and the maps of updates all call them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import overload

import torch
from torch import Tensor

from landscape import tensor_lists
from landscape.adversarial import at_least_float32
from landscape.layouts import Layout
from landscape.perturbations import Perturbation, scheduled_radius

NORM_FLOOR = 1e-12  # added to the gradient norm, as in the SAM and AACE reference code

Memory = Sequence[Tensor | None]
"""The running mean of gradients, one tensor per parameter, None where there was no gradient yet."""

Adaptive = Sequence[bool] | Tensor
"""Where ASAM's metric is |w| + eta: a bool per tensor, or a mask [param] for a flat vector."""


def adaptive_names(names: Iterable[str]) -> list[bool]:
    """Return for each parameter whether ASAM scales it: whether its name has "weight" in it.

    Source: Kwon et al., ASAM, ICML 2021, in their code; it includes the weights of BatchNorm.
    """
    return ["weight" in name for name in names]


def adaptive_mask(layout: Layout) -> Tensor:
    """Return `adaptive_names` as a mask [param] over the theta of a layout."""
    sizes = torch.tensor([entry.size for entry in layout])
    return torch.tensor(adaptive_names(entry.name for entry in layout)).repeat_interleave(sizes)


@overload
def displacement(
    perturbation: Perturbation,
    gradient: Tensor,
    weights: Tensor,
    *,
    adaptive: Tensor | None = None,
) -> Tensor: ...
@overload
def displacement(
    perturbation: Perturbation,
    gradient: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    adaptive: Sequence[bool] | None = None,
) -> list[Tensor]: ...
def displacement(
    perturbation: Perturbation,
    gradient: Tensor | Sequence[Tensor],
    weights: Tensor | Sequence[Tensor],
    *,
    adaptive: Adaptive | None = None,
) -> Tensor | list[Tensor]:
    """Return what the perturbation adds to the weights, sign included; nothing is changed in place.

    `sign * rho * T² g / (‖T g‖ + 1e-12)` when normalized, `sign * rho * T² g` otherwise; T is 1 but
    for ASAM. A schedule is at its largest. Of several ascent steps it is one, see `climb`. A
    vanished gradient gives a displacement of zero; one that is not finite gives one that is not
    finite.

    Args:
        perturbation: Sign, metric, radius and normalization.
        gradient: Gradient of `perturbation.loss` at the weights: flat `[param]`, or a sequence with
            one tensor per parameter. Norms run over all of it.
        weights: The weights, in the shape of the gradient.
        adaptive: For ASAM only, which tensors are scaled: `adaptive_names(names)`, or for flat
            vectors a mask `[param]`.

    Returns:
        A tensor for a tensor, a list for a sequence.

    Raises:
        ValueError: Gradient and weights do not have the same shapes, or the direction has a memory:
            then it is `next_displacement`.
    """
    if perturbation.has_memory:
        raise ValueError(
            f"{perturbation.label} depends on the gradients of earlier updates, which one gradient "
            "does not tell; use next_displacement with the memory of those updates"
        )
    if isinstance(gradient, Tensor):
        where = None if adaptive is None else [adaptive]
        return _scaled(perturbation, [gradient], [weights], where, 1.0)[0]  # type: ignore[list-item]
    return _scaled(perturbation, gradient, weights, adaptive, 1.0)  # type: ignore[arg-type]


def next_displacement(
    perturbation: Perturbation,
    gradient: Sequence[Tensor],
    weights: Sequence[Tensor],
    memory: Memory | None = None,
    *,
    adaptive: Sequence[bool] | None = None,
    factor: float = 1.0,
) -> tuple[list[Tensor], list[Tensor] | None]:
    """Return the displacement after earlier updates, and what the next one has to remember.

    Args:
        perturbation: All of it but its loss.
        gradient: Gradient of `perturbation.loss` at the weights, one tensor per parameter.
        weights: The weights, one tensor per parameter.
        memory: What the last call returned; None at the first update.
        adaptive: For ASAM only: `adaptive_names(names)`.
        factor: Of the schedule: `perturbation.factor(step, …)`.

    Returns:
        The displacements, one per parameter, and the memory, None where the direction has none.
        Nothing that was passed in is changed.

    Raises:
        ValueError: Gradient, weights and memory do not have the same shapes.
    """
    if not perturbation.has_memory:
        return _scaled(perturbation, gradient, weights, adaptive, factor), None
    before = [None] * len(gradient) if memory is None else list(memory)
    shapes = [None if m is None else tuple(m.shape) for m in before]
    expected = [tuple(g.shape) for g in gradient]
    if len(shapes) != len(expected) or any(
        shape not in (None, wanted) for shape, wanted in zip(shapes, expected, strict=True)
    ):
        raise ValueError(f"memory must have the shapes of the gradient {expected}, got {shapes}")
    followed, after = _followed(perturbation, gradient, before)
    moves = _scaled(perturbation, followed, weights, adaptive, factor)
    return [move.to(g.dtype) for move, g in zip(moves, gradient, strict=True)], after


def _followed(
    perturbation: Perturbation, gradient: Sequence[Tensor], before: Memory
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the direction and the running mean after it; a mean of nothing begins with g."""
    pairs = list(zip(gradient, before, strict=True))
    wide = [at_least_float32(g) if m is None else g.to(m.dtype) for g, m in pairs]
    means = [g if m is None else m for g, m in zip(wide, before, strict=True)]
    after = tensor_lists.interpolate(means, wide, perturbation.new_weight)
    if perturbation.direction == "mean":
        return after, after
    taken = [torch.zeros_like(g) if m is None else m for g, m in zip(wide, before, strict=True)]
    return tensor_lists.subtract(wide, taken, factor=perturbation.sigma), after


def climb(
    perturbation: Perturbation,
    gradient: Sequence[Tensor],
    weights: Sequence[Tensor],
    gradient_at: Callable[[list[Tensor]], Sequence[Tensor]],
    *,
    adaptive: Sequence[bool | Tensor] | None = None,
) -> list[Tensor]:
    """Return the displacement after all ascent steps, each along the gradient where it starts.

    The metric is that of the weights, at every step. n steps of rho / n stay within rho.

    Args:
        perturbation: One without a memory.
        gradient: Gradient of `perturbation.loss` at the weights, one tensor per parameter.
        weights: Where to begin, one tensor per parameter.
        gradient_at: The gradient at other weights; not called for one ascent step.
        adaptive: As in `displacement`.
    """
    total = displacement(perturbation, gradient, weights, adaptive=adaptive)  # type: ignore[call-overload]
    for _ in range(perturbation.ascent_steps - 1):
        place = [w + t for w, t in zip(weights, total, strict=True)]
        moves = displacement(perturbation, gradient_at(place), weights, adaptive=adaptive)  # type: ignore[call-overload]
        total = [t + m for t, m in zip(total, moves, strict=True)]
    return total


def update_gradient(
    perturbation: Perturbation, before: Sequence[Tensor], after: Sequence[Tensor]
) -> list[Tensor]:
    """Return the gradient that the base optimizer is given: g′, for GSAM g′ − alpha g⊥.

    g⊥ = g − <g, g′> g′ / ‖g′‖² over all parameters; where g′ vanishes, g⊥ is g.

    Args:
        perturbation: Whose alpha.
        before: g at the weights.
        after: g′ at the displaced weights.
    """
    if not perturbation.alpha:
        return list(after)
    share = _product(before, after) / (_product(after, after) + NORM_FLOOR**2)
    across = tensor_lists.subtract(before, tensor_lists.scale(after, share))
    return tensor_lists.subtract(after, across, factor=perturbation.alpha)


def _scaled(
    perturbation: Perturbation,
    followed: Sequence[Tensor],
    weights: Sequence[Tensor],
    adaptive: Sequence[bool | Tensor] | None,
    factor: float,
) -> list[Tensor]:
    """Return the displacement along a direction: metric and radius."""
    shapes, expected = [tuple(d.shape) for d in followed], [tuple(w.shape) for w in weights]
    if shapes != expected:
        raise ValueError(f"gradient must have the shapes of the weights {expected}, got {shapes}")
    metric = metric_of(perturbation, weights, adaptive)
    inner = followed
    if metric is not None:
        inner = tensor_lists.multiply(followed, metric)
    scale: float | Tensor = perturbation.sign * scheduled_radius(perturbation, factor)
    if perturbation.ascent_steps > 1:
        scale /= perturbation.ascent_steps
    if perturbation.normalize:
        length = _global_norm(inner) + NORM_FLOOR
        if perturbation.budget:
            radius = (factor * perturbation.budget / length).clamp(max=perturbation.rho)
            scale = perturbation.sign * radius
        scale = scale / length
    outer = inner if metric is None else tensor_lists.multiply(inner, metric)
    return tensor_lists.scale(outer, scale)


def metric_of(
    perturbation: Perturbation,
    weights: Sequence[Tensor],
    adaptive: Sequence[bool | Tensor] | None,
) -> list[Tensor] | None:
    """Return T, one tensor per parameter, or None where it is 1 everywhere.

    Raises:
        ValueError: ASAM is not told which tensors it scales.
    """
    if perturbation.metric == "identity":
        return None
    if adaptive is None or len(adaptive) != len(weights):
        raise ValueError(
            f"{perturbation.label} scales the tensors named weight and has to know which of the "
            f"{len(weights)} they are, got {adaptive!r}; pass adaptive=adaptive_names(names), or "
            "give SAM model.named_parameters()"
        )
    scaled = tensor_lists.magnitudes(weights, more=perturbation.eta)
    return [
        torch.where(where, size, 1.0)
        if isinstance(where, Tensor)
        else (size if where else torch.ones_like(size))
        for size, where in zip(scaled, adaptive, strict=True)
    ]


def _global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm over all tensors, summed in float32 or better, on the device of the first."""
    norms = tensor_lists.norms([at_least_float32(t) for t in tensors])
    return torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))


def _product(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product over all tensors, on the device of the first."""
    wide = ([at_least_float32(t) for t in side] for side in (left, right))
    parts = [product.sum() for product in tensor_lists.multiply(*wide)]
    return torch.stack([part.to(parts[0].device) for part in parts]).sum()
