"""The commands that measure: what is asked, of which runs, and what is said of the answer."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from landscape.crossover import crossover, crossover_text
from landscape.options import JOINT, OPTIONS
from landscape.parsers import Parser
from landscape.reports import headline, report, report_interrupted
from landscape.terminal import ProgressBar, duration, number

Companion = Callable[[str], ModuleType]

BY_POINTS = ("profile", "surface", "barrier")
"""Analyses that are measured point by point, and so can be shared out and resumed."""
BY_PRODUCTS = ("spectrum", "sharpness", "stability", "curvature")
"""Analyses of Hessian products; they are resumed from savepoints."""
BY_RECORD = ("directions",)
"""Analyses of what a run recorded, without its model and data; it may still be written."""
SHARED = ("spectrum", "curvature", "consistency")
"""Those whose data, or batches, the ranks of torchrun share."""


def run_analysis(name: str, parser: Parser, argv: list[str], companion: Companion) -> int:
    """Parse an analysis's arguments, measure and report; its exit code."""
    parser.add_argument("run", nargs="*", help="run folders, or one's own model by --problem")
    parser.add_options(OPTIONS[name])
    parser.add_argument(
        "--problem", help="module:function or file.py:function that makes one's own Problem"
    )
    parser.add_argument(
        "--state", nargs="*", help="weights for --problem: .safetensors or state_dict files"
    )
    parser.add_argument("--out", help="folder for the results of --problem (default: results)")
    parser.add_argument("--again", action="store_true", help="measure even what is there")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; a GPU where there is one")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")
    if name in BY_POINTS:
        _add_point_arguments(parser)
    if name in BY_PRODUCTS:
        _add_product_arguments(parser)
    args = parser.read(argv)
    options = parser.options(OPTIONS[name], args)
    if name in BY_POINTS and args.dry_run:
        return _estimate(name, args, options, companion)
    with _ways(name, args) as ways:
        return _measure(name, args, options, companion, ways)


def _measure(name: str, args: Any, options: Any, companion: Companion, ways: dict[str, Any]) -> int:
    """Measure every subject and say what was found; 130 where Ctrl-C ended it."""
    from landscape.analyses import ANALYSES

    reports: list[dict[str, Any]] = []
    measured: list[tuple[str, list[Any]]] = []
    interrupted = False
    silent = name in (*BY_PRODUCTS, "consistency") and _is_silent_rank()
    for subject in _subjects(name, args, options, companion):
        where = _where(subject)
        with ProgressBar(f"{name} of {where}", quiet=args.json or _is_silent_rank()) as progress:
            answers = ANALYSES[name](subject, options, again=args.again, progress=progress, **ways)
        if name == "consistency":
            measured.append((where, [found.result for found in answers]))
        for found in answers:
            told, text = _told(found, where)
            reports.append(told)
            interrupted |= "interrupted" in told
            if not args.json and not silent:
                print(text)
        if interrupted:
            break
    crossed = crossover(measured)
    if crossed is not None:
        reports.append(crossed)
        if not args.json and not silent:
            print(crossover_text(crossed))
    if args.json and not silent:
        from landscape.storage import plain

        print(json.dumps(plain(reports), indent=1))
    return 130 if interrupted else 0


def _told(found: Any, where: str) -> tuple[dict[str, Any], str]:
    """An answer as JSON, and in words."""
    from landscape.answers import Interrupted, Unfinished

    if isinstance(found, Unfinished):
        return _unfinished(found, where)
    result = found.result
    told = {**headline(result), "kind": result.kind, "facts": result.facts}
    if isinstance(found, Interrupted):
        return told | {"interrupted": str(found.folder)}, report_interrupted(found, where)
    told |= {"path": str(found.path), "found": found.found, "digest": result.digest}
    return told, report(found, where)


@contextmanager
def _ways(name: str, args: Any) -> Iterator[dict[str, Any]]:
    """What an analysis may use, beside its options; ranks are joined as long as it runs."""
    if name in BY_POINTS:
        yield {"shard": _shard(args.shard), "chunk": args.chunk}
    elif name in BY_PRODUCTS:
        from landscape.curvature_analyses import Resources
        from landscape.ranks import ranks_of_environment

        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and name not in SHARED:
            raise ValueError(
                f"torchrun shares the work of {', '.join(SHARED)}; start {name} as one process"
            )
        with ranks_of_environment(device_of(args.device) or "cpu") as ranks:
            yield {
                "resources": Resources(
                    method=args.method,
                    memory=args.memory,
                    max_vectors=args.max_vectors,
                    ranks=ranks,
                )
            }
    elif name == "consistency":
        from landscape.ranks import ranks_of_environment

        with ranks_of_environment(device_of(args.device) or "cpu") as ranks:
            yield {"ranks": ranks}
    else:
        yield {}


def _add_point_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--shard", help="measure share I of N, as 0/4; torchrun's ranks share by themselves"
    )
    parser.add_argument(
        "--chunk", type=int, help="samples evaluated at a time (default: the fastest, probed)"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="print points, time and memory, and measure nothing"
    )


def _add_product_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--method",
        default="auto",
        help="auto, or how Hessian products are taken: retained, recomputed, forward-over-reverse, "
        "finite-difference",
    )
    parser.add_argument("--memory", type=float, help="bytes that kept graphs may take, as 4e9")
    parser.add_argument("--max_vectors", type=int, help="vectors that a basis may hold")


def _shard(text: str | None) -> tuple[int, int]:
    from landscape.work import parse_shard, shard_of_environment

    return parse_shard(text) if text else shard_of_environment()


def _is_silent_rank() -> bool:
    """One bar for all: the first rank's."""
    return os.environ.get("RANK", "0") != "0"


def _where(subject: Any) -> str:
    if subject.run:
        return f"{subject.run.name} at step {subject.checkpoint}"
    names = [weights.name for weights in subject.weights]
    return (
        " and ".join(names)
        if 0 < len(names) <= 3
        else (f"{len(names)} minima" if names else "own model")
    )


def _unfinished(found: Any, where: str) -> tuple[dict[str, Any], str]:
    told = {
        "kind": found.kind,
        "unfinished": str(found.folder),
        "points": found.done,
        "of": found.total,
    }
    return told, (
        f"{found.kind} of {where}: {found.done} of {found.total} points are there; other "
        f"processes measure theirs, and the last one stores the result\n  {found.folder}"
    )


def _estimate(name: str, args: Any, options: Any, companion: Companion) -> int:
    from landscape.surface_analyses import estimate

    reports = []
    for subject in _subjects(name, args, options, companion):
        cost = estimate(name, subject, options, chunk=args.chunk)
        reports.append(cost)
        if not args.json:
            print(
                f"{name} of {_where(subject)}: {cost['points']} points of {cost['batches']} "
                f"batches ({cost['samples']} samples)\n"
                f"  {number(cost['seconds_point'])} s a point, about {duration(cost['seconds'])} "
                f"in all, {number(cost['memory'] / 1e6)} MB of memory\n"
                f"  path {cost['path']}, chunk {cost['chunk']}, {cost['threads']} threads"
            )
    if args.json:
        print(json.dumps(reports, indent=1))
    return 0


def _subjects(name: str, args: Any, options: Any, companion: Companion) -> Iterable[Any]:
    from landscape.runs import Run

    if not args.run and not args.problem:
        raise ValueError(
            "expected a run folder, or --problem module:function --state weights.safetensors"
        )
    runs = [Run(folder) for folder in args.run]  # a wrong path is told before torch is loaded
    if name in BY_RECORD:
        yield from _records(name, runs)
        return
    joint = name in ("barrier", "curve") or getattr(options, "plane", "") in JOINT
    if joint:
        _check_count(name, options, len(runs) or len(args.state or ()))
    from landscape.subjects import subject_of_runs, subjects_of_run

    device = device_of(args.device)
    if not runs:
        yield replace(_own_subject(args, joint), device=device)
        return
    problems = [problem_of(run, args, companion) for run in (runs[:1] if joint else runs)]
    checkpoint = getattr(options, "checkpoint", "last")
    if joint:
        yield replace(subject_of_runs(runs, problems[0], checkpoint), device=device)
        return
    for run, problem in zip(runs, problems, strict=True):
        for subject in subjects_of_run(run, problem, checkpoint):
            yield replace(subject, device=device)


def _records(name: str, runs: list[Any]) -> Iterable[Any]:
    from landscape.subjects import record_of_run

    if not runs:
        raise ValueError(f"{name} is measured of what a run recorded; name its folder")
    yield from map(record_of_run, runs)


def problem_of(run: Any, args: Any, companion: Companion) -> Any:
    """The problem of a run, or the one that `--problem` names.

    Raises:
        ValueError: The run does not say which it is.
    """
    from landscape.problems import load_problem

    if args.problem:
        return load_problem(args.problem, {}, {})
    if run.problem["name"] is None:
        raise ValueError(
            f"{run.path} does not say which model and data it was trained with; name the function "
            "that makes them: --problem module:function"
        )
    builtin = companion("training.problems").PROBLEMS
    return load_problem(run.problem["name"], run.problem["options"], builtin)


def _own_subject(args: Any, joint: bool) -> Any:
    from landscape.problems import load_problem
    from landscape.states import load_state
    from landscape.subjects import Subject, subject_of_states

    problem, folder = load_problem(args.problem, {}, {}), Path(args.out or "results")
    if joint:
        return subject_of_states(problem, args.state, folder)
    if len(args.state or ()) > 1:
        raise ValueError(f"one file of weights is measured at a time, got {len(args.state)}")
    for state in args.state or ():
        load_state(problem.model, state)
    return Subject(problem=problem, folder=folder)


def _check_count(name: str, options: Any, count: int) -> None:
    """Refuse another number of minima than the analysis is about."""
    plane = getattr(options, "plane", "")
    exact = {"curve": 2, "profile": 2, "surface": 3}.get(name if plane != "joint" else "")
    if exact is not None and count != exact:
        what = f"{name} --plane {plane}" if plane else name
        raise ValueError(
            f"{what} needs {exact} runs, or --problem with {exact} files by --state, got {count}"
        )
    if count < 2:
        raise ValueError(f"{name} needs at least 2 runs, got {count}; name them one by one")


def device_of(name: str | None) -> str | None:
    """Where to compute: what was named, else a GPU where there is one; None for the CPU.

    Raises:
        ValueError: It is not here.
    """
    import torch

    if name is not None:
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"--device must be one that is here, got {name!r}: {str(error).splitlines()[0]}"
            ) from None
        return name
    if not torch.cuda.is_available():
        return None
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
