"""Layers that BatchNorm is folded into anew at each theta, with sum and ReLU in the same call."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

_CHANNELS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(x: Tensor) -> Tensor:
    """The same numbers with the channels of a sample's pixels side by side, where it has pixels."""
    layout = _CHANNELS.get(x.ndim)
    return x if layout is None else x.contiguous(memory_format=layout)


def has_fused_convolutions() -> bool:
    """Whether this torch has oneDNN's convolutions, which are no public interface."""
    operations = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(
        hasattr(operations, name)
        for name in (
            "_convolution_pointwise",
            "_convolution_pointwise_",
            "_reorder_convolution_weight",
        )
    )


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as x * scale + shift, each [channel]."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm to fold must have running statistics, got none")
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _fold(layer: Any, norm: _BatchNorm | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the layer with BatchNorm behind it."""
    if norm is None:
        return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    scale, shift = scale_and_shift(norm)
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    return weight, shift if layer.bias is None else torch.addcmul(shift, layer.bias, scale)


class FoldedConvolution(nn.Module):
    """relu(BatchNorm(convolution(x)) + other): BatchNorm, sum and ReLU where there are any.

    The layers folded are only read, so one that is used in two places is folded in each by itself.
    ReLU is a call of its own: oneDNN's turns NaN into 0, also behind a sum.

    Args:
        layer: The convolution, whose parameters hold the present theta.
        norm: BatchNorm behind it.
        relu: Whether ReLU comes last.
        dtype: What to compute in; weights are folded in the layer's own type, then cast.
        sizes: Shape of the inputs if the sum and convolution are oneDNN's, None for public ones.
    """

    def __init__(
        self,
        layer: _ConvNd,
        norm: _BatchNorm | None,
        *,
        relu: bool,
        dtype: torch.dtype,
        sizes: list[int] | None,
    ) -> None:
        super().__init__()
        self._read = (layer, norm)  # in a tuple: no submodules, so that no cast reaches them
        self._relu, self._dtype, self._sizes = relu, dtype, sizes
        self._place = ([*layer.padding], [*layer.stride], [*layer.dilation], layer.groups)
        self.in_place = False  # whether `other` may be overwritten by the sum
        self._weight, self._bias = _fold(layer, None)

    def refresh(self) -> None:
        """Fold the present theta and running statistics."""
        weight, bias = _fold(*self._read)
        weight = weight.to(self._dtype)
        if self._sizes is not None:
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._place, self._sizes)
        self._weight, self._bias = weight, None if bias is None else bias.to(self._dtype)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The layer's output; `other` has its shape."""
        x = x.to(self._dtype)
        y = self._public(x, other) if self._sizes is None else self._private(x, other)
        return y.relu_() if self._relu else y

    def _public(self, x: Tensor, other: Tensor | None) -> Tensor:
        y = self._read[0]._conv_forward(x, self._weight, self._bias)
        return y if other is None else y.add_(other)

    def _private(self, x: Tensor, other: Tensor | None) -> Tensor:
        given = (x, self._weight, self._bias, *self._place)
        operations = torch.ops.mkldnn
        if other is None:
            return operations._convolution_pointwise(*given, "none", [], None)
        last = ("add", 1.0, None, [], None)
        if self.in_place:
            return operations._convolution_pointwise_.binary(other, *given, *last)
        return operations._convolution_pointwise.binary(x, other, *given[1:], *last)


class FoldedLinear(nn.Module):
    """relu(BatchNorm(x Wᵀ + b)): BatchNorm and ReLU where there are any."""

    def __init__(
        self, layer: nn.Linear, norm: _BatchNorm | None, *, relu: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self._read, self._relu, self._dtype = (layer, norm), relu, dtype
        self._weight, self._bias = _fold(layer, None)

    def refresh(self) -> None:
        """Fold the present theta and running statistics."""
        weight, bias = _fold(*self._read)
        self._weight = weight.to(self._dtype)
        self._bias = None if bias is None else bias.to(self._dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output [sample, unit]."""
        y = nn.functional.linear(x.to(self._dtype), self._weight, self._bias)
        return y.relu_() if self._relu else y


class ScaleShift(nn.Module):
    """BatchNorm that follows no convolution, as one scale and shift; ReLU where there is one."""

    def __init__(self, norm: _BatchNorm, *, ndim: int, relu: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self._read, self._ndim, self._relu, self._dtype = (norm,), ndim, relu, dtype
        self._scale = self._shift = torch.empty(0)

    def refresh(self) -> None:
        """Take up the present theta and running statistics."""
        shape = (1, -1, *[1] * (self._ndim - 2))
        self._scale, self._shift = (
            part.to(self._dtype).view(shape) for part in scale_and_shift(*self._read)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, of the shape of x."""
        y = torch.addcmul(self._shift, x.to(self._dtype), self._scale)
        return y.relu_() if self._relu else y
