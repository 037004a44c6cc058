"""Derivatives of displacements and of the update's gradient, in closed form.

Of the functions in `landscape.displacements`, for flat vectors; sums are taken in float64.
"""

import torch
from torch import Tensor

from landscape.displacements import NORM_FLOOR, displacement, metric_of
from landscape.lanczos import norm
from landscape.perturbations import Perturbation


def move_with_tangent(
    perturbation: Perturbation,
    gradient: Tensor,
    weights: Tensor,
    gradient_tangent: Tensor,
    weights_tangent: Tensor,
    adaptive: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return ε `[param]` and its derivative along a tangent.

    With u = T g, ε = s(‖u‖) T u. The derivative of T is sign(w) in tensors that ASAM scales, where
    |w| has one, and 0 elsewhere. Where a budget and the largest radius meet, it is that of either
    side.

    Args:
        perturbation: One whose ε weights and batch decide, of one ascent step.
        gradient: Of what it follows `[param]`.
        weights: Where `[param]`.
        gradient_tangent: Derivative of the gradient along the tangent `[param]`.
        weights_tangent: The tangent `[param]`.
        adaptive: Mask `[param]` of what ASAM scales.
    """
    move = displacement(perturbation, gradient, weights, adaptive=adaptive)
    metric = metric_of(perturbation, [weights], [adaptive])
    inner, turn = gradient, gradient_tangent
    if metric is not None:
        bend = weights.sign() * weights_tangent * adaptive
        inner, turn = metric[0] * gradient, metric[0] * gradient_tangent + bend * gradient
    scale, slope = _scale(perturbation, norm(inner))
    tangent = scale * turn
    if slope:
        length = norm(inner)
        tangent = tangent + inner * (slope * _product(inner, turn) / max(length, NORM_FLOOR))
    if metric is not None:
        tangent = tangent * metric[0] + bend * (scale * inner)
    return move, tangent


def update_gradient_tangent(
    perturbation: Perturbation,
    before: Tensor,
    after: Tensor,
    before_tangent: Tensor,
    after_tangent: Tensor,
) -> Tensor:
    """Return the derivative `[param]` of GSAM's g′ − alpha g⊥ along a tangent.

    Args:
        perturbation: Whose alpha.
        before: g `[param]`.
        after: g′ `[param]`.
        before_tangent: Derivative of g `[param]`.
        after_tangent: Derivative of g′ `[param]`.
    """
    square = _product(after, after) + NORM_FLOOR**2
    share = _product(before, after) / square
    change = _product(before_tangent, after) + _product(before, after_tangent)
    change = (change - 2 * share * _product(after, after_tangent)) / square
    off = before_tangent - change * after - share * after_tangent
    return after_tangent - perturbation.alpha * off


def _scale(perturbation: Perturbation, length: float) -> tuple[float, float]:
    """Return s(‖u‖) and its derivative."""
    sign, rho = perturbation.sign, perturbation.rho
    floored = length + NORM_FLOOR
    if not perturbation.normalize:
        return sign * rho, 0.0
    budget = perturbation.budget
    if budget and budget / floored < rho:
        return sign * budget / floored**2, -2 * sign * budget / floored**3
    return sign * rho / floored, -sign * rho / floored**2


def _product(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum(dtype=torch.float64))
