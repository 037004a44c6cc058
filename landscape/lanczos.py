"""Lanczos with full reorthogonalization: a symmetric operator seen through a Krylov space."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_FIRST_ROWS = 32  # of the basis; doubled when they are full

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Tridiagonalization:
    """What m steps of Lanczos know of H: `H Qᵀ = Qᵀ T + β_m q e_mᵀ`, q a unit vector."""

    alpha: np.ndarray
    """Diagonal of T `[step]`."""
    beta: np.ndarray
    """Norm of what is left after each step `[step]`; all but the last are T's off-diagonal."""
    basis: Tensor
    """Orthonormal vectors, the rows of Q `[step, param]`."""
    exhausted: bool
    """Whether the Krylov space is invariant: all its eigenvalues are found."""

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values `[i]` ascending, residuals β_m |s_mi| `[i]`, vectors s `[step, i]`."""
        inner = self.beta[:-1]
        values, vectors = np.linalg.eigh(
            np.diag(self.alpha) + np.diag(inner, 1) + np.diag(inner, -1)
        )
        return values, self.beta[-1] * np.abs(vectors[-1]), vectors


def lanczos(
    matvec: Matvec,
    start: Tensor,
    steps: int,
    *,
    locked: Tensor | None = None,
    stop: Callable[[Tridiagonalization], bool] | None = None,
) -> Tridiagonalization:
    """Run Lanczos with full reorthogonalization, at most `steps` products with a symmetric H.

    Args:
        matvec: `v [param] -> H v [param]`.
        start: First vector `[param]`, of any length; its part along `locked` is removed.
        steps: Most products to take, at least 1; never more than the dimension left by `locked`.
        locked: Orthonormal vectors `[locked, param]` that the basis stays orthogonal to: what is
            tridiagonalized is H between projections onto their complement.
        stop: Asked after each step whether what is known suffices.

    Returns:
        The tridiagonalization: vectors in the dtype of `start`, scalars in float64.

    Source: Golub and Van Loan, Matrix Computations, 4th ed., section 10.3; reorthogonalization
        "twice is enough", Parlett, The Symmetric Eigenvalue Problem, section 6.9.
    """
    size = start.numel()
    locked = start.new_empty(0, size) if locked is None else locked
    steps = min(steps, size - len(locked))
    basis = start.new_empty(min(steps, _FIRST_ROWS), size)
    alpha, beta = [], []
    rest = _orthogonalize(start / norm(start), [locked])
    rest = rest / norm(rest)
    for step in range(1, steps + 1):
        if step > len(basis):
            basis = torch.cat([basis, basis.new_empty(min(len(basis), steps - len(basis)), size)])
        basis[step - 1] = rest
        product = matvec(basis[step - 1])
        alpha.append(float((basis[step - 1] * product).sum(dtype=torch.float64)))
        rest = _orthogonalize(product, [locked, basis[:step]])
        beta.append(norm(rest))
        floor = 10 * torch.finfo(start.dtype).eps * max(map(abs, alpha + beta))
        known = Tridiagonalization(
            alpha=np.array(alpha),
            beta=np.array(beta),
            basis=basis[:step],
            exhausted=beta[-1] <= floor or step == size - len(locked),
        )
        if known.exhausted or step == steps or (stop is not None and stop(known)):
            break
        rest = rest / beta[-1]
    return known


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm, summed in float64: float32 loses 1e-5 over a million entries."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def _orthogonalize(vector: Tensor, blocks: list[Tensor]) -> Tensor:
    """Remove a vector's parts along orthonormal rows, twice."""
    for block in blocks * 2:
        vector = vector - block.T @ (block @ vector)
    return vector
