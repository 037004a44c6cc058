import math

import numpy as np
import pytest
from scipy import stats

from landscape.quadrature import (
    curve,
    log_density,
    node_spacing,
    power_sums,
    probe_distance,
    remaining,
    wasserstein_bound,
)
from landscape.results import Density


@pytest.fixture
def density():
    """Two probes of a spectrum of 100 eigenvalues, two of them outliers."""
    nodes = np.array([[-1.0, 0.001, 2.0, 10.0], [-2.0, 0.5, 4.0, np.nan]])
    weights = np.array([[0.2, 0.3, 0.4, 0.1], [0.1, 0.6, 0.3, np.nan]])
    return Density(
        nodes=nodes,
        weights=weights,
        size=100,
        sigma=0.05,
        outliers=np.array([50.0, -20.0]),
        outlier_residuals=np.zeros(2),
    )


def single(nodes, **named):
    weights = np.full((1, len(nodes)), 1 / len(nodes))
    return Density(nodes=np.array([nodes]), weights=weights, size=len(nodes), **named)


def test_a_curve_counts_all_eigenvalues_but_the_outliers(density):
    grid = np.linspace(-4, 12, 8001)
    drawn = curve(density, grid)
    assert remaining(density) == 98
    np.testing.assert_allclose(np.trapezoid(drawn, grid, axis=1), 98, rtol=1e-9)
    inside = (grid > 3) & (grid < 5)
    counts = np.trapezoid(drawn[:, inside], grid[inside], axis=1)
    np.testing.assert_allclose(counts, [0, 0.3 * 98], atol=1e-9)


def test_each_node_is_a_gaussian_of_the_width_asked_for_in_any_order_of_the_grid():
    grid = np.random.default_rng(0).permutation(np.linspace(-20, 20, 401))
    found = single([1.0], sigma=0.1)
    for width, drawn in ((0.8, curve(found, grid, sigma=0.8)), (0.1, curve(found, grid))):
        expected = stats.norm.pdf(grid, 1.0, width)
        np.testing.assert_allclose(drawn, [expected], rtol=1e-12, atol=1e-30)


def test_a_curve_without_width_is_refused(density):
    with pytest.raises(ValueError, match="width must be above 0, got 0"):
        curve(density, np.zeros(3), sigma=0.0)


def test_power_sums_take_outliers_as_they_are_and_the_rest_from_each_probe(density):
    first = 98 * (0.2 + 0.4 * 4 + 0.1 * 100 + 0.3e-6)
    second = 98 * (0.1 * 4 + 0.6 * 0.25 + 0.3 * 16)
    np.testing.assert_allclose(power_sums(density, 2), 2900 + np.array([first, second]))
    np.testing.assert_allclose(power_sums(density, 0), 100)


def test_a_log_spectrum_counts_signs_apart_and_what_lies_below_its_floor(density):
    drawn = log_density(density, floor=0.01, points=4000)
    counts = [
        np.trapezoid(part, drawn.decades, axis=1) for part in (drawn.positive, drawn.negative)
    ]
    np.testing.assert_allclose(counts[0], [0.5 * 98, 0.9 * 98], rtol=1e-5)
    np.testing.assert_allclose(counts[1], [0.2 * 98, 0.1 * 98], rtol=1e-5)
    np.testing.assert_allclose(drawn.below, [0.3 * 98, 0])


def test_a_log_spectrum_has_its_peaks_at_the_logarithm():
    drawn = log_density(single([-1000.0, 0.1, 0.1, 0.1], sigma=1e-3), width=0.05, points=3001)
    assert drawn.decades[drawn.positive[0].argmax()] == pytest.approx(-1, abs=0.002)
    assert drawn.decades[drawn.negative[0].argmax()] == pytest.approx(3, abs=0.002)
    assert drawn.positive.max() == pytest.approx(3 / (0.05 * math.sqrt(2 * math.pi)), rel=1e-3)
    assert drawn.decades[0] == pytest.approx(-1 - 5 * 0.05)


def test_the_width_of_a_log_spectrum_is_its_spacing_in_decades():
    nodes = np.concatenate([-np.geomspace(10, 0.01, 31), np.geomspace(0.01, 10, 31)])
    for part in (nodes, nodes[:31], nodes[31:]):
        drawn = log_density(single(list(part), sigma=1e-3))
        assert drawn.width == pytest.approx(0.1, rel=1e-6)


def test_the_floor_of_a_log_spectrum_is_the_width_of_the_density(density):
    assert log_density(density).floor == 0.05
    below = log_density(single([0.0, 0.0], sigma=1e-3))
    assert below.below.tolist() == [2]
    assert not below.positive.any()
    assert not below.negative.any()


@pytest.mark.parametrize(("named", "text"), [({"floor": 0.0}, "floor"), ({"points": 1}, "points")])
def test_a_log_spectrum_needs_a_floor_and_points(density, named, text):
    with pytest.raises(ValueError, match=text):
        log_density(density, **named)


def test_spacing_is_the_median_by_mass_and_none_for_single_nodes():
    nodes = np.array([[0.0, 1.0, 2.0, 3.0, 100.0, np.nan]])
    weights = np.array([[0.2, 0.2, 0.2, 0.2, 0.2, np.nan]])
    assert node_spacing(nodes, weights) == 1
    assert node_spacing(np.array([[0.0, 1.0, 3.0, 7.0, 15.0]]), np.full((1, 5), 0.2)) == 3
    assert node_spacing(nodes, np.array([[0.0, 0.0, 0.0, 0.1, 0.9, np.nan]])) == 97
    assert node_spacing(np.array([[3.0, np.nan]]), np.array([[1.0, np.nan]])) == 0
    assert node_spacing(np.full((1, 3), np.nan), np.full((1, 3), np.nan)) == 0


@pytest.mark.parametrize("size", [40, 10**6])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_bound_for_the_sphere_is_that_of_chen_trogdon_and_ubaru(size, share):
    probes = 4 * math.log(2 * size / 0.01) / ((size + 2) * share**2)
    steps = np.full(3, 12 / share + 0.5)
    bound = wasserstein_bound(size=size, probes=probes, steps=steps, sphere=True, confidence=0.99)
    assert bound == pytest.approx(share, rel=1e-12)


def test_an_exhausted_krylov_space_leaves_the_sampling_error_alone():
    named = {"size": 10**4, "probes": 4, "sphere": True}
    exact = wasserstein_bound(steps=np.zeros(4), **named)
    half = wasserstein_bound(steps=np.array([0, 0, 50, 50]), **named)
    assert exact == pytest.approx(math.sqrt(math.log(2e4 / 0.05) / (10002 * 4)))
    assert half - exact == pytest.approx(6 / 99)


def test_the_bound_is_never_more_than_the_range():
    assert wasserstein_bound(size=2, probes=1, steps=np.ones(1), sphere=False) == 1


@pytest.mark.parametrize("sphere", [True, False])
def test_the_sampling_error_is_kept_within_a_factor_of_eight(sphere):
    """The projector on half of the directions; for other ranks both tails are shorter."""
    rng, size, probes = np.random.default_rng(0), 200, 3
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    drawn = rng.standard_normal((3000 * probes, size))
    drawn = drawn if sphere else np.sign(drawn)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    reached = np.cumsum((drawn @ basis) ** 2, axis=1).reshape(3000, probes, size).mean(axis=1)
    worst = np.abs(reached - np.arange(1, size + 1) / size).max(axis=1)
    bound = wasserstein_bound(size=size, probes=probes, steps=np.zeros(probes), sphere=sphere)
    assert (worst <= bound).mean() >= 0.95
    assert np.quantile(worst, 0.95) > bound / 8


def test_the_distance_between_probes_is_that_of_scipy(density):
    there = [np.isfinite(row) for row in density.nodes]
    rows = [(n[t], w[t]) for n, w, t in zip(density.nodes, density.weights, there, strict=True)]
    everything = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    exact = [
        stats.wasserstein_distance(nodes, everything[0], weights, everything[1])
        for nodes, weights in rows
    ]
    assert probe_distance(density) == pytest.approx(np.mean(exact))
    assert math.isnan(probe_distance(single([1.0, 2.0])))
