"""What a product of the Hessian is held to before it is used, and the memory that it takes."""

import copy
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import Node

from landscape.differentiable import PLAIN, Outputs
from landscape.objectives import Objective
from landscape.product_methods import Difference, DoubleBackward, Parts, Piece, counted_graphs

_LOOK = 64  # samples at which a product is held to the plain one
_STEPS = 5
_FINER = 4.0  # each step of a difference against the next
_SHARE = 0.5  # of the memory at hand
_UNKNOWN_MEMORY = 4e9  # where the system doesn't tell


@dataclass(frozen=True)
class Look:
    """Some samples, a random vector, and the plain product of it over them."""

    part: Objective
    """The objective over these samples."""
    v: Tensor
    """The vector [param], of norm 1."""
    truth: Tensor | None
    """The product [param]; None where the model has no double backward."""
    why: str
    """The reason there is none."""


def rows_within(objective: Objective, budget: float) -> int:
    """How many samples, up to 64, the plain product may be taken over within bytes of memory."""
    part = _part(objective, 0, slice(0, 2))
    try:
        size = measured(Outputs(objective, path=PLAIN), cut_pieces(part, [0], None))[1]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return _LOOK  # without double backward
    return max(2, min(_LOOK, int(budget * len(part.batches[0][0]) / (2 * size or 1))))


def measured(outputs: Outputs, pieces: Sequence[Piece]) -> tuple[DoubleBackward, int]:
    """Return a product, and the bytes that its graphs hold besides parameters and data."""
    with counted_graphs() as held:
        multiply = DoubleBackward(outputs, pieces, kept=True)
    model = outputs.objective.model
    known = [*model.parameters(), *model.buffers(), *multiply.weights]
    known += [tensor for _, inputs, targets in pieces for tensor in (inputs, targets)]
    places = {tensor.untyped_storage().data_ptr() for tensor in known}
    return multiply, sum(held[place].nbytes() for place in held.keys() - places)


def _part(objective: Objective, batch: int, rows: slice) -> Objective:
    """The objective over some samples."""
    inputs, targets = objective.batches[batch]
    part = copy.copy(objective)
    part.batches = [(inputs[rows], targets[rows])]
    part._sizes = torch.tensor([len(part.batches[0][0])], dtype=torch.float64)
    return part


def look_at(objective: Objective, batch: int, start: int, count: int) -> Look:
    """The plain product over `count` samples of a batch, from `start` on where it has them.

    Raises:
        ValueError: If the objective has no derivatives.
    """
    held = len(objective.batches[batch][0])
    rows = slice(start, start + count) if start + 2 <= held else slice(-count, None)
    part = _part(objective, batch, rows)
    generator = torch.Generator().manual_seed(batch + start)
    v = torch.randn(objective.theta.numel(), generator=generator, dtype=torch.float64)
    v = (v / v.norm()).to(objective.theta)
    if _differentiates_once(_part(objective, batch, slice(0, 2))):
        return Look(part, v, None, "a function of the model can be differentiated only once")
    try:
        return Look(part, v, part.hessian_vector(v), "")
    except (ValueError, torch.OutOfMemoryError):
        raise  # of the objective, not of the method
    except Exception as error:
        return Look(part, v, None, reason_of(error))


def _differentiates_once(part: Objective) -> bool:
    """Whether the gradient comes from a `once_differentiable` function.

    A second derivative passes over such silently where its error is not on the way to theta.
    """
    theta = part.theta.clone().requires_grad_()
    seen: set[Node] = set()
    for _, loss in part.weighted_losses(theta):
        gradient = torch.autograd.grad(loss, theta, create_graph=True)[0]
        waiting = [gradient.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            if node.name() == "torch::autograd::Error":
                return True
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return False


def find_step(outputs: Outputs, look: Look) -> tuple[float, float]:
    """The best step of some, and the error of its differences.

    Relative to the exact products, or where there are none to differences with the next finer step.
    Compared along a random vector and along the gradient, which lies in the stiff directions that
    eigenvectors will be of.
    """
    gradient = look.part.gradient()
    vectors = [look.v, gradient] if float(gradient.norm()) > 0 else [look.v]
    theta = outputs.objective.theta
    largest = max(1.0, float(theta.norm())) * torch.finfo(theta.dtype).eps ** (1 / 3)
    steps = [largest / _FINER**k for k in range(_STEPS)]
    pieces = cut_pieces(look.part, [0], None)
    found = [
        [product_of(outputs, Difference(outputs, pieces, h), v) for v in vectors] for h in steps
    ]
    truths = found[1:]
    if look.truth is not None:
        truths = [[look.part.hessian_vector(v) for v in vectors]] * len(steps)
    errors = [
        max(error_of(a, b) for a, b in zip(ours, truth, strict=True))
        for ours, truth in zip(found, truths, strict=False)
    ]
    best = min(range(len(errors)), key=errors.__getitem__)
    return steps[best], errors[best]


def product_of(outputs: Outputs, multiply: Callable[[Parts], list[Tensor]], v: Tensor) -> Tensor:
    """The product with v [param]."""
    return joined(multiply(outputs.split(v)), v)


def joined(parts: Parts, like: Tensor) -> Tensor:
    """One vector [param] of the parts of it."""
    return torch.cat([part.reshape(-1) for part in parts]).to(like)


def error_of(found: Tensor, truth: Tensor) -> float:
    """|found - truth| / |truth|, absolute for a truth of 0; infinite where not finite."""
    error = float((found.double() - truth.double()).norm()) / (float(truth.double().norm()) or 1.0)
    return error if math.isfinite(error) else math.inf


def cut_pieces(objective: Objective, chosen: Sequence[int], chunk: int | None) -> list[Piece]:
    """The chosen batches with their shares, cut into near-equal chunks where told."""
    shares = objective.shares
    pieces = []
    for batch in chosen:
        inputs, targets = objective.batches[batch]
        cuts = 1 if chunk is None else math.ceil(len(inputs) / chunk)
        for x, y in zip(inputs.tensor_split(cuts), targets.tensor_split(cuts), strict=True):
            pieces.append((shares[batch] * len(x) / len(inputs), x, y))
    return pieces


def memory_at_hand(device: torch.device) -> float:
    """Half the bytes that are free on the device; of a node's memory a process's share."""
    if device.type == "cuda":
        return _SHARE * torch.cuda.mem_get_info(device)[0]
    processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return _SHARE * _free_memory() / processes


def _free_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(float(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return _UNKNOWN_MEMORY


def reason_of(error: Exception) -> str:
    """What went wrong, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
