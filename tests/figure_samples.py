"""Results with known numbers, for tests of figures and exports."""

from dataclasses import replace

import numpy as np
from curvature_samples import CURVATURE_FACTS as CURVATURE_FACTS
from curvature_samples import curvature as curvature
from curvature_samples import deflated_density as deflated_density
from curvature_samples import ends_spectrum as ends_spectrum
from curvature_samples import sharpness as sharpness
from curvature_samples import stability as stability
from curvature_samples import three as three
from curvature_samples import trace as trace

from landscape.results import (
    Barrier,
    Consistency,
    Curve,
    Density,
    Profile,
    Spectrum,
    Surface,
    Trajectory,
)

FACTS = {
    "run": "k3x9w0q2ab",
    "run_name": "fashion-aace",
    "method": "SAM+AACE",
    "model": "ConvNet",
    "parameters": 61706,
    "checkpoint": 480,
    "plane": "random",
    "normalization": "filter",
    "ignore": ["bias", "norm"],
    "seed": 7,
    "bn": "recomputed",
    "data": "fashion training set",
    "samples": 2000,
    "dtype": "float32",
    "loss": "cross_entropy",
}


def surface(a: int = 9, b: int = 6, *, path: bool = True, holes: bool = True, facts=FACTS):
    """A bowl steeper along beta, with one diverged point (2, 4) and one not evaluated (6, 1)."""
    alpha, beta = np.linspace(-1, 1.5, a), np.linspace(-0.75, 1, b)
    x, y = np.meshgrid(alpha, beta, indexing="ij")
    loss = 0.05 + x**2 + 2 * y**2 + 0.1 * x
    evaluated = np.ones((a, b), bool)
    if holes:
        loss[2, 4], loss[6, 1] = np.inf, np.nan
        evaluated[6, 1] = False
    along = np.linspace(1, 0, 6)
    position = np.stack([0.9 * along, 0.3 * along**2], axis=1)
    below = 0.05 + position[:, 0] ** 2 + 2 * position[:, 1] ** 2 + 0.1 * position[:, 0]
    c = 6 if path else 0
    return Surface(
        alpha=alpha,
        beta=beta,
        loss=loss,
        accuracy=np.where(np.isfinite(loss), np.exp(-loss), np.nan),
        evaluated=evaluated,
        axis_labels=("first", "second"),
        path_step=np.arange(6)[:c] * 20,
        path_position=position[:c],
        path_off_plane=np.array([0.0, 0.1, 0.3, 0.5, 0.1, 0.0])[:c],
        path_loss=(below * np.array([1, 1, 3, 3, 1, 1]))[:c],
        facts=facts,
    )


def profile(scale: float = 1.0, *, diverged: bool = False) -> Profile:
    alpha = np.linspace(-1, 1, 11)
    loss = 0.2 + scale * np.array([[1.0], [2.0], [4.0]]) * alpha**2
    if diverged:
        loss[1, 0] = np.inf
    return Profile(
        alpha=alpha,
        loss=loss,
        accuracy=np.where(np.isfinite(loss), np.exp(-loss), np.nan),
        evaluated=np.ones(loss.shape, bool),
        axis_label="random direction",
        facts=FACTS,
    )


def spectrum(top: float = 20.0, *, converged: bool = True) -> Spectrum:
    eigenvalues = top * np.array([1.0, 0.5, -0.3, 0.2])
    return Spectrum(
        eigenvalues=eigenvalues,
        residuals=np.full(4, 1e-3),
        matvecs=40,
        converged=converged,
        which="LM",
        tolerance=1e-3,
        facts=FACTS,
    )


def density(found: Spectrum | None = None, *, sigma: float = 0.05) -> Density:
    """1000 parameters: outliers of weight one eigenvalue each, the rest near 0, per probe."""
    outliers = (found or spectrum()).eigenvalues
    bulk = np.array([[-0.2, 0.0, 0.1, 0.3], [-0.1, 0.0, 0.2, 0.4]])
    nodes = np.concatenate([np.tile(outliers, (2, 1)), bulk], axis=1)
    weights = np.full(nodes.shape, 1e-3)
    weights[:, len(outliers) :] = (1 - len(outliers) / 1000) / 4
    return Density(nodes=nodes, weights=weights, size=1000, sigma=sigma, matvecs=16, facts=FACTS)


def consistency(
    mean: float = 0.6, step: int = 480, *, protocol: str = "frozen", seed: int = 0
) -> Consistency:
    n = 12
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, 40)) / np.sqrt(40)
    vectors = np.sqrt(1 - mean) * noise
    vectors[:, 0] += np.sqrt(mean)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    return Consistency(
        protocol=protocol,
        perturbation="AACE ρ=0.2",
        step=np.full(n, step) if protocol == "frozen" else step - n + np.arange(n),
        cosines=cosines,
        norms=np.linspace(0.1, 0.2, n),
        consecutive=np.diagonal(cosines, 1),
        loss_rise=np.linspace(-0.01, 0.02, n),
        cosine_gradient=np.full(n, np.nan),
        mean_cosine=mean,
        null_low=-0.03,
        null_high=0.05,
        interval_low=mean - 0.04,
        interval_high=mean + 0.02,
        resultant_length=0.8,
        facts=FACTS | {"checkpoint": step},
    )


def trajectory() -> Trajectory:
    along = np.linspace(1, 0, 6)
    position = np.stack([4 * along, 3 * along * (1 - along)], axis=1)
    return Trajectory(
        step=np.arange(6) * 20,
        position=position,
        off_plane=0.2 * along,
        explained=np.array([0.8, 0.1, 0.05]),
        explained_null=np.array([0.7, 0.12, 0.06]),
        distance_start=4 * (1 - along),
        distance_end=4 * along,
        step_length=np.full(5, 0.8),
        turning_angle=np.array([70.0, 80.0, 90.0, 100.0]),
        loss=np.linspace(2, 0.1, 6),
        accuracy=np.linspace(0.1, 0.9, 6),
        axis_labels=("PC 1", "PC 2"),
        facts=FACTS | {"plane": "trajectory", "variance": [0.8, 0.1], "variance_null": [0.7, 0.12]},
    )


def steps(size: int = 60, drop: int = 40) -> dict[str, np.ndarray]:
    at = np.arange(size, dtype=float)
    return {
        "step": at,
        "loss": 2 * np.exp(-at / 20) + 0.1,
        "accuracy": 1 - np.exp(-at / 20),
        "lr": np.where(at < drop, 0.1, 0.01),
    }


def measured_surface() -> Surface:
    """The bowl with all that can be measured; at (0, 0) λmax is less than its residual."""
    bowl = surface(holes=False)
    x = bowl.alpha[:, None] + 0 * bowl.beta
    lambda_max = 4.0 + x
    lambda_max[0, 0] = 0.01
    return replace(
        bowl,
        test_loss=bowl.loss + 0.5,
        test_accuracy=0.9 * bowl.accuracy,
        metrics=np.stack([1 - bowl.accuracy, 1 - 0.9 * bowl.accuracy]),
        metric_names=("error rate", "test error rate"),
        lambda_min=-0.25 * lambda_max * (1.5 + x),
        lambda_max=lambda_max,
        lambda_residual=np.full(bowl.loss.shape, 0.02),
        facts=FACTS | {"test_samples": 500},
    )


def joint_surface() -> Surface:
    """Two runs that start at one place, on a plane whose axes are distances; both ends marked."""
    alpha, beta = np.linspace(-2, 6, 17), np.linspace(-1.5, 2.5, 9)
    x, y = np.meshgrid(alpha, beta, indexing="ij")
    loss = 0.05 + 0.02 * (x**2) * ((x - 4) ** 2) / 4 + 0.4 * y**2
    along = np.linspace(1, 0, 5)
    left = np.stack([2 * along, 2 * along], axis=1)
    right = np.stack([4 - 2 * along, 2 * along], axis=1)
    return Surface(
        alpha=alpha,
        beta=beta,
        loss=loss,
        accuracy=np.exp(-loss),
        evaluated=np.ones(loss.shape, bool),
        axis_labels=("PC 1", "PC 2"),
        path_step=np.tile(np.arange(5) * 10, 2),
        path_position=np.concatenate([left, right]),
        path_off_plane=np.tile([0.0, 0.1, 0.2, 0.1, 0.0], 2),
        path_loss=np.full(10, 0.5),
        path_run=np.repeat([0, 1], 5),
        path_labels=("sgd", "sam"),
        mark_position=np.array([[0.0, 0.0], [4.0, 0.0]]),
        mark_labels=("sgd", "sam"),
        facts={"plane": "joint", "unit": "weight distance", "samples": 10, "bn": "recomputed"},
    )


def interpolated_surface() -> Surface:
    """The bowl with every second point of each axis evaluated, the rest interpolated."""
    bowl = surface(9, 7, holes=False, path=False)
    evaluated = np.zeros(bowl.loss.shape, bool)
    evaluated[::2, ::2] = True
    return replace(
        bowl,
        evaluated=evaluated,
        interpolated=~evaluated,
        accuracy=np.where(evaluated, bowl.accuracy, np.nan),
    )


def line_profile() -> Profile:
    """The line through two minima, at 0 and 1, with the test set."""
    alpha = np.linspace(-0.5, 1.5, 21)
    loss = 0.1 + 4 * (alpha * (1 - alpha))[None] ** 2
    return Profile(
        alpha=alpha,
        loss=loss,
        accuracy=np.exp(-loss),
        test_loss=1.2 * loss + 0.1,
        test_accuracy=0.9 * np.exp(-loss),
        evaluated=np.ones(loss.shape, bool),
        axis_label="position between the minima",
        mark_position=np.array([0.0, 1.0]),
        mark_labels=("sgd", "sam"),
        facts={"plane": "minima", "samples": 10, "test_samples": 20, "bn": "recomputed"},
    )


def barrier(m: int = 3, *, test: bool = True) -> Barrier:
    """Minima i with loss 0.4 (i + 1); from i to j > i a bump of height 1 + j − i at t = 3/4."""
    t = np.linspace(0, 1, 5)
    ends = 0.4 * np.arange(1, m + 1)
    i, j = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    height = np.where(i == j, 0.0, 1.0 + abs(i - j))[..., None]
    shape = t**2 * (1 - t) / (9 / 64)
    line = ends[i, None] * (1 - t) + ends[j, None] * t
    loss = line + height * np.where((i < j)[..., None], shape, shape[::-1])
    error = loss / 10
    return Barrier(
        t=t,
        loss=loss,
        accuracy=1 - error,
        evaluated=np.ones(loss.shape, bool),
        height=(loss - (loss[..., :1] + loss[..., -1:]) / 2).max(-1),
        height_over_line=(loss - line).max(-1),
        error_height=(error - (error[..., :1] + error[..., -1:]) / 2).max(-1),
        error_height_over_line=(error - line / 10).max(-1),
        distance=3.0 * abs(i - j),
        names=tuple(["sgd", "sam", "aace", "usam", "sgd-2", "sam-2", "aace-2", "usam-2"][:m]),
        test_loss=loss * 1.5 if test else np.empty((0, 0, 0)),
        test_accuracy=1 - 1.2 * error if test else np.empty((0, 0, 0)),
        facts={"samples": 10, "bn": "recomputed", "loss": "cross_entropy"},
    )


def curve(*, test: bool = True) -> Curve:
    """A quadratic curve of one bend over the straight line, which has a bump."""
    t = np.linspace(0, 1, 21)
    loss, line = 0.1 + 0.2 * t * (1 - t), 0.1 + 4 * t * (1 - t)
    empty = np.empty(0)
    return Curve(
        t=t,
        loss=loss,
        accuracy=1 - loss / 10,
        line_loss=line,
        line_accuracy=1 - line / 10,
        position=np.stack([8 * t, 2 * t * (1 - t) * 5], axis=1),
        bend_position=np.array([[4.0, 5.0]]),
        off_plane=np.zeros(21),
        training_loss=np.linspace(2.0, 0.2, 30),
        names=("sgd", "sam"),
        test_loss=1.5 * loss if test else empty,
        test_accuracy=1 - 1.5 * loss / 10 if test else empty,
        line_test_loss=1.5 * line if test else empty,
        line_test_accuracy=1 - 1.5 * line / 10 if test else empty,
        facts={"samples": 10, "bn": "recomputed"},
    )
