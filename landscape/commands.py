"""The commands: parse, call, report. Heavy imports stay inside the command that needs them."""

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from landscape.options import OPTIONS
from landscape.parsers import Parser
from landscape.terminal import ProgressBar, duration, near, number, table

Companion = Callable[[str], ModuleType]


def run(name: str, about: str, example: str, argv: list[str], companion: Companion) -> int:
    """Parse one command's arguments and run it; its exit code."""
    parser = Parser(name, about, example)
    if name in OPTIONS:
        return _analysis(name, parser, argv, companion)
    return _COMMANDS[name](parser, argv, companion)


def _analysis(name: str, parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("run", nargs="*", help="run folders, or one's own model by --problem")
    parser.add_options(OPTIONS[name])
    parser.add_argument(
        "--problem", help="module:function or file.py:function that makes one's own Problem"
    )
    parser.add_argument("--state", help="weights for --problem: .safetensors or a state_dict file")
    parser.add_argument("--out", help="folder for the results of --problem (default: results)")
    parser.add_argument("--again", action="store_true", help="measure even what is there")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")
    args = parser.read(argv)
    options = parser.options(OPTIONS[name], args)
    from landscape.analyses import ANALYSES

    reports = []
    for subject in _subjects(args, getattr(options, "checkpoint", "last"), companion):
        where = f"{subject.run.name} at step {subject.checkpoint}" if subject.run else "own model"
        with ProgressBar(f"{name} of {where}", quiet=args.json) as progress:
            answers = ANALYSES[name](subject, options, again=args.again, progress=progress)
        for stored in answers:
            if not args.json:
                print(_report(stored, where))
            reports.append({**headline(stored.result), "path": str(stored.path)})
            reports[-1].update(kind=stored.result.kind, found=stored.found)
            reports[-1].update(digest=stored.result.digest, facts=stored.result.facts)
    if args.json:
        from landscape.storage import plain

        print(json.dumps(plain(reports), indent=1))
    return 0


def _subjects(args: Any, checkpoint: str, companion: Companion) -> Iterable[Any]:
    from landscape.runs import Run

    if not args.run and not args.problem:
        raise ValueError(
            "expected a run folder, or --problem module:function --state weights.safetensors"
        )
    runs = [Run(folder) for folder in args.run]  # a wrong path is told before torch is loaded
    from landscape.problems import load_problem, load_state
    from landscape.subjects import Subject, subjects_of_run

    if not runs:
        problem = load_problem(args.problem, {}, {})
        if args.state:
            load_state(problem.model, args.state)
        yield Subject(problem=problem, folder=Path(args.out or "results"))
        return
    for run in runs:
        name = args.problem or run.problem["name"]
        builtin = companion("training.problems").PROBLEMS if not args.problem else {}
        problem = load_problem(name, run.problem["options"] if not args.problem else {}, builtin)
        yield from subjects_of_run(run, problem, checkpoint)


def headline(result: Any) -> dict[str, Any]:
    """The few numbers of a result that a reader wants first."""
    import numpy as np

    if result.kind in ("profile", "surface"):
        finite = result.loss[np.isfinite(result.loss)]
        low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
        return {
            "points": int(result.evaluated.sum()),
            "lowest loss": float(low),
            "highest loss": float(high),
            "diverged": int((result.evaluated & ~np.isfinite(result.loss)).sum()),
        }
    if result.kind == "spectrum":
        return {
            "λ1": float(result.eigenvalues[0]),
            f"λ{len(result.eigenvalues)}": float(result.eigenvalues[-1]),
            "largest residual": float(result.residuals.max()),
            "matvecs": result.matvecs,
            "converged": result.converged,
        }
    if result.kind == "density":
        trace, error = result.facts.get("trace"), result.facts.get("trace_error")
        return {"trace": trace, "standard error": error, "matvecs": result.matvecs}
    if result.kind == "consistency":
        return {
            "mean cosine": result.mean_cosine,
            "interval low": result.interval_low,
            "interval high": result.interval_high,
            "null low": result.null_low,
            "null high": result.null_high,
            "resultant length": result.resultant_length,
        }
    return {
        "checkpoints": len(result.step),
        "variance in the plane": float(result.explained[:2].sum()),
        "null": float(result.explained_null[:2].sum()),
        "largest off-plane distance": float(result.off_plane.max()),
    }


def _report(stored: Any, where: str) -> str:
    from landscape.figures.captions import caption

    result = stored.result
    what = result.kind
    if what == "consistency":
        what = f"consistency, {result.protocol}, {result.perturbation}"
    numbers = ", ".join(
        f"{name} {value if isinstance(value, bool | int) else number(value)}"
        for name, value in headline(result).items()
    )
    seconds = result.provenance.get("seconds", 0)
    state = "measured before" if stored.found else f"measured in {duration(seconds)}"
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    texts = [
        textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
        for text in (numbers, caption(result))
    ]
    return "\n".join([f"{what} of {where}", *texts, f"  {stored.path} ({state})"])


def _train(parser: Parser, argv: list[str], companion: Companion) -> int:
    config_module = companion("training.config")
    presets = config_module.PRESETS
    preset = parser.peek(argv, "--preset")
    if preset is not None and preset not in presets:
        raise ValueError(
            f"no preset {preset!r}{near(preset, presets)}; there are {', '.join(presets)}"
        )
    parser.add_argument("--out", required=True, help="folder of the new run")
    parser.add_options(config_module.TrainConfig)
    if preset is not None:
        parser.set_defaults(asdict(presets[preset]()))
    args = parser.read(argv)
    config = parser.options(config_module.TrainConfig, args)
    with ProgressBar(f"train {Path(args.out).name}") as progress:
        path = companion("training.loop").train(config, Path(args.out), progress=progress)
    from landscape.runs import Run

    summary = Run(path).summary
    print(
        f"{path}: {config.steps} steps, test accuracy {number(100 * summary['test_accuracy'])} %, "
        f"test loss {number(summary['test_loss'])}\nnext: landscape surface {path}"
    )
    return 0


def _figure(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("what", nargs="*", help="run folders or a result file, then the kind")
    parser.add_argument("--from", help="draw again from a recipe, the .json beside a figure")
    parser.add_argument("--venue", default="icml", help="whose column width and type size")
    parser.add_argument("--format", default="pdf,png", help="pdf, svg, png, or several: pdf,png")
    parser.add_argument("--out", help="file name without its ending (default: KIND-RUN)")
    parser.add_argument("--checkpoint", help="of the measured result; the newest by default")
    parser.add_argument("--plane", help="of a surface: random, trajectory or hessian")
    args = parser.read(argv)
    from landscape.exports import draw_and_save, redraw

    if args["from"]:
        for path in redraw(args["from"], out=args.out, formats=args.format):
            print(path)
        return 0
    wanted = {"plane": args.plane} if args.plane else None
    options = {"out": args.out, "checkpoint": args.checkpoint, "wanted": wanted}
    for path in draw_and_save(args.what, venue=args.venue, formats=args.format, **options):
        print(path)
    return 0


def _app(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("folder", nargs="?", default="runs", help="a run or a folder of runs")
    parser.add_argument("--port", type=int, help="port; by default the first free one from 8050")
    args = parser.read(argv)
    main = companion("app.main")

    def ready(url: str) -> None:
        print(f"serving {args.folder} at {url} (Ctrl-C ends it)", flush=True)

    main.serve(Path(args.folder), port=args.port, on_ready=ready)
    return 0


def _runs(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("folder", nargs="?", default="runs", help="a folder of runs")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    args = parser.read(argv)
    from landscape.runs import find_runs

    folder = Path(args.folder)
    if not folder.is_dir():
        raise ValueError(f"expected a folder of runs, got {folder}, which is no folder")
    rows = []
    for run_ in find_runs(folder):
        kinds = sorted({stored.kind for stored in run_.results()})
        steps = f"{len(run_.steps['step'])}/{run_.total_steps or '?'}"
        test = number(100 * run_.summary.get("test_accuracy", float("nan")))
        rows.append([run_.name, run_.method, run_.status, steps, test, run_.id, ", ".join(kinds)])
    heads = ["run", "method", "state", "steps", "test %", "id", "measured"]
    if args.json:
        print(json.dumps([dict(zip(heads, row, strict=True)) for row in rows], indent=1))
    elif rows:
        print(table(heads, rows, left=3))
    else:
        print(f"no runs in {folder}; `landscape train --preset fashion-sgd --out {folder}/a`")
    return 0


def _check(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("--case", type=int, nargs="*", help="only these cases")
    args = parser.read(argv)
    from landscape.checks import run_checks

    outcomes = run_checks(args.case)
    room = max(min(shutil.get_terminal_size((80, 24)).columns, 110) - 48, 20)
    case = None
    for o in outcomes:
        if o.number != case:
            case = o.number
            print(f"{case:2d}  {o.title}")
        verdict = "ok" if o.passed else f"WRONG, tolerance {number(o.tolerance, 2)}"
        line = f"    {o.quantity:{room}}"
        if len(o.quantity) > room:
            print(line)
            line = f"    {'':{room}}"
        print(f"{line} expected {number(o.expected, 8):>11} got {number(o.got, 8):>12}  {verdict}")
    failed = sum(not o.passed for o in outcomes)
    cases = len({o.number for o in outcomes})
    agree = f"all {len(outcomes)} quantities of {cases} cases agree"
    print(f"{failed} of {len(outcomes)} quantities are wrong" if failed else agree)
    return 1 if failed else 0


def _demo(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("--out", help="folder of the demo (default: demo in the data folder)")
    choices = ("auto", "fashion", "digits")
    about = "data set; auto takes Fashion-MNIST where it can be had, else the digits"
    parser.add_argument("--data", choices=choices, default="auto", help=about)
    parser.add_argument("--no_serve", action="store_true", help="end when the figures are drawn")
    parser.add_argument("--port", type=int, help="port; by default the first free one from 8050")
    args = parser.read(argv)
    from landscape.demo import run_demo

    def say(line: str) -> None:
        print(line, flush=True)

    out = run_demo(Path(args.out) if args.out else None, companion, say, data=args.data)
    if args.no_serve:
        return 0
    # A fresh process: the dashboard never holds torch in memory.
    import os

    port = ["--port", str(args.port)] if args.port else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "landscape", "app", str(out), *port])


_COMMANDS: dict[str, Callable[[Parser, list[str], Companion], int]] = {
    "demo": _demo,
    "train": _train,
    "figure": _figure,
    "app": _app,
    "runs": _runs,
    "check": _check,
}
