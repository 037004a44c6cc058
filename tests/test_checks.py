import math
from collections import defaultdict
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from landscape import (
    bends,
    checks,
    connectivity,
    directions,
    known_answers,
    known_curvature,
    known_perturbations,
    optimizers,
    sam_parts,
    spectra,
)
from landscape.checks import CASES, Case, run_checks
from landscape.formulas import Quantity
from landscape.objectives import Objective
from landscape.operators import Operator
from landscape.perturbations import Perturbation
from landscape.planes import Plane

NUMBERS = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 17, 18, 20, 22, 23, 24)


@pytest.fixture(scope="module")
def outcomes():
    by_case = defaultdict(list)
    for outcome in run_checks():
        by_case[outcome.number].append(outcome)
    return by_case


def test_cases_are_those_of_the_specification(outcomes):
    assert tuple(case.number for case in CASES) == NUMBERS
    assert tuple(outcomes) == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_every_quantity_of_a_case_is_as_expected(outcomes, number):
    wrong = [outcome for outcome in outcomes[number] if not outcome.passed]
    assert not wrong
    for outcome in outcomes[number]:
        assert abs(outcome.got - outcome.expected) <= outcome.tolerance
        assert outcome.tolerance <= 0.1 * max(1, abs(outcome.expected))
        assert outcome.seconds >= 0


def public(name):
    return getattr(known_answers, name, None) or getattr(known_perturbations, name)


def replace_public(patch, name, wrong):
    for module in (known_answers, known_perturbations):
        patch.setattr(module, name, wrong, raising=False)


def scaled_hessian(patch):
    right, product = Objective.hessian_vector, Operator.__call__
    patch.setattr(
        Objective, "hessian_vector", lambda self, v, theta=None: 1.001 * right(self, v, theta)
    )
    patch.setattr(Operator, "__call__", lambda self, v: 1.001 * product(self, v))


def batches_averaged_equally(patch):
    equal = property(lambda self: [1 / len(self.batches)] * len(self.batches))
    patch.setattr(Objective, "shares", equal)


def theta_ignored_by(name):
    def spoil(patch):
        right = getattr(Objective, name)
        patch.setattr(
            Objective, name, lambda self, *given: right(self, *given[: name != "gradient"])
        )

    return spoil


def negated(name):
    def spoil(patch):
        right = public(name)
        replace_public(patch, name, lambda *given, **named: -right(*given, **named))

    return spoil


def called_with(name, **forced):
    def spoil(patch):
        right = public(name)
        replace_public(patch, name, lambda *given, **named: right(*given, **{**named, **forced}))

    return spoil


def divergence_with_zero_over_zero(patch):
    def wrong(logits, targets, *, reduction="mean", threshold=0.0):
        p = logits.softmax(1)
        others = torch.ones_like(p).scatter(1, targets[:, None], 0) * p.detach()
        q = others / others.sum(1, keepdim=True)
        losses = (torch.xlogy(q, q) - q * p.log()).nan_to_num(nan=math.nan).sum(1)
        return losses if reduction == "none" else losses.mean()

    replace_public(patch, "aace_loss", wrong)


def climbing_aace(patch):
    patch.setattr(Perturbation, "sign", 1)


def radius_of_the_raw_gradient(patch):
    right = public("displacement")

    def wrong(perturbation, gradient, weights):
        return right(replace(perturbation, normalize=False), gradient, weights)

    replace_public(patch, "displacement", wrong)


def no_restart(patch):
    right = spectra.find_eigenpairs
    replace_public(
        patch, "find_eigenpairs", lambda *given, **named: right(*given, copies=False, **named)
    )


def eigenvalues_in_reverse(patch):
    right = public("find_eigenpairs")

    def wrong(*given, **named):
        found = right(*given, **named)
        return replace(found, eigenvalues=found.eigenvalues[::-1])

    replace_public(patch, "find_eigenpairs", wrong)


def axes_swapped(patch):
    right = Plane.point

    def wrong(self, a, b=0.0):
        return right(self, b, a) if len(self.directions) == 2 else right(self, a)

    patch.setattr(Plane, "point", wrong)


def off_center(patch):
    right = Plane.point
    patch.setattr(Plane, "point", lambda self, a, b=0.0: right(self, a + 0.024, b))


def loss_summed_over_samples(patch):
    right = Objective.evaluate

    def wrong(self, *given, **named):
        found = right(self, *given, **named)
        return replace(found, loss=found.loss * len(self.batches[0][0]))

    patch.setattr(Objective, "evaluate", wrong)


def nodes_without_weights(patch):
    right = public("estimate_density")

    def wrong(*given, **named):
        found = right(*given, **named)
        kept = ~torch.tensor(found.nodes).isnan().numpy()
        return replace(found, weights=found.weights * 0 + 1 / kept.sum(1, keepdims=True))

    replace_public(patch, "estimate_density", wrong)


def a_step_too_few(patch):
    right = public("estimate_density")
    replace_public(
        patch,
        "estimate_density",
        lambda *given, steps, **named: right(*given, steps=steps - 1, **named),
    )


def momentum_forgotten(patch):
    right = known_curvature.measure_stability

    def wrong(objective, update, **named):
        return right(objective, replace(update, momentum=0.0, nesterov=False), **named)

    patch.setattr(known_curvature, "measure_stability", wrong)


def perturbation_forgotten(patch):
    right = known_curvature.measure_stability

    def wrong(objective, update, **named):
        return right(objective, replace(update, perturbation=None), **named)

    patch.setattr(known_curvature, "measure_stability", wrong)


def swapped(first, second):
    def spoil(patch):
        patch.setattr(known_curvature, first, getattr(known_curvature, second))

    return spoil


def gradient_of_one_layer(patch):
    right = Objective.gradient

    def wrong(self, theta=None):
        gradient = right(self, theta)
        gradient[self.layout.entries[0].slice] = 0
        return gradient

    patch.setattr(Objective, "gradient", wrong)


def gaussian_probes(patch):
    right = torch.randint

    def wrong(*given, generator=None, **named):
        shape = given[2]
        drawn = torch.randn(shape, generator=generator)
        return (drawn + 1) / 2 if given[:2] == (0, 2) else right(*given, generator=generator)

    patch.setattr(torch, "randint", wrong)


def vectors_paired_with_themselves(patch):
    patch.setattr(directions, "_mean_cosine", lambda cosines: float(cosines.mean()))


def vectors_not_made_unit(patch):
    right = public("consistency_of")

    def wrong(vectors, **named):
        found = right(vectors, **named)
        products = vectors @ vectors.T / (vectors**2).sum(1).max()
        count = len(products)
        mean = (products.sum() - products.trace()) / (count * (count - 1))
        return replace(found, mean_cosine=float(mean))

    replace_public(patch, "consistency_of", wrong)


def ends_left_out(patch):
    right = connectivity._heights

    def wrong(lines, t):
        return right(lines[..., 1:-1], t[1:-1])

    patch.setattr(connectivity, "_heights", wrong)


def line_off_center(patch):
    right = connectivity._between

    def wrong(objective, first, last, t):
        return right(objective, first, last, 0.98 * t)

    patch.setattr(connectivity, "_between", wrong)


def bends_with_half_their_weight(patch):
    right = bends.control_weights
    patch.setattr(
        bends, "control_weights", lambda *given: right(*given) * np.array([1.0, 0.5, 1.0])
    )


def t_drawn_from_the_middle(patch):
    right = bends._draw

    def wrong(*given):
        return [(0.25 + t / 2, share) for t, share in right(*given)]

    patch.setattr(bends, "_draw", wrong)


def of_the_optimizer(name, change):
    def spoil(patch):
        module = optimizers if hasattr(optimizers, name) else sam_parts
        right = getattr(module, name)
        patch.setattr(module, name, lambda *given, **named: change(right, *given, **named))

    spoil.__qualname__ = change.__name__
    return spoil


@partial(of_the_optimizer, "next_displacement")
def climbing_down(right, *given, **named):
    moves, memory = right(*given, **named)
    return [-move for move in moves], memory


@partial(of_the_optimizer, "next_displacement")
def memory_forgotten(right, perturbation, gradient, weights, memory, **named):
    return right(perturbation, gradient, weights, None, **named)


@partial(of_the_optimizer, "next_displacement")
def sigma_forgotten(right, perturbation, *given, **named):
    return right(replace(perturbation, sigma=0.0), *given, **named)


@partial(of_the_optimizer, "next_displacement")
def budget_forgotten(right, perturbation, *given, **named):
    return right(replace(perturbation, budget=0.0), *given, **named)


@partial(of_the_optimizer, "adaptive_names")
def every_tensor_scaled(right, names):
    return [True for _ in names]


@partial(of_the_optimizer, "update_gradient")
def nothing_taken_off_across(right, perturbation, before, after):
    return after


def schedule_forgotten(patch):
    patch.setattr(Perturbation, "factor", lambda self, *given: 1.0)


def one_ascent_step(patch):
    right = known_perturbations.SAM

    def wrong(params, base, *, perturbation, **options):
        single = replace(perturbation, ascent_steps=1)
        return right(params, base, perturbation=single, **options)

    patch.setattr(known_perturbations, "SAM", wrong)


BREAKS = [
    (1, negated("aace_loss")),
    (1, called_with("aace_loss", threshold=0.0)),
    (1, divergence_with_zero_over_zero),
    (2, climbing_aace),
    (2, radius_of_the_raw_gradient),
    (4, scaled_hessian),
    (4, batches_averaged_equally),
    (5, no_restart),
    (6, scaled_hessian),
    (6, swapped("hessian", "gradient_moment")),
    (6, swapped("gauss_newton", "gradient_moment")),
    (6, batches_averaged_equally),
    (7, scaled_hessian),
    (7, eigenvalues_in_reverse),
    (8, scaled_hessian),
    (8, eigenvalues_in_reverse),
    (9, axes_swapped),
    (9, off_center),
    (9, negated("displacement")),
    (9, scaled_hessian),
    (10, momentum_forgotten),
    (10, perturbation_forgotten),
    (11, ends_left_out),
    (11, line_off_center),
    (11, scaled_hessian),
    (11, loss_summed_over_samples),
    (12, line_off_center),
    (12, bends_with_half_their_weight),
    (12, t_drawn_from_the_middle),
    (12, scaled_hessian),
    (12, loss_summed_over_samples),
    (14, nodes_without_weights),
    (14, a_step_too_few),
    (15, gaussian_probes),
    (15, scaled_hessian),
    (17, vectors_paired_with_themselves),
    (17, vectors_not_made_unit),
    (17, called_with("measure_consistency", batch_size=11)),
    (18, theta_ignored_by("gradient")),
    (18, theta_ignored_by("hessian_vector")),
    (18, scaled_hessian),
    (22, called_with("random_plane", normalization="layer")),
    (22, called_with("random_plane", normalization="none")),
    (20, gradient_of_one_layer),
    (22, called_with("random_plane", ignore=())),
    (23, climbing_down),
    (23, memory_forgotten),
    (23, sigma_forgotten),
    (23, every_tensor_scaled),
    (23, nothing_taken_off_across),
    (23, schedule_forgotten),
    (23, budget_forgotten),
    (23, one_ascent_step),
    (24, scaled_hessian),
]


def test_every_case_is_seen_to_fail():
    assert {number for number, _ in BREAKS} == set(NUMBERS)


@pytest.mark.parametrize(
    ("number", "spoil"), BREAKS, ids=[f"{n}-{s.__qualname__.split('.')[0]}" for n, s in BREAKS]
)
def test_a_broken_toolkit_fails_its_case(outcomes, monkeypatch, number, spoil):
    spoil(monkeypatch)
    broken = run_checks([number])
    assert not all(outcome.passed for outcome in broken)
    assert not any(outcome.quantity.startswith("raised") for outcome in broken)
    expected = [(outcome.quantity, outcome.expected) for outcome in outcomes[number]]
    assert [(outcome.quantity, outcome.expected) for outcome in broken] == expected


def test_a_case_that_raises_has_failed(monkeypatch):
    def function():
        yield Quantity("one", 1.0, 1.0, 0.0)
        raise RuntimeError("no such luck")

    case = Case(number=3, title="t", source="s", function=function)
    monkeypatch.setattr(checks, "CASES", (case,))
    first, second = run_checks()
    assert first.passed
    assert not second.passed
    assert second.quantity == "raised RuntimeError: no such luck"


def test_nan_never_passes(monkeypatch):
    case = Case(
        number=3, title="t", source="s", function=lambda: iter([Quantity("q", 1, math.nan, 9)])
    )
    monkeypatch.setattr(checks, "CASES", (case,))
    assert not run_checks()[0].passed


def test_only_cases_asked_for_are_run():
    assert {outcome.number for outcome in run_checks([8, 7])} == {7, 8}


def test_an_unknown_case_is_refused():
    with pytest.raises(ValueError, match=r"cases are 1, 2, .*, 24, got 3"):
        run_checks([3])
