"""The kinds of result: arrays, how they were measured, and what failed.

A result is a frozen value: no handle, no model, nothing of torch. Figures are drawn from a result
alone, and a result's file holds all that its caption says.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from landscape.storage import digest_of, plain


def axes(names: str, dtype: type = float, *, empty: bool = False) -> Any:
    """Declare an array field by the names of its axes, e.g. `axes("a b")`.

    Sizes of equal names must agree within a result; `n-1` is one less than `n`. With `empty`,
    the field defaults to an array without elements and may stay so.
    """
    metadata = {"axes": tuple(names.split()), "dtype": dtype, "empty": empty}
    if not empty:
        return field(metadata=metadata)
    return field(
        metadata=metadata,
        default_factory=lambda: np.empty((0,) * len(metadata["axes"]), dtype),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What every result has. Abstract: only the kinds below are made."""

    kind: ClassVar[str] = ""

    facts: dict[str, Any] = field(default_factory=dict)
    """How it was measured: plane, normalization, seed, bn, data, samples, dtype, ..."""
    options: dict[str, Any] = field(default_factory=dict)
    """The options that were asked for; part of the result's identity in a run."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """When, where and in how many seconds; not part of the digest."""

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        pending = []
        for item in dataclasses.fields(self):
            if "axes" not in item.metadata:
                continue
            array = getattr(self, item.name)
            if array is None:
                continue
            array = np.array(array, dtype=item.metadata["dtype"])
            array.setflags(write=False)
            object.__setattr__(self, item.name, array)
            if array.size == 0 and item.metadata["empty"]:
                continue
            if array.ndim != len(item.metadata["axes"]):
                raise ValueError(
                    f"{type(self).__name__}.{item.name} must have axes "
                    f"[{', '.join(item.metadata['axes'])}], got shape {array.shape}"
                )
            for name, size in zip(item.metadata["axes"], array.shape, strict=True):
                if "-" in name or name.isdigit():
                    pending.append((item.name, name, size))
                elif sizes.setdefault(name, size) != size:
                    raise ValueError(
                        f"{type(self).__name__}.{item.name} has {size} along axis {name!r}, "
                        f"expected {sizes[name]} as in the other arrays; is it transposed?"
                    )
        for owner, name, size in pending:
            base, _, less = name.partition("-")
            wanted = int(base) if base.isdigit() else max(sizes.get(base, 0) - int(less), 0)
            if size != wanted:
                raise ValueError(
                    f"{type(self).__name__}.{owner} must have {wanted} along axis {name!r}, "
                    f"got {size}"
                )

    @property
    def digest(self) -> str:
        """SHA-256 of arrays, scalars, facts and options; equal answers have equal digests."""
        value = [self.kind, scalars_of(self), self.facts, self.options]
        return digest_of(value, arrays_of(self))

    def save(self, path: str | Path) -> Path:
        """Write the result to one immutable HDF5 file.

        Raises:
            FileExistsError: If the file is there already.
        """
        from landscape.result_files import save_result

        return save_result(self, path)

    def plot(self, **style: Any) -> Any:
        """Draw for the screen: a plotly figure."""
        from landscape import figures

        return figures.plot(self, **style)

    def figure(self, **style: Any) -> Any:
        """Draw for paper: a matplotlib figure."""
        from landscape import figures

        return figures.draw(self, **style)


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile(Result):
    """Loss along one direction, once per repeat. Source: Li et al. 2018, section 4."""

    kind: ClassVar[str] = "profile"

    alpha: np.ndarray = axes("a")
    """Position along the direction, in multiples of it."""
    loss: np.ndarray = axes("repeat a")
    """Mean task loss in nats; NaN where not evaluated or where the model gave NaN."""
    accuracy: np.ndarray = axes("repeat a")
    """Fraction of correct classes; NaN where there are no classes."""
    evaluated: np.ndarray = axes("repeat a", bool)
    """Whether the point was evaluated."""
    axis_label: str = "α"
    test_loss: np.ndarray = axes("repeat a", empty=True)
    """The same on the test set, where it was measured."""
    test_accuracy: np.ndarray = axes("repeat a", empty=True)
    metrics: np.ndarray = axes("metric repeat a", empty=True)
    """The problem's own metrics, as means over samples."""
    metric_names: tuple[str, ...] = ()
    """Their names; those of the test set begin with "test "."""
    lambda_min: np.ndarray = axes("repeat a", empty=True)
    lambda_max: np.ndarray = axes("repeat a", empty=True)
    """Smallest and largest eigenvalue of the Hessian, where they were measured."""
    lambda_residual: np.ndarray = axes("repeat a", empty=True)
    """The larger residual of the two, in units of λ."""
    mark_position: np.ndarray = axes("mark", empty=True)
    """Points marked on the line, e.g. the minima it goes through."""
    mark_labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface(Result):
    """Loss on a plane. `loss[i, j]` belongs to `alpha[i]`, drawn along x, and `beta[j]`."""

    kind: ClassVar[str] = "surface"

    alpha: np.ndarray = axes("a")
    """Position along the first direction, in multiples of it; x in every figure."""
    beta: np.ndarray = axes("b")
    """Position along the second direction; y in every figure."""
    loss: np.ndarray = axes("a b")
    """Mean task loss in nats; NaN where not evaluated or where the model gave NaN."""
    accuracy: np.ndarray = axes("a b")
    """Fraction of correct classes; NaN where there are no classes."""
    evaluated: np.ndarray = axes("a b", bool)
    """Whether the point was evaluated; evaluated and not finite is diverged."""
    axis_labels: tuple[str, str] = ("α", "β")
    path_step: np.ndarray = axes("c", int, empty=True)
    """Steps of the run's checkpoints projected on the plane."""
    path_position: np.ndarray = axes("c 2", empty=True)
    """Their positions (alpha, beta)."""
    path_off_plane: np.ndarray = axes("c", empty=True)
    """Their Euclidean distance to the plane."""
    path_loss: np.ndarray = axes("c", empty=True)
    """Their measured loss, each with its own buffers."""
    path_run: np.ndarray = axes("c", int, empty=True)
    """Which of `path_labels` each checkpoint is of, on a plane of several runs."""
    path_labels: tuple[str, ...] = ()
    """Names of the runs whose paths are drawn, where there are several."""
    test_loss: np.ndarray = axes("a b", empty=True)
    """The same on the test set, where it was measured."""
    test_accuracy: np.ndarray = axes("a b", empty=True)
    metrics: np.ndarray = axes("metric a b", empty=True)
    """The problem's own metrics, as means over samples."""
    metric_names: tuple[str, ...] = ()
    """Their names; those of the test set begin with "test "."""
    lambda_min: np.ndarray = axes("a b", empty=True)
    lambda_max: np.ndarray = axes("a b", empty=True)
    """Smallest and largest eigenvalue of the Hessian, where they were measured."""
    lambda_residual: np.ndarray = axes("a b", empty=True)
    """The larger residual of the two, in units of λ."""
    interpolated: np.ndarray = axes("a b", bool, empty=True)
    """Whether the values of a point that was not evaluated are interpolated."""
    mark_position: np.ndarray = axes("mark 2", empty=True)
    """Points marked on the plane, e.g. the minima it goes through."""
    mark_labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Barrier(Result):
    """Loss on the straight lines between minima, and how far it rises there.

    Source: Frankle et al. 2020, section 2; Entezari et al. 2022, definition 2.1.
    """

    kind: ClassVar[str] = "barrier"

    t: np.ndarray = axes("t")
    """Position on the line: 0 is the row's minimum, 1 the column's."""
    loss: np.ndarray = axes("m m t")
    """Mean task loss in nats on the line from minimum i to j; [j, i] is its mirror image."""
    accuracy: np.ndarray = axes("m m t")
    """Fraction of correct classes; NaN where there are no classes."""
    evaluated: np.ndarray = axes("m m t", bool)
    """Whether the point was evaluated."""
    height: np.ndarray = axes("m m")
    """max_t L(t) − (L(0) + L(1)) / 2, in nats: Frankle's instability of the loss."""
    height_over_line: np.ndarray = axes("m m")
    """max_t [L(t) − (1 − t) L(0) − t L(1)], in nats: Entezari's barrier."""
    error_height: np.ndarray = axes("m m")
    error_height_over_line: np.ndarray = axes("m m")
    """The same of the error, 1 − accuracy."""
    distance: np.ndarray = axes("m m")
    """Euclidean distance between the minima."""
    names: tuple[str, ...] = ()
    """Names of the minima."""
    test_loss: np.ndarray = axes("m m t", empty=True)
    test_accuracy: np.ndarray = axes("m m t", empty=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve(Result):
    """A trained path of low loss between two minima, beside the straight line.

    Source: Garipov et al. 2018, section 3.
    """

    kind: ClassVar[str] = "curve"

    t: np.ndarray = axes("t")
    """Position on curve and line; 0 and 1 are the minima."""
    loss: np.ndarray = axes("t")
    accuracy: np.ndarray = axes("t")
    """On the curve: mean task loss in nats, fraction of correct classes."""
    line_loss: np.ndarray = axes("t")
    line_accuracy: np.ndarray = axes("t")
    """On the straight line."""
    position: np.ndarray = axes("t 2")
    """The curve on the plane of both minima and the middle bend, in weight-space distance."""
    bend_position: np.ndarray = axes("bend 2")
    off_plane: np.ndarray = axes("t")
    """Distance of the curve to that plane; 0 for one bend."""
    training_loss: np.ndarray = axes("update")
    """Loss at the point drawn in each update of the curve's training."""
    shape: str = "bezier"
    """"bezier" (quadratic) or "polygon"."""
    names: tuple[str, ...] = ()
    """Names of the two minima."""
    test_loss: np.ndarray = axes("t", empty=True)
    test_accuracy: np.ndarray = axes("t", empty=True)
    line_test_loss: np.ndarray = axes("t", empty=True)
    line_test_accuracy: np.ndarray = axes("t", empty=True)
    bends: np.ndarray | None = field(
        default=None, metadata={"axes": ("bend", "param"), "dtype": np.float32, "empty": True}
    )
    """The trained bends in the layout of theta, or None where they were not kept."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Consistency(Result):
    """How well perturbation directions agree: one protocol, one perturbation, one checkpoint."""

    kind: ClassVar[str] = "consistency"

    protocol: str = "frozen"
    """ "frozen": batches at one checkpoint; "online": the vectors that training recorded."""
    perturbation: str = ""
    """Label of the perturbation, e.g. "AACE ρ=0.2"."""
    step: np.ndarray = axes("n", int)
    """Training step of each vector; all equal for the frozen protocol."""
    cosines: np.ndarray = axes("n n")
    """Cosine of every pair of vectors."""
    norms: np.ndarray = axes("n")
    """Euclidean norm of each vector."""
    consecutive: np.ndarray = axes("n-1")
    """Cosine of each vector to the one before."""
    loss_rise: np.ndarray = axes("n")
    """L(w + ε) − L(w) on the vector's own batch, in nats."""
    cosine_gradient: np.ndarray = axes("n")
    """Cosine to the task-loss gradient of the same batch; NaN where not measured."""
    mean_cosine: float = float("nan")
    """Mean over all pairs i ≠ j."""
    null_low: float = float("nan")
    null_high: float = float("nan")
    """Central 95 % of `mean_cosine` under random sign flips."""
    interval_low: float = float("nan")
    interval_high: float = float("nan")
    """95 % bootstrap interval of `mean_cosine` over batches."""
    resultant_length: float = float("nan")
    """‖mean unit vector‖; 1/√n for random directions."""
    cosine_error: np.ndarray = axes("n n", empty=True)
    """Standard deviation of each cosine where sketches were used, 0 if exact; else empty."""
    mean_cosine_error: float = float("nan")
    """Standard deviation of `mean_cosine` from sketching alone; NaN where no sketch was used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory(Result):
    """The checkpoints of a run on a plane, and how far they lie from it."""

    kind: ClassVar[str] = "trajectory"

    step: np.ndarray = axes("c", int)
    """Updates made before each checkpoint."""
    position: np.ndarray = axes("c 2")
    """Coordinates on the plane."""
    off_plane: np.ndarray = axes("c")
    """Euclidean distance to the plane."""
    explained: np.ndarray = axes("k")
    """Share of the checkpoints' variance along each principal component."""
    explained_null: np.ndarray = axes("k")
    """The same for a random walk with this run's step lengths."""
    distance_start: np.ndarray = axes("c")
    distance_end: np.ndarray = axes("c")
    """Euclidean distance to the first and the last checkpoint."""
    step_length: np.ndarray = axes("c-1")
    """Distance between neighbouring checkpoints."""
    turning_angle: np.ndarray = axes("c-2")
    """Angle between neighbouring displacements, in degrees; 90 for a random walk."""
    loss: np.ndarray = axes("c")
    accuracy: np.ndarray = axes("c")
    """Measured at each checkpoint with its own buffers."""
    axis_labels: tuple[str, str] = ("PC 1", "PC 2")


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Result):
    """Two groups of runs, A and B, by numbers that each of their runs has.

    Source: Schuirmann 1987 of equivalence, by the 90 % interval; Fisher 1935 of sign flips.
    """

    kind: ClassVar[str] = "comparison"

    labels: tuple[str, ...] = ()
    """What A and B are called."""
    names: tuple[str, ...] = ()
    """Name of each scalar, e.g. "test_loss"."""
    units: tuple[str, ...] = ()
    """Unit of each; "" where it has none."""
    a: np.ndarray = axes("scalar a")
    b: np.ndarray = axes("scalar b")
    """The scalars of each run; of pairs, in the order of `seeds`."""
    seeds: np.ndarray = axes("pair", int, empty=True)
    """Seed of each pair; empty where groups are not paired."""
    difference: np.ndarray = axes("scalar")
    """Mean of A minus mean of B."""
    interval_low: np.ndarray = axes("scalar")
    interval_high: np.ndarray = axes("scalar")
    """95 % t-interval of the difference, of pairs or Welch's; NaN where there is none."""
    equivalence_low: np.ndarray = axes("scalar")
    equivalence_high: np.ndarray = axes("scalar")
    """The same at 90 %, which two one-sided tests at 5 % hold against the margin."""
    probability: np.ndarray = axes("scalar")
    """How often random signs of the paired differences give a mean as far from 0, exactly."""
    margin: np.ndarray = axes("scalar")
    """Differences within ± this count as none; NaN where no margin was named."""
    runs_to_differ: np.ndarray = axes("scalar")
    """Fewest runs of each group with which zero would be left out; NaN where 10,000 would not."""
    runs_to_equal: np.ndarray = axes("scalar")
    """Fewest with which the 90 % interval would lie inside the margin. Both if mean and spread
    stay as they are."""
    verdicts: tuple[str, ...] = ()
    """ "differs", "equivalent", "both", "undecided", or why there is none: "one run", "no spread",
    "not finite"."""


KINDS: dict[str, type[Result]] = {
    cls.kind: cls
    for cls in (
        Profile,
        Surface,
        Barrier,
        Curve,
        Spectrum,
        Density,
        Trace,
        Sharpness,
        Stability,
        Curvature,
        Consistency,
        Trajectory,
        Comparison,
    )
}


def arrays_of(result: Result) -> dict[str, np.ndarray]:
    """The arrays of a result by name; optional ones that it lacks are left out."""
    found = {}
    for item in dataclasses.fields(result):
        array = getattr(result, item.name) if "axes" in item.metadata else None
        if array is not None and (array.size or not item.metadata["empty"]):
            found[item.name] = array
    return found


def scalars_of(result: Result) -> dict[str, Any]:
    """What a result holds beside arrays and notes; empty lists of names are left out."""
    common = {"facts", "options", "provenance"}
    values = {
        item.name: plain(getattr(result, item.name))
        for item in dataclasses.fields(result)
        if "axes" not in item.metadata and item.name not in common
    }
    return {name: value for name, value in values.items() if value != []}
