"""The demo for real, on the digits: killed in the middle, run to its end, run again, looked at."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from browser import Watch, blank_panels, launch_arguments, served

from landscape.result_files import load_result
from landscape.results import KINDS
from landscape.runs import Run, find_runs

METHODS = ("SGD", "SAM", "SAM+AACE")


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict:
    return launch_arguments()


def demo(out: Path) -> list[str]:
    command = ["demo", "--data", "digits", "--no-serve", "--out", str(out)]
    return [sys.executable, "-m", "landscape", *command]


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A demo that was killed while it trained the second run."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    process = subprocess.Popen(demo(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second = out / "digits-sam" / "run.json"
    deadline = time.monotonic() + 120
    while not second.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Run(out / "digits-sgd").status == "finished"
    assert Run(out / "digits-sam").status == "died"
    return out


@pytest.fixture(scope="module")
def finished(killed) -> tuple[Path, str]:
    """The same demo, started again and run to its end; its folder and what it printed."""
    done = subprocess.run(demo(killed), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return killed, done.stdout


def test_a_killed_demo_goes_on_where_it_stopped(finished):
    _, told = finished
    assert "digits-sgd: found, trained before" in told
    assert "digits-sam: an earlier demo was stopped in the middle" in told


def test_every_run_is_trained_recorded_and_measured(finished):
    out, _ = finished
    runs = find_runs(out)
    assert {run.method for run in runs} == set(METHODS)
    assert len({run.color for run in runs}) == 3
    for run in runs:
        assert run.status == "finished"
        assert len(run.checkpoints) >= 15
        assert run.summary["test_accuracy"] > 0.9
        assert len(run.displacement_steps) == (0 if run.method == "SGD" else run.total_steps)
        kinds = {stored.kind for stored in run.results()}
        several = {"barrier", "curve", "comparison", "claim"}
        assert kinds == set(KINDS) - several - ({"directions"} if run.method == "SGD" else set())
        frozen = [s for s in run.results("consistency") if s.options["protocol"] == "frozen"]
        assert len(frozen) == 10  # two perturbations at five checkpoints
        assert all(load_result(s.path).evaluated.all() for s in run.results("surface"))


def test_what_lies_between_the_runs_is_measured(finished):
    out, _ = finished
    results = [load_result(path) for path in (out / "joint").glob("*.h5")]
    assert sorted(result.kind for result in results) == ["barrier", "curve", "surface"]
    for result in results:
        assert result.facts["runs"][0] == Run(out / "digits-sgd").id
    assert not list((out / "joint").glob("*.part"))


def test_figures_are_there_as_pdf_and_png_with_recipe_and_data(finished):
    figures = finished[0] / "figures"
    names = {path.stem for path in figures.glob("*.pdf")}
    assert {"steps", "surface-path", "surface-random", "profile", "spectrum"} <= names
    assert {"barrier-joint", "curve-joint", "surface-joint"} <= names
    for name in names:
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        json.loads((figures / f"{name}.json").read_text())


def test_the_summary_fits_one_screen(finished):
    out, told = finished
    screen = told[told.index("test accuracy, %") :].splitlines()
    assert len(screen) <= 23
    assert max(len(line) for line in screen if str(out) not in line) <= 80
    for method in METHODS:
        assert method in told


def test_a_second_demo_finds_everything_and_changes_nothing(finished):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    done = subprocess.run(demo(out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("found, trained before") == 3
    assert done.stdout.count(": 0 results measured") == 4
    assert "figures: 0 drawn" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_a_folder_with_something_else_is_refused(tmp_path, landscape):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("important")
    done = landscape("demo", "--no-serve", "--out", "thesis")
    assert done.returncode == 2
    assert "chapter.tex" in done.stderr
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_every_panel_of_the_demo_is_filled(finished, page):
    out, _ = finished
    with served(out) as url:
        watch = Watch(page, url)
        page.set_viewport_size({"width": 1440, "height": 900})
        for run in find_runs(out):
            assert blank_panels(page, url, run.id) == []
        assert watch.complaints == []
        assert watch.asked == []
