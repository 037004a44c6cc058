from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.consistency import measure_consistency
from landscape.formulas import formula_objective
from landscape.objectives import Objective
from landscape.perturbations import aace, asam, gsam, sam, usam, vasso
from landscape.slopes import gradient_direction, perturbation_direction, sharpest_direction
from landscape.spans import span_plane


def net_objective(classes=3, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, classes))
        model[1].running_mean.normal_()
        inputs = torch.randn(60, 5)
    targets = torch.arange(60) % classes
    return Objective(model, nn.CrossEntropyLoss(), (inputs, targets), batch_size=25, **options)


def test_gradient_has_length_1_and_points_uphill():
    objective = formula_objective(lambda w: 3 * w[0] ** 2 - 8 * w[1], [1.0, 2.0])
    direction = gradient_direction(objective)
    np.testing.assert_allclose(direction.vector, [0.6, -0.8], rtol=1e-12)
    assert direction.facts["gradient_norm"] == pytest.approx(10)
    plane = span_plane(objective.theta, [direction])
    slope = (objective(plane.point(1e-5)) - objective(plane.point(-1e-5))) / 2e-5
    assert slope == pytest.approx(10)
    assert plane.facts["plane"] == "gradient"
    assert plane.facts["unit"] == "weight distance"


def test_the_sharpest_direction_is_the_first_eigenvector():
    objective = formula_objective(lambda w: w[0] ** 2 + 5 * w[0] * w[1] + 4 * w[1] ** 2, [1.0, 2.0])
    direction = sharpest_direction(objective, seed=0)
    values, vectors = np.linalg.eigh([[2.0, 5.0], [5.0, 8.0]])
    assert direction.facts["eigenvalue"] == pytest.approx(values[-1])
    largest = vectors[:, -1] * np.sign(vectors[1, -1])
    np.testing.assert_allclose(direction.vector, largest, rtol=1e-6)
    plane = span_plane(objective.theta, [direction, gradient_direction(objective)])
    assert plane.facts["plane"] == "sharpest and gradient"
    assert plane.marks == ()


def test_where_there_is_no_slope_there_is_no_direction():
    with pytest.raises(ValueError, match="gradient must be finite and not zero"):
        gradient_direction(formula_objective(lambda w: w @ w, [0.0, 0.0]))
    with pytest.raises(ValueError, match="no derivatives"):
        gradient_direction(net_objective(bn="recomputed"))
    flat = formula_objective(lambda w: (w @ w) ** 2, [0.0, 0.0])
    with pytest.raises(
        ValueError, match=r"displacement of SAM ρ=0\.05 must be finite and not zero"
    ):
        perturbation_direction(flat, sam(), batch_size=2, seed=0)


@pytest.mark.parametrize(
    "perturbation", [sam(0.1), usam(0.3), aace(0.2), aace(0.1, normalize=True)]
)
def test_one_unit_along_a_perturbation_is_its_displacement(perturbation):
    """Against the formulas, on the batch drawn by hand, with the batch's statistics."""
    objective = net_objective(dtype=torch.float64)
    direction = perturbation_direction(objective, perturbation, batch_size=16, seed=5)
    drawn = torch.randint(60, (16,), generator=torch.Generator().manual_seed(5))
    inputs, targets = (torch.cat(parts)[drawn] for parts in zip(*objective.batches, strict=True))
    model = objective.model
    weights = [model.get_parameter(entry.name) for entry in objective.layout]
    hidden = functional.batch_norm(
        model[0](inputs), None, None, model[1].weight, model[1].bias, training=True
    )
    p = model[3](hidden.tanh()).softmax(1)[torch.arange(16), targets]
    loss = -(1 - p).log().mean() if perturbation.name == "aace" else -p.log().mean()
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, weights)])
    scale = perturbation.rho / (gradient.norm() if perturbation.normalize else 1)
    expected = (-scale if perturbation.name == "aace" else scale) * gradient
    torch.testing.assert_close(direction.vector, expected, rtol=1e-6, atol=1e-12)
    plane = span_plane(objective.theta, [direction])
    torch.testing.assert_close(plane.point(1.0), objective.theta + expected)
    assert plane.facts["plane"] == perturbation.name
    assert plane.marks == (("w", (0.0,)), (f"w + ε {perturbation.name.upper()}", (1.0,)))


def test_perturbation_is_that_of_the_first_batch_of_the_frozen_protocol():
    objective = net_objective()
    for perturbation in (usam(0.3), aace()):
        measured = measure_consistency(
            objective, perturbation, batches=2, batch_size=32, seed=9, bn="batch"
        )
        direction = perturbation_direction(objective, perturbation, batch_size=32, seed=9)
        assert float(direction.vector.norm()) == pytest.approx(measured.norms[0], rel=1e-5)
        other = perturbation_direction(objective, perturbation, batch_size=32, seed=8)
        assert not torch.allclose(direction.vector, other.vector)


def test_gradient_and_perturbations_span_planes():
    objective = net_objective()
    state = torch.random.get_rng_state()
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    gradient = gradient_direction(objective)
    climbed, pushed = (
        perturbation_direction(objective, p, batch_size=16, seed=0) for p in (sam(), aace())
    )
    first = span_plane(objective.theta, [gradient, climbed])
    assert first.facts["plane"] == "gradient and sam"
    assert first.facts["directions"][1]["batch_size"] == 16
    assert first.facts["directions"][1]["bn"] == "batch"
    second = span_plane(objective.theta, [climbed, pushed])
    assert second.facts["plane"] == "sam and aace"
    assert second.marks[1:] == (("w + ε SAM", (1.0, 0.0)), ("w + ε AACE", (0.0, 1.0)))
    assert second.facts["direction_cosine"] < 0.9
    for name, value in objective.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_perturbation_is_taken_at_the_objective_s_theta():
    objective = net_objective()
    far = objective.at(objective.theta + 0.5)
    here, there = (perturbation_direction(o, sam(), seed=0).vector for o in (objective, far))
    assert not torch.allclose(here, there)


def test_perturbations_of_one_sample_are_parallel_and_refused():
    """SCIENCE 0.2: for one sample the normalized perturbations are the same."""
    model = nn.Linear(3, 4)
    data = torch.arange(6.0).view(2, 3), torch.tensor([0, 2])
    objective = Objective(model, nn.CrossEntropyLoss(), data)
    both = [perturbation_direction(objective, p, batch_size=1, seed=0) for p in (sam(), aace())]
    with pytest.raises(ValueError, match=r"cosine of 1\.0000.* ε SAM ρ=0.05 and ε AACE"):
        span_plane(objective.theta, both)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_batches_of_no_samples_are_refused(size):
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1 on"):
        perturbation_direction(net_objective(), sam(), batch_size=size, seed=0)


def test_batches_that_do_not_fit_the_model_are_refused():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        perturbation_direction(net_objective(), sam(), batch_size=1, seed=0)
    soft = Objective(
        nn.Linear(3, 4), nn.CrossEntropyLoss(), (torch.ones(2, 3), torch.full((2, 4), 0.25))
    )
    with pytest.raises(ValueError, match="one true class per sample"):
        perturbation_direction(soft, aace(), batch_size=2, seed=0)


def test_an_axis_takes_the_metric_of_asam_and_all_ascent_steps():
    objective = net_objective(dtype=torch.float64)
    for perturbation in (asam(0.3), replace(sam(0.3), ascent_steps=3), gsam(0.3)):
        axis = perturbation_direction(objective, perturbation, batch_size=16, seed=5)
        first = measure_consistency(objective, perturbation, batches=2, batch_size=16, seed=5)
        assert float(np.linalg.norm(axis.vector)) == pytest.approx(first.norms[0], rel=1e-10)
        assert axis.mark == f"w + ε {perturbation.word}"
    plain = perturbation_direction(objective, sam(0.3), batch_size=16, seed=5).vector
    scaled = perturbation_direction(objective, asam(0.3), batch_size=16, seed=5).vector
    cosine = plain @ scaled / np.linalg.norm(plain) / np.linalg.norm(scaled)
    assert 0.1 < float(cosine) < 0.99


@pytest.mark.parametrize(
    ("perturbation", "words"),
    [(vasso(), "earlier updates"), (aace(mode="rand"), "drawn at random")],
)
def test_an_axis_that_the_batch_does_not_decide_is_refused(perturbation, words):
    with pytest.raises(ValueError, match=words):
        perturbation_direction(net_objective(), perturbation, batch_size=16, seed=5)
