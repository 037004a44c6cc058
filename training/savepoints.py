"""What a run is taken up again from: the state of training, saved beside each checkpoint."""

import shlex
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from landscape.locks import BusyError
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.storage import RunFileError, write_whole

from .config import TrainConfig

_PREEMPTED = "stopped by SIGTERM"


def save_state(out: Path, state: dict[str, Any], recorder: Recorder, on_error: str) -> None:
    """Save the state of training; the one before goes when this one is whole.

    Args:
        out: The run's folder.
        state: Tensors and plain values.
        recorder: Its rows are on file before the state is, so that none can be missing.
        on_error: "stop", or "continue" where the disk is full.

    Raises:
        OSError: It can't be written, with "stop".
    """
    recorder.flush()  # which may find that nothing is recorded any more
    if not recorder.recording_goes_on:
        return
    try:
        content = {**state, "recorder": recorder.state()}
        path = out / f"state-{content['step']:08d}.pt"
        with write_whole(path) as temporary:
            torch.save(content, temporary)
    except OSError as error:
        if on_error == "stop":
            raise
        warnings.warn(f"the state of training is not saved: {error}", stacklevel=2)
        return
    for other in _states(out):
        if other != path:
            other.unlink(missing_ok=True)


def find_run(out: Path) -> Run:
    """The run in a folder.

    Raises:
        RunFileError: There is none.
    """
    if (out / ".lock").is_file() and not (out / "run.json").is_file():
        raise RunFileError(
            f"{out}: training ended before its run had begun; there is nothing to go on from; "
            "remove the folder and train anew"
        )
    return Run(out)


def find_state(run: Run) -> dict[str, Any]:
    """The last saved state of a run, tensors on the CPU.

    Raises:
        BusyError: Another process writes the run, and has saved none yet.
        ValueError: The run has finished, or there is no state.
        RunFileError: The file is damaged.
    """
    if run.status == "finished":
        forget_states(run.path)  # a kill may have come in between
        raise ValueError(f"{run.path}: the run has finished; there is nothing to go on with")
    paths = _states(run.path)
    if not paths and run.status == "running":
        raise BusyError(f"{run.path}: another process trains it; wait for its end, or stop it")
    if not paths:
        raise ValueError(
            f"{run.path} holds no saved state to go on from: it ended before its first, or was "
            "recorded by another loop; train anew into another --out, or remove the folder"
        )
    try:
        return torch.load(paths[-1], map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of a damaged file
        raise RunFileError(f"{paths[-1]}: the state can't be read ({error}); remove it") from error


def forget_states(out: Path) -> None:
    """Remove what a run no longer needs, if it has finished."""
    paths = _states(out)
    if paths and Run(out).status == "finished":
        for path in paths:
            path.unlink(missing_ok=True)


def config_of(run: Run) -> TrainConfig:
    """The settings that a run was trained with.

    Raises:
        ValueError: It was not trained by this loop.
    """
    names = {field.name for field in fields(TrainConfig)}
    if set(run.config) != names:
        raise ValueError(
            f"{run.path} must have been trained by `landscape train` of this version to go on, got "
            f"other settings: {', '.join(sorted(set(run.config) ^ names)[:6])}"
        )
    return TrainConfig(**{**run.config, "lr_drops": tuple(run.config["lr_drops"])})


def stopped_by(signal: str, out: Path, step: int, ranks: int) -> str:
    """Why a run has ended that was told to, and from where it goes on.

    Args:
        signal: The signal's name.
        out: The run's folder.
        step: Updates made.
        ranks: Processes that trained it.
    """
    ended, states = f"stopped by {signal} after {step} updates", _states(out)
    if not states:
        return f"{ended}; no state of training could be saved, so that it can't go on"
    command = f"`landscape train --resume {shlex.quote(str(out))}`"
    command += f", under torchrun with {ranks} ranks, goes on" if ranks > 1 else " goes on"
    last = int(states[-1].stem.removeprefix("state-"))
    if last < step:
        command += f" from update {last}, the last state that could be saved"
    return f"{ended}; {command}"


def is_preempted(run: Run) -> bool:
    """Whether a run was asked to make room."""
    return run.reason.startswith(_PREEMPTED)


def _states(out: Path) -> list[Path]:
    return sorted(out.glob("state-*.pt"))
