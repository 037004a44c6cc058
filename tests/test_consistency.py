import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.consistency import measure_consistency, online_consistency
from landscape.layouts import Entry, Layout
from landscape.objectives import Objective
from landscape.optimizers import SAM
from landscape.perturbations import aace, asam, friendly_sam, sam, usam, vasso
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.writers import RunWriter


def make_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
        net(torch.randn(64, 5) * 2 + 1)  # running statistics unlike those of the data
    return net.double()


def make_data(count=40, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (count,), generator=generator)


def make_objective(**options):
    return Objective(make_net(), functional.cross_entropy, make_data(), **options)


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


@pytest.mark.parametrize("bn", ["batch", "frozen"])
@pytest.mark.parametrize("perturbation", [sam(0.3), usam(0.2), aace(0.2)], ids=lambda p: p.name)
def test_each_batch_gives_its_displacement_rise_and_cosine(perturbation, bn):
    objective = make_objective(batch_size=7)
    result = measure_consistency(
        objective, perturbation, batches=5, batch_size=9, seed=3, bn=bn, step=70
    )
    inputs = torch.cat([x for x, _ in objective.batches])
    targets = torch.cat([y for _, y in objective.batches])
    net = make_net().train(bn == "batch")
    start = [p.detach().clone() for p in net.parameters()]
    moves = []
    drawn = torch.randint(40, (5, 9), generator=torch.Generator().manual_seed(3))
    for index, indices in enumerate(drawn):
        x, y = inputs[indices], targets[indices]
        loss = functional.cross_entropy(net(x), y)
        g = torch.cat([t.flatten() for t in torch.autograd.grad(loss, list(net.parameters()))])
        if perturbation.name == "aace":
            own = torch.autograd.grad(perturbation.loss(net(x), y), list(net.parameters()))
            move = -0.2 * torch.cat([t.flatten() for t in own])
        else:
            move = 0.3 * g / g.norm() if perturbation.name == "sam" else 0.2 * g
        moves.append(move.numpy())
        sizes = [p.numel() for p in start]
        with torch.no_grad():
            for p, w, e in zip(net.parameters(), start, move.split(sizes), strict=True):
                p.copy_(w + e.view_as(w))
            rise = functional.cross_entropy(net(x), y) - loss
            for p, w in zip(net.parameters(), start, strict=True):
                p.copy_(w)
        assert result.loss_rise[index] == pytest.approx(rise.item(), abs=1e-12)
        assert result.norms[index] == pytest.approx(move.norm().item(), rel=1e-12)
        expected = cosine(moves[-1], g.numpy())
        assert result.cosine_gradient[index] == pytest.approx(expected, abs=1e-12)
    for i, j in [(0, 1), (1, 4), (2, 3)]:
        assert result.cosines[i, j] == pytest.approx(cosine(moves[i], moves[j]), abs=1e-12)
    assert (result.protocol, result.perturbation) == ("frozen", perturbation.label)
    assert result.step.tolist() == [70] * 5
    assert (result.facts["bn"], result.facts["batch_size"]) == (bn, 9)
    assert result.facts["data_digest"] == objective.facts["data_digest"]


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0])
def test_a_loss_with_planted_gradient_noise_has_the_mean_cosine_of_its_noise_scale(snr):
    size, batch = 1200, 8
    generator = torch.Generator().manual_seed(4)
    mean = torch.randn(size, generator=generator, dtype=torch.float64)
    mean *= np.sqrt(snr / batch) / mean.norm()
    noise = torch.randn(4000, size, generator=generator, dtype=torch.float64) / np.sqrt(size)
    model = nn.Linear(size, 1, bias=False).double()
    objective = Objective(model, lambda output, _: output.mean(), (mean + noise, torch.zeros(4000)))
    result = measure_consistency(objective, sam(0.1), batch_size=batch, seed=0)
    assert result.mean_cosine == pytest.approx(snr / (1 + snr), abs=0.03)
    assert result.predicted_cosine == pytest.approx(result.mean_cosine, abs=0.01)
    predicted = batch / (batch + result.noise_scale)
    assert result.predicted_cosine == pytest.approx(predicted)
    np.testing.assert_allclose(result.norms, 0.1, rtol=1e-9)
    np.testing.assert_allclose(result.cosine_gradient, 1.0, rtol=1e-9)
    along = measure_consistency(objective, usam(1.0), batch_size=batch, seed=0)
    np.testing.assert_allclose(along.loss_rise, along.norms**2, rtol=1e-6)


def test_sam_and_normalized_aace_agree_for_batches_of_one_sample():
    objective = make_objective()
    results = [
        measure_consistency(objective, p, batches=8, batch_size=1, seed=0, bn="frozen")
        for p in (sam(0.1), aace(0.1, normalize=True), aace(0.1))
    ]
    for name in ("cosines", "norms", "loss_rise", "cosine_gradient"):
        one, other = (getattr(result, name) for result in results[:2])
        np.testing.assert_allclose(one, other, atol=1e-10)
    np.testing.assert_allclose(results[2].cosines, results[0].cosines, atol=1e-10)
    assert results[2].norms.std() > 1e-3


def test_batches_of_one_and_the_same_sample_point_the_same_way():
    inputs, targets = make_data(1)
    data = inputs.repeat(20, 1), targets.repeat(20)
    objective = Objective(make_net(), functional.cross_entropy, data)
    result = measure_consistency(objective, aace(), batches=6, batch_size=4, seed=0, bn="frozen")
    np.testing.assert_allclose(result.cosines, 1.0, atol=1e-12)
    assert result.mean_cosine == pytest.approx(1.0)
    assert result.interval_low == pytest.approx(1.0)


def state_of(objective):
    return copy.deepcopy(objective.model.state_dict())


@pytest.mark.parametrize("policy", ["frozen", "batch"])
def test_objective_and_model_are_untouched_and_the_seed_decides(policy):
    net = make_net().train()
    before = copy.deepcopy(net.state_dict())
    objective = Objective(net, functional.cross_entropy, make_data(), bn=policy)
    inner, theta, loss = state_of(objective), objective.theta.clone(), objective()
    random = torch.get_rng_state()
    results = [
        measure_consistency(objective, aace(), batches=4, batch_size=8, seed=seed, bn=bn)
        for seed, bn in [(0, "batch"), (0, "batch"), (1, "batch"), (0, "frozen")]
    ]
    assert results[0].digest == results[1].digest
    assert results[0].norms.tolist() != results[2].norms.tolist()
    assert results[0].norms.tolist() != results[3].norms.tolist()
    assert torch.equal(torch.get_rng_state(), random)
    assert objective() == loss
    assert torch.equal(objective.theta, theta)
    for now, then in [(net.state_dict(), before), (objective.model.state_dict(), inner)]:
        assert all(torch.equal(now[name], then[name]) for name in then)
    assert net.training
    assert net[1].track_running_stats


def test_every_perturbation_sees_the_same_batches():
    objective = make_objective()
    options = {"batches": 6, "batch_size": 8, "seed": 5}
    one = measure_consistency(objective, sam(), **options)
    other = measure_consistency(objective, usam(0.7), **options)
    np.testing.assert_allclose(one.cosines, other.cosines, atol=1e-12)


def test_a_vanished_gradient_is_counted():
    inputs, targets = make_data()
    objective = Objective(make_net(), lambda output, _: 0.0 * output.sum(), (inputs, targets))
    result = measure_consistency(objective, sam(), batches=3, batch_size=8, seed=0)
    assert result.facts["vanished"] == 3
    assert np.isnan(result.cosine_gradient).all()
    assert result.loss_rise.tolist() == [0.0] * 3


class Partial(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.used = nn.Linear(5, 3)
        self.used.bias.requires_grad_(False)

    def forward(self, inputs):
        return self.used(inputs)


def test_unused_and_frozen_parameters_stay_in_their_place():
    objective = Objective(Partial().double(), functional.cross_entropy, make_data())
    result = measure_consistency(objective, sam(), batches=3, batch_size=8, seed=0)
    np.testing.assert_allclose(result.norms, 0.05)
    assert result.facts["parameters"] == 6 + 15


def test_progress_is_told():
    seen = []
    measure_consistency(
        make_objective(),
        sam(),
        batches=3,
        batch_size=4,
        seed=0,
        progress=lambda *pair: seen.append(pair),
    )
    assert seen == [(done, 13) for done in range(1, 14)]  # 10 batches are all the data


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bn": "recomputed"}, '"batch" or "frozen", got \'recomputed\''),
        ({"batches": 1}, "2 batches of 1 sample or more, got 1"),
        ({"batch_size": 0}, "2 batches of 1 sample or more"),
        ({"batch_size": 1}, "no batch statistics for batch_size 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        measure_consistency(make_objective(), sam(), seed=0, **options)


def test_running_statistics_that_are_not_there_are_refused():
    net = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    objective = Objective(net, functional.cross_entropy, make_data(), bn="batch")
    with pytest.raises(ValueError, match="no running statistics"):
        measure_consistency(objective, sam(), seed=0, bn="frozen")


def test_aace_of_targets_that_are_no_classes_is_refused():
    inputs, _ = make_data()
    net = make_net()
    objective = Objective(net, functional.mse_loss, (inputs, inputs[:, :3]))
    with pytest.raises(TypeError, match="one true class per sample"):
        measure_consistency(objective, aace(), batches=2, batch_size=4, seed=0)


SIZE = 300


def write_run(path, vectors, *, checkpoint_every, provenance=None):
    layout = Layout((Entry(name="w", shape=(SIZE,), offset=0, kind="weight"),))
    writer = RunWriter.create(
        path,
        config={},
        problem={"name": None, "options": {}},
        layout=layout,
        method="SAM+AACE",
        provenance=provenance,
    )
    for step, vector in enumerate(vectors):
        writer.append({"step": step, "loss_rise": step / 10, "cosine_gradient": -step / 100})
        if vector is not None:
            writer.add_displacement(step, vector)
        if (step + 1) % checkpoint_every == 0:
            writer.save_checkpoint(step + 1, np.zeros(SIZE), {})
    writer.finish({})
    return Run(path)


def recorded_vectors(count, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=SIZE) / 20 + rng.normal(size=(count, SIZE))).astype(np.float32)


def test_online_consistency_is_that_of_the_recorded_vectors_whatever_the_blocks(tmp_path):
    vectors = recorded_vectors(23)
    run = write_run(tmp_path / "a", vectors, checkpoint_every=5)
    result = online_consistency(run, start=3, stop=21, seed=0)
    unit = vectors[3:21].astype(float)
    np.testing.assert_allclose(result.norms, np.linalg.norm(unit, axis=1))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(result.cosines, unit @ unit.T, atol=1e-14)
    assert result.step.tolist() == list(range(3, 21))
    np.testing.assert_allclose(result.loss_rise, np.arange(3, 21) / 10)
    np.testing.assert_allclose(result.cosine_gradient, -np.arange(3, 21) / 100)
    assert result.protocol == "online"
    assert result.facts["run"] == run.id
    assert result.facts["window"] == [3, 21]
    one = write_run(tmp_path / "b", vectors, checkpoint_every=50)
    other = online_consistency(one, start=3, stop=21, seed=0)
    np.testing.assert_allclose(other.cosines, result.cosines, atol=1e-14)


def test_the_window_is_the_last_64_recorded_steps(tmp_path):
    vectors = list(recorded_vectors(140))
    vectors[1::2] = [None] * 70
    run = write_run(tmp_path / "a", vectors, checkpoint_every=50)
    assert online_consistency(run, seed=0).step.tolist() == list(range(12, 140, 2))
    assert online_consistency(run, stop=100, seed=0).step.tolist() == list(range(0, 100, 2))[-64:]
    assert online_consistency(run, start=130, seed=0).step.tolist() == [130, 132, 134, 136, 138]


def test_the_label_is_that_of_the_recorded_perturbation(tmp_path):
    vectors = recorded_vectors(3)
    run = write_run(tmp_path / "a", vectors, checkpoint_every=5)
    assert online_consistency(run, seed=0).perturbation == "SAM+AACE"
    noted = {"perturbation": aace(0.4).label}
    run = write_run(tmp_path / "b", vectors, checkpoint_every=5, provenance=noted)
    assert online_consistency(run, seed=0).perturbation == "AACE ρ=0.4"


def test_a_run_that_adds_no_displacement_is_sent_to_the_frozen_protocol(tmp_path):
    net = make_net().float()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        recorder.step(1.0)
    with pytest.raises(ValueError, match=r"\(SGD\): use the frozen protocol.*--protocol frozen"):
        online_consistency(Run(tmp_path / "a"), seed=0)


def test_a_window_with_fewer_than_two_vectors_is_refused(tmp_path):
    run = write_run(tmp_path / "a", recorded_vectors(5), checkpoint_every=5)
    with pytest.raises(ValueError, match=r"got 1 in 4 \.\. 9; recorded are 0 \.\. 4"):
        online_consistency(run, start=4, stop=9, seed=0)


@pytest.mark.parametrize("perturbation", [vasso(0.3), friendly_sam(0.3)], ids=["vasso", "f-sam"])
def test_a_memory_stands_still_as_the_weights_do(perturbation):
    objective = make_objective(batch_size=7)
    generator = torch.Generator().manual_seed(9)
    memory = [
        torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for p in make_net().parameters()
    ]
    settings = {"batches": 4, "batch_size": 9, "seed": 3}
    result = measure_consistency(objective, perturbation, memory=memory, **settings)
    vectors = measured_vectors(objective, perturbation, memory, **settings)
    expected = vectors @ vectors.T
    np.testing.assert_allclose(result.cosines, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="has no memory"):
        measure_consistency(objective, sam(), memory=memory, **settings)


def measured_vectors(objective, perturbation, memory, *, batches, batch_size, seed):
    """Unit displacements that the next update of an optimizer would make on each batch."""
    inputs = torch.cat([x for x, _ in objective.batches])
    targets = torch.cat([y for _, y in objective.batches])
    drawn = torch.randint(40, (batches, batch_size), generator=torch.Generator().manual_seed(seed))
    rows = []
    for indices in drawn:
        net = make_net()
        optimizer = SAM(net.parameters(), torch.optim.SGD, perturbation=perturbation, lr=0.1)
        state = optimizer.state_dict()
        state["perturbation"]["memory"] = memory
        optimizer.load_state_dict(state)
        functional.cross_entropy(net(inputs[indices]), targets[indices]).backward()
        optimizer.first_step()
        move = torch.cat([m.flatten() for m in optimizer.displacement])
        rows.append((move / move.norm()).numpy())
    return np.stack(rows)


def test_the_frozen_protocol_takes_metrics_ascent_steps_and_random_targets():
    objective = make_objective(batch_size=7)
    settings = {"batches": 3, "batch_size": 9, "seed": 3}
    for perturbation in (asam(0.5), replace(sam(0.3), ascent_steps=2), aace(mode="const")):
        result = measure_consistency(objective, perturbation, **settings)
        inputs = torch.cat([x for x, _ in objective.batches])
        targets = torch.cat([y for _, y in objective.batches])
        drawn = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(3))
        moves = []
        for norm, indices in zip(result.norms, drawn, strict=True):
            net = make_net()
            optimizer = SAM(
                net.named_parameters(), torch.optim.SGD, perturbation=perturbation, lr=0.1
            )
            for _ in range(perturbation.ascent_steps):
                perturbation.loss(net(inputs[indices]), targets[indices]).backward()
                optimizer.first_step(zero_grad=True)
            move = torch.cat([m.flatten() for m in optimizer.displacement])
            assert norm == pytest.approx(move.norm().item(), rel=1e-10)
            moves.append((move / move.norm()).numpy())
        np.testing.assert_allclose(result.cosines, np.stack(moves) @ np.stack(moves).T, atol=1e-10)
    first, again = (measure_consistency(objective, aace(mode="rand"), **settings) for _ in "12")
    assert first.digest == again.digest
    other = measure_consistency(objective, aace(), **settings)
    assert not np.allclose(first.norms, other.norms)


def record_vectors(path, vectors, **options):
    """The vectors as a recorder keeps them, of a net that doesn't move."""
    net = torch.nn.Linear(SIZE - 1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Recorder(path, net, optimizer, checkpoint_every=20, method="SAM", **options) as recorder:
        for step, vector in enumerate(vectors):
            recorder.step(1.0, displacement=torch.tensor(vector), perturbed_loss=1 + step / 10)
    return Run(path)


def test_sketches_stand_in_for_vectors_that_were_not_kept_and_carry_their_error(tmp_path):
    vectors = recorded_vectors(60)
    unit = vectors[20:].astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    truth, numbers = unit @ unit.T, 64
    run = record_vectors(tmp_path / "a", vectors, record="every:3", sketch=numbers)
    result = online_consistency(run, start=20, seed=0)
    assert result.step.tolist() == list(range(20, 60))
    np.testing.assert_allclose(result.norms, np.linalg.norm(vectors[20:].astype(float), axis=1))
    lag = np.abs(np.subtract.outer(result.step, result.step))
    latest = np.maximum.outer(result.step, result.step)
    full = np.logical_and.outer(result.step % 3 == 0, result.step % 3 == 0)
    exact = full | (lag <= 1) | ((lag == 10) & (latest % 10 == 0))
    np.testing.assert_array_equal(result.cosine_error == 0, exact)
    np.testing.assert_allclose(result.cosines[exact], truth[exact], atol=1e-6)
    stated = result.cosine_error[~exact]
    np.testing.assert_allclose(stated, (1 - result.cosines[~exact] ** 2) / np.sqrt(numbers))
    off = (result.cosines - truth)[~exact] / stated
    assert 0.8 < off.std() < 1.25
    mean = truth[~np.eye(40, dtype=bool)].mean()
    assert abs(result.mean_cosine - mean) < 3 * result.mean_cosine_error
    assert 0 < result.mean_cosine_error < 0.05
    np.testing.assert_allclose(result.loss_rise, result.step / 10)
    pairs = 40 * 39 // 2
    assert result.facts["vectors"] == (
        f"{int(np.triu(~exact, 1).sum())} of {pairs} cosines from sketches of 64 numbers, "
        "standard deviation (1 − c²)/√64"
    )


def test_without_any_full_vector_the_sketches_of_short_vectors_are_exact(tmp_path):
    vectors = recorded_vectors(9)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    result = online_consistency(record_vectors(tmp_path / "a", vectors, record="sketch"), seed=0)
    np.testing.assert_allclose(result.cosines, unit @ unit.T, atol=1e-6)
    assert (result.cosine_error == 0).all()


def test_full_vectors_leave_nothing_to_sketches(tmp_path):
    result = online_consistency(record_vectors(tmp_path / "a", recorded_vectors(9)), seed=0)
    assert result.facts["vectors"] == "full vectors"
    assert result.cosine_error.size == 0
    assert np.isnan(result.mean_cosine_error)
