"""Chunks of the data of an objective: m samples drawn together, each with a loss of its own."""

import math
from itertools import pairwise

import numpy as np
import torch

from landscape.batches import Batch
from landscape.objectives import Objective


def draw_chunks(
    objective: Objective, *, size: int, most: int, seed: int
) -> tuple[list[Batch], int]:
    """Cut the data into chunks of nearly equal size, in random order, and give the first ones.

    Samples are mixed over all data; where inputs differ in shape, within each batch. With batch
    statistics the chunks are the batches of the partition: their samples belong together.

    Args:
        objective: Whose data.
        size: Most samples in a chunk.
        most: How many chunks to give at most.
        seed: Seed of the order.

    Returns:
        The chunks, and how many there are in all.
    """
    rng = np.random.default_rng(seed)
    batches = objective.batches
    if objective.facts["bn"] == "batch":
        return [batches[i] for i in rng.permutation(len(batches))[:most]], len(batches)
    if len({(x.shape[1:], y.shape[1:]) for x, y in batches}) > 1:
        pieces = [
            pair
            for x, y in batches
            for pair in zip(*(part.split(size) for part in (x, y)), strict=True)
        ]
        return [pieces[i] for i in rng.permutation(len(pieces))[:most]], len(pieces)
    edges = np.cumsum([0, *(len(y) for _, y in batches)])
    order = rng.permutation(edges[-1])
    rows = np.array_split(order, math.ceil(len(order) / size))
    return [_gather(batches, edges, some) for some in rows[:most]], len(rows)


def _gather(batches: list[Batch], edges: np.ndarray, rows: np.ndarray) -> Batch:
    """The samples at these places of the whole, in their order."""
    parts = []
    for (low, high), (inputs, targets) in zip(pairwise(edges), batches, strict=True):
        mine = torch.from_numpy(np.sort(rows[(rows >= low) & (rows < high)]) - low)
        mine = mine.to(inputs.device)
        parts.append((inputs[mine], targets[mine]))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
