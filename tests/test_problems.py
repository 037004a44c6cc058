import sys

import pytest
from torch import nn

from landscape.problems import Problem, load_problem

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
