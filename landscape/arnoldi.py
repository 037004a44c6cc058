"""Leading eigenvalues of an operator that is not symmetric, by Arnoldi with thick restarts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.lanczos import Matvec, norm
from landscape.savepoints import Savepoint

End = tuple[Callable[[np.ndarray], np.ndarray], int]
"""What to rank complex eigenvalues by, and how many of the first are wanted."""

LARGEST: Callable[[np.ndarray], np.ndarray] = np.abs

# A random start holds about 1/√size of each eigenvector: a residual may be small before that part
# has grown, so nothing is believed before this many products unless the space is exhausted.
_LEAST_STEPS = 12
_MARGIN = 0.5  # share of the tolerance asked for while searching, which residuals are checked after
_PARALLEL = 1e-6  # singular value below which eigenvectors of S count as one
_EVERY_STEP = 30  # up to here convergence is asked for at every step, then at each fifth


@dataclass(frozen=True, kw_only=True)
class Leading:
    """Eigenvalues found, largest magnitude first; of conjugate pairs both."""

    values: np.ndarray
    """Complex `[i]`."""
    residuals: np.ndarray
    """‖A v − μ v‖ of each unit vector `[i]`."""
    vectors: Tensor
    """Unit vectors, complex `[i, entry]`."""
    products: int
    converged: bool
    """Whether all wanted are within the tolerance."""
    interrupted: bool = False


def find_leading(
    matvec: Matvec,
    start: Tensor,
    *,
    ends: Sequence[End] = ((LARGEST, 1),),
    tolerance: float,
    seed: int,
    max_products: int,
    max_vectors: int = 40,
    savepoint: Savepoint | None = None,
    note: Callable[[str], None] | None = None,
) -> Leading:
    """Find the eigenvalues of a real operator that lead by one or several measures.

    Arnoldi with full orthogonalization. When the basis is full it is cut down to the space of the
    Ritz values that lead, and built up from there again (Krylov–Schur): memory is bounded by
    `max_vectors` + 1 vectors, besides those returned. Found values are checked at the end by one
    product with each vector of their space; the residuals are of these products. The operator is
    not normal, so a residual says that the value is exact for an operator this close, not how near
    the next eigenvalue is. A multiple eigenvalue may be found once only.

    Args:
        matvec: `v [entry] -> A v [entry]`.
        start: First vector `[entry]`, of any length; random, so that no eigenvector is left out.
        ends: What to rank eigenvalues by, and how many are wanted of each ranking; equal for
            conjugates. By default the largest magnitude.
        tolerance: Largest residual, relative to the largest |μ| seen.
        seed: Of the vectors that go on where a Krylov space is exhausted.
        max_products: Most products to take, those of the check included.
        max_vectors: Size of the basis; at least 4 more than twice all that is wanted.
        savepoint: Where the basis is saved now and then, and taken up from.
        note: Told what is known so far, in a few words, after each product.

    Raises:
        ValueError: If a number is out of range, or the saved state is of another computation.
        KeyboardInterrupt: If it came before anything was known.

    Source: Stewart, A Krylov–Schur algorithm for large eigenproblems, SIAM J. Matrix Anal. 2001.
    """
    limit = min(max_vectors, start.numel())
    reserve = _check(ends, tolerance, max_products, limit, start.numel())
    search = _Search(matvec, start, ends, tolerance, seed, limit)
    if savepoint is not None and (state := savepoint.load()) is not None:
        search.restore(state)
    try:
        while not search.done and search.products < max_products - reserve:
            search.advance()
            if note is not None:
                note(search.told())
            if savepoint is not None and savepoint.due():
                savepoint.save(search.state())
        return search.checked()
    except KeyboardInterrupt:
        found = search.unchecked()
        if savepoint is not None:
            savepoint.save(search.state())
        return found


def _check(ends: Sequence[End], tolerance: float, allowed: int, limit: int, size: int) -> int:
    """Refuse what can't be asked for; return how many products the check at the end may take."""
    wanted = sum(count for _, count in ends)
    needed, reserve = min(2 * wanted + 4, size), min(2 * wanted, size)
    if not 1 <= wanted <= size or not tolerance > 0:
        raise ValueError(
            f"between 1 and {size} eigenvalues and a tolerance above 0 can be asked for, got "
            f"{wanted} and {tolerance}"
        )
    if limit < needed:
        raise ValueError(
            f"max_vectors must be at least {needed} for {wanted} eigenvalues, got {limit}"
        )
    if allowed < reserve + 2:
        raise ValueError(
            f"max_products must be at least {reserve + 2} for {wanted} eigenvalues, got {allowed}"
        )
    return reserve


class _Search:
    """A Krylov space A V = V S + v bᵀ, V and v the rows of `basis`, S and b those of `inner`."""

    def __init__(
        self,
        matvec: Matvec,
        start: Tensor,
        ends: Sequence[End],
        tolerance: float,
        seed: int,
        limit: int,
    ) -> None:
        self.matvec, self.ends, self.tolerance, self.limit = matvec, ends, tolerance, limit
        self.wanted = sum(count for _, count in ends)
        self.generator = torch.Generator().manual_seed(seed)
        self.rows = (start / norm(start)).unsqueeze(0)
        self.inner = np.zeros((limit + 1, limit))
        self.steps = self.products = 0
        self.done = False

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors so far `[step, entry]`."""
        return self.rows[: self.steps]

    def advance(self) -> None:
        """Take one product; cut the basis down first where it is full."""
        if self.steps == self.limit:
            self._restart()
        place, size = self.steps, self.rows.shape[1]
        product = self.matvec(self.rows[place])
        rest, self.inner[: place + 1, place] = _orthogonalize(product, self.rows[: place + 1])
        if place + 1 < size:
            length, scale = norm(rest), float(np.abs(self.inner).max())
            if length <= 10 * torch.finfo(rest.dtype).eps * scale:
                length, rest = 0.0, self._fresh(place + 1)
            self.inner[place + 1, place] = length
            self._put(place + 1, rest / norm(rest))
        self.steps, self.products = place + 1, self.products + 1  # last: an interrupt may come
        self.done = self._suffices()

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values `[i]`, residuals |bᵀ y| `[i]` and unit vectors y `[step, i]`."""
        m = self.steps
        values, vectors = _eigen(self.inner[:m, :m])
        return values, np.abs(self.inner[m, :m] @ vectors), vectors

    def told(self) -> str:
        """The leading Ritz value and its residual, in a few words."""
        values, residuals, _ = self.ritz()
        first = int(np.argmax(np.abs(values)))
        return f"|μ| {abs(values[first]):.4g}, residual {residuals[first]:.1e}"

    def checked(self) -> Leading:
        """What is wanted, best within its space, with the residuals of products taken now.

        Raises:
            KeyboardInterrupt: If it came, to be answered by `unchecked`.
        """
        space = torch.from_numpy(self._space(0).T.copy()).to(self.basis) @ self.basis
        images = torch.stack([self.matvec(row) for row in space])
        projected = torch.stack([(row * images).sum(1, dtype=torch.float64) for row in space])
        values, inner = _eigen(projected.cpu().numpy())
        chosen = _chosen(values, self.ends, 0)
        vectors, moved = (_combine(inner[:, chosen], part) for part in (space, images))
        lengths = _norms(vectors)
        errors = moved - torch.from_numpy(values[chosen]).to(vectors)[:, None] * vectors
        residuals = _norms(errors) / lengths
        largest = float(np.abs(values).max())
        return Leading(
            values=values[chosen],
            residuals=residuals,
            vectors=vectors / torch.from_numpy(lengths).to(vectors)[:, None],
            products=self.products + len(space),
            converged=self.done and bool((residuals <= self.tolerance * largest).all()),
        )

    def unchecked(self) -> Leading:
        """What is wanted as far as it is known, with residuals from the basis alone.

        Raises:
            KeyboardInterrupt: If nothing is known.
        """
        if self.steps == 0:
            raise KeyboardInterrupt
        values, residuals, vectors = self.ritz()
        chosen = _chosen(values, self.ends, 0)
        return Leading(
            values=values[chosen],
            residuals=residuals[chosen],
            vectors=_combine(vectors[:, chosen], self.basis),
            products=self.products,
            converged=False,
            interrupted=True,
        )

    def state(self) -> dict[str, np.ndarray]:
        """All that the search goes on from."""
        return {
            "rows": self.rows[: self.steps + 1].cpu().numpy(),
            "inner": self.inner,
            "counts": np.array([self.steps, self.products]),
            "generator": self.generator.get_state().numpy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a state.

        Raises:
            ValueError: If it is of vectors or a basis of other sizes.
        """
        rows, inner = state["rows"], state["inner"]
        if inner.shape != self.inner.shape or rows.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"the saved state must be of {self.limit} vectors with {self.rows.shape[1]} "
                f"entries, got {inner.shape[1]} with {rows.shape[1]}; remove it to begin anew"
            )
        self.rows, self.inner = torch.from_numpy(rows.copy()).to(self.rows), inner.copy()
        self.steps, self.products = (int(count) for count in state["counts"])
        self.generator.set_state(torch.from_numpy(state["generator"].copy()))
        self.done = self._suffices()

    def _suffices(self) -> bool:
        """Whether all that is wanted has converged."""
        everything = self.steps == self.rows.shape[1]
        if everything:
            return True
        if self.products < _LEAST_STEPS or self.steps < self.wanted:
            return False
        if self.steps > _EVERY_STEP and self.steps % 5 and self.steps < self.limit:
            return False
        values, residuals, _ = self.ritz()
        slack = _MARGIN * self.tolerance * float(np.abs(values).max())
        return bool((residuals[_chosen(values, self.ends, 0)] <= slack).all())

    def _restart(self) -> None:
        """Keep what leads: the wanted, and about half of the rest of the basis."""
        extra = (self.limit - 2 * self.wanted) // (2 * len(self.ends))
        chosen = self._space(max(extra, 1))
        m, kept = self.steps, chosen.shape[1]
        inner = np.zeros_like(self.inner)
        inner[:kept, :kept] = chosen.T @ self.inner[:m, :m] @ chosen
        inner[kept, :kept] = self.inner[m, :m] @ chosen
        rows = torch.cat(
            [torch.from_numpy(chosen.T.copy()).to(self.rows) @ self.basis, self.rows[m : m + 1]]
        )
        self.rows, self.inner, self.steps = rows, inner, kept

    def _space(self, extra: int) -> np.ndarray:
        """Orthonormal columns `[step, i]`: the invariant space of S of what leads."""
        values, _, vectors = self.ritz()
        chosen = _chosen(values, self.ends, extra)
        upper = chosen[np.imag(values[chosen]) >= 0]
        turning = upper[np.imag(values[upper]) > 0]
        parts = [np.real(vectors[:, upper]), np.imag(vectors[:, turning])]
        left, sizes, _ = np.linalg.svd(np.concatenate(parts, axis=1), full_matrices=False)
        return left[:, sizes > _PARALLEL * sizes[0]]

    def _fresh(self, rows: int) -> Tensor:
        """A random vector orthogonal to the basis, where its space is exhausted."""
        drawn = torch.randn(self.rows.shape[1], generator=self.generator, dtype=torch.float64)
        return _orthogonalize(drawn.to(self.rows), self.rows[:rows])[0]

    def _put(self, place: int, row: Tensor) -> None:
        if place >= len(self.rows):
            more = min(max(len(self.rows), 8), self.limit + 1 - len(self.rows))
            self.rows = torch.cat([self.rows, self.rows.new_empty(more, self.rows.shape[1])])
        self.rows[place] = row


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Complex eigenvalues `[i]` and unit eigenvectors `[step, i]`; conjugates to the bit."""
    values, vectors = np.linalg.eig(matrix)
    return values.astype(np.complex128), vectors.astype(np.complex128)


def _chosen(values: np.ndarray, ends: Sequence[End], extra: int) -> np.ndarray:
    """Indices of what leads, `extra` more for each end; pairs whole, largest magnitude first."""
    mask = np.zeros(len(values), bool)
    for key, count in ends:
        mask[np.argsort(-key(values), kind="stable")[: count + extra]] = True
    mask |= np.isin(values, values[mask].conj())
    chosen = np.flatnonzero(mask)
    return chosen[np.lexsort((-np.imag(values[chosen]), -np.abs(values[chosen])))]


def _orthogonalize(vector: Tensor, block: Tensor) -> tuple[Tensor, np.ndarray]:
    """A vector without its parts along orthonormal rows, removed twice, and these parts."""
    parts = torch.zeros(len(block), dtype=torch.float64)
    for _ in range(2):
        part = block @ vector
        vector = vector - block.T @ part
        parts += part.cpu().double()
    return vector, parts.numpy()


def _combine(inner: np.ndarray, rows: Tensor) -> Tensor:
    """Complex vectors `[i, entry]` from their components `[step, i]` along real rows."""
    real, imaginary = (
        torch.from_numpy(part.T.copy()).to(rows) @ rows for part in (np.real(inner), np.imag(inner))
    )
    return torch.complex(real, imaginary)


def _norms(vectors: Tensor) -> np.ndarray:
    squares = sum(
        part.square().sum(1, dtype=torch.float64) for part in (vectors.real, vectors.imag)
    )
    return torch.as_tensor(squares).sqrt().cpu().numpy()
