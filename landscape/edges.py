"""Edge-of-stability lines: the largest eigenvalue at which an optimizer's step is stable.

A line stands where a formula holds for the run's own step; elsewhere the reason why there is none.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from landscape.updates import Update

_GUIDE = "of full-batch training; with smaller batches an upper guide"
_MULTIPLIER = "measure the stability multiplier instead"


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A line to hold the largest eigenvalue of the Hessian of the task loss against."""

    # As an eigenvalue, in nats per squared weight unit; NaN where there is no line.
    value: float
    # The formula, as "2 (1 + β) / η"; "" where there is no line.
    label: str
    # Why there is no line, or how far one may be trusted; "" where it holds as it is.
    reason: str


def edge_of_stability(
    update: "Update",
    gradient_norm: float | None = None,
    *,
    bn: str | None = None,
    full_batch: bool = False,
) -> Edge:
    """The eigenvalue of the Hessian of the task loss above which the update oscillates and grows.

    With s = 2 (1 + β) / (η (1 − τ)) − δ, δ the weight decay, which adds to every eigenvalue:

    - SGD and a constant displacement: s; with Nesterov's momentum 2 (1 + β) / (η (1 + 2 β)) − δ.
    - SAM, normalized: (‖g‖ / 2ρ) (√(1 + 4 ρ s / ‖g‖) − 1), ‖g‖ the norm of the gradient that the
      step follows, that of all data; exact for eigenvectors at right angles to g.
    - SAM, unnormalized: (√(1 + 4 ρ s) − 1) / 2ρ.
    - AACE: none. Its displacement has a curvature of its own, so no eigenvalue of the Hessian of
      the task loss alone decides. None is known for the others of the SAM family either.

    Args:
        update: The step, with its perturbation.
        gradient_norm: ‖g‖ over all data, for normalized SAM.
        bn: BatchNorm policy that the eigenvalues are measured under; None for a model without.
        full_batch: Whether the run trained on all of its data at every step.

    Source: Cohen et al., ICLR 2021 (SGD, momentum); Long and Bartlett, arXiv 2309.12488 (SAM
        without momentum).
    """
    if bn not in (None, "batch"):
        return _none(
            f'lines hold for the objective that is trained, with bn="batch", not under bn="{bn}"'
        )
    name = update.perturbation.name if update.perturbation else "sgd"
    if update.perturbation is not None:
        if name not in ("sam", "usam"):
            return _none(f"no line is known for {update.perturbation.word}: {_MULTIPLIER}")
        if update.perturbation.ascent_steps > 1:
            return _none(f"no line is known for {update.perturbation.ascent_steps} ascent steps")
        if update.perturbation.schedule != "constant":
            return _none("a line needs the radius of the step: take perturbation.at(factor)")
    slope, label = _descent(update)
    if math.isinf(slope):
        return _none("with dampening 1 no gradient enters the step")
    if name == "sgd":
        return Edge(value=slope, label=label, reason="" if full_batch else _GUIDE)
    if slope <= 0:
        return _none("weight decay alone is beyond the edge")
    return _sam_edge(update, slope, gradient_norm, full_batch)


def edge_of_adam(learning_rate: float, beta: float = 0.9) -> Edge:
    """The line of Adam, for eigenvalues of the *preconditioned* Hessian: 38 / η at β₁ = 0.9.

    (2 + 2 β₁) / ((1 − β₁) η): gradient descent with momentum kept as a mean, under a
    preconditioner that is taken to stand still, which Adam's does not.

    Args:
        learning_rate: η.
        beta: β₁.

    Source: Cohen et al., Adaptive gradient methods at the edge of stability, arXiv 2207.14484.
    """
    if not (learning_rate > 0 and 0 <= beta < 1):
        raise ValueError(
            f"Adam needs a learning rate above 0 and beta in [0, 1), got {learning_rate} and {beta}"
        )
    return Edge(
        value=(2 + 2 * beta) / ((1 - beta) * learning_rate),
        label="≈ (2 + 2 β₁) / ((1 − β₁) η), preconditioned",
        reason="approximate, and of the preconditioned Hessian: not to be held against others",
    )


def _none(reason: str) -> Edge:
    return Edge(value=math.nan, label="", reason=reason)


def _descent(update: "Update") -> tuple[float, str]:
    """Largest stable curvature along the step, weight decay taken off, and its formula."""
    rate, beta = update.learning_rate, update.momentum
    if update.nesterov:
        value, label = 2 * (1 + beta) / (rate * (1 + 2 * beta)), "2 (1 + β) / (η (1 + 2 β))"
    elif beta and update.dampening:
        rest = 1 - update.dampening
        value = 2 * (1 + beta) / (rate * rest) if rest else math.inf
        label = "2 (1 + β) / (η (1 − τ))"
    else:
        value, label = 2 * (1 + beta) / rate, "2 (1 + β) / η" if beta else "2 / η"
    decay = update.weight_decay
    return value - decay, f"{label} − weight decay" if decay else label


def _sam_edge(
    update: "Update", slope: float, gradient_norm: float | None, full_batch: bool
) -> Edge:
    """Where λ (1 + ρ λ) = s, or λ (1 + ρ λ / ‖g‖) = s."""
    assert update.perturbation is not None
    rho, formula = update.perturbation.rho, "(√(1 + 4 ρ s) − 1) / 2ρ"
    if update.perturbation.normalize:
        if not full_batch:
            return _none(
                "SAM's line is one of full-batch training: with smaller batches the norms of "
                f"their own gradients decide; {_MULTIPLIER}"
            )
        if gradient_norm is None or not math.isfinite(gradient_norm):
            return _none("SAM's line needs the norm of the gradient")
        if gradient_norm <= 0:
            return _none("SAM has no line where the gradient vanishes")
        rho, formula = rho / gradient_norm, "(‖g‖ / 2ρ) (√(1 + 4 ρ s / ‖g‖) − 1)"
    return Edge(
        value=2 * slope / (1 + math.sqrt(1 + 4 * rho * slope)),  # nothing cancels for small ρ
        label=f"{formula}, s = {_descent(update)[1]}",
        reason="" if full_batch else _GUIDE,
    )
