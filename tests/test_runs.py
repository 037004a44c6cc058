"""Reading run folders: whole, resumed, damaged, and several at once."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from landscape.layouts import Entry, Layout
from landscape.results import Spectrum
from landscape.runs import COLUMNS, Run, RunFileError, find_runs
from landscape.segments import TABLES, WIDE
from landscape.writers import RunWriter

LAYOUT = Layout(
    (
        Entry(name="w", shape=(2, 3), offset=0, kind="weight"),
        Entry(name="b", shape=(3,), offset=6, kind="bias"),
    )
)
STEPS = "segment-000/steps.h5"
SNAPSHOTS = "segment-000/snapshots"


def create(path, *, seed=0):
    return RunWriter.create(
        path,
        config={"seed": seed, "lr": 0.1},
        problem={"name": "digits", "options": {"seed": seed}},
        layout=LAYOUT,
        method="SAM",
        total_steps=10,
        provenance={"device": "cpu"},
    )


def record(path, first, stop, *, mark=0.0):
    """Record updates first <= t < stop: losses, weights and vectors are t + mark, in all places."""
    writer = create(path)
    for step in range(first, stop):
        if step % 4 == 0:
            writer.save_checkpoint(step, np.full(9, step + mark), {"bn.mean": np.arange(3.0)})
            writer.add_evaluation(step, step + mark, 0.5)
        writer.append({"step": step, "loss": step + mark})
        writer.add_displacement(step, np.full(9, step + mark))
    writer.save_checkpoint(stop, np.full(9, stop + mark), {})
    writer.finish({"test_loss": 0.5, "test_accuracy": np.float64(0.9)})
    return path


@pytest.fixture
def recorded(tmp_path):
    """A finished run of ten updates with checkpoints 0, 4, 8, 10."""
    return record(tmp_path / "a", 0, 10)


def test_a_run_reads_back_what_was_written(recorded):
    run = Run(recorded)
    assert (run.name, run.method, run.status, run.color) == ("a", "SAM", "finished", 0)
    assert len(run.id) == 10
    assert run.id.isalnum()
    assert run.layout == LAYOUT
    assert run.total_steps == 10
    assert run.config == {"seed": 0, "lr": 0.1}
    assert run.problem == {"name": "digits", "options": {"seed": 0}}
    assert run.provenance == {"device": "cpu"}
    assert run.summary == {"test_loss": 0.5, "test_accuracy": 0.9}
    assert run.steps["step"].tolist() == run.steps["loss"].tolist() == [*range(10)]
    assert run.evaluations["step"].tolist() == run.evaluations["test_loss"].tolist() == [0, 4, 8]
    assert run.evaluations["test_accuracy"].tolist() == [0.5] * 3
    assert repr(run) == f"Run({str(recorded)!r}, SAM, finished)"


def test_columns_not_given_are_nan_and_nan_and_infinity_stay(tmp_path):
    writer = create(tmp_path / "a")
    writer.append({"step": 0, "loss": np.nan, "lr": np.inf})
    writer.finish()
    rows = Run(tmp_path / "a").steps
    assert set(rows) == set(COLUMNS)
    assert all(column.dtype == np.float64 for column in rows.values())
    assert {name for name in rows if not np.isnan(rows[name][0])} == {"step", "lr"}
    assert np.isposinf(rows["lr"][0])


def test_checkpoints_hold_float32_theta_and_buffers_of_every_kind(tmp_path):
    buffers = {
        "bn.mean": np.array([np.nan, np.inf, -1.5], np.float32),
        "bn.batches": np.array(7),
        "mask": np.array([True, False]),
        "phase": np.array([1j], np.complex64),
        "empty": np.empty((0, 3), np.float16),
    }
    writer = create(tmp_path / "a")
    theta = np.array([np.nan, np.inf, 1 / 3, *range(6)])
    writer.save_checkpoint(3, theta, buffers)
    writer.finish()
    kept = Run(tmp_path / "a").checkpoint(3)
    assert kept.step == 3
    assert kept.theta.dtype == np.float32
    np.testing.assert_array_equal(kept.theta, theta.astype(np.float32))
    assert kept.buffers.keys() == buffers.keys()
    for name, value in buffers.items():
        np.testing.assert_array_equal(kept.buffers[name], value)
        assert (kept.buffers[name].dtype, kept.buffers[name].shape) == (value.dtype, value.shape)


def test_checkpoints_are_named_first_last_or_by_their_step(recorded):
    run = Run(recorded)
    assert run.checkpoints == (0, 4, 8, 10)
    named = {"first": 0, "last": 10, "4": 4, 8: 8, np.int64(8): 8}
    assert {name: run.resolve(name) for name in named} == named
    assert run.checkpoint().step == run.checkpoint("last").step == 10
    assert (run.checkpoint("4").theta == 4).all()


@pytest.mark.parametrize("wrong", ["middle", 5, "5", -1, "", 4.5, None, "last "])
def test_a_checkpoint_that_is_not_kept_is_refused_and_those_kept_are_named(recorded, wrong):
    told = f"checkpoint must be first, last or one of 0, 4, 8, 10, got {wrong!r} for {recorded}"
    with pytest.raises(RunFileError) as caught:
        Run(recorded).checkpoint(wrong)
    assert str(caught.value) == told


def test_a_run_that_keeps_no_checkpoint_says_so(tmp_path):
    create(tmp_path / "a").fail("early")
    with pytest.raises(RunFileError, match="keeps no checkpoint"):
        Run(tmp_path / "a").resolve("last")


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (3, 9), (4, 8), (8, 8), (9, 99), (50, None)]
)
def test_displacements_are_cut_by_step_whatever_block_they_lie_in(recorded, start, stop):
    expected = [step for step in range(10) if start <= step < (99 if stop is None else stop)]
    steps, vectors = Run(recorded).displacements(start, stop)
    assert steps.tolist() == expected
    assert vectors.shape == (len(expected), 9)
    assert vectors.dtype == np.float32
    assert (vectors == steps[:, None]).all()


def test_displacements_stream_block_by_block(recorded):
    blocks = [steps.tolist() for steps, _ in Run(recorded).iterate_displacements(2, 9)]
    assert blocks == [[2, 3], [4, 5, 6, 7], [8]]


def test_a_run_without_displacements_has_none(tmp_path):
    create(tmp_path / "a").finish()
    run = Run(tmp_path / "a")
    assert run.displacement_steps.dtype == np.int64
    assert run.displacement_steps.size == 0
    assert run.displacements()[1].shape == (0, 9)


def resume(run, number, other):
    """Give a run the segment that another process wrote."""
    shutil.copytree(other / "segment-000", run / f"segment-{number:03d}")


def test_a_resumed_run_goes_on_from_the_step_it_was_resumed_from(recorded, tmp_path):
    resume(recorded, 1, record(tmp_path / "b", 4, 14, mark=0.25))
    run = Run(recorded)
    expected = [step + 0.25 * (step >= 4) for step in range(14)]
    assert run.steps["step"].tolist() == [*range(14)]
    assert run.steps["loss"].tolist() == expected
    assert run.displacement_steps.tolist() == [*range(14)]
    assert run.displacements()[1][:, 0].tolist() == expected
    # what was evaluated when it stopped is not evaluated twice, what followed is forgotten
    assert run.evaluations["test_loss"].tolist() == [0, 4, 8.25, 12.25]
    assert run.checkpoints == (0, 4, 8, 12, 14)
    assert run.checkpoint(8).theta[0] == 8.25


def test_a_run_resumed_from_further_back_forgets_all_that_followed(recorded, tmp_path):
    resume(recorded, 1, record(tmp_path / "b", 8, 14, mark=0.25))
    resume(recorded, 2, record(tmp_path / "c", 4, 6, mark=0.5))
    (recorded / "segment-002" / "snapshots" / "checkpoint-00000004.h5").unlink()
    run = Run(recorded)
    assert run.steps["loss"].tolist() == [0, 1, 2, 3, 4.5, 5.5]
    assert run.displacements()[1][:, 0].tolist() == [0, 1, 2, 3, 4.5, 5.5]
    assert run.evaluations["step"].tolist() == [0, 4]
    assert run.checkpoints == (0, 4, 6)
    assert run.checkpoint(4).theta[0] == 4


def test_a_segment_without_rows_yet_takes_nothing_away(recorded, tmp_path):
    create(tmp_path / "b").finish()
    resume(recorded, 1, tmp_path / "b")
    assert Run(recorded).steps["step"].tolist() == [*range(10)]
    assert Run(recorded).checkpoints == (0, 4, 8, 10)


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_that_is_no_run_is_refused_by_name(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFileError, match=rf"{name}: expected a run, got .*`landscape runs`"):
        Run(tmp_path / name)


def edit(file, **changes):
    header = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in header.items() if value is not ...}))


DAMAGE = {
    "id": [..., 5],
    "color": [8, -1, "red", None, 1.5],
    "layout": [
        [],
        [{"name": "w"}],
        [{"name": "w", "shape": [9], "offset": 3, "kind": "weight"}],
        5,
    ],
    "problem": [..., {}, "digits"],
    "summary": [None],
    "status": [..., 3],
    "total_steps": ["many", ...],
    "schema_version": [..., "2.0", 2, None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in DAMAGE.items() for value in values]
)
def test_a_damaged_run_json_is_refused_by_name(recorded, name, value):
    edit(recorded / "run.json", **{name: value})
    if value == []:
        assert Run(recorded).layout.size == 0
        return
    with pytest.raises(RunFileError, match=r"a/run\.json: (damaged|schema 2|schema None)"):
        Run(recorded)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "[" * 100_000, "\udcff"])
def test_a_run_json_that_is_not_an_object_is_refused_by_name(recorded, text):
    (recorded / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunFileError, match=r"a/run\.json: damaged"):
        Run(recorded)


def test_a_run_of_a_later_minor_version_is_read(recorded):
    edit(recorded / "run.json", schema_version="1.9", mood="good")
    assert Run(recorded).steps["step"].size == 10


def replace(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


BROKEN = {
    "a column is missing": (STEPS, "steps/loss", None, "lacks the data set 'steps/loss'"),
    "a column is short": (STEPS, "steps/loss", np.zeros(9), "holds 9 rows, expected the 10"),
    "a column holds text": (STEPS, "steps/loss", np.full(10, b"x"), "must be float64"),
    "the count is missing": (STEPS, "steps/committed", None, "lacks the data set"),
    "rows are no group": (STEPS, "steps", np.zeros(3), "damaged|lacks"),
    "evaluations are missing": (STEPS, "evaluations", None, "damaged|lacks"),
    "theta is too long": (
        f"{SNAPSHOTS}/checkpoint-00000004.h5",
        "theta",
        np.zeros(10, np.float32),
        r"'theta' must be float32 \[9\], got float32 \[10\]",
    ),
    "theta is of another kind": (
        f"{SNAPSHOTS}/checkpoint-00000004.h5",
        "theta",
        np.zeros(9),
        "must be float32",
    ),
    "theta is missing": (f"{SNAPSHOTS}/checkpoint-00000004.h5", "theta", None, "lacks"),
    "buffers are missing": (f"{SNAPSHOTS}/checkpoint-00000004.h5", "buffers", None, "lacks"),
    "vectors are of another run": (
        f"{SNAPSHOTS}/displacements-00000004.h5",
        "vectors",
        np.zeros((4, 8), np.float32),
        r"must be float32 \[4, 9\], got float32 \[4, 8\]",
    ),
    "vectors and steps differ": (
        f"{SNAPSHOTS}/displacements-00000004.h5",
        "step",
        np.arange(3),
        r"must be float32 \[3, 9\]",
    ),
}


def read_all(run):
    assert run.steps is not None
    assert run.evaluations is not None
    run.checkpoint(4)
    run.displacements()


@pytest.mark.parametrize(("file", "name", "value", "told"), BROKEN.values(), ids=BROKEN)
def test_a_damaged_record_is_refused_by_file_and_reason(recorded, file, name, value, told):
    replace(recorded / file, name, value)
    with pytest.raises(RunFileError, match=told) as caught:
        read_all(Run(recorded))
    assert str(recorded / file) in str(caught.value)


@pytest.mark.parametrize(
    "file", [STEPS, *(f"{SNAPSHOTS}/{n}-00000004.h5" for n in ("checkpoint", "displacements"))]
)
@pytest.mark.parametrize("kept", [0.0, 0.6, 0.98])
def test_a_truncated_record_is_refused_by_file(recorded, file, kept):
    content = (recorded / file).read_bytes()
    (recorded / file).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(RunFileError) as caught:
        read_all(Run(recorded))
    assert str(recorded / file) in str(caught.value)


def test_a_flipped_weight_is_noticed_by_its_checksum(recorded):
    file = recorded / SNAPSHOTS / "checkpoint-00000004.h5"
    stored = np.full(9, 4, np.float32).tobytes()
    content = file.read_bytes()
    assert content.count(stored) == 1
    file.write_bytes(content.replace(stored, np.full(9, 5, np.float32).tobytes()))
    with pytest.raises(RunFileError, match="checkpoint-00000004"):
        Run(recorded).checkpoint(4)


def test_a_run_without_segments_says_that_nothing_was_recorded(recorded):
    shutil.rmtree(recorded / "segment-000")
    run = Run(recorded)
    for read in (lambda: run.steps, lambda: run.checkpoints, lambda: run.displacements()):
        with pytest.raises(RunFileError, match="holds no segment"):
            read()


def test_unfinished_and_foreign_files_in_a_run_are_passed_over(recorded):
    folder = recorded / SNAPSHOTS
    for name in (".checkpoint-00000099.h5.1.tmp", "checkpoint-last.h5", "notes.txt"):
        (folder / name).write_text("x")
    (recorded / "segment-notes").write_text("x")
    assert Run(recorded).checkpoints == (0, 4, 8, 10)


def test_a_run_whose_lock_is_gone_has_died_unless_it_ended(recorded, tmp_path):
    writer = create(tmp_path / "b")
    (tmp_path / "b" / ".lock").unlink()
    (recorded / ".lock").unlink()
    assert Run(tmp_path / "b").status == "died"
    assert Run(recorded).status == "finished"
    writer.finish()


def spectrum(created, value=1.0):
    return Spectrum(
        eigenvalues=[value],
        residuals=[0.0],
        facts={"seed": 0},
        options={"k": 1},
        provenance={"created": created},
    )


def test_results_are_listed_oldest_first_and_loaded_on_demand(recorded):
    folder = recorded / "results"
    spectrum("2026-02-01", 2.0).save(folder / "spectrum-aaaaaaaaaaaa.h5")
    spectrum("2026-01-01", 1.0).save(folder / "spectrum-bbbbbbbbbbbb.h5")
    listed = Run(recorded).results()
    assert [stored.key for stored in listed] == ["b" * 12, "a" * 12]
    assert [stored.created for stored in listed] == ["2026-01-01", "2026-02-01"]
    assert listed[0].kind == "spectrum"
    assert (listed[0].facts, listed[0].options) == ({"seed": 0}, {"k": 1})
    assert listed[0].load().eigenvalues.tolist() == [1.0]
    assert Run(recorded).results("spectrum") == listed
    assert Run(recorded).results("surface") == []


def test_damaged_results_are_left_out_of_the_list_but_named_among_the_files(recorded):
    folder = recorded / "results"
    spectrum("2026-01-01").save(folder / "spectrum-aaaaaaaaaaaa.h5")
    (folder / "spectrum-bbbbbbbbbbbb.h5").write_text("not HDF5")
    with h5py.File(folder / "spectrum-cccccccccccc.h5", "w") as file:
        file["header"] = np.frombuffer(b'{"kind": "spectrum", "schema_version": "1.0"}', np.uint8)
    run = Run(recorded)
    assert [stored.key for stored in run.results()] == ["a" * 12]
    assert [path.stem[9] for path in run.result_paths("spectrum")] == ["a", "b", "c"]


def test_a_run_without_results_lists_none(recorded):
    assert Run(recorded).results() == []


def test_find_runs_gives_the_runs_of_a_folder_and_leaves_damaged_ones_out(tmp_path):
    for name in ("c", "b", "a", "damaged", "foreign"):
        create(tmp_path / name).finish()
    (tmp_path / "damaged" / "run.json").write_text("{")
    edit(tmp_path / "foreign" / "run.json", schema_version="9.0")
    edit(tmp_path / "c" / "run.json", created="2000-01-01T00:00:00Z")
    (tmp_path / "joint").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert [run.name for run in find_runs(tmp_path)] == ["c", "a", "b"]
    assert [run.name for run in find_runs(tmp_path / "b")] == ["b"]
    assert find_runs(tmp_path / "joint") == []


def test_the_schema_page_names_every_column_and_every_field_of_run_json(recorded):
    page = (Path(__file__).parent.parent / "docs" / "schema.md").read_text(encoding="utf-8")
    columns = [name for table in TABLES.values() for name in table]
    names = [*TABLES, *columns, *WIDE, *json.loads((recorded / "run.json").read_text())]
    assert [name for name in names if f"`{name}`" not in page] == []
