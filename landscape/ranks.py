"""The processes of one torchrun that share the data: each takes some batches, sums are shared."""
# pyright: reportPrivateImportUsage=false

import gc
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from landscape.rendezvous import meeting_place
from landscape.work import shard_of_environment

if TYPE_CHECKING:
    from landscape.operators import Operator
    from landscape.vector_stacks import VectorStack

_MEETING = timedelta(minutes=5)  # until all have come and are connected
_PATIENCE = timedelta(hours=2)  # a rank may take long over its batches; a dead one is seen at once


class Ranks:
    """This process among those that share the data; alone unless told.

    All of them must make the same calls in the same order. What they decide, they decide from sums,
    which have the same bits in all, or from what `agree` gives.

    Args:
        rank: This process, counted from 0.
        world: How many there are. Above 1, torch.distributed must have been joined.
        owned: Whether leaving the context leaves torch.distributed too.
    """

    def __init__(self, rank: int = 0, world: int = 1, *, owned: bool = False) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must lie between 0 and world - 1, got {rank} of {world}")
        self.rank, self.world, self._owned = rank, world, owned

    @property
    def first(self) -> bool:
        """Whether this process stores, prints and decides."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of `count` batches this process takes."""
        return range(self.rank, count, self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place; the same bits in all."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def mean(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The mean of each tensor over all processes, by one sum; None, in all of them, stays."""
        held = [tensor for tensor in tensors if tensor is not None]
        if self.world == 1 or not held:
            return list(tensors)
        flat = self.sum(torch.cat([tensor.detach().reshape(-1) for tensor in held])) / self.world
        parts = iter(flat.split([tensor.numel() for tensor in held]))
        return [None if t is None else next(parts).view(t.shape) for t in tensors]

    def largest(self, value: int) -> int:
        """The largest of a whole number over all processes."""
        if self.world == 1:
            return value
        held = torch.tensor(value)
        distributed.all_reduce(held, distributed.ReduceOp.MAX)
        return int(held)

    def gather(self, value: Any) -> list[Any]:
        """What each process says, in all of them."""
        if self.world == 1:
            return [value]
        held: list[Any] = [None] * self.world
        distributed.all_gather_object(held, value)
        return held

    def collect(self, rows: "VectorStack", count: int) -> None:
        """Bring vectors, of which each process holds its share of `count`, to the first.

        One at a time, so that no process needs room for more than the first has anyway.
        """
        for row in range(count):
            owner = row % self.world
            if owner == 0:
                continue
            if self.rank == owner:
                distributed.send(torch.from_numpy(np.array(rows[row])), dst=0)
            elif self.first:
                held = torch.from_numpy(np.empty_like(rows[row]))
                distributed.recv(held, src=owner)
                rows[row] = held.numpy()

    def agree(self, value: Any) -> Any:
        """What the first process says; for what hangs on clocks, memory or files."""
        if self.world == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def close(self) -> None:
        """Leave the other processes, if this object joined them."""
        if self._owned and distributed.is_initialized():
            gc.collect()  # what still holds the group would end it after its threads
            distributed.destroy_process_group()
        self._owned = False

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def present_ranks() -> Ranks:
    """The processes that this one has been joined with already; else it alone."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return Ranks()


def ranks_of_environment(device: torch.device | str = "cpu") -> Ranks:
    """The processes that torchrun started, joined; without torchrun this one alone.

    Use as a context manager. A process group that exists already is used and left open.

    Args:
        device: Where sums are taken: gloo joins on a CPU, nccl on CUDA, and gloo there too where
            processes must share a device. Each computes on its `local_device`.

    Raises:
        ValueError: If RANK and WORLD_SIZE are no share, or joining fails.
    """
    rank, world = shard_of_environment()
    if world == 1:
        return Ranks()
    if not distributed.is_available():
        raise ValueError(
            f"sharing the data between {world} processes needs torch.distributed, which this "
            "torch was built without; start one process"
        )
    if distributed.is_initialized():
        return present_ranks()
    own_device = torch.device(device).type == "cuda" and (
        int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    )
    backend = "cpu:gloo,cuda:nccl" if own_device else "gloo"
    try:
        _join(backend)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the {world} processes could not meet: {first}; see that all were started and reach "
            "each other (GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the network), start them "
            "with torchrun, or unset RANK and WORLD_SIZE to measure alone"
        ) from error
    return Ranks(rank, world, owned=True)


def _join(backend: str) -> None:
    """Join torch.distributed with the ranks of this start.

    Raises:
        RuntimeError: They don't come, or can't be reached.
        ValueError: The environment names no place to meet.
    """
    store, rank, world = next(distributed.rendezvous("env://", timeout=_MEETING))
    store.set_timeout(_MEETING)
    place = meeting_place(store, rank, world, _MEETING)
    distributed.init_process_group(
        backend, store=place, rank=rank, world_size=world, timeout=_MEETING
    )
    distributed.distributed_c10d._set_pg_timeout(_PATIENCE)


def local_device(device: torch.device | str) -> torch.device:
    """The device of this process: "cuda" under torchrun is the one of its LOCAL_RANK."""
    device = torch.device(device)
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def shared(operator: "Operator", ranks: Ranks | None) -> "Operator":
    """The sum of the processes' operators, each of its own batches: all must apply it together.

    Vectors given must have the same bits in all; products then have.
    """
    if ranks is None or ranks.world == 1:
        return operator
    return replace(
        operator,
        product=lambda v: ranks.sum(operator(v)),
        facts={**operator.facts, "ranks": ranks.world},
    )
