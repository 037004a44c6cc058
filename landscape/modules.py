"""What is read off a model: the layout of theta, theta, buffers, a copy to measure on."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from landscape.layouts import Entry, Layout


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of a model under a name, e.g. a minimum that a plane goes through."""

    name: str
    theta: Tensor
    """Parameters [param], in the order of `layout_of`."""
    buffers: dict[str, Tensor] = field(default_factory=dict)
    """All buffers by name; none where the model has none."""


_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def layout_of(model: nn.Module) -> Layout:
    """The layout of theta: trainable parameters in `named_parameters()` order, tied ones once.

    Kinds are "norm" for parameters of normalization layers, "embedding" for weights of
    `nn.Embedding`, "bias" for other vectors and biases, and "weight" for the rest.

    Raises:
        ValueError: If no parameter is trainable, or one has no shape yet.
    """
    entries, offset = [], 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if nn.parameter.is_lazy(parameter):
            raise ValueError(
                f"parameters must have a shape, got the lazy {name!r}; run one batch through the "
                "model first"
            )
        owner, _, leaf = name.rpartition(".")
        kind = _kind(model.get_submodule(owner), leaf, parameter)
        entries.append(Entry(name=name, shape=tuple(parameter.shape), offset=offset, kind=kind))
        offset += parameter.numel()
    if offset == 0:
        raise ValueError(
            f"the model must have trainable parameters, got none in {type(model).__name__}; "
            "set requires_grad=True on those to move"
        )
    return Layout(tuple(entries))


def _kind(owner: nn.Module, leaf: str, parameter: Tensor) -> str:
    vector = parameter.ndim <= 1
    if isinstance(owner, _NORMS) or (vector and "norm" in type(owner).__name__.lower()):
        return "norm"
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    return "bias" if vector or leaf.startswith("bias_") or leaf.endswith("bias") else "weight"


def flatten(model: nn.Module) -> Tensor:
    """Copy the trainable parameters into theta [param], in the order of `layout_of`."""
    trainable = [p.detach().reshape(-1) for p in model.parameters() if p.requires_grad]
    return torch.cat(trainable).clone()


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy all buffers, e.g. BatchNorm's running statistics, to the CPU, by name."""
    return {name: buffer.detach().cpu().clone() for name, buffer in model.named_buffers()}


def load_theta(
    model: nn.Module, theta: Tensor | np.ndarray, buffers: Mapping[str, Any] | None = None
) -> nn.Module:
    """A copy of the model with parameters theta [param] and, where given, all its buffers.

    Raises:
        ValueError: If theta or the buffers are not those of such a model.
    """
    layout = layout_of(model)
    if tuple(theta.shape) != (layout.size,):
        raise ValueError(
            f"theta must have the layout of {type(model).__name__}, ({layout.size},), "
            f"got shape {tuple(theta.shape)}"
        )
    own = copy.deepcopy(model)
    vector = torch.tensor(theta) if isinstance(theta, np.ndarray) else theta.detach()
    with torch.no_grad():
        for entry in layout:
            parameter = own.get_parameter(entry.name)
            parameter.copy_(vector[entry.slice].view(entry.shape))
        if buffers is not None:
            for name, value in fit_buffers(own, buffers).items():
                own.get_buffer(name).copy_(value)
    return own


def fit_buffers(model: nn.Module, buffers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copy buffers to the types and devices of the model's own.

    Raises:
        ValueError: If names or shapes are not the model's.
    """
    own = dict(model.named_buffers())
    if own.keys() != buffers.keys():
        wrong = sorted(own.keys() ^ buffers.keys())
        raise ValueError(
            f"buffers must be those of {type(model).__name__}, got a difference in "
            f"{', '.join(wrong[:4])}; are they from another model?"
        )
    fitted = {}
    for name, value in buffers.items():
        tensor = value if isinstance(value, Tensor) else torch.tensor(value)
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"buffer {name!r} must have shape {tuple(own[name].shape)}, "
                f"got {tuple(tensor.shape)}; is it from another model?"
            )
        fitted[name] = tensor.detach().to(own[name], copy=True)
    return fitted


def private_copy(
    module: nn.Module, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    """A deep copy in eval mode, cast where told; the user's module is left as it is.

    Raises:
        ValueError: If the module can't be copied.
    """
    try:
        own = copy.deepcopy(module)
    except RuntimeError as error:
        raise ValueError(
            f"{type(module).__name__} must allow copy.deepcopy, got: {error}; old-style "
            "weight_norm and spectral_norm don't, those of torch.nn.utils.parametrizations do"
        ) from error
    return own.to(device=device, dtype=dtype).eval()


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolve in the type of the tensors: a GPU may else round float32 to 10 bits (TF32)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def batch_norms(model: nn.Module, bn: str) -> dict[str, _BatchNorm]:
    """The BatchNorm layers by name, set up in place for the policy `bn`.

    Raises:
        ValueError: If the policy needs running statistics and a layer keeps none.
    """
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    for name, module in norms.items():
        if bn == "batch":
            module.training, module.track_running_stats = True, False
        elif module.running_mean is None:
            raise ValueError(
                f"bn={bn!r} needs running statistics, got none in BatchNorm {name!r} "
                '(track_running_stats=False); use bn="batch"'
            )
    return norms
