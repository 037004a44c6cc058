"""Results of perturbation directions with known numbers, for tests."""

import numpy as np
from figure_samples import FACTS, consistency

from landscape.results import Consistency, Directions, Offset, Rise

LAYERS = ("conv1.weight", "bn1.weight", "bn1.bias", "head.weight", "head.bias")


def frozen(mean: float = 0.6, step: int = 480, *, seed: int = 0, **other) -> Consistency:
    """As the frozen protocol gives it: with layers, parts, weights of samples and noise scale."""
    plain = consistency(mean, step, seed=seed)
    rng = np.random.default_rng([seed, 1])
    n = len(plain.norms)
    shares = np.array([0.5, 0.05, 0.05, 0.35, 0.05])
    lengths = plain.norms[:, None] * plain.norms[None, :]
    own = np.clip(mean + np.linspace(-0.3, 0.3, len(LAYERS)), 0, 1)
    layers = [s * lengths * (c + (1 - c) * np.eye(n)) for s, c in zip(shares, own, strict=True)]
    values = dict(vars(plain)) | {
        "leave_one_out": np.full(n, np.sqrt(mean)),
        "participation": 1 / (mean**2 + (1 - mean**2) / n),
        "radial": rng.uniform(-0.3, -0.2, n),
        "cosine_full": rng.uniform(-0.4, -0.1, n),
        "effective_share": rng.uniform(0.9, 0.99, n),
        "true_probability": rng.beta(8, 1, 64 * n),
        "noise_scale": 128 * (1 - mean) / mean,
        "predicted_cosine": mean,
        "component_names": ("anti-gradient", "margin"),
        "component_norms": np.stack([0.4 * plain.norms, 1.1 * plain.norms]),
        "component_cosines": np.stack([np.full(n, -0.2), np.full(n, 0.95)]),
        "component_mean_cosine": np.array([0.02, 0.7]),
        "layer_names": LAYERS,
        "layer_products": np.stack(layers),
        "layer_gradient": rng.normal(0, 1e-3, (len(LAYERS), n)),
        "layer_radial": rng.normal(-0.05, 0.01, (len(LAYERS), n)),
        "layer_weight": np.array([4.0, 2.0, 0.5, 3.0, 0.2]),
        "facts": FACTS | {"checkpoint": step, "bn": "batch", "batches": n, "batch_size": 64},
    }
    return Consistency(**values | other)


def directions(mean: float = 0.6, windows: int = 12, **other) -> Directions:
    """A run whose directions agree the better the later, and turn slowly."""
    start = 60 * np.arange(windows)
    middle = mean * np.linspace(0.6, 1.1, windows)
    apart = np.abs(np.subtract.outer(np.arange(windows), np.arange(windows)))
    matrix = np.exp(-apart / 6) * np.where(mean > 0.1, 1.0, 0.05)
    np.fill_diagonal(matrix, 1.0)
    lag = np.stack([middle, 0.95 * middle, 0.8 * middle], axis=1)
    values = {
        "perturbation": "AACE ρ=0.2",
        "start": start,
        "stop": start + 60,
        "count": np.full(windows, 60),
        "mean_cosine": middle,
        "null_low": np.full(windows, -0.01),
        "null_high": np.full(windows, 0.02),
        "interval_low": middle - 0.03,
        "interval_high": middle + 0.03,
        "mean_cosine_error": np.full(windows, 0.002),
        "resultant_length": np.sqrt(np.clip(middle, 0, 1)),
        "participation": 60 / (1 + 59 * middle**2),
        "norm": np.linspace(0.2, 1.5, windows),
        "norm_low": np.linspace(0.15, 1.3, windows),
        "norm_high": np.linspace(0.25, 1.8, windows),
        "lags": np.array([1, 10, 100]),
        "lag_cosine": lag,
        "lag_low": lag - 0.1,
        "lag_high": lag + 0.1,
        "lag_error": np.zeros((windows, 3)),
        "matrix": matrix,
        "matrix_error": np.full((windows, windows), 0.01),
        "pairs": matrix * mean,
        "pairs_error": np.full((windows, windows), 0.005),
        "run_mean_cosine": 0.8 * mean,
        "run_null_low": -0.001,
        "run_null_high": 0.002,
        "run_mean_cosine_error": 0.001,
        "vectors": 60 * windows,
        "effective_share": np.full(windows, 0.97),
        "facts": FACTS | {"window": "epoch", "vectors": "sketches of 4096 numbers"},
    }
    return Directions(**values | other)


def rise(n: int = 12, k: int = 3, *, up: float = 1.0, step: int = 480, **other) -> Rise:
    """Climbs on its own batch with `up` 1, goes down with -1."""
    rng = np.random.default_rng(0)
    first = up * rng.uniform(1e-3, 2e-3, (3, 3, n)) * np.array([1, 0.3, 0.2])[:, None, None]
    values = {
        "perturbation": "AACE ρ=0.2",
        "step": step,
        "norms": np.linspace(0.1, 0.2, n),
        "radii": np.array([np.nan, 0.05, 1.0]),
        "places": ("same batch", "another batch", "test batch"),
        "rise": first + 1e-3,
        "first_order": first,
        "transfer": up * (1e-4 + 1e-3 * np.eye(n)),
        "eigenvalues": np.array([12.0, 7.0, 3.0])[:k],
        "residuals": np.full(k, 1e-3),
        "alignment": rng.uniform(0.1, 0.3, (n, k)),
        "rayleigh": rng.uniform(0.5, 1.0, n),
        "gradient_alignment": rng.uniform(0.2, 0.5, (n, k)),
        "gradient_rayleigh": rng.uniform(2.0, 4.0, n),
        "facts": FACTS | {"checkpoint": step, "bn": "batch", "batches": n, "batch_size": 64},
    }
    return Rise(**values | other)


def offset(minimum: float = 0.7, *, step: int = 480, **other) -> Offset:
    """Parabolas with their minimum at a multiple of ε."""
    alpha = np.linspace(-1, 2, 31)
    loss = np.stack([0.01 + 0.02 * (alpha - m) ** 2 for m in (minimum, minimum + 0.3, minimum)])
    loss += np.array([0.0, 0.1, 0.05])[:, None]
    at = [int(np.argmin(np.abs(alpha - place))) for place in (0, 1)]
    gain = loss[:, at[0]] - loss[:, at[1]]
    values = {
        "perturbation": "AACE ρ=0.2",
        "step": step,
        "alpha": alpha,
        "curves": ("training loss", "test loss", "test loss, temperature scaled"),
        "loss": loss,
        "accuracy": np.full((3, len(alpha)), 0.97),
        "temperature": np.linspace(1.4, 1.1, len(alpha)),
        "ece": np.linspace(0.03, 0.01, len(alpha)),
        "minimum": np.array([minimum, minimum + 0.3, minimum]),
        "minimum_low": np.array([minimum, minimum + 0.3, minimum]) - 0.05,
        "minimum_high": np.array([minimum, minimum + 0.3, minimum]) + 0.05,
        "gain": gain,
        "gain_low": gain - 0.002,
        "gain_high": gain + 0.002,
        "norm": 1.5,
        "weight_norm": 30.0,
        "facts": FACTS | {"checkpoint": step, "bn": "recomputed", "batches": 32},
    }
    return Offset(**values | other)
