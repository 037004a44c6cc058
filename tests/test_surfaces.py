import copy

import numpy as np
import pytest
import torch
from torch import nn

from landscape.objectives import BN_POLICIES, Objective, flatten
from landscape.planes import Plane, random_plane
from landscape.result_files import load_result
from landscape.surfaces import measure_profile, measure_surface

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


class Bowl(nn.Module):
    """½ wᵀ A w + offset of its weight w [filter, n], the same for every sample."""

    def __init__(self, matrix, weight, offset=0.0, failing=None):
        super().__init__()
        self.matrix, self.offset, self.failing = matrix, offset, failing
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float64))

    def forward(self, x):
        w = self.weight.reshape(-1)
        value = 0.5 * w @ self.matrix @ w + self.offset
        if self.failing is not None:
            value = self.failing(w, value)
        return value + 0 * x


def mean_output(output, targets):
    return output.mean()


def bowl(matrix, weight, **options):
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    rows = torch.zeros(4, 1, dtype=torch.float64)
    return Objective(Bowl(matrix, weight, **options), mean_output, (rows, rows))


def diagonal_bowl(**options):
    return bowl(np.diag([1.0, 10.0]), [0.0, 0.0], **options)


def axes_plane(objective):
    return Plane(objective.theta, torch.eye(2, dtype=torch.float64))


def trained_net(dropout=0.5, seed=0):
    """A BatchNorm and dropout net whose running statistics are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        x, y = images()
        for _ in range(5):
            optimizer.zero_grad()
            CE(net(x), y).backward()
            optimizer.step()
    return net


def images(count=33):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 3


def state_of(model):
    return (
        copy.deepcopy(model.state_dict()),
        [(p.requires_grad, p.grad.clone()) for p in model.parameters()],
        [m.training for m in model.modules()],
    )


# The grid


def test_surface_of_a_quadratic_is_that_quadratic_and_axes_are_not_swapped():
    """PEERS §5, 10: on a non-square grid, loss[i, j] belongs to (alpha[i], beta[j])."""
    objective = diagonal_bowl()
    surface = measure_surface(
        objective, axes_plane(objective), extent=(-1, 2, -3, 1), points=(4, 9)
    )
    a, b = np.meshgrid(np.linspace(-1, 2, 4), np.linspace(-3, 1, 9), indexing="ij")
    assert surface.loss.shape == (4, 9)
    np.testing.assert_allclose(surface.loss, 0.5 * a**2 + 5 * b**2, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(surface.alpha, [-1, 0, 1, 2])
    assert surface.evaluated.all()


@pytest.mark.parametrize("points", [(7, 5), (6, 5), (5, 8)])
def test_lowest_point_of_a_centred_bowl_is_in_the_middle_of_every_row_and_column(points):
    """PEERS §5, 4 and 6: scans back and forth zigzag."""
    objective = bowl([[2.0, 0.0], [0.0, 3.0]], [0.0, 0.0])
    loss = measure_surface(objective, axes_plane(objective), extent=1.0, points=points).loss
    np.testing.assert_array_equal(loss, loss[::-1])
    np.testing.assert_array_equal(loss, loss[:, ::-1])
    assert set(loss.argmin(axis=0)) == {(points[0] - 1) // 2}
    assert set(loss.argmin(axis=1)) == {(points[1] - 1) // 2}


def test_scale_of_the_grid_is_the_extent():
    """PEERS §5, 10: a range of steps / 2 against steps // 2 is off by 2.4 % at 41 points."""
    objective = bowl(np.eye(2), [0.0, 0.0])
    surface = measure_surface(objective, axes_plane(objective), extent=0.7, points=41)
    assert (surface.alpha[0], surface.alpha[-1]) == (-0.7, 0.7)
    assert surface.loss[0, 20] == pytest.approx(0.5 * 0.7**2, rel=1e-14)
    assert surface.alpha[20] == 0


@pytest.mark.parametrize("losses", [0.0, -3.0])
def test_zero_and_negative_losses_and_bounds_at_zero_are_ordinary(losses):
    """PEERS §5, 3: neither a bound of 0 nor a loss <= 0 is "missing"."""
    objective = diagonal_bowl(offset=losses)
    surface = measure_surface(objective, axes_plane(objective), extent=(0, 1, -1, 0), points=3)
    assert surface.loss[0, 2] == losses
    assert surface.evaluated.all()
    assert np.isfinite(surface.loss).all()


def test_nan_and_infinity_stay_where_they_are_and_two_runs_are_identical():
    """PEERS §5, 8: no mean in place of NaN, no noise on the maximum."""

    def failing(w, value):
        value = torch.where(w[0] > 0.9, torch.nan, value)
        return torch.where(w[1] < -0.9, value + torch.inf, value)

    objective = diagonal_bowl(failing=failing)
    first, again = (
        measure_surface(objective, axes_plane(objective), extent=1.0, points=(5, 3))
        for _ in range(2)
    )
    assert np.isnan(first.loss[4]).all()
    assert np.isposinf(first.loss[:4, 0]).all()
    assert np.isfinite(first.loss[:4, 1:]).all()
    assert first.evaluated.all()
    np.testing.assert_array_equal(first.loss, again.loss)
    assert first.digest == again.digest


def test_centre_is_the_loss_of_the_model_exactly():
    objective = Objective(trained_net(), CE, images())
    surface = measure_surface(objective, random_plane(objective, seed=0), extent=1.0, points=(3, 5))
    assert surface.loss[1, 2] == objective() == surface.facts["center_loss"]
    assert surface.accuracy[1, 2] == objective.evaluate().accuracy
    assert surface.facts["center_on_grid"]


def test_even_points_say_that_the_centre_is_not_on_the_grid():
    objective = Objective(trained_net(), CE, images())
    surface = measure_surface(objective, random_plane(objective, seed=0), extent=1.0, points=(3, 4))
    assert not surface.facts["center_on_grid"]
    assert surface.facts["center_loss"] == objective()
    assert objective() not in surface.loss


def test_points_are_computed_from_the_origin_not_step_by_step():
    objective = Objective(trained_net(), CE, images())
    plane = random_plane(objective, seed=0)
    surface = measure_surface(objective, plane, extent=1.0, points=(5, 3))
    for i, a in enumerate(surface.alpha):
        for j, b in enumerate(surface.beta):
            theta = objective.theta + a * plane.directions[0] + b * plane.directions[1]
            assert surface.loss[i, j] == objective(theta)


def test_different_directions_give_different_surfaces():
    """PEERS §5, 14: a plane whose second direction is the first gives a constant."""
    objective = Objective(trained_net(), CE, images())
    surface = measure_surface(objective, random_plane(objective, seed=0), extent=1.0, points=3)
    assert len(np.unique(surface.loss)) == 9
    other = measure_surface(objective, random_plane(objective, seed=1), extent=1.0, points=3)
    assert other.loss[1, 1] == surface.loss[1, 1]
    assert not np.isclose(other.loss[0, 0], surface.loss[0, 0])


# Models and data


@pytest.mark.parametrize("bn", [bn for bn in BN_POLICIES if bn != "interpolated"])
def test_batchnorm_net_is_finite_everywhere_and_its_buffers_stay(bn):
    """PEERS §5, 13 and 16: directions move parameters only, never running statistics."""
    model = trained_net()
    before = state_of(model)
    objective = Objective(model, CE, images(), bn=bn)
    surface = measure_surface(objective, random_plane(objective, seed=0), extent=2.0, points=9)
    measure_profile(objective, random_plane(objective, seed=0), extent=2.0, points=3, repeats=2)
    assert np.isfinite(surface.loss).all()
    after = state_of(model)
    assert all(torch.equal(before[0][name], value) for name, value in after[0].items())
    assert before[2] == after[2]
    for (kept, gradient), (now, same) in zip(before[1], after[1], strict=True):
        assert kept == now
        assert torch.equal(gradient, same)


def test_ragged_batches_draw_the_same_surface():
    """PEERS §5, 1 and 12: neither a sum over batches nor their unweighted mean."""
    x, y = images(33)
    surfaces = []
    for sizes in ((33,), (32, 1), (9, 8, 8, 8)):
        batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
        objective = Objective(trained_net(), CE, batches, dtype=torch.float64)
        plane = random_plane(objective, seed=0)
        surfaces.append(measure_surface(objective, plane, extent=1.0, points=3))
    for surface in surfaces[1:]:
        np.testing.assert_allclose(surface.loss, surfaces[0].loss, rtol=1e-12)
        np.testing.assert_array_equal(surface.accuracy, surfaces[0].accuracy)


def test_mean_curvature_of_filter_normalized_slices_is_the_weighted_trace():
    """Case 22: E[dᵀ A d] = Σ_f (‖w_f‖² / n_f) tr(A_ff)."""
    generator = np.random.default_rng(0)
    half = generator.standard_normal((12, 12))
    weight = generator.standard_normal((3, 4)) * [[0.2], [1.0], [3.0]]
    objective = bowl(half @ half.T, weight)
    blocks = np.diag(half @ half.T).reshape(3, 4).sum(axis=1)
    expected = float(((weight**2).sum(axis=1) / 4 * blocks).sum())
    profile = measure_profile(
        objective, random_plane(objective, seed=0, axes=1), extent=1.0, points=3, repeats=500
    )
    curvature = profile.loss[:, 0] + profile.loss[:, 2] - 2 * profile.loss[:, 1]
    error = curvature.std() / np.sqrt(500)
    assert abs(curvature.mean() - expected) < 4 * error
    assert error < 0.05 * expected


# Profiles


def test_both_ends_of_a_line_are_evaluated_and_the_model_does_not_move():
    """PEERS §5, 5: the start of a line was never evaluated."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 2.0]])
    end = torch.tensor([3.0, -1.0])
    objective = Objective(model, MSE, (torch.eye(2), torch.zeros(2, 1)))
    line = Plane(objective.theta, (end - objective.theta)[None])
    profile = measure_profile(objective, line, extent=(0.0, 1.0), points=5)
    assert profile.loss[0, 0] == objective() == (1 + 4) / 2
    assert profile.loss[0, -1] == objective(end) == (9 + 1) / 2
    assert profile.facts["center_loss"] == objective()
    assert torch.equal(flatten(model), torch.tensor([1.0, 2.0]))
    assert profile.axis_label == "direction 1"


def test_repeats_are_the_profiles_of_the_next_seeds():
    objective = Objective(trained_net(), CE, images())
    plane = random_plane(objective, normalization="layer", ignore=(), seed=4)
    profile = measure_profile(objective, plane, extent=1.0, points=5, repeats=3)
    assert profile.facts["seeds"] == [4, 5, 6]
    assert profile.loss.shape == (3, 5)
    assert (profile.loss[:, 2] == objective()).all()
    for repeat in range(3):
        alone = random_plane(objective, normalization="layer", ignore=(), seed=4 + repeat, axes=1)
        expected = measure_profile(objective, alone, extent=1.0, points=5)
        np.testing.assert_array_equal(profile.loss[repeat], expected.loss[0])


def test_repeats_of_a_plane_that_is_not_random_are_refused():
    objective = diagonal_bowl()
    with pytest.raises(ValueError, match="need a random plane, got plane 'given'"):
        measure_profile(objective, axes_plane(objective), extent=1.0, points=3, repeats=2)


# Arguments, facts, progress, files


@pytest.mark.parametrize("points", [0, -3, 1, 2.0, True, "9", (3, 1), (3, 3, 3)])
def test_wrong_numbers_of_points_are_refused(points):
    objective = diagonal_bowl()
    with pytest.raises(ValueError, match=r"points must be a whole number.*at least 2.*got"):
        measure_surface(objective, axes_plane(objective), extent=1.0, points=points)
    with pytest.raises(ValueError, match="points must be a whole number, at least 2"):
        measure_profile(objective, axes_plane(objective), extent=1.0, points=points)


@pytest.mark.parametrize("extent", [0.0, -1.0, np.nan, np.inf, (0, 1), (1, 0, 0, 1), (0, 1, 2)])
def test_wrong_extents_are_refused(extent):
    objective = diagonal_bowl()
    with pytest.raises(ValueError, match="extent must be a number above 0, or bounds"):
        measure_surface(objective, axes_plane(objective), extent=extent, points=3)


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True])
def test_wrong_repeats_are_refused(repeats):
    objective = diagonal_bowl()
    with pytest.raises(ValueError, match="repeats must be a whole number from 1 on"):
        measure_profile(objective, axes_plane(objective), extent=1.0, points=3, repeats=repeats)


def test_surface_on_a_line_and_planes_of_other_models_are_refused():
    objective = diagonal_bowl()
    with pytest.raises(ValueError, match="2 directions, got 1"):
        measure_surface(objective, random_line(objective), extent=1.0, points=3)
    other = bowl(np.eye(3), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="3 parameters, got one of 2"):
        measure_surface(other, axes_plane(objective), extent=1.0, points=3)


def random_line(objective):
    return Plane(objective.theta, torch.ones(1, 2, dtype=torch.float64))


def test_facts_say_how_the_surface_was_measured():
    objective = Objective(trained_net(), CE, images(), bn="batch")
    plane = random_plane(objective, seed=2)
    facts = measure_surface(objective, plane, extent=(-1, 1, 0, 2), points=(3, 4)).facts
    assert facts["plane"] == "random"
    assert (facts["normalization"], facts["ignore"], facts["seed"]) == (
        "filter",
        ["bias", "norm"],
        2,
    )
    assert (facts["bn"], facts["samples"], facts["dtype"]) == ("batch", 33, "float32")
    assert (facts["extent"], facts["points"]) == ([-1, 1, 0, 2], [3, 4])
    assert facts["mode"] == "eval, dropout inactive"


def test_plane_in_another_type_is_measured_in_the_objectives():
    objective = Objective(trained_net(), CE, images(), dtype=torch.float64)
    rough = random_plane(Objective(trained_net(), CE, images()), seed=0)
    exact = random_plane(objective, seed=0)
    surfaces = [measure_surface(objective, p, extent=1.0, points=3) for p in (rough, exact)]
    np.testing.assert_allclose(surfaces[0].loss, surfaces[1].loss, rtol=1e-5)


def test_progress_counts_every_point():
    objective = diagonal_bowl()
    seen = []
    measure_surface(
        objective,
        axes_plane(objective),
        extent=1.0,
        points=(2, 3),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 6) for i in range(1, 7)]


def test_measured_surface_and_profile_survive_a_file(tmp_path):
    objective = Objective(trained_net(), CE, images())
    plane = random_plane(objective, seed=0)
    results = (
        measure_surface(objective, plane, extent=1.0, points=(3, 2)),
        measure_profile(objective, plane, extent=1.0, points=3, repeats=2),
    )
    for result in results:
        loaded = load_result(result.save(tmp_path / f"{result.kind}.h5"))
        assert loaded.digest == result.digest
        assert loaded.facts == result.facts
