"""A model's output as a fast, twice differentiable function of its parameters."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from landscape import guards
from landscape.double_backward import FastSecondDerivatives, convolve, rectify, scale_and_shift
from landscape.folding import NotFoldableError, _Maker, _rewrite, _trace
from landscape.fused import channels_last
from landscape.objectives import Objective

FOLDED, DIRECT, PLAIN = "folded", "direct", "plain"
PATHS = (FOLDED, DIRECT, PLAIN)
"""BatchNorm folded, and second derivatives of our own; only the latter; the model as it is."""

Values = dict[str, Tensor]
"""Tensors by name."""
_Lookup = Callable[[nn.Module, str], Tensor]
"""The present value of a module's parameter or buffer."""

__all__ = ["DIRECT", "FOLDED", "PATHS", "PLAIN", "NotFoldableError", "Outputs"]


class Outputs:
    """The outputs of an objective's model as functions of theta, made to be differentiated.

    `leaves` are the trainable parameters, `prepare` makes of them what the network is called
    with, once for all samples (on the folded path weights with BatchNorm in them), and `output`
    is the output for some samples. All are to be called within `objective.derivatives()`:

        leaves = outputs.leaves()
        output = outputs.output(outputs.prepare(leaves), inputs)

    Differentiable twice with respect to the leaves, in reverse mode.

    Args:
        objective: Gives model, theta and buffers.
        path: "folded" (BatchNorm that has fixed statistics folded into the layers before it),
            "direct" (the model's own forward with second derivatives of our own), or "plain".

    Raises:
        NotFoldableError: If the model can't be traced, for the folded path.
    """

    def __init__(self, objective: Objective, *, path: str) -> None:
        self.objective, self.path = objective, path
        model = objective.model
        self._names = _names_by_place(model)
        self._layers: dict[str, Any] = {}
        self._places: dict[str, str] = {}  # the names of what the network holds
        self._network = self._folded() if path == FOLDED else model
        self._places |= {
            f"{prefix}.{name}".lstrip("."): self._names[id(module), name]
            for prefix, module in self._network.named_modules()
            for name, _ in _own(module)
            if (id(module), name) in self._names
        }
        convolutions = any(isinstance(module, _ConvNd) for module in model.modules())
        self._arranged = path != PLAIN and convolutions

    def leaves(self) -> list[Tensor]:
        """The parameters at `objective.theta`, one tensor for each entry of its layout."""
        return [part.clone().requires_grad_() for part in self.split(self.objective.theta)]

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector [param] as one tensor for each entry of the layout, of the entry's own type."""
        values = self.objective.parameters(vector.detach())
        return [values[entry.name] for entry in self.objective.layout]

    def prepare(self, leaves: Sequence[Tensor]) -> Values:
        """What the network is called with, by name, with a graph down to the leaves."""
        values = dict(_named(self.objective.model))
        values |= self.objective.parameters(self.objective.theta)  # for the buffers
        values |= {e.name: leaf for e, leaf in zip(self.objective.layout, leaves, strict=True)}

        def present(module: nn.Module, name: str) -> Tensor:
            return values[self._names[id(module), name]]

        prepared = {place: values[name] for place, name in self._places.items()}
        for name, layer in self._layers.items():
            prepared |= {f"{name}.{part}": value for part, value in layer.fold(present).items()}
        return prepared

    def output(self, values: Values, inputs: Tensor) -> Any:
        """The model's output for some samples."""
        if self._arranged:
            inputs = channels_last(inputs)
        ours = nullcontext() if self.path == PLAIN else FastSecondDerivatives()
        with ours, guards.explaining_output(self.objective.model, inputs):
            return functional_call(self._network, values, (inputs,), tie_weights=False)

    def loss(self, values: Values, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss [] of some samples."""
        return guards.batch_loss(self.objective.loss_fn, self.output(values, inputs), targets)

    def _folded(self) -> nn.Module:
        model = self.objective.model
        if not all(isinstance(tensor, nn.Parameter) for tensor in model.parameters()):
            # functional_call leaves what it was given in modules that are used twice
            raise NotFoldableError("a module has two names")
        with torch.no_grad():
            graph = _trace(model, self.objective.batches[0][0][:2])
        maker = _FoldMaker(dict(model.named_modules(remove_duplicate=False)))
        _rewrite(graph, maker)
        parts: dict[str, Any] = {
            str(node.target): _attribute(model, str(node.target))
            for node in graph.nodes
            if node.op in ("call_module", "get_attr") and node.target not in maker.layers
        }
        for node in graph.nodes:
            owner, _, name = str(node.target).rpartition(".")
            if (
                node.op == "get_attr"
                and (key := (id(model.get_submodule(owner)), name)) in self._names
            ):
                self._places[str(node.target)] = self._names[key]
        self._layers = maker.layers
        return fx.GraphModule(parts | maker.layers, graph)


class _FoldMaker(_Maker):
    """Makes layers that fold differentiably."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules, self.layers = modules, {}

    def convolution(self, node: fx.Node, norm: Any, relu: bool) -> str:
        return self._keep(_Convolution(self.module(node), norm, relu))

    def linear(self, node: fx.Node, norm: Any, relu: bool, last: bool) -> str:
        return self._keep(_Linear(self.module(node), norm, relu))

    def norm(self, node: fx.Node, relu: bool) -> str:
        return self._keep(_Norm(self.module(node), None, relu))


class _Layer(nn.Module):
    """A layer with BatchNorm and ReLU behind it, called with weight and bias folded."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any, norm: Any, relu: bool) -> None:
        super().__init__()
        self._read = (layer, norm)  # in a tuple: no submodules, whose parameters would be ours
        self._relu = relu
        self.register_buffer("weight", torch.empty(0))
        has_bias = layer.bias is not None or norm is not None or isinstance(layer, _BatchNorm)
        self.register_buffer("bias", torch.empty(0) if has_bias else None)

    def fold(self, present: _Lookup) -> Values:
        """Weight and bias, of the present values of parameters and buffers."""
        layer, norm = self._read
        weight = present(layer, "weight")
        bias = None if layer.bias is None else present(layer, "bias")
        if norm is not None:
            scale, shift = _scale_and_shift(norm, present)
            weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            bias = shift if bias is None else torch.addcmul(shift, bias, scale)
        return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def _rectified(self, y: Tensor) -> Tensor:
        return rectify(y, inplace=True) if self._relu else y


class _Convolution(_Layer):
    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        layer = self._read[0]
        y = None
        if layer.padding_mode == "zeros":
            place = (layer.stride, layer.padding, layer.dilation, layer.groups)
            y = convolve(x, self.weight, self.bias, *place)
        if y is None:
            y = layer._conv_forward(x, self.weight, self.bias)
        return self._rectified(y if other is None else y.add_(other))


class _Linear(_Layer):
    def forward(self, x: Tensor) -> Tensor:
        return self._rectified(nn.functional.linear(x, self.weight, self.bias))


class _Norm(_Layer):
    def fold(self, present: _Lookup) -> Values:
        scale, shift = _scale_and_shift(self._read[0], present)
        return {"weight": scale, "bias": shift}

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return self._rectified(scale_and_shift(x, self.weight, self.bias))


def _scale_and_shift(norm: Any, present: _Lookup) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as x * scale + shift, each [channel]."""
    scale = torch.rsqrt(present(norm, "running_var") + norm.eps)
    if norm.weight is not None:
        scale = scale * present(norm, "weight")
    shift = -present(norm, "running_mean") * scale
    return scale, shift if norm.bias is None else shift + present(norm, "bias")


def _named(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers, tied ones once, under their first name."""
    return [*model.named_parameters(), *model.named_buffers()]


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers of the module itself, tied ones too."""
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    return [*parameters, *module.named_buffers(recurse=False, remove_duplicate=False)]


def _names_by_place(model: nn.Module) -> dict[tuple[int, str], str]:
    """The first name of what a module holds under a name, by the module's id and that name.

    Not by the tensor's id: functional_call leaves others in modules that are used twice.
    """
    first = {id(tensor): name for name, tensor in _named(model)}
    return {
        (id(module), name): first[id(tensor)]
        for module in model.modules()
        for name, tensor in _own(module)
    }


def _attribute(model: nn.Module, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found
