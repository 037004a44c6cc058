"""What profiles, surfaces, barriers and curves can be asked."""

from dataclasses import dataclass
from typing import Any, Literal

from landscape.option_checks import at_least
from landscape.terminal import near

BatchNorm = Literal["frozen", "recomputed", "batch"]
PointBatchNorm = Literal["frozen", "recomputed", "batch", "interpolated"]
Precision = Literal["full", "bfloat16", "mixed"]
Normalization = Literal["filter", "layer", "model", "none"]

PLANES = ("random", "trajectory", "hessian", "minima", "joint")
"""Planes with a name of their own; others are spanned by one or two of `DIRECTIONS` or files."""
DIRECTIONS = ("gradient", "sharpest", "sam", "usam", "asam", "aace", "gsam", "le-sam")
"""Directions that the weights, or they and one batch, decide, unlike `_REMEMBERING`."""
_REMEMBERING = ("vasso", "f-sam")
FILES = (".safetensors", ".npz", ".npy", ".h5")
JOINT = ("minima", "joint")
"""Planes of several runs at once."""


def _check_plane(plane: str, axes: int) -> None:
    """Refuse what names no plane with this many directions."""
    words = plane.split(",")
    if len(words) == 1 and plane in PLANES:
        if axes == 1 and plane in ("trajectory", "joint"):
            raise ValueError(f"plane {plane} has two directions; measure it with landscape surface")
        return
    for word in words:
        if word in _REMEMBERING:
            raise ValueError(
                f"plane can't be of {word}, whose direction depends on the gradients of earlier "
                f"updates; take {', '.join(DIRECTIONS)} or a file of directions"
            )
        if word not in DIRECTIONS and not word.endswith(FILES):
            known = (*PLANES, *DIRECTIONS)
            raise ValueError(
                f"plane must be one of {', '.join(PLANES)}, or one or two of "
                f"{', '.join(DIRECTIONS)} and files of directions ({', '.join(FILES)}), got "
                f"{word!r}{near(word, known)}"
            )
    if len(words) > axes or (len(words) < axes and not words[0].endswith(FILES)):
        count = {1: "one direction", 2: "two directions, as gradient,aace"}[axes]
        raise ValueError(f"plane must name {count}, got {plane!r}")


def _check_moved(options: Any) -> None:
    kinds = ("weight", "bias", "norm", "embedding")
    for word in filter(None, options.ignore.split(",")):
        if word not in kinds:
            raise ValueError(
                f"ignore must be some of {', '.join(kinds)} by comma, got {word!r}"
                f"{near(word, kinds)}"
            )
    if options.rise is not None and options.extent is not None:
        raise ValueError("give extent or rise, not both: rise finds the extent")
    if options.rise is not None and not options.rise > 1:
        raise ValueError(f"rise must be a factor above 1, got {options.rise}")
    if options.extent is not None and not options.extent > 0:
        raise ValueError(f"extent must be above 0, got {options.extent}")


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """Loss along a direction.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        test: Whether to measure the test set at each point too, as many samples of it.
        plane: The direction: random, hessian or sharpest (the top eigenvector), gradient, sam,
            usam, asam, aace, gsam or le-sam (the perturbation of one batch, with the settings of a
            run that was trained with it; usam and le-sam only so), minima (the line through two
            runs), or a file.
        extent: Largest multiple of the direction, to both sides; 1 by default, the line from
            -0.5 to 1.5 for minima, a rise of one nat for hessian.
        rise: Instead of extent: grow until the loss is this many times that of the checkpoint.
        points: Points on the line; odd, so that the middle one is the checkpoint itself.
        repeats: Random directions measured, for median and band.
        normalization: How random directions are scaled to the weights.
        ignore: Kinds of parameters that random directions leave where they are, by comma, of
            weight, bias, norm, embedding.
        parameters: Names or patterns, by comma, of the only parameters to move: layer3.*,fc.weight.
        eigenvalues: Whether to find the extreme Hessian eigenvalues at each point.
        precision: full; bfloat16, its error measured at some points; or mixed, bfloat16 corrected
            to within 1 % of the loss.
        bn: BatchNorm statistics: frozen, recomputed at each point, of each batch, or interpolated
            between minima.
        seed: Seed of the directions and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    test: bool = False
    plane: str = "random"
    extent: float | None = None
    rise: float | None = None
    points: int = 21
    repeats: int = 5
    normalization: Normalization = "filter"
    ignore: str = "bias,norm"
    parameters: str = ""
    eigenvalues: bool = False
    precision: Precision = "full"
    bn: PointBatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, points=2, repeats=1, seed=0)
        _check_plane(self.plane, 1)
        _check_moved(self)


@dataclass(frozen=True, kw_only=True)
class SurfaceOptions:
    """Loss on a plane.

    Attributes:
        checkpoint: Step of the checkpoint: first, last, a number, N,N,... or all.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        test: Whether to measure the test set at each point too, as many samples of it.
        plane: random; trajectory, the first two principal components of the run's path; hessian,
            the two top eigenvectors; minima, through three runs; joint, the principal components
            of several runs; two of gradient, sharpest (the top eigenvector), sam, usam, asam, aace,
            gsam, le-sam by comma (the perturbation of one batch, with the settings of a run that
            was trained with it; usam and le-sam only so); or files of directions.
        extent: Largest multiple of the directions, to all sides; by default 1 for a random
            plane, the path for trajectory and joint, a rise of one nat for hessian.
        rise: Instead of extent: grow until the loss is this many times that of the checkpoint.
        points: Points along each axis; odd, so that the middle one is the checkpoint itself.
        normalization: How random directions are scaled to the weights.
        ignore: Kinds of parameters that random directions leave where they are, by comma, of
            weight, bias, norm, embedding.
        orthogonalize: Whether to make the second random direction orthogonal to the first.
        parameters: Names or patterns, by comma, of the only parameters to move: layer3.*,fc.weight.
        eigenvalues: Whether to find the extreme Hessian eigenvalues at each point.
        precision: full; bfloat16, its error measured at some points; or mixed, bfloat16 corrected
            to within 1 % of the loss.
        tolerance: Stop when points held out say that the rest can be interpolated to this error
            of the log loss: 0.02 is 2 % of the loss.
        bn: BatchNorm statistics: frozen, recomputed at each point, of each batch, or interpolated
            between minima.
        seed: Seed of the directions and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    test: bool = False
    plane: str = "random"
    extent: float | None = None
    rise: float | None = None
    points: int = 21
    normalization: Normalization = "filter"
    ignore: str = "bias,norm"
    orthogonalize: bool = False
    parameters: str = ""
    eigenvalues: bool = False
    precision: Precision = "full"
    tolerance: float | None = None
    bn: PointBatchNorm = "frozen"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, points=2, seed=0)
        _check_plane(self.plane, 2)
        _check_moved(self)
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance must be above 0, got {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class BarrierOptions:
    """Loss on the straight lines between the minima of several runs.

    Attributes:
        checkpoint: Step of the checkpoint of each run: first, last or a number.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        test: Whether to measure the test set at each point too, as many samples of it.
        points: Points between two minima, which are measured themselves as well.
        bn: BatchNorm statistics: recomputed at each point, interpolated between the minima's own,
            of each batch, or frozen (those of the first run).
        seed: Seed of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    test: bool = False
    points: int = 25
    bn: PointBatchNorm = "recomputed"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, points=1, seed=0)


@dataclass(frozen=True, kw_only=True)
class CurveOptions:
    """A trained path of low loss between the minima of two runs.

    Attributes:
        checkpoint: Step of the checkpoint of each run: first, last or a number.
        samples: Size of the class-balanced subset of the training set; 0 takes all of it.
        test: Whether to measure the test set at each point too, as many samples of it.
        shape: bezier (quadratic) or polygon.
        bends: Trained bends of a polygon; a Bezier curve has one.
        updates: Training steps of the bends.
        learning_rate: Of the bends' training, by SGD with momentum.
        batch_size: Samples of a training step; 0 takes all.
        points: Points measured along the curve and along the straight line.
        bn: BatchNorm statistics: recomputed at each point, of each batch, or frozen (those of the
            first run).
        seed: Seed of training and of the subset.
    """

    checkpoint: str = "last"
    samples: int = 2000
    test: bool = False
    shape: Literal["bezier", "polygon"] = "bezier"
    bends: int = 1
    updates: int = 1000
    learning_rate: float = 0.03
    batch_size: int = 128
    points: int = 61
    bn: BatchNorm = "recomputed"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, samples=0, bends=1, updates=1, batch_size=0, points=2, seed=0)
