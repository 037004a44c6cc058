"""Training, killed again and again, and taken up again after each kill.

Moments are drawn over the length of an undisturbed `landscape train`. Every third process lives on
from there until it opens a segment, or writes a checkpoint or a state, and dies in the midst of
it. The end must have the bits of the undisturbed run.
"""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kill_trials import Timeline, kill, watch
from training_trials import assert_same, await_rows, finish, rows_in, segments_in, start

from landscape.runs import Run

STEPS, EVERY = 3000, 50
SETTINGS = [
    *("--preset", "digits-aace", "--device", "cpu", "--record", "full"),
    *("--steps", STEPS, "--checkpoint-every", EVERY, "--evaluation-samples", 60),
]
AIMS = {
    ".segment-": "opening a segment",  # the first one: a run without a state
    ".state-": "writing a state",
    ".checkpoint-": "writing a checkpoint",
}
"""What the name of an unfinished file begins with; a kill leaves it there."""


@dataclass
class Kill:
    """One kill and what it left."""

    moment: float
    struck: bool
    rows: int
    phase: str


def soak_training(folder: Path, kills: int, seed: int) -> list[str]:
    """Report one training, killed and taken up again; it must have the undisturbed bits."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    line = watch(
        lambda: start(*SETTINGS, "--out", undisturbed), lambda: rows_in(undisturbed), pause=0.02
    )
    moments = np.sort(np.random.default_rng(seed).uniform(0, line.length, kills))
    begin = time.monotonic()
    done, anew = kill_along(killed, line, moments.tolist())
    if not _has_finished(killed):
        finish(_begin(killed))
    seconds = time.monotonic() - begin
    told = describe(line, done, anew, segments_in(killed), seconds)
    print("\n".join(told), flush=True)
    assert_same(Run(killed), Run(undisturbed))
    assert all(each.struck for each in done), "not all processes could be killed"
    assert np.mean([0 < each.rows < STEPS for each in done]) >= 0.8
    assert {each.phase for each in done} >= {AIMS[".state-"], AIMS[".checkpoint-"]}
    return [
        *told,
        "rows, displacements, sketches, norms by tensor, checkpoints, evaluations, windows and "
        "summary have the bits of the undisturbed run; no file is left over",
    ]


def kill_along(out: Path, line: Timeline, moments: Sequence[float]) -> tuple[list[Kill], int]:
    """Kill where the undisturbed run was at each moment; and how often it had to begin anew."""
    done, anew = [], 0
    for number, moment in enumerate(moments):
        rows, rest = line.state(moment)
        known, before = segments_in(out), _unfinished(out)
        process = _begin(out)
        aim = [*AIMS][number // 3 % len(AIMS)] if number % 3 == 2 else ""
        if aim != ".segment-":
            if rows:
                await_rows(process, out, rows, known)
            time.sleep(rest if rows < STEPS else 0)  # the end may come sooner this time
        if aim:
            _await_writing(process, out, aim, before, known)
        struck = process.poll() is None
        kill(process)
        phase = _phase(out, _unfinished(out) - before, known)
        done.append(Kill(moment, struck, _rows(out), phase))
        if out.exists() and not _can_go_on(out):
            _check_refusal(out)
            shutil.rmtree(out)
            anew += 1
    return done, anew


def _begin(out: Path) -> subprocess.Popen:
    return start("--resume", out) if out.exists() else start(*SETTINGS, "--out", out)


def _await_writing(
    process: subprocess.Popen, out: Path, aim: str, before: set[Path], known: int
) -> None:
    """Wait until a file is being written, which takes milliseconds; not beyond its last chance."""
    while process.poll() is None:
        if any(path.name.startswith(aim) for path in _unfinished(out) - before):
            return
        last = out / f"state-{STEPS - EVERY:08d}.pt"
        if last.exists() or (aim == ".segment-" and segments_in(out) > known):
            return
        time.sleep(0.0002)


def _unfinished(out: Path) -> set[Path]:
    """The files that are being written, or were when a process was killed."""
    newest = max(out.glob("segment-*"), default=out)
    return {*out.glob(".*.tmp"), *newest.glob("snapshots/.*.tmp")}


def _rows(out: Path) -> int:
    """The rows that readers see."""
    try:
        return len(Run(out).steps["step"])
    except ValueError:
        return 0


def _can_go_on(out: Path) -> bool:
    return bool([*out.glob("state-*.pt")]) or _has_finished(out)


def _has_finished(out: Path) -> bool:
    try:
        return Run(out).status == "finished"
    except ValueError:
        return False


def _check_refusal(out: Path) -> None:
    """What was killed before its first state is refused, and the message says what to do."""
    process = start("--resume", out)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 2, error
    assert "remove the folder" in error, error


def _phase(out: Path, left: set[Path], known: int) -> str:
    """What the process was at when it was killed, told by the unfinished files that it left."""
    for path in left:
        return next((phase for aim, phase in AIMS.items() if path.name.startswith(aim)), path.name)
    if segments_in(out) == known:
        return "starting"
    if _has_finished(out):
        return "ending"
    return "training" if rows_in(out) else "before the first row of a segment"


def describe(
    line: Timeline, done: Sequence[Kill], anew: int, segments: int, seconds: float
) -> list[str]:
    """What is told of the kills."""
    share = np.mean([0 < each.rows < STEPS for each in done])
    phases = Counter(each.phase for each in done).most_common()
    return [
        f"{STEPS} updates, a checkpoint and a state after every {EVERY}",
        f"  undisturbed: {line.length:.1f} s, rows kept from {line.times[0]:.1f} s to "
        f"{line.times[-1]:.1f} s",
        f"  {sum(each.struck for each in done)} of {len(done)} kills struck; {share:.0%} fell "
        "between the first and the last row",
        "  drawn moments (s): " + ", ".join(f"{each.moment:.1f}" for each in done),
        "  rows kept then: " + ", ".join(str(each.rows) for each in done),
        "  killed while: " + ", ".join(f"{phase} {count}" for phase, count in phases),
        f"  {anew} killed before their first state, which was said, and begun anew; with all "
        f"restarts {seconds:.0f} s, {segments} segments",
    ]
