"""What a loop around the SAM optimizer may have forgotten, and what to do about it."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from landscape.perturbations import Perturbation

Closure = Callable[[], Any]


def check_rate(perturbation: Perturbation, rate: float) -> None:
    """Raise ValueError unless the learning rate at the start can be followed, where it has to."""
    if perturbation.schedule == "lr" and not rate > 0:
        raise ValueError(
            f"{perturbation.label} follows the learning rate and needs one above 0 to begin "
            f"with, got {rate:g}"
        )


def both_closures(
    perturbation: Perturbation,
    closure: Closure | Sequence[Closure] | None,
    perturbation_closure: Closure | Sequence[Closure] | None,
) -> tuple[list[Closure], list[Closure]]:
    """Return the closures at w and at the displaced weights, one of each for every chunk.

    Args:
        perturbation: What is added to the weights.
        closure: As `SAM.step` is given it.
        perturbation_closure: Likewise; the other one where there is none.

    Raises:
        TypeError: There is no closure.
        ValueError: The perturbation has its own loss and there is no closure of it.
    """
    if closure is None:
        raise TypeError(
            "SAM.step needs a closure that computes the loss and calls backward, as it takes "
            "the gradient twice; or call first_step and second_step, with a gradient scaler as "
            "second_step(scaler=scaler) in place of scaler.step(optimizer)"
        )
    if perturbation_closure is None and perturbation.has_own_loss:
        raise ValueError(
            f"{perturbation.label} follows a loss of its own: the first backward must be "
            "of perturbation.loss(logits, targets), not of the task loss; pass "
            "step(closure, perturbation_closure)"
        )
    firsts = closure if perturbation_closure is None else perturbation_closure
    return (
        [firsts] if callable(firsts) else list(firsts),
        [closure] if callable(closure) else list(closure),
    )


def check_gradients(params: Sequence[Tensor], method: str, loss: str) -> None:
    """Raise RuntimeError unless there is a gradient."""
    if all(p.grad is None for p in params):
        raise RuntimeError(
            f"{method} needs gradients and no parameter has one: call backward() on {loss} "
            "first, with gradients enabled (no torch.no_grad)"
        )


def check_not_displaced(perturbation: Perturbation, ascents: int) -> None:
    """Raise RuntimeError if all ascent steps are made."""
    if ascents == perturbation.ascent_steps:
        raise RuntimeError(
            f"first_step came {_times(ascents + 1)}: the weights are displaced "
            "already; call second_step after the backward at the displaced weights"
        )


def check_displaced(perturbation: Perturbation, displaced: bool, ascents: int, method: str) -> None:
    """Raise RuntimeError unless all ascent steps are made."""
    if not displaced:
        raise RuntimeError(
            f"{method} came without first_step: there are no weights to go back to; call "
            "first_step after the first backward"
        )
    steps = perturbation.ascent_steps
    if ascents < steps:
        raise RuntimeError(
            f"{method} came too early: {perturbation.label} takes {steps} ascent steps "
            f"and first_step came {_times(ascents)}; go on with backward and first_step"
        )


def check_scalers(first: Any, second: Any) -> None:
    """Raise RuntimeError unless both steps were given the same gradient scaler."""
    if second is not first:
        given, missing = ("second_step", "first_step")[:: 1 if first is None else -1]
        raise RuntimeError(
            f"{given} was given a scaler that {missing} was not: both gradients are scaled and "
            f"both have to be unscaled; call {missing}(scaler=scaler)"
        )


def _times(count: int) -> str:
    """Return a count as once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
