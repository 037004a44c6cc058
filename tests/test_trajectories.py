import copy

import numpy as np
import pytest
import torch
from torch import nn

from landscape.objectives import Objective, buffers_of, flatten, layout_of
from landscape.planes import Plane, random_plane, trajectory_plane
from landscape.result_files import load_result
from landscape.runs import Run
from landscape.surfaces import measure_surface
from landscape.trajectories import measure_trajectory, path_on_plane
from landscape.writers import RunWriter

CE = nn.CrossEntropyLoss()


def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 1, 4, 4, generator=generator) + 1, torch.arange(30) % 3


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))


def train(path, updates=6, model=None):
    """A run of a BatchNorm net, with a checkpoint after every second update, and its models."""
    model = net() if model is None else model
    writer = RunWriter.create(
        path,
        config={"seed": 0},
        problem={"name": "x", "options": {}},
        layout=layout_of(model),
        method="SGD",
    )
    optimizer, models = torch.optim.SGD(model.parameters(), lr=0.3), []
    for update in range(updates + 1):
        buffers = {name: value.numpy() for name, value in buffers_of(model).items()}
        writer.save_checkpoint(2 * update, flatten(model).numpy(), buffers)
        models.append(copy.deepcopy(model))
        for _ in range(2):
            optimizer.zero_grad()
            CE(model(data()[0]), data()[1]).backward()
            optimizer.step()
    writer.finish()
    return Run(path), models


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "run")


def test_loss_of_each_checkpoint_is_measured_with_its_own_buffers(trained):
    run, models = trained
    x, y = data()
    found = measure_trajectory(run, Objective(net(), CE, data()))
    for i, model in enumerate(models):
        output = copy.deepcopy(model).eval()(x).detach()
        assert found.loss[i] == float(CE(output, y))
        assert found.accuracy[i] == float((output.argmax(1) == y).double().mean())
    last = Objective(models[-1], CE, data())
    assert found.loss[0] != last(flatten(models[0]))


def test_geometry_is_that_of_the_checkpoints(trained):
    run, models = trained
    thetas = torch.stack([flatten(model) for model in models]).double().numpy()
    found = measure_trajectory(run, Objective(net(), CE, data()))
    moves = np.diff(thetas, axis=0)
    lengths = np.linalg.norm(moves, axis=1)
    cosines = (moves[1:] * moves[:-1]).sum(axis=1) / (lengths[1:] * lengths[:-1])
    np.testing.assert_array_equal(found.step, [0, 2, 4, 6, 8, 10, 12])
    np.testing.assert_allclose(found.step_length, lengths, rtol=1e-7)
    np.testing.assert_allclose(found.turning_angle, np.degrees(np.arccos(cosines)), rtol=1e-6)
    np.testing.assert_allclose(found.distance_end, np.linalg.norm(thetas - thetas[-1], axis=1))
    start = np.linalg.norm(thetas - thetas[0], axis=1)
    np.testing.assert_allclose(found.distance_start, start, atol=1e-9)


def test_positions_and_distances_off_the_plane_are_those_of_numpy(trained):
    run, models = trained
    thetas = torch.stack([flatten(model) for model in models]).double().numpy()
    found = measure_trajectory(run, Objective(net(), CE, data()))
    _, scale, rows = np.linalg.svd(thetas - thetas.mean(axis=0), full_matrices=False)
    offset = thetas - thetas[-1]
    position = offset @ rows[:2].T
    signs = np.sign((position * found.position).sum(axis=0))
    np.testing.assert_allclose(found.position, signs * position, atol=1e-6)
    rest = np.linalg.norm(offset - position @ rows[:2], axis=1)
    np.testing.assert_allclose(found.off_plane, rest, atol=1e-6)
    np.testing.assert_allclose(found.explained, (scale**2 / (scale**2).sum())[:-1], atol=1e-12)
    assert found.off_plane[-1] == 0
    assert found.off_plane[1:-1].max() > 1e-3
    assert found.axis_labels == ("PC 1", "PC 2")


def test_null_is_that_of_a_walk_with_the_runs_own_steps(trained):
    run, _ = trained
    found = measure_trajectory(run, Objective(net(), CE, data()))
    assert found.explained_null.shape == found.explained.shape == (6,)
    assert found.explained_null.sum() == pytest.approx(1)
    walk = np.tri(7, 6, -1) * found.step_length
    values = np.linalg.svd(walk - walk.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(found.explained_null, values / values.sum())
    assert found.facts["variance_null"] == pytest.approx(found.explained_null[:2].tolist())


def test_any_plane_will_do_and_is_named(trained):
    run, models = trained
    objective = Objective(models[-1], CE, data())
    found = measure_trajectory(run, objective, random_plane(objective, ignore=(), seed=0))
    assert found.facts["plane"] == "random"
    assert found.position[-1] == pytest.approx([0, 0])
    np.testing.assert_allclose(
        found.off_plane**2 + _in_plane(found, objective), found.distance_end**2, rtol=1e-5
    )


def _in_plane(found, objective):
    rows = random_plane(objective, ignore=(), seed=0).directions.double().numpy()
    return ((found.position @ rows) ** 2).sum(axis=1)


def test_path_on_plane_gives_the_fields_of_a_surface(trained):
    run, models = trained
    objective = Objective(models[-1], CE, data())
    plane = trajectory_plane(run)
    path = path_on_plane(run, plane, objective)
    found = measure_trajectory(run, objective)
    np.testing.assert_array_equal(path["path_step"], found.step)
    np.testing.assert_allclose(path["path_position"], found.position)
    np.testing.assert_allclose(path["path_off_plane"], found.off_plane)
    np.testing.assert_array_equal(path["path_loss"], found.loss)
    surface = measure_surface(objective, plane, extent=1.0, points=3)
    assert surface.loss[1, 1] == path["path_loss"][-1]


def test_objective_of_another_model_is_refused(trained):
    run, _ = trained
    other = Objective(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), CE, data())
    with pytest.raises(ValueError, match="must be of the run's model, got 51 parameters"):
        measure_trajectory(run, other)
    with pytest.raises(ValueError, match="must be of the run's model"):
        path_on_plane(run, trajectory_plane(run), other)


def test_line_is_no_plane_for_a_trajectory(trained):
    run, models = trained
    objective = Objective(models[-1], CE, data())
    with pytest.raises(ValueError, match="2 directions, got 1"):
        measure_trajectory(run, objective, Plane(objective.theta, torch.ones(1, 83)))


def test_runs_with_two_checkpoints_are_refused(tmp_path):
    run, models = train(tmp_path / "short", updates=1)
    with pytest.raises(ValueError, match="at least 3 checkpoints, got 2"):
        measure_trajectory(run, Objective(models[-1], CE, data()))


def test_progress_counts_checkpoints_and_the_model_stays(trained):
    run, _ = trained
    model, seen = net(), []
    before = copy.deepcopy(model.state_dict())
    measure_trajectory(
        run, Objective(model, CE, data()), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(i, 7) for i in range(1, 8)]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_trajectory_survives_a_file(trained, tmp_path):
    run, _ = trained
    found = measure_trajectory(run, Objective(net(), CE, data(), bn="recomputed"))
    loaded = load_result(found.save(tmp_path / "t.h5"))
    assert loaded.digest == found.digest
    assert loaded.facts["bn"] == "recomputed"
    assert loaded.facts["plane_run"] == run.id
