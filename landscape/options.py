"""What an analysis can be asked: one frozen dataclass each.

Command line, stored arguments and the identity of a result are made from these; every field
changes the answer. Devices, threads and paths are not here.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from landscape.curvature_options import (
    CurvatureOptions,
    SharpnessOptions,
    SpectrumOptions,
    StabilityOptions,
)
from landscape.direction_options import OffsetOptions, RiseOptions
from landscape.option_checks import at_least
from landscape.surface_options import (
    JOINT,
    BarrierOptions,
    BatchNorm,
    CurveOptions,
    ProfileOptions,
    SurfaceOptions,
)

__all__ = [
    "JOINT",
    "OPTIONS",
    "BarrierOptions",
    "ConsistencyOptions",
    "CurvatureOptions",
    "CurveOptions",
    "DirectionsOptions",
    "OffsetOptions",
    "ProfileOptions",
    "RiseOptions",
    "SharpnessOptions",
    "SpectrumOptions",
    "StabilityOptions",
    "SurfaceOptions",
    "TrajectoryOptions",
    "asked",
]


@dataclass(frozen=True, kw_only=True)
class ConsistencyOptions:
    """How well perturbation directions agree.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        protocol: frozen draws batches at one checkpoint, online takes the vectors recorded in
            the steps before it; all measures both.
        perturbations: Of the frozen protocol, on the same batches: sam, usam, asam, aace, vasso,
            f-sam, gsam, or the run's own method, several by comma, each with another radius as
            aace@0.1.
        radius: Length that every displacement of the frozen protocol is brought to, so that
            perturbations differ by direction alone; 0 leaves each its own.
        burn_in: Batches at the frozen weights that vasso and f-sam have seen before.
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
    radius: float = 0.0
    burn_in: int = 50
    batches: int = 32
    batch_size: int = 0
    window: int = 64
    bn: Literal["frozen", "batch"] = "batch"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, burn_in=1, batches=2, batch_size=0, window=2, seed=0)
        if not 0 <= self.radius < math.inf:
            raise ValueError(f"radius must be 0 or a number above, got {self.radius}")


@dataclass(frozen=True, kw_only=True)
class DirectionsOptions:
    """How well the perturbations that training recorded agree, over the whole run.

    Attributes:
        window: Steps of a window; 0 takes epochs.
        lags: Steps between two perturbations whose cosine is taken, several by comma.
        block: Neighbouring perturbations that the bootstrap draws together; 0 chooses by their
            autocorrelation.
        seed: Seed of null and bootstrap.
    """

    window: int = 0
    lags: str = "1,10,100"
    block: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, window=0, block=0, seed=0)
        if not all(lag.strip().isdecimal() for lag in self.lags.split(",")):
            raise ValueError(f"lags must be whole numbers by comma, as 1,10,100, got {self.lags!r}")


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
        at_least(self, samples=0, seed=0)


OPTIONS: dict[str, type] = {
    "profile": ProfileOptions,
    "surface": SurfaceOptions,
    "barrier": BarrierOptions,
    "curve": CurveOptions,
    "spectrum": SpectrumOptions,
    "sharpness": SharpnessOptions,
    "stability": StabilityOptions,
    "curvature": CurvatureOptions,
    "consistency": ConsistencyOptions,
    "rise": RiseOptions,
    "offset": OffsetOptions,
    "directions": DirectionsOptions,
    "trajectory": TrajectoryOptions,
}


def asked(options: Any, **resolved: Any) -> dict[str, Any]:
    """The options as they are stored in a result, with what was resolved put in."""
    return {**asdict(options), **resolved}
