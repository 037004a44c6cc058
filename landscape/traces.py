"""The trace of an operator by random probes, and what the same products tell beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from landscape.intervals import standard_error, t_interval
from landscape.lanczos import norm
from landscape.layouts import Layout
from landscape.objectives import Objective
from landscape.operators import Operator, Products, Progress, as_operator
from landscape.results import Trace
from landscape.savepoints import Savepoint

METHODS = ("hutchinson", "hutch++")

_CONFIDENCE = 0.95


def estimate_trace(
    source: Objective | Operator,
    *,
    probes: int,
    method: Literal["hutchinson", "hutch++"] = "hutchinson",
    seed: int,
    savepoint: Savepoint | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Estimate trace, Frobenius norm, effective rank and the layers' traces of the Hessian.

    "hutchinson": vᵀHv for probes v with entries ±1 (Rademacher) has the mean tr H and the variance
    2 (‖H‖_F² − Σ H_ii²), 0 for a diagonal H. ‖Hv‖² has the mean ‖H‖_F². The part v_l · (Hv)_l of a
    layer has the mean tr H_ll of its own block; the parts of a probe sum to its sample.

    "hutch++": a third of the products finds an orthonormal basis Q of H S for random S, a third is
    spent on the exact trace over Q, and the rest on probes projected off Q. Its error falls with
    1/probes where that of Hutchinson falls with 1/√probes if H is semidefinite, and it is exact
    for a rank of at most probes/3. Outliers of an indefinite H are taken out just as well, but no
    such rate is known for the rest. All other estimates hold for it too, and stay unbiased. Q takes
    param · probes/3 numbers of memory on the device, and a product's worth while it is made.

    Standard errors are those over probes, of hutch++ over those off Q: given Q they are
    independent. Interval: Student's t, which is right where samples are about normal; they are not
    if a few eigenvectors of large |λ| have a few large entries. Few probes then make the interval
    too short: take 20 or more. None of it covers the choice of data.

    Args:
        source: The loss as a function of theta, for its Hessian; or any operator.
        probes: Random vectors, at least 1; for hutch++ all products, at least 3.
        method: "hutchinson" or "hutch++".
        seed: Seed of the probes.
        savepoint: Where finished probes are kept.
        progress: Called with products done and products allowed.

    Returns:
        The trace. With a single probe, or a single one off Q, errors and interval are NaN. The
        error of the Frobenius norm is by the delta method, that of the effective rank by the
        jackknife. After Ctrl-C from the probes finished so far, with `facts["interrupted"]`.

    Raises:
        ValueError: An argument is out of range, or a product is not finite.
        KeyboardInterrupt: Ctrl-C before the first probe was finished.

    Source: Hutchinson, Communications in Statistics 1990; Meyer, Musco, Musco and Woodruff,
        Hutch++: Optimal Stochastic Trace Estimation, SOSA 2021, algorithm 1.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    least = 3 if method == "hutch++" else 1
    if probes < least:
        raise ValueError(f"probes must be at least {least} for {method}, got {probes}")
    operator = as_operator(source)
    products = Products(operator, probes, progress)
    layers = _Layers.of(operator.layout)
    sketched = min(probes // 3, operator.size) if method == "hutch++" else 0
    asked = {"seed": seed, "size": operator.size, "sketched": sketched}
    state = _State.resumed(savepoint, operator.origin, len(layers.names), asked)
    products.count = state.products
    interrupted = False
    try:
        _run(products, layers, state, probes, savepoint)
    except KeyboardInterrupt:
        state.save(savepoint)
        if not len(state.parts):
            raise
        interrupted = True
    products.show(end=True)
    facts: dict[str, Any] = {
        **operator.facts,
        "seed": seed,
        "probe": "Rademacher",
        "confidence": _CONFIDENCE,
    }
    if sketched:
        facts["sketch"] = state.rank
    if interrupted:
        facts["interrupted"] = True
    return _trace(state, layers, method, facts)


@dataclass(frozen=True, kw_only=True)
class _Layers:
    """Tensors grouped by the module that owns them."""

    layout: Layout
    names: tuple[str, ...]
    of_entry: np.ndarray  # layer of each entry

    @classmethod
    def of(cls, layout: Layout) -> "_Layers":
        """A tensor of no module is a layer of its own."""
        owners = [entry.name.rpartition(".")[0] or entry.name for entry in layout]
        names = tuple(dict.fromkeys(owners))
        return cls(
            layout=layout,
            names=names,
            of_entry=np.array([names.index(owner) for owner in owners], int),
        )

    @property
    def sizes(self) -> np.ndarray:
        """Parameters of each layer."""
        return self.sums(np.array([entry.size for entry in self.layout], float)).astype(int)

    def sums(self, per_entry: np.ndarray) -> np.ndarray:
        """Add up what belongs to each layer."""
        return np.bincount(self.of_entry, weights=per_entry, minlength=len(self.names))

    def measure(self, v: Tensor, image: Tensor) -> np.ndarray:
        """Return vᵀAv of each layer and then ‖Av‖² `[layer + 1]`, from v and Av."""
        pairs = v * image
        sums = [pairs[entry.slice].sum(dtype=torch.float64) for entry in self.layout]
        return np.append(self.sums(torch.stack(sums).cpu().numpy()), norm(image) ** 2)


@dataclass(kw_only=True)
class _State:
    """What is finished: the sketch, what its basis holds, and the probes off it."""

    asked: dict[str, int]
    rows: Tensor  # room for Q [sketched, param]
    rank: int  # orthonormal rows of Q that are there
    drawn: int  # random vectors of the sketch that went into them
    inside: np.ndarray  # measured for each row of Q [row, layer + 1]
    parts: np.ndarray  # measured for each probe off Q [probe, layer + 1]

    @classmethod
    def resumed(
        cls, savepoint: Savepoint | None, origin: Tensor, layers: int, asked: dict[str, int]
    ) -> "_State":
        """Take up a saved state that is of the same question, or begin."""
        rows = origin.new_empty(asked["sketched"], origin.numel())
        empty = np.empty((0, layers + 1))
        saved: Mapping[str, np.ndarray] = (savepoint.load() if savepoint else None) or {}
        if any(name not in saved or int(saved[name]) != value for name, value in asked.items()):
            return cls(asked=asked, rows=rows, rank=0, drawn=0, inside=empty, parts=empty)
        rank = len(saved["basis"])
        rows[:rank] = torch.from_numpy(saved["basis"]).to(origin)
        return cls(
            asked=asked,
            rows=rows,
            rank=rank,
            drawn=int(saved["drawn"]),
            inside=saved["inside"],
            parts=saved["parts"],
        )

    @property
    def basis(self) -> Tensor:
        """Orthonormal rows `[rank, param]`."""
        return self.rows[: self.rank]

    @property
    def products(self) -> int:
        """Products that went into what is known."""
        return self.drawn + len(self.inside) + len(self.parts)

    def off(self, v: Tensor) -> Tensor:
        """Remove the part of a vector along the basis, twice."""
        for _ in range(2 if self.rank else 0):
            v = v - self.basis.T @ (self.basis @ v)
        return v

    def widen(self, image: Tensor) -> None:
        """Take the image of a sketch vector into the basis, unless it lies in it already."""
        rest = self.off(image)
        length = norm(rest)
        if length > 10 * torch.finfo(image.dtype).eps * norm(image):
            self.rows[self.rank] = self.off(rest / length)
            self.rank += 1
        self.drawn += 1

    def save(self, savepoint: Savepoint | None) -> None:
        """Keep what is known."""
        if savepoint is not None:
            counts = {**self.asked, "drawn": self.drawn}
            arrays = {"basis": self.basis.cpu().numpy(), "inside": self.inside, "parts": self.parts}
            savepoint.save({**arrays, **{name: np.array(value) for name, value in counts.items()}})


def _run(
    products: Products, layers: _Layers, state: _State, probes: int, savepoint: Savepoint | None
) -> None:
    """Do what is missing; random vectors that have been used are drawn and left alone."""
    origin = products.operator.origin
    generator = torch.Generator().manual_seed(state.asked["seed"])

    def save_if_due() -> None:
        if savepoint is not None and savepoint.due():
            state.save(savepoint)

    for index in range(state.asked["sketched"]):
        signs = _signs(origin, generator)
        if index >= state.drawn:
            state.widen(products(signs))
            save_if_due()
    for row in state.basis[len(state.inside) :]:
        state.inside = np.vstack([state.inside, layers.measure(row, products(row))])
        save_if_due()
    wanted = probes - state.asked["sketched"] - state.rank
    state.parts = state.parts[:wanted]
    for probe in range(wanted):
        signs = _signs(origin, generator)
        if probe >= len(state.parts):
            v = state.off(signs)
            state.parts = np.vstack([state.parts, layers.measure(v, products(v))])
            products.note = _note(state)
            save_if_due()


def _signs(origin: Tensor, generator: torch.Generator) -> Tensor:
    """Draw entries ±1 on the CPU: a seed means the same on every device."""
    size = origin.numel()
    return (torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8) * 2 - 1).to(origin)


def _note(state: _State) -> str:
    samples = state.inside[:, :-1].sum() + state.parts[:, :-1].sum(axis=1)
    error = standard_error(samples)
    return f"trace {samples.mean():.4g}" + (f" ± {error:.2g}" if math.isfinite(error) else "")


def _trace(state: _State, layers: _Layers, method: str, facts: dict[str, Any]) -> Trace:
    held = state.inside.sum(axis=0)  # exact over the basis
    parts, squares = state.parts[:, :-1] + held[:-1], state.parts[:, -1] + held[-1]
    samples = parts.sum(axis=1)
    low, high = t_interval(samples, _CONFIDENCE)
    frobenius, error = math.sqrt(squares.mean()), standard_error(squares)
    rank, rank_error = _effective_rank(samples, squares)
    return Trace(
        method=method,
        samples=samples,
        trace=float(samples.mean()),
        standard_error=standard_error(samples),
        interval_low=low,
        interval_high=high,
        frobenius=frobenius,
        frobenius_error=error / (2 * frobenius) if frobenius else error,
        effective_rank=rank,
        effective_rank_error=rank_error,
        layer_names=layers.names,
        layer_size=layers.sizes,
        layer_trace=parts.mean(axis=0),
        layer_error=np.array([standard_error(part) for part in parts.T]),
        size=layers.layout.size,
        matvecs=state.products,
        facts={**facts, "probes": len(samples)},
    )


def _effective_rank(samples: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """Return (tr H)² / ‖H‖_F² and its error by the jackknife over probes; NaN for H = 0."""
    probes = len(samples)
    if not squares.mean() > 0:
        return math.nan, math.nan
    rank = float(samples.mean() ** 2 / squares.mean())
    if probes < 2:
        return rank, math.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # one probe alone may have seen H ≠ 0
        without = (samples.sum() - samples) ** 2 / (squares.sum() - squares) / (probes - 1)
        return rank, math.sqrt((probes - 1) * float(without.var()))
