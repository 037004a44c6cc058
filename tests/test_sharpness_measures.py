import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dense import Quadratic, classes, dense_hessian, mean, mlp, quadratic, symmetric
from torch import nn

from landscape import Objective
from landscape.ascents import Ball, ascend, slope
from landscape.chunks import draw_chunks
from landscape.sharpness_measures import MEASURES, Bench, Settings

CENTER = np.array([0.5, -1.0, 2.0, 0.1, -0.3])
MATRIX = symmetric(5, 1) @ symmetric(5, 1)
PLAIN = Settings(
    rho=0.05,
    ascent_steps=20,
    average_rho=0.01,
    pairs=32,
    adaptive_rho=0.5,
    adaptive_box=0.01,
    adaptive_average_rho=0.1,
    m=16,
    chunks=8,
    probes=20,
    tolerance=1e-6,
    seed=0,
)


class Bowl(Quadratic):
    """A quadratic whose minimum is not at 0; it stands there."""

    def __init__(self):
        super().__init__(MATRIX)
        self.register_buffer("center", torch.as_tensor(CENTER))
        with torch.no_grad():
            self.theta.copy_(self.center)

    def forward(self, inputs):
        e = self.theta - self.center
        return (1 + 0.5 * e @ self.matrix @ e).expand(len(inputs))


def bowl():
    return Objective(Bowl(), mean, (torch.zeros(2, 1), torch.zeros(2)))


def measure(objective, name, **changes):
    return MEASURES[name](Bench(objective, replace(PLAIN, **changes)), lambda *_: None)


def after_largest_eigenvalue(objective, name, **changes):
    bench = Bench(objective, replace(PLAIN, **changes))
    MEASURES["λmax"](bench, lambda *_: None)
    return MEASURES[name](bench, lambda *_: None)


def test_largest_eigenvalue_is_the_most_positive_one():
    row = measure(quadratic(np.diag([2.0, -9.0, 1.0])), "λmax")
    assert row.value == pytest.approx(2, rel=1e-10)
    assert not row.lower_bound


def test_trace_comes_with_error_and_interval():
    matrix = symmetric(30)
    rows = [measure(quadratic(matrix), "trace", seed=seed) for seed in range(8)]
    for row in rows:
        assert row.low < row.value < row.high
        assert abs(row.value - np.trace(matrix)) < 4.5 * row.standard_error
    diagonal = measure(quadratic(np.diag([3.0, -1.0])), "trace")
    assert diagonal.value == pytest.approx(2, rel=1e-12)
    assert diagonal.settings == "20 probes"


def test_worst_case_at_a_minimum_is_exact_though_there_is_no_gradient():
    objective = bowl()
    largest = np.linalg.eigvalsh(MATRIX)[-1]
    row = after_largest_eigenvalue(objective, "SAM sharpness, n steps", rho=0.3)
    assert row.value == pytest.approx(0.3**2 * largest / 2, rel=1e-9)
    assert row.lower_bound
    assert math.isnan(row.standard_error)
    assert math.isnan(row.low)
    assert measure(objective, "SAM sharpness, 1 step").value == 0


def test_one_step_goes_the_whole_radius_along_the_gradient():
    objective = Objective(*mlp())
    gradient = objective.gradient()
    end = objective.theta + 0.2 * gradient / gradient.norm()
    row = measure(objective, "SAM sharpness, 1 step", rho=0.2)
    assert row.value == pytest.approx(objective(end) - objective(), rel=1e-9)
    assert row.lower_bound


@pytest.mark.parametrize("rho", [0.02, 0.5, 2.0])
def test_steps_never_find_less_than_one_step(rho):
    objective = Objective(*mlp())
    one = measure(objective, "SAM sharpness, 1 step", rho=rho).value
    assert after_largest_eigenvalue(objective, "SAM sharpness, n steps", rho=rho).value >= one > 0


def test_adaptive_worst_case_at_a_minimum_is_that_of_the_weighted_hessian():
    weighted = MATRIX * np.abs(np.outer(CENTER, CENTER))
    row = measure(bowl(), "adaptive worst case, p = 2")
    assert row.value == pytest.approx(0.5**2 * np.linalg.eigvalsh(weighted)[-1] / 2, rel=1e-9)
    assert row.lower_bound


def test_adaptive_worst_case_in_a_box_is_the_best_corner_of_a_convex_loss():
    row = measure(bowl(), "adaptive worst case, p = ∞")
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    corners = 0.01 * np.abs(CENTER)[:, None] * signs
    best = (0.5 * corners * (MATRIX @ corners)).sum(0).max()
    assert 0.9 * best <= row.value <= best * (1 + 1e-9)


def test_adaptive_worst_case_in_a_small_box_is_the_sum_of_gradients_by_weights():
    objective = Objective(*mlp())
    first_order = float((objective.gradient() * objective.theta).abs().sum())
    row = measure(objective, "adaptive worst case, p = ∞", adaptive_box=1e-5)
    assert row.value == pytest.approx(1e-5 * first_order, rel=1e-3)


AVERAGES = {
    "average case, Gaussian": (0.01**2 * MATRIX, 1),
    "average case, sphere": (0.05**2 * MATRIX / 5, 5 / 7),
    "adaptive average case": (0.1**2 * MATRIX * np.abs(np.outer(CENTER, CENTER)), 1),
}


def expected_variance(name):
    """Of ½ eᵀAe: ½ ‖A‖_F² for the Gaussian; on the sphere less the part of the length."""
    matrix, _ = AVERAGES[name]
    if name != "average case, sphere":
        return 0.5 * (matrix**2).sum()
    return 0.25 * (2 * (matrix**2).sum() * 5 - 2 * np.trace(matrix) ** 2) / 7


@pytest.mark.parametrize("name", AVERAGES)
def test_average_of_a_quadratic_is_half_the_trace_of_what_is_drawn(name):
    matrix, _ = AVERAGES[name]
    row = measure(bowl(), name, pairs=1500)
    truth, spread = np.trace(matrix) / 2, math.sqrt(expected_variance(name) / 1500)
    assert abs(row.value - truth) < 4 * spread
    assert row.standard_error == pytest.approx(spread, rel=0.1)
    assert not row.lower_bound
    assert "1500 pairs" in row.settings


@pytest.mark.parametrize("name", AVERAGES)
def test_intervals_of_averages_hold_the_truth_as_often_as_they_say(name):
    truth = np.trace(AVERAGES[name][0]) / 2
    objective = bowl()
    rows = [measure(objective, name, seed=seed, pairs=20) for seed in range(100)]
    held = sum(row.low <= truth <= row.high for row in rows)
    assert 85 <= held <= 99  # 95 of 100, or somewhat fewer, as squares are skewed


def test_pairs_take_the_odd_part_out():
    model = nn.Linear(3, 1, bias=False).double()
    data = (torch.randn(20, 3).double(), torch.zeros(20, 1).double())
    objective = Objective(model, lambda out, _: out.mean(), data)
    for name in AVERAGES:
        row = measure(objective, name)
        assert abs(row.value) < 1e-15
        assert row.standard_error < 1e-15


def test_lengths_in_words_are_those_of_what_is_drawn():
    objective = Objective(*mlp())
    whole = float(objective.theta.norm())
    seen = []
    objective.evaluate, plain = lambda w, **_: (seen.append(w), plain(w))[1], objective.evaluate
    row = measure(objective, "average case, Gaussian", pairs=200)
    lengths = [float((w - objective.theta).norm()) for w in seen if w is not None]
    said = float(row.settings.split("≈ ")[1].split(",")[0])
    assert np.sqrt(np.mean(np.square(lengths))) == pytest.approx(said, rel=0.03)
    assert f"{said / whole:.2g} ‖w‖" in row.settings


def bias_free(depth):
    torch.manual_seed(2)
    layers = [nn.Linear(4, 6, bias=False)]
    for _ in range(depth - 2):
        layers += [nn.ReLU(), nn.Linear(6, 6, bias=False)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(6, 3, bias=False)).double()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_fisher_rao_of_a_bias_free_rectifier_net_is_the_output_times_its_depth(depth):
    model, (x, y) = bias_free(depth), classes(33, (4,), 3)
    objective = Objective(model, nn.CrossEntropyLoss(), (x, y), batch_size=7)
    f = model(x).detach()
    outer = f.softmax(1) - nn.functional.one_hot(y, 3)
    expected = depth**2 * float((outer * f).sum(1).square().mean())
    assert measure(objective, "Fisher–Rao norm").value == pytest.approx(expected, rel=1e-12)


def test_fisher_rao_needs_an_output_for_each_sample():
    row = measure(quadratic(np.eye(3)), "Fisher–Rao norm")
    assert row.value == 0
    objective = Objective(
        *(Pair(), lambda out, y: nn.functional.cross_entropy(out[0], y), classes(12, (4,), 3))
    )
    assert math.isnan(measure(objective, "Fisher–Rao norm").value)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3).double()

    def forward(self, x):
        return self.layer(x), 0


def test_m_sharpness_is_the_mean_over_chunks_of_their_own_worst_cases():
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data, batch_size=10)
    chunks, every = draw_chunks(objective, size=16, most=8, seed=0)
    assert [len(y) for _, y in chunks] == [11, 11, 11]
    rises = []
    for chunk in chunks:
        own = Objective(model, loss_fn, [chunk])
        rises.append(after_largest_eigenvalue(own, "SAM sharpness, n steps").value)
    row = after_largest_eigenvalue(objective, "m-sharpness")
    assert row.value == pytest.approx(np.mean(rises), rel=1e-3)
    assert row.standard_error == pytest.approx(np.std(rises, ddof=1) / math.sqrt(3), rel=1e-2)
    assert row.high - row.value == pytest.approx(4.302653 * row.standard_error, rel=1e-6)
    assert row.lower_bound
    assert f"m {11}" in row.settings
    assert f"3 of {every} chunks" in row.settings


def test_m_sharpness_of_everything_is_sharpness_and_grows_as_m_falls():
    objective = Objective(*mlp())
    whole = after_largest_eigenvalue(objective, "SAM sharpness, n steps").value
    rows = [
        after_largest_eigenvalue(objective, "m-sharpness", m=m, chunks=33) for m in (33, 11, 3, 1)
    ]
    assert rows[0].value == pytest.approx(whole, rel=1e-9)
    assert math.isnan(rows[0].standard_error)
    values = [row.value for row in rows]
    assert values == sorted(values)
    assert values[-1] > 1.5 * values[0]


def test_unequal_chunks_count_by_their_samples():
    x, y = classes(33, (4,), 3)
    model, loss_fn, _ = mlp()
    norm = nn.Sequential(model[0], nn.BatchNorm1d(5), *model[1:]).double()
    data = [(x[:30], y[:30]), (x[30:], y[30:])]
    objective = Objective(norm, loss_fn, data, bn="batch")
    rises = []
    for batch in objective.batches:
        own = Objective(norm, loss_fn, [batch], bn="batch")
        base = slope(own, own.theta)
        rises.append(
            ascend(
                lambda w, own=own: slope(own, w), own.theta, Ball(radius=0.05), base=base, steps=20
            ).rise
        )
    row = measure(objective, "m-sharpness")
    assert row.value == pytest.approx((30 * rises[0] + 3 * rises[1]) / 33, rel=1e-6)
    assert "m 3 to 30" in row.settings


def test_curvature_measures_of_a_net_are_those_of_its_dense_hessian():
    model, loss_fn, data = mlp()
    dense = dense_hessian(model, loss_fn, data)
    objective = Objective(model, loss_fn, data)
    assert measure(objective, "λmax").value == pytest.approx(np.linalg.eigvalsh(dense)[-1])
    w = objective.theta.numpy()
    small = {"average_rho": 1e-3, "adaptive_average_rho": 1e-3, "rho": 1e-3, "pairs": 400}
    for name, trace in (
        ("average case, Gaussian", np.trace(dense)),
        ("average case, sphere", np.trace(dense) / len(w)),
        ("adaptive average case", (np.diag(dense) * w**2).sum()),
    ):
        row = measure(objective, name, **small)
        assert abs(row.value - 1e-6 * trace / 2) < 4 * row.standard_error
        assert row.standard_error < 1e-7 * trace
