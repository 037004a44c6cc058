"""`make study`: real runs of three epochs, killed and stopped; what is said of made-up numbers."""

import copy
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import study
from kill_trials import kill, wait_until
from study_measures import COMPARED, MEASURES, differences, elapsed, means
from study_runs import Job, plan, planned_bytes, spans_of, state_of
from study_table import learned, markdown, statement, summarize

from landscape.runs import Run
from training.config import TrainConfig
from training.presets import PRESETS, STUDIED

ROOT = Path(__file__).parent.parent
SMALL = ["--methods", "sgd", "--seeds", "1", "--epochs", "4"]


@pytest.fixture
def start():
    """Start a process; none outlives the test."""
    started = []

    def begin(command):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env))
        return started[-1]

    yield begin
    for process in started:
        kill(process)
        process.communicate()


def await_state(process, folder, step):
    """Wait until a run of a live process can go on from this step or a later one."""

    def saved():
        return any(int(path.stem[-8:]) >= step for path in folder.glob("state-*.pt"))

    wait_until(lambda: process.poll() is not None or saved())
    assert process.poll() is None


def test_a_study_that_is_killed_and_stopped_goes_on_and_ends_with_a_table(start, tmp_path):
    command = [sys.executable, ROOT / "scripts" / "study.py", "--out", tmp_path, *SMALL]
    job = plan(tmp_path, ("sgd",), 1, 4)[0]
    left_behind = start(job.command(anew=True))  # as by a study that was killed itself
    await_state(left_behind, job.folder, 78)
    left_behind.send_signal(signal.SIGSTOP)  # so that it is not done too soon
    run = Run(job.folder)

    study = start(command)
    assert study.stdout.readline().startswith("1 of 1 runs to train, up to 0.0")
    assert "sgd-0: is being trained by a process" in study.stdout.readline()
    left_behind.kill()
    left_behind.communicate()
    await_state(study, job.folder, 156)
    study.send_signal(signal.SIGINT)
    told, error = study.communicate(timeout=120)
    assert (study.returncode, error) == (130, "")
    assert "sgd-0: stopped after" in told
    assert f"`make study STUDY='--out {tmp_path} --seeds 1 --methods sgd --epochs 4'` goes" in told
    assert "stopped by SIGTERM" in Run(job.folder).reason

    study = start(command)
    told, error = study.communicate(timeout=240)
    assert (study.returncode, error) == (0, "")
    assert "1 of 1 runs" in told
    assert (Run(job.folder).id, Run(job.folder).status) == (run.id, "finished")
    check_parts(job)
    check_report(tmp_path, Run(job.folder))


def check_parts(job):
    """Three parts, each from a saved state on, and their time; no more disk than was told."""
    run = Run(job.folder)
    header = json.loads((run.path / "run.json").read_text())
    first, second = (part["step"] for part in header["resumed"])
    assert 78 <= first < 156 <= second < 312
    spans = spans_of(run)
    assert len(spans) == 3
    assert all(begin <= end + 1 for begin, end in spans)  # begins are kept to the second
    taken = sum(path.stat().st_size for path in run.path.glob("segment-*/**/*.h5"))
    assert taken < planned_bytes(job, run.layout.size, len(run.layout))


def check_report(out, run):
    """The numbers of the table are those that the run measured at its end."""
    report = json.loads(next(out.glob("*.json")).read_text())
    sgd = report["methods"]["sgd"]
    assert sgd["test_error"]["mean"] == pytest.approx(100 * (1 - run.summary["test_accuracy"]))
    assert sgd["test_ce"]["mean"] == pytest.approx(run.summary["test_loss"], rel=1e-5)
    assert sgd["train_accuracy"]["values"] == [100 * run.summary["train_accuracy"]]
    assert 0.3 < sgd["temperature"]["mean"] < 3
    assert sgd["test_ce_scaled"]["mean"] < sgd["test_ce"]["mean"] + 0.01
    assert str(out) not in report["command"]
    assert (report["epochs"], report["steps"]) == (4, 312)
    text = next(out.glob("*.md")).read_text()
    assert "One run was stopped and taken up again." in " ".join(text.split())


def call(capsys, *words):
    try:
        code = study.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "expected a whole number, at least 1, got '0'"),
        (["--epochs", "two"], "got 'two'"),
        (["--methods", "sgd,same"], "got 'same' (did you mean 'sam'?)"),
        (["--method", "sgd", "--out", "OUT", "--only-table"], "unrecognized arguments: --method"),
        (["--out", __file__], "is a file; choose another"),
        (["--out", "OUT", "--only-table"], "15 of 15 in OUT are not, as sgd-0"),
    ],
)
def test_bad_options_are_told_with_exit_code_2(tmp_path, capsys, words, message):
    out = str(tmp_path / "new")
    code, error = call(capsys, *[out if word == "OUT" else word for word in words])
    assert code == 2
    assert message.replace("OUT", out) in error
    assert "Traceback" not in error


def test_a_folder_with_another_run_or_none_is_refused_before_anything_is_trained(
    run, tmp_path, capsys
):
    out = tmp_path / "out"
    out.mkdir()
    run.path.rename(out / "sam-1")
    code, error = call(capsys, "--out", out)
    assert code == 2
    assert "must have the settings of study-sam, got preset digits-aace, not study-sam" in error
    (out / "sam-1").rename(out / "other")
    (out / "vasso-0").mkdir()
    (out / "vasso-0" / "notes.txt").touch()
    code, error = call(capsys, "--out", out)
    assert code == 2
    assert "a folder without run.json" in error
    assert sorted(path.name for path in out.iterdir()) == ["other", "vasso-0"]


@pytest.fixture
def ended(run):
    """A run and the job that it is, ended early; no state is left."""
    config = replace(PRESETS["digits-aace"](), steps=60, checkpoint_every=15)
    job = Job("aace", 0, config, run.path)
    assert state_of(job) == "finished"
    header = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(header | {"status": "failed"}))
    return job


def test_a_run_goes_on_where_it_has_a_state_and_is_never_removed_where_it_has_updates(ended):
    with pytest.raises(ValueError, match="must hold a saved state to go on"):
        state_of(ended)
    (ended.folder / "state-00000045.pt").touch()
    assert state_of(ended) == "resumable"


def test_a_run_that_was_killed_before_it_began_is_trained_anew(ended, tmp_path):
    folder = tmp_path / "sgd-0"
    (folder / "segment-000").mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / ".run.json.7.tmp").touch()
    assert state_of(replace(ended, folder=folder)) == "new"
    assert not folder.exists()
    (ended.folder / "run.json").unlink()
    with pytest.raises(ValueError, match=r"folder without run\.json"):
        state_of(ended)
    assert any(ended.folder.glob("segment-000/snapshots/*"))


def test_settings_that_are_learned_with_must_be_the_presets(ended):
    for change in ({"lr": 0.3}, {"seed": 1}, {"record": "full"}):
        with pytest.raises(ValueError, match="must have the settings"):
            state_of(replace(ended, config=replace(ended.config, **change)))


def test_a_run_from_before_there_was_a_setting_counts_as_one_with_its_default(ended):
    file = ended.folder / "run.json"
    header = json.loads(file.read_text())
    del header["config"]["sync_batchnorm"]
    file.write_text(json.dumps(header | {"status": "finished"}))
    assert state_of(ended) == "finished"
    with pytest.raises(ValueError, match="got sync_batchnorm False, not True"):
        state_of(replace(ended, config=replace(ended.config, sync_batchnorm=True)))


def test_too_small_a_disk_is_told_before_training(tmp_path):
    assert study.check_room(2_000_000, tmp_path) == f"up to 0.002 GB in {tmp_path}"
    with pytest.raises(ValueError, match=r"take up to 1e\+09 GB .* are free there; make room"):
        study.check_room(10**18, tmp_path)


def test_seeds_come_one_after_the_other_each_with_all_methods(tmp_path):
    names = [job.name for job in plan(tmp_path, STUDIED, 2, 60)]
    assert names[:6] == ["sgd-0", "sam-0", "aace-0", "vasso-0", "f-sam-0", "sgd-1"]
    command = plan(tmp_path, STUDIED, 2, 60)[6].command(anew=True)
    assert command[4:] == [
        *("--preset", "study-sam", "--seed", "1", "--epochs", "60"),
        *("--out", str(tmp_path / "sam-1")),
    ]


ERRORS = {"sgd": [0.12, 0.13, 0.14], "sam": [0.11, 0.12, 0.13], "aace": [0.12, 0.10, 0.14]}
"""SAM is better than SGD by the same with every seed; AACE by nothing that is certain."""


@pytest.fixture
def runs():
    made = []
    for method, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            calibration = {
                "error": error,
                "cross_entropy": 0.5,
                "ece": 0.05,
                "ece_null": 0.01,
                "temperature": 2.0,
                "error_interval": (error - 0.01, error + 0.01),
                "cross_entropy_interval": (0.4, 0.6),
                "ece_interval": (0.04, 0.06),
            }
            made.append(
                {
                    "method": method,
                    "seed": seed,
                    "seconds": 60.0,
                    "spans": [(0.0, 60.0)],
                    "bytes": 10**8,
                    "train": {"accuracy": 0.999, "loss": 0.01},
                    "test": calibration,
                    "test_scaled": calibration,
                }
            )
    return made


def test_means_have_students_interval_over_seeds(runs):
    error = means(runs)["sgd"]["test_error"]
    half = 4.302653 / math.sqrt(3)  # the 97.5 % quantile with 2 degrees, s.d. 1 %
    assert error["mean"] == pytest.approx(13)
    assert (error["low"], error["high"]) == pytest.approx((13 - half, 13 + half))
    assert error["values"] == pytest.approx([12, 13, 14])


def test_differences_are_paired_by_seed(runs):
    rows = {(r["method"], r["base"], r["measure"]): r for r in differences(runs[::-1])}
    assert len(rows) == 3 * len(COMPARED)  # to SGD of two, to SAM of one
    sam = rows["sam", "sgd", "test_error"]
    assert sam["values"] == pytest.approx([-1, -1, -1])
    assert (sam["low"], sam["high"]) == pytest.approx((-1, -1))
    assert rows["aace", "sgd", "test_error"]["values"] == pytest.approx([0, -3, 0])
    assert rows["aace", "sam", "test_error"]["values"] == pytest.approx([1, -2, 1])


def report_of(runs):
    return summarize(runs, TrainConfig(steps=0, epochs=60), "make study")


def test_the_statement_has_what_aace_changes_and_counts_what_is_clear_of_zero(runs):
    for run in runs:
        run["test"]["error"] += 1e-4 * (run["method"] == "sam") * run["seed"]
    words = statement(report_of(runs))
    assert words.startswith("SAM+AACE − SGD: test error −1.00 [−5.30, 3.30] %, test CE 0.0000 [")
    assert "; SAM+AACE − SAM: test error −0.01 [" in words
    assert "SAM − SGD" not in words
    assert "Of the 9 such differences of all methods 1 have an interval that leaves" in words
    without = statement(report_of([run for run in runs if run["method"] != "aace"]))
    assert without.startswith("SAM − SGD: test error −0.99 [−1.01, −0.97] %")


def test_a_single_seed_says_nothing_of_differences(runs):
    single = report_of([run for run in runs if run["seed"] == 0])
    assert statement(single).startswith("Nothing is said of differences")
    assert "| test error, % | 12.00 ± – |" in markdown(single)


def test_the_report_says_plainly_when_sgd_has_not_learned_its_images(runs):
    assert learned(report_of(runs)).endswith("every seed; the lowest is 99.90 %.")
    runs[1]["train"]["accuracy"] = 0.985
    assert "did NOT reach the wanted 99 % training accuracy with 1 of 3" in learned(report_of(runs))
    assert "whether it learns" in learned(report_of(runs[3:]))


def test_the_table_has_both_sources_of_spread(runs):
    runs[0]["test"] = copy.deepcopy(runs[0]["test"]) | {"error_interval": (0.115, 0.13)}
    text = markdown(report_of(runs))
    assert "| test error, % | 0.75 / 2.48 |" in text
    assert "(SAM 0.05, SAM+AACE 0.2;" in text
    assert all(f"| {measure.label} |" in text for measure in MEASURES.values())


def test_elapsed_time_counts_no_pause_and_nothing_twice():
    spans = [[(0.0, 10.0), (100.0, 130.0)], [(5.0, 20.0)], [(6.0, 7.0)]]
    assert elapsed([{"spans": part} for part in spans]) == 50
