"""SAM and the recorder on a net that two real torchrun ranks share by FSDP2: as one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sharded_trial import EVERY, FAMILY, STEPS, make_runs

from landscape.ranks import Ranks
from landscape.runs import Run

TRIAL = Path(__file__).with_name("sharded_trial.py")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    alone, two = (tmp_path_factory.mktemp(name) for name in ("alone", "two"))
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRIAL.parent.parent)}
    command = [sys.executable, "-m", *launcher, str(TRIAL), str(two)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    make_runs(alone, Ranks())
    return alone / "0", two


@pytest.mark.parametrize("name", FAMILY)
def test_sharded_tensors_are_perturbed_and_recorded_whole(both, name):
    one, two = Run(both[0] / name), Run(both[1] / "0" / name)
    assert two.status == "finished"
    assert two.layout == one.layout
    assert two.checkpoints == one.checkpoints == tuple(range(0, STEPS + 1, EVERY))
    for step in one.checkpoints:
        np.testing.assert_allclose(
            two.checkpoint(step).theta, one.checkpoint(step).theta, rtol=0, atol=1e-6
        )
    for column, values in one.steps.items():
        if column != "time":
            np.testing.assert_allclose(
                two.steps[column], values, rtol=1e-3, atol=1e-5, err_msg=column
            )
    assert np.isfinite(two.steps["displacement_norm"]).all()
    for ours, theirs in (
        (two.tensor_norms(), one.tensor_norms()),
        (two.displacements(), one.displacements()),
    ):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-6)


def test_the_other_rank_writes_nothing(both):
    assert not (both[1] / "1").exists()
