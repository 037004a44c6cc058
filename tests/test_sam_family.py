"""Steps of the SAM family on L(w) = (a₁ w₁² + a₂ w₂²) / 2, from the formulas, by hand.

With a = (3, 4) and w = (1, 1) the gradient is (3, 4) and its norm 5.
"""

from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import nn

from landscape.displacements import displacement, next_displacement, update_gradient
from landscape.optimizers import SAM
from landscape.perturbations import (
    asam,
    friendly_sam,
    gsam,
    le_sam,
    sam,
    usam,
    vasso,
)


class Quadratic:
    """The optimizer on the quadratic; weights and displacement as lists."""

    def __init__(self, perturbation, a=(3.0, 4.0), lr=0.1):
        self.a = torch.tensor(a, dtype=torch.float64)
        self.params = [nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2)]
        named = zip(("layer.weight", "layer.bias"), self.params, strict=True)
        self.optimizer = SAM(list(named), torch.optim.SGD, perturbation=perturbation, lr=lr)

    def backward(self, a=None):
        a = self.a if a is None else torch.tensor(a, dtype=torch.float64)
        (a * torch.cat(self.params) ** 2 / 2).sum().backward()

    def step(self):
        for _ in range(self.optimizer.perturbation.ascent_steps):
            self.backward()
            self.optimizer.first_step(zero_grad=True)
        self.backward()
        self.optimizer.second_step(zero_grad=True)
        return self

    @property
    def weights(self):
        return [p.item() for p in self.params]

    @property
    def moved(self):
        return [move.item() for move in self.optimizer.displacement]


def close(*values):
    return pytest.approx(list(values), rel=1e-11)


def test_sam_goes_rho_along_the_unit_gradient():
    made = Quadratic(sam(0.5)).step()
    assert made.moved == close(0.5 * 3 / 5, 0.5 * 4 / 5)
    # g′ = (3 · 1.3, 4 · 1.4)
    assert made.weights == close(1 - 0.1 * 3.9, 1 - 0.1 * 5.6)
    made.step()
    norm = sqrt(1.83**2 + 1.76**2)  # g = (3 · 0.61, 4 · 0.44)
    assert made.moved == close(0.5 * 1.83 / norm, 0.5 * 1.76 / norm)


def test_usam_goes_rho_times_the_gradient():
    made = Quadratic(usam(0.1)).step()
    assert made.moved == close(0.3, 0.4)
    assert made.weights == close(0.61, 0.44)
    made.step()
    assert made.moved == close(0.183, 0.176)
    assert made.weights == close(0.61 - 0.1 * 3 * 0.793, 0.44 - 0.1 * 4 * 0.616)


def test_asam_scales_the_tensors_named_weight_and_no_others():
    # T = (|1| + 1, 1), g = (1.5, 4), T g = (3, 4), T² g = (6, 4)
    made = Quadratic(asam(0.5, eta=1.0), a=(1.5, 4.0)).step()
    assert made.moved == close(0.5 * 6 / 5, 0.5 * 4 / 5)
    assert made.weights == close(1 - 0.1 * 1.5 * 1.6, 1 - 0.1 * 4 * 1.4)
    # w = (0.76, 0.44), T = (1.76, 1), g = (1.14, 1.76), T g = (2.0064, 1.76)
    made.step()
    norm = sqrt(2.0064**2 + 1.76**2)
    assert made.moved == close(0.5 * 1.76 * 2.0064 / norm, 0.5 * 1.76 / norm)


def test_asam_takes_the_size_of_negative_weights():
    weight = torch.tensor([-2.0, 1.0], dtype=torch.float64)
    gradient = torch.tensor([1.0, 4.0], dtype=torch.float64)
    mask = torch.tensor([True, False])
    # T = (3, 1), T g = (3, 4), T² g = (9, 4)
    moved = displacement(asam(1.0, eta=1.0), gradient, weight, adaptive=mask)
    assert moved.tolist() == close(9 / 5, 4 / 5)


def test_vasso_follows_a_running_mean_that_begins_with_the_gradient():
    made = Quadratic(vasso(0.5, theta=0.9)).step()
    assert made.moved == close(0.3, 0.4)
    made.step()
    # w = (0.61, 0.44), g = (1.83, 1.76), d = 0.1 (3, 4) + 0.9 g = (1.947, 1.984)
    norm = sqrt(1.947**2 + 1.984**2)
    moved = 0.5 * 1.947 / norm, 0.5 * 1.984 / norm
    assert made.moved == close(*moved)
    weights = 0.61 - 0.1 * 3 * (0.61 + moved[0]), 0.44 - 0.1 * 4 * (0.44 + moved[1])
    assert made.weights == close(*weights)
    made.step()
    d = 0.1947 + 0.9 * 3 * weights[0], 0.1984 + 0.9 * 4 * weights[1]
    norm = sqrt(d[0] ** 2 + d[1] ** 2)
    assert made.moved == close(0.5 * d[0] / norm, 0.5 * d[1] / norm)


def test_friendly_sam_takes_off_the_old_mean_and_then_takes_in_the_raw_gradient():
    made = Quadratic(friendly_sam(0.5, sigma=1.0, decay=0.9)).step()
    assert made.moved == close(0.3, 0.4)
    made.step()
    # d = g − M = (1.83 − 3, 1.76 − 4), not g minus a mean that has g in it
    norm = sqrt(1.17**2 + 2.24**2)
    moved = -0.5 * 1.17 / norm, -0.5 * 2.24 / norm
    assert made.moved == close(*moved)
    weights = 0.61 - 0.1 * 3 * (0.61 + moved[0]), 0.44 - 0.1 * 4 * (0.44 + moved[1])
    assert made.weights == close(*weights)
    made.step()
    # M = 0.9 (3, 4) + 0.1 (1.83, 1.76) = (2.883, 3.776): of g, not of d
    d = 3 * weights[0] - 2.883, 4 * weights[1] - 3.776
    norm = sqrt(d[0] ** 2 + d[1] ** 2)
    assert made.moved == close(0.5 * d[0] / norm, 0.5 * d[1] / norm)


def test_friendly_sam_takes_off_sigma_times_the_mean():
    made = Quadratic(friendly_sam(0.5, sigma=0.5, decay=0.9)).step().step()
    norm = sqrt(0.33**2 + 0.24**2)  # g − 0.5 M = (1.83 − 1.5, 1.76 − 2)
    assert made.moved == close(0.5 * 0.33 / norm, -0.5 * 0.24 / norm)


def test_gsam_takes_off_what_stands_at_right_angles_and_shrinks_with_the_learning_rate():
    made = Quadratic(gsam(0.5, rho_min=0.1, alpha=0.4)).step()
    assert made.moved == close(0.3, 0.4)
    # g′ = (3.9, 5.6), <g, g′> = 34.1, ‖g′‖² = 46.57, g⊥ = g − g′ 34.1 / 46.57
    across = 3 - 3.9 * 34.1 / 46.57, 4 - 5.6 * 34.1 / 46.57
    weights = 1 - 0.1 * (3.9 - 0.4 * across[0]), 1 - 0.1 * (5.6 - 0.4 * across[1])
    assert made.weights == close(*weights)
    made.optimizer.param_groups[0]["lr"] = 0.025
    made.step()
    g = 3 * weights[0], 4 * weights[1]
    norm = sqrt(g[0] ** 2 + g[1] ** 2)
    rho = 0.1 + (0.5 - 0.1) * 0.025 / 0.1
    assert made.moved == close(rho * g[0] / norm, rho * g[1] / norm)


def test_what_gsam_takes_off_is_at_right_angles_to_the_new_gradient():
    before, after = torch.tensor([3.0, 4.0]).double(), torch.tensor([3.9, 5.6]).double()
    (made,) = update_gradient(gsam(alpha=1.0), [before], [after])
    assert ((after - made) @ after).item() == pytest.approx(0, abs=1e-12)
    (same,) = update_gradient(sam(), [before], [after])
    assert same is after


def test_le_sam_goes_as_far_as_the_budget_of_the_loss_and_no_farther_than_rho():
    made = Quadratic(le_sam(budget=0.5, rho=1.0)).step()
    assert made.moved == close(0.1 * 3 / 5, 0.1 * 4 / 5)  # 0.5 / 5 = 0.1
    assert Quadratic(le_sam(budget=0.5, rho=0.05)).step().moved == close(0.03, 0.04)


def test_a_cosine_goes_from_the_whole_radius_to_none():
    schedule = {"schedule": "cosine", "schedule_steps": 2}
    for perturbation, first in ((sam(0.5), 0.5), (le_sam(0.5, 1.0), 0.1)):
        made = Quadratic(replace(perturbation, **schedule), lr=1e-9)  # w stays at (1, 1)
        lengths = []
        for _ in range(4):
            made.step()
            lengths.append(sqrt(sum(move**2 for move in made.moved)))
        expected = [first, first / 2, 0, 0]
        assert lengths == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_two_ascent_steps_go_half_the_radius_each_and_the_second_along_the_new_gradient():
    made = Quadratic(replace(sam(0.5), ascent_steps=2)).step()
    # first (0.15, 0.2), at (1.15, 1.2) the gradient is (3.45, 4.8)
    norm = sqrt(3.45**2 + 4.8**2)
    moved = 0.15 + 0.25 * 3.45 / norm, 0.2 + 0.25 * 4.8 / norm
    assert made.moved == close(*moved)
    assert made.weights == close(1 - 0.3 * (1 + moved[0]), 1 - 0.4 * (1 + moved[1]))


def test_all_ascent_steps_of_asam_have_the_metric_of_the_weights():
    made = Quadratic(replace(asam(0.5, eta=1.0), ascent_steps=2), a=(1.5, 4.0)).step()
    # T = (2, 1); first (0.3, 0.2), at (1.3, 1.2) the gradient is (1.95, 4.8), T g = (3.9, 4.8)
    norm = sqrt(3.9**2 + 4.8**2)
    assert made.moved == close(0.3 + 0.25 * 2 * 3.9 / norm, 0.2 + 0.25 * 4.8 / norm)


def test_chunks_have_a_displacement_each_and_the_update_the_mean_of_their_gradients():
    made = Quadratic(sam(0.5))
    moves = []
    for a in ((3.0, 4.0), (4.0, 3.0)):
        made.backward(a)
        made.optimizer.first_step(zero_grad=True)
        moves.append(made.moved)
        made.backward(a)
        made.optimizer.end_chunk()
        assert made.weights == [1, 1]
    made.optimizer.second_step(zero_grad=True)
    # g′ = (3.9, 5.6) and (4 · 1.4, 3 · 1.3)
    assert moves == [close(0.3, 0.4), close(0.4, 0.3)]
    assert made.weights == close(1 - 0.1 * 4.75, 1 - 0.1 * 4.75)
    assert made.moved == close(0.35, 0.35)


def test_the_memory_is_passed_in_and_out_and_nothing_is_changed():
    gradient = [torch.tensor([3.0, 4.0]).double()]
    memory = [torch.tensor([1.0, 2.0]).double()]
    weights = [torch.ones(2).double()]
    for perturbation, expected in (
        (vasso(theta=0.9), [0.1 + 2.7, 0.2 + 3.6]),
        (friendly_sam(decay=0.9), [0.9 + 0.3, 1.8 + 0.4]),
    ):
        moved, after = next_displacement(perturbation, gradient, weights, memory)
        assert after[0].tolist() == close(*expected)
        again, _ = next_displacement(perturbation, gradient, weights, memory)
        assert torch.equal(moved[0], again[0])
    assert (gradient[0].tolist(), memory[0].tolist()) == ([3, 4], [1, 2])
    assert next_displacement(sam(), gradient, weights)[1] is None
    with pytest.raises(ValueError, match="memory must have the shapes"):
        next_displacement(vasso(), gradient, weights, [torch.ones(3)])


@pytest.mark.parametrize("make", [vasso, friendly_sam])
def test_one_gradient_does_not_tell_a_displacement_with_memory(make):
    with pytest.raises(ValueError, match="earlier updates"):
        displacement(make(), torch.ones(2), torch.ones(2))


def test_half_precision_gradients_keep_their_dtype_and_the_mean_is_in_float32():
    gradient = [torch.tensor([3.0, 4.0], dtype=torch.float16)]
    moved, memory = next_displacement(vasso(), gradient, [torch.ones(2)])
    assert (moved[0].dtype, memory[0].dtype) == (torch.float16, torch.float32)


def test_asam_has_to_know_which_tensors_are_weights():
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    with pytest.raises(ValueError, match=r"model\.named_parameters"):
        SAM(parameters, torch.optim.SGD, perturbation=asam(), lr=0.1)
    with pytest.raises(ValueError, match="adaptive_names"):
        displacement(asam(), torch.ones(2), torch.ones(2))


@pytest.mark.parametrize(
    ("perturbation", "name", "label"),
    [
        (asam(), "asam", "ASAM ρ=0.5 η=0.01"),
        (vasso(), "vasso", "VaSSO ρ=0.2 θ=0.9"),
        (friendly_sam(), "f-sam", "F-SAM ρ=0.2 σ=1 λ=0.9"),
        (gsam(rho_min=0.01), "gsam", "GSAM ρ=0.05 α=0.4 ρmin=0.01 lr"),
        (le_sam(0.1, 0.5), "le-sam", "LE-SAM ρ=0.5 budget=0.1"),
        (replace(sam(), ascent_steps=3), "sam", "SAM ρ=0.05 3 steps"),
        (replace(vasso(), metric="weights", eta=0.1), "vasso+asam", "VaSSO+ASAM ρ=0.2 θ=0.9 η=0.1"),
        (replace(asam(), normalize=False), "asam", "ASAM unnormalized ρ=0.5 η=0.01"),
    ],
)
def test_names_and_labels_say_what_is_composed(perturbation, name, label):
    assert (perturbation.name, perturbation.label) == (name, label)


@pytest.mark.parametrize(
    ("made", "change", "words"),
    [
        (sam(), {"new_weight": 0.5}, "new_weight is of another"),
        (sam(), {"sigma": 1.0}, "sigma is of another"),
        (sam(), {"eta": 0.01}, "eta is of another"),
        (sam(), {"mode": "rand"}, "only AACE has a mode"),
        (vasso(), {"new_weight": 0.0}, r"in \(0, 1\]"),
        (friendly_sam(), {"sigma": -1.0}, "0 or more"),
        (asam(), {"eta": -1.0}, "0 or more"),
        (gsam(), {"alpha": 1.5}, r"in \[0, 1\]"),
        (gsam(), {"loss_name": "aace"}, "alpha needs"),
        (gsam(), {"rho_min": 0.1}, "rho_min must be"),
        (sam(), {"rho_min": 0.01}, "needs a schedule"),
        (sam(), {"schedule": "cosine"}, "schedule_steps"),
        (sam(), {"schedule": "step"}, "constant, lr, cosine"),
        (sam(), {"schedule_steps": 5}, "schedule_steps"),
        (sam(), {"direction": "random"}, "gradient, mean, residual"),
        (sam(), {"metric": "fisher"}, "identity, weights"),
        (le_sam(0.1, 0.5), {"budget": -0.1}, "0 or more"),
        (le_sam(0.1, 0.5), {"normalize": False}, "budget needs"),
        (le_sam(0.1, 0.5), {"direction": "mean"}, "with memory"),
        (sam(), {"ascent_steps": 0}, "from 1 on"),
        (vasso(), {"ascent_steps": 2}, "2 ascent steps need"),
        (gsam(), {"ascent_steps": 2}, "2 ascent steps need"),
    ],
)
def test_what_does_not_belong_together_is_refused(made, change, words):
    with pytest.raises(ValueError, match=words):
        replace(made, **change)


def test_a_scheduled_radius_is_settled_for_one_step():
    falling = replace(sam(0.5), schedule="cosine", schedule_steps=4)
    assert falling.at(falling.factor(2)).rho == pytest.approx(0.25)
    assert falling.at(falling.factor(4)) is None
    assert gsam(0.5, rho_min=0.1).at(0.0) == replace(gsam(0.5), rho=0.1, schedule="constant")
    assert le_sam(0.2, 1.0).at(0.5) == le_sam(0.1, 1.0)
    assert sam(0.5).at(0.3) == sam(0.5)
