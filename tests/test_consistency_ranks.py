"""The frozen protocol shared between the ranks of a real torchrun."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from consistency_trial import measured

from landscape.ranks import Ranks

TRIAL = Path(__file__).with_name("consistency_trial.py")


@pytest.fixture(scope="module")
def two(trained, tmp_path_factory):
    """What each of two ranks found, and what the command printed; the run that it measured."""
    folder = tmp_path_factory.mktemp("two")
    run = shutil.copytree(trained / "a", folder / "run")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(TRIAL), str(folder), str(run)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ranks = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]
    return ranks, done.stdout, run


def test_two_ranks_measure_what_one_does_and_all_of_them_know_it(two):
    (first, second), _, _ = two
    alone = measured(Ranks())
    for kept in (0, 1):  # vectors in memory, and in a temporary file
        for found, other, expected in zip(first[kept], second[kept], alone, strict=True):
            for name, value in vars(expected).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12)
                    np.testing.assert_array_equal(found[name], other[name])
                elif isinstance(value, float):
                    np.testing.assert_allclose(found[name], value, rtol=1e-12)
            assert found["facts"].keys() == expected.facts.keys()
            assert found["component_names"] == expected.component_names


def test_the_command_stores_and_prints_once(two):
    _, printed, run = two
    reports = json.loads(printed)
    assert [report["kind"] for report in reports] == ["consistency"] * 3
    assert not any(report["found"] for report in reports)
    stored = sorted(str(path) for path in run.glob("results/*.h5"))
    assert sorted(report["path"] for report in reports) == stored
