"""`landscape surface` for real, killed: alone, under torchrun, in shares, two at once."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kill_trials import finish, kept_in, kill, kill_a_rank, kill_along, wait_until, watch

from landscape.result_files import load_result
from landscape.writers import RunWriter

PROBLEM = """
import torch
from torch import nn
from landscape import Problem

def make():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 3, 16, 16, generator=generator)
    targets = torch.randint(10, (400,), generator=generator)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2304, 10),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return Problem(model, nn.functional.cross_entropy, (inputs, targets))
"""
POINTS = 25
# A third of so small a job is set-up, of a torchrun job more than half, and its end is the save.
# With these seeds no moment falls there; `make soak` takes longer jobs and whatever falls.
SEED_ALONE, SEED_TORCHRUN = 165, 2970

STARTED: list[subprocess.Popen] = []


def make_run(folder: Path) -> Path:
    """A run with one checkpoint, and the problem that it belongs to beside it."""
    from landscape.modules import layout_of
    from landscape.problems import load_problem

    (folder / "tiny.py").write_text(PROBLEM)
    model = load_problem(str(folder / "tiny.py") + ":make", {}, {}).model
    writer = RunWriter.create(
        folder / "run",
        config={"seed": 0},
        problem={"name": "tiny", "options": {}},
        layout=layout_of(model),
        method="SGD",
    )
    theta = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    writer.save_checkpoint(0, theta, {name: b.numpy() for name, b in model.named_buffers()})
    writer.finish()
    return folder / "run"


def start(run, *words, ranks=0, points=POINTS, chunk=200):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
    command = [sys.executable, "-m", *(launcher if ranks else []), "landscape", "surface"]
    options = ["--problem", f"{run.parent / 'tiny.py'}:make", "--points", str(points)]
    STARTED.append(
        subprocess.Popen(
            [*command, str(run), *options, "--chunk", str(chunk), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    )
    return STARTED[-1]


@pytest.fixture(autouse=True)
def nothing_goes_on():
    """Whatever a test that failed leaves running is ended."""
    yield
    while STARTED:
        kill(STARTED.pop())


def prepare(run: Path, points: int = POINTS) -> Path:
    """Leave nothing of a surface but the evaluation path that was chosen for it.

    It is chosen by a race, which noise may turn on so small a net; bits differ with it.
    """
    process = start(run, points=points)
    wait_until(lambda: [*run.glob("results/*.part/path.json")] or process.poll() is not None)
    kill(process)
    (part,) = run.glob("results/*.part")
    for path in part.iterdir():
        if path.name != "path.json":
            path.unlink()
    return run


def digest(run: Path) -> str:
    """The digest of the one result there is; nothing is left of the work on it."""
    (file,) = (run / "results").glob("*.h5")
    assert sorted(path.name for path in file.parent.iterdir()) == [".work.lock", file.name]
    surface = load_result(file)
    assert surface.evaluated.all()
    return surface.digest


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return prepare(make_run(tmp_path_factory.mktemp("original")))


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def undisturbed(original, tmp_path_factory):
    """The digest and the timeline of one process that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(original.parent, folder, dirs_exist_ok=True)
    line = watch(lambda: start(folder / "run"), lambda: kept_in(folder / "run" / "results"))
    return digest(folder / "run"), line


def drawn(line, seed):
    return np.random.default_rng(seed).uniform(0, line.length, 3)


def test_a_surface_killed_three_times_has_the_digest_of_an_undisturbed_one(undisturbed, run):
    expected, line = undisturbed
    results = run / "results"
    trials = kill_along(lambda: start(run), results, line, drawn(line, SEED_ALONE))
    assert trials.killed == 3
    assert trials.share_between(POINTS**2) >= 0.8
    finish(start(run))
    assert digest(run) == expected


def test_a_torchrun_job_killed_three_times_once_in_one_rank_has_the_digest_of_one_process(
    undisturbed, original, run, tmp_path
):
    twin = tmp_path / "twin"
    shutil.copytree(original.parent, twin)
    results = twin / "run" / "results"
    line = watch(lambda: start(twin / "run", ranks=2), lambda: kept_in(results))
    assert digest(twin / "run") == undisturbed[0]
    moments, strikes = drawn(line, SEED_TORCHRUN), (kill, kill_a_rank)
    trials = kill_along(lambda: start(run, ranks=2), run / "results", line, moments, strikes)
    assert trials.killed == 3
    assert trials.share_between(POINTS**2) >= 0.8
    finish(start(run, ranks=2))
    assert digest(run) == undisturbed[0]


def test_shards_have_the_digest_of_one_process_and_nobody_else_may_measure_meanwhile(
    undisturbed, run
):
    shards = [start(run, "--shard", f"{i}/2") for i in (0, 1)]
    wait_until(lambda: len([*run.glob("results/*.part/*.points")]) == 2)
    for shard in shards:  # so that they are still there when the other one comes
        shard.send_signal(signal.SIGSTOP)
    other = start(run)
    _, error = other.communicate(timeout=300)
    for shard in shards:
        shard.send_signal(signal.SIGCONT)
    assert other.returncode == 2
    assert re.match(r"landscape: .* is being measured in 2 shares, share [01]/2 by", error)
    assert any(f"by process {shard.pid};" in error for shard in shards)
    said = [finish(shard) for shard in shards]
    assert sum("measured in" in text for text in said) >= 1
    assert digest(run) == undisturbed[0]
