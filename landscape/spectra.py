"""Eigenpairs of the Hessian, or another symmetric operator, by Lanczos with thick restart.

One Krylov space sees each multiple eigenvalue once. So eigenvectors found are locked, and Lanczos
starts again from a random vector orthogonal to them, until it can be said with a stated probability
that nothing more that is wanted is there.
"""

import math

import numpy as np
import torch
from torch import Tensor

from landscape.basis import norm
from landscape.bounds import CONFIDENCE
from landscape.objectives import Objective
from landscape.operators import Operator, Products, Progress, as_operator
from landscape.rankings import WHICH, best_of, order_of
from landscape.results import Spectrum
from landscape.savepoints import Savepoint
from landscape.searches import Request, Search

_SOME_VECTORS = 4 * 2**30  # bytes that the default of max_vectors may take


def find_eigenpairs(
    source: Objective | Operator,
    *,
    k: int,
    which: str = "LM",
    tolerance: float = 1e-3,
    seed: int,
    max_matvecs: int | None = None,
    copies: bool = True,
    max_vectors: int | None = None,
    start: Tensor | np.ndarray | None = None,
    savepoint: Savepoint | None = None,
    progress: Progress | None = None,
) -> Spectrum:
    """Find k eigenpairs of the Hessian of the mean loss at `objective.theta`, or of an operator.

    Eigenvalues keep their signs and are sorted as `which` says: "LM" largest magnitude first, "LA"
    largest first, "SA" smallest first, "BE" the larger half of k from the top and the rest from the
    bottom, descending. The largest component of each eigenvector is positive.

    A sweep of Lanczos ends as soon as the residuals asked for are reached. One sweep sees a
    multiple eigenvalue once, and an eigenvalue its start hardly holds late. With `copies`, sweeps
    from random vectors orthogonal to what was found go on until no eigenvalue can be missing, with
    probability 0.99 over these vectors, that exceeds the last one wanted by more than twice the
    tolerance; each takes as many products as that needs, about as many as the first. Without, the
    only sweep goes on until, with the same probability, no eigenvalue is a tenth of the largest
    magnitude beyond the ends found, which most often is so already.

    Args:
        source: The loss as a function of theta, for its Hessian; or any operator.
        k: How many, between 1 and the number of parameters.
        which: "LM", "LA", "SA" or "BE".
        tolerance: Largest residual, relative to the largest |λ| seen.
        seed: Seed of the start vectors.
        max_matvecs: Most Hessian-vector products to spend, at least k; default 10 k + 200.
        copies: Whether to look for what one sweep does not see.
        max_vectors: Most vectors to hold at a time, at least k + 3, with fewer than that a sweep
            is restarted from the best part of its space; default as many as fit in 4 GiB, at
            least 2 k + 20. Memory is that and about four vectors more.
        start: Vectors `[param]` or `[j, param]` that hold much of the eigenvectors, such as those
            of the last checkpoint; a random part is mixed in.
        savepoint: Where the state is saved now and then, and taken up from.
        progress: Called with products done and allowed, and what is known of the leading value.

    Returns:
        A spectrum. Residuals ‖H v − λ v‖ are those of the products taken, rounding included, with
        none taken again to verify them. `converged` says that all are within tolerance and, with
        `copies`, that nothing is missing; the latter alone is `facts["complete"]`, None without.
        `lambda_max_low` is the largest Rayleigh quotient seen. `lambda_max_high` bounds the
        largest eigenvalue with probability `facts["confidence"]` over a random start, whatever
        `which` is; NaN with a `start`. After Ctrl-C it holds what is known, perhaps fewer than k.

    Raises:
        ValueError: An argument is out of range, a product is not finite, or the saved state is of
            another request.
        KeyboardInterrupt: If nothing is known yet.

    Source: Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000 (thick restart); van Dorsselaer,
        Hochstenbach and van der Vorst, ibid. (bounds from a random start).
    """
    operator = as_operator(source)
    size, origin = operator.size, operator.origin
    request = Request(
        k=k,
        which=which,
        tolerance=tolerance,
        seed=seed,
        copies=copies,
        allowed=10 * k + 200 if max_matvecs is None else max_matvecs,
        vectors=_default_vectors(origin, k) if max_vectors is None else max_vectors,
    )
    _check_request(request, size)
    products = Products(operator, request.allowed, progress)
    search = Search(request, origin, start=_as_direction(start, origin))
    search.run(products, savepoint)
    high = search.lambda_max_high
    left = request.allowed - products.count
    again = search.finished and search.mixed and left >= len(search.values)
    values, residuals, vectors = search.best(spare=again)
    if again:
        values, residuals, vectors = _recompute(products, vectors, request)
    for vector in vectors:
        vector.mul_(vector[vector.abs().argmax()].sign())
    within = residuals <= search.slack
    facts = {
        **operator.facts,
        "which": which,
        "tolerance": tolerance,
        "seed": seed,
        "largest_magnitude": search.scale,
        "complete": search.complete if copies else None,
        "confidence": CONFIDENCE,
        "max_vectors": request.vectors,
        "start": "random" if start is None else "given vectors and a random part",
    }
    if search.complete:
        facts["complete_margin"] = search.margin() / search.scale if search.scale else 0.0
    if search.interrupted:
        facts["interrupted"] = True
    products.show(end=True)
    return Spectrum(
        eigenvalues=values,
        residuals=residuals,
        matvecs=products.count,
        converged=search.finished and bool(within.all()),
        which=which,
        tolerance=tolerance,
        eigenvectors=vectors.float().cpu().numpy(),
        within=within,
        lambda_max_low=search.top,
        lambda_max_high=high,
        facts=facts,
    )


def _recompute(
    products: Products, vectors: Tensor, request: Request
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Return k values, residuals and vectors, in order: the best within the span of these rows."""
    images = torch.stack([products(v) for v in vectors])
    projected = np.array([[_dot(v, image) for image in images] for v in vectors])
    values, inner = np.linalg.eigh((projected + projected.T) / 2)
    chosen = np.flatnonzero(best_of(values, request.which, request.k))
    order = chosen[order_of(values[chosen], request.which)]
    values, turn = values[order], torch.from_numpy(inner[:, order].T.copy()).to(vectors)
    vectors, images = turn @ vectors, turn @ images
    errors = (image - value * v for image, value, v in zip(images, values, vectors, strict=True))
    return values, np.array([norm(error) for error in errors]), vectors


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum(dtype=torch.float64))


def _default_vectors(origin: Tensor, k: int) -> int:
    return max(2 * k + 20, _SOME_VECTORS // (origin.element_size() * origin.numel()))


def _as_direction(start: Tensor | np.ndarray | None, origin: Tensor) -> Tensor | None:
    """The sum of the given vectors, each made unit, itself made unit `[param]`."""
    if start is None:
        return None
    rows = start[None] if start.ndim == 1 else start
    if rows.ndim != 2 or rows.shape[1] != origin.numel() or not len(rows):
        raise ValueError(
            f"start must have shape [{origin.numel()}] or [j, {origin.numel()}], one entry for "
            f"each parameter, got {list(start.shape)}"
        )
    total = torch.zeros_like(origin)
    for row in rows:
        row = torch.tensor(row) if isinstance(row, np.ndarray) else row
        length = norm(row)
        if not (math.isfinite(length) and length > 0):
            raise ValueError(f"vectors of start must be finite and not zero, got length {length}")
        total.add_(row.to(origin), alpha=1 / length)
    return total.div_(norm(total) or 1.0)


def _check_request(request: Request, size: int) -> None:
    k, which = request.k, request.which
    if which not in WHICH:
        raise ValueError(f"which must be one of {', '.join(WHICH)}, got {which!r}")
    if not 1 <= k <= size:
        raise ValueError(f"k must lie between 1 and the number of parameters, {size}, got {k}")
    if not request.tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {request.tolerance}")
    if request.allowed < k:
        raise ValueError(
            f"max_matvecs must be at least k = {k}, one product for each pair, "
            f"got {request.allowed}"
        )
    if request.vectors < min(k + 3, size):
        raise ValueError(
            f"max_vectors must be at least k + 3 = {k + 3}, to hold the pairs and to search on, "
            f"got {request.vectors}"
        )
