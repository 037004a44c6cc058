"""Results of Hessian products: eigenvalues, densities, traces, sharpness and stability."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from landscape.result_base import Result, axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum(Result):
    """Eigenpairs of the Hessian of the mean loss."""

    kind: ClassVar[str] = "spectrum"

    eigenvalues: np.ndarray = axes("k")
    """Eigenvalues in the order of `which`."""
    residuals: np.ndarray = axes("k")
    """‖H v − λ v‖ of each unit eigenvector: absolute, in units of λ."""
    matvecs: int = 0
    """Hessian-vector products used."""
    converged: bool = False
    """Whether every residual is within tolerance times max |λ| and, where copies of multiple
    eigenvalues were looked for, nothing wanted is missing: `facts["complete"]`."""
    which: str = "LM"
    tolerance: float = 1e-3
    eigenvectors: np.ndarray | None = field(
        default=None, metadata={"axes": ("k", "param"), "dtype": np.float32, "empty": True}
    )
    """Unit eigenvectors, or None where they were not kept."""
    within: np.ndarray = axes("k", bool, empty=True)
    """Whether each residual is within the tolerance. A residual is a certain bound on the distance
    to the nearest eigenvalue."""
    lambda_max_low: float = float("nan")
    """Certain lower bound of the largest eigenvalue, a Rayleigh quotient."""
    lambda_max_high: float = float("nan")
    """Upper bound that holds with probability `facts["confidence"]` over start vectors."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Density(Result):
    """Spectral density by stochastic Lanczos quadrature: nodes and weights of each probe."""

    kind: ClassVar[str] = "density"

    nodes: np.ndarray = axes("probe node")
    """Ritz values; NaN where a probe ended early."""
    weights: np.ndarray = axes("probe node")
    """Weights of the nodes; each probe sums to 1."""
    size: int = 0
    """Number of parameters: the density times it counts eigenvalues per unit λ."""
    sigma: float = float("nan")
    """Width of the Gaussian each node is drawn with, in units of λ."""
    matvecs: int = 0
    outliers: np.ndarray = axes("outlier", empty=True)
    """Eigenvalues found and deflated: the nodes are of the rest, `size - len(outliers)` of them."""
    outlier_residuals: np.ndarray = axes("outlier", empty=True)
    """‖H v − λ v‖ of each, in units of λ."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace(Result):
    """Trace of the Hessian by random probes, with what the same products tell.

    Source: Hutchinson 1990; Meyer et al. 2021 (Hutch++).
    """

    kind: ClassVar[str] = "trace"

    method: str = "hutchinson"
    """ "hutchinson" or "hutch++"."""
    samples: np.ndarray = axes("probe")
    """The estimate from each probe; their mean is the trace."""
    trace: float = float("nan")
    standard_error: float = float("nan")
    interval_low: float = float("nan")
    interval_high: float = float("nan")
    """95 % t-interval over probes."""
    frobenius: float = float("nan")
    """‖H‖_F, the root of the sum of squared eigenvalues."""
    frobenius_error: float = float("nan")
    effective_rank: float = float("nan")
    """(tr H)² / ‖H‖_F²: how many equal eigenvalues would have this trace and norm."""
    effective_rank_error: float = float("nan")
    layer_names: tuple[str, ...] = ()
    layer_size: np.ndarray = axes("layer", int, empty=True)
    """Parameters of each layer."""
    layer_trace: np.ndarray = axes("layer", empty=True)
    """Trace of each layer's own block of H; they sum to the whole's."""
    layer_error: np.ndarray = axes("layer", empty=True)
    size: int = 0
    matvecs: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sharpness(Result):
    """A table of sharpness measures, and which of them move when the function does not."""

    kind: ClassVar[str] = "sharpness"

    names: tuple[str, ...] = ()
    """Name of each measure, e.g. "SAM sharpness"."""
    settings: tuple[str, ...] = ()
    """What each was measured with, e.g. "ρ 0.05, 20 steps"."""
    value: np.ndarray = axes("measure")
    standard_error: np.ndarray = axes("measure")
    """NaN where a value is no estimate."""
    interval_low: np.ndarray = axes("measure")
    interval_high: np.ndarray = axes("measure")
    """95 %; NaN where no honest interval is known."""
    lower_bound: np.ndarray = axes("measure", bool)
    """Whether the value is a lower bound only, printed with ≥."""
    audit_names: tuple[str, ...] = ()
    """Changes of the weights that leave the function as it is."""
    audit: np.ndarray = axes("measure audit", empty=True)
    """Value after the change, divided by value before; 1 is invariant, NaN not measured."""
    loss: float = float("nan")
    """Mean task loss at the checkpoint, in nats."""
    mean_probability: float = float("nan")
    """Mean probability of the true class; curvature of cross-entropy shrinks as it nears 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stability(Result):
    """The largest multipliers of the run's own update map at a checkpoint; 1 is the edge.

    They are eigenvalues of its Jacobian on the state (weights, momentum).
    """

    kind: ClassVar[str] = "stability"

    multipliers_real: np.ndarray = axes("k")
    multipliers_imag: np.ndarray = axes("k")
    """Eigenvalues of the Jacobian, largest magnitude first."""
    residuals: np.ndarray = axes("k")
    """‖J v − μ v‖ of each unit vector: absolute."""
    multiplier: float = float("nan")
    """Magnitude of the leading one: below 1 a small deviation from the path fades."""
    update: str = ""
    """The update map, e.g. "SAM ρ=0.05, momentum 0.9"."""
    products: int = 0
    """Products with the Jacobian used."""
    converged: bool = False
    tolerance: float = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Curvature(Result):
    """Curvature through training: one row for each checkpoint measured."""

    kind: ClassVar[str] = "curvature"

    step: np.ndarray = axes("c", int)
    """Updates made before each checkpoint."""
    eigenvalues: np.ndarray = axes("c k")
    """Largest eigenvalues, descending."""
    residuals: np.ndarray = axes("c k")
    lowest: np.ndarray = axes("c", empty=True)
    """Smallest eigenvalue."""
    lowest_residual: np.ndarray = axes("c", empty=True)
    trace: np.ndarray = axes("c", empty=True)
    trace_error: np.ndarray = axes("c", empty=True)
    frobenius: np.ndarray = axes("c", empty=True)
    frobenius_error: np.ndarray = axes("c", empty=True)
    layer_names: tuple[str, ...] = ()
    layer_size: np.ndarray = axes("layer", int, empty=True)
    layer_trace: np.ndarray = axes("c layer", empty=True)
    layer_error: np.ndarray = axes("c layer", empty=True)
    loss: np.ndarray = axes("c")
    """Mean task loss, in nats."""
    mean_probability: np.ndarray = axes("c")
    """Mean probability of the true class; NaN where there are no classes."""
    gradient_norm: np.ndarray = axes("c")
    learning_rate: np.ndarray = axes("c")
    """Of the update made at the checkpoint; NaN where it is not known."""
    edge: np.ndarray = axes("c", empty=True)
    """Largest eigenvalue at which the run's optimizer is stable; empty where there is no line."""
    edge_label: str = ""
    """What the edge is of, e.g. "2 (1 + β) / η"; or why there is none."""
    edge_step: np.ndarray = axes("level", int, empty=True)
    """Steps from which the edge has its next level: checkpoints, and where the learning rate
    changed between them."""
    edge_level: np.ndarray = axes("level", empty=True)
    """The edge from each of these steps on; NaN where there is none."""
    multiplier: np.ndarray = axes("c", empty=True)
    """Stability multiplier of the run's update map; 1 is the edge."""
    multiplier_residual: np.ndarray = axes("c", empty=True)
    swing: np.ndarray = axes("c", empty=True)
    """Magnitude of the multiplier farthest from 1, that of the largest curvature along the step:
    above 1 the steps swing across a valley and grow. Negative curvature lifts the leading one only.
    """
    direction_names: tuple[str, ...] = ()
    """Directions whose alignment was measured: gradient, sam, aace."""
    alignment: np.ndarray = axes("c direction k", empty=True)
    """|cosine| of each direction to each eigenvector; √(2 / (π d)) for a random one."""
    rayleigh: np.ndarray = axes("c direction", empty=True)
    """Rayleigh quotient uᵀ H u of each unit direction."""
    matvecs: int = 0
    converged: np.ndarray = axes("c", bool, empty=True)
    """Whether all residuals of the checkpoint are within the tolerance."""
