"""The loss as a deterministic function of a flat parameter vector."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd

from landscape import guards
from landscape.batches import PARTITION_SEED, Batch, read_batches
from landscape.evaluations import Evaluation, score
from landscape.layouts import Layout
from landscape.modules import (
    batch_norms,
    buffers_of,
    exact_convolutions,
    fit_buffers,
    flatten,
    layout_of,
    load_theta,
    private_copy,
)

BN_POLICIES = ("frozen", "recomputed", "batch", "interpolated")
_SHUFFLED = ("recomputed", "batch")  # the policies for which batches must be fair samples

__all__ = [
    "BN_POLICIES",
    "Evaluation",
    "Objective",
    "buffers_of",
    "flatten",
    "layout_of",
    "load_theta",
]


class Objective:
    """The mean loss of a model over fixed data, as a function of theta.

    Works on a private copy of the model in eval mode, so dropout is inactive; the user's model
    is never touched. The data are read once and kept on the device, batches are weighted by
    size, and losses are summed in float64: any split into batches gives the same mean.

    The BatchNorm policy `bn` decides every curvature number:

    - "frozen": the running statistics the model came with.
    - "batch": statistics of each batch of a fixed partition, buffers untouched, as in training.
      Tensor data are permuted by a fixed seed, so that sorted data are mixed.
    - "recomputed": running statistics measured anew from the data at every theta, as the
      size-weighted mean over batches, then used as in eval mode. Has no derivatives.
    - "interpolated": running statistics given with each theta, as between two minima; those the
      model came with where none are given.

    A model without BatchNorm has one objective under all of them.

    Args:
        model: The model; its present parameters become `.theta`.
        loss_fn: `loss_fn(output, targets)`, the mean over the samples of a batch.
        data: (inputs, targets) as tensors or numpy arrays, a DataLoader, or any re-iterable of
            such pairs as batches.
        bn: "frozen" | "batch" | "recomputed" | "interpolated".
        device: Where to compute; default is where the model is.
        dtype: Cast model and floating-point data, e.g. to torch.float64; default is the model's.
        batch_size: Samples in a batch, for tensor data.
        metrics: Further quantities to measure by name: `metric(output, targets)`, the mean over
            the samples of a batch.
        statistics: With bn="recomputed", the objective over the data that the statistics are of,
            for test data that of the training data; this one itself by default.

    Raises:
        ValueError: If the objective would not be a deterministic mean over the data: random
            model, augmented data, another reduction than the mean, no data, no trainable
            parameter, or an output that does not fit the loss.

    Example:
        >>> data = (torch.zeros(4, 2), torch.ones(4, 1))
        >>> objective = Objective(nn.Linear(2, 1), nn.MSELoss(), data)
        >>> objective(torch.zeros(3))
        1.0
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Tensor], Tensor],
        data: Any,
        *,
        bn: str = "frozen",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int = 256,
        metrics: Mapping[str, Callable[[Any, Tensor], Any]] | None = None,
        statistics: "Objective | None" = None,
    ) -> None:
        _check_arguments(model, bn, dtype, batch_size)
        self.layout: Layout = layout_of(model)
        self.model: nn.Module = private_copy(model, device, dtype)
        self.loss_fn = loss_fn
        self.theta: Tensor = flatten(self.model)
        if isinstance(loss_fn, nn.Module):
            self.loss_fn = private_copy(loss_fn, self.theta.device, dtype)
        self.metrics = dict(metrics or {})
        self._buffers: dict[str, Tensor] = {}
        self._dtypes = [self.model.get_parameter(entry.name).dtype for entry in self.layout]
        self._norms = batch_norms(self.model, bn)
        self._policy = bn if self._norms else "frozen"
        batches, digest = read_batches(data, batch_size=batch_size, mixed=self._policy in _SHUFFLED)
        self.batches: list[Batch] = [(self._place(x), self._place(y)) for x, y in batches]
        self.statistics_batches = self.batches if statistics is None else statistics.batches
        self._sizes = torch.tensor([len(x) for x, _ in self.batches], dtype=torch.float64)
        self.facts: dict[str, Any] = self._describe(bn, digest)
        self._check()

    def __call__(self, theta: Tensor | np.ndarray | None = None) -> float:
        """The mean loss at theta [param], in nats; at the model's own parameters by default."""
        return self.evaluate(theta).loss

    @torch.inference_mode()
    @exact_convolutions()
    def evaluate(
        self,
        theta: Tensor | np.ndarray | None = None,
        *,
        buffers: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Measure loss and accuracy over all data.

        Args:
            theta: Parameters [param]; the model's own by default.
            buffers: All buffers by name, in place of the model's own.

        Raises:
            ValueError: If theta or the buffers do not fit the model.
        """
        values = self._values(theta, buffers)
        outputs = (self._output(values, inputs) for inputs, _ in self.batches)
        return score(outputs, self.batches, self.loss_fn, self.metrics)

    @torch.inference_mode()
    @exact_convolutions()
    def outputs(self, theta: Tensor | np.ndarray | None = None) -> list[Any]:
        """The model's output for each of `batches`, with BatchNorm as the policy says.

        Args:
            theta: Parameters [param]; the model's own by default.

        Raises:
            ValueError: If theta does not fit the model.
        """
        values = self._values(theta, None)
        return [self._output(values, inputs) for inputs, _ in self.batches]

    def at(
        self, theta: Tensor | np.ndarray, buffers: Mapping[str, Any] | None = None
    ) -> "Objective":
        """The same objective about another theta [param], for what measures at `.theta`.

        Shares data and model with this one.

        Args:
            theta: Parameters that become `.theta`.
            buffers: All buffers by name, in place of the model's own.

        Raises:
            ValueError: If theta or the buffers do not fit the model.
        """
        other = copy.copy(self)
        other.theta = self._as_theta(theta).clone()
        if buffers is not None:
            other._buffers = fit_buffers(self.model, buffers)
        return other

    def module(self) -> nn.Module:
        """A copy of the model with `.theta` and the buffers that the objective uses."""
        return load_theta(self.model, self.theta, self._buffers or None)

    def gradient(self, theta: Tensor | np.ndarray | None = None) -> Tensor:
        """The gradient of the mean loss [param]; zero along parameters the loss does not use.

        Raises:
            ValueError: If the policy is "recomputed", or the loss does not depend on theta.
        """
        with self.derivatives():
            theta = self._as_theta(theta).clone().requires_grad_()
            total = torch.zeros_like(theta)
            for weight, loss in self.weighted_losses(theta):
                total.add_(torch.autograd.grad(loss, theta)[0], alpha=weight)
        return total

    def hessian_vector(
        self, v: Tensor | np.ndarray, theta: Tensor | np.ndarray | None = None
    ) -> Tensor:
        """The product H v [param] of the Hessian of the mean loss, by double backward.

        Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".

        Raises:
            ValueError: If the policy is "recomputed", or the loss does not depend on theta.
        """
        with self.derivatives():
            v = self._as_theta(v).clone()
            theta = self._as_theta(theta).clone().requires_grad_()
            total = torch.zeros_like(theta)
            for weight, loss in self.weighted_losses(theta):
                gradient = torch.autograd.grad(loss, theta, create_graph=True)[0]
                if not gradient.requires_grad:
                    continue  # the loss is linear in theta: its Hessian is zero
                part = torch.autograd.grad(gradient, theta, v, allow_unused=True)[0]
                if part is not None:
                    total.add_(part, alpha=weight)
        return total

    @contextmanager
    def derivatives(self) -> Iterator[None]:
        """Turn graphs on wherever we are called; fused attention has no second derivative.

        Raises:
            ValueError: If the policy is "recomputed".
        """
        if self._policy == "recomputed":
            raise ValueError(
                'bn="recomputed" has no derivatives here: statistics over all data would have to '
                'be differentiated; use bn="frozen" or bn="batch"'
            )
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            with exact_convolutions():
                yield

    @property
    def shares(self) -> list[float]:
        """Each batch's share of the samples; they sum to 1."""
        return (self._sizes / self._sizes.sum()).tolist()

    def weighted_losses(self, theta: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield (share of the samples, loss) of each batch, with a graph down to theta.

        To be used within `derivatives()`.

        Raises:
            ValueError: If the loss does not depend on theta.
        """
        for share, (inputs, targets) in zip(self.shares, self.batches, strict=True):
            loss, _ = self.batch_loss(self.parameters(theta), inputs, targets)
            if not loss.requires_grad:
                raise ValueError(
                    "the loss must depend on the trainable parameters, got a constant; look for "
                    "detach(), no_grad() or argmax in the model or the loss"
                )
            yield share, loss

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta [param] by name, and the buffers: what the model is called with."""
        parts = theta.split([entry.size for entry in self.layout])
        return self._buffers | {
            entry.name: part.view(entry.shape).to(dtype)
            for entry, part, dtype in zip(self.layout, parts, self._dtypes, strict=True)
        }

    def _values(
        self, theta: Tensor | np.ndarray | None, buffers: Mapping[str, Any] | None
    ) -> dict[str, Tensor]:
        """What the model is called with at theta, by the policy."""
        values = self.parameters(self._as_theta(theta))
        if buffers is not None:
            values |= fit_buffers(self.model, buffers)
        if self._policy == "recomputed":
            values |= self._recompute_statistics(values)
        return values

    def _as_theta(self, vector: Tensor | np.ndarray | None) -> Tensor:
        if vector is None:
            return self.theta
        if isinstance(vector, np.ndarray):
            vector = torch.tensor(vector)
        if vector.shape != self.theta.shape:
            raise ValueError(
                f"the vector must have the layout of theta, {tuple(self.theta.shape)}, "
                f"got shape {tuple(vector.shape)}"
            )
        return vector.detach().to(self.theta)

    def _recompute_statistics(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """BatchNorm's buffers at these parameters: size-weighted mean over batches."""
        statistics = {
            f"{name}.{kind}".lstrip("."): torch.zeros_like(getattr(module, kind))
            for name, module in self._norms.items()
            for kind in ("running_mean", "running_var", "num_batches_tracked")
        }
        seen = 0
        try:
            for inputs, _ in self.statistics_batches:
                seen += len(inputs)
                for module in self._norms.values():
                    module.training, module.momentum = True, len(inputs) / seen
                self._output(values | statistics, inputs)
        finally:
            for module in self._norms.values():
                module.training = False
        return statistics

    def _output(self, values: dict[str, Tensor], inputs: Tensor) -> Any:
        with guards.explaining_output(self.model, inputs):
            return functional_call(self.model, values, (inputs,))

    def batch_loss(
        self, values: dict[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Any]:
        """Mean loss and output of one batch, with parameters and buffers by name."""
        output = self._output(values, inputs)
        return guards.batch_loss(self.loss_fn, output, targets), output

    @torch.inference_mode()
    def _check(self) -> None:
        """Refuse what could not be measured truly: randomness, other reductions, coupling."""
        values = self.parameters(self.theta)
        guards.check_deterministic(
            self.model, self.loss_fn, lambda: self.batch_loss(values, *self.batches[0])
        )
        guards.check_mean(
            self.loss_fn,
            lambda inputs: self._output(values, inputs),
            self.batches,
            coupled=self._policy == "batch",
        )

    def _place(self, tensor: Tensor) -> Tensor:
        dtype = self.theta.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.theta.device, dtype, copy=True)

    def _describe(self, bn: str, digest: str) -> dict[str, Any]:
        modules = list(self.model.modules())
        dropout = any(isinstance(m, _DropoutNd) and m.p > 0 for m in modules)
        facts = {
            "model": type(self.model).__name__,
            "parameters": self.layout.size,
            "loss": guards.name_of(self.loss_fn),
            "bn": bn,
            "mode": "eval, dropout inactive" if dropout else "eval",
            "samples": int(self._sizes.sum()),
            "batch_size": int(self._sizes.max()),
            "dtype": str(self.theta.dtype).removeprefix("torch."),
            "data_digest": digest,
        }
        if self._policy in _SHUFFLED:
            facts["partition"] = f"{len(self.batches)} batches, seed {PARTITION_SEED} for tensors"
        return facts


def _check_arguments(model: Any, bn: str, dtype: torch.dtype | None, batch_size: int) -> None:
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"model must be a plain torch.nn.Module, got {type(model).__name__}")
    if bn not in BN_POLICIES:
        raise ValueError(f"bn must be one of {', '.join(BN_POLICIES)}, got {bn!r}")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, got {dtype}; try torch.float64")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
