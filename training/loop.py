"""The training loop: SGD, SAM and SAM+AACE on data that stay on the device, everything recorded.

```
from training.config import PRESETS
from training.loop import train

train(PRESETS["fashion-aace"](), "runs/a")
```
"""

import hashlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from landscape.objectives import Evaluation
from landscape.optimizers import SAM, frozen_batchnorm
from landscape.perturbations import Perturbation, aace, sam
from landscape.problems import Problem
from landscape.recorders import Recorder

from .config import LABELS, TrainConfig, settings_group
from .data import augment_batch, balanced_subset, load_data
from .problems import make_problem

AUGMENTATION: dict[str, dict[str, Any]] = {
    "fashion": {"shift": 0, "flip": True},  # shifts cost 1 to 3 points in a few epochs
    "digits": {"shift": 1, "flip": False},  # a digit's mirror image is no digit
}
"""Largest shift (pixels) and mirroring of the training images, by data set."""

_TASK_GRADIENT_EVERY = 50  # updates between gradients of the task loss where AACE needs none
_EVALUATION_BATCH = 1000
_TEST_PART_SEED = 0


def train(
    config: TrainConfig, out: str | Path, *, progress: Callable[[int, int], None] | None = None
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
        progress: Called with (updates done, updates in all) after each.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The data are missing or don't fit the settings, and nothing was written; or the
            loss stopped being finite: the run then reads as failed and holds all steps up to it.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run then reads as failed, with all steps so far.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(
            f"the output folder must not exist, but {out} does; choose another --out"
        )
    device = _device(config.device)
    dataset = load_data(config.data)
    options = {"model": config.model, "seed": config.seed, "train_samples": config.train_samples}
    problem = _on_device(make_problem(dataset, **options), device)
    batches = _batches(config, problem.train)
    test_part = _test_part(problem.test, config.evaluation_samples)
    optimizer = _optimizer(config, problem.model)
    with (
        _signals_between_updates() as stop_if_asked,
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        Recorder(
            out,
            problem.model,
            optimizer,
            checkpoint_every=config.checkpoint_every,
            problem={"name": config.data, "options": options},
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
        for step in range(config.steps):
            if step % config.checkpoint_every == 0:
                evaluation = _evaluate(problem, test_part)
                recorder.add_evaluation(evaluation.loss, evaluation.accuracy)
            stop_if_asked()
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step)
            epoch, inputs, targets = next(batches)
            row = _update(config, problem, optimizer, inputs, targets, step)
            recorder.step(**row, epoch=epoch)
            _check_finite(row, step, config)
            if progress is not None:
                progress(step + 1, config.steps)
        evaluation = _evaluate(problem, test_part)
        recorder.add_evaluation(evaluation.loss, evaluation.accuracy)
        recorder.summary |= _final_numbers(problem)
        recorder.summary |= {"data": dataset.name, "data_source": dataset.source}
    return out


def _update(
    config: TrainConfig,
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    step: int,
) -> dict[str, Any]:
    """Make one update; return what `Recorder.step` records of it."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    logits = _logits(problem.model, inputs, config.precision)
    loss = problem.loss_fn(logits, targets)
    row: dict[str, Any] = {
        "loss": loss.detach(),
        "accuracy": (logits.argmax(1) == targets).double().mean(),
    }
    if not isinstance(optimizer, SAM):
        loss.backward()
        optimizer.step()
        return row | {"gradient": [p.grad for p in params]}
    row["sample_weights"] = _sample_weights(optimizer.perturbation, logits, targets)
    if optimizer.perturbation.has_own_loss:
        if step % _TASK_GRADIENT_EVERY == 0:
            row["gradient"] = torch.autograd.grad(loss, params, retain_graph=True)
        optimizer.perturbation.loss(logits, targets).backward()
    else:
        loss.backward()
        row["gradient"] = [p.grad for p in params]
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(problem.model):
        perturbed = problem.loss_fn(_logits(problem.model, inputs, config.precision), targets)
        perturbed.backward()
    optimizer.second_step()
    return row | {
        "displacement": optimizer.displacement,
        "perturbed_loss": perturbed.detach(),
        "perturbed_gradient": [p.grad for p in params],
    }


@torch.no_grad()
def _sample_weights(perturbation: Perturbation, logits: Tensor, targets: Tensor) -> Tensor | None:
    """How much each sample counts in ε: 1 − p of its class under SAM, p under AACE.

    None for AACE with a threshold, which weighs differently.
    """
    if perturbation.has_own_loss and perturbation.threshold:
        return None
    p = logits.softmax(1).gather(1, targets[:, None]).squeeze(1)
    return p if perturbation.has_own_loss else 1 - p


def _logits(model: nn.Module, inputs: Tensor, precision: str) -> Tensor:
    """Logits in float32; losses are always taken in it."""
    enabled = precision == "bfloat16"
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=enabled):
        return model(inputs).float()


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    options: dict[str, Any] = {
        "lr": config.lr,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
    }
    perturbation = perturbation_of(config)
    if perturbation is None:
        return torch.optim.SGD(model.parameters(), **options)
    return SAM(model.parameters(), torch.optim.SGD, perturbation=perturbation, **options)


def perturbation_of(config: TrainConfig) -> Perturbation | None:
    """Return the perturbation that the config trains with; None for SGD."""
    rho = config.resolved_rho
    if rho is None:
        return None
    if config.method == "sam":
        return sam(rho)
    return aace(rho, normalize=config.aace_normalize, threshold=config.aace_threshold)


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
    background = inputs.min().item()
    epoch = 0
    while True:
        indices = torch.randperm(len(inputs), generator=order).to(inputs.device)
        for number, index in enumerate(indices.split(config.batch_size)[:per_epoch]):
            batch = inputs[index]
            if config.augment:
                how = AUGMENTATION[config.data]
                batch = augment_batch(batch, augmentation, **how, background=background)
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


def _check_finite(row: dict[str, Any], step: int, config: TrainConfig) -> None:
    for name in ("loss", "perturbed_loss"):
        if name in row and not math.isfinite(row[name]):
            hint = "lr" if config.method == "sgd" else "lr or rho"
            raise ValueError(
                f"the {name.replace('_', ' ')} must stay finite, got {float(row[name])} at step "
                f"{step} with lr {config.lr_at(step):g}; choose a smaller {hint}. The run keeps "
                "the steps up to it and reads as failed"
            )


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
