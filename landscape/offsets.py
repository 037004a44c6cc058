"""Where the loss has its minimum along the mean ε: at w, at w + ε, or elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape import guards
from landscape.calibration import calibration_error, fit_temperature, sample_cross_entropies
from landscape.displacements import Memory
from landscape.displacers import make_displacer
from landscape.frozen import draw_batches, flat_array
from landscape.objectives import Objective
from landscape.perturbations import Perturbation
from landscape.results import Offset
from landscape.sample_slopes import sample_losses
from landscape.terminal import Progress

TRAINING, TEST, SCALED = "training loss", "test loss", "test loss, temperature scaled"

_DRAWS = 1000  # of the bootstrap
_KEPT = ("model", "parameters", "loss", "mode", "bn", "samples", "dtype", "data_digest")


def measure_offset(
    objective: Objective,
    perturbation: Perturbation,
    *,
    batches: int = 32,
    batch_size: int = 128,
    seed: int,
    test: Objective | None = None,
    points: int = 31,
    extent: tuple[float, float] = (-1.0, 2.0),
    memory: Memory | None = None,
    step: int = 0,
    progress: Progress | None = None,
) -> Offset:
    """Measure the loss along the mean ε of many batches, and where its minimum lies.

    The batches are those of `measure_consistency` for the same seed and objective, each with its
    own BatchNorm statistics, as trained. The losses on the line are of all data of the objectives
    and of their BatchNorm policy; bn="recomputed" measures the statistics at every place, so that
    no place is at home. Where test data are classes, the same with temperature scaling: what is
    left of a difference then is not one of the scale of the logits. The temperature is fitted at
    each place on one half of the test data and used on the other, and the other way round.

    Intervals are over samples, the same ones at all places, with the temperatures as they are:
    what other data of the same kind would give for these weights, nothing of other trainings. Where
    a minimum lies at an end of the line, it is there or beyond. A loss that is NaN somewhere has no
    minimum. Objective and model are not touched.

    Args:
        objective: Weights, loss and data.
        perturbation: As `sam()` or `aace()`.
        batches: Batches to draw.
        batch_size: Samples in each.
        seed: Seed of the batches, the halves and the bootstrap.
        test: The same loss over the test data, where there are.
        points: Places on the line, evenly, at least 5; 0 and 1 are added, or take the place of one
            that lies within a quarter of a step.
        extent: Ends of the line in multiples of the mean ε; w is 0, w + ε is 1.
        memory: Of VaSSO and F-SAM; by default what 50 other batches leave.
        step: Updates made before, noted in the result.
        progress: Called with batches and places done and in total.

    Raises:
        ValueError: An argument is out of range, or does not fit the model; or the loss can't be
            taken of single samples.
        TypeError: AACE on targets that are not classes.
    """
    alpha = _places(points, extent)
    if batches < 1 or batch_size < 1:
        raise ValueError(
            f"the mean ε needs a batch of a sample or more, got {batches} of {batch_size}"
        )
    displacer, burnt = make_displacer(
        objective, perturbation, bn="batch", batch_size=batch_size, seed=seed, memory=memory
    )
    drawn = draw_batches(objective, batches, batch_size, seed)
    mean = torch.zeros(objective.theta.numel(), dtype=torch.float64)
    for done, batch in enumerate(drawn, start=1):
        mean += torch.from_numpy(flat_array(displacer(*batch).moves)) / batches
        _tell(progress, done, batches + len(alpha))
    line = _Line(objective, test, seed)
    for done, a in enumerate(alpha, start=1):
        line.measure(objective.theta + (a * mean).to(objective.theta))
        _tell(progress, batches + done, batches + len(alpha))
    facts: dict[str, Any] = {name: objective.facts[name] for name in _KEPT} | {
        "displacement_bn": "batch",
        "batches": batches,
        "batch_size": batch_size,
        "sampling": "samples drawn with replacement, batches independent",
        "seed": seed,
        "settings": asdict(perturbation) | {"sign": perturbation.sign},
        **burnt,
        "bootstrap": f"{_DRAWS} draws of samples, the same at all places",
    }
    if test is not None:
        facts |= {f"test_{name}": test.facts[name] for name in ("samples", "data_digest")}
    return Offset(
        perturbation=perturbation.label,
        step=step,
        alpha=alpha,
        norm=float(mean.norm()),
        weight_norm=float(objective.theta.double().norm()),
        facts=facts,
        **line.fields(alpha),
    )


class _Line:
    """What is measured at one place after another, each sample's loss kept.

    Args:
        objective: The loss over the training data.
        test: The same over the test data, where there are.
        seed: Seed of the halves of the test data.
    """

    def __init__(self, objective: Objective, test: Objective | None, seed: int) -> None:
        self._over = {TRAINING: objective} | ({} if test is None else {TEST: test})
        self._scales = test is not None and _is_cross_entropy(test)
        self._losses: dict[str, list[np.ndarray]] = {}
        self._accuracy: dict[str, list[float]] = {}
        self._temperature: list[float] = []
        self._ece: list[float] = []
        self._rng = np.random.default_rng(seed)
        self._halves: list[np.ndarray] = []
        if self._scales:
            count = sum(len(targets) for _, targets in self._over[TEST].batches)
            self._halves = np.array_split(self._rng.permutation(count), 2)

    def measure(self, theta: Tensor) -> None:
        """Measure the next place, theta [param]."""
        for curve, objective in self._over.items():
            outputs = objective.outputs(theta)
            targets = [targets for _, targets in objective.batches]
            accuracy = _accuracy(outputs, targets)
            self._add(curve, sample_losses(objective, outputs), accuracy)
            if curve == TEST and self._scales:
                self._scale(_joined(outputs), _joined(targets), accuracy)

    def _add(self, curve: str, losses: np.ndarray, accuracy: float) -> None:
        self._losses.setdefault(curve, []).append(losses)
        self._accuracy.setdefault(curve, []).append(accuracy)

    def _scale(self, logits: np.ndarray, classes: np.ndarray, accuracy: float) -> None:
        logits = np.where(np.isfinite(logits), logits, np.nan)
        losses, fitted = np.empty(len(classes)), []
        for fit, use in (self._halves, self._halves[::-1]):
            fitted.append(fit_temperature(logits[fit], classes[fit]).value)
            losses[use] = sample_cross_entropies(logits[use], classes[use], temperature=fitted[-1])
        self._add(SCALED, losses, accuracy)
        self._temperature.append(float(np.mean(fitted)))
        self._ece.append(calibration_error(logits, classes))

    def fields(self, alpha: np.ndarray) -> dict[str, Any]:
        """Fields of the result, with minimum, gain and their intervals."""
        drawn = self._rng.integers(2**63)  # the same samples for both curves of the test data
        found = [
            _located(alpha, np.stack(losses), np.random.default_rng(drawn))
            for losses in self._losses.values()
        ]
        return {
            "curves": tuple(self._losses),
            "accuracy": np.array(list(self._accuracy.values())),
            "temperature": np.array(self._temperature),
            "ece": np.array(self._ece),
            **{name: np.array([of[name] for of in found]) for name in found[0]},
        }


def _located(alpha: np.ndarray, losses: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Return mean losses, minimum and gain, with intervals, of the samples' losses [a, sample]."""
    loss, count = losses.mean(1), losses.shape[1]
    drawn = np.tile(loss, (_DRAWS, 1))
    finite = np.isfinite(loss)
    for row in drawn:
        weights = np.bincount(rng.integers(count, size=count), minlength=count) / count
        row[finite] = losses[finite] @ weights
    start, end = (int(np.flatnonzero(alpha == place)[0]) for place in (0, 1))
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        gains = drawn[:, start] - drawn[:, end]
        low, high = np.quantile(minimum_place(alpha, drawn), (0.025, 0.975))
        gain_low, gain_high = np.quantile(gains, (0.025, 0.975))
        gain = loss[start] - loss[end]
    return {
        "loss": loss,
        "minimum": minimum_place(alpha, loss[None])[0],
        "minimum_low": low,
        "minimum_high": high,
        "gain": gain,
        "gain_low": gain_low,
        "gain_high": gain_high,
    }


def minimum_place(alpha: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Return where each row of losses [row, a] is smallest, between the places `alpha` too.

    It is the vertex of the parabola through the lowest value and both its neighbours, and the end
    of the line where that is the lowest. NaN where a row holds one.
    """
    lowest = loss.argmin(1)
    inner = np.clip(lowest, 1, len(alpha) - 2)
    x0, x1, x2 = (alpha[inner + shift] for shift in (-1, 0, 1))
    y0, y1, y2 = (np.take_along_axis(loss, inner[:, None] + s, 1)[:, 0] for s in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        before, after = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
        bend = after - before
        vertex = (x0 + x1) / 2 - before * (x2 - x0) / (2 * bend)
    known = (lowest == inner) & np.isfinite(bend) & (bend > 0)
    place = np.where(known, vertex, alpha[lowest])
    return np.where(np.isnan(loss).any(1), np.nan, place)


def _is_cross_entropy(objective: Objective) -> bool:
    """Whether its loss is the cross-entropy of logits [sample, class], without weights and such."""
    outputs = objective.outputs()
    targets = [targets for _, targets in objective.batches]
    if not all(map(guards.are_classes, outputs, targets)) or outputs[0].ndim != 2:
        return False
    logits = _joined(outputs)
    if not np.isfinite(logits).all():
        return False
    plain = sample_cross_entropies(logits, _joined(targets))
    return np.allclose(plain, sample_losses(objective, outputs), rtol=1e-3, atol=1e-4)


def _accuracy(outputs: Sequence[Any], targets: Sequence[Tensor]) -> float:
    """Return the fraction of correct classes; NaN where the targets are no classes."""
    if not all(map(guards.are_classes, outputs, targets)):
        return math.nan
    right = [
        (output.argmax(1) == target) & ~output.isnan().any(1)
        for output, target in zip(outputs, targets, strict=True)
    ]
    return float(torch.cat([part.flatten() for part in right]).double().mean())


def _joined(tensors: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(tensors)).cpu().numpy()


def _places(points: int, extent: tuple[float, float]) -> np.ndarray:
    """Return the places on the line, 0 and 1 among them."""
    low, high = extent
    if points < 5:
        raise ValueError(f"points must be at least 5, to see a minimum between, got {points}")
    if not (-math.inf < low <= 0 and 1 <= high < math.inf):
        raise ValueError(f"extent must hold 0, which is w, and 1, w + ε, got {low} .. {high}")
    step = (high - low) / (points - 1)
    alpha = np.linspace(low, high, points)
    # A place close by would make a parabola of rounding errors.
    apart = np.minimum(np.abs(alpha), np.abs(alpha - 1)) > step / 4
    return np.sort(np.concatenate([alpha[apart], [0.0, 1.0]]))


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
