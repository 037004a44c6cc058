"""Gauss-Newton and the second moment of gradients, beside their dense matrices."""

import numpy as np
import pytest
import torch
from dense import (
    Tied,
    attention,
    classes,
    conv_batchnorm,
    dense_hessian,
    mean,
    mlp,
    tied,
)
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from landscape import Objective, find_eigenpairs
from landscape.adversarial import aace_loss
from landscape.gauss_newton import gauss_newton, gradient_moment
from landscape.operators import hessian
from landscape.ranks import Ranks

NETS = [mlp, conv_batchnorm, tied, attention]


def dense(operator):
    return torch.stack([operator(row) for row in torch.eye(operator.size).double()]).numpy()


def jacobian(model, function, inputs):
    """The Jacobian `[value, param]` of `function(output)`, without any code of the toolkit."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in named.values()]

    def values(theta):
        parts = theta.split(sizes)
        shaped = {n: q.view(p.shape) for (n, p), q in zip(named.items(), parts, strict=True)}
        return function(functional_call(model, shaped, (inputs,))).flatten()

    theta = torch.cat([p.detach().flatten() for p in named.values()])
    return torch.autograd.functional.jacobian(values, theta).numpy()


def dense_gauss_newton(model, loss_fn, data):
    j = jacobian(model, lambda output: output, data[0])
    with torch.no_grad():
        output = model(data[0])
    shape = output.shape
    h = torch.autograd.functional.hessian(
        lambda flat: loss_fn(flat.view(shape), data[1]), output.flatten()
    )
    return j.T @ h.numpy() @ j


def close(found, expected, tolerance=1e-8):
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def one_logit():
    torch.manual_seed(4)
    inputs, targets = classes(33, (4,), 2)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    return model, nn.BCEWithLogitsLoss(), (inputs, targets.double().unsqueeze(1))


def smoothed():
    model, _, data = mlp()
    return model, nn.CrossEntropyLoss(label_smoothing=0.2), data


@pytest.mark.parametrize("net", [*NETS, one_logit, smoothed])
def test_gauss_newton_is_the_jacobian_about_the_hessian_in_the_outputs(net):
    model, loss_fn, data = net()
    operator = gauss_newton(Objective(model, loss_fn, data))
    assert operator.facts["product"] == "forward mode"
    assert close(dense(operator), dense_gauss_newton(model, loss_fn, data))


@pytest.mark.parametrize("net", [*NETS, one_logit, smoothed])
def test_the_second_moment_is_the_mean_of_outer_products_of_the_samples_gradients(net):
    model, loss_fn, data = net()
    operator = gradient_moment(Objective(model, loss_fn, data))
    rows = [
        jacobian(model, lambda f, y=y: loss_fn(f, y[None]), x[None])
        for x, y in zip(*data, strict=True)
    ]
    gradients = np.concatenate(rows)
    assert operator.facts["sample_losses"] == 'reduction="none"'
    assert close(dense(operator), gradients.T @ gradients / len(gradients))


@pytest.mark.parametrize("make", [hessian, gauss_newton, gradient_moment])
@pytest.mark.parametrize("sizes", [(32, 1), (1,) * 33])
def test_splitting_the_data_changes_nothing_with_frozen_statistics(make, sizes):
    model, loss_fn, (inputs, targets) = conv_batchnorm()
    batches = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    whole = make(Objective(model, loss_fn, (inputs, targets)))
    split = make(Objective(model, loss_fn, batches))
    v = torch.randn(whole.size, generator=torch.Generator().manual_seed(5)).double()
    assert close(split(v).numpy(), whole(v).numpy(), 1e-12)


def batch_objective():
    """Two batches of a net with BatchNorm in its training form, and that net."""
    model, loss_fn, (inputs, targets) = conv_batchnorm()
    batches = [(inputs[:20], targets[:20]), (inputs[20:], targets[20:])]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    objective = Objective(model, loss_fn, batches, bn="batch")
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    return objective, model, loss_fn, batches


def test_gauss_newton_with_batch_statistics_is_that_of_each_batch_by_size():
    objective, model, loss_fn, batches = batch_objective()
    parts = [dense_gauss_newton(model, loss_fn, batch) for batch in batches]
    assert close(dense(gauss_newton(objective)), (20 * parts[0] + 13 * parts[1]) / 33)


def test_samples_gradients_with_batch_statistics_are_of_their_losses_in_that_batch():
    objective, model, _, batches = batch_objective()
    gradients = np.concatenate(
        [
            jacobian(model, lambda f, y=y: functional.cross_entropy(f, y, reduction="none"), x)
            for x, y in batches
        ]
    )
    operator = gradient_moment(objective)
    assert close(dense(operator), gradients.T @ gradients / 33)
    assert "batch's statistics" in operator.facts["sample_gradients"]
    assert "sample_gradients" not in gradient_moment(Objective(*mlp())).facts


def test_of_a_linear_model_with_cross_entropy_hessian_gauss_newton_and_fisher_are_one():
    torch.manual_seed(6)
    inputs, targets = classes(33, (4,), 3)
    model = nn.Linear(4, 3).double()
    objective = Objective(model, nn.CrossEntropyLoss(), (inputs, targets))
    j = jacobian(model, lambda f: f.log_softmax(1), inputs).reshape(33, 3, -1)
    p = model(inputs).softmax(1).detach().numpy()
    fisher = np.einsum("nc,nci,ncj->ij", p, j, j) / 33
    operator = gauss_newton(objective)
    assert operator.facts["operator"] == "generalized Gauss-Newton (= Fisher for cross-entropy)"
    assert close(dense(operator), fisher)
    assert close(dense(hessian(objective)), fisher)
    assert close(dense_hessian(model, nn.CrossEntropyLoss(), (inputs, targets)), fisher)


@pytest.mark.parametrize("net", [mlp, conv_batchnorm])
def test_of_a_deep_net_with_cross_entropy_gauss_newton_is_the_fisher(net):
    model, loss_fn, data = net()
    j = jacobian(model, lambda f: f.log_softmax(1), data[0]).reshape(33, 3, -1)
    p = model(data[0]).softmax(1).detach().numpy()
    fisher = np.einsum("nc,nci,ncj->ij", p, j, j) / 33
    assert close(dense(gauss_newton(Objective(model, loss_fn, data))), fisher)


def test_without_residuals_the_hessian_is_gauss_newton_and_of_low_rank():
    torch.manual_seed(7)
    inputs = torch.randn(4, 3, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    objective = Objective(model, nn.MSELoss(), (inputs, model(inputs).detach()))
    matrix = dense(gauss_newton(objective))
    assert close(matrix, dense(hessian(objective)))
    assert np.linalg.matrix_rank(matrix) == 4 * 2
    assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_within_layers_of_a_relu_net_the_hessian_is_gauss_newton_across_them_it_is_not():
    torch.manual_seed(8)
    model = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.ReLU(),
        nn.Linear(4, 3, bias=False),
    ).double()  # fmt: skip
    objective = Objective(model, nn.CrossEntropyLoss(), classes(33, (4,), 3))
    for name in ("0.weight", "2.weight", "4.weight"):
        block = dense(gauss_newton(objective, parameters=name))
        assert close(dense(hessian(objective, parameters=name)), block)
    assert not close(dense(hessian(objective)), dense(gauss_newton(objective)), 1e-3)


@pytest.mark.parametrize("loss_fn", [nn.CrossEntropyLoss(), functional.cross_entropy])
def test_fisher_is_said_of_cross_entropy_however_it_is_called_and_of_nothing_else(loss_fn):
    model, _, data = mlp()
    assert "Fisher" in gauss_newton(Objective(model, loss_fn, data)).facts["operator"]
    assert "Fisher" in gauss_newton(Objective(*one_logit())).facts["operator"]
    assert gauss_newton(Objective(*tied())).facts["operator"] == "generalized Gauss-Newton"


def test_losses_that_have_no_reduction_are_taken_sample_by_sample():
    model, loss_fn, data = mlp()
    own = gradient_moment(Objective(model, lambda f, y: loss_fn(f, y), data))
    plain = gradient_moment(Objective(model, loss_fn, data))
    assert own.facts["sample_losses"] == "one by one"
    assert close(dense(own), dense(plain), 1e-12)


def test_a_reduction_that_does_not_give_the_samples_losses_is_not_used():
    class Lying(nn.Module):
        reduction = "mean"

        def forward(self, output, targets):
            losses = functional.cross_entropy(output, targets, reduction="none")
            return losses.mean() if self.reduction == "mean" else losses.flip(0)

    model, _, data = mlp()
    operator = gradient_moment(Objective(model, Lying(), data))
    assert operator.facts["sample_losses"] == "one by one"


class Square(torch.autograd.Function):
    """A square that has no forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


@pytest.mark.parametrize("make", [gauss_newton, gradient_moment])
def test_where_forward_mode_lacks_an_operation_products_are_by_double_backward(make):
    class Net(nn.Module):
        def __init__(self, square):
            super().__init__()
            self.linear, self.square = nn.Linear(4, 3), square

        def forward(self, x):
            return self.square(self.linear(x))

    torch.manual_seed(9)
    net, plain = Net(Square.apply).double(), Net(torch.square).double()
    plain.load_state_dict(net.state_dict())
    data = classes(33, (4,), 3)
    operator = make(Objective(net, nn.CrossEntropyLoss(), data))
    assert operator.facts["product"] == "double backward"
    assert close(dense(operator), dense(make(Objective(plain, nn.CrossEntropyLoss(), data))))


def test_where_only_the_loss_lacks_forward_mode_the_second_moment_is_by_double_backward():
    def loss_fn(output, targets, reduction="mean"):
        losses = Square.apply(output - 1).sum(1)
        return losses.mean() if reduction == "mean" else losses

    model, _, data = mlp()
    operator = gradient_moment(Objective(model, loss_fn, data))
    assert operator.facts["product"] == "double backward"
    assert operator.facts["sample_losses"] == 'reduction="none"'
    j = jacobian(model, lambda f: ((f - 1) ** 2).sum(1), data[0])
    assert close(dense(operator), j.T @ j / 33)


@pytest.mark.parametrize("make", [gauss_newton, gradient_moment])
def test_what_is_computed_without_gradients_is_held_fixed(make):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            with torch.no_grad():
                x = torch.tanh(self.first(x))
            return self.second(x)

    torch.manual_seed(10)
    model, data = Net().double(), classes(33, (4,), 3)
    operator = make(Objective(model, nn.CrossEntropyLoss(), data))
    matrix = dense(operator)
    assert close(matrix, matrix.T, 1e-12)
    assert np.abs(matrix[:20]).max() == 0
    assert operator.facts["product"] == "double backward"


def test_losses_that_are_not_convex_in_the_output_or_linear_are_refused():
    model, _, data = mlp()
    with pytest.raises(ValueError, match="convex in the model's output, got aace_loss"):
        gauss_newton(Objective(model, aace_loss, data))
    with pytest.raises(ValueError, match="NLLLoss, which is linear there"):
        gauss_newton(Objective(nn.Sequential(model, nn.LogSoftmax(1)), nn.NLLLoss(), data))
    with pytest.raises(ValueError, match="linear there"):
        gauss_newton(Objective(model, mean, data))


def test_outputs_that_are_no_tensor_and_recomputed_statistics_are_refused():
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    data = classes(33, (4,), 3)
    objective = Objective(Two(4, 3).double(), lambda f, y: functional.cross_entropy(f[0], y), data)
    for make in (gauss_newton, gradient_moment):
        with pytest.raises(ValueError, match="output must be one tensor, got a tuple"):
            make(objective)
        with pytest.raises(ValueError, match="no derivatives"):
            make(Objective(*conv_batchnorm(), bn="recomputed"))


@pytest.mark.parametrize("make", [gauss_newton, gradient_moment])
def test_outputs_that_do_not_move_and_vectors_of_another_length_are_refused(make):
    class Still(nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    data = classes(33, (4,), 3)
    with pytest.raises(ValueError, match="output must depend on the trainable parameters"):
        make(Objective(Still(4, 3).double(), nn.CrossEntropyLoss(), data))
    operator = make(Objective(nn.Linear(4, 3).double(), nn.CrossEntropyLoss(), data))
    with pytest.raises(ValueError, match=r"layout of theta, \(15,\), got shape \(14,\)"):
        operator(torch.ones(14))


def test_losses_with_vanished_curvature_give_zero_and_no_error():
    model = nn.Linear(2, 2, bias=False)
    data = (torch.full((3, 2), 1e4), torch.zeros(3, dtype=torch.long))
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    operator = gauss_newton(Objective(model, nn.CrossEntropyLoss(), data))
    assert operator(torch.ones(4)).tolist() == [0, 0, 0, 0]


class OneOfThree(Ranks):
    """A process whose sums are its own only."""

    def __init__(self, rank):
        super().__init__(rank, 3)

    def sum(self, tensor):
        return tensor


@pytest.mark.parametrize("make", [gauss_newton, gradient_moment])
def test_batches_sum_to_the_whole_and_parts_are_its_blocks(make):
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data, batch_size=12)
    whole = dense(make(objective))
    alone = [dense(make(objective, ranks=OneOfThree(i))) for i in range(3)]
    assert close(sum(alone), whole, 1e-12)
    assert close(dense(make(objective, parameters="2.*")), whole[25:, 25:], 1e-12)


def test_tied_weights_and_float32_and_inference_mode_change_nothing():
    torch.manual_seed(2)
    inputs = torch.randn(33, 5)
    model = Tied()
    single = gauss_newton(Objective(model, nn.MSELoss(), (inputs, inputs)))
    double = gauss_newton(Objective(model, nn.MSELoss(), (inputs, inputs), dtype=torch.float64))
    v = torch.randn(15, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert close(single(v).numpy(), double(v.double()).numpy(), 1e-5)
    spectrum = find_eigenpairs(double, k=3, tolerance=1e-8, seed=0)
    expected = np.linalg.eigvalsh(dense(double))[::-1][:3]
    assert np.allclose(spectrum.eigenvalues, expected, rtol=1e-8)
    assert spectrum.facts["operator"] == "generalized Gauss-Newton"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", [mlp, conv_batchnorm, one_logit])
def test_curvlinops_agrees(net):
    from curvlinops import EFLinearOperator, GGNLinearOperator, HessianLinearOperator

    model, loss_fn, data = net()
    batches = [(data[0][:20], data[1][:20]), (data[0][20:], data[1][20:])]
    objective = Objective(model, loss_fn, batches)
    v = torch.randn(objective.layout.size, generator=torch.Generator().manual_seed(3)).double()
    for make, peer in (
        (hessian, HessianLinearOperator),
        (gauss_newton, GGNLinearOperator),
        (gradient_moment, EFLinearOperator),
    ):
        theirs = peer(model, loss_fn, list(model.parameters()), batches) @ v
        assert close(make(objective)(v).numpy(), theirs.detach().numpy())
