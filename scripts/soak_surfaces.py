"""Surfaces, killed again and again: alone and under torchrun.

Each job is killed at moments drawn over the length of an undisturbed one, given again after each,
and must end with the undisturbed digest.
"""

import shutil
import time
from pathlib import Path

import numpy as np
from kill_trials import Timeline, Trials, finish, kept_in, kill, kill_a_rank, kill_along, watch
from test_kills import digest, make_run, prepare, start

POINTS = 61  # along each axis


def soak_surfaces(folder: Path, kills: int, seed: int) -> list[str]:
    """Report jobs alone and under torchrun; all their digests must be equal."""
    (folder / "original").mkdir()
    original = prepare(make_run(folder / "original"), POINTS)
    report = [f"{POINTS} × {POINTS} points"]
    digests = set()
    for ranks in (0, 2):
        pair, lines = _soak(original, ranks, kills, seed)
        digests |= pair
        report += lines
        print("\n".join(lines), flush=True)
    assert len(digests) == 1, f"digests differ: {digests}"
    return [*report, "all four digests are equal"]


def _soak(original: Path, ranks: int, kills: int, seed: int) -> tuple[set[str], list[str]]:
    """The digests of an undisturbed job and of one killed again and again; and what is told."""
    runs = []
    for name in ("undisturbed", "killed"):
        folder = original.parent.with_name(f"{name}-{ranks}")
        shutil.copytree(original.parent, folder)
        runs.append(folder / "run")
    undisturbed, killed = runs
    settings = {"ranks": ranks, "points": POINTS}
    line = watch(lambda: start(undisturbed, **settings), lambda: kept_in(undisturbed / "results"))
    moments = np.sort(np.random.default_rng(seed).uniform(0, line.length, kills))
    strikes = [kill_a_rank if ranks and number % 3 == 2 else kill for number in range(kills)]
    begin = time.monotonic()
    trials = kill_along(
        lambda: start(killed, **settings), killed / "results", line, moments, strikes
    )
    finish(start(killed, **settings))
    assert trials.killed == kills, f"only {trials.killed} processes could be killed"
    assert trials.share_between(POINTS**2) >= 0.8
    lines = _describe(ranks, line, trials, POINTS**2, moments, time.monotonic() - begin)
    return {digest(undisturbed), digest(killed)}, lines


def _describe(
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
