import numpy as np
import pytest
import torch

from landscape.extents import extent_of_path, extent_of_span, find_extent
from landscape.formulas import formula_objective
from landscape.plane import Plane
from landscape.spans import Direction, span_plane


def bowl(*curvatures, offset=1.0):
    matrix = torch.tensor(curvatures, dtype=torch.float64)
    return formula_objective(lambda w: offset + 0.5 * (matrix * w * w).sum(), [0.0] * len(matrix))


def axes_of(objective, length=1.0):
    return Plane(objective.theta, length * torch.eye(2, dtype=torch.float64))


def test_extent_is_where_a_bowl_has_risen_by_the_factor():
    objective = bowl(1.0, 100.0)
    bounds = find_extent(objective, axes_of(objective), rise=9.0)
    assert bounds[0] == -bounds[1]
    assert bounds[2] == -bounds[3]
    assert 1 <= bounds[1] / 4.0 <= 2 ** (1 / 32)  # ½ a² = 8
    assert 1 <= bounds[3] / 0.4 <= 2 ** (1 / 32)


def test_extent_is_in_multiples_of_the_direction():
    objective = bowl(1.0, 1.0)
    one = find_extent(objective, axes_of(objective), rise=9.0)
    ten = find_extent(objective, axes_of(objective, 10.0), rise=9.0)
    assert np.allclose(one, 10 * np.array(ten), rtol=1e-12)


def test_the_steeper_side_decides():
    objective = formula_objective(lambda w: torch.exp(w).sum(), [0.0])
    plane = Plane(objective.theta, torch.ones(1, 1, dtype=torch.float64))
    low, high = find_extent(objective, plane, rise=10.0)
    assert low == -high
    assert 1 <= high / np.log(10) <= 2 ** (1 / 32)


def test_a_loss_that_diverges_has_risen():
    objective = formula_objective(lambda w: 1 / (1 - (w * w).sum()).clamp(min=0), [0.0])
    plane = Plane(objective.theta, torch.ones(1, 1, dtype=torch.float64))
    assert find_extent(objective, plane, rise=1e9)[1] == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize(
    ("objective", "rise", "told"),
    [
        (bowl(1.0, 1.0), 1.0, "factor above 1"),
        (bowl(1.0, 1.0), float("nan"), "factor above 1"),
        (bowl(1.0, 1.0, offset=0.0), 10.0, "loss above 0"),
        (bowl(1.0, 0.0), 10.0, "'direction 2', got less within"),
    ],
)
def test_what_cannot_rise_is_refused(objective, rise, told):
    with pytest.raises(ValueError, match=told):
        find_extent(objective, axes_of(objective), rise=rise)


@pytest.mark.parametrize("points", [3, 4, 5, 8, 15])
def test_a_path_gets_a_square_with_its_origin_on_the_grid(points):
    position = np.array([[-3.0, 1.0], [0.0, 0.0], [1.0, 2.0]])
    a0, a1, b0, b1 = extent_of_path(position, points)
    assert a1 - a0 == pytest.approx(b1 - b0)
    assert a0 < -3 < 1 < a1
    assert b0 < 0 < 2 < b1
    axis = np.linspace(a0, a1, points)
    assert np.abs(axis).min() < 1e-12
    assert np.abs(np.linspace(b0, b1, points)).min() < 1e-12


def test_two_points_still_hold_the_path():
    a0, a1, b0, b1 = extent_of_path(np.array([[-3.0, 1.0], [0.0, 0.0], [1.0, 2.0]]), 2)
    assert a0 < -3 < 1 < a1
    assert b0 < 0 < 2 < b1


def spanned(*kinds):
    """Directions of length 1, 2, ... along the axes."""
    facts = {"gradient": {"gradient_norm": 4.0}}
    return span_plane(
        torch.zeros(3),
        [
            Direction(
                kind, kind, (i + 1) * torch.eye(3)[i], {"direction": kind} | facts.get(kind, {})
            )
            for i, kind in enumerate(kinds)
        ],
    )


def test_a_plane_along_perturbations_shows_their_ends():
    assert extent_of_span(spanned("sam", "aace"), 2.0) == [-1.5, 1.5, -1.5, 1.5]
    assert extent_of_span(spanned("gradient", "aace"), 2.0) == [-3.0, 3.0, -1.5, 1.5]
    assert extent_of_span(spanned("gradient"), 2.0) == [-0.5, 0.5]
    assert extent_of_span(spanned("given", "aace"), 2.0) == [-1.0, 1.0, -1.5, 1.5]
