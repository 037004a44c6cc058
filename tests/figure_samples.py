"""Results with known numbers, for tests of figures and exports."""

import numpy as np

from landscape.results import (
    Consistency,
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
