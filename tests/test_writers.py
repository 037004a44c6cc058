"""What a writer leaves behind: alive, ended, killed, or on a full disk."""

import contextlib
import errno
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest

from landscape import writers
from landscape.layouts import Entry, Layout
from landscape.locks import BusyError
from landscape.result_files import SCHEMA_VERSION
from landscape.runs import COLUMNS, Run, RunFileError
from landscape.vectors import chunk_of
from landscape.writers import RunWriter

LAYOUT = Layout(
    (
        Entry(name="w", shape=(2, 3), offset=0, kind="weight"),
        Entry(name="b", shape=(3,), offset=6, kind="bias"),
    )
)

# Every number tells where it belongs: column i of row t holds t + i/16, sketch and norm of step t,
# theta and the buffer of checkpoint t hold t, the displacement of update t holds -t. Updates go on
# while the file is there.
WRITER = """
import resource
import sys
from pathlib import Path
import numpy as np
from landscape import storage
from landscape.layouts import Entry, Layout
from landscape.runs import COLUMNS
from landscape.writers import RunWriter

assert "torch" not in sys.modules
path, every, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
storage.SPARE_BYTES = -(1 << 40)  # as if another program filled the disk after it was looked at
layout = Layout((Entry(name="w", shape=(2000,), offset=0, kind="weight"),))
problem = {"name": "x", "options": {}}
recording = {"sketch": 500}
writer = RunWriter.create(
    path / "run", config={}, problem=problem, layout=layout, method="SAM", recording=recording
)
step = 0
while (path / "go").exists():
    if step % every == 0:
        writer.save_checkpoint(step, np.full(2000, step), {"count": np.array(step)})
        writer.add_displacement(step, np.full(2000, -step))
    writer.describe_displacement(step, np.full(500, step), np.full(1, step))
    writer.append({name: step + i / 16 for i, name in enumerate(COLUMNS)})
    step += 1
writer.finish()
"""


@contextlib.contextmanager
def writing(folder, *, every=50, limit=resource.RLIM_INFINITY):
    """Run a writer in a process of its own, which is killed at the end of the block."""

    (folder / "go").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(every), str(limit)],
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: (folder / "run" / "run.json").exists() or process.poll() is not None)
        if not (folder / "run" / "run.json").exists():
            pytest.fail(process.stderr.read().decode())
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.002)


def count_whole_rows(run):
    rows = run.steps
    count = len(rows["step"])
    for i, name in enumerate(COLUMNS):
        np.testing.assert_array_equal(rows[name], np.arange(count) + i / 16)
    return count


def check_sketches(run, count):
    """Every step that has a row has its sketch; rows were counted before sketches are read."""
    for steps, parts in (run.sketches(), run.tensor_norms()):
        assert steps.tolist() == [*range(len(steps))]
        assert len(steps) >= count
        assert (parts == steps[:, None]).all()


def check_snapshots(run):
    for step in run.checkpoints:
        kept = run.checkpoint(step)
        assert (kept.theta == step).all()
        assert kept.buffers["count"] == step
    for steps, vectors in run.iterate_displacements():
        assert (vectors == -steps[:, None]).all()


def create(path, *, seed=0, lr=0.1, method="SAM", **settings):
    config = {"seed": seed, "lr": lr}
    problem = {"name": "digits", "options": {}}
    return RunWriter.create(
        path, config=config, problem=problem, layout=LAYOUT, method=method, **settings
    )


@pytest.mark.parametrize("rows", [0, 100, 1500])
def test_a_killed_writer_leaves_whole_rows_and_readable_checkpoints(rows, tmp_path):
    with writing(tmp_path) as process:
        run = Run(tmp_path / "run")
        wait_until(lambda: len(run.steps["step"]) >= rows)
        process.kill()
        process.wait()
    assert run.status == Run(tmp_path / "run").status == "died"
    count = count_whole_rows(run)
    check_snapshots(run)
    check_sketches(run, count)
    assert count >= max(rows, *run.checkpoints, 0)
    assert len(run.displacement_steps) >= len(run.checkpoints) - 1
    with pytest.raises(FileExistsError):
        create(tmp_path / "run")


def test_a_truncated_copy_of_a_killed_run_is_refused_at_once(tmp_path):
    with writing(tmp_path) as process:
        run = Run(tmp_path / "run")
        wait_until(lambda: len(run.steps["step"]) >= 100)
        process.kill()
        process.wait()
    file = run.path / "segment-000" / "steps.h5"
    content = file.read_bytes()
    for kept in (0.1, 0.5, 0.9):
        file.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(RunFileError, match=str(file)):
            run.steps  # noqa: B018 - reading is what is refused


def test_a_reader_sees_whole_rows_of_a_run_that_is_being_written(tmp_path):
    counts = []
    with writing(tmp_path, every=10**9) as process:
        run = Run(tmp_path / "run")
        for _ in range(30):
            counts.append(count_whole_rows(run))
            check_sketches(run, counts[-1])
            assert run.status == "running"
        assert run.evaluations["step"].size == 0
        (tmp_path / "go").unlink()
        assert process.wait(60) == 0
    assert counts == sorted(counts)
    assert len(set(counts)) > 3
    assert run.status == Run(tmp_path / "run").status == "finished"
    assert count_whole_rows(run) >= counts[-1]


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 1 MB of space, and the largest file allowed in it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            yield tmp_path, resource.RLIM_INFINITY
            subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
            return
    yield tmp_path, 1 << 20


def test_a_disk_that_fills_up_during_a_write_leaves_committed_rows_readable(small_disk):
    folder, limit = small_disk
    with writing(folder, every=10**9, limit=limit) as process:
        assert process.wait(60) != 0
    run = Run(folder / "run")
    assert run.status == "died"
    assert count_whole_rows(run) > 50
    check_snapshots(run)
    check_sketches(run, count_whole_rows(run))


def test_a_full_disk_ends_a_run_as_failed_without_the_loss_of_a_row(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(writers, "_FLUSH_SECONDS", 1000)
    writer = create(tmp_path / "a")
    writer.save_checkpoint(0, np.zeros(9), {})
    writer.add_displacement(0, np.ones(9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**5))
    for step in range(63):
        writer.append({"step": step})
    with pytest.raises(OSError, match="the disk is full") as caught:
        writer.append({"step": 63})
    assert caught.value.errno == errno.ENOSPC
    for write in (
        lambda: writer.save_checkpoint(9, np.zeros(9), {}),
        lambda: writer.add_evaluation(9, 0.5, 0.5),
    ):
        with pytest.raises(OSError, match="the disk is full"):
            write()
    writer.fail("no space")
    run = Run(tmp_path / "a")
    assert run.status == "failed"
    assert run.reason.startswith("no space; the last 1 displacements are lost (")
    assert run.missing_from == 0
    assert run.steps["step"].tolist() == [*range(64)]
    assert run.checkpoints == (0,)


def test_a_run_that_failed_says_why_and_keeps_its_rows(tmp_path):
    writer = create(tmp_path / "a")
    writer.append({"step": 0})
    writer.add_displacement(0, np.ones(9))
    writer.fail("the loss is NaN")
    run = Run(tmp_path / "a")
    assert (run.status, run.reason) == ("failed", "the loss is NaN")
    assert run.steps["step"].tolist() == run.displacement_steps.tolist() == [0]


def test_a_run_is_running_until_its_writer_ends_it(tmp_path):
    writer = create(tmp_path / "a")
    run = Run(tmp_path / "a")
    assert run.status == "running"
    assert run.steps["step"].size == 0
    writer.append({"step": 0})
    writer.finish()
    assert run.status == "finished"


def test_an_ended_run_takes_nothing_more(tmp_path):
    writer = create(tmp_path / "a")
    writer.finish()
    files = sorted(tmp_path.rglob("*"))
    for write in (
        lambda: writer.append({"step": 0}),
        lambda: writer.add_evaluation(0, 0.0, 0.0),
        lambda: writer.save_checkpoint(0, np.zeros(9), {}),
        lambda: writer.add_displacement(0, np.zeros(9)),
        lambda: writer.describe_displacement(0, np.zeros(1), np.zeros(2)),
        lambda: writer.add_window(0, 1, 1, 1.0, 1.0),
        lambda: writer.finish(),
        lambda: writer.fail("late"),
    ):
        with pytest.raises(ValueError, match="the run has ended and is frozen"):
            write()
    assert sorted(tmp_path.rglob("*")) == files
    assert Run(tmp_path / "a").status == "finished"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_exists_is_refused_and_left_as_it_is(kind, tmp_path):
    path = tmp_path / "a"
    path.mkdir() if kind == "folder" else path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"the output folder must not exist, but .*a does"):
        create(path)
    assert list(path.iterdir()) == [] if kind == "folder" else path.read_text() == "mine"


def test_wrong_columns_shapes_and_colors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="0 to 7, got 8"):
        create(tmp_path / "a", color=8)
    assert list(tmp_path.iterdir()) == []
    writer = create(tmp_path / "a", color=7)
    with pytest.raises(ValueError, match=r"unknown columns \['losses'\]"):
        writer.append({"losses": 1.0})
    with pytest.raises(ValueError, match=r"theta must have shape \(9,\), got \(8,\)"):
        writer.save_checkpoint(0, np.zeros(8), {})
    with pytest.raises(ValueError, match=r"displacement must have shape \(9,\), got \(1, 9\)"):
        writer.add_displacement(0, np.zeros((1, 9)))
    writer.finish()
    assert Run(tmp_path / "a").checkpoints == ()


def test_what_is_recorded_is_what_it_was_at_the_call(tmp_path):
    writer = create(tmp_path / "a")
    row, vector = {"step": 0, "loss": 1.0}, np.ones(9, np.float32)
    writer.append(row)
    writer.add_displacement(0, vector)
    row["loss"], vector[:] = 2.0, 2.0
    writer.finish()
    assert Run(tmp_path / "a").steps["loss"].tolist() == [1]
    assert (Run(tmp_path / "a").displacements()[1] == 1).all()


def test_displacements_wait_for_a_checkpoint_or_until_they_fill_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_DISPLACEMENT_BYTES", 3 * 9 * 4)
    writer = create(tmp_path / "a")
    for step in range(7):
        writer.add_displacement(step, np.full(9, step))
        if step == 4:
            writer.save_checkpoint(5, np.zeros(9), {})
    assert Run(tmp_path / "a").displacement_steps.tolist() == [0, 1, 2, 3, 4]
    writer.finish()
    files = sorted(path.name for path in (tmp_path / "a").rglob("displacements-*"))
    assert files == [f"displacements-{first:08d}.h5" for first in (0, 3, 5)]
    steps, vectors = Run(tmp_path / "a").displacements()
    assert steps.tolist() == vectors[:, 0].tolist() == [*range(7)]


@pytest.mark.parametrize("size", [1, 2**18, 2**18 + 1, 36_500_000])
def test_vectors_are_cut_into_even_chunks_of_at_most_a_mebibyte(size):
    chunk = chunk_of(size)
    chunks = math.ceil(size / chunk)
    assert 4 * chunk <= 2**20
    assert chunks * chunk - size < chunks


def test_runs_of_one_group_share_a_color_and_other_groups_have_others(tmp_path):
    for name, seed, lr in [("a", 0, 0.1), ("b", 1, 0.1), ("c", 0, 0.2), ("d", 2, 0.1)]:
        create(tmp_path / name, seed=seed, lr=lr).finish()
    a, b, c, d = (Run(tmp_path / name) for name in "abcd")
    assert a.group == b.group == d.group != c.group
    assert a.color == b.color == d.color != c.color
    assert len({run.id for run in (a, b, c, d)}) == 4


def test_a_method_has_its_own_color_where_it_is_free(tmp_path):
    colors = {}
    for lr, method in enumerate(["SGD", "SAM+AACE", "SAM", "Adam"]):
        create(tmp_path / method, lr=lr, method=method).finish()
        colors[method] = Run(tmp_path / method).color
    assert colors == {"SAM": 0, "SAM+AACE": 1, "SGD": 2, "Adam": 3}
    create(tmp_path / "again", lr=9, method="SAM").finish()
    assert Run(tmp_path / "again").color == 4
    for lr in range(20, 24):
        create(tmp_path / str(lr), lr=lr).finish()
    assert {Run(path).color for path in tmp_path.iterdir()} == set(range(8))


def test_run_json_is_whole_and_tells_schema_times_and_settings(tmp_path):
    writer = create(tmp_path / "a", group="abc", total_steps=5, provenance={"host": "h"})
    before = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (before["status"], before["ended"]) == ("running", None)
    writer.finish({"test_loss": np.float32(0.5), "seconds": float("nan")})
    after = json.loads((tmp_path / "a" / "run.json").read_text())
    changed = {name for name in after if name != "summary" and before[name] != after[name]}
    assert changed == {"status", "ended"}
    assert after["schema_version"] == SCHEMA_VERSION
    assert after["group"] == "abc"
    assert after["created"].endswith("Z")
    assert after["summary"]["test_loss"] == 0.5
    assert math.isnan(after["summary"]["seconds"])
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {".lock", "run.json", "segment-000"}


def test_a_run_that_failed_says_the_first_step_it_lacks(tmp_path):
    writer = create(tmp_path / "a")
    for step in range(3):
        writer.append({"step": step})
    writer.fail("killed", steps=3)
    assert Run(tmp_path / "a").missing_from is None
    writer = create(tmp_path / "b")
    writer.append({"step": 0})
    writer.fail("full", steps=3)
    run = Run(tmp_path / "b")
    assert run.missing_from == 1
    assert run.reason == "full; updates 1 to 2 are not recorded"


def test_a_run_is_taken_up_in_a_segment_of_its_own(tmp_path):
    writer = create(tmp_path / "a")
    for step in range(6):
        writer.append({"step": step, "loss": step})
        writer.describe_displacement(step, np.full(1, step), np.full(2, step))
        writer.add_displacement(step, np.full(9, step))
    writer.add_window(0, 4, 4, 0.5, 0.0)
    writer.add_window(4, 6, 2, 0.5, 0.0)
    writer.fail("stopped")
    writer = RunWriter.resume(tmp_path / "a", 4)
    run = Run(tmp_path / "a")
    assert (run.status, run.reason) == ("running", "")
    assert run.steps["step"].tolist() == [*range(6)]  # nothing is forgotten before it is replaced
    for step in range(4, 8):
        writer.append({"step": step, "loss": step + 0.5})
        writer.describe_displacement(step, np.full(1, step + 0.5), np.full(2, step))
        writer.add_displacement(step, np.full(9, step + 0.5))
    writer.add_window(4, 8, 4, 0.75, 0.5)
    writer.finish()
    run = Run(tmp_path / "a")
    expected = [0, 1, 2, 3, 4.5, 5.5, 6.5, 7.5]
    assert run.status == "finished"
    assert run.steps["loss"].tolist() == expected
    assert run.displacements()[1][:, 0].tolist() == expected
    assert run.sketches()[0].tolist() == [*range(8)]
    assert run.sketches()[1][:, 0].tolist() == expected
    assert run.sketches(3, 6)[1][:, 0].tolist() == [3, 4.5, 5.5]
    assert run.tensor_norms()[1].shape == (8, 2)
    assert run.windows["stop"].tolist() == [4, 8]
    assert run.windows["resultant_length"].tolist() == [0.5, 0.75]
    header = json.loads((tmp_path / "a" / "run.json").read_text())
    assert [at["step"] for at in header["resumed"]] == [4]
    assert "reason" not in header


def test_what_can_not_be_taken_up_is_refused_and_left_as_it_is(tmp_path):
    writer = create(tmp_path / "a")
    writer.append({"step": 0})
    with pytest.raises(BusyError, match="another process is writing this run"):
        RunWriter.resume(tmp_path / "a", 0)
    writer.fail("stopped")
    files = sorted(tmp_path.rglob("*"))
    for step in (2, -1):
        with pytest.raises(ValueError, match=f"to resume at step {step}, all updates before"):
            RunWriter.resume(tmp_path / "a", step)
    assert sorted(tmp_path.rglob("*")) == files
    RunWriter.resume(tmp_path / "a", 1).finish()
    with pytest.raises(ValueError, match="the run has finished and is frozen"):
        RunWriter.resume(tmp_path / "a", 1)
    with pytest.raises(RunFileError, match="expected a run"):
        RunWriter.resume(tmp_path / "b", 0)


def test_a_resume_killed_before_its_segment_was_whole_leaves_the_run_readable(tmp_path):
    writer = create(tmp_path / "a")
    writer.append({"step": 0})
    writer.fail("stopped")
    half = tmp_path / "a" / ".segment-001.tmp"
    half.mkdir()
    (half / "steps.h5").write_bytes(b"half")
    assert Run(tmp_path / "a").steps["step"].tolist() == [0]
    writer = RunWriter.resume(tmp_path / "a", 1)
    writer.append({"step": 1})
    writer.finish()
    assert not half.exists()
    assert Run(tmp_path / "a").steps["step"].tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_vectors_of_two_bytes_come_back_as_what_they_stand_for(kind, tmp_path):
    problem = {"name": "x", "options": {}}
    given = {"config": {}, "problem": problem, "layout": LAYOUT, "method": "SAM"}
    writer = RunWriter.create(tmp_path / "a", recording={"dtype": kind}, **given)
    values = np.array([0, 1, -1.5, 2.0**-20, 3, 4, 5, 6, np.inf], np.float32)
    with pytest.raises(ValueError, match="vectors of this run must be"):
        writer.add_displacement(0, values)
    if kind == "float16":
        writer.add_displacement(0, (values / 2).astype(np.float16), scale=2.0)
        expected = (values / 2).astype(np.float16).astype(np.float32) * 2
    else:
        writer.add_displacement(0, (values.view(np.uint32) >> 16).astype(np.uint16))
        expected = values  # none needs more than eight bits
    writer.finish()
    steps, vectors = Run(tmp_path / "a").displacements()
    assert steps.tolist() == [0]
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[0], expected)
