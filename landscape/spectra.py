"""Eigenpairs of the Hessian, or another symmetric operator, by Lanczos.

One Krylov space sees each multiple eigenvalue once. So eigenvectors found are locked, and Lanczos
starts again from a random vector orthogonal to them, until nothing more that is wanted turns up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from landscape.lanczos import Tridiagonalization, lanczos, norm
from landscape.objectives import Objective
from landscape.operators import Operator, Products, Progress, as_operator
from landscape.results import Spectrum

WHICH = ("LM", "LA", "SA", "BE")

# A random start holds about 1/√param of each eigenvector: a residual may be small before that part
# has grown, so no sweep ends earlier than this many steps unless its Krylov space is exhausted.
_LEAST_STEPS = 12
# Share of the tolerance asked for inside a sweep, which does not see the parts of H v along locked
# vectors: room for them in the residuals that are recomputed at the end.
_MARGIN = 0.5
_EVERY_STEP = 50  # up to here convergence is asked for at every step, then at each fifth


def find_eigenpairs(
    source: Objective | Operator,
    *,
    k: int,
    which: str = "LM",
    tolerance: float = 1e-3,
    seed: int,
    max_matvecs: int | None = None,
    progress: Progress | None = None,
) -> Spectrum:
    """Find k eigenpairs of the Hessian of the mean loss at `objective.theta`, or of an operator.

    Eigenvalues keep their signs and come as often as they are multiple. They are sorted as `which`
    says: "LM" largest magnitude first, "LA" largest first, "SA" smallest first, "BE" the larger
    half of k from the top and the rest from the bottom, descending. The largest component of each
    eigenvector is positive.

    Args:
        source: The loss as a function of theta, for its Hessian; or any operator.
        k: How many, between 1 and the number of parameters.
        which: "LM", "LA", "SA" or "BE".
        tolerance: Largest residual, relative to the largest |λ| seen.
        seed: Seed of the start vectors.
        max_matvecs: Most Hessian-vector products to spend, at least 2 k; default 10 k + 200.
        progress: Called with products done and products allowed.

    Returns:
        A spectrum whose residuals ‖H v − λ v‖ are recomputed from the vectors returned.
        `converged` says that all are within tolerance and that a restart found nothing else among
        the k wanted; the latter alone is `facts["complete"]`.

    Raises:
        ValueError: An argument is out of range, or a product is not finite.

    Source: Parlett, The Symmetric Eigenvalue Problem, chapter 13.
    """
    operator = as_operator(source)
    size = operator.size
    allowed = 10 * k + 200 if max_matvecs is None else max_matvecs
    _check_request(k, which, tolerance, allowed, size)
    products = Products(operator, allowed, progress)
    none = operator.origin.new_empty(0, size)
    found = _Found(k=k, which=which, tolerance=tolerance, vectors=none, rest_vectors=none)
    generator = torch.Generator().manual_seed(seed)
    while not found.complete and products.count < allowed - k:
        start = torch.randn(size, generator=generator, dtype=torch.float64).to(operator.origin)
        budget = allowed - k - products.count
        found.add(lanczos(products, start, budget, locked=found.vectors, stop=found.suffices))
    values, residuals, vectors = _verify(products, found)
    products.show(end=True)
    return Spectrum(
        eigenvalues=values,
        residuals=residuals,
        matvecs=products.count,
        converged=found.complete and bool((residuals <= tolerance * found.scale).all()),
        which=which,
        tolerance=tolerance,
        eigenvectors=vectors.float().cpu().numpy(),
        facts={
            **operator.facts,
            "which": which,
            "tolerance": tolerance,
            "seed": seed,
            "largest_magnitude": found.scale,
            "complete": found.complete,
        },
    )


@dataclass(kw_only=True)
class _Found:
    """The eigenpairs locked so far, and what is still wanted."""

    k: int
    which: str
    tolerance: float
    vectors: Tensor  # locked, orthonormal [locked, param]
    rest_vectors: Tensor  # wanted of the last sweep, not converged [rest, param]
    values: np.ndarray = field(default_factory=lambda: np.empty(0))  # of the locked
    rest_values: np.ndarray = field(default_factory=lambda: np.empty(0))
    scale: float = 0.0  # largest |λ| or |Ritz value| seen
    complete: bool = False  # whether a restart found nothing more that belongs

    def suffices(self, known: Tridiagonalization) -> bool:
        """Whether a sweep may end: all that belongs has converged, and so has each end's leader."""
        steps = len(known.alpha)
        if steps < _LEAST_STEPS or len(self.values) + steps < self.k:
            return False
        if steps > _EVERY_STEP and steps % 5:
            return False
        values, residuals, _ = known.ritz()
        belongs, leaders = self._belonging(values)
        return bool((residuals[belongs | leaders] <= _MARGIN * self._slack(values)).all())

    def add(self, known: Tridiagonalization) -> None:
        """Lock what a sweep found; complete when that is nothing, or everything there is."""
        values, residuals, inner = known.ritz()
        belongs, leaders = self._belonging(values)
        good = (residuals <= _MARGIN * self._slack(values)) | known.exhausted
        lock, rest = belongs & good, belongs & ~good
        enough = len(self.values) >= self.k
        self.scale = max(self.scale, float(np.abs(values).max()))
        self.values = np.concatenate([self.values, values[lock]])
        self.vectors = torch.cat([self.vectors, _ritz_vectors(known, inner[:, lock])])
        self.rest_values, self.rest_vectors = values[rest], _ritz_vectors(known, inner[:, rest])
        everything = len(self.values) == self.vectors.shape[1]
        self.complete = everything or (enough and not belongs.any() and bool(good[leaders].all()))

    def best(self) -> Tensor:
        """Return the k best vectors known `[k, param]`, converged or not."""
        values = np.concatenate([self.values, self.rest_values])
        chosen = np.zeros(len(values), bool)
        for key, count in _ends(self.which, self.k):
            chosen[np.argsort(-key(values), kind="stable")[:count]] = True
        return torch.cat([self.vectors, self.rest_vectors])[torch.from_numpy(chosen)]

    def _slack(self, values: np.ndarray) -> float:
        return self.tolerance * max(self.scale, float(np.abs(values).max()))

    def _belonging(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask the Ritz values that belong among the k wanted, and the leading one of each end."""
        belongs, leaders = np.zeros((2, len(values)), bool)
        slack = self._slack(values) if len(self.values) >= self.k else 0.0
        for key, count in _ends(self.which, self.k):
            keys = np.concatenate([key(self.values), key(values) - slack])
            best = np.argsort(-keys, kind="stable")[:count] - len(self.values)
            belongs[best[best >= 0]] = True
            leaders[np.argmax(key(values))] = True
        return belongs, leaders


def _ends(which: str, k: int) -> list[tuple[Callable[[np.ndarray], np.ndarray], int]]:
    """List what to rank eigenvalues by, and how many of the first to take."""
    if which == "LM":
        return [(np.abs, k)]
    top = {"LA": k, "SA": 0, "BE": (k + 1) // 2}[which]
    ends = [(np.positive, top), (np.negative, k - top)]
    return [(key, count) for key, count in ends if count]


def _verify(products: Products, found: _Found) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Return values, recomputed residuals and vectors, best within the span found, in order."""
    vectors = found.best()
    # One Newton step to orthonormal rows: between sweeps they are so to float32's sums only.
    nearly = 1.5 * np.eye(len(vectors)) - 0.5 * _products_of_rows(vectors, vectors)
    vectors = torch.from_numpy(nearly).to(vectors) @ vectors
    images = torch.stack([products(v) for v in vectors])
    projected = _products_of_rows(vectors, images)
    values, inner = np.linalg.eigh((projected + projected.T) / 2)
    ranks = {"LM": -np.abs(values), "SA": values}.get(found.which, -values)
    order = np.argsort(ranks, kind="stable")
    values, rotation = values[order], torch.from_numpy(inner[:, order].T.copy()).to(vectors)
    vectors, images = rotation @ vectors, rotation @ images
    errors = images - torch.from_numpy(values).to(vectors)[:, None] * vectors
    residuals = np.array([norm(error) for error in errors])
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return values, residuals, vectors * largest.sign()


def _products_of_rows(left: Tensor, right: Tensor) -> np.ndarray:
    sums = [(row * right).sum(1, dtype=torch.float64) for row in left]
    return torch.stack(sums).cpu().numpy()


def _ritz_vectors(known: Tridiagonalization, inner: np.ndarray) -> Tensor:
    """Return unit vectors `[i, param]` from their components in the basis, `inner [step, i]`."""
    vectors = torch.from_numpy(inner.T.copy()).to(known.basis) @ known.basis
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True, dtype=torch.float64)
    return vectors / lengths.to(vectors)


def _check_request(k: int, which: str, tolerance: float, allowed: int, size: int) -> None:
    if which not in WHICH:
        raise ValueError(f"which must be one of {', '.join(WHICH)}, got {which!r}")
    if not 1 <= k <= size:
        raise ValueError(f"k must lie between 1 and the number of parameters, {size}, got {k}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    if allowed < 2 * k:
        raise ValueError(
            f"max_matvecs must be at least 2 k = {2 * k}, k products to search and k to verify, "
            f"got {allowed}"
        )
