"""Barriers: how far the loss rises on the straight lines between minima."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.grids import visiting_order
from landscape.meters import Meter, Place, fields_of
from landscape.modules import Weights, fit_buffers
from landscape.objectives import Objective
from landscape.results import Barrier
from landscape.visits import Keeper, Memory, Progress, visit

_FIRST_POINTS = 3
_STATISTICS = {
    "frozen": "the model's own at every point",
    "recomputed": "recomputed at every point, ends included, from the training data",
    "batch": "those of each batch",
    "interpolated": "interpolated between those of the minima",
}


def measure_barrier(
    objective: Objective,
    weights: Sequence[Weights],
    *,
    points: int = 25,
    test: Objective | None = None,
    chunk: int | None = None,
    work: Keeper | None = None,
    progress: Progress | None = None,
) -> Barrier:
    """Measure the loss on the straight line between every two minima.

    The point at t is (1 − t) w_i + t w_j. Each line is measured once, from the earlier minimum to
    the later, and mirrored; each minimum is measured once. Weights are not permuted to match:
    nets that were trained from different starts may lie in basins that a permutation would join.

    BatchNorm follows the objective's policy. Between minima the statistics of neither fit, and
    decide the height: "recomputed" measures them from the objective's data at every point, ends
    included; "interpolated" mixes those of the two minima and leaves each end its own; "frozen"
    keeps the model's own everywhere, "batch" takes those of each batch.

    A height is NaN where a point of its line is NaN or was not evaluated. Else it is a lower
    bound, because the loss may be higher between the points.

    Args:
        objective: The loss as a function of theta.
        weights: At least two minima, each with a name of its own; their buffers are used with
            bn="interpolated" only.
        points: Points inside each line, at least 1; of an odd number one is in the middle. 25 to
            30 are customary.
        test: The loss over the test data, to be measured in the same pass.
        chunk: Samples evaluated at a time; chosen by a short probe by default.
        work: Keeps every point as soon as it is measured, and gives back those of before.
        progress: Called with points done and points in total.

    Raises:
        ValueError: If there are fewer than two minima, two have one name, weights or buffers are
            not those of the model or not finite, or the number of points is out of range.

    Source: Frankle et al. 2020, section 2 (`height`); Entezari et al. 2022, definition 2.1
    (`height_over_line`); Jordan et al. 2023, section 3 (statistics between minima).

    Example:
        >>> from landscape.formulas import formula_objective
        >>> wells = formula_objective(lambda w: (w @ w - 1) ** 2, [0.0])
        >>> ends = [Weights("left", torch.tensor([-1.0])), Weights("right", torch.tensor([1.0]))]
        >>> float(measure_barrier(wells, ends).height[0, 1])
        1.0
    """
    minima = check_minima(objective, weights)
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 1:
        raise ValueError(f"points must be a whole number from 1 on, got {points!r}; 25 is usual")
    t = np.arange(points + 2) / (points + 1)
    pairs = [*combinations(range(len(minima)), 2)]
    inside = [place - 1 for place in visiting_order((points + 2,)).tolist() if 0 < place <= points]

    def place(index: int) -> Place:
        if index < len(minima):
            return _between(objective, minima[index], minima[index], 0.0)
        pair, step = divmod(index - len(minima), points)
        first, last = (minima[end] for end in pairs[pair])
        return _between(objective, first, last, float(t[step + 1]))

    order = [*range(len(minima))]
    order += [len(minima) + pair * points + step for step in inside for pair in range(len(pairs))]
    fields, facts = measure_places(
        objective, place, order, test=test, chunk=chunk, work=work, progress=progress
    )
    lines: dict[str, Any] = {
        name: _lines(values, len(minima), pairs) for name, values in fields.items()
    }
    height, height_over_line = _heights(lines["loss"], t)
    error_height, error_height_over_line = _heights(1 - lines["accuracy"], t)
    return Barrier(
        t=t,
        **lines,
        height=height,
        height_over_line=height_over_line,
        error_height=error_height,
        error_height_over_line=error_height_over_line,
        distance=_distances(minima),
        names=tuple(minimum.name for minimum in minima),
        facts={
            **facts,
            "line": "straight",
            "points": int(points),
            "bound": "heights are lower bounds: the largest of the points measured",
        },
    )


def measure_places(
    objective: Objective,
    place: Callable[[int], Place],
    order: Iterable[int],
    *,
    test: Objective | None,
    chunk: int | None = None,
    work: Keeper | None,
    progress: Progress | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure points that lie between minima, each once.

    Args:
        objective: The loss as a function of theta.
        place: Gives a point by its index.
        order: All indices, from 0 without a gap, in the order of their visit.
        test: The loss over the test data.
        chunk: Samples evaluated at a time.
        work: Keeps every point.
        progress: Called with points done and points in total.

    Returns:
        Loss and accuracy, those of the test data where given, and `evaluated`, each [point]; and
        facts: the objective's, the path taken, the statistics and that nothing was aligned.
    """
    keeper, order = (Memory() if work is None else work), [*order]
    first = [place(index) for index in order[:_FIRST_POINTS]]
    meter = Meter(
        objective,
        test=test,
        eigenvalues=False,
        precision="full",
        chunk=chunk,
        first=first,
        keeper=keeper,
    )
    with meter.threads():
        rows = visit(
            order,
            lambda index: meter(place(index)),
            meter.columns,
            keeper,
            total=len(order),
            progress=progress,
        )
    fields = fields_of(meter.columns, rows, (len(order),))
    facts = {
        **objective.facts,
        **meter.facts,
        "alignment": "none: weights are not permuted to match",
    }
    if any(isinstance(module, _BatchNorm) for module in objective.model.modules()):
        facts["statistics"] = _STATISTICS[objective.facts["bn"]]
    if test is not None:
        facts["test_samples"] = test.facts["samples"]
    return {name: fields[name] for name in fields if not name.startswith("metric")}, facts


def check_minima(objective: Objective, weights: Sequence[Weights]) -> list[Weights]:
    """The minima in the types and on the device of the objective.

    Raises:
        ValueError: If there are fewer than two, two have one name, or one is not of this model,
            not finite, or lacks the buffers that bn="interpolated" needs.
    """
    names = [minimum.name for minimum in weights]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"at least two minima with different names are needed, got {', '.join(names) or 'none'}"
        )
    for minimum in weights:
        if minimum.theta.shape != objective.theta.shape:
            raise ValueError(
                f"{minimum.name} must have the objective's {objective.theta.numel()} parameters, "
                f"got shape {tuple(minimum.theta.shape)}; is it of another model?"
            )
        if not minimum.theta.isfinite().all():
            raise ValueError(
                f"{minimum.name} must be finite, got NaN or infinity; did its training diverge?"
            )
    interpolated = objective.facts["bn"] == "interpolated"
    return [
        Weights(
            minimum.name,
            minimum.theta.detach().to(objective.theta),
            fit_buffers(objective.model, minimum.buffers) if interpolated else {},
        )
        for minimum in weights
    ]


def _between(objective: Objective, first: Weights, last: Weights, t: float) -> Place:
    """The point (1 − t) first + t last, with buffers where the policy asks; counts are first's."""
    theta = torch.lerp(first.theta, last.theta, t)
    if objective.facts["bn"] != "interpolated":
        return theta, None
    return theta, {
        name: torch.lerp(value, last.buffers[name], t) if value.is_floating_point() else value
        for name, value in first.buffers.items()
    }


def _lines(values: np.ndarray, count: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Arrange points [point] into lines [m, m, t], mirrored and constant on the diagonal."""
    ends, inside = values[:count], values[count:].reshape(len(pairs), -1)
    lines = np.repeat(ends[:, None], inside.shape[1] + 2, axis=1)[:, None].repeat(count, axis=1)
    for (i, j), middle in zip(pairs, inside, strict=True):
        lines[i, j] = np.concatenate([ends[i : i + 1], middle, ends[j : j + 1]])
        lines[j, i] = lines[i, j, ::-1]
    return lines


def _heights(lines: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each line over the mean of its ends, and over their chord [m, m]."""
    first, last = lines[..., :1], lines[..., -1:]
    with np.errstate(invalid="ignore"):
        over_mean = lines.max(axis=-1) - (first + last)[..., 0] / 2
        chord = first + t * (last - first)
        chord[..., -1:] = last
        over_chord = (lines - chord).max(axis=-1)
    upper = np.triu(over_chord)
    return over_mean, upper + np.triu(upper, 1).T


def _distances(minima: list[Weights]) -> np.ndarray:
    thetas = [minimum.theta.cpu().double() for minimum in minima]
    return np.array([[float((a - b).norm()) for b in thetas] for a in thetas])
