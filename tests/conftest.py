import io
import os
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the command line sets it, before torch

from landscape.__main__ import main
from landscape.runs import Run

# A shell's background job ignores Ctrl-C, and so would the commands that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    """With CI set, a test that did not run is a failure, unless it needs a GPU."""
    if (
        (report.skipped or hasattr(report, "wasxfail"))
        and os.environ.get("CI")
        and "gpu" not in report.keywords
    ):
        report.outcome = "failed"
        vars(report).pop("wasxfail", None)
        report.longrepr = f"skipped or xfailed in CI: {report.longrepr}"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with one real run: digits with SAM+AACE, 60 steps, 5 checkpoints. Read only."""
    from training.loop import train
    from training.presets import PRESETS

    root = tmp_path_factory.mktemp("runs")
    config = replace(PRESETS["digits-aace"](), steps=60, checkpoint_every=15)
    train(config, root / "a")
    return root


@pytest.fixture(scope="session")
def trained_three(tmp_path_factory) -> Path:
    """A folder with real runs a, b and c: digits from three seeds, 30 steps each. Read only."""
    from training.loop import train
    from training.presets import PRESETS

    root = tmp_path_factory.mktemp("three")
    for seed, name in enumerate("abc"):
        config = replace(PRESETS["digits-sgd"](), steps=30, checkpoint_every=10, seed=seed)
        train(config, root / name)
    return root


@pytest.fixture
def three(trained_three, tmp_path) -> list[Run]:
    """The three runs, in a folder of their own that may gain results."""
    import shutil

    shutil.copytree(trained_three, tmp_path / "three")
    return [Run(tmp_path / "three" / name) for name in "abc"]


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """The trained run, in a folder of its own that may gain results."""
    import shutil

    shutil.copytree(trained / "a", tmp_path / "runs" / "a")
    return Run(tmp_path / "runs" / "a")


@pytest.fixture
def landscape(tmp_path, monkeypatch):
    """Call the command line in an empty folder: `done = landscape("surface", path, "--json")`."""

    def call(*words, env=None):
        out, err = io.StringIO(), io.StringIO()
        argv = [str(word) for word in words]
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(tmp_path)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            try:
                code = main(argv)
            except SystemExit as end:
                code = end.code
        return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())

    return call
