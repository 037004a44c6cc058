"""SAM in loops as people write them: accumulation, clipping, gradient scalers, chunks, resuming."""

from dataclasses import replace

import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.nn import functional

from landscape.optimizers import SAM
from landscape.perturbations import aace, asam, friendly_sam, gsam, sam, usam, vasso
from landscape.sam_parts import mean_gradients

MAKERS = [sam(0.3), usam(0.3), asam(), aace(), vasso(), friendly_sam(), gsam(0.3)]
NAMES = [made.name for made in MAKERS]


def make_net(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def make_batches(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(12, 6, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(3, (12,), generator=generator),
        )
        for _ in range(count)
    ]


def make(net, perturbation, base=torch.optim.SGD, **options):
    options = {"lr": 0.1, "momentum": 0.9} if base is torch.optim.SGD and not options else options
    return SAM(net.named_parameters(), base, perturbation=perturbation, **options)


def plain_update(net, optimizer, inputs, targets):
    optimizer.perturbation.loss(net(inputs), targets).backward()
    optimizer.first_step(zero_grad=True)
    functional.cross_entropy(net(inputs), targets).backward()
    optimizer.second_step(zero_grad=True)


def assert_equal_nets(one, other, tolerance=0.0):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def assert_moved(net):
    assert not torch.equal(net[0].weight, make_net(net[0].weight.dtype)[0].weight)


@pytest.mark.parametrize("perturbation", MAKERS, ids=NAMES)
def test_accumulated_micro_batches_are_one_large_batch(perturbation):
    whole, parts = make_net(), make_net()
    first, second = make(whole, perturbation), make(parts, perturbation)
    for inputs, targets in make_batches(3):
        plain_update(whole, first, inputs, targets)
        micro = list(zip(inputs.split(4), targets.split(4), strict=True))
        for x, y in micro:
            (perturbation.loss(parts(x), y) / len(micro)).backward()
        second.first_step(zero_grad=True)
        for x, y in micro:
            (functional.cross_entropy(parts(x), y) / len(micro)).backward()
        second.second_step(zero_grad=True)
    assert_moved(whole)
    assert_equal_nets(whole, parts, 1e-12)


def test_one_displacement_for_each_chunk_is_not_one_for_all():
    whole, parts = make_net(), make_net()
    first, second = make(whole, sam(0.3)), make(parts, sam(0.3))
    inputs, targets = make_batches(1)[0]
    plain_update(whole, first, inputs, targets)
    pairs = list(zip(inputs.split(4), targets.split(4), strict=True))

    def backward_of(x, y):
        def closure():
            loss = functional.cross_entropy(parts(x), y)
            loss.backward()
            return loss.item()

        return closure

    losses = second.step([backward_of(x, y) for x, y in pairs])
    assert losses == [
        pytest.approx(functional.cross_entropy(make_net()(x), y).item()) for x, y in pairs
    ]
    assert not torch.allclose(whole[0].weight, parts[0].weight, atol=1e-4)
    by_hand = make_net()
    gradients = []
    for x, y in pairs:
        net = make_net()
        single = make(net, sam(0.3), lr=1.0)
        plain_update(net, single, x, y)
        gradients.append(
            [a.detach() - b for a, b in zip(by_hand.parameters(), net.parameters(), strict=True)]
        )
    with torch.no_grad():
        for parameter, *found in zip(by_hand.parameters(), *gradients, strict=True):
            parameter -= 0.1 * sum(found) / len(found)
    assert_equal_nets(by_hand, parts, 1e-12)


def test_the_mean_over_chunks_keeps_memory_format_and_counts_missing_gradients_as_zero():
    parts = [torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last) for _ in range(3)]
    mean, missing = mean_gradients([[part, None] for part in parts])
    assert mean.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mean, (parts[0] + parts[1] + parts[2]) / 3)
    (half,) = mean_gradients([[parts[0]], [None]])
    torch.testing.assert_close(half, parts[0] / 2)
    assert missing is None


def test_clipping_between_the_second_backward_and_the_step_bounds_the_update():
    net = make_net()
    optimizer = make(net, usam(0.3), lr=1.0)
    inputs, targets = make_batches(1)[0]
    before = torch.cat([p.detach().flatten() for p in net.parameters()])
    optimizer.perturbation.loss(net(inputs), targets).backward()
    optimizer.first_step(zero_grad=True)
    functional.cross_entropy(net(inputs), targets).backward()
    gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert nn.utils.clip_grad_norm_(net.parameters(), 0.01) > 0.01
    optimizer.second_step(zero_grad=True)
    moved = torch.cat([p.detach().flatten() for p in net.parameters()]) - before
    torch.testing.assert_close(moved, -0.01 * gradient / gradient.norm(), rtol=1e-4, atol=1e-9)


def scaled_update(net, optimizer, scaler, inputs, targets, clip=None):
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(inputs)
    scaler.scale(optimizer.perturbation.loss(logits, targets)).backward()
    optimizer.first_step(zero_grad=True, scaler=scaler)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(inputs)
    scaler.scale(functional.cross_entropy(logits.float(), targets)).backward()
    if clip is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.second_step(zero_grad=True, scaler=scaler)


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("perturbation", MAKERS, ids=NAMES)
def test_a_gradient_scaler_changes_no_update(perturbation, clip):
    nets = []
    for scale in (1.0, 4096.0):
        net = make_net(torch.float32)
        optimizer = make(net, perturbation)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000)
        for inputs, targets in make_batches(3, torch.float32):
            scaled_update(net, optimizer, scaler, inputs, targets, clip)
        assert scaler.get_scale() == scale
        nets.append(net)
    assert_moved(nets[0])
    assert_equal_nets(*nets, 1e-6)


@pytest.mark.parametrize("perturbation", [aace(), vasso(), gsam()], ids=["aace", "vasso", "gsam"])
def test_a_first_gradient_that_overflows_leaves_the_update_out(perturbation):
    net = make_net(torch.float32)
    optimizer = make(net, perturbation)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    inputs, targets = make_batches(1, torch.float32)[0]
    (scaler.scale(perturbation.loss(net(inputs), targets)) * torch.inf).backward()
    optimizer.first_step(zero_grad=True, scaler=scaler)
    assert_equal_nets(net, make_net(torch.float32))
    assert all((move == 0).all() for move in optimizer.displacement)
    scaler.scale(functional.cross_entropy(net(inputs), targets)).backward()
    optimizer.second_step(zero_grad=True, scaler=scaler)
    assert_equal_nets(net, make_net(torch.float32))
    assert scaler.get_scale() == 8.0
    own = optimizer.state_dict()["perturbation"]
    assert (own["updates"], own["memory"]) == (0, None)
    scaled_update(net, optimizer, scaler, inputs, targets)
    assert_moved(net)


def test_a_second_gradient_that_overflows_leaves_the_weights_where_they_were():
    net = make_net(torch.float32)
    optimizer = make(net, sam(0.3))
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    inputs, targets = make_batches(1, torch.float32)[0]
    scaler.scale(functional.cross_entropy(net(inputs), targets)).backward()
    optimizer.first_step(zero_grad=True, scaler=scaler)
    (scaler.scale(functional.cross_entropy(net(inputs), targets)) * torch.inf).backward()
    optimizer.second_step(zero_grad=True, scaler=scaler)
    assert_equal_nets(net, make_net(torch.float32))
    assert scaler.get_scale() == 8.0


def test_a_scaler_is_given_to_both_steps_or_to_none():
    inputs, targets = make_batches(1, torch.float32)[0]
    for first, missing in ((True, "second_step"), (False, "first_step")):
        net = make_net(torch.float32)
        optimizer = make(net, sam(0.3))
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
        scaler.scale(functional.cross_entropy(net(inputs), targets)).backward()
        optimizer.first_step(zero_grad=True, scaler=scaler if first else None)
        scaler.scale(functional.cross_entropy(net(inputs), targets)).backward()
        with pytest.raises(RuntimeError, match=rf"call {missing}\(scaler=scaler\)"):
            optimizer.second_step(scaler=None if first else scaler)
    with pytest.raises(TypeError, match=r"in place of scaler\.step"):
        scaler.step(optimizer)


def test_chunks_and_closures_go_with_a_scaler():
    nets = []
    for scale in (1.0, 4096.0):
        net = make_net()
        optimizer = make(net, aace())
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for inputs, targets in make_batches(2):
            pairs = list(zip(inputs.split(6), targets.split(6), strict=True))

            def closures(loss_fn, net=net, scaler=scaler, pairs=pairs):
                return [
                    lambda x=x, y=y: scaler.scale(loss_fn(net(x), y)).backward() for x, y in pairs
                ]

            optimizer.step(closures(functional.cross_entropy), closures(aace().loss), scaler=scaler)
        nets.append(net)
    assert_moved(nets[0])
    assert_equal_nets(*nets, 1e-12)


@pytest.mark.parametrize("steps", [2, 3])
def test_closures_run_once_for_each_ascent_step(steps):
    nets = [make_net(), make_net()]
    optimizers = [make(net, replace(usam(0.3), ascent_steps=steps)) for net in nets]
    inputs, targets = make_batches(1)[0]
    for _ in range(steps):
        functional.cross_entropy(nets[0](inputs), targets).backward()
        optimizers[0].first_step(zero_grad=True)
    functional.cross_entropy(nets[0](inputs), targets).backward()
    optimizers[0].second_step()
    values = []

    def closure():
        loss = functional.cross_entropy(nets[1](inputs), targets)
        loss.backward()
        values.append(loss.item())
        return loss.item()

    assert optimizers[1].step(closure) == values[0]
    assert len(values) == steps + 1
    assert values == sorted(values)  # uphill
    assert_moved(nets[0])
    assert_equal_nets(*nets)


def test_errors_say_how_many_steps_are_missing():
    net = make_net()
    optimizer = make(net, replace(sam(), ascent_steps=2))
    inputs, targets = make_batches(1)[0]
    functional.cross_entropy(net(inputs), targets).backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="takes 2 ascent steps and first_step came once"):
        optimizer.second_step()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="first_step came 3 times"):
        optimizer.first_step()
    optimizer.second_step()
    with pytest.raises(RuntimeError, match="end_chunk came without first_step"):
        optimizer.end_chunk()
    remembering = make(net, vasso())
    with pytest.raises(ValueError, match="remembers gradients of whole batches"):
        remembering.end_chunk()


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(
    "perturbation",
    [
        vasso(),
        friendly_sam(),
        gsam(0.3),
        replace(aace(), schedule="cosine", schedule_steps=8),
    ],
    ids=["vasso", "f-sam", "gsam", "cosine"],
)
def test_a_resumed_perturbation_goes_on_with_equal_bits(base, perturbation, tmp_path):
    batches = make_batches(6)
    nets = [make_net(), make_net()]

    def optimizer_of(net):
        optimizer = make(net, perturbation, base, lr=0.05)
        return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)

    whole, schedule = optimizer_of(nets[0])
    for batch in batches:
        plain_update(nets[0], whole, *batch)
        schedule.step()
    first, schedule = optimizer_of(nets[1])
    for batch in batches[:3]:
        plain_update(nets[1], first, *batch)
        schedule.step()
    torch.save([first.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    second, schedule = optimizer_of(nets[1])
    second.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    for batch in batches[3:]:
        plain_update(nets[1], second, *batch)
        schedule.step()
    assert_equal_nets(*nets)


def test_a_bare_optimizers_state_begins_the_perturbation_anew():
    net = make_net()
    bare = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer = make(net, vasso())
    plain_update(net, optimizer, *make_batches(1)[0])
    optimizer.load_state_dict(bare.state_dict())
    assert optimizer.state_dict()["perturbation"]["memory"] is None
    other = SAM([nn.Parameter(torch.ones(2))], torch.optim.SGD, perturbation=vasso(), lr=0.1)
    other.param_groups[0]["params"][0].sum().backward()
    other.first_step()
    state = other.state_dict()
    with pytest.raises(ValueError, match="of the same parameters"):
        optimizer.load_state_dict(state)


def test_the_memory_of_a_parameter_waits_for_its_next_gradient():
    weights = [nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2)]
    optimizer = SAM(weights, torch.optim.SGD, perturbation=vasso(1.0, theta=0.5), lr=0.0)

    def update(*factors):
        for step in (optimizer.first_step, optimizer.second_step):
            sum(f * w.sum() for f, w in zip(factors, weights, strict=True) if f).backward()
            step(zero_grad=True)

    update(3.0, 4.0)
    update(1.0, 0.0)
    assert [m.item() for m in optimizer.displacement] == pytest.approx([1.0, 0.0])
    update(1.0, 2.0)  # d = (1.5, 3)
    expected = [1.5 / 11.25**0.5, 3 / 11.25**0.5]
    assert [m.item() for m in optimizer.displacement] == pytest.approx(expected)


def test_a_schedule_along_the_learning_rate_needs_one_to_begin_with():
    with pytest.raises(ValueError, match="above 0 to begin with"):
        make(make_net(), gsam(), lr=0.0)


THEIRS = {
    "sam": (sam(0.3), pytorch_optimizer.SAM, {"rho": 0.3}),
    # theirs has T = |w| on every parameter, biases too, and no eta
    "asam": (asam(0.3, eta=0.0), pytorch_optimizer.SAM, {"rho": 0.3, "adaptive": True}),
    "f-sam": (friendly_sam(0.3), pytorch_optimizer.FriendlySAM, {"rho": 0.3}),
}


@pytest.mark.parametrize("name", THEIRS)
def test_five_steps_agree_with_pytorch_optimizer(name):
    perturbation, theirs_class, settings = THEIRS[name]
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    ours, theirs = make_net(), make_net()
    named = [(f"weight {name}", p) for name, p in ours.named_parameters()]  # all of them, as theirs
    optimizer = SAM(named, torch.optim.SGD, perturbation=perturbation, **options)
    other = theirs_class(theirs.parameters(), torch.optim.SGD, **settings, **options)
    for inputs, targets in make_batches(5):
        plain_update(ours, optimizer, inputs, targets)
        functional.cross_entropy(theirs(inputs), targets).backward()
        other.first_step(zero_grad=True)
        functional.cross_entropy(theirs(inputs), targets).backward()
        other.second_step(zero_grad=True)
    assert_moved(ours)
    assert_equal_nets(ours, theirs, 1e-6)


def test_five_steps_of_gsam_agree_with_pytorch_optimizer_while_the_learning_rate_falls():
    ours, theirs = make_net(), make_net()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    perturbation = gsam(0.3, rho_min=0.1, alpha=0.4)
    optimizer = SAM(ours.parameters(), torch.optim.SGD, perturbation=perturbation, **options)
    base = torch.optim.SGD(theirs.parameters(), **options)
    falls = [torch.optim.lr_scheduler.ExponentialLR(each, 0.5) for each in (optimizer, base)]
    # theirs is told when the learning rate has changed, ours looks
    radius = pytorch_optimizer.ProportionScheduler(
        falls[1], max_lr=0.1, max_value=0.3, min_value=0.1
    )
    other = pytorch_optimizer.GSAM(
        theirs.parameters(), base, model=theirs, rho_scheduler=radius, alpha=0.4
    )
    for inputs, targets in make_batches(5):
        plain_update(ours, optimizer, inputs, targets)
        other.set_closure(functional.cross_entropy, inputs, targets)
        other.step()
        for schedule in falls:
            schedule.step()
        other.update_rho_t()
    assert_moved(ours)
    assert_equal_nets(ours, theirs, 1e-6)
