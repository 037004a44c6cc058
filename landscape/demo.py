"""`landscape demo`: three small nets trained, measured and drawn, from nothing.

Everything is done the way a user would: presets, analyses with options, figures from stored
results. What is there from an earlier, perhaps interrupted, demo is found and kept.
"""

import shutil
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from landscape.analyses import ANALYSES
from landscape.exports import draw_and_save
from landscape.options import (
    BarrierOptions,
    ConsistencyOptions,
    CurvatureOptions,
    CurveOptions,
    DirectionsOptions,
    OffsetOptions,
    ProfileOptions,
    RiseOptions,
    SharpnessOptions,
    SpectrumOptions,
    StabilityOptions,
    SurfaceOptions,
    TrajectoryOptions,
)
from landscape.problems import Problem, load_problem
from landscape.runs import Run, RunFileError
from landscape.subjects import record_of_run, subject_of_runs, subjects_of_run
from landscape.terminal import ProgressBar, duration, number, table

METHODS = ("sgd", "sam", "aace")
SAMPLES = 1000  # of the training set, for losses
CURVATURE_SAMPLES = 500  # for Hessian-vector products, which cost ten losses each
PROBES = 10  # of traces
BATCHES = 8  # whose perturbations are followed in weight space
CHECKPOINTS = 5  # at which eigenvalues and consistency are followed, first and last among them

Companion = Callable[[str], ModuleType]
Say = Callable[[str], None]


def run_demo(out: Path | None, companion: Companion, say: Say, *, data: str = "auto") -> Path:
    """Train, measure and draw; find what is there.

    Args:
        out: Folder of the demo; `demo` in the data folder by default.
        companion: Imports `training.*`.
        say: Prints a line.
        data: "fashion", "digits", or "auto" for Fashion-MNIST where it can be had.

    Returns:
        The folder, ready for the dashboard.

    Raises:
        ValueError: If `out` holds something that is no demo.
    """
    start = time.monotonic()
    sources = companion("training.data")
    folder = out or companion("training.data_folders").data_folder() / "demo"
    _check_folder(folder)
    dataset = sources.choose_data() if data == "auto" else sources.load_data(data)
    say(f"data: {dataset.name}, {dataset.why}")
    presets = "fashion" if dataset.name.startswith("Fashion") else "digits"
    runs = [_trained(folder, f"{presets}-{method}", companion, say) for method in METHODS]
    builtin = companion("training.problems").PROBLEMS
    for run in runs:
        problem = load_problem(run.problem["name"], run.problem["options"], builtin)
        _measure(run, problem, say)
    joint = _measure_together(runs, problem, say)
    figures = _draw(runs, joint, folder / "figures", say)
    say("")
    say(_summary(runs))
    say(f"figures: {figures}   runs: {folder}")
    say(f"{duration(time.monotonic() - start)} in all")
    return folder


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
    config = companion("training.presets").PRESETS[preset]()
    start = time.monotonic()
    with ProgressBar(f"train {preset}") as progress:
        companion("training.loop").train(config, folder, progress=progress)
    run = Run(folder)
    accuracy = number(100 * run.summary["test_accuracy"])
    say(f"{preset}: trained in {duration(time.monotonic() - start)}, test accuracy {accuracy} %")
    return run


def _measure(run: Run, problem: Problem, say: Say) -> None:
    spread = np.linspace(0, len(run.checkpoints) - 1, CHECKPOINTS).round().astype(int)
    steps = [str(run.checkpoints[i]) for i in spread]
    plan = (
        ("profile", ProfileOptions(samples=SAMPLES, repeats=3)),
        ("surface", SurfaceOptions(samples=SAMPLES, plane="trajectory", points=15)),
        ("surface", SurfaceOptions(samples=SAMPLES, plane="random", points=15)),
        (
            "spectrum",
            SpectrumOptions(
                samples=CURVATURE_SAMPLES, k=5, probes=2, steps=25, trace_probes=PROBES
            ),
        ),
        (
            "curvature",
            CurvatureOptions(
                checkpoints=",".join(steps),
                samples=CURVATURE_SAMPLES,
                k=2,
                probes=PROBES,
            ),
        ),
        ("stability", StabilityOptions(samples=CURVATURE_SAMPLES, tolerance=1e-2)),
        (
            "sharpness",
            SharpnessOptions(samples=CURVATURE_SAMPLES, ascent_steps=10, pairs=10, probes=PROBES),
        ),
        ("consistency", ConsistencyOptions(checkpoint=",".join(steps))),
        ("directions", DirectionsOptions()),
        ("rise", RiseOptions(batches=BATCHES, k=1, curvature_samples=CURVATURE_SAMPLES)),
        ("offset", OffsetOptions(samples=SAMPLES, batches=BATCHES, points=7)),
        ("trajectory", TrajectoryOptions(samples=SAMPLES)),
    )
    work = [
        (kind, options, subject)
        for kind, options in plan
        for subject in _subjects(kind, options, run, problem)
    ]
    _answer(work, run.name, say)


def _subjects(kind: str, options: Any, run: Run, problem: Problem) -> Iterable[Any]:
    """The checkpoints that are measured; the record, for a run that has perturbations."""
    if kind == "directions":
        return [record_of_run(run)] if run.recorded_steps.size else []
    return subjects_of_run(run, problem, getattr(options, "checkpoint", "last"))


def _measure_together(runs: list[Run], problem: Problem, say: Say) -> list[Path]:
    """What lies between the runs; the files of the results."""
    ends = [runs[0], runs[-1]]
    work = [
        ("barrier", BarrierOptions(samples=SAMPLES, test=True), subject_of_runs(runs, problem)),
        (
            "curve",
            CurveOptions(samples=SAMPLES, updates=300, points=31),
            subject_of_runs(ends, problem),
        ),
        (
            "surface",
            SurfaceOptions(samples=SAMPLES, plane="joint", points=15),
            subject_of_runs(runs, problem),
        ),
    ]
    return _answer(work, "all runs", say)


def _answer(work: list[tuple[str, Any, Any]], name: str, say: Say) -> list[Path]:
    start, answers = time.monotonic(), []
    for number_of, (kind, options, subject) in enumerate(work, 1):
        with ProgressBar(f"{kind} of {name}, {number_of}/{len(work)}") as progress:
            answers += ANALYSES[kind](subject, options, progress=progress)
    found = sum(stored.found for stored in answers)
    there = f", {found} found from before" if found else ""
    seconds = duration(time.monotonic() - start)
    say(f"{name}: {len(answers) - found} results measured in {seconds}{there}")
    return [stored.path for stored in answers]


def _draw(runs: list[Run], joint: list[Path], folder: Path, say: Say) -> Path:
    """Every figure of the runs as PDF and PNG, each with its recipe and data beside it."""
    together = [run.path for run in runs]
    plan: list[tuple[str, list[Path], str, dict[str, Any]]] = [
        ("steps", together, "steps", {}),
        ("surface-path", together, "surface", {"wanted": {"plane": "trajectory"}}),
        ("surface-random", together, "surface", {"wanted": {"plane": "random"}}),
        ("profile", together, "profile", {}),
        ("spectrum", together, "spectrum", {"checkpoint": "last"}),
        ("curvature", together, "curvature", {}),
        ("sharpness", together, "sharpness", {}),
        ("density", together, "density", {}),
    ]
    for run in runs:
        kinds = ["layers", "consistency", "rise", "offset", "trajectory", "surface3d"]
        kinds += ["directions"] if run.recorded_steps.size else []
        for kind in kinds:
            more = {"wanted": {"plane": "trajectory"}} if kind == "surface3d" else {}
            plan.append((f"{kind}-{run.name}", [run.path], kind, more))
    plan += [(path.stem.partition("-")[0] + "-joint", [path], "", {}) for path in joint]
    drawn = 0
    with ProgressBar("figures") as progress:
        for done, (name, paths, kind, more) in enumerate(plan):
            progress(done, len(plan))
            if not all((folder / f"{name}.{end}").is_file() for end in ("pdf", "png", "json")):
                what = [*paths, kind] if kind else paths
                draw_and_save(what, out=folder / name, **more)
                drawn += 1
    say(f"figures: {drawn} drawn, {len(plan) - drawn} found from before")
    return folder


def _newest(run: Run, kind: str, **wanted: object) -> Any:
    """The newest stored result of a kind whose facts and fields are as wanted; None without one."""
    for stored in reversed(run.results(kind)):
        result = stored.load()
        own = {**result.facts, **{name: getattr(result, name, None) for name in ("protocol",)}}
        own["perturbation"] = str(getattr(result, "perturbation", "")).partition(" ")[0]
        if all(own.get(name) == value for name, value in wanted.items()):
            return result
    return None


def _summary(runs: list[Run]) -> str:
    """One screen: a row per measure, a column per run."""
    rows = [
        _row("test accuracy, %", runs, lambda run: number(100 * run.summary["test_accuracy"])),
        _row("test loss, nats", runs, lambda run: number(run.summary["test_loss"])),
        _row("train loss, nats", runs, lambda run: number(run.summary["train_loss"])),
        _row("largest eigenvalue", runs, _eigenvalue),
        _row("trace ± s.e.", runs, _trace),
        _row("stability multiplier", runs, _multiplier),
        _row("loss rise at 0.5", runs, _rise),
        _row("cosine of SAM's ε", runs, lambda run: _cosine(run, "frozen", "SAM")),
        _row("  random signs", runs, lambda run: _null(run, "frozen", "SAM")),
        _row("cosine of AACE's ε", runs, lambda run: _cosine(run, "frozen", "AACE")),
        _row("  random signs", runs, lambda run: _null(run, "frozen", "AACE")),
        _row("cosine as trained", runs, lambda run: _cosine(run, "online", None)),
        _row("path variance, %", runs, _variance),
        _row("  random walk, %", runs, lambda run: _variance(run, "explained_null")),
    ]
    notes = (
        "Last checkpoint, 1 seed, BatchNorm frozen but for multiplier and cosines, which have the "
        f"statistics of each batch. Curvature: {CURVATURE_SAMPLES} training images; rise along "
        f"random directions: {SAMPLES}. Multiplier: of the run's own update, 1 is the edge. "
        "Cosine: mean over all pairs of the ε of 32 batches at frozen weights, or of the last 64 "
        "steps; 95 % intervals. Path variance: share in the first two principal components."
    )
    return table(["", *[run.method for run in runs]], rows) + "\n" + textwrap.fill(notes, 80)


def _row(label: str, runs: list[Run], value: Callable[[Run], str]) -> list[str]:
    return [label, *[value(run) for run in runs]]


def _eigenvalue(run: Run) -> str:
    spectrum = _newest(run, "spectrum", checkpoint=run.checkpoints[-1])
    mark = "" if spectrum.converged else " (unconverged)"
    return f"{number(spectrum.eigenvalues[0])}{mark}"


def _trace(run: Run) -> str:
    trace = _newest(run, "trace")
    return f"{number(trace.trace)} ± {number(trace.standard_error, 2)}"


def _multiplier(run: Run) -> str:
    return f"{_newest(run, 'stability').multiplier:.4f}"


def _rise(run: Run) -> str:
    profile = _newest(run, "profile")
    rise = profile.loss - profile.loss[:, [len(profile.alpha) // 2]]
    return number(np.median(rise[:, np.argmin(np.abs(profile.alpha - 0.5))]))


def _cosine(run: Run, protocol: str, perturbation: str | None) -> str:
    result = _consistency(run, protocol, perturbation)
    if result is None:
        return "–"
    low, high = result.interval_low, result.interval_high
    return f"{_cents(result.mean_cosine)} [{_cents(low)}, {_cents(high)}]"


def _null(run: Run, protocol: str, perturbation: str) -> str:
    result = _consistency(run, protocol, perturbation)
    return f"[{_cents(result.null_low)}, {_cents(result.null_high)}]"


def _cents(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no "-0.00"


def _consistency(run: Run, protocol: str, perturbation: str | None) -> Any:
    wanted: dict[str, object] = {"protocol": protocol, "checkpoint": run.checkpoints[-1]}
    if perturbation:
        wanted["perturbation"] = perturbation
    return _newest(run, "consistency", **wanted)


def _variance(run: Run, field: str = "explained") -> str:
    return number(100 * getattr(_newest(run, "trajectory"), field)[:2].sum())
