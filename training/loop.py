"""The training loop: SGD and the SAM family on data that stay on the device, everything recorded.

```
from training.presets import PRESETS
from training.loop import train

train(PRESETS["fashion-aace"](), "runs/a")
```
"""

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from landscape.objectives import Evaluation
from landscape.problems import Problem
from landscape.recorders import Recorder

from .augmentation import RECIPES, augment_batch
from .config import OWN, TrainConfig, settings_group
from .data import balanced_subset
from .failures import FiniteWatch
from .methods import LABELS
from .optimizers import make_optimizer
from .problems import problem_of, read_own
from .updates import make_update

_EVALUATION_BATCH = 1000
_TEST_PART_SEED = 0


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

    The same config, number of threads and build give the same bits.

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
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run then reads as failed, with all steps so far.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(
            f"the output folder must not exist, but {out} does; choose another --out"
        )
    device = _device(config.device)
    problem, origin, told = problem_of(config) if own is None else _of_own(config, *own)
    problem = _on_device(problem, device)
    batches = _batches(config, problem.train)
    config = config.with_steps(len(problem.train[0]))
    test_part = _test_part(problem.test, config.evaluation_samples)
    optimizer = make_optimizer(config, problem.model)
    with (
        _signals_between_updates() as stop_if_asked,
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        Recorder(
            out,
            problem.model,
            optimizer,
            checkpoint_every=config.checkpoint_every,
            problem=origin,
            config=config.to_json(),
            method=LABELS[config.method],
            total_steps=config.steps,
            record=config.record,
            record_budget=config.record_budget,
            record_dtype=config.record_dtype,
            on_error=config.on_record_error,
            group=settings_group(config),
        ) as recorder,
    ):
        hint = "lr" if config.resolved_rho is None else "lr or rho"
        watch = FiniteWatch(problem.model, out, lr_at=config.lr_at, hint=hint, flush=recorder.flush)
        for step in range(config.steps):
            if step % config.checkpoint_every == 0:
                evaluation = _evaluate(problem, test_part)
                recorder.add_evaluation(evaluation.loss, evaluation.accuracy)
            stop_if_asked()
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step)
            epoch, inputs, targets = next(batches)
            row = make_update(config, problem, optimizer, inputs, targets, step)
            watch.add(step, row)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                watch.check(step, now=True)  # what is not finite is not kept
            recorder.step(**row, epoch=epoch)
            watch.check(step)
            if progress is not None:
                progress(step + 1, config.steps)
        evaluation = _evaluate(problem, test_part)
        recorder.add_evaluation(evaluation.loss, evaluation.accuracy)
        recorder.summary |= _final_numbers(problem)
        recorder.summary |= told
    return out


def _of_own(
    config: TrainConfig, name: str, problem: Problem
) -> tuple[Problem, dict[str, Any], dict[str, str]]:
    """As `problem_of`; what rebuilds the problem is code that has to be named again."""
    if config.data != OWN:
        raise ValueError(
            f"data must be {OWN} where a problem of one's own is trained, got {config.data}"
        )
    return read_own(problem), {"name": name, "options": {}}, {"data": name, "data_source": name}


def _batches(
    config: TrainConfig, data: tuple[Tensor, Tensor]
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield (epoch, inputs, targets) for ever; each epoch has its own order and full batches."""
    inputs, targets = data
    per_epoch = len(inputs) // config.batch_size
    if per_epoch == 0:
        raise ValueError(
            f"batch_size must be at most the {len(inputs)} training samples, "
            f"got {config.batch_size}"
        )
    return _endless_batches(config, inputs, targets, per_epoch)


def _endless_batches(
    config: TrainConfig, inputs: Tensor, targets: Tensor, per_epoch: int
) -> Iterator[tuple[float, Tensor, Tensor]]:
    order, augmentation = (_generator(config.seed, use) for use in ("order", "augmentation"))
    if config.augment:
        recipe = RECIPES[config.resolved_recipe]
        background = inputs.amin((0, 2, 3))  # black, as if padded before they were normalized
    epoch = 0
    while True:
        indices = torch.randperm(len(inputs), generator=order).to(inputs.device)
        for number, index in enumerate(indices.split(config.batch_size)[:per_epoch]):
            batch = inputs[index]
            if config.augment:
                batch = augment_batch(batch, augmentation, recipe, background=background)
            yield epoch + number / per_epoch, batch, targets[index]
        epoch += 1


def _generator(seed: int, use: str) -> torch.Generator:
    """A CPU generator of its own for each use of a run's seed."""
    digest = hashlib.sha256(f"{seed} {use}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def _test_part(test: tuple[Tensor, Tensor], samples: int) -> tuple[Tensor, Tensor]:
    """The class-balanced part of the test set that checkpoints are evaluated on."""
    inputs, targets = test
    if not 0 < samples < len(inputs):
        return test
    index = balanced_subset(targets.cpu(), samples, seed=_TEST_PART_SEED).to(inputs.device)
    return inputs[index], targets[index]


@torch.no_grad()
def _evaluate(problem: Problem, data: tuple[Tensor, Tensor]) -> Evaluation:
    """Loss and accuracy in eval mode and float32; the model is left in training mode."""
    problem.model.eval()
    loss = correct = 0.0
    for inputs, targets in zip(*(part.split(_EVALUATION_BATCH) for part in data), strict=True):
        logits = problem.model(inputs)
        loss += float(problem.loss_fn(logits, targets)) * len(inputs)
        correct += float((logits.argmax(1) == targets).sum())
    problem.model.train()
    return Evaluation(loss=loss / len(data[0]), accuracy=correct / len(data[0]))


def _final_numbers(problem: Problem) -> dict[str, float]:
    test, training = _evaluate(problem, problem.test), _evaluate(problem, problem.train)
    return {
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "train_loss": training.loss,
        "train_accuracy": training.accuracy,
    }


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device must be usable here, got {name!r} ({reason}); try cpu") from None


def _on_device(problem: Problem, device: torch.device) -> Problem:
    """The problem with model and data on the device; convolutions are faster channels-last."""
    return Problem(
        model=problem.model.to(device=device, memory_format=torch.channels_last),
        loss_fn=problem.loss_fn,
        train=tuple(part.to(device) for part in problem.train),
        test=tuple(part.to(device) for part in problem.test),
    )


@contextmanager
def _signals_between_updates() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C and SIGTERM wait for the end of an update; a second one does not wait.

    Gives the function to call between updates; it raises KeyboardInterrupt if one came.
    """
    caught: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)

    def stop_if_asked() -> None:
        if caught:
            raise KeyboardInterrupt(f"stopped by {caught[0]}")

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_asked  # only the main thread may handle signals
        return
    handled = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield stop_if_asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
    stop_if_asked()
