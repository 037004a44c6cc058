"""Perturbations and directions whose numbers are known without this toolkit: for `landscape check`.

Every function yields quantities, as in `known_answers`.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from landscape.adversarial import aace_loss
from landscape.consistency import measure_consistency
from landscape.directions import consistency_of
from landscape.displacements import displacement
from landscape.formulas import Quantity, largest_error, mean_output
from landscape.objectives import Objective
from landscape.optimizers import SAM
from landscape.perturbations import (
    Perturbation,
    aace,
    asam,
    friendly_sam,
    gsam,
    le_sam,
    sam,
    usam,
    vasso,
)
from landscape.results import Consistency

_SLOPES = np.array([3.0, 4.0])  # L(w) = (3 w₁² + 4 w₂²) / 2


def aace_identities() -> Iterator[Quantity]:
    """Case 1: softplus of the log-odds margin, its derivatives, thresholds, large gaps."""
    rng = np.random.default_rng(1)
    logits, targets = 3 * rng.standard_normal((8, 5)), rng.integers(5, size=8)
    p, true = _softmax(logits), np.eye(5)[targets]
    p_t = (p * true).sum(1)
    q = p * (1 - true) / (1 - p_t)[:, None]
    divergence = np.where(true == 1, 0, q * np.log(np.where(true == 1, 1, q) / p)).sum(1)
    value, gradient = _aace(logits, targets)
    yield largest_error("value against the detached-target divergence", divergence, value)
    yield largest_error("gradient against p_t (e_t - q)", p_t[:, None] * (true - q), gradient)
    odds = p_t / (1 - p_t)
    yield largest_error(
        "gradient against -odds times that of CE", -odds[:, None] * (p - true), gradient
    )
    a = np.minimum(p_t, 0.3)
    value, gradient = _aace(logits, targets, threshold=0.3)
    yield largest_error("value at threshold 0.3", divergence + a * np.log(a / p_t), value)
    scale = p_t - a * (1 - p_t)
    yield largest_error("gradient at threshold 0.3", scale[:, None] * (true - q), gradient)
    target = torch.tensor(targets[:1])
    curvature = torch.autograd.functional.hessian(
        lambda z: aace_loss(z[None], target), torch.tensor(logits[0])
    )
    u, q, p_t = true[0] - q[0], q[0], p_t[0]
    exact = p_t * (1 - p_t) * np.outer(u, u) - p_t * (np.diag(q) - np.outer(q, q))
    yield largest_error("Hessian in the logits", exact, curvature.numpy())
    uniform = aace_loss(torch.zeros(1, 10, dtype=torch.float64), torch.tensor([3])).item()
    yield Quantity("value at ten equal logits, -log(1 - 1/10)", math.log(10 / 9), uniform, 1e-12)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        value, gradient = _aace([[200.0, 0, 0]], [0], dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        yield Quantity(f"value at a gap of 200 in {name}", 200 - math.log(2), float(value[0]), 1e-4)
        yield largest_error(
            f"gradient at a gap of 200 in {name}", [[1, -0.5, -0.5]], gradient, 1e-6
        )


def perturbations_of_one_sample() -> Iterator[Quantity]:
    """Case 2: for one sample, normalized AACE and SAM are one displacement."""
    rng = np.random.default_rng(2)
    x, weights = rng.standard_normal((1, 4)), rng.standard_normal((3, 4))
    model = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    model.weight.data = torch.tensor(weights)
    p = _softmax(x @ weights.T)[0]
    slope = np.outer(p - np.eye(3)[1], x).ravel()
    moved = {}
    for perturbation in (sam(0.05), aace(0.05, normalize=True), usam(0.2), aace(0.2)):
        objective = Objective(model, perturbation.loss, (x, np.array([1])))
        move = displacement(perturbation, objective.gradient(), objective.theta)
        moved[perturbation.label] = move.numpy()
    climb, odds = slope / np.linalg.norm(slope), p[1] / (1 - p[1])
    expected = (0.05 * climb, 0.05 * climb, 0.2 * slope, 0.2 * odds * slope)
    for (label, got), exact in zip(moved.items(), expected, strict=True):
        yield largest_error(f"{label}, displacement", exact, got)
    usam_norm, aace_norm = (np.linalg.norm(list(moved.values())[i]) for i in (2, 3))
    ratio = float(aace_norm / usam_norm)
    yield Quantity("AACE over USAM, norms: odds", float(odds), ratio, 1e-12)


def family_steps() -> Iterator[Quantity]:
    """Case 23: three steps of each method on a quadratic of two parameters, by its formula."""
    for perturbation, follow in (
        (sam(0.5), lambda g, w, m: (0.5 * _unit(g), m)),
        (usam(0.1), lambda g, w, m: (0.1 * g, m)),
        (asam(0.5, eta=0.25), _asam_step),
        (vasso(0.5, theta=0.75), _vasso_step),
        (friendly_sam(0.5, sigma=0.5, decay=0.75), _friendly_step),
        (le_sam(0.5, 0.125), lambda g, w, m: (min(0.5 / np.linalg.norm(g), 0.125) * _unit(g), m)),
        (gsam(0.5, rho_min=0.25, alpha=0.5), lambda g, w, m: (0.5 * _unit(g), m)),
        (replace(sam(0.5), ascent_steps=2), _two_steps),
    ):
        weights, memory = np.array([1.0, -2.0]), None
        rate, moves, got = 0.125, [], _optimized(perturbation)
        for step in range(3):
            before = _SLOPES * weights
            move, memory = follow(before, weights, memory)
            if perturbation.alpha:  # the learning rate halves at each step, and with it ρ − ρ_min
                move = move * (0.25 + 0.25 * 0.5**step) / 0.5
            after = _SLOPES * (weights + move)
            across = before - (before @ after) / (after @ after) * after
            weights = weights - rate * 0.5**step * (after - perturbation.alpha * across)
            moves.append(np.concatenate([move, weights]))
        name = f"{perturbation.label}, displacements and weights of three steps"
        yield largest_error(name, np.stack(moves), got)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _asam_step(g: np.ndarray, w: np.ndarray, m: Any) -> tuple[np.ndarray, Any]:
    """T = |w| + η on the first parameter, which is named weight, and 1 on the second."""
    metric = np.array([abs(w[0]) + 0.25, 1.0])
    return 0.5 * metric * _unit(metric * g), m


def _vasso_step(g: np.ndarray, w: np.ndarray, m: Any) -> tuple[np.ndarray, Any]:
    mean = g if m is None else 0.25 * m + 0.75 * g
    return 0.5 * _unit(mean), mean


def _friendly_step(g: np.ndarray, w: np.ndarray, m: Any) -> tuple[np.ndarray, Any]:
    if m is None:
        return 0.5 * _unit(g), g
    return 0.5 * _unit(g - 0.5 * m), 0.75 * m + 0.25 * g


def _two_steps(g: np.ndarray, w: np.ndarray, m: Any) -> tuple[np.ndarray, Any]:
    first = 0.25 * _unit(g)
    return first + 0.25 * _unit(_SLOPES * (w + first)), m


def _optimized(perturbation: Perturbation) -> np.ndarray:
    """Displacement and weights [step, 4] of three updates by `SAM`, the learning rate halving."""
    params = [nn.Parameter(torch.tensor(w, dtype=torch.float64)) for w in (1.0, -2.0)]
    named = list(zip(("weight", "bias"), params, strict=True))
    optimizer = SAM(named, torch.optim.SGD, perturbation=perturbation, lr=0.125)

    def closure() -> None:
        (3 * params[0] ** 2 / 2 + 4 * params[1] ** 2 / 2).backward()

    rows = []
    for _ in range(3):
        optimizer.step(closure)
        optimizer.param_groups[0]["lr"] /= 2
        moves = optimizer.displacement or []
        rows.append([float(x) for x in (*moves, *(p.detach() for p in params))])
    return np.array(rows)


def direction_agreement() -> Iterator[Quantity]:
    """Case 17: mean cosine of a common direction under isotropic noise, and without one."""
    rng = np.random.default_rng(17)
    count, size = 200, 2000
    mean = np.zeros(size)
    mean[0] = math.sqrt(size)
    for snr in (0.1, 1.0, 10.0):
        vectors = math.sqrt(snr) * mean + rng.standard_normal((count, size))
        got = _agreement(vectors)
        name = f"mean cosine at SNR {snr:g}, SNR / (1 + SNR)"
        yield Quantity(name, snr / (1 + snr), got.mean_cosine, 0.01)
    simplex = _agreement(np.eye(count) - 1 / count)
    yield Quantity("vectors that add up to 0, -1/(n-1)", -1 / 199, simplex.mean_cosine, 1e-12)
    random = _agreement(rng.standard_normal((count, size)))
    length = random.resultant_length
    yield Quantity("resultant length at random, 1/√n", 1 / math.sqrt(count), length, 0.01)
    absolute = np.abs(random.cosines[np.triu_indices(count, 1)]).mean()
    exact = math.sqrt(2 / (math.pi * size))
    yield Quantity("mean |cosine| at random, √(2 / πd)", exact, float(absolute), 0.02 * exact)

    noise = rng.standard_normal((1000, size))
    samples = math.sqrt(0.1) * mean + noise - noise.mean(0)
    model = nn.Linear(size, 1, bias=False, dtype=torch.float64)
    objective = Objective(model, mean_output, (samples, np.zeros(1000)))
    frozen = measure_consistency(objective, usam(1.0), batches=64, batch_size=10, seed=0)
    variance = samples.var(0).sum()
    snr = 10 * float(samples.mean(0) @ samples.mean(0) / variance)
    yield Quantity("frozen protocol, 10 samples a batch", snr / (1 + snr), frozen.mean_cosine, 0.02)
    rise = float((frozen.loss_rise / frozen.norms**2).mean())
    yield Quantity("rise of a linear loss over ‖ε‖² at ρ = 1", 1, rise, 1e-9)
    slope = float(frozen.cosine_gradient.mean())
    yield Quantity("cosine of USAM to the gradient", 1, slope, 1e-12)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def _aace(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    threshold: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Return losses [sample] and their gradients [sample, class]."""
    z = torch.tensor(logits, dtype=dtype, requires_grad=True)
    losses = aace_loss(z, torch.tensor(targets), reduction="none", threshold=threshold)
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    return losses.detach().double().numpy(), gradient.double().numpy()


def _agreement(vectors: np.ndarray) -> Consistency:
    steps = np.zeros(len(vectors), int)
    return consistency_of(vectors, step=steps, protocol="frozen", perturbation="", seed=0)
