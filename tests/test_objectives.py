import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from landscape.objectives import (
    BN_POLICIES,
    Objective,
    buffers_of,
    flatten,
    layout_of,
    load_theta,
)

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def image_data(count=33, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 4, 4, generator=generator)
    return inputs, torch.arange(count) % classes


def batchnorm_net(seed=1, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(12, classes),
        )
        with torch.no_grad():
            net(torch.randn(20, 1, 4, 4) + 1)  # running statistics that are not the initial ones
    return net


def mlp(seed=2, inputs=16, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, classes))


def direction(objective, seed=0):
    v = torch.randn(objective.layout.size, generator=torch.Generator().manual_seed(seed))
    return (v / v.norm()).to(objective.theta)


def snapshot(model):
    return (
        copy.deepcopy(model.state_dict()),
        [p.requires_grad for p in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [m.training for m in model.modules()],
        [getattr(m, "momentum", None) for m in model.modules()],
    )


def assert_same(before, after):
    assert all(
        torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True)
    )
    assert before[0].keys() == after[0].keys()
    assert before[1] == after[1]
    for a, b in zip(before[2], after[2], strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    assert before[3:] == after[3:]


# What is measured


def test_loss_and_accuracy_are_those_of_the_model_in_eval_mode():
    model, (x, y) = batchnorm_net(), image_data()
    objective = Objective(model, CE, (x, y))
    output = copy.deepcopy(model).eval()(x).detach()
    assert objective() == float(CE(output, y))
    assert objective.evaluate().accuracy == float((output.argmax(1) == y).double().mean())
    assert model.training
    assert objective.facts["mode"] == "eval, dropout inactive"


def test_theta_is_the_only_argument_of_the_loss():
    objective = Objective(mlp(), CE, image_data())
    other = objective.theta + 0.1
    before = objective(other)
    assert before != objective()
    assert objective(other) == before
    assert objective(other.numpy()) == before
    assert torch.equal(objective.theta, flatten(mlp()))


@pytest.mark.parametrize("sizes", [(33,), (32, 1), (8, 8, 8, 8, 1)])
def test_ragged_batches_equal_one_big_batch(sizes):
    x, y = image_data()
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    whole = Objective(mlp(), CE, (x, y), dtype=torch.float64, batch_size=33)
    ragged = Objective(mlp(), CE, batches, dtype=torch.float64)
    v = direction(whole)
    assert ragged() == pytest.approx(whole(), rel=1e-13)
    assert ragged.evaluate().accuracy == whole.evaluate().accuracy
    torch.testing.assert_close(ragged.gradient(), whole.gradient(), rtol=1e-12, atol=1e-14)
    expected = whole.hessian_vector(v)
    torch.testing.assert_close(ragged.hessian_vector(v), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bn", BN_POLICIES)
def test_every_reading_of_the_same_data_gives_the_same_loss(bn):
    x, y = image_data()
    loader = DataLoader(TensorDataset(x, y), batch_size=33)
    losses = [
        Objective(batchnorm_net(), CE, data, bn=bn, dtype=torch.float64)()
        for data in ((x, y), [x, y], (x.numpy(), y.numpy()), loader, [(x, y)])
    ]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def test_hessian_of_linear_regression_is_the_known_one():
    """Case 4 of SCIENCE.md: torch's mean makes it 2 XᵀX / n."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(6, 1, bias=False)
    objective = Objective(model, MSE, (x, y), dtype=torch.float64, batch_size=7)
    columns = [objective.hessian_vector(v) for v in torch.eye(6, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(columns), 2 * x.T @ x / 40, rtol=1e-12, atol=1e-14)
    residual = x @ objective.theta[:, None] - y
    torch.testing.assert_close(objective.gradient(), (2 / 40 * x.T @ residual)[:, 0])


def test_hessian_of_softmax_regression_at_zero_is_the_known_one():
    """Case 5: H = S ⊗ (I − 11ᵀ/C) / C, with weights stored [class, input]."""
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objective = Objective(
        nn.Linear(4, 3, bias=False), CE, (x, torch.arange(30) % 3), dtype=torch.float64
    )
    zero = torch.zeros(12, dtype=torch.float64)
    columns = [objective.hessian_vector(v, zero) for v in torch.eye(12, dtype=torch.float64)]
    center = (torch.eye(3, dtype=torch.float64) - 1 / 3) / 3
    torch.testing.assert_close(
        torch.stack(columns), torch.kron(center, x.T @ x / 30), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("bn", ["frozen", "batch"])
def test_derivatives_agree_with_central_differences(bn):
    """Case 24."""
    objective = Objective(
        batchnorm_net(), CE, image_data(), bn=bn, dtype=torch.float64, batch_size=9
    )
    v, step = direction(objective), 1e-4
    ahead, behind = objective.theta + step * v, objective.theta - step * v
    slope = (objective(ahead) - objective(behind)) / (2 * step)
    assert float(objective.gradient() @ v) == pytest.approx(slope, rel=1e-6)
    difference = (objective.gradient(ahead) - objective.gradient(behind)) / (2 * step)
    product = objective.hessian_vector(v)
    assert (product - difference).norm() < 1e-6 * product.norm()


def test_loss_linear_in_theta_has_zero_hessian():
    objective = Objective(
        nn.Linear(3, 1), lambda out, _: out.mean(), (torch.ones(4, 3), torch.ones(4))
    )
    assert torch.equal(objective.hessian_vector(torch.ones(4)), torch.zeros(4))


class ScaleInvariant(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -1.2, 0.4, 1.5, 0.3]))

    def forward(self, x):
        z = x @ self.weight
        return (z - z.mean()) / z.var(unbiased=False).sqrt()


def test_scale_invariant_layer_has_its_known_identities():
    """Case 18: ⟨g, w⟩ = 0, H w = −g, g(3w) = g(w) / 3, H(3w) = H(w) / 9."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, *s, generator=generator, dtype=torch.float64) for s in ((5,), ()))
    tanh_error = lambda out, targets: (out.tanh() - targets).square().mean()  # noqa: E731
    model = ScaleInvariant()
    model.weight.data = model.weight.data.double()
    with pytest.raises(ValueError, match="one by one"):
        Objective(model, tanh_error, (x, y))
    objective = Objective(nn.Sequential(Rows(model)), tanh_error, (x[None], y[None]))
    w, v = objective.theta, direction(objective)
    gradient = objective.gradient()
    assert abs(float(gradient @ w)) < 1e-14
    torch.testing.assert_close(objective.hessian_vector(w), -gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(objective.gradient(3 * w), gradient / 3, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(
        objective.hessian_vector(v, 3 * w), objective.hessian_vector(v) / 9, rtol=1e-10, atol=1e-13
    )


class Rows(nn.Module):
    """A model whose samples are whole batches of another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.stack([self.inner(rows) for rows in x])


def test_attention_has_second_derivatives():
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    x = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    objective = Objective(model, MSE, (x, torch.zeros(4, 3, 8)), dtype=torch.float64)
    assert objective.hessian_vector(direction(objective)).isfinite().all()


def test_derivatives_work_inside_no_grad_and_inference_mode():
    objective = Objective(mlp(), CE, image_data())
    expected = objective.gradient()
    with torch.no_grad():
        assert torch.equal(objective.gradient(), expected)
    with torch.inference_mode():
        assert torch.equal(objective.gradient(objective.theta.clone()), expected)


# Parameters: tied, frozen, unused


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 4)
        self.head.weight = self.embedding.weight
        self.unused = nn.Linear(2, 2)
        self.fixed = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, tokens):
        return self.head(self.norm(self.embedding(tokens)) * self.fixed)


def tied_objective(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tied()
    return model, Objective(model, CE, (torch.arange(8) % 4, torch.arange(8) // 2), **options)


def test_layout_holds_trainable_parameters_once_with_their_kinds():
    model, objective = tied_objective()
    kinds = [(entry.name, entry.shape, entry.offset, entry.kind) for entry in objective.layout]
    assert kinds == [
        ("embedding.weight", (4, 3), 0, "embedding"),
        ("norm.weight", (3,), 12, "norm"),
        ("norm.bias", (3,), 15, "norm"),
        ("head.bias", (4,), 18, "bias"),
        ("unused.weight", (2, 2), 22, "weight"),
        ("unused.bias", (2,), 26, "bias"),
    ]
    assert objective.layout == layout_of(model)
    assert torch.equal(objective.theta[:12].view(4, 3), model.head.weight)


def test_tied_parameters_move_together():
    model, objective = tied_objective()
    moved = copy.deepcopy(model).requires_grad_(False)
    moved.embedding.weight[1, 2] += 0.5
    theta = objective.theta.clone()
    theta[5] += 0.5
    assert objective(theta) == float(CE(moved(torch.arange(8) % 4), torch.arange(8) // 2))


def test_unused_parameters_have_zero_derivatives():
    _, objective = tied_objective()
    gradient, product = objective.gradient(), objective.hessian_vector(direction(objective))
    assert torch.equal(gradient[22:], torch.zeros(6))
    assert torch.equal(product[22:], torch.zeros(6))
    assert (gradient[:22] != 0).sum() > 15


def test_model_without_trainable_parameters_is_refused():
    model = mlp().requires_grad_(False)
    with pytest.raises(ValueError, match="trainable parameters, got none in Sequential"):
        Objective(model, CE, image_data())


def test_loss_without_gradient_is_refused_where_derivatives_are_wanted():
    cut = lambda output, targets: CE(output.detach(), targets)  # noqa: E731
    objective = Objective(mlp(), cut, image_data())
    assert np.isfinite(objective())
    with pytest.raises(ValueError, match="got a constant"):
        objective.gradient()


# BatchNorm


def test_batch_policy_is_the_mean_over_train_mode_batches():
    x, y = image_data(32)
    batches = [(x[:20], y[:20]), (x[20:], y[20:])]
    model = batchnorm_net()
    model[3].p = 0.0
    train = copy.deepcopy(model).train().requires_grad_(False)
    expected = [float(CE(train(a), b)) for a, b in batches]
    objective = Objective(model, CE, batches, bn="batch")
    assert objective() == pytest.approx((20 * expected[0] + 12 * expected[1]) / 32, rel=1e-7)
    assert objective() == objective()


def test_batch_policy_mixes_sorted_data():
    x, y = image_data(60)
    order = y.argsort()
    objective = Objective(batchnorm_net(), CE, (x[order], y[order]), bn="batch", batch_size=20)
    assert [len(targets.unique()) for _, targets in objective.batches] == [3, 3, 3]


def test_recomputed_policy_measures_statistics_at_each_theta():
    x, y = image_data(30)
    batches = [(x[:20], y[:20]), (x[20:], y[20:])]
    objective = Objective(batchnorm_net(), CE, batches, bn="recomputed")
    theta = objective.theta + 0.1 * direction(objective, 3)
    by_hand = load_theta(batchnorm_net(), theta)
    by_hand.requires_grad_(False)
    inner = [by_hand[0](a) for a, _ in batches]
    by_hand[1].running_mean.copy_(sum(len(z) / 30 * z.mean((0, 2, 3)) for z in inner))
    by_hand[1].running_var.copy_(sum(len(z) / 30 * z.var((0, 2, 3)) for z in inner))
    expected = float(CE(by_hand.eval()(x), y))
    assert objective(theta) == pytest.approx(expected, rel=1e-6)
    objective(torch.full_like(theta, torch.nan))
    assert objective(theta) == pytest.approx(expected, rel=1e-6)


def test_policies_differ_on_a_batchnorm_net_and_agree_without():
    losses = {bn: Objective(batchnorm_net(), CE, image_data(), bn=bn)() for bn in BN_POLICIES}
    assert len(set(losses.values())) == 3
    plain = {Objective(mlp(), CE, image_data(), bn=bn, batch_size=8)() for bn in BN_POLICIES}
    assert len(plain) == 1


def test_recomputed_policy_refuses_derivatives_naming_the_others():
    objective = Objective(batchnorm_net(), CE, image_data(), bn="recomputed")
    for derivative in (objective.gradient, lambda: objective.hessian_vector(objective.theta)):
        with pytest.raises(ValueError, match='bn="frozen" or bn="batch"'):
            derivative()
    assert Objective(mlp(), CE, image_data(), bn="recomputed").gradient().any()


def test_batchnorm_without_statistics_needs_the_batch_policy():
    model = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, 3)
    )
    with pytest.raises(ValueError, match=r"BatchNorm .1.[^;]*; use bn=.batch."):
        Objective(model, CE, image_data())
    assert np.isfinite(Objective(model, CE, image_data(), bn="batch")())


def test_single_sample_batch_under_batch_statistics_says_what_came():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    x, y = image_data()
    objective = Objective(model, CE, [(x[:32], y[:32]), (x[32:], y[32:])], bn="batch")
    with pytest.raises(ValueError, match=r"got \(1, 1, 4, 4\) float32: Expected more than 1 value"):
        objective()


def test_given_buffers_take_the_place_of_the_models_own():
    other = batchnorm_net()
    with torch.no_grad():
        other[1].running_mean.add_(0.5)
    buffers = {name: value.numpy() for name, value in buffers_of(other).items()}
    objective = Objective(batchnorm_net(), CE, image_data())
    own = objective()
    assert objective.evaluate(buffers=buffers).loss == Objective(other, CE, image_data())()
    assert objective() == own
    with pytest.raises(ValueError, match="got a difference in"):
        objective.evaluate(buffers={})
    with pytest.raises(ValueError, match=r"'1.running_mean' must have shape \(3,\)"):
        objective.evaluate(buffers=buffers | {"1.running_mean": np.zeros(4)})


# The user's model


@pytest.mark.parametrize("bn", BN_POLICIES)
def test_model_is_bit_identical_after_every_measurement(bn):
    model = batchnorm_net()
    model[0].bias.requires_grad_(False)
    model[2].eval()
    functional.cross_entropy(model(image_data()[0]), image_data()[1]).backward()
    before = snapshot(model)
    objective = Objective(model, CE, image_data(), bn=bn, dtype=torch.float64)
    objective()
    objective(objective.theta + 1)
    if bn != "recomputed":
        objective.gradient()
        objective.hessian_vector(direction(objective))
    assert_same(before, snapshot(model))
    assert all(parameter.grad is None for parameter in objective.model.parameters())


def test_own_copies_of_model_and_data_do_not_follow_the_users():
    model, (x, y) = batchnorm_net(), image_data()
    objective = Objective(model, CE, (x, y))
    before = objective()
    with torch.no_grad():
        model[0].weight.zero_()
        model[1].running_var.fill_(9)
        x.zero_()
    assert objective() == before


def test_load_theta_fills_a_copy():
    model = batchnorm_net()
    before = snapshot(model)
    theta = flatten(model).numpy() + 1
    buffers = {name: value.numpy() + 1 for name, value in buffers_of(model).items()}
    filled = load_theta(model, theta, buffers)
    assert torch.equal(flatten(filled), torch.from_numpy(theta))
    assert torch.equal(filled[1].running_mean, model[1].running_mean + 1)
    assert_same(before, snapshot(model))
    with pytest.raises(ValueError, match="theta must have the layout of Sequential"):
        load_theta(model, theta[1:])


# Numbers that are kept as they are


def test_nan_and_infinity_are_kept():
    objective = Objective(nn.Linear(2, 3), CE, (torch.ones(4, 2), torch.arange(4) % 3))
    broken = torch.full_like(objective.theta, torch.nan)
    found = objective.evaluate(broken)
    assert np.isnan(found.loss)
    assert found.accuracy == 0  # a NaN predicts nothing
    squared = Objective(nn.Linear(2, 1), MSE, (torch.ones(4, 2), torch.zeros(4, 1)))
    assert squared(torch.full_like(squared.theta, 1e30)) == np.inf


def test_losses_of_a_float32_model_are_summed_in_float64():
    """1,001 batches of loss 1 and 1e8 (both exact): float32 sums would lose every 1."""
    inputs = torch.ones(1001, 1)
    inputs[0] = 1e4
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    objective = Objective(model, MSE, (inputs, torch.zeros(1001, 1)), batch_size=1)
    assert objective() == (1e8 + 1000) / 1001


def test_accuracy_is_nan_without_classes():
    objective = Objective(nn.Linear(2, 1), MSE, (torch.ones(4, 2), torch.zeros(4, 1)))
    assert np.isnan(objective.evaluate().accuracy)


def test_dtype_casts_model_and_inputs():
    objective = Objective(mlp(), CE, image_data(), dtype=torch.float64)
    assert objective.theta.dtype == objective.batches[0][0].dtype == torch.float64
    assert objective.batches[0][1].dtype == torch.int64
    assert objective.facts["dtype"] == "float64"
    half = Objective(mlp(), CE, image_data(), dtype=torch.bfloat16)
    assert half() == pytest.approx(objective(), rel=2e-2)


def test_facts_say_what_was_measured():
    facts = Objective(mlp(), CE, image_data(), batch_size=20, bn="batch").facts
    assert facts["model"] == "Sequential"
    assert facts["parameters"] == 16 * 5 + 5 + 5 * 3 + 3
    assert (facts["samples"], facts["batch_size"], facts["bn"]) == (33, 17, "batch")
    assert (facts["loss"], facts["mode"], facts["dtype"]) == ("CrossEntropyLoss", "eval", "float32")


def test_data_digest_knows_samples_but_not_their_order():
    x, y = image_data()
    digest = Objective(mlp(), CE, (x, y)).facts["data_digest"]
    assert Objective(mlp(), CE, (x.flip(0), y.flip(0)), batch_size=5).facts["data_digest"] == digest
    assert Objective(mlp(), CE, (x, (y + 1) % 3)).facts["data_digest"] != digest
    x[7, 0, 1, 1] += 1e-6
    assert Objective(mlp(), CE, (x, y)).facts["data_digest"] != digest


def test_data_digest_knows_the_partition_where_it_matters():
    x, y = image_data()
    digests = {
        Objective(batchnorm_net(), CE, data, bn="batch").facts["data_digest"]
        for data in ((x, y), (x.flip(0), y.flip(0)), [(x, y)], [(x[:9], y[:9]), (x[9:], y[9:])])
    }
    assert len(digests) == 4


def test_outputs_of_minus_infinity_are_kept():
    class Masked(nn.Module):
        def forward(self, logits):
            return logits.masked_fill(torch.tensor([False, True, False]), -torch.inf)

    x, y = image_data(30)
    masked = nn.Sequential(*mlp(), Masked())
    expected = functional.cross_entropy(mlp()(x).detach()[:, [0, 2]], y[y != 1].repeat(2)[:30] // 2)
    objective = Objective(masked, CE, (x, y[y != 1].repeat(2)[:30]))
    assert objective() == pytest.approx(float(expected), rel=1e-6)


# Refused: what is not a deterministic mean over the data


def test_shuffled_loader_is_read_once_and_kept():
    data = TensorDataset(*image_data())
    state = torch.random.get_rng_state()
    objective = Objective(batchnorm_net(), CE, DataLoader(data, 8, shuffle=True), bn="batch")
    assert objective() == objective()
    assert torch.equal(torch.random.get_rng_state(), state)
    ordered = Objective(mlp(), CE, DataLoader(data, 8))
    shuffled = Objective(mlp(), CE, DataLoader(data, 8, shuffle=True))
    assert shuffled.facts["data_digest"] == ordered.facts["data_digest"]


class Augmenting(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.randn(1, 4, 4), index % 3


def endless_source():
    yield image_data()


class Exhausting:
    def __init__(self):
        self.rest = iter([image_data()])

    def __iter__(self):
        return self.rest


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (endless_source(), TypeError, "generator, which ends after one pass; pass list"),
        (iter([image_data()]), TypeError, "ends after one pass"),
        (Exhausting(), ValueError, "33 samples, then 0"),
        (TensorDataset(*image_data()), TypeError, "wrap it in torch.utils.data.DataLoader"),
        (DataLoader(Augmenting(), 4), ValueError, "random augmentation"),
        (DataLoader(Augmenting(), 5, shuffle=True, drop_last=True), ValueError, "drop_last=False"),
        ([], ValueError, "at least one sample, got none"),
        ((torch.empty(0, 1, 4, 4), torch.empty(0)), ValueError, r"got inputs of shape \(0, 1"),
        ((torch.zeros(4, 1, 4, 4), torch.zeros(3)), ValueError, r"\(4, 1, 4, 4\) and \(3,\)"),
        (torch.zeros(4, 1, 4, 4), TypeError, "pair .inputs, targets., got a Tensor"),
        ([(torch.zeros(4, 1, 4, 4), [0, 1, 2, 0])], TypeError, "tensors or numpy arrays, got list"),
        (7, TypeError, "re-iterable of batches, got int"),
    ],
)
def test_data_that_cannot_be_measured_are_refused_naming_the_cause(data, error, message):
    with pytest.raises(error, match=message):
        Objective(mlp(), CE, data)


class Noisy(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5)


def test_random_model_is_refused_naming_the_module():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), Noisy(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"first differ in 2 \(Noisy\)"):
        Objective(model, CE, image_data())


def test_random_loss_is_refused_naming_the_loss():
    def noisy_loss(output, targets):
        return CE(output + torch.randn(()), targets) * torch.rand(())

    with pytest.raises(ValueError, match="the loss function noisy_loss"):
        Objective(mlp(), noisy_loss, image_data())


SORTED = image_data(30)[0], torch.arange(30) // 10
RARE = torch.cat([torch.full((1,), -100), torch.arange(299) % 3])


@pytest.mark.parametrize(
    ("loss_fn", "data", "remedy"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), image_data(), 'use reduction="mean"'),
        (
            nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0])),
            image_data(18),
            "class weights",
        ),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.2])), SORTED, "class weights"),
        (functional.cross_entropy, (image_data(300)[0], RARE), "ignored target"),
        (lambda output, targets: CE(output, targets).sqrt(), image_data(), "mean"),
    ],
)
def test_loss_that_is_no_batch_mean_is_refused(loss_fn, data, remedy):
    with pytest.raises(ValueError, match=f"must be the mean over the samples.*{remedy}"):
        Objective(mlp(), loss_fn, data, batch_size=10)


def test_label_smoothing_and_regression_are_batch_means():
    Objective(mlp(), nn.CrossEntropyLoss(label_smoothing=0.1), image_data())
    Objective(mlp(), nn.MultiMarginLoss(), image_data())
    Objective(mlp(classes=1), nn.SmoothL1Loss(), (image_data()[0], torch.randn(33, 1)))


def test_model_that_mixes_samples_is_refused():
    class Centered(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    model = nn.Sequential(nn.Flatten(), Centered(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match="one by one in eval mode"):
        Objective(model, CE, image_data())


X, Y = image_data()


@pytest.mark.parametrize(
    ("loss_fn", "data", "message"),
    [
        (CE, (X, Y.int()), r"output \(33, 3\) float32 and targets \(33,\) int32.*targets.long"),
        (CE, (X, Y.float()), r"targets \(33,\) float32 for CrossEntropyLoss.*targets.long"),
        (CE, (X, Y + 1), r"indices go from 1 to 3, the output has 3 classes"),
        (CE, (X, Y[:, None]), r"targets \(33, 1\) int64"),
        (MSE, (X, torch.zeros(33)), "got output .33, 3."),
        (nn.CrossEntropyLoss(reduction="none"), (X, Y), r'got \(33,\) float32.*reduction="mean"'),
        (CE, (X.byte(), Y), r"Sequential must accept the inputs, got \(33, 1, 4, 4\) uint8"),
        (CE, (X[..., :3], Y), r"must accept the inputs, got \(33, 1, 4, 3\) float32"),
    ],
)
def test_output_that_does_not_fit_the_loss_says_what_came(loss_fn, data, message):
    with pytest.raises(ValueError, match=message):
        Objective(mlp(), loss_fn, data)


def test_broadcast_of_targets_against_outputs_is_refused():
    with pytest.raises(ValueError, match="output and targets must have one shape"):
        Objective(mlp(classes=1), MSE, (X, torch.randn(33)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bn": "eval"}, "frozen, recomputed, batch, interpolated, got 'eval'"),
        ({"dtype": torch.int64}, "floating-point type, got torch.int64"),
        ({"batch_size": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(mlp(), CE, image_data(), **options)


def test_vectors_of_another_layout_are_refused():
    objective = Objective(mlp(), CE, image_data())
    for call in (objective, objective.gradient, objective.hessian_vector):
        with pytest.raises(ValueError, match=r"layout of theta, \(103,\), got shape \(102,\)"):
            call(objective.theta[1:])


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"plain torch.nn.Module, got function"):
        Objective(image_data, CE, image_data())


def test_lazy_module_is_refused_before_its_first_batch():
    with pytest.raises(ValueError, match=r"lazy .1.weight.; run one batch"):
        Objective(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), CE, image_data())
