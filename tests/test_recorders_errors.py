"""Disks that fill up, quotas and folders that can't be written: for real."""

import contextlib
import json
import re
import resource
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from landscape.recorders import Recorder
from landscape.runs import Run
from training.loop import train as train_all
from training.presets import PRESETS

STEPS = 400

# 3001 numbers: a step in full takes 24 kB. The vector of step t holds t.
TRAINER = f"""
import json
import re
import resource
import sys
import warnings
import torch
from landscape.recorders import Recorder

path, limit, on_error = sys.argv[1], int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
net = torch.nn.Linear(3000, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
raised, made = "", 0
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    try:
        with Recorder(
            path, net, optimizer, checkpoint_every=10, record="full", on_error=on_error
        ) as recorder:
            for step in range({STEPS}):
                recorder.step(1.0, displacement=torch.full((3001,), float(step)))
                made += 1
    except OSError as error:
        raised = str(error)
print(json.dumps([made, raised, [str(w.message) for w in told]]))
"""


@pytest.fixture(params=["disk", "quota"])
def small(request, tmp_path):
    """A folder of 4 MB, and the largest file allowed in it; or a limit to files of 500 kB."""
    if request.param == "disk":
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
        with contextlib.suppress(OSError):
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                yield tmp_path, resource.RLIM_INFINITY
                subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
                return
    yield tmp_path, 500 << 10


def train(folder, limit, on_error):
    words = [str(folder / "run"), str(limit), on_error]
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, *words], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done


def check_record(run):
    """What is there is whole and right, and the first step that is not there is told."""
    steps = run.steps["step"]
    assert 0 < len(steps) < STEPS
    assert steps.tolist() == list(range(len(steps)))
    kept, vectors = run.displacements()
    assert (vectors == kept[:, None]).all()
    described, sketches = run.sketches()
    np.testing.assert_allclose(np.abs(sketches), np.tile(described[:, None], sketches.shape[1]))
    assert run.status == "failed"
    assert run.missing_from is not None
    assert run.missing_from <= len(steps)
    assert set(range(run.missing_from)) <= set(steps) & set(kept.tolist())
    for step in run.checkpoints:
        assert np.isfinite(run.checkpoint(step).theta).all()


def test_training_stops_with_what_was_wrong_where_that_was_asked_for(small):
    (made, raised, told), _ = train(*small, "stop")
    assert 0 < made < STEPS
    assert raised
    assert told == []
    run = Run(small[0] / "run")
    check_record(run)
    assert raised in run.reason


def test_training_goes_on_unrecorded_where_that_was_asked_for_and_the_run_says_so(small):
    (made, raised, told), done = train(*small, "continue")
    assert (made, raised) == (STEPS, "")
    assert done.returncode == 0, done.stderr
    assert len(told) == 1
    assert told[0].startswith("training goes on unrecorded from about step")
    run = Run(small[0] / "run")
    check_record(run)
    assert run.reason.startswith("training went on unrecorded: OSError")


TRAINING = """
import json
import resource
import signal
import sys
import warnings
from dataclasses import replace
from training.loop import train
from training.presets import PRESETS

path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
config = replace(
    PRESETS["digits-sam"](), steps=400, checkpoint_every=5, evaluation_samples=60,
    record="full", on_record_error="continue",
)
later = []

def progress(done, total):
    later.extend(told[:1])
    if len(later) == 5 or done == 390:
        signal.raise_signal(signal.SIGTERM)

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    train(config, path, progress=progress)
print(json.dumps([str(w.message) for w in told]))
"""


def test_a_training_stopped_while_unrecorded_tells_from_which_state_it_goes_on(small):
    words = [sys.executable, "-c", TRAINING, str(small[0] / "run"), str(small[1])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, run = json.loads(done.stdout), Run(small[0] / "run")
    assert told[0].startswith("training goes on unrecorded from about step")
    (state,) = run.path.glob("state-*.pt")
    assert re.fullmatch(
        r"stopped by SIGTERM after \d+ updates; `landscape train --resume .*/run` goes on from "
        f"update {int(state.stem[-8:])}, the last state that could be saved",
        told[-1],
    )
    assert run.reason.startswith("training went on unrecorded: OSError")


UNWRITABLE = "/sys/landscape-run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_stopped_without_any_state_names_no_command(number):
    config = replace(PRESETS["digits-sgd"](), steps=4, on_record_error="continue")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.suppress(KeyboardInterrupt):
            train_all(config, UNWRITABLE, progress=lambda *_: signal.raise_signal(number))
    signal.signal(signal.SIGINT, before)
    assert str(told[-1].message) == (
        f"stopped by {number.name} after 1 updates; no state of training could be saved, so that "
        "it can't go on"
    )


@pytest.mark.filterwarnings("ignore:training goes on unrecorded")
def test_a_command_that_could_record_nothing_ends_with_that(landscape):
    words = ["--preset", "digits-sgd", "--steps", 3, "--on-record-error", "continue"]
    done = landscape("train", *words, "--out", UNWRITABLE)
    assert done.returncode == 1
    assert f"{UNWRITABLE}: nothing was recorded" in done.stderr


def recorder_of(path, on_error):
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return Recorder(path, net, optimizer, checkpoint_every=2, on_error=on_error)


def test_a_folder_that_can_not_be_made_stops_before_training_or_is_said():
    with pytest.raises(OSError, match="landscape-run"):
        recorder_of(UNWRITABLE, "stop")
    with pytest.warns(RuntimeWarning, match="training goes on unrecorded from about step 0"):
        recorder = recorder_of(UNWRITABLE, "continue")
    with recorder:
        for _ in range(5):
            recorder.step(1.0, displacement=torch.ones(8))
        recorder.add_evaluation(1.0, 0.5)
        recorder.flush()
        with pytest.raises(ValueError, match="there is no run to resume"):
            recorder.state()
    assert recorder.steps == 5
    with pytest.raises(ValueError, match="the run has ended"):
        recorder.step(1.0)


def test_a_folder_that_exists_is_refused_whatever_was_asked_for(tmp_path):
    for on_error in ("stop", "continue"):
        with pytest.raises(FileExistsError, match="must not exist"):
            recorder_of(tmp_path, on_error)
    with pytest.raises(ValueError, match='on_error must be "stop" or "continue"'):
        recorder_of(tmp_path / "a", "ignore")


def test_errors_that_are_not_of_the_disk_are_raised_in_any_case(tmp_path):
    with recorder_of(tmp_path / "a", "continue") as recorder:
        with pytest.raises(ValueError, match="displacement must be flat with 8 numbers"):
            recorder.step(1.0, displacement=torch.ones(7))
        recorder.step(1.0, displacement=torch.ones(8))
    assert Run(tmp_path / "a").status == "finished"


LEFT = """
import sys
import torch
from landscape.recorders import Recorder

net = torch.nn.Linear(3000, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
recorder = Recorder(sys.argv[1], net, optimizer, checkpoint_every=10)
for step in range(35):
    recorder.step(1.0, displacement=torch.full((3001,), float(step)))
"""


def test_a_program_that_forgets_to_end_its_run_ends_itself_and_leaves_whole_rows(tmp_path):
    words = [sys.executable, "-c", LEFT, str(tmp_path / "a")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "a")
    assert run.status == "died"
    steps, vectors = run.displacements()
    assert steps.tolist() == list(range(len(steps)))
    assert (vectors == steps[:, None]).all()
    assert run.steps["step"].tolist() == list(range(len(run.steps["step"])))
