"""Reading the data of an objective: once, into fixed batches, with a digest of every sample."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

Batch = tuple[Tensor, Tensor]

PARTITION_SEED = 0
"""Seed of the permutation that mixes tensor data where batch statistics matter."""


def read_batches(data: Any, *, batch_size: int, mixed: bool) -> tuple[list[Batch], str]:
    """Read (inputs, targets) batches that stay the same whenever they are used.

    Tensors are cut into batches of nearly equal size, at most `batch_size`. Batches of a loader
    stay as they come; it is read twice, and must give the same samples in whatever order.

    Args:
        data: (inputs [sample, ...], targets [sample, ...]) as tensors or numpy arrays, a
            DataLoader, or any re-iterable of such pairs.
        batch_size: Samples in a batch, for tensors.
        mixed: Whether to permute tensor data by a fixed seed first, so that each batch is a fair
            sample of it. The digest then depends on the order, else it does not.

    Returns:
        The batches, and a hexadecimal digest of all samples.

    Raises:
        ValueError: If there is no sample, inputs and targets don't pair up, or a second reading
            gives other samples.
        TypeError: If the data can't be read as batches.
    """
    if _is_tensor_pair(data):
        batches = _split(_batch(data), batch_size, mixed)
        digests = [_sample_digests(batch) for batch in batches]
    else:
        batches, digests = _read_twice(data)
    if not batches:
        raise ValueError(
            "data must hold at least one sample, got none; is the path or split right?"
        )
    parts = (
        list(chain(*([*batch, b"|"] for batch in digests))) if mixed else sorted(chain(*digests))
    )
    return batches, hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def _is_tensor_pair(data: Any) -> bool:
    return (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(isinstance(part, Tensor | np.ndarray) for part in data)
    )


def _split(batch: Batch, batch_size: int, mixed: bool) -> list[Batch]:
    inputs, targets = batch
    pieces = math.ceil(len(inputs) / batch_size)
    if mixed:
        generator = torch.Generator().manual_seed(PARTITION_SEED)
        order = torch.randperm(len(inputs), generator=generator)
        inputs, targets = inputs[order.to(inputs.device)], targets[order.to(targets.device)]
    return list(zip(inputs.tensor_split(pieces), targets.tensor_split(pieces), strict=True))


def _read_twice(data: Any) -> tuple[list[Batch], list[list[bytes]]]:
    if isinstance(data, Iterator):
        raise TypeError(
            f"data must be readable more than once, got a {type(data).__name__}, which ends after "
            "one pass; pass list(data), a DataLoader or (inputs, targets)"
        )
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise TypeError(
            f"data must give batches, got the data set {type(data).__name__}, which gives single "
            "samples; wrap it in torch.utils.data.DataLoader(data, batch_size=256)"
        )
    if not isinstance(data, Iterable):
        raise TypeError(
            "data must be (inputs, targets), a DataLoader or a re-iterable of batches, "
            f"got {type(data).__name__}"
        )
    with torch.random.fork_rng(devices=[]):  # starting a DataLoader draws from the global one
        batches = [_batch(item) for item in data]
        again = [_sample_digests(_batch(item)) for item in data]
    digests = [_sample_digests(batch) for batch in batches]
    if sorted(chain(*digests)) != sorted(chain(*again)):
        raise ValueError(_why_samples_differ(data, digests, again))
    return batches, digests


def _why_samples_differ(data: Any, first: list[list[bytes]], again: list[list[bytes]]) -> str:
    counts = [sum(len(batch) for batch in read) for read in (first, again)]
    if counts[0] != counts[1]:
        cause, remedy = f"{counts[0]} samples, then {counts[1]}", "pass list(data) once read"
    elif getattr(data, "drop_last", False):
        cause, remedy = "drop_last=True leaves out other samples each time", "use drop_last=False"
    else:
        cause = "random augmentation, or sampling with replacement"
        remedy = "pass the data without it"
    return f"data must give the same samples whenever it is read, got {cause}; {remedy}"


def _batch(item: Any) -> Batch:
    """Check one (inputs, targets) pair."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        size = f" of length {len(item)}" if isinstance(item, tuple | list) else ""
        raise TypeError(
            f"each batch must be a pair (inputs, targets), got a {type(item).__name__}{size}"
        )
    inputs, targets = (_tensor(part) for part in item)
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise ValueError(
            "inputs and targets must have one row per sample, got shapes "
            f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    if len(inputs) == 0:
        raise ValueError(
            "data must hold at least one sample in each batch, got inputs of shape "
            f"{tuple(inputs.shape)}; leave empty batches out"
        )
    return inputs, targets


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Tensor):
        return value.detach()
    raise TypeError(
        f"inputs and targets must be tensors or numpy arrays, got {type(value).__name__}"
    )


def _sample_digests(batch: Batch) -> list[bytes]:
    """One digest per sample, of its input, target, their shapes and types."""
    head = "".join(f"{part.dtype}{tuple(part.shape[1:])}" for part in batch).encode()
    rows = zip(*(_bytes_by_sample(part) for part in batch), strict=True)
    return [
        hashlib.blake2b(head + x.tobytes() + y.tobytes(), digest_size=16).digest() for x, y in rows
    ]


def _bytes_by_sample(tensor: Tensor) -> np.ndarray:
    tensor = tensor.cpu().contiguous()
    flat = tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(1)
    return flat.view(torch.uint8).numpy()
