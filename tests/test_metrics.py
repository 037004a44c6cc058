import math

import pytest
import torch
from torch import nn

from landscape.engines import Engine
from landscape.objectives import Objective

CE = nn.CrossEntropyLoss()


def data(count=10):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, generator=generator), torch.arange(count) % 4


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 4)


def top2(output, targets):
    return (output.topk(2, dim=1).indices == targets[:, None]).any(dim=1).float().mean()


def test_a_metric_of_ragged_batches_is_that_of_one_batch():
    metrics = {"top2": top2}
    whole = Objective(net(), CE, data(), batch_size=10, metrics=metrics).evaluate()
    ragged = Objective(net(), CE, data(), batch_size=4, metrics=metrics).evaluate()
    assert whole.metrics["top2"] == float(top2(net()(data()[0]), data()[1]))
    assert ragged.metrics["top2"] == pytest.approx(whole.metrics["top2"], rel=1e-7)


def test_a_metric_may_be_a_number_and_nan_stays_nan():
    metrics = {"one": lambda output, targets: 1, "none": lambda output, targets: math.nan}
    found = Objective(net(), CE, data(), metrics=metrics).evaluate().metrics
    assert found["one"] == 1
    assert math.isnan(found["none"])


def test_a_metric_that_is_not_one_number_is_refused():
    objective = Objective(net(), CE, data(), metrics={"all": lambda output, targets: output})
    with pytest.raises(ValueError, match=r"metric 'all' must be one number.*got \(10, 4\)"):
        objective.evaluate()


def test_a_metric_that_fails_is_named():
    def broken(output, targets):
        raise IndexError("no such class")

    objective = Objective(net(), CE, data(), metrics={"mine": broken})
    with pytest.raises(ValueError, match=r"metric 'mine' must accept .* no such class"):
        objective.evaluate()


def test_about_another_theta_everything_is_measured_there():
    objective = Objective(net(), CE, data())
    there = objective.theta * 2
    moved = objective.at(there)
    assert moved() == objective(there) != objective()
    assert torch.equal(moved.gradient(), objective.gradient(there))
    assert torch.equal(moved.theta, there)


def test_buffers_given_with_a_theta_are_used_by_loss_and_hessian():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    objective = Objective(model, CE, data(), bn="interpolated", dtype=torch.float64)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    buffers["1.running_var"] += 3
    moved = objective.at(objective.theta, buffers)
    assert moved() == objective.evaluate(buffers=buffers).loss != objective()
    v = torch.ones_like(objective.theta)
    assert not torch.equal(moved.hessian_vector(v), objective.hessian_vector(v))
    model[1].running_var += 3
    other = Objective(model, CE, data(), dtype=torch.float64)
    assert torch.allclose(moved.hessian_vector(v), other.hessian_vector(v), rtol=1e-12)


def test_convolutions_are_never_rounded_below_the_type_of_the_tensors():
    seen = []

    class Watching(nn.Linear):
        def forward(self, x):
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(x)

    before = torch.backends.cudnn.allow_tf32
    objective = Objective(Watching(3, 4), CE, data())
    seen.clear()
    objective()
    objective.gradient()
    objective.hessian_vector(objective.theta)
    engine = Engine(objective, "chunked", 4)
    engine.evaluate(objective.theta)
    assert len(seen) == 6
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32 == before
