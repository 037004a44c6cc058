"""Results of perturbations ε: how well they agree, whether they climb, where they lead.

ε is always the displacement that is added to the weights, sign included.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from landscape.result_base import Result, axes


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
    leave_one_out: np.ndarray = axes("n", empty=True)
    """Cosine of each vector to the mean of the unit vectors of all others."""
    participation: float = float("nan")
    """Effective number of directions: (Σ λ)² / Σ λ² of the eigenvalues of `cosines`; 1 .. n."""
    radial: np.ndarray = axes("n", empty=True)
    """Cosine of each vector to the weights w."""
    cosine_full: np.ndarray = axes("n", empty=True)
    """Cosine to the task-loss gradient of all data; facts say of how many samples."""
    effective_share: np.ndarray = axes("n", empty=True)
    """(Σ s)² / (n Σ s²) of the weights s by which the samples of a batch count: the slope of a
    sample's followed loss along the logit of its true class. 1 − p for the cross-entropy, p for
    AACE, p the probability of the true class; 1 if all count alike."""
    true_probability: np.ndarray = axes("sample", empty=True)
    """Probability of the true class of every sample drawn, batch after batch."""
    noise_scale: float = float("nan")
    """tr Σ / ‖μ‖², in samples: the batch at which noise and mean of the gradient that is followed
    are equally long. NaN where no mean stands out from the noise."""
    predicted_cosine: float = float("nan")
    """B / (B + noise scale), what the mean cosine would be if the noise were isotropic."""
    component_names: tuple[str, ...] = ()
    """Parts that add up to ε: "anti-gradient" and "margin" for AACE; for its other modes, and other
    task losses than the cross-entropy, the second is the "rest of its loss"."""
    component_norms: np.ndarray = axes("component n", empty=True)
    component_cosines: np.ndarray = axes("component n", empty=True)
    """Cosine of ε to each of its parts."""
    component_mean_cosine: np.ndarray = axes("component", empty=True)
    """Mean cosine over pairs of batches of each part alone."""
    layer_names: tuple[str, ...] = ()
    """Trainable tensors, in theta's order."""
    layer_products: np.ndarray = axes("layer n n", empty=True)
    """Inner products of the vectors over each tensor alone; their sum is that of whole vectors."""
    layer_gradient: np.ndarray = axes("layer n", empty=True)
    """⟨∇L, ε⟩ over each tensor, ∇L of the vector's own batch; their sum is the rise to first order,
    in nats."""
    layer_radial: np.ndarray = axes("layer n", empty=True)
    """⟨w, ε⟩ over each tensor."""
    layer_weight: np.ndarray = axes("layer", empty=True)
    """‖w‖ of each tensor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions(Result):
    """The directions of a whole run as it trained: agreement within windows, and between them.

    Source: Mardia and Jupp, Directional Statistics, 2000, section 9.2 (resultant length).
    """

    kind: ClassVar[str] = "directions"

    perturbation: str = ""
    """Label of the perturbation, e.g. "AACE ρ=0.2"."""
    start: np.ndarray = axes("w", int)
    stop: np.ndarray = axes("w", int)
    """Each window is start <= step < stop."""
    count: np.ndarray = axes("w", int)
    """Recorded displacements in it that have a direction."""
    mean_cosine: np.ndarray = axes("w")
    """Mean cosine over all pairs of the window."""
    null_low: np.ndarray = axes("w")
    null_high: np.ndarray = axes("w")
    """Central 95 % of it under random sign flips."""
    interval_low: np.ndarray = axes("w")
    interval_high: np.ndarray = axes("w")
    """95 % bootstrap interval over blocks of neighbouring steps."""
    mean_cosine_error: np.ndarray = axes("w")
    """Standard deviation from sketching alone; 0 where vectors are exact."""
    resultant_length: np.ndarray = axes("w")
    participation: np.ndarray = axes("w")
    """Effective number of directions, (Σ λ)² / Σ λ² of the Gram matrix of unit vectors."""
    norm: np.ndarray = axes("w")
    """Median ‖ε‖."""
    norm_low: np.ndarray = axes("w")
    norm_high: np.ndarray = axes("w")
    """Central 90 % of ‖ε‖."""
    lags: np.ndarray = axes("lag", int)
    lag_cosine: np.ndarray = axes("w lag")
    """Mean cosine of vectors this many steps apart, the later one in the window."""
    lag_low: np.ndarray = axes("w lag")
    lag_high: np.ndarray = axes("w lag")
    """Central 90 % of single cosines, where they are exact or of sketches."""
    lag_error: np.ndarray = axes("w lag")
    """Standard deviation of the mean from sketching alone; 0 where exact."""
    matrix: np.ndarray = axes("w w")
    """Cosine of the mean directions of every two windows, 1 on the diagonal."""
    matrix_error: np.ndarray = axes("w w")
    """Standard deviation of each from sketching alone."""
    pairs: np.ndarray = axes("w w")
    """Mean cosine over all pairs of vectors, one of each window; `mean_cosine` on the diagonal."""
    pairs_error: np.ndarray = axes("w w")
    """Standard deviation of each from sketching alone."""
    run_mean_cosine: float = float("nan")
    """Mean cosine over all pairs of the whole run."""
    run_null_low: float = float("nan")
    run_null_high: float = float("nan")
    run_mean_cosine_error: float = float("nan")
    vectors: int = 0
    """Displacements in all windows that have a direction."""
    effective_share: np.ndarray = axes("w", empty=True)
    """Mean effective share of a batch's samples by the weights of the followed loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rise(Result):
    """Whether ε is adversarial: the loss along it, on its own batch, on others, and its curvature.

    One perturbation at one checkpoint, on the batches of the frozen protocol.
    """

    kind: ClassVar[str] = "rise"

    perturbation: str = ""
    """Label of the perturbation, e.g. "AACE ρ=0.2"."""
    step: int = 0
    """Updates made before the checkpoint."""
    norms: np.ndarray = axes("n")
    """‖ε‖ as training would use it."""
    radii: np.ndarray = axes("r")
    """Lengths at which rises are measured along ε / ‖ε‖; NaN for ‖ε‖ itself, the first."""
    places: tuple[str, ...] = ()
    """ "same batch", "another batch" of the training set, "test batch" where there is one."""
    rise: np.ndarray = axes("place r n")
    """L(w + ε) − L(w), in nats."""
    first_order: np.ndarray = axes("place r n")
    """⟨∇L, ε⟩, the same to first order."""
    transfer: np.ndarray = axes("i i", empty=True)
    """Rise on batch j (column) by the ε of batch i (row), at the radius used."""
    eigenvalues: np.ndarray = axes("k", empty=True)
    """Largest Hessian eigenvalues, descending."""
    residuals: np.ndarray = axes("k", empty=True)
    alignment: np.ndarray = axes("n k", empty=True)
    """|cosine| of ε to each eigenvector."""
    rayleigh: np.ndarray = axes("n", empty=True)
    """uᵀ H u of u = ε / ‖ε‖."""
    gradient_alignment: np.ndarray = axes("n k", empty=True)
    """The same of the task-loss gradient of the same batch, the reference."""
    gradient_rayleigh: np.ndarray = axes("n", empty=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Offset(Result):
    """The loss along the mean ε, w at 0 and w + ε at 1, and where its minimum lies.

    If ε is the same at every update, training descends at w + ε and settles where w + ε is the
    minimum, not w.
    """

    kind: ClassVar[str] = "offset"

    perturbation: str = ""
    """Label of the perturbation, e.g. "AACE ρ=0.2"."""
    step: int = 0
    """Updates made before the checkpoint."""
    alpha: np.ndarray = axes("a")
    """Multiples of the mean ε."""
    curves: tuple[str, ...] = ()
    """ "training loss", "test loss", "test loss, temperature scaled"; the last two where there are
    test data."""
    loss: np.ndarray = axes("curve a")
    """Mean task loss of each, in nats."""
    accuracy: np.ndarray = axes("curve a")
    temperature: np.ndarray = axes("a", empty=True)
    """Fitted at each place on one half of the test data, used on the other, and the other way: the
    mean of both."""
    ece: np.ndarray = axes("a", empty=True)
    """Expected calibration error on the test data."""
    minimum: np.ndarray = axes("curve")
    """Multiple of ε at which each is smallest; an end of `alpha` where it falls to there."""
    minimum_low: np.ndarray = axes("curve")
    minimum_high: np.ndarray = axes("curve")
    """95 % bootstrap interval over samples."""
    gain: np.ndarray = axes("curve")
    """L(w) − L(w + ε) of each, in nats."""
    gain_low: np.ndarray = axes("curve")
    gain_high: np.ndarray = axes("curve")
    """95 % bootstrap interval over samples."""
    norm: float = float("nan")
    """Length of the mean ε."""
    weight_norm: float = float("nan")
    """‖w‖."""
