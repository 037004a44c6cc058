import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from landscape.displacements import displacement
from landscape.objectives import load_theta
from landscape.perturbations import aace, sam
from landscape.problems import Problem
from landscape.runs import Run
from training import data, problems
from training.batches import Batches
from training.loop import train
from training.presets import PRESETS
from training.problems import PROBLEMS

SHORT = {"steps": 8, "checkpoint_every": 4}


def _config(method, **changes):
    return replace(PRESETS[f"digits-{method}"](), **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The digits presets as they are, one run per method."""
    root = tmp_path_factory.mktemp("runs")
    return {m: Run(train(_config(m), root / m)) for m in ("sgd", "sam", "aace")}


def _rebuilt(run, step):
    """The run's problem at one checkpoint."""
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    checkpoint = run.checkpoint(step)
    return problem, load_theta(problem.model, checkpoint.theta, checkpoint.buffers)


def _pass(problem, model, step, method):
    """The batch of update `step`, and its loss in training mode as a function of the weights."""
    batches = Batches(_config(method), problem.train)
    for _ in range(step + 1):
        _, inputs, targets = next(batches)
    names = [name for name, _ in model.named_parameters()]
    buffers = dict(model.named_buffers())

    def logits(params):
        state = dict(zip(names, params, strict=True))
        copies = {name: buffer.clone() for name, buffer in buffers.items()}
        return torch.func.functional_call(model, state | copies, (inputs,))

    model.train()
    params = [p.detach().clone().requires_grad_() for p in model.parameters()]
    return logits, params, targets


def _flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _same_record(a, b):
    rows = all(np.array_equal(a.steps[c], b.steps[c], equal_nan=True) for c in a.steps)
    thetas = (
        np.array_equal(a.checkpoint(step).theta, b.checkpoint(step).theta) for step in a.checkpoints
    )
    return rows and a.checkpoints == b.checkpoints and all(thetas)


@pytest.mark.parametrize("method", ["sgd", "sam", "aace"])
def test_every_method_learns_the_digits(runs, method):
    run = runs[method]
    assert run.status == "finished"
    assert run.summary["test_accuracy"] > 0.9
    assert run.summary["train_accuracy"] > 0.9
    assert run.method == {"sgd": "SGD", "sam": "SAM", "aace": "SAM+AACE"}[method]


@pytest.mark.parametrize("method", ["sgd", "sam", "aace"])
def test_the_summary_is_that_of_the_last_checkpoint_on_whole_sets_in_eval_mode(runs, method):
    problem, model = _rebuilt(runs[method], "last")
    model.eval()
    for split in ("train", "test"):
        inputs, targets = getattr(problem, split)
        logits = model(inputs).detach()
        accuracy = (logits.argmax(1) == targets).double().mean().item()
        loss = functional.cross_entropy(logits.double(), targets).item()
        assert runs[method].summary[f"{split}_accuracy"] == pytest.approx(accuracy, abs=1e-9)
        assert runs[method].summary[f"{split}_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("step", [0, 15])
@pytest.mark.parametrize("method", ["sgd", "sam", "aace"])
def test_rows_say_what_happened_at_the_weights_of_their_checkpoint(runs, method, step):
    run = runs[method]
    row = {name: column[step] for name, column in run.steps.items()}
    problem, model = _rebuilt(run, step)
    logits, params, targets = _pass(problem, model, step, method)
    loss = functional.cross_entropy(logits(params), targets)
    gradient = _flat(torch.autograd.grad(loss, params))
    assert row["step"] == step
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    correct = (logits(params).argmax(1) == targets).double().mean().item()
    assert row["accuracy"] == pytest.approx(correct)
    if method == "sgd":
        assert row["gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-4)
        assert np.isnan([row["loss_rise"], row["displacement_norm"], row["cosine_gradient"]]).all()
        return
    followed, perturbation = loss, sam()
    if method == "aace":
        probability = logits(params).softmax(1).gather(1, targets[:, None])
        followed, perturbation = -(1 - probability).log().mean(), aace()
    else:
        followed = functional.cross_entropy(logits(params), targets)
    moves = displacement(perturbation, torch.autograd.grad(followed, params), params)
    _, recorded = run.displacements(step, step + 1)
    assert np.allclose(recorded[0], _flat(moves), rtol=1e-3, atol=1e-6)
    moved = [p.detach() + m for p, m in zip(params, moves, strict=True)]
    moved = [p.requires_grad_() for p in moved]
    perturbed = functional.cross_entropy(logits(moved), targets)
    there, epsilon = _flat(torch.autograd.grad(perturbed, moved)), _flat(moves)
    assert row["loss_rise"] == pytest.approx((perturbed - loss).item(), rel=1e-3, abs=1e-5)
    assert row["displacement_norm"] == pytest.approx(epsilon.norm().item(), rel=1e-4)
    inner = (there.double() @ epsilon.double()).item()
    assert row["inner_perturbed_gradient"] == pytest.approx(inner, rel=1e-3, abs=1e-5)
    cosine = inner / (there.norm() * epsilon.norm()).item()
    assert row["cosine_perturbed_gradient"] == pytest.approx(cosine, abs=1e-3)
    if step == 0 or method == "sam":
        assert row["gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-4)


def test_sam_moves_by_its_radius_along_the_gradient_in_every_step(runs):
    steps = runs["sam"].steps
    assert steps["displacement_norm"] == pytest.approx(0.05, rel=1e-5)
    assert steps["cosine_gradient"] == pytest.approx(1.0, abs=1e-5)
    assert np.median(steps["loss_rise"]) > 0


def test_aace_measures_the_task_gradient_every_50_steps_and_says_nothing_between(runs):
    measured = np.isfinite(runs["aace"].steps["gradient_norm"])
    assert np.flatnonzero(measured).tolist() == [0, 50, 100, 150, 200]
    assert np.isfinite(runs["aace"].steps["cosine_gradient"]).tolist() == measured.tolist()


def test_samples_count_as_sam_and_aace_weigh_them(runs):
    """(Σs)² / (n Σs²) of the first update, s = 1 − p under SAM and p under AACE."""
    for name, weight in (("sam", lambda p: 1 - p), ("aace", lambda p: p)):
        run, config = runs[name], _config(name)
        problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
        _, inputs, targets = next(Batches(config, problem.train))
        p = problem.model(inputs).softmax(1)[torch.arange(len(targets)), targets].double()
        s = weight(p)
        expected = (s.sum() ** 2 / (len(s) * (s**2).sum())).item()
        assert run.steps["effective_samples"][0] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(runs["sgd"].steps["effective_samples"]).all()


def test_how_much_is_recorded_is_a_setting_and_changes_nothing_else(runs, tmp_path):
    config = _config("sam", record="every:50", record_dtype="bfloat16")
    run = Run(train(config, tmp_path / "a"))
    assert run.displacement_steps.tolist() == [0, 50, 100, 150, 200]
    assert run.recording["dtype"] == "bfloat16"
    assert run.group == runs["sam"].group
    for step in run.checkpoints:
        assert np.array_equal(run.checkpoint(step).theta, runs["sam"].checkpoint(step).theta)
    for name, column in runs["sam"].steps.items():
        np.testing.assert_array_equal(run.steps[name], column)
    assert np.array_equal(run.sketches()[1], runs["sam"].sketches()[1])


def test_sgd_records_gradients_and_no_displacement(runs):
    steps = runs["sgd"].steps
    assert np.isfinite(steps["gradient_norm"]).all()
    for column in ("displacement_norm", "cosine_previous", "loss_rise"):
        assert np.isnan(steps[column]).all()
    assert len(runs["sgd"].displacement_steps) == 0


@pytest.mark.parametrize("method", ["sgd", "sam", "aace"])
def test_batchnorm_statistics_see_each_batch_once(runs, method):
    for step in (0, 15, 240):
        buffers = runs[method].checkpoint(step).buffers
        counts = [v for name, v in buffers.items() if name.endswith("num_batches_tracked")]
        assert counts == [step] * 3


def test_every_update_is_recorded_with_its_learning_rate_and_epoch(runs):
    config, run = _config("aace"), runs["aace"]
    assert run.steps["step"].tolist() == list(range(240))
    assert run.displacement_steps.tolist() == list(range(240))
    assert run.steps["lr"].tolist() == pytest.approx([config.lr_at(t) for t in range(240)])
    assert len(set(run.steps["lr"].round(9))) == 4
    per_epoch = 1437 // 64
    assert run.steps["epoch"] == pytest.approx(np.arange(240) / per_epoch)


def test_checkpoints_are_kept_and_evaluated_at_their_interval_and_at_the_end(tmp_path):
    run = Run(train(_config("sgd", steps=25, checkpoint_every=10), tmp_path / "a"))
    assert run.checkpoints == (0, 10, 20, 25)
    assert run.evaluations["step"].tolist() == [0, 10, 20, 25]


def test_checkpoints_are_evaluated_on_the_stated_part_of_the_test_set(tmp_path):
    config = _config("sgd", **SHORT, evaluation_samples=50)
    run = Run(train(config, tmp_path / "a"))
    problem, model = _rebuilt(run, 4)
    index = data.balanced_subset(problem.test[1], 50, seed=0)
    inputs, targets = (part[index] for part in problem.test)
    logits = model.eval()(inputs).detach()
    expected = (logits.argmax(1) == targets).double().mean().item()
    assert run.evaluations["test_accuracy"][1] == pytest.approx(expected)
    assert run.config["evaluation_samples"] == 50


def test_the_first_checkpoint_is_the_problem_as_it_is_rebuilt(runs):
    run = runs["sam"]
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    theta = _flat(problem.model.parameters()).numpy()
    assert np.array_equal(run.checkpoint(0).theta, theta)


@pytest.mark.parametrize("method", ["sgd", "sam", "aace"])
def test_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path, method):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = [
        Run(train(_config(method, seed=seed, **SHORT), tmp_path / str(i)))
        for i, seed in enumerate((1, 1, 2))
    ]
    assert torch.get_rng_state().equal(before)
    assert _same_record(made[0], made[1])
    assert not _same_record(made[0], made[2])
    assert made[0].group == made[2].group
    assert made[0].id != made[1].id


def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own():
    inputs = torch.arange(12.0).view(12, 1, 1, 1)
    config = _config("sgd", batch_size=4, augment=False)
    batches = Batches(config, (inputs, torch.arange(12)))
    epochs = [[next(batches) for _ in range(3)] for _ in range(2)]
    orders = [torch.cat([targets for _, _, targets in epoch]).tolist() for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1]
    for epoch in epochs:
        assert all(x.flatten().tolist() == y.tolist() for _, x, y in epoch)
    other = Batches(replace(config, seed=1), (inputs, torch.arange(12)))
    assert torch.cat([next(other)[2] for _ in range(3)]).tolist() != orders[0]
    assert [round(e, 6) for e, _, _ in epochs[1]] == [1.0, 1.333333, 1.666667]


def test_augmentation_is_of_the_data_set_and_can_be_turned_off():
    problem = PROBLEMS["digits"](train_samples=200)
    plain, moved = (
        next(Batches(_config("sgd", augment=on), problem.train)) for on in (False, True)
    )
    assert plain[2].equal(moved[2])
    assert not plain[1].equal(moved[1])
    known = {image.numpy().tobytes() for image in problem.train[0]}
    assert all(image.numpy().tobytes() in known for image in plain[1])


def test_epochs_are_trained_as_the_steps_they_are(tmp_path):
    by_epochs = _config("sgd", steps=0, epochs=2, train_samples=200, checkpoint_every=3)
    by_steps = replace(by_epochs, steps=6, epochs=0)
    first = Run(train(by_epochs, tmp_path / "a"))
    second = Run(train(by_steps, tmp_path / "b"))
    assert first.total_steps == 2 * (200 // 64) == 6
    assert _same_record(first, second)
    assert first.group == second.group
    assert (first.config["steps"], first.config["epochs"]) == (6, 0)


def test_a_crop_is_filled_with_black_of_each_channel():
    raw = torch.randint(0, 256, (40, 2, 8, 8), dtype=torch.uint8).index_fill(
        0, torch.tensor([0]), 0
    )
    inputs = data.normalize(raw, by=raw)
    black = data.normalize(torch.zeros(1, 2, 1, 1, dtype=torch.uint8), by=raw).flatten()
    config = _config("sgd", batch_size=40, recipe="crop-flip")
    _, made, _ = next(Batches(config, (inputs, torch.zeros(40, dtype=torch.long))))
    rows = made[:, :, 0].permute(1, 0, 2)  # the first line moves down in about half of the images
    for channel in (0, 1):
        filled = (rows[channel] == black[channel]).all(1)
        assert 5 < filled.sum() < 35


def test_a_run_records_and_rebuilds_a_head_of_zeros(tmp_path):
    run = Run(train(_config("sam", model="mlp8", zero_head=True, **SHORT), tmp_path / "a"))
    _, model = _rebuilt(run, 0)
    assert model[-1].weight.eq(0).all()
    assert run.steps["loss"][0] == pytest.approx(np.log(10))
    assert run.problem["options"]["zero_head"] is True


def _own_problem(loader: bool = False) -> Problem:
    made = PROBLEMS["digits"](model="mlp8", train_samples=200)
    if not loader:
        return made
    sets = [torch.utils.data.TensorDataset(*split) for split in (made.train, made.test)]
    train, test = (torch.utils.data.DataLoader(part, batch_size=64) for part in sets)
    return Problem(made.model, made.loss_fn, train, test)


def test_a_problem_of_ones_own_is_trained_like_a_built_in_one(tmp_path):
    own = _config("sam", data="own", model="own", augment=False, train_samples=0, **SHORT)
    built_in = _config("sam", model="mlp8", augment=False, train_samples=200, **SHORT)
    expected = Run(train(built_in, tmp_path / "a"))
    for name, loader in (("b", False), ("c", True)):
        run = Run(train(own, tmp_path / name, own=("mine.py:make", _own_problem(loader))))
        assert _same_record(run, expected)
        assert run.problem == {"name": "mine.py:make", "options": {}}
        assert run.summary["test_loss"] == pytest.approx(expected.summary["test_loss"])


def test_a_problem_of_ones_own_needs_test_data(tmp_path):
    config = _config("sgd", data="own", model="own", augment=False, **SHORT)
    problem = replace(_own_problem(), test=None)
    with pytest.raises(ValueError, match="must have test data, got none"):
        train(config, tmp_path / "a", own=("mine.py:make", problem))
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_computes_otherwise_and_learns_the_same(tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = _config("aace", precision=precision, steps=40, checkpoint_every=40)
        losses[precision] = Run(train(config, tmp_path / precision)).steps["loss"]
    first = {name: values[0] for name, values in losses.items()}
    assert first["float32"] != first["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)


def test_progress_counts_the_updates(tmp_path):
    calls = []
    config = _config("sgd", steps=5)
    train(config, tmp_path / "a", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 5) for n in range(1, 6)]


def test_training_works_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=train, args=(_config("sgd", steps=3), tmp_path / "a"))
    thread.start()
    thread.join()
    assert Run(tmp_path / "a").status == "finished"


def test_an_existing_folder_is_refused_and_stays_as_it_was(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"a does; choose another --out"):
        train(_config("sgd"), tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "conv28"}, "conv28 takes images of 28×28"),
        ({"train_samples": 5000}, "class-balanced subset of 5000"),
        ({"train_samples": 50}, "batch_size must be at most the 50 training samples, got 64"),
        ({"device": "cuda:99"}, "device must be usable here, got 'cuda:99'"),
        ({"device": "toaster"}, "got 'toaster'"),
    ],
)
def test_settings_that_do_not_fit_the_data_or_machine_leave_nothing_behind(tmp_path, change, told):
    with pytest.raises(ValueError, match=told):
        train(_config("sgd", **change), tmp_path / "runs" / "a")
    assert list(tmp_path.iterdir()) == []


def test_missing_data_leave_nothing_behind(tmp_path, monkeypatch):
    def missing(name):
        raise ValueError("Fashion-MNIST is in none of here, there")

    monkeypatch.setattr(problems, "load_data", missing)
    with pytest.raises(ValueError, match="in none of"):
        train(PRESETS["fashion-sgd"](), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["sgd", "aace"])
def test_a_loss_that_is_no_longer_finite_ends_the_run_as_failed_at_that_step(tmp_path, method):
    config = _config(method, model="mlp8", lr=1e30, steps=50, checkpoint_every=10)
    with pytest.raises(ValueError, match=r"loss must stay finite, but did not at step \d+ with lr"):
        train(config, tmp_path / "a")
    run = Run(tmp_path / "a")
    assert run.status == "failed"
    last = int(run.steps["step"][-1])
    assert f"at step {last} with lr 1e+30; the first tensor was the gradient of " in run.reason
    assert last < 9
    values = run.steps["loss"] if method == "sgd" else run.steps["loss"] + run.steps["loss_rise"]
    assert np.isfinite(values[:-1]).all()
    assert not np.isfinite(values[-1])
    (checkpoint,) = tmp_path.glob("a/segment-000/snapshots/checkpoint-*.h5")
    assert f"the last good checkpoint is 0, {checkpoint}" in run.reason


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A training in a process of its own, ended by SIGKILL well under way."""
    folder = tmp_path_factory.mktemp("killed") / "a"
    code = (
        "import sys; from dataclasses import replace\n"
        "from training.presets import PRESETS; from training.loop import train\n"
        "settings = {'steps': 10**6, 'checkpoint_every': 20, 'record': 'full'}\n"
        "config = replace(PRESETS['digits-aace'](), **settings)\n"
        f"train(config, {str(folder)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("segment-000/snapshots/checkpoint-*.h5"))) < 3:
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline, "the training did not get under way"
            time.sleep(0.05)
        process.kill()
    return Run(folder)


def test_a_killed_training_leaves_a_run_that_reads_as_died_with_whole_rows(killed):
    steps = killed.steps
    assert killed.status == "died"
    assert len(steps["step"]) >= 40
    assert steps["step"].tolist() == list(range(len(steps["step"])))
    assert np.isfinite(steps["loss"]).all()
    assert killed.checkpoints[:3] == (0, 20, 40)
    assert np.isfinite(killed.checkpoint("last").theta).all()
    kept, vectors = killed.displacements(0, 40)
    assert kept.tolist() == list(range(40))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(steps["displacement_norm"][:40])


@pytest.fixture
def heard():
    """Ctrl-C is heard: a shell starts background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_ends_after_its_update_and_gives_the_signal_back(tmp_path, number):
    handler = signal.getsignal(number)

    def stop(done, total):
        if done == 3:
            signal.raise_signal(number)

    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt, match=number.name):
            train(_config("sam"), tmp_path / "a", progress=stop)
    else:  # whoever sends it wants an end, not an error
        assert train(_config("sam"), tmp_path / "a", progress=stop) == tmp_path / "a"
    run = Run(tmp_path / "a")
    assert run.status == "failed"
    assert number.name in run.reason
    assert run.steps["step"].tolist() == run.displacement_steps.tolist() == [0, 1, 2]
    assert run.summary == {}
    assert signal.getsignal(number) is handler


@pytest.mark.usefixtures("heard")
def test_a_signal_in_the_last_update_is_not_lost(tmp_path):
    def stop(done, total):
        if done == total:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(_config("sgd", steps=3), tmp_path / "a", progress=stop)
    assert Run(tmp_path / "a").status == "finished"
