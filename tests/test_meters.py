import copy

import numpy as np
import pytest
import torch
from torch import nn

from landscape.formulas import formula_objective
from landscape.modules import Weights, buffers_of, flatten
from landscape.objectives import Objective
from landscape.plane import Plane
from landscape.planes import random_plane
from landscape.spans import line_plane
from landscape.surfaces import measure_profile, measure_surface
from landscape.visits import Memory

CE = nn.CrossEntropyLoss()


def right(output, targets):
    return (output.argmax(1) == targets).double().mean()


def net(seed=0, norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(3, 5), nn.BatchNorm1d(5)] if norm else [nn.Linear(3, 5)]
        model = nn.Sequential(*layers, nn.ReLU(), nn.Linear(5, 4))
        for _ in range(3):
            model(data(seed=seed)[0] * (seed + 2))
    return model


def data(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=generator), torch.arange(count) % 4


def square(objective, **options):
    plane = random_plane(objective, seed=0)
    return plane, measure_surface(objective, plane, extent=1.0, points=(3, 5), **options)


def saddle(curvatures=(3.0, -1.0, 0.5)):
    values = torch.tensor(curvatures, dtype=torch.float64)
    objective = formula_objective(lambda w: 2 + 0.5 * (values * w * w).sum(), [0.0] * 3)
    plane = Plane(objective.theta, torch.eye(3, dtype=torch.float64)[:2])
    return objective, plane


def test_train_and_test_data_and_metrics_are_measured_in_one_pass():
    metrics = {"right": right}
    train = Objective(net(), CE, data(), metrics=metrics)
    test = Objective(net(), CE, data(seed=1), metrics=metrics)
    plane, surface = square(train, test=test)
    corner = plane.point(-1.0, 0.5)
    assert surface.loss[0, 3] == train(corner)
    assert surface.test_loss[0, 3] == test(corner)
    assert surface.metric_names == ("right", "test right")
    assert np.array_equal(surface.metrics[0], surface.accuracy)
    assert np.array_equal(surface.metrics[1], surface.test_accuracy)
    assert surface.facts["test_samples"] == 12
    assert not np.array_equal(surface.loss, surface.test_loss)


def test_without_test_data_there_are_no_test_arrays():
    _, surface = square(Objective(net(), CE, data()))
    assert surface.test_loss.size == surface.metrics.size == surface.lambda_max.size == 0


def test_test_data_need_the_same_metrics():
    train = Objective(net(), CE, data(), metrics={"right": right})
    with pytest.raises(ValueError, match=r"the same metrics, got \['right'\] and \[\]"):
        square(train, test=Objective(net(), CE, data()))


def test_eigenvalues_of_a_quadratic_are_its_curvatures_at_every_point():
    objective, plane = saddle()
    surface = measure_surface(objective, plane, extent=1.0, points=3, eigenvalues=True)
    assert np.allclose(surface.lambda_max, 3.0, rtol=1e-9)
    assert np.allclose(surface.lambda_min, -1.0, rtol=1e-9)
    assert (surface.lambda_residual < 1e-6).all()


def test_eigenvalues_are_of_the_point_not_of_the_origin():
    objective = formula_objective(lambda w: (w**4).sum() / 12, [0.5, 0.0])
    line = Plane(objective.theta, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    profile = measure_profile(objective, line, extent=(0.0, 1.0), points=3, eigenvalues=True)
    assert np.allclose(profile.lambda_max[0], (0.5 + profile.alpha) ** 2, rtol=1e-9)
    assert np.allclose(profile.lambda_min[0], 0.0, atol=1e-9)


def test_where_the_loss_diverged_there_are_no_eigenvalues():
    objective = formula_objective(lambda w: (w * w).sum() + 0 / (w[0] < 0.5), [0.0, 0.0])
    plane = Plane(objective.theta, torch.eye(2, dtype=torch.float64))
    surface = measure_surface(objective, plane, extent=1.0, points=3, eigenvalues=True)
    assert np.isnan(surface.loss[2]).all()
    assert np.isnan(surface.lambda_max[2]).all()
    assert np.allclose(surface.lambda_max[:2], 2.0)
    assert surface.evaluated.all()


def test_statistics_of_two_minima_are_their_own_at_the_ends():
    first, last = net(0, norm=True), net(1, norm=True)
    objective = Objective(first, CE, data(), bn="interpolated")
    line = line_plane(
        Weights("a", flatten(first), buffers_of(first)),
        Weights("b", flatten(last), buffers_of(last)),
    )
    profile = measure_profile(objective, line, extent=(0.0, 1.0), points=3)
    ends = [Objective(model, CE, data())() for model in (first, last)]
    assert profile.loss[0, [0, -1]] == pytest.approx(ends, rel=1e-6)
    assert profile.mark_labels == ("a", "b")
    assert profile.mark_position.tolist() == [0.0, 1.0]


def test_interpolated_statistics_need_a_plane_that_has_them():
    objective = Objective(net(norm=True), CE, data(), bn="interpolated")
    with pytest.raises(ValueError, match="running statistics of their own, got plane 'random'"):
        square(objective)


def test_kept_points_make_the_same_surface_and_are_not_measured_again(monkeypatch):
    objective = Objective(net(), CE, data())
    plane, whole = square(objective)
    keeper, asked = Memory(), []

    class KilledError(Exception):
        pass

    keep = keeper.keep

    def dies(index, values):
        keep(index, values)
        asked.append(index)
        if len(asked) in (4, 9):
            raise KilledError

    keeper.keep = dies
    for _ in range(2):
        with pytest.raises(KilledError):
            measure_surface(objective, plane, extent=1.0, points=(3, 5), work=keeper)
    surface = measure_surface(objective, plane, extent=1.0, points=(3, 5), work=keeper)
    assert sorted(asked) == list(range(15))
    assert surface.digest == whole.digest


def test_a_share_leaves_the_other_points_unevaluated():
    class Half(Memory):
        def mine(self, position):
            return position % 2 == 0

    _, surface = square(Objective(net(), CE, data()), work=Half())
    assert surface.evaluated.sum() == 8
    assert np.isnan(surface.loss[~surface.evaluated]).all()
    assert np.isfinite(surface.loss[surface.evaluated]).all()


def test_a_smooth_surface_is_interpolated_to_tolerance_and_says_so():
    objective, plane = saddle((1.0, 0.3, 0.0))
    options = {"extent": 1.0, "points": 41}
    whole = measure_surface(objective, plane, **options)
    surface = measure_surface(objective, plane, **options, tolerance=0.01)
    assert surface.evaluated.sum() < 600
    assert (surface.evaluated | surface.interpolated).all()
    assert not (surface.evaluated & surface.interpolated).any()
    assert np.array_equal(surface.loss[surface.evaluated], whole.loss[surface.evaluated])
    error = np.abs(np.log(surface.loss / whole.loss))[surface.interpolated]
    assert np.quantile(error, 0.95) <= surface.facts["held_out"]["bound"] <= 0.01


def test_a_rough_surface_is_evaluated_everywhere():
    rng = np.random.default_rng(0)
    table = torch.from_numpy(1 + rng.random((9, 9)))

    def rough(w):
        i, j = ((w + 1) * 4).round().long().clamp(0, 8).tolist()
        return table[i, j] + 0 * w.sum()

    objective = formula_objective(rough, [0.0, 0.0])
    plane = Plane(objective.theta, torch.eye(2, dtype=torch.float64))
    surface = measure_surface(objective, plane, extent=1.0, points=9, tolerance=0.01)
    assert surface.evaluated.all()
    assert np.array_equal(surface.loss, table.numpy())


def test_the_center_off_the_grid_is_measured_beside_it():
    objective, plane = saddle()
    surface = measure_surface(objective, plane, extent=1.0, points=4)
    assert not surface.facts["center_on_grid"]
    assert surface.facts["center_loss"] == 2.0


def test_statistics_of_test_data_are_those_of_the_training_data():
    model = net(norm=True)
    train = Objective(model, CE, data(), bn="recomputed")
    own = Objective(model, CE, data(seed=1), bn="recomputed")
    test = Objective(model, CE, data(seed=1), bn="recomputed", statistics=train)
    measured = copy.deepcopy(model)
    measured[1].momentum = None  # the plain mean over batches
    measured[1].reset_running_stats()
    measured.train()(data()[0])
    expected = CE(measured.eval()(data(seed=1)[0]), data()[1]).item()
    assert test() == pytest.approx(expected, rel=1e-6)
    assert own() != pytest.approx(expected, rel=1e-4)
    _, surface = square(train, test=test)
    assert surface.facts["center_loss"] == pytest.approx(train(), rel=1e-6)
    assert surface.test_loss[1, 2] == pytest.approx(expected, rel=1e-5)
