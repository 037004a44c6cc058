"""Results on lines, planes and curves between weights, and the path of training among them."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from landscape.result_base import Result, axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile(Result):
    """Loss along one direction, once per repeat. Source: Li et al. 2018, section 4."""

    kind: ClassVar[str] = "profile"

    alpha: np.ndarray = axes("a")
    """Position along the direction, in multiples of it."""
    loss: np.ndarray = axes("repeat a")
    """Mean task loss in nats; NaN where not evaluated or where the model gave NaN."""
    accuracy: np.ndarray = axes("repeat a")
    """Fraction of correct classes; NaN where there are no classes."""
    evaluated: np.ndarray = axes("repeat a", bool)
    """Whether the point was evaluated."""
    axis_label: str = "α"
    test_loss: np.ndarray = axes("repeat a", empty=True)
    """The same on the test set, where it was measured."""
    test_accuracy: np.ndarray = axes("repeat a", empty=True)
    metrics: np.ndarray = axes("metric repeat a", empty=True)
    """The problem's own metrics, as means over samples."""
    metric_names: tuple[str, ...] = ()
    """Their names; those of the test set begin with "test "."""
    lambda_min: np.ndarray = axes("repeat a", empty=True)
    lambda_max: np.ndarray = axes("repeat a", empty=True)
    """Smallest and largest eigenvalue of the Hessian, where they were measured."""
    lambda_residual: np.ndarray = axes("repeat a", empty=True)
    """The larger residual of the two, in units of λ."""
    mark_position: np.ndarray = axes("mark", empty=True)
    """Points marked on the line, e.g. the minima it goes through."""
    mark_labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface(Result):
    """Loss on a plane. `loss[i, j]` belongs to `alpha[i]`, drawn along x, and `beta[j]`."""

    kind: ClassVar[str] = "surface"

    alpha: np.ndarray = axes("a")
    """Position along the first direction, in multiples of it; x in every figure."""
    beta: np.ndarray = axes("b")
    """Position along the second direction; y in every figure."""
    loss: np.ndarray = axes("a b")
    """Mean task loss in nats; NaN where not evaluated or where the model gave NaN."""
    accuracy: np.ndarray = axes("a b")
    """Fraction of correct classes; NaN where there are no classes."""
    evaluated: np.ndarray = axes("a b", bool)
    """Whether the point was evaluated; evaluated and not finite is diverged."""
    axis_labels: tuple[str, str] = ("α", "β")
    path_step: np.ndarray = axes("c", int, empty=True)
    """Steps of the run's checkpoints projected on the plane."""
    path_position: np.ndarray = axes("c 2", empty=True)
    """Their positions (alpha, beta)."""
    path_off_plane: np.ndarray = axes("c", empty=True)
    """Their Euclidean distance to the plane."""
    path_loss: np.ndarray = axes("c", empty=True)
    """Their measured loss, each with its own buffers."""
    path_run: np.ndarray = axes("c", int, empty=True)
    """Which of `path_labels` each checkpoint is of, on a plane of several runs."""
    path_labels: tuple[str, ...] = ()
    """Names of the runs whose paths are drawn, where there are several."""
    test_loss: np.ndarray = axes("a b", empty=True)
    """The same on the test set, where it was measured."""
    test_accuracy: np.ndarray = axes("a b", empty=True)
    metrics: np.ndarray = axes("metric a b", empty=True)
    """The problem's own metrics, as means over samples."""
    metric_names: tuple[str, ...] = ()
    """Their names; those of the test set begin with "test "."""
    lambda_min: np.ndarray = axes("a b", empty=True)
    lambda_max: np.ndarray = axes("a b", empty=True)
    """Smallest and largest eigenvalue of the Hessian, where they were measured."""
    lambda_residual: np.ndarray = axes("a b", empty=True)
    """The larger residual of the two, in units of λ."""
    interpolated: np.ndarray = axes("a b", bool, empty=True)
    """Whether the values of a point that was not evaluated are interpolated."""
    mark_position: np.ndarray = axes("mark 2", empty=True)
    """Points marked on the plane, e.g. the minima it goes through."""
    mark_labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Barrier(Result):
    """Loss on the straight lines between minima, and how far it rises there.

    Source: Frankle et al. 2020, section 2; Entezari et al. 2022, definition 2.1.
    """

    kind: ClassVar[str] = "barrier"

    t: np.ndarray = axes("t")
    """Position on the line: 0 is the row's minimum, 1 the column's."""
    loss: np.ndarray = axes("m m t")
    """Mean task loss in nats on the line from minimum i to j; [j, i] is its mirror image."""
    accuracy: np.ndarray = axes("m m t")
    """Fraction of correct classes; NaN where there are no classes."""
    evaluated: np.ndarray = axes("m m t", bool)
    """Whether the point was evaluated."""
    height: np.ndarray = axes("m m")
    """max_t L(t) − (L(0) + L(1)) / 2, in nats: Frankle's instability of the loss."""
    height_over_line: np.ndarray = axes("m m")
    """max_t [L(t) − (1 − t) L(0) − t L(1)], in nats: Entezari's barrier."""
    error_height: np.ndarray = axes("m m")
    error_height_over_line: np.ndarray = axes("m m")
    """The same of the error, 1 − accuracy."""
    distance: np.ndarray = axes("m m")
    """Euclidean distance between the minima."""
    names: tuple[str, ...] = ()
    """Names of the minima."""
    test_loss: np.ndarray = axes("m m t", empty=True)
    test_accuracy: np.ndarray = axes("m m t", empty=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve(Result):
    """A trained path of low loss between two minima, beside the straight line.

    Source: Garipov et al. 2018, section 3.
    """

    kind: ClassVar[str] = "curve"

    t: np.ndarray = axes("t")
    """Position on curve and line; 0 and 1 are the minima."""
    loss: np.ndarray = axes("t")
    accuracy: np.ndarray = axes("t")
    """On the curve: mean task loss in nats, fraction of correct classes."""
    line_loss: np.ndarray = axes("t")
    line_accuracy: np.ndarray = axes("t")
    """On the straight line."""
    position: np.ndarray = axes("t 2")
    """The curve on the plane of both minima and the middle bend, in weight-space distance."""
    bend_position: np.ndarray = axes("bend 2")
    off_plane: np.ndarray = axes("t")
    """Distance of the curve to that plane; 0 for one bend."""
    training_loss: np.ndarray = axes("update")
    """Loss at the point drawn in each update of the curve's training."""
    shape: str = "bezier"
    """"bezier" (quadratic) or "polygon"."""
    names: tuple[str, ...] = ()
    """Names of the two minima."""
    test_loss: np.ndarray = axes("t", empty=True)
    test_accuracy: np.ndarray = axes("t", empty=True)
    line_test_loss: np.ndarray = axes("t", empty=True)
    line_test_accuracy: np.ndarray = axes("t", empty=True)
    bends: np.ndarray | None = field(
        default=None, metadata={"axes": ("bend", "param"), "dtype": np.float32, "empty": True}
    )
    """The trained bends in the layout of theta, or None where they were not kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory(Result):
    """The checkpoints of a run on a plane, and how far they lie from it."""

    kind: ClassVar[str] = "trajectory"

    step: np.ndarray = axes("c", int)
    """Updates made before each checkpoint."""
    position: np.ndarray = axes("c 2")
    """Coordinates on the plane."""
    off_plane: np.ndarray = axes("c")
    """Euclidean distance to the plane."""
    explained: np.ndarray = axes("k")
    """Share of the checkpoints' variance along each principal component."""
    explained_null: np.ndarray = axes("k")
    """The same for a random walk with this run's step lengths."""
    distance_start: np.ndarray = axes("c")
    distance_end: np.ndarray = axes("c")
    """Euclidean distance to the first and the last checkpoint."""
    step_length: np.ndarray = axes("c-1")
    """Distance between neighbouring checkpoints."""
    turning_angle: np.ndarray = axes("c-2")
    """Angle between neighbouring displacements, in degrees; 90 for a random walk."""
    loss: np.ndarray = axes("c")
    accuracy: np.ndarray = axes("c")
    """Measured at each checkpoint with its own buffers."""
    axis_labels: tuple[str, str] = ("PC 1", "PC 2")
