import copy
import math

import numpy as np
import pytest
import torch
from dense import Quadratic, conv_batchnorm, dense_hessian, mean, mlp
from torch import nn
from torch.nn import functional

from landscape import SAM, Objective
from landscape.curvature import measure_curvature
from landscape.modules import buffers_of, flatten, layout_of
from landscape.perturbations import aace, sam, usam
from landscape.recorders import Recorder
from landscape.result_files import load_result
from landscape.runs import Run
from landscape.spectra import find_eigenpairs
from landscape.subjects import select_samples
from landscape.writers import RunWriter
from training.problems import PROBLEMS


def record(path, model, data, loss_fn, updates, every=1, perturbation=None, **options):
    """Train on all data at once, one epoch per update, as the run of a user would be."""
    options = {"lr": 0.1} | options
    optimizer = torch.optim.SGD(model.parameters(), **options)
    if perturbation is not None:
        optimizer = SAM(model.parameters(), torch.optim.SGD, perturbation=perturbation, **options)
    inputs, targets = data
    model.train()

    def closure():
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        return loss

    with Recorder(path, model, optimizer, checkpoint_every=every) as recorder:
        for epoch in range(updates):
            optimizer.zero_grad()
            loss = optimizer.step(closure)
            recorder.step(loss, epoch=epoch)
    return Run(path)


def written(path, models, **row):
    """A run of these models as checkpoints, by hand."""
    writer = RunWriter.create(
        path,
        config={"seed": 0},
        problem={"name": "x", "options": {}},
        layout=layout_of(models[0]),
        method="SGD",
    )
    for step, model in enumerate(models):
        buffers = {name: value.numpy() for name, value in buffers_of(model).items()}
        writer.save_checkpoint(step, flatten(model).numpy(), buffers)
        writer.append({"step": step, "lr": 0.1} | row)
    writer.finish()
    return Run(path)


def bowls(path, *diagonals):
    """A run through quadratics whose matrices are buffers of the checkpoints."""
    models = [Quadratic(np.diag(np.array(d, float))) for d in diagonals]
    objective = Objective(models[0], mean, (torch.zeros(2, 1), torch.zeros(2)))
    for model in models:
        model.theta.data += 0.25
    return written(path, models), objective


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A full-batch run of a small BatchNorm net with SGD, and the net as it began."""
    model, loss_fn, data = conv_batchnorm()
    run = record(
        tmp_path_factory.mktemp("small") / "run",
        copy.deepcopy(model),
        data,
        loss_fn,
        updates=6,
        every=2,
        momentum=0.5,
        weight_decay=0.01,
    )
    return run, model, loss_fn, data


def at_step(run, model, step):
    """The model with parameters and buffers of a checkpoint."""
    own, checkpoint = copy.deepcopy(model), run.checkpoint(step)
    nn.utils.vector_to_parameters(torch.tensor(checkpoint.theta).double(), own.parameters())
    own.load_state_dict({n: torch.tensor(v) for n, v in checkpoint.buffers.items()}, strict=False)
    return own.eval()


def test_each_row_is_that_of_the_dense_hessian_with_the_checkpoints_own_buffers(small):
    run, model, loss_fn, data = small
    objective = Objective(model, loss_fn, data)
    found = measure_curvature(
        run,
        objective,
        checkpoints=[4, 0, 6],
        k=3,
        tolerance=1e-7,
        probes=40,
        perturbations=[sam(), aace()],
        seed=0,
    )
    np.testing.assert_array_equal(found.step, [0, 4, 6])
    assert found.direction_names == ("gradient", "sam", "aace")
    assert found.converged.all()
    for place, step in enumerate(found.step):
        own = at_step(run, model, int(step))
        dense = dense_hessian(own, loss_fn, data)
        values, vectors = np.linalg.eigh(dense)
        scale = np.abs(values).max()
        np.testing.assert_allclose(found.eigenvalues[place], values[::-1][:3], atol=1e-7 * scale)
        assert found.lowest[place] == pytest.approx(values[0], abs=1e-6 * scale)
        assert found.residuals[place].max() <= 1e-7 * scale
        assert abs(found.trace[place] - values.sum()) < 4 * found.trace_error[place]
        logits = own(data[0])
        loss = loss_fn(logits, data[1])
        assert found.loss[place] == pytest.approx(float(loss.detach()), rel=1e-12)
        true = logits.softmax(1).gather(1, data[1][:, None]).mean()
        assert found.mean_probability[place] == pytest.approx(float(true.detach()), rel=1e-12)
        slope = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(own.parameters()))]
        ).numpy()
        assert found.gradient_norm[place] == pytest.approx(np.linalg.norm(slope), rel=1e-10)
        cosines = np.abs(vectors.T[::-1][:3] @ slope) / np.linalg.norm(slope)
        np.testing.assert_allclose(found.alignment[place, 0], cosines, atol=1e-5)
        np.testing.assert_allclose(found.alignment[place, 1], cosines, atol=1e-5)
        quotient = slope @ dense @ slope / (slope @ slope)
        assert found.rayleigh[place, 0] == pytest.approx(quotient, rel=1e-8)
    np.testing.assert_allclose(found.layer_trace.sum(1), found.trace, rtol=1e-9)
    assert found.layer_names == ("0", "1", "4")
    np.testing.assert_array_equal(found.layer_size, [30, 6, 84])


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
    np.testing.assert_allclose(found.facts["swing_magnitude"], np.abs(expected), atol=2e-3)
    assert found.trace.size == found.layer_trace.size == 0
    assert found.multiplier.shape == found.multiplier_residual.shape == (4,)
    np.testing.assert_allclose(found.learning_rate, 0.1)


def test_without_batch_statistics_there_is_no_line(small):
    run, model, loss_fn, data = small
    found = measure_curvature(
        run, Objective(model, loss_fn, data), checkpoints=[2], k=1, probes=0, seed=0
    )
    assert found.edge.size == 0
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


def test_a_warm_start_hides_no_new_eigenvalue(tmp_path):
    first = [10, 5, 1, *[0.1] * 20, 0.2, -0.5]
    second = [10, 5, 1, *[0.1] * 20, 50, -0.5]
    third = [0.3, 0.3, 0.3, *[0.1] * 20, 0.2, -40]
    run, objective = bowls(tmp_path / "run", first, second, third)
    found = measure_curvature(run, objective, checkpoints=[0, 1, 2], k=2, probes=0, seed=0)
    np.testing.assert_allclose(
        found.eigenvalues, [[10, 5], [50, 10], [0.3, 0.3]], rtol=1e-3, atol=0.04
    )
    np.testing.assert_allclose(found.lowest, [-0.5, -0.5, -40], rtol=1e-3)
    assert found.converged.all()


def test_searches_begin_at_the_last_eigenvectors(small, monkeypatch):
    run, model, loss_fn, data = small
    starts = []

    def spy(source, *, start=None, **options):
        starts.append(start)
        return find_eigenpairs(source, start=start, **options)

    monkeypatch.setattr("landscape.curvature_rows.find_eigenpairs", spy)
    objective = Objective(model, loss_fn, data)
    measure_curvature(run, objective, checkpoints=[0, 2], k=2, probes=0, seed=0)
    first, low, second, low_again = starts
    assert first is low is low_again is None
    dense = dense_hessian(at_step(run, model, 0), loss_fn, data)
    vectors = np.linalg.eigh(dense)[1].T[::-1][:2]
    np.testing.assert_allclose(np.abs(second.numpy() @ vectors.T), np.eye(2), atol=0.02)


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


@pytest.fixture
def digits(run):
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    data = select_samples(problem.train, samples=32, seed=0)
    return Objective(problem.model, problem.loss_fn, data, bn="batch", batch_size=16)


def test_a_real_run_has_everything_but_a_line(run, digits, tmp_path):
    found = measure_curvature(
        run,
        digits,
        checkpoints=[0, 60],
        k=2,
        tolerance=1e-2,
        probes=2,
        perturbations=[sam(), aace()],
        stability=True,
        seed=0,
    )
    assert found.edge.size == 0
    assert "no line is known for AACE" in found.edge_label
    assert found.facts["left_out"] == ["augmentation"]
    assert found.facts["batches"].startswith("each")
    assert found.facts["alignment_null"] == pytest.approx(
        math.sqrt(2 / (math.pi * run.layout.size))
    )
    assert np.isfinite(found.multiplier).all()
    assert found.learning_rate[1] == run.steps["lr"][59]
    np.testing.assert_allclose(found.alignment[:, 0], found.alignment[:, 1], rtol=1e-6)
    assert (found.alignment <= 1).all()
    assert len(found.layer_names) == len(found.layer_size) == found.layer_trace.shape[1]
    assert found.layer_size.sum() == run.layout.size
    assert found.mean_probability[1] > found.mean_probability[0]
    assert found.matvecs > 20
    assert load_result(found.save(tmp_path / "c.h5")).digest == found.digest


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
    with pytest.raises(ValueError, match="got Adam"):
        measure_curvature(run, objective, stability=True, **options)


def test_a_checkpoint_that_diverged_is_nan_and_the_others_are_measured(tmp_path):
    run, objective = bowls(tmp_path / "run", [3, 1], [np.nan, 1], [4, 1])
    found = measure_curvature(run, objective, checkpoints=[0, 1, 2], k=1, probes=2, seed=0)
    np.testing.assert_allclose(found.eigenvalues[:, 0], [3, np.nan, 4], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(found.trace), [False, True, False])
    np.testing.assert_array_equal(np.isnan(found.layer_trace[:, 0]), [False, True, False])
    np.testing.assert_array_equal(found.converged, [True, False, True])


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


class Memory:
    """A savepoint that is always due."""

    def __init__(self):
        self.kept = None

    def load(self):
        return self.kept

    def due(self):
        return True

    def save(self, state):
        self.kept = {name: np.array(value) for name, value in state.items()}


def stopping(word):
    def progress(done, total, note):
        if word in note:
            raise KeyboardInterrupt

    return progress


FOLLOWED = {"checkpoints": [0, 2, 4], "k": 2, "probes": 2, "seed": 0, "stability": True}


@pytest.fixture(scope="module")
def whole(small):
    run, model, loss_fn, data = small
    return measure_curvature(run, Objective(model, loss_fn, data, bn="batch"), **FOLLOWED)


@pytest.mark.parametrize("word", ["step 4, 2 largest: 3 products", "step 4, trace: 1 products"])
def test_an_interrupt_keeps_finished_checkpoints_and_the_rest_can_follow(small, whole, word):
    run, model, loss_fn, data = small
    objective, kept = Objective(model, loss_fn, data, bn="batch"), Memory()
    part = measure_curvature(run, objective, **FOLLOWED, savepoint=kept, progress=stopping(word))
    assert part.facts["interrupted"] is True
    assert part.facts["missing_steps"] == [4]
    np.testing.assert_array_equal(part.step, [0, 2])
    np.testing.assert_array_equal(part.eigenvalues, whole.eigenvalues[:2])
    resumed = measure_curvature(run, objective, **FOLLOWED, savepoint=kept)
    assert resumed.digest == whole.digest
    with pytest.raises(ValueError, match="saved state must be of the same request"):
        measure_curvature(run, objective, **FOLLOWED | {"seed": 1}, savepoint=kept)


def test_an_interrupt_before_anything_is_known_goes_through(small):
    run, model, loss_fn, data = small
    objective = Objective(model, loss_fn, data)
    with pytest.raises(KeyboardInterrupt):
        measure_curvature(
            run,
            objective,
            checkpoints=[0],
            k=1,
            seed=0,
            progress=stopping("largest: 4 products"),
        )


def test_progress_counts_checkpoints_and_says_what_is_at_hand(small):
    run, model, loss_fn, data = small
    seen = []
    measure_curvature(
        run,
        Objective(model, loss_fn, data),
        checkpoints=[0, 2],
        k=1,
        probes=1,
        seed=0,
        progress=lambda *now: seen.append(now),
    )
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[0] == (0, 2, "step 0")
    assert seen[-1][:2] == (2, 2)
    notes = " ".join(note for _, _, note in seen)
    assert all(f"step 2, {what}: " in notes for what in ("1 largest", "smallest", "trace"))


def test_what_cannot_be_measured_is_refused(small):
    run, model, loss_fn, data = small
    objective = Objective(model, loss_fn, data)
    with pytest.raises(ValueError, match="at least one checkpoint"):
        measure_curvature(run, objective, checkpoints=[], seed=0)
    with pytest.raises(ValueError, match="checkpoint must be first, last or one of 0, 2, 4, 6"):
        measure_curvature(run, objective, checkpoints=[3], seed=0)
    other = Objective(nn.Linear(4, 3), functional.cross_entropy, (torch.ones(2, 4), data[1][:2]))
    with pytest.raises(ValueError, match="must be of the run's model, got 15 parameters"):
        measure_curvature(run, other, checkpoints=[0], seed=0)
