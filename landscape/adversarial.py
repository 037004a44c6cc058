"""The adaptive adversarial cross-entropy (AACE), which the perturbation of that name follows.

The target of a sample lies on its wrong classes, so going down the loss leads away from the true
class: `p` are the softmax probabilities of the logits, t is the true class, and everything in the
target is held fixed when the gradient is taken.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Mode = Literal["ada", "rand", "const"]

MODES: tuple[Mode, ...] = ("ada", "rand", "const")
"""How the target is shared out among the wrong classes."""

_REDUCTIONS = {"mean": torch.mean, "sum": torch.sum, "none": lambda losses: losses}


def aace_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    reduction: Literal["mean", "sum", "none"] = "mean",
    threshold: float = 0.0,
    mode: Mode = "ada",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the adaptive adversarial cross-entropy.

    A sample's loss is the divergence `sum_k y_k (log y_k - log p_k)` from a target y that is held
    fixed: `y_k = u_k / sum_{j != t} u_j` on the wrong classes, with u = p by mode "ada", random
    numbers in (0, 1] by "rand" and 1 by "const"; and `y_t = min(p_t, threshold)`, so that the
    target's mass is `1 + y_t`.

    By mode "ada" it is computed in closed form, which stays finite where the divergence is 0/0:
    with the log-odds margin `m = z_t - logsumexp_{j != t} z_j` it is `softplus(m) = -log(1 - p_t)`,
    and with a threshold `y_t (log y_t - log p_t)` more.

    fp16 and bf16 logits are computed and returned in float32. Targets on a GPU are not looked at,
    which would wait for it: one that is no class fails there when it is used.

    Args:
        logits: Scores `[batch, class]`, at least two classes. A class may be masked by `-inf`; it
            then has no part in the target.
        targets: True classes `[batch]`, integers in `0 .. class - 1`.
        reduction: "mean" over the batch, "sum", or "none" for the losses `[batch]`.
        threshold: Largest target mass left on the true class, in [0, 1]; 0 is the paper's default.
        mode: "ada", the paper's default, "rand" or "const".
        generator: Where mode "rand" draws from, and no other; on any device.

    Returns:
        The loss, a scalar, or `[batch]` for `reduction="none"`.

    Raises:
        TypeError: Targets are not integers: soft or mixup targets name no true class.
        ValueError: Shapes, classes, reduction, threshold or mode do not fit, or "rand" has no
            generator.

    Source: Ratchatorn and Tanaka, Adaptive Adversarial Cross-Entropy Loss for Sharpness-Aware
        Minimization, ICIP 2024 (arXiv 2406.14329), section 3. The closed form is derived from it.

    Example:
        >>> round(aace_loss(torch.zeros(1, 10), torch.tensor([3])).item(), 4)  # -log(1 - 1/10)
        0.1054
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {sorted(_REDUCTIONS)}, got {reduction!r}")
    check_threshold(threshold)
    check_mode(mode)
    _check_classification(logits, targets)
    logits = at_least_float32(logits)
    index = targets.long().unsqueeze(1)
    rest = logits.scatter(1, index, -torch.inf).logsumexp(1)
    margin = logits.gather(1, index).squeeze(1) - rest
    if mode == "ada":
        losses = functional.softplus(margin)
    else:
        losses = _divergence(logits, _shares(logits, index, mode, generator))
    if threshold > 0:
        log_p = functional.logsigmoid(margin)
        log_a = log_p.detach().clamp(max=math.log(threshold))
        losses = losses + log_a.exp() * (log_a - log_p)
    return _REDUCTIONS[reduction](losses)


def _shares(logits: Tensor, index: Tensor, mode: Mode, generator: torch.Generator | None) -> Tensor:
    """Return the target `[batch, class]` on the wrong classes, each row of sum 1."""
    shares = torch.ones_like(logits)
    if mode == "rand":
        if generator is None:
            raise ValueError(
                'mode "rand" draws its targets and needs a generator, got none; pass '
                "torch.Generator().manual_seed(seed)"
            )
        drawn = torch.rand(logits.shape, generator=generator, device=generator.device)
        # in (0, 1]: torch draws from [0, 1)
        shares = 1 - drawn.to(logits, non_blocking=True)
    shares = shares.masked_fill(logits == -torch.inf, 0).scatter(1, index, 0)
    return shares / shares.sum(1, keepdim=True)


def _divergence(logits: Tensor, shares: Tensor) -> Tensor:
    """Return `sum_k y_k (log y_k - log p_k)` of each row, 0 log 0 being 0."""
    log_p = logits.log_softmax(1).masked_fill(shares == 0, 0)
    return (torch.xlogy(shares, shares) - shares * log_p).sum(1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return fp16 and bf16 values in float32, others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def check_mode(mode: str) -> None:
    """Raise ValueError unless it is a mode of AACE."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")


def check_threshold(threshold: float) -> None:
    """Raise TypeError or ValueError unless it is a probability."""
    check_number("threshold", threshold)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability, between 0 and 1, got {threshold}")


def check_number(name: str, value: float) -> None:
    """Raise TypeError or ValueError unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def _check_classification(logits: Tensor, targets: Tensor) -> None:
    """Raise unless targets hold one true class for each row of logits."""
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(
            f"AACE needs floating-point logits [batch, class], got {logits.dtype} "
            f"{list(logits.shape)}; bring other axes into the batch first"
        )
    samples, classes = logits.shape
    if classes < 2:
        raise ValueError(
            "AACE needs at least two classes, got one logit per sample; for a binary model with a "
            "single logit s pass the logits (0, s)"
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(
            f"AACE needs one true class per sample, integers [batch], got {targets.dtype} "
            f"{list(targets.shape)}; soft and mixup targets name no true class: take the "
            "perturbation from hard targets"
        )
    if targets.shape != (samples,) or samples == 0:
        raise ValueError(
            f"targets must have shape [{max(samples, 1)}], one class for each row of the logits "
            f"{list(logits.shape)}, got {list(targets.shape)}"
        )
    if targets.device.type != "cpu":
        return
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"targets must lie in 0 .. {classes - 1}, got {low} .. {high}; drop samples to be "
            "ignored before the loss"
        )
