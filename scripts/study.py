"""Train and compare SGD, SAM, AACE, VaSSO and F-SAM at a size of minutes: `make study`.

Five methods, three seeds, 10,000 images of Fashion-MNIST, by the presets study-METHOD. The same
command goes on where one was stopped or killed; runs that are finished are kept. What comes out is
written to benchmarks/study/, that of a smaller study beside its runs.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from study_measures import measure_run, study_data
from study_runs import Job, plan, planned_bytes, state_of, tell_with_bar, train_all
from study_table import summarize, write_report

from landscape.locks import holder, try_lock
from landscape.modules import layout_of
from landscape.terminal import ProgressBar, near
from training.data import Dataset, load_data
from training.data_folders import data_folder
from training.presets import PRESETS, STUDIED
from training.problems import make_problem

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "study"
SEEDS = 3
EPOCHS = PRESETS["study-sgd"]().epochs


def main(argv: Sequence[str] | None = None) -> int:
    """Train, evaluate, write; 1 where a run failed, 2 for a user's mistake, 130 if stopped."""
    args = read_options(argv)
    try:
        return study(args)
    except KeyboardInterrupt:
        again = command_of(args, out=args.out)
        print(f"stopped; what was trained is kept, and `{again}` goes on with it")
        return 130
    except (ValueError, OSError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 2


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exit code 2 and a sentence for bad ones."""
    parser = argparse.ArgumentParser(
        prog="study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --method would be --methods, and train for an hour
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the runs (default: study in data_cache)"
    )
    parser.add_argument("--seeds", type=_count, default=SEEDS, help="runs of each method")
    parser.add_argument(
        "--methods", type=_methods, default=STUDIED, help=f"some of {','.join(STUDIED)}"
    )
    parser.add_argument("--epochs", type=_count, default=EPOCHS, help="fewer make a trial")
    parser.add_argument("--only-table", action="store_true", help="train nothing")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, got {text!r}")
    return int(text)


def _methods(text: str) -> tuple[str, ...]:
    names = text.split(",")
    for name in names:
        if name not in STUDIED:
            raise argparse.ArgumentTypeError(
                f"expected some of {','.join(STUDIED)}, got {name!r}{near(name, STUDIED)}"
            )
    return tuple(name for name in STUDIED if name in names)


def command_of(args: argparse.Namespace, *, out: Path | None = None) -> str:
    """The command that makes the same again, or goes on with the runs in `out`."""
    flags = [f"--out {out}"] if out else []
    flags += [f"--seeds {args.seeds}"] if args.seeds != SEEDS else []
    flags += [f"--methods {','.join(args.methods)}"] if args.methods != STUDIED else []
    flags += [f"--epochs {args.epochs}"] if args.epochs != EPOCHS else []
    return f"make study STUDY='{' '.join(flags)}'" if flags else "make study"


def study(args: argparse.Namespace) -> int:
    """Train what is missing, then evaluate all runs and write the table."""
    dataset = load_data("fashion")
    out = args.out or data_folder() / "study"
    if out.is_file():
        raise ValueError(f"--out must be a folder, but {out} is a file; choose another")
    jobs = plan(out, args.methods, args.seeds, args.epochs)
    states = {job: state_of(job) for job in jobs}
    left = [job for job in jobs if states[job] != "finished"]
    if args.only_table and left:
        raise ValueError(
            f"--only-table needs finished runs, but {len(left)} of {len(jobs)} in {out} are not, "
            f"as {left[0].name}; leave it out, and they are trained"
        )
    out.mkdir(parents=True, exist_ok=True)
    lock = try_lock(out / ".lock")
    if lock is None:
        raise ValueError(
            f"{out} is being worked on by {holder(out / '.lock')}; wait for its end, or stop it"
        )
    try:
        failed = _train(jobs, left, dataset, out) if left else []
        return 1 if failed else _report(args, jobs, dataset, out)
    finally:
        lock.release()


def _train(jobs: Sequence[Job], left: Sequence[Job], dataset: Dataset, out: Path) -> list[Job]:
    """Say what it takes, and train; the runs that failed."""
    config = left[0].config
    problem = make_problem(dataset, model=config.model, seed=0, train_samples=config.train_samples)
    layout = layout_of(problem.model)
    needed = sum(planned_bytes(job, layout.size, len(layout)) for job in left)
    print(f"{len(left)} of {len(jobs)} runs to train, {check_room(needed, out)}", flush=True)
    failed = train_all(jobs, tell_with_bar)
    if failed:
        names = ", ".join(job.name for job in failed)
        print(f"study: {names} failed; the same command tries again", file=sys.stderr)
    return failed


def check_room(needed: int, out: Path) -> str:
    """Say what the runs take on disk at most.

    Raises:
        ValueError: There is less room.
    """
    told, free = f"up to {needed / 1e9:.2g} GB in {out}", shutil.disk_usage(out).free
    if needed > free:
        raise ValueError(
            f"the runs take {told}, but {free / 1e9:.2g} GB are free there; make room, or choose "
            "another --out"
        )
    return told


def _report(args: argparse.Namespace, jobs: Sequence[Job], dataset: Dataset, out: Path) -> int:
    """Evaluate, say and write."""
    config = jobs[0].config
    data = study_data(dataset, config)
    with ProgressBar("evaluate", quiet=not sys.stderr.isatty()) as progress:
        runs = []
        for job in jobs:
            runs.append(measure_run(job, dataset, data))
            progress(len(runs), len(jobs), job.name)
    whole = (args.methods, args.seeds, args.epochs) == (STUDIED, SEEDS, EPOCHS)
    report = summarize(runs, config, command_of(args))
    path = write_report(report, RESULTS if whole else out)
    print(f"{report['statement']}\n{report['learned']}\n{path}")
    return 0


def _like_ctrl_c(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    sys.exit(main())
