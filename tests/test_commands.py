"""The command line as a user calls it: what it prints, its exit codes, what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from landscape.__main__ import COMMANDS, main
from landscape.runs import Run

ANALYSES = ("profile", "surface", "spectrum", "consistency", "trajectory")


def refused(done, *words):
    """A user's mistake: exit code 2, one line that says it all, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    return True


def test_help_names_every_command_without_loading_torch():
    code = (
        "import sys; from landscape.__main__ import main; main(['--help']); "
        "heavy = {'torch', 'numpy', 'dash', 'h5py', 'jsonargparse', 'matplotlib'}; "
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(name in done.stdout for name in COMMANDS)


def test_import_landscape_loads_no_torch():
    code = "import sys, landscape; sys.exit(bool({'torch', 'numpy', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_imported():
    code = "import landscape; [getattr(landscape, name) for name in landscape.__all__]"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_with_an_example(landscape, command):
    done = landscape(command, "--help")
    assert done.returncode == 0, done.stderr
    assert COMMANDS[command].example in " ".join(done.stdout.split())


def test_unknown_words_are_refused_with_the_nearest_known(landscape, run):
    assert refused(landscape("surfce"), "did you mean 'surface'")
    assert refused(landscape("surface", run.path, "--poinst", 5), "did you mean '--points'")
    assert refused(landscape("surface", run.path, "--plane", "hesian"), "did you mean 'hessian'")
    assert refused(landscape("surface", run.path, "--points", "many"), "whole number", "'many'")
    assert refused(
        landscape("train", "--preset", "fashion-ace", "--out", "x"), "did you mean 'fashion-aace'"
    )
    assert not list(run.path.glob("results/*"))


def test_a_reader_that_has_read_enough_ends_a_command_without_a_word(run):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "landscape", "runs", str(run.path.parent)],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_bad_numbers_are_refused(landscape, run):
    assert refused(landscape("surface", run.path, "--points", 0), "points", "0")
    assert refused(landscape("profile", run.path, "--repeats", 0), "repeats", "0")
    assert refused(landscape("surface", run.path, "--checkpoint", 7), "0, 15, 30, 45, 60", "7")
    assert not list(run.path.glob("results/*"))


def test_values_of_the_wrong_kind_are_told_in_words(landscape, run):
    assert refused(landscape("surface", run.path, "--extent", "wide"), "--extent must be a number")
    drops = landscape("train", "--preset", "digits-sgd", "--out", "x", "--lr-drops", "0.3,0.6")
    assert refused(drops, "--lr-drops must be a list in brackets")


def test_what_is_no_problem_is_refused(landscape, tmp_path):
    (tmp_path / "bad.py").write_text("def make():\n    return 3\n")
    assert refused(landscape("surface", "--problem", "bad.py:make"), "must return a", "int")


def test_missing_and_damaged_runs_are_refused(landscape, run, tmp_path):
    assert refused(landscape("surface", tmp_path / "nothing"), "no such folder")
    assert refused(landscape("surface", tmp_path), "run.json")
    assert refused(landscape("surface"), "expected a run folder")
    (run.path / "run.json").write_text('{"schema_version": "1.0"')
    assert refused(landscape("surface", run.path), "run.json", "damaged")


def test_a_truncated_checkpoint_is_refused(landscape, run):
    path = next(run.path.glob("segment-000/snapshots/checkpoint-*60.h5"))
    path.write_bytes(path.read_bytes()[:5000])
    assert refused(landscape("surface", run.path, "--points", 3), path.name)
    assert not list(run.path.glob("results/*"))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("profile", ("--points", 3, "--repeats", 1, "--samples", 100)),
        ("surface", ("--points", 3, "--samples", 100)),
        ("spectrum", ("--k", 1, "--probes", 1, "--steps", 3, "--samples", 100)),
        ("consistency", ("--batches", 3)),
        ("trajectory", ("--samples", 100)),
    ],
)
def test_an_analysis_stores_its_result_and_finds_it_again(landscape, run, command, options):
    done = landscape(command, run.path, *options)
    assert done.returncode == 0, done.stderr
    assert "measured in" in done.stdout
    stored = sorted(run.path.glob("results/*.h5"))
    again = landscape(command, run.path, *options, "--json")
    assert again.returncode == 0, again.stderr
    reports = json.loads(again.stdout)
    assert all(report["found"] for report in reports)
    assert sorted(report["path"] for report in reports) == [str(path) for path in stored]


def test_several_checkpoints_and_perturbations_end_in_a_table_of_all(landscape, run):
    words = ("consistency", run.path, "--protocol", "frozen", "--batches", 3, "--burn-in", 2)
    words += ("--checkpoint", "30,60", "--perturbations", "sam,vasso")
    done = landscape(*words, env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert "largest tensor" in done.stdout
    title, _, head, *rows = done.stdout.splitlines()[-7:]
    assert title.startswith("mean cosine [95 % interval]; below it")
    assert head.split() == ["SAM", "ρ=0.05", "VaSSO", "ρ=0.2", "θ=0.9"]
    assert [row[:14] for row in rows[::2]] == ["a at step 30  ", "a at step 60  "]
    assert max(map(len, done.stdout.splitlines()[-7:])) <= 80
    *reports, crossed = json.loads(landscape(*words, "--json").stdout)
    assert all(report["found"] for report in reports)
    assert crossed["kind"] == "crossover"
    cosines = [report["mean cosine"] for report in reports]
    assert [value for row in crossed["mean_cosine"] for value in row] == cosines
    refusal = landscape("consistency", run.path, "--perturbations", "usam")
    assert refused(refusal, "usam with a radius, got 'usam'")


def test_flags_beat_the_environment_and_that_beats_the_file(landscape, run, tmp_path):
    (tmp_path / "c.toml").write_text("points = 3\nsamples = 100\n")

    def points(*words, **env):
        done = landscape("surface", run.path, "--config", "c.toml", "--json", *words, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)[0]["points"]

    assert points() == 9
    assert points(LANDSCAPE_SURFACE_POINTS="5") == 25
    assert points("--points", 2, LANDSCAPE_SURFACE_POINTS="5") == 4
    (tmp_path / "c.toml").write_text("pionts = 3\n")
    done = landscape("surface", run.path, "--config", "c.toml")
    assert refused(done, "pionts", "did you mean 'points'")
    assert refused(landscape("surface", run.path, "--config", "none.toml"), "none.toml")


def test_training_says_what_it_records_and_the_online_protocol_what_it_took(landscape, tmp_path):
    settings = ("--steps", 24, "--train_samples", 200, "--checkpoint_every", 12)
    words = ("train", "--preset", "digits-sam", *settings, "--out", "a")
    done = landscape(*words, "--record", "every:5", "--record_dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert "recorded: every:5 was asked for; the whole run takes about" in done.stdout
    run = Run(tmp_path / "a")
    assert run.displacement_steps.tolist() == [0, 5, 10, 15, 20]
    assert run.windows["stop"].tolist() == [12, 24]
    done = landscape("consistency", run.path, "--protocol", "online", "--window", 20)
    assert done.returncode == 0, done.stderr
    assert "error of sketches" in done.stdout
    text = " ".join(done.stdout.split())
    assert "cosines from sketches of 4096 numbers, standard deviation (1 − c²)/√4096" in text
    assert refused(landscape(*words[:-1], "b", "--record", "some"), "record must be full, sketch")


def test_training_refuses_a_folder_that_exists(landscape, run):
    done = landscape("train", "--preset", "digits-sgd", "--out", run.path)
    assert refused(done, str(run.path), "--out")
    assert json.loads((run.path / "run.json").read_text())["id"] == run.id


def test_a_killed_analysis_leaves_its_points_and_no_result(run):
    words = ["surface", str(run.path), "--points", "61", "--samples", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "landscape", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(run.path.glob("results/*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [path.suffix for path in run.path.glob("results/[!.]*")] == [".part"]
    assert Run(run.path).results() == []


def test_the_run_list_names_every_run_and_fits_a_narrow_terminal(landscape, run):
    done = landscape("runs", run.path.parent, env={"COLUMNS": "50"})
    assert done.returncode == 0, done.stderr
    assert "SAM+AACE" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()[:2]) <= 50
    rows = json.loads(landscape("runs", run.path.parent, "--json").stdout)
    assert [row["id"] for row in rows] == [run.id]
    assert refused(landscape("runs", "nowhere"), "nowhere")


def test_own_model_and_weights_from_the_command_line(landscape, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from landscape import Problem\n\n\n"
        "def make():\n"
        "    generator = torch.Generator().manual_seed(0)\n"
        "    inputs = torch.randn(64, 3, generator=generator)\n"
        "    targets = inputs @ torch.tensor([[1.0], [2.0], [3.0]])\n"
        "    data = (inputs, targets)\n"
        "    return Problem(torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, data)\n"
    )
    from safetensors.torch import save_file
    from torch import tensor

    save_file(
        {"weight": tensor([[1.0, 2.0, 3.0]]), "bias": tensor([0.0])}, tmp_path / "w.safetensors"
    )
    options = ("--state", "w.safetensors", "--points", 3, "--json")
    done = landscape("surface", "--problem", "mine.py:make", *options)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["lowest loss"] == pytest.approx(0, abs=1e-10)  # the weights are the solution
    assert landscape("surface", "--problem", "mine:make", *options).returncode == 0
    assert refused(
        landscape("surface", "--problem", "mine.py:mkae", *options), "did you mean 'make'"
    )
    assert refused(landscape("surface", "--problem", "mine.py:make", "--state", "no.pt"), "no.pt")
    save_file({"weight": tensor([[1.0, 2.0]]), "bias": tensor([0.0])}, tmp_path / "b.safetensors")
    done = landscape("surface", "--problem", "mine.py:make", "--state", "b.safetensors")
    assert refused(done, "weight")


def test_a_figure_is_drawn_again_from_its_recipe_to_the_same_bytes(landscape, run, tmp_path):
    assert landscape("surface", run.path, "--points", 3, "--samples", 100).returncode == 0
    done = landscape("figure", run.path, "surface", "--format", "pdf", "--out", "fig/a")
    assert done.returncode == 0, done.stderr
    again = landscape("figure", "--from", "fig/a.json", "--format", "pdf", "--out", "fig/b")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "fig/a.pdf").read_bytes() == (tmp_path / "fig/b.pdf").read_bytes()
    assert refused(landscape("figure", "--from", "fig/none.json"), "none.json")
    assert refused(landscape("figure"), "run folders")
    assert refused(landscape("figure", run.path, "surfac"), "did you mean 'surface'")
    assert refused(landscape("figure", run.path, "density"), "landscape spectrum")


@pytest.mark.parametrize(("rank", "who"), [("0", "landscape: "), ("1", "landscape, rank 1: ")])
def test_a_rank_of_torchrun_says_who_it_is(monkeypatch, capsys, rank, who):
    monkeypatch.setenv("RANK", rank)
    assert main(["surfaces"]) == 2
    assert capsys.readouterr().err.startswith(f"{who}no command 'surfaces'")
