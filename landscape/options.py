"""What an analysis can be asked: one frozen dataclass each.

Command line, stored arguments and the identity of a result are made from these; every field
changes the answer. Devices, threads and paths are not here.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

BatchNorm = Literal["frozen", "recomputed", "batch"]
Normalization = Literal["filter", "layer", "model", "none"]


def _at_least(options: Any, **least: int) -> None:
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """Loss along random directions.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        extent: Largest multiple of the direction, to both sides.
        points: Points on the line; odd, so that the middle one is the checkpoint itself.
        repeats: Random directions measured, for median and band.
        normalization: How directions are scaled to the weights.
        bn: BatchNorm statistics: frozen, recomputed at each point, or of each batch.
        seed: Seed of the directions and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    extent: float = 1.0
    points: int = 21
    repeats: int = 5
    normalization: Normalization = "filter"
    bn: BatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(self, samples=0, points=2, repeats=1, seed=0)


@dataclass(frozen=True, kw_only=True)
class SurfaceOptions:
    """Loss on a plane.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        plane: Random directions, the first two principal components of the run's path, or the
            two top eigenvectors of the Hessian.
        extent: Largest multiple of the directions, to all sides; by default 1 for a random
            plane, the path for the trajectory plane, a rise of one nat for the Hessian plane.
        points: Points along each axis; odd, so that the middle one is the checkpoint itself.
        normalization: How random directions are scaled to the weights.
        bn: BatchNorm statistics: frozen, recomputed at each point, or of each batch.
        seed: Seed of the directions and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    plane: Literal["random", "trajectory", "hessian"] = "random"
    extent: float | None = None
    points: int = 21
    normalization: Normalization = "filter"
    bn: BatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(self, samples=0, points=2, seed=0)


@dataclass(frozen=True, kw_only=True)
class SpectrumOptions:
    """Eigenpairs of the Hessian and its spectral density.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        k: Eigenpairs wanted.
        which: LM largest in magnitude, LA most positive, SA most negative, BE both ends.
        tolerance: Residual that counts as converged, relative to the largest |eigenvalue|.
        probes: Random vectors of the density; 0 leaves the density out.
        steps: Lanczos steps of each probe.
        bn: BatchNorm statistics: frozen, or of each batch.
        seed: Seed of start vectors, probes and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    k: int = 5
    which: Literal["LM", "LA", "SA", "BE"] = "LM"
    tolerance: float = 1e-3
    probes: int = 3
    steps: int = 30
    bn: Literal["frozen", "batch"] = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(self, samples=0, k=1, probes=0, steps=1, seed=0)


@dataclass(frozen=True, kw_only=True)
class ConsistencyOptions:
    """How well perturbation directions agree.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        protocol: frozen draws batches at one checkpoint, online takes the vectors recorded in
            the steps before it; all measures both.
        perturbations: Of the frozen protocol, on the same batches: sam, aace, or both by comma.
        batches: Batches of the frozen protocol, drawn with replacement.
        batch_size: Samples of a batch; 0 takes that of the run's training.
        window: Recorded steps of the online protocol.
        bn: batch, as trained, or frozen for per-sample identities.
        seed: Seed of batches, null and bootstrap.
    """

    checkpoint: str = "last"
    samples: int = 0
    protocol: Literal["all", "frozen", "online"] = "all"
    perturbations: str = "sam,aace"
    batches: int = 32
    batch_size: int = 0
    window: int = 64
    bn: Literal["frozen", "batch"] = "batch"
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(self, samples=0, batches=2, batch_size=0, window=2, seed=0)


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions:
    """The run's checkpoints on the plane of their first two principal components.

    Attributes:
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        bn: BatchNorm statistics: each checkpoint's own, recomputed, or of each batch.
        seed: Seed of the subset.
    """

    samples: int = 2000
    bn: BatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(self, samples=0, seed=0)


OPTIONS: dict[str, type] = {
    "profile": ProfileOptions,
    "surface": SurfaceOptions,
    "spectrum": SpectrumOptions,
    "consistency": ConsistencyOptions,
    "trajectory": TrajectoryOptions,
}


def asked(options: Any, **resolved: Any) -> dict[str, Any]:
    """The options as they are stored in a result, with what was resolved put in."""
    return {**asdict(options), **resolved}
