"""SAM as a torch optimizer, for every perturbation of `landscape.perturbations`.

One update takes two backward passes on the same batch: `first_step` adds the displacement,
`second_step` puts the weights back and lets the base optimizer use the gradient found there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.perturbations import Perturbation, displacement, sam

_SAM = sam()


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization around a base optimizer.

    ```
    perturbation.loss(model(inputs), targets).backward()  # the task loss will do for sam and usam
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(model):
        loss_fn(model(inputs), targets).backward()
    optimizer.second_step(zero_grad=True)
    ```

    Parameter groups and state are those of the base optimizer, so schedulers and `state_dict` work
    as on any optimizer; the perturbation is a setting, not state. Weight decay is the base
    optimizer's and no part of the displacement. With a gradient scaler, unscale before
    `first_step`: unnormalized perturbations are as long as the gradient says.

    Args:
        params: Parameters or parameter groups. The gradient norm runs over all groups.
        base_optimizer_class: Class of the optimizer that makes the update, as `torch.optim.SGD`.
        perturbation: What is added to the weights; `sam()` unless told.
        **base_options: Options of the base optimizer, as `lr=0.1, momentum=0.9`.

    Attributes:
        displacement: What was added to each parameter by the last `first_step`, one tensor each in
            the order of `param_groups`, zero where there was no gradient; None before the first.

    Source: Foret et al., ICLR 2021, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base_optimizer_class: type[torch.optim.Optimizer],
        *,
        perturbation: Perturbation = _SAM,
        **base_options: Any,
    ) -> None:
        if not isinstance(perturbation, Perturbation):
            raise TypeError(
                f"perturbation must be a Perturbation, got {perturbation!r}; use sam(), usam(rho) "
                "or aace() of landscape.perturbations"
            )
        super().__init__(params, dict(base_options))
        self.base_optimizer = base_optimizer_class(self.param_groups, **base_options)
        self._share_base()
        self.defaults.update(self.base_optimizer.defaults)
        self.perturbation = perturbation
        self.displacement: list[Tensor] | None = None
        self._weights: list[Tensor] | None = None

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Add the displacement for the gradient now held, which is that of `perturbation.loss`.

        Args:
            zero_grad: Whether to clear the gradients afterwards.

        Raises:
            RuntimeError: No gradients, or the weights are displaced already.
        """
        if self._weights is not None:
            raise RuntimeError(
                "first_step came twice: the weights are displaced already; call second_step after "
                "the backward at the displaced weights"
            )
        params = self._parameters()
        self._check_gradients(params, "first_step", "perturbation.loss(model(inputs), targets)")
        held = [(p, p.grad) for p in params if p.grad is not None]
        weights, gradients = [p for p, _ in held], [g for _, g in held]
        moves = iter(displacement(self.perturbation, gradients, weights))
        self.displacement = [torch.zeros_like(p) if p.grad is None else next(moves) for p in params]
        self._weights = [p.detach().clone() for p in params]
        for param, move in zip(params, self.displacement, strict=True):
            param.add_(move)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Copy the weights back and update them with the gradient of the displaced weights.

        Args:
            zero_grad: Whether to clear the gradients afterwards.

        Raises:
            RuntimeError: `first_step` did not come before, or there are no gradients.
        """
        if self._weights is None:
            raise RuntimeError(
                "second_step came without first_step: there are no weights to go back to; call "
                "first_step after the first backward"
            )
        self._check_gradients(self._parameters(), "second_step", "the task loss at the new weights")
        self._restore()
        self.base_optimizer.step()
        self._opt_called = True  # what schedulers look for to see that an update came before them
        if zero_grad:
            self.zero_grad()

    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | None = None,
        perturbation_closure: Callable[[], Any] | None = None,
    ) -> Any:
        """Make one whole update; gradients are cleared before each pass and after the update.

        Args:
            closure: Computes the task loss on the batch and calls backward. It runs at the
                displaced weights, and before that at w where no perturbation_closure is given. With
                BatchNorm, run the model in it under `frozen_batchnorm` and give a
                perturbation_closure, whose pass updates the statistics.
            perturbation_closure: Computes `perturbation.loss` on the same batch and calls backward;
                it runs at w, first. Required by a perturbation with a loss of its own (AACE).

        Returns:
            What the closure that ran at w returned.

        Raises:
            TypeError: No closure.
            ValueError: The perturbation has its own loss and there is no perturbation_closure.
            RuntimeError: A closure left no gradients. The weights are as they were before.
        """
        if closure is None:
            raise TypeError(
                "SAM.step needs a closure that computes the loss and calls backward, as it takes "
                "the gradient twice; or call first_step and second_step"
            )
        if perturbation_closure is None and self.perturbation.has_own_loss:
            raise ValueError(
                f"{self.perturbation.label} follows a loss of its own: the first backward must be "
                "of perturbation.loss(logits, targets), not of the task loss; pass "
                "step(closure, perturbation_closure)"
            )
        first = closure if perturbation_closure is None else perturbation_closure
        self.zero_grad()
        with torch.enable_grad():
            value = first()
        self.first_step(zero_grad=True)
        try:
            with torch.enable_grad():
                closure()
            self.second_step(zero_grad=True)
        finally:
            if self._weights is not None:
                self._restore()
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base optimizer, parameter groups included."""
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Args:
            state_dict: State of a SAM, or of a bare base optimizer, of the same parameters.

        Raises:
            RuntimeError: The weights are displaced: an update is half done.
        """
        if self._weights is not None:
            raise RuntimeError("an update is half done; call second_step before load_state_dict")
        self.base_optimizer.load_state_dict(state_dict)
        self._share_base()
        self.displacement = None

    def _share_base(self) -> None:
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def _restore(self) -> None:
        """Copy the saved weights back: subtracting the displacement would leave rounding behind."""
        assert self._weights is not None
        for param, weight in zip(self._parameters(), self._weights, strict=True):
            param.copy_(weight)
        self._weights = None

    @staticmethod
    def _check_gradients(params: list[Tensor], method: str, loss: str) -> None:
        if all(p.grad is None for p in params):
            raise RuntimeError(
                f"{method} needs gradients and no parameter has one: call backward() on {loss} "
                "first, with gradients enabled (no torch.no_grad)"
            )


@contextmanager
def frozen_batchnorm(model: nn.Module) -> Iterator[None]:
    """Keep BatchNorm buffers as they are while the block runs; batch statistics are still used.

    For the second pass of SAM: running means and variances and `num_batches_tracked` belong to the
    batches seen at w. Layers in eval mode and layers without running statistics behave as always.

    Args:
        model: The model, or any part of it. Only torch's BatchNorm layers are known.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracking = [layer.track_running_stats for layer in layers]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer, track in zip(layers, tracking, strict=True):
            layer.track_running_stats = track
