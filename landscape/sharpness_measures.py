"""The measures of a sharpness table, each by itself: one function, one row."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from landscape.ascents import Ascent, Ball, Slope, Tell, ascend, slope
from landscape.batches import Batch
from landscape.chunks import draw_chunks
from landscape.displacements import displacement
from landscape.intervals import standard_error, t_interval, t_quantile
from landscape.objectives import Objective
from landscape.operators import Operator, as_operator
from landscape.perturbations import sam
from landscape.sample_slopes import mean_square_slope
from landscape.savepoints import Savepoint
from landscape.spectra import find_eigenpairs
from landscape.traces import estimate_trace

_PRODUCTS = 60  # those that a largest eigenvalue usually takes, for progress


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How all measures are taken; see `landscape.sharpness.measure_sharpness`."""

    rho: float
    ascent_steps: int
    average_rho: float
    pairs: int
    adaptive_rho: float
    adaptive_box: float
    adaptive_average_rho: float
    m: int
    chunks: int
    probes: int
    tolerance: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure; the fields are those of `landscape.results.Sharpness`."""

    settings: str = ""
    value: float = math.nan
    standard_error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    lower_bound: bool = False


class CutShort(KeyboardInterrupt):
    """Ctrl-C within a row that is worth something as far as it came."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class Bench:
    """An objective and what its measures share, taken when first asked for."""

    def __init__(self, objective: Objective, settings: Settings) -> None:
        self.objective, self.settings = objective, settings
        self.theta = objective.theta
        self.top: Tensor | None = None
        """Eigenvector [param] of the largest eigenvalue, once that was found."""
        self.savepoint: Savepoint | None = None
        """Where the row being measured keeps its own state."""
        self._adaptive_top: Tensor | None = None

    @cached_property
    def operator(self) -> Operator:
        """The Hessian."""
        return as_operator(self.objective)

    @cached_property
    def base(self) -> Slope:
        """Loss and gradient at the weights."""
        return slope(self.objective, self.theta)

    @cached_property
    def loss(self) -> float:
        """The loss at the weights, as `evaluate` gives it."""
        return self.objective(self.theta)

    def adaptive_top(self, tell: Tell) -> Tensor:
        """Top eigenvector [param] of H ⊙ |w||w|ᵀ: the worst direction in units of each weight."""
        if self._adaptive_top is None:
            scale = self.theta.abs()
            scaled = replace(self.operator, product=lambda v: scale * self.operator(scale * v))
            try:
                self._adaptive_top, _ = _top(self, scaled, tell)
            except CutShort:  # its eigenvalue is no row
                raise KeyboardInterrupt from None
        return self._adaptive_top

    def relative(self, length: float) -> str:
        """A length in words, with its share of ‖w‖."""
        whole = _length(self.theta)
        return f"{length:.3g}" + (f", {length / whole:.2g} ‖w‖" if whole else "")


def _top(bench: Bench, operator: Operator, tell: Tell) -> tuple[Tensor, Row]:
    """The eigenvector of an operator's largest eigenvalue, and its row."""
    settings = bench.settings
    found = find_eigenpairs(
        operator,
        k=1,
        which="LA",
        tolerance=settings.tolerance,
        seed=settings.seed,
        copies=False,  # of a multiple eigenvalue one vector will do
        savepoint=bench.savepoint,
        progress=tell,
    )
    assert found.eigenvectors is not None
    sure = found.facts["confidence"]
    row = Row(
        settings=f"tolerance {settings.tolerance:g}, upper bound {100 * sure:g} %",
        value=float(found.eigenvalues[0]),
        low=found.lambda_max_low,
        high=found.lambda_max_high,
        lower_bound=not found.converged,
    )
    if found.facts.get("interrupted"):
        raise CutShort(row)
    return torch.tensor(found.eigenvectors[0]).to(operator.origin), row


def largest_eigenvalue(bench: Bench, tell: Tell) -> Row:
    """λmax, a Rayleigh quotient, with the bounds that Lanczos gives."""
    bench.top, row = _top(bench, bench.operator, tell)
    return row


def trace(bench: Bench, tell: Tell) -> Row:
    """Trace of H from random probes."""
    settings = bench.settings
    found = estimate_trace(
        bench.operator,
        probes=settings.probes,
        seed=settings.seed,
        savepoint=bench.savepoint,
        progress=tell,
    )
    row = Row(
        settings=f"{len(found.samples)} probes",
        value=found.trace,
        standard_error=found.standard_error,
        low=found.interval_low,
        high=found.interval_high,
    )
    if found.facts.get("interrupted"):
        raise CutShort(row)
    return row


def one_step(bench: Bench, tell: Tell) -> Row:
    """L(w + ρ g/‖g‖) − L(w). Source: Foret et al. 2021, equation 2."""
    rho = bench.settings.rho
    loss, gradient = bench.base
    e = displacement(sam(rho), gradient, bench.theta)
    rise = slope(bench.objective, bench.theta + e)[0] - loss
    return Row(settings=f"ρ {rho:g}", value=rise, lower_bound=True)


def worst_case(bench: Bench, tell: Tell) -> Row:
    """The highest rise found in the ball ‖e‖ ≤ ρ."""
    ball = Ball(radius=bench.settings.rho)
    return _bound(_climb(bench, ball, _axis(bench.top), tell), bench, ball)


def adaptive_worst_case(bench: Bench, tell: Tell) -> Row:
    """The highest rise found with ‖e ⊘ |w|‖₂ ≤ ρ. Source: Kwon et al. 2021, equation 3."""
    ball = Ball(radius=bench.settings.adaptive_rho, scale=bench.theta.abs())
    return _adaptive(bench, ball, tell)


def adaptive_box(bench: Bench, tell: Tell) -> Row:
    """The highest rise found with |e_i| ≤ ρ |w_i| for each weight."""
    ball = Ball(radius=bench.settings.adaptive_box, norm="inf", scale=bench.theta.abs())
    return _adaptive(bench, ball, tell)


def m_sharpness(bench: Bench, tell: Tell) -> Row:
    """Mean over chunks of m samples of the worst case found for each chunk's own loss.

    Its error and interval are over chunks, as draws from the population the data are of.

    Source: Foret et al. 2021, section 3 (m-sharpness); Andriushchenko and Flammarion 2022.
    """
    settings, rises = bench.settings, []
    chunks, every = draw_chunks(
        bench.objective, size=settings.m, most=settings.chunks, seed=settings.seed
    )
    for index, chunk in enumerate(chunks):

        def here(theta: Tensor, chunk: Batch = chunk) -> Slope:
            return slope(bench.objective, theta, [chunk])

        def told(done: int, allowed: int, note: str, index: int = index) -> None:
            tell(index * allowed + done, len(chunks) * allowed, note)

        ball = Ball(radius=settings.rho)
        found = ascend(
            *(here, bench.theta, ball),
            base=here(bench.theta),
            axes=_axis(bench.top),
            steps=settings.ascent_steps,
            tell=told,
        )
        rises.append(found.rise)
    sizes = np.array([len(targets) for _, targets in chunks], float)
    words = f"{min(sizes):g}" + (f" to {max(sizes):g}" if max(sizes) > min(sizes) else "")
    return replace(
        _mean(np.array(rises), sizes / sizes.sum()),
        settings=f"m {words}, ρ {settings.rho:g}, ≤ {settings.ascent_steps} steps, "
        f"{len(chunks)} of {every} chunks",
        lower_bound=True,
    )


def gaussian_average(bench: Bench, tell: Tell) -> Row:
    """Mean of L(w + e) − L(w) over e ~ N(0, ρ² I); ρ² tr(H) / 2 for small ρ."""
    rho = bench.settings.average_rho
    length = rho * math.sqrt(bench.theta.numel())
    words = f"ρ {rho:g} per weight, ‖e‖ ≈ {bench.relative(length)}"
    return _average(bench, lambda z: rho * z, words, tell)


def sphere_average(bench: Bench, tell: Tell) -> Row:
    """Mean of L(w + e) − L(w) over the sphere ‖e‖ = ρ; ρ² tr(H) / (2 param) for small ρ."""
    rho = bench.settings.rho
    words = f"‖e‖ = ρ = {bench.relative(rho)}"
    return _average(bench, lambda z: z * (rho / _length(z)), words, tell)


def adaptive_average(bench: Bench, tell: Tell) -> Row:
    """Mean of L(w + e) − L(w) over e ~ N(0, ρ² diag(w²)); ρ²/2 Σ H_ii w_i² at a minimum.

    Source: Andriushchenko et al. 2023, section 2.
    """
    rho, scale = bench.settings.adaptive_average_rho, bench.theta.abs()
    words = f"ρ {rho:g} |w|, ‖e‖ ≈ {bench.relative(rho * _length(scale))}"
    return _average(bench, lambda z: rho * scale * z, words, tell)


def fisher_rao(bench: Bench, tell: Tell) -> Row:
    """The mean ⟨∇ℓ_i, w⟩², wᵀFw with F the second moment of the samples' gradients; exact.

    Source: Liang et al. 2019, definition 3.1.
    """
    value = mean_square_slope(bench.objective, bench.theta)
    return Row(settings="F: second moment of the samples' gradients", value=value)


MEASURES: dict[str, Callable[[Bench, Tell], Row]] = {
    "λmax": largest_eigenvalue,
    "trace": trace,
    "SAM sharpness, 1 step": one_step,
    "SAM sharpness, n steps": worst_case,
    "m-sharpness": m_sharpness,
    "average case, Gaussian": gaussian_average,
    "average case, sphere": sphere_average,
    "adaptive worst case, p = 2": adaptive_worst_case,
    "adaptive worst case, p = ∞": adaptive_box,
    "adaptive average case": adaptive_average,
    "Fisher–Rao norm": fisher_rao,
}
"""Every measure by its name in the table, in order: the first finds what later ones start from."""


def costs(settings: Settings, objective: Objective) -> list[int]:
    """Roughly what each measure takes, in forward passes over all data, for progress."""
    samples = objective.facts["samples"]
    climb, pairs = 6 * settings.ascent_steps, 2 * settings.pairs
    share = min(1.0, settings.chunks * settings.m / samples)
    top = 6 * _PRODUCTS
    some = max(1, round(share * climb))
    return [
        *(top, 6 * settings.probes, 6, climb, some, pairs, pairs, top + climb, climb, pairs),
        9,
    ]


def _axis(top: Tensor | None) -> list[Tensor]:
    return [] if top is None else [top]


def _adaptive(bench: Bench, ball: Ball, tell: Tell) -> Row:
    top = bench.adaptive_top(_phase(tell, 0, 0.5))
    found = _climb(bench, ball, [top], _phase(tell, 0.5, 1))
    row = _bound(found, bench, ball)
    length = bench.relative(_length(found.displacement))
    return replace(row, settings=f"{row.settings}, ‖e‖ = {length}")


def _phase(tell: Tell, begin: float, end: float) -> Tell:
    """Tell of a part of the whole, in thousandths."""

    def told(done: int, allowed: int, note: str) -> None:
        tell(round(1000 * (begin + (end - begin) * done / max(allowed, 1))), 1000, note)

    return told


def _climb(bench: Bench, ball: Ball, axes: list[Tensor], tell: Tell) -> Ascent:
    return ascend(
        *(lambda theta: slope(bench.objective, theta), bench.theta, ball),
        base=bench.base,
        axes=axes,
        steps=bench.settings.ascent_steps,
        tell=tell,
    )


def _bound(found: Ascent, bench: Bench, ball: Ball) -> Row:
    steps = f"≤ {bench.settings.ascent_steps} steps from each of 2 starts"
    return Row(settings=f"ρ {ball.radius:g}, {steps}", value=found.rise, lower_bound=True)


def _average(bench: Bench, draw: Callable[[Tensor], Tensor], words: str, tell: Tell) -> Row:
    """Mean over pairs ±e, which takes the part out that is odd in e."""
    generator = torch.Generator().manual_seed(bench.settings.seed)
    rises, pairs = np.empty(bench.settings.pairs), bench.settings.pairs
    for pair in range(pairs):
        tell(pair, pairs, "")
        z = torch.randn(bench.theta.numel(), generator=generator, dtype=torch.float64)
        e = draw(z.to(bench.theta))
        both = [bench.objective(bench.theta + e), bench.objective(bench.theta - e)]
        rises[pair] = sum(both) / 2 - bench.loss
    return replace(_mean(rises), settings=f"{words}, {pairs} pairs ±e")


def _mean(samples: np.ndarray, shares: np.ndarray | None = None) -> Row:
    """Mean, standard error and t-interval of samples with these shares of the whole."""
    if shares is None:
        low, high = t_interval(samples)
        return Row(
            value=float(samples.mean()), standard_error=standard_error(samples), low=low, high=high
        )
    value, count = float(shares @ samples), len(samples)
    if count < 2:
        return Row(value=value)
    error = math.sqrt(float(shares**2 @ (samples - value) ** 2) * count / (count - 1))
    reach = t_quantile(0.975, count - 1) * error
    return Row(value=value, standard_error=error, low=value - reach, high=value + reach)


def _length(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
