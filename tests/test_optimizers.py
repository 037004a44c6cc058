import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.optimizers import SAM, frozen_batchnorm
from landscape.perturbations import aace, sam, usam
from tests import numpy_reference


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3 * 5 * 4, 4)

    def forward(self, inputs):
        return self.head(functional.relu(self.norm(self.conv(inputs))).flatten(1))


def make_net(seed=0):
    generator = torch.Generator().manual_seed(seed)
    net = ConvNet().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    return net


def make_batches(count=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(8, 2, 5, 4, generator=generator, dtype=torch.float64),
            torch.randint(4, (8,), generator=generator),
        )
        for _ in range(count)
    ]


def two_steps(net, optimizer, inputs, targets):
    optimizer.perturbation.loss(net(inputs), targets).backward()
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(net):
        functional.cross_entropy(net(inputs), targets).backward()
    optimizer.second_step(zero_grad=True)


def closures(net, optimizer, inputs, targets):
    def closure():
        with frozen_batchnorm(net):
            loss = functional.cross_entropy(net(inputs), targets)
        loss.backward()
        return loss

    def perturbation_closure():
        loss = optimizer.perturbation.loss(net(inputs), targets)
        loss.backward()
        return loss

    return closure, perturbation_closure


@pytest.mark.parametrize("perturbation", [sam(0.3), aace(0.2)], ids=["sam", "aace"])
@pytest.mark.parametrize("whole", [False, True], ids=["two_steps", "closures"])
def test_twenty_steps_agree_with_an_independent_numpy_computation(perturbation, whole):
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    net, batches = make_net(), make_batches()
    expected, running, moves = numpy_reference.train(
        {name: p.detach().numpy() for name, p in net.named_parameters()},
        [(inputs.numpy(), targets.numpy()) for inputs, targets in batches],
        method=perturbation.name,
        rho=perturbation.rho,
        **options,
    )
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=perturbation, **options)
    for (inputs, targets), move in zip(batches, moves, strict=True):
        if whole:
            optimizer.step(*closures(net, optimizer, inputs, targets))
        else:
            two_steps(net, optimizer, inputs, targets)
        for (name, _), ours in zip(net.named_parameters(), optimizer.displacement, strict=True):
            np.testing.assert_allclose(ours.numpy(), move[name], rtol=0, atol=1e-10)
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], rtol=0, atol=1e-10)
    assert (net.head.weight - start["head.weight"]).abs().max() > 0.1
    np.testing.assert_allclose(net.norm.running_mean.numpy(), running[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(net.norm.running_var.numpy(), running[1], rtol=0, atol=1e-10)
    assert net.norm.num_batches_tracked == 20


def test_weights_are_copied_back_to_the_last_bit():
    net = make_net().float()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=usam(3.7), lr=0.0)
    inputs, targets = make_batches(1)[0]
    two_steps(net, optimizer, inputs.float(), targets)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    moves = optimizer.displacement
    subtracted = [(w + e) - e for w, e in zip(before, moves, strict=True)]
    assert not all(torch.equal(a, b) for a, b in zip(before, subtracted, strict=True))


def test_the_displacement_is_what_was_added_to_each_parameter_in_order():
    net = make_net()
    groups = [{"params": net.head.parameters(), "lr": 0.2}, {"params": net.conv.parameters()}]
    optimizer = SAM(groups, torch.optim.SGD, perturbation=sam(0.3), lr=0.1)
    assert optimizer.displacement is None
    params = [*net.head.parameters(), *net.conv.parameters()]
    before = [p.detach().clone() for p in params]
    inputs, targets = make_batches(1)[0]
    functional.cross_entropy(net(inputs), targets).backward()
    gradient = torch.cat([p.grad.flatten() for p in params])
    optimizer.first_step()
    for param, start, move in zip(params, before, optimizer.displacement, strict=True):
        torch.testing.assert_close(param.detach(), start + move, rtol=0, atol=0)
    together = torch.cat([move.flatten() for move in optimizer.displacement])
    torch.testing.assert_close(together, 0.3 * gradient / gradient.norm())
    assert params[0].grad is not None


def test_a_parameter_without_gradient_is_not_displaced():
    net = make_net()
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = SAM([unused, *net.parameters()], torch.optim.SGD, perturbation=sam(0.3), lr=0.1)
    inputs, targets = make_batches(1)[0]
    two_steps(net, optimizer, inputs, targets)
    assert torch.equal(optimizer.displacement[0], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(unused.detach(), torch.ones(3, dtype=torch.float64))


def test_a_vanished_gradient_makes_the_plain_update():
    weight = nn.Parameter(torch.tensor([0.0, 2.0]))
    optimizer = SAM([weight], torch.optim.SGD, lr=1.0, weight_decay=0.5)
    for step in (optimizer.first_step, optimizer.second_step):
        (weight * 0.0).sum().backward()
        step(zero_grad=True)
    assert weight.tolist() == [0.0, 1.0]


def test_schedulers_set_the_learning_rate_of_the_base_optimizer():
    net = make_net()
    optimizer = SAM(net.parameters(), torch.optim.SGD, lr=0.8)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for inputs, targets in make_batches(2):
        two_steps(net, optimizer, inputs, targets)
        scheduler.step()
    assert optimizer.base_optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    assert scheduler.get_last_lr() == pytest.approx([0.2])


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_resumed_optimizer_goes_on_with_equal_bits(base):
    options = {"lr": 0.05, "weight_decay": 0.01}
    if base is torch.optim.SGD:
        options["momentum"] = 0.9
    batches = make_batches(6)
    nets = [make_net(), make_net()]
    whole = SAM(nets[0].parameters(), base, perturbation=aace(), **options)
    for batch in batches:
        two_steps(nets[0], whole, *batch)
    first = SAM(nets[1].parameters(), base, perturbation=aace(), **options)
    for batch in batches[:3]:
        two_steps(nets[1], first, *batch)
    state = first.state_dict()
    second = SAM(nets[1].parameters(), base, perturbation=aace(), **options)
    scheduler = torch.optim.lr_scheduler.ConstantLR(second, factor=1.0)
    second.load_state_dict(state)
    for batch in batches[3:]:
        two_steps(nets[1], second, *batch)
        scheduler.step()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert second.param_groups is second.base_optimizer.param_groups
    assert second.state_dict()["state"].keys() == state["state"].keys()


def test_a_group_added_later_is_trained():
    net = make_net()
    optimizer = SAM(net.conv.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": net.head.parameters(), "lr": 0.5})
    before = net.head.weight.detach().clone()
    two_steps(net, optimizer, *make_batches(1)[0])
    assert len(optimizer.displacement) == 4
    assert not torch.equal(net.head.weight, before)


def test_step_ignores_gradients_left_over_and_returns_the_loss_at_the_weights():
    nets = [make_net(), make_net()]
    inputs, targets = make_batches(1)[0]
    values = []
    for net in nets:
        optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=usam(0.1), lr=0.1)
        if net is nets[1]:
            functional.cross_entropy(net(inputs), targets).backward()
        closure, _ = closures(net, optimizer, inputs, targets)
        expected = functional.cross_entropy(make_net()(inputs), targets)
        with torch.no_grad():  # as in an optimizer's own step
            values.append(optimizer.step(closure))
        torch.testing.assert_close(values[-1], expected)
        assert all(p.grad is None for p in net.parameters())
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_errors_say_what_was_forgotten():
    net = make_net()
    inputs, targets = make_batches(1)[0]
    optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=sam(), lr=0.1)
    with pytest.raises(RuntimeError, match="second_step came without first_step"):
        optimizer.second_step()
    with pytest.raises(RuntimeError, match=r"first_step needs gradients.*backward"):
        optimizer.first_step()
    with pytest.raises(TypeError, match="needs a closure"):
        optimizer.step()
    functional.cross_entropy(net(inputs), targets).backward()
    optimizer.first_step(zero_grad=True)
    with pytest.raises(RuntimeError, match="second_step needs gradients"):
        optimizer.second_step()
    functional.cross_entropy(net(inputs), targets).backward()
    with pytest.raises(RuntimeError, match="first_step came twice"):
        optimizer.first_step()
    with pytest.raises(RuntimeError, match="half done"):
        optimizer.load_state_dict(optimizer.state_dict())
    optimizer.second_step()


def test_a_closure_without_gradients_is_refused():
    net = make_net()
    inputs, targets = make_batches(1)[0]
    optimizer = SAM(net.parameters(), torch.optim.SGD, lr=0.1)

    def closure():
        with torch.no_grad():
            return functional.cross_entropy(net(inputs), targets)

    with pytest.raises(RuntimeError, match=r"call backward\(\).*no torch.no_grad"):
        optimizer.step(closure)


def test_aace_needs_a_closure_of_its_own_loss():
    net = make_net()
    optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=aace(), lr=0.1)
    before = net.head.weight.detach().clone()
    with pytest.raises(ValueError, match=r"first backward must be of perturbation\.loss"):
        optimizer.step(closures(net, optimizer, *make_batches(1)[0])[0])
    assert torch.equal(net.head.weight, before)


def test_a_failing_second_pass_leaves_the_weights_where_they_were():
    net = make_net()
    inputs, targets = make_batches(1)[0]
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = SAM(net.parameters(), torch.optim.SGD, lr=0.1)
    _, first = closures(net, optimizer, inputs, targets)

    def closure():
        raise MemoryError

    with pytest.raises(MemoryError):
        optimizer.step(closure, first)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    optimizer.step(*closures(net, optimizer, inputs, targets))


def test_what_is_no_perturbation_is_refused():
    with pytest.raises(TypeError, match="must be a Perturbation"):
        SAM(make_net().parameters(), torch.optim.SGD, perturbation=0.05, lr=0.1)
    with pytest.raises(ValueError, match="empty parameter list"):
        SAM([], torch.optim.SGD, lr=0.1)


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_frozen_batchnorm_uses_batch_statistics_and_leaves_the_buffers(momentum):
    net, other = make_net(), make_net()
    net.norm.momentum = other.norm.momentum = momentum
    inputs, _ = make_batches(1)[0]
    before = statistics(net)
    with frozen_batchnorm(net):
        outputs = net(inputs)
        outputs.sum().backward()
    assert same(before, statistics(net))
    torch.testing.assert_close(outputs, other(inputs), rtol=0, atol=0)
    net(inputs)
    assert same(statistics(net), statistics(other))
    assert not same(before, statistics(net))


def test_frozen_batchnorm_keeps_buffers_when_the_batch_is_not_finite():
    net = make_net()
    before = statistics(net)
    with frozen_batchnorm(net):
        net(torch.full((4, 2, 5, 4), torch.nan, dtype=torch.float64))
    assert same(before, statistics(net))


def test_frozen_batchnorm_ends_with_an_exception_and_nests():
    net = make_net()
    inputs, _ = make_batches(1)[0]
    before = statistics(net)
    with pytest.raises(KeyError), frozen_batchnorm(net):
        raise KeyError
    assert net.norm.track_running_stats
    with frozen_batchnorm(net):
        with frozen_batchnorm(net.norm):
            pass
        net(inputs)
    assert same(before, statistics(net))
    assert net.norm.track_running_stats


def test_frozen_batchnorm_changes_nothing_in_eval_mode_or_without_statistics():
    net = make_net()
    inputs, _ = make_batches(1)[0]
    net(inputs)
    net.eval()
    outside = net(inputs)
    with frozen_batchnorm(net):
        torch.testing.assert_close(net(inputs), outside, rtol=0, atol=0)
    bare = nn.BatchNorm2d(2, track_running_stats=False).double()
    outside = bare(inputs)
    with frozen_batchnorm(bare):
        torch.testing.assert_close(bare(inputs), outside, rtol=0, atol=0)
    assert bare.track_running_stats is False
    assert bare.running_mean is None
