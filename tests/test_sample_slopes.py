import math

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, mlp, tied
from torch import nn
from torch.func import functional_call

from landscape import Objective
from landscape.sample_slopes import mean_probability, mean_square_slope, sample_losses


@pytest.mark.parametrize("bn", ["frozen", "recomputed", "batch"])
def test_losses_of_samples_are_those_of_objectives_of_one_and_their_mean_is_the_loss(bn):
    model, loss_fn, (x, y) = conv_batchnorm()
    objective = Objective(model, loss_fn, [(x[:20], y[:20]), (x[20:], y[20:])], bn=bn)
    theta = objective.theta + 0.1
    losses = sample_losses(objective, objective.outputs(theta))
    assert losses.mean() == pytest.approx(objective(theta), rel=1e-12)
    if bn == "frozen":
        each = [Objective(model, loss_fn, (x[i : i + 1], y[i : i + 1]))(theta) for i in range(33)]
        np.testing.assert_allclose(losses, each, rtol=1e-10)


def test_losses_of_samples_need_a_row_for_each():
    model, loss_fn, (x, y) = conv_batchnorm()
    objective = Objective(model, loss_fn, (x, y))
    outputs = objective.outputs()
    with pytest.raises(ValueError, match=r"a row for each, got \[32, \d+\] for 33 samples"):
        sample_losses(objective, [output[:-1] for output in outputs])
    with pytest.raises(ValueError, match="a row for each, got dict for 33 samples"):
        sample_losses(objective, [{"logits": outputs[0]}])


@pytest.mark.parametrize("net", [mlp, conv_batchnorm])
def test_mean_square_slope_is_that_of_each_samples_own_gradient(net):
    model, loss_fn, (x, y) = net()
    objective = Objective(model, loss_fn, (x, y), batch_size=7)
    v = torch.randn(objective.layout.size, generator=torch.Generator().manual_seed(0)).double()
    slopes = [
        float(Objective(model, loss_fn, (x[i : i + 1], y[i : i + 1])).gradient() @ v)
        for i in range(33)
    ]
    assert mean_square_slope(objective, v) == pytest.approx(np.mean(np.square(slopes)), rel=1e-10)


def test_mean_square_slope_with_batch_statistics_moves_the_batch_together():
    model, loss_fn, (x, y) = conv_batchnorm()
    objective = Objective(model, loss_fn, [(x[:20], y[:20]), (x[20:], y[20:])], bn="batch")
    v, step = torch.ones(objective.layout.size).double(), 1e-5
    squares = []
    for inputs, targets in objective.batches:
        ends = []
        for sign in (-1, 1):
            values = objective.parameters(objective.theta + sign * step * v)
            output = functional_call(objective.model, values, (inputs,))
            ends.append(nn.functional.cross_entropy(output, targets, reduction="none").detach())
        squares.append(((ends[1] - ends[0]) / (2 * step)).square())
    expected = float(torch.cat(squares).mean())
    assert mean_square_slope(objective, v) == pytest.approx(expected, rel=1e-7)


def test_mean_probability_is_that_of_the_true_class_over_all_samples():
    model, loss_fn, (x, y) = mlp()
    objective = Objective(model, loss_fn, (x, y), batch_size=10)
    expected = model(x).softmax(1)[torch.arange(33), y].mean().item()
    assert mean_probability(objective) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(mean_probability(Objective(*tied())))
