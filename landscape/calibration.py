"""Calibration of a classifier: temperature scaling, cross-entropy and ECE, with intervals.

```
temperature = fit_temperature(held_out_logits, held_out_targets)
before = measure_calibration(test_logits, test_targets)
after = measure_calibration(test_logits, test_targets, temperature=temperature.value)
```

Two nets of equal accuracy may differ in cross-entropy by nothing but the scale of their logits. The
cross-entropy after temperature scaling tells such a difference from one in what they know.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.intervals import wilson_interval

BINS = 15
"""Bins of the ECE, of equal width in the confidence."""

_DRAWS = 1000  # of the bootstrap
_STEPS = 200  # of Newton or bisection; about ten are needed


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """The temperature T at which softmax(logits / T) fits the targets best."""

    value: float
    """T; 0 or infinite where the cross-entropy only falls towards there. NaN of NaN."""
    cross_entropy: float
    """Mean over the samples at T, nats."""
    samples: int
    """Samples that it was fitted on."""
    note: str = ""
    """Why T is 0, infinite or 1 by choice; empty for an optimum inside."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Error, cross-entropy and ECE of one classifier. Intervals are over samples, 95 %.

    They say what other samples of the same kind would give with these weights, nothing of other
    seeds of the training.
    """

    samples: int
    temperature: float
    """What the logits were divided by."""
    error: float
    """Share of samples whose largest logit is another class's; of equal ones the first counts."""
    error_interval: tuple[float, float]
    """Wilson's."""
    cross_entropy: float
    """Mean in nats."""
    cross_entropy_interval: tuple[float, float]
    """Percentiles of the bootstrap; NaN where the mean is infinite."""
    ece: float
    """Expected calibration error of the top label, a share: see `measure_calibration`."""
    ece_interval: tuple[float, float]
    """From the bootstrap, reflected about the estimate, which takes off its bias; 0 or more. Of a
    nearly calibrated classifier it is too narrow: there hold `ece` against `ece_null`."""
    ece_null: float
    """Mean ECE that a calibrated classifier of these confidences has, by finite samples alone."""


def fit_temperature(logits: Any, targets: Any) -> Temperature:
    """Fit T by minimizing the mean cross-entropy of softmax(logits / T), in float64.

    In 1 / T the cross-entropy is convex, so Newton's method kept inside a bracket finds the only
    optimum, to about 1e-12 of it. Where there is none inside: T = 0 if every target has the largest
    logit, infinite if targets have no larger logits than other classes on average, 1 if no row of
    logits tells its classes apart.

    Args:
        logits: Of held-out samples `[sample, class]`, not of those that T is judged on.
        targets: Classes `[sample]`.

    Raises:
        ValueError: Shapes or classes don't fit, there is no sample, or a logit is infinite.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    scores, classes = _checked(logits, targets)
    value, note = _best_temperature(scores, classes)
    found = float(np.mean(_losses(_log_softmax(scores, value), classes)))
    return Temperature(value=value, cross_entropy=found, samples=len(classes), note=note)


def measure_calibration(
    logits: Any, targets: Any, *, temperature: float = 1.0, seed: int = 0
) -> Calibration:
    """Measure error, cross-entropy and ECE of softmax(logits / temperature), in float64.

    ECE: samples are binned by confidence, the probability of the most likely class, into 15 bins of
    equal width that contain their upper edge; it is the mean over the samples of the absolute
    difference between a bin's accuracy and its mean confidence. The estimate is biased upwards, as
    noise has no sign in an absolute value: `ece_null` is what noise alone gives. The binning hides
    what cancels within a bin, which biases it downwards.

    Args:
        logits: `[sample, class]`.
        targets: Classes `[sample]`.
        temperature: T, 0 or more; `fit_temperature` finds it.
        seed: Seed of the bootstrap.

    Returns:
        The measures. All are NaN, but for `samples`, where a logit or the temperature is NaN.

    Raises:
        ValueError: Shapes or classes don't fit, there is no sample, a logit is infinite, or the
            temperature is negative.

    Source: Guo et al., ICML 2017; Nixon et al., Measuring Calibration in Deep Learning, 2019, for
    the bias.
    """
    scores, classes = _checked(logits, targets)
    if temperature < 0:
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if np.isnan(scores).any() or math.isnan(temperature):
        return _unknown(len(classes), temperature)
    log_p = _log_softmax(scores, temperature)
    losses, right = _losses(log_p, classes), scores.argmax(1) == classes
    confidence = np.exp(log_p.max(1))
    boot = _bootstrap(losses, confidence, right, seed)
    wrong = int(len(right) - right.sum())
    return Calibration(
        samples=len(classes),
        temperature=float(temperature),
        error=wrong / len(classes),
        error_interval=wilson_interval(wrong, len(classes)),
        cross_entropy=float(losses.mean()),
        ece=_ece(confidence, right),
        **boot,
    )


def sample_cross_entropies(logits: Any, targets: Any, *, temperature: float = 1.0) -> np.ndarray:
    """Return the cross-entropy of softmax(logits / temperature) of each sample [sample], nats.

    Raises:
        ValueError: Shapes or classes don't fit, there is no sample, or a logit is infinite.
    """
    scores, classes = _checked(logits, targets)
    return _losses(_log_softmax(scores, temperature), classes)


def calibration_error(logits: Any, targets: Any) -> float:
    """Return the ECE alone, as `measure_calibration` defines it; NaN where a logit is NaN.

    Raises:
        ValueError: Shapes or classes don't fit, there is no sample, or a logit is infinite.
    """
    scores, classes = _checked(logits, targets)
    if np.isnan(scores).any():
        return math.nan
    confidence = np.exp(_log_softmax(scores, 1.0).max(1))
    return _ece(confidence, scores.argmax(1) == classes)


def _checked(logits: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits in float64 and targets, or what is wrong with them."""
    scores, classes = np.asarray(logits, np.float64), np.asarray(targets)
    if scores.ndim != 2 or classes.shape != scores.shape[:1] or 0 in scores.shape:
        raise ValueError(
            "logits must be [sample, class] with at least one sample, and targets [sample], got "
            f"shapes {scores.shape} and {classes.shape}"
        )
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= scores.shape[1]:
        raise ValueError(
            f"targets must be classes 0 .. {scores.shape[1] - 1}, got {classes.dtype} from "
            f"{classes.min()} to {classes.max()}"
        )
    if np.isinf(scores).any():
        raise ValueError("logits must be finite, got an infinite one; leave masked classes out")
    return scores, classes


def _log_softmax(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Logarithms of softmax(scores / T); at T = 0 equal largest scores share all."""
    shifted = scores - scores.max(1, keepdims=True)
    if temperature == 0:
        scaled = np.where(shifted == 0, 0.0, -np.inf)
        scaled[np.isnan(shifted)] = np.nan
    else:
        scaled = shifted / temperature
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def _losses(log_p: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return -log_p[np.arange(len(classes)), classes]


def _best_temperature(scores: np.ndarray, classes: np.ndarray) -> tuple[float, str]:
    """T, and a note where it is no optimum inside."""
    if np.isnan(scores).any():
        return math.nan, "a logit is NaN"
    # Less the target's logit: the loss is the logsumexp of what is left, times 1 / T.
    rest = scores - scores[np.arange(len(classes)), classes][:, None]
    scale = float(np.std(scores - scores.mean(1, keepdims=True)))
    if scale == 0:
        return 1.0, "no row of logits tells its classes apart; every temperature fits alike"
    if rest.max(1).max() <= 0:
        return 0.0, "every target has the largest logit; the smaller T the better"
    rest = rest / scale
    if _slopes(rest, 0.0)[0] >= 0:
        return math.inf, "targets have no larger logits than other classes on average"
    return scale / _root(rest), ""


def _slopes(rest: np.ndarray, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean cross-entropy by 1 / T."""
    p = np.exp(_log_softmax(rest * inverse, 1.0))
    mean = (p * rest).sum(1)
    return float(mean.mean()), float((p * (rest - mean[:, None]) ** 2).sum(1).mean())


def _root(rest: np.ndarray) -> float:
    """The 1 / T at which the slope, negative at 0 and rising, is zero."""
    low, high = 0.0, 1.0
    while _slopes(rest, high)[0] < 0:
        low, high = high, 2 * high
    at = (low + high) / 2
    for _ in range(_STEPS):
        slope, curvature = _slopes(rest, at)
        low, high = (at, high) if slope < 0 else (low, at)
        step = at - slope / curvature if curvature > 0 else math.inf
        new = step if low < step < high else (low + high) / 2
        if abs(new - at) <= 1e-13 * at:
            return new
        at = new
    return at


def _bins(confidence: np.ndarray) -> np.ndarray:
    """The bin of each sample; bins contain their upper edge."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _ece(confidence: np.ndarray, right: np.ndarray) -> float:
    gaps = np.bincount(_bins(confidence), weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _bootstrap(
    losses: np.ndarray, confidence: np.ndarray, right: np.ndarray, seed: int
) -> dict[str, Any]:
    """Intervals of cross-entropy and ECE, and the ECE of calibrated classifiers."""
    rng, count = np.random.default_rng(seed), len(losses)
    means, errors, nulls = np.empty((3, _DRAWS))
    for draw in range(_DRAWS):
        index = rng.integers(count, size=count)
        means[draw] = losses[index].mean()
        errors[draw] = _ece(confidence[index], right[index])
        nulls[draw] = _ece(confidence, rng.random(count) < confidence)
    finite = np.isfinite(losses).all()
    low, high = np.quantile(means, (0.025, 0.975)) if finite else (math.nan, math.nan)
    ece, (least, most) = _ece(confidence, right), np.quantile(errors, (0.025, 0.975))
    return {
        "cross_entropy_interval": (float(low), float(high)),
        "ece_interval": (max(float(2 * ece - most), 0.0), max(float(2 * ece - least), 0.0)),
        "ece_null": float(nulls.mean()),
    }


def _unknown(samples: int, temperature: float) -> Calibration:
    """What is known where there is a NaN."""
    nothing = (math.nan, math.nan)
    return Calibration(
        samples=samples,
        temperature=float(temperature),
        error=math.nan,
        error_interval=nothing,
        cross_entropy=math.nan,
        cross_entropy_interval=nothing,
        ece=math.nan,
        ece_interval=nothing,
        ece_null=math.nan,
    )
