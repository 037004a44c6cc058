import math
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from landscape.bends import control_weights
from landscape.connectivity import measure_barrier
from landscape.curves import measure_curve
from landscape.formulas import formula_objective
from landscape.modules import Weights, buffers_of, flatten
from landscape.objectives import Objective
from landscape.planes import Plane
from landscape.result_files import load_result
from landscape.visits import Memory
from landscape.work import Work
from training.models import build_model

CE = nn.CrossEntropyLoss()
EXACT = {"nodes": 5, "batch_size": 0, "seed": 0}
EXACT |= {"learning_rate": 1.0, "momentum": 0.5, "updates": 80}
NOISY = {"batch_size": 0, "seed": 0, "learning_rate": 0.05, "updates": 1500}
BRIEF = EXACT | {"updates": 3, "points": 5}


def one(function, size):
    return formula_objective(function, np.zeros(size))


def ring_loss(w):
    return (w[:2] @ w[:2] - 1) ** 2 + (w[2:] ** 2).sum()


def ends(*places):
    return [
        Weights(name, torch.tensor(place, dtype=torch.float64))
        for name, place in zip("ab", places, strict=True)
    ]


RING, SIDES = one(ring_loss, 2), ends([-1.0, 0.0], [1.0, 0.0])


class Kept(Memory):
    """A keeper of arrays too."""

    def __init__(self):
        super().__init__()
        self.arrays, self.measured = {}, []

    def settle_arrays(self, name, make):
        if name not in self.arrays:
            self.arrays[name] = make()
        return self.arrays[name]

    def keep(self, index, values):
        super().keep(index, values)
        self.measured.append(index)


@pytest.mark.parametrize("shape", ["bezier", "polygon"])
@pytest.mark.parametrize("bends", [1, 2, 3])
def test_weights_of_control_points_sum_to_one_and_are_the_ends_at_the_ends(shape, bends):
    for t in np.linspace(0, 1, 13):
        weights = control_weights(shape, bends, float(t))
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-15)
        assert weights @ np.arange(bends + 2) == pytest.approx(t * (bends + 1))  # evenly run
    np.testing.assert_array_equal(control_weights(shape, bends, 0.0), np.eye(bends + 2)[0])
    np.testing.assert_array_equal(control_weights(shape, bends, 1.0), np.eye(bends + 2)[-1])


def test_a_bezier_curve_is_the_quadratic_and_a_polygon_goes_through_its_bends():
    np.testing.assert_allclose(control_weights("bezier", 1, 0.3), [0.49, 0.42, 0.09])
    for k in range(4):
        np.testing.assert_allclose(control_weights("polygon", 2, k / 3), np.eye(4)[k], atol=1e-15)
    np.testing.assert_allclose(control_weights("polygon", 1, 0.3), [0.4, 0.6, 0.0])


def test_the_best_bezier_curve_on_a_ring_is_found_where_it_is_known_to_be():
    curve = measure_curve(RING, *SIDES, **EXACT, points=301)
    assert curve.bends is not None
    np.testing.assert_allclose(np.abs(curve.bends), [[0, 2 * math.sqrt(9 / 8)]], atol=1e-5)
    assert curve.facts["mean_loss"] == pytest.approx(2 / 105, abs=1e-7)
    assert curve.facts["max_loss"] == pytest.approx(4 / 81, abs=1e-5)
    assert curve.training_loss[-1] == pytest.approx(2 / 105, abs=1e-9)
    assert curve.line_loss[150] == pytest.approx(1, abs=1e-15)
    assert curve.facts["line_height"] == pytest.approx(1, abs=1e-15)
    assert curve.facts["height"] == pytest.approx(4 / 81, abs=1e-5)
    assert curve.facts["line_mean_loss"] == pytest.approx(8 / 15, abs=1e-4)


def test_one_random_t_per_update_comes_close_to_the_best_curve():
    curve = measure_curve(RING, *SIDES, **NOISY)
    np.testing.assert_allclose(np.abs(curve.bend_position), [[1, 2.121320]], atol=0.15)
    assert curve.facts["mean_loss"] == pytest.approx(2 / 105, abs=1e-3)


def test_seeds_choose_the_side_of_a_ring_and_the_same_seed_gives_the_same_bits():
    brief = NOISY | {"updates": 40}
    found = [measure_curve(RING, *SIDES, **brief | {"seed": seed}) for seed in range(6)]
    sides = {float(np.sign(curve.bends[0, 1])) for curve in found}
    assert sides == {-1.0, 1.0}
    again = measure_curve(RING, *SIDES, **brief)
    np.testing.assert_array_equal(again.bends, found[0].bends)
    np.testing.assert_array_equal(again.training_loss, found[0].training_loss)
    assert len({float(curve.training_loss[0]) for curve in found}) == 6


@pytest.mark.parametrize(("shape", "share"), [("bezier", -0.75), ("polygon", -0.25)])
def test_the_best_bend_in_a_quadratic_bowl_is_a_multiple_of_the_sum_of_the_ends(shape, share):
    """E[b₁ (b₀ w₁ + b₁ c + b₂ w₂)] = 0 whatever the matrix; the moments of b are known."""
    A = torch.diag(torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64))
    bowl = one(lambda w: w @ A @ w / 2, 3)
    first, last = ends([1.0, 2.0, -1.0], [3.0, 0.0, 1.0])
    options = EXACT | {"nodes": 3, "learning_rate": 3.0, "updates": 60}
    curve = measure_curve(bowl, first, last, shape=shape, **options, points=5)
    exact = share * (first.theta + last.theta)
    np.testing.assert_allclose(curve.bends, [exact.numpy()], atol=1e-5)


def test_random_draws_of_t_are_uniform():
    """With L = w and a learning rate too small to move, losses are the positions drawn."""
    line = one(lambda w: w.sum(), 1)
    options = NOISY | {"learning_rate": 1e-9, "updates": 800}
    curve = measure_curve(line, *ends([0.0], [1.0]), **options, points=3)
    drawn = np.sort(curve.training_loss)
    assert np.abs(drawn - np.linspace(0, 1, 800)).max() < 0.06  # Kolmogorov: 1.7 / √800


def test_bends_begin_on_the_chord_a_thousandth_of_its_length_off():
    first, last = ends([0.0, 0.0, 0.0], [3.0, 0.0, 4.0])
    flat = one(lambda w: (w * 0).sum(), 3)
    options = BRIEF | {"learning_rate": 1e-9}
    curve = measure_curve(flat, first, last, **options, shape="polygon", bends=3)
    for k, bend in enumerate(curve.bends, start=1):
        start = k / 4 * last.theta.numpy()
        assert np.linalg.norm(bend - start) == pytest.approx(5e-3, rel=1e-3)


def test_the_learning_rate_stays_then_falls_to_a_hundredth():
    """With L = w, without momentum, the bend moves by the rate times E b₁ = 1/3 each update."""
    line = one(lambda w: w.sum(), 1)

    def moved(updates):
        options = EXACT | {"momentum": 0.0, "learning_rate": 0.3, "updates": updates}
        curve = measure_curve(line, *ends([0.0], [1.0]), **options, points=3)
        return -3 * (curve.bends[0, 0] - 0.5) / 0.3

    rates = [1.0] * 5 + [1.0, 1 - 0.99 / 4, 1 - 0.99 / 2, 1 - 0.99 * 3 / 4, 0.01]
    assert moved(10) == pytest.approx(sum(rates), abs=0.02)


def test_momentum_is_that_of_torch():
    line = one(lambda w: w.sum(), 1)
    options = EXACT | {"momentum": 0.5, "learning_rate": 0.3, "updates": 2}
    bend = measure_curve(line, *ends([0.0], [1.0]), **options, points=3).bends[0, 0]
    assert bend == pytest.approx(0.5 - 0.3 / 3 * (1 + 1.5), abs=2e-3)


def test_every_sample_is_seen_once_in_an_epoch_in_minibatches_of_the_size_asked_for():
    seen = []

    def loss(output, targets):
        if output.requires_grad:
            seen.append(targets[:, 0].int().tolist())
        return (output - targets).square().mean()

    inputs = torch.arange(10.0)[:, None]
    model = nn.Linear(1, 1)
    objective = Objective(model, loss, (inputs, inputs), batch_size=4)
    first = Weights("a", torch.zeros(2))
    last = Weights("b", torch.ones(2))
    options = {"learning_rate": 1e-4, "updates": 6, "seed": 0, "points": 3}
    measure_curve(objective, first, last, **options, batch_size=3)
    assert [len(batch) for batch in seen] == [3] * 6
    epochs = [*chain(*seen[:3])], [*chain(*seen[3:])]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]
    seen.clear()
    measure_curve(objective, first, last, **options, batch_size=0)
    assert [*chain(*seen[:3])] == list(range(10))
    assert len(seen) == 18


def test_minibatches_as_large_as_the_data_train_the_same_bends_as_all_data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(23, 4, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 2).double()
    objective = Objective(model, nn.MSELoss(), (inputs, inputs[:, :2]), batch_size=10)
    first, last = ends([0.0] * 10, [1.0] * 10)
    options = {"learning_rate": 0.01, "updates": 5, "seed": 0, "points": 3}
    whole = measure_curve(objective, first, last, **options, batch_size=0)
    parts = measure_curve(objective, first, last, **options, batch_size=50)
    np.testing.assert_allclose(parts.training_loss, whole.training_loss, rtol=1e-12)
    np.testing.assert_allclose(parts.bends, whole.bends, rtol=1e-6)


def test_a_curve_of_one_bend_lies_in_its_plane_in_weight_space_distance():
    curve = measure_curve(RING, *SIDES, **EXACT, points=21)
    np.testing.assert_allclose(curve.position[[0, -1]], [[0, 0], [2, 0]], atol=1e-12)
    np.testing.assert_allclose(curve.bend_position, [[1, 2.1213203]], atol=1e-4)
    np.testing.assert_allclose(curve.position[10], [1, 2.1213203 / 2], atol=1e-4)
    np.testing.assert_array_equal(curve.off_plane, 0)
    x, y = curve.position.T
    np.testing.assert_allclose(((x - 1) ** 2 + y**2 - 1) ** 2, curve.loss, atol=1e-10)


@pytest.mark.parametrize("shape", ["bezier", "polygon"])
def test_a_curve_of_several_bends_is_projected_on_the_plane_of_the_middle_one(shape):
    objective = one(lambda w: ring_loss(w) + w[2] * w[0], 4)
    first, last = ends([-1.0, 0.2, 0.1, 0.0], [1.0, 0.0, 0.3, 0.5])
    quick = EXACT | {"learning_rate": 0.3, "updates": 20, "points": 7}
    curve = measure_curve(objective, first, last, shape=shape, bends=3, **quick)
    bends = torch.tensor(curve.bends).double()
    plane = Plane(first.theta, torch.stack([last.theta - first.theta, bends[1] - first.theta]))
    controls = torch.stack([first.theta, *bends, last.theta])
    weights = np.stack([control_weights(shape, 3, t) for t in curve.t])
    points = torch.tensor(weights) @ controls
    coordinates, distances = plane.project(points)
    assert distances.max() > 1e-2
    np.testing.assert_allclose(curve.off_plane, distances, atol=1e-6)
    across = bends[1] - first.theta
    along = last.theta - first.theta
    axes = np.linalg.qr(torch.stack([along, across]).numpy().T)[0]
    in_plane = coordinates @ plane.directions.numpy() @ axes
    np.testing.assert_allclose(np.abs(curve.position), np.abs(in_plane), atol=1e-6)
    for point, loss in zip(points, curve.loss, strict=True):
        assert objective(point) == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(curve.bend_position[1, 1], np.abs(across.numpy() @ axes[:, 1]))


def test_between_minima_of_one_parameter_there_is_no_way_around():
    wells = one(lambda w: ((w @ w) - 1) ** 2, 1)
    curve = measure_curve(wells, *ends([-1.0], [1.0]), **BRIEF | {"points": 201})
    assert curve.facts["height"] == pytest.approx(1, abs=1e-2)
    np.testing.assert_array_equal(curve.position[:, 1], 0)
    np.testing.assert_array_equal(curve.off_plane, 0)


def test_the_straight_line_is_that_of_the_barrier_and_shares_its_ends_with_the_curve():
    curve = measure_curve(RING, *SIDES, **BRIEF | {"points": 9})
    barrier = measure_barrier(RING, SIDES, points=7)
    np.testing.assert_array_equal(curve.t, barrier.t)
    np.testing.assert_allclose(curve.line_loss, barrier.loss[0, 1], atol=1e-15)
    np.testing.assert_array_equal(curve.loss[[0, -1]], curve.line_loss[[0, -1]])
    assert curve.names == barrier.names == ("a", "b")


def test_a_curve_runs_from_the_first_minimum_to_the_last():
    slope = one(lambda w: w.sum() + 1, 2)
    options = BRIEF | {"learning_rate": 1e-9, "bends": 2}
    curve = measure_curve(slope, *ends([0.0, 0.0], [3.0, 1.0]), **options)
    np.testing.assert_allclose(curve.line_loss, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(curve.loss, curve.line_loss, atol=0.02)
    assert curve.facts["line_height"] == pytest.approx(5 - 3)
    assert curve.facts["distance"] == pytest.approx(math.sqrt(10))


def test_bends_and_points_that_are_kept_are_not_made_again():
    whole = measure_curve(RING, *SIDES, **BRIEF)
    kept, told = Kept(), []
    first = measure_curve(RING, *SIDES, **BRIEF, work=kept)
    assert kept.measured == [0, 2, 4, 1, 3, 6, 5, 7]  # curve, then line, coarse to fine
    again = measure_curve(
        RING, *SIDES, **BRIEF, work=kept, progress=lambda *done: told.append(done)
    )
    assert len(kept.measured) == 8
    assert told[-1] == (3 + 8, 3 + 8)
    assert first.digest == again.digest
    np.testing.assert_array_equal(first.bends, whole.bends)
    np.testing.assert_allclose(first.loss, whole.loss, rtol=1e-12, atol=1e-15)


def test_bends_on_the_disk_are_not_trained_again_after_a_kill(tmp_path):
    def measure(stop_after):
        told = []

        def tell(done, total):
            told.append(done)
            if done == stop_after:
                raise KeyboardInterrupt

        with Work(tmp_path / "curve-1.part") as work:
            curve = measure_curve(RING, *SIDES, **BRIEF, test=RING, work=work, progress=tell)
        return curve, told

    with pytest.raises(KeyboardInterrupt):
        measure(3 + 4)
    curve, told = measure(None)
    assert [*dict.fromkeys(told)] == [8, 9, 10, 11]
    whole = measure_curve(RING, *SIDES, **BRIEF)
    np.testing.assert_array_equal(curve.bends, whole.bends)
    np.testing.assert_array_equal(curve.training_loss, whole.training_loss)
    np.testing.assert_allclose(curve.line_loss, whole.line_loss, atol=1e-14)


def test_progress_counts_updates_then_points():
    told = []
    measure_curve(RING, *SIDES, **BRIEF, progress=lambda *done: told.append(done))
    assert [*dict.fromkeys(told)] == [(done, 11) for done in range(1, 12)]


def test_a_training_that_diverges_says_what_to_do():
    with pytest.raises(ValueError, match=r"must stay finite, got loss .*; lower learning_rate"):
        measure_curve(RING, *SIDES, **EXACT | {"learning_rate": 1e99})


def test_nan_on_the_curve_stays_nan():
    lifted = one(lambda w: torch.where(w[0].abs() < 1e-6, math.nan, 1.0) + 0 * w.sum(), 2)
    curve = measure_curve(lifted, *SIDES, **BRIEF | {"nodes": 4})
    assert np.isnan(curve.line_loss[2])
    assert np.isnan(curve.facts["line_height"])
    assert np.isnan(curve.facts["line_max_loss"])
    assert np.isfinite(curve.line_loss[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shape": "spline"}, "shape must be one of bezier, polygon, got 'spline'"),
        ({"bends": 0}, "bends must be a whole number from 1 on, got 0"),
        ({"updates": 0}, "updates must be a whole number from 1 on, got 0"),
        ({"batch_size": -1}, "batch_size must be a whole number from 0 on"),
        ({"nodes": 1.5}, "nodes must be a whole number"),
        ({"seed": None}, "seed must be a whole number from 0 on, got None"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
        ({"points": 2}, "points must be a whole number from 3 on, got 2"),
    ],
)
def test_arguments_out_of_range_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        measure_curve(RING, *SIDES, **BRIEF | options)


def test_a_curve_from_a_minimum_to_itself_or_a_namesake_is_refused():
    first, last = SIDES
    with pytest.raises(ValueError, match="a and b must differ, got the same weights twice"):
        measure_curve(RING, first, replace(last, theta=first.theta), **BRIEF)
    with pytest.raises(ValueError, match="different names are needed, got a, a"):
        measure_curve(RING, first, replace(last, name="a"), **BRIEF)


def test_samples_of_several_shapes_need_all_data_in_each_update():
    batches = [(torch.zeros(2, n, 1), torch.zeros(2, n, 1)) for n in (3, 4)]
    objective = Objective(nn.Linear(1, 1), nn.MSELoss(), batches)
    first, last = Weights("a", torch.zeros(2)), Weights("b", torch.ones(2))
    with pytest.raises(ValueError, match="samples of one shape, got several; take batch_size=0"):
        measure_curve(objective, first, last, **BRIEF | {"batch_size": 2})
    measure_curve(objective, first, last, **BRIEF | {"learning_rate": 0.1})


@pytest.fixture(scope="module")
def digits():
    """Training and test data, and for each model two nets that two seeds trained."""
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    targets = torch.tensor(labels)
    train, test = (inputs[:1200], targets[:1200]), (inputs[1200:], targets[1200:])
    nets = {name: [trained(name, seed, *train) for seed in (0, 1)] for name in ("mlp8", "conv8")}
    return train, test, nets


def trained(name, seed, inputs, targets):
    model = build_model(name, classes=10, channels=1, seed=seed).train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(100):
        rows = torch.randint(0, len(inputs), (64,), generator=generator)
        optimizer.zero_grad()
        CE(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return model.eval()


def minima(nets):
    return [Weights(f"seed {i}", flatten(net), buffers_of(net)) for i, net in enumerate(nets)]


@pytest.mark.parametrize("name", ["mlp8", "conv8"])
def test_two_trained_nets_have_a_barrier_and_a_curve_goes_around_it(digits, name):
    train, test, nets = digits
    over = {"bn": "recomputed", "batch_size": 400}
    objective = Objective(nets[name][0], CE, train, **over)
    curve = measure_curve(
        objective,
        *minima(nets[name]),
        updates=150,
        learning_rate=0.1,
        batch_size=64,
        seed=0,
        points=11,
        test=Objective(nets[name][0], CE, test, **over),
    )
    assert curve.facts["line_height"] > 0.2
    assert curve.facts["height"] < 0.3 * curve.facts["line_height"]
    assert curve.test_accuracy.min() > curve.line_test_accuracy.min() + 0.05
    assert curve.position[5, 1] > 1
    np.testing.assert_array_equal(curve.off_plane, 0)
    assert curve.facts["training_bn"] == "batch"


def test_recomputing_statistics_takes_away_much_of_a_barrier(digits):
    """The variance of activations collapses between nets: Jordan et al. 2023, figure 1."""
    train, _, nets = digits
    heights = {}
    for bn in ("interpolated", "recomputed"):
        objective = Objective(nets["conv8"][0], CE, train, bn=bn, batch_size=400)
        heights[bn] = measure_barrier(objective, minima(nets["conv8"]), points=5).height[0, 1]
    assert heights["recomputed"] < 0.7 * heights["interpolated"]


@pytest.mark.parametrize("bn", ["recomputed", "batch", "frozen"])
def test_bends_are_trained_with_batch_statistics_or_frozen_ones(digits, bn):
    """The loss of the first update is that of the chord's middle under this policy."""
    train, _, nets = digits
    weights = minima(nets["conv8"])
    objective = Objective(nets["conv8"][0], CE, train, bn=bn, batch_size=300)
    options = {"learning_rate": 1e-3, "updates": 1, "seed": 0, "points": 3, "nodes": 1}
    before = objective()
    curve = measure_curve(objective, *weights, **options, batch_size=0)
    policy = "frozen" if bn == "frozen" else "batch"
    seen = Objective(nets["conv8"][0], CE, train, bn=policy, batch_size=300)
    middle = seen((weights[0].theta + weights[1].theta) / 2)
    other = {"frozen": "batch", "batch": "frozen"}[policy]
    wrong = Objective(nets["conv8"][0], CE, train, bn=other, batch_size=300)
    assert curve.training_loss[0] == pytest.approx(middle, rel=0.02)
    assert abs(wrong((weights[0].theta + weights[1].theta) / 2) - middle) > 0.1 * middle
    assert curve.facts["training_bn"] == policy
    assert objective() == before


def test_statistics_interpolated_along_a_curve_are_refused(digits):
    train, _, nets = digits
    objective = Objective(nets["conv8"][0], CE, train, bn="interpolated")
    with pytest.raises(ValueError, match="for the line between minima only, not for a curve"):
        measure_curve(objective, *minima(nets["conv8"]), **BRIEF)


def test_a_curve_comes_back_from_its_file_with_its_bends(tmp_path):
    curve = measure_curve(RING, *SIDES, **BRIEF, shape="polygon", bends=2, test=RING)
    loaded = load_result(curve.save(tmp_path / "c.h5"))
    assert loaded.digest == curve.digest
    np.testing.assert_array_equal(loaded.bends, curve.bends)
    np.testing.assert_allclose(curve.test_loss, curve.loss, atol=1e-14)
    np.testing.assert_allclose(curve.line_test_loss, curve.line_loss, atol=1e-14)
