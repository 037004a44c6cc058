"""Theta of a model that is trained, and the way of an optimizer's tensors into it."""

import functools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from landscape import tensor_lists

Vectors = Tensor | Sequence[Tensor | None]


class FlatVectors:
    """Theta of a model, and the way from the optimizer's parameters into it, by identity.

    Tensors may be sharded over ranks (FSDP2): each is gathered by itself. Where one rank asks for
    theta or a vector, the others `take_part`.

    Args:
        model: The model that is trained.
        optimizer: Holds parameters of the model, in any order.
        names: Names of theta's tensors, in order.

    Raises:
        ValueError: The optimizer holds parameters that are not the model's.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, names: Sequence[str]
    ) -> None:
        own = dict(model.named_parameters())
        self.parameters = [own[name] for name in names]
        self._sizes = [p.numel() for p in self.parameters]
        self._shapes = [p.shape for p in self.parameters]
        self._sharded = any(hasattr(p, "full_tensor") for p in self.parameters)
        self.size = sum(self._sizes)
        self._passing: dict[str, _Joined] = {}
        self._held = [p for group in optimizer.param_groups for p in group["params"]]
        self._held_shapes = [p.shape for p in self._held]
        known = {id(p) for p in own.values()}
        if foreign := sum(id(p) not in known for p in self._held):
            raise ValueError(
                f"the optimizer's parameters must be the model's, got {foreign} of "
                f"{len(self._held)} that are not; was the model copied after the optimizer was "
                "made?"
            )
        position = {id(p): number for number, p in enumerate(self._held)}
        self._positions = [position.get(id(p)) for p in self.parameters]

    @property
    def device(self) -> torch.device:
        """Where theta lies."""
        return self.parameters[0].device

    def now(self) -> Tensor:
        """Return a copy of theta as it is."""
        return self._join(self.parameters).flat

    def flat(self, vectors: Vectors | None, what: str, *, passing: bool = False) -> Tensor | None:
        """Return a flat tensor [param] of what belongs to the optimizer's parameters.

        Args:
            vectors: One for each of the optimizer's parameters, or flat.
            what: What they are, for messages.
            passing: Whether it is needed until the next such call with the same `what` only; else
                it is a new one. Fresh memory costs a CPU more than what is written there.
        """
        if vectors is None:
            return None
        if isinstance(vectors, Tensor):
            if vectors.shape != (self.size,):
                raise ValueError(
                    f"{what} must be flat with {self.size} numbers, or a sequence of tensors, "
                    f"got shape {list(vectors.shape)}"
                )
            return _wide_enough(vectors.detach().to(self.device, copy=True))
        if len(vectors) != len(self._held) or not all(
            v is None or v.shape == shape
            for v, shape in zip(vectors, self._held_shapes, strict=True)
        ):
            shapes = [None if v is None else tuple(v.shape) for v in vectors]
            raise ValueError(
                f"{what} must hold one tensor of equal shape for each of the optimizer's "
                f"{len(self._held)} parameters, in its order, got {len(shapes)}: {shapes[:6]}"
            )
        given = self._in_order(vectors)
        zeros = partial(torch.zeros, dtype=torch.float32, device=self.device)
        there = [
            zeros(shape) if v is None else v for v, shape in zip(given, self._shapes, strict=True)
        ]
        if not passing:
            return _wide_enough(self._join(there).flat)
        self._passing[what] = self._join(there, self._passing.get(what))
        return _wide_enough(self._passing[what].flat)

    def _in_order(self, vectors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """What belongs to each of theta's tensors, None where the optimizer does not hold it."""
        return [None if number is None else vectors[number] for number in self._positions]

    def norms_by_tensor(self, vector: Tensor) -> Tensor:
        """Return the norm of each of theta's tensors [tensor] in a vector [param], in float32."""
        return torch.stack(tensor_lists.norms(vector.split(self._sizes))).float()

    def take_part(self, *vectors: Vectors | None) -> None:
        """Give another rank what this one has of vectors, or of theta where none are told."""
        if not self._sharded:
            return
        for vector in vectors:
            if vector is not None and not isinstance(vector, Tensor):
                self._give(self._in_order(vector))
        if not vectors:
            self._give(self.parameters)

    def _give(self, parts: Sequence[Tensor | None]) -> None:
        for part in parts:
            if part is not None:
                _whole(part)

    def _join(self, parts: Sequence[Tensor], joined: "_Joined | None" = None) -> "_Joined":
        """Put all parts one after the other, where `joined` is if it is of their kind."""
        whole = [_whole(part) for part in parts] if self._sharded else parts
        kind = functools.reduce(torch.promote_types, {part.dtype for part in whole})
        if joined is None or (joined.flat.dtype, joined.flat.device) != (kind, self.device):
            flat = torch.empty(self.size, dtype=kind, device=self.device)
            places = zip(flat.split(self._sizes), self._shapes, strict=True)
            joined = _Joined(flat, [place.view(shape) for place, shape in places])
        # straight into place: of channels-last tensors `reshape` would make copies first
        tensor_lists.copy(whole, into=joined.places)
        return joined


class _Joined(NamedTuple):
    flat: Tensor
    # Views of it, in the shape of each of theta's tensors.
    places: list[Tensor]


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor with what other ranks have of it."""
    full_tensor = getattr(tensor, "full_tensor", None)
    return (tensor if full_tensor is None else full_tensor()).detach()


def _wide_enough(vector: Tensor) -> Tensor:
    """Return float32 or float64: sums of half precision lose what they are for."""
    return vector if vector.dtype == torch.float64 else vector.float()


class HostCopy:
    """A tensor on its way to host memory; on a CPU the tensor itself, which must not change.

    From a GPU the copy goes along a stream of its own, beside whatever is computed.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self.bytes = tensor.numel() * tensor.element_size()
        self._event: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._host = tensor.cpu()
            return
        stream = _copy_stream(tensor.device)
        stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(stream):
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            tensor.record_stream(stream)
            self._event = torch.cuda.Event()
            self._event.record(stream)

    def numpy(self) -> np.ndarray:
        """Return the numbers, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def encoded(vector: Tensor, dtype: str) -> tuple[Tensor, Tensor | None]:
    """Return a vector as it is stored, and what float16 is to be multiplied with.

    float16 is scaled by the power of two that brings the largest number just below its limit, as
    displacements are often smaller than what it can hold. bfloat16 comes as its bits.
    """
    if dtype == "bfloat16":
        return vector.to(torch.bfloat16).view(torch.int16), None
    if dtype == "float16":
        largest = vector.abs().amax().double()
        usable = (largest > 0) & torch.isfinite(largest)
        power = torch.where(usable, torch.floor(torch.log2(largest)) - 14, 0.0)
        scale = torch.exp2(power)
        return (vector / scale).to(torch.float16), scale
    return vector.float(), None
