import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from landscape.double_backward import (
    FastSecondDerivatives,
    convolve,
    normalize,
    rectify,
    scale_and_shift,
)

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def randn(*shape, seed=0, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=layout).requires_grad_()


def assert_derivatives(function, *inputs):
    gradcheck(function, inputs)
    gradgradcheck(function, inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "place", [{}, {"stride": 2, "padding": 1}, {"padding": (1, 0), "dilation": (1, 2)}]
)
def test_convolution_has_torchs_value_and_true_derivatives(layout, place):
    x, weight, bias = randn(2, 3, 5, 5, layout=layout), randn(4, 3, 3, 2, seed=1), randn(4, seed=2)
    expected = functional.conv2d(x, weight, bias, **place)
    torch.testing.assert_close(convolve(x, weight, bias, **place), expected, rtol=0, atol=1e-12)
    assert_derivatives(lambda *t: convolve(*t, **place), x, weight, bias)
    assert_derivatives(lambda w, b: convolve(x.detach(), w, b, **place), weight, bias)
    assert_derivatives(lambda x, w: convolve(x, w, **place), x, weight)
    assert_derivatives(lambda x, b: convolve(x, weight.detach(), b, **place), x, bias)


def test_convolutions_in_groups_and_other_dimensions_have_true_derivatives():
    grouped = (randn(2, 4, 4, 4), randn(4, 2, 3, 3, seed=1))
    assert_derivatives(lambda x, w: convolve(x, w, groups=2), *grouped)
    assert_derivatives(convolve, randn(2, 2, 5), randn(3, 2, 3, seed=1), randn(3, seed=2))
    assert_derivatives(convolve, randn(1, 1, 3, 3, 3), randn(2, 1, 2, 2, 2, seed=1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scale_and_shift_has_true_derivatives(layout):
    x, scale, shift = randn(3, 4, 3, 2, layout=layout), randn(4, seed=1), randn(4, seed=2)
    assert_derivatives(scale_and_shift, x, scale, shift)
    assert_derivatives(lambda s, t: scale_and_shift(x.detach(), s, t), scale, shift)
    assert_derivatives(lambda x, t: scale_and_shift(x, scale.detach(), t), x, shift)


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (7, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batchnorm_of_batch_statistics_has_torchs_value_and_true_derivatives(shape, layout):
    x = randn(*shape, layout=layout if len(shape) == 4 else torch.contiguous_format)
    weight, bias = randn(3, seed=1), randn(3, seed=2)
    expected = functional.batch_norm(x, None, None, weight, bias, True)
    found = normalize(x, None, None, weight, bias, True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert_derivatives(lambda x, w, b: normalize(x, None, None, w, b, True), x, weight, bias)
    assert_derivatives(lambda x: normalize(x, None, None, None, None, True), x)
    assert_derivatives(lambda w: normalize(x.detach(), None, None, w, None, True), weight)


def test_batchnorm_of_running_statistics_is_torchs():
    x, mean, var = randn(4, 3, 2, 2), randn(3, seed=1).detach(), randn(3, seed=2).detach().exp()
    weight = randn(3, seed=3)
    expected = functional.batch_norm(x, mean, var, weight)
    torch.testing.assert_close(normalize(x, mean, var, weight), expected, rtol=0, atol=1e-12)
    assert_derivatives(lambda x, w: normalize(x, mean, var, w), x, weight)


@pytest.mark.parametrize("inplace", [False, True])
def test_relu_has_true_derivatives(inplace):
    assert_derivatives(lambda x: rectify(2 * x, inplace) ** 3, randn(3, 4))
    x = torch.zeros(2)
    assert (rectify(x, inplace) is x) == inplace


def test_models_call_them_where_they_fit_and_torch_elsewhere():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))
    net = net.double().eval()
    x = randn(3, 2, 4, 4)
    with FastSecondDerivatives():
        found = net(x)
        names = set()
        node = found.grad_fn
        while node is not None:
            names.add(node.name())
            node = node.next_functions[0][0] if node.next_functions else None
        same = functional.conv2d(x, randn(2, 2, 3, 3), padding="same")
    assert {"_ConvolutionBackward", "_RectifyBackward", "_ScaleShiftBackward"} <= names
    assert same.grad_fn is not None
    assert same.grad_fn.name() == "ConvolutionBackward0"
    torch.testing.assert_close(found, net(x), rtol=0, atol=1e-12)


def test_running_statistics_that_would_move_are_left_to_torch():
    norm, x = nn.BatchNorm2d(2).double(), randn(3, 2, 2, 2)
    with FastSecondDerivatives():
        norm(x)
    assert norm.num_batches_tracked == 1
    assert norm.running_mean is not None
    assert norm.running_mean.any()
