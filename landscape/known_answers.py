"""Curvature and surfaces whose numbers are known without this toolkit: for `landscape check`.

Every function yields quantities: the value expected, from a closed form or from numpy alone, and
the value that the toolkit's public functions give.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from landscape.connectivity import measure_barrier
from landscape.curves import measure_curve
from landscape.densities import estimate_density
from landscape.displacements import displacement
from landscape.formulas import (
    QuadraticOfLayer,
    Quantity,
    formula_objective,
    largest_error,
    mean_output,
)
from landscape.modules import Weights
from landscape.objectives import Objective
from landscape.perturbations import sam
from landscape.planes import Plane, random_plane
from landscape.spectra import find_eigenpairs
from landscape.surfaces import measure_profile, measure_surface

_RHO = 0.3  # radius of case 9


def linear_regression() -> Iterator[Quantity]:
    """Case 4: mean squared error has H = 2 X'X / n, however the data are split."""
    samples, size = 1600, 400
    features = np.random.default_rng(4).standard_normal((samples, size))
    inputs, targets = torch.tensor(features), torch.zeros(samples, 1, dtype=torch.float64)
    batches = [(inputs[:-1], targets[:-1]), (inputs[-1:], targets[-1:])]
    model = nn.Linear(size, 1, bias=False, dtype=torch.float64)
    objective = Objective(model, nn.MSELoss(), batches)
    spectrum = find_eigenpairs(objective, k=2, which="BE", tolerance=1e-5, seed=0)
    exact = 2 * np.linalg.eigvalsh(features.T @ features / samples)
    top, bottom = spectrum.eigenvalues
    yield Quantity("largest eigenvalue, 1599 + 1 samples", float(exact[-1]), float(top), 1e-7)
    yield Quantity("smallest eigenvalue, 1599 + 1 samples", float(exact[0]), float(bottom), 1e-7)
    upper, lower = (2 * (1 + sign * math.sqrt(size / samples)) ** 2 for sign in (1, -1))
    yield Quantity("Marchenko-Pastur upper edge", upper, float(top), 0.1)
    yield Quantity("Marchenko-Pastur lower edge", lower, float(bottom), 0.05)


def softmax_regression() -> Iterator[Quantity]:
    """Case 5: at zero weights every eigenvalue of X'X / n comes C - 1 times, divided by C."""
    rng = np.random.default_rng(5)
    features, labels, count = rng.standard_normal((60, 6)), rng.integers(5, size=60), 5
    model = nn.Linear(6, count, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    objective = Objective(model, nn.CrossEntropyLoss(), (features, labels))
    covariance = np.linalg.eigvalsh(features.T @ features / 60)
    top = find_eigenpairs(objective, k=count - 1, which="LM", tolerance=1e-6, seed=0)
    for index, value in enumerate(top.eigenvalues, start=1):
        name = f"largest eigenvalue, copy {index} of {count - 1}"
        yield Quantity(name, float(covariance[-1] / count), float(value), 1e-9)
    spectrum = find_eigenpairs(objective, k=30, which="LA", tolerance=1e-6, seed=0).eigenvalues
    trace = float(covariance.sum() * (count - 1) / count)
    yield Quantity("sum of all 30: tr(X'X / n) (C - 1) / C", trace, float(spectrum.sum()), 1e-9)
    yield Quantity("eigenvalues 0", 6, float((np.abs(spectrum) < 1e-9).sum()), 0)


def deep_scalar_net() -> Iterator[Quantity]:
    """Case 7: (Π w − 1)² / 2 at a product of 1."""
    for weights in ([1.0, 1.0, 1.0, 1.0], [2.0, 0.5, 4.0, 0.25]):
        objective = formula_objective(lambda w: (w.prod() - 1) ** 2 / 2, weights)
        found = find_eigenpairs(objective, k=4, tolerance=1e-9, seed=0).eigenvalues
        exact = sum(1 / w**2 for w in weights)
        yield Quantity(f"largest eigenvalue at {weights}", exact, float(found[0]), 1e-9)
        yield Quantity(f"largest other at {weights}", 0, float(np.abs(found[1:]).max()), 1e-9)


def rosenbrock() -> Iterator[Quantity]:
    """Case 8: (1 − x)² + 100 (y − x²)²."""
    objective = formula_objective(
        lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, [1.0, 1.0]
    )
    found = find_eigenpairs(objective, k=2, which="LA", tolerance=1e-9, seed=0).eigenvalues
    middle, half = 501, math.sqrt(501**2 - 400)
    yield Quantity("largest eigenvalue at (1, 1)", middle + half, float(found[0]), 1e-6)
    yield Quantity("smallest eigenvalue at (1, 1)", middle - half, float(found[1]), 1e-6)
    yield Quantity("trace at (1, 1)", 1002, float(found.sum()), 1e-6)
    yield Quantity("determinant at (1, 1)", 400, float(found.prod()), 1e-3)
    yield Quantity("value at (-1.2, 1)", 24.2, objective(np.array([-1.2, 1.0])), 1e-9)


def quadratic_sharpness() -> Iterator[Quantity]:
    """Case 9: ½ wᵀA w: its surface, and sharpness of every kind in closed form."""
    rng = np.random.default_rng(9)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    matrix = basis.T * np.array([9.0, 4.0, 2.0, 1.0, 0.5, 0.1]) @ basis
    A = torch.tensor(matrix)
    objective = formula_objective(lambda w: w @ A @ w / 2, np.zeros(6))
    directions = rng.standard_normal((2, 6))
    plane = Plane(objective.theta, torch.tensor(directions))
    surface = measure_surface(objective, plane, extent=(-1, 1, -2, 3), points=(5, 4))
    points = np.stack(np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-2, 3, 4), indexing="ij"), -1)
    exact = np.einsum("abi,ij,abj->ab", points @ directions, matrix, points @ directions) / 2
    yield largest_error("surface on a 5 x 4 grid", exact, surface.loss)
    yield from _worst_case(objective, matrix)
    yield from _averages_by_points(objective, matrix, rng)
    yield from _averages_by_quadrature(np.array([5.0, 3.0, -2.0, 0.5]))


def _worst_case(objective: Objective, matrix: np.ndarray) -> Iterator[Quantity]:
    """Sharpness from eigenpairs of a quadratic whose largest eigenvalue is 9."""
    spectrum = find_eigenpairs(objective, k=6, which="LA", tolerance=1e-9, seed=0)
    assert spectrum.eigenvectors is not None
    sharpest = torch.tensor(spectrum.eigenvectors[0], dtype=torch.float64)
    rise = objective(_RHO * sharpest) - objective()
    yield Quantity("worst case within ρ, ½ ρ² λmax", 4.5 * _RHO**2, rise, 1e-6)
    ascent = displacement(sam(_RHO), objective.gradient(sharpest), sharpest)
    climbed, exact = objective(sharpest + ascent), 4.5 * (1 + _RHO) ** 2
    yield Quantity("after SAM's step from v₁, ½ λmax (1 + ρ)²", exact, climbed, 1e-5)
    entropy = 0.5 * float(np.log(spectrum.eigenvalues + 2).sum())
    exact = 0.5 * float(np.linalg.slogdet(matrix + 2 * np.eye(6))[1])
    yield Quantity("local entropy, ½ log det (A + 2 I)", exact, entropy, 1e-9)


def _averages_by_points(
    objective: Objective, matrix: np.ndarray, rng: np.random.Generator
) -> Iterator[Quantity]:
    """Average sharpness from points on any orthogonal axes, which is exact for a quadratic."""
    rises = []
    for row in torch.tensor(np.linalg.qr(rng.standard_normal((6, 6)))[0]):
        plane = Plane(objective.theta, row[None])
        rises.append(measure_profile(objective, plane, extent=_RHO, points=3).loss[0, [0, 2]])
    exact = float(_RHO**2 * np.trace(matrix) / 12)
    yield Quantity("mean on the sphere, ρ² tr A / 2d", exact, float(np.mean(rises)), 1e-12)
    weights = rng.standard_normal(6)
    moves = _RHO * np.diag(weights)
    pairs = [objective(weights + move) + objective(weights - move) for move in moves]
    adaptive = sum(pairs) / 2 - 6 * objective(weights)
    exact = float(0.5 * _RHO**2 * np.diag(matrix) @ weights**2)
    yield Quantity("adaptive average, ½ ρ² Σ A_ii w_i²", exact, adaptive, 1e-12)


def _averages_by_quadrature(values: np.ndarray) -> Iterator[Quantity]:
    """Average sharpness from the moments of a density, exact for a diagonal A and entries ±1."""
    density = estimate_density(_diagonal(values), probes=1, steps=4, seed=0)
    mean, exact = 0.5 * _RHO**2 * density.facts["trace"], 0.5 * _RHO**2 * float(values.sum())
    yield Quantity("Gaussian mean, ½ ρ² tr A", exact, mean, 1e-12)
    squares = len(values) * float((density.weights * density.nodes**2).sum())
    exact = 0.5 * _RHO**4 * float((values**2).sum())
    yield Quantity("its variance, ½ ρ⁴ ‖A‖²", exact, 0.5 * _RHO**4 * squares, 1e-12)


def double_well() -> Iterator[Quantity]:
    """Case 11: (x² − 1)² between its minima ±1."""
    objective = formula_objective(lambda w: (w @ w - 1) ** 2, [0.0])
    barrier = measure_barrier(objective, _named([-1.0], [1.0]))
    yield Quantity("barrier over the mean of the ends", 1, float(barrier.height[0, 1]), 1e-12)
    over_line = float(barrier.height_over_line[0, 1])
    yield Quantity("barrier over the line", 1, over_line, 1e-12)
    yield Quantity("distance", 2, float(barrier.distance[0, 1]), 1e-12)
    for x, exact in ((1.0, 8.0), (-1.0, 8.0), (0.0, -4.0)):
        about = formula_objective(lambda w: (w @ w - 1) ** 2, [x])
        found = find_eigenpairs(about, k=1, tolerance=1e-9, seed=0).eigenvalues
        yield Quantity(f"curvature at {x:g}", exact, float(found[0]), 1e-9)


def ring() -> Iterator[Quantity]:
    """Case 12: (x² + y² − 1)² between its minima (±1, 0)."""
    objective = formula_objective(lambda w: (w @ w - 1) ** 2, [0.0, 0.0])
    minima = _named([-1.0, 0.0], [1.0, 0.0])
    height = float(measure_barrier(objective, minima).height[0, 1])
    yield Quantity("barrier on the straight line", 1, height, 1e-12)
    minimum = formula_objective(lambda w: (w @ w - 1) ** 2, [1.0, 0.0])
    found = find_eigenpairs(minimum, k=2, tolerance=1e-9, seed=0).eigenvalues
    yield Quantity("curvature across the ring", 8, float(found[0]), 1e-9)
    yield Quantity("curvature along the ring", 0, float(found[1]), 1e-9)
    curve = measure_curve(
        objective,
        *minima,
        updates=80,
        learning_rate=1.0,
        momentum=0.5,
        batch_size=0,
        nodes=5,
        seed=0,
        points=301,
    )
    across, up = curve.bend_position[0]
    yield Quantity("best bend, midway between the ends", 1, float(across), 1e-5)
    yield Quantity("best bend, 2 √(9/8) off the line", 2 * math.sqrt(9 / 8), float(up), 1e-5)
    mean, highest = curve.training_loss[-1], curve.facts["max_loss"]
    yield Quantity("mean on the best Bezier curve, 2/105", 2 / 105, float(mean), 1e-9)
    yield Quantity("largest on the best Bezier curve, (2/9)²", 4 / 81, highest, 1e-5)


def lanczos_quadrature() -> Iterator[Quantity]:
    """Case 14: exact for few eigenvalues, exact to degree 2m − 1, and the semicircle."""
    repeated = _diagonal(np.repeat([-1.0, 0.5, 4.0], [2, 5, 13]))
    density = estimate_density(repeated, probes=2, steps=8, seed=0)
    there = np.isfinite(density.nodes)
    yield Quantity("nodes for 3 distinct eigenvalues", 3, float(there.sum() / 2), 0)
    got = np.sort(density.nodes[there])
    yield largest_error("those nodes", np.repeat([-1, 0.5, 4], 2), got)
    got = np.sort(density.weights[there])
    yield largest_error("their weights", np.repeat([0.1, 0.25, 0.65], 2), got)
    values = np.linspace(-1, 2, 40)
    density = estimate_density(_diagonal(values), probes=1, steps=5, seed=0)
    for degree in range(10):
        moment = float((density.weights * density.nodes**degree).sum())
        exact = float(np.mean(values**degree))  # for entries ±1 and a diagonal A
        yield Quantity(f"moment {degree} with 5 steps", exact, moment, 1e-10)
    noise = np.random.default_rng(14).standard_normal((400, 400))
    gaussian = torch.tensor((noise + noise.T) / math.sqrt(800))
    objective = formula_objective(lambda w: w @ gaussian @ w / 2, np.zeros(400))
    density = estimate_density(objective, probes=3, steps=60, seed=0)
    moments = [float((density.weights * density.nodes**p).sum() / 3) for p in (2, 4)]
    yield Quantity("semicircle, upper edge", 2, float(density.nodes.max()), 0.05)
    yield Quantity("semicircle, lower edge", -2, float(density.nodes.min()), 0.05)
    yield Quantity("semicircle, moment 2", 1, moments[0], 0.05)
    yield Quantity("semicircle, moment 4", 2, moments[1], 0.1)


def scale_invariance() -> Iterator[Quantity]:
    """Case 18: before BatchNorm, eps too small to count, the length of weights changes no loss."""
    rng = np.random.default_rng(18)
    features, targets = rng.standard_normal((50, 6)), rng.standard_normal((50, 1))
    model = nn.Sequential(
        nn.Linear(6, 1, bias=False), nn.BatchNorm1d(1, eps=1e-300, affine=False)
    ).double()
    objective = Objective(model, nn.MSELoss(), (features, targets), bn="batch")
    weights, vector = objective.theta.numpy(), rng.standard_normal(6)
    centered = features - features.mean(0)
    S, b = centered.T @ centered / 50, centered.T @ targets[:, 0] / 50
    Sw = S @ weights
    s, bw = math.sqrt(weights @ Sw), b @ weights
    slope = -2 * (b / s - bw * Sw / s**3)
    mixed = np.outer(b, Sw) + np.outer(Sw, b)
    H = 2 * ((mixed + bw * S) / s**3 - 3 * bw * np.outer(Sw, Sw) / s**5)
    gradient = objective.gradient().numpy()
    yield largest_error("gradient", slope, gradient)
    yield Quantity("gradient along w", 0, float(gradient @ weights), 1e-12)
    yield largest_error("H w = -gradient", -slope, objective.hessian_vector(weights).numpy())
    yield largest_error("H v", H @ vector, objective.hessian_vector(vector).numpy(), 1e-10)
    far = 3 * weights
    yield largest_error("gradient at 3 w, a third", slope / 3, objective.gradient(far).numpy())
    product = objective.hessian_vector(vector, far).numpy()
    yield largest_error("H v at 3 w, a ninth", H @ vector / 9, product, 1e-10)


def filter_normalization() -> Iterator[Quantity]:
    """Case 22: a filter-normalized direction measures a trace that is weighted by the filters."""
    rng = np.random.default_rng(22)
    model = nn.Linear(4, 3, dtype=torch.float64)
    rows = rng.standard_normal((3, 4))
    rows *= np.array([[1.0], [2.0], [4.0]]) / np.linalg.norm(rows, axis=1, keepdims=True)
    model.weight.data = torch.tensor(rows)
    noise = rng.standard_normal((15, 15))
    matrix = np.diag(np.repeat([9.0, 4.0, 1.0, 50.0], [4, 4, 4, 3])) + 0.1 * (noise + noise.T)
    A = torch.tensor(matrix)
    objective = Objective(
        QuadraticOfLayer(model, A), mean_output, (torch.zeros(2, 4), torch.zeros(2))
    )
    traces = [np.trace(matrix[4 * f : 4 * f + 4, 4 * f : 4 * f + 4]) for f in range(3)]
    exact = sum(norm**2 / 4 * trace for norm, trace in zip((1, 2, 4), traces, strict=True))
    curvatures = []
    for seed in range(400):
        plane = random_plane(objective, normalization="filter", seed=seed, axes=1)
        low, middle, high = (objective(plane.point(a)) for a in (-1.0, 0.0, 1.0))
        curvatures.append(low + high - 2 * middle)
    yield Quantity(
        "mean over 400 seeds, biases at rest", float(exact), float(np.mean(curvatures)), 0.5
    )


def _named(first: list[float], last: list[float]) -> tuple[Weights, Weights]:
    """Return two minima by name."""
    one, other = (torch.tensor(place, dtype=torch.float64) for place in (first, last))
    return Weights("one minimum", one), Weights("the other", other)


def _diagonal(values: np.ndarray) -> Objective:
    """Return ½ wᵀ diag(values) w at 0."""
    factors = torch.tensor(values)
    return formula_objective(lambda w: w @ (factors * w) / 2, np.zeros(len(values)))
