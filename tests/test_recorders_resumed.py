"""Runs recorded in several segments, with real kills between, against undisturbed ones."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from kill_trials import finish, kill, wait_until
from torch import nn

from landscape.recorders import Recorder
from landscape.runs import Run, RunFileError

STEPS, EVERY = 900, 60

# Every batch belongs to its step, so that nothing but weights, optimizer and recorder is resumed.
TRAINER = """
import os
import shutil
import sys
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional
from landscape import SAM, perturbations
from landscape.optimizers import frozen_batchnorm
from landscape.recorders import Recorder

folder, steps, every, record, dtype = Path(sys.argv[1]), *map(int, sys.argv[2:4]), *sys.argv[4:]
torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 5))
optimizer = SAM(
    net.parameters(), torch.optim.SGD, perturbation=perturbations.sam(0.1), lr=0.01, momentum=0.9
)
saved, path = folder / "state.pt", folder / "run"
if saved.exists():
    state = torch.load(saved, weights_only=True)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    recorder = Recorder.resume(path, net, optimizer, state["recorder"])
else:
    shutil.rmtree(path, ignore_errors=True)
    recorder = Recorder(
        path, net, optimizer, checkpoint_every=every, total_steps=steps, record=record,
        record_dtype=dtype, sketch=256,
    )
with recorder:
    while recorder.steps < steps:
        generator = torch.Generator().manual_seed(recorder.steps)
        x = torch.randn(16, 20, generator=generator)
        y = torch.randint(5, (16,), generator=generator)
        loss = functional.cross_entropy(net(x), y)
        loss.backward()
        gradient = [p.grad.clone() for p in net.parameters()]
        optimizer.first_step(zero_grad=True)
        with frozen_batchnorm(net):
            perturbed = functional.cross_entropy(net(x), y)
        perturbed.backward()
        optimizer.second_step()
        recorder.step(
            loss,
            displacement=optimizer.displacement,
            gradient=gradient,
            perturbed_loss=perturbed,
            perturbed_gradient=[p.grad for p in net.parameters()],
            sample_weights=torch.rand(16, generator=generator),
            epoch=recorder.steps / 10,
        )
        optimizer.zero_grad()
        if recorder.steps % every == 0:
            recorder.add_evaluation(float(loss), 0.5)
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "recorder": recorder.state(),
            }
            torch.save(state, folder / "state.tmp")
            os.replace(folder / "state.tmp", saved)
"""


def start(folder, record="full", dtype="float32"):
    folder.mkdir(exist_ok=True)
    words = [folder, STEPS, EVERY, record, dtype]
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_of(path):
    with contextlib.suppress(RunFileError):
        return len(Run(path).steps["step"])
    return 0


def same(one, other):
    """All that readers get of two runs is the same, bit by bit."""
    for table in ("steps", "evaluations", "windows"):
        ours, theirs = getattr(one, table), getattr(other, table)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{table}/{name}")
    for read in ("displacements", "sketches", "tensor_norms"):
        for ours, theirs in zip(getattr(one, read)(), getattr(other, read)(), strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=read)
    assert one.checkpoints == other.checkpoints
    for step in one.checkpoints:
        ours, theirs = one.checkpoint(step), other.checkpoint(step)
        np.testing.assert_array_equal(ours.theta, theirs.theta)
        for name, value in ours.buffers.items():
            np.testing.assert_array_equal(value, theirs.buffers[name])


@pytest.mark.parametrize(("record", "dtype"), [("full", "float32"), ("every:7", "bfloat16")])
def test_a_run_killed_three_times_reads_as_one_that_was_not(record, dtype, tmp_path):
    whole = start(tmp_path / "whole", record, dtype)
    finish(whole)
    path, killed = tmp_path / "torn" / "run", 0
    drawn = np.random.default_rng(0).integers(EVERY, STEPS - EVERY, 3)
    for target in sorted(drawn):
        process = start(tmp_path / "torn", record, dtype)
        wait_until(lambda: process.poll() is not None or rows_of(path) > target)  # noqa: B023
        kill(process)
        assert process.returncode < 0, process.stderr
        assert Run(path).status == "died"
        killed += 1
    finish(start(tmp_path / "torn", record, dtype))
    one, other = Run(tmp_path / "whole" / "run"), Run(path)
    assert len(list(path.glob("segment-*"))) == 1 + killed
    assert one.status == other.status == "finished"
    assert one.steps["step"].tolist() == list(range(STEPS))
    assert one.windows["stop"].tolist() == list(range(EVERY, STEPS + 1, EVERY))
    same(one, other)


def plain(path, count, state=None, first=0, stop_at=None):
    """Record vectors drawn per step with a net that doesn't move."""
    torch.manual_seed(0)
    net = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    if state is None:
        recorder = Recorder(path, net, optimizer, checkpoint_every=20, sketch=8)
    else:
        recorder = Recorder.resume(path, net, optimizer, state)
    for step in range(first, count):
        if step == stop_at:
            taken = recorder.state()
        vector = torch.randn(18, generator=torch.Generator().manual_seed(step))
        recorder.step(float(step), displacement=vector)
    if stop_at is None:
        recorder.finish()
        return Run(path)
    recorder.fail("stopped")
    return taken


def test_a_state_between_checkpoints_is_enough_too(tmp_path):
    whole = plain(tmp_path / "a", 130)
    state = plain(tmp_path / "b", 119, stop_at=113)
    torch.save(state, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    same(whole, plain(tmp_path / "b", 130, state, first=113))
    assert len(list((tmp_path / "b" / "segment-001").rglob("checkpoint-*"))) == 2  # 120 and 130


def test_without_the_earlier_vectors_the_run_would_differ(tmp_path):
    """What the state holds is needed: a test of the tests above."""
    whole = plain(tmp_path / "a", 130)
    state = plain(tmp_path / "b", 119, stop_at=113)
    state["measures"]["kept"].pop("10")
    with pytest.raises(AssertionError, match="cosine_lag_10"):
        same(whole, plain(tmp_path / "b", 130, state, first=113))


def test_another_model_or_an_ended_run_is_refused(tmp_path):
    state = plain(tmp_path / "a", 10, stop_at=5)
    net = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the model must have the layout of"):
        Recorder.resume(tmp_path / "a", net, optimizer, state)
    plain(tmp_path / "a", 10, state, first=5)
    with pytest.raises(ValueError, match="has finished and is frozen"):
        plain(tmp_path / "a", 10, state, first=5)
