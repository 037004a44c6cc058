"""Changes of the weights that leave the function as it is, to ask which measures move.

Factors are powers of two, so that products are rounded as before and the function is the same to
the last bits. Each change is held to the model's outputs before it counts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from landscape.objectives import Objective

NEURONS = "per-neuron ReLU rescaling"
NORMS = "weights before BatchNorm × ½"

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What commutes with a positive factor on a channel.
_MODULES = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Flatten),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_WORDS = {
    *("relu", "relu_", "leaky_relu", "dropout", "flatten", "view", "reshape", "mean", "squeeze"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("boolean_dispatch", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    "contiguous",
}
_SHAPES = {"size", "dim", "getattr"}  # users that look at the shape only
_EXPONENTS = (-2, -1, 1, 2)
_SHRINK = 0.5
_EPS_SLACK = 1e-2  # batch statistics adapt up to BatchNorm's eps


@dataclass(frozen=True, kw_only=True)
class Rescaling:
    """A change of the weights, made and checked."""

    name: str
    objective: Objective | None
    """The same loss at the changed weights; None where the change does not apply."""
    note: str
    """What was changed and how far outputs moved, or why it does not apply."""


def rescalings(objective: Objective, *, seed: int) -> Iterator[Rescaling]:
    """Make the changes that apply to a model and leave its outputs on the data as they are.

    - Per-neuron rescaling: a neuron or channel is multiplied by a positive factor, and what the
      next layer reads from it is divided by it. It needs a rectifier, or nothing, between them.
    - The weights before a BatchNorm are halved; running statistics follow, those of batches adapt
      up to eps.

    Args:
        objective: The loss; its `theta` and buffers are left as they are.
        seed: Seed of the factors.

    Source: Dinh et al. 2017, section 3; van Laarhoven 2017, section 2.
    """
    before = _outputs(objective)
    try:
        nodes = list(fx.Tracer().trace(objective.model).nodes)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the user's code does with what isn't a tensor
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        for name in (NEURONS, NORMS):
            yield Rescaling(name=name, objective=None, note=f"the model can't be traced: {reason}")
        return
    yield _rescale_neurons(_Changes(objective, nodes), before, seed)
    yield _rescale_norms(_Changes(objective, nodes), before)


class _Changes:
    """Parameters and buffers by name, to be changed in place, and what calls them."""

    def __init__(self, objective: Objective, nodes: list[fx.Node]) -> None:
        self.origin, self.nodes = objective, nodes
        self.theta = objective.theta.clone()
        layout = objective.layout
        self.parts = {e.name: self.theta[e.slice].view(e.shape) for e in layout}
        values = objective.parameters(objective.theta)
        self.buffers = {
            name: values.get(name, buffer).clone()
            for name, buffer in objective.model.named_buffers()
        }
        self._modules = dict(objective.model.named_modules(remove_duplicate=False))

    def module(self, node: fx.Node) -> Any:
        """The module that a node calls, None for other nodes."""
        return self._modules.get(str(node.target)) if node.op == "call_module" else None

    def trainable(self, node: fx.Node) -> list[str]:
        """Names of weight and bias, if all there are can be changed; else none."""
        module = self.module(node)
        leaves = [leaf for leaf in ("weight", "bias") if getattr(module, leaf) is not None]
        names = [f"{node.target}.{leaf}" for leaf in leaves]
        return names if all(name in self.parts for name in names) else []

    def attempt(self, change: Callable[[], None], before: list[Tensor], slack: float) -> bool:
        """Make a change and take it back if it moves the outputs of the first batch."""
        theta = self.theta.clone()
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        change()
        if _moved(self.objective(), before, first=True) <= slack:
            return True
        self.theta.copy_(theta)
        for name, buffer in buffers.items():
            self.buffers[name].copy_(buffer)
        return False

    def objective(self) -> Objective:
        """The loss as the values now are."""
        return self.origin.at(self.theta, self.buffers or None)


def _rescale_neurons(changes: _Changes, before: list[Tensor], seed: int) -> Rescaling:
    generator = torch.Generator().manual_seed(seed)
    slack, layers = _slack(changes), 0
    for node in changes.nodes:
        if type(changes.module(node)) not in (*_LAYERS, *_NORMS):
            continue
        reader, names = _reader(node, changes), changes.trainable(node)
        if reader is None or not names or not changes.trainable(reader):
            continue
        neurons = len(changes.parts[names[0]])
        picks = torch.randint(0, len(_EXPONENTS), (neurons,), generator=generator)
        factors = torch.exp2(torch.tensor(_EXPONENTS)[picks].to(changes.theta))
        scale = partial(_scale_pair, changes, names, reader, factors)
        layers += _columns(changes, reader) % neurons == 0 and changes.attempt(scale, before, slack)
    if not layers:
        return Rescaling(
            name=NEURONS, objective=None, note="no layer that one other reads alone, outputs kept"
        )
    return _checked(NEURONS, changes, before, slack, f"{layers} layers × ¼ … 4")


def _reader(node: fx.Node, changes: _Changes) -> fx.Node | None:
    """The layer that alone reads this one's output, through nothing but rectifiers and pools."""
    following = _only_user(node)
    while following is not None and type(changes.module(following)) not in _LAYERS:
        target = following.target
        word = target if isinstance(target, str) else getattr(target, "__name__", "")
        homogeneous = type(changes.module(following)) in _MODULES or (
            following.op in ("call_function", "call_method") and word in _WORDS
        )
        following = _only_user(following) if homogeneous else None
    return following


def _columns(changes: _Changes, reader: fx.Node) -> int:
    return _groups(changes, reader) * changes.parts[f"{reader.target}.weight"].shape[1]


def _groups(changes: _Changes, reader: fx.Node) -> int:
    return getattr(changes.module(reader), "groups", 1)


def _scale_pair(changes: _Changes, names: list[str], reader: fx.Node, factors: Tensor) -> None:
    """Multiply a layer's rows, divide the columns of the one that reads it."""
    weight, groups = changes.parts[f"{reader.target}.weight"], _groups(changes, reader)
    each = factors.repeat_interleave(_columns(changes, reader) // len(factors))
    rows, columns = weight.shape[:2]
    weight.view(groups, rows // groups, columns, -1).div_(each.view(groups, 1, columns, 1))
    for name in names:
        part = changes.parts[name]
        part.mul_(factors.view(-1, *[1] * (part.ndim - 1)))


def _rescale_norms(changes: _Changes, before: list[Tensor]) -> Rescaling:
    slack = _EPS_SLACK if changes.origin.facts["bn"] == "batch" else _slack(changes)
    layers = 0
    for node in changes.nodes:
        norm = _only_user(node) if type(changes.module(node)) in _LAYERS else None
        if norm is None or type(changes.module(norm)) not in _NORMS:
            continue
        names = changes.trainable(node)
        shrink = partial(_shrink, changes, names, norm)
        layers += bool(names) and changes.attempt(shrink, before, slack)
    if not layers:
        return Rescaling(
            name=NORMS,
            objective=None,
            note="no layer that one BatchNorm follows alone, outputs kept",
        )
    return _checked(NORMS, changes, before, slack, f"{layers} layers")


def _shrink(changes: _Changes, names: list[str], norm: fx.Node) -> None:
    """Halve weights; running statistics move so that the normalized output stays, with eps."""
    for name in names:
        changes.parts[name].mul_(_SHRINK)
    mean, variance = (f"{norm.target}.running_{kind}" for kind in ("mean", "var"))
    if mean in changes.buffers:
        eps = changes.module(norm).eps
        changes.buffers[mean].mul_(_SHRINK)
        changes.buffers[variance].add_(eps).mul_(_SHRINK**2).sub_(eps)


def _checked(
    name: str, changes: _Changes, before: list[Tensor], slack: float, note: str
) -> Rescaling:
    objective = changes.objective()
    moved = _moved(objective, before)
    said = f"{note}; outputs moved by {moved:.1e} of the largest, at most {slack:.1e} allowed"
    kept = moved <= slack
    return Rescaling(name=name, objective=objective if kept else None, note=said)


def _slack(changes: _Changes) -> float:
    return math.sqrt(torch.finfo(changes.theta.dtype).eps)


def _only_user(node: fx.Node) -> fx.Node | None:
    users = [
        user
        for user in node.users
        if (user.target if user.op == "call_method" else getattr(user.target, "__name__", ""))
        not in _SHAPES
    ]
    return users[0] if len(users) == 1 else None


def _outputs(objective: Objective, *, first: bool = False) -> list[Tensor]:
    """The output of each batch, or of the first alone; its loss where that is no tensor."""
    values, found = objective.parameters(objective.theta), []
    with torch.inference_mode():
        for inputs, targets in objective.batches[:1] if first else objective.batches:
            loss, output = objective.batch_loss(values, inputs, targets)
            found.append(output if isinstance(output, Tensor) else loss)
    return found


def _moved(objective: Objective, before: list[Tensor], *, first: bool = False) -> float:
    """Largest change of an output, relative to the largest output; NaN if one is not finite."""
    after = _outputs(objective, first=first)
    pairs = list(zip(before, after, strict=False))
    largest = max(float(x.abs().max()) for x, _ in pairs)
    changes = torch.tensor([float((y - x).abs().max()) for x, y in pairs])
    return float(changes.max()) / largest if largest else math.nan
