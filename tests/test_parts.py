"""Objectives and operators of some tensors of a net, beside blocks of the whole."""

import numpy as np
import pytest
import torch
from dense import attention, conv_batchnorm, dense_hessian, mlp, tied
from torch import nn
from torch.nn import functional

from landscape import Objective, find_eigenpairs
from landscape.operators import hessian
from landscape.parts import embed, part_of, restrict


def dense(operator):
    return torch.stack([operator(row) for row in torch.eye(operator.size).double()]).numpy()


def close(found, expected, tolerance=1e-8):
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def places(model, names):
    """Where tensors lie in theta, counted without the toolkit."""
    index, places = 0, []
    for name, p in model.named_parameters():
        places += range(index, index + p.numel()) if name in names else []
        index += p.numel()
    return np.array(places)


@pytest.mark.parametrize(
    ("net", "patterns", "names"),
    [
        (mlp, "2.weight", {"2.weight"}),
        (mlp, "*.bias, 0.*", {"0.weight", "0.bias", "2.bias"}),
        (conv_batchnorm, "1.*,4.weight", {"1.weight", "1.bias", "4.weight"}),
        (attention, "attention.*", {"attention.in_proj_weight", "attention.in_proj_bias",
                                    "attention.out_proj.weight", "attention.out_proj.bias"}),
        (tied, "encoder.*", {"encoder.weight"}),
    ],
)  # fmt: skip
def test_of_named_parameters_it_is_the_dense_block(net, patterns, names):
    model, loss_fn, data = net()
    objective = Objective(model, loss_fn, data)
    operator = hessian(objective, parameters=patterns)
    where = places(model, names)
    expected = dense_hessian(model, loss_fn, data)[np.ix_(where, where)]
    assert close(dense(operator), expected)
    assert {entry.name for entry in operator.layout} == names
    assert operator.layout.size == operator.size == len(where)
    assert torch.equal(operator.origin, objective.theta[where])
    assert operator.facts["parameters_of"] == patterns.replace(" ", "")


def test_a_vector_over_a_part_goes_back_to_its_places_in_the_net():
    objective = Objective(*conv_batchnorm())
    model = conv_batchnorm()[0]
    part = hessian(objective, parameters="4.bias,0.weight")
    where = places(model, {"0.weight", "4.bias"})
    vectors = torch.arange(2.0 * part.size).view(2, -1) + 1
    whole = embed(vectors, part.layout, objective.layout)
    assert torch.equal(whole[:, where], vectors)
    assert int((whole != 0).sum()) == vectors.numel()
    assert torch.equal(restrict(whole, part.layout, objective.layout), vectors)
    with pytest.raises(ValueError, match="part's length, 30, got shape"):
        embed(whole, part.layout, objective.layout)
    with pytest.raises(ValueError, match="net's length, 120, got shape"):
        restrict(vectors, part.layout, objective.layout)
    with pytest.raises(ValueError, match=r"part must be of this net, got '0.weight'"):
        embed(vectors, part.layout, Objective(*mlp()).layout)


def test_an_eigenpair_of_a_part_is_one_of_the_block():
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data)
    spectrum = find_eigenpairs(hessian(objective, parameters="0.*"), k=2, tolerance=1e-8, seed=0)
    block = dense_hessian(model, loss_fn, data)[:25, :25]
    values = np.linalg.eigvalsh(block)
    expected = sorted(values, key=abs)[::-1][:2]
    assert np.allclose(spectrum.eigenvalues, expected, rtol=1e-8)
    assert spectrum.eigenvectors.shape == (2, 25)


def test_a_pattern_that_matches_nothing_is_refused_with_what_is_near():
    objective = Objective(*conv_batchnorm())
    with pytest.raises(ValueError, match=r"got '4.wieght', which matches none.*4.weight"):
        hessian(objective, parameters="1.*,4.wieght")
    with pytest.raises(ValueError, match=r"write '4\.\*'"):
        hessian(objective, parameters="4")


def test_a_part_moves_alone_and_the_rest_stays_where_the_objective_was_put():
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data)
    moved = objective.at(objective.theta * 1.5)
    part = part_of(moved, "2.*")
    theta = moved.theta.clone()
    theta[25:] += 0.3
    assert part(part.theta + 0.3) == pytest.approx(moved(theta), rel=1e-12)
    assert torch.allclose(part.gradient(part.theta + 0.3), moved.gradient(theta)[25:], rtol=1e-12)
    assert part_of(moved, "") is moved


def test_a_part_of_a_net_keeps_running_statistics_given_with_the_weights():
    model, loss_fn, data = conv_batchnorm()
    objective = Objective(model, loss_fn, data)
    buffers = {name: buffer + 1 for name, buffer in model.named_buffers()}
    moved = objective.at(objective.theta, buffers)
    operator = hessian(moved, parameters="4.*")
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    where = places(model, {"4.weight", "4.bias"})
    assert close(dense(operator), dense_hessian(model, loss_fn, data)[np.ix_(where, where)])


def test_gradients_of_a_part_are_taken_for_the_part_only():
    asked = []

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight.clone()

        @staticmethod
        def backward(ctx, gradient):
            asked.append(gradient.shape)
            return gradient

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            hidden = torch.tanh(functional.linear(x, Linear.apply(self.first.weight)))
            return functional.linear(hidden, Linear.apply(self.second.weight))

    _, loss_fn, data = mlp()
    objective = Objective(Net().double(), loss_fn, data)
    hessian(objective, parameters="second.weight", method="recomputed")(torch.ones(15))
    assert set(asked) == {torch.Size([3, 5])}
