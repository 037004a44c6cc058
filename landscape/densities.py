"""The spectral density of an operator by stochastic Lanczos quadrature."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.intervals import standard_error
from landscape.lanczos import lanczos, norm
from landscape.objectives import Objective
from landscape.operators import Operator, Products, Progress, as_operator
from landscape.quadrature import node_spacing, power_sums, probe_distance, wasserstein_bound
from landscape.results import Density, Spectrum
from landscape.savepoints import Savepoint

_CONFIDENCE = 0.95
# A measured residual this many tolerances large is not that of an eigenpair of this operator.
_FOREIGN = 10.0


def estimate_density(
    source: Objective | Operator,
    *,
    probes: int,
    steps: int,
    seed: int,
    deflate: Spectrum | None = None,
    savepoint: Savepoint | None = None,
    progress: Progress | None = None,
) -> Density:
    """Estimate the spectral density of the Hessian by stochastic Lanczos quadrature.

    Each probe v, a random unit vector, gives nodes θ_i, the Ritz values of `steps` Lanczos steps,
    and weights w_i, the squared first components of the eigenvectors of T. Σ w_i θ_i^p is
    vᵀ H^p v for p <= 2 steps − 1, and the density is Σ w_i N(θ_i, σ²), averaged over probes. The
    outermost nodes are kept, whatever their weight.

    Without `deflate` the entries of a probe are ±1/√param (Rademacher): the variance is smallest,
    and none for a diagonal H. With it eigenpairs that are known, `outliers`, are projected out of
    the probes and of every Lanczos vector, and the nodes describe the other eigenvalues. Probes
    are then drawn from the sphere, which a projection leaves a sphere: nothing is biased, and
    tr H is Σ outliers + (size − outliers) Σ w_i θ_i on average. Deflated are the pairs within
    their tolerance that their residuals separate from 0 and from every pair that is not deflated.
    They are measured once more: `facts["deflation_error"]` is the largest shift of any eigenvalue
    by what couples their span to the rest, ‖(1 − VVᵀ) H V‖_F.

    σ is the median of the node spacing by mass: half of the spectrum is drawn at least as smooth as
    it is resolved, whatever the units of the loss. Where every probe has exhausted its Krylov
    space the nodes are eigenvalues, and σ is 1 % of the largest |θ| if the spacing is more. It is
    never less than rounding.

    `facts["w1_bound"]` bounds, with probability `facts["w1_confidence"]` over probes, the W₁
    distance in units of λ between nodes and weights and the true spectrum of these data. The range
    that it is a share of is measured by the outermost nodes. It covers neither the choice of data
    nor the tails on a log axis. `facts["w1_between_probes"]` is how far apart the probes lie.

    Args:
        source: The loss as a function of theta, for its Hessian; or any operator.
        probes: How many random vectors, at least 1; the trace has an error from 2 on.
        steps: Lanczos steps of each, at least 1. With as many as there are distinct eigenvalues
            the quadrature is exact, and NaN fills the nodes of a probe that needed fewer.
        seed: Seed of the probes.
        deflate: Eigenpairs of the same operator, with eigenvectors; each costs one product.
        savepoint: Where finished probes are kept.
        progress: Called with products done and products allowed.

    Returns:
        The density; `facts["trace"]` and its standard error over probes, `facts["trace_error"]`
        (NaN for a single probe), come from the same products. After Ctrl-C the probes finished so
        far, with `facts["interrupted"]`.

    Raises:
        ValueError: Probes or steps below 1, a product is not finite, or `deflate` has no
            eigenvectors or is not of this operator.
        KeyboardInterrupt: Ctrl-C before the first probe was finished.

    Source: Ghorbani, Krishnan and Xiao, ICML 2019, section 2; Golub and Meurant, Matrices,
        Moments and Quadrature, chapter 6; Chen, Trogdon and Ubaru, ICML 2021, theorem 1.
    """
    for name, value in (("probes", probes), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    operator = as_operator(source)
    chosen = np.empty(0, int) if deflate is None else _separated(deflate, operator.size)
    rest = operator.size - len(chosen)
    steps = min(steps, rest)
    products = Products(operator, len(chosen) + probes * steps, progress)
    known = _deflation(products, deflate, chosen)
    done = _Probes.resumed(savepoint, seed=seed, steps=steps, size=operator.size, rest=rest)
    products.count += int(np.isfinite(done.nodes).sum())
    interrupted = False
    try:
        _run_probes(products, known, done, probes, savepoint)
    except KeyboardInterrupt:
        done.save(savepoint)
        if not len(done.nodes):
            raise
        interrupted = True
    products.show(end=True)
    density = _density(operator, known, done, probes)
    facts = {**density.facts, **({} if deflate is None else known.facts(deflate))}
    return replace(density, facts={**facts, **({"interrupted": True} if interrupted else {})})


@dataclass(kw_only=True)
class _Probes:
    """What is known of the probes that are finished."""

    nodes: np.ndarray  # [probe, node]
    weights: np.ndarray  # [probe, node]
    exhausted: np.ndarray  # whether the Krylov space was invariant [probe]
    asked: dict[str, int]  # what they belong to

    @classmethod
    def resumed(cls, savepoint: Savepoint | None, **asked: int) -> "_Probes":
        """Take up a saved state that is of the same question, or begin."""
        saved: Mapping[str, np.ndarray] = (savepoint.load() if savepoint else None) or {}
        if all(name in saved and int(saved[name]) == value for name, value in asked.items()):
            kept = {name: saved[name] for name in ("nodes", "weights", "exhausted")}
            return cls(**kept, asked=asked)
        empty = np.empty((0, asked["steps"]))
        return cls(nodes=empty, weights=empty, exhausted=np.empty(0, bool), asked=asked)

    def add(self, values: np.ndarray, first: np.ndarray, exhausted: bool) -> None:
        """Add a probe: its Ritz values, and the first components of their vectors."""
        missing = self.nodes.shape[1] - len(values)
        row = np.pad(values, (0, missing), constant_values=math.nan)
        mass = np.pad(first**2, (0, missing), constant_values=math.nan)
        self.nodes = np.concatenate([self.nodes, row[None]])
        self.weights = np.concatenate([self.weights, mass[None]])
        self.exhausted = np.append(self.exhausted, exhausted)

    def save(self, savepoint: Savepoint | None) -> None:
        """Keep what is known."""
        if savepoint is not None:
            asked = {name: np.array(value) for name, value in self.asked.items()}
            arrays = {"nodes": self.nodes, "weights": self.weights, "exhausted": self.exhausted}
            savepoint.save({**asked, **arrays})


@dataclass(frozen=True, kw_only=True)
class _Deflation:
    """Eigenpairs taken out, as they were measured here."""

    vectors: Tensor  # orthonormal [outlier, param]
    values: np.ndarray  # Rayleigh quotients: their sum is the trace over the span
    residuals: np.ndarray
    error: float  # ‖(1 − VVᵀ) H V‖_F

    def facts(self, spectrum: Spectrum) -> dict[str, Any]:
        """What was deflated, what not, and what it moves at most, in units of λ."""
        count = len(self.values)
        left = len(spectrum.eigenvalues) - count
        return {"deflated": count, "not_deflated": left, "deflation_error": self.error}


def _run_probes(
    products: Products,
    known: _Deflation,
    done: _Probes,
    probes: int,
    savepoint: Savepoint | None,
) -> None:
    """Add the probes that are missing; those that are there are drawn and left alone."""
    operator, steps = products.operator, done.nodes.shape[1]
    generator = torch.Generator().manual_seed(done.asked["seed"])
    for probe in range(probes):
        start = _draw(operator.size, generator, sphere=bool(len(known.values)))
        if probe < len(done.nodes):
            continue
        space = lanczos(products, start.to(operator.origin), steps, locked=known.vectors)
        values, _, vectors = space.ritz()
        done.add(values, vectors[0], space.exhausted)
        products.note = _note(known, done)
        if savepoint is not None and savepoint.due():
            done.save(savepoint)


def _draw(size: int, generator: torch.Generator, *, sphere: bool) -> Tensor:
    """Draw a probe of any length on the CPU: a seed means the same on every device."""
    if sphere:
        return torch.randn(size, generator=generator, dtype=torch.float64)
    return torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8) * 2 - 1


def _note(known: _Deflation, done: _Probes) -> str:
    traces = known.values.sum() + done.asked["rest"] * np.nansum(done.nodes * done.weights, axis=1)
    error = standard_error(traces)
    return f"trace {traces.mean():.4g}" + (f" ± {error:.2g}" if math.isfinite(error) else "")


def _density(operator: Operator, known: _Deflation, done: _Probes, probes: int) -> Density:
    nodes, weights = done.nodes[:probes], done.weights[:probes]
    ends = np.concatenate([nodes.ravel(), known.values])
    rounding = torch.finfo(operator.origin.dtype).eps
    exhausted = done.exhausted[:probes]
    width, rule = _width(nodes, weights, exhausted, rounding, float(np.nanmax(np.abs(ends))))
    sphere = len(known.values) > 0
    taken = np.where(exhausted, 0, np.isfinite(nodes).sum(axis=1))
    share = wasserstein_bound(
        size=done.asked["rest"],
        probes=len(nodes),
        steps=taken,
        sphere=sphere,
        confidence=_CONFIDENCE,
    )
    density = Density(
        nodes=nodes,
        weights=weights,
        size=operator.size,
        sigma=width,
        matvecs=len(known.values) + int(np.isfinite(nodes).sum()),
        outliers=known.values,
        outlier_residuals=known.residuals,
    )
    traces = power_sums(density, 1)
    facts = {
        **operator.facts,
        "seed": done.asked["seed"],
        "probes": len(nodes),
        "steps": nodes.shape[1],
        "probe": "sphere" if sphere else "Rademacher",
        "sigma_rule": rule,
        "trace": float(traces.mean()),
        "trace_error": standard_error(traces),
        "w1_bound": share * float(np.nanmax(nodes) - np.nanmin(nodes)),
        "w1_share": share,
        "w1_confidence": _CONFIDENCE,
        "w1_between_probes": probe_distance(density),
    }
    return replace(density, facts=facts)


def _width(
    nodes: np.ndarray, weights: np.ndarray, exhausted: np.ndarray, rounding: float, largest: float
) -> tuple[float, str]:
    """Return σ and the rule it comes from; never 0, so that any spectrum can be drawn."""
    width, rule = node_spacing(nodes, weights), "median node spacing by mass"
    percent = 0.01 * float(np.nanmax(np.abs(nodes)))
    if exhausted.all() and not 0 < width < percent:
        width, rule = percent, "1 % of the largest node: the nodes are exact"
    if width >= rounding * largest > 0:
        return width, rule
    if largest > 0:
        return rounding * largest, "rounding of the largest eigenvalue"
    return rounding, "rounding of 1: every eigenvalue is 0"


def _separated(spectrum: Spectrum, size: int) -> np.ndarray:
    """Return which pairs to deflate: within tolerance, and apart from 0 and all that are not."""
    values, residuals = spectrum.eigenvalues, spectrum.residuals
    if spectrum.eigenvectors is None:
        raise ValueError("deflate must hold eigenvectors, got a spectrum without them; keep them")
    if spectrum.eigenvectors.shape[1] != size:
        raise ValueError(
            f"deflate must hold eigenvectors of {size} entries as the operator, got "
            f"{spectrum.eigenvectors.shape[1]}"
        )
    largest = float(np.abs(values).max(initial=0.0))
    within = spectrum.within if spectrum.within.size else residuals <= spectrum.tolerance * largest
    good = within & (np.abs(values) > residuals)
    near = np.abs(values[:, None] - values) <= residuals[:, None] + residuals
    while (mixed := good & (near & ~good).any(axis=1)).any():
        good &= ~mixed
    order = np.argsort(-np.abs(values), kind="stable")
    return order[good[order]][: size - 1]


def _deflation(products: Products, spectrum: Spectrum | None, chosen: np.ndarray) -> _Deflation:
    """Measure the chosen pairs: one product each.

    Stored vectors are float32 and orthonormal to that; QR makes them so in the operator's dtype.
    """
    origin = products.operator.origin
    if spectrum is None or spectrum.eigenvectors is None or not len(chosen):
        none = origin.new_empty(0, origin.numel())
        return _Deflation(vectors=none, values=np.empty(0), residuals=np.empty(0), error=0.0)
    stored = torch.from_numpy(spectrum.eigenvectors[chosen]).to(origin)
    vectors = torch.linalg.qr(stored.T)[0].T.contiguous()
    values, residuals, squares = [], [], 0.0
    for vector in vectors:
        image = products(vector)
        values.append(float((vector * image).sum(dtype=torch.float64)))
        residuals.append(norm(image - values[-1] * vector))
        squares += norm(image - vectors.T @ (vectors @ image)) ** 2
    _check_foreign(spectrum, chosen, np.array(residuals), torch.finfo(torch.float32).eps)
    return _Deflation(
        vectors=vectors,
        values=np.array(values),
        residuals=np.array(residuals),
        error=math.sqrt(squares),
    )


def _check_foreign(
    spectrum: Spectrum, chosen: np.ndarray, residuals: np.ndarray, rounding: float
) -> None:
    largest = float(np.abs(spectrum.eigenvalues).max())
    allowed = _FOREIGN * (max(spectrum.tolerance, 10 * rounding) * largest)
    if not (residuals <= allowed).all():
        worst = int(np.argmax(residuals))
        raise ValueError(
            f"deflate must hold eigenpairs of this operator, got λ = "
            f"{spectrum.eigenvalues[chosen[worst]]:.6g} with a residual of {residuals[worst]:.3g} "
            f"where {spectrum.residuals[chosen[worst]]:.3g} was stated; find them at the same "
            "checkpoint, on the same data, with the same BatchNorm policy"
        )
