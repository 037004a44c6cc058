import copy
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape.problems import Problem, load_problem, load_state
from landscape.runs import RunFileError

SOURCE = """
import torch
from torch import nn
from landscape.problems import Problem
from {stem}_data import rows

def make_problem(*, width=2, seed=0):
    data = torch.zeros(rows, width), torch.zeros(rows, 1)
    return Problem(nn.Linear(width, 1), nn.MSELoss(), data)

def make_nothing():
    return 7

constant = 3
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch, request):
    stem = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{stem}_data.py").write_text("rows = 5\n")
    (tmp_path / f"{stem}.py").write_text(SOURCE.format(stem=stem))
    (tmp_path / f"{stem}_broken.py").write_text("import no_such_thing_anywhere\n")
    monkeypatch.chdir(tmp_path)
    return stem


def small(*, width=2):
    return Problem(nn.Linear(width, 1), nn.MSELoss(), None)


def test_problem_by_short_name():
    problem = load_problem("small", {"width": 3}, {"small": small})
    assert problem.model.in_features == 3
    assert problem.test is None


@pytest.mark.parametrize("form", ["{}:make_problem", "{}.py:make_problem", "./{}.py:make_problem"])
def test_problem_by_module_and_by_file(own_code, form):
    path = list(sys.path)
    problem = load_problem(form.format(own_code), {"width": 4}, {})
    assert problem.model.in_features == 4
    assert len(problem.train[0]) == 5
    assert sys.path == path


def test_problem_by_file_in_another_folder(own_code, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert load_problem(f"{tmp_path}/{own_code}.py:make_problem", {}, {}).model.in_features == 2


def test_code_that_a_run_names_is_never_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    for name in ("stranger:make_problem", "stranger.py:make_problem"):
        with pytest.raises(ValueError, match=r"one of small, got 'stranger.*; name code of"):
            load_problem(name, {}, {"small": small})


@pytest.mark.parametrize(
    ("spec", "options", "builtin", "message"),
    [
        ("smal", {}, {"small": small}, "one of small, got 'smal' \\(did you mean 'small'"),
        ("small", {}, {}, "module:function or file.py:function, got 'small'"),
        ("small", {"widht": 3}, {"small": small}, "did you mean 'width'"),
        ("no_such_module:make", {}, {}, "no module 'no_such_module'"),
        ("no_such_file.py:make", {}, {}, "no file no_such_file.py"),
        ("{}:make_problm", {}, {}, "no function 'make_problm' \\(did you mean 'make_problem'"),
        ("{}:constant", {}, {}, "no function 'constant'"),
    ],
)
def test_wrong_names_and_options_say_what_is_near(own_code, spec, options, builtin, message):
    with pytest.raises(ValueError, match=message):
        load_problem(spec.format(own_code), options, builtin)


def test_function_that_gives_no_problem_is_refused(own_code):
    with pytest.raises(TypeError, match=r"must return a landscape.Problem.*got int"):
        load_problem(f"{own_code}:make_nothing", {}, {})


def test_imports_that_fail_inside_own_code_are_not_hidden(own_code):
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_anywhere"):
        load_problem(f"{own_code}_broken:make_problem", {}, {})


# Weights


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_state_comes_back_whole(tmp_path, name):
    other = net(1)
    other[1].running_mean.fill_(0.5)
    store(other.state_dict(), tmp_path / name)
    model = net(0)
    load_state(model, tmp_path / name)
    for key, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def store(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "1.running_var"), "Sequential, got missing: 1.running_var"),
        (lambda s: s | {"2.weight": torch.ones(1)}, "unexpected: 2.weight"),
        (lambda s: s | {"0.bias": torch.ones(5)}, r"misshaped: 0.bias \(5,\) instead of \(2,\)"),
        (
            lambda s: {f"module.{name}": value for name, value in s.items()},
            r"missing: .*unexpected: module.*save model.module.state_dict",
        ),
    ],
)
def test_state_that_does_not_fit_changes_nothing_and_says_where(tmp_path, change, message):
    model = net()
    before = copy.deepcopy(model.state_dict())
    save_file(change(net(1).state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=message):
        load_state(model, tmp_path / "w.safetensors")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_checkpoint_around_a_state_names_the_part_to_save(tmp_path):
    torch.save({"epoch": 3, "model": net().state_dict()}, tmp_path / "w.pt")
    with pytest.raises(RunFileError, match="got a dict; save 'model' alone"):
        load_state(net(), tmp_path / "w.pt")


def test_pickled_models_and_garbage_are_refused_without_running_them(tmp_path):
    torch.save(net(), tmp_path / "model.pt")
    (tmp_path / "garbage.pt").write_bytes(b"not weights at all")
    (tmp_path / "garbage.safetensors").write_bytes(b"not weights at all")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("model.pt", "garbage.pt", "empty.pt"):
        with pytest.raises(RunFileError, match=f"{name}: not weights that can be read"):
            load_state(net(), tmp_path / name)
    with pytest.raises(RunFileError, match="damaged or not a safetensors file"):
        load_state(net(), tmp_path / "garbage.safetensors")
    with pytest.raises(RunFileError, match=r"missing.pt: no such file"):
        load_state(net(), tmp_path / "missing.pt")
