"""The training loop: SGD and the SAM family on data that stay on the device, everything recorded.

```
from training.presets import PRESETS
from training.loop import train

train(PRESETS["fashion-aace"](), "runs/a")
```
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from landscape.objectives import Evaluation
from landscape.problems import Problem
from landscape.ranks import Ranks, ranks_of_environment
from landscape.recorders import Recorder

from .config import OWN, TrainConfig, settings_group
from .data import balanced_subset
from .failures import FiniteWatch
from .jobs import Job, device_of, prepare
from .methods import LABELS
from .savepoints import config_of, find_run, find_state, forget_states, save_state, stopped_by
from .updates import make_update

_EVALUATION_BATCH = 1000
_TEST_PART_SEED = 0
_AGREE_EVERY = 8  # updates between looks of the ranks at each other's signals


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    own: tuple[str, Problem] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train as the config says and record everything in a new run folder.

    Row t holds loss and accuracy of the clean pass at theta_t, in training mode on the augmented
    batch, and what the perturbation did there. Checkpoints are evaluated on a fixed class-balanced
    part of the test set. The summary has loss and accuracy on the whole test set and on the
    training subset without augmentation, both in eval mode.

    The same config, number of threads and build give the same bits, also when the run was killed
    and taken up again by `resume`. SIGTERM ends it as failed; the reason tells how to go on.

    Args:
        config: Settings.
        out: The run's folder; it must not exist.
        own: A problem of one's own, which is trained instead of the config's data and model, and
            its name, as "module:function". Targets are classes.
        progress: Called with (updates done, updates in all) after each.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The data are missing or don't fit the settings, and nothing was written; or
            numbers stopped being finite: the run then reads as failed, with all steps before.
        KeyboardInterrupt: Ctrl-C; the run then reads as failed, with all steps so far.
    """
    out = Path(out)
    with ranks_of_environment(device_of(config)) as ranks:
        if ranks.agree(out.exists()):
            if _restarted(out, config, ranks):
                return _resumed(out, own, ranks, progress)
            raise FileExistsError(
                f"the output folder must not exist, but {out} does; choose another --out, or go "
                f"on with it by --resume {out}"
            )
        return _begun(config, out, own, ranks, progress)


def _begun(
    config: TrainConfig,
    out: Path,
    own: tuple[str, Problem] | None,
    ranks: Ranks,
    progress: Callable[[int, int], None] | None,
) -> Path:
    job, origin, told = prepare(config, own, ranks)
    recorder = partial(
        Recorder,
        out,
        job.problem.model,
        job.optimizer,
        checkpoint_every=job.config.checkpoint_every,
        problem=origin,
        config=job.config.to_json(),
        method=LABELS[config.method],
        total_steps=job.config.steps,
        record=config.record,
        record_budget=config.record_budget,
        record_dtype=config.record_dtype,
        on_error=config.on_record_error,
        group=settings_group(job.config),
    )
    return _run(job, recorder, out, told, progress)


def resume(
    out: str | Path,
    *,
    own: tuple[str, Problem] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Go on with a run that was killed, stopped or failed, from its last saved state.

    On a CPU, with equal threads and build, the whole run then has the bits of one that nobody
    disturbed. Steps recorded after that state are made again, in a segment of their own.

    Args:
        out: The run's folder.
        own: The problem, where the run was trained on one of the user's own.
        progress: As in `train`.

    Raises:
        RunFileError: There is no run.
        BusyError: Another process writes it.
        ValueError: It has finished, was not trained here, or holds no state.
        KeyboardInterrupt: Ctrl-C.
    """
    out = Path(out)
    with ranks_of_environment(device_of(config_of(find_run(out)))) as ranks:
        return _resumed(out, own, ranks, progress)


def _restarted(out: Path, config: TrainConfig, ranks: Ranks) -> bool:
    """Whether torchrun has started the ranks anew and the folder has this very training in it."""
    own = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if ranks.largest(own) == 0:  # only the node whose rank has died counts
        return False
    lengths = dict.fromkeys(("steps", "epochs"))  # those of the run have been worked out
    return config_of(find_run(out)).to_json() | lengths == config.to_json() | lengths


def _resumed(
    out: Path,
    own: tuple[str, Problem] | None,
    ranks: Ranks,
    progress: Callable[[int, int], None] | None,
) -> Path:
    run = find_run(out)
    config = config_of(run)
    if (config.data == OWN) != (own is not None):
        named = f"{run.problem['name']}: pass it as --problem" if own is None else "its own data"
        raise ValueError(f"{out} was trained on {named}")
    state = find_state(run)
    job, _, told = prepare(config, own, ranks)
    job.load(state)
    recorder = partial(
        Recorder.resume,
        out,
        job.problem.model,
        job.optimizer,
        state["recorder"],
        on_error=config.on_record_error,
    )
    return _run(job, recorder, out, told, progress)


def _run(
    job: Job,
    make_recorder: Callable[[], Recorder],
    out: Path,
    told: dict[str, str],
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Make the updates that are left and record them."""
    config, problem = job.config, job.problem
    test_part = _test_part(problem.test, config.evaluation_samples)
    with (
        _signals_between_updates() as signals,
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        make_recorder() as recorder,
    ):
        hint = "lr" if config.resolved_rho is None else "lr or rho"
        watch = FiniteWatch(problem.model, out, lr_at=config.lr_at, hint=hint, flush=recorder.flush)
        if job.step == 0:
            _keep(job, recorder, out, test_part)
        while job.step < config.steps:
            if (signal_name := _agreed(signals, job)) is not None:
                _stop(job, recorder, out, signal_name)
                return out
            _make_step(job, recorder, watch)
            if job.step % config.checkpoint_every == 0 and job.step < config.steps:
                _keep(job, recorder, out, test_part)
            if progress is not None:
                progress(job.step, config.steps)
        evaluation = _evaluate(job, test_part)
        recorder.add_evaluation(evaluation.loss, evaluation.accuracy)
        recorder.summary |= _final_numbers(job)
        recorder.summary |= told
    if job.ranks.first:
        forget_states(out)
    return out


def _agreed(signals: list[str], job: Job) -> str | None:
    """The name of the signal that all ranks answer now; they may have come at different steps."""
    if job.ranks.world == 1:
        return signals[0] if signals else None
    if job.step % _AGREE_EVERY:
        return None
    number = job.ranks.largest(signal.Signals[signals[0]] if signals else 0)
    return signal.Signals(number).name if number else None


def _stop(job: Job, recorder: Recorder, out: Path, signal_name: str) -> None:
    """End as a signal asked for; what the run goes on from is kept, where the disk takes it."""
    save_state(out, job.state(), recorder, job.config.on_record_error)
    told = stopped_by(signal_name, out, job.step, job.ranks.world)
    if job.ranks.first and not recorder.recording_goes_on:  # the run has ended and can't tell it
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    if signal_name == "SIGINT":
        raise KeyboardInterrupt(told)
    recorder.fail(told)


def _make_step(job: Job, recorder: Recorder, watch: FiniteWatch) -> None:
    """One update, looked at and recorded."""
    config, step = job.config, job.step
    for group in job.optimizer.param_groups:
        group["lr"] = config.lr_at(step)
    epoch, inputs, targets = next(job.batches)
    row = make_update(job, inputs, targets)
    watch.add(step, row)
    if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
        watch.check(step, now=True)  # what is not finite is not kept
        job.join_buffers()
    recorder.step(**row, epoch=epoch)
    watch.check(step)
    job.step += 1


def _keep(job: Job, recorder: Recorder, out: Path, test_part: tuple[Tensor, Tensor]) -> None:
    """Evaluate a checkpoint, and save what a killed run goes on from."""
    evaluation = _evaluate(job, test_part)
    recorder.add_evaluation(evaluation.loss, evaluation.accuracy)
    save_state(out, job.state(), recorder, job.config.on_record_error)


def _test_part(test: tuple[Tensor, Tensor], samples: int) -> tuple[Tensor, Tensor]:
    """The class-balanced part of the test set that checkpoints are evaluated on."""
    inputs, targets = test
    if not 0 < samples < len(inputs):
        return test
    index = balanced_subset(targets.cpu(), samples, seed=_TEST_PART_SEED).to(inputs.device)
    return inputs[index], targets[index]


@torch.no_grad()
def _evaluate(job: Job, data: tuple[Tensor, Tensor]) -> Evaluation:
    """Loss and accuracy in eval mode and float32; the model is left in training mode."""
    problem, ranks = job.problem, job.ranks
    problem.model.eval()
    loss = correct = 0.0
    batches = list(zip(*(part.split(_EVALUATION_BATCH) for part in data), strict=True))
    for index in ranks.share(len(batches)):
        inputs, targets = batches[index]
        logits = problem.model(inputs)
        loss += float(problem.loss_fn(logits, targets)) * len(inputs)
        correct += float((logits.argmax(1) == targets).sum())
    problem.model.train()
    sums = ranks.sum(torch.tensor([loss, correct], dtype=torch.float64)) / len(data[0])
    return Evaluation(loss=float(sums[0]), accuracy=float(sums[1]))


def _final_numbers(job: Job) -> dict[str, float]:
    test, training = _evaluate(job, job.problem.test), _evaluate(job, job.problem.train)
    return {
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "train_loss": training.loss,
        "train_accuracy": training.accuracy,
    }


@contextmanager
def _signals_between_updates() -> Iterator[list[str]]:
    """Let Ctrl-C and SIGTERM wait for the end of an update; the same a second time does not wait.

    Gives the names of those that came. A Ctrl-C that nobody has answered goes on at the end.
    """
    caught: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name in caught:
            raise KeyboardInterrupt
        caught.append(name)

    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may handle signals
        return
    handled = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if caught[:1] == ["SIGINT"]:
        raise KeyboardInterrupt("stopped by SIGINT")
