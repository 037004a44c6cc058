import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, mlp
from torch import nn

from landscape import SAM, Objective
from landscape.modules import flatten
from landscape.optimizers import frozen_batchnorm
from landscape.perturbations import aace, asam, friendly_sam, gsam, le_sam, sam, usam, vasso
from landscape.update_maps import UpdateMap, followed_loss, perturbation_gradient
from landscape.updates import Update

PERTURBATIONS = {
    "sgd": None,
    "sam": sam(0.1),
    "usam": usam(0.2),
    "aace": aace(0.3),
    "aace normalized": aace(0.1, normalize=True),
    "aace threshold": aace(0.3, threshold=0.35),
    "aace const": aace(0.3, mode="const"),
    "asam": asam(0.4, eta=0.1),
    "asam on aace": replace(aace(0.3), metric="weights", eta=0.1),
    "gsam": gsam(0.3, alpha=0.6).at(1.0),
    "le-sam within": le_sam(0.02, 5.0),
    "le-sam at rho": le_sam(5.0, 0.1),
}
STEPS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02},
    "dampened": {"momentum": 0.7, "dampening": 0.3, "weight_decay": 0.02},
}


def train(model, loss_fn, data, update, steps):
    """Weights after real steps on all data, with torch's SGD in landscape's SAM."""
    model.train()
    options = {
        "lr": update.learning_rate,
        "momentum": update.momentum,
        "dampening": update.dampening,
        "nesterov": update.nesterov,
        "weight_decay": update.weight_decay,
    }
    inputs, targets = data
    if update.perturbation is None:
        optimizer = torch.optim.SGD(model.parameters(), **options)
    else:
        optimizer = SAM(
            model.named_parameters(), torch.optim.SGD, perturbation=update.perturbation, **options
        )
    for _ in range(steps):
        optimizer.zero_grad()
        if isinstance(optimizer, SAM):
            loss = optimizer.perturbation.loss if optimizer.perturbation.has_own_loss else loss_fn
            loss(model(inputs), targets).backward()
            optimizer.first_step(zero_grad=True)
            with frozen_batchnorm(model):
                loss_fn(model(inputs), targets).backward()
            optimizer.second_step()
        else:
            loss_fn(model(inputs), targets).backward()
            optimizer.step()
        yield flatten(model)


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("step", STEPS)
def test_map_goes_where_training_goes(name, step):
    model, loss_fn, data = conv_batchnorm()
    update = Update(learning_rate=0.1, perturbation=PERTURBATIONS[name], **STEPS[step])
    objective = Objective(model, loss_fn, data, bn="batch")
    mapping = UpdateMap(objective, update)
    theta, momentum = objective.theta, torch.zeros_like(objective.theta)
    for count, real in enumerate(train(model, loss_fn, data, update, steps=5)):
        if count == 0 and update.dampening:
            # torch's first step isn't dampened: 0.7 m + 0.3 · 0.7 g is its m for m = g
            momentum = -(real - theta) / update.learning_rate
            theta = real
            continue
        theta, momentum = mapping.step(theta, momentum)
        torch.testing.assert_close(theta, real, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("net", [mlp, conv_batchnorm])
@pytest.mark.parametrize("batches", ["each", "whole"])
@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("step", ["plain", "nesterov", "dampened"])
def test_jacobian_is_the_derivative_of_the_map(net, batches, name, step):
    model, loss_fn, data = net()
    bn = "batch" if net is conv_batchnorm else "frozen"
    objective = Objective(model, loss_fn, data, bn=bn, batch_size=12)
    update = Update(learning_rate=0.3, perturbation=PERTURBATIONS[name], **STEPS[step])
    mapping = UpdateMap(objective, update, batches=batches)
    generator = torch.Generator().manual_seed(0)
    theta, momentum, u, v = (
        torch.randn(objective.theta.shape, generator=generator, dtype=torch.float64)
        for _ in range(4)
    )
    u, v = u / u.norm(), v / v.norm()
    theta = objective.theta
    small = 1e-5
    ahead = mapping.step(theta + small * u, momentum + small * v)
    behind = mapping.step(theta - small * u, momentum - small * v)
    for got, a, b in zip(mapping.jvp(u, v), ahead, behind, strict=True):
        expected = (a - b) / (2 * small)
        assert float((got - expected).norm()) <= 1e-6 * max(float(expected.norm()), 1e-12)


@pytest.mark.parametrize("name", ["sam", "aace"])
def test_mean_over_batches_is_the_mean_of_their_own_steps(name):
    model, loss_fn, data = mlp()
    update = Update(learning_rate=0.3, perturbation=PERTURBATIONS[name], momentum=0.5)
    objective = Objective(model, loss_fn, data, batch_size=12)
    theta, momentum = objective.theta, torch.ones_like(objective.theta)
    expected = torch.zeros_like(theta)
    for batch, share in zip(objective.batches, objective.shares, strict=True):
        own = UpdateMap(Objective(model, loss_fn, [batch]), update)
        expected += share * own.step(theta, momentum)[0]
    each = UpdateMap(objective, update, batches="each").step(theta, momentum)[0]
    whole = UpdateMap(objective, update, batches="whole").step(theta, momentum)[0]
    one = UpdateMap(Objective(model, loss_fn, data), update).step(theta, momentum)[0]
    torch.testing.assert_close(each, expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(whole, one, rtol=1e-13, atol=1e-14)
    assert float((each - whole).norm()) > 1e-6


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.35, 1.0])
def test_followed_loss_has_the_gradient_of_the_detached_form(threshold):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 4, generator=generator, dtype=torch.float64)
    targets = torch.arange(40) % 4
    perturbation = aace(0.2, threshold=threshold)
    gradients = []
    for loss in (perturbation.loss, lambda z, t: followed_loss(perturbation)(z.sum(), z, t)):
        leaf = logits.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(leaf, targets), leaf)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)


def test_followed_loss_is_continuous_across_the_threshold():
    loss = followed_loss(aace(0.2, threshold=0.3))
    margins = np.log(0.3 / 0.7) + np.array([-1e-9, 1e-9])
    logits = [torch.tensor([[margin, 0.0]]) for margin in margins]
    low, high = (float(loss(z.sum(), z, torch.tensor([0]))) for z in logits)
    assert low == pytest.approx(high, abs=1e-8)


def test_gradient_followed_is_over_all_data():
    model, loss_fn, data = mlp()
    whole = Objective(model, loss_fn, data)
    cut = Objective(model, loss_fn, data, batch_size=7)
    torch.testing.assert_close(perturbation_gradient(cut, sam()), whole.gradient())
    other = Objective(model, aace().loss, data)
    torch.testing.assert_close(perturbation_gradient(cut, aace()), other.gradient())


@pytest.mark.parametrize(
    ("perturbation", "words"),
    [
        (vasso(), "depends on the gradients of earlier updates"),
        (friendly_sam(), "depends on the gradients of earlier updates"),
        (aace(mode="rand"), "drawn at random"),
        (aace(mode="const", threshold=0.2), "second derivative"),
        (replace(sam(), ascent_steps=2), "one ascent step"),
        (gsam(), r"perturbation\.at\(factor\)"),
    ],
)
def test_updates_that_are_no_known_map_are_refused_with_the_reason(perturbation, words):
    model, loss_fn, data = mlp()
    with pytest.raises(ValueError, match=words):
        UpdateMap(
            Objective(model, loss_fn, data), Update(learning_rate=1.0, perturbation=perturbation)
        )


def test_sam_has_no_jacobian_where_the_gradient_vanishes():
    model = nn.Linear(2, 1, bias=False).double()
    inputs = torch.eye(2, dtype=torch.float64)
    objective = Objective(model, nn.MSELoss(), (inputs, model(inputs).detach()))
    zero = torch.zeros(2, dtype=torch.float64)
    for perturbation in (sam(), replace(sam(), rho=1.0)):
        mapping = UpdateMap(objective, Update(learning_rate=0.1, perturbation=perturbation))
        with pytest.raises(ValueError, match=r"must have a gradient to follow, got one of norm 0"):
            mapping.jvp(zero + 1, zero)
    single = Objective(model, nn.MSELoss(), (inputs, model(inputs).detach()), dtype=torch.float32)
    rounded = single.at(torch.nextafter(single.theta, single.theta + 1))
    assert float(rounded.gradient().norm()) > 1e-9
    with pytest.raises(ValueError, match="has no Jacobian"):
        UpdateMap(rounded, Update(learning_rate=0.1, perturbation=sam())).jvp(zero + 1, zero)
    usable = UpdateMap(objective, Update(learning_rate=0.1, perturbation=usam(0.1)))
    assert torch.isfinite(usable.jvp(zero + 1, zero)[0]).all()


def test_the_batch_whose_gradient_vanishes_is_named():
    model = nn.Linear(2, 1, bias=False).double()
    inputs = torch.eye(2, dtype=torch.float64)
    fitted = model(inputs).detach() + torch.tensor([[1.0], [0.0]])
    batches = [(inputs[:1], fitted[:1]), (inputs[1:], fitted[1:])]
    objective = Objective(model, nn.MSELoss(), batches)
    update, zero = Update(learning_rate=0.1, perturbation=sam()), torch.zeros(2).double()
    with pytest.raises(ValueError, match="on batch 1: "):
        UpdateMap(objective, update).jvp(zero, zero)
    UpdateMap(objective, update, batches="whole").jvp(zero, zero)


def test_batches_are_each_or_whole():
    model, loss_fn, data = mlp()
    with pytest.raises(ValueError, match='must be "each" or "whole", got \'all\''):
        UpdateMap(Objective(model, loss_fn, data), Update(learning_rate=1.0), batches="all")


def test_model_and_objective_are_untouched():
    model, loss_fn, data = conv_batchnorm()
    before = copy.deepcopy(model.state_dict())
    objective = Objective(model, loss_fn, data, bn="batch")
    theta = objective.theta.clone()
    mapping = UpdateMap(objective, Update(learning_rate=0.1, perturbation=sam()))
    mapping.step(theta, theta)
    mapping.jvp(theta, theta)
    assert torch.equal(theta, objective.theta)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
