import math

import numpy as np
import pytest
import torch

from landscape.basis import Basis
from landscape.bounds import least_part
from landscape.lanczos import Krylov


def ritz_of(values, start, steps, *, most=None):
    """Ritz pairs of diag(values) after some steps, restarted from the upper half at `most`."""
    diagonal = torch.as_tensor(values)
    most = most or steps
    space = Krylov(Basis(diagonal, block=8), len(diagonal), most)
    space.start(torch.as_tensor(start))
    for _ in range(steps):
        if space.steps == most:
            known = space.ritz()
            space.restart(known, np.arange(most) >= most // 2)
        space.extend(diagonal * space.last)
    return space.ritz()


def starts(count, size, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, size))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("failure", [0.01, 0.1])
def test_a_random_unit_vector_seldom_has_less_than_the_least_part(failure):
    parts = np.abs(starts(50_000, 40)[:, 0])
    below = (parts < least_part(40, failure)).mean()
    assert below <= failure + 3 * math.sqrt(failure / 50_000)
    assert below >= 0.8 * failure


def test_a_space_of_all_but_one_dimension_bounds_the_part_of_the_start_exactly():
    values, start = np.array([-1.0, 0.2, 0.5, 1.0, 3.0]), starts(1, 5)[0]
    known = ritz_of(values, start, 4)  # with the next vector all of the space
    assert known.sight.log_part(3.0) == pytest.approx(math.log(abs(start[-1])), abs=1e-10)
    mirrored = known.sight.mirrored()
    assert mirrored.log_part(1.0) == pytest.approx(math.log(abs(start[0])), abs=1e-10)


@pytest.mark.parametrize("most", [12, 5])
def test_no_part_of_the_start_is_larger_than_its_bound(most):
    values = np.sort(np.random.default_rng(3).standard_normal(60))
    for start in starts(20, 60):
        sight = ritz_of(values, start, 12, most=most).sight
        assert sight.top < values[-1]
        assert math.log(abs(start[-1])) <= sight.log_part(values[-1]) + 1e-9


def test_restarts_hardly_weaken_the_bound():
    values = np.sort(np.random.default_rng(3).standard_normal(200))
    for start in starts(5, 200):
        whole, cut = (ritz_of(values, start, 20, most=most).sight for most in (20, 10))
        part = least_part(200, 0.01)
        assert whole.upper(part) <= cut.upper(part) + 1e-12
        gaps = [sight.upper(part) - values[-1] for sight in (whole, cut)]
        assert gaps[1] < 4 * max(gaps[0], 0.1)


@pytest.mark.parametrize("steps", [4, 8])
def test_the_upper_bound_fails_as_often_as_stated_and_hardly_less(steps):
    values = np.concatenate([np.linspace(0, 0.1, 195), [0.3, 0.5, 0.6, 0.8, 1.0]])
    part = least_part(200, 0.2)
    drawn = starts(400, 200)
    bounds = np.array([ritz_of(values, start, steps).sight.upper(part) for start in drawn])
    missed = (bounds < 1.0 - 1e-12).mean()
    assert missed <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 400)
    assert missed >= 0.1


def test_the_upper_bound_is_tighter_than_one_that_knows_only_the_number_of_steps():
    values = np.sort(np.random.default_rng(4).standard_normal(300))
    steps, failure = 10, 0.01
    share = (math.log(1.648 * math.sqrt(300) / failure) / (2 * steps - 1)) ** 2
    for start in starts(20, 300):
        known = ritz_of(values, start, steps)
        bound = known.sight.upper(least_part(300, failure))
        kuczynski_wozniakowski = known.values[-1] + share * np.ptp(values)
        assert values[-1] <= bound < kuczynski_wozniakowski


def test_nothing_is_said_below_what_was_seen():
    known = ritz_of(np.array([0.0, 1.0, 2.0, 4.0]), starts(1, 4)[0], 2)
    assert known.sight.log_part(known.values[-1]) == math.inf
    assert not known.sight.excludes(known.values[-1], 0.5)


def test_an_invariant_space_bounds_by_its_largest_value():
    known = ritz_of(np.array([1.0, 1.0, 3.0, 3.0]), starts(1, 4)[0], 2)
    assert known.sight.upper(least_part(4, 0.01)) == pytest.approx(3.0, abs=1e-12)
