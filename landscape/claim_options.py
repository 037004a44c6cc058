"""What a claim can be asked, beside its runs."""

from dataclasses import dataclass

from landscape.option_checks import at_least


@dataclass(frozen=True, kw_only=True)
class ClaimOptions:
    """Statements about AACE, held against runs.

    Attributes:
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        batches: Batches of the frozen protocol, drawn with replacement.
        seed: Seed of batches, nulls and bootstraps.
    """

    samples: int = 0
    batches: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, batches=3, seed=0)
