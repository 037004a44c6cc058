"""The Hessian as an operator: with weight decay, of losses that have one."""

import numpy as np
import pytest
import torch
from dense import (
    Quadratic,
    attention,
    conv_batchnorm,
    dense_hessian,
    mean,
    mlp,
    quadratic,
    symmetric,
    tied,
)
from torch import nn
from torch.nn import functional

from landscape import Objective
from landscape.adversarial import aace_loss
from landscape.operators import (
    Operator,
    add_weight_decay,
    as_operator,
    hessian,
    surface_loss,
)
from landscape.perturbations import aace, sam

NETS = [mlp, conv_batchnorm, tied, attention]


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


@pytest.mark.parametrize("net", NETS)
def test_the_operator_of_an_objective_is_its_dense_hessian(net):
    model, loss_fn, data = net()
    operator = as_operator(Objective(model, loss_fn, data))
    assert operator.facts["operator"] == "Hessian of the mean loss"
    assert close(dense(operator), dense_hessian(model, loss_fn, data))
    assert as_operator(operator) is operator


def test_the_way_of_products_and_the_memory_for_them_are_those_asked_for():
    objective = Objective(*mlp())
    for method in ("recomputed", "finite difference"):
        facts = hessian(objective, method=method).facts
        assert facts["product"] == method
        assert facts["product_reason"].startswith("asked for")
    assert hessian(objective).facts["product"] == "retained"
    assert hessian(objective, memory=1.0).facts["product"] == "recomputed"


def test_batch_statistics_make_the_hessian_that_of_each_batch_by_size():
    model, loss_fn, (inputs, targets) = conv_batchnorm()
    batches = list(zip(inputs.split(20), targets.split(20), strict=True))
    objective = Objective(model, loss_fn, batches, bn="batch")
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.training, norm.track_running_stats = True, False
    parts = [len(x) / 33 * dense_hessian(model, loss_fn, (x, y)) for x, y in batches]
    assert close(dense(hessian(objective)), sum(parts))
    where = places(model, {"0.weight", "1.bias"})
    block = hessian(objective, parameters="0.weight,1.bias")
    assert close(dense(block), sum(parts)[np.ix_(where, where)])


def test_weight_decay_adds_a_multiple_of_the_identity():
    matrix = symmetric(6)
    operator = add_weight_decay(hessian(quadratic(matrix)), 0.25)
    assert close(dense(operator), matrix + 0.25 * np.eye(6), 1e-12)
    assert operator.facts["weight_decay"] == 0.25
    for wrong in (-0.1, np.nan):
        with pytest.raises(ValueError, match="weight_decay must be a number from 0 on"):
            add_weight_decay(operator, wrong)


class Logits(nn.Module):
    """Logits that are the parameters, one row per sample."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, rows):
        return self.logits[rows]


def detached_aace(logits, targets):
    """The divergence from the adversarial target, held fixed, as it is trained."""
    p = logits.softmax(1)
    y = p.scatter(1, targets[:, None], 0)
    y = (y / y.sum(1, keepdim=True)).detach()
    return functional.kl_div(logits.log_softmax(1), y, reduction="none").sum(1).mean()


def test_the_hessian_of_aace_is_that_of_its_surface_and_not_of_the_form_held_fixed():
    generator = torch.Generator().manual_seed(11)
    logits = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    targets = torch.tensor([1, 3, 0])
    objective = Objective(Logits(logits), surface_loss(aace()), (torch.arange(3), targets))
    surface, fixed = np.zeros((2, 12, 12))
    for i, t in enumerate(targets.tolist()):
        p = logits[i].softmax(0).numpy()
        q = np.where(np.arange(4) == t, 0, p) / (1 - p[t])
        u = np.eye(4)[t] - q
        own = slice(4 * i, 4 * i + 4)
        spread = np.diag(q) - np.outer(q, q)
        surface[own, own] = (p[t] * (1 - p[t]) * np.outer(u, u) - p[t] * spread) / 3
        fixed[own, own] = (np.diag(p) - np.outer(p, p)) / 3
    found = dense(hessian(objective))
    assert close(found, surface)
    assert not close(found, fixed, 0.1)
    assert np.linalg.eigvalsh(found).min() < -0.001
    held = Objective(Logits(logits), detached_aace, (torch.arange(3), targets))
    plain = Operator(product=held.hessian_vector, origin=held.theta, layout=held.layout)
    assert close(dense(plain), fixed)


@pytest.mark.parametrize(
    ("loss_fn", "what"),
    [
        (detached_aace, "second derivative"),
        (aace(threshold=0.3).loss, "gradient"),
        (lambda f, y: ((f - f.detach()) ** 2).mean() + f.mean(), "second derivative"),
        (lambda f, y: (f * f.detach()).mean(), "gradient"),
    ],
)
def test_losses_that_hold_a_part_fixed_have_no_hessian_here(loss_fn, what):
    model, _, data = mlp()
    with pytest.raises(ValueError, match=f"whose {what} in the model's output is not"):
        hessian(Objective(model, loss_fn, data))


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        aace_loss,
        lambda f, y: f.abs().mean(),
        lambda f, y: (1 - f).clamp(min=0).mean(),
        lambda f, y: functional.huber_loss(f, torch.zeros_like(f), delta=0.1),
        mean,
    ],
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_losses_with_kinks_or_without_curvature_or_saturated_are_taken(loss_fn, scale):
    model, _, data = mlp()
    with torch.no_grad():
        model[2].weight *= scale
        model[2].bias *= scale
    hessian(Objective(model, loss_fn, data))


def test_the_loss_of_a_perturbation_is_a_surface_unless_it_has_a_threshold():
    assert surface_loss(aace()) is aace_loss
    assert surface_loss(sam()) is functional.cross_entropy
    with pytest.raises(ValueError, match=r"without a threshold, got threshold=0\.2"):
        surface_loss(aace(threshold=0.2))


def test_a_quadratic_without_batches_of_its_own_keeps_the_objectives_facts():
    matrix = symmetric(4)
    objective = Objective(Quadratic(matrix), mean, (torch.zeros(3, 1), torch.zeros(3)))
    operator = hessian(objective)
    assert operator.facts.items() >= objective.facts.items()
    assert operator.size == 4
