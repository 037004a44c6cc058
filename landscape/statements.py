"""What is said of AACE, each statement with its effect and margin: fixed before runs are measured.

A statement reads its effect from stored results, one value for each seed. Nothing is judged here.
Why these margins: docs/decisions/0022-statements-before-runs.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from landscape.evidence import AACE, SAM, Evidence
from landscape.results import Consistency, Rise

Source = Literal["paper", "explanation"]
Relation = Literal["above", "below", "within"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One effect of a statement, of the runs of one group."""

    label: str
    """Whose runs."""
    values: Mapping[int, float]
    """By seed."""
    draws: Mapping[int, np.ndarray] | None = None
    """By seed, the effect of bootstrap draws of the run's batches [draw]; None if of no batches."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What is said, and how far an effect must go to support it."""

    name: str
    source: Source
    text: str
    effect: str
    """What is measured, in words."""
    unit: str
    relation: Relation
    margin: float
    rows: Callable[[Evidence], Iterator[Row]]


def _frozen(evidence: Evidence) -> Iterator[Row]:
    yield _gap(evidence, AACE)


def _cross_over(evidence: Evidence) -> Iterator[Row]:
    for method in evidence.methods:
        yield _gap(evidence, method)


def _gap(evidence: Evidence, method: str) -> Row:
    """c̄ of AACE's ε minus that of SAM's, on the same batches of a method's runs."""
    pairs = {
        seed: (evidence.frozen(run, "aace"), evidence.frozen(run, "sam"))
        for seed, run in evidence.runs(method).items()
    }
    return Row(
        label=f"{method} runs",
        values={s: a.mean_cosine - b.mean_cosine for s, (a, b) in pairs.items()},
        draws={s: bootstrap_means(a, s) - bootstrap_means(b, s) for s, (a, b) in pairs.items()},
    )


def _noise(evidence: Evidence) -> Iterator[Row]:
    found = {seed: evidence.frozen(run, "sam") for seed, run in evidence.runs(SAM).items()}
    yield Row(
        label=f"{SAM} runs",
        values={seed: result.mean_cosine for seed, result in found.items()},
        draws={seed: bootstrap_means(result, seed) for seed, result in found.items()},
    )


def _online(evidence: Evidence) -> Iterator[Row]:
    aace, sam = (evidence.runs(method) for method in (AACE, SAM))
    last = {
        method: {s: float(evidence.directions(run).mean_cosine[-1]) for s, run in runs.items()}
        for method, runs in ((AACE, aace), (SAM, sam))
    }
    values = {seed: last[AACE][seed] - last[SAM][seed] for seed in last[AACE] if seed in last[SAM]}
    yield Row(label=f"{AACE} − {SAM} runs", values=values)


def _kept(evidence: Evidence) -> Iterator[Row]:
    values, draws = {}, {}
    for seed, run in evidence.runs(AACE).items():
        late, early = evidence.frozen(run, "aace"), evidence.frozen(run, "aace", early=True)
        values[seed] = late.mean_cosine - early.mean_cosine
        draws[seed] = bootstrap_means(late, seed) - bootstrap_means(early, seed + 1)
    yield Row(label=f"{AACE} runs", values=values, draws=draws)


def _lasting(evidence: Evidence) -> Iterator[Row]:
    found = {seed: evidence.directions(run) for seed, run in evidence.runs(AACE).items()}
    values = {s: math.log(float(d.norm[-1] / d.norm[0])) for s, d in found.items()}
    yield Row(label=f"{AACE} runs", values=values)


def _adversarial(evidence: Evidence) -> Iterator[Row]:
    found = {
        seed: evidence.rise(run, "aace").rise[0, 0] for seed, run in evidence.runs(AACE).items()
    }
    yield Row(
        label=f"{AACE} runs",
        values={seed: float(rises.mean()) for seed, rises in found.items()},
        draws={seed: _drawn(rises, seed).mean(1) for seed, rises in found.items()},
    )


def _matched(evidence: Evidence) -> Iterator[Row]:
    for method in (SAM, AACE):
        values, draws = {}, {}
        for seed, run in evidence.runs(method).items():
            own = _own_rise(evidence.rise(run, "aace"))
            other = _own_rise(evidence.rise(run, "sam"))
            values[seed] = float(own.mean() / other.mean())
            draws[seed] = _drawn(own, seed).mean(1) / _drawn(other, seed).mean(1)
        yield Row(label=f"{method} runs", values=values, draws=draws)


def _own_rise(result: Rise) -> np.ndarray:
    """The rise of each batch's own loss at the common radius, which is SAM's [n]."""
    return result.rise[0, 1]


def _generalizes(evidence: Evidence) -> Iterator[Row]:
    errors = {
        method: {s: 100 * (1 - run.summary["test_accuracy"]) for s, run in runs.items()}
        for method, runs in ((m, evidence.runs(m)) for m in (AACE, SAM))
    }
    values = {s: errors[SAM][s] - errors[AACE][s] for s in errors[AACE] if s in errors[SAM]}
    yield Row(label=f"{SAM} − {AACE} runs", values=values)


def _sharpness(evidence: Evidence) -> Iterator[Row]:
    for method in (SAM, AACE):
        values, draws = {}, {}
        for seed, run in evidence.runs(method).items():
            result = evidence.rise(run, "aace")
            values[seed] = float(result.rayleigh.mean() / result.gradient_rayleigh.mean())
            below = _drawn(result.gradient_rayleigh, seed).mean(1)
            draws[seed] = _drawn(result.rayleigh, seed).mean(1) / below
        yield Row(label=f"{method} runs", values=values, draws=draws)


def _offset(evidence: Evidence) -> Iterator[Row]:
    found = {seed: evidence.offset(run, "aace") for seed, run in evidence.runs(AACE).items()}
    values = {seed: float(o.minimum[o.curves.index("training loss")]) for seed, o in found.items()}
    yield Row(label=f"{AACE} runs", values=values)


def _shift(evidence: Evidence) -> Iterator[Row]:
    values = {}
    for seed, run in evidence.runs(AACE).items():
        result = evidence.offset(run, "aace")
        curve = "test loss, temperature scaled"
        known = curve in result.curves
        values[seed] = float(result.gain[result.curves.index(curve)]) if known else math.nan
    yield Row(label=f"{AACE} runs", values=values)


def _noise_scale(evidence: Evidence) -> Iterator[Row]:
    found = {seed: evidence.frozen(run, "aace") for seed, run in evidence.runs(AACE).items()}
    values = {seed: r.mean_cosine - r.predicted_cosine for seed, r in found.items()}
    yield Row(label=f"{AACE} runs", values=values)


STATEMENTS = (
    Statement(
        name="frozen",
        source="paper",
        text="Near convergence AACE's directions agree from batch to batch, SAM's do not.",
        effect="mean cosine of AACE's ε minus that of SAM's, on the same batches, weights frozen",
        unit="",
        relation="above",
        margin=0.1,
        rows=_frozen,
    ),
    Statement(
        name="noise",
        source="paper",
        text="Near convergence SAM's direction is noise.",
        effect="mean cosine of SAM's ε, weights frozen",
        unit="",
        relation="within",
        margin=0.05,
        rows=_noise,
    ),
    Statement(
        name="online",
        source="paper",
        text="The directions that training used agree with AACE, with SAM they do not.",
        effect="mean cosine of the ε of the last epoch, AACE's training minus SAM's",
        unit="",
        relation="above",
        margin=0.1,
        rows=_online,
    ),
    Statement(
        name="cross-over",
        source="paper",
        text="It is the loss that makes directions agree, whatever trained the weights.",
        effect="as frozen, on weights that each method trained",
        unit="",
        relation="above",
        margin=0.1,
        rows=_cross_over,
    ),
    Statement(
        name="kept",
        source="paper",
        text="AACE's directions agree at the end as they did at the beginning.",
        effect="mean cosine at the last checkpoint minus that at the first after training began",
        unit="",
        relation="above",
        margin=-0.1,
        rows=_kept,
    ),
    Statement(
        name="lasting",
        source="paper",
        text="AACE's perturbation does not fade as training converges.",
        effect="ln of the median ‖ε‖ in the last epoch over that in the first",
        unit="",
        relation="above",
        margin=0.0,
        rows=_lasting,
    ),
    Statement(
        name="adversarial",
        source="paper",
        text="AACE's perturbation raises the loss of the batch it was made from.",
        effect="mean of L(w + ε) − L(w) on the batch itself",
        unit="nats",
        relation="above",
        margin=0.0,
        rows=_adversarial,
    ),
    Statement(
        name="matched",
        source="paper",
        text="At SAM's radius AACE's direction raises that loss about as much as SAM's.",
        effect="rise by AACE's ε over rise by SAM's, both at SAM's radius",
        unit="ratio",
        relation="above",
        margin=0.8,
        rows=_matched,
    ),
    Statement(
        name="generalizes",
        source="paper",
        text="AACE's nets make fewer test errors than SAM's.",
        effect="test error of SAM's runs minus that of AACE's, in percentage points",
        unit="points",
        relation="above",
        margin=0.0,
        rows=_generalizes,
    ),
    Statement(
        name="sharpness",
        source="explanation",
        text="AACE's direction is less sharp than the gradient of the batch.",
        effect="uᵀHu of u along AACE's ε over that along the batch gradient",
        unit="ratio",
        relation="below",
        margin=1.0,
        rows=_sharpness,
    ),
    Statement(
        name="offset",
        source="explanation",
        text="AACE's training settles beside its minimum, which lies along ε.",
        effect="multiple of the mean ε at which the training loss is smallest",
        unit="mean ε",
        relation="above",
        margin=0.25,
        rows=_offset,
    ),
    Statement(
        name="shift",
        source="explanation",
        text="The shift to w + ε lowers the test loss by more than a temperature would.",
        effect="L(w) − L(w + ε) on test data, temperature scaled",
        unit="nats",
        relation="above",
        margin=0.0,
        rows=_shift,
    ),
    Statement(
        name="noise scale",
        source="explanation",
        text="The noise scale of AACE's gradient predicts how well its directions agree.",
        effect="mean cosine minus B / (B + noise scale)",
        unit="",
        relation="within",
        margin=0.1,
        rows=_noise_scale,
    ),
)
"""All of them; the paper is Ratchatorn and Tanaka, ICIP 2024."""

DRAWS = 2000  # of the nested bootstrap


def bootstrap_means(result: Consistency, seed: int) -> np.ndarray:
    """Return the mean cosine of draws of the result's batches [draw]; one seed draws the same.

    Pairs of one and the same batch are left out, as in `directions.consistency_of`.
    """
    defined = np.isfinite(np.diagonal(result.cosines))
    cosines = np.asarray(result.cosines)[np.ix_(defined, defined)]
    count = len(cosines)
    if count < 3:
        return np.full(DRAWS, np.nan)
    chances = np.full(count, 1 / count)
    weights = np.random.default_rng([seed, 2]).multinomial(count, chances, DRAWS).astype(float)
    same = (weights**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw of one batch only has no pairs
        return (((weights @ cosines) * weights).sum(1) - same) / (count**2 - same)


def _drawn(values: np.ndarray, seed: int) -> np.ndarray:
    """Return bootstrap draws of the values of batches [draw, n]; one seed draws the same."""
    picks = np.random.default_rng([seed, 3]).integers(0, len(values), (DRAWS, len(values)))
    return np.asarray(values)[picks]
