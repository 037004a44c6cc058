import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from landscape.runs import Run


def pytest_runtest_logreport(report):
    """With CI set, a test that did not run is a failure, unless it needs a GPU."""
    if report.skipped and os.environ.get("CI") and "gpu" not in report.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped or xfailed in CI: {report.longrepr}"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with one real run: digits with SAM+AACE, 60 steps, 5 checkpoints. Read only."""
    from training.config import PRESETS
    from training.loop import train

    root = tmp_path_factory.mktemp("runs")
    config = replace(PRESETS["digits-aace"](), steps=60, checkpoint_every=15)
    train(config, root / "a")
    return root


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """The trained run, in a folder of its own that may gain results."""
    import shutil

    shutil.copytree(trained / "a", tmp_path / "runs" / "a")
    return Run(tmp_path / "runs" / "a")


@pytest.fixture
def landscape(tmp_path):
    """Call the command line as a user does: `done = landscape("surface", path, "--points", 5)`."""

    def call(*words, cwd=tmp_path, env=None, timeout=300):
        return subprocess.run(
            [sys.executable, "-m", "landscape", *map(str, words)],
            check=False,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call
