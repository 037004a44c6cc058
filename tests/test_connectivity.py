import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from landscape.connectivity import measure_barrier
from landscape.formulas import formula_objective
from landscape.modules import Weights, buffers_of, flatten, load_theta
from landscape.objectives import Objective
from landscape.result_files import load_result
from landscape.results import arrays_of
from landscape.visits import Memory
from landscape.work import Work

CE = nn.CrossEntropyLoss()
LINES = ("loss", "accuracy", "evaluated", "test_loss", "test_accuracy")
HEIGHTS = ("height", "height_over_line", "error_height", "error_height_over_line", "distance")


def at(**places):
    """Name points of weight space."""
    return [
        Weights(name, torch.tensor(np.atleast_1d(place), dtype=torch.float64))
        for name, place in places.items()
    ]


def one(function, size=1):
    return formula_objective(function, np.zeros(size))


def double_well(w):
    return ((w @ w) - 1) ** 2


class Kept(Memory):
    """A keeper that is one of `share` processes, and counts what is measured."""

    def __init__(self, share=1, stop_after=math.inf):
        super().__init__()
        self.share, self.stop_after, self.measured = share, stop_after, []

    def mine(self, position):
        return position % self.share == 0

    def keep(self, index, values):
        if len(self.measured) == self.stop_after:
            raise KeyboardInterrupt
        super().keep(index, values)
        self.measured.append(index)


@pytest.fixture(scope="module")
def nets():
    """Three small nets with BatchNorm whose statistics differ, and data in two equal batches."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=generator) * 2 + 1
    targets = (inputs[:, 0] > inputs[:, 1]).long()
    batches = [(inputs[:20], targets[:20]), (inputs[20:], targets[20:])]
    found = []
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
        for _ in range(3 + seed):
            net(inputs + seed)
        found.append(net.eval())
    return found, batches


def named(nets):
    return [Weights(f"seed {i}", flatten(net), buffers_of(net)) for i, net in enumerate(nets)]


def assert_same(one, other):
    """Equal arrays, up to the rounding in which the paths that a race chooses may differ."""
    for name, array in arrays_of(one).items():
        np.testing.assert_allclose(getattr(other, name), array, rtol=1e-5, atol=1e-12)


@torch.no_grad()
def measured(net, batches):
    """Loss and accuracy in eval mode, without the toolkit."""
    output, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    output = net(output)
    return float(CE(output, targets)), float((output.argmax(1) == targets).float().mean())


def test_the_barrier_of_a_double_well_is_one_by_both_definitions():
    barrier = measure_barrier(one(double_well), at(left=-1.0, right=1.0))
    assert barrier.names == ("left", "right")
    assert barrier.t[0] == 0
    assert barrier.t[-1] == 1
    assert len(barrier.t) == 27
    np.testing.assert_allclose(barrier.height, [[0, 1], [1, 0]], atol=1e-14)
    np.testing.assert_allclose(barrier.height_over_line, [[0, 1], [1, 0]], atol=1e-14)
    np.testing.assert_array_equal(barrier.distance, [[0, 2], [2, 0]])
    np.testing.assert_allclose(barrier.loss[0, 1], ((2 * barrier.t - 1) ** 2 - 1) ** 2, atol=1e-14)


def test_the_barrier_across_a_ring_is_one_and_along_it_less():
    corner = math.sqrt(0.5)
    ends = at(west=[-1.0, 0.0], east=[1.0, 0.0], between=[corner, corner])
    height = measure_barrier(one(double_well, 2), ends).height
    assert height[0, 1] == pytest.approx(1, abs=1e-15)
    assert height[1, 2] == pytest.approx((1 - (1 + corner) / 2) ** 2)


def test_the_two_definitions_differ_where_the_ends_do():
    barrier = measure_barrier(one(lambda w: double_well(w) + w.sum() / 2), at(a=-1.0, b=1.0))
    x = 2 * np.linspace(0, 1, 27) - 1
    assert barrier.height[0, 1] == pytest.approx(((x**2 - 1) ** 2 + x / 2).max(), rel=1e-12)
    assert barrier.height_over_line[0, 1] == pytest.approx(1, rel=1e-12)
    assert barrier.height[0, 1] > 1.02


def test_a_line_that_only_falls_has_no_barrier_over_its_chord_but_over_its_mean():
    barrier = measure_barrier(one(lambda w: w.sum() + 5), at(a=0.0, b=3.0), points=4)
    assert barrier.height_over_line[0, 1] == pytest.approx(0, abs=1e-15)
    assert barrier.height[0, 1] == pytest.approx(1.5)


def test_every_point_is_where_it_says_mirrored_and_constant_on_the_diagonal(nets):
    found, batches = nets
    weights = named(found)
    objective = Objective(found[0], CE, batches)
    barrier = measure_barrier(objective, weights, points=3, test=objective)
    np.testing.assert_array_equal(barrier.t, [0, 0.25, 0.5, 0.75, 1])
    assert barrier.evaluated.all()
    for i, j in permutations(range(3), 2):
        for k, t in enumerate(barrier.t):
            theta = (1 - t) * weights[i].theta.double() + t * weights[j].theta.double()
            loss, accuracy = measured(load_theta(found[0], theta), batches)
            assert barrier.loss[i, j, k] == pytest.approx(loss, rel=1e-4)
            assert barrier.accuracy[i, j, k] == pytest.approx(accuracy)
        distance = np.linalg.norm(weights[i].theta.numpy() - weights[j].theta.numpy())
        assert barrier.distance[i, j] == pytest.approx(distance, rel=1e-6)
    for name in LINES:
        lines = getattr(barrier, name)
        np.testing.assert_array_equal(lines, lines.transpose(1, 0, 2)[:, :, ::-1])
        for i in range(3):
            np.testing.assert_array_equal(lines[i, i], lines[i, (i + 1) % 3, :1].repeat(5))
    for name in HEIGHTS:
        values = getattr(barrier, name)
        np.testing.assert_array_equal(values, values.T)
        np.testing.assert_array_equal(np.diag(values), 0)
    error = 1 - barrier.accuracy[0, 2]
    assert barrier.error_height[0, 2] == pytest.approx(error.max() - error[[0, -1]].mean())
    chord = error[0] + barrier.t * (error[-1] - error[0])
    assert barrier.error_height_over_line[0, 2] == pytest.approx((error - chord).max())


def test_each_minimum_is_measured_once_and_each_line_once():
    kept, told = Kept(), []
    measure_barrier(
        one(double_well),
        at(a=-1.0, b=1.0, c=2.0, d=3.0),
        points=5,
        work=kept,
        progress=lambda *done: told.append(done),
    )
    assert sorted(kept.measured) == list(range(4 + 6 * 5))
    assert kept.measured[:4] == [0, 1, 2, 3]
    assert [*dict.fromkeys(told)] == [(done, 34) for done in range(1, 35)]


def test_the_middles_of_all_lines_come_before_the_rest():
    kept = Kept()
    measure_barrier(one(double_well), at(a=-1.0, b=1.0, c=2.0), points=5, work=kept)
    assert kept.measured[3:6] == [3 + 2, 3 + 5 + 2, 3 + 10 + 2]


def test_what_was_measured_before_a_kill_is_not_measured_again():
    ends = at(a=-1.0, b=1.0, c=2.0)
    whole = measure_barrier(one(double_well), ends, points=4)
    kept = Kept(stop_after=8)
    with pytest.raises(KeyboardInterrupt):
        measure_barrier(one(double_well), ends, points=4, work=kept)
    kept.stop_after = math.inf
    again = measure_barrier(one(double_well), ends, points=4, work=kept)
    assert len(kept.measured) == len(set(kept.measured)) == 15
    assert_same(again, whole)


def test_points_of_other_processes_are_missing_until_they_are_there():
    ends = at(a=-1.0, b=1.0, c=2.0)
    kept = Kept(share=2)
    half = measure_barrier(one(double_well), ends, points=4, work=kept)
    assert len(kept.measured) == 8
    assert 0 < half.evaluated.sum() < half.evaluated.size
    np.testing.assert_array_equal(half.evaluated, ~np.isnan(half.loss))
    assert np.isnan(half.height[0, 1])
    kept.share = 1
    rest = measure_barrier(one(double_well), ends, points=4, work=kept)
    assert_same(rest, measure_barrier(one(double_well), ends, points=4))


def test_a_kill_costs_no_point_that_lies_on_the_disk(nets, tmp_path):
    found, batches = nets
    objective = Objective(found[0], CE, batches, bn="recomputed")

    def measure(stop_after):
        told = []

        def tell(done, total):
            told.append(done)
            if done == stop_after:
                raise KeyboardInterrupt

        with Work(tmp_path / "barrier-1.part") as work:
            result = measure_barrier(
                objective, named(found), points=4, test=objective, work=work, progress=tell
            )
        return result, told

    with pytest.raises(KeyboardInterrupt):
        measure(7)
    result, told = measure(None)
    assert [*dict.fromkeys(told)] == list(range(8, 16))
    assert_same(result, measure_barrier(objective, named(found), points=4, test=objective))


def test_nan_on_a_line_makes_its_own_barrier_nan_and_no_other():
    def broken(w):
        return torch.where(w.abs().sum() < 0.1, math.nan, 1.0) * double_well(w)

    barrier = measure_barrier(one(broken), at(a=-1.0, b=1.0, c=2.0), points=3)
    assert barrier.evaluated.all()
    assert np.isnan(barrier.loss[0, 1, 2])
    for name in ("height", "height_over_line"):
        assert np.isnan(getattr(barrier, name)[0, 1])
        assert np.isnan(getattr(barrier, name)[1, 0])
        assert np.isfinite(getattr(barrier, name)[1, 2])
    assert np.isnan(barrier.error_height).all()  # there are no classes


def test_a_loss_that_overflows_between_minima_is_an_infinite_barrier():
    wall = measure_barrier(
        one(lambda w: torch.where(w.abs().sum() < 0.1, math.inf, 1.0)), at(a=-1.0, b=1.0), points=1
    )
    assert wall.height[0, 1] == wall.height_over_line[0, 1] == math.inf


def test_recomputed_statistics_are_those_of_torch_at_every_point_ends_included(nets):
    found, batches = nets
    weights = named(found)
    objective = Objective(found[0], CE, batches, bn="recomputed")
    barrier = measure_barrier(objective, weights[:2], points=3)
    for k, t in enumerate(barrier.t):
        theta = (1 - t) * weights[0].theta.double() + t * weights[1].theta.double()
        net = load_theta(found[0], theta)
        update_bn(batches, net)
        loss, accuracy = measured(net.eval(), batches)
        assert barrier.loss[0, 1, k] == pytest.approx(loss, rel=1e-5)
        assert barrier.accuracy[0, 1, k] == pytest.approx(accuracy)
    assert "recomputed" in barrier.facts["statistics"]


def test_interpolated_statistics_are_the_minimas_own_at_the_ends_and_mixed_between(nets):
    found, batches = nets
    weights = named(found)
    objective = Objective(found[2], CE, batches, bn="interpolated")
    barrier = measure_barrier(objective, weights, points=3)
    for i, net in enumerate(found):
        assert barrier.loss[i, i, 0] == pytest.approx(measured(net, batches)[0], rel=1e-6)
    for k, t in enumerate(barrier.t):
        theta = (1 - t) * weights[0].theta.double() + t * weights[1].theta.double()
        mixed = {
            name: ((1 - t) * value + t * weights[1].buffers[name]).to(value)
            for name, value in weights[0].buffers.items()
        }
        loss, _ = measured(load_theta(found[0], theta, mixed), batches)
        assert barrier.loss[0, 1, k] == pytest.approx(loss, rel=1e-5)


def test_frozen_statistics_are_the_models_own_everywhere_and_facts_say_so(nets):
    found, batches = nets
    weights = named(found)
    barrier = measure_barrier(Objective(found[0], CE, batches), weights[:2], points=1)
    stranger = load_theta(found[0], weights[1].theta)
    assert barrier.loss[0, 1, -1] == pytest.approx(measured(stranger, batches)[0], rel=1e-6)
    assert barrier.loss[0, 1, -1] != pytest.approx(measured(found[1], batches)[0], rel=1e-2)
    assert barrier.facts["statistics"] == "the model's own at every point"


def test_the_test_set_is_measured_beside_the_training_set(nets):
    found, batches = nets
    weights = named(found)
    other = [(inputs * 1.5, targets) for inputs, targets in batches[:1]]
    objective, test = Objective(found[0], CE, batches), Objective(found[0], CE, other)
    barrier = measure_barrier(objective, weights[:2], points=2, test=test)
    alone = measure_barrier(test, weights[:2], points=2)
    np.testing.assert_allclose(barrier.test_loss, alone.loss, rtol=1e-6)
    np.testing.assert_allclose(barrier.test_accuracy, alone.accuracy)
    assert np.abs(barrier.test_loss - barrier.loss).max() > 1e-3
    assert barrier.facts["test_samples"] == 20
    assert measure_barrier(objective, weights[:2], points=2).test_loss.size == 0


def test_facts_say_that_nothing_was_aligned_and_that_heights_are_lower_bounds():
    facts = measure_barrier(one(double_well), at(a=-1.0, b=1.0), points=7).facts
    assert facts["alignment"].startswith("none")
    assert "lower bound" in facts["bound"]
    assert facts["points"] == 7
    assert facts["bn"] == "frozen"
    assert "statistics" not in facts  # there is no BatchNorm


def test_more_points_never_lower_a_barrier():
    objective = one(lambda w: (5 * w).sin().sum() + 1)
    coarse, fine = (measure_barrier(objective, at(a=0.0, b=2.0), points=n) for n in (3, 7))
    assert coarse.height[0, 1] < fine.height[0, 1]


def test_the_metrics_of_a_problem_do_not_get_in_the_way(nets):
    found, batches = nets
    metrics = {"margin": lambda output, _: (output[:, 0] - output[:, 1]).mean()}
    objective = Objective(found[0], CE, batches, metrics=metrics)
    barrier = measure_barrier(objective, named(found)[:2], points=1, test=objective)
    np.testing.assert_allclose(barrier.loss, barrier.test_loss, rtol=1e-5)


def test_nothing_given_is_changed_and_the_result_comes_back_from_its_file(nets, tmp_path):
    found, batches = nets
    weights = named(found)
    before = [weight.theta.clone() for weight in weights]
    objective = Objective(found[0], CE, batches, bn="recomputed")
    center = objective()
    barrier = measure_barrier(objective, weights, points=3)
    assert objective() == center
    assert all(torch.equal(a, b.theta) for a, b in zip(before, weights, strict=True))
    assert_same(measure_barrier(objective, weights, points=3), barrier)
    assert load_result(barrier.save(tmp_path / "b.h5")).digest == barrier.digest


@pytest.mark.parametrize(
    ("ends", "options", "told"),
    [
        ({"a": -1.0}, {}, "at least two minima .*, got a"),
        ({}, {}, "at least two minima .*, got none"),
        ({"a": -1.0, "b": [1.0, 2.0]}, {}, r"b must have the objective's 1 parameters, got shape"),
        ({"a": -1.0, "b": math.nan}, {}, "b must be finite"),
        ({"a": -1.0, "b": 1.0}, {"points": 0}, "points must be a whole number from 1 on, got 0"),
        ({"a": -1.0, "b": 1.0}, {"points": 2.5}, "points must be a whole number"),
        ({"a": -1.0, "b": 1.0}, {"points": True}, "points must be a whole number"),
    ],
)
def test_what_makes_no_line_is_refused(ends, options, told):
    with pytest.raises(ValueError, match=told):
        measure_barrier(one(double_well), at(**ends), **options)


def test_two_minima_of_one_name_are_refused():
    with pytest.raises(ValueError, match="different names are needed, got a, a"):
        measure_barrier(one(double_well), at(a=-1.0) + at(a=1.0))


def test_interpolating_statistics_that_are_not_there_is_refused(nets):
    found, batches = nets
    objective = Objective(found[0], CE, batches, bn="interpolated")
    first, last = named(found)[:2]
    with pytest.raises(ValueError, match="buffers must be those of Sequential"):
        measure_barrier(objective, [first, Weights(last.name, last.theta)])
