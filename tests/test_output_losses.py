"""What a loss is as a function of the output: a surface, convex, a mean over samples."""

import pytest
import torch
from dense import classes, mlp
from torch import nn
from torch.nn import functional

from landscape import Objective
from landscape.adversarial import aace_loss
from landscape.gauss_newton import gauss_newton, gradient_moment
from landscape.operators import hessian
from landscape.output_losses import check_true_surface


@pytest.mark.parametrize("loss_fn", [functional.cross_entropy, aace_loss])
@pytest.mark.parametrize("gap", [0, 10, 20, 30, 34, 38, 60, 400])
def test_rounding_is_not_taken_for_a_part_held_fixed(loss_fn, gap):
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        output = torch.randn(3, 3, generator=generator, dtype=torch.float64)
        targets = torch.randint(3, (3,), generator=generator)
        output += gap * functional.one_hot(targets, 3)
        check_true_surface(loss_fn, output, targets)


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.CrossEntropyLoss(),
        lambda f, y: functional.cross_entropy(f, y, weight=torch.ones(3)),  # takes float32 only
        lambda f, y: (1 - f).clamp(min=0).mean(),
    ],
)
def test_losses_in_float32_are_taken(loss_fn):
    model, _, (inputs, targets) = mlp()
    hessian(Objective(model.float(), loss_fn, (inputs.float(), targets)))


def test_a_part_held_fixed_is_seen_in_float32_too():
    class Held(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.ones(3))

        def forward(self, output, targets):
            losses = functional.cross_entropy(output, targets, self.weight, reduction="none")
            return (losses * losses.detach()).mean()

    model, _, (inputs, targets) = mlp()
    with pytest.raises(ValueError, match="got Held, whose gradient"):
        hessian(Objective(model.float(), Held(), (inputs.float(), targets)))


def test_outputs_of_several_tensors_are_not_looked_at():
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    data = classes(33, (4,), 3)
    objective = Objective(Two(4, 3).double(), lambda f, y: functional.cross_entropy(f[0], y), data)
    v = torch.ones(15).double()
    assert torch.allclose(hessian(objective)(v), objective.hessian_vector(v), rtol=1e-9)


def test_outputs_without_a_row_per_sample_have_no_losses_of_samples():
    class Columns(nn.Linear):
        def forward(self, x):
            return super().forward(x).T

    data = classes(33, (4,), 3)
    loss_fn = lambda f, y: functional.cross_entropy(f.T, y)  # noqa: E731
    objective = Objective(Columns(4, 3).double(), loss_fn, data)
    with pytest.raises(ValueError, match=r"one row per sample, got output \(3, 32\)"):
        gradient_moment(objective)


def test_binary_cross_entropy_over_several_labels_is_no_fisher_of_classes():
    inputs, targets = classes(33, (4,), 2)
    labels = torch.stack([targets, 1 - targets], 1).double()
    objective = Objective(nn.Linear(4, 2).double(), nn.BCEWithLogitsLoss(), (inputs, labels))
    assert gauss_newton(objective).facts["operator"] == "generalized Gauss-Newton"
