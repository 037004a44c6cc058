"""Evaluating an objective with a network of one's own: weights in place, samples in chunks."""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.evaluations import Evaluation, score
from landscape.folding import FoldedModel, NotFoldableError
from landscape.fused import channels_last, has_fused_convolutions
from landscape.modules import exact_convolutions, fit_buffers
from landscape.objectives import Objective

FOLDED_AND_FUSED, FOLDED, CHUNKED, PLAIN = "folded+fused", "folded", "chunked", "plain"
KINDS = (FOLDED_AND_FUSED, FOLDED, CHUNKED, PLAIN)
"""Ways to evaluate, from the fastest to the one that always works."""


class NotPossibleError(Exception):
    """Why an objective can't be evaluated in some way; the end of a sentence, for a note."""


class Engine:
    """Evaluates an objective at any theta, holding a copy of its model.

    Weights are written in place, BatchNorm is folded from them and the running statistics of the
    point, samples pass in chunks, and each batch's outputs are scored together, as the objective
    does it. Memory does not grow with the points.

    Args:
        objective: The loss as a function of theta.
        kind: "folded+fused", "folded" or "chunked" (the model's own forward).
        chunk: Samples at a time, at most.
        dtype: What to compute in; the objective's by default. Losses are not reduced in less
            than the objective's type.

    Raises:
        NotPossibleError: If the objective can't be evaluated in this way.
    """

    def __init__(
        self, objective: Objective, kind: str, chunk: int, dtype: torch.dtype | None = None
    ) -> None:
        refuse(objective)
        self.objective, self.kind, self.chunk = objective, kind, chunk
        self._dtype = dtype or objective.theta.dtype
        self._model = copy.deepcopy(objective.model).eval()
        self._moved = [self._model.get_parameter(entry.name) for entry in objective.layout]
        self._sizes = [entry.size for entry in objective.layout]
        self._own_buffers = {name: b.clone() for name, b in self._model.named_buffers()}
        self._own_in_place = True
        norms = [m for m in self._model.modules() if isinstance(m, _BatchNorm)]
        self._recomputed = norms if objective.facts["bn"] == "recomputed" else []
        self._network = self._build()

    @torch.inference_mode()
    def evaluate(self, theta: Tensor | Any, buffers: Mapping[str, Any] | None = None) -> Evaluation:
        """Loss, accuracy and metrics at theta [param], with all buffers by name where given."""
        self.place(theta, buffers)
        outputs = (self.outputs(x) for x, _ in self.objective.batches)
        return score_of(self.objective, outputs)

    @torch.inference_mode()
    @exact_convolutions()
    def place(self, theta: Tensor | Any, buffers: Mapping[str, Any] | None = None) -> None:
        """Move to theta [param] and the buffers, the model's own by default."""
        theta = torch.as_tensor(theta).to(self.objective.theta)
        if theta.shape != self.objective.theta.shape:
            raise ValueError(
                f"theta must have shape {tuple(self.objective.theta.shape)}, "
                f"got {tuple(theta.shape)}"
            )
        for parameter, part in zip(self._moved, theta.split(self._sizes), strict=True):
            parameter.copy_(part.view(parameter.shape))
        if buffers is not None or not self._own_in_place:
            given = self._own_buffers if buffers is None else buffers
            for name, value in fit_buffers(self._model, given).items():
                self._model.get_buffer(name).copy_(value)
            self._own_in_place = buffers is None
        if self._recomputed:
            self._recompute_statistics()
        if isinstance(self._network, FoldedModel):
            self._network.refresh()

    @torch.inference_mode()
    @exact_convolutions()
    def outputs(self, inputs: Tensor) -> Tensor:
        """The model's outputs [sample, ...] at the present theta, in the objective's type."""
        pieces = inputs.tensor_split(math.ceil(len(inputs) / self.chunk))
        outputs = [self._forward(piece) for piece in pieces]
        joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
        return joined.to(self.objective.theta.dtype)

    def _forward(self, inputs: Tensor) -> Tensor:
        low = self._dtype != self.objective.theta.dtype
        if self.kind == CHUNKED:
            with torch.autocast(inputs.device.type, self._dtype, enabled=low):
                output = self._network(self._arranged(inputs))
        else:
            cast = inputs.to(self._dtype) if inputs.is_floating_point() else inputs
            output = self._network(self._arranged(cast))
        if not isinstance(output, Tensor) or output.shape[:1] != inputs.shape[:1]:
            raise NotPossibleError("the output is not one tensor with a row per sample")
        return output

    @staticmethod
    def _arranged(inputs: Tensor) -> Tensor:
        return channels_last(inputs) if inputs.device.type == "cpu" else inputs

    @torch.inference_mode()
    def _build(self) -> nn.Module:
        if self.kind == CHUNKED:
            return self._model
        inputs = self.objective.batches[0][0][:2]
        fused = self.kind == FOLDED_AND_FUSED
        if fused and not (
            has_fused_convolutions()
            and inputs.device.type == "cpu"
            and self._dtype in (torch.float32, torch.bfloat16)
        ):
            raise NotPossibleError("oneDNN's fused convolutions don't do this type or device")
        try:
            return FoldedModel(
                self._model, inputs, chunk=self.chunk, dtype=self._dtype, fused=fused
            )
        except NotFoldableError as error:
            raise NotPossibleError(str(error)) from error

    def _recompute_statistics(self) -> None:
        """Running statistics as the size-weighted mean over the objective's batches."""
        for norm in self._recomputed:
            norm.reset_running_stats()
        seen = 0
        try:
            for inputs, _ in self.objective.statistics_batches:
                seen += len(inputs)
                for norm in self._recomputed:
                    norm.training, norm.momentum = True, len(inputs) / seen
                self._model(self._arranged(inputs))
        finally:
            for norm in self._recomputed:
                norm.training = False


def refuse(objective: Objective) -> None:
    """Refuse objectives whose batches may not be cut.

    Raises:
        NotPossibleError: If only the plain path is right.
    """
    norms = any(isinstance(module, _BatchNorm) for module in objective.model.modules())
    if norms and objective.facts["bn"] == "batch":
        raise NotPossibleError('bn="batch" couples the samples of a batch')
    if objective.theta.dtype not in (torch.float32, torch.float64):
        raise NotPossibleError(f"a model in {objective.facts['dtype']} is left as it is")
    if len({(x.shape[1:], x.dtype) for x, _ in objective.batches}) > 1:
        raise NotPossibleError("samples differ in shape")


def score_of(objective: Objective, outputs: Iterable[Tensor]) -> Evaluation:
    """Loss, accuracy and metrics of an objective from the outputs of its batches, in order."""
    return score(outputs, objective.batches, objective.loss_fn, objective.metrics)
