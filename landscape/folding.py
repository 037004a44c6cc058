"""Tracing a model into a graph whose BatchNorms are folded into the layers before them."""

import copy
import inspect
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from landscape.fused import FoldedConvolution, FoldedLinear, ScaleShift

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SILENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_DROPOUTS = (nn.functional.dropout, nn.functional.dropout1d, nn.functional.dropout2d)
_RELUS = (nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_)
_SUMS = (operator.add, operator.iadd, torch.add)
_FRESH = (operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.cat)


class NotFoldableError(Exception):
    """Why a model can't be traced into an equal graph; the end of a sentence, for a note."""


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # buffers move too: what is made of them is no constant


class FoldedModel(nn.Module):
    """A model as a graph of which BatchNorm, sums and ReLU are folded into what is before them.

    Args:
        model: Holds theta and the buffers in eval mode; read whenever `refresh` is called.
        example: A few inputs, from which shapes are taken.
        chunk: How many samples will come at a time.
        dtype: What to compute in; the layer that gives the output keeps the model's own type.
        fused: Whether to use oneDNN's own convolutions.

    Raises:
        NotFoldableError: If no equal graph can be made.
    """

    def __init__(
        self, model: nn.Module, example: Tensor, *, chunk: int, dtype: torch.dtype, fused: bool
    ) -> None:
        super().__init__()
        graph = _trace(model, example)
        maker = _Maker(dict(model.named_modules(remove_duplicate=False)), chunk, dtype, fused)
        _rewrite(graph, maker)
        own = next(parameter.dtype for parameter in model.parameters())
        self._copies: list[tuple[Tensor, Tensor]] = []
        rest = model
        if dtype != own:
            rest = copy.deepcopy(model).to(dtype)
            self._copies += zip(rest.parameters(), model.parameters(), strict=True)
            self._copies += zip(rest.buffers(), model.buffers(), strict=True)
        self._layers = tuple(maker.layers.values())
        parts = {
            str(node.target): operator.attrgetter(str(node.target))(rest)
            for node in graph.nodes
            if node.op in ("call_module", "get_attr") and node.target not in maker.layers
        }
        self._graph = fx.GraphModule(parts | maker.layers, graph)
        self._graph.graph.lint()

    def refresh(self) -> None:
        """Fold anew, after the model's parameters or buffers have changed."""
        for ours, theirs in self._copies:
            ours.copy_(theirs)
        for layer in self._layers:
            layer.refresh()

    def forward(self, x: Tensor) -> Any:
        """The model's output."""
        return self._graph(x)


class _Maker:
    """Makes the layers that take the place of nodes, and remembers them by name."""

    def __init__(
        self, modules: dict[str, nn.Module], chunk: int, dtype: torch.dtype, fused: bool
    ) -> None:
        self.modules, self.layers = modules, {}
        self._chunk, self._dtype, self._fused = chunk, dtype, fused

    def module(self, node: fx.Node) -> Any:
        """The module that a node calls, None for other nodes."""
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def convolution(self, node: fx.Node, norm: Any, relu: bool) -> str:
        layer, shape = self.module(node), _shape(node.args[0])
        assert shape is not None
        fused = (
            self._fused
            and type(layer) is nn.Conv2d
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
        sizes = [self._chunk, *shape[1:]] if fused else None
        return self._keep(FoldedConvolution(layer, norm, relu=relu, dtype=self._dtype, sizes=sizes))

    def linear(self, node: fx.Node, norm: Any, relu: bool, last: bool) -> str:
        layer = self.module(node)
        dtype = layer.weight.dtype if last else self._dtype
        return self._keep(FoldedLinear(layer, norm, relu=relu, dtype=dtype))

    def norm(self, node: fx.Node, relu: bool) -> str:
        shape = _shape(node)
        assert shape is not None
        layer = ScaleShift(self.module(node), ndim=len(shape), relu=relu, dtype=self._dtype)
        return self._keep(layer)

    def _keep(self, layer: nn.Module) -> str:
        name = f"folded__{len(self.layers)}"
        self.layers[name] = layer
        return name


def _trace(model: nn.Module, example: Tensor) -> fx.Graph:
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
        raise NotFoldableError("modules have forward hooks")
    try:
        graph = _Tracer().trace(model)
        ShapeProp(fx.GraphModule(model, graph)).propagate(example)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the user's code does with what isn't a tensor
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise NotFoldableError(f"the model can't be traced: {reason}") from error
    return graph


def _rewrite(graph: fx.Graph, maker: _Maker) -> None:
    _take_out_silent(graph, maker)
    _refuse_shared_changes(graph, maker)
    for node in list(graph.nodes):
        kind = type(maker.module(node))
        if (
            kind in _CONVOLUTIONS
            and len(_shape(node.args[0]) or ()) == maker.module(node).weight.ndim
        ):
            _fold_convolution(graph, node, maker)
        elif kind is nn.Linear and _shape(node) is not None:
            _fold_linear(graph, node, maker)
    for node in list(graph.nodes):
        if _norm(node, maker) is not None and _shape(node) is not None:
            relu = _relu(node, maker)
            _replace(graph, [node, relu], maker.norm(node, relu is not None), node.args)
    _sum_in_place(graph, maker)


def _fold_convolution(graph: fx.Graph, node: fx.Node, maker: _Maker) -> None:
    norm = _only_user(node)
    if norm is not None and _norm(norm, maker) is None:
        norm = None
    total, other = _sum(norm or node)
    relu = _relu(total or norm or node, maker)
    layer = None if norm is None else maker.module(norm)
    name = maker.convolution(node, layer, relu is not None)
    args = (node.args[0],) if other is None else (node.args[0], other)
    _replace(graph, [node, norm, total, relu], name, args)


def _fold_linear(graph: fx.Graph, node: fx.Node, maker: _Maker) -> None:
    norm = _only_user(node)
    if norm is not None and (_norm(norm, maker) is None or len(_shape(node) or ()) != 2):
        norm = None
    relu = _relu(norm or node, maker)
    end = relu or norm or node
    last = all(user.op == "output" for user in end.users)
    layer = None if norm is None else maker.module(norm)
    name = maker.linear(node, layer, relu is not None, last)
    _replace(graph, [node, norm, relu], name, node.args)


def _replace(graph: fx.Graph, chain: list[fx.Node | None], name: str, args: Any) -> None:
    """Put a call of one layer in the place of the last of a chain of nodes."""
    nodes = [node for node in chain if node is not None]
    with graph.inserting_before(nodes[-1]):
        made = graph.create_node("call_module", name, tuple(args))
    made.meta = dict(nodes[-1].meta)
    nodes[-1].replace_all_uses_with(made)
    for node in reversed(nodes):
        graph.erase_node(node)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _norm(node: fx.Node, maker: _Maker) -> Any:
    """The BatchNorm that a node calls, if it is a fixed scale and shift."""
    module = maker.module(node)
    fixed = type(module) in _NORMS and module.running_mean is not None and not module.training
    return module if fixed else None


def _relu(node: fx.Node, maker: _Maker) -> fx.Node | None:
    user = _only_user(node)
    if user is None:
        return None
    method = user.op == "call_method" and user.target in ("relu", "relu_")
    found = type(maker.module(user)) is nn.ReLU or user.target in _RELUS or method
    return user if found else None


def _sum(node: fx.Node) -> tuple[fx.Node, fx.Node] | tuple[None, None]:
    """The sum that alone uses the node's value, and its other term, of the same shape."""
    user = _only_user(node)
    methods = user is not None and user.op == "call_method" and user.target in ("add", "add_")
    if user is None or not (user.target in _SUMS or methods) or user.kwargs or len(user.args) != 2:
        return None, None
    other = user.args[1] if user.args[0] is node else user.args[0]
    if not isinstance(other, fx.Node) or other is node or _meta(other) != _meta(node):
        return None, None
    return user, other


def _sum_in_place(graph: fx.Graph, maker: _Maker) -> None:
    """Let a sum overwrite its other term: a layer's output that is read nowhere else by then."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        layer = maker.layers.get(node.target)
        if isinstance(layer, FoldedConvolution) and len(node.args) == 2:
            other = node.args[1]
            ours = all(user.target in maker.layers for user in other.users)
            last = max(order[user] for user in other.users) == order[node]
            apart = node.args[0] is not other
            layer.in_place = other.target in maker.layers and ours and last and apart


def _take_out_silent(graph: fx.Graph, maker: _Maker) -> None:
    """Identity and inactive dropout return what they are given."""
    for node in list(graph.nodes):
        silent = type(maker.module(node)) in _SILENT
        dropout = node.target in _DROPOUTS and _argument(node, "training") is False
        if silent or dropout:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _refuse_shared_changes(graph: fx.Graph, maker: _Maker) -> None:
    """Calls may be moved only where no value is changed that another call still reads."""
    for node in graph.nodes:
        if _changes_input(node, maker):
            changed = node.args[0]
            alone = isinstance(changed, fx.Node) and len(changed.users) == 1
            if not alone or not (_is_fresh(changed, maker) or _changes_input(changed, maker)):
                raise NotFoldableError(f"{node} changes a value in place that may be used again")


def _changes_input(node: fx.Node, maker: _Maker) -> bool:
    if node.op == "call_module":
        return bool(getattr(maker.module(node), "inplace", False))
    if node.op not in ("call_method", "call_function"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if (name.endswith("_") and not name.endswith("__")) or name == "setitem":
        return True
    in_place = getattr(node.target, "__module__", "") == "_operator" and name.startswith("i")
    if in_place and name[1:] in ("add", "sub", "mul", "truediv", "pow", "matmul"):
        return True
    return bool(_argument(node, "inplace")) or "out" in node.kwargs


def _is_fresh(node: fx.Node, maker: _Maker) -> bool:
    """Whether a node's value is surely no view of another one."""
    kinds = (*_CONVOLUTIONS, *_NORMS, nn.Linear)
    return type(maker.module(node)) in kinds or node.target in _FRESH


def _argument(node: fx.Node, name: str) -> Any:
    """An argument of a Python function by name, its default where it isn't given."""
    if node.op != "call_function" or not callable(node.target):
        return None
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # builtin functions have no signature
        return node.kwargs.get(name)
    bound.apply_defaults()
    return bound.arguments.get(name)


def _meta(node: Any) -> tuple[Any, Any]:
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return getattr(meta, "shape", None), getattr(meta, "dtype", None)


def _shape(node: Any) -> tuple[int, ...] | None:
    shape = _meta(node)[0]
    return None if shape is None else tuple(shape)
