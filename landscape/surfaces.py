"""Loss along a direction and on a plane, at points that are computed directly from the origin."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from landscape.grids import grid_axes, visiting_order
from landscape.meters import Meter, Place, fields_of
from landscape.objectives import Objective
from landscape.plane import Plane
from landscape.planes import random_plane
from landscape.refinement import Refinement
from landscape.results import Profile, Surface
from landscape.visits import Keeper, Memory, Progress, Row, visit

_PRECISION_POINTS = 16
_FIRST_POINTS = 3


def measure_profile(
    objective: Objective,
    plane: Plane,
    *,
    extent: float | Sequence[float],
    points: int,
    repeats: int = 1,
    test: Objective | None = None,
    eigenvalues: bool = False,
    precision: str = "full",
    chunk: int | None = None,
    work: Keeper | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measure the loss along the plane's first direction.

    Args:
        objective: The loss as a function of theta.
        plane: Origin and direction.
        extent: Multiples of the direction: a float e for [-e, e], or two bounds.
        points: Points on the line, at least 2; with an odd number between symmetric bounds the
            middle one is the origin itself.
        repeats: Directions measured; those after the first are drawn anew, with seeds seed + 1,
            seed + 2, ..., so they need a random plane.
        test: The loss over the test data, to be measured in the same pass.
        eigenvalues: Whether to find the extreme Hessian eigenvalues at each point.
        precision: "full", that of the objective; "bfloat16"; or "mixed".
        chunk: Samples evaluated at a time; chosen by a short probe by default.
        work: Keeps every point as soon as it is measured, and gives back those of before.
        progress: Called with points done and points in total.

    Returns:
        Loss and accuracy [repeat, a] as measured: NaN and infinity are kept.

    Raises:
        ValueError: If an argument is out of range, or the plane is of another model.
    """
    (alpha,) = grid_axes(extent, points, 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int | np.integer) or repeats < 1:
        raise ValueError(f"repeats must be a whole number from 1 on, got {repeats!r}")
    plane = plane.like(objective.theta)
    line = _Lines(objective, plane, alpha, int(repeats))
    shape = (int(repeats), len(alpha))
    along = visiting_order((len(alpha),))
    order = [repeat * len(alpha) + int(i) for repeat in range(repeats) for i in along]
    facts, fields = _measure(
        objective,
        plane,
        line.place,
        order,
        shape,
        origin=int(np.flatnonzero(alpha == 0)[0]) if 0.0 in alpha else None,
        options={"test": test, "eigenvalues": eigenvalues, "precision": precision, "chunk": chunk},
        work=work,
        progress=progress,
    )
    if repeats > 1:
        facts["seeds"] = [_seed(plane) + repeat for repeat in range(repeats)]
    label = "random direction" if plane.facts.get("plane") == "random" else plane.labels[0]
    marks = {name: where[0] for name, where in plane.marks}
    return Profile(
        alpha=alpha,
        **fields,
        axis_label=label,
        mark_position=np.array([*marks.values()]),
        mark_labels=tuple(marks),
        facts={**facts, **_grid_facts(alpha)},
    )


def measure_surface(
    objective: Objective,
    plane: Plane,
    *,
    extent: float | Sequence[float],
    points: int | tuple[int, int],
    test: Objective | None = None,
    eigenvalues: bool = False,
    precision: str = "full",
    tolerance: float | None = None,
    chunk: int | None = None,
    work: Keeper | None = None,
    progress: Progress | None = None,
) -> Surface:
    """Measure the loss on a grid on the plane.

    A complete coarse picture exists after about 6 % of the points, and is refined.

    Args:
        objective: The loss as a function of theta.
        plane: Origin and two directions.
        extent: Multiples of the directions: a float e for [-e, e] on both axes, or four bounds
            (a0, a1, b0, b1).
        points: Points along each axis, or (a, b); at least 2. With odd numbers between symmetric
            bounds the middle point is the origin itself; `facts["center_on_grid"]` says so.
        test: The loss over the test data, to be measured in the same pass.
        eigenvalues: Whether to find the extreme Hessian eigenvalues at each point, for a
            convexity map (Li et al. 2018, section 6).
        precision: "full", that of the objective; "bfloat16", with the error found at some points
            in `facts["precision_error"]`; or "mixed", which takes full precision where bfloat16
            can't resolve the loss.
        tolerance: Stop refining when points held out say that interpolation is this good, and
            interpolate the rest: see `landscape.refinement`.
        chunk: Samples evaluated at a time; chosen by a short probe by default.
        work: Keeps every point as soon as it is measured, and gives back those of before.
        progress: Called with points done and points in total.

    Returns:
        Loss and accuracy [a, b] as measured: NaN and infinity are kept.

    Raises:
        ValueError: If an argument is out of range, or the plane is of another model.
    """
    alpha, beta = grid_axes(extent, points, 2)
    if len(plane.directions) != 2:
        raise ValueError(
            f"a surface needs a plane with 2 directions, got {len(plane.directions)}; draw it with "
            "axes=2, or measure a profile"
        )
    plane = plane.like(objective.theta)
    shape = (len(alpha), len(beta))

    def place(index: int) -> Place:
        a, b = alpha[index // len(beta)], beta[index % len(beta)]
        return plane.point(a, b), plane.buffers_at(a, b)

    on_grid = 0.0 in alpha and 0.0 in beta
    zero = [int(np.flatnonzero(axis == 0)[0]) for axis in (alpha, beta)] if on_grid else [0, 0]
    facts, fields = _measure(
        objective,
        plane,
        place,
        visiting_order(shape),
        shape,
        origin=zero[0] * len(beta) + zero[1] if on_grid else None,
        options={"test": test, "eigenvalues": eigenvalues, "precision": precision, "chunk": chunk},
        refinement=None if tolerance is None else Refinement(shape, tolerance=tolerance, seed=0),
        work=work,
        progress=progress,
    )
    marks = dict(plane.marks)
    return Surface(
        alpha=alpha,
        beta=beta,
        **fields,
        axis_labels=(plane.labels[0], plane.labels[1]),
        mark_position=np.array([*marks.values()]) if marks else np.empty((0, 2)),
        mark_labels=tuple(marks),
        facts={**facts, **_grid_facts(alpha, beta)},
    )


def _measure(
    objective: Objective,
    plane: Plane,
    place: Callable[[int], Place],
    order: Iterable[int],
    shape: tuple[int, int],
    *,
    origin: int | None,
    options: dict[str, Any],
    refinement: Any | None = None,
    work: Keeper | None,
    progress: Progress | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts and fields of a result: every point visited once, kept at once."""
    keeper = Memory() if work is None else work
    _check_statistics(objective, plane)
    order = [int(index) for index in order]
    first = [place(index) for index in order[:_FIRST_POINTS]]
    meter = Meter(objective, **options, first=first, keeper=keeper)
    tools = {"total": math.prod(shape), "progress": progress}

    def measure(index: int) -> Row:
        return meter(place(index))

    with meter.threads():
        if refinement is None:
            rows = visit(order, measure, meter.columns, keeper, **tools)
        else:
            rows = _refine(refinement, measure, meter.columns, keeper, tools)
        facts = {**objective.facts, **plane.facts, **meter.facts}
        if refinement is not None or len(rows) == math.prod(shape):
            chosen = _spread(sorted(rows))
            facts |= meter.measure_precision(lambda: [place(index) for index in chosen])
        if origin is None:
            facts["center_loss"] = _center_loss(objective, plane, keeper)
        else:
            facts["center_loss"] = float(rows[origin][0]) if origin in rows else math.nan
    if options["test"] is not None:
        facts["test_samples"] = options["test"].facts["samples"]
    fields = fields_of(meter.columns, rows, shape)
    if refinement is not None:
        more, told = _fill(refinement, meter.columns, rows)
        fields, facts = fields | more, facts | told
    return facts, fields


def _refine(
    refinement: Refinement,
    measure: Callable[[int], Row],
    columns: Sequence[str],
    keeper: Keeper,
    tools: dict[str, Any],
) -> dict[int, Row]:
    """Visit what the refinement asks for until it is content."""
    rows = keeper.finished(columns)
    while len(wanted := refinement.next(_column(rows, 0))):
        rows = visit(wanted.tolist(), measure, columns, keeper, **tools)
    return rows


def _fill(
    refinement: Refinement, columns: Sequence[str], rows: dict[int, Row]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields with what was not evaluated interpolated, and how good that is by column."""
    loss = _column(rows, 0)
    filled = {"loss": refinement.fill(loss)}
    if not filled["loss"].interpolated.any():
        return {}, {"held_out": filled["loss"].facts}
    for number, name in enumerate(columns):
        if name in ("accuracy", "test_loss", "test_accuracy"):
            relative = name.endswith("loss")
            filled[name] = refinement.fill(loss, _column(rows, number), relative=relative)
    fields: dict[str, Any] = {name: each.values for name, each in filled.items()}
    facts = {
        "held_out" if name == "loss" else f"held_out_{name}": each.facts
        for name, each in filled.items()
    }
    return fields | {"interpolated": filled["loss"].interpolated}, facts


def _column(rows: dict[int, Row], number: int) -> dict[int, float]:
    return {index: float(row[number]) for index, row in rows.items()}


def _spread(indices: Sequence[int]) -> list[int]:
    """Some of the indices, drawn with a fixed seed."""
    generator = np.random.default_rng(0)
    count = min(_PRECISION_POINTS, len(indices))
    return [int(index) for index in generator.choice(indices, count, replace=False)]


def _check_statistics(objective: Objective, plane: Plane) -> None:
    if objective.facts["bn"] == "interpolated" and not plane.buffers:
        raise ValueError(
            'bn="interpolated" needs a plane through weights that have running statistics of their '
            f'own, got plane {plane.facts.get("plane", "given")!r}; take bn="recomputed"'
        )


def _grid_facts(*axes: np.ndarray) -> dict[str, Any]:
    return {
        "extent": [float(end) for axis in axes for end in (axis[0], axis[-1])],
        "points": [len(axis) for axis in axes],
        "center_on_grid": all(0.0 in axis for axis in axes),
    }


def _center_loss(objective: Objective, plane: Plane, keeper: Keeper) -> float:
    """The loss at the origin, which the grid leaves out."""

    def make() -> dict[str, Any]:
        found = objective.evaluate(plane.origin, buffers=plane.buffers_at(0.0, 0.0))
        return {"loss": found.loss}

    return keeper.settle("center", make)["loss"]


class _Lines:
    """The points of repeated directions, one direction in memory at a time."""

    def __init__(self, objective: Objective, plane: Plane, alpha: np.ndarray, repeats: int) -> None:
        self._objective, self._plane, self._alpha = objective, plane, alpha
        self._line, self._repeat = plane, 0
        if repeats > 1:
            _seed(plane)

    def place(self, index: int) -> Place:
        repeat, i = divmod(index, len(self._alpha))
        if repeat != self._repeat:
            again = _redrawn(self._objective, self._plane, _seed(self._plane) + repeat)
            self._line, self._repeat = (again if repeat else self._plane), repeat
        a = self._alpha[i]
        return self._line.point(a), self._plane.buffers_at(a)


def _seed(plane: Plane) -> int:
    if plane.facts.get("plane") != "random":
        raise ValueError(
            "repeats draw new random directions, so they need a random plane, got plane "
            f"{plane.facts.get('plane', 'given')!r}; take repeats=1 or random_plane"
        )
    return plane.facts["seed"]


def _redrawn(objective: Objective, plane: Plane, seed: int) -> Plane:
    drawn = random_plane(
        objective,
        normalization=plane.facts["normalization"],
        ignore=plane.facts["ignore"],
        parameters=plane.facts.get("parameters_moved", ()),
        seed=seed,
        axes=1,
    )
    return Plane(plane.origin, drawn.directions)
