"""What rises and offsets can be asked."""

import math
from dataclasses import dataclass

from landscape.curvature_options import CurvatureBatchNorm
from landscape.option_checks import at_least
from landscape.surface_options import BatchNorm


@dataclass(frozen=True, kw_only=True)
class RiseOptions:
    """How far the loss rises along perturbations, on which data, and how sharp they are.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set that batches are drawn from;
            0 takes all of it.
        perturbations: On the same batches: sam, asam, aace, or the run's own method, several by
            comma.
        batches: Batches, drawn with replacement.
        batch_size: Samples of a batch; 0 takes that of the run's training.
        radii: Further lengths along the unit perturbation, by comma.
        k: Leading eigenvectors of the Hessian; 0 leaves out all curvature.
        curvature_samples: Size of the class-balanced subset that the Hessian is of; 0 takes all.
        transfer: Most batches, the first ones, whose perturbations are each tried on each of these;
            0 for none.
        bn: BatchNorm statistics: of each batch, as in training, or frozen.
        seed: Seed of batches, subsets and the search for eigenvectors.
    """

    checkpoint: str = "last"
    samples: int = 0
    perturbations: str = "sam,aace"
    batches: int = 32
    batch_size: int = 0
    radii: str = "0.05,1"
    k: int = 3
    curvature_samples: int = 2000
    transfer: int = 12
    bn: CurvatureBatchNorm = "batch"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, batches=2, batch_size=0, k=0, curvature_samples=0)
        at_least(self, transfer=0, seed=0)
        self.lengths()

    def lengths(self) -> tuple[float, ...]:
        """The radii as numbers.

        Raises:
            ValueError: One is not a number above 0.
        """
        found = []
        for word in filter(None, self.radii.split(",")):
            try:
                found.append(float(word))
            except ValueError:
                found.append(math.nan)
            if not 0 < found[-1] < math.inf:
                raise ValueError(f"radii must be numbers above 0, as 0.05,1, got {word!r}")
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class OffsetOptions:
    """The loss along the mean perturbation of many batches, and where its minimum lies.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        perturbations: Each on a line of its own: sam, asam, aace, or the run's own method, several
            by comma.
        batches: Batches that the mean is of, drawn with replacement, each with its own BatchNorm
            statistics.
        batch_size: Samples of a batch; 0 takes that of the run's training.
        points: Places on the line.
        low: Its beginning, in multiples of the mean perturbation.
        high: Its end.
        bn: BatchNorm statistics on the line: recomputed at every place, frozen, or of each batch.
        seed: Seed of batches, subset, halves of the test data, and bootstrap.
    """

    checkpoint: str = "last"
    samples: int = 0
    perturbations: str = "sam,aace"
    batches: int = 32
    batch_size: int = 0
    points: int = 31
    low: float = -1.0
    high: float = 2.0
    bn: BatchNorm = "recomputed"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, batches=1, batch_size=0, points=5, seed=0)
        if not (-math.inf < self.low <= 0 and 1 <= self.high < math.inf):
            raise ValueError(
                "low must be 0 or below and high 1 or above, so that w and w + ε lie on the line, "
                f"got {self.low} and {self.high}"
            )
