import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_consistency import make_objective
from torch import nn
from torch.nn import functional

from landscape.consistency import measure_consistency
from landscape.frozen import draw_burn_in
from landscape.objectives import Objective
from landscape.operators import add_weight_decay, hessian
from landscape.perturbations import aace, asam, sam, usam, vasso
from landscape.rises import measure_rise
from landscape.spectra import find_eigenpairs

MATRIX = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, -1.0]])
WEIGHTS = np.array([0.3, -0.2, 0.5])


class Quadratic(nn.Module):
    """½ wᵀ A w + x · w of each sample x."""

    def __init__(self, weights):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))
        self.register_buffer("matrix", torch.tensor(MATRIX))

    def forward(self, inputs):
        return inputs @ self.weight + self.weight @ self.matrix @ self.weight / 2


def quadratic(inputs, weights=WEIGHTS):
    data = torch.as_tensor(inputs), torch.zeros(len(inputs))
    return Objective(Quadratic(weights), lambda output, _: output.mean(), data)


def normal(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 3))


def drawn(count, batches, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, (batches, size), generator=generator).numpy()


def test_rises_on_a_quadratic_are_slope_and_half_the_curvature_on_every_batch():
    inputs, others = normal(30, 0), normal(20, 1)
    result = measure_rise(
        quadratic(inputs),
        usam(0.2),
        batches=4,
        batch_size=5,
        seed=7,
        test=quadratic(others),
        radii=(0.3,),
        transfer=3,
        eigenvectors=0,
        step=60,
    )
    slopes = MATRIX @ WEIGHTS + inputs[drawn(30, 4, 5, 7)].mean(1)
    tested = MATRIX @ WEIGHTS + others[drawn(20, 4, 5, 7)].mean(1)
    assert result.places == ("same batch", "another batch", "test batch")
    np.testing.assert_allclose(result.radii, [np.nan, 0.3])
    assert (result.step, result.perturbation) == (60, usam(0.2).label)
    for i, slope in enumerate(slopes):
        moves = [0.2 * slope, 0.3 * slope / np.linalg.norm(slope)]
        assert result.norms[i] == pytest.approx(np.linalg.norm(moves[0]))
        for place, at in enumerate((slope, slopes[(i + 1) % 4], tested[i])):
            for r, move in enumerate(moves):
                rise = at @ move + move @ MATRIX @ move / 2
                assert result.first_order[place, r, i] == pytest.approx(at @ move, abs=1e-12)
                assert result.rise[place, r, i] == pytest.approx(rise, abs=1e-12)
        for j in range(3) if i < 3 else ():
            rise = slopes[j] @ moves[0] + moves[0] @ MATRIX @ moves[0] / 2
            assert result.transfer[i, j] == pytest.approx(rise, abs=1e-12)
    assert result.transfer.shape == (3, 3)
    assert result.alignment.size == result.eigenvalues.size == 0


def test_curvature_is_that_of_the_matrix_for_perturbation_and_gradient():
    inputs = normal(30, 0)
    result = measure_rise(
        quadratic(inputs), asam(0.2, eta=0.1), batches=4, batch_size=5, seed=7, transfer=0
    )
    values, vectors = np.linalg.eigh(MATRIX)
    np.testing.assert_allclose(result.eigenvalues, values[::-1], rtol=1e-6)
    for i, slope in enumerate(MATRIX @ WEIGHTS + inputs[drawn(30, 4, 5, 7)].mean(1)):
        unit, reference = (np.abs(WEIGHTS) + 0.1) ** 2 * slope, slope
        for direction, cosines, quotient in (
            (unit, result.alignment, result.rayleigh),
            (reference, result.gradient_alignment, result.gradient_rayleigh),
        ):
            u = direction / np.linalg.norm(direction)
            np.testing.assert_allclose(cosines[i], np.abs(vectors.T @ u)[::-1], atol=1e-3)
            assert quotient[i] == pytest.approx(u @ MATRIX @ u, abs=1e-9)
    assert result.facts["curvature_samples"] == 30
    assert result.facts["weight_decay"] == 0


def test_along_an_eigenvector_the_quotient_is_its_eigenvalue():
    values, vectors = np.linalg.eigh(MATRIX)
    objective = quadratic(np.tile(vectors[:, 1], (6, 1)), np.zeros(3))
    result = measure_rise(objective, sam(0.1), batches=2, batch_size=4, seed=0, transfer=0)
    np.testing.assert_allclose(result.rayleigh, values[1], rtol=1e-9)
    np.testing.assert_allclose(result.alignment, [[0, 1, 0]] * 2, atol=1e-3)
    np.testing.assert_allclose(result.rise[0, 0], 0.1 + values[1] * 0.1**2 / 2, rtol=1e-9)


def test_weight_decay_raises_quotients_alone_and_is_told():
    objective = quadratic(normal(30, 0))
    decayed = add_weight_decay(hessian(objective), 0.25)
    asked = {"batches": 3, "batch_size": 5, "seed": 0, "transfer": 0}
    plain = measure_rise(objective, sam(0.1), **asked)
    raised = measure_rise(objective, sam(0.1), operator=decayed, **asked)
    np.testing.assert_allclose(raised.eigenvalues, plain.eigenvalues + 0.25, rtol=1e-6)
    np.testing.assert_allclose(raised.rayleigh, plain.rayleigh + 0.25, rtol=1e-9)
    np.testing.assert_allclose(raised.alignment, plain.alignment, atol=1e-3)
    assert raised.facts["weight_decay"] == 0.25


class Logistic(nn.Module):
    """Two classes, of which the second has log-odds w · x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(WEIGHTS))

    def forward(self, inputs):
        score = inputs @ self.weight
        return torch.stack([-score / 2, score / 2], 1)


def test_on_logistic_regression_aace_and_its_curvature_have_their_closed_form():
    inputs = normal(40, 3)
    labels = np.random.default_rng(4).integers(2, size=40)
    objective = Objective(
        Logistic(), functional.cross_entropy, (torch.tensor(inputs), torch.tensor(labels))
    )
    result = measure_rise(objective, aace(0.4), batches=3, batch_size=6, seed=2, transfer=0)
    signed = inputs * (2 * labels - 1)[:, None]  # the margin is w · this

    def sigmoid(margin):
        return 1 / (1 + np.exp(-margin))

    share = sigmoid(inputs @ WEIGHTS)
    matrix = inputs.T @ np.diag(share * (1 - share)) @ inputs / 40
    np.testing.assert_allclose(result.eigenvalues, np.linalg.eigvalsh(matrix)[::-1], rtol=1e-6)
    for i, rows in enumerate(signed[drawn(40, 3, 6, 2)]):
        move = -0.4 * (sigmoid(rows @ WEIGHTS)[:, None] * rows).mean(0)
        slope = -(sigmoid(-rows @ WEIGHTS)[:, None] * rows).mean(0)
        losses = [np.log1p(np.exp(-rows @ (WEIGHTS + m))).mean() for m in (0, move)]
        unit = move / np.linalg.norm(move)
        assert result.norms[i] == pytest.approx(np.linalg.norm(move))
        assert result.first_order[0, 0, i] == pytest.approx(slope @ move)
        assert result.rise[0, 0, i] == pytest.approx(losses[1] - losses[0])
        assert result.rayleigh[i] == pytest.approx(unit @ matrix @ unit)


@pytest.mark.parametrize("bn", ["batch", "frozen"])
def test_batches_are_those_of_consistency_and_sam_climbs_its_own_to_first_order(bn):
    objective = make_objective(bn=bn)
    asked = {"batches": 4, "batch_size": 9, "seed": 3, "bn": bn}
    result = measure_rise(
        objective, sam(0.3), test=objective, transfer=4, eigenvectors=0, radii=(1e-3,), **asked
    )
    known = measure_consistency(objective, sam(0.3), **asked)
    np.testing.assert_allclose(result.norms, known.norms, rtol=1e-12)
    np.testing.assert_allclose(result.rise[0, 0], known.loss_rise, rtol=1e-9)
    np.testing.assert_allclose(np.diag(result.transfer), result.rise[0, 0], atol=1e-14)
    np.testing.assert_allclose(np.diag(result.transfer, 1), result.rise[1, 0, :3], atol=1e-14)
    # ρ ‖g‖ and r ‖g‖: the slope along g is its length
    slopes = result.first_order[0] / np.array([[0.3], [1e-3]])
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-9)
    np.testing.assert_allclose(result.rise[:, 1], result.first_order[:, 1], rtol=0.05, atol=1e-6)
    assert (slopes > 0).all()
    assert result.facts["bn"] == bn


@pytest.mark.parametrize("perturbation", [aace(), vasso(0.2)], ids=["aace", "vasso"])
def test_it_is_measured_as_consistency_is_and_the_objective_is_untouched(perturbation):
    objective = make_objective(bn="batch")
    inner, theta = copy.deepcopy(objective.model.state_dict()), objective.theta.clone()
    asked = {"batches": 3, "batch_size": 9, "seed": 3}
    result = measure_rise(
        objective, perturbation, transfer=2, eigenvectors=1, test=objective, **asked
    )
    again = measure_rise(
        objective, perturbation, transfer=2, eigenvectors=1, test=objective, **asked
    )
    assert result.digest == again.digest
    known = measure_consistency(objective, perturbation, **asked)
    np.testing.assert_allclose(result.rise[0, 0], known.loss_rise, rtol=1e-9)
    assert torch.equal(objective.theta, theta)
    now = objective.model.state_dict()
    assert all(torch.equal(inner[name], value) for name, value in now.items())


def test_a_direction_with_a_memory_has_that_of_fifty_other_batches_unless_one_is_given():
    inputs = normal(30, 0)
    asked = {"batches": 3, "batch_size": 5, "seed": 7, "transfer": 0}
    result = measure_rise(quadratic(inputs), vasso(0.2, theta=0.3), **asked)
    still = MATRIX @ WEIGHTS
    memory = None
    for batch, _ in draw_burn_in(quadratic(inputs), 50, 5, 7):
        slope = still + batch.numpy().mean(0)
        memory = slope if memory is None else 0.7 * memory + 0.3 * slope
    slopes = still + inputs[drawn(30, 3, 5, 7)].mean(1)
    moves = 0.7 * memory + 0.3 * slopes
    moves *= 0.2 / np.linalg.norm(moves, axis=1, keepdims=True)
    np.testing.assert_allclose(result.first_order[0, 0], (slopes * moves).sum(1), rtol=1e-9)
    assert result.facts["burn_in"] == 50
    curved = (moves @ MATRIX * moves).sum(1) / 0.2**2  # not that of the gradient, as for SAM
    np.testing.assert_allclose(result.rayleigh, curved, rtol=1e-9)
    given = measure_rise(
        quadratic(inputs), vasso(0.2, theta=0.3), memory=[torch.zeros(3).double()], **asked
    )
    lengths = 0.2 * np.linalg.norm(slopes, axis=1)
    np.testing.assert_allclose(given.first_order[0, 0], lengths, rtol=1e-9)


def test_an_epsilon_of_length_zero_raises_nothing_and_has_no_direction():
    objective = quadratic(np.zeros((6, 3)), np.zeros(3))
    result = measure_rise(objective, sam(0.1), batches=2, batch_size=4, seed=0, transfer=2)
    np.testing.assert_array_equal(result.norms, 0)
    np.testing.assert_array_equal(result.rise[:, 0], 0)
    np.testing.assert_array_equal(result.transfer, 0)
    assert np.isnan(result.rise[:, 1:]).all()
    assert np.isnan(result.first_order[:, 1:]).all()
    assert np.isnan(result.alignment).all()
    assert np.isnan(result.rayleigh).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batches": 1}, "needs 2 batches of 1 sample or more, got 1 of 4"),
        ({"batch_size": 0}, "needs 2 batches of 1 sample or more, got 3 of 0"),
        ({"radii": (0.1, 0.0)}, r"radii must be numbers above 0, got \[0.1, 0.0\]"),
        ({"radii": (float("nan"),)}, "radii must be numbers above 0"),
        ({"transfer": 4}, r"transfer must be some of the 3 batches, 0 .. 3, got 4"),
        ({"eigenvectors": -1}, "eigenvectors must be 0 or more, got -1"),
        ({"eigenvectors": 4}, "k must lie between 1 and the number of parameters, 3, got 4"),
        ({"bn": "recomputed"}, 'bn must be "batch" or "frozen", got \'recomputed\''),
        ({"memory": [torch.zeros(3)]}, "SAM ρ=0.1 has no memory, got one"),
    ],
)
def test_what_can_not_be_measured_is_refused(wrong, said):
    asked = {"batches": 3, "batch_size": 4, "transfer": 0} | wrong
    with pytest.raises(ValueError, match=said):
        measure_rise(quadratic(normal(9, 0)), sam(0.1), seed=0, **asked)


def test_the_hessian_must_be_of_the_same_policy_parameters_and_eigenpairs():
    asked = {"batches": 2, "batch_size": 4, "seed": 0, "transfer": 0}
    with pytest.raises(ValueError, match="one BatchNorm policy, got bn='batch' and a Hessian with"):
        measure_rise(make_objective(bn="frozen"), sam(), **asked)
    objective = quadratic(normal(9, 0))
    operator = hessian(objective)
    part = replace(operator, origin=operator.origin[:2])
    with pytest.raises(ValueError, match="operator must be over all 3 parameters, got 2"):
        measure_rise(objective, sam(), operator=part, **asked)
    lowest = find_eigenpairs(operator, k=2, which="SA", seed=0)
    for spectrum in (lowest, replace(lowest, eigenvectors=None, which="LA")):
        with pytest.raises(ValueError, match="spectrum must hold 2 eigenvectors of 3 parameters"):
            measure_rise(objective, sam(), spectrum=spectrum, eigenvectors=2, **asked)
