"""Operators, traces and dynamics whose numbers are known without this toolkit: for `check`."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from landscape.edges import edge_of_stability
from landscape.formulas import Quantity, formula_objective, largest_error
from landscape.gauss_newton import gauss_newton, gradient_moment
from landscape.objectives import Objective
from landscape.operators import Operator, hessian
from landscape.perturbations import Perturbation, sam, usam
from landscape.stability import measure_stability
from landscape.traces import estimate_trace
from landscape.updates import Update


def generalized_linear_model() -> Iterator[Quantity]:
    """Case 6: of softmax regression, Hessian, Gauss-Newton and Fisher matrix are one."""
    rng = np.random.default_rng(6)
    features, labels, weights = (
        rng.standard_normal((33, 4)),
        rng.integers(3, size=33),
        rng.standard_normal((3, 4)),
    )
    model = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    model.weight.data = torch.tensor(weights)
    objective = Objective(model, nn.CrossEntropyLoss(), (features, labels), batch_size=32)
    logits = features @ weights.T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    blocks = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)
    exact = np.einsum("ncd,ni,nj->cidj", blocks, features, features).reshape(12, 12) / 33
    slopes = np.einsum("nc,ni->nci", p - np.eye(3)[labels], features).reshape(33, 12)
    yield largest_error("Hessian, 32 + 1 samples", exact, _dense(hessian(objective)))
    yield largest_error("Gauss-Newton, 32 + 1 samples", exact, _dense(gauss_newton(objective)))
    moment = _dense(gradient_moment(objective))
    yield largest_error("second moment of gradients", slopes.T @ slopes / 33, moment)


def _dense(operator: Operator) -> np.ndarray:
    """The matrix of an operator, column by column."""
    columns = [operator(unit) for unit in torch.eye(operator.size, dtype=torch.float64)]
    return torch.stack(columns, 1).numpy()


def edges() -> Iterator[Quantity]:
    """Case 10: at the edge a step turns a deviation over, neither larger nor smaller."""
    for name, update, known in (
        ("gradient descent", Update(learning_rate=0.1), 20.0),
        ("heavy ball, 0.9", Update(learning_rate=0.1, momentum=0.9), 38.0),
        ("Nesterov, 0.9", Update(learning_rate=0.1, momentum=0.9, nesterov=True), 38 / 2.8),
    ):
        edge = edge_of_stability(update, full_batch=True).value
        yield Quantity(f"edge of {name}", known, edge, 1e-9)
        yield Quantity(f"multiplier at it, {name}", 1, _multiplier(update, edge), 1e-6)
    yield from _edge_of("USAM", usam(0.05), 0.0, (math.sqrt(5.0) - 1) / 0.1)
    yield from _edge_of("USAM", usam(0.05), 0.9, (math.sqrt(8.6) - 1) / 0.1)
    yield from _edge_of("SAM", sam(0.05), 0.9, (math.sqrt(4.8) - 1) * 20)


def _edge_of(name: str, made: Perturbation, momentum: float, expected: float) -> Iterator[Quantity]:
    update = Update(learning_rate=0.1, momentum=momentum, perturbation=made)
    edge = edge_of_stability(update, 2.0, full_batch=True).value
    told = f"{name}, {momentum:g}"
    yield Quantity(f"edge of {told}", expected, edge, 1e-5)
    yield Quantity(f"multiplier at it, {told}", 1, _multiplier(update, edge), 1e-6)


def _multiplier(update: Update, curvature: float) -> float:
    """Of ½ λ x² + ½ y² at (0, 2), where the gradient has length 2 and stands across x."""
    objective = formula_objective(lambda w: (curvature * w[0] ** 2 + w[1] ** 2) / 2, [0.0, 2.0])
    return measure_stability(objective, update, tolerance=1e-9, seed=0).multiplier


def random_probes() -> Iterator[Quantity]:
    """Case 15: Hutchinson's variance, and traces that probes give exactly."""
    drawn = np.random.default_rng(15).standard_normal((20, 20))
    matrix = (drawn + drawn.T) / 2 + 3 * np.eye(20)
    A = torch.tensor(matrix)
    objective = formula_objective(lambda w: w @ A @ w / 2, np.zeros(20))
    found = estimate_trace(objective, probes=1000, seed=0)
    exact = 2 * ((matrix**2).sum() - (np.diag(matrix) ** 2).sum())
    yield Quantity("variance of a probe", float(exact), 1000 * found.standard_error**2, 0.1 * exact)
    error = 4 * found.standard_error
    yield Quantity("trace, 1000 probes", float(np.trace(matrix)), found.trace, error)
    norm = float(np.linalg.norm(matrix))
    yield Quantity("Frobenius norm", norm, found.frobenius, 4 * found.frobenius_error)
    diagonal = torch.arange(20.0, dtype=torch.float64)
    objective = formula_objective(lambda w: (diagonal * w**2).sum() / 2, np.zeros(20))
    yield Quantity(
        "diagonal, 1 probe", 190, estimate_trace(objective, probes=1, seed=0).trace, 1e-9
    )
    low = torch.tensor(drawn[:, :3] @ drawn[:, :3].T)
    objective = formula_objective(lambda w: w @ low @ w / 2, np.zeros(20))
    found = estimate_trace(objective, probes=9, method="hutch++", seed=0)
    yield Quantity("rank 3, Hutch++ of 9 products", float(torch.trace(low)), found.trace, 1e-9)


def homogeneous_net() -> Iterator[Quantity]:
    """Case 20: of a ReLU net without biases, <∇ℓ, w> = K <∂ℓ/∂f, f>."""
    torch.manual_seed(20)
    layers = [nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 6, bias=False), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(6, 3, bias=False)).double()
    generator = torch.Generator().manual_seed(20)
    inputs = torch.randn(33, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (33,), generator=generator)
    objective = Objective(model, nn.CrossEntropyLoss(), (inputs, labels))
    outputs = model(inputs).detach().numpy()
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    exact = 3 * ((p - np.eye(3)[labels.numpy()]) * outputs).sum(1).mean()
    slope = float(objective.gradient() @ objective.theta)
    yield Quantity("<gradient, weights>, 3 layers", float(exact), slope, 1e-12)


def finite_differences() -> Iterator[Quantity]:
    """Case 24: products of the Hessian are central differences of gradients."""
    torch.manual_seed(24)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    generator = torch.Generator().manual_seed(24)
    inputs = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    objective = Objective(
        model, nn.CrossEntropyLoss(), (inputs, torch.randint(3, (20,), generator=generator))
    )
    v = torch.randn(objective.theta.shape, generator=generator, dtype=torch.float64)
    step = 1e-4 * v
    ends = [objective.gradient(objective.theta + sign * step) for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / 2e-4
    error = float((hessian(objective)(v) - difference).norm() / difference.norm())
    yield Quantity("relative difference", 0, error, 1e-6)
