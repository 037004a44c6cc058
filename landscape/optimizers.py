"""SAM as a torch optimizer, for every perturbation of `landscape.perturbations`.

One update takes two backward passes on the same batch: `first_step` adds the displacement,
`second_step` puts the weights back and lets the base optimizer use the gradient found there.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from landscape import tensor_lists
from landscape.batchnorm import frozen_batchnorm as frozen_batchnorm
from landscape.displacements import adaptive_names, metric_of, next_displacement
from landscape.perturbations import Perturbation, sam
from landscape.sam_checks import (
    both_closures,
    check_displaced,
    check_gradients,
    check_not_displaced,
    check_rate,
    check_scalers,
)
from landscape.sam_parts import Gradients, final_gradients, loaded_memory, mean_gradients, unscale

_SAM = sam()
_OWN_STATE = "perturbation"  # beside "state" and "param_groups" of the base optimizer


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization around a base optimizer.

    ```
    perturbation.loss(model(inputs), targets).backward()  # the task loss will do for all but aace
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(model):
        loss_fn(model(inputs), targets).backward()
    optimizer.second_step(zero_grad=True)
    ```

    Parameter groups and state are those of the base optimizer, so schedulers work as on any
    optimizer; `state_dict` also has what the perturbation remembers. Weight decay is the base
    optimizer's and no part of the displacement. Around the loop:

    - Gradient scaler: scale both losses, give it to both steps, `first_step(scaler=scaler)`, and
      leave `scaler.step` and `scaler.update` out. Unnormalized perturbations are as long as the
      gradient says, so it must be unscaled, and without the scaler nobody can tell that it is not.
      Where either gradient is not finite, the whole update is left out and the scale lowered.
    - Clipping: between the second backward and `second_step`; with a scaler,
      `scaler.unscale_(optimizer)` before. What is clipped before `first_step` changes the
      displacement of unnormalized perturbations.
    - Gradient accumulation: the first backward of all micro-batches, `first_step`, the second
      backward of all, `second_step`, with each loss divided by their number. Without BatchNorm this
      is one large batch. One displacement per micro-batch is another method, the next one.
    - m-sharpness: for each chunk of m samples both backwards, with `first_step` after the first and
      `end_chunk` after the second; then `second_step`. The update has the mean of the gradients.
    - Ascent steps: with `ascent_steps` of n, n times backward and `first_step`.

    Args:
        params: Parameters, named parameters or parameter groups. The gradient norm runs over all
            groups. ASAM has to know names: `model.named_parameters()`.
        base_optimizer_class: Class of the optimizer that makes the update, as `torch.optim.SGD`.
        perturbation: What is added to the weights; `sam()` unless told.
        **base_options: Options of the base optimizer, as `lr=0.1, momentum=0.9`. A schedule "lr"
            is in units of the first group's learning rate here.

    Attributes:
        displacement: What was added to each parameter by the last `first_step`, one tensor each in
            the order of `param_groups`, zero where there was no gradient; None before the first.
            Of several ascent steps it is the sum so far, after chunks their mean.

    Raises:
        ValueError: ASAM without names.

    Source: Foret et al., ICLR 2021, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
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
        metric_of(perturbation, self._parameters(), self._adaptive())
        self._first_lr = float(self.param_groups[0].get("lr", 0.0))
        check_rate(perturbation, self._first_lr)
        self._updates = 0
        self._memory: Gradients | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin an update: nothing is displaced, kept, left out or scaled."""
        self._weights: list[Tensor] | None = None
        self._ascents = 0
        self._gradients: Gradients = []
        self._chunks: list[tuple[Gradients, list[Tensor]]] = []
        self._left_out = False
        self._scaler: Any = None

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False, *, scaler: Any = None) -> None:
        """Add the displacement for the gradient now held, which is that of `perturbation.loss`.

        Args:
            zero_grad: Whether to clear the gradients afterwards.
            scaler: The `torch.amp.GradScaler` that scaled the loss; it unscales and updates here.

        Raises:
            RuntimeError: No gradients, or the weights are displaced already.
        """
        check_not_displaced(self.perturbation, self._ascents)
        params = self._parameters()
        check_gradients(params, "first_step", "perturbation.loss(model(inputs), targets)")
        if scaler is not None:
            self._scaler = scaler
            self._left_out |= not unscale(self, scaler, params)
        if self._weights is None:
            self._weights = tensor_lists.copied(params)
            self.displacement = None
        moves = self._moves(params)
        sofar = self.displacement
        self.displacement = moves if sofar is None else tensor_lists.add(sofar, moves)
        tensor_lists.add_in_place(params, moves)
        self._ascents += 1
        if self.perturbation.alpha:
            self._gradients = [None if p.grad is None else p.grad.clone() for p in params]
        if zero_grad:
            self.zero_grad()

    def _moves(self, params: list[Tensor]) -> list[Tensor]:
        """Return the displacement of each parameter, and remember what the next update needs."""
        if self._left_out:
            return [torch.zeros_like(p) for p in params]
        assert self._weights is not None
        held = [i for i, p in enumerate(params) if p.grad is not None]
        memory = self._memory or [None] * len(params)
        memory += [None] * (len(params) - len(memory))  # groups may be added
        adaptive = self._adaptive()
        found, after = next_displacement(
            self.perturbation,
            [params[i].grad for i in held],  # type: ignore[misc]
            [self._weights[i] for i in held],
            [memory[i] for i in held],
            adaptive=None if adaptive is None else [adaptive[i] for i in held],
            factor=self._factor(),
        )
        moves = dict(zip(held, found, strict=True))
        if after is not None:
            remembered = dict(zip(held, after, strict=True))
            self._memory = [remembered.get(i, m) for i, m in enumerate(memory)]
        return [moves[i] if i in moves else torch.zeros_like(p) for i, p in enumerate(params)]

    @torch.no_grad()
    def end_chunk(self) -> None:
        """Copy the weights back and keep the gradient of the displaced weights, which is cleared.

        For m-sharpness: the next chunk begins with its own backward and `first_step`; chunks have
        equal weights.

        Raises:
            RuntimeError: `first_step` did not come before, or there are no gradients.
            ValueError: The direction has a memory, which is of whole batches.
        """
        if self.perturbation.has_memory:
            raise ValueError(
                f"{self.perturbation.label} remembers gradients of whole batches: chunks would "
                "each change what the next one remembers; take another perturbation"
            )
        self._check_displaced("end_chunk")
        params, moves = self._parameters(), self.displacement
        if self._scaler is not None:
            self._left_out |= not unscale(self, self._scaler, params)
        found = final_gradients(self.perturbation, self._gradients, [p.grad for p in params])
        assert moves is not None
        self._restore()
        self._chunks.append((found, moves))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False, *, scaler: Any = None) -> None:
        """Copy the weights back and update them with the gradient of the displaced weights.

        Args:
            zero_grad: Whether to clear the gradients afterwards.
            scaler: The one that `first_step` was given.

        Raises:
            RuntimeError: `first_step` did not come before, there are no gradients, or one of the
                two steps has a scaler and the other has none.
        """
        if self._weights is not None or self._chunks:
            check_scalers(self._scaler, scaler)
        params = self._parameters()
        if self._chunks and self._weights is None:
            gradients = mean_gradients([found for found, _ in self._chunks])
            moves = zip(*(moves for _, moves in self._chunks), strict=True)
            self.displacement = [torch.stack(parts).mean(0) for parts in moves]
        else:
            self._check_displaced("second_step")
            if scaler is not None:
                self._left_out |= not unscale(self, scaler, params)
            gradients = final_gradients(
                self.perturbation, self._gradients, [p.grad for p in params]
            )
            self._restore()
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = gradient
        if not self._left_out:
            self.base_optimizer.step()
            self._updates += 1
        self._opt_called = True  # what schedulers look for to see that an update came before them
        self._forget()
        if zero_grad:
            self.zero_grad()

    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | Sequence[Callable[[], Any]] | None = None,
        perturbation_closure: Callable[[], Any] | Sequence[Callable[[], Any]] | None = None,
        *,
        scaler: Any = None,
    ) -> Any:
        """Make one whole update; gradients are cleared before each pass and after the update.

        Args:
            closure: Computes the task loss on the batch and calls backward. It runs at the
                displaced weights, and before that at w where no perturbation_closure is given. With
                BatchNorm, run the model in it under `frozen_batchnorm` and give a
                perturbation_closure, whose pass updates the statistics. For m-sharpness a sequence,
                one for each chunk of the batch.
            perturbation_closure: Computes `perturbation.loss` on the same batch and calls backward;
                it runs at w, first, and at the points of further ascent steps. Required by a
                perturbation with a loss of its own (AACE).
            scaler: A gradient scaler; the closures scale their losses with it.

        Returns:
            What the closure that ran at w returned; a list where there are chunks.

        Raises:
            TypeError: No closure.
            ValueError: The perturbation has its own loss and there is no perturbation_closure.
            RuntimeError: A closure left no gradients. The weights are as they were before.
        """
        firsts, seconds = both_closures(self.perturbation, closure, perturbation_closure)
        values = []
        try:
            for first, second in zip(firsts, seconds, strict=True):
                values.append(self._both_passes(first, second, scaler))
                if len(seconds) > 1:
                    self.end_chunk()
            self.second_step(zero_grad=True, scaler=scaler)
        finally:
            if self._weights is not None:
                self._restore()
            self._forget()
        return values if len(seconds) > 1 else values[0]

    def _both_passes(self, first: Callable[[], Any], second: Callable[[], Any], scaler: Any) -> Any:
        """Leave the gradient of the displaced weights; return the value at w."""
        values = []
        for _ in range(self.perturbation.ascent_steps):
            self.zero_grad()
            with torch.enable_grad():
                values.append(first())
            self.first_step(zero_grad=True, scaler=scaler)
        with torch.enable_grad():
            second()
        return values[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base optimizer, parameter groups included, and one's own.

        The latter is under "perturbation": updates made, the learning rate at the start, and the
        running mean of gradients where the direction has one.
        """
        own = {"updates": self._updates, "first_lr": self._first_lr, "memory": self._memory}
        return {**self.base_optimizer.state_dict(), _OWN_STATE: own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Args:
            state_dict: State of a SAM, or of a bare base optimizer, of the same parameters. After
                the latter the perturbation begins anew.

        Raises:
            RuntimeError: The weights are displaced: an update is half done.
            ValueError: The running mean is of other parameters.
        """
        if self._weights is not None or self._chunks:
            raise RuntimeError("an update is half done; call second_step before load_state_dict")
        own = state_dict.get(_OWN_STATE, {})
        memory = loaded_memory(own.get("memory"), self._parameters())
        self.base_optimizer.load_state_dict(state_dict)
        self._share_base()
        self._memory = memory
        self._updates = own.get("updates", 0)
        self._first_lr = own.get("first_lr", self._first_lr)
        self.displacement = None

    def _share_base(self) -> None:
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _adaptive(self) -> list[bool] | None:
        """Which parameters ASAM scales; None for other metrics, and where there are no names."""
        if self.perturbation.metric == "identity":
            return None
        if any("param_names" not in group for group in self.param_groups):
            return None
        return adaptive_names(name for group in self.param_groups for name in group["param_names"])

    def _factor(self) -> float:
        """Factor of the radius's schedule for the update under way."""
        if self.perturbation.schedule != "lr":
            return self.perturbation.factor(self._updates)
        rate = float(self.param_groups[0]["lr"])
        return self.perturbation.factor(self._updates, rate / self._first_lr)

    def _restore(self) -> None:
        """Copy the saved weights back: subtracting the displacement would leave rounding behind."""
        assert self._weights is not None
        tensor_lists.copy(self._weights, into=self._parameters())
        self._weights, self._ascents = None, 0

    def _check_displaced(self, method: str) -> None:
        check_displaced(self.perturbation, self._weights is not None, self._ascents, method)
        check_gradients(self._parameters(), method, "the task loss at the new weights")
