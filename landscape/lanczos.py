"""Lanczos with full reorthogonalization and thick restart: an operator seen through a few vectors.

The space is spanned by orthonormal rows: vectors locked before, then Q. Each product with H is
split along all of them, so the coefficients C, G and h of

    H Q = Q C + Y G + q hᵀ        (Y locked, q the next unit vector)

are those of the products that were taken, rounding and asymmetry included, and the residuals that
follow from them need no further product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.basis import Basis, norm
from landscape.bounds import Sight

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Ritz:
    """Ritz pairs of a Krylov space, ascending, and what their residuals are made of."""

    values: np.ndarray
    """Rayleigh quotients of the Ritz vectors `[i]`."""
    vectors: np.ndarray
    """Their components in Q `[step, i]`."""
    tails: np.ndarray
    """The part |h s| of each residual that further steps make smaller `[i]`."""
    noise: np.ndarray
    """The part from rounding and asymmetry of the products, which they do not `[i]`."""
    across: np.ndarray
    """The part along locked vectors, themselves not exact `[i]`."""
    sight: Sight
    """What the start has seen, and what it may have missed."""

    @property
    def own_residuals(self) -> np.ndarray:
        """The same less the part along locked vectors."""
        return np.hypot(self.tails, self.noise)

    @property
    def residuals(self) -> np.ndarray:
        """‖H v − λ v‖ of each unit Ritz vector `[i]`."""
        return np.hypot(self.own_residuals, self.across)


class Krylov:
    """A Krylov space that can be cut back to some of its Ritz vectors and grown again.

    Args:
        rows: The first `locked` are orthonormal vectors that the space stays orthogonal to: it is
            one of H between projections onto their complement.
        size: Length of a vector.
        most: The most steps between restarts.
        locked: See `rows`.

    Source: Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000 (thick restart); Golub and Van Loan,
        Matrix Computations, 4th ed., section 10.3.
    """

    def __init__(self, rows: Basis, size: int, most: int, *, locked: int = 0) -> None:
        self.rows, self.size, self.most, self.locked = rows, size, most, locked
        self.scale = 0.0  # the largest coefficient of any product
        self._clear()

    def _clear(self) -> None:
        self.steps = 0  # counts what is valid: all else is written before it is raised
        self.kept = 0  # of the steps, Ritz vectors from before the last restart
        self.split = np.zeros((self.locked, self.most))  # G
        self.inner = np.zeros((self.most + 1, self.most))  # C, and h in the row below
        self.dropped = np.empty(0)  # Ritz values that restarts have left out
        self.log_norm = 0.0  # of the product of all β before the last restart
        self.lost = 0.0  # bound of the parts that restarts have dropped from H Q

    def start(self, vector: Tensor) -> None:
        """Begin anew with a vector `[param]` of any length, less its part along locked ones."""
        self._clear()
        rest, _ = self.rows.project_out(vector / norm(vector), self.locked)
        torch.div(rest, norm(rest), out=self.rows[self.locked])

    @property
    def last(self) -> Tensor:
        """The vector `[param]` whose product is wanted next."""
        return self.rows[self.locked + self.steps]

    def extend(self, product: Tensor) -> None:
        """Add one step, by the product `H last [param]`."""
        last = self.locked + self.steps
        rest, column = self.rows.project_out(product, last + 1)
        beta = norm(rest)
        if last + 1 < self.size:
            torch.div(rest, beta or 1.0, out=self.rows[last + 1])
        self.split[:, self.steps] = column[: self.locked]
        self.inner[: self.steps + 1, self.steps] = column[self.locked :]
        self.inner[self.steps + 1, : self.steps] = 0
        self.inner[self.steps + 1, self.steps] = beta
        self.scale = max(self.scale, beta, float(np.abs(column).max()))
        self.steps += 1

    @property
    def rounding(self) -> float:
        """A length that is not told from rounding, in units of λ."""
        return 10 * float(torch.finfo(self.rows[0].dtype).eps) * self.scale

    @property
    def exhausted(self) -> bool:
        """Whether the space is invariant: all its eigenvalues are found."""
        if self.locked + self.steps == self.size:
            return True
        return float(np.abs(self.inner[self.steps, : self.steps]).max()) <= self.rounding

    def ritz(self) -> Ritz:
        """The Ritz pairs of the space."""
        m = self.steps
        inner, link = self.inner[:m, :m], self.inner[m, :m]
        values, vectors = np.linalg.eigh((inner + inner.T) / 2)
        uneven = np.linalg.norm((inner - inner.T) / 2 @ vectors, axis=0)
        tails = np.abs(link @ vectors)
        sight = Sight(
            values=values, tails=tails, dropped=self.dropped, log_norm=self._log_norm_now()
        )
        return Ritz(
            values=values,
            vectors=vectors,
            tails=tails,
            noise=np.hypot(uneven, self.lost),
            across=np.linalg.norm(self.split[:, :m] @ vectors, axis=0),
            sight=sight,
        )

    def restart(self, known: Ritz, keep: np.ndarray) -> None:
        """Cut the space back to the Ritz vectors of the mask `keep [i]`, and the next vector."""
        m, kept = self.steps, known.vectors[:, keep]
        count = kept.shape[1]
        turn = np.eye(self.locked + m + 1, self.locked + count + 1)
        turn[self.locked :, self.locked :] = 0
        turn[self.locked : -1, self.locked : -1] = kept
        turn[-1, -1] = 1
        self.rows.rotate(turn)
        inner, link = self.inner[:m, :m], self.inner[m, :m]
        dropped = known.vectors[:, ~keep].T @ (inner - inner.T) / 2 @ kept
        self.lost = float(np.hypot(self.lost, np.linalg.norm(dropped)))
        self.log_norm = self._log_norm_now()
        self.dropped = np.concatenate([self.dropped, known.values[~keep]])
        turned, split = kept.T @ inner @ kept, self.split[:, :m] @ kept
        below = link @ kept
        self.inner[:] = 0
        self.inner[:count, :count] = turned
        self.inner[count, :count] = below
        self.split[:] = 0
        self.split[:, :count] = split
        self.steps = self.kept = count

    def lock(self, vectors: np.ndarray, most: int) -> None:
        """Lock some vectors, `[locked + step, vector]` in the rows of now, and forget the rest."""
        self.rows.rotate(vectors)
        self.locked, self.most = vectors.shape[1], most
        self._clear()

    def state(self) -> dict[str, np.ndarray]:
        """All that it is, as arrays by name; rows are not copied where they lie in memory."""
        m = self.steps
        count = min(self.locked + m + 1, self.size)
        return {
            "locked": np.array(self.locked),
            "kept": np.array(self.kept),
            "inner": self.inner[: m + 1, :m],
            "split": self.split[:, :m],
            "dropped": self.dropped,
            "norms": np.array([self.log_norm, self.lost, self.scale]),
            **{f"rows {row}": block.cpu().numpy() for row, block in self.rows.blocks(count)},
        }

    def take_up(self, state: Mapping[str, np.ndarray], most: int) -> None:
        """Become what `state` says."""
        self.locked, self.most = int(state["locked"]), most
        self._clear()
        m = state["inner"].shape[1]
        self.steps, self.kept, self.dropped = m, int(state["kept"]), state["dropped"]
        self.inner[: m + 1, :m], self.split[:, :m] = state["inner"], state["split"]
        self.log_norm, self.lost, self.scale = map(float, state["norms"])
        row = 0
        while f"rows {row}" in state:
            for vector in state[f"rows {row}"]:
                self.rows[row].copy_(torch.from_numpy(vector))
                row += 1

    def _log_norm_now(self) -> float:
        steps = np.arange(self.kept, self.steps)
        with np.errstate(divide="ignore"):
            return self.log_norm + float(np.log(self.inner[steps + 1, steps]).sum())


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

    Source: Golub and Van Loan, Matrix Computations, 4th ed., section 10.3.
    """
    size, count = start.numel(), 0 if locked is None else len(locked)
    steps = min(steps, size - count)
    rows = Basis(start, block=steps + 1, first=locked)
    krylov = Krylov(rows, size, steps, locked=count)
    krylov.start(start)
    while True:
        krylov.extend(matvec(krylov.last))
        m = krylov.steps
        known = Tridiagonalization(
            alpha=np.diagonal(krylov.inner)[:m].copy(),
            beta=np.diagonal(krylov.inner, -1)[:m].copy(),
            basis=list(rows.blocks(count + m))[-1][1],
            exhausted=krylov.exhausted,
        )
        if known.exhausted or m == steps or (stop is not None and stop(known)):
            return known
