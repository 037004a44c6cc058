"""What stops being finite is told with the step and the tensor where it began."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from landscape import Recorder, Run
from training.failures import FiniteWatch


def diverge(path, *, lr=0.1, updates=60, spoil=None, every=7, look=None, data=None):
    """Train by hand with a watch, as the loop does; `spoil(step, model)` after each update."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    inputs, targets = data or (torch.randn(8, 3), torch.randn(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Recorder(path, model, optimizer, checkpoint_every=every) as recorder:
        watch = FiniteWatch(model, path, lr_at=lambda step: lr, flush=recorder.flush, every=look)
        for step in range(updates):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if spoil is not None:
                spoil(step, model)
            watch.add(step, {"loss": loss.detach()})
            if (step + 1) % every == 0:
                watch.check(step, now=True)
            recorder.step(loss)
            watch.check(step)
    return Run(path)


def told(path, **options):
    with pytest.raises(ValueError, match="must stay finite") as error:
        diverge(path, **options)
    return str(error.value)


def test_a_training_that_stays_finite_is_left_alone(tmp_path):
    assert diverge(tmp_path / "a").status == "finished"


@pytest.mark.parametrize("look", [1, 20])
def test_a_real_divergence_is_told_with_the_checkpoint_before_it(tmp_path, look):
    run = tmp_path / "a"
    message = told(run, lr=30.0, every=1000, look=look, updates=400)
    step = int(re.search(r"did not at step (\d+) with lr 30", message)[1])
    losses = Run(run).steps["loss"]
    assert np.isfinite(losses[:step]).all()
    assert len(losses) <= step + look
    assert "the last good checkpoint is 0, " in message
    assert str(run / "segment-000/snapshots/checkpoint-00000000.h5") in message


def spoiled_gradient(name, at):
    def spoil(step, model):
        if step == at:
            model.get_parameter(name).grad[0] = float("inf")

    return spoil


def spoiled_parameter(name, at):
    def spoil(step, model):
        if step == at:
            with torch.no_grad():
                model.get_parameter(name)[0] = float("nan")

    return spoil


@pytest.mark.parametrize("look", [1, 20])
@pytest.mark.parametrize("name", ["0.weight", "0.bias", "2.bias"])
def test_the_tensor_with_which_it_began_is_named_with_its_step(tmp_path, look, name):
    message = told(tmp_path / "a", spoil=spoiled_parameter(name, 10), look=look, every=50)
    assert f"did not at step 10 with lr 0.1{', noticed at step 19' * (look == 20)}; " in message
    assert f"the first tensor was the parameter {name}" in message
    message = told(tmp_path / "b", spoil=spoiled_gradient(name, 10), look=look, every=50)
    assert f"the first tensor was the gradient of {name}; the last good checkpoint is 0" in message


def test_of_gradients_of_one_step_that_nearest_to_the_loss_is_named(tmp_path):
    data = torch.randn(8, 3), torch.full((8, 1), float("nan"))
    message = told(tmp_path / "a", data=data)
    assert "the loss must stay finite, but did not at step 0 " in message
    assert "the first tensor was the gradient of 2.bias; no checkpoint is good" in message


def test_a_loss_that_overflows_alone_leaves_its_tensors_finite(tmp_path):
    data = torch.zeros(8, 3), torch.full((8, 1), 1e25)
    message = told(tmp_path / "a", data=data)
    assert "the loss must stay finite" in message
    assert "parameters and gradients were still finite" in message


@pytest.mark.parametrize(("at", "last"), [(10, 7), (6, 0), (7, 7), (13, 7)])
def test_what_is_not_finite_is_kept_in_no_checkpoint(tmp_path, at, last):
    path = tmp_path / "a"
    message = told(path, spoil=spoiled_parameter("0.bias", at), look=20)
    run = Run(path)
    assert f"the last good checkpoint is {last}, " in message
    assert run.checkpoints[-1] == last
    for step in run.checkpoints:
        assert np.isfinite(run.checkpoint(step).theta).all()
