import math

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, mlp, quadratic, symmetric
from scipy import stats
from torch import nn

from landscape import Objective, estimate_density
from landscape.operators import Operator, as_operator
from landscape.results import Spectrum


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


def test_the_width_of_exact_nodes_is_a_percent_of_the_largest_at_most():
    assert estimate_density(quadratic(3 * np.eye(4)), probes=1, steps=4, seed=0).sigma == 0.03
    few = np.repeat([-1.0, 0.5, 4.0], 5)
    found = estimate_density(quadratic(np.diag(few)), probes=2, steps=9, seed=0)
    assert found.sigma == pytest.approx(0.04)
    assert found.facts["sigma_rule"] == "1 % of the largest node: the nodes are exact"
    many = np.diag(np.linspace(1, 2, 400))
    found = estimate_density(quadratic(many), probes=1, steps=400, seed=0)
    assert found.sigma == pytest.approx(1 / 399, rel=0.1)
    assert found.facts["sigma_rule"] == "median node spacing by mass"


def test_a_hessian_that_is_zero_has_a_width_and_can_be_drawn():
    found = estimate_density(quadratic(np.zeros((5, 5))), probes=2, steps=3, seed=0)
    assert found.nodes[:, 0].tolist() == [0, 0]
    assert np.isnan(found.nodes[:, 1:]).all()
    assert found.sigma == 2.0**-52
    assert found.facts["sigma_rule"] == "rounding of 1: every eigenvalue is 0"
    assert found.facts["trace"] == found.facts["trace_error"] == found.facts["w1_bound"] == 0
    assert found.plot().data


def test_both_ends_are_kept_however_few_eigenvalues_lie_there():
    values = np.concatenate([[-5.0], np.linspace(-1, 1, 998), [9.0]])
    found = estimate_density(quadratic(np.diag(values)), probes=3, steps=20, seed=0)
    np.testing.assert_allclose(found.nodes[:, 0], -5, rtol=1e-6)
    np.testing.assert_allclose(found.nodes[:, -1], 9, rtol=1e-6)
    np.testing.assert_allclose(found.weights[:, [0, -1]], 1e-3, rtol=1e-4)


def test_linear_regression_has_the_edges_of_marchenko_and_pastur():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1200, 300, generator=generator, dtype=torch.float64)
    model = nn.Linear(300, 1, bias=False).double()
    objective = Objective(model, nn.MSELoss(), (inputs, torch.zeros(1200, 1).double()))
    found = estimate_density(objective, probes=2, steps=40, seed=0)
    assert found.nodes.min() / 2 == pytest.approx(0.25, abs=0.03)
    assert found.nodes.max() / 2 == pytest.approx(2.25, abs=0.1)
    exact = np.linalg.eigvalsh(2 * (inputs.T @ inputs / 1200).numpy())
    assert found.nodes.min() >= exact[0] - 1e-10
    assert found.nodes.max() <= exact[-1] + 1e-10
    assert distance(found, exact) < found.facts["w1_bound"]


@pytest.mark.parametrize("seed", range(4))
def test_the_true_spectrum_is_within_the_bound_and_as_near_as_probes_are_to_each_other(seed):
    matrix = symmetric(200, seed)
    found = estimate_density(quadratic(matrix), probes=3, steps=30, seed=seed)
    facts, away = found.facts, distance(found, np.linalg.eigvalsh(matrix))
    reach = found.nodes.max() - found.nodes.min()
    assert away < facts["w1_bound"] < 0.7 * reach
    assert facts["w1_bound"] == pytest.approx(facts["w1_share"] * reach)
    assert facts["w1_confidence"] == 0.95
    assert facts["w1_between_probes"] / 4 < away < 2 * facts["w1_between_probes"]


def test_an_exact_quadrature_is_bounded_by_its_probes_alone():
    few = quadratic(np.diag(np.repeat([0.0, 1.0], 500)))
    found = estimate_density(few, probes=3, steps=9, seed=0)
    x = math.log(2000 / 0.05) / 3000
    assert found.facts["w1_share"] == pytest.approx(2 * math.sqrt(x) + 2 * x)


def distance(density, exact):
    """W₁ between all probes together and the eigenvalues."""
    there = np.isfinite(density.nodes)
    return stats.wasserstein_distance(
        density.nodes[there], exact, density.weights[there], np.ones(len(exact))
    )


class Kept:
    """A savepoint in memory, due after every probe."""

    def __init__(self):
        self.state, self.saves = None, 0

    def load(self):
        return self.state

    def due(self):
        return True

    def save(self, state):
        self.state, self.saves = {k: np.array(v) for k, v in state.items()}, self.saves + 1


def stopped(source, after, error):
    """The operator, which fails in the product after so many."""
    left = iter(range(after))

    def product(v):
        if next(left, None) is None:
            raise error
        return source.product(v)

    return Operator(product=product, origin=source.origin, layout=source.layout)


ONE_PAIR = Spectrum(
    eigenvalues=np.array([9.0]),
    residuals=np.zeros(1),
    eigenvectors=np.eye(12)[:1],
)


def one_outlier():
    matrix = symmetric(12) / 10
    matrix[0], matrix[:, 0], matrix[0, 0] = 0, 0, 9
    return as_operator(quadratic(matrix))


@pytest.mark.parametrize(("deflate", "extra"), [(None, 0), (ONE_PAIR, 1)])
def test_a_killed_density_goes_on_to_the_same_bits_from_its_last_probe(deflate, extra):
    source = one_outlier()
    source = Operator(product=source.product, origin=source.origin, layout=source.layout)
    asked = {"probes": 3, "steps": 4, "seed": 2, "deflate": deflate}
    whole = estimate_density(source, **asked)
    for after in range(extra, 12 + extra):
        kept, done = Kept(), (after - extra) // 4
        with pytest.raises(RuntimeError, match="killed"):
            estimate_density(
                stopped(source, after, RuntimeError("killed")), savepoint=kept, **asked
            )
        assert kept.saves == done
        rest = stopped(source, extra + 4 * (3 - done), RuntimeError("too many"))
        assert estimate_density(rest, savepoint=kept, **asked).digest == whole.digest


def test_a_saved_density_of_another_question_is_left_alone_and_fewer_probes_are_the_first():
    source = one_outlier()
    asked = {"probes": 3, "steps": 4, "seed": 2}
    for other in ({"seed": 3}, {"steps": 5}, {"deflate": ONE_PAIR}, {"probes": 2}, {"probes": 5}):
        kept = Kept()
        estimate_density(source, **{**asked, **other}, savepoint=kept)
        found = estimate_density(source, **asked, savepoint=kept)
        assert found.digest == estimate_density(source, **asked).digest


def test_ctrl_c_gives_the_probes_that_are_finished_and_keeps_them():
    source, kept = one_outlier(), Kept()
    kept.due = lambda: False
    asked = {"probes": 3, "steps": 4, "seed": 2}
    found = estimate_density(stopped(source, 10, KeyboardInterrupt()), **asked, savepoint=kept)
    whole = estimate_density(source, **asked)
    assert found.facts["interrupted"] is True
    assert "interrupted" not in whole.facts
    assert (found.matvecs, found.facts["probes"]) == (8, 2)
    np.testing.assert_array_equal(found.nodes, whole.nodes[:2])
    np.testing.assert_array_equal(kept.state["nodes"], found.nodes)
    assert estimate_density(source, **asked, savepoint=kept).digest == whole.digest
    with pytest.raises(KeyboardInterrupt):
        estimate_density(stopped(source, 3, KeyboardInterrupt()), **asked)


def test_progress_tells_the_trace_once_a_probe_is_finished():
    seen = []
    found = estimate_density(
        one_outlier(),
        probes=2,
        steps=3,
        seed=0,
        deflate=ONE_PAIR,
        progress=lambda *now: seen.append(now),
    )
    assert [now[:2] for now in seen] == [(i, 7) for i in (1, 2, 3, 4, 5, 6, 7, 7)]
    assert seen[3][2] == ""
    assert seen[4][2].startswith("trace ")
    trace, error = found.facts["trace"], found.facts["trace_error"]
    assert seen[-1][2] == f"trace {trace:.4g} ± {error:.2g}"


def test_progress_goes_on_from_what_was_saved():
    source, kept, seen = one_outlier(), Kept(), []
    estimate_density(source, probes=2, steps=3, seed=0, savepoint=kept)
    estimate_density(
        source,
        probes=3,
        steps=3,
        seed=0,
        savepoint=kept,
        progress=lambda *now: seen.append(now[:2]),
    )
    assert seen == [(7, 9), (8, 9), (9, 9), (9, 9)]
