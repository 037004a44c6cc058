import itertools
import math

import numpy as np
import pytest

from landscape.grids import COARSE_SHARE, grid_axes, levels, nested_grids, visiting_order

SHAPES = [(2,), (3,), (51,), (52,), (2, 2), (2, 9), (51, 51), (50, 50), (4, 7), (101, 5), (41, 80)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_point_is_visited_exactly_once(shape):
    order = visiting_order(shape)
    assert sorted(order.tolist()) == list(range(math.prod(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_the_visiting_order_in_pieces(shape):
    assert np.concatenate(levels(shape)).tolist() == visiting_order(shape).tolist()
    assert all(len(level) for level in levels(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_points_up_to_each_level_are_whole_grids_with_ends_and_center(shape):
    order = visiting_order(shape)
    for grid in nested_grids(shape):
        visited = order[: math.prod(len(axis) for axis in grid)]
        crossings = np.ravel_multi_index(np.meshgrid(*grid, indexing="ij"), shape)
        assert sorted(visited.tolist()) == sorted(crossings.ravel().tolist())
        for axis, count in zip(grid, shape, strict=True):
            assert {0, count - 1} <= set(axis.tolist())
            assert count % 2 == 0 or count // 2 in axis


@pytest.mark.parametrize("shape", [(51, 51), (50, 50), (101, 41), (31, 64), (51,), (100,)])
def test_a_coarse_picture_is_complete_after_about_six_percent(shape):
    whole = math.prod(shape)
    shares = [math.prod(map(len, grid)) / whole for grid in nested_grids(shape)]
    nearest = min(range(len(shares)), key=lambda i: abs(math.log(shares[i] / COARSE_SHARE)))
    assert 0.045 < shares[nearest] < 0.09
    for axis, count in zip(nested_grids(shape)[nearest], shape, strict=True):
        gaps = np.diff(axis)
        even = (count - 1) / (len(axis) - 1)
        assert np.abs(gaps - even).max() < 1


@pytest.mark.parametrize("shape", [(51, 51), (64, 33), (52,)])
def test_each_grid_fills_the_widest_gaps_of_the_one_before(shape):
    grids = nested_grids(shape)
    for before, after in itertools.pairwise(grids):
        widths = [np.diff(axis).max() / (n - 1) for axis, n in zip(before, shape, strict=True)]
        grown = [i for i, axis in enumerate(before) if len(axis) < len(after[i])]
        assert grown == [int(np.argmax(widths))]
        was, now = np.diff(before[grown[0]]).max(), np.diff(after[grown[0]]).max()
        assert math.ceil(was / 3) <= now <= math.ceil(was / 2)


def test_odd_axes_are_filled_symmetrically():
    for grid in nested_grids((51, 37)):
        for axis, count in zip(grid, (51, 37), strict=True):
            if len(axis) <= (13 if count == 51 else 9):
                assert (count - 1 - axis[::-1]).tolist() == axis.tolist()


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (0, 3)])
def test_a_grid_without_points_to_order_is_an_error(shape):
    with pytest.raises(ValueError, match="at least 2 points along each axis"):
        visiting_order(shape)


def test_mirrored_bounds_give_mirrored_axes_with_an_exact_zero():
    alpha, beta = grid_axes(0.7, (51, 21), 2)
    for axis in (alpha, beta):
        assert (axis == -axis[::-1]).all()
        assert axis[len(axis) // 2] == 0.0
        assert (axis[0], axis[-1]) == (-0.7, 0.7)


def test_bounds_of_each_axis_are_kept_to_the_bit():
    alpha, beta = grid_axes((-0.1, 0.3, 1.1, 1.7), 7, 2)
    assert (alpha[0], alpha[-1], beta[0], beta[-1]) == (-0.1, 0.3, 1.1, 1.7)
    np.testing.assert_allclose(np.diff(alpha), 0.4 / 6, rtol=1e-12)


@pytest.mark.parametrize("extent", [0, -1.0, (1, 0), (0, 1, 2), float("nan"), (0, float("inf"))])
def test_bounds_that_span_nothing_are_an_error(extent):
    with pytest.raises(ValueError, match="extent must be a number above 0, or bounds"):
        grid_axes(extent, 5, 1)


@pytest.mark.parametrize("points", [1, 2.0, True, (5,), (5, 1), (5, 5, 5)])
def test_points_that_are_no_grid_are_an_error(points):
    with pytest.raises(ValueError, match="points must be"):
        grid_axes(1.0, points, 2)
