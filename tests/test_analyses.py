from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from landscape.analyses import ANALYSES
from landscape.modules import Weights, buffers_of, flatten
from landscape.objectives import Objective
from landscape.options import (
    OPTIONS,
    BarrierOptions,
    ConsistencyOptions,
    CurveOptions,
    ProfileOptions,
    SpectrumOptions,
    SurfaceOptions,
)
from landscape.runs import Run, RunFileError
from landscape.subjects import record_of_run, select_samples, subjects_of_run
from training.problems import PROBLEMS

QUICK = {
    "profile": ProfileOptions(samples=100, points=3, repeats=2),
    "surface": SurfaceOptions(samples=100, points=3),
    "barrier": BarrierOptions(samples=100, points=3),
    "curve": CurveOptions(samples=100, points=5, updates=3),
    "spectrum": SpectrumOptions(samples=100, k=2, probes=1, steps=4, trace_probes=2),
    "sharpness": OPTIONS["sharpness"](
        samples=60, ascent_steps=1, pairs=2, chunks=1, m=30, probes=2, audit=False
    ),
    "stability": OPTIONS["stability"](samples=60, tolerance=0.1),
    "curvature": OPTIONS["curvature"](samples=60, checkpoints="first,last", k=1, probes=1),
    "consistency": ConsistencyOptions(batches=4),
    "rise": OPTIONS["rise"](batches=2, batch_size=20, k=1, curvature_samples=60, samples=100),
    "offset": OPTIONS["offset"](batches=2, batch_size=20, points=5, samples=100),
    "directions": OPTIONS["directions"](),
    "trajectory": OPTIONS["trajectory"](samples=100),
}


@pytest.fixture
def problem(run):
    return PROBLEMS[run.problem["name"]](**run.problem["options"])


def last(run, problem):
    (subject,) = subjects_of_run(run, problem)
    return subject


def subject_for(kind, run, problem):
    """The run at its end, or its record; between minima, its start and end as weights."""
    if kind == "directions":
        return record_of_run(run)
    subject = last(run, problem)
    if kind not in ("barrier", "curve"):
        return subject
    (first,) = subjects_of_run(run, problem, "first")
    ends = tuple(
        Weights(name, flatten(end.problem.model), buffers_of(end.problem.model))
        for name, end in (("start", first), ("end", subject))
    )
    return replace(subject, weights=ends)


@pytest.mark.parametrize("kind", list(ANALYSES))
def test_the_same_question_is_answered_once(run, problem, kind):
    first = ANALYSES[kind](subject_for(kind, run, problem), QUICK[kind])
    again = ANALYSES[kind](subject_for(kind, run, problem), QUICK[kind])
    assert not any(stored.found for stored in first)
    assert all(stored.found for stored in again)
    assert [a.result.digest for a in first] == [b.result.digest for b in again]


def test_measuring_again_gives_the_same_digest(run, problem):
    options = QUICK["surface"]
    (first,) = ANALYSES["surface"](last(run, problem), options)
    (again,) = ANALYSES["surface"](last(run, problem), options, again=True)
    assert not again.found
    assert again.result.digest == first.result.digest


def test_another_seed_is_another_question(run, problem):
    (one,) = ANALYSES["profile"](last(run, problem), QUICK["profile"])
    (two,) = ANALYSES["profile"](last(run, problem), replace(QUICK["profile"], seed=1))
    assert one.path != two.path
    assert not np.array_equal(one.result.loss, two.result.loss)


def test_a_surface_is_centered_on_the_loss_of_its_checkpoint(run, problem):
    subject = next(subjects_of_run(run, problem, "30"))
    (stored,) = ANALYSES["surface"](subject, SurfaceOptions(samples=0, points=3, extent=0.5))
    model = problem.model
    checkpoint = run.checkpoint(30)
    with torch.no_grad():
        for entry in run.layout:
            value = torch.tensor(checkpoint.theta[entry.slice]).reshape(entry.shape)
            model.get_parameter(entry.name).copy_(value)
        for name, buffer in checkpoint.buffers.items():
            model.get_buffer(name).copy_(torch.tensor(buffer))
        inputs, targets = problem.train
        expected = functional.cross_entropy(model.eval()(inputs), targets)
    assert stored.result.loss[1, 1] == pytest.approx(float(expected), rel=1e-6)
    assert stored.result.facts["checkpoint"] == 30


def test_a_trajectory_surface_holds_the_whole_path_and_its_end_on_the_grid(run, problem):
    options = SurfaceOptions(samples=100, points=5, plane="trajectory")
    (stored,) = ANALYSES["surface"](last(run, problem), options)
    surface = stored.result
    assert np.min(np.abs(surface.alpha)) < 1e-9
    assert np.min(np.abs(surface.beta)) < 1e-9
    assert tuple(surface.path_step) == run.checkpoints
    for axis, values in enumerate((surface.alpha, surface.beta)):
        assert values[0] <= surface.path_position[:, axis].min()
        assert values[-1] >= surface.path_position[:, axis].max()
    np.testing.assert_allclose(surface.path_position[-1], 0, atol=1e-6)


def test_consistency_measures_both_perturbations_on_the_same_batches_and_the_recorded_ones(
    run, problem
):
    answers = [
        stored.result
        for stored in ANALYSES["consistency"](last(run, problem), QUICK["consistency"])
    ]
    assert [r.protocol for r in answers] == ["frozen", "frozen", "online"]
    assert set(answers[0].step) == {60}
    assert answers[2].step.tolist() == list(range(60))
    assert answers[0].perturbation.startswith("SAM")
    assert answers[1].perturbation.startswith("AACE")
    # every per-batch SAM displacement climbs its own batch's loss to first order
    np.testing.assert_allclose(answers[0].cosine_gradient, 1, atol=1e-5)


def test_a_memory_takes_part_in_the_question_of_its_perturbation_alone(run, problem):
    options = replace(QUICK["consistency"], protocol="frozen", perturbations="sam,vasso,f-sam")
    first = ANALYSES["consistency"](last(run, problem), replace(options, burn_in=2))
    again = ANALYSES["consistency"](last(run, problem), replace(options, burn_in=3))
    assert [stored.found for stored in again] == [True, False, False]
    assert [stored.result.options.get("burn_in") for stored in again] == [None, 3, 3]
    assert first[1].result.digest != again[1].result.digest


def test_a_matched_radius_is_another_question_and_a_part_of_several_is_measured(run, problem):
    options = replace(QUICK["consistency"], protocol="frozen", perturbations="sam")
    (alone,) = ANALYSES["consistency"](last(run, problem), options)
    both = ANALYSES["consistency"](
        last(run, problem), replace(options, perturbations="aace,sam,sam@0.05")
    )
    assert [stored.found for stored in both] == [False, True]
    assert both[1].result.digest == alone.result.digest
    matched = ANALYSES["consistency"](
        last(run, problem), replace(options, perturbations="aace,sam", radius=0.5)
    )
    assert not any(stored.found for stored in matched)
    for stored in matched:
        np.testing.assert_allclose(stored.result.norms, 0.5, rtol=1e-5)


def test_a_consistency_of_before_answers_no_question(run, problem):
    """Results without layers, noise scale and the rest were stored under this question."""
    subject = last(run, problem)
    options = QUICK["consistency"]
    asks = {"checkpoint": 60, "samples": 0, "batches": 4, "bn": "batch", "seed": 0}
    old = [
        asks | {"protocol": "frozen", "perturbation": "SAM ρ=0.05", "batch_size": 64},
        {"protocol": "online", "start": 0, "stop": 60, "seed": 0},
    ]
    for stored, question in zip(ANALYSES["consistency"](subject, options)[::2], old, strict=True):
        assert stored.result.options == question | {"edition": 2}


def test_lambda_max_is_measured_at_every_checkpoint(run, problem):
    steps = []
    for subject in subjects_of_run(run, problem, "all"):
        (stored,) = ANALYSES["spectrum"](
            subject, replace(QUICK["spectrum"], probes=0, trace_probes=0)
        )
        steps.append(stored.result.facts["checkpoint"])
    assert tuple(steps) == run.checkpoints
    assert len(run.results("spectrum")) == len(run.checkpoints)


def test_subsets_are_balanced_seeded_and_mixed():
    targets = torch.arange(5).repeat_interleave(100)
    inputs = torch.arange(500.0)[:, None]
    x, y = select_samples((inputs, targets), samples=50, seed=0)
    assert torch.bincount(y).tolist() == [10] * 5
    assert len(x.unique()) == 50
    assert len(y[:10].unique()) > 1
    np.testing.assert_array_equal(x, select_samples((inputs, targets), samples=50, seed=0)[0])
    assert not torch.equal(x, select_samples((inputs, targets), samples=50, seed=1)[0])
    assert len(select_samples((inputs, targets), samples=0, seed=0)[0]) == 500


def test_a_run_of_another_model_is_refused(run):
    other = PROBLEMS["digits"](model="mlp8")
    with pytest.raises(RunFileError, match="name the problem"):
        next(subjects_of_run(run, other))


def test_a_run_still_being_written_is_refused(tmp_path, run, problem):
    from landscape.writers import RunWriter

    writer = RunWriter.create(
        tmp_path / "live",
        config={},
        problem=run.problem,
        layout=run.layout,
        method="SGD",
        total_steps=9,
    )
    try:
        with pytest.raises(RunFileError, match="still being written"):
            next(subjects_of_run(Run(tmp_path / "live"), problem))
    finally:
        writer.fail("test over")


def test_the_model_of_the_problem_is_left_alone(run, problem):
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    for kind in ANALYSES:
        ANALYSES[kind](subject_for(kind, run, problem), QUICK[kind])
    assert all(torch.equal(before[k], v) for k, v in problem.model.state_dict().items())


def test_stored_results_say_how_they_were_measured(run, problem):
    for kind in ANALYSES:
        for stored in ANALYSES[kind](subject_for(kind, run, problem), QUICK[kind]):
            facts = stored.result.facts
            assert facts["run"] == run.id
            assert facts["method"] == "SAM+AACE"
            assert stored.result.provenance["seconds"] >= 0
            assert stored.path.parent == run.path / "results"


def test_objective_and_training_agree_on_the_final_loss(run, problem):
    subject = last(run, problem)
    objective = Objective(subject.problem.model, problem.loss_fn, problem.train)
    assert objective() == pytest.approx(run.summary["train_loss"], rel=1e-5)
