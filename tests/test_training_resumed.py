"""Runs that were killed or stopped, taken up again: the bits of one that nobody disturbed."""

import copy
import re
import shlex
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from kill_trials import kill
from torch import nn
from torch.nn import functional
from training_trials import assert_same, await_rows, finish, start

from landscape.locks import BusyError
from landscape.problems import Problem
from landscape.runs import Run, RunFileError
from landscape.writers import RunWriter
from training.loop import resume, train
from training.presets import PRESETS
from training.savepoints import forget_states

STEPS, EVERY = 900, 60
SETTINGS = ["--steps", STEPS, "--checkpoint-every", EVERY, "--evaluation-samples", 60]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "a"
    finish(start("--preset", "digits-aace", *SETTINGS, "--out", out))
    return Run(out)


def test_a_run_killed_three_times_has_the_bits_of_an_undisturbed_one(undisturbed, tmp_path):
    out, rng = tmp_path / "a", np.random.default_rng(5)
    killed = 0
    for rows in sorted(rng.integers(1, STEPS - 100, 3)):
        words = ["--resume", out] if out.exists() else ["--preset", "digits-aace", *SETTINGS]
        process = start(*words, *([] if out.exists() else ["--out", out]))
        await_rows(process, out, int(rows))
        killed += process.poll() is None
        kill(process)
    assert killed == 3
    assert Run(out).status == "died"
    out_words, _ = finish(start("--resume", out))
    assert f"{STEPS} steps, test accuracy" in out_words
    assert_same(Run(out), undisturbed)


def test_sigterm_ends_well_and_tells_the_command_that_goes_on(undisturbed, tmp_path):
    out = tmp_path / "a b"
    process = start("--preset", "digits-aace", *SETTINGS, "--out", out)
    await_rows(process, out, 100)
    process.send_signal(signal.SIGTERM)
    _, error = finish(process)
    stopped = Run(out)
    assert stopped.status == "failed"
    assert "stopped by SIGTERM after" in stopped.reason
    command = shlex.split(re.search("`(landscape train --resume .*)`", error)[1])
    finish(start(*command[2:]))
    assert_same(Run(out), undisturbed)


def own_problem():
    """A net with dropout, so that the global random state counts."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(70, 5, generator=generator)
    targets = torch.randint(3, (70,), generator=generator)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return Problem(model, functional.cross_entropy, (inputs, targets), test=(inputs, targets))


CHANGES = [
    {"method": "sgd"},
    {"method": "adamw"},
    {"method": "sam", "m": 4},
    {"method": "sam+aace", "aace_mode": "rand"},
    {"method": "vasso"},
    {"method": "f-sam", "rho_schedule": "cosine"},
    {"method": "gsam"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change["method"])
def test_every_method_goes_on_with_its_memory_schedule_and_random_states(change, tmp_path):
    config = replace(
        PRESETS["digits-sgd"](),
        data="own",
        model="own",
        augment=False,
        steps=21,
        batch_size=16,
        checkpoint_every=5,
        evaluation_samples=0,
        **change,
    )
    problem = own_problem()
    runs = []
    for name, stops in (("a", ()), ("b", (3, 12))):
        torch.manual_seed(0)
        own = ("mine.py:make", copy.deepcopy(problem))
        call = None
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                _advance(config, tmp_path / name, own, call, stop)
            torch.manual_seed(99)  # nothing hangs on what others have drawn meanwhile
            own, call = ("mine.py:make", copy.deepcopy(problem)), resume
        _advance(config, tmp_path / name, own, call, None)
        runs.append(Run(tmp_path / name))
    assert len(list((tmp_path / "b").glob("segment-*"))) == 3
    assert_same(runs[1], runs[0])


def _advance(config, out, own, call, stop):
    def progress(done, total):
        if done == stop:
            raise KeyboardInterrupt

    if call is None:
        return train(config, out, own=own, progress=progress)
    return call(out, own=own, progress=progress)


@pytest.fixture
def broken(tmp_path):
    """A run that was stopped after seven of nine updates."""
    config = replace(PRESETS["digits-sgd"](), steps=9, checkpoint_every=3, evaluation_samples=60)
    with pytest.raises(KeyboardInterrupt):
        _advance(config, tmp_path / "a", None, None, 7)
    return tmp_path / "a"


def test_only_the_last_state_is_kept_until_the_run_is_whole(broken):
    forget_states(broken)  # as at the end of a training that went on unrecorded
    assert [path.name for path in broken.glob("state-*")] == ["state-00000006.pt"]
    resume(broken)
    assert not list(broken.glob("state-*"))
    assert Run(broken).status == "finished"


def test_what_kills_leave_behind_is_removed(broken):
    left = broken / ".state-00000009.pt.7.tmp"
    left.touch()
    (broken / "segment-000/snapshots/.checkpoint-00000009.h5.7.tmp").touch()
    resume(broken)
    assert not [*broken.rglob(".*.tmp")]
    state = broken / "state-00000006.pt"
    state.touch()  # as of a run that was killed between its end and the end of the process
    with pytest.raises(ValueError, match="has finished"):
        resume(broken)
    assert not state.exists()


def test_a_run_without_a_state_can_not_go_on_and_may_be_removed(broken):
    (broken / "state-00000006.pt").unlink()
    with pytest.raises(ValueError, match=r"ended before its first, .* or remove the folder"):
        resume(broken)
    (broken / "run.json").unlink()
    with pytest.raises(RunFileError, match="remove the folder and train anew"):
        resume(broken)


def test_a_run_that_is_being_trained_is_left_alone(broken):
    writer = RunWriter.resume(broken, 6)
    with pytest.raises(BusyError, match="another process is writing this run"):
        resume(broken)
    (broken / "state-00000006.pt").unlink()
    with pytest.raises(BusyError, match="another process trains it"):
        resume(broken)
    writer.fail("stopped")


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (lambda run: None, ["--lr", "0.1"], "no option '--lr'"),
        (lambda run: (run / "state-00000006.pt").unlink(), [], "holds no saved state"),
        (lambda run: (run / "state-00000006.pt").write_bytes(b"x"), [], "can't be read"),
        (lambda run: shutil.rmtree(run), [], "expected a run"),
        (resume, [], "has finished"),
        (lambda run: None, ["--problem", "nowhere.py:make"], "nowhere.py"),
    ],
    ids=["option", "no state", "damaged", "no run", "finished", "problem"],
)
def test_what_can_not_go_on_is_told_with_exit_code_2(broken, landscape, spoil, words, message):
    spoil(broken)
    done = landscape("train", "--resume", broken, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_another_loop_recorded_is_not_taken_up(tmp_path):
    from landscape import Recorder

    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with (
        pytest.raises(KeyboardInterrupt),
        Recorder(tmp_path / "a", net, optimizer, checkpoint_every=1),
    ):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="must have been trained by `landscape train`"):
        resume(tmp_path / "a")
