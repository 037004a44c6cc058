"""`landscape check`: the toolkit against problems whose answers are known without it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from landscape import known_answers, known_curvature, known_perturbations
from landscape.formulas import Quantity


@dataclass(frozen=True, kw_only=True)
class Case:
    """A problem with a known answer."""

    number: int
    title: str
    source: str
    """Where the answer comes from: a closed form, a computation in numpy, a paper."""
    function: Callable[[], Iterator[Quantity]]
    """Measures through public functions and gives each quantity beside its known value."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One quantity of a case, as expected and as measured."""

    number: int
    title: str
    quantity: str
    expected: float
    got: float
    tolerance: float
    """Largest |got − expected| that passes."""
    passed: bool
    seconds: float
    """Time taken for this quantity."""


CASES: tuple[Case, ...] = (
    Case(
        number=1,
        title="AACE in closed form",
        source="divergence from the detached target, Ratchatorn and Tanaka 2024, in numpy",
        function=known_perturbations.aace_identities,
    ),
    Case(
        number=2,
        title="SAM and AACE on one sample",
        source="their logit gradients are antiparallel, with ratio p / (1 - p)",
        function=known_perturbations.perturbations_of_one_sample,
    ),
    Case(
        number=4,
        title="linear regression",
        source="H = 2 X'X / n in numpy; Marchenko and Pastur 1967 for its edges",
        function=known_answers.linear_regression,
    ),
    Case(
        number=5,
        title="softmax regression at zero weights",
        source="H = (X'X / n) ⊗ (I - 11'/C) / C",
        function=known_answers.softmax_regression,
    ),
    Case(
        number=6,
        title="generalized linear model",
        source="H = Σ xx' ⊗ (diag p - pp') / n, in numpy",
        function=known_curvature.generalized_linear_model,
    ),
    Case(
        number=7,
        title="deep scalar net",
        source="at a product of 1 the only eigenvalue that is not 0 is Σ 1 / w²",
        function=known_answers.deep_scalar_net,
    ),
    Case(
        number=8,
        title="Rosenbrock's function",
        source="trace 1002 and determinant 400 at its minimum",
        function=known_answers.rosenbrock,
    ),
    Case(
        number=9,
        title="sharpness of a quadratic",
        source="closed forms in λmax, tr A, ‖A‖ and log det A, in numpy",
        function=known_answers.quadratic_sharpness,
    ),
    Case(
        number=10,
        title="edges of stability",
        source="linear stability of a quadratic; Long and Bartlett 2023 for SAM",
        function=known_curvature.edges,
    ),
    Case(
        number=11,
        title="double well",
        source="(x² - 1)² is 1 at 0 between its minima; its second derivative is 12 x² - 4",
        function=known_answers.double_well,
    ),
    Case(
        number=12,
        title="two minima on a ring",
        source="integrals of (x² + y² - 1)² along line and Bezier curve",
        function=known_answers.ring,
    ),
    Case(
        number=14,
        title="stochastic Lanczos quadrature",
        source="Gauss quadrature is exact to degree 2m - 1; Wigner's semicircle",
        function=known_answers.lanczos_quadrature,
    ),
    Case(
        number=15,
        title="random probes",
        source="Var v'Av = 2 (‖A‖² - Σ A_ii²) for random signs; exact cases",
        function=known_curvature.random_probes,
    ),
    Case(
        number=17,
        title="agreement of directions",
        source="SNR / (1 + SNR) for isotropic noise, -1 / (n - 1) for a simplex",
        function=known_perturbations.direction_agreement,
    ),
    Case(
        number=18,
        title="scale-invariant layer",
        source="derivatives of a ratio of linear form and norm, in numpy",
        function=known_answers.scale_invariance,
    ),
    Case(
        number=20,
        title="net without biases",
        source="Euler's theorem for a function homogeneous of degree K",
        function=known_curvature.homogeneous_net,
    ),
    Case(
        number=22,
        title="curvature along filter-normalized directions",
        source="E dᵀA d = Σ_f ‖w_f‖² / n_f · tr A_ff",
        function=known_answers.filter_normalization,
    ),
    Case(
        number=23,
        title="steps of the SAM family",
        source="each method's formula on a quadratic of two parameters, in numpy",
        function=known_perturbations.family_steps,
    ),
    Case(
        number=24,
        title="finite differences",
        source="central differences of the gradient",
        function=known_curvature.finite_differences,
    ),
)


def run_checks(numbers: Iterable[int] | None = None) -> list[Outcome]:
    """Run the cases and compare.

    Args:
        numbers: Cases to run; all by default.

    Returns:
        One outcome for each quantity, in the order of the cases. A case that raises has failed: its
        last outcome says how, with NaN as value.

    Raises:
        ValueError: There is no case of that number.
    """
    known = {case.number: case for case in CASES}
    wanted = list(numbers or known)
    unknown = [number for number in wanted if number not in known]
    if unknown:
        raise ValueError(
            f"cases are {', '.join(map(str, known))}, got {', '.join(map(str, unknown))}"
        )
    return [outcome for number in wanted for outcome in _outcomes(known[number])]


def _outcomes(case: Case) -> Iterator[Outcome]:
    quantities = case.function()
    while True:
        begun = time.perf_counter()
        try:
            found = next(quantities, None)
        except Exception as error:  # whatever a broken build raises is the finding
            found = Quantity(f"raised {type(error).__name__}: {error}", math.nan, math.nan, 0.0)
        if found is None:
            return
        yield Outcome(
            number=case.number,
            title=case.title,
            quantity=found.name,
            expected=found.expected,
            got=found.got,
            tolerance=found.tolerance,
            passed=abs(found.got - found.expected) <= found.tolerance,
            seconds=time.perf_counter() - begun,
        )
