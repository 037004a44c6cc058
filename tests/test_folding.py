import operator

import pytest
import torch
from torch import nn

from landscape.engines import FOLDED, FOLDED_AND_FUSED, Engine
from landscape.folding import FoldedModel, NotFoldableError
from landscape.objectives import Objective

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
KINDS = (FOLDED_AND_FUSED, FOLDED)


class Block(nn.Module):
    """A residual block, ReLU after the sum, terms in either order."""

    def __init__(self, width, wider, stride=1, swapped=False, inplace=False, functional=False):
        super().__init__()
        self.conv1 = nn.Conv2d(width, wider, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)
        self.relu = nn.functional.relu if functional else nn.ReLU(inplace)
        self.shortcut = nn.Sequential()
        if width != wider:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width, wider, 1, stride, bias=False), nn.BatchNorm2d(wider)
            )
        self.swapped, self.inplace = swapped, inplace

    def forward(self, x):
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.inplace:
            residual += self.shortcut(x)
            return self.relu(residual)
        short = self.shortcut(x)
        return self.relu(short + residual if self.swapped else residual + short)


class WideBlock(nn.Module):
    """BatchNorm, ReLU and dropout before the convolutions."""

    def __init__(self, width, wider):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, wider, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(wider), nn.Conv2d(wider, wider, 3, padding=1)
        self.shortcut = nn.Conv2d(width, wider, 1) if width != wider else None

    def forward(self, x):
        active = nn.functional.relu(self.bn1(x))
        out = nn.functional.relu(self.bn2(self.conv1(active)))
        out = self.conv2(nn.functional.dropout(out, 0.3, self.training))
        return out + (x if self.shortcut is None else self.shortcut(active))


class Written(nn.Module):
    """A net whose forward is a function of its parts."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


def conv(width=3, wider=4, **options):
    return nn.Conv2d(width, wider, 3, padding=1, **options)


def head(width):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


def residual_net(**options):
    stem = [conv(bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*stem, Block(4, 4, **options), Block(4, 6, 2, **options), head(6))


def images(net, width=3, seed=0):
    """An objective over a net that ran in training mode, and a point away from its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x, y = torch.randn(10, width, 6, 6), torch.randint(0, 3, (10,))
        for parameter in net.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.3)
        net.train()
        for _ in range(3):
            net(x * 2 + 1)
        objective = Objective(net, CE, (x, y), batch_size=6)
        return objective, objective.theta + 0.1 * torch.randn_like(objective.theta)


def folded_of(engine):
    """Names of the layer kinds that the engine's graph calls."""
    graph = engine._network._graph
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    return [type(graph.get_submodule(str(node.target))).__name__ for node in calls]


def assert_same(net, expected, width=3):
    """Both foldings give the plain loss of a moved theta, and the expected layers."""
    objective, theta = images(net, width)
    truth = objective.evaluate(theta)
    for kind in KINDS:
        engine = Engine(objective, kind, 4)
        found = engine.evaluate(theta)
        assert found.loss == pytest.approx(truth.loss, rel=2e-6)
        assert found.accuracy == truth.accuracy
        layers = folded_of(engine)
        counts = {name: layers.count(name) for name in expected}
        assert counts == expected, layers
    return objective


@pytest.mark.parametrize(
    "options",
    [{}, {"swapped": True}, {"inplace": True}, {"functional": True}],
    ids=["plain", "swapped", "inplace", "functional"],
)
def test_a_residual_net_becomes_its_convolutions_and_pooling(options):
    expected = {"FoldedConvolution": 6, "BatchNorm2d": 0, "ReLU": 0, "ScaleShift": 0}
    assert_same(residual_net(**options), expected)


def test_batchnorm_before_a_convolution_becomes_one_scale_and_shift():
    net = nn.Sequential(conv(), WideBlock(4, 4), WideBlock(4, 6), head(6))
    assert_same(net, {"FoldedConvolution": 6, "ScaleShift": 2, "BatchNorm2d": 0})


def test_linear_layers_take_up_batchnorm():
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 5), nn.BatchNorm1d(5), nn.ReLU())
    net.append(nn.Linear(5, 3))
    assert_same(net, {"FoldedLinear": 2, "BatchNorm1d": 0, "ReLU": 0})


def test_batchnorm_over_the_middle_axis_is_not_folded_into_a_linear_layer():
    """On [sample, channel, unit] BatchNorm1d scales channels, a linear layer has units."""

    def forward(net, x):
        return net.last(net.bn(net.linear(x.flatten(2))).flatten(1))

    parts = {"linear": nn.Linear(36, 3), "bn": nn.BatchNorm1d(3), "last": nn.Linear(9, 3)}
    assert_same(Written(forward, **parts), {"FoldedLinear": 2, "ScaleShift": 1})


@pytest.mark.parametrize(
    "layer",
    [
        conv(4, 8, bias=True),
        conv(4, 8, groups=2),
        conv(4, 8, groups=4),
        nn.Conv2d(4, 8, 3, padding="same"),
        conv(4, 8, padding_mode="circular"),
        nn.Conv2d(4, 8, 3, 2, 2, dilation=2),
    ],
    ids=["bias", "grouped", "depthwise", "same", "circular", "dilated"],
)
def test_every_kind_of_convolution_takes_up_batchnorm(layer):
    net = nn.Sequential(layer, nn.BatchNorm2d(8), nn.ReLU(), head(8))
    assert_same(net, {"FoldedConvolution": 1, "BatchNorm2d": 0}, width=4)


def test_batchnorm_without_scale_and_shift_of_its_own_is_folded():
    net = nn.Sequential(conv(), nn.BatchNorm2d(4, affine=False), nn.ReLU(), head(4))
    assert_same(net, {"FoldedConvolution": 1, "BatchNorm2d": 0})


def test_inactive_dropout_and_identity_are_no_obstacle():
    layers = [nn.Dropout(0.5), nn.BatchNorm2d(4), nn.Identity(), nn.ReLU()]
    net = nn.Sequential(conv(), *layers, head(4))
    assert_same(net, {"FoldedConvolution": 1, "BatchNorm2d": 0, "ReLU": 0, "Dropout": 0})


def test_convolutions_in_one_dimension_take_up_batchnorm():
    net = nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU())
    net.extend([nn.Flatten(), nn.Linear(136, 3)])
    assert_same(net, {"FoldedConvolution": 1, "BatchNorm1d": 0})


def test_a_transposed_convolution_is_left_as_it_is():
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), head(4))
    assert_same(net, {"ConvTranspose2d": 1, "ScaleShift": 1})


def test_a_convolution_used_twice_is_folded_with_each_batchnorm_by_itself():
    def forward(net, x):
        for norm in (net.one, net.two):
            x = nn.functional.relu(norm(net.conv(x)))
        return net.head(x)

    parts = {"one": nn.BatchNorm2d(3), "two": nn.BatchNorm2d(3)}
    net = Written(forward, conv=conv(3, 3), head=head(3), **parts)
    assert_same(net, {"FoldedConvolution": 2, "BatchNorm2d": 0})


def test_convolutions_that_share_a_weight_are_folded_each_by_itself():
    one, two = conv(3, 3), conv(3, 3)
    two.weight = one.weight
    net = nn.Sequential(one, nn.BatchNorm2d(3), nn.ReLU(), two, nn.BatchNorm2d(3), head(3))
    assert_same(net, {"FoldedConvolution": 2, "BatchNorm2d": 0})


def test_a_convolution_whose_output_is_used_elsewhere_too_keeps_it():
    def forward(net, x):
        raw = net.conv(x)
        return net.head(nn.functional.relu(net.bn(raw)) * raw)

    net = Written(forward, conv=conv(), bn=nn.BatchNorm2d(4), head=head(4))
    assert_same(net, {"FoldedConvolution": 1, "ScaleShift": 1})


def test_a_sum_that_reads_what_the_convolution_reads_does_not_overwrite_it():
    """x + conv(x): summing into x while the convolution reads it would be wrong."""

    def forward(net, x):
        x = net.stem(x)
        return net.head(nn.functional.relu(x + net.conv(x)))

    net = Written(forward, stem=conv(3, 4), conv=conv(4, 4), head=head(4))
    assert_same(net, {"FoldedConvolution": 2})


@pytest.mark.parametrize("later", ["three", "times"])
def test_a_term_that_is_read_again_later_is_not_overwritten_by_the_sum(later):
    def forward(net, x):
        x = net.stem(x)
        y = net.two(net.one(x)) + x
        return net.head(y * (net.three(x) if later == "three" else x))

    parts = {name: conv(4, 4) for name in ("one", "two", "three")}
    net = Written(forward, stem=conv(3, 4), head=head(4), **parts)
    assert_same(net, {"FoldedConvolution": 4 if later == "three" else 3})


def test_a_sum_with_the_inputs_leaves_the_data_as_they_are():
    """One channel has the same layout as channels last: nothing was copied on the way in."""

    def forward(net, x):
        return net.head(net.conv(net.stem(x)) + x)

    net = Written(forward, stem=conv(1, 1), conv=conv(1, 1), head=head(1))
    objective, theta = images(net, 1)
    before = objective.batches[0][0].clone()
    truth = objective.evaluate(theta).loss
    for kind in KINDS:
        found = Engine(objective, kind, 8).evaluate(theta).loss
        assert found == pytest.approx(truth, rel=2e-6)
    assert torch.equal(objective.batches[0][0], before)


def test_a_sum_over_broadcast_shapes_is_left_as_it_is():
    def forward(net, x):
        return net.head(net.conv(x) + net.gate(x.mean((2, 3), keepdim=True)))

    net = Written(forward, conv=conv(3, 4), gate=nn.Conv2d(3, 4, 1), head=head(4))
    objective = assert_same(net, {"FoldedConvolution": 2})
    layers = Engine(objective, FOLDED, 4)._network._graph.graph.nodes
    assert any(node.target is operator.add for node in layers)


def test_changing_a_shared_value_in_place_is_refused():
    """relu_ on x after conv(x) has read it: the convolution may not be moved behind it."""

    def forward(net, x):
        x = net.stem(x)
        y = net.conv(x)
        return net.head(nn.functional.relu_(x) + y)

    net = Written(forward, stem=conv(3, 4), conv=conv(4, 4), head=head(4))
    objective, _ = images(net)
    with pytest.raises(NotFoldableError, match="in place"):
        FoldedModel(
            objective.model, torch.zeros(2, 3, 6, 6), chunk=2, dtype=torch.float32, fused=False
        )


def test_forward_hooks_are_refused():
    """A folded module is not called, so its hook would not be either."""
    net = nn.Sequential(conv(), nn.BatchNorm2d(4), head(4))
    net[1].register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(NotFoldableError, match="hooks"):
        FoldedModel(net.eval(), torch.zeros(2, 3, 6, 6), chunk=2, dtype=torch.float32, fused=False)


def test_buffers_given_with_a_point_are_folded_and_forgotten_at_the_next():
    objective, theta = images(residual_net())
    buffers = {
        name: b + 0.5 if b.is_floating_point() else b for name, b in objective.model.named_buffers()
    }
    for kind in KINDS:
        engine = Engine(objective, kind, 4)
        for given in (buffers, None, buffers):
            truth = objective.evaluate(theta, buffers=given).loss
            assert engine.evaluate(theta, given).loss == pytest.approx(truth, rel=2e-6)


def test_what_is_made_of_a_buffer_moves_with_it():
    def forward(net, x):
        return net.head(net.conv(x) * (net.mask * 2))

    net = Written(forward, conv=conv(3, 4), head=head(4))
    net.register_buffer("mask", torch.rand(4, 1, 1))
    objective, theta = images(net)
    buffers = {"mask": torch.rand(4, 1, 1)}
    truth = objective.evaluate(theta, buffers=buffers).loss
    found = Engine(objective, FOLDED, 4).evaluate(theta, buffers).loss
    assert found == pytest.approx(truth, rel=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["0.weight", "1.weight", "3.conv1.weight", "3.bn2.bias"])
def test_nan_in_a_weight_is_nan_in_the_loss(kind, where):
    """oneDNN's own ReLU would turn it into 0."""
    objective, theta = images(residual_net())
    entry = next(entry for entry in objective.layout if entry.name == where)
    theta[entry.offset] = torch.nan
    assert torch.isnan(torch.tensor(objective.evaluate(theta).loss))
    assert torch.isnan(torch.tensor(Engine(objective, kind, 4).evaluate(theta).loss))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_stay_and_the_objectives_model_is_left_alone(kind):
    net = residual_net()
    net[1].weight.requires_grad_(False)
    objective, theta = images(net)
    before = {name: t.clone() for name, t in objective.model.state_dict().items()}
    truth = objective.evaluate(theta).loss
    assert Engine(objective, kind, 4).evaluate(theta).loss == pytest.approx(truth, rel=2e-6)
    for name, tensor in objective.model.state_dict().items():
        assert torch.equal(tensor, before[name])
