"""Temperature, cross-entropy and ECE against answers that are known without the code."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torch.nn import functional

from landscape.calibration import (
    calibration_error,
    fit_temperature,
    measure_calibration,
    sample_cross_entropies,
)

EIGHTHS = np.array([[4, 2, 1, 1], [5, 1, 1, 1], [2, 3, 2, 1]])


def calibrated(copies=1):
    """Logits log p and targets in exact proportion to p: no temperature but 1 fits better."""
    logits = np.repeat(np.log(EIGHTHS / 8), 8 * copies, axis=0)
    targets = [np.repeat(np.arange(4), copies * row) for row in EIGHTHS]
    return logits, np.concatenate(targets)


def draws(samples=500, classes=5, seed=0):
    """Logits and targets that have something to do with each other."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((samples, classes))
    targets = (logits + 4 * rng.standard_normal(logits.shape)).argmax(1)
    return logits, targets


@pytest.mark.parametrize("factor", [1 / 50, 1.0, 3.0, 1e6])
def test_logits_of_a_calibrated_classifier_times_a_factor_have_it_as_temperature(factor):
    logits, targets = calibrated()
    found = fit_temperature(factor * logits + 7.0, targets)
    assert found.value == pytest.approx(factor, rel=1e-9)
    p = EIGHTHS / 8
    assert found.cross_entropy == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-12)
    assert (found.samples, found.note) == (24, "")


def test_an_independent_optimizer_finds_the_same_temperature():
    logits, targets = draws()

    def mean_loss(log_t):
        log_p = special.log_softmax(logits / math.exp(log_t), axis=1)
        return -log_p[np.arange(len(targets)), targets].mean()

    other = optimize.minimize_scalar(mean_loss, bracket=(-1, 1), tol=1e-12)
    found = fit_temperature(logits, targets)
    assert found.value == pytest.approx(math.exp(other.x), rel=1e-6)
    assert found.cross_entropy == pytest.approx(other.fun, rel=1e-12)
    assert 1.5 < found.value < 10


def test_the_slope_of_the_cross_entropy_vanishes_at_the_temperature():
    logits, targets = draws(seed=3)
    inverse = 1 / fit_temperature(logits, targets).value
    p = special.softmax(inverse * logits, axis=1)
    slope = (p * logits).sum(1) - logits[np.arange(len(targets)), targets]
    assert abs(slope.mean()) < 1e-12


def test_a_nearly_separable_case_is_solved_too():
    logits = np.tile([1.0, 0.0], (10_000, 1))
    targets = np.zeros(10_000, int)
    targets[0] = 1  # log-odds 1 / T are those of 9999 : 1
    assert fit_temperature(logits, targets).value == pytest.approx(1 / math.log(9999), rel=1e-9)


@pytest.mark.parametrize(
    ("logits", "targets", "value", "loss", "note"),
    [
        ([[2.0, 1.0], [0.0, 5.0]], [0, 1], 0.0, 0.0, "every target has the largest logit"),
        ([[2.0, 2.0], [0.0, 5.0]], [1, 1], 0.0, math.log(2) / 2, "every target"),
        ([[2.0, 1.0], [0.0, 5.0]], [1, 0], math.inf, math.log(2), "no larger logits"),
        ([[3.0, 3.0], [1.0, 1.0]], [1, 0], 1.0, math.log(2), "every temperature fits alike"),
    ],
)
def test_where_no_temperature_is_best_the_limit_is_given_and_said(
    logits, targets, value, loss, note
):
    found = fit_temperature(logits, targets)
    assert found.value == value
    assert found.cross_entropy == pytest.approx(loss, abs=1e-15)
    assert note in found.note
    at_limit = measure_calibration(logits, targets, temperature=value)
    assert at_limit.cross_entropy == pytest.approx(loss, abs=1e-15)


def test_a_wrong_class_at_temperature_zero_has_infinite_cross_entropy_without_interval():
    found = measure_calibration([[2.0, 1.0], [0.0, 5.0]], [0, 0], temperature=0)
    assert found.cross_entropy == math.inf
    assert all(map(math.isnan, found.cross_entropy_interval))
    assert found.ece == 0.5


def test_ece_is_that_of_bins_worked_by_hand():
    # Confidences .9, .9 (one right) and .62, .65 (both right), in bins 14 and 10 of 15.
    # And .6, right: the upper edge of bin 9, not part of bin 10.
    confidence = np.array([0.9, 0.9, 0.62, 0.65, 0.6])
    logits = np.stack([np.log(confidence), np.log1p(-confidence)], axis=1)
    found = measure_calibration(logits, [0, 1, 0, 0, 0])
    by_hand = (abs(1.8 - 1) + abs(1.27 - 2) + abs(0.6 - 1)) / 5
    assert found.ece == pytest.approx(by_hand, rel=1e-12)
    assert found.error == pytest.approx(1 / 5)


def test_a_calibrated_classifier_has_no_calibration_error_until_it_is_scaled():
    logits, targets = calibrated(copies=50)
    assert measure_calibration(logits, targets).ece == pytest.approx(0, abs=1e-12)
    overconfident = measure_calibration(3 * logits, targets)
    assert overconfident.ece > 0.1
    assert overconfident.ece_interval[0] > 0.1
    assert 0 < overconfident.ece_null < 0.03  # of a calibrated one, whatever this one's ECE
    assert measure_calibration(3 * logits, targets, temperature=3).ece < 1e-12


def test_temperature_changes_confidence_and_never_the_error():
    logits, targets = draws()
    plain = measure_calibration(logits, targets)
    scaled = measure_calibration(logits, targets, temperature=4.0)
    assert (scaled.error, scaled.error_interval) == (plain.error, plain.error_interval)
    assert scaled.cross_entropy < plain.cross_entropy
    assert scaled.ece < plain.ece
    assert scaled.cross_entropy == measure_calibration(logits / 4, targets).cross_entropy


def test_cross_entropy_and_error_are_torchs_and_tensors_are_taken():
    logits, targets = (torch.from_numpy(part) for part in draws())
    found = measure_calibration(logits.float(), targets)
    expected = functional.cross_entropy(logits, targets)
    assert found.cross_entropy == pytest.approx(float(expected), rel=1e-6)
    assert found.error == pytest.approx(float((logits.argmax(1) != targets).double().mean()))


def test_the_interval_of_the_cross_entropy_is_that_of_a_mean():
    logits, targets = draws(2000)
    found = measure_calibration(logits, targets)
    losses = functional.cross_entropy(*map(torch.from_numpy, (logits, targets)), reduction="none")
    half = 1.96 * float(losses.std()) / math.sqrt(2000)
    low, high = found.cross_entropy_interval
    assert (low, high) == pytest.approx(
        (found.cross_entropy - half, found.cross_entropy + half), abs=0.15 * half
    )


def test_finite_samples_give_a_calibrated_classifier_the_ece_that_is_told():
    rng = np.random.default_rng(0)
    measured, told, left = [], [], []
    for _ in range(20):
        logits = 2 * rng.standard_normal((400, 4))
        p = special.softmax(logits, axis=1)
        targets = (p.cumsum(1) > rng.random((400, 1))).argmax(1)
        found = measure_calibration(logits, targets)
        measured.append(found.ece)
        told.append(found.ece_null)
        left.append(found.ece_interval[0])
    assert np.mean(measured) > 0.04
    assert np.mean(told) == pytest.approx(np.mean(measured), rel=0.1)
    assert np.mean(left) < 0.01  # reflected: a percentile interval would begin above the truth, 0


def test_the_seed_decides_the_bootstrap_alone():
    logits, targets = draws()
    one, two, again = (measure_calibration(logits, targets, seed=seed) for seed in (1, 2, 1))
    assert one == again
    assert one.cross_entropy_interval != two.cross_entropy_interval
    assert (one.cross_entropy, one.ece) == (two.cross_entropy, two.ece)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_cross_entropy_of_each_sample_and_the_ece_alone_are_those_of_the_whole(temperature):
    logits, targets = draws()
    whole = measure_calibration(logits, targets, temperature=temperature)
    losses = sample_cross_entropies(logits, targets, temperature=temperature)
    scaled = torch.from_numpy(logits / temperature)
    each = functional.cross_entropy(scaled, torch.from_numpy(targets), reduction="none")
    np.testing.assert_allclose(losses, each, rtol=1e-12)
    assert losses.mean() == pytest.approx(whole.cross_entropy, rel=1e-12)
    assert calibration_error(scaled, targets) == pytest.approx(whole.ece, rel=1e-12)


def test_nan_stays_nan():
    logits, targets = draws()
    logits[3, 1] = math.nan
    found, fitted = measure_calibration(logits, targets), fit_temperature(logits, targets)
    assert all(map(math.isnan, (found.error, found.cross_entropy, found.ece, found.ece_null)))
    assert all(map(math.isnan, (fitted.value, fitted.cross_entropy)))
    assert math.isnan(calibration_error(logits, targets))
    assert np.flatnonzero(np.isnan(sample_cross_entropies(logits, targets))).tolist() == [3]
    unknown = measure_calibration(*draws(), temperature=fitted.value)
    assert all(map(math.isnan, (*unknown.ece_interval, unknown.cross_entropy, unknown.error)))


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros(3), [0, 0, 0], "must be .sample, class."),
        (np.zeros((0, 3)), [], "at least one sample"),
        (np.zeros((2, 3)), [0, 1, 2], r"shapes \(2, 3\) and \(3,\)"),
        (np.zeros((2, 3)), [0, 3], "classes 0 .. 2, got int64 from 0 to 3"),
        (np.zeros((2, 3)), [0.0, 1.0], "got float64"),
        ([[0.0, math.inf]], [0], "must be finite"),
    ],
)
def test_what_is_not_logits_and_classes_is_refused(logits, targets, message):
    for measure in (fit_temperature, measure_calibration):
        with pytest.raises(ValueError, match=message):
            measure(logits, np.array(targets))


def test_negative_temperatures_are_refused():
    with pytest.raises(ValueError, match="0 or more, got -1"):
        measure_calibration(*draws(), temperature=-1)
