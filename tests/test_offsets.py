import copy

import numpy as np
import pytest
import torch
from test_consistency import make_net, make_objective
from torch import nn
from torch.nn import functional

from landscape.calibration import fit_temperature, measure_calibration
from landscape.consistency import measure_consistency
from landscape.objectives import Objective
from landscape.offsets import measure_offset, minimum_place
from landscape.perturbations import aace, sam, usam, vasso

QUICK = {"batches": 3, "batch_size": 8, "seed": 1}


class Line(nn.Module):
    """One weight w, from which each sample x has the loss ½ (w − x)²."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight], dtype=torch.float64))

    def forward(self, inputs):
        return (self.weight - inputs) ** 2 / 2


def on_a_line(samples, weight):
    data = torch.as_tensor(samples)[:, None], torch.zeros(len(samples))
    return Objective(Line(weight), lambda output, _: output.mean(), data)


class Scale(nn.Module):
    """Logits that one weight scales: w times those of the sample."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight], dtype=torch.float64))

    def forward(self, inputs):
        return self.weight * inputs


def scaled_logits(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    logits = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
    return torch.tensor(logits), torch.tensor(labels)


@pytest.mark.parametrize(
    ("extent", "points", "places"),
    [
        ((-1, 2), 31, np.arange(-10, 21) / 10),
        ((-1, 2), 6, [-1, -0.4, 0, 0.2, 0.8, 1, 1.4, 2]),
        ((-0.04, 1.16), 7, [0, 0.16, 0.36, 0.56, 0.76, 1, 1.16]),
        ((-60, 20), 5, [-60, -40, -20, 0, 1, 20]),
        ((0, 1), 5, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_both_weights_are_places_of_the_line_and_no_other_lies_close_by(extent, points, places):
    objective = on_a_line(np.full(9, 2.0), 2.3)
    result = measure_offset(objective, sam(0.1), points=points, extent=extent, **QUICK)
    np.testing.assert_allclose(result.alpha, places, atol=1e-12)
    assert {0.0, 1.0} <= set(result.alpha.tolist())


@pytest.mark.parametrize("points", [10, 31])
def test_on_a_quadratic_the_minimum_is_where_it_is_between_any_places(points):
    objective = on_a_line(np.full(20, 2.0), 2.274)  # SAM goes on by 0.2, the minimum lies behind
    result = measure_offset(objective, sam(0.2), points=points, extent=(-2.2, 1.5), **QUICK)
    assert result.minimum[0] == pytest.approx(-1.37, abs=1e-9)
    np.testing.assert_allclose([result.minimum_low[0], result.minimum_high[0]], -1.37, atol=1e-9)
    assert result.gain[0] == pytest.approx((0.274**2 - 0.474**2) / 2)
    assert (result.norm, result.weight_norm) == pytest.approx((0.2, 2.274))
    np.testing.assert_allclose(result.loss[0], (0.274 + 0.2 * result.alpha) ** 2 / 2)


def test_weights_that_a_constant_epsilon_keeps_from_the_minimum_have_it_at_one():
    inputs = torch.tensor([[0.6, 0.8]], dtype=torch.float64).repeat(12, 1)

    class Margin(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 2.0]).double())

        def forward(self, rows):
            return torch.stack([0 * rows[:, 0], rows @ self.weight], 1)

    # AACE's ε is −ρ σ(w·x) x; the loss is smallest where w·x is that of w + ε
    start = 0.6 + 1.6
    end = start - 0.3 / (1 + np.exp(-start))

    def loss_fn(output, targets):
        return ((output[:, 1] - end) ** 2 + 0 * targets).mean()

    objective = Objective(Margin(), loss_fn, (inputs, torch.ones(12, dtype=torch.long)))
    result = measure_offset(objective, aace(0.3), points=14, **QUICK)
    assert result.minimum[0] == pytest.approx(1, abs=1e-9)
    assert result.gain[0] == pytest.approx((start - end) ** 2)
    assert result.norm == pytest.approx(start - end)


def test_intervals_are_those_of_a_mean_and_gains_are_of_the_same_samples():
    samples = np.random.default_rng(0).normal(size=4000)
    objective = on_a_line(samples, 0.3)
    others = on_a_line(samples[:1000] + 0.5, 0.3)
    result = measure_offset(objective, usam(0.4), test=others, extent=(-6, 6), points=121, **QUICK)
    epsilon = result.norm if result.minimum[0] < 0 else -result.norm
    for at, x in enumerate((samples, samples[:1000] + 0.5)):
        error = 1.96 * x.std() / np.sqrt(len(x))
        middle, half = (x.mean() - 0.3) / epsilon, error / result.norm
        assert result.minimum[at] == pytest.approx(middle, abs=1e-9)
        assert result.minimum_low[at] == pytest.approx(middle - half, abs=0.15 * half)
        assert result.minimum_high[at] == pytest.approx(middle + half, abs=0.15 * half)
        gain, half = (x.mean() - 0.3) * epsilon - epsilon**2 / 2, error * result.norm
        assert result.gain[at] == pytest.approx(gain, abs=1e-12)
        assert result.gain_low[at] == pytest.approx(gain - half, abs=0.15 * half)
        assert result.gain_high[at] == pytest.approx(gain + half, abs=0.15 * half)
    assert result.curves == ("training loss", "test loss")
    assert np.isnan(result.accuracy).all()
    assert result.temperature.size == result.ece.size == 0


def test_scaling_the_logits_changes_the_loss_but_not_the_temperature_scaled_one():
    data = scaled_logits()
    objective = Objective(Scale(), functional.cross_entropy, data)
    result = measure_offset(objective, sam(0.25), test=objective, extent=(-2, 2), points=9, **QUICK)
    assert result.curves[2] == "test loss, temperature scaled"
    # along ε the weight goes from 1 to 1 ± ‖ε‖, and the temperature with it
    sign = np.sign(result.temperature[-1] - result.temperature[0])
    factors = result.temperature / result.temperature[result.alpha == 0]
    np.testing.assert_allclose(factors, 1 + sign * result.norm * result.alpha, rtol=1e-6)
    assert result.loss[1].std() > 1e-3
    assert result.loss[2].std() < 1e-9
    assert abs(result.gain[2]) < 1e-9 < 1e-3 < abs(result.gain[1])
    halves = np.array_split(np.random.default_rng(1).permutation(60), 2)
    logits, labels = (part.numpy() for part in data)
    fits = [fit_temperature(logits[half], labels[half]).value for half in halves]
    losses = [
        measure_calibration(logits[half], labels[half], temperature=value).cross_entropy
        for half, value in zip(halves, fits[::-1], strict=True)
    ]
    assert result.loss[2, 0] == pytest.approx(np.mean(losses), rel=1e-6)
    at = result.alpha == 0
    assert result.temperature[at] == pytest.approx(np.mean(fits), rel=1e-6)
    assert result.ece[at] == pytest.approx(measure_calibration(logits, labels).ece)


def test_a_loss_that_is_no_plain_cross_entropy_gets_no_temperature():
    def smoothed(output, targets):
        return functional.cross_entropy(output, targets, label_smoothing=0.1)

    objective = Objective(Scale(), smoothed, scaled_logits())
    result = measure_offset(objective, sam(0.25), test=objective, points=5, **QUICK)
    assert result.curves == ("training loss", "test loss")
    assert result.temperature.size == 0
    assert np.isfinite(result.accuracy).all()


@pytest.mark.parametrize("bn", ["recomputed", "batch", "frozen"])
@pytest.mark.parametrize("perturbation", [sam(0.3), aace(), vasso()], ids=lambda p: p.name)
def test_the_line_goes_through_w_and_along_the_mean_of_the_frozen_protocol(bn, perturbation):
    objective = make_objective(bn=bn, batch_size=9)
    data = [(x + 0.1, y) for x, y in make_objective().batches]
    test = Objective(make_net(), functional.cross_entropy, data, bn=bn, statistics=objective)
    result = measure_offset(objective, perturbation, test=test, points=7, **QUICK)
    for at, over in enumerate((objective, test)):
        found = over.evaluate()
        assert result.loss[at, result.alpha == 0] == pytest.approx(found.loss, rel=1e-9)
        assert result.accuracy[at, result.alpha == 0] == pytest.approx(found.accuracy)
    assert result.facts["bn"] == bn
    assert result.facts["displacement_bn"] == "batch"
    if perturbation.has_memory:
        return
    known = measure_consistency(objective, perturbation, **QUICK)
    products = known.cosines * np.outer(known.norms, known.norms)
    assert result.norm == pytest.approx(np.sqrt(products.mean()), rel=1e-9)


def test_objective_and_statistics_are_untouched_and_the_seed_decides():
    objective = make_objective(bn="recomputed", batch_size=9)
    inner, theta = copy.deepcopy(objective.model.state_dict()), objective.theta.clone()
    told = []
    results = [
        measure_offset(
            objective,
            aace(),
            test=objective,
            points=5,
            progress=lambda done, total, note="": told.append((done, total)),
            **QUICK | {"seed": seed},
        )
        for seed in (1, 1, 2)
    ]
    assert results[0].digest == results[1].digest != results[2].digest
    assert told[:10] == [(done, 10) for done in range(1, 11)]
    assert torch.equal(objective.theta, theta)
    now = objective.model.state_dict()
    assert all(torch.equal(inner[name], value) for name, value in now.items())


def test_a_minimum_between_places_is_the_vertex_and_one_at_the_end_is_the_end():
    alpha = np.array([-1.0, -0.2, 0.0, 0.7, 1.0, 2.0])
    rows = np.stack([(alpha - 0.31) ** 2, 3 * (alpha - 1.4) ** 2 + 1, alpha, -alpha, 0 * alpha])
    np.testing.assert_allclose(minimum_place(alpha, rows), [0.31, 1.4, -1, 2, -1], atol=1e-12)


def test_a_minimum_beside_infinity_is_its_place_and_one_of_nan_is_unknown():
    alpha = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    rows = np.array([[9.0, 2.0, 1.0, np.inf, np.inf], [9.0, 2.0, 1.0, 2.0, np.nan]])
    np.testing.assert_array_equal(minimum_place(alpha, rows), [1, np.nan])


def test_a_loss_that_diverges_on_the_line_keeps_its_minimum_and_nan_has_none():
    class Wall(nn.Module):
        def __init__(self, beyond):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0]).double())
            self.beyond = beyond

        def forward(self, rows):
            loss = (self.weight - 0.9) ** 2 + 0 * rows
            return torch.where(self.weight > 1.15, self.beyond, loss)

    data = torch.zeros(8, 1), torch.zeros(8)
    found = [
        measure_offset(
            Objective(Wall(beyond), lambda output, _: output.mean(), data),
            sam(0.1),
            points=13,
            **QUICK,
        )
        for beyond in (float("inf"), float("nan"))
    ]
    assert found[0].minimum[0] == found[0].minimum_low[0] == -1
    assert found[0].gain[0] == found[0].gain_low[0] == pytest.approx(0.1**2 - 0.2**2)
    assert np.isnan([found[1].minimum[0], found[1].minimum_low[0]]).all()
    assert found[1].gain[0] == pytest.approx(0.1**2 - 0.2**2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"points": 4}, "points must be at least 5, to see a minimum between, got 4"),
        ({"extent": (0.1, 2)}, r"extent must hold 0, which is w, and 1, w \+ ε, got 0.1 .. 2"),
        ({"extent": (-1, 0.9)}, "extent must hold 0"),
        ({"extent": (-1, float("inf"))}, "extent must hold 0"),
        ({"batches": 0}, "the mean ε needs a batch of a sample or more, got 0 of 8"),
        ({"batch_size": 0}, "the mean ε needs a batch of a sample or more, got 3 of 0"),
    ],
)
def test_what_can_not_be_measured_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        measure_offset(on_a_line(np.zeros(9), 1.0), sam(0.1), **QUICK | wrong)


def test_a_loss_that_takes_no_single_sample_is_refused():
    def loss_fn(output, targets):
        return output.mean() if len(output) else output.sum()

    def branching(output, targets):
        return output.mean() if output.mean() > 0 else output.mean() * 1.0

    data = torch.zeros(9, 1).double(), torch.zeros(9)
    measure_offset(Objective(Line(1.0), loss_fn, data), sam(0.1), points=5, **QUICK)
    with pytest.raises(ValueError, match=r"branching must take one sample under torch\.func\.vmap"):
        measure_offset(Objective(Line(1.0), branching, data), sam(0.1), points=5, **QUICK)
