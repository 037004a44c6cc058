"""Old checkpoints become a run that everything reads, or nothing is written at all."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import save_torch_state_dict
from torch import nn

from app import main, shell
from app.store import Store
from app.summaries import summarize
from app.view_state import RUN_PAGES, ViewState
from landscape.imports import import_checkpoints, number_files
from landscape.modules import buffers_of, flatten, load_theta
from landscape.problems import Problem
from landscape.runs import Run, RunFileError, find_runs

MAKER = """
import torch
from torch import nn
from landscape import Problem

def make(hidden=4):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 2))
    inputs = torch.randn(40, 3, generator=generator)
    return Problem(model, nn.CrossEntropyLoss(), (inputs, (inputs[:, 0] > 0).long()))

def wider():
    return make(5)
"""


@pytest.fixture
def old(tmp_path):
    """A folder with net.py and ep-0.pt, ep-20.pt, ep-100.pt of a real training; the models."""
    (tmp_path / "net.py").write_text(MAKER)
    names = {}
    exec(MAKER, names)
    torch.manual_seed(0)
    problem = names["make"]()
    model, (inputs, targets) = problem.model, problem.train
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = {}
    for step in range(101):
        if step in (0, 20, 100):
            torch.save(
                {"state_dict": nn.DataParallel(model).state_dict(), "epoch": step},
                tmp_path / f"ep-{step}.pt",
            )
            kept[step] = flatten(model).numpy().copy(), buffers_of(model)
        optimizer.zero_grad()
        problem.loss_fn(model(inputs), targets).backward()
        optimizer.step()
    return kept, problem


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


ARGUMENTS = ("import", "ep-0.pt", "ep-100.pt", "ep-20.pt", "--problem", "net.py:make")


def test_old_checkpoints_become_a_run_with_their_weights_and_buffers(landscape, old, tmp_path):
    kept, _ = old
    done = landscape(*ARGUMENTS, "--out", "runs/old", "--method", "SGD")
    assert done.returncode == 0, done.stderr
    assert "step 20: ep-20.pt\n      - taken from 'state_dict' in it" in done.stdout
    assert "landscape surface runs/old --problem net.py:make --plane trajectory" in done.stdout
    run = Run(tmp_path / "runs/old")
    assert (run.status, run.method, run.checkpoints) == ("finished", "SGD", (0, 20, 100))
    assert run.problem == {"name": "net.py:make", "options": {}}
    assert len(run.steps["step"]) == len(run.evaluations["step"]) == 0
    assert run.updates == run.total_steps == 100
    for step, (theta, buffers) in kept.items():
        checkpoint = run.checkpoint(step)
        assert np.array_equal(checkpoint.theta, theta)
        assert checkpoint.buffers.keys() == buffers.keys()
        for name, value in buffers.items():
            assert np.array_equal(checkpoint.buffers[name], value.numpy())
    (first, *_) = run.provenance["imported_from"]
    assert first["sha256"] == hashlib.sha256((tmp_path / "ep-0.pt").read_bytes()).hexdigest()
    assert first["file"] == "ep-0.pt"
    assert first["step"] == 0


def test_an_imported_run_is_measured_like_another(landscape, old, tmp_path):
    assert landscape(*ARGUMENTS, "--out", "runs/old").returncode == 0
    problem = ("runs/old", "--problem", "net.py:make", "--json")
    done = landscape("trajectory", *problem)
    assert done.returncode == 0, done.stderr
    trajectory = Run(tmp_path / "runs/old").results("trajectory")[0].load()
    assert trajectory.step.tolist() == [0, 20, 100]
    kept, made = old
    for at, (theta, buffers) in enumerate(kept.values()):
        model = load_theta(made.model, theta, buffers).eval()
        loss = made.loss_fn(model(made.train[0]), made.train[1]).item()
        assert trajectory.loss[at] == pytest.approx(loss, rel=1e-6)
    for command in (
        ("surface", "--plane", "trajectory", "--points", 3),
        ("surface", "--points", 3),
        ("profile", "--points", 3),
        ("spectrum", "--k", 2),
        ("consistency",),
        ("curvature", "--k", 1),
    ):
        done = landscape(command[0], *problem, *command[1:])
        assert done.returncode == 0, (command, done.stderr)
    done = landscape("figure", "runs/old", "surface", "--plane", "trajectory", "--format", "svg")
    assert done.returncode == 0, done.stderr


def test_what_an_imported_run_can_not_tell_is_refused_in_words(landscape, old):
    assert landscape(*ARGUMENTS, "--out", "runs/old").returncode == 0
    for command, word in (
        (("surface", "runs/old"), "--problem"),  # a name in a run file runs no code
        (("stability", "runs/old", "--problem", "net.py:make"), "learning rate"),
        (
            ("consistency", "runs/old", "--problem", "net.py:make", "--protocol", "online"),
            "frozen",
        ),
    ):
        done = landscape(*command)
        assert done.returncode == 2
        assert word in done.stderr, done.stderr


def test_lists_and_pages_show_a_run_without_rows(landscape, old, tmp_path):
    assert landscape(*ARGUMENTS, "--out", "runs/old").returncode == 0
    (row,) = json.loads(landscape("runs", "runs", "--json").stdout)
    assert (row["steps"], row["state"], row["method"]) == ("100/100", "finished", "imported")
    done = landscape("surface", "runs/old", "--problem", "net.py:make", "--points", 3)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "runs")
    (run,) = store.runs()
    summary = summarize(run, store)
    assert (summary.steps, summary.total, summary.progress) == (100, 100, 1.0)
    client = main.create_app(tmp_path / "runs").server.test_client()
    assert client.get(f"/data/{run.id}/steps.csv").status_code == 200
    for page in ("runs", "compare", *RUN_PAGES):
        view = shell.view_of(ViewState(page=page, run=run.id), store, "light", main.PAGES)
        assert view.panes, page
    figure = landscape("figure", "runs/old", "steps", "--format", "svg")
    assert figure.returncode == 2
    assert "needs rows of steps, got none in old" in figure.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--problem", "net.py:wider"), "misshaped: 0.weight (4, 3) instead of (5, 3)"),
        (
            ("bad.pt", "--problem", "net.py:make", "--steps", "1"),
            "needs landscape.problems.Problem",
        ),
        (("ep-0.pt", "gone.pt", "--problem", "net.py:make"), "gone.pt: no such file"),
        (("--problem", "net.py:make", "--steps", "0,20"), "one for each of the 3 files"),
        (("--problem", "net.py:make", "--steps", "0,20,x"), "whole numbers by comma"),
        (("--problem", "net.py:make", "--projections", "p.h5"), "belong to a surface"),
        (("--problem", "net.py:make", "--out", "net.py"), "must not exist"),
        (("--method", "SGD"), "need --problem too"),
        (("ep-0.pt",), "weights of a model need --problem"),
        (("--problem", "net.py:make", "ep-0.pt", "ep-0.pt", "--steps", "5,5"), "different"),
    ],
)
def test_what_does_not_fit_is_told_and_leaves_nothing_behind(
    landscape, old, tmp_path, words, message
):
    torch.save({"x": {1, 2}, "y": Problem}, tmp_path / "bad.pt")
    before = everything(tmp_path)
    files = () if words[0].endswith(".pt") or words[2:3] == ("ep-0.pt",) else ARGUMENTS[1:4]
    out = () if "--out" in words else ("--out", "new/runs/old")
    done = landscape("import", *files, *words, *out)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr, done.stderr
    assert [name for name in everything(tmp_path) if "__pycache__" not in name] == before


def test_a_failure_while_writing_leaves_nothing_behind(old, tmp_path):
    _, problem = old
    before = everything(tmp_path)

    def full(done, total):
        if done == 2:
            raise OSError("the disk is full")

    files = [tmp_path / f"ep-{step}.pt" for step in (0, 20, 100)]
    with pytest.raises(OSError, match="the disk is full"):
        import_checkpoints(files, tmp_path / "new/runs/old", problem, progress=full)
    assert everything(tmp_path) == before
    run = import_checkpoints(files, tmp_path / "new/runs/old", problem)
    assert len(run.checkpoints) == 3
    assert [path.name for path in (tmp_path / "new/runs").iterdir()] == ["old"]


def test_folders_of_shards_become_a_run_with_one_digest_each(landscape, old, tmp_path):
    kept, _ = old
    for step in (20, 100):
        folder = tmp_path / f"checkpoint-{step}"
        state = torch.load(tmp_path / f"ep-{step}.pt")["state_dict"]
        folder.mkdir()
        save_torch_state_dict(state, str(folder), max_shard_size=80)
    done = landscape(
        *("import", "checkpoint-100", "checkpoint-20", "--problem", "net.py:make"),
        *("--out", "runs/old"),
    )
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "runs/old")
    assert run.checkpoints == (20, 100)
    for step in run.checkpoints:
        np.testing.assert_array_equal(run.checkpoint(step).theta, kept[step][0])
    index, *shards = [*folder.glob("*.json"), *sorted(folder.glob("*.safetensors"))]
    assert len(shards) > 1
    content = b"".join(path.read_bytes() for path in (index, *shards))
    source = run.provenance["imported_from"][-1]
    assert source["sha256"] == hashlib.sha256(content).hexdigest()
    shards[0].unlink()
    done = landscape("import", folder, "--problem", "net.py:make", "--out", "b", "--steps", "1")
    assert done.returncode == 2
    assert f"must lie beside it and don't: {shards[0].name}" in done.stderr


def test_frozen_parameters_must_be_those_of_the_problem(tmp_path):
    def frozen(value):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        model[0].requires_grad_(False).weight.fill_(value)
        model[0].bias.fill_(value)
        return model

    for name, value in (("a-1.pt", 1.0), ("a-2.pt", 2.0)):
        torch.save(frozen(value).state_dict(), tmp_path / name)
    problem = Problem(frozen(1.0), nn.MSELoss(), (torch.ones(4, 2), torch.ones(4, 1)))
    with pytest.raises(ValueError, match=r"a-2.pt: frozen parameters .* others in 0.weight"):
        import_checkpoints([tmp_path / "a-1.pt", tmp_path / "a-2.pt"], tmp_path / "r", problem)
    assert not (tmp_path / "r").exists()
    run = import_checkpoints([tmp_path / "a-1.pt"], tmp_path / "r", problem, steps=[3])
    assert (run.layout.size, run.checkpoints) == (3, (3,))


@pytest.mark.parametrize(
    ("names", "steps", "expected"),
    [
        (["m-100.pt", "m-20.pt", "m-3.pt"], None, {"m-3.pt": 3, "m-20.pt": 20, "m-100.pt": 100}),
        (["m-0.pt", "m-100.pt", "m-20.pt"], [0, 5, 9], {"m-0.pt": 0, "m-20.pt": 5, "m-100.pt": 9}),
        (["m-100.pt", "m-20.pt"], [100, 20], {"m-20.pt": 20, "m-100.pt": 100}),
        (["init.pt", "final.pt"], [0, 7], {"init.pt": 0, "final.pt": 7}),
        (
            ["epoch=0-step=60.ckpt", "epoch=1-step=120.ckpt"],
            None,
            {"epoch=0-step=60.ckpt": 60, "epoch=1-step=120.ckpt": 120},
        ),
        (["global_step7.pt"], None, {"global_step7.pt": 7}),
        (["resnet56_e1.t7", "resnet56_e2.t7"], None, {"resnet56_e1.t7": 1, "resnet56_e2.t7": 2}),
        (["checkpoint-9/m.pt", "checkpoint-10/m.pt"], None, {"9/m.pt": 9, "10/m.pt": 10}),
    ],
)
def test_steps_are_those_given_or_the_numbers_in_the_names(tmp_path, names, steps, expected):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = number_files([tmp_path / name for name in names], steps)
    assert [step for step, _ in found] == sorted(expected.values())
    for step, path in found:
        (name,) = (name for name, value in expected.items() if value == step)
        assert str(path).endswith(name)


@pytest.mark.parametrize("names", [["a.pt", "b.pt"], ["e1_acc90.pt", "e2_acc91.pt"], ["net56.pt"]])
def test_steps_that_names_do_not_tell_are_asked_for(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="give --steps"):
        number_files([tmp_path / name for name in names], None)
    with pytest.raises(RunFileError, match="no such file"):
        number_files([tmp_path / "gone.pt"], [0])


def test_unfinished_folders_are_no_runs(old, tmp_path):
    _, problem = old
    import_checkpoints([tmp_path / "ep-20.pt"], tmp_path / "runs/a", problem, steps=[20])
    shutil.copytree(tmp_path / "runs/a", tmp_path / "runs/.b.17.part")
    assert [run.name for run in find_runs(tmp_path / "runs")] == ["a"]
    assert [run.name for run in Store(tmp_path / "runs").runs()] == ["a"]
