import math

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, mlp, quadratic, symmetric

from landscape import Objective, estimate_density


def test_same_seed_gives_same_bits():
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data)
    first, again, other = (
        estimate_density(objective, probes=2, steps=5, seed=seed) for seed in (0, 0, 1)
    )
    assert first.digest == again.digest
    assert (first.nodes != other.nodes).all()
    assert (first.nodes[0] != first.nodes[1]).all()


def test_model_and_random_state_are_untouched():
    model, loss_fn, data = conv_batchnorm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    estimate_density(Objective(model, loss_fn, data), probes=1, steps=3, seed=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("probes", "steps"), [(0, 3), (3, 0)])
def test_density_needs_probes_and_steps(probes, steps):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        estimate_density(quadratic(np.eye(5)), probes=probes, steps=steps, seed=0)


def test_a_product_that_is_not_finite_is_refused_and_placed():
    objective = quadratic(np.eye(4))
    objective.model.matrix.copy_(torch.tensor(np.diag([1.0, 2.0, np.nan, 4.0])))
    with pytest.raises(ValueError, match="product 1, first in 'theta'"):
        estimate_density(objective, probes=1, steps=2, seed=0)


def test_progress_counts_products_up_to_the_end():
    seen = []
    objective = quadratic(symmetric(20))
    estimate_density(objective, probes=3, steps=4, seed=0, progress=lambda *now: seen.append(now))
    assert seen[-1][:2] == (12, 12)


def test_each_probe_of_a_density_has_weight_one():
    model, loss_fn, data = mlp()
    density = estimate_density(Objective(model, loss_fn, data), probes=4, steps=10, seed=0)
    assert density.nodes.shape == density.weights.shape == (4, 10)
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-13)
    assert (density.weights >= 0).all()
    assert density.size == 43
    assert density.matvecs == 40


def test_quadrature_is_exact_to_degree_2m_minus_1_and_no_further():
    values = np.linspace(-1, 2, 50)
    density = estimate_density(quadratic(np.diag(values)), probes=2, steps=4, seed=0)
    for degree in range(9):
        moment = (density.weights * density.nodes**degree).sum(1)
        error = np.abs(moment - np.mean(values**degree)).max()  # a sign squared is 1
        assert (error < 1e-13) if degree < 8 else (error > 1e-3)


def test_density_is_exact_with_as_many_steps_as_there_are_distinct_eigenvalues():
    values = np.repeat([-1.0, 0.5, 4.0], [2, 5, 13])
    density = estimate_density(quadratic(np.diag(values)), probes=2, steps=6, seed=0)
    assert np.isnan(density.nodes[:, 3:]).all()
    assert np.isnan(density.weights[:, 3:]).all()
    np.testing.assert_allclose(density.nodes[:, :3], [[-1, 0.5, 4]] * 2, atol=1e-12)
    np.testing.assert_allclose(density.weights[:, :3], [[0.1, 0.25, 0.65]] * 2, atol=1e-12)
    assert density.facts["trace"] == pytest.approx(values.sum())
    assert density.facts["trace_error"] == pytest.approx(0, abs=1e-12)


def test_trace_is_unbiased_and_its_error_is_that_of_hutchinson():
    matrix = symmetric(30)
    density = estimate_density(quadratic(matrix), probes=400, steps=1, seed=0)
    exact = 2 * ((matrix**2).sum() - (np.diag(matrix) ** 2).sum())
    error = density.facts["trace_error"]
    assert error == pytest.approx(math.sqrt(exact / 400), rel=0.15)
    assert abs(density.facts["trace"] - np.trace(matrix)) < 3 * error


def test_trace_of_one_probe_has_no_error():
    density = estimate_density(quadratic(symmetric(5)), probes=1, steps=2, seed=0)
    assert math.isnan(density.facts["trace_error"])


def test_gaussian_matrix_has_a_semicircle():
    matrix = np.random.default_rng(0).standard_normal((400, 400))
    objective = quadratic((matrix + matrix.T) / math.sqrt(800))
    density = estimate_density(objective, probes=3, steps=60, seed=0)
    assert np.nanmin(density.nodes) == pytest.approx(-2, abs=0.05)
    assert np.nanmax(density.nodes) == pytest.approx(2, abs=0.05)
    moments = [(density.weights * density.nodes**p).sum(1).mean() for p in (2, 4)]
    np.testing.assert_allclose(moments, [1, 2], rtol=0.05)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_width_follows_the_spacing_of_nodes_in_any_unit(unit):
    matrix = np.random.default_rng(0).standard_normal((300, 300)) / math.sqrt(600)
    bulk = matrix + matrix.T
    bulk += np.diag(np.repeat([0, 1], [270, 30]) * np.linspace(0, 1000, 300))  # far outliers
    density = estimate_density(quadratic(unit * bulk), probes=2, steps=40, seed=0)
    inside = np.sort(density.nodes[np.abs(density.nodes) < 1.5 * unit].reshape(-1))
    spacing = 2 * (inside[-1] - inside[0]) / len(inside)  # two probes lie over each other
    assert density.sigma == pytest.approx(spacing, rel=0.3)


def test_width_of_a_single_node_is_a_percent_of_it():
    assert estimate_density(quadratic(3 * np.eye(4)), probes=1, steps=4, seed=0).sigma == 0.03
