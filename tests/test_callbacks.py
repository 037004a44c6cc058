"""The callbacks for Lightning and Transformers record what the same training by hand records."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from callback_trials import BATCH, PARTS, UPDATES, network, rows, sgd, sharp
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from landscape import SAM, Problem, Run, perturbations
from landscape.imports import import_checkpoints

TESTS = Path(__file__).parent


def trained_by(library, folder):
    """Train every case in a process of its own."""
    done = subprocess.run(
        [sys.executable, TESTS / "callback_trials.py", library, folder],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def lightning_runs(tmp_path_factory):
    return trained_by("lightning", tmp_path_factory.mktemp("lightning"))


@pytest.fixture(scope="module")
def transformers_runs(tmp_path_factory):
    return trained_by("transformers", tmp_path_factory.mktemp("transformers"))


def by_hand(optimizer_of, parts):
    """Losses, learning rates and weights after each update, of a loop with nothing around it."""
    model = network()
    optimizer = optimizer_of(model)
    scheduler = ExponentialLR(optimizer, 0.5)
    inputs, targets = rows(parts)
    losses, rates, thetas = [], [], [nn.utils.parameters_to_vector(model.parameters())]
    for batch in torch.arange(len(inputs)).split(BATCH * parts):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
        loss.backward()
        losses.append(loss.item())
        rates.append(optimizer.param_groups[0]["lr"])
        if isinstance(optimizer, SAM):
            optimizer.first_step(zero_grad=True)
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.second_step()
        else:
            optimizer.step()
        scheduler.step()
        thetas.append(nn.utils.parameters_to_vector(model.parameters()))
    return losses, rates, [theta.detach().numpy() for theta in thetas]


def recorded(path, optimizer_of):
    run = Run(path)
    losses, rates, thetas = by_hand(optimizer_of, PARTS.get(run.name, 1))
    assert run.status == "finished"
    assert run.steps["step"].tolist() == list(range(UPDATES))
    assert run.steps["loss"] == pytest.approx(losses, rel=1e-5)
    assert run.steps["lr"] == pytest.approx(rates)
    assert run.checkpoints == (0, 4, UPDATES)
    for step in run.checkpoints:
        assert run.checkpoint(step).theta == pytest.approx(thetas[step], rel=1e-4, abs=1e-6)
    return run


@pytest.mark.parametrize("case", ["plain", "accumulated"])
def test_lightning_records_loss_rate_and_weights_of_each_update(lightning_runs, case):
    run = recorded(lightning_runs / case, sgd)
    assert run.method == "SGD"
    assert [entry.name for entry in run.layout] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def imported_theta(path, out):
    problem = Problem(network(), nn.CrossEntropyLoss(), rows(1))
    run = import_checkpoints([path], out, problem, steps=[UPDATES])
    return run.checkpoint().theta


def test_what_lightning_saves_is_imported_with_the_weights_of_the_run(lightning_runs, tmp_path):
    theta = imported_theta(lightning_runs / "plain.ckpt", tmp_path / "run")
    assert np.array_equal(theta, Run(lightning_runs / "plain").checkpoint().theta)


def test_what_transformers_saves_is_imported_with_the_weights_of_the_run(
    transformers_runs, tmp_path
):
    (file,) = (transformers_runs / "saved-plain").glob("*.safetensors")
    theta = imported_theta(file, tmp_path / "run")
    assert np.array_equal(theta, Run(transformers_runs / "plain").checkpoint().theta)


def test_lightning_records_the_displacement_of_sam_in_manual_optimization(lightning_runs):
    run = recorded(lightning_runs / "manual", sharp)
    assert run.method == "SAM"
    assert run.steps["displacement_norm"] == pytest.approx(perturbations.sam().rho, rel=1e-5)
    assert run.displacement_steps.tolist() == list(range(UPDATES))


def test_an_exception_in_lightning_ends_the_run_as_failed(lightning_runs):
    run = Run(lightning_runs / "broken")
    assert run.status == "failed"
    assert "out of luck" in run.reason
    assert len(run.steps["step"]) == 3


@pytest.mark.parametrize("case", ["plain", "accumulated", "counted"])
def test_transformers_records_loss_rate_and_weights_of_each_update(transformers_runs, case):
    run = recorded(transformers_runs / case, sgd)
    assert (run.method, run.total_steps) == ("SGD", UPDATES)
