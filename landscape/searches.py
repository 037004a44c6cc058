"""The search for eigenpairs, sweep by sweep: what is found, what is still wanted, when to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.basis import Basis, norm
from landscape.bounds import CONFIDENCE, least_part
from landscape.lanczos import Krylov, Ritz
from landscape.operators import Products
from landscape.rankings import WHICH, best_of, ends_of, order_of, signs_of
from landscape.savepoints import Savepoint

_EVERY_STEP = 50  # up to here convergence is asked for at every step, then 25 times per doubling
_BLOCK = 4  # rows by which the basis grows
_GUARD = 0.1  # of the largest magnitude: see find_eigenpairs
_ROOM = 10  # steps that locking what is not wanted must leave room for
_RANDOM_SHARE = 0.01  # of the squared length of a start that holds given vectors
_PIECE = 1 << 20  # random numbers that are drawn at a time


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for; see `find_eigenpairs`."""

    k: int
    which: str
    tolerance: float
    seed: int
    copies: bool
    allowed: int
    vectors: int


class Search:
    """Eigenpairs locked so far, and the sweep that looks for more.

    Args:
        request: What is asked for.
        origin: A vector `[param]` of the dtype and on the device wanted.
        start: A unit vector that the first sweep's start mostly is.
    """

    def __init__(self, request: Request, origin: Tensor, *, start: Tensor | None) -> None:
        self.request, self._origin, self._size = request, origin, origin.numel()
        self.finished = self.complete = self.interrupted = False
        self.scale = 0.0  # largest |λ| or |Ritz value| seen
        self.top = -np.inf  # largest Rayleigh quotient seen
        self.values = self.residuals = np.empty(0)  # of the locked
        self.mixed = False  # whether a residual is too large by its part along locked vectors
        self._sweeps, self._high, self._given = 0, np.nan, start is not None
        self._generator = torch.Generator().manual_seed(request.seed)
        self._krylov = Krylov(Basis(origin, block=_BLOCK), self._size, self._most(0))
        self._krylov.start(self._first(start))

    @property
    def slack(self) -> float:
        """Largest residual that is within the tolerance, in units of λ."""
        return self.request.tolerance * self.scale

    @property
    def lambda_max_high(self) -> float:
        """Upper bound of the largest eigenvalue, by the first sweep; NaN if not from random."""
        if self._given:
            return np.nan
        return self._high if self._sweeps else self._upper(self._krylov.ritz())

    def run(self, products: Products, savepoint: Savepoint | None) -> None:
        """Search until all is found, `request.allowed` products are taken, or Ctrl-C.

        Raises:
            KeyboardInterrupt: If nothing is known yet.
        """
        state = None if savepoint is None else savepoint.load()
        if state is not None:
            self._take_up(state)
            products.count = int(state["products"])
        used = products.count
        try:
            while not self.finished and used < self.request.allowed:
                product = products(self._krylov.last)
                with _uninterrupted():
                    used = products.count
                    self._krylov.extend(product)
                    del product  # not two at a time
                    products.note = self._advance()
                    if savepoint is not None and not self.finished and savepoint.due():
                        savepoint.save(self._state(used))
        except KeyboardInterrupt:
            if not len(self.values) + self._krylov.steps:
                raise
            self.interrupted, products.count = True, used
            if savepoint is not None and not self.finished:
                savepoint.save(self._state(used))

    def best(self, *, spare: bool) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """The k best values, residuals and vectors `[k, param]`, in order; ends the search.

        With `spare` all that are locked besides.
        """
        krylov, found = self._krylov, len(self.values)
        values, residuals, vectors = self.values, self.residuals, np.eye(found)
        if krylov.steps and not (self.finished and found >= self.request.k):
            known = krylov.ritz()
            belongs = self._belonging(known.values)
            values = np.concatenate([values, known.values[belongs]])
            residuals = np.concatenate([residuals, known.residuals[belongs]])
            vectors = _side_by_side(vectors, known.vectors[:, belongs])
        k = len(values) if spare else self.request.k
        chosen = np.flatnonzero(best_of(values, self.request.which, k))
        chosen = chosen[order_of(values[chosen], self.request.which)]
        krylov.rows.rotate(vectors[:, chosen])
        krylov.rows.straighten(len(chosen))
        return values[chosen], residuals[chosen], krylov.rows.cut(len(chosen))

    def _advance(self) -> str:
        """Look at what the last step has shown and go on from there; returns it in a few words."""
        krylov, request = self._krylov, self.request
        m, exhausted = krylov.steps, krylov.exhausted
        full = exhausted or m == krylov.most
        if m > _EVERY_STEP and m % (m // 25) and not full:
            return ""
        known = krylov.ritz()
        self.scale = max(self.scale, float(np.abs(known.values).max()))
        self.top = max(self.top, float(known.values.max()))
        belongs = self._belonging(known.values)
        reached = (known.own_residuals <= self.slack) | (known.tails <= known.noise)
        note = self._note(known, belongs, reached)
        if exhausted or self._ends_sweep(known, belongs, reached):
            checked = len(self.values) >= request.k and not belongs.any()
            self._lock(known, belongs)
            self.complete = checked or krylov.locked == self._size
            enough = len(self.values) >= request.k
            self.finished = self.complete or (enough and not request.copies)
            if not self.finished:
                krylov.start(_random(self._origin, self._generator))
        elif full:
            wanted = max(1, int(belongs.sum()))
            keep = best_of(known.values, request.which, wanted + (m - wanted) // 2)
            krylov.restart(known, keep)
        return note

    def _ends_sweep(self, known: Ritz, belongs: np.ndarray, reached: np.ndarray) -> bool:
        """Whether what is wanted of a sweep has converged, or surely is not there."""
        found, part = len(self.values), self._part()
        if found + len(known.values) < self.request.k or not reached[belongs].all():
            return False
        if belongs.any() and self.request.copies:
            return True
        levels = self._levels() if found >= self.request.k else self._beyond(known)
        sights = {1: known.sight, -1: known.sight.mirrored()}
        return all(sights[sign].excludes(level, part / len(levels)) for sign, level in levels)

    def _levels(self) -> list[tuple[int, float]]:
        """Where an eigenvalue of what is not locked would be missed: (sign, least sign · λ)."""
        levels = []
        for key, count in ends_of(self.request.which, self.request.k):
            last = float(np.sort(key(self.values))[-count])
            levels += [(sign, last + 2 * self.slack) for sign in signs_of(key)]
        return levels

    def margin(self) -> float:
        """By how much no eigenvalue can exceed the last one wanted, if complete, in units of λ.

        With values θ locked whose residuals are r, H has as many eigenvalues above μ as there are
        θ above μ and eigenvalues above μ of what is not locked and raised by Σ r² / (μ − θ), the
        sum over the θ below μ. Source: Sylvester's law of inertia.
        """
        margins = []
        for sign, level in self._levels():
            beyond = level + self.slack * np.linspace(0, 10, 1001)[:, None]
            gaps = beyond - sign * self.values
            raised = np.divide(self.residuals**2, gaps, where=gaps > 0, out=np.zeros(gaps.shape))
            fine = beyond[:, 0] - raised.sum(1) >= level
            margins.append(beyond[np.argmax(fine), 0] - level if fine.any() else np.inf)
        return 2 * self.slack + max(margins)

    def _beyond(self, known: Ritz) -> list[tuple[int, float]]:
        """Levels a little beyond each end asked for of what a sweep has found."""
        ends = ends_of(self.request.which, self.request.k)
        return [
            (sign, float(key(known.values).max()) + _GUARD * self.scale)
            for key, _ in ends
            for sign in signs_of(key)
        ]

    def _part(self) -> float:
        part = least_part(self._size - self._krylov.locked, 1 - CONFIDENCE)
        return part * _RANDOM_SHARE**0.5 if self._given and not self._sweeps else part

    def _upper(self, known: Ritz) -> float:
        return known.sight.upper(self._part()) + float(known.noise[-1])

    def _lock(self, known: Ritz, belongs: np.ndarray) -> None:
        """Lock what a sweep has found, and what stands in the way of the next."""
        if not self._sweeps:
            self._high = self._upper(known)
        self._sweeps += 1
        found = len(self.values)
        values = np.concatenate([self.values, known.values])
        residuals = np.concatenate([self.residuals, known.residuals])
        own = np.concatenate([self.residuals, known.own_residuals])
        pool = np.concatenate([np.ones(found, bool), belongs])
        keep = np.zeros(len(values), bool)
        keep[np.flatnonzero(pool)[best_of(values[pool], self.request.which, self.request.k)]] = True
        beyond = residuals > max(self.slack, self._krylov.rounding)
        self.mixed |= bool((beyond & (own <= self.slack) & keep).any())
        self.values, self.residuals = values[keep], residuals[keep]
        if self.request.copies and len(self.values) >= self.request.k:
            keep |= self._bystanders(~keep, values, residuals)
        vectors = _side_by_side(np.eye(found), known.vectors)[:, keep]
        self._krylov.lock(vectors, self._most(vectors.shape[1]))
        self.values, self.residuals = values[keep], residuals[keep]

    def _bystanders(
        self, free: np.ndarray, values: np.ndarray, residuals: np.ndarray
    ) -> np.ndarray:
        """Mask pairs that are not wanted, but lock well: their residuals hardly move the levels.

        The next sweep need not find them again before it sees what it looks for.
        """
        move = np.where(free, 0.0, np.inf)
        for sign, level in self._levels():
            gaps = level - sign * values
            far = np.divide(residuals**2, gaps, where=gaps > 0, out=np.full(len(gaps), np.inf))
            move = np.maximum(move, far)
        order = np.argsort(move, kind="stable")
        few = int((np.cumsum(move[order]) <= self.slack / 2).sum())
        room = self.request.vectors - 1 - len(self.values) - _ROOM
        mask = np.zeros(len(values), bool)
        mask[order[: max(0, min(few, room))]] = True
        return mask

    def _belonging(self, values: np.ndarray) -> np.ndarray:
        """Mask the Ritz values that belong among the k wanted; ties do not."""
        enough, found = len(self.values) >= self.request.k, len(self.values)
        belongs = np.zeros(found + len(values), bool)
        for key, count in ends_of(self.request.which, self.request.k):
            keys = np.concatenate([key(self.values), key(values) - self.slack * enough])
            belongs[np.argsort(-keys, kind="stable")[:count]] = True
        return belongs[found:]

    def _most(self, locked: int) -> int:
        """The most steps of a sweep beside locked vectors and the next vector."""
        rows = min(self.request.vectors - 1, self.request.allowed)
        return min(max(rows - locked, 2), self._size - locked)

    def _first(self, given: Tensor | None) -> Tensor:
        """The first start: random, or with a random part."""
        vector = _random(self._origin, self._generator)
        if given is None:
            return vector
        vector.mul_(_RANDOM_SHARE**0.5 / norm(vector))
        return vector.add_(given, alpha=(1 - _RANDOM_SHARE) ** 0.5)

    def _note(self, known: Ritz, belongs: np.ndarray, reached: np.ndarray) -> str:
        """A few words like "λ1 23.41 ± 2e-3, 3 of 5 within"."""
        k, which = self.request.k, self.request.which
        values = np.concatenate([self.values, known.values[belongs]])
        errors = np.concatenate([self.residuals, known.residuals[belongs]])
        first = order_of(values, which)[0]
        found = len(self.values) + int((reached & belongs).sum())
        rest = "seeking copies" if len(self.values) >= k else f"{min(found, k)} of {k} within"
        error = f"{errors[first]:.0e}".replace("e-0", "e-")
        return f"λ1 {values[first]:.4g} ± {error}, {rest}"

    def _identity(self) -> dict[str, np.ndarray]:
        """What a saved state must agree in."""
        asked = self.request
        numbers = [asked.k, WHICH.index(asked.which), asked.copies, asked.vectors, self._given]
        numbers += [self._size, self._origin.element_size()]
        return {
            "request": np.array(numbers, np.int64),
            "seed": np.array(asked.seed % 2**64, np.uint64),
            "tolerance": np.array(asked.tolerance),
        }

    def _state(self, products: int) -> dict[str, np.ndarray]:
        """All that is needed to go on, as arrays by name."""
        return {
            **self._identity(),
            "products": np.array(products),
            "sweeps": np.array(self._sweeps),
            "seen": np.array([self.scale, self.top, self._high, self.mixed]),
            "values": self.values,
            "residuals": self.residuals,
            "generator": self._generator.get_state().numpy(),
            **self._krylov.state(),
        }

    def _take_up(self, state: dict[str, np.ndarray]) -> None:
        for name, value in self._identity().items():
            if name not in state or not np.array_equal(state[name], value):
                raise ValueError(
                    "a saved state of eigenpairs must be of the same request (k, which, tolerance, "
                    f"seed, copies, max_vectors, start, parameters), got another {name}; remove it "
                    "to begin anew"
                )
        self._sweeps = int(state["sweeps"])
        self.scale, self.top, self._high, mixed = map(float, state["seen"])
        self.mixed = bool(mixed)
        self.values, self.residuals = state["values"], state["residuals"]
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
        self._krylov.take_up(state, self._most(int(state["locked"])))


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The block diagonal matrix of two."""
    both = np.zeros(np.add(left.shape, right.shape))
    both[: len(left), : left.shape[1]] = left
    both[len(left) :, left.shape[1] :] = right
    return both


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    """A vector `[param]` of independent normal numbers, the same in every dtype."""
    vector = torch.empty_like(like)
    for piece in vector.split(_PIECE):
        piece.copy_(torch.randn(len(piece), generator=generator, dtype=torch.float64))
    return vector


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until what is within is done: a basis half rotated is none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    before = signal.signal(signal.SIGINT, lambda *given: held.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if held and callable(before):
        before(*held[0])
