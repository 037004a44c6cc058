from dataclasses import replace

import numpy as np
import pytest
import torch
from test_consistency import make_data, make_net, make_objective
from torch import nn
from torch.nn import functional

from landscape import frozen
from landscape.consistency import measure_consistency
from landscape.frozen import Displacer, cover_data, draw_batches, draw_burn_in, prepare_model
from landscape.frozen_protocol import matched, measure_consistencies
from landscape.objectives import Objective
from landscape.perturbations import aace, asam, friendly_sam, gsam, sam, usam, vasso

SETTINGS = {"batches": 5, "batch_size": 9, "seed": 3}
FAMILY = [
    sam(0.3),
    aace(0.2),
    asam(0.5),
    vasso(0.3),
    friendly_sam(0.3),
    gsam(0.1),
    replace(aace(0.2), metric="weights", eta=0.01),
    replace(sam(0.3), ascent_steps=2),
]


def gradients(objective, loss_fn, *, batches=5, batch_size=9, seed=3, bn="batch"):
    """The gradient [batch, param] of a loss on each batch of the protocol."""
    rows = []
    for inputs, targets in draw_batches(objective, batches, batch_size, seed):
        net = prepare_model(objective, bn, batch_size)
        found = torch.autograd.grad(loss_fn(net(inputs), targets), list(net.parameters()))
        rows.append(torch.cat([part.flatten() for part in found]).numpy())
    return np.stack(rows)


def mean_margin(logits, targets):
    index = targets[:, None]
    rest = logits.scatter(1, index, -torch.inf).logsumexp(1)
    return (logits.gather(1, index)[:, 0] - rest).mean()


def cosines(left, right):
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(1) / norms


def mean_cosine(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (unit @ unit.T)[~np.eye(len(rows), dtype=bool)].mean()


@pytest.mark.parametrize("normalize", [False, True])
def test_the_parts_of_aace_are_a_step_against_the_gradient_and_one_that_lowers_the_margin(
    normalize,
):
    objective = make_objective()
    result = measure_consistency(objective, aace(0.2, normalize=normalize), **SETTINGS)
    slopes = [gradients(objective, f) for f in (functional.cross_entropy, mean_margin)]
    own = gradients(objective, aace().loss)
    np.testing.assert_allclose(own, sum(slopes), atol=1e-12)
    scale = -0.2 / np.linalg.norm(own, axis=1, keepdims=True) if normalize else -0.2
    parts = [scale * slope for slope in slopes]
    assert result.component_names == ("anti-gradient", "margin")
    for row, part in enumerate(parts):
        np.testing.assert_allclose(result.component_norms[row], np.linalg.norm(part, axis=1))
        found = result.component_cosines[row]
        np.testing.assert_allclose(found, cosines(part, scale * own), atol=1e-10)
        assert result.component_mean_cosine[row] == pytest.approx(mean_cosine(part), abs=1e-10)
    along = (result.component_norms * result.component_cosines).sum(0)
    np.testing.assert_allclose(along, result.norms)  # they add up to ε


def test_what_is_no_margin_is_not_called_one():
    objective = make_objective()
    other = measure_consistency(objective, aace(0.2, mode="const"), **SETTINGS)
    assert other.component_names == ("anti-gradient", "rest of its loss")
    smoothed = Objective(make_net(), nn.CrossEntropyLoss(label_smoothing=0.1), make_data())
    other = measure_consistency(smoothed, aace(0.2), **SETTINGS)
    assert other.component_names == ("anti-gradient", "rest of its loss")
    assert measure_consistency(objective, sam(), **SETTINGS).component_names == ()


def test_for_one_sample_aace_is_the_gradient_times_the_odds_of_the_true_class():
    objective = make_objective()
    options = {"batches": 8, "batch_size": 1, "seed": 0, "bn": "frozen"}
    plain, own, unit, climb = measure_consistencies(
        objective, [usam(0.2), aace(0.2), aace(0.1, normalize=True), sam(0.1)], **options
    )
    p = plain.true_probability
    np.testing.assert_allclose(own.norms / plain.norms, p / (1 - p))
    np.testing.assert_allclose(own.cosine_gradient, 1.0)  # two signs: away from the true class
    for name in ("cosines", "radial", "cosine_full", "layer_products", "layer_radial"):
        np.testing.assert_allclose(getattr(unit, name), getattr(climb, name), atol=1e-10)
    assert own.predicted_cosine != pytest.approx(plain.predicted_cosine)
    assert unit.predicted_cosine == pytest.approx(own.predicted_cosine)  # of unscaled gradients
    assert climb.predicted_cosine == pytest.approx(plain.predicted_cosine)


def test_by_tensor_products_add_up_to_those_of_whole_vectors():
    objective = make_objective()
    result = measure_consistency(objective, aace(0.2), **SETTINGS)
    moves = -0.2 * gradients(objective, aace().loss)
    task = gradients(objective, functional.cross_entropy)
    theta = objective.theta.numpy()
    assert result.layer_names == tuple(entry.name for entry in objective.layout)
    for row, entry in enumerate(objective.layout):
        own = moves[:, entry.slice]
        np.testing.assert_allclose(result.layer_products[row], own @ own.T, atol=1e-14)
        expected = (own * task[:, entry.slice]).sum(1)
        np.testing.assert_allclose(result.layer_gradient[row], expected, atol=1e-14)
        np.testing.assert_allclose(result.layer_radial[row], own @ theta[entry.slice], atol=1e-14)
        assert result.layer_weight[row] == pytest.approx(np.linalg.norm(theta[entry.slice]))
    np.testing.assert_allclose(result.layer_products.sum(0), moves @ moves.T, atol=1e-13)
    np.testing.assert_allclose(result.layer_gradient.sum(0), (moves * task).sum(1), atol=1e-13)
    whole = result.norms * np.linalg.norm(theta)
    np.testing.assert_allclose(result.radial, moves @ theta / whole, atol=1e-12)
    name, share, _ = result.facts["largest_layers"][0]
    squares = np.trace(result.layer_products, axis1=1, axis2=2)
    assert name == result.layer_names[int(squares.argmax())]
    assert share == pytest.approx(squares.max() / squares.sum())


class Valley(nn.Module):
    """Half the square of the weights, whatever the input: its gradient is w."""

    def __init__(self, sign):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
        self.sign = sign

    def forward(self, inputs):
        return self.sign * (self.w**2).sum() / 2 + 0 * inputs


@pytest.mark.parametrize("sign", [1, -1])
def test_a_displacement_along_the_weights_is_radial(sign):
    data = torch.zeros(6, 1, dtype=torch.float64), torch.zeros(6, 1)
    objective = Objective(Valley(sign), lambda output, _: output.mean(), data)
    result = measure_consistency(objective, sam(0.1), **SETTINGS)
    np.testing.assert_allclose(result.radial, sign)
    np.testing.assert_allclose(result.layer_radial, sign * 0.5)
    np.testing.assert_allclose(result.cosine_full, 1.0)
    assert (result.predicted_cosine, result.noise_scale) == (1.0, 0.0)
    assert not result.true_probability.size
    assert not result.effective_share.size


@pytest.mark.parametrize("perturbation", [sam(), aace()])
def test_samples_count_alike_where_their_classes_are_equally_probable(perturbation):
    net = make_net()
    nn.init.zeros_(net[3].weight)
    nn.init.zeros_(net[3].bias)
    result = measure_consistency(
        Objective(net, functional.cross_entropy, make_data()), perturbation, **SETTINGS
    )
    np.testing.assert_allclose(result.true_probability, 1 / 3)
    np.testing.assert_allclose(result.effective_share, 1.0)


@pytest.mark.parametrize(
    ("perturbation", "weight"),
    [
        (sam(), lambda p: 1 - p),
        (aace(), lambda p: p),
        (aace(mode="const"), lambda p: p),
        (aace(threshold=0.3), lambda p: p - np.minimum(p, 0.3) * (1 - p)),
    ],
)
def test_samples_count_by_the_slope_of_their_loss_along_the_true_logit(perturbation, weight):
    objective = make_objective()
    result = measure_consistency(objective, perturbation, **SETTINGS)
    p = []
    for inputs, targets in draw_batches(objective, 5, 9, 3):
        output = prepare_model(objective, "batch", 9)(inputs).softmax(1)
        p.append(output.gather(1, targets[:, None])[:, 0].detach().numpy())
    np.testing.assert_allclose(result.true_probability, np.concatenate(p))
    s = weight(np.array(p))
    expected = s.sum(1) ** 2 / (9 * (s**2).sum(1))
    np.testing.assert_allclose(result.effective_share, expected)
    assert expected.max() < 0.999


def test_other_losses_of_classes_weigh_samples_by_their_own_slope():
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.3)
    objective = Objective(make_net(), loss_fn, make_data())
    result = measure_consistency(objective, sam(), **SETTINGS)
    s = np.abs(result.true_probability.reshape(5, 9) - 0.8)
    np.testing.assert_allclose(result.effective_share, s.sum(1) ** 2 / (9 * (s**2).sum(1)))


@pytest.mark.parametrize("bn", ["batch", "frozen"])
def test_the_gradient_of_all_data_has_the_batch_statistics_of_the_protocol(bn):
    objective = make_objective()
    result = measure_consistency(objective, sam(0.1), **SETTINGS, bn=bn)
    inputs = torch.cat([x for x, _ in objective.batches])
    targets = torch.cat([y for _, y in objective.batches])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    net = prepare_model(objective, bn, 9)
    total = 0
    for part in order.tensor_split(5):
        loss = functional.cross_entropy(net(inputs[part]), targets[part])
        found = torch.autograd.grad(loss, list(net.parameters()))
        total = total + torch.cat([g.flatten() for g in found]).numpy() / 5
    moves = 0.1 * gradients(objective, functional.cross_entropy, bn=bn)
    expected = cosines(moves, np.tile(total, (5, 1)))
    np.testing.assert_allclose(result.cosine_full, expected, atol=1e-12)
    assert result.facts["full_gradient"].startswith("mean over 5 batches of all 40 samples")


def test_a_partition_takes_each_sample_once_and_at_most_so_many(monkeypatch):
    objective = make_objective(batch_size=7)
    parts = cover_data(objective, 9)
    assert sorted(len(part) for part in parts) == [8] * 5
    assert len({place for part in parts for place in part}) == 40
    monkeypatch.setattr(frozen, "FULL_SAMPLES", 22)
    assert [len(part) for part in cover_data(objective, 9)] == [8, 7, 7]


def test_perturbations_that_are_measured_together_are_those_measured_alone():
    objective = make_objective()
    together = measure_consistencies(objective, FAMILY, **SETTINGS, burn_in=4)
    for perturbation, result in zip(FAMILY, together, strict=True):
        alone = measure_consistency(objective, perturbation, **SETTINGS, burn_in=4)
        assert result.perturbation == perturbation.label
        assert result.facts == alone.facts
        for name, value in vars(alone).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(getattr(result, name), value, rtol=1e-12, atol=1e-14)
    metric, plain = together[6], together[1]
    assert metric.noise_scale == pytest.approx(plain.noise_scale)  # that of the gradient followed
    assert together[2].noise_scale == pytest.approx(together[0].noise_scale)
    assert metric.component_names == ()


def test_vectors_that_do_not_fit_in_memory_give_the_same_answer():
    objective = make_objective()
    for kept, spilled in zip(
        measure_consistencies(objective, FAMILY, **SETTINGS, burn_in=2),
        measure_consistencies(objective, FAMILY, **SETTINGS, burn_in=2, budget=0),
        strict=True,
    ):
        assert kept.digest == spilled.digest


@pytest.mark.parametrize("perturbation", [vasso(0.3), friendly_sam(0.3)], ids=["vasso", "f-sam"])
def test_a_memory_is_made_of_batches_that_are_not_measured(perturbation):
    objective = make_objective()
    result = measure_consistency(objective, perturbation, **SETTINGS, burn_in=6)
    displacer = Displacer(prepare_model(objective, "batch", 9), objective.loss_fn, perturbation)
    drawn = list(draw_burn_in(objective, 6, 9, 3))
    measured = list(draw_batches(objective, 5, 9, 3))
    assert not any(torch.equal(x, y) for x, _ in drawn for y, _ in measured)
    displacer.burn_in(drawn)
    given = measure_consistency(objective, perturbation, **SETTINGS, memory=displacer.memory)
    np.testing.assert_allclose(result.cosines, given.cosines, atol=1e-12)
    assert result.facts["burn_in"] == 6
    assert "burn_in" not in given.facts
    other = measure_consistency(objective, perturbation, **SETTINGS, burn_in=7)
    assert not np.allclose(result.cosines, other.cosines)
    with pytest.raises(ValueError, match="burn_in must be at least 1"):
        measure_consistency(objective, perturbation, **SETTINGS, burn_in=0)


def test_at_a_matched_radius_perturbations_differ_by_direction_alone():
    objective = make_objective()
    common = SETTINGS | {"burn_in": 2}
    own = measure_consistencies(objective, FAMILY, **common)
    same = measure_consistencies(objective, FAMILY, **common, radius=0.05)
    for perturbation, before, after in zip(FAMILY, own, same, strict=True):
        np.testing.assert_allclose(after.norms, 0.05)
        assert after.facts["radius"] == 0.05
        assert after.perturbation.startswith(matched(perturbation, 0.05).label)
        if perturbation.ascent_steps == 1:
            np.testing.assert_allclose(after.cosines, before.cosines, atol=1e-12)
            np.testing.assert_allclose(after.cosine_gradient, before.cosine_gradient, atol=1e-12)
    assert same[1].perturbation == "AACE normalized ρ=0.05"
    assert same[2].perturbation == "ASAM ρ=0.05 η=0.01 at length 0.05"
    with pytest.raises(ValueError, match="radius must be a number above 0"):
        measure_consistency(objective, sam(), **SETTINGS, radius=0.0)


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make_net()

    def forward(self, inputs):
        return {"logits": self.net(inputs)}


def test_a_model_may_return_anything_that_its_loss_takes():
    def loss_fn(output, targets):
        return functional.cross_entropy(output["logits"], targets)

    wrapped = Objective(Wrapped(), loss_fn, make_data())
    result = measure_consistency(wrapped, sam(), **SETTINGS)
    plain = measure_consistency(make_objective(), sam(), **SETTINGS)
    np.testing.assert_allclose(result.cosines, plain.cosines, atol=1e-12)
    assert not result.true_probability.size


def test_an_objective_about_another_theta_is_measured_there():
    objective = make_objective(bn="batch")
    there = objective.at(objective.theta + 0.1)
    asked = {"batches": 3, "batch_size": 9, "seed": 1}
    net = make_net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1
    moved = Objective(net, functional.cross_entropy, make_data(), bn="batch")
    wanted = measure_consistency(moved, sam(), **asked)
    found = measure_consistency(there, sam(), **asked)
    np.testing.assert_allclose(found.loss_rise, wanted.loss_rise, rtol=1e-9)
    np.testing.assert_allclose(found.radial, wanted.radial, rtol=1e-9)
