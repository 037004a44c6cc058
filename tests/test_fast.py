import itertools
import json
import math

import pytest
import torch
from torch import nn

import landscape.engines
import landscape.fast
import landscape.fused
import landscape.probes
from landscape.fast import choose_path, precision_error
from landscape.objectives import Evaluation, Objective
from landscape.precision import MixedEngine

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pass is too short, and no path slower than another."""
    monkeypatch.setattr(landscape.probes, "_seconds", lambda run: 1.0)
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 0.0)
    monkeypatch.setattr(landscape.fast, "is_faster", lambda one, other, points: False)


def small_net(seed=0, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(4, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, classes),
        )


def run_in(net, x):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net.train()
        for _ in range(4):
            net(x * 1.5 + 0.5)
    return net


def problem(count=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, 6, 6, generator=generator)
    return x, torch.randint(0, 3, (count,), generator=generator)


def objective_of(**options):
    x, y = problem()
    options = {"batch_size": 8, **options}
    return Objective(run_in(small_net(), x), CE, (x, y), **options)


def near(objective, count=2, seed=0, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, objective.theta.numel(), generator=generator)
    return [objective.theta + scale * row.to(objective.theta) for row in noise]


def assert_exact(path, objective, rel=2e-6, places=None):
    for theta in places or near(objective, 3, seed=5):
        found, truth = path.evaluate(theta), objective.evaluate(theta)
        assert found.loss == pytest.approx(truth.loss, rel=rel)
        assert found.accuracy == pytest.approx(truth.accuracy, nan_ok=True)
        assert found.metrics == pytest.approx(truth.metrics, rel=1e-5)


def test_a_convolutional_net_takes_the_fastest_path_and_agrees_with_the_plain_one():
    objective = objective_of()
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "folded+fused"
    assert path.facts["path_note"] == ""
    assert path.facts["path_error"] < 1e-6
    assert path.facts["precision"] == "full"
    assert path.facts["threads"] == torch.get_num_threads()
    assert_exact(path, objective)


@pytest.mark.parametrize("bn", ["frozen", "recomputed", "interpolated"])
def test_statistics_of_every_uncoupled_policy_are_folded(bn):
    objective = objective_of(bn=bn)
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "folded+fused"
    assert_exact(path, objective)


def test_interpolated_statistics_come_with_each_point():
    objective = objective_of(bn="interpolated")
    theta, other = near(objective)
    buffers = {name: b * 1.5 for name, b in objective.model.named_buffers()}
    path = choose_path(objective, [(theta, buffers), (other, buffers)])
    found, truth = path.evaluate(other, buffers), objective.evaluate(other, buffers=buffers)
    assert found.loss == pytest.approx(truth.loss, rel=2e-6)
    assert abs(truth.loss - objective.evaluate(other).loss) > 1e-3


def test_batch_statistics_take_the_plain_path_and_say_why():
    objective = objective_of(bn="batch")
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "plain"
    assert "batch" in path.facts["path_note"]
    theta = near(objective)[0]
    assert path.evaluate(theta) == objective.evaluate(theta)


def test_a_net_without_convolutions_runs_as_it_is_in_whole_batches():
    x, y = problem()
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.Tanh(), nn.Linear(5, 3))
    objective = Objective(net, CE, (x, y), batch_size=8)
    path = choose_path(objective, near(objective))
    assert (path.facts["path"], path.facts["path_note"]) == ("chunked", "")
    assert path.facts["chunk"] == objective.facts["batch_size"]
    assert_exact(path, objective)


def test_float64_is_folded_by_public_operations_and_says_so():
    objective = objective_of(dtype=torch.float64)
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "folded"
    assert "oneDNN" in path.facts["path_note"]
    assert_exact(path, objective, rel=1e-13)


def test_without_the_private_operations_the_public_ones_fold(monkeypatch):
    monkeypatch.setattr(landscape.engines, "has_fused_convolutions", lambda: False)
    objective = objective_of()
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "folded"
    assert_exact(path, objective)


class Branching(nn.Module):
    """Goes where its data say, so it can't be traced."""

    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net(x) if x.isfinite().all() else self.net(x * 0)


def test_a_model_with_control_flow_is_not_folded_and_says_why():
    x, y = problem()
    objective = Objective(run_in(Branching(), x), CE, (x, y), batch_size=8)
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "chunked"
    assert "traced" in path.facts["path_note"]
    assert_exact(path, objective)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net(x), x


def test_a_model_with_two_outputs_takes_the_plain_path_and_says_why():
    x, y = problem()
    objective = Objective(run_in(Pair(), x), lambda out, t: CE(out[0], t), (x, y))
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "plain"
    assert "output" in path.facts["path_note"]
    assert_exact(path, objective)


def test_samples_of_several_shapes_take_the_plain_path():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1))
    net.append(nn.Flatten())
    x, y = problem()
    objective = Objective(net, CE, [(x[:8], y[:8]), (x[8:, :, :5], y[8:])])
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "plain"
    assert "shape" in path.facts["path_note"]


def test_a_wrong_fast_operation_is_found_out_and_the_next_path_is_taken(monkeypatch):
    right = landscape.fused.FoldedConvolution._private
    monkeypatch.setattr(
        landscape.fused.FoldedConvolution,
        "_private",
        lambda self, x, other: right(self, x, other) * 1.001,
    )
    objective = objective_of()
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "folded"
    assert "folded+fused differs from the plain path in the loss" in path.facts["path_note"]
    assert_exact(path, objective)


def test_wrong_folding_is_found_out_and_nothing_is_folded(monkeypatch):
    right = landscape.fused.scale_and_shift

    def wrong(norm):
        scale, shift = right(norm)
        return scale, shift + 1e-3

    monkeypatch.setattr(landscape.fused, "scale_and_shift", wrong)
    objective = objective_of()
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "chunked"
    assert_exact(path, objective)


def test_a_path_that_is_right_at_one_point_only_is_found_out(monkeypatch):
    """Weights folded once are right where they were folded."""
    done = []

    def refresh(self):
        if self not in done:
            done.append(self)
            folded(self)

    folded = landscape.fused.FoldedConvolution.refresh
    monkeypatch.setattr(landscape.fused.FoldedConvolution, "refresh", refresh)
    objective = objective_of()
    for thetas in (near(objective), near(objective, 1)):
        assert choose_path(objective, thetas).facts["path"] == "chunked"


def wrong_scores(change):
    def score(objective, outputs):
        found = landscape_score(objective, outputs)
        return Evaluation(**{**vars(found), **change(found)})

    landscape_score = landscape.engines.score_of
    return score


@pytest.mark.parametrize(
    "change",
    [
        lambda found: {"accuracy": found.accuracy - 0.2},
        lambda found: {"metrics": {"margin": found.metrics["margin"] + 0.2}},
        lambda found: {"loss": math.nan},
        lambda found: {"loss": found.loss * (1 + 3e-5)},
    ],
    ids=["accuracy", "metric", "nan", "loss"],
)
def test_any_wrong_number_sends_to_the_plain_path(monkeypatch, change):
    objective = objective_of(metrics={"margin": lambda output, y: output.max(1).values.mean()})
    monkeypatch.setattr(landscape.engines, "score_of", wrong_scores(change))
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "plain"
    assert "differs" in path.facts["path_note"]
    assert_exact(path, objective)


def test_a_fast_path_that_raises_is_left_and_says_so(monkeypatch):
    def fail(self, x, other):
        raise RuntimeError("no such primitive")

    monkeypatch.setattr(landscape.fused.FoldedConvolution, "_private", fail)
    monkeypatch.setattr(landscape.fused.FoldedConvolution, "_public", fail)
    objective = objective_of()
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "chunked"
    assert path.facts["path_note"] == "no such primitive"


def test_a_point_where_the_fast_path_raises_is_measured_on_the_plain_one(monkeypatch):
    objective = objective_of()
    path = choose_path(objective, near(objective))

    def fail(self, x, other):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(landscape.fused.FoldedConvolution, "_private", fail)
    theta = near(objective)[0]
    assert path.evaluate(theta) == objective.evaluate(theta)
    path.evaluate(theta)
    assert path.facts["path_note"] == "some points on the plain path: out of luck"


def test_a_theta_of_another_model_is_an_error_as_on_the_plain_path():
    objective = objective_of()
    path = choose_path(objective, near(objective))
    with pytest.raises(ValueError, match="layout of theta"):
        path.evaluate(torch.zeros(3))


def test_nan_stays_nan_and_is_no_reason_to_leave_the_fast_path():
    objective = objective_of()
    broken = objective.theta.clone()
    broken[0] = math.nan
    path = choose_path(objective, [broken, objective.theta])
    assert path.facts["path"] == "folded+fused"
    assert math.isnan(path.evaluate(broken).loss)
    assert not math.isnan(path.evaluate(objective.theta).loss)


def test_overflow_comes_out_as_on_the_plain_path():
    objective = objective_of()
    far = near(objective, 3, scale=1e15)
    path = choose_path(objective, [objective.theta, far[0]])
    assert path.facts["path"] == "folded+fused"
    for theta in (*far, objective.theta * 1e12, objective.theta * math.inf):
        found, truth = path.evaluate(theta), objective.evaluate(theta)
        assert not math.isfinite(truth.loss)
        assert repr(found) == repr(truth)


def test_infinity_and_nan_that_overflow_confuses_are_the_plain_paths(monkeypatch):
    """Another order of additions may give the one for the other; that is no disagreement."""
    objective = objective_of()
    far = objective.theta * math.inf
    assert math.isnan(objective.evaluate(far).loss)

    def infinite(found):
        return {"loss": math.inf if math.isnan(found.loss) else found.loss}

    monkeypatch.setattr(landscape.engines, "score_of", wrong_scores(infinite))
    path = choose_path(objective, [far, objective.theta])
    assert path.facts["path"] == "folded+fused"
    assert path._engine.evaluate(far).loss == math.inf
    assert math.isnan(path.evaluate(far).loss)


def test_losses_and_metrics_of_regression_agree():
    x, _ = problem()
    target = torch.randn(20, 3, generator=torch.Generator().manual_seed(3))
    worst = {"worst": lambda output, y: (output - y).abs().amax(1).mean()}
    objective = Objective(run_in(small_net(), x), MSE, (x, target), batch_size=8, metrics=worst)
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == "folded+fused"
    assert math.isnan(path.evaluate(objective.theta).accuracy)
    assert_exact(path, objective)


def test_batches_of_a_loader_are_weighted_by_size():
    x, y = problem()
    net = run_in(small_net(), x)
    objective = Objective(net, CE, [(x[:3], y[:3]), (x[3:], y[3:])])
    path = choose_path(objective, near(objective), chunk=5)
    assert path.facts["chunk"] == 5
    assert_exact(path, objective)


@pytest.mark.parametrize("precision", ["full", "bfloat16", "mixed"])
def test_a_settled_path_gives_the_same_bits_without_a_probe(monkeypatch, precision):
    objective = objective_of()
    path = choose_path(objective, near(objective), precision=precision, chunk=5)
    settled = json.loads(json.dumps(path.settled))
    monkeypatch.setattr(landscape.probes, "_seconds", None)
    again = choose_path(objective, [], settled=settled)
    assert again.facts == path.facts
    assert again._exact.chunk == 5
    for theta in near(objective, 4, seed=9):
        assert again.evaluate(theta) == path.evaluate(theta)
        assert again.evaluate_exact(theta) == path.evaluate_exact(theta)


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [(1.1, 1.0, 0.1), (-3.0, -2.0, 0.5), (1e-9, 0.0, 1e-9), (0.0, 0.0, 0.0), (1.0, math.nan, 0.0)],
)
def test_deviations_are_relative_and_finite(found, truth, expected):
    assert landscape.probes.deviation(found, truth) == pytest.approx(expected)


def clock(monkeypatch, *seconds):
    """Let runs take these seconds in turn, over and over."""
    turns = itertools.cycle(seconds)
    monkeypatch.setattr(landscape.probes, "_seconds", lambda run: next(turns))


@pytest.mark.parametrize(
    ("seconds", "chunk"),
    [
        ([1.12, 1.0], 20),
        ([1.18, 1.0], 16),
        ([9.0, 1.0, 1.12, 1.0, 9.0, 1.0], 20),
        ([1.18, 1.0, 1.18, 1.0, 9.0, 9.0], 20),
    ],
    ids=["hardly", "clearly", "not in the second round", "not in the third round"],
)
def test_another_chunk_is_taken_if_it_is_clearly_faster_each_time(monkeypatch, seconds, chunk):
    objective = objective_of(batch_size=20)
    clock(monkeypatch, *seconds)
    assert choose_path(objective, near(objective)).facts["chunk"] == chunk


def test_of_several_clearly_faster_chunks_the_fastest_is_taken(monkeypatch):
    x, y = problem(140)
    objective = Objective(run_in(small_net(), x), CE, (x, y), batch_size=140)
    clock(monkeypatch, 3.0, 2.0, 1.0, 2.5)  # 32, then 16, 64 and 128
    assert choose_path(objective, near(objective)).facts["chunk"] == 64


@pytest.mark.parametrize(("ours", "taken"), [(1.12, "folded+fused"), (1.18, "plain")])
def test_the_plain_path_is_taken_where_it_is_clearly_faster(monkeypatch, ours, taken):
    monkeypatch.undo()
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 0.0)
    monkeypatch.setattr(landscape.fast, "_SURELY", math.inf)
    monkeypatch.setattr(landscape.fast, "find_chunk", lambda engine: 8)
    clock(monkeypatch, ours, 1.0)
    objective = objective_of()
    path = choose_path(objective, near(objective))
    assert path.facts["path"] == taken
    assert ("plain path is faster" in path.facts["path_note"]) == (taken == "plain")
    found = path.evaluate(objective.theta)
    assert found == objective.evaluate(objective.theta) or taken != "plain"
    assert choose_path(objective, [], settled=path.settled).facts == path.facts


def test_it_is_the_faster_that_is_faster(monkeypatch):
    monkeypatch.undo()
    last = []

    def seconds(run):
        run()
        return last[-1]

    monkeypatch.setattr(landscape.probes, "_seconds", seconds)
    quick, slow = (lambda theta, buffers, s=s: last.append(s) for s in (1.0, 2.0))
    points = [(torch.zeros(1), None)]
    assert landscape.probes.is_faster(quick, slow, points)
    assert not landscape.probes.is_faster(slow, quick, points)


def test_full_precision_is_taken_where_it_is_faster_than_mixed(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 0.0)
    monkeypatch.setattr(landscape.fast, "_SURELY", 0.0)
    clock(monkeypatch, 1.18, 1.0)
    objective = objective_of()
    path = choose_path(objective, near(objective), precision="mixed")
    assert (path.facts["path"], path.facts["precision"]) == ("folded+fused", "full")
    assert "mixed" in path.facts["path_note"]


@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_with_a_chunk_given_no_clock_has_a_say(monkeypatch, precision):
    monkeypatch.undo()
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 0.0)
    monkeypatch.setattr(landscape.probes, "_seconds", lambda run: pytest.fail("raced"))
    objective = objective_of()
    path = choose_path(objective, near(objective), precision=precision, chunk=8)
    assert path.facts["path"] == "folded+fused"
    assert path.facts["precision"] == precision


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "half"}, "precision"),
        ({"chunk": 0}, "chunk"),
        ({"chunk": True}, "chunk"),
        ({"chunk": 2.5}, "chunk"),
    ],
)
def test_settings_out_of_range_are_refused(options, match):
    objective = objective_of()
    with pytest.raises(ValueError, match=match):
        choose_path(objective, near(objective), **options)


# Reduced precision


def trained(steps=200):
    """A small net at a minimum where a few samples carry the loss, and a plane about it."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(3, 2, 6, 6, generator=generator)
    y = torch.arange(256) % 3
    x = centers[y] + torch.randn(256, 2, 6, 6, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = small_net().train()
        optimizer = torch.optim.Adam(net.parameters(), 0.03)
        for _ in range(steps):
            optimizer.zero_grad()
            CE(net(x), y).backward()
            optimizer.step()
    objective = Objective(net, CE, (x, y))
    rows = torch.randn(2, objective.theta.numel(), generator=generator)
    directions = rows * objective.theta.norm() / rows.norm(dim=1, keepdim=True)
    return objective, directions


@pytest.fixture(scope="module")
def minimum():
    return trained()


def grid(minimum, points=9):
    objective, (one, two) = minimum
    axis = torch.linspace(-0.6, 0.6, points).tolist()
    return [objective.theta + a * one + b * two for a in axis for b in axis]


def test_bfloat16_is_near_the_full_loss_and_its_error_is_measured(minimum):
    objective, _ = minimum
    thetas = grid(minimum, 5)
    path = choose_path(objective, thetas[:2], precision="bfloat16")
    assert path.facts["precision"] == "bfloat16"
    found = precision_error(path, thetas)
    truths = [objective.evaluate(theta).loss for theta in thetas]
    losses = [path.evaluate(theta).loss for theta in thetas]
    errors = [abs(a / b - 1) for a, b in zip(losses, truths, strict=True)]
    assert found["points"] == 25
    assert found["max"] == pytest.approx(max(errors), rel=1e-2)
    rms = math.sqrt(sum(e * e for e in errors) / 25)
    assert found["rms"] == pytest.approx(rms, rel=1e-2)
    assert 1e-5 < found["max"] < 0.1


def test_mixed_precision_is_within_one_percent_everywhere(minimum):
    objective, _ = minimum
    thetas = grid(minimum)
    path = choose_path(objective, thetas[:2], precision="mixed")
    assert path.facts["precision"] == "mixed"
    low = choose_path(objective, thetas[:2], precision="bfloat16")
    truths = [objective.evaluate(theta).loss for theta in thetas]
    assert min(truths) < 1e-4 < 1 < max(truths)
    for theta, truth in zip(thetas, truths, strict=True):
        assert path.evaluate(theta).loss == pytest.approx(truth, rel=0.01)
    assert precision_error(low, thetas)["max"] > 0.015


def test_the_full_precision_of_a_reduced_path_is_at_hand(minimum):
    objective, _ = minimum
    theta = grid(minimum, 3)[1]
    for precision in ("bfloat16", "mixed"):
        path = choose_path(objective, [theta, objective.theta], precision=precision)
        truth = objective.evaluate(theta).loss
        assert path.evaluate_exact(theta).loss == pytest.approx(truth, rel=1e-6)


def test_what_a_point_gives_does_not_depend_on_those_before(minimum):
    objective, _ = minimum
    thetas = grid(minimum, 4)
    for precision in ("full", "bfloat16", "mixed"):
        path = choose_path(objective, thetas[:2], precision=precision)
        forward = [path.evaluate(theta) for theta in thetas]
        backward = [path.evaluate(theta) for theta in reversed(thetas)]
        assert forward == backward[::-1]


def test_nan_stays_nan_in_reduced_precision(minimum):
    objective, _ = minimum
    broken = objective.theta.clone()
    broken[0] = math.nan
    for precision in ("bfloat16", "mixed"):
        path = choose_path(objective, [objective.theta], precision=precision)
        assert math.isnan(path.evaluate(broken).loss)
        assert precision_error(path, [broken]) == {"points": 0, "rms": 0.0, "max": 0.0}


def test_reduced_precision_that_is_far_off_is_refused_and_says_so(monkeypatch):
    right = landscape.fused.FoldedConvolution.forward

    def forward(self, x, other=None):
        y = right(self, x, other)
        return y * 2 if y.dtype == torch.bfloat16 else y

    monkeypatch.setattr(landscape.fused.FoldedConvolution, "forward", forward)
    objective = objective_of()
    path = choose_path(objective, near(objective, scale=0.3), precision="bfloat16")
    assert path.facts["precision"] == "full"
    assert "bfloat16 differs" in path.facts["path_note"]
    assert_exact(path, objective)


def test_batch_statistics_are_never_in_reduced_precision():
    objective = objective_of(bn="batch")
    path = choose_path(objective, near(objective), precision="bfloat16")
    assert (path.facts["path"], path.facts["precision"]) == ("plain", "full")


class Shifted:
    """An engine of a linear model whose outputs are off by the same for all samples."""

    def __init__(self, objective, shift):
        self.objective, self.shift, self.samples = objective, shift, 0

    def place(self, theta, buffers=None):
        self.theta = theta

    def outputs(self, inputs):
        self.samples += len(inputs)
        return inputs @ self.theta.view(3, 4).T + self.shift

    def evaluate(self, theta, buffers=None):
        self.place(theta)
        return landscape.engines.score_of(
            self.objective, [self.outputs(x) for x, _ in self.objective.batches]
        )


def shifted(amount, samples=512):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 4, generator=generator)
    y = torch.randint(0, 3, (samples,), generator=generator)
    objective = Objective(nn.Linear(4, 3, bias=False), CE, (x, y), batch_size=200)
    low = Shifted(objective, torch.tensor([amount, 0.0, -amount / 2]))
    return MixedEngine(low, Shifted(objective, 0.0)), objective, low


def test_mixed_precision_takes_out_what_all_samples_are_off_by():
    """At slopes that all have one sign a shift moves the loss by much more than is allowed."""
    engine, objective, low = shifted(0.04)
    objective.batches[:] = [(x, y * 0) for x, y in objective.batches]
    theta = torch.randn(12, generator=torch.Generator().manual_seed(1))
    truth = objective.evaluate(theta).loss
    assert abs(low.evaluate(theta).loss / truth - 1) > 0.015
    assert engine.evaluate(theta).loss == pytest.approx(truth, rel=0.002)


def test_mixed_precision_repeats_few_samples_where_errors_are_small_and_all_where_not():
    theta = torch.randn(12, generator=torch.Generator().manual_seed(1))
    for amount, most in ((1e-3, 64), (30.0, 512 + 64 + 128)):
        engine, objective, _ = shifted(amount)
        found = engine.evaluate(theta)
        assert engine._full.samples == most
        truth = objective.evaluate(theta)
        assert found.loss == pytest.approx(truth.loss, rel=1e-3)
    assert found == truth


def test_mixed_precision_of_few_samples_is_full_precision():
    engine, objective, _ = shifted(1e-3, samples=30)
    theta = torch.ones(12)
    assert engine.evaluate(theta).loss == pytest.approx(objective.evaluate(theta).loss, rel=1e-6)
    assert engine._full.samples == 30


@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_a_short_pass_takes_the_plain_path_without_a_clock(monkeypatch, precision):
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 1e9)
    monkeypatch.setattr(landscape.probes, "_seconds", lambda run: pytest.fail("raced"))
    path = choose_path(objective_of(), [], precision=precision)
    assert path.facts["path"] == "plain"
    assert path.facts["precision"] == "full"
    assert "too short to gain" in path.facts["path_note"]


def test_a_short_pass_in_bfloat16_is_that_without_a_clock(monkeypatch):
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 1e9)
    monkeypatch.setattr(landscape.probes, "_seconds", lambda run: pytest.fail("raced"))
    path = choose_path(objective_of(), [], precision="bfloat16")
    assert path.facts["precision"] == "bfloat16"


def test_operations_are_counted_for_all_samples(monkeypatch):
    objective = Objective(nn.Linear(10, 3), CE, (torch.randn(50, 10), torch.arange(50) % 3))
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 50 * 2 * 10 * 3)
    assert not landscape.probes.is_short(objective)
    monkeypatch.setattr(landscape.probes, "_SHORTEST", 50 * 2 * 10 * 3 + 1)
    assert landscape.probes.is_short(objective)
