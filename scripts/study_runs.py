"""The runs of `make study`: planned, trained in processes of their own, taken up again."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from landscape.locks import try_lock
from landscape.recording import choose_recording
from landscape.runs import Run, RunFileError
from landscape.terminal import ProgressBar, duration, number
from training.config import TrainConfig
from training.presets import PRESETS

AT_ONCE = min(2, os.cpu_count() or 1)  # of one thread each: more than two threads help little
_PATIENCE = 1.0  # seconds between looks at the processes
_FREE = ("device", "on_record_error")  # settings that change nothing that is learned

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A run to be there at the end."""

    method: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.folder.parent / "logs" / f"{self.name}.log"

    def command(self, *, anew: bool) -> list[str]:
        """The command that trains it from the beginning, or goes on with it."""
        command = [sys.executable, "-m", "landscape", "train"]
        if not anew:
            return [*command, "--resume", str(self.folder)]
        settings = {
            "--preset": self.config.preset,
            "--seed": self.seed,
            "--epochs": self.config.epochs,
            "--out": self.folder,
        }
        return command + [str(word) for pair in settings.items() for word in pair]


def plan(out: Path, methods: Sequence[str], seeds: int, epochs: int) -> list[Job]:
    """All runs, seed by seed, so that a study that was stopped has whole comparisons."""
    jobs = []
    for seed in range(seeds):
        for method in methods:
            config = replace(PRESETS[f"study-{method}"](), seed=seed, epochs=epochs)
            jobs.append(Job(method, seed, config, out / f"{method}-{seed}"))
    return jobs


def state_of(job: Job) -> str:
    """One of "new", "running", "resumable" and "finished".

    A run that was killed before its first update is removed, as it holds nothing.

    Raises:
        ValueError: The folder holds something else, or can't go on.
    """
    if not job.folder.exists():
        return "new"
    if _is_unborn(job.folder):
        return _after_a_kill(job.folder)
    run = Run(job.folder)
    _check_settings(job, run)
    if run.status in ("finished", "running"):
        return run.status
    if any(job.folder.glob("state-*.pt")):
        return "resumable"
    if _updates(run):
        raise ValueError(
            f"{job.folder} has ended and must hold a saved state to go on, but there is none; "
            "move it away, and the same command trains it anew"
        )
    return _after_a_kill(job.folder)


def _is_unborn(folder: Path) -> bool:
    """Whether a run was killed, or is about to begin, before its run.json was written."""
    strange = [path for path in folder.iterdir() if not path.name.startswith((".", "segment-"))]
    return not strange and not any(folder.glob("segment-*/snapshots/*"))


def _after_a_kill(folder: Path) -> str:
    """Remove a run without updates, unless somebody holds it."""
    lock = try_lock(folder / ".lock")
    if lock is None:
        return "running"
    shutil.rmtree(folder)
    lock.release()
    return "new"


def _check_settings(job: Job, run: Run) -> None:
    config = job.config
    wanted = _stored(config.with_steps(config.train_samples))
    found = _stored(TrainConfig()) | run.config  # an older version did as today's defaults do
    differ = [
        f"{name} {found[name]}, not {value}"
        for name, value in wanted.items()
        if name not in _FREE and found[name] != value
    ]
    if differ:
        raise ValueError(
            f"{job.folder} must have the settings of {config.preset}, got {'; '.join(differ[:4])}; "
            "choose another --out, or move it away"
        )


def _stored(config: TrainConfig) -> dict[str, Any]:
    """Settings as run.json has them."""
    return json.loads(json.dumps(config.to_json()))


def _updates(run: Run) -> int:
    try:
        return run.updates
    except RunFileError:
        return 0


def planned_bytes(job: Job, size: int, tensors: int) -> int:
    """What a run takes on disk at most.

    Args:
        job: The run.
        size: Parameters of its model.
        tensors: Tensors of these.
    """
    config = job.config.with_steps(job.config.train_samples)
    recording = choose_recording(
        config.record,
        size=size,
        tensors=tensors,
        total_steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )
    return recording.planned_bytes or 0


def train_all(jobs: Sequence[Job], say: Say) -> list[Job]:
    """Train what is not finished, two at a time; those that failed.

    Raises:
        KeyboardInterrupt: After all processes have saved their state.
    """
    trainer = _Trainer(jobs, say)
    try:
        trainer.run()
    except BaseException:
        trainer.stop()
        raise
    return trainer.failed


class _Trainer:
    """Keeps processes at work until all runs have ended."""

    def __init__(self, jobs: Sequence[Job], say: Say) -> None:
        self.jobs, self.say = jobs, say
        self.failed: list[Job] = []
        self.finished = {job for job in jobs if state_of(job) == "finished"}
        self.waiting = [job for job in jobs if job not in self.finished]
        # None for a run that a process of an earlier study, itself killed, still trains.
        self.working: dict[Job, subprocess.Popen | None] = {}

    def run(self) -> None:
        """Work until all is done."""
        with ProgressBar("train, epochs", quiet=not sys.stderr.isatty()) as progress:
            while self.waiting or self.working:
                while self.waiting and len(self.working) < AT_ONCE:
                    self._start(self.waiting.pop(0))
                time.sleep(_PATIENCE)
                for job, process in list(self.working.items()):
                    self._look_at(job, process)
                self._show(progress)

    def _start(self, job: Job) -> None:
        state = state_of(job)
        if state == "running":
            self.say(f"{job.name}: is being trained by a process that an earlier study left behind")
            self.working[job] = None
            return
        if state == "resumable":
            updates, steps = _updates(Run(job.folder)), Run(job.folder).total_steps
            self.say(f"{job.name}: stopped after {updates} of {steps} updates; goes on")
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log:
            self.working[job] = subprocess.Popen(
                job.command(anew=state == "new"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C reaches it through `stop` alone
            )

    def _look_at(self, job: Job, process: subprocess.Popen | None) -> None:
        if process is None and state_of(job) == "running":
            return
        if process is not None and process.poll() is None:
            return
        del self.working[job]
        if state_of(job) == "finished":
            self.finished.add(job)
            self._tell(job)
        elif process is None:
            self.waiting.append(job)
        else:
            self.failed.append(job)
            self.say(f"{job.name}: failed with exit code {process.returncode}, see {job.log}")

    def _tell(self, job: Job) -> None:
        run = Run(job.folder)
        seconds = sum(end - begin for begin, end in spans_of(run))
        accuracy = number(100 * run.summary["test_accuracy"], 4)
        self.say(
            f"{job.name}: trained in {duration(seconds)}, test accuracy {accuracy} %; "
            f"{len(self.finished)} of {len(self.jobs)} runs"
        )

    def _show(self, progress: ProgressBar) -> None:
        epochs = [self._epochs(job) for job in self.jobs]
        total = sum(job.config.epochs for job in self.jobs)
        progress(sum(epochs), total, ", ".join(job.name for job in self.working))

    def _epochs(self, job: Job) -> int:
        """Epochs of which a checkpoint is kept."""
        if job in self.finished:
            return job.config.epochs
        if not (job.folder / "run.json").is_file():
            return 0
        return max(Run(job.folder).checkpoints, default=0) // job.config.checkpoint_every

    def stop(self) -> None:
        """Let all processes save their state and end."""
        processes = [process for process in self.working.values() if process is not None]
        if processes:
            self.say("stopping; the runs save their state")
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def spans_of(run: Run) -> list[tuple[float, float]]:
    """Begin and end of each part of a training, seconds since 1970: until its last write."""
    header = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    begins = [run.created, *[resumed["time"] for resumed in header["resumed"]]]
    ends = [(folder / "steps.h5").stat().st_mtime for folder in sorted(run.path.glob("segment-*"))]
    return [
        (datetime.fromisoformat(begin).timestamp(), end)
        for begin, end in zip(begins, ends, strict=False)  # a kill may leave an empty segment
    ]


def tell_with_bar(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
