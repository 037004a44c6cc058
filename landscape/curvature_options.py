"""What spectra, sharpness, stability and curvature through training can be asked."""

import math
from dataclasses import dataclass
from typing import Literal

from landscape.option_checks import at_least, positive

CurvatureBatchNorm = Literal["frozen", "batch"]


@dataclass(frozen=True, kw_only=True)
class SpectrumOptions:
    """Eigenpairs of the Hessian, its spectral density and its trace.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        operator: hessian; ggn, the generalized Gauss-Newton matrix, which is the Fisher matrix for
            cross-entropy; or moment, the second moment of the samples' gradients.
        loss: task, or aace for the adaptive adversarial cross-entropy.
        parameters: Names or patterns, by comma, of the only parameters: layer3.*,fc.weight.
        weight_decay: Added to the diagonal.
        adam: A file with the state_dict of torch.optim.Adam or AdamW, by which the operator is
            preconditioned.
        k: Eigenpairs wanted.
        which: LM largest in magnitude, LA most positive, SA most negative, BE both ends.
        tolerance: Residual that counts as converged, relative to the largest |eigenvalue|.
        copies: Whether to look again from random vectors for copies of multiple eigenvalues.
        probes: Random vectors of the density; 0 leaves the density out.
        steps: Lanczos steps of each probe.
        deflate: Whether the eigenpairs found are taken out of the density, and drawn as they are.
        trace_probes: Random vectors of the trace; 0 leaves it out.
        trace_method: hutchinson, or hutch++, whose error falls faster and which keeps a third as
            many vectors.
        bn: BatchNorm statistics: frozen, or of each batch.
        seed: Seed of start vectors, probes and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    operator: Literal["hessian", "ggn", "moment"] = "hessian"
    loss: Literal["task", "aace"] = "task"
    parameters: str = ""
    weight_decay: float = 0.0
    adam: str = ""
    k: int = 5
    which: Literal["LM", "LA", "SA", "BE"] = "LM"
    tolerance: float = 1e-3
    copies: bool = True
    probes: int = 3
    steps: int = 30
    deflate: bool = True
    trace_probes: int = 20
    trace_method: Literal["hutchinson", "hutch++"] = "hutchinson"
    bn: CurvatureBatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, k=1, probes=0, steps=1, trace_probes=0, seed=0)
        positive(self, "tolerance")
        if self.trace_method == "hutch++" and 0 < self.trace_probes < 3:
            raise ValueError(f"hutch++ needs at least 3 trace_probes, got {self.trace_probes}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or a number above, got {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class SharpnessOptions:
    """A table of sharpness measures: worst cases, averages, and which of them are invariant.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        rho: Radius of the ball of SAM sharpness and m-sharpness, and of the sphere.
        ascent_steps: Most gradients taken from each start of a climb.
        average_rho: Standard deviation of each weight's displacement in the Gaussian average.
        pairs: Pairs of opposite displacements of each average.
        adaptive_rho: Radius of the worst case relative to the weights, in the 2-norm.
        adaptive_box: The same in the largest component.
        adaptive_average_rho: Standard deviation of the Gaussian average relative to the weights.
        m: Samples in a chunk of m-sharpness.
        chunks: Most chunks of m-sharpness, drawn from all.
        probes: Random vectors of the trace.
        tolerance: Residual of the largest eigenvalue, relative to it.
        audit: Whether to measure again after changes that leave the function as it is.
        bn: BatchNorm statistics: frozen, or of each batch.
        seed: Seed of all that is drawn.
    """

    checkpoint: str = "last"
    samples: int = 2000
    rho: float = 0.05
    ascent_steps: int = 20
    average_rho: float = 0.005
    pairs: int = 32
    adaptive_rho: float = 0.5
    adaptive_box: float = 0.002
    adaptive_average_rho: float = 0.1
    m: int = 128
    chunks: int = 8
    probes: int = 20
    tolerance: float = 1e-3
    audit: bool = True
    bn: CurvatureBatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, ascent_steps=1, pairs=2, m=1, chunks=1, probes=2, seed=0)
        positive(self, "rho", "average_rho", "adaptive_rho", "adaptive_box")
        positive(self, "adaptive_average_rho", "tolerance")


@dataclass(frozen=True, kw_only=True)
class StabilityOptions:
    """The stability multiplier of the run's own update: below 1 a small deviation fades.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        batches: each takes the mean of the updates from each batch of a fixed partition, with
            that batch's own perturbation; whole takes all samples as one batch.
        batch_size: Samples of a batch; 0 takes that of the run's training.
        k: Multipliers wanted, largest first.
        tolerance: Residual that counts as converged, relative to the largest |multiplier|.
        bn: BatchNorm statistics: of each batch, as in training, or frozen.
        seed: Seed of the start vector and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    batches: Literal["each", "whole"] = "each"
    batch_size: int = 0
    k: int = 1
    tolerance: float = 1e-3
    bn: CurvatureBatchNorm = "batch"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, batch_size=0, k=1, seed=0)
        positive(self, "tolerance")


@dataclass(frozen=True, kw_only=True)
class CurvatureOptions:
    """Curvature through training: eigenvalues, trace and alignments at the run's checkpoints.

    Attributes:
        checkpoints: Steps of the checkpoints: all, or several as 0,30,last.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        k: Largest eigenvalues followed.
        tolerance: Residual that counts as converged, relative to the largest |eigenvalue|.
        probes: Random vectors of the traces; 0 leaves them out.
        perturbations: Whose alignment with the top eigenvectors is measured beside the
            gradient's: sam, asam, aace, or the run's own method, several by comma; none for no
            alignments.
        stability: Whether to find the stability multiplier at each checkpoint.
        bn: BatchNorm statistics: of each batch, as in training, or frozen.
        seed: Seed of start vectors, probes and of the subset.
    """

    checkpoints: str = "all"
    samples: int = 2000
    k: int = 5
    tolerance: float = 1e-3
    probes: int = 10
    perturbations: str = "sam,aace"
    stability: bool = False
    bn: CurvatureBatchNorm = "batch"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, k=1, probes=0, seed=0)
        positive(self, "tolerance")
