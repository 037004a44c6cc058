"""Convolution, BatchNorm and ReLU whose second derivatives take no more passes than they must.

The product of a Hessian with a vector differentiates a gradient. torch's own second derivative of
a convolution finds the weights' part by a convolution whose kernel is the whole image, that of
BatchNorm is composed of some twenty elementwise passes, and that of ReLU adds zeros. Here each is
the few convolutions and reductions that it takes, as public operators do them on any device.
Differentiable twice, not three times.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from landscape.fused import channels_last

_aten = torch.ops.aten
_Place = tuple[list[int], list[int], list[int], bool, list[int], int]
"""Stride, padding, dilation, whether transposed, output padding, groups."""


class FastSecondDerivatives(TorchFunctionMode):
    """Within it, a model's convolutions, BatchNorms and ReLUs are those of this module."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ours where there is one for these arguments, else what was called."""
        kwargs = kwargs or {}
        ours = _OURS.get(func)
        if ours is not None and torch.is_grad_enabled():
            made = ours(*args, **kwargs)
            if made is not None:
                return made
        return func(*args, **kwargs)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """`torch.conv1d` to `conv3d`; None for arguments that are left to torch."""
    sides = weight.ndim - 2
    if isinstance(padding, str) or x.ndim != weight.ndim or x.dtype != weight.dtype:
        return None
    if not x.is_floating_point():
        return None
    spans = [[n] * sides if isinstance(n, int) else [*n] for n in (stride, padding, dilation)]
    spans = [span * sides if len(span) == 1 else span for span in spans]
    place = (spans[0], spans[1], spans[2], False, [0] * sides, groups)
    return _Convolution.apply(x, weight, bias, place)  # type: ignore[no-any-return]


def scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x [sample, channel, ...] * scale [channel] + shift [channel]."""
    return _ScaleShift.apply(x, scale, shift)  # type: ignore[no-any-return]


def normalize(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """`functional.batch_norm` that leaves running statistics alone; None where it may not."""
    if x.ndim < 2 or (training and running_mean is not None) or x.numel() == x.shape[1]:
        return None
    scale = x.new_ones(x.shape[1]) if weight is None else weight
    shift = x.new_zeros(x.shape[1]) if bias is None else bias
    if training:
        return _BatchNorm.apply(x, scale, shift, eps)  # type: ignore[no-any-return]
    if running_mean is None or running_var is None:
        return None
    scale = scale * torch.rsqrt(running_var + eps)
    return scale_and_shift(x, scale, shift - running_mean * scale)


def rectify(x: Tensor, inplace: bool = False) -> Tensor:
    """ReLU; in place, x must not be needed for its own derivative."""
    return _Rectify.apply(x, inplace)  # type: ignore[no-any-return]


def _rectify_apart(x: Tensor, inplace: bool = False) -> Tensor | None:
    return None if inplace else rectify(x)


_OURS: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv1d: convolve,
    torch.conv2d: convolve,
    torch.conv3d: convolve,
    functional.batch_norm: normalize,
    functional.relu: _rectify_apart,
    torch.relu: _rectify_apart,
    Tensor.relu: _rectify_apart,
}


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, place: _Place) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.place = place
        return torch.convolution(x, weight, bias, *place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        mask = ctx.needs_input_grad[:3]
        return *_ConvolutionBackward.apply(grad, x, weight, ctx.place, mask), None


class _ConvolutionBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, place: _Place, mask: Any) -> Any:
        grad = _like(grad, x)
        ctx.save_for_backward(grad, x, weight)
        ctx.place = place
        ctx.set_materialize_grads(False)
        return _convolution_backward(grad, x, weight, place, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> Any:
        grad, x, weight = ctx.saved_tensors
        place, needs = ctx.place, ctx.needs_input_grad
        to_grad = to_x = to_weight = None
        if dw is not None:
            if needs[0]:
                to_grad = torch.convolution(x, dw, db, *place)
            if needs[1]:
                to_x = _convolution_backward(grad, x, dw, place, (True, False, False))[0]
        elif db is not None and needs[0]:
            to_grad = db.view(1, -1, *[1] * (x.ndim - 2)).expand_as(grad)
        if dx is not None:
            dx = _like(dx, x)
            if needs[0]:
                more = torch.convolution(dx, weight, None, *place)
                to_grad = more if to_grad is None else more.add_(to_grad)
            if needs[2]:
                to_weight = _convolution_backward(grad, dx, weight, place, (False, True, False))[1]
        return to_grad, to_x, to_weight, None, None


class _ScaleShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return torch.addcmul(_broad(shift, x), x, _broad(scale, x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _ScaleShiftBackward.apply(grad, *ctx.saved_tensors, ctx.needs_input_grad)


class _ScaleShiftBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, scale: Tensor, mask: Any) -> Any:
        grad = _like(grad, x)
        ctx.save_for_backward(grad, x, scale)
        ctx.set_materialize_grads(False)
        return _scaled(grad, x, scale, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor | None, ds: Tensor | None, db: Tensor | None) -> Any:
        grad, x, scale = ctx.saved_tensors
        needs = ctx.needs_input_grad
        shift = torch.zeros_like(scale) if db is None else db
        to_grad = (
            _broad(shift, x) if ds is None else torch.addcmul(_broad(shift, x), x, _broad(ds, x))
        )
        to_x = to_scale = None
        if dx is None:
            to_x = grad * _broad(ds, x) if needs[1] and ds is not None else None
            return to_grad.expand_as(x), to_x, None, None
        dx = _like(dx, x)
        to_grad = torch.addcmul(to_grad, dx, _broad(scale, x))
        tilt = torch.zeros_like(scale) if ds is None else ds
        to_x, to_scale, _ = _scaled(grad, dx, tilt, (needs[1], needs[2], False))
        return to_grad, to_x, to_scale, None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        y, mean, rate = torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, scale, mean, rate)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *_BatchNormBackward.apply(grad, *ctx.saved_tensors, ctx.eps), None


class _BatchNormBackward(torch.autograd.Function):
    """To x: γ r (g - mean g - x̂ mean(g x̂)), r being 1/σ and x̂ the normalized x."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, scale: Tensor, mean: Tensor, rate: Tensor, eps: float
    ) -> Any:
        grad = _like(grad, x)
        to_x, tilt, total = _normalized(grad, x, scale, mean, rate, eps)
        ctx.save_for_backward(grad, x, scale, mean, rate, tilt, total)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return to_x, tilt, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor | None, ds: Tensor | None, db: Tensor | None) -> Any:
        grad, x, scale, mean, rate, tilt, total = ctx.saved_tensors
        zero = torch.zeros_like(scale)
        ds, db = zero if ds is None else ds, zero if db is None else db
        dx = torch.zeros_like(x) if dx is None else _like(dx, x)
        count = x.numel() // x.shape[1]
        to_grad, dx_tilt, dx_total = _normalized(dx, x, scale, mean, rate, ctx.eps)
        to_grad.add_(_broad(db - ds * rate * mean, x)).addcmul_(x, _broad(ds * rate, x))
        inner = _products(dx, grad) - (dx_total * total + dx_tilt * tilt) / count
        by_dx = -scale * rate * tilt / count
        by_grad = ds - scale * rate * dx_tilt / count
        by_x = -rate * (rate * (by_dx * dx_tilt + by_grad * tilt) + scale * inner * rate**2) / count
        rest = -rate * (by_dx * dx_total + by_grad * total) / count - by_x * mean
        to_x = torch.addcmul(_broad(rest, x), x, _broad(by_x, x))
        to_x.addcmul_(dx, _broad(by_dx * rate, x)).addcmul_(grad, _broad(by_grad * rate, x))
        return to_grad, to_x, inner * rate, None, None, None


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        y = x.relu_() if inplace else x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _Mask.apply(grad, ctx.saved_tensors[0].detach()), None


class _Mask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return _aten.threshold_backward(_like(grad, y), y, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor) -> Any:
        y = ctx.saved_tensors[0]
        return _aten.threshold_backward(_like(dx, y), y, 0), None


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, place: _Place, mask: Any
) -> tuple[Tensor | None, ...]:
    """The gradient passed on to x, weight and bias, where the mask asks for it."""
    sizes = [weight.shape[0]] if mask[2] else None
    found = _aten.convolution_backward(grad, x, weight, sizes, *place, mask)
    return tuple(part if asked else None for part, asked in zip(found, mask, strict=True))


def _scaled(grad: Tensor, x: Tensor, scale: Tensor, mask: Any) -> tuple[Tensor | None, ...]:
    """(grad * scale, Σ grad x, Σ grad), sums over all but channels: BatchNorm's, of mean 0, σ 1."""
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    found = _aten.native_batch_norm_backward(
        grad, x, scale, zero, one, None, None, False, 0.0, list(mask[:3])
    )
    return tuple(part if asked else None for part, asked in zip(found, mask, strict=False))


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b [channel] over all but channels."""
    found = _scaled(a, b, a.new_ones(a.shape[1]), (False, True, False))[1]
    assert found is not None
    return found


def _normalized(
    grad: Tensor, x: Tensor, scale: Tensor, mean: Tensor, rate: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient passed on to x, scale (Σ grad x̂) and shift (Σ grad)."""
    return _aten.native_batch_norm_backward(
        grad, x, scale, None, None, mean, rate, True, eps, [True, True, True]
    )


def _broad(values: Tensor, x: Tensor) -> Tensor:
    """Values [channel], for arithmetic with x [sample, channel, ...]."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """The same numbers in the order in memory of x."""
    last = channels_last(x)
    return channels_last(grad) if last is x and not x.is_contiguous() else grad.contiguous()
