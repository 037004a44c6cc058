"""One update of training, and what the recorder is told of it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from landscape.optimizers import SAM, frozen_batchnorm
from landscape.perturbations import Perturbation

from .jobs import Job
from .optimizers import update_loss

_TASK_GRADIENT_EVERY = 50  # updates between gradients of the task loss where the update needs none
_SCALARS = ("loss", "accuracy", "perturbed_loss")
_VECTORS = ("displacement", "gradient", "perturbed_gradient")


def make_update(job: Job, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """Make the job's next update; return what `Recorder.step` records of it.

    With m-sharpness these are means over the chunks of m samples. With label smoothing, which the
    losses and gradients of the task are without, no perturbed gradient is told. Each rank gives its
    part of the batch, and is told what there was in all of them.
    """
    optimizer = job.optimizer
    optimizer.zero_grad()
    if not isinstance(optimizer, SAM):
        return _of_all_ranks(job, _plain_update(job, inputs, targets))
    size = job.config.method_settings().get("m") or len(inputs)
    chunks = list(zip(inputs.split(size), targets.split(size), strict=True))
    rows = []
    with job.passes():
        for number, chunk in enumerate(chunks):
            rows.append(_both_passes(job, optimizer, *chunk, number))
            if len(chunks) > 1:
                optimizer.end_chunk()
    optimizer.second_step()
    row = rows[0] if len(rows) == 1 else _joined(rows)
    return _of_all_ranks(job, row | {"displacement": optimizer.displacement})


def _plain_update(job: Job, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    params = _parameters(job.optimizer)
    logits, loss, row = _clean_pass(job, inputs, targets)
    if not job.config.update_label_smoothing:
        loss.backward()
        row["gradient"] = [p.grad for p in params]
    else:
        if job.step % _TASK_GRADIENT_EVERY == 0:
            row["gradient"] = _task_gradient(job, loss, params)
        update_loss(job.config, job.problem)(logits, targets).backward()
    job.optimizer.step()
    return row


def _both_passes(
    job: Job, optimizer: SAM, inputs: Tensor, targets: Tensor, chunk: int
) -> dict[str, Any]:
    """Leave the gradient of the displaced weights; return the row of this batch or chunk."""
    config, problem, step = job.config, job.problem, job.step
    params, perturbation = _parameters(optimizer), optimizer.perturbation
    generator = _targets_generator(job, chunk) if perturbation.is_random else None
    logits, loss, row = _clean_pass(job, inputs, targets)
    row["sample_weights"] = _sample_weights(perturbation, logits, targets)
    if perturbation.has_own_loss:
        if step % _TASK_GRADIENT_EVERY == 0:
            row["gradient"] = _task_gradient(job, loss, params)
        perturbation.loss(logits, targets, generator).backward()
    else:
        loss.backward()
        row["gradient"] = [p.grad for p in params]
    optimizer.first_step(zero_grad=True)
    with frozen_batchnorm(problem.model):
        for _ in range(perturbation.ascent_steps - 1):
            logits = _logits(job, inputs)
            if perturbation.has_own_loss:
                perturbation.loss(logits, targets, generator).backward()
            else:
                problem.loss_fn(logits, targets).backward()
            optimizer.first_step(zero_grad=True)
        logits = _logits(job, inputs)
        perturbed = problem.loss_fn(logits, targets)
        if config.update_label_smoothing:
            update_loss(config, problem)(logits, targets).backward()
        else:
            perturbed.backward()
            row["perturbed_gradient"] = [p.grad for p in params]
    return row | {"perturbed_loss": perturbed.detach()}


def _task_gradient(job: Job, loss: Tensor, params: list[Tensor]) -> Sequence[Tensor | None]:
    """The gradient of the task loss where no backward leaves it, joined as one would join it."""
    gradient = torch.autograd.grad(loss, params, retain_graph=True)
    return gradient if job.apart else job.ranks.mean(gradient)


def _clean_pass(job: Job, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Logits and task loss at the weights, and the row that they begin."""
    logits = _logits(job, inputs)
    loss = job.problem.loss_fn(logits, targets)
    accuracy = (logits.argmax(1) == targets).double().mean()
    return logits, loss, {"loss": loss.detach(), "accuracy": accuracy}


@torch.no_grad()
def _sample_weights(perturbation: Perturbation, logits: Tensor, targets: Tensor) -> Tensor | None:
    """How much each sample counts in ε: 1 − p of its class under cross-entropy, p under AACE.

    None for AACE with a threshold or another target than its adaptive one, which weigh otherwise.
    """
    if perturbation.has_own_loss and (perturbation.threshold or perturbation.mode != "ada"):
        return None
    p = logits.softmax(1).gather(1, targets[:, None]).squeeze(1)
    return p if perturbation.has_own_loss else 1 - p


def _logits(job: Job, inputs: Tensor) -> Tensor:
    """Logits in float32; losses are always taken in it."""
    if job.config.precision == "float32":
        return job.network(inputs).float()
    with torch.autocast(inputs.device.type, torch.bfloat16):
        return job.network(inputs).float()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _of_all_ranks(job: Job, row: dict[str, Any]) -> dict[str, Any]:
    """The row of a batch from those of its parts; vectors were joined where ranks are not apart."""
    ranks = job.ranks
    if ranks.world == 1:
        return row
    scalars = [name for name in _SCALARS if name in row]
    means = ranks.mean([row[name].double() for name in scalars])
    row = row | dict(zip(scalars, means, strict=True))
    if (own := row.get("sample_weights")) is not None:
        whole = own.new_zeros(ranks.world, len(own))
        whole[ranks.rank] = own
        row["sample_weights"] = ranks.sum(whole).flatten()
    if job.apart:
        row |= {name: ranks.mean(row[name]) for name in _VECTORS if name in row}
    return row


def _joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a batch from those of its chunks: means, and the weights of all samples."""
    row = {name: [part[name] for part in rows] for name in rows[0]}
    weights = row.pop("sample_weights")
    joined = None if weights[0] is None else torch.cat(weights)
    return {name: _mean(parts) for name, parts in row.items()} | {"sample_weights": joined}


def _mean(parts: list[Any]) -> Any:
    """The mean of scalars, or of lists of tensors, None where there was no gradient."""
    if isinstance(parts[0], Tensor):
        return torch.stack(parts).mean(0)
    return [None if each[0] is None else _mean(list(each)) for each in zip(*parts, strict=True)]


def _targets_generator(job: Job, chunk: int) -> torch.Generator:
    """A generator of each step's own, so that a resumed run draws what it would have drawn."""
    drawn = f"{job.config.seed} targets {job.step} {job.ranks.rank} {chunk}"
    digest = hashlib.sha256(drawn.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))
