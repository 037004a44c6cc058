"""The commands: parse, call, report. Heavy imports stay inside the command that needs them."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from landscape.analysis_commands import run_analysis
from landscape.claim_command import claim
from landscape.compare_command import compare
from landscape.options import OPTIONS
from landscape.parsers import Parser
from landscape.terminal import ProgressBar, near, number, table

Companion = Callable[[str], ModuleType]


def run(name: str, about: str, example: str, argv: list[str], companion: Companion) -> int:
    """Parse one command's arguments and run it; its exit code."""
    parser = Parser(name, about, example)
    if name in OPTIONS:
        return run_analysis(name, parser, argv, companion)
    return _COMMANDS[name](parser, argv, companion)


def _train(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("--resume", help="folder of a run to go on with, instead of all others")
    about = "a problem of one's own, module:function or file.py:function, for data and model"
    parser.add_argument("--problem", help=about)
    path = (_resumed if parser.peek(argv, "--resume") else _trained)(parser, argv, companion)
    if _follows():
        return 0
    from landscape.runs import Run

    if not path.exists():  # the disk took nothing, which was said
        print(f"{path}: nothing was recorded", file=sys.stderr)
        return 1
    run = Run(path)
    if run.reason:
        print(f"{path}: {run.reason}", file=sys.stderr)
        return 0 if companion("training.savepoints").is_preempted(run) else 1
    accuracy, loss = (run.summary[f"test_{name}"] for name in ("accuracy", "loss"))
    print(
        f"{path}: {run.total_steps} steps, test accuracy {number(100 * accuracy)} %, "
        f"test loss {number(loss)}\n"
        f"recorded: {run.recording['reason']}\nnext: landscape surface {path}"
    )
    return 0


def _resumed(parser: Parser, argv: list[str], companion: Companion) -> Path:
    """Go on with a run; its settings are those that it was begun with."""
    args = parser.read(argv)
    with ProgressBar(f"train {Path(args.resume).name}", quiet=_follows()) as progress:
        return companion("training.loop").resume(
            args.resume, own=_own_problem(args.problem), progress=progress
        )


def _follows() -> bool:
    """Whether another rank of a torchrun job records the run, and tells of it."""
    from landscape.work import shard_of_environment

    return shard_of_environment()[0] > 0


def _own_problem(name: str | None) -> Any:
    """The problem that the user names, with its name."""
    if not name:
        return None
    from landscape.problems import load_problem

    return name, load_problem(name, {}, {})


def _trained(parser: Parser, argv: list[str], companion: Companion) -> Path:
    """Train anew."""
    config_module = companion("training.config")
    presets = companion("training.presets").PRESETS
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
    own = _own_problem(args.problem)
    if own is not None:
        for flag in ("--data", "--model", "--train-samples"):
            if parser.peek(argv, flag):
                raise ValueError(f"{flag} and --problem exclude each other; leave one out")
        args.data = args.model = config_module.OWN
        args.augment, args.train_samples = False, 0
    config = parser.options(config_module.TrainConfig, args)
    with ProgressBar(f"train {Path(args.out).name}", quiet=_follows()) as progress:
        return companion("training.loop").train(config, Path(args.out), own=own, progress=progress)


def _data(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("name", nargs="?", help="data set to fetch; without it all are listed")
    args = parser.read(argv)
    names = ("digits", *companion("training.config").DATA)
    if args.name and args.name not in names:
        raise ValueError(
            f"no data set {args.name!r}{near(args.name, names)}; there are {', '.join(names)}"
        )
    sources = companion("training.datasets")
    if args.name in sources.SOURCES:
        with ProgressBar(f"read {args.name}") as progress:
            sources.fetch_data(args.name, progress)
    for name, about, where in sources.list_data():
        if args.name in (None, name):
            print(f"{name:10} {about}\n{'':10} {where}")
    return 0


def _figure(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("what", nargs="*", help="run folders or a result file, then the kind")
    parser.add_argument("--from", help="draw again from a recipe, the .json beside a figure")
    parser.add_argument("--venue", default="icml", help="whose column width and type size")
    parser.add_argument(
        "--format",
        default="pdf,png",
        help="pdf, svg, png, eps, or several: pdf,png; tex for tables of sharpness, comparison",
    )
    parser.add_argument("--out", help="file name without its ending (default: KIND-RUN)")
    parser.add_argument("--checkpoint", help="of the measured result; the newest by default")
    parser.add_argument("--plane", help="of a surface, as it was measured: random, sam,aace, ...")
    parser.add_argument("--operator", help="of a spectrum, density or trace: hessian, ggn, moment")
    parser.add_argument(
        "--quantity",
        help="loss, accuracy, test_loss, test_accuracy, convexity, lambda_max or one's own metric",
    )
    args = parser.read(argv)
    from landscape.exports import draw_and_save, redraw

    if args["from"]:
        for path in redraw(args["from"], out=args.out, formats=args.format):
            print(path)
        return 0
    wanted = {name: args[name] for name in ("plane", "operator") if args[name]} or None
    options = {"out": args.out, "checkpoint": args.checkpoint, "wanted": wanted}
    if args.quantity:
        options["quantity"] = args.quantity
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


def _import(parser: Parser, argv: list[str], companion: Companion) -> int:
    parser.add_argument("file", nargs="+", help="surfaces of other tools, or weights of --problem")
    parser.add_argument(
        "--out",
        help="file to write (default: its name, with .h5); of weights, the new run's folder",
    )
    parser.add_argument(
        "--projections", nargs="*", help="tomgoldstein's files of a path on the plane"
    )
    parser.add_argument(
        "--problem", help="module:function or file.py:function that makes the weights' Problem"
    )
    parser.add_argument(
        "--steps", help="updates before each file of weights, as 0,100,200 (default: from names)"
    )
    parser.add_argument("--method", help="label of what trained the weights (default: imported)")
    args = parser.read(argv)
    if args.problem:
        return _import_run(args)
    if args.steps or args.method:
        raise ValueError("--steps and --method are of weights, which need --problem too")
    from landscape.foreign import import_files

    for text in import_files(args.file, out=args.out, projections=args.projections):
        print(text)
    return 0


def _import_run(args: Any) -> int:
    if not args.out:
        raise ValueError("--out must name the folder of the new run, as runs/old")
    if args.projections is not None:
        raise ValueError("--projections belong to a surface, got them with --problem")
    if args.steps and not re.fullmatch(r"\d+(,\d+)*", args.steps):
        raise ValueError(f"--steps must be whole numbers by comma, as 0,100, got {args.steps!r}")
    steps = [int(step) for step in args.steps.split(",")] if args.steps else None
    from landscape.imports import import_checkpoints, report_import
    from landscape.problems import load_problem

    with ProgressBar(f"import {Path(args.out).name}") as progress:
        run_ = import_checkpoints(
            args.file,
            args.out,
            load_problem(args.problem, {}, {}),
            steps=steps,
            method=args.method or "imported",
            name=args.problem,
            progress=progress,
        )
    print(report_import(run_, args.problem))
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
        steps = f"{run_.updates}/{run_.total_steps or '?'}"
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

    port = ["--port", str(args.port)] if args.port else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "landscape", "app", str(out), *port])


_COMMANDS: dict[str, Callable[[Parser, list[str], Companion], int]] = {
    "demo": _demo,
    "train": _train,
    "data": _data,
    "import": _import,
    "figure": _figure,
    "app": _app,
    "runs": _runs,
    "claim": claim,
    "compare": compare,
    "check": _check,
}
