"""Positive semi-definite relatives of the Hessian: Gauss-Newton, and the gradients' second moment.

Both are sums over batches of Jᵀ M J with J the Jacobian of a vector y(theta): the model's outputs,
with M the Hessian of the loss in them; or the losses of the samples, with M the identity over their
number. J v is taken by forward mode in the pass that the vector-Jacobian product needs anyway, so
a product costs one forward pass with tangents and one backward pass, and no per-sample gradient is
ever stored.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor

from landscape.objectives import Objective
from landscape.operators import Operator
from landscape.output_losses import LOOK, curvature_of, loss_product, sample_losses
from landscape.parts import part_of
from landscape.ranks import Ranks, shared

FORWARD = "forward mode"
BACKWARD = "double backward"

Parameters = dict[str, Tensor]


def gauss_newton(
    objective: Objective, *, parameters: str = "", ranks: Ranks | None = None
) -> Operator:
    """The generalized Gauss-Newton matrix Σ_b share_b J_bᵀ (∂²ℓ_b/∂f²) J_b at `objective.theta`.

    J_b is the Jacobian of the model's output f on batch b. The matrix is positive semi-definite for
    a loss that is convex in the output, equals the Hessian where the output is linear in theta or
    the residuals vanish, and for cross-entropy of logits is the Fisher information of the model's
    own distribution: `facts["operator"]` then says so, having compared with diag(p) - p pᵀ.

    Args:
        objective: The loss as a function of theta; the model's output is one tensor.
        parameters: Patterns by commas: only of these tensors. "" is all.
        ranks: The processes that share the data; this one alone by default.

    Raises:
        ValueError: If the output is no tensor, the loss is linear or not convex in it, a pattern
            matches nothing, or the policy is "recomputed".

    Source: Schraudolph 2002, "Fast curvature matrix-vector products", sections 3 and 4; Martens
        2020, "New insights and perspectives on the natural gradient method", section 9.
    """
    part = part_of(objective, parameters)

    def outputs(values: Parameters, inputs: Tensor, targets: Tensor) -> Tensor:
        return _one_tensor(part.batch_loss(values, inputs, targets)[1])

    def in_outputs(output: Tensor, push: Tensor, targets: Tensor) -> Tensor:
        return loss_product(part.loss_fn, output, targets, push)

    with part.derivatives():
        inputs, targets = (tensor[:LOOK] for tensor in part.batches[0])
        output = outputs(part.parameters(part.theta), inputs, targets).detach()
        curvature = curvature_of(part.loss_fn, output, targets)
    told = "generalized Gauss-Newton"
    if curvature == "Fisher":
        told += " (= Fisher for cross-entropy)"
    return _operator(part, outputs, in_outputs, ranks, {"operator": told})


def gradient_moment(
    objective: Objective, *, parameters: str = "", ranks: Ranks | None = None
) -> Operator:
    """The second moment (1/n) Σ_i g_i g_iᵀ of the samples' gradients, or empirical Fisher.

    g_i is the gradient of sample i's loss, not centered; the true Fisher, for cross-entropy, is
    `gauss_newton`. Losses of samples come from the loss function with reduction="none" where
    that gives them, else from calls with one sample's output at a time:
    `facts["sample_losses"]`. With bn="batch" a sample's loss depends on its batch: g_i is then the
    gradient of ℓ_i with the statistics of that batch, its own part in the other samples' losses
    left out and theirs in its own kept, and `facts["sample_gradients"]` says so.

    Args:
        objective: The loss as a function of theta; the model's output is one tensor.
        parameters: Patterns by commas: only of these tensors. "" is all.
        ranks: The processes that share the data; this one alone by default.

    Raises:
        ValueError: If the output is no tensor [sample, ...], a pattern matches nothing, or the
            policy is "recomputed".

    Source: Kunstner et al. 2019, "Limitations of the empirical Fisher approximation", section 2.
    """
    part = part_of(objective, parameters)
    with part.derivatives():
        inputs, targets = (tensor[:LOOK] for tensor in part.batches[0])
        _, output = part.batch_loss(part.parameters(part.theta), inputs, targets)
        losses_of, how = sample_losses(part.loss_fn, _one_tensor(output).detach(), targets)

    def losses(values: Parameters, inputs: Tensor, targets: Tensor) -> Tensor:
        return losses_of(part.batch_loss(values, inputs, targets)[1], targets)

    def mean(losses: Tensor, push: Tensor, targets: Tensor) -> Tensor:
        return push / len(losses)

    facts = {"operator": "gradient second moment (empirical Fisher)", "sample_losses": how}
    if "partition" in part.facts and part.facts["bn"] == "batch":
        facts["sample_gradients"] = "of each sample's loss under its batch's statistics"
    return _operator(part, losses, mean, ranks, facts)


def _operator(
    part: Objective,
    vector: Callable[[Parameters, Tensor, Tensor], Tensor],
    middle: Callable[[Tensor, Tensor, Tensor], Tensor],
    ranks: Ranks | None,
    facts: dict[str, str],
) -> Operator:
    chosen = (ranks or Ranks()).share(len(part.batches))
    product = _Product(part, vector, middle, chosen, mode=FORWARD)
    if not product.is_right():
        product = _Product(part, vector, middle, chosen, mode=BACKWARD)
    operator = Operator(
        product=product,
        origin=part.theta,
        layout=part.layout,
        facts={**part.facts, **facts, "product": product.mode},
    )
    return shared(operator, ranks)


@dataclass(frozen=True, kw_only=True)
class _Pushed:
    """A vector y(theta) with its graph, and J v."""

    theta: Tensor
    vector: Tensor
    push: Tensor


@dataclass(frozen=True)
class _Product:
    """`v -> Σ_b share_b J_bᵀ M_b J_b v` over some batches."""

    objective: Objective
    vector: Callable[[Parameters, Tensor, Tensor], Tensor]  # y(theta) on a batch
    middle: Callable[[Tensor, Tensor, Tensor], Tensor]  # (y, u, targets) -> M u
    batches: range  # those summed over
    mode: str  # how J v is taken

    def __call__(self, v: Tensor) -> Tensor:
        """The product [param]."""
        objective = self.objective
        with objective.derivatives():
            v = _own(v, objective.theta)
            total, shares = torch.zeros_like(v), objective.shares
            for i in self.batches:
                pushed = self._pushed(v, i)
                weights = self.middle(
                    pushed.vector.detach(), pushed.push, objective.batches[i][1]
                ).to(pushed.vector)
                (part,) = torch.autograd.grad(pushed.vector, pushed.theta, weights)
                total.add_(part, alpha=shares[i])
        return total

    def is_right(self) -> bool:
        """Whether <u, J v> = <Jᵀ u, v> for random u and v on one batch.

        Forward mode may lack an operation, and sees through no_grad() where backward stops.
        """
        objective = self.objective
        generator = torch.Generator().manual_seed(0)
        with objective.derivatives():
            v = _like(objective.theta, generator)
            try:
                pushed = self._pushed(v, 0)
            except ValueError as error:  # from the guards around model and loss
                if isinstance(error.__cause__, NotImplementedError):
                    return False
                raise
            u = _like(pushed.vector, generator)
            (pulled,) = torch.autograd.grad(pushed.vector, pushed.theta, u)
        left, right = float((u * pushed.push).sum()), float((pulled * v).sum())
        scale = float(u.norm() * pushed.push.norm() + pulled.norm() * v.norm())
        return abs(left - right) <= torch.finfo(v.dtype).eps ** 0.5 * scale

    def _pushed(self, v: Tensor, i: int) -> _Pushed:
        theta = self.objective.theta.detach().clone().requires_grad_()
        if self.mode == BACKWARD:
            vector = self._evaluate(theta, i)
            dummy = torch.zeros_like(vector, requires_grad=True)
            (pulled,) = torch.autograd.grad(vector, theta, dummy, create_graph=True)
            (push,) = torch.autograd.grad(pulled, dummy, v)
            return _Pushed(theta=theta, vector=vector, push=push)
        _prepare_forward_mode()
        with forward_mode.dual_level():
            dual = self._evaluate(forward_mode.make_dual(theta, v), i)
            vector, push = forward_mode.unpack_dual(dual)
            push = torch.zeros_like(vector) if push is None else push
        return _Pushed(theta=theta, vector=vector, push=push.detach())

    def _evaluate(self, theta: Tensor, i: int) -> Tensor:
        vector = self.vector(self.objective.parameters(theta), *self.objective.batches[i])
        if not vector.requires_grad:
            raise ValueError(
                "the model's output must depend on the trainable parameters, got a constant; look "
                "for detach(), no_grad() or argmax in the model"
            )
        return vector


@cache
def _prepare_forward_mode() -> None:
    """Let torch load what it differentiates with, which warns of its own use of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with forward_mode.dual_level():
            forward_mode.make_dual(torch.zeros(1), torch.zeros(1))


def _own(v: Tensor, like: Tensor) -> Tensor:
    if v.shape != like.shape:
        raise ValueError(
            f"the vector must have the layout of theta, {tuple(like.shape)}, "
            f"got shape {tuple(v.shape)}"
        )
    return v.detach().to(like).clone()


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return draw.to(tensor.device, tensor.dtype)


def _one_tensor(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise ValueError(
        f"the model's output must be one tensor, got a {type(output).__name__}; give a model that "
        "returns the logits, as landscape.adapters.adapt makes"
    )
