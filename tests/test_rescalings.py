import pytest
import torch
from dense import attention, classes, conv_batchnorm, mlp, tied
from torch import nn
from torch.func import functional_call

from landscape import Objective
from landscape.rescalings import NEURONS, NORMS, rescalings

IMAGES = classes(33, (1, 6, 6), 3)


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double()


def perceptron():
    return net(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def convolutions():
    model = net(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.LeakyReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    model(IMAGES[0])  # moves the running statistics
    nn.init.uniform_(model[1].bias)
    return model.eval()


def changes(model, data, **options):
    objective = Objective(model, nn.CrossEntropyLoss(), data, **options)
    return objective, {change.name: change for change in rescalings(objective, seed=3)}


def output(objective, inputs):
    values = objective.parameters(objective.theta)
    return functional_call(objective.model, values, (inputs,)).detach()


def parts(objective):
    return {e.name: objective.theta[e.slice].view(e.shape) for e in objective.layout}


def test_rows_are_multiplied_by_what_the_next_columns_are_divided_by():
    objective, found = changes(perceptron(), classes(33, (4,), 3))
    old, new = parts(objective), parts(found[NEURONS].objective)
    first = (new["0.weight"] / old["0.weight"])[:, 0]
    second = (new["2.weight"] / old["2.weight"] * first)[:, 0]
    torch.testing.assert_close(new["0.weight"], first[:, None] * old["0.weight"])
    torch.testing.assert_close(new["0.bias"], first * old["0.bias"])
    torch.testing.assert_close(new["2.weight"], second[:, None] * old["2.weight"] / first)
    torch.testing.assert_close(new["2.bias"], second * old["2.bias"])
    torch.testing.assert_close(new["4.weight"], old["4.weight"] / second)
    assert torch.equal(new["4.bias"], old["4.bias"])
    assert set(torch.cat([first, second]).tolist()) == {0.25, 0.5, 2.0, 4.0}


@pytest.mark.parametrize("name", [NEURONS, NORMS])
def test_outputs_stay_to_the_last_bits_on_other_data_too(name):
    objective, found = changes(convolutions(), IMAGES)
    others = classes(50, (1, 6, 6), 3)[0] * 5
    moved = output(found[name].objective, others) - output(objective, others)
    assert moved.abs().max() < 1e-13
    assert not torch.equal(found[name].objective.theta, objective.theta)
    assert ("2 layers" if name == NEURONS else "1 layers") in found[name].note


def test_neurons_of_a_normalized_layer_are_scaled_behind_the_norm():
    objective, found = changes(convolutions(), IMAGES)
    old, new = parts(objective), parts(found[NEURONS].objective)
    assert torch.equal(new["0.weight"], old["0.weight"])
    factors = new["1.weight"] / old["1.weight"]
    torch.testing.assert_close(new["1.bias"], factors * old["1.bias"])
    assert not torch.equal(factors, torch.ones_like(factors))


def test_weights_before_a_norm_are_halved_and_running_statistics_follow():
    objective, found = changes(convolutions(), IMAGES)
    old, new = parts(objective), parts(found[NORMS].objective)
    assert torch.equal(new["0.weight"], old["0.weight"] / 2)
    assert torch.equal(new["0.bias"], old["0.bias"] / 2)
    for name in old.keys() - {"0.weight", "0.bias"}:
        assert torch.equal(new[name], old[name])
    norm, values = objective.model[1], found[NORMS].objective.parameters(objective.theta)
    assert torch.equal(values["1.running_mean"], norm.running_mean / 2)
    torch.testing.assert_close(
        values["1.running_var"] + norm.eps, (norm.running_var + norm.eps) / 4
    )


def test_batch_statistics_follow_by_themselves_up_to_eps():
    objective, found = changes(convolutions(), IMAGES, bn="batch")
    change = found[NORMS].objective
    moved = (change() - objective()) / objective()
    assert 1e-9 < abs(moved) < 1e-3
    assert "at most 1.0e-02" in found[NORMS].note
    model = convolutions()
    model[1].eps = 10.0
    _, found = changes(model, IMAGES, bn="batch")
    assert found[NORMS].objective is None


def test_running_statistics_that_came_with_theta_are_those_that_follow():
    objective = Objective(convolutions(), nn.CrossEntropyLoss(), IMAGES)
    own = {n: b.clone() for n, b in objective.model.named_buffers()}
    own["1.running_mean"] += 1
    moved = objective.at(objective.theta, own)
    for change in rescalings(moved, seed=0):
        assert change.objective() == pytest.approx(moved(), rel=1e-12)
    assert moved() != objective()


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(x + torch.relu(self.first(x)))


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.left(x) + self.right(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.first(x)) * 2
        return self.last(torch.tanh(self.again(torch.tanh(self.again(x)))))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)

    def forward(self, x):
        return self.first(x) if x.sum() > 1e9 else -self.first(x)


class Frozen(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
        self[2].weight.requires_grad_(False)


class Looked(nn.Module):
    """Shares its first weight with a product that no layer makes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x))) + (x @ self.first.weight)[:, :3]


@pytest.mark.parametrize("kind", [Skip, TwoReaders, Twice, Branching, Frozen, Looked])
def test_a_change_that_would_move_the_function_is_not_made(kind):
    torch.manual_seed(0)
    _, found = changes(kind().double(), classes(33, (4,), 3))
    for change in found.values():
        assert change.objective is None
        assert change.note
    if kind is Branching:
        assert "can't be traced" in found[NEURONS].note


@pytest.mark.parametrize("source", [mlp, tied, attention, conv_batchnorm])
def test_nets_without_rectifiers_have_no_neurons_to_rescale(source):
    objective = Objective(*source())
    found = {change.name: change for change in rescalings(objective, seed=0)}
    assert found[NEURONS].objective is None
    assert (found[NORMS].objective is None) == (source is not conv_batchnorm)


def test_a_rectifier_with_a_bend_elsewhere_is_no_rectifier():
    model = net(nn.Linear(4, 5), nn.ReLU6(), nn.Linear(5, 3))
    _, found = changes(model, classes(33, (4,), 3))
    assert found[NEURONS].objective is None


def test_a_shape_that_is_looked_at_does_not_stand_in_the_way():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(64, 3)

        def forward(self, x):
            x = nn.functional.relu(self.first(x))
            return self.last(x.view(x.size(0), -1))

    torch.manual_seed(0)
    _, found = changes(Net().double(), IMAGES)
    assert "1 layers" in found[NEURONS].note
    assert found[NEURONS].objective is not None


def test_factors_come_from_the_seed_and_the_objective_is_left_alone():
    objective = Objective(perceptron(), nn.CrossEntropyLoss(), classes(33, (4,), 3))
    before = objective.theta.clone()
    thetas = [next(rescalings(objective, seed=s)).objective.theta for s in (0, 0, 1)]
    assert torch.equal(thetas[0], thetas[1])
    assert not torch.equal(thetas[0], thetas[2])
    assert torch.equal(objective.theta, before)
