"""Adam's second moment, read from its state and put about an operator."""

import numpy as np
import pytest
import torch
from dense import mlp, quadratic, symmetric, tied

from landscape import Objective
from landscape.operators import hessian
from landscape.preconditioning import adam_moment, preconditioned


def dense(operator):
    return torch.stack([operator(row) for row in torch.eye(operator.size).double()]).numpy()


def close(found, expected, tolerance=1e-8):
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_preconditioned_eigenvalues_are_those_of_the_inverse_preconditioner_times_the_matrix():
    matrix = symmetric(6)
    moment = torch.tensor([0.0, 1, 4, 9, 16, 1e-4]).double()
    operator = preconditioned(hessian(quadratic(matrix)), moment, eps=0.1)
    found = dense(operator)
    scale = np.sqrt(moment.numpy()) + 0.1
    assert close(found, found.T, 1e-12)
    expected = np.sort(np.linalg.eigvals(matrix / scale[:, None]).real)
    assert np.allclose(np.linalg.eigvalsh(found), expected, rtol=1e-10)
    assert "P^(-1/2)" in operator.facts["operator"]
    assert operator.facts["preconditioner_eps"] == 0.1


@pytest.mark.parametrize(
    ("moment", "eps", "message"),
    [
        (torch.ones(5), 0.1, "length of the operator, 6"),
        (torch.zeros(6), 0.0, "positive and finite, got 6 of 6"),
        (torch.full((6,), -1.0), 0.1, "positive and finite"),
        (torch.ones(6), -0.1, "eps must be a number from 0 on"),
    ],
)
def test_preconditioners_that_cannot_be_are_refused(moment, eps, message):
    with pytest.raises(ValueError, match=message):
        preconditioned(hessian(quadratic(symmetric(6))), moment, eps=eps)


def train(model, optimizer, data, loss_fn, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn(model(data[0]), data[1]).backward()
        optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adams_second_moment_is_what_its_step_divides_by(kind, amsgrad):
    model, loss_fn, data = mlp()
    model[0].bias.requires_grad_(False)  # frozen, so without state
    optimizer = kind(
        model.parameters(), lr=0.1, eps=1e-3, betas=(0.0, 0.9), amsgrad=amsgrad, weight_decay=0
    )
    train(model, optimizer, data, loss_fn)
    before = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    state = train(model, optimizer, data, loss_fn, steps=1)
    after = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    moment, eps = adam_moment(state, Objective(model, loss_fn, data).layout)
    assert eps == 1e-3
    assert torch.allclose(before - after, 0.1 * gradient / (moment.sqrt() + eps), rtol=1e-9)


def test_adams_groups_are_told_apart_by_names():
    model, loss_fn, data = mlp()
    named = dict(model.named_parameters())
    order = ["2.bias", "0.weight", "2.weight", "0.bias"]
    groups = [{"params": [named[n]]} for n in order]
    state = train(model, torch.optim.Adam(groups, lr=0.1), data, loss_fn)
    layout = Objective(model, loss_fn, data).layout
    found, _ = adam_moment(state, layout, names=order)
    for entry in layout:
        own = state["state"][order.index(entry.name)]
        expected = own["exp_avg_sq"].flatten() / (1 - 0.999**3)
        assert torch.allclose(found[entry.slice], expected, rtol=1e-12)
    with pytest.raises(ValueError, match="several groups without names"):
        adam_moment(state, layout)
    told = {"params": list(named.items())}
    model_again = mlp()[0]
    told = [{"params": [(n, p)]} for n, p in reversed(list(model_again.named_parameters()))]
    state = train(model_again, torch.optim.Adam(told, lr=0.1), data, loss_fn)
    assert torch.allclose(adam_moment(state, layout)[0], found, rtol=1e-12)


def test_groups_with_epsilons_of_their_own_are_refused():
    model, loss_fn, data = mlp()
    groups = [{"params": [p], "eps": 10.0**-i} for i, p in enumerate(model.parameters(), 1)]
    state = train(model, torch.optim.Adam(groups), data, loss_fn)
    layout = Objective(model, loss_fn, data).layout
    with pytest.raises(ValueError, match="groups must share one eps"):
        adam_moment(state, layout, names=[entry.name for entry in layout])


def test_states_that_are_not_adams_or_of_another_model_are_refused():
    model, loss_fn, data = mlp()
    layout = Objective(model, loss_fn, data).layout
    sgd = train(model, torch.optim.SGD(model.parameters(), lr=0.1), data, loss_fn)
    with pytest.raises(ValueError, match=r"state_dict\(\) of torch\.optim\.Adam"):
        adam_moment(sgd, layout)
    adam = torch.optim.Adam(model.parameters())
    with pytest.raises(ValueError, match="must hold the 4 named parameters, got 0"):
        adam_moment(adam.state_dict(), layout)
    state = train(model, adam, data, loss_fn)
    with pytest.raises(ValueError, match=r"exp_avg_sq of 'encoder.weight'.*\(3, 5\), got \(5, 4\)"):
        adam_moment(state, Objective(*tied()).layout, names=["encoder.weight", "a", "b", "c"])
    with pytest.raises(ValueError, match=r"got none for 'encoder\.weight'"):
        adam_moment(state, Objective(*tied()).layout, names=list("abcd"))
