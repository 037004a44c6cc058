"""Models called with several named tensors, that answer with an object, as Hugging Face's are.

An Objective calls `model(inputs)` with one tensor, cuts it by samples and compares digests of its
rows. So the named tensors of a batch travel as one: each sample's numbers as they lie in memory,
one after the other, in a row of bytes. The model unpacks them again, to the bit.
"""

import copy
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.terminal import near

_Form = tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]
"""Name, type and shape without the sample axis of each tensor of a batch."""


def adapt(
    model: nn.Module,
    data: Any,
    *,
    targets: str = "labels",
    output: str | int = "logits",
) -> tuple[nn.Module, Any]:
    """A model and data for an Objective, of a model called as `model(**batch).logits`.

    The model adapted shares its parameters, under the same names, with the one given, and is of a
    class derived from its own. For a model that computes its own loss, `output="loss"`, give
    `own_loss` as loss_fn. That loss must be the mean over the samples of a batch: a mean over
    tokens is not where their number varies. Gauss-Newton and accuracy need the logits.

    Args:
        model: Called with the tensors of a batch as keywords.
        data: A mapping of names to tensors [sample, ...], or a re-iterable of such mappings as
            batches, e.g. a DataLoader.
        targets: Which of them goes to the loss function. The model gets it only with
            output="loss".
        output: What of the model's answer goes to the loss function: an attribute, a key, or a
            place in a tuple.

    Returns:
        The model, and data in the form that an Objective takes.

    Raises:
        TypeError: If the data are no mappings of tensors, or end after one pass.
        ValueError: If the targets are missing, tensors of a batch have no common number of
            samples, the model takes no keyword of a name, its forward is not that of its class, or
            its own loss is no mean over samples.

    Example:
        >>> class Net(nn.Linear):
        ...     def forward(self, x):
        ...         return {"logits": super().forward(x)}
        >>> net, data = adapt(Net(2, 1), {"x": torch.zeros(4, 2), "labels": torch.zeros(4, 1)})
        >>> net(data[0]).shape
        torch.Size([4, 1])
    """
    if isinstance(data, Iterator):
        raise TypeError(
            f"data must be readable more than once, got a {type(data).__name__}, which ends after "
            "one pass; pass list(data), a DataLoader or a mapping of tensors"
        )
    whole = isinstance(data, Mapping)
    if not whole and not isinstance(data, Iterable):
        raise TypeError(
            "data must be a mapping of names to tensors or a re-iterable of such mappings, got "
            f"{type(data).__name__}"
        )
    packing = _Packing(targets, with_targets=output == "loss")
    with torch.random.fork_rng(devices=[]):  # starting a DataLoader draws from the global one
        for batch in [data] if whole else data:
            _check_names(model, packing.learn(batch))
    adapted = _adapted(model, packing, output)
    packed = packing.pack(data) if whole else _Packed(data, packing)
    if output == "loss":
        _check_mean(adapted, packed[0] if isinstance(packed, tuple) else next(iter(packed))[0])
    return adapted, packed


def own_loss(output: Tensor, targets: Tensor) -> Tensor:
    """The loss that the model computed: `adapt(..., output="loss")` made it the output."""
    return output


class _Packing:
    """How the named tensors of a batch lie in rows of bytes; known by the width of the rows."""

    def __init__(self, targets: str, *, with_targets: bool) -> None:
        self.targets, self.with_targets = targets, with_targets
        self.forms: dict[int, _Form] = {}

    def learn(self, batch: Any) -> list[str]:
        """Remember the form of a batch; return the names that the model is called with."""
        form = self._form(self._tensors(batch))
        if form not in self.forms.values():
            width = _width(form)
            while width in self.forms:  # padded by bytes of zeros, so that the width tells
                width += 1
            self.forms[width] = form
        return [name for name, _, _ in form]

    def pack(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The tensors of a batch as rows of bytes [sample, byte], and the targets."""
        tensors = self._tensors(batch)
        form = self._form(tensors)
        width = next((width for width, known in self.forms.items() if known == form), None)
        if width is None:
            raise ValueError(
                "data must give the same batches whenever they are read, got tensors of new shapes "
                f"{_told(form)}; pass list(data)"
            )
        targets = tensors[self.targets]
        rows = [_bytes(tensors[name]) for name, _, _ in form]
        padding = targets.new_zeros((len(targets), width - _width(form)), dtype=torch.uint8)
        return torch.cat([*rows, padding], dim=1), targets

    def unpack(self, packed: Tensor, floating: torch.dtype) -> dict[str, Tensor]:
        """The tensors by name; those in floating point in the type that the model computes in."""
        if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] not in self.forms:
            raise ValueError(
                f"inputs must be packed by adapt, got {packed.dtype} {tuple(packed.shape)}"
            )
        tensors, start = {}, 0
        for name, dtype, shape in self.forms[packed.shape[1]]:
            end = start + _width(((name, dtype, shape),))
            flat = packed[:, start:end].clone().reshape(-1)  # a view may begin at an odd address
            values = flat.view(dtype).view(len(packed), *shape)
            tensors[name] = values.to(floating) if values.is_floating_point() else values
            start = end
        return tensors

    def _form(self, tensors: Mapping[str, Tensor]) -> _Form:
        return tuple(
            (name, tensor.dtype, tuple(tensor.shape[1:]))
            for name, tensor in sorted(tensors.items())
            if name != self.targets or self.with_targets
        )

    def _tensors(self, batch: Any) -> dict[str, Tensor]:
        """Check one batch."""
        if not isinstance(batch, Mapping):
            raise TypeError(
                "each batch must be a mapping of names to tensors, got a "
                f"{type(batch).__name__}; an Objective takes pairs (inputs, targets) as they are"
            )
        if self.targets not in batch:
            raise ValueError(
                f"each batch must hold the targets {self.targets!r}, got "
                f"{', '.join(map(str, batch))}{near(self.targets, list(map(str, batch)))}"
            )
        tensors = {str(name): _tensor(name, value) for name, value in batch.items()}
        if len({len(tensor) for tensor in tensors.values()}) > 1:
            told = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
            raise ValueError(f"tensors of a batch must have one row per sample, got {told}")
        return tensors


class _Packed:
    """Batches packed whenever they are read."""

    def __init__(self, data: Iterable[Any], packing: _Packing) -> None:
        self.data, self.packing = data, packing
        self.drop_last = getattr(data, "drop_last", False)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return map(self.packing.pack, self.data)


def _adapted(model: nn.Module, packing: _Packing, output: str | int) -> nn.Module:
    """The model in a class whose forward unpacks inputs and picks the output."""
    if "forward" in vars(model):
        raise ValueError(
            f"{type(model).__name__} must be called by the forward of its class, got another one "
            "put on it, as torch.compile does; give the model without"
        )
    kind = type(model)

    def forward(self: nn.Module, packed: Tensor) -> Any:
        numbers = chain(self.parameters(), self.buffers())
        floating = next((t.dtype for t in numbers if t.is_floating_point()), torch.float32)
        return _pick(kind.forward(self, **packing.unpack(packed, floating)), output)

    adapted = copy.copy(model)
    adapted.__class__ = type(
        kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__}
    )
    return adapted


def _pick(answer: Any, output: str | int) -> Any:
    try:
        if isinstance(output, int):
            return answer[output]
        return answer[output] if isinstance(answer, Mapping) else getattr(answer, output)
    except (KeyError, IndexError, AttributeError):
        known = list(answer) if isinstance(answer, Mapping) else _names_of(answer)
        raise ValueError(
            f"the model's answer must hold {output!r}, got a {type(answer).__name__} with "
            f"{', '.join(map(str, known)) or 'nothing'}"
        ) from None


def _names_of(answer: Any) -> list[str]:
    if isinstance(answer, tuple | list):
        return [str(i) for i in range(len(answer))]
    return [name for name in getattr(answer, "__dict__", {}) if not name.startswith("_")]


@torch.no_grad()
def _check_mean(model: nn.Module, packed: Tensor) -> None:
    """Refuse a model whose own loss of a batch is not the mean of those of its parts."""
    count = len(packed)
    if count < 2:
        return
    model, cut = copy.deepcopy(model).eval(), max(count // 3, 1)
    packed = packed.to(next((p.device for p in model.parameters()), packed.device))
    losses = [model(rows) for rows in (packed, packed[:cut], packed[cut:])]
    if not all(isinstance(loss, Tensor) and loss.numel() == 1 for loss in losses):
        return  # an Objective says so
    whole, first, rest = (float(loss) for loss in losses)
    total = (cut * first + (count - cut) * rest) / count
    slack = 10 * torch.finfo(losses[0].dtype).eps ** 0.75
    if not abs(total - whole) <= slack * max(map(abs, (whole, first, rest))):
        raise ValueError(
            f"the model's own loss must be the mean over the samples of a batch, got {whole:.6g} "
            f"for a batch and {total:.6g} from its parts, as where the number of tokens varies; "
            'take output="logits" and a loss_fn that averages over each sample first'
        )


def _check_names(model: nn.Module, names: list[str]) -> None:
    """Refuse a tensor that the model has no keyword for."""
    known = inspect.signature(type(model).forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in names:
        if name not in known:
            raise ValueError(
                f"{type(model).__name__} must take every tensor of a batch as a keyword, got "
                f"{name!r}; it takes {', '.join(list(known)[1:])}: leave others out of the data"
            )


def _tensor(name: Any, value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(value.copy())
    if not isinstance(value, Tensor):
        raise TypeError(
            f"each batch must hold tensors or numpy arrays, got a {type(value).__name__} under "
            f"{name!r}; leave it out of the data"
        )
    if value.ndim == 0:
        raise ValueError(f"tensors must have one row per sample, got a single number in {name!r}")
    return value.detach()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(len(tensor), math.prod(tensor.shape[1:])).contiguous().view(torch.uint8)


def _width(form: _Form) -> int:
    """Bytes of a sample."""
    return sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in form)


def _told(form: _Form) -> str:
    return ", ".join(f"{name} {shape}" for name, _, shape in form)
