"""`landscape train` in processes of its own, and all that two equal runs have in common."""

import contextlib
import os
import subprocess
import sys

import h5py
import numpy as np
from kill_trials import wait_until

from landscape.segments import find_segments


def start(*words):
    command = [sys.executable, "-m", "landscape", "train", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def finish(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{error}"
    return out, error


def segments_in(path):
    """How many segments a run has."""
    return len([*path.glob("segment-*")])


def rows_in(path):
    """Up to which update the newest segment has rows; 0 while it has none."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        newest = find_segments(path)[-1].path
        with h5py.File(newest / "steps.h5", swmr=True) as file:
            count = int(file["steps/committed"][0])
            return count + int(file["steps/step"][0]) if count else 0
    return 0


def await_rows(process, path, rows, known=0):
    """Wait for so many rows in a segment beyond those that are known, or for the end."""
    wait_until(
        lambda: process.poll() is not None or (segments_in(path) > known and rows_in(path) >= rows),
        seconds=600,
        pause=0.02,
    )


def assert_same(found, expected):
    """All that was recorded, bit by bit; and nothing is left of the work on it."""
    assert found.status == expected.status == "finished"
    for name, column in expected.steps.items():
        np.testing.assert_array_equal(found.steps[name], column, err_msg=name)
    np.testing.assert_array_equal(found.steps["step"], np.arange(len(found.steps["step"])))
    for name, column in expected.evaluations.items():
        np.testing.assert_array_equal(found.evaluations[name], column, err_msg=name)
    for name, column in expected.windows.items():
        np.testing.assert_array_equal(found.windows[name], column, err_msg=name)
    assert found.checkpoints == expected.checkpoints
    for step in expected.checkpoints:
        ours, theirs = found.checkpoint(step), expected.checkpoint(step)
        np.testing.assert_array_equal(ours.theta, theirs.theta)
        assert ours.buffers.keys() == theirs.buffers.keys()
        for name, buffer in theirs.buffers.items():
            np.testing.assert_array_equal(ours.buffers[name], buffer)
    for ours, theirs in (
        (found.sketches(), expected.sketches()),
        (found.tensor_norms(), expected.tensor_norms()),
        (found.displacements(), expected.displacements()),
    ):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    told = [
        {name: value for name, value in run.summary.items() if name != "recording_waited"}
        for run in (found, expected)
    ]
    assert told[0] == told[1]
    assert not [*found.path.glob("state-*"), *found.path.rglob(".*.tmp")]
