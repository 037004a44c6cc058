import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape import step_measures
from landscape.optimizers import SAM, frozen_batchnorm
from landscape.perturbations import Perturbation, aace, friendly_sam, sam, usam, vasso
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.threads import threads


def make_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def make_batches(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(8, 3, generator=generator), torch.randint(2, (8,), generator=generator))
        for _ in range(count)
    ]


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).double().numpy()


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def grads(optimizer):
    return [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]


def train_sam(recorder, net, optimizer, batches):
    """Train and return per step what the rows and snapshots should say, in theta's order."""
    seen = []
    by_name = list(net.parameters())
    for inputs, targets in batches:
        theta = flat(by_name)
        loss = functional.cross_entropy(net(inputs), targets)
        loss.backward()
        gradient, g = grads(optimizer), flat([p.grad for p in by_name])
        before = [p.detach().clone() for p in by_name]
        optimizer.first_step(zero_grad=True)
        moved = flat(by_name) - flat(before)
        with frozen_batchnorm(net):
            perturbed = functional.cross_entropy(net(inputs), targets)
        perturbed.backward()
        h = flat([p.grad for p in by_name])
        perturbed_gradient = grads(optimizer)
        optimizer.second_step(zero_grad=True)
        recorder.step(
            loss,
            accuracy=0.5,
            displacement=optimizer.displacement,
            gradient=gradient,
            perturbed_loss=perturbed,
            perturbed_gradient=perturbed_gradient,
            epoch=len(seen) / 4,
        )
        seen.append((theta, loss.item(), perturbed.item(), moved, g, h))
    return seen


def test_rows_hold_what_happened_whatever_the_order_of_the_optimizer(tmp_path):
    net = make_net()
    groups = [
        {"params": net[3].parameters(), "lr": 0.2},
        {"params": [*net[1].parameters(), *net[0].parameters()]},
    ]
    optimizer = SAM(groups, torch.optim.SGD, perturbation=sam(0.3), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=3, total_steps=4) as recorder:
        seen = train_sam(recorder, net, optimizer, make_batches(3))
        scheduler.step()
        seen += train_sam(recorder, net, optimizer, make_batches(1, seed=2))
    run = Run(tmp_path / "a")
    rows = run.steps
    assert rows["step"].tolist() == [0, 1, 2, 3]
    assert rows["lr"].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.1])
    assert rows["accuracy"].tolist() == [0.5] * 4
    assert rows["epoch"].tolist() == [0.0, 0.25, 0.5, 0.0]
    steps, vectors = run.displacements()
    assert steps.tolist() == [0, 1, 2, 3]
    previous = None
    for t, (theta, loss, perturbed, moved, g, h) in enumerate(seen):
        np.testing.assert_allclose(vectors[t], moved, atol=1e-6)
        row = {name: column[t] for name, column in rows.items()}
        assert row["loss"] == pytest.approx(loss)
        assert row["loss_rise"] == pytest.approx(perturbed - loss)
        assert row["gradient_norm"] == pytest.approx(np.linalg.norm(g), rel=1e-5)
        assert row["displacement_norm"] == pytest.approx(0.3, rel=1e-5)
        assert row["cosine_gradient"] == pytest.approx(cosine(moved, g), abs=1e-5)
        assert row["inner_perturbed_gradient"] == pytest.approx(h @ moved, abs=1e-5)
        assert row["cosine_perturbed_gradient"] == pytest.approx(cosine(moved, h), abs=1e-5)
        if previous is None:
            assert math.isnan(row["cosine_previous"])
        else:
            assert row["cosine_previous"] == pytest.approx(cosine(moved, previous), abs=1e-5)
        if t in run.checkpoints:
            np.testing.assert_allclose(run.checkpoint(t).theta, theta, atol=1e-7)
        previous = moved


def train_sgd(recorder, net, optimizer, batches, **more):
    for inputs, targets in batches:
        loss = functional.cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.step(loss, **more)


def test_checkpoints_are_the_first_the_regular_and_the_last_with_their_buffers(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    states = [(flat(net.parameters()), net[1].running_mean.clone())]
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=2) as recorder:
        assert Run(tmp_path / "a").checkpoints == (0,)
        for batch in make_batches(5):
            train_sgd(recorder, net, optimizer, [batch])
            states.append((flat(net.parameters()), net[1].running_mean.clone()))
    run = Run(tmp_path / "a")
    assert run.checkpoints == (0, 2, 4, 5)
    for step in run.checkpoints:
        checkpoint = run.checkpoint(step)
        np.testing.assert_array_equal(checkpoint.theta, states[step][0].astype(np.float32))
        np.testing.assert_array_equal(checkpoint.buffers["1.running_mean"], states[step][1])
        assert checkpoint.buffers["1.num_batches_tracked"] == step


def test_a_last_checkpoint_on_the_interval_is_saved_once(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=2) as recorder:
        train_sgd(recorder, net, optimizer, make_batches(4))
        recorder.flush()
        last = next((tmp_path / "a").rglob("checkpoint-00000004.h5"))
        identity = last.stat().st_ino
    assert Run(tmp_path / "a").checkpoints == (0, 2, 4)
    assert last.stat().st_ino == identity


def test_sgd_records_no_displacement_and_its_scalars_are_nan(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=2) as recorder:
        train_sgd(recorder, net, optimizer, make_batches(3))
    run = Run(tmp_path / "a")
    assert run.method == "SGD"
    assert run.displacement_steps.size == 0
    assert not list((tmp_path / "a").rglob("displacements-*"))
    given = {"step", "loss", "lr"}
    for name, column in run.steps.items():
        assert np.isfinite(column).all() == (name in given), name
        assert np.isnan(column).all() == (name not in given), name


def test_a_vector_may_be_flat_or_a_sequence_with_missing_gradients(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(reversed(list(net.parameters())), lr=0.1)
    values = torch.arange(34.0)
    parts = list(values.split([p.numel() for p in net.parameters()]))
    parts = [part.view_as(p) for part, p in zip(parts, net.parameters(), strict=True)]
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        recorder.step(1.0, displacement=values)
        values.zero_()
        recorder.step(1.0, displacement=parts[::-1], gradient=[None, *parts[-2::-1]])
    _, vectors = Run(tmp_path / "a").displacements()
    assert vectors[0].tolist() == list(range(34))
    assert vectors[1].tolist() == [0.0] * 34


def test_cosine_to_the_previous_step_is_nan_after_a_step_without_displacement(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    vector = torch.arange(34.0)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        for given in (vector, -vector, None, vector, 0 * vector, vector):
            recorder.step(1.0, displacement=given)
    run = Run(tmp_path / "a")
    expected = [math.nan, -1.0, math.nan, math.nan, math.nan, math.nan]
    np.testing.assert_allclose(run.steps["cosine_previous"], expected)
    assert run.displacement_steps.tolist() == [0, 1, 3, 4, 5]


def test_without_displacements_only_the_scalars_are_kept(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    path = tmp_path / "a"
    with Recorder(path, net, optimizer, checkpoint_every=9, record="sketch") as recorder:
        recorder.step(1.0, displacement=2 * torch.ones(34))
    assert Run(path).displacement_steps.size == 0
    assert Run(path).steps["displacement_norm"].tolist() == pytest.approx([2 * math.sqrt(34)])


def test_parameters_not_trained_are_not_in_theta_and_those_not_optimized_do_not_move(tmp_path):
    net = make_net()
    net[0].bias.requires_grad_(False)
    optimizer = SAM([net[0].weight, net[0].bias], torch.optim.SGD, perturbation=usam(1), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        train_sam_once(recorder, net, optimizer)
    run = Run(tmp_path / "a")
    assert [entry.name for entry in run.layout] == [
        name for name, p in net.named_parameters() if p.requires_grad
    ]
    vector = run.displacements()[1][0]
    np.testing.assert_array_equal(vector[:12], optimizer.displacement[0].flatten().numpy())
    assert (vector[12:] == 0).all()
    assert (vector[:12] != 0).any()


def train_sam_once(recorder, net, optimizer):
    inputs, targets = make_batches(1)[0]
    for step in (optimizer.first_step, optimizer.second_step):
        loss = optimizer.perturbation.loss(net(inputs), targets)
        loss.backward()
        step()
    recorder.step(loss, displacement=optimizer.displacement)


def test_losses_that_are_not_finite_are_recorded_as_they_are(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        recorder.step(torch.tensor(math.nan), gradient=torch.full((34,), math.inf))
        recorder.step(math.inf, perturbed_loss=1.0)
    rows = Run(tmp_path / "a").steps
    np.testing.assert_array_equal(rows["loss"], [math.nan, math.inf])
    np.testing.assert_array_equal(rows["gradient_norm"], [math.inf, math.nan])
    np.testing.assert_array_equal(rows["loss_rise"], [math.nan, -math.inf])


def test_a_finished_run_keeps_its_summary_and_an_evaluation_its_step(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9, total_steps=2) as recorder:
        train_sgd(recorder, net, optimizer, make_batches(2))
        recorder.add_evaluation(0.5, 0.75)
        recorder.summary["test_accuracy"] = 0.75
        assert Run(tmp_path / "a").status == "running"
    run = Run(tmp_path / "a")
    assert (run.status, run.total_steps) == ("finished", 2)
    waited = run.summary.pop("recording_waited")
    assert 0 <= waited < 10
    assert run.summary == {"test_accuracy": 0.75}
    assert {name: column.tolist() for name, column in run.evaluations.items()} == {
        "step": [2.0],
        "test_loss": [0.5],
        "test_accuracy": [0.75],
    }


def test_an_exception_ends_the_run_as_failed_and_goes_on(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    recorder = Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9)
    train_sgd(recorder, net, optimizer, make_batches(3))
    with pytest.raises(KeyError, match="no such batch"), recorder:
        raise KeyError("no such batch")
    run = Run(tmp_path / "a")
    assert run.status == "failed"
    assert run.reason == "KeyError: 'no such batch'"
    assert len(run.steps["loss"]) == 3
    assert run.checkpoints == (0,)
    with pytest.raises(ValueError, match="the run has ended"):
        recorder.step(1.0)


def test_a_recorder_can_be_used_without_a_block(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    recorder = Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9)
    train_sgd(recorder, net, optimizer, make_batches(1))
    recorder.finish()
    assert Run(tmp_path / "a").status == "finished"
    with pytest.raises(ValueError, match="the run has ended"):
        recorder.finish()


def test_settings_and_provenance_are_enough_to_repeat_the_run(tmp_path):
    net = make_net()
    optimizer = SAM(net.named_parameters(), torch.optim.AdamW, perturbation=aace(0.3), lr=0.1)
    config = {"seed": 3, "batch_size": 8}
    problem = {"name": "digits", "options": {"width": 4}}
    with Recorder(
        tmp_path / "a", net, optimizer, checkpoint_every=9, config=config, problem=problem
    ):
        pass
    run = Run(tmp_path / "a")
    assert (run.method, run.config, run.problem) == ("SAM+AACE", config, problem)
    settings = run.provenance["optimizer"]
    assert settings["optimizer"] == "AdamW"
    assert settings["options"]["betas"] == [0.9, 0.999]
    assert settings["perturbation"]["loss_name"] == "aace"
    assert Perturbation(**settings["perturbation"]) == aace(0.3)
    assert "param_names" not in settings["options"]
    assert run.provenance["seed"] == 3
    assert run.provenance["versions"]["torch"] == torch.__version__
    assert run.provenance["device"] == "cpu"
    with Recorder(tmp_path / "b", net, optimizer, checkpoint_every=9, method="mine"):
        pass
    run = Run(tmp_path / "b")
    assert run.method == "mine"
    assert run.config["perturbation"] == settings["perturbation"]
    assert run.config["checkpoint_every"] == 9


@pytest.mark.parametrize(
    ("perturbation", "label"),
    [
        (sam(), "SAM"),
        (usam(0.1), "USAM"),
        (aace(), "SAM+AACE"),
        (vasso(), "VaSSO"),
        (friendly_sam(), "F-SAM"),
    ],
)
def test_the_method_is_named_by_its_perturbation(tmp_path, perturbation, label):
    net = make_net()
    optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=perturbation, lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=1):
        pass
    assert Run(tmp_path / "a").method == label


def test_vectors_that_do_not_fit_are_refused(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        with pytest.raises(ValueError, match="displacement must be flat with 34 numbers"):
            recorder.step(1.0, displacement=torch.ones(33))
        with pytest.raises(ValueError, match="gradient must hold one tensor of equal shape"):
            recorder.step(1.0, gradient=[p.detach() for p in net.parameters()][:-1])
        with pytest.raises(ValueError, match="in its order"):
            recorder.step(1.0, displacement=[p.detach() for p in net.parameters()][::-1])
    assert len(Run(tmp_path / "a").steps["loss"]) == 0


def test_what_can_not_be_recorded_is_refused_before_a_folder_is_made(tmp_path):
    net = make_net()
    other = torch.optim.SGD(make_net().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="must be the model's, got 6 of 6"):
        Recorder(tmp_path / "a", net, other, checkpoint_every=1)
    for every in (0, True):
        with pytest.raises(ValueError, match="checkpoint_every must be 1 or more"):
            Recorder(tmp_path / "a", make_net(), other, checkpoint_every=every)
    assert not (tmp_path / "a").exists()
    own = torch.optim.SGD(net.parameters(), lr=0.1)
    (tmp_path / "a").mkdir()
    with pytest.raises(FileExistsError, match="must not exist"):
        Recorder(tmp_path / "a", net, own, checkpoint_every=1)


def test_products_are_summed_in_float64_whatever_the_parts(monkeypatch, tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    vector = torch.full((34,), 1e-4)
    vector[0] = 1e4
    monkeypatch.setattr(step_measures, "_COLUMNS", 5)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        recorder.step(1.0, displacement=vector, perturbed_gradient=torch.ones(34))
    rows = Run(tmp_path / "a").steps
    expected = vector.double().sum().item()
    assert rows["inner_perturbed_gradient"][0] == pytest.approx(expected, rel=1e-14)
    assert rows["displacement_norm"][0] == pytest.approx(vector.double().norm().item(), rel=1e-14)


class Watching(list):
    """Vectors that notice how many threads torch has while they are taken."""

    seen = 0

    def __len__(self):
        self.seen = torch.get_num_threads()
        return super().__len__()


def test_measuring_takes_one_core_and_leaves_training_its_own(tmp_path):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    vectors = Watching(torch.ones_like(p) for p in net.parameters())
    with threads(2), Recorder(tmp_path / "a", net, optimizer, checkpoint_every=5) as recorder:
        recorder.step(1.0, displacement=vectors)
        assert (vectors.seen, torch.get_num_threads()) == (1, 2)
        with pytest.raises(ValueError, match="one tensor of equal shape"):
            recorder.step(1.0, displacement=vectors[:1])
        assert torch.get_num_threads() == 2
