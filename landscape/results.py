"""The kinds of result: arrays, how they were measured, and what failed.

A result is a frozen value: no handle, no model, nothing of torch. Figures are drawn from a result
alone, and a result's file holds all that its caption says.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from landscape.storage import (
    RunFileError,
    digest_of,
    open_strict,
    plain,
    read_arrays,
    require_array,
    short_hash,
    write_arrays,
)

SCHEMA_VERSION = "1.0"


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
        value = [self.kind, _scalars(self), self.facts, self.options]
        return digest_of(value, _arrays(self))

    def save(self, path: str | Path) -> Path:
        """Write the result to one immutable HDF5 file.

        Raises:
            FileExistsError: If the file is there already.
        """
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
    """Whether every residual is within tolerance times max |λ| and nothing wanted is missing: a
    restart from a random vector found no further copy of a multiple eigenvalue."""
    which: str = "LM"
    tolerance: float = 1e-3
    eigenvectors: np.ndarray | None = field(
        default=None, metadata={"axes": ("k", "param"), "dtype": np.float32, "empty": True}
    )
    """Unit eigenvectors, or None where they were not kept."""


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


KINDS: dict[str, type[Result]] = {
    cls.kind: cls for cls in (Profile, Surface, Spectrum, Density, Consistency, Trajectory)
}


def _arrays(result: Result) -> dict[str, np.ndarray]:
    names = [item.name for item in dataclasses.fields(result) if "axes" in item.metadata]
    return {name: getattr(result, name) for name in names if getattr(result, name) is not None}


def _scalars(result: Result) -> dict[str, Any]:
    common = {"facts", "options", "provenance"}
    return {
        item.name: plain(getattr(result, item.name))
        for item in dataclasses.fields(result)
        if "axes" not in item.metadata and item.name not in common
    }


def result_key(
    kind: str, options: dict[str, Any], *, run: str, checkpoint: int, data_digest: str
) -> str:
    """The twelve characters that name a result: the same question has the same key."""
    return short_hash([kind, options, run, checkpoint, data_digest])


def save_result(result: Result, path: str | Path, *, replace: bool = False) -> Path:
    """Write a result to one HDF5 file, whole or not at all.

    Raises:
        FileExistsError: If the file is there already and `replace` was not asked for.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists and results are never overwritten; choose another")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "kind": result.kind,
        "schema_version": SCHEMA_VERSION,
        "scalars": _scalars(result),
        "facts": result.facts,
        "options": result.options,
        "provenance": result.provenance,
        "digest": result.digest,
    }
    write_arrays(path, header, _arrays(result))
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """Read what a result file says of itself, without its arrays.

    Raises:
        RunFileError: If the file is not a result, or of a schema this version can't read.
    """
    with open_strict(path) as file:
        return _header(Path(path), file)


def _header(path: Path, file: h5py.File) -> dict[str, Any]:
    if "header" not in file:
        raise RunFileError(f"{path}: not a result file: it has no header")
    text = require_array(file, "header", np.uint8, None)[()]
    try:
        header = json.loads(bytes(text).decode())
        schema, kind = str(header["schema_version"]), str(header["kind"])
        for name in ("scalars", "facts", "options", "provenance"):
            if not isinstance(header[name], dict):
                raise TypeError(f"{name} is {header[name]!r}")
        str(header["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFileError(f"{path}: the header is damaged ({error!r})") from None
    if schema.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise RunFileError(
            f"{path}: schema {schema}, expected {SCHEMA_VERSION}; "
            "read it with the version of the toolkit that wrote it"
        )
    if kind not in KINDS:
        raise RunFileError(f"{path}: unknown kind {kind!r}, expected one of {[*KINDS]}")
    return header


def load_result(path: str | Path) -> Result:
    """Read a result file.

    What a later minor version added is checked with the rest, then left out.

    Raises:
        RunFileError: If the file is missing, damaged, or not a result.
    """
    path = Path(path)
    with open_strict(path) as file:
        header = _header(path, file)
        arrays = read_arrays(file)
    del arrays["header"]
    common = {name: header[name] for name in ("facts", "options", "provenance")}
    value = [header[name] for name in ("kind", "scalars", "facts", "options")]
    if digest_of(value, arrays) != header["digest"]:
        raise RunFileError(f"{path}: arrays and header don't belong together (digest differs)")
    cls = KINDS[header["kind"]]
    known = {item.name for item in dataclasses.fields(cls)} - set(common)
    values = {name: value for name, value in (header["scalars"] | arrays).items() if name in known}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    try:
        return cls(**values, **common)
    except (TypeError, ValueError) as error:
        raise RunFileError(f"{path}: not a whole {header['kind']} ({error})") from None
