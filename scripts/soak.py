"""Kill surfaces again and again, alone and under torchrun: `make soak`. Minutes long.

Each job is killed at 25 moments drawn over the length of an undisturbed one, given again after
each, and must end with the undisturbed digest. What happened is printed and kept.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from kill_trials import Timeline, Trials, finish, kill, kill_a_rank, kill_along, watch
from test_kills import digest, make_run, prepare, start

from landscape import __version__

REPORT = Path(__file__).resolve().parent.parent / "benchmarks" / "soak.txt"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--points", type=int, default=61, help="along each axis")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = [
        f"make soak, {time.strftime('%Y-%m-%d', time.gmtime())}: landscape {__version__}, "
        f"torch {torch.__version__}, h5py {h5py.__version__}, Python {platform.python_version()}, "
        f"{platform.system()}, {os.cpu_count()} cores",
        f"{args.points} × {args.points} points, one thread a process, seed {args.seed}",
    ]
    print("\n".join(report), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "original").mkdir()
        original = prepare(make_run(Path(folder) / "original"), args.points)
        digests = [soak(original, ranks, args, report) for ranks in (0, 2)]
    good = len({digest for pair in digests for digest in pair}) == 1
    report.append("all four digests are equal" if good else f"digests differ: {digests}")
    print(report[-1])
    REPORT.write_text("\n".join(report) + "\n")
    return 0 if good else 1


def soak(
    original: Path, ranks: int, args: argparse.Namespace, report: list[str]
) -> tuple[str, str]:
    """The digests of an undisturbed job and of one killed again and again."""
    runs = []
    for name in ("undisturbed", "killed"):
        folder = original.parent.with_name(f"{name}-{ranks}")
        shutil.copytree(original.parent, folder)
        runs.append(folder / "run")
    undisturbed, killed = runs
    settings = {"ranks": ranks, "points": args.points}
    line = watch(lambda: start(undisturbed, **settings), undisturbed / "results")
    moments = np.sort(np.random.default_rng(args.seed).uniform(0, line.length, args.kills))
    strikes = [kill_a_rank if ranks and number % 3 == 2 else kill for number in range(args.kills)]
    begin = time.monotonic()
    trials = kill_along(
        lambda: start(killed, **settings), killed / "results", line, moments, strikes
    )
    finish(start(killed, **settings))
    lines = describe(ranks, line, trials, args.points**2, moments, time.monotonic() - begin)
    print("\n".join(lines), flush=True)
    report += lines
    assert trials.killed == args.kills, f"only {trials.killed} processes could be killed"
    assert trials.share_between(args.points**2) >= 0.8
    return digest(undisturbed), digest(killed)


def describe(
    ranks: int, line: Timeline, trials: Trials, count: int, moments: np.ndarray, seconds: float
) -> list[str]:
    """What is told of one job and its kills."""
    share = trials.share_between(count)
    return [
        "",
        f"under torchrun, {ranks} ranks" if ranks else "alone",
        f"  undisturbed: {line.length:.1f} s, points kept from {line.times[0]:.1f} s "
        f"to {line.times[-1]:.1f} s",
        f"  {trials.killed} of {len(moments)} kills struck"
        + (", every third one a single rank, which ended the job" if ranks else "")
        + f"; {share:.0%} fell between the first and the last finished point",
        "  killed at (s): " + ", ".join(f"{moment:.1f}" for moment in moments),
        "  points kept then: " + ", ".join(map(str, trials.kept)),
        f"  finished points lost, changed or measured again: 0; with all restarts {seconds:.0f} s",
    ]


if __name__ == "__main__":
    sys.exit(main())
