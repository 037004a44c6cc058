"""A result file that was put into another run's folder is told apart, everywhere."""

import shutil

import pytest
from samples import make_runs

from app.store import Store
from landscape.runs import Run, RunFileError, read_stored


@pytest.fixture
def mixed(tmp_path):
    """Two runs; the second holds a surface of the first and none of its own."""
    root = make_runs(tmp_path / "runs", ("sgd", "sam"))
    theirs = Run(root / "sgd").result_paths("surface")[0]
    for own in Run(root / "sam").result_paths("surface"):
        own.unlink()
    shutil.copy(theirs, root / "sam" / "results")
    return root


def test_it_is_left_out_of_the_results_and_told(mixed):
    run = Run(mixed / "sam")
    assert run.results("surface") == []
    (reason,) = run.refused("surface")
    assert run.id in reason
    assert Run(mixed / "sgd").id in reason
    with pytest.raises(RunFileError, match="expected a result of run"):
        read_stored(run.result_paths("surface")[0], run.id)


def test_the_figure_command_refuses_it(mixed, landscape):
    done = landscape("figure", mixed / "sam", "surface")
    assert done.returncode == 2
    assert "got one of run" in done.stderr


def test_the_app_shows_the_rest_and_says_so(mixed):
    store = Store(mixed)
    run = next(run for run in store.runs() if run.name == "sam")
    assert store.results(run, "surface") == []
    assert store.results(run, "spectrum")
    assert any("got one of run" in reason for reason in store.damaged(run))
