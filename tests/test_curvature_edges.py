import copy

import numpy as np
import pytest
import torch
from dense import mlp
from recorded_runs import record, small_run, stopping
from torch import nn

from landscape import SAM, Objective
from landscape.curvature import measure_curvature
from landscape.perturbations import aace, sam, usam
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.stability import measure_stability
from landscape.subjects import select_samples
from landscape.updates import Update
from training.problems import PROBLEMS


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small") / "run")


def test_line_and_multiplier_agree_where_the_line_holds(small):
    run, model, loss_fn, data = small
    objective = Objective(model, loss_fn, data, bn="batch")
    found = measure_curvature(
        run, objective, checkpoints=run.checkpoints, k=1, probes=0, stability=True, seed=0
    )
    np.testing.assert_allclose(found.edge, 2 * 1.5 / 0.1 - 0.01)
    assert found.edge_label == "2 (1 + β) / η − weight decay"
    assert "edge_holds" not in found.facts
    top = 1.5 - 0.1 * (found.eigenvalues[:, 0] + 0.01)
    roots = [np.roots([1, -t, 0.5]) for t in top]
    expected = [root[np.argmax(np.abs(root - 1))] for root in roots]
    np.testing.assert_allclose(found.facts["swing_real"], np.real(expected), atol=2e-3)
    np.testing.assert_allclose(found.swing, np.abs(expected), atol=2e-3)
    assert found.trace.size == found.layer_trace.size == 0
    assert found.multiplier.shape == found.multiplier_residual.shape == (4,)
    np.testing.assert_allclose(found.learning_rate, 0.1)


def test_without_batch_statistics_there_is_no_line(small):
    run, model, loss_fn, data = small
    found = measure_curvature(
        run, Objective(model, loss_fn, data), checkpoints=[2], k=1, probes=0, seed=0
    )
    assert found.edge.size == found.edge_step.size == found.edge_level.size == 0
    assert 'not under bn="frozen"' in found.edge_label
    assert found.facts["bn"] == "frozen"


@pytest.mark.parametrize("perturbation", [sam(0.1), usam(0.1), aace(0.1)])
def test_lines_of_perturbed_runs(tmp_path, perturbation):
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data)
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.2, perturbation=perturbation)
    with Recorder(tmp_path / "run", model, optimizer, checkpoint_every=1) as recorder:
        for epoch in range(2):
            recorder.step(1.0, epoch=epoch)
    found = measure_curvature(
        Run(tmp_path / "run"), objective, checkpoints=[0], k=1, probes=0, seed=0
    )
    if perturbation.name == "aace":
        assert found.edge.size == 0
        assert "no line is known for AACE" in found.edge_label
        return
    scale = found.gradient_norm[0] if perturbation.normalize else 1.0
    bent = found.edge[0] * (1 + 0.1 * found.edge[0] / scale)
    assert bent == pytest.approx(2 / 0.2)


@pytest.mark.parametrize("batches", ["each", "whole"])
def test_multipliers_are_those_of_the_update_at_each_checkpoint(tmp_path, batches):
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data, batch_size=9)
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.8, perturbation=sam(0.5))
    with Recorder(tmp_path / "run", model, optimizer, checkpoint_every=1) as recorder:
        recorder.step(1.0)
        optimizer.param_groups[0]["lr"] = 0.2
        recorder.step(1.0)
    run = Run(tmp_path / "run")
    found = measure_curvature(
        run,
        objective,
        checkpoints=[0, 1],
        k=1,
        probes=0,
        stability=True,
        batches=batches,
        seed=0,
    )
    for place, rate in enumerate((0.8, 0.2)):
        alone = measure_stability(
            objective.at(run.checkpoint(place).theta),
            Update(learning_rate=rate, perturbation=sam(0.5)),
            batches=batches,
            seed=0,
        )
        assert found.multiplier[place] == alone.multiplier
        assert found.multiplier_residual[place] == alone.residuals[0]
        assert found.swing[place] == alone.facts["swing"]["magnitude"]
    assert found.facts["batches"] == alone.facts["batches"]


class Product(nn.Module):
    """A deep scalar net: its output is the product of its factors."""

    def __init__(self, factors):
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors, dtype=torch.float64))

    def forward(self, inputs):
        return inputs * self.factors.prod()


def test_full_batch_descent_on_a_deep_scalar_net_comes_to_hover_at_the_edge(tmp_path):
    def half_square(output, targets):
        return (output - targets).square().mean() / 2

    one = torch.ones(2, 1, dtype=torch.float64)
    model = Product((2.5, 0.45, 0.9, 0.6))
    start = copy.deepcopy(model)
    run = record(tmp_path / "eos", model, (one, one), half_square, updates=405, every=81, lr=0.35)
    objective = Objective(start, half_square, (one, one))
    found = measure_curvature(
        run, objective, checkpoints=run.checkpoints, k=1, probes=0, stability=True, seed=0
    )
    edge, top = 2 / 0.35, found.eigenvalues[:, 0]
    np.testing.assert_allclose(found.edge, edge)
    flow = float((1 / start.factors.detach() ** 2).sum())  # about where small steps would end
    assert flow > 1.5 * edge
    np.testing.assert_allclose(top[2:], edge, rtol=0.12)  # to and fro, on either side
    assert top[2:].min() < edge < top[2:].max()
    np.testing.assert_allclose(np.array(found.facts["swing_real"])[2:], -1, atol=0.25)
    np.testing.assert_allclose(found.facts["swing_real"], 1 - 0.35 * top, atol=2e-3)
    assert top[-1] == pytest.approx(edge, rel=0.03)
    assert found.facts["swing_real"][-1] == pytest.approx(-1, abs=0.06)


def test_lines_of_runs_with_batches_are_guides_and_follow_the_learning_rate(three):
    run = three[0]
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    data = select_samples(problem.train, samples=32, seed=0)
    objective = Objective(problem.model, problem.loss_fn, data, bn="batch")
    found = measure_curvature(
        run, objective, checkpoints=[0, 20], k=1, tolerance=1e-2, probes=0, seed=0
    )
    np.testing.assert_allclose(found.learning_rate, [0.05, 0.002])
    np.testing.assert_allclose(found.edge, 2 * 1.9 / found.learning_rate - 5e-4)
    assert "with smaller batches an upper guide" in found.facts["edge_holds"]
    changes = np.flatnonzero(np.diff(run.steps["lr"][:20])) + 1
    assert len(changes) == 2
    levels = [0, *changes, 20]
    np.testing.assert_array_equal(found.edge_step, levels)
    np.testing.assert_allclose(found.edge_level, 2 * 1.9 / run.steps["lr"][levels] - 5e-4)


def test_an_unknown_optimizer_has_no_line_and_no_multiplier(tmp_path):
    model, loss_fn, data = mlp()
    with Recorder(
        tmp_path / "run", model, torch.optim.Adam(model.parameters()), checkpoint_every=1
    ) as recorder:
        recorder.step(1.0)
    run, objective = Run(tmp_path / "run"), Objective(model, loss_fn, data)
    options = {"checkpoints": [0], "k": 1, "probes": 0, "seed": 0}
    found = measure_curvature(run, objective, **options)
    assert found.edge.size == 0
    assert "got Adam" in found.edge_label
    assert found.learning_rate[0] == 1e-3
    with pytest.raises(ValueError, match="got Adam"):  # before anything is measured
        measure_curvature(run, objective, stability=True, progress=stopping("step"), **options)


def test_a_step_without_jacobian_has_no_multiplier(tmp_path):
    _, loss_fn, data = mlp()
    inputs = torch.zeros_like(data[0])
    flat = nn.Linear(4, 3, bias=False).double()  # zero inputs: no gradient
    run = record(tmp_path / "run", flat, (inputs, data[1]), loss_fn, 2, perturbation=sam())
    found = measure_curvature(
        run,
        Objective(flat, loss_fn, (inputs, data[1])),
        checkpoints=[0],
        k=1,
        probes=0,
        stability=True,
        seed=0,
    )
    assert np.isnan(found.multiplier[0])
    assert not found.converged[0]
    assert found.edge_label == "SAM has no line where the gradient vanishes"
