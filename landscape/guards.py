"""What an objective must be, checked before anything is measured; errors for whoever called it."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from landscape.batches import Batch

_USER_ERRORS = (RuntimeError, ValueError, IndexError, TypeError)
_SPREAD = 256


def name_of(function: Any) -> str:
    """A readable name of a loss function or module."""
    return getattr(function, "__name__", type(function).__name__)


def are_classes(output: Any, targets: Tensor) -> bool:
    """Whether targets are class indices of an output [sample, class, ...]."""
    return (
        isinstance(output, Tensor)
        and output.ndim >= 2
        and output.shape[1] >= 2
        and not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
        and targets.shape == output.shape[:1] + output.shape[2:]
    )


@contextmanager
def explaining_output(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Say what came when the model can't take the inputs."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _USER_ERRORS as error:
        raise ValueError(
            f"{type(model).__name__} must accept the inputs, got {_about(inputs)}: "
            f"{_first_line(error)}; change the inputs, their dtype or the model"
        ) from error


def batch_loss(loss_fn: Callable[[Any, Tensor], Tensor], output: Any, targets: Tensor) -> Tensor:
    """The loss of one batch [], or an error that says what came and what to do.

    Raises:
        ValueError: If output and targets don't fit the loss, or it isn't one number.
    """
    try:
        loss = loss_fn(output, targets)
    except torch.OutOfMemoryError:
        raise
    except _USER_ERRORS as error:
        raise ValueError(
            f"the output must fit the loss, got output {_about(output)} and targets "
            f"{_about(targets)} for {name_of(loss_fn)}: {_first_line(error)}; "
            f"{_remedy(output, targets)}"
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(
            f"the loss must be one number, the mean over the batch, got {_about(loss)} from "
            f'{name_of(loss_fn)}; use reduction="mean"'
        )
    return loss.reshape(())


def batch_metric(
    name: str, metric: Callable[[Any, Tensor], Any], output: Any, targets: Tensor
) -> Tensor:
    """One of the user's own metrics on one batch [].

    Raises:
        ValueError: If it fails, or gives anything but one number.
    """
    try:
        value = torch.as_tensor(metric(output, targets))
    except torch.OutOfMemoryError:
        raise
    except _USER_ERRORS as error:
        raise ValueError(
            f"metric {name!r} must accept output {_about(output)} and targets {_about(targets)}, "
            f"got: {_first_line(error)}"
        ) from error
    if value.numel() != 1:
        raise ValueError(
            f"metric {name!r} must be one number, the mean over the batch, got {_about(value)}"
        )
    return value.detach().reshape(())


def check_deterministic(
    model: nn.Module, loss_fn: Any, call: Callable[[], tuple[Tensor, Any]]
) -> None:
    """Refuse a model or loss that gives two answers for one batch, naming where they part.

    Raises:
        ValueError: If two calls differ: to the bit on a CPU, by 1e-5 of it elsewhere.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = call()
    for warning in caught:
        if "target size" in str(warning.message):
            raise ValueError(
                f"output and targets must have one shape, got output {_about(first[1])}: "
                f"{_first_line(warning.message)} Reshape the targets like the output"
            )
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if all(_same(a, b) for a, b in zip(first, call(), strict=True)):
        return
    cause = _first_random_module(model, call) or f"the loss function {name_of(loss_fn)}"
    raise ValueError(
        f"the objective must be deterministic, got two results for the same batch; they first "
        f"differ in {cause}. Take the randomness out in eval mode: functional dropout needs "
        "training=self.training"
    )


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return True
    exact = 0.0 if a.device.type == "cpu" else 1e-5
    return a.shape == b.shape and torch.allclose(a, b, rtol=exact, atol=0.0, equal_nan=True)


def _first_random_module(model: nn.Module, call: Callable[[], Any]) -> str | None:
    names = {module: name or "the model itself" for name, module in model.named_modules()}
    runs: list[list[tuple[str, Any]]] = []
    with ExitStack() as hooks:
        for module in names:

            def keep(module: nn.Module, _: Any, output: Any) -> None:
                label = f"{names[module]} ({type(module).__name__})"
                runs[-1].append((label, output.clone() if isinstance(output, Tensor) else None))

            hooks.callback(module.register_forward_hook(keep).remove)
        for _ in range(2):
            runs.append([])
            call()
    differing = (a[0] for a, b in zip(*runs, strict=False) if not _same(a[1], b[1]))
    return next(differing, None)


def check_mean(
    loss_fn: Callable[[Any, Tensor], Tensor],
    outputs: Callable[[Tensor], Any],
    batches: Sequence[Batch],
    *,
    coupled: bool,
) -> None:
    """Refuse a loss that isn't the mean over samples, or a model that mixes those of a batch.

    Losses of parts of a batch, weighted by size, must add up to the loss of the whole. The batch
    is drawn from all over the data and sorted by target, so that class weights and ignored
    targets show.

    Args:
        loss_fn: The loss.
        outputs: The model.
        batches: All data.
        coupled: Whether the model mixes the samples of a batch by intent (batch statistics).

    Raises:
        ValueError: If the parts don't add up.
    """
    inputs, targets = _spread(batches)
    count = len(inputs)
    output = outputs(inputs)
    if count < 2 or not isinstance(output, Tensor) or output.shape[:1] != (count,):
        return
    whole = float(batch_loss(loss_fn, output, targets))
    if not math.isfinite(whole):
        return
    precision = torch.finfo(output.dtype).eps if output.is_floating_point() else 1e-6
    reach = _largest(output) * precision
    for cut in {max(count // 3, 1), count // 2}:
        parts = [
            float(batch_loss(loss_fn, output[rows], targets[rows]))
            for rows in (slice(0, cut), slice(cut, None))
        ]
        sizes = (cut / count, 1 - cut / count)
        total = sum(size * part for size, part in zip(sizes, parts, strict=True))
        scale = max(abs(whole), *map(abs, parts))
        if not abs(total - whole) <= precision**0.75 * scale + reach:
            raise ValueError(
                f"{name_of(loss_fn)} must be the mean over the samples of a batch, so that "
                f"batches can be weighted by size, got {whole:.6g} for a batch and {total:.6g} "
                f"from its parts; {_reduction_remedy(loss_fn)}"
            )
        if not coupled:
            _check_uncoupled(outputs(inputs[:cut]), output[:cut], 10 * math.sqrt(precision))


def _largest(output: Tensor) -> float:
    finite = output[output.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def _check_uncoupled(part: Tensor, whole: Tensor, tolerance: float) -> None:
    slack = tolerance * _largest(whole)
    if part.shape == whole.shape and torch.allclose(part, whole, 0.0, slack, equal_nan=True):
        return
    raise ValueError(
        "the model must treat the samples of a batch one by one in eval mode, got outputs that "
        "change with the batch around them; use layers with running statistics, or one batch "
        "that holds all data"
    )


def _spread(batches: Sequence[Batch]) -> Batch:
    """Samples from all over the data, sorted by target."""
    if len({(x.shape[1:], y.shape[1:]) for x, y in batches}) > 1:
        batches = batches[:1]
    keys = torch.cat(
        [
            y.flatten(1).cpu().double().mean(1) if y.ndim > 1 else y.cpu().double()
            for _, y in batches
        ]
    )
    places = [(i, row) for i, (x, _) in enumerate(batches) for row in range(len(x))]
    picks = torch.linspace(0, len(keys) - 1, min(len(keys), _SPREAD)).round().long()
    chosen = [places[k] for k in keys.argsort(stable=True)[picks].tolist()]
    return (
        torch.stack([batches[i][0][row] for i, row in chosen]),
        torch.stack([batches[i][1][row] for i, row in chosen]),
    )


def _reduction_remedy(loss_fn: Any) -> str:
    if getattr(loss_fn, "reduction", "mean") != "mean":
        return 'use reduction="mean"'
    if getattr(loss_fn, "weight", None) is not None:
        return "leave out the class weights"
    return (
        'use reduction="mean", leave out class weights, and leave out samples with an ignored '
        "target (ignore_index)"
    )


def _about(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _remedy(output: Any, targets: Tensor) -> str:
    if not isinstance(output, Tensor):
        return "give a loss_fn that takes this output, e.g. one that picks the logits"
    if targets.is_floating_point() and targets.ndim < output.ndim:
        return "class indices must be integers: targets.long(); other targets need its shape"
    if not targets.is_floating_point() and targets.dtype != torch.int64:
        return "class indices must be int64: targets.long(); regression needs floating point"
    if are_classes(output, targets):
        low, high = int(targets.min()), int(targets.max())
        return f"class indices go from {low} to {high}, the output has {output.shape[1]} classes"
    return "make the output [sample, class] for class indices, or give targets of its shape"
