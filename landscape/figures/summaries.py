"""What curves show of several repeats, batches or steps: middle, band, null. Numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landscape.figures.quantities import values_of
from landscape.results import Consistency, Curvature, Profile, Spectrum, Trajectory


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A middle line with its band over a common x."""

    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def profile_curve(profile: Profile, quantity: str = "rise") -> Curve:
    """Median over the repeats of a profile, with the lowest and the highest repeat.

    The rise is the loss minus that of the same repeat at the point nearest to 0. Where any repeat
    is not finite the median and the band are missing: a band of the survivors would be biased.

    Raises:
        ValueError: If the profile has no such quantity.
    """
    rows = values_of(profile, quantity)
    rows = np.where(np.isfinite(rows), rows, np.nan)
    return Curve(
        x=profile.alpha,
        middle=np.median(rows, axis=0),
        low=rows.min(axis=0),
        high=rows.max(axis=0),
    )


def own_quantity(profile: Profile) -> str:
    """What a profile shows unasked: its rise about a checkpoint, the loss between minima."""
    return "loss" if len(profile.mark_labels) else "rise"


def diverged_at(profile: Profile) -> np.ndarray:
    """Positions at which at least one repeat was evaluated and is not finite."""
    return profile.alpha[(profile.evaluated & ~np.isfinite(profile.loss)).any(axis=0)]


def leading_components(trajectory: Trajectory, most: int = 8) -> tuple[np.ndarray, ...]:
    """Rank, explained variance and null of the first components [at most `most`]."""
    explained = trajectory.explained[:most]
    return np.arange(1, len(explained) + 1), explained, trajectory.explained_null[:most]


def step_of(result: Consistency) -> float:
    """The step a consistency stands for: its checkpoint, or the middle of its window."""
    return float(np.mean(result.step)) if len(result.step) else float("nan")


def cosine_curve(results: Sequence[Consistency]) -> tuple[Curve, np.ndarray, np.ndarray]:
    """Mean pairwise cosine over steps with its bootstrap interval, and the null's low and high."""
    ordered = sorted(results, key=step_of)
    fields = ("mean_cosine", "interval_low", "interval_high", "null_low", "null_high")
    columns = [np.array([getattr(r, name) for r in ordered], dtype=np.float64) for name in fields]
    x = np.array([step_of(r) for r in ordered])
    return Curve(x=x, middle=columns[0], low=columns[1], high=columns[2]), columns[3], columns[4]


def null_envelope(
    nulls: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The widest of several null bands (x, low, high) at every step that any of them has."""
    steps = np.unique(np.concatenate([x for x, _, _ in nulls])) if nulls else np.empty(0)
    lows, highs = [], []
    for x, low, high in nulls:
        inside = (steps >= x.min()) & (steps <= x.max()) if len(x) else np.zeros(0, dtype=bool)
        lows.append(np.where(inside, np.interp(steps, x, low), np.inf))
        highs.append(np.where(inside, np.interp(steps, x, high), -np.inf))
    if not lows:
        return steps, steps, steps
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    missing = ~(np.isfinite(low) & np.isfinite(high))
    return steps, np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def consecutive_null(consecutive: np.ndarray) -> float:
    """Half width of the central 95 % of the mean consecutive cosine under random sign flips.

    The products of neighbouring signs are independent signs, so that the mean of m cosines c has
    standard deviation sqrt(sum c²)/m.
    """
    finite = consecutive[np.isfinite(consecutive)]
    if not len(finite):
        return float("nan")
    return float(1.96 * np.sqrt(np.sum(finite**2)) / len(finite))


def column_curve(results: Sequence[Consistency], column: str) -> Curve:
    """A column of consistencies over steps: each vector of an online window, else batch medians."""
    ordered = sorted(results, key=step_of)
    if len(ordered) == 1 and len(np.unique(ordered[0].step)) > 1:
        values = np.asarray(getattr(ordered[0], column), dtype=np.float64)
        blank = np.full(len(values), np.nan)
        return Curve(x=ordered[0].step.astype(float), middle=values, low=blank, high=blank)
    rows = [np.asarray(getattr(r, column), dtype=np.float64) for r in ordered]
    return Curve(
        x=np.array([step_of(r) for r in ordered]),
        middle=np.array([np.median(row) if len(row) else np.nan for row in rows]),
        low=np.array([row.min() if len(row) else np.nan for row in rows]),
        high=np.array([row.max() if len(row) else np.nan for row in rows]),
    )


def off_diagonal(cosines: np.ndarray) -> tuple[np.ndarray, float]:
    """The matrix without its diagonal (NaN), and the symmetric limit of its color scale."""
    matrix = cosines.astype(np.float64).copy()
    np.fill_diagonal(matrix, np.nan)
    finite = np.abs(matrix[np.isfinite(matrix)])
    limit = float(finite.max()) if finite.size else 1.0
    return matrix, (limit if limit > 0 else 1.0)


@dataclass(frozen=True, kw_only=True)
class Scree:
    """Found eigenvalues in order."""

    values: np.ndarray
    residuals: np.ndarray
    within: np.ndarray
    """Whether the residual is within the tolerance."""

    @property
    def magnitudes(self) -> np.ndarray:
        """|λ|."""
        return np.abs(self.values)


def scree(spectrum: Spectrum, *, signed: bool = False) -> Scree:
    """Sort found eigenvalues by falling magnitude, or signed ones from the largest down."""
    values = spectrum.eigenvalues if signed else np.abs(spectrum.eigenvalues)
    order = np.argsort(-values, kind="stable")
    within = spectrum.within
    if not within.size:
        allowed = spectrum.tolerance * float(np.max(np.abs(spectrum.eigenvalues), initial=0.0))
        within = spectrum.residuals <= allowed
    return Scree(
        values=spectrum.eigenvalues[order],
        residuals=spectrum.residuals[order],
        within=within[order],
    )


def eigenvalue_history(
    history: Sequence[tuple[float, Spectrum]], most: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Steps [c] and the `most` algebraically largest eigenvalues found at each [c, most]."""
    ordered = sorted(history, key=lambda pair: pair[0])
    rows = np.full((len(ordered), most), np.nan)
    for row, (_, spectrum) in zip(rows, ordered, strict=True):
        top = np.sort(spectrum.eigenvalues)[::-1][:most]
        row[: len(top)] = top
    return np.array([float(step) for step, _ in ordered]), rows


def edge_segments(curvature: Curvature, end: float) -> list[np.ndarray]:
    """The edge of stability as staircases (step, λ) [points, 2], one for each stretch without gap.

    A level holds until the next one, the last until `end`.
    """
    level, step = curvature.edge_level, curvature.edge_step.astype(float)
    known, until = np.isfinite(level), np.append(step[1:], max([end, *step[-1:]]))
    segments: list[list[tuple[float, float]]] = []
    for i in np.flatnonzero(known):
        piece = [(step[i], level[i]), (until[i], level[i])]
        if i > 0 and known[i - 1]:
            segments[-1] += piece
        else:
            segments.append(piece)
    return [np.array(points) for points in segments]


def last_finite(values: np.ndarray) -> float:
    """The last finite value, or NaN."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")


def marker_every(size: int, wanted: int = 8) -> np.ndarray:
    """Indices of the points that carry a run's marker, the last one among them."""
    stride = max(1, size // wanted)
    return np.arange(size - 1, -1, -stride)[::-1]
