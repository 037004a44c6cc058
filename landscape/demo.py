"""`landscape demo`: three small nets trained, measured and drawn, from nothing.

Everything is done the way a user would: presets, analyses with options, figures from stored
results. What is there from an earlier, perhaps interrupted, demo is found and kept.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from landscape.analyses import ANALYSES, subjects_of_run
from landscape.options import (
    ConsistencyOptions,
    ProfileOptions,
    SpectrumOptions,
    SurfaceOptions,
    TrajectoryOptions,
)
from landscape.problems import load_problem
from landscape.runs import Run, RunFileError
from landscape.terminal import ProgressBar, duration, number, table

METHODS = ("sgd", "sam", "aace")
SAMPLES = 1000  # of the training set, for every analysis but the frozen protocol

Companion = Callable[[str], ModuleType]
Say = Callable[[str], None]


def run_demo(out: Path | None, companion: Companion, say: Say) -> Path:
    """Train, measure and draw; find what is there.

    Args:
        out: Folder of the demo; `demo` in the data folder by default.
        companion: Imports `training.*`.
        say: Prints a line.

    Returns:
        The folder, ready for the dashboard.

    Raises:
        ValueError: If `out` holds something that is no demo.
    """
    start = time.monotonic()
    data = companion("training.data")
    out = data.data_folder() / "demo" if out is None else out
    _check_folder(out)
    dataset = data.choose_data()
    say(f"data: {dataset.name}, {dataset.why}")
    presets = "fashion" if dataset.name.startswith("Fashion") else "digits"
    runs = [_trained(out, f"{presets}-{method}", companion, say) for method in METHODS]
    for run in runs:
        problem = load_problem(
            run.problem["name"], run.problem["options"], companion("training.problems").PROBLEMS
        )
        _measure(run, problem, say)
    figures = _draw(runs, out / "figures", say)
    say("")
    say(_summary(runs))
    say(f"figures: {figures}   runs: {out}")
    say(f"{duration(time.monotonic() - start)} in all")
    return out


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, but {out} is a file; choose another")
    names = {"figures", "joint", ".jobs", ".gitignore"}
    strange = [
        path.name
        for path in (out.iterdir() if out.is_dir() else [])
        if path.name not in names and not (path / "run.json").is_file()
    ]
    if strange:
        raise ValueError(
            f"--out must be a new folder or an earlier demo, but {out} holds {strange[0]!r}; "
            "choose another"
        )


def _trained(out: Path, preset: str, companion: Companion, say: Say) -> Run:
    folder = out / preset
    if folder.exists():
        run = Run(folder)
        if run.status == "finished":
            say(f"{preset}: found, trained before ({run.total_steps} steps)")
            return run
        if run.status == "running":
            raise RunFileError(f"{folder} is being written by another demo; wait for its end")
        say(f"{preset}: an earlier demo was stopped in the middle; training it anew")
        shutil.rmtree(folder)
    config = companion("training.config").PRESETS[preset]()
    start = time.monotonic()
    with ProgressBar(f"train {preset}") as progress:
        companion("training.loop").train(config, folder, progress=progress)
    run = Run(folder)
    accuracy = number(100 * run.summary["test_accuracy"])
    say(f"{preset}: trained in {duration(time.monotonic() - start)}, test accuracy {accuracy} %")
    return run


def _measure(run: Run, problem: object, say: Say) -> None:
    series = ",".join(str(step) for step in run.checkpoints[::3])
    plan = (
        ("profile", ProfileOptions(samples=SAMPLES, repeats=3)),
        ("surface", SurfaceOptions(samples=SAMPLES, plane="trajectory", points=15)),
        ("surface", SurfaceOptions(samples=SAMPLES, plane="random", points=15)),
        ("spectrum", SpectrumOptions(samples=SAMPLES, k=5, probes=2, steps=30)),
        ("spectrum", SpectrumOptions(checkpoint=series, samples=SAMPLES, k=5, probes=0)),
        ("consistency", ConsistencyOptions(checkpoint=series)),
        ("trajectory", TrajectoryOptions(samples=SAMPLES)),
    )
    start, found, measured = time.monotonic(), 0, 0
    for kind, options in plan:
        subjects = list(subjects_of_run(run, problem, getattr(options, "checkpoint", "last")))
        for i, subject in enumerate(subjects):
            place = f" {i + 1}/{len(subjects)}" if len(subjects) > 1 else ""
            with ProgressBar(f"{kind} of {run.name}{place}") as progress:
                for stored in ANALYSES[kind](subject, options, progress=progress):
                    found, measured = found + stored.found, measured + (not stored.found)
    there = f", {found} found from before" if found else ""
    seconds = duration(time.monotonic() - start)
    say(f"{run.name}: {measured} results measured in {seconds}{there}")
