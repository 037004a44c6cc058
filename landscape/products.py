"""The fastest product of the Hessian of a mean loss with a vector, held to the plain one."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from landscape.differentiable import DIRECT, FOLDED, PLAIN, NotFoldableError, Outputs
from landscape.objectives import Objective
from landscape.product_checks import (
    cut_pieces,
    error_of,
    find_step,
    joined,
    look_at,
    measured,
    memory_at_hand,
    product_of,
    reason_of,
    rows_within,
)
from landscape.product_methods import Difference, DoubleBackward, ForwardOverReverse, Parts

AUTO = "auto"
RETAINED, RECOMPUTED = "retained", "recomputed"
FORWARD, DIFFERENCE = "forward-over-reverse", "finite difference"
METHODS = (RETAINED, RECOMPUTED, FORWARD, DIFFERENCE)
"""Ways to take a product, from the fastest to the one that asks least of the model."""

_CHUNK = 32  # on a CPU the images between layers then stay in its caches
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
_DIFFERENCE_TOLERANCE = {torch.float32: 2e-2, torch.float64: 1e-5}
_LOW_PRECISION = 0.1  # the tolerance in types of fewer bits


class HessianProduct:
    """H v for the Hessian of the mean loss at `objective.theta`, made by `choose_product`.

    Holds graphs as large as `facts["product_memory"]` where they are retained; `release` frees
    them, as does leaving a `with` block.
    """

    def __init__(self, outputs: Outputs, multiply: Callable[[Parts], list[Tensor]] | None) -> None:
        self.facts: dict[str, Any] = {}
        """What was chosen and found (JSON): "product" (one of `METHODS`), "product_reason",
        "product_path" ("folded", "direct" or "plain", see `Outputs`), "product_error" (relative
        deviation from the plain product of a random vector, None where there is none),
        "product_chunk" (samples at a time, None for whole batches), "product_memory" (bytes that
        graphs hold at a time, None where unknown), "product_step" of a finite difference."""
        self._outputs, self._multiply = outputs, multiply

    @property
    def settled(self) -> dict[str, Any]:
        """What `choose_product` needs to make this product at another theta (JSON)."""
        return dict(self.facts)

    def __call__(self, v: Tensor | np.ndarray) -> Tensor:
        """Σ over batches of share · H_batch v [param].

        Raises:
            ValueError: If v has not the layout of theta, or the product was released.
        """
        if self._multiply is None:
            raise ValueError("the product must not be released yet; make another one")
        theta = self._outputs.objective.theta
        vector = torch.as_tensor(v)
        if vector.shape != theta.shape:
            raise ValueError(
                f"the vector must have the layout of theta, {tuple(theta.shape)}, "
                f"got shape {tuple(vector.shape)}"
            )
        with self._outputs.objective.derivatives():
            vector = vector.detach().to(theta)
            return joined(self._multiply(self._outputs.split(vector)), theta)

    def release(self) -> None:
        """Free the graphs."""
        self._multiply = None

    def __enter__(self) -> "HessianProduct":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def choose_product(
    objective: Objective,
    *,
    method: str = AUTO,
    memory: float | None = None,
    batches: Iterable[int] | None = None,
    settled: Mapping[str, Any] | None = None,
) -> HessianProduct:
    """Choose the fastest product of the Hessian that agrees with the plain one.

    Methods, tried in this order: "retained" (double backward, the gradient's graph made once),
    "recomputed" (double backward, graphs made for a chunk at a time), "forward-over-reverse",
    "finite difference" (of gradients, with a step checked against the exact product or against
    finer steps). The first is taken if the graphs, as measured on some samples, fit in memory.

    Double backward has three paths, see `Outputs`. A path is taken if its product with a random
    vector, over up to 64 samples, deviates by at most 1e-3 (float64: 1e-9) from
    `objective.hessian_vector`. Other samples get a say where it does not: one ReLU whose input
    rounds to the other side of zero can move a float32 product of so few samples by that.

    Samples pass in chunks, of 32 on a CPU with convolutions, unless batch statistics or an output
    without a row per sample forbid to cut batches. Products of chunks are summed in float64.

    Args:
        objective: The loss as a function of theta.
        method: "auto" or one of `METHODS`.
        memory: Bytes that graphs may take; by default half of what is free, on a CPU shared
            with the other processes of this node under torchrun.
        batches: Which of the objective's batches to sum over, for one of several processes;
            shares stay those of all data. All by default.
        settled: `HessianProduct.settled` of an earlier product over such data: the same is made
            again, without measuring or checking it. The other settings but `batches` are then
            not used.

    Raises:
        ValueError: If an argument is out of range, the objective has no derivatives, or no method
            that was asked for gives a right product.

    Example:
        product = choose_product(objective)
        product(v)
    """
    _check_arguments(method, memory)
    chosen = _chosen(objective, batches)
    with objective.derivatives():
        product = None if settled is None else _again(objective, chosen, settled)
        if product is not None:
            return product
        return _Search(objective, chosen, method, memory).run()


class _Search:
    """The search of `choose_product`."""

    def __init__(
        self, objective: Objective, chosen: Sequence[int], method: str, memory: float | None
    ) -> None:
        self.objective, self.chosen, self.method = objective, chosen, method
        self.budget = memory_at_hand(objective.theta.device) if memory is None else memory
        # What is free now is no part of an answer: two equal measurements have equal facts.
        self.room = "half of free memory" if memory is None else _bytes(memory)
        self.notes: list[str] = []
        self.splits = _may_split(objective)
        dtype = objective.theta.dtype
        self.tolerance = _TOLERANCE.get(dtype, _LOW_PRECISION)
        self.difference_tolerance = _DIFFERENCE_TOLERANCE.get(dtype, _LOW_PRECISION)
        self.rows = rows_within(objective, self.budget)
        self.look = look_at(objective, chosen[0] if chosen else 0, 0, self.rows)

    def run(self) -> HessianProduct:
        tries = {RETAINED: self._double, RECOMPUTED: self._double, FORWARD: self._forward}
        tries[DIFFERENCE] = self._difference
        asked = METHODS[1:] if self.method == AUTO else (self.method,)  # one search for both
        for name in asked:
            product = tries[name]()
            if product is not None:
                return product
        raise ValueError(
            f"a product of the Hessian must be exact or checked, got none for method="
            f"{self.method!r}: {'; '.join(self.notes)}"
            + ("" if self.method == AUTO else "; use method='auto'")
        )

    def _double(self) -> HessianProduct | None:
        if self.look.truth is None:
            self.notes.append(f"double backward: {self.look.why}")
            return None
        paths = [(FOLDED, self.splits), (DIRECT, self.splits), (PLAIN, self.splits)]
        for path, split in [*paths, (PLAIN, False)] if self.splits else paths:
            chunk = _default_chunk(self.objective) if split else None
            try:
                outputs = Outputs(self.objective, path=path)
                error, each = self._held(outputs, chunk)
                if error <= self.tolerance or (path == PLAIN and not split):
                    return self._within_memory(outputs, chunk, error, each)
                self.notes.append(f"the {path} path differs by {error:.1e}")
            except torch.OutOfMemoryError:
                raise
            except Exception as failure:
                self.notes.append(f"no {path} path: {reason_of(failure)}")
        return None

    def _held(self, outputs: Outputs, chunk: int | None) -> tuple[float, float]:
        """The error against the plain product, and bytes of graphs per sample."""
        truth, part = self.look.truth, self.look.part
        assert truth is not None
        half = None if chunk is None else max(1, len(part.batches[0][0]) // 2)
        multiply, size = measured(outputs, cut_pieces(part, [0], half))
        error = error_of(product_of(outputs, multiply, self.look.v), truth)
        if not error <= self.tolerance:
            last = self.chosen[-1] if self.chosen else 0
            other = look_at(self.objective, last, self.rows, self.rows)
            if other.truth is not None:
                pieces = cut_pieces(other.part, [0], chunk)
                multiply = DoubleBackward(outputs, pieces, kept=True)
                error = min(error, error_of(product_of(outputs, multiply, other.v), other.truth))
        return error, size / len(part.batches[0][0])

    def _within_memory(
        self, outputs: Outputs, chunk: int | None, error: float, each: float
    ) -> HessianProduct:
        """Keep the graphs if they fit, else make them anew in chunks that do."""
        sizes = [len(self.objective.batches[i][0]) for i in self.chosen]
        whole = each * sum(sizes)
        said = f"the graphs of all {sum(sizes)} samples take {_bytes(whole)}"
        facts: dict[str, Any] = {"product_path": outputs.path}
        facts["product_error"] = error if math.isfinite(error) else None
        fits = whole <= self.budget
        if self.method == RETAINED or (self.method == AUTO and fits):
            within = f"within {self.room}" if fits else f"beyond {self.room}"
            try:
                facts |= {"product_chunk": chunk, "product_memory": round(whole)}
                return self._made(outputs, RETAINED, f"{said}, {within}", facts)
            except torch.OutOfMemoryError:
                if self.method == RETAINED:
                    raise
                self.notes.append("retained graphs ran out of memory")
        if chunk is not None:
            chunk = max(1, min(chunk, int(self.budget / (2 * each or 1))))
        reason = f"{said}, more than {self.room}"
        if fits:
            reason = f"{said}, within {self.room}"
        facts |= {"product_chunk": chunk}
        facts["product_memory"] = round(each * min(chunk or math.inf, max(sizes, default=0)))
        return self._made(outputs, RECOMPUTED, reason, facts)

    def _forward(self) -> HessianProduct | None:
        """Whole batches, held to the plain product where there is one."""
        outputs = Outputs(self.objective, path=PLAIN)
        try:
            multiply = ForwardOverReverse(outputs, cut_pieces(self.look.part, [0], None))
            found = product_of(outputs, multiply, self.look.v)
        except torch.OutOfMemoryError:
            raise
        except Exception as failure:
            self.notes.append(f"{FORWARD}: {reason_of(failure)}")
            return None
        error = None if self.look.truth is None else error_of(found, self.look.truth)
        if error is not None and not error <= self.tolerance:
            self.notes.append(f"{FORWARD} differs by {error:.1e}")
            return None
        facts = {"product_path": PLAIN, "product_error": error, "product_chunk": None}
        return self._made(outputs, FORWARD, "no graph of the gradient is held", facts)

    def _difference(self) -> HessianProduct | None:
        outputs = Outputs(self.objective, path=PLAIN)
        step, error = find_step(outputs, self.look)
        if not error <= self.difference_tolerance:
            against = "finer steps" if self.look.truth is None else "the exact product"
            self.notes.append(f"{DIFFERENCE}: at best {error:.1e} off {against}; is it smooth?")
            return None
        facts = {"product_path": PLAIN, "product_error": error, "product_chunk": None}
        facts["product_step"] = step
        return self._made(outputs, DIFFERENCE, "gradients are all it takes", facts)

    def _made(
        self, outputs: Outputs, name: str, reason: str, facts: dict[str, Any]
    ) -> HessianProduct:
        asked = ["asked for"] if self.method != AUTO else []
        reason = "; ".join([*asked, reason, *self.notes])
        facts = {"product": name, "product_reason": reason, "product_memory": None} | facts
        return _build(outputs, self.chosen, facts)


def _build(outputs: Outputs, chosen: Sequence[int], facts: Mapping[str, Any]) -> HessianProduct:
    pieces = cut_pieces(outputs.objective, chosen, facts["product_chunk"])
    name = facts["product"]
    multiply: Callable[[Parts], list[Tensor]]
    if name == DIFFERENCE:
        multiply = Difference(outputs, pieces, facts["product_step"])
    elif name == FORWARD:
        multiply = ForwardOverReverse(outputs, pieces)
    else:
        multiply = DoubleBackward(outputs, pieces, kept=name == RETAINED)
    product = HessianProduct(outputs, multiply)
    product.facts |= facts
    return product


def _again(
    objective: Objective, chosen: Sequence[int], settled: Mapping[str, Any]
) -> HessianProduct | None:
    """The settled product; None where this objective has no such."""
    try:
        return _build(Outputs(objective, path=settled["product_path"]), chosen, settled)
    except torch.OutOfMemoryError:
        raise
    except (NotFoldableError, RuntimeError):
        return None


def _may_split(objective: Objective) -> bool:
    """Whether the samples of a batch are independent, with a row of output for each."""
    if objective._policy == "batch":
        return False
    inputs, targets = (part[:2] for part in objective.batches[0])
    with torch.no_grad():
        output = objective.batch_loss(objective.parameters(objective.theta), inputs, targets)[1]
    return isinstance(output, Tensor) and output.shape[:1] == inputs.shape[:1]


def _default_chunk(objective: Objective) -> int:
    convolutions = any(isinstance(module, _ConvNd) for module in objective.model.modules())
    if convolutions and objective.theta.device.type == "cpu":
        return _CHUNK
    return max(len(inputs) for inputs, _ in objective.batches)


def _bytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"


def _chosen(objective: Objective, batches: Iterable[int] | None) -> list[int]:
    count = len(objective.batches)
    chosen = list(range(count)) if batches is None else list(batches)
    if any(not 0 <= batch < count for batch in chosen) or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"batches must be different numbers from 0 to {count - 1}, got {chosen[:8]}; they "
            "count the objective's batches"
        )
    return chosen


def _check_arguments(method: str, memory: float | None) -> None:
    if method not in (AUTO, *METHODS):
        raise ValueError(f"method must be one of {', '.join((AUTO, *METHODS))}, got {method!r}")
    if memory is not None and not memory > 0:
        raise ValueError(f"memory must be a positive number of bytes, got {memory!r}")
