"""Training by two real torchrun ranks: what one process does with the same batches."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kill_trials import children, kill
from test_training_resumed import assert_same, await_rows
from training_ranks_trial import SETTINGS, make_runs

from landscape.runs import Run
from training.config import TrainConfig
from training.loop import train

TRIAL = Path(__file__).with_name("training_ranks_trial.py")
STEPS, EVERY = 600, 60
WORDS = ["--preset", "digits-aace", "--steps", STEPS, "--checkpoint-every", EVERY]
WORDS += ["--evaluation-samples", 60, "--train-samples", 640]


def torchrun(*words, restarts=0):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, "-m", *launcher, "--max-restarts", str(restarts), *map(str, words)]
    root = str(TRIAL.parent.parent)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def finish(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, f"{out}\n{error[-4000:]}"
    return out + error


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of the runs of one process, and that of two ranks."""
    alone, two = (tmp_path_factory.mktemp(name) for name in ("alone", "two"))
    process = torchrun(TRIAL, two)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each rank; sums of float32 differ with it
    make_runs(alone)
    torch.set_num_threads(threads)
    finish(process)
    return alone / "0", two


@pytest.mark.parametrize("name", SETTINGS)
def test_two_ranks_train_what_one_process_does(both, name):
    one, two = Run(both[0] / name), Run(both[1] / "0" / name)
    assert two.checkpoints == one.checkpoints == (0, 5, 10, 15, 20)
    assert [run.provenance["ranks"] for run in (one, two)] == [1, 2]
    for step in one.checkpoints:
        theirs, ours = one.checkpoint(step), two.checkpoint(step)
        distance = np.linalg.norm(ours.theta - theirs.theta) / np.linalg.norm(theirs.theta)
        assert distance <= 1e-5
        if name != "apart":  # one process shows BatchNorm two halves one after the other
            for key, buffer in theirs.buffers.items():
                np.testing.assert_allclose(ours.buffers[key], buffer, rtol=1e-4, atol=1e-5)
    for column, values in one.steps.items():
        if column != "time":
            np.testing.assert_allclose(
                two.steps[column], values, rtol=1e-3, atol=1e-5, err_msg=column
            )
    if name != "apart":
        for column, values in one.evaluations.items():
            np.testing.assert_allclose(two.evaluations[column], values, rtol=1e-4, atol=1e-5)


def test_the_first_rank_alone_writes(both):
    assert not (both[1] / "1").exists()
    assert len(list((both[1] / "0").iterdir())) == len(SETTINGS)


def test_without_synchronization_batchnorm_sees_each_ranks_own_samples(both):
    """What m = 32 of 64 does alone: the two nets with BatchNorm above are not equal by accident."""
    apart, joined = (Run(both[1] / "0" / name).checkpoint(5) for name in ("apart", "batchnorm"))
    assert not np.allclose(apart.theta, joined.theta, atol=1e-3)


def test_data_that_differ_between_ranks_are_refused_in_all(both):
    for rank in (0, 1):
        assert "all ranks must have the same data" in (both[1] / f"refused-{rank}").read_text()
    assert not (both[1] / "differing").exists()


def test_ranks_know_of_a_restart_that_another_node_counts(both):
    for rank in (0, 1):
        assert "the run has finished" in (both[1] / f"again-{rank}").read_text()


def test_settings_that_ranks_cannot_share_are_refused():
    config = TrainConfig(batch_size=12, method="sam", m=3)
    config.check_ranks(1)
    config.check_ranks(2)
    with pytest.raises(ValueError, match="m must divide the 4 samples that each of 3 ranks has"):
        config.check_ranks(3)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 5 ranks"):
        config.check_ranks(5)
    with pytest.raises(ValueError, match="2 samples or more for each, got 12"):
        replace(config, m=0).check_ranks(12)
    with pytest.raises(ValueError, match="m and sync_batchnorm exclude each other"):
        replace(config, sync_batchnorm=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "whole"
    finish(torchrun("-m", "landscape", "train", *WORDS, "--out", out))
    return Run(out)


def rank_of(process, number):
    """The process id of a rank, from the processes that torchrun has started."""
    for child in children(process.pid):
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={number}".encode() in environment:
            return child
    raise AssertionError(f"no rank {number}")


def test_after_a_rank_was_killed_torchrun_starts_all_again_and_no_bit_differs(
    tmp_path, undisturbed
):
    out = tmp_path / "a"
    process = torchrun("-m", "landscape", "train", *WORDS, "--out", out, restarts=1)
    try:
        await_rows(process, out, 150)
        os.kill(rank_of(process, 1), signal.SIGKILL)
        finish(process)
    finally:
        kill(process)
    assert len(json.loads((out / "run.json").read_text())["resumed"]) == 1
    assert_same(Run(out), undisturbed)


def test_a_stopped_job_goes_on_to_the_bits_of_an_undisturbed_one(tmp_path, undisturbed):
    out = tmp_path / "a"
    process = torchrun("-m", "landscape", "train", *WORDS, "--out", out)
    try:
        await_rows(process, out, 150)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=300)
    finally:
        kill(process)
    assert f"--resume {out}`, under torchrun with 2 ranks, goes on" in error
    stopped = Run(out)
    assert stopped.status == "failed"
    assert stopped.reason.startswith("stopped by SIGTERM")
    refused = subprocess.run(
        [sys.executable, "-m", "landscape", "train", "--resume", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "as many ranks as it was trained by, 2, got 1; start 2 by torchrun" in refused.stderr
    told = finish(torchrun("-m", "landscape", "train", "--resume", out))
    assert told.count(f"{STEPS} steps, test accuracy") == 1
    assert_same(Run(out), undisturbed)


def stop_at_12(done, total):
    if done == 12:
        raise RuntimeError("a rank died")


def test_a_job_started_again_by_torchrun_goes_on_with_its_own_run_alone(tmp_path, monkeypatch):
    config = replace(SETTINGS["aace"], lr=0.05)
    train(config, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="a rank died"):
        train(config, tmp_path / "a", progress=stop_at_12)
    with pytest.raises(FileExistsError, match="--resume"):
        train(config, tmp_path / "a")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(FileExistsError, match="--resume"):
        train(replace(config, lr=0.1), tmp_path / "a")
    train(config, tmp_path / "a")
    assert_same(Run(tmp_path / "a"), Run(tmp_path / "whole"))
