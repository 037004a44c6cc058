"""A loss as a function of the model's output: its Hessian there, and the losses of samples."""

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape import guards

Loss = Callable[[Any, Tensor], Tensor]

LOOK = 32
"""Samples of which an output is enough to tell what kind of loss it is."""

_PROBES = 4
_STEPS = (1e-4, 1e-5)  # of the central differences, in units of the output
_HELD = 1e-3  # deviation from them, relative, from which part of a loss is said to be held fixed


def loss_product(loss_fn: Loss, output: Tensor, targets: Tensor, u: Tensor) -> Tensor:
    """The product of the loss's Hessian in the output with u, both of the output's shape."""
    output = output.detach().requires_grad_()
    loss = guards.batch_loss(loss_fn, output, targets)
    (gradient,) = torch.autograd.grad(loss, output, create_graph=True)
    if not gradient.requires_grad:
        return torch.zeros_like(u)
    (product,) = torch.autograd.grad(gradient, output, u, allow_unused=True)
    return torch.zeros_like(u) if product is None else product


def curvature_of(loss_fn: Loss, output: Tensor, targets: Tensor) -> str:
    """What the Hessian of the loss in the output is, seen with random vectors.

    Returns:
        "Fisher" where it is that of cross-entropy of logits (diag(p) - p pᵀ over the number of
        samples, or p (1 - p) for single logits), else "convex".

    Raises:
        ValueError: If the loss is linear in the output, or its Hessian has a negative form on the
            output of some sample.
    """
    generator = torch.Generator().manual_seed(0)
    slack = torch.finfo(output.dtype).eps ** 0.5
    fisher = True
    for _ in range(_PROBES):
        draw = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        u = draw.to(output.device, output.dtype)
        product = loss_product(loss_fn, output, targets, u)
        nowhere = not product.any()  # it may vanish at large outputs; then look at small ones
        if nowhere and not loss_product(loss_fn, torch.zeros_like(output), targets, u).any():
            raise ValueError(
                f"Gauss-Newton needs a loss with curvature in the model's output, got "
                f"{guards.name_of(loss_fn)}, which is linear there, so that the matrix is zero; "
                "for log-probabilities give logits and cross-entropy, else take the Hessian"
            )
        terms = (u * product).reshape(len(u), -1)
        if bool((terms.sum(1) < -slack * terms.abs().sum(1).max()).any()):
            raise ValueError(
                f"Gauss-Newton needs a loss that is convex in the model's output, got "
                f"{guards.name_of(loss_fn)}, whose curvature is negative for some samples; take "
                "the Hessian"
            )
        fisher = fisher and _is_fisher(output, u, product, slack)
    return "Fisher" if fisher else "convex"


def check_true_surface(loss_fn: Loss, output: Any, targets: Tensor) -> None:
    """Refuse a loss part of which autograd holds fixed, so that its Hessian is not its surface's.

    A target computed from the output under detach() or no_grad() changes derivatives and not
    values; the first derivative may still be right, and the second one not, as for AACE in the form
    of a divergence. So autograd's derivatives in the output are compared with central differences
    of values and gradients. At a kink those differ too, but not alike for two steps.

    Args:
        loss_fn: The loss.
        output: The model's output on a batch; anything but a tensor is not looked at.
        targets: The targets of that batch.

    Raises:
        ValueError: If they deviate by more than 1e-3.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return
    output = output.detach().double()
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.device)
    if isinstance(loss_fn, nn.Module):
        loss_fn = copy.deepcopy(loss_fn).double()
    try:
        deviations = [_deviations(loss_fn, output, targets, u, step) for step in _STEPS]
    except ValueError:  # a loss that takes its own precision only
        return
    for what, first, second in zip(("gradient", "second derivative"), *deviations, strict=True):
        if float(first.norm()) > 0 and float((first - second).norm()) <= 0.1 * float(first.norm()):
            raise ValueError(
                "the Hessian needs a loss whose derivatives are those of its value, got "
                f"{guards.name_of(loss_fn)}, whose {what} in the model's output is not: detach() "
                "or no_grad() holds part of it fixed. Give the loss in closed form "
                "(AACE: landscape.operators.surface_loss), or take gauss_newton"
            )


def _deviations(
    loss_fn: Loss, output: Tensor, targets: Tensor, u: Tensor, step: float
) -> tuple[Tensor, Tensor]:
    """How far gradient and Hessian along u are from differences, 0 where it may be rounding."""
    value, gradient = _slope(loss_fn, output, targets)
    (up, slope_up), (down, slope_down) = (
        _slope(loss_fn, output + sign * step * u, targets) for sign in (1, -1)
    )
    rounding = 100 * torch.finfo(torch.float64).eps / step
    reach = 1 + float(output.abs().max())
    along = (gradient * u).sum()
    first = (up - down) / (2 * step) - along
    least = _HELD * float(gradient.norm() * u.norm()) / u.numel() ** 0.5
    if abs(float(first)) <= least + rounding * (abs(float(value)) + reach):
        first = torch.zeros_like(first)
    product = loss_product(loss_fn, output, targets, u)
    second = (slope_up - slope_down) / (2 * step) - product
    least = _HELD * float(product.norm() + second.norm())
    slopes = float(gradient.norm()) + 1 / len(output)  # p - 1 is exact to the rounding of 1 only
    if float(second.norm()) <= least + rounding * slopes:
        second = torch.zeros_like(second)
    return first, second


def _slope(loss_fn: Loss, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of the loss in the output."""
    output = output.detach().requires_grad_()
    loss = guards.batch_loss(loss_fn, output, targets)
    return loss.detach(), torch.autograd.grad(loss, output)[0]


def _is_fisher(output: Tensor, u: Tensor, product: Tensor, slack: float) -> bool:
    if output.ndim >= 2 and output.shape[1] >= 2:
        p = output.softmax(1)
        count = output.numel() / output.shape[1]
        expected = (p * u - p * (p * u).sum(1, keepdim=True)) / count
    else:
        p = output.sigmoid()
        expected = p * (1 - p) * u / output.numel()
    return float((product - expected).norm()) <= slack * float(expected.norm())


def sample_losses(
    loss_fn: Loss, output: Tensor, targets: Tensor
) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """A function `(output, targets) -> losses [sample]` for a mean over samples.

    Args:
        loss_fn: The mean over the samples of a batch.
        output: The model's output [sample, ...] on some batch, to compare on.
        targets: The targets of that batch.

    Returns:
        The function; and how: 'reduction="none"', where that is heard and gives the same mean, or
        "one by one".

    Raises:
        ValueError: If the output has no row per sample.
    """
    if output.shape[:1] != targets.shape[:1]:
        raise ValueError(
            "losses of samples need an output with one row per sample, got output "
            f"{tuple(output.shape)} and targets {tuple(targets.shape)}"
        )
    unreduced = _without_reduction(loss_fn)
    if unreduced is not None:
        try:
            rows = _mean_rows(unreduced(output, targets), len(targets))
        except (RuntimeError, ValueError, TypeError):
            rows = None
        if rows is not None and _close(rows, _rows_alone(loss_fn, output, targets)):
            return lambda out, to: _mean_rows(unreduced(out, to), len(to)), 'reduction="none"'
    return partial(_rows_alone, loss_fn), "one by one"


def _close(rows: Tensor, alone: Tensor) -> bool:
    slack = torch.finfo(rows.dtype).eps ** 0.75
    return float((rows - alone).abs().max()) <= slack * float(alone.abs().max())


def _without_reduction(loss_fn: Any) -> Callable[[Any, Tensor], Tensor] | None:
    """The loss with reduction="none", where there is such a setting."""
    if isinstance(loss_fn, nn.Module):
        if not hasattr(loss_fn, "reduction"):
            return None
        loss_fn = copy.copy(loss_fn)
        loss_fn.reduction = "none"
        return loss_fn
    try:
        heard = "reduction" in inspect.signature(loss_fn).parameters
    except (TypeError, ValueError):  # builtins tell nothing
        return None
    return partial(loss_fn, reduction="none") if heard else None


def _mean_rows(losses: Tensor, samples: int) -> Tensor:
    """Losses [sample, ...] as means [sample]."""
    if losses.shape[:1] != (samples,):
        raise ValueError(f"expected {samples} rows of losses, got {tuple(losses.shape)}")
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _rows_alone(loss_fn: Loss, output: Tensor, targets: Tensor) -> Tensor:
    """The loss of each row by itself [sample]."""
    return torch.stack(
        [
            guards.batch_loss(loss_fn, output[i : i + 1], targets[i : i + 1])
            for i in range(len(targets))
        ]
    )
