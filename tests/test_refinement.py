import json
import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from landscape.grids import nested_grids, visiting_order
from landscape.refinement import Refinement

INFINITE = 10**7  # a population in which drawing changes nothing


def coordinates(shape):
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")


def bowl(shape):
    """The exponential of a bicubic polynomial: its logarithm is interpolated without error."""
    a, b = coordinates(shape)
    return np.exp(1 + a - 2 * b**2 + a**3 * b**3 - 0.5 * a**2 * b)


def waves(shape, *, period, height=0.1):
    """Waves along the first axis, `period` points long."""
    return np.exp(height * np.cos(2 * np.pi * np.arange(shape[0]) / period))[:, None] * np.ones(
        shape
    )


def finish(refinement, surface, finished=None, calls=None):
    """Evaluate what is asked for until nothing is."""
    flat, finished = surface.ravel(), dict(finished or {})
    while (wanted := refinement.next(finished)).size:
        assert not set(wanted.tolist()) & set(finished)
        assert len(set(wanted.tolist())) == wanted.size
        if calls is not None:
            calls.append(wanted.tolist())
        finished |= {int(i): float(flat[i]) for i in wanted}
    return finished


def refined(surface, tolerance=0.01, seed=0):
    refinement = Refinement(surface.shape, tolerance=tolerance, seed=seed)
    finished = finish(refinement, surface)
    return finished, refinement.fill(finished)


def fewest(population, spare, alpha, known=0):
    """Held-out points needed: Wilks' criterion for a finite population, by scipy."""
    for sample in range(spare + 1, population + 1):
        worst = math.floor(0.05 * max(0, population - sample - known) + 1e-9) + spare + 1
        if hypergeom.cdf(spare, population, worst, sample) <= alpha:
            return sample
    raise AssertionError("no sample is large enough")


def test_a_surface_that_cubics_describe_takes_the_coarse_grid_and_the_held_out_points():
    surface = bowl((51, 51))
    finished, filled = refined(surface)
    held_out = fewest(51 * 51 - 169, 0, 0.05 / 4)
    assert len(finished) == 169 + held_out
    assert filled.facts["nodes"] == 169
    assert filled.facts["points"] == held_out
    assert filled.facts["bound"] < 1e-12
    np.testing.assert_allclose(filled.values, surface, rtol=1e-12)
    assert filled.interpolated.sum() == 51 * 51 - len(finished)


@pytest.mark.parametrize("shape", [(51, 21), (40, 64), (500,), (2, 200)])
def test_grids_of_any_shape_are_refined(shape):
    surface = bowl(shape) if len(shape) == 2 else np.exp(np.linspace(-1, 1, *shape) ** 3)
    finished, filled = refined(surface)
    assert len(finished) < surface.size
    np.testing.assert_allclose(filled.values, surface, rtol=1e-12)


def test_evaluated_points_keep_their_values_to_the_bit():
    surface = bowl((31, 31))
    finished, filled = refined(surface)
    assert all(filled.values.flat[i] == value for i, value in finished.items())
    assert not any(filled.interpolated.flat[i] for i in finished)


def test_noise_is_evaluated_everywhere():
    surface = np.random.default_rng(0).uniform(0.5, 2, (31, 31))
    finished, filled = refined(surface, tolerance=0.1)
    assert len(finished) == surface.size
    assert (filled.values == surface).all()
    assert not filled.interpolated.any()
    assert (filled.facts["points"], filled.facts["bound"], filled.facts["error"]) == (0, 0.0, 0.0)
    assert filled.facts["nodes"] == filled.facts["evaluated"] == filled.facts["of"] == surface.size


def test_the_coarse_picture_comes_first_and_a_grid_that_fails_is_given_up_soon():
    surface, calls = np.random.default_rng(0).uniform(0.5, 2, (51, 51)), []
    finish(Refinement(surface.shape, tolerance=0.1, seed=0), surface, calls=calls)
    assert calls[0] == visiting_order(surface.shape)[:169].tolist()
    assert len(calls[1]) == 16
    assert len(calls[2]) <= 325 - 169  # on to the nodes of the next grid


def test_held_out_points_serve_again_on_the_next_grid():
    shape = (33, 17)
    surface, calls = waves(shape, period=12), []
    refinement = Refinement(shape, tolerance=0.01, seed=0)
    finished = finish(refinement, surface, calls=calls)
    facts = refinement.fill(finished).facts
    assert facts["nodes"] == 153
    assert len(calls[1]) == 16  # held out of the coarser grid, where they are off
    later = {i for call in calls[3:] for i in call}
    nodes = set(visiting_order(shape)[:153].tolist())
    assert len(later) + len(set(calls[1]) - nodes) == facts["points"]


def test_a_finer_grid_is_held_against_no_fewer_points():
    shape = (33, 17)
    grids = [g for g in nested_grids(shape)[:-1] if len(g[0]) >= 9 and len(g[1]) >= 9]
    counts = [fewest(33 * 17 - len(a) * len(b), 0, 0.05 / len(grids)) for a, b in grids[:2]]
    assert counts[0] > counts[1]
    facts = refined(waves(shape, period=12))[1].facts
    assert (facts["nodes"], facts["points"]) == (153, counts[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_resumed_measurement_goes_on_as_if_it_had_never_stopped(seed):
    a, b = coordinates((33, 33))
    surface = np.exp(np.sin(5 * a) * np.cos(7 * b)) + 0.3 * np.abs(a - b)
    surface[28:, :4] = np.inf
    refinement, calls = Refinement(surface.shape, tolerance=0.02, seed=seed), []
    whole = finish(refinement, surface, calls=calls)
    assert len(calls) > 4
    order = [i for call in calls for i in call]
    for cut in np.random.default_rng(seed).integers(1, len(order), 12):
        kept = {i: whole[i] for i in order[:cut]}
        again = Refinement(surface.shape, tolerance=0.02, seed=seed)
        assert again.next(kept).tolist()[0] == order[cut]
        resumed = finish(again, surface, kept)
        assert set(resumed) == set(whole)
        assert again.fill(resumed).facts == refinement.fill(whole).facts
        np.testing.assert_array_equal(again.fill(resumed).values, refinement.fill(whole).values)


def test_points_finished_in_any_order_lead_to_the_same_next_points():
    surface = bowl((21, 21))
    refinement = Refinement(surface.shape, tolerance=0.01, seed=0)
    first = refinement.next({})
    kept = {int(i): float(surface.flat[i]) for i in first[::-3]}
    assert refinement.next(kept).tolist() == [i for i in first.tolist() if i not in kept]


@pytest.mark.parametrize(("spare", "sample"), [(0, 59), (1, 93), (2, 124), (3, 153)])
def test_held_out_points_are_those_of_wilks_where_the_grid_is_endless(spare, sample):
    from landscape.refinement import _risk, _sample_size

    assert _sample_size(INFINITE, spare, 0, 0, 0.05) == sample
    exact = sum(math.comb(sample, k) * 0.05**k * 0.95 ** (sample - k) for k in range(spare + 1))
    assert _risk(INFINITE, sample, spare) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("bad", [5, 15, 30])
def test_a_narrow_spike_escapes_as_often_as_the_hypergeometric_distribution_says(bad):
    shape, draws = (21, 21), 400
    surface, order = np.ones(shape), visiting_order(shape)
    hidden = np.random.default_rng(7).choice(order[81:], bad, replace=False)
    surface.flat[hidden] = 3.0
    held_out = fewest(441 - 81, 0, 0.05 / 2)
    expected = hypergeom.pmf(0, 441 - 81, bad, held_out)
    good = sum(refined(surface, 0.1, seed)[1].facts["nodes"] == 81 for seed in range(draws))
    spread = math.sqrt(draws * expected * (1 - expected))
    assert abs(good - draws * expected) <= 4 * spread + 1


def test_a_spike_too_wide_for_the_statement_escapes_no_more_often_than_allowed():
    shape, draws, alpha = (21, 21), 400, 0.05 / 2
    surface, order = np.ones(shape), visiting_order(shape)
    left = 441 - 81 - fewest(441 - 81, 0, alpha)
    surface.flat[order[81:][:: 360 // (left // 20 + 1)]] = 3.0
    wrong = 0
    for seed in range(draws):
        filled = refined(surface, 0.1, seed)[1]
        off = np.abs(np.log(filled.values / surface))[filled.interpolated] > filled.facts["bound"]
        wrong += off.sum() > 0.05 * off.size
    assert wrong <= draws * alpha + 4 * math.sqrt(draws * alpha)


@pytest.mark.parametrize("shape", [(21, 21), (33, 33)])
def test_the_stated_error_is_as_tight_as_its_confidence_allows(shape):
    surface = np.exp(np.random.default_rng(3).normal(0, 1e-3, shape))
    looks = [g for g in nested_grids(shape)[:-1] if min(map(len, g)) >= 9]
    population = surface.size - len(looks[0][0]) * len(looks[0][1])
    held_out = fewest(population, 0, 0.05 / len(looks))
    worst = math.floor(0.05 * (population - held_out) + 1e-9) + 1
    expected, draws, wrong = hypergeom.cdf(0, population, worst, held_out), 500, 0
    for seed in range(draws):
        filled = refined(surface, 1.0, seed)[1]
        assert filled.facts["points"] == held_out
        errors = np.abs(np.log(filled.values / surface))[filled.interpolated]
        wrong += (errors > filled.facts["bound"] * (1 + 1e-9)).sum() > 0.05 * errors.size
    spread = math.sqrt(draws * expected)
    assert abs(wrong - draws * expected) <= 4 * spread


def test_where_one_held_out_point_may_be_off_the_second_largest_error_is_stated():
    surface = waves((51, 51), period=14) ** np.linspace(1, 1.5, 51)  # no two errors are equal
    finished, filled = refined(surface)
    nodes = set(visiting_order(surface.shape)[:325].tolist())
    held_out = [i for i in finished if i not in nodes]
    assert len(held_out) == filled.facts["points"] == fewest(2601 - 325, 1, 0.05 / 4)
    rows, errors = nested_grids(surface.shape)[5][0], []
    for index in held_out:
        row, column = divmod(index, 51)
        before = int(np.searchsorted(rows, row, side="right")) - 1
        near = rows[min(max(before - 1, 0), len(rows) - 4) :][:4]
        cubic = np.polynomial.Polynomial.fit(near, np.log(surface[near, column]), 3)
        errors.append(abs(cubic(row) - math.log(surface[row, column])))
    assert filled.facts["bound"] == pytest.approx(sorted(errors)[-2], rel=1e-9)
    assert filled.facts["error"] == pytest.approx(np.quantile(errors, 0.95, method="higher"))
    strict = refined(surface, tolerance=float(np.mean(sorted(errors)[-2:])))[1].facts
    assert (strict["nodes"], strict["bound"]) == (325, filled.facts["bound"])


def test_more_held_out_points_may_be_off_where_giving_up_costs_more():
    from landscape.refinement import _geometry

    spare = [grid.spare for grid in _geometry((101, 101))[1]]
    assert spare == [0, 2, 3, 7, 8, 8]  # 160 points of the next grid for each, 8 at most


def test_every_diverged_point_is_evaluated_and_none_is_interpolated_from():
    surface = bowl((51, 51))
    surface[35:, :9], surface[40, 5] = np.nan, np.inf
    finished, filled = refined(surface)
    assert {i for i in range(surface.size) if not np.isfinite(surface.flat[i])} <= set(finished)
    np.testing.assert_allclose(filled.values, surface, rtol=1e-12)
    assert filled.interpolated.sum() > 0.6 * surface.size


@pytest.mark.parametrize("unusable", [np.nan, np.inf, 0.0, -1.0])
def test_neighbors_of_a_node_that_cannot_be_used_are_evaluated(unusable):
    surface = bowl((51, 51))
    surface[25, 25] = unusable
    _, filled = refined(surface)
    nodes = nested_grids(surface.shape)[4][0]
    off_nodes = np.setdiff1d(np.arange(18, 33), nodes)  # with the node in their stencil
    assert not filled.interpolated[np.ix_(off_nodes, off_nodes)].any()
    assert filled.interpolated[:8].sum() > 200
    held_out = fewest(int(filled.interpolated.sum()) + filled.facts["points"], 0, 0.05 / 4)
    assert filled.facts["points"] == held_out


def test_a_surface_that_is_finite_at_the_nodes_alone_is_evaluated_everywhere():
    surface = np.full((33, 33), np.nan)
    surface.flat[visiting_order(surface.shape)[:289]] = 1.0
    assert len(refined(surface)[0]) == surface.size


def test_held_out_points_of_an_earlier_grid_count_against_the_statement_near_diverged_ones():
    surface, alpha = waves((51, 51), period=14), 0.05 / 4
    surface[0, 0] = np.nan
    _, filled = refined(surface)
    assert filled.facts["nodes"] == 325
    within_reach = 7**2  # of the corner node, on the coarse grid: rows and columns 0-3 and 5-7
    known = fewest(2601 - 169 - (within_reach - 1), 0, alpha)
    population = int(filled.interpolated.sum()) + filled.facts["points"]
    assert filled.facts["points"] == fewest(population, 1, alpha, known)
    assert filled.facts["points"] > fewest(population, 1, alpha)


def test_another_quantity_is_interpolated_with_an_error_of_its_own():
    surface = bowl((51, 51))
    a, b = coordinates(surface.shape)
    accuracy = 0.5 + 0.1 * a * b**3 + 0.02 * np.random.default_rng(0).uniform(-1, 1, a.shape)
    refinement = Refinement(surface.shape, tolerance=0.01, seed=0)
    finished = finish(refinement, surface)
    filled = refinement.fill(finished, {i: accuracy.flat[i] for i in finished}, relative=False)
    errors = np.abs(filled.values - accuracy)[filled.interpolated]
    assert filled.facts["statistic"] == "95% percentile of |Δ|"
    assert filled.facts["error"] <= filled.facts["bound"]
    assert 0.02 < filled.facts["bound"] < 0.06
    assert (errors > filled.facts["bound"]).mean() <= 0.05
    assert errors.max() > 0.01


def test_an_interpolated_accuracy_stays_between_those_found():
    surface = bowl((51, 51))
    a, _ = coordinates(surface.shape)
    accuracy = np.where(np.abs(a) < 0.5, 1.0, 0.0)
    refinement = Refinement(surface.shape, tolerance=0.01, seed=0)
    finished = finish(refinement, surface)
    filled = refinement.fill(finished, {i: accuracy.flat[i] for i in finished}, relative=False)
    assert (filled.values.min(), filled.values.max()) == (0.0, 1.0)
    assert filled.facts["bound"] > 0.3


def test_another_quantity_is_left_out_where_it_was_not_finite():
    surface = bowl((51, 51))
    refinement = Refinement(surface.shape, tolerance=0.01, seed=0)
    finished = finish(refinement, surface)
    other = bowl((51, 51)) - 1
    other[:20] = np.nan
    filled = refinement.fill(finished, {i: other.flat[i] for i in finished}, relative=False)
    assert np.isnan(filled.values[:20]).all()
    assert not filled.interpolated[:20].any()
    shown = np.isfinite(filled.values)
    assert shown[30:].all()
    np.testing.assert_allclose(filled.values[shown], other[shown], atol=0.1)
    assert filled.facts["points"] < refinement.fill(finished).facts["points"]
    assert filled.facts["bound"] is None  # too few of its points are left to tell
    nothing = refinement.fill(finished, dict.fromkeys(finished, math.nan))
    assert nothing.facts["bound"] is None
    assert nothing.facts["error"] is None
    assert not nothing.interpolated.any()
    assert "NaN" not in json.dumps([filled.facts, nothing.facts])


def test_facts_say_what_is_stated():
    facts = refined(bowl((51, 51)), tolerance=0.02, seed=5)[1].facts
    assert json.loads(json.dumps(facts)) == facts
    assert facts["statistic"] == "95% percentile of |Δ log|"
    assert (facts["confidence"], facts["tolerance"], facts["seed"]) == (0.95, 0.02, 5)


def test_held_out_points_depend_on_the_seed_and_not_on_the_values():
    surface = bowl((31, 31))
    drawn = {}
    for seed in (0, 1):
        for scale in (1.0, 2.0):
            calls = []
            finish(Refinement((31, 31), tolerance=0.1, seed=seed), scale * surface, calls=calls)
            drawn[seed, scale] = calls[1]
    assert drawn[0, 1.0] == drawn[0, 2.0]
    assert drawn[0, 1.0] != drawn[1, 1.0]


@pytest.mark.parametrize("shape", [(2, 2), (11, 11), (15, 15), (51,)])
def test_a_grid_too_small_for_held_out_points_is_evaluated_everywhere(shape):
    surface = bowl(shape) if len(shape) == 2 else np.linspace(1, 2, *shape)
    assert len(refined(surface)[0]) == surface.size


@pytest.mark.parametrize("tolerance", [0, -0.1, math.nan, math.inf, None, True, "0.1"])
def test_a_tolerance_that_bounds_nothing_is_an_error(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a finite number above 0"):
        Refinement((51, 51), tolerance=tolerance, seed=0)


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_a_seed_that_is_no_whole_number_is_an_error(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        Refinement((51, 51), tolerance=0.1, seed=seed)


def test_filling_in_before_all_is_evaluated_is_an_error():
    refinement = Refinement((51, 51), tolerance=0.1, seed=0)
    with pytest.raises(ValueError, match="169 points must be evaluated first"):
        refinement.fill({})
