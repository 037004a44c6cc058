"""Real processes and real kill -9, at times drawn over the length of an undisturbed run."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Start = Callable[[], subprocess.Popen]


@dataclass
class Timeline:
    """When an undisturbed run had kept its points, in seconds from its start."""

    times: list[float]
    length: float

    def state(self, moment: float) -> tuple[int, float]:
        """Points kept at a moment, and the time since the last of them."""
        done = int(np.searchsorted(self.times, moment, "right"))
        return done, moment - (self.times[done - 1] if done else 0.0)


@dataclass
class Trials:
    """What a chain of kills did."""

    kept: list[int] = field(default_factory=list)
    """Points kept when the process was killed, or had ended before it could be."""
    killed: int = 0

    def share_between(self, count: int) -> float:
        """The share of the kills that fell between the first and the last finished point."""
        return float(np.mean([0 < kept < count for kept in self.kept]))


def points_of(file: Path) -> dict[int, np.ndarray]:
    """The points in one file, read as docs/decisions/0010 describes it."""
    header, _, rows = file.read_bytes().partition(b"\n")
    columns = len(json.loads(header)["columns"])
    row = np.dtype([("index", "<i8"), ("values", "<f8", (columns,)), ("check", "<u4")])
    points = np.frombuffer(rows, row, len(rows) // row.itemsize)
    return {int(point["index"]): point["values"] for point in points}


def kept_in(results: Path) -> int:
    """Points kept until now in a folder of results."""
    with contextlib.suppress(FileNotFoundError):  # it goes when all is done
        return sum(len(points_of(file)) for file in sorted(results.glob("*.part/*.points")))
    return 0


def watch(start: Start, count: Callable[[], int], pause: float = 0.004) -> Timeline:
    """Run undisturbed to a good end and note when each point was kept, by counting them."""
    begin, times = time.monotonic(), []
    process = start()
    while process.poll() is None:
        now = time.monotonic() - begin
        times.extend([now] * (count() - len(times)))
        time.sleep(pause)
    finish(process)
    return Timeline(times, time.monotonic() - begin)


def finish(process: subprocess.Popen) -> str:
    """Wait for a good end; what was printed."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{error}"
    return out


def kill_along(
    start: Start,
    results: Path,
    timeline: Timeline,
    moments: Sequence[float],
    strikes: Sequence[Callable[[subprocess.Popen], None]] = (),
) -> Trials:
    """Start again and again, each time killed where the undisturbed run was at that moment.

    Asserts after each kill that all points kept before it are still kept, and were not
    measured again. The first kills are done by `strikes`, all others by `kill`.
    """
    trials, before = Trials(), {}
    for number, moment in enumerate(sorted(moments)):
        done, rest = timeline.state(moment)
        process = start()
        if done:
            _await_points(process, results, done)
        time.sleep(rest)
        trials.killed += process.poll() is None
        (strikes[number] if number < len(strikes) else kill)(process)
        files = {file: points_of(file) for file in sorted(results.glob("*.part/*.points"))}
        for file, points in before.items():
            assert same_points(files.pop(file), points), f"{file.name} has changed"
        again = {i for points in files.values() for i in points} & {
            i for points in before.values() for i in points
        }
        assert not again, f"finished points were measured again: {sorted(again)}"
        before |= files
        trials.kept.append(sum(len(points) for points in before.values()))
    return trials


def _await_points(process: subprocess.Popen, results: Path, count: int) -> None:
    wait_until(lambda: process.poll() is not None or kept_in(results) >= count)


def same_points(a: dict[int, np.ndarray], b: dict[int, np.ndarray]) -> bool:
    """Whether two sets of points are the same, bit by bit."""
    return {i: x.tobytes() for i, x in a.items()} == {i: x.tobytes() for i, x in b.items()}


def kill(process: subprocess.Popen) -> None:
    """Kill -9 a process and all that it started, at once, and wait until they are gone."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)  # so that it starts no more
    family = descendants(process.pid)
    process.kill()
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(is_alive(pid) for pid in family))


def kill_a_rank(process: subprocess.Popen) -> None:
    """Kill -9 the youngest rank at work in a torchrun job; the job must end by itself, as failed.

    A rank whose share is done has ended, and is a zombie until its launcher looks.
    """
    family = descendants(process.pid)
    ranks = [pid for pid in children(process.pid) if is_alive(pid)]
    if not ranks:  # none was there yet
        return kill(process)
    os.kill(max(ranks), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode > 0
    wait_until(lambda: not any(is_alive(pid) for pid in family))


def children(*pids: int) -> list[int]:
    """All processes whose parent is one of these."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(after_name[1]) in pids:
            found.append(int(path.parent.name))
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    found, latest = [], [pid]
    while latest:
        latest = children(*latest)
        found += latest
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended but that nobody asked for doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(holds: Callable[[], bool], seconds: float = 120, pause: float = 0.004) -> None:
    """Look again and again, for two minutes at most unless told otherwise."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited for {seconds:.0f} s"
        time.sleep(pause)
