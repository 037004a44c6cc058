"""Curves of low loss between two minima: trained bends, and the loss along the way."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from landscape.bends import NOISE, Training, control_weights, curve_point, train_bends
from landscape.connectivity import check_minima, measure_places
from landscape.grids import visiting_order
from landscape.meters import Place
from landscape.modules import Weights
from landscape.objectives import Objective
from landscape.results import Curve
from landscape.visits import Keeper, Progress


class ArrayKeeper(Keeper, Protocol):
    """What keeps the trained bends beside the points: `landscape.work.Work`."""

    def settle_arrays(
        self, name: str, make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Return the arrays kept under this name, by `make` the first time."""
        ...


def measure_curve(
    objective: Objective,
    first: Weights,
    last: Weights,
    *,
    shape: str = "bezier",
    bends: int = 1,
    updates: int,
    learning_rate: float,
    momentum: float = 0.9,
    batch_size: int,
    nodes: int = 0,
    seed: int,
    points: int = 61,
    test: Objective | None = None,
    work: ArrayKeeper | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Train a curve of low loss between two minima and measure it beside the straight line.

    The bends minimize E L(φ(t)) for t uniform in [0, 1], with both ends fixed, by SGD with
    momentum: one t and one minibatch per update, both from local generators. φ is the Bezier
    curve, φ(t) = (1 − t)² w₁ + 2 t (1 − t) c + t² w₂ for one bend c, or the polygon through the
    bends, each piece in an equal share of t. The bends begin evenly spaced on the chord, each
    moved by a Gaussian vector of a thousandth of the chord's length: where the loss is symmetric
    about the chord, nothing else would tell them a side. The learning rate is constant for half
    of the updates, falls linearly to a hundredth of it until nine tenths, and stays there. There
    is no weight decay.

    BatchNorm uses the statistics of each batch while the bends are trained; the curve is measured
    with the objective's policy, of which "recomputed" is right for curves. With bn="frozen" the
    bends too are trained with the model's own statistics.

    Args:
        objective: The loss as a function of theta.
        first: The minimum at t = 0.
        last: The minimum at t = 1.
        shape: "bezier" or "polygon".
        bends: Points trained, at least 1; a Bezier curve with n of them has degree n + 1.
        updates: Steps of SGD.
        learning_rate: Its step at the start.
        momentum: Its momentum.
        batch_size: Samples in a minibatch, drawn without replacement in each epoch; what is left
            at the end of an epoch is left out. 0 takes all data in every update.
        nodes: 0 draws one t per update. Else the mean over t is taken at so many nodes of
            Gauss-Legendre quadrature on each smooth piece, which has no noise and costs as many
            gradients.
        seed: Seed of everything random.
        points: Points measured on curve and line, both ends included, at least 3.
        test: The loss over the test data, to be measured in the same pass.
        work: Keeps the bends and every measured point, and gives back those of before.
        progress: Called with steps done and steps in total: updates, then points.

    Returns:
        The curve with its bends, float32. `facts` has the heights of curve and line over the mean
        of their ends, and their means over t by the trapezoidal rule.

    Raises:
        ValueError: If an argument is out of range, weights are not those of the model, the two
            minima are the same, bn is "interpolated", or the training loss is not finite.

    Source: Garipov et al. 2018, section 3.3 and its public code (schedule, 61 points).
    """
    training = Training(
        shape=shape,
        bends=bends,
        updates=updates,
        learning_rate=learning_rate,
        momentum=momentum,
        batch_size=batch_size,
        nodes=nodes,
        seed=seed,
    )
    minima = check_minima(objective, (first, last))
    _check(objective, minima, points)
    total = updates + 2 * points - 2

    def report(done: int, offset: int = 0) -> None:
        if progress is not None:
            progress(offset + done, total)

    def train() -> dict[str, np.ndarray]:
        start, end = minima[0].theta, minima[1].theta
        controls, losses = train_bends(objective, start, end, training, report)
        return {"controls": controls.cpu().numpy(), "training_loss": losses}

    trained = train() if work is None else work.settle_arrays("bends", train)
    controls = torch.tensor(trained["controls"]).to(objective.theta)
    t = np.arange(points) / (points - 1)
    fields, facts = _measure(
        objective,
        controls,
        training,
        t,
        test=test,
        work=work,
        progress=lambda done, _: report(done, updates),
    )
    return Curve(
        t=t,
        **fields,
        **_positions(controls, training, t),
        training_loss=trained["training_loss"],
        shape=shape,
        names=(first.name, last.name),
        bends=controls[1:-1].cpu().numpy(),
        facts={**facts, **_facts(controls, training, t, fields, objective)},
    )


def _measure(
    objective: Objective,
    controls: Tensor,
    training: Training,
    t: np.ndarray,
    *,
    test: Objective | None,
    work: Keeper | None,
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the curve and, prefixed with "line_", of the chord, which shares its ends."""
    last = len(t) - 1
    order = visiting_order((len(t),)).tolist()
    order += [len(t) - 1 + step for step in order if 0 < step < last]

    def place(index: int) -> Place:
        if index <= last:
            return curve_point(controls, training.shape, float(t[index])), None
        return torch.lerp(controls[0], controls[-1], float(t[index - last])), None

    measured, facts = measure_places(
        objective, place, order, test=test, work=work, progress=progress
    )
    del measured["evaluated"]
    fields = {name: values[: last + 1] for name, values in measured.items()}
    for name, values in measured.items():
        line = [values[:1], values[last + 1 :], values[last : last + 1]]
        fields[f"line_{name}"] = np.concatenate(line)
    return fields, facts


def _positions(controls: Tensor, training: Training, t: np.ndarray) -> dict[str, Any]:
    """Curve and bends on the plane of both ends and the middle bend, and distances to it."""
    offsets = controls.cpu().double() - controls[0].cpu().double()
    middle = 1 + training.bends // 2
    along = offsets[-1] / offsets[-1].norm()
    across = offsets[middle] - (offsets[middle] @ along) * along
    across -= (across @ along) * along  # what rounding left
    height = across.norm()
    across = across / height if height > 1e-12 * offsets[-1].norm() else torch.zeros_like(across)
    axes = torch.stack([along, across])
    rest = offsets - (offsets @ axes.T) @ axes
    rest[[0, middle, -1]] = 0.0  # these span the plane
    weights = np.stack([control_weights(training.shape, training.bends, float(x)) for x in t])
    coordinates = (offsets @ axes.T).numpy()
    return {
        "position": weights @ coordinates,
        "bend_position": coordinates[1:-1],
        "off_plane": (torch.from_numpy(weights) @ rest).norm(dim=1).numpy(),
    }


def _facts(
    controls: Tensor,
    training: Training,
    t: np.ndarray,
    fields: dict[str, Any],
    objective: Objective,
) -> dict[str, Any]:
    frozen = objective.facts["bn"] == "frozen"
    facts: dict[str, Any] = {
        "bends": training.bends,
        "updates": training.updates,
        "learning_rate": training.learning_rate,
        "momentum": training.momentum,
        "training_batch_size": training.batch_size,
        "nodes": training.nodes,
        "seed": training.seed,
        "training_bn": "frozen" if frozen else "batch",
        "start": f"chord, moved by {NOISE:g} of its length",
        "points": len(t),
        "unit": "weight distance",
        "distance": float((controls[-1] - controls[0]).cpu().double().norm()),
    }
    for name, loss in (("", fields["loss"]), ("line_", fields["line_loss"])):
        facts[f"{name}max_loss"] = float(loss.max())
        facts[f"{name}mean_loss"] = float(np.trapezoid(loss, t))
        facts[f"{name}height"] = float(loss.max() - (loss[0] + loss[-1]) / 2)
    return facts


def _check(objective: Objective, minima: Sequence[Weights], points: int) -> None:
    if objective.facts["bn"] == "interpolated":
        raise ValueError(
            'bn="interpolated" has statistics for the line between minima only, not for a curve; '
            'take bn="recomputed"'
        )
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 3:
        raise ValueError(f"points must be a whole number from 3 on, got {points!r}; 61 is usual")
    if bool((minima[0].theta == minima[1].theta).all()):
        raise ValueError(
            f"{minima[0].name} and {minima[1].name} must differ, got the same weights twice"
        )
