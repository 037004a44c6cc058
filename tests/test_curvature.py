import copy
import math

import numpy as np
import pytest
import torch
from dense import dense_hessian
from recorded_runs import Memory, bowls, small_run, stopping
from torch import nn
from torch.nn import functional

from landscape import Objective
from landscape.curvature import measure_curvature
from landscape.perturbations import aace, sam
from landscape.result_files import load_result
from landscape.results import arrays_of
from landscape.spectra import find_eigenpairs
from landscape.subjects import select_samples
from training.problems import PROBLEMS


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small") / "run")


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


def test_a_checkpoint_that_diverged_is_nan_and_the_others_are_measured(tmp_path):
    run, objective = bowls(tmp_path / "run", [3, 1], [np.nan, 1], [4, 1])
    found = measure_curvature(run, objective, checkpoints=[0, 1, 2], k=1, probes=2, seed=0)
    np.testing.assert_allclose(found.eigenvalues[:, 0], [3, np.nan, 4], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(found.trace), [False, True, False])
    np.testing.assert_array_equal(np.isnan(found.layer_trace[:, 0]), [False, True, False])
    np.testing.assert_array_equal(found.converged, [True, False, True])


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
    assert set(arrays_of(resumed)) == set(arrays_of(whole))
    for name, values in arrays_of(resumed).items():
        np.testing.assert_array_equal(values, arrays_of(whole)[name], err_msg=name)
    assert resumed.layer_names == whole.layer_names
    told = {name for name in whole.facts if not name.startswith("product")}
    assert {name: resumed.facts[name] for name in told} == {n: whole.facts[n] for n in told}
    assert "interrupted" not in resumed.facts
    with pytest.raises(ValueError, match="saved state must be of the same request"):
        measure_curvature(run, objective, **FOLLOWED | {"seed": 1}, savepoint=kept)


def test_a_series_that_was_all_kept_is_not_measured_again(small):
    run, model, loss_fn, data = small
    objective, kept = Objective(model, loss_fn, data, bn="batch"), Memory()
    first = measure_curvature(run, objective, **FOLLOWED, savepoint=kept)
    again = measure_curvature(run, objective, **FOLLOWED, savepoint=kept, progress=stopping("step"))
    assert again.digest == first.digest


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
