import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from landscape.edges import edge_of_adam, edge_of_stability
from landscape.perturbations import aace, asam, sam, usam, vasso
from landscape.updates import Update


def test_numbers_of_the_literature():
    plain = {"learning_rate": 0.1, "perturbation": usam(0.05)}
    assert edge_of_stability(Update(**plain)).value == pytest.approx(12.36068, abs=1e-5)
    assert edge_of_stability(Update(**plain, momentum=0.9)).value == pytest.approx(19.326, abs=1e-3)
    assert edge_of_stability(Update(learning_rate=0.1)).value == pytest.approx(20)
    assert edge_of_stability(Update(learning_rate=0.1, momentum=0.9)).value == pytest.approx(38)
    assert edge_of_adam(0.1).value == pytest.approx(380)


def spectral_radius(update, curvature, gradient_norm=math.nan):
    """Of the step along one eigenvector of a quadratic, written out by hand."""
    eta, beta, tau = update.learning_rate, update.momentum, update.dampening
    perturbation = update.perturbation
    bent = curvature
    if perturbation is not None:
        scale = gradient_norm if perturbation.normalize else 1.0
        bent = curvature * (1 + perturbation.rho * curvature / scale)
    slope = bent + update.weight_decay
    momentum = np.array([(1 - tau) * slope, beta])
    used = momentum * beta + np.array([slope, 0]) if update.nesterov else momentum
    if beta == 0:
        return abs(1 - eta * slope)
    return np.abs(np.linalg.eigvals([[1, 0] - eta * used, momentum])).max()


@pytest.mark.parametrize("perturbation", [None, usam(0.05), sam(0.05)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "weight_decay": 0.3},
        {"momentum": 0.8, "dampening": 0.4, "weight_decay": 0.3},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.3},
        {"dampening": 0.4, "weight_decay": 0.3},
    ],
)
def test_a_step_is_stable_just_below_its_line_and_not_above(perturbation, settings):
    update = Update(learning_rate=0.1, perturbation=perturbation, **settings)
    edge = edge_of_stability(update, gradient_norm=0.2, full_batch=True)
    assert spectral_radius(update, edge.value, 0.2) == pytest.approx(1, abs=1e-6)
    assert spectral_radius(update, edge.value * 0.999, 0.2) < 1
    assert spectral_radius(update, edge.value * 1.001, 0.2) > 1
    assert edge.reason == ""
    assert edge.label


def test_labels_name_what_the_line_is_made_of():
    settings = {"learning_rate": 0.1, "momentum": 0.8}
    assert edge_of_stability(Update(learning_rate=0.1)).label == "2 / η"
    assert edge_of_stability(Update(**settings)).label == "2 (1 + β) / η"
    dampened = Update(**settings, dampening=0.1, weight_decay=0.1)
    assert edge_of_stability(dampened).label == "2 (1 + β) / (η (1 − τ)) − weight decay"
    nesterov = edge_of_stability(Update(**settings, nesterov=True, perturbation=usam(0.1)))
    assert nesterov.label.endswith("s = 2 (1 + β) / (η (1 + 2 β))")
    assert edge_of_adam(0.1).label.startswith("≈")
    assert "approximate" in edge_of_adam(0.1).reason


def test_sams_line_falls_with_the_gradient_and_tends_to_that_of_descent():
    update = Update(learning_rate=0.1, perturbation=sam(0.05))
    values = [
        edge_of_stability(update, gradient_norm=norm, full_batch=True).value
        for norm in (1e-3, 1e-1, 1e3, 1e12)
    ]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(20, rel=1e-9)


@pytest.mark.parametrize(
    ("perturbation", "settings", "reason"),
    [
        (aace(0.2), {"full_batch": True}, "no line is known for AACE: measure the stability"),
        (asam(), {"full_batch": True}, "no line is known for ASAM: measure the stability"),
        (vasso(), {"full_batch": True}, "no line is known for VaSSO: measure the stability"),
        (replace(usam(0.1), ascent_steps=2), {"full_batch": True}, "for 2 ascent steps"),
        (replace(usam(0.1), schedule="lr"), {"full_batch": True}, "needs the radius of the step"),
        (sam(0.05), {"gradient_norm": 1.0}, "SAM's line is one of full-batch training"),
        (sam(0.05), {"full_batch": True}, "SAM's line needs the norm of the gradient"),
        (sam(0.05), {"full_batch": True, "gradient_norm": math.nan}, "needs the norm"),
        (sam(0.05), {"full_batch": True, "gradient_norm": 0.0}, "where the gradient vanishes"),
        (None, {"bn": "frozen"}, 'with bn="batch", not under bn="frozen"'),
        (None, {"bn": "recomputed", "full_batch": True}, 'not under bn="recomputed"'),
    ],
)
def test_where_no_formula_holds_the_reason_is_given(perturbation, settings, reason):
    update = Update(learning_rate=0.1, momentum=0.9, perturbation=perturbation)
    edge = edge_of_stability(update, **settings)
    assert math.isnan(edge.value)
    assert edge.label == ""
    assert reason in edge.reason


def test_lines_hold_with_batch_statistics_and_guide_where_batches_are_small():
    update = Update(learning_rate=0.1)
    assert edge_of_stability(update, bn="batch", full_batch=True).reason == ""
    for perturbation in (None, usam(0.1)):
        edge = edge_of_stability(Update(learning_rate=0.1, perturbation=perturbation))
        assert math.isfinite(edge.value)
        assert "with smaller batches an upper guide" in edge.reason


def test_steps_that_weight_decay_or_dampening_rule_have_no_line():
    heavy = Update(learning_rate=1.0, weight_decay=3.0, perturbation=usam(0.1))
    assert "weight decay alone" in edge_of_stability(heavy).reason
    still = Update(learning_rate=1.0, momentum=0.5, dampening=1.0)
    assert "no gradient enters" in edge_of_stability(still).reason


def test_adam_needs_numbers_in_range():
    with pytest.raises(ValueError, match="learning rate above 0 and beta in"):
        edge_of_adam(0.1, beta=1.0)


def test_lines_need_no_torch():
    code = "import sys, landscape.edges; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
