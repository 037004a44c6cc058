import math

import numpy as np
import pytest
import torch
from dense import classes, mlp, symmetric
from scipy.optimize import brentq, minimize
from torch import nn

from landscape import Objective
from landscape.ascents import Ball, ascend, slope


def bowl(matrix, gradient=None, value=0.0):
    """½ eᵀ A e + bᵀ e about the origin, its slope at 0, and where that is."""
    A = torch.as_tensor(matrix)
    b = torch.zeros(len(A), dtype=A.dtype) if gradient is None else torch.as_tensor(gradient)

    def function(theta):
        return value + float(0.5 * theta @ A @ theta + b @ theta), A @ theta + b

    return function, torch.zeros(len(A), dtype=torch.float64)


def climb(function, theta, ball, axes=(), steps=60):
    axes = [torch.as_tensor(axis) for axis in axes]
    return ascend(function, theta, ball, base=function(theta), axes=axes, steps=steps)


def top_of(matrix):
    return np.linalg.eigh(matrix)[1][:, -1]


def highest(matrix, gradient, radius):
    """The maximum over the ball, by the secular equation of the trust region."""
    values, vectors = np.linalg.eigh(matrix)
    parts = vectors.T @ gradient

    def excess(mu):
        return np.linalg.norm(parts / (mu - values)) - radius

    mu = brentq(excess, values[-1] + 1e-12, values[-1] + np.linalg.norm(gradient) / radius + 1)
    e = vectors @ (parts / (mu - values))
    return 0.5 * e @ matrix @ e + gradient @ e


@pytest.mark.parametrize("seed", range(4))
def test_at_a_minimum_the_top_eigenvector_gives_the_exact_worst_case(seed):
    matrix = symmetric(7, seed) @ symmetric(7, seed)
    found = climb(*bowl(matrix), Ball(radius=0.3), [top_of(matrix)], steps=3)
    assert found.rise == pytest.approx(0.3**2 * np.linalg.eigvalsh(matrix)[-1] / 2, rel=1e-12)
    assert float(found.displacement.norm()) == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(4))
def test_long_steps_find_the_worst_case_from_any_direction(seed):
    matrix = symmetric(7, seed) @ symmetric(7, seed)
    start = np.random.default_rng(seed).standard_normal(7)
    found = climb(*bowl(matrix), Ball(radius=0.3), [start], steps=200)
    worst = 0.3**2 * np.linalg.eigvalsh(matrix)[-1] / 2
    assert worst * 0.99 <= found.rise <= worst * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_worst_case_of_a_sloping_quadratic_is_that_of_the_secular_equation(seed):
    rng = np.random.default_rng(seed)
    matrix, gradient = symmetric(6, seed), rng.standard_normal(6)
    for radius in (0.1, 1.0):
        found = climb(*bowl(matrix, gradient, value=2.0), Ball(radius=radius))
        worst = highest(matrix, gradient, radius)
        assert worst * (1 - 2e-3) <= found.rise <= worst * (1 + 1e-12)


def test_a_summit_inside_the_ball_is_found():
    gradient = np.array([0.3, -0.4])
    found = climb(*bowl(-np.eye(2), gradient), Ball(radius=3.0))
    assert found.rise == pytest.approx(0.5**2 / 2, rel=1e-3)
    np.testing.assert_allclose(found.displacement, gradient, atol=0.03)


def test_a_summit_at_the_center_gives_no_rise():
    found = climb(*bowl(-np.eye(2)), Ball(radius=1.0), [np.ones(2)], steps=3)
    assert found.rise == 0
    assert not found.displacement.any()


def test_more_steps_never_give_less_and_one_step_is_the_end_of_the_gradient():
    matrix, gradient = symmetric(9, 5), np.random.default_rng(5).standard_normal(9)
    function, theta = bowl(matrix, gradient)
    rises = [climb(function, theta, Ball(radius=2.0), steps=n).rise for n in (1, 2, 4, 8, 16)]
    end = torch.as_tensor(gradient) * (2.0 / np.linalg.norm(gradient))
    assert rises[0] == max(0, function(end)[0])
    assert rises == sorted(rises)
    assert rises[-1] > rises[0]


def test_worst_case_in_a_box_of_a_slope_is_the_sum_of_its_magnitudes():
    gradient = np.array([1.0, -2.0, 0.5, 0.0])
    scale = torch.tensor([2.0, 1.0, 0.0, 3.0], dtype=torch.float64)
    ball = Ball(radius=0.1, norm="inf", scale=scale)
    found = climb(*bowl(np.zeros((4, 4)), gradient), ball)
    assert found.rise == pytest.approx(0.1 * np.abs(gradient * scale.numpy()).sum(), rel=1e-12)
    np.testing.assert_allclose(found.displacement, [0.2, -0.1, 0, 0], atol=1e-15)


def test_scaled_ball_has_the_worst_case_of_the_scaled_matrix():
    matrix = symmetric(5, 3) @ symmetric(5, 3)
    scale = np.array([2.0, 0.5, 0.0, 1.0, 3.0])
    scaled = matrix * np.outer(scale, scale)
    ball = Ball(radius=0.2, scale=torch.as_tensor(scale))
    found = climb(*bowl(matrix), ball, [top_of(scaled)])
    assert found.rise == pytest.approx(0.2**2 * np.linalg.eigvalsh(scaled)[-1] / 2, rel=1e-9)
    assert found.displacement[2] == 0


def test_long_steps_find_the_worst_case_of_the_scaled_matrix_from_any_direction():
    matrix = symmetric(5, 3) @ symmetric(5, 3)
    scale = np.array([2.0, 0.5, 0.2, 1.0, 3.0])
    ball = Ball(radius=0.2, scale=torch.as_tensor(scale))
    found = climb(*bowl(matrix), ball, [np.ones(5)], steps=200)
    worst = 0.2**2 * np.linalg.eigvalsh(matrix * np.outer(scale, scale))[-1] / 2
    assert worst * 0.99 <= found.rise <= worst * (1 + 1e-12)


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_every_point_asked_for_lies_in_the_ball(norm):
    matrix, gradient = symmetric(8, 1), np.random.default_rng(1).standard_normal(8)
    function, theta = bowl(matrix, gradient)
    seen = []

    def watched(theta):
        seen.append(theta)
        return function(theta)

    climb(watched, theta, Ball(radius=0.7, norm=norm), [np.ones(8)])
    lengths = [float(torch.linalg.vector_norm(e, float(norm))) for e in seen]
    assert len(seen) > 5
    assert max(lengths) <= 0.7 * (1 + 1e-12)


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_climb_on_a_net_is_that_of_many_constrained_searches(norm):
    objective = Objective(*mlp())
    theta, radius = objective.theta, 0.5 if norm == "2" else 0.1
    base = slope(objective, theta)
    loss = base[0]

    def fall(e):
        value, slope_there = slope(objective, theta + torch.as_tensor(e))
        return loss - value, -slope_there.numpy()

    rng = np.random.default_rng(0)
    starts = radius / 8 * rng.standard_normal((5, len(theta)))
    if norm == "2":
        inside = {"type": "ineq", "fun": lambda e: radius**2 - e @ e, "jac": lambda e: -2 * e}
        options = {"method": "SLSQP", "constraints": inside}
    else:
        options = {"method": "L-BFGS-B", "bounds": [(-radius, radius)] * len(theta)}
    worst = max(-minimize(fall, e, jac=True, **options).fun for e in starts)
    found = ascend(
        lambda w: slope(objective, w), theta, Ball(radius=radius, norm=norm), base=base, steps=60
    )
    assert 0.99 * worst <= found.rise <= worst * (1 + 1e-6)
    assert loss + found.rise == pytest.approx(objective(theta + found.displacement), rel=1e-12)


def test_points_without_a_loss_are_passed_over():
    def function(theta):
        x = float(theta[0])
        return (x if x < 0.5 else math.nan), torch.ones(1, dtype=torch.float64)

    zero = torch.zeros(1, dtype=torch.float64)
    found = climb(function, zero, Ball(radius=1.0), [[-1.0]], steps=8)
    assert 0 <= found.rise < 0.5
    assert math.isnan(climb(function, zero, Ball(radius=1.0)).rise)
    assert math.isnan(climb(function, zero + 0.6, Ball(radius=0.01)).rise)


def test_an_infinite_loss_is_an_infinite_rise():
    def function(theta):
        return (math.inf if theta[0] > 0.5 else 0.0), torch.ones(1, dtype=torch.float64)

    found = climb(function, torch.zeros(1, dtype=torch.float64), Ball(radius=1.0))
    assert found.rise == math.inf


def test_progress_tells_steps_and_the_rise_so_far():
    function, theta = bowl(np.eye(3), np.ones(3))
    told = []
    ball, axes = Ball(radius=0.1), [torch.ones(3, dtype=torch.float64)]
    ascend(
        *(function, theta, ball),
        base=function(theta),
        axes=axes,
        steps=4,
        tell=lambda *said: told.append(said),
    )
    assert {allowed for _, allowed, _ in told} == {8}
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[0] == (1, 8, "≥ 0.1782")
    assert float(told[-1][2].removeprefix("≥ ")) > 0.17


@pytest.mark.parametrize("batch_size", [5, 33])
def test_slope_is_loss_and_gradient_weighted_by_size(batch_size):
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data, batch_size=batch_size)
    loss, gradient = slope(objective, objective.theta)
    assert loss == pytest.approx(loss_fn(model(data[0]), data[1]).item(), rel=1e-12)
    torch.testing.assert_close(gradient, objective.gradient(), rtol=1e-12, atol=1e-14)


def test_slope_over_some_batches_is_that_of_their_data():
    model, loss_fn, (x, y) = mlp()
    objective = Objective(model, loss_fn, (x, y), batch_size=7)
    some = [(x[:4], y[:4]), (x[20:33], y[20:33])]
    of_them = Objective(model, loss_fn, some)
    loss, gradient = slope(objective, objective.theta, some)
    assert loss == pytest.approx(of_them(), rel=1e-12)
    torch.testing.assert_close(gradient, of_them.gradient(), rtol=1e-12, atol=1e-14)


def test_slope_needs_derivatives():
    data = classes(12, (4,), 3)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    objective = Objective(model, nn.CrossEntropyLoss(), data, bn="recomputed")
    with pytest.raises(ValueError, match="no derivatives"):
        slope(objective, objective.theta)
