import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch.nn import functional

from landscape.adversarial import aace_loss
from landscape.displacements import displacement
from landscape.perturbations import Perturbation, aace, sam, usam


def detached_target_loss(logits, targets, threshold=0.0, mode="ada", draws=None):
    """Per-sample divergence from the detached adversarial target: the definition, term by term."""
    with torch.no_grad():
        p = logits.softmax(1)
        true = functional.one_hot(targets, logits.shape[1]).to(p.dtype)
        p_true = (p * true).sum(1, keepdim=True)
        a = p_true.clamp(max=threshold)
        shares = {"ada": p, "const": torch.ones_like(p), "rand": draws}[mode]
        wrong = shares * (1 - true)
        y = a * true + wrong / wrong.sum(1, keepdim=True)
    return functional.kl_div(logits.log_softmax(1), y, reduction="none").sum(1)


def value_and_gradient(loss, logits):
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


def random_logits(batch=40, classes=7, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (batch,), generator=generator)


def margins(logits, targets):
    """Return m, p_t and u = e_t - q."""
    true = functional.one_hot(targets, logits.shape[1]).bool()
    q = logits.masked_fill(true, -torch.inf).softmax(1)
    m = logits[true] - logits.masked_fill(true, -torch.inf).logsumexp(1)
    return m, torch.sigmoid(m), true.to(q.dtype) - q


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 1.0])
def test_aace_equals_the_detached_target_divergence_in_value_and_gradient(threshold):
    logits, targets = random_logits()
    ours = value_and_gradient(
        lambda z: aace_loss(z, targets, reduction="none", threshold=threshold), logits
    )
    reference = value_and_gradient(lambda z: detached_target_loss(z, targets, threshold), logits)
    torch.testing.assert_close(ours[0], reference[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours[1], reference[1], rtol=1e-12, atol=1e-13)


def drawn(logits, seed):
    generator = torch.Generator().manual_seed(seed)
    return 1 - torch.rand(logits.shape, generator=generator).double()


@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("mode", ["const", "rand"])
def test_other_modes_equal_the_divergence_from_their_target(mode, threshold):
    logits, targets = random_logits()
    settings = {"threshold": threshold, "mode": mode}

    def ours(z):
        generator = torch.Generator().manual_seed(8)
        return aace_loss(z, targets, reduction="none", generator=generator, **settings)

    def reference(z):
        return detached_target_loss(z, targets, draws=drawn(logits, 8), **settings)

    found, expected = value_and_gradient(ours, logits), value_and_gradient(reference, logits)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=1e-13)


def test_mode_const_has_its_gradient_in_closed_form():
    logits, targets = random_logits(classes=5)
    true = functional.one_hot(targets, 5)
    _, gradient = value_and_gradient(
        lambda z: aace_loss(z, targets, reduction="none", mode="const"), logits
    )
    expected = logits.softmax(1) - (1 - true) / 4
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


def test_mode_rand_draws_anew_from_its_generator_and_from_no_other():
    logits, targets = random_logits()
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    one, other = (aace_loss(logits, targets, mode="rand", generator=generator) for _ in "12")
    assert one != other
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="needs a generator"):
        aace_loss(logits, targets, mode="rand")
    with pytest.raises(ValueError, match="ada, rand, const"):
        aace_loss(logits, targets, mode="random")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gap", [200.0, -200.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("mode", ["const", "rand"])
def test_other_modes_are_finite_at_a_logit_gap_of_200(dtype, gap, threshold, mode):
    logits = torch.zeros(2, 3, dtype=dtype)
    logits[:, 1] = gap
    logits = torch.cat([logits, torch.full((2, 1), -torch.inf, dtype=dtype)], dim=1)
    value, gradient = value_and_gradient(
        lambda z: aace_loss(
            z,
            torch.tensor([1, 1]),
            reduction="none",
            threshold=threshold,
            mode=mode,
            generator=torch.Generator().manual_seed(0),
        ),
        logits,
    )
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    if mode == "const" and gap > 0:
        # y = 1/2 on the classes 0 and 2, none on the masked one
        extra = threshold * math.log(threshold) if threshold else 0.0
        assert value.tolist() == pytest.approx([200 - math.log(2) + extra] * 2, abs=1e-4)


def test_aace_is_softplus_of_the_margin_with_gradient_p_times_u():
    logits, targets = random_logits()
    m, p, u = margins(logits, targets)
    value, gradient = value_and_gradient(lambda z: aace_loss(z, targets, reduction="none"), logits)
    torch.testing.assert_close(value, torch.log1p(m.exp()), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(gradient, p[:, None] * u, rtol=1e-11, atol=1e-15)


def test_aace_minus_cross_entropy_is_the_margin():
    logits, targets = random_logits()
    m, _, _ = margins(logits, targets)
    cross_entropy = functional.cross_entropy(logits, targets, reduction="none")
    difference = aace_loss(logits, targets, reduction="none") - cross_entropy
    torch.testing.assert_close(difference, m, rtol=1e-12, atol=1e-12)


def test_aace_and_cross_entropy_gradients_are_antiparallel_with_ratio_of_the_odds():
    logits, targets = random_logits()
    _, p, _ = margins(logits, targets)
    ours = value_and_gradient(lambda z: aace_loss(z, targets, reduction="sum"), logits)[1]
    other = value_and_gradient(
        lambda z: functional.cross_entropy(z, targets, reduction="sum"), logits
    )[1]
    torch.testing.assert_close(ours, -(p / (1 - p))[:, None] * other, rtol=1e-9, atol=1e-12)


def test_threshold_scales_the_gradient_along_the_same_direction():
    logits, targets = random_logits()
    threshold = 0.2
    _, p, u = margins(logits, targets)
    a = p.clamp(max=threshold)
    gradient = value_and_gradient(
        lambda z: aace_loss(z, targets, reduction="sum", threshold=threshold), logits
    )[1]
    torch.testing.assert_close(gradient, (p - a * (1 - p))[:, None] * u, rtol=1e-11, atol=1e-15)
    assert (p < threshold).any()
    assert (p > threshold).any()


def test_threshold_changes_no_value_where_the_true_class_is_below_it():
    logits, targets = random_logits()
    below = margins(logits, targets)[1] <= 0.2
    plain = aace_loss(logits, targets, reduction="none")
    raised = aace_loss(logits, targets, reduction="none", threshold=0.2)
    assert torch.equal(plain[below], raised[below])
    assert (raised[~below] < plain[~below]).all()


def test_curvature_of_aace_is_that_of_the_surface_softplus_of_the_margin():
    logits, targets = random_logits(batch=1, classes=4)
    _, p, u = margins(logits, targets)
    q = torch.zeros(1, 4, dtype=torch.float64).scatter(1, targets[:, None], 1.0) - u
    expected = p * (1 - p) * u.T @ u - p * (torch.diag(q[0]) - q.T @ q)
    hessian = torch.autograd.functional.hessian(lambda z: aace_loss(z[None], targets), logits[0])
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_aace_at_equal_logits_is_log_of_classes_over_classes_minus_one(classes):
    loss = aace_loss(torch.zeros(3, classes, dtype=torch.float64), torch.arange(3) % classes)
    assert loss.item() == pytest.approx(math.log(classes / (classes - 1)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [200.0, -200.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_aace_is_finite_at_a_logit_gap_of_200(dtype, gap, threshold):
    logits = torch.zeros(2, 3, dtype=dtype)
    logits[:, 1] = gap
    targets = torch.tensor([1, 1])
    value, gradient = value_and_gradient(
        lambda z: aace_loss(z, targets, reduction="none", threshold=threshold), logits
    )
    margin = gap - math.log(2)
    extra = threshold * math.log(threshold) if threshold and gap > 0 else 0.0
    assert value.tolist() == pytest.approx([max(margin, 0.0) + extra] * 2, abs=1e-4)
    assert torch.isfinite(gradient).all()
    if gap > 0:
        torch.testing.assert_close(gradient[0].float(), torch.tensor([-0.5, 1.0, -0.5]))


def test_half_precision_is_computed_in_float32_and_float64_stays_float64():
    logits, targets = random_logits()
    for dtype in (torch.float16, torch.bfloat16):
        rounded = logits.to(dtype)
        loss = aace_loss(rounded, targets)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, aace_loss(rounded.float(), targets))
    assert aace_loss(logits, targets).dtype == torch.float64


def test_masked_classes_do_not_count():
    logits, targets = random_logits(classes=5)
    masked = torch.cat([logits, torch.full((len(logits), 2), -torch.inf)], dim=1)
    value, gradient = value_and_gradient(lambda z: aace_loss(z, targets), masked)
    torch.testing.assert_close(value, aace_loss(logits, targets))
    assert torch.isfinite(gradient).all()


def test_not_a_number_stays_not_a_number():
    logits, targets = random_logits()
    logits[0, 0] = torch.nan
    losses = aace_loss(logits, targets, reduction="none")
    assert torch.isnan(losses).tolist() == [True] + [False] * (len(targets) - 1)


def test_reductions_agree_with_each_other():
    logits, targets = random_logits()
    losses = aace_loss(logits, targets, reduction="none")
    assert losses.shape == targets.shape
    torch.testing.assert_close(aace_loss(logits, targets), losses.mean())
    torch.testing.assert_close(aace_loss(logits, targets, reduction="sum"), losses.sum())


@pytest.mark.parametrize(
    ("logits", "targets", "error", "words"),
    [
        (torch.zeros(4, 1), torch.zeros(4, dtype=torch.long), ValueError, "at least two classes"),
        (torch.zeros(4, 3), torch.full((4, 3), 1 / 3), TypeError, "soft and mixup"),
        (torch.zeros(4, 3), torch.zeros(4), TypeError, "soft and mixup"),
        (torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool), TypeError, "integers"),
        (torch.zeros(4, 3), torch.zeros(5, dtype=torch.long), ValueError, r"shape \[4\]"),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.long), ValueError, r"shape \[4\]"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), ValueError, "one class for each row"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), ValueError, r"\[batch, class\]"),
        (torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.long), ValueError, "other axes"),
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2).long(), ValueError, "floating-point"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, r"0 \.\. 2, got 0 \.\. 3"),
        (torch.zeros(2, 3), torch.tensor([-100, 1]), ValueError, "drop samples"),
    ],
)
def test_aace_refuses_what_it_is_not_defined_for(logits, targets, error, words):
    with pytest.raises(error, match=words):
        aace_loss(logits, targets)


def test_aace_refuses_unknown_settings():
    logits, targets = random_logits()
    with pytest.raises(ValueError, match="reduction must be one of"):
        aace_loss(logits, targets, reduction="average")
    with pytest.raises(ValueError, match="between 0 and 1"):
        aace_loss(logits, targets, threshold=1.5)


@pytest.mark.parametrize(
    ("perturbation", "name", "label", "sign", "own"),
    [
        (sam(), "sam", "SAM ρ=0.05", 1, False),
        (usam(0.1), "usam", "USAM ρ=0.1", 1, False),
        (aace(), "aace", "AACE ρ=0.2", -1, True),
        (aace(2, normalize=True), "aace", "AACE normalized ρ=2", -1, True),
        (aace(threshold=0.1), "aace", "AACE ρ=0.2 th=0.1", -1, True),
    ],
)
def test_a_perturbation_owns_name_label_and_sign(perturbation, name, label, sign, own):
    assert (perturbation.name, perturbation.label) == (name, label)
    assert (perturbation.sign, perturbation.has_own_loss) == (sign, own)


def test_defaults_are_those_of_the_papers_code():
    assert (sam().rho, sam().normalize) == (0.05, True)
    assert (aace().rho, aace().normalize, aace().threshold) == (0.2, False, 0.0)
    assert not usam(0.1).normalize


def test_a_perturbation_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        sam().rho = 0.1


@pytest.mark.parametrize("rho", [0.0, -0.1, math.inf, math.nan])
@pytest.mark.parametrize("make", [sam, usam, aace])
def test_the_radius_is_finite_and_above_zero(make, rho):
    with pytest.raises(ValueError, match="rho must be"):
        make(rho)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sam(True), "rho must be a number"),
        (lambda: sam("0.05"), "rho must be a number"),
        (lambda: aace(normalize=1), "normalize must be True or False"),
        (lambda: aace(threshold=True), "threshold must be a number"),
    ],
)
def test_settings_of_the_wrong_type_are_refused(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_settings_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="only AACE has a threshold"):
        Perturbation(loss_name="cross_entropy", rho=0.1, normalize=True, threshold=0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        aace(threshold=-0.1)
    with pytest.raises(ValueError, match="'cross_entropy' or 'aace'"):
        Perturbation(loss_name="mse", rho=0.1, normalize=True)


def test_the_loss_of_a_perturbation_is_cross_entropy_or_aace():
    logits, targets = random_logits()
    for perturbation in (sam(), usam(0.1)):
        expected = functional.cross_entropy(logits, targets)
        assert torch.equal(perturbation.loss(logits, targets), expected)
    assert torch.equal(aace().loss(logits, targets), aace_loss(logits, targets))
    raised = aace(threshold=0.3).loss(logits, targets)
    assert torch.equal(raised, aace_loss(logits, targets, threshold=0.3))
    assert sam().loss(logits.half(), targets).dtype == torch.float32


def test_displacement_is_sign_times_radius_along_the_gradient():
    gradient, weights = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.zeros(2)
    weights = weights.double()
    for perturbation, expected in [
        (sam(0.5), [0.3, 0.4]),
        (usam(0.5), [1.5, 2.0]),
        (aace(0.5), [-1.5, -2.0]),
        (aace(0.5, normalize=True), [-0.3, -0.4]),
    ]:
        moved = displacement(perturbation, gradient, weights)
        assert moved.tolist() == pytest.approx(expected, rel=1e-12)
    assert gradient.tolist() == [3.0, 4.0]


def test_the_norm_runs_over_all_tensors_and_equals_the_flat_one():
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(shape, generator=generator) for shape in [(3, 4), (5,), (2, 2, 2)]]
    flat = torch.cat([part.flatten() for part in parts])
    for perturbation in (sam(), usam(0.1), aace(), aace(normalize=True)):
        moved = displacement(perturbation, parts, parts)
        assert isinstance(moved, list)
        assert [m.shape for m in moved] == [part.shape for part in parts]
        together = torch.cat([m.flatten() for m in moved])
        torch.testing.assert_close(together, displacement(perturbation, flat, flat))
        if perturbation.normalize:
            assert together.norm().item() == pytest.approx(perturbation.rho, rel=1e-6)


@pytest.mark.parametrize("perturbation", [sam(), aace(), aace(normalize=True)])
def test_a_vanished_gradient_gives_no_displacement(perturbation):
    moved = displacement(
        perturbation, [torch.zeros(3), torch.zeros(2)], [torch.ones(3), torch.ones(2)]
    )
    assert all((m == 0).all() for m in moved)


@pytest.mark.parametrize("perturbation", [sam(), aace(), aace(normalize=True)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_is_not_hidden(perturbation, value):
    moved = displacement(perturbation, torch.tensor([1.0, value]), torch.ones(2))
    assert not torch.isfinite(moved).all()


def test_a_half_precision_gradient_keeps_its_dtype_and_its_norm():
    gradient = torch.full((4000,), 3000.0, dtype=torch.float16)  # the norm overflows fp16
    moved = displacement(sam(0.5), gradient, gradient)
    assert moved.dtype == torch.float16
    assert moved.float().norm().item() == pytest.approx(0.5, rel=2e-3)


def test_gradient_and_weights_must_have_equal_shapes():
    with pytest.raises(ValueError, match="shapes of the weights"):
        displacement(sam(), torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="shapes of the weights"):
        displacement(sam(), [torch.ones(3)], [torch.ones(3), torch.ones(1)])


def test_sam_and_normalized_aace_are_one_perturbation_for_a_batch_of_one():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    inputs = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    targets = torch.tensor([2])
    moves, gradients = {}, {}
    for perturbation in (sam(0.1), aace(0.1, normalize=True)):
        _, gradient = value_and_gradient(
            lambda w, p=perturbation: p.loss(torch.tanh(inputs @ w.T), targets), weight
        )
        gradients[perturbation.name] = gradient
        moves[perturbation.name] = displacement(perturbation, gradient, weight)
    torch.testing.assert_close(moves["aace"], moves["sam"], rtol=1e-12, atol=1e-15)
    p = torch.tanh(inputs @ weight.T).softmax(1)[0, 2]
    ratio = gradients["aace"].norm() / gradients["sam"].norm()
    assert ratio.item() == pytest.approx((p / (1 - p)).item(), rel=1e-12)


def test_displacements_of_binary_logistic_regression_are_weighted_sums_of_the_inputs():
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 1, 0, 1, 1])
    weight = torch.randn(3, generator=generator, dtype=torch.float64)
    y = 2.0 * targets - 1
    margin = y * (inputs @ weight)

    def displace(perturbation):
        def loss(w):
            score = inputs @ w
            return perturbation.loss(torch.stack([torch.zeros_like(score), score], 1), targets)

        return displacement(perturbation, value_and_gradient(loss, weight)[1], weight)

    expected = -(0.2 / 6) * ((torch.sigmoid(margin) * y)[:, None] * inputs).sum(0)
    torch.testing.assert_close(displace(aace(0.2)), expected, rtol=1e-12, atol=1e-15)
    ascent = -((torch.sigmoid(-margin) * y)[:, None] * inputs).sum(0)
    torch.testing.assert_close(displace(sam(0.2)), 0.2 * ascent / ascent.norm())
    torch.testing.assert_close(displace(usam(0.2)), 0.2 * ascent / 6)
