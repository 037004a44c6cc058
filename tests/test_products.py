import functools
import json

import numpy as np
import pytest
import torch
from dense import attention, classes, conv_batchnorm, dense_hessian, mlp, quadratic, symmetric, tied
from torch import nn

from landscape.differentiable import Outputs
from landscape.double_backward import _Convolution
from landscape.objectives import Objective
from landscape.products import METHODS, choose_product

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
DOUBLE = ("retained", "recomputed")


def vector_for(objective, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(objective.theta.numel(), generator=generator, dtype=torch.float64)


def assert_exact(product, dense, v, rtol=1e-8):
    expected = dense @ v.numpy()
    np.testing.assert_allclose(product(v), expected, rtol=0, atol=rtol * np.abs(expected).max())


def residual_net(seed=0):
    """Folded and unfolded BatchNorm, ReLU in place and not, a sum, a strided and a grouped conv."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4)
            self.second, self.bn2 = nn.Conv2d(4, 4, 3, padding="same"), nn.BatchNorm2d(4)
            self.bn0, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)

        def forward(self, x):
            inner = nn.functional.relu(self.bn1(self.first(torch.relu(self.bn0(x)))))
            return self.relu(self.bn2(self.second(inner)) + x)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), Block(), nn.Flatten()
        )
        net = net.append(nn.Linear(36, 5)).append(nn.BatchNorm1d(5)).append(nn.Linear(5, 3))
        x = torch.randn(33, 2, 8, 8)
        net.train()
        net(3 * x + 1)
        net.eval()
    return net.double(), CE, (x.double(), torch.arange(33) % 3)


@functools.cache
def frozen_hessian(net):
    return dense_hessian(*net())


@functools.cache
def batch_hessian(net):
    model, loss_fn, data = net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.training, module.track_running_stats = True, False
            module.running_mean = module.running_var = None
    return dense_hessian(model, loss_fn, data)


@pytest.mark.parametrize(
    ("net", "method"),
    [
        (net, method)
        for net in (mlp, conv_batchnorm, tied, attention, residual_net)
        for method in METHODS
        if (net, method) != (attention, "forward-over-reverse")  # wrong in torch, see below
    ],
)
def test_every_method_gives_the_dense_hessian(net, method):
    model, loss_fn, data = net()
    dense = frozen_hessian(net)
    objective = Objective(model, loss_fn, data, batch_size=16)
    product = choose_product(objective, method=method)
    assert product.facts["product"] == method
    rtol = 1e-8 if method != "finite difference" else 1e-5
    assert product.facts["product_error"] < rtol
    assert_exact(product, dense, vector_for(objective), rtol)
    assert_exact(product, dense, vector_for(objective, 1), rtol)


@pytest.mark.parametrize("method", [*DOUBLE, "finite difference"])
@pytest.mark.parametrize("net", [conv_batchnorm, residual_net])
def test_every_method_gives_the_dense_hessian_of_batch_statistics(net, method):
    model, loss_fn, data = net()
    objective = Objective(model, loss_fn, [data], bn="batch")
    dense = batch_hessian(net)
    product = choose_product(objective, method=method)
    rtol = 1e-8 if method != "finite difference" else 1e-4
    assert product.facts["product_chunk"] is None
    assert product.facts["product_path"] == ("folded" if method in DOUBLE else "plain")
    assert "differs" not in product.facts["product_reason"]
    assert_exact(product, dense, vector_for(objective), rtol)


@pytest.mark.parametrize("method", [*DOUBLE, "finite difference"])
def test_ragged_batches_are_weighted_by_size_under_batch_statistics(method):
    model, loss_fn, data = residual_net()
    objective = Objective(model, loss_fn, data, bn="batch", batch_size=20)
    v = vector_for(objective)
    product = choose_product(objective, method=method)
    assert_close(product(v), objective.hessian_vector(v), 1e-9 if method in DOUBLE else 1e-4)


def assert_close(found, expected, rtol):
    assert float((found - expected).norm()) <= rtol * float(expected.norm())


def test_folding_and_retained_graphs_are_chosen_for_a_convolutional_net():
    objective = Objective(*residual_net())
    product = choose_product(objective)
    facts = product.facts
    assert (facts["product"], facts["product_path"], facts["product_chunk"]) == (
        "retained",
        "folded",
        32,
    )
    assert "graphs of all 33 samples" in facts["product_reason"]
    json.dumps(facts, allow_nan=False)


def test_float32_products_are_those_of_the_plain_one_within_rounding():
    model, loss_fn, (x, y) = residual_net()
    objective = Objective(model.float(), loss_fn, (x.float(), y), batch_size=16)
    v = vector_for(objective)
    product = choose_product(objective)
    assert product(v).dtype == torch.float32
    assert product.facts["product_error"] < 1e-3
    assert_close(product(v).double(), objective.hessian_vector(v).double(), 1e-3)


def test_little_memory_takes_graphs_anew_in_smaller_chunks():
    objective = Objective(*residual_net())
    large = choose_product(objective)
    size = large.facts["product_memory"]
    fits = choose_product(objective, memory=1.1 * size)
    assert fits.facts["product"] == "retained"
    short = choose_product(objective, memory=size / 2)
    assert short.facts["product"] == "recomputed"
    assert 6 <= short.facts["product_chunk"] <= 8  # a quarter of 33: as much again passes through
    assert "more than" in short.facts["product_reason"]
    tiny = choose_product(objective, memory=1)
    assert (tiny.facts["product"], tiny.facts["product_chunk"]) == ("recomputed", 1)
    v = vector_for(objective)
    for product in (short, tiny):
        assert_close(product(v), large(v), 1e-12)


def test_memory_counts_each_image_of_a_convolution_and_its_gradient_once():
    model = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Flatten()).double()
    model.append(nn.Linear(27, 3, bias=False)).double()
    objective = Objective(model, CE, classes(40, (1, 5, 5), 3))
    held = choose_product(objective).facts["product_memory"] / (8 * 40)
    assert 27 + 27 < held < 27 + 27 + 4 * 3  # some of logits' size; not the data


def test_product_memory_is_what_the_graphs_take_per_sample():
    objective = Objective(*residual_net())
    half = Objective(objective.model, CE, [(x[:16], y[:16]) for x, y in objective.batches])
    whole, part = (choose_product(o).facts["product_memory"] for o in (objective, half))
    assert part / whole == pytest.approx(16 / 33, rel=0.05)


def test_batches_shared_out_add_up_to_the_whole():
    objective = Objective(*residual_net(), batch_size=5)
    v = vector_for(objective)
    whole = choose_product(objective)(v)
    for method in METHODS:
        parts = [
            choose_product(objective, method=method, batches=b)(v) for b in (range(3), [5, 3, 4, 6])
        ]
        assert_close(parts[0] + parts[1], whole, 1e-9 if method != "finite difference" else 1e-4)
    assert not choose_product(objective, batches=range(0))(v).any()


def test_settled_product_is_made_again_at_another_theta_without_the_plain_one(monkeypatch):
    objective = Objective(*residual_net(), batch_size=16)
    settled = json.loads(json.dumps(choose_product(objective).settled))
    moved = objective.at(objective.theta + 0.01)
    v = vector_for(objective)
    expected = moved.hessian_vector(v)
    monkeypatch.setattr(Objective, "hessian_vector", None)
    product = choose_product(moved, settled=settled)
    assert product.facts == settled
    assert_close(product(v), expected, 1e-10)


def test_settled_product_that_can_not_be_made_is_chosen_anew():
    settled = choose_product(Objective(*residual_net())).settled
    untraceable = Objective(Branching().double(), CE, classes(9, (4,), 3))
    assert choose_product(untraceable, settled=settled).facts["product_path"] == "direct"


def test_running_statistics_given_with_theta_are_used():
    model, loss_fn, data = residual_net()
    objective = Objective(model, loss_fn, data)
    buffers = {n: b * 1.5 for n, b in model.named_buffers()}
    moved = objective.at(objective.theta * 1.1, buffers)
    v = vector_for(objective)
    assert_close(choose_product(moved)(v), moved.hessian_vector(v), 1e-10)


class Branching(nn.Module):
    """Can't be traced."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        y = self.norm(self.linear(x))
        return self.head(torch.relu(y) if y.sum() != 0 else y)


@pytest.mark.parametrize("bn", ["frozen", "batch"])
def test_model_that_can_not_be_traced_takes_the_direct_path(bn):
    objective = Objective(Branching().double(), CE, classes(33, (4,), 3), bn=bn, batch_size=16)
    product = choose_product(objective)
    assert product.facts["product_path"] == "direct"
    assert "can't be traced" in product.facts["product_reason"]
    v = vector_for(objective)
    assert_close(product(v), objective.hessian_vector(v), 1e-10)


def test_unused_shared_and_frozen_parameters_are_like_in_the_plain_product():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
            self.again, self.unused = self.conv, nn.Linear(3, 2)
            self.head = nn.Linear(50, 3)
            self.head.bias.requires_grad_(False)
            self.norm.bias.requires_grad_(False)

        def forward(self, x):
            x = torch.tanh(self.norm(self.conv(x)))
            return self.head((self.again(x) * self.conv.weight.sum()).flatten(1))

    torch.manual_seed(0)
    objective = Objective(Net().double(), CE, classes(33, (2, 5, 5), 3))
    v = vector_for(objective)
    product = choose_product(objective)
    assert "a module has two names" in product.facts["product_reason"]
    assert_close(product(v), objective.hessian_vector(v), 1e-10)


def test_output_of_several_tensors_passes_in_whole_batches():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 1)

        def forward(self, x):
            return self.a(x), self.b(x)

    def loss_fn(output, targets):
        return CE(output[0], targets) + output[1].square().mean()

    objective = Objective(Two().double(), loss_fn, classes(33, (4,), 3), batch_size=16)
    product = choose_product(objective)
    assert product.facts["product_chunk"] is None
    v = vector_for(objective)
    assert_close(product(v), objective.hessian_vector(v), 1e-10)


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_linear_loss_has_no_curvature(method):
    model = nn.Linear(4, 1).double()
    objective = Objective(model, lambda z, y: z.mean(), (classes(9, (4,), 2)[0], torch.zeros(9)))
    product = choose_product(objective, method=method)(vector_for(objective))
    assert product.abs().max() < (1e-10 if method == "finite difference" else 1e-300)


def test_quadratic_gives_its_matrix():
    matrix = symmetric(7)
    objective = quadratic(matrix)
    for method in METHODS:
        assert_exact(choose_product(objective, method=method), matrix, vector_for(objective), 1e-6)


class Once(torch.autograd.Function):
    """x³, whose gradient can't be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


class Cube(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.linspace(-1, 2, 5, dtype=torch.float64))

    def forward(self, x):
        return x * Once.apply(self.theta).sum()


def test_model_without_second_derivatives_takes_a_finite_difference():
    objective = Objective(Cube(), MSE, (torch.ones(4, 1), torch.zeros(4, 1)))
    product = choose_product(objective)
    assert product.facts["product"] == "finite difference"
    assert "double backward: " in product.facts["product_reason"]
    v = vector_for(objective)
    theta = objective.theta
    total, slope = (theta**3).sum(), 3 * theta**2
    assert_close(product(v), 2 * slope * (slope @ v) + 12 * total * theta * v, 1e-8)
    assert not product(torch.zeros_like(v)).any()
    with pytest.raises(ValueError, match=r"none for method='retained': double backward: .*'auto'"):
        choose_product(objective, method="retained")


class Kink(nn.Module):
    """Σ |θ|, which is not smooth where it stands."""

    def __init__(self, function):
        super().__init__()
        self.theta, self.function = nn.Parameter(torch.zeros(6, dtype=torch.float64)), function

    def forward(self, x):
        return x * (self.function(self.theta) + self.theta).sum()


class Absolute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].sign()


@pytest.mark.parametrize(
    ("function", "against"), [(torch.abs, "the exact product"), (Absolute.apply, "finer steps")]
)
def test_finite_difference_across_a_kink_is_refused(function, against):
    objective = Objective(Kink(function), MSE, (torch.ones(4, 1), torch.ones(4, 1)))
    with pytest.raises(ValueError, match=f"finite difference: at best .* off {against}"):
        choose_product(objective, method="finite difference")


@pytest.mark.parametrize(("net", "bn"), [(attention, "frozen"), (conv_batchnorm, "batch")])
def test_wrong_derivatives_of_torch_are_not_taken(net, bn):
    """In torch 2.13 forward mode over the gradient is wrong for LayerNorm and BatchNorm."""
    objective = Objective(*net(), bn=bn)
    with pytest.raises(ValueError, match=r"forward-over-reverse differs by [\d.e-]+; use"):
        choose_product(objective, method="forward-over-reverse")


def test_paths_that_differ_from_the_plain_product_are_not_taken(monkeypatch):
    forward = _Convolution.forward

    def wrong(ctx, x, weight, bias, place):
        return 1.01 * forward(ctx, x, weight, bias, place)

    monkeypatch.setattr(_Convolution, "forward", staticmethod(wrong))
    objective = Objective(*residual_net())
    product = choose_product(objective)
    assert product.facts["product_path"] == "plain"
    assert "the folded path differs by" in product.facts["product_reason"]
    assert "the direct path differs by" in product.facts["product_reason"]
    v = vector_for(objective)
    assert_close(product(v), objective.hessian_vector(v), 1e-10)


def test_objective_and_model_are_left_as_they_were():
    model, loss_fn, data = residual_net()
    objective = Objective(model, loss_fn, data)
    before = {n: t.clone() for n, t in objective.model.state_dict().items()}
    theta = objective.theta.clone()
    choose_product(objective)(vector_for(objective))
    assert torch.equal(objective.theta, theta)
    for name, tensor in objective.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.grad is None for p in objective.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_product_works_in_inference_mode_and_ends_with_its_release(method):
    objective = Objective(*mlp())
    v = vector_for(objective)
    with torch.inference_mode(), choose_product(objective, method=method) as product:
        found = product(v.clone())
    assert_close(found.clone(), objective.hessian_vector(v), 1e-7)
    with pytest.raises(ValueError, match="released"):
        product(v)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fast"}, "method must be one of auto, retained"),
        ({"memory": 0}, "memory must be a positive number of bytes, got 0"),
        ({"batches": [3]}, "batches must be different numbers from 0 to 2, got"),
        ({"batches": [1, 1]}, "batches must be different numbers"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    objective = Objective(*mlp(), batch_size=16)
    with pytest.raises(ValueError, match=message):
        choose_product(objective, **arguments)


def test_objectives_without_derivatives_and_wrong_vectors_are_refused():
    model, loss_fn, data = conv_batchnorm()
    with pytest.raises(ValueError, match="recomputed"):
        choose_product(Objective(model, loss_fn, data, bn="recomputed"))
    product = choose_product(Objective(*mlp()))
    with pytest.raises(ValueError, match=r"the vector must have the layout of theta"):
        product(torch.zeros(3))


def test_outputs_are_those_of_the_model_on_every_path():
    model, loss_fn, data = residual_net()
    objective = Objective(model, loss_fn, data)
    with objective.derivatives():
        for path in ("folded", "direct", "plain"):
            outputs = Outputs(objective, path=path)
            output = outputs.output(outputs.prepare(outputs.leaves()), data[0])
            torch.testing.assert_close(output, model(data[0]), rtol=0, atol=1e-12)
