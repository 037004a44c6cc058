"""The perturbations of the SAM family: which loss is followed, in which direction, how far.

A `Perturbation` owns loss, sign and radius together, so no setting can be half right: SAM climbs
the task loss, AACE (adaptive adversarial cross-entropy) goes down its own. `displacement` turns a
gradient into what is added to the weights; the optimizer and the analyses call the same function.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn import functional

NORM_FLOOR = 1e-12  # added to the gradient norm, as in the SAM and AACE reference code

_REDUCTIONS = {"mean": torch.mean, "sum": torch.sum, "none": lambda losses: losses}


def aace_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    reduction: Literal["mean", "sum", "none"] = "mean",
    threshold: float = 0.0,
) -> Tensor:
    """Return the adaptive adversarial cross-entropy in its closed form.

    With the log-odds margin `m = z_t - logsumexp_{j != t} z_j` of the true class t the loss of a
    sample is `softplus(m) = -log(1 - p_t)`. It equals, in value and gradient, the divergence
    `sum_k y_k (log y_k - log p_k)` from the detached adversarial target `y_k = p_k / (1 - p_t)` for
    k != t, `y_t = 0`, and stays finite where that form is 0/0. With a threshold the target also
    carries `a = min(p_t, threshold)` on the true class, which adds `a (log a - log p_t)` with a
    detached.

    fp16 and bf16 logits are computed and returned in float32.

    Args:
        logits: Scores `[batch, class]`, at least two classes. A class may be masked by `-inf`.
        targets: True classes `[batch]`, integers in `0 .. class - 1`.
        reduction: "mean" over the batch, "sum", or "none" for the losses `[batch]`.
        threshold: Largest target mass left on the true class, in [0, 1]; 0 is the paper's default.

    Returns:
        The loss, a scalar, or `[batch]` for `reduction="none"`.

    Raises:
        TypeError: Targets are not integers: soft or mixup targets name no true class.
        ValueError: Shapes, classes, reduction or threshold do not fit.

    Source: Ratchatorn and Tanaka, Adaptive Adversarial Cross-Entropy Loss for Sharpness-Aware
        Minimization, ICIP 2024 (arXiv 2406.14329), section 3. The closed form is derived from it.

    Example:
        >>> round(aace_loss(torch.zeros(1, 10), torch.tensor([3])).item(), 4)  # -log(1 - 1/10)
        0.1054
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {sorted(_REDUCTIONS)}, got {reduction!r}")
    _check_threshold(threshold)
    _check_classification(logits, targets)
    logits = _at_least_float32(logits)
    index = targets.long().unsqueeze(1)
    rest = logits.scatter(1, index, -torch.inf).logsumexp(1)
    margin = logits.gather(1, index).squeeze(1) - rest
    losses = functional.softplus(margin)
    if threshold > 0:
        log_p = functional.logsigmoid(margin)
        log_a = log_p.detach().clamp(max=math.log(threshold))
        losses = losses + log_a.exp() * (log_a - log_p)
    return _REDUCTIONS[reduction](losses)


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What is done to the weights before the gradient of an update is taken.

    The displacement added to the weights is `sign * rho * g`, or `sign * rho * g / |g|` when
    normalized, g being the gradient of `loss` at the weights and |g| its norm over all parameters.
    Use `sam`, `usam` or `aace`; sign and name follow from the loss and cannot be set apart from it.
    """

    # Loss that is followed: "cross_entropy" is climbed, "aace" is descended.
    loss_name: Literal["cross_entropy", "aace"]
    # Radius: length of the displacement when normalized, factor on the gradient otherwise; > 0.
    rho: float
    # Whether the gradient is divided by its global norm.
    normalize: bool
    # Largest target mass AACE leaves on the true class, in [0, 1]; 0 for cross-entropy.
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.loss_name not in ("cross_entropy", "aace"):
            raise ValueError(
                f"loss_name must be 'cross_entropy' or 'aace', got {self.loss_name!r}; "
                "use sam(), usam() or aace()"
            )
        _check_number("rho", self.rho)
        if not self.rho > 0:
            raise ValueError(f"rho must be above 0, got {self.rho}; for no perturbation use SGD")
        if not isinstance(self.normalize, bool):
            raise TypeError(f"normalize must be True or False, got {self.normalize!r}")
        _check_threshold(self.threshold)
        if self.threshold and self.loss_name != "aace":
            raise ValueError(f"only AACE has a threshold, got {self.threshold} with cross-entropy")

    @property
    def name(self) -> str:
        """Short name: "sam", "usam" or "aace"."""
        if self.loss_name == "aace":
            return "aace"
        return "sam" if self.normalize else "usam"

    @property
    def label(self) -> str:
        """Name with its settings, for legends and captions, as "SAM ρ=0.05"."""
        words = [self.name.upper()]
        if self.loss_name == "aace" and self.normalize:
            words.append("normalized")
        words.append(f"ρ={self.rho:g}")
        if self.threshold:
            words.append(f"th={self.threshold:g}")
        return " ".join(words)

    @property
    def sign(self) -> int:
        """+1 where the loss is climbed (SAM), -1 where it is descended (AACE)."""
        return -1 if self.loss_name == "aace" else 1

    @property
    def has_own_loss(self) -> bool:
        """Whether its gradient is not that of the task loss and takes a backward of its own."""
        return self.loss_name == "aace"

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the batch mean of the loss whose gradient `displacement` takes.

        Args:
            logits: Scores `[batch, class]`; fp16 and bf16 are computed in float32.
            targets: True classes `[batch]`.
        """
        if self.loss_name == "aace":
            return aace_loss(logits, targets, threshold=self.threshold)
        return functional.cross_entropy(_at_least_float32(logits), targets)


def sam(rho: float = 0.05) -> Perturbation:
    """Return SAM: ascent on the task loss to the sphere of radius rho.

    Source: Foret et al., Sharpness-Aware Minimization, ICLR 2021, equation 2; rho is their default.
    """
    return Perturbation(loss_name="cross_entropy", rho=rho, normalize=True)


def usam(rho: float) -> Perturbation:
    """Return unnormalized SAM: ascent on the task loss by rho times its gradient.

    Source: Andriushchenko and Flammarion, Towards Understanding SAM, ICML 2022.
    """
    return Perturbation(loss_name="cross_entropy", rho=rho, normalize=False)


def aace(rho: float = 0.2, *, normalize: bool = False, threshold: float = 0.0) -> Perturbation:
    """Return AACE: descent on the adaptive adversarial cross-entropy, towards the wrong classes.

    Source: Ratchatorn and Tanaka, ICIP 2024; the defaults, unnormalized, are those of their code.
    """
    return Perturbation(loss_name="aace", rho=rho, normalize=normalize, threshold=threshold)


@overload
def displacement(perturbation: Perturbation, gradient: Tensor, weights: Tensor) -> Tensor: ...
@overload
def displacement(
    perturbation: Perturbation, gradient: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Tensor]: ...
def displacement(
    perturbation: Perturbation,
    gradient: Tensor | Sequence[Tensor],
    weights: Tensor | Sequence[Tensor],
) -> Tensor | list[Tensor]:
    """Return what the perturbation adds to the weights, sign included; nothing is changed in place.

    `sign * rho * g / (|g| + 1e-12)` when normalized, `sign * rho * g` otherwise. A vanished
    gradient gives a displacement of zero; one that is not finite gives one that is not finite.

    Args:
        perturbation: Sign, radius and normalization.
        gradient: Gradient of `perturbation.loss` at the weights: flat `[param]`, or a sequence with
            one tensor per parameter. |g| runs over all of it.
        weights: The weights, in the shape of the gradient.

    Returns:
        A tensor for a tensor, a list for a sequence.

    Raises:
        ValueError: Gradient and weights do not have the same shapes.
    """
    if isinstance(gradient, Tensor):
        return displacement(perturbation, [gradient], [weights])[0]  # type: ignore[list-item]
    shapes, expected = [tuple(g.shape) for g in gradient], [tuple(w.shape) for w in weights]
    if shapes != expected:
        raise ValueError(f"gradient must have the shapes of the weights {expected}, got {shapes}")
    scale = perturbation.sign * perturbation.rho
    if not perturbation.normalize:
        return [g * scale for g in gradient]
    factor = scale / (_global_norm(gradient) + NORM_FLOOR)
    return [g * factor.to(g.device) for g in gradient]


def _global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm over all tensors, summed in float32 or better, on the device of the first."""
    norms = [torch.linalg.vector_norm(_at_least_float32(t)) for t in tensors]
    return torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def _check_threshold(threshold: float) -> None:
    _check_number("threshold", threshold)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability, between 0 and 1, got {threshold}")


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
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"targets must lie in 0 .. {classes - 1}, got {low} .. {high}; drop samples to be "
            "ignored before the loss"
        )
