import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, mlp, quadratic
from torch import nn
from torch.func import functional_call

from landscape import Objective
from landscape.edges import edge_of_stability
from landscape.operators import hessian
from landscape.perturbations import aace, sam, usam
from landscape.result_files import load_result
from landscape.stability import has_batch_norm, measure_stability
from landscape.updates import Update

RATE = 0.1
EIGENVALUES = [7.0, 5.0, 3.0, 1.0, 0.5]


def multiplier(objective, update, **options):
    found = measure_stability(objective, update, tolerance=1e-9, seed=0, **options)
    assert found.converged
    assert found.multiplier == abs(found.multipliers_real[0] + 1j * found.multipliers_imag[0])
    return found.multiplier


def bowl(top, place=(0, 0.3, 0, 0, 0)):
    """A quadratic with this largest eigenvalue and a gradient along another eigenvector."""
    objective = quadratic(np.diag([top, *EIGENVALUES[1:]]))
    return objective.at(torch.tensor(place, dtype=torch.float64))


@pytest.mark.parametrize("top", [6.0, 19.0, 20.0, 23.0])
def test_gradient_descent_on_a_quadratic_multiplies_by_one_less_rate_times_eigenvalue(top):
    expected = max(abs(1 - RATE * value) for value in [top, *EIGENVALUES[1:]])
    assert multiplier(bowl(top), Update(learning_rate=RATE)) == pytest.approx(expected, abs=1e-6)
    found = measure_stability(bowl(top), Update(learning_rate=RATE), tolerance=1e-9, seed=0)
    assert found.facts["swing"]["real"] == pytest.approx(1 - RATE * top, abs=1e-6)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"momentum": 0.6, "nesterov": True}])
@pytest.mark.parametrize("decay", [0.0, 0.4])
@pytest.mark.parametrize("perturbation", [None, usam(0.05), sam(0.05)])
def test_the_multiplier_is_one_exactly_at_the_edge(settings, decay, perturbation):
    update = Update(learning_rate=RATE, weight_decay=decay, perturbation=perturbation, **settings)
    norm = 5.0 * 0.3  # the gradient lies along the second eigenvector
    edge = edge_of_stability(update, gradient_norm=norm, full_batch=True).value
    assert multiplier(bowl(edge), update) == pytest.approx(1, abs=1e-6)
    assert multiplier(bowl(edge * 1.01), update) > 1 + 1e-4


def test_edges_of_the_literature_are_where_the_multiplier_passes_one():
    for beta, edge in ((0.0, 12.3606798), (0.9, 19.3257566)):
        update = Update(learning_rate=0.1, momentum=beta, perturbation=usam(0.05))
        assert multiplier(bowl(edge), update) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_momentum_fades_by_its_root_where_it_oscillates(beta):
    update = Update(learning_rate=0.3, momentum=beta)
    objective = quadratic(np.diag([3.0, 2.0, 1.5]))
    found = measure_stability(objective, update, k=2, tolerance=1e-9, seed=0)
    assert found.multiplier == pytest.approx(math.sqrt(beta), abs=1e-6)
    assert abs(found.multipliers_imag[0]) > 0.1
    pair = found.multipliers_real[:2] + 1j * found.multipliers_imag[:2]
    assert pair[0] == pair[1].conjugate()


def test_sam_does_not_bend_the_step_along_its_own_gradient():
    update = Update(learning_rate=RATE, perturbation=sam(0.05))
    along = bowl(9.0, place=(0.2, 0, 0, 0, 0))
    found = measure_stability(along, update, tolerance=1e-9, seed=0)
    values = [1 - RATE * 9.0] + [
        1 - RATE * value * (1 + 0.05 * value / 1.8) for value in EIGENVALUES[1:]
    ]
    farthest = min(values)
    assert found.facts["swing"]["real"] == pytest.approx(farthest, abs=1e-6)
    assert found.multiplier == pytest.approx(max(map(abs, values)), abs=1e-6)


def test_a_displacement_that_does_not_change_leaves_the_edge_where_it_is():
    along = bowl(2 / RATE, place=(0.2, 0, 0, 0, 0))
    update = Update(learning_rate=RATE, perturbation=sam(0.05))
    assert multiplier(along, update) == pytest.approx(1, abs=1e-6)


def logistic():
    """Binary logistic regression with logits (0, s)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    targets = (inputs @ torch.tensor([1.0, -1.0, 0.3]).double() > 0).long()

    class Logistic(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64))

        def forward(self, inputs):
            score = inputs @ self.w
            return torch.stack([torch.zeros_like(score), score], dim=1)

    return Objective(Logistic(), nn.CrossEntropyLoss(), (inputs, targets)), inputs, targets


def test_aace_on_a_binary_glm_has_its_edge_above_that_of_descent():
    objective, inputs, targets = logistic()
    x, sign = inputs.numpy(), 2 * targets.numpy() - 1
    w, rho = objective.theta.numpy(), 0.8

    def curvature(w):
        p = 1 / (1 + np.exp(-x @ w))
        return x.T @ np.diag(p * (1 - p)) @ x / len(x)

    p_true = 1 / (1 + np.exp(-sign * (x @ w)))
    displaced = w - rho * (p_true * sign) @ x / len(x)
    bent = curvature(displaced) @ (np.eye(3) - rho * curvature(w))
    rate = 2 / np.linalg.eigvalsh(curvature(displaced)).max()
    values = np.linalg.eigvals(np.eye(3) - rate * bent)
    found = measure_stability(
        objective, Update(learning_rate=rate, perturbation=aace(rho)), tolerance=1e-9, seed=0
    )
    assert found.multiplier == pytest.approx(np.abs(values).max(), abs=1e-6)
    assert found.multiplier < 1 - 1e-3
    plain = objective.at(torch.tensor(displaced))
    assert multiplier(plain, Update(learning_rate=rate)) == pytest.approx(1, abs=1e-6)


def dense_jacobian(model, data, perturbation, settings):
    """The Jacobian of a step on (w, m) by torch alone, on one batch in training mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]
    rate, beta, decay = settings

    def gradient(theta, loss):
        parts = theta.split(sizes)
        shaped = {n: q.view(p.shape) for (n, p), q in zip(named.items(), parts, strict=True)}
        value = loss(functional_call(model, shaped, (data[0],)), data[1])
        return torch.autograd.grad(value, theta, create_graph=True)[0]

    def step(state):
        w, m = state.split(sum(sizes))
        followed = gradient(w, perturbation.loss)
        if perturbation.normalize:
            followed = followed / followed.norm()
        place = w + perturbation.sign * perturbation.rho * followed
        m = beta * m + gradient(place, nn.functional.cross_entropy) + decay * w
        return torch.cat([w - rate * m, m])

    theta = torch.cat([p.detach().flatten() for p in named.values()])
    state = torch.cat([theta, torch.randn_like(theta)])
    return torch.autograd.functional.jacobian(step, state).numpy()


@pytest.mark.parametrize("perturbation", [sam(0.1), aace(0.3)])
def test_multipliers_of_a_net_with_batch_statistics_are_those_of_its_dense_jacobian(perturbation):
    model, loss_fn, data = conv_batchnorm()
    objective = Objective(model, loss_fn, data, bn="batch")
    update = Update(learning_rate=0.3, momentum=0.8, weight_decay=0.02, perturbation=perturbation)
    found = measure_stability(
        objective, update, k=4, tolerance=1e-8, seed=0, max_products=2000, max_vectors=80
    )
    values = np.linalg.eigvals(dense_jacobian(model, data, perturbation, (0.3, 0.8, 0.02)))
    values = values[np.argsort(-np.abs(values))]
    assert found.converged
    magnitudes = np.hypot(found.multipliers_real, found.multipliers_imag)
    np.testing.assert_allclose(magnitudes[:4], np.abs(values[:4]), atol=1e-6)
    swing = found.facts["swing"]
    expected = values[np.argmax(np.abs(values - 1))]
    assert swing["real"] == pytest.approx(expected.real, abs=1e-6)
    assert swing["magnitude"] == pytest.approx(abs(expected), abs=1e-6)


def test_the_swing_is_found_beside_larger_magnitudes():
    objective = quadratic(np.diag([9.0, 1.0, *np.linspace(-1.0, -0.1, 30)]))
    found = measure_stability(objective, Update(learning_rate=0.1), k=2, tolerance=1e-9, seed=0)
    expected = [1 + 0.1, 1 + 0.1 * (1 - 0.9 / 29), 1 - 0.9]
    np.testing.assert_allclose(found.multipliers_real, expected, atol=1e-6)
    assert found.facts["swing"]["real"] == pytest.approx(0.1, abs=1e-6)
    assert found.multiplier == pytest.approx(1.1, abs=1e-6)


def test_multipliers_do_not_depend_on_the_partition_of_a_plain_step():
    model, loss_fn, data = mlp()
    update = Update(learning_rate=0.5, momentum=0.5)
    values = [
        multiplier(Objective(model, loss_fn, data, batch_size=size), update, batches=batches)
        for size in (33, 7)
        for batches in ("each", "whole")
    ]
    np.testing.assert_allclose(values, values[0], atol=1e-9)


def test_a_hessian_at_hand_is_used_by_a_plain_step():
    model, loss_fn, data = mlp()
    objective, taken = Objective(model, loss_fn, data), []
    own = hessian(objective)
    twice = replace(own, product=lambda v: [2 * own(v), taken.append(v)][0])
    plain, sharper = Update(learning_rate=1.0), Update(learning_rate=2.0)
    found = measure_stability(objective, plain, tolerance=1e-9, seed=0, operator=twice)
    assert found.products == len(taken)
    assert found.multiplier == pytest.approx(multiplier(objective, sharper), abs=1e-8)


def test_own_displacements_of_the_batches_change_the_multiplier_and_are_told():
    model, loss_fn, data = mlp()
    update = Update(learning_rate=0.5, perturbation=sam(0.3), left_out=("augmentation",))
    objective = Objective(model, loss_fn, data, batch_size=7)
    each, whole = (
        measure_stability(objective, update, tolerance=1e-9, seed=0, batches=batches)
        for batches in ("each", "whole")
    )
    assert abs(each.multiplier - whole.multiplier) > 1e-4
    assert each.facts["batches"].startswith("each: every batch with its own step")
    assert whole.facts["batches"].startswith("whole: one step")
    assert each.facts["left_out"] == ["augmentation"]
    assert each.facts["update"]["perturbation"]["rho"] == 0.3
    assert each.update == update.label
    assert "below 1 a small deviation" in each.facts["multiplier_means"]


def test_sam_at_a_minimum_is_refused():
    with pytest.raises(ValueError, match="the update has no Jacobian"):
        measure_stability(
            bowl(3.0, place=(0,) * 5), Update(learning_rate=0.1, perturbation=sam()), seed=0
        )


def test_statistics_that_were_not_trained_with_are_warned_of():
    model, loss_fn, data = conv_batchnorm()
    frozen, batch = (Objective(model, loss_fn, data, bn=bn) for bn in ("frozen", "batch"))
    assert has_batch_norm(frozen)
    assert not has_batch_norm(bowl(1.0))
    found = [
        measure_stability(objective, Update(learning_rate=0.1), seed=0)
        for objective in (frozen, batch)
    ]
    assert "not the objective that is trained" in found[0].facts["caution"]
    assert "caution" not in found[1].facts
    assert found[0].multiplier != found[1].multiplier


def test_products_that_are_not_finite_are_refused():
    objective = quadratic(np.eye(3))
    objective.model.matrix.copy_(torch.diag(torch.tensor([1.0, torch.nan, 1.0])))
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity in product 1 of SGD"):
        measure_stability(objective, Update(learning_rate=0.1), seed=0)


def test_k_is_bounded_by_the_state():
    with pytest.raises(ValueError, match=r"length of the state, 5, got 6"):
        measure_stability(bowl(1.0), Update(learning_rate=0.1), k=6, seed=0)
    update = Update(learning_rate=0.1, momentum=0.5)
    found = measure_stability(bowl(2.0), update, k=10, tolerance=1e-9, seed=0)
    assert len(found.multipliers_real) == 10
    with pytest.raises(ValueError, match="length of the state, 10, got 0"):
        measure_stability(bowl(1.0), update, k=0, seed=0)


def test_progress_tells_products_and_what_is_known():
    seen = []
    model, loss_fn, data = mlp()
    found = measure_stability(
        Objective(model, loss_fn, data),
        Update(learning_rate=0.1),
        seed=0,
        progress=lambda *now: seen.append(now),
    )
    assert [done for done, _, _ in seen[:-1]] == list(range(1, found.products + 1))
    assert seen[-1][:2] == (found.products, found.products)
    assert seen[0][1] == 210
    assert seen[-1][2].startswith("|μ| ")


def test_an_interrupted_search_is_marked_so():
    model, loss_fn, data = mlp()
    stopped = Objective(model, loss_fn, data)

    def stop(done, allowed, note):
        if done == 5:
            raise KeyboardInterrupt

    found = measure_stability(stopped, Update(learning_rate=0.1), seed=0, progress=stop)
    assert found.facts["interrupted"] is True
    assert not found.converged
    assert found.products == 4
    assert np.isfinite(found.residuals).all()


def test_same_seed_gives_the_same_result_and_it_survives_a_file(tmp_path):
    model, loss_fn, data = mlp()
    update = Update(learning_rate=0.1, perturbation=aace(0.2), momentum=0.9)
    first, again = (
        measure_stability(Objective(model, loss_fn, data), update, k=3, seed=1) for _ in range(2)
    )
    assert first.digest == again.digest
    assert load_result(first.save(tmp_path / "s.h5")).digest == first.digest
