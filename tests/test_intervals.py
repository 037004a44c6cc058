import math

import numpy as np
import pytest
from scipy import stats

from landscape.intervals import standard_error, t_interval, t_quantile, wilson_interval


@pytest.mark.parametrize("freedom", [*range(1, 31), 99, 1000, 1001, 50000])
def test_quantiles_are_those_of_student(freedom):
    for probability in (0.025, 0.6, 0.975, 0.9995):
        exact = stats.t.ppf(probability, freedom)
        assert t_quantile(probability, freedom) == pytest.approx(exact, rel=1e-10)


def test_the_median_is_zero():
    assert t_quantile(0.5, 4) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "text"), [((1.0, 3), "probability must"), ((0.9, 0), "freedom must")]
)
def test_what_is_no_quantile_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        t_quantile(*arguments)


def test_an_interval_is_that_of_scipy_and_holds_the_error():
    samples = np.random.default_rng(0).standard_normal(7) + 3
    assert standard_error(samples) == pytest.approx(stats.sem(samples))
    exact = stats.t.interval(0.9, 6, samples.mean(), stats.sem(samples))
    np.testing.assert_allclose(t_interval(samples, 0.9), exact, rtol=1e-10)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(1).standard_normal((4000, 3))
    half = t_quantile(0.975, 2) * samples.std(1, ddof=1) / math.sqrt(3)
    assert (np.abs(samples.mean(1)) <= half).mean() == pytest.approx(0.95, abs=0.011)
    assert t_interval(samples[0])[1] == pytest.approx(samples[0].mean() + half[0])


def test_one_sample_has_neither_error_nor_interval():
    assert math.isnan(standard_error(np.ones(1)))
    assert all(math.isnan(end) for end in t_interval(np.ones(1)))


@pytest.mark.parametrize(("count", "samples"), [(0, 7), (3, 7), (7, 7), (1120, 10_000)])
def test_the_interval_of_a_share_is_that_of_scipy(count, samples):
    exact = stats.binomtest(count, samples).proportion_ci(0.9, method="wilson")
    assert wilson_interval(count, samples, 0.9) == pytest.approx(tuple(exact), abs=1e-12)


@pytest.mark.parametrize(("count", "samples"), [(8, 7), (-1, 7), (0, 0)])
def test_what_is_no_share_is_refused(count, samples):
    with pytest.raises(ValueError, match="count must lie in"):
        wilson_interval(count, samples)
