"""Spectral densities as curves: eigenvalues per unit λ, with found eigenpairs taken out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from landscape.figures.scales import SignedLog
from landscape.quadrature import curve as broadened
from landscape.results import Density, Spectrum

_REACH = 5.0
"""A node's Gaussian is resolved to this many widths."""


@dataclass(frozen=True, kw_only=True)
class DensityCurve:
    """What a picture of a density shows, in eigenvalues per unit λ."""

    x: np.ndarray
    """λ."""
    middle: np.ndarray
    """Mean over probes."""
    low: np.ndarray
    high: np.ndarray
    """Lowest and highest probe."""
    stems: np.ndarray
    """Found eigenvalues, each of which counts 1; the curve does not contain them."""
    signed_log: SignedLog
    wide: bool
    """Whether the spectrum is so much wider than its bulk that a signed log axis is needed."""

    @property
    def reach(self) -> tuple[float, float]:
        """Lowest and highest λ drawn."""
        return float(self.x[0]), float(self.x[-1])

    @property
    def bulk(self) -> tuple[float, float]:
        """λ range that an inset of the bulk shows."""
        half = 4 * self.signed_log.threshold
        low, high = self.reach
        return max(low, -half), min(high, half)

    def levels(self) -> tuple[float, float]:
        """Bottom and top of the density axis, powers of ten.

        The bottom is a tenth of one eigenvalue spread over the whole range, and below the stems.
        """
        low, high = self.reach
        floor = min(0.1 / (high - low), 0.1)
        top = max(float(np.nanmax(self.high, initial=floor)), 2.0)
        return 10.0 ** math.floor(math.log10(floor)), 10.0 ** math.ceil(math.log10(top * 1.2))


@dataclass(frozen=True, kw_only=True)
class SharedAxes:
    """Axes on which several densities are drawn."""

    reach: tuple[float, float]
    levels: tuple[float, float]
    signed_log: SignedLog
    wide: bool


def shared_axes(curves: Sequence[DensityCurve]) -> SharedAxes:
    """Equal axes of several densities: each is drawn whole, and linear where any bulk lies."""
    levels = [curve.levels() for curve in curves]
    return SharedAxes(
        reach=(min(c.reach[0] for c in curves), max(c.reach[1] for c in curves)),
        levels=(min(low for low, _ in levels), max(high for _, high in levels)),
        signed_log=SignedLog(max(c.signed_log.threshold for c in curves)),
        wide=any(c.wide for c in curves),
    )


def density_curve(density: Density, spectrum: Spectrum | None = None) -> DensityCurve:
    """Broaden the nodes of a density to a curve of eigenvalues per unit λ.

    Deflated outliers are no part of the nodes and are drawn as stems of exactly 1. Where nothing
    was deflated, a node within σ, or within the residual, of an eigenvalue of `spectrum` is that
    eigenvalue: it leaves the curve and is such a stem.

    Raises:
        ValueError: If the density has no positive width.

    Source: Ghorbani, Krishnan and Xiao 2019, section 2 (stochastic Lanczos quadrature).
    """
    if not density.sigma > 0:
        raise ValueError(f"a density must have a positive width sigma, got {density.sigma}")
    stems = np.sort(density.outliers)
    if spectrum is not None and not stems.size:
        stems = np.sort(spectrum.eigenvalues)
        weights = np.where(_found(density, spectrum), 0.0, density.weights)
        density = replace(density, weights=weights)
    weights = np.where(np.isnan(density.nodes), 0.0, density.weights)
    nodes = np.where(np.isnan(density.nodes), 0.0, density.nodes)
    scale = _scale(nodes, weights, density.sigma)
    x = _grid(nodes, stems, density.sigma, scale)
    rows = broadened(density, x)
    extent = max(abs(x[0]), abs(x[-1]))
    return DensityCurve(
        x=x,
        middle=rows.mean(axis=0),
        low=rows.min(axis=0),
        high=rows.max(axis=0),
        stems=stems,
        signed_log=scale,
        wide=extent > 12 * scale.threshold,
    )


def _found(density: Density, spectrum: Spectrum) -> np.ndarray:
    distance = np.abs(density.nodes[..., None] - spectrum.eigenvalues)
    within = np.maximum(density.sigma, spectrum.residuals)
    return np.any(np.nan_to_num(distance, nan=np.inf) <= within, axis=-1)


def _scale(nodes: np.ndarray, weights: np.ndarray, sigma: float) -> SignedLog:
    """A signed log that is linear where nine tenths of the remaining weight lie."""
    magnitude, weight = np.abs(nodes).ravel(), weights.ravel()
    order = np.argsort(magnitude)
    cumulated = np.cumsum(weight[order])
    extent = float(magnitude.max(initial=0.0)) or 1.0
    if cumulated.size and cumulated[-1] > 0:
        at = min(int(np.searchsorted(cumulated, 0.9 * cumulated[-1])), len(order) - 1)
        bulk = float(magnitude[order][at])
    else:
        bulk = extent
    return SignedLog(max(bulk, sigma, 1e-4 * extent))


def _grid(nodes: np.ndarray, stems: np.ndarray, sigma: float, scale: SignedLog) -> np.ndarray:
    """Points even on the signed log axis, and closer around every node."""
    ends = np.concatenate([nodes.ravel(), stems, [0.0]])
    low, high = ends.min() - _REACH * sigma, ends.max() + _REACH * sigma
    pad = 0.04 * np.ptp(scale.forward(np.array([low, high])))
    at = np.linspace(scale.forward(low) - pad, scale.forward(high) + pad, 600)
    near = (nodes.ravel()[:, None] + sigma * np.arange(-_REACH, _REACH + 0.25, 0.5)).ravel()
    x = np.sort(np.concatenate([scale.inverse(at), near]))
    keep = np.concatenate([[True], np.diff(np.round(x / (sigma / 4))) > 0])
    keep[-1] = True
    return x[keep]
