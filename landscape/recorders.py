"""What a training loop calls to record its run: ours or the user's own."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from landscape.objectives import buffers_of, layout_of
from landscape.optimizers import SAM
from landscape.provenance import describe_environment
from landscape.writers import RunWriter

Vectors = Tensor | Sequence[Tensor | None]

_TENSORS = ("params", "param_names")  # of a parameter group, beside its options
_COLUMNS = 1 << 17  # numbers of each vector that are widened to float64 at a time


class Recorder:
    """Records a run: one row per update, the displacements, and checkpoints.

    ```
    with Recorder("runs/a", model, optimizer, config=config, checkpoint_every=50) as recorder:
        for inputs, targets in batches:
            ...                                  # one update
            recorder.step(loss, displacement=optimizer.displacement)
            scheduler.step()
        recorder.summary["test_accuracy"] = 0.93
    ```

    Checkpoint 0 is saved at once, then one after every `checkpoint_every` updates, and the last one
    always. Leaving the block ends the run as finished; an exception ends it as failed, with what
    was recorded so far, and goes on.

    Args:
        path: The run's folder; it must not exist.
        model: The model that is trained. Its trainable parameters now are theta.
        optimizer: Gives the learning rate and the order of sequences of tensors.
        checkpoint_every: Updates between checkpoints.
        problem: `{"name": ..., "options": {...}}`, what rebuilds model, loss and data.
        config: All settings of the run, `seed` among them; by default those of the optimizer.
        method: Label of the method; by default "SAM", "SAM+AACE", or the optimizer's class.
        total_steps: Planned updates, for progress.
        displacements: Whether full displacement vectors are kept, or their scalars only.
        group: Identity of the settings without the seed; made from `config` by default.
        color: Index of the run's color, 0 to 7; by default that of its group or the first free.

    Attributes:
        summary: Numbers of the whole run (test_loss, test_accuracy), stored when it finishes.
        steps: Updates recorded so far.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The optimizer holds parameters that are not the model's.
    """

    def __init__(
        self,
        path: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        checkpoint_every: int,
        problem: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        method: str | None = None,
        total_steps: int | None = None,
        displacements: bool = True,
        group: str | None = None,
        color: int | None = None,
    ) -> None:
        if isinstance(checkpoint_every, bool) or checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be 1 or more, got {checkpoint_every!r}")
        self.summary: dict[str, Any] = {}
        self.steps = 0
        self._model, self._optimizer = model, optimizer
        self._every, self._keep = checkpoint_every, displacements
        self._saved = -1
        self._previous: tuple[Tensor, float] | None = None
        layout = layout_of(model)
        self._theta = _Theta(model, optimizer, [entry.name for entry in layout])
        settings = _optimizer_settings(optimizer)
        config = {**settings, "checkpoint_every": checkpoint_every} if config is None else config
        self._writer: RunWriter | None = RunWriter.create(
            path,
            config=config,
            problem={"name": None, "options": {}} if problem is None else problem,
            layout=layout,
            method=_method_label(optimizer) if method is None else method,
            group=group,
            color=color,
            total_steps=total_steps,
            provenance=describe_environment(self._theta.parameters[0].device)
            | {
                "seed": config.get("seed"),
                "optimizer": settings,
                "perturbation": optimizer.perturbation.label
                if isinstance(optimizer, SAM)
                else None,
            },
        )
        try:
            self._checkpoint()
        except BaseException as error:
            self.fail(_reason(error))
            raise

    def step(
        self,
        loss: float | Tensor,
        *,
        accuracy: float | Tensor | None = None,
        displacement: Vectors | None = None,
        gradient: Vectors | None = None,
        perturbed_loss: float | Tensor | None = None,
        perturbed_gradient: Vectors | None = None,
        epoch: float | None = None,
    ) -> None:
        """Record the update just made; call it after the optimizer and before the scheduler.

        Everything describes the weights w that the update started from, on its batch. Vectors are
        flat `[param]` in theta's order, or sequences with one tensor for each of the optimizer's
        parameters, as `SAM.displacement` or the `.grad` of each (None counts as zero). What is not
        given is NaN in the row; what is NaN stays NaN.

        Args:
            loss: Task loss at w, in nats.
            accuracy: Fraction of correct classes at w.
            displacement: What was added to the weights, sign included. None for SGD.
            gradient: Gradient of the task loss at w.
            perturbed_loss: Task loss at w + displacement.
            perturbed_gradient: Gradient of the task loss at w + displacement.
            epoch: Epoch of the update; a fraction says how far into it.

        Raises:
            ValueError: A vector does not fit theta, or the run has ended.
        """
        writer = self._open()
        vectors = {
            "e": self._theta.flat(displacement, "displacement"),
            "g": self._theta.flat(gradient, "gradient"),
            "h": self._theta.flat(perturbed_gradient, "perturbed_gradient"),
            "p": None if self._previous is None else self._previous[0],
        }
        dots = _inner_products(vectors, ("ee", "gg", "hh", "ep", "eg", "eh"))
        norm = {name: math.sqrt(dots[name * 2]) for name in "egh"}
        norm["p"] = math.nan if self._previous is None else self._previous[1]
        base = _number(loss)
        writer.append(
            {
                "step": self.steps,
                "epoch": _number(epoch),
                "loss": base,
                "accuracy": _number(accuracy),
                "lr": _number(self._optimizer.param_groups[0]["lr"]),
                "gradient_norm": norm["g"],
                "displacement_norm": norm["e"],
                "cosine_previous": _cosine(dots["ep"], norm["e"], norm["p"]),
                "cosine_gradient": _cosine(dots["eg"], norm["e"], norm["g"]),
                "loss_rise": _number(perturbed_loss) - base,
                "inner_perturbed_gradient": dots["eh"],
                "cosine_perturbed_gradient": _cosine(dots["eh"], norm["e"], norm["h"]),
            }
        )
        moved = vectors["e"]
        self._previous = None if moved is None else (moved, norm["e"])
        if moved is not None and self._keep:
            writer.add_displacement(self.steps, moved.to("cpu", torch.float32).numpy())
        self.steps += 1
        if self.steps % self._every == 0:
            self._checkpoint()

    def add_evaluation(self, test_loss: float, test_accuracy: float) -> None:
        """Record test loss [nats] and accuracy [fraction] at the weights as they are now."""
        self._open().add_evaluation(self.steps, test_loss, test_accuracy)

    def finish(self) -> None:
        """End the run well: save the last checkpoint and `summary`."""
        writer = self._open()
        if self._saved != self.steps:
            self._checkpoint()
        writer.finish(summary=self.summary)
        self._writer = None

    def fail(self, reason: str) -> None:
        """End the run as failed, keeping what was recorded; the weights are not saved again."""
        writer, self._writer = self._open(), None
        writer.fail(reason)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        if error is not None:
            self.fail(_reason(error))
            return
        try:
            self.finish()
        except BaseException as problem:
            self.fail(_reason(problem))
            raise

    def _open(self) -> RunWriter:
        if self._writer is None:
            raise ValueError("the run has ended and is frozen; record into a new folder")
        return self._writer

    def _checkpoint(self) -> None:
        theta = self._theta.now().to("cpu", torch.float32).numpy()
        buffers = {name: value.numpy() for name, value in buffers_of(self._model).items()}
        self._open().save_checkpoint(self.steps, theta, buffers)
        self._saved = self.steps


class _Theta:
    """Theta of a model, and the way from the optimizer's parameters into it, by identity."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, names: Sequence[str]
    ) -> None:
        own = dict(model.named_parameters())
        self.parameters = [own[name] for name in names]
        self._size = sum(p.numel() for p in self.parameters)
        self._held = [p for group in optimizer.param_groups for p in group["params"]]
        known = {id(p) for p in own.values()}
        if foreign := sum(id(p) not in known for p in self._held):
            raise ValueError(
                f"the optimizer's parameters must be the model's, got {foreign} of "
                f"{len(self._held)} that are not; was the model copied after the optimizer was "
                "made?"
            )

    def now(self) -> Tensor:
        """Return a copy of theta as it is."""
        return self._join(self.parameters)

    def flat(self, vectors: Vectors | None, what: str) -> Tensor | None:
        """Return a new flat tensor [param] of what belongs to the optimizer's parameters."""
        if vectors is None:
            return None
        if isinstance(vectors, Tensor):
            if vectors.shape != (self._size,):
                raise ValueError(
                    f"{what} must be flat with {self._size} numbers, or a sequence of tensors, "
                    f"got shape {list(vectors.shape)}"
                )
            return vectors.detach().clone()
        shapes = [None if v is None else tuple(v.shape) for v in vectors]
        fitting = [s in (None, tuple(p.shape)) for s, p in zip(shapes, self._held, strict=False)]
        if len(shapes) != len(self._held) or not all(fitting):
            raise ValueError(
                f"{what} must hold one tensor of equal shape for each of the optimizer's "
                f"{len(self._held)} parameters, in its order, got {len(shapes)}: {shapes[:6]}"
            )
        given = {id(p): v for p, v in zip(self._held, vectors, strict=True)}
        parts = [(p, given.get(id(p))) for p in self.parameters]
        return self._join([torch.zeros_like(p) if v is None else v for p, v in parts])

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        device = self.parameters[0].device
        return torch.cat([part.detach().reshape(-1).to(device) for part in parts])


def _optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimizer's class and options, and the perturbation of a SAM."""
    inner = optimizer.base_optimizer if isinstance(optimizer, SAM) else optimizer
    group = optimizer.param_groups[0]
    options = {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items()}
    plain = (bool, int, float, str, list, tuple, type(None))
    settings = {
        "optimizer": type(inner).__name__,
        "options": {k: v for k, v in options.items() if k not in _TENSORS and isinstance(v, plain)},
    }
    if isinstance(optimizer, SAM):
        settings["perturbation"] = asdict(optimizer.perturbation)
    return settings


def _method_label(optimizer: torch.optim.Optimizer) -> str:
    if not isinstance(optimizer, SAM):
        return type(optimizer).__name__
    word = optimizer.perturbation.word
    return "SAM+AACE" if word == "AACE" else word


def _inner_products(vectors: dict[str, Tensor | None], pairs: Sequence[str]) -> dict[str, float]:
    """Return the products of the named pairs in float64, NaN where one of the two is missing."""
    given = {name: vector for name, vector in vectors.items() if vector is not None}
    total: Tensor | None = None
    for parts in zip(*(vector.split(_COLUMNS) for vector in given.values()), strict=True):
        block = torch.stack(parts)
        block = block if block.device.type == "mps" else block.double()  # mps has no float64
        total = block @ block.T if total is None else total + block @ block.T
    table = [] if total is None else total.tolist()
    place = {name: index for index, name in enumerate(given)}
    return {
        pair: table[place[pair[0]]][place[pair[1]]] if set(pair) <= place.keys() else math.nan
        for pair in pairs
    }


def _cosine(product: float, left: float, right: float) -> float:
    return product / (left * right) if left * right != 0 else math.nan


def _number(value: float | Tensor | None) -> float:
    if value is None:
        return math.nan
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
