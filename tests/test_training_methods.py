"""Updates of `landscape train` by method, against the formulas, on a small net."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.perturbations import friendly_sam, sam, usam, vasso
from landscape.problems import Problem
from landscape.ranks import Ranks
from landscape.runs import Run
from landscape.subjects import Subject
from landscape.updates import perturbation_of_run
from training.batches import Batches
from training.config import TrainConfig
from training.jobs import Job, prepare
from training.loop import train
from training.optimizers import make_optimizer, perturbation_of, update_loss
from training.presets import PRESETS
from training.updates import make_update

NEEDED = {"usam": {"rho": 0.1}, "le-sam": {"rho": 0.5, "le_sam_sigma": 0.1}}


def make_problem():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
        inputs = torch.randn(24, 6)
    data = inputs, torch.arange(24) % 3
    return Problem(model=model, loss_fn=functional.cross_entropy, train=data, test=data)


def one_update(**settings):
    """The row and gradient of one update on all data."""
    problem = make_problem()
    config = TrainConfig(batch_size=24, momentum=0.0, weight_decay=0.0, lr=1.0, **settings)
    optimizer = make_optimizer(config, problem.model)
    before = [p.detach().clone() for p in problem.model.parameters()]
    batches = Batches(replace(config, augment=False), problem.train)
    job = Job(config, problem, problem.model, optimizer, batches, Ranks())
    row = make_update(job, *problem.train)
    pairs = zip(before, problem.model.parameters(), strict=True)
    return row, [a - b.detach() for a, b in pairs], problem


def gradient_at(move, loss_fn, inputs, targets):
    """The gradient in training mode at the problem's first weights plus a move."""
    model = make_problem().model
    with torch.no_grad():
        for p, m in zip(model.parameters(), move, strict=True):
            p.add_(m)
    return torch.autograd.grad(loss_fn(model(inputs), targets), list(model.parameters()))


def nothing():
    return [torch.zeros_like(p) for p in make_problem().model.parameters()]


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_m_samples_have_a_perturbation_of_their_own():
    row, step, problem = one_update(method="sam", rho=0.5, m=8)
    gradients, moves, losses = [], [], []
    inputs, targets = problem.train
    for x, y in zip(inputs.split(8), targets.split(8), strict=True):
        g = gradient_at(nothing(), functional.cross_entropy, x, y)
        norm = torch.cat([p.flatten() for p in g]).norm()
        move = [0.5 * p / norm for p in g]
        moves.append(move)
        gradients.append(gradient_at(move, functional.cross_entropy, x, y))
        losses.append(functional.cross_entropy(make_problem().model(x), y))
    assert_close(step, [sum(parts) / 3 for parts in zip(*gradients, strict=True)])
    assert_close(row["displacement"], [sum(parts) / 3 for parts in zip(*moves, strict=True)])
    assert_close(row["perturbed_gradient"], step)
    assert_close([row["loss"]], [sum(losses) / 3])
    assert problem.model[1].num_batches_tracked == 3


def test_ascent_steps_of_training_are_those_of_the_formula_and_statistics_are_seen_once():
    row, step, problem = one_update(method="usam", rho=0.4, ascent_steps=2)
    first = gradient_at(nothing(), functional.cross_entropy, *problem.train)
    move = [0.2 * g for g in first]
    second = gradient_at(move, functional.cross_entropy, *problem.train)
    move = [m + 0.2 * g for m, g in zip(move, second, strict=True)]
    assert_close(row["displacement"], move)
    assert_close(step, gradient_at(move, functional.cross_entropy, *problem.train))
    assert_close(row["gradient"], first)
    assert problem.model[1].num_batches_tracked == 1


@pytest.mark.parametrize("method", ["sgd", "sam", "sam+aace"])
def test_smoothing_is_of_the_update_alone(method):
    row, step, problem = one_update(method=method, update_label_smoothing=0.2)
    plain, other, _ = one_update(method=method)
    assert_close([row["loss"]], [plain["loss"]])

    def smoothed(logits, targets):  # torch's form: 0.2 / C on every class
        y = 0.8 * functional.one_hot(targets, 3) + 0.2 / 3
        return -(y * logits.log_softmax(1)).sum(1).mean()

    move = nothing()
    if method != "sgd":
        assert_close(row["displacement"], plain["displacement"])
        assert_close([row["perturbed_loss"]], [plain["perturbed_loss"]])
        assert "perturbed_gradient" not in row
        move = row["displacement"]
    assert_close(step, gradient_at(move, smoothed, *problem.train))
    assert_close(row["gradient"], plain["gradient"])
    assert not torch.allclose(step[0], other[0], atol=1e-4)


def test_smoothing_shared_among_wrong_classes_alone_is_more_of_torchs():
    logits, targets = (
        torch.randn(5, 4, generator=torch.Generator().manual_seed(0)),
        torch.arange(5) % 4,
    )
    shared = (1 - 0.15) * functional.one_hot(targets, 4) + 0.15 / 3 * (
        1 - functional.one_hot(targets, 4)
    )
    expected = -(shared * logits.log_softmax(1)).sum(1).mean()
    config = TrainConfig(update_label_smoothing=0.15 * 4 / 3)
    torch.testing.assert_close(update_loss(config, make_problem())(logits, targets), expected)


def test_adamw_is_torchs():
    _, step, problem = one_update(method="adamw")
    expected = make_problem()
    options = {"lr": 1.0, "betas": (0.0, 0.999), "weight_decay": 0.0}
    optimizer = torch.optim.AdamW(expected.model.parameters(), **options)
    functional.cross_entropy(expected.model(problem.train[0]), problem.train[1]).backward()
    optimizer.step()
    assert_close(problem.model.parameters(), list(expected.model.parameters()))
    assert max(float(s.abs().max()) for s in step) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    "method", ["adamw", "usam", "asam", "vasso", "f-sam", "gsam", "le-sam", "sam+aace"]
)
def test_every_method_trains_is_recorded_and_known_again(method, tmp_path):
    settings = {"aace_mode": "rand", "m": 32} if method == "sam+aace" else NEEDED.get(method, {})
    config = replace(
        PRESETS["digits-sgd"](), method=method, steps=8, checkpoint_every=4, **settings
    )
    if method == "adamw":
        config = replace(config, lr=0.002)
    runs = [Run(train(config, tmp_path / name)) for name in "ab"]
    rows = [run.steps for run in runs]
    for name in rows[0]:
        np.testing.assert_array_equal(rows[0][name], rows[1][name])
    np.testing.assert_array_equal(runs[0].checkpoint(8).theta, runs[1].checkpoint(8).theta)
    assert rows[0]["loss"][-1] < rows[0]["loss"][0]
    assert np.isfinite(rows[0]["displacement_norm"]).all() == (method != "adamw")
    assert perturbation_of_run(runs[0]) == perturbation_of(config)
    assert runs[0].config["method"] == method


def test_asam_records_the_displacement_of_its_formula(tmp_path):
    run = Run(train(replace(PRESETS["digits-asam"](), steps=1), tmp_path / "run"))
    (_, moved), *_ = run.iterate_displacements(0, 1)
    theta = run.checkpoint(0).theta
    metric = np.ones_like(theta)
    for entry in run.layout:
        if "weight" in entry.name:
            metric[entry.slice] = np.abs(theta[entry.slice]) + 0.01
    # ‖T⁻¹ ε‖ = ρ
    assert np.linalg.norm(moved[0] / metric) == pytest.approx(0.5, rel=1e-5)
    assert np.linalg.norm(moved[0]) < 0.49


def test_analyses_take_the_perturbation_and_the_chunks_of_the_runs_training(tmp_path):
    config = replace(PRESETS["digits-sgd"](), method="usam", rho=0.1, m=32, steps=1)
    run = Run(train(config, tmp_path / "run"))
    subject = Subject(problem=make_problem(), folder=tmp_path, run=run)
    assert subject.batch_size == 32
    assert subject.perturbation("usam") == usam(0.1)
    assert subject.perturbation("sam") == sam()
    assert subject.perturbation("usam@0.3") == usam(0.3)
    assert subject.perturbation("vasso") == vasso()
    assert subject.perturbation("f-sam@0.1") == friendly_sam(0.1)
    with pytest.raises(ValueError, match=r"got 'le-sam', trained with usam"):
        subject.perturbation("le-sam")
    with pytest.raises(ValueError, match=r"must be a number, as sam@0\.05, got 'sam@x'"):
        subject.perturbation("sam@x")


def test_usam_without_a_radius_is_refused_where_it_was_not_trained_with(tmp_path):
    subject = Subject(problem=make_problem(), folder=tmp_path)
    assert subject.perturbation("usam@0.2") == usam(0.2)
    with pytest.raises(ValueError, match="usam with a radius, got 'usam'"):
        subject.perturbation("usam")


def test_another_radius_keeps_the_other_settings_of_the_training(tmp_path):
    config = replace(PRESETS["digits-vasso"](), steps=1)
    run = Run(train(config, tmp_path / "run"))
    subject = Subject(problem=make_problem(), folder=tmp_path, run=run)
    trained = subject.perturbation("vasso")
    assert subject.perturbation("vasso@0.7") == replace(trained, rho=0.7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["sgd", "adamw", "sam"])
def test_the_fused_update_of_a_gpu_is_that_of_the_loop(method):
    found = []
    for fused in (True, False):
        config = replace(PRESETS["digits-sgd"](), method=method, device="cuda")
        job, _, _ = prepare(config, None, Ranks())
        assert all(group["fused"] for group in job.optimizer.param_groups)
        for group in job.optimizer.param_groups:
            group["fused"] = fused
        for _ in range(3):
            _, inputs, targets = next(job.batches)
            make_update(job, inputs, targets)
        found.append(nn.utils.parameters_to_vector(job.problem.model.parameters()))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
