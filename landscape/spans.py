"""Planes through given weights and along given directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.modules import Weights
from landscape.plane import Mark, Plane

_PARALLEL = 1e-8  # of 1 - cosine²: float32 rounding alone turns a direction by up to 1e-5
_STATISTICS = "affine between the minima, running variances at least 0"


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in weight space that means something, to span a plane with."""

    name: str
    """What it is, in a word: "gradient", "sam", "aace", "given"."""
    label: str
    """Name of the axis."""
    vector: Tensor
    """What is added to theta per unit of the axis [param]."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was found."""
    mark: str = ""
    """Name of the point one unit along it, where it has one, as "w + ε"."""


def line_plane(first: Weights, last: Weights) -> Plane:
    """The line through two minima: `first` at 0, `last` at 1.

    `facts["distance"]` is the length of its one direction, ‖θ_last − θ_first‖. Where the weights
    have buffers, those of every point are (1 − a) times the first's plus a times the last's.

    Args:
        first: Weights at 0.
        last: Weights at 1, of the same model.

    Raises:
        ValueError: If they are of different models, equal, or not finite.
    """
    step = _difference(first, last)
    facts = {
        "plane": "minima",
        "normalization": "none",
        "through": [first.name, last.name],
        "distance": float(step.norm()),
    }
    changes = _changes(first, last)
    return Plane(
        first.theta,
        step[None].to(first.theta),
        labels=(f"from {first.name} to {last.name}",),
        facts=facts | _told_buffers(first, last),
        buffers=(_on_cpu(first), changes) if first.buffers else (),
        marks=((first.name, (0.0,)), (last.name, (1.0,))),
    )


def three_point_plane(first: Weights, second: Weights, third: Weights) -> Plane:
    """The plane through three minima, with equal units: coordinates are distances of weights.

    Origin is `first`, the first axis points to `second`, the second one is orthogonal to it on the
    side of `third`: u = θ₂ − θ₁, v = (θ₃ − θ₁) − ⟨θ₃ − θ₁, û⟩ û, θ = θ₁ + a û + b v̂. Where the
    weights have buffers, those of every point are the one affine combination of the three that
    gives each minimum its own.

    Args:
        first: Weights at (0, 0).
        second: Weights at (‖u‖, 0).
        third: Weights at (⟨θ₃ − θ₁, û⟩, ‖v‖).

    Raises:
        ValueError: If they are of different models, on one line, or not finite.

    Source: Garipov et al., NeurIPS 2018, section A.2.
    """
    u, w = _difference(first, second), _difference(first, third)
    _difference(second, third)
    across = u / u.norm()
    along = float(w @ across)
    v = w - along * across
    width, height = float(u.norm()), float(v.norm())
    largest = max(float(weights.theta.double().norm()) for weights in (first, second, third))
    rounding = 8 * torch.finfo(first.theta.dtype).eps * largest
    if height <= max(1e-6 * float(w.norm()), rounding):
        raise ValueError(
            f"three points of a plane must not lie on a line, got {first.name}, {second.name} and "
            f"{third.name}, the last {height:.2g} off the line through the others; take two of them"
        )
    to_second, to_third = _changes(first, second), _changes(first, third)
    per_a = {name: change / width for name, change in to_second.items()}
    per_b = {name: (change - along * per_a[name]) / height for name, change in to_third.items()}
    facts = {
        "plane": "minima",
        "normalization": "none",
        "unit": "weight distance",
        "through": [first.name, second.name, third.name],
        "distances": [width, float(w.norm()), float((w - u).norm())],
    }
    return Plane(
        first.theta,
        torch.stack([across, v / height]).to(first.theta),
        labels=(f"toward {second.name}", f"toward {third.name}, orthogonal"),
        facts=facts | _told_buffers(first, second, third),
        buffers=(_on_cpu(first), per_a, per_b) if first.buffers else (),
        marks=(
            (first.name, (0.0, 0.0)),
            (second.name, (width, 0.0)),
            (third.name, (along, height)),
        ),
    )


def span_plane(
    origin: Tensor, directions: Sequence[Direction], *, facts: Mapping[str, Any] | None = None
) -> Plane:
    """The plane along one or two directions, as they are: a unit of an axis is the direction.

    Directions keep their lengths and their angle, which `facts` has as "direction_norms" and
    "direction_cosine".

    Args:
        origin: Point of the plane with coordinates 0 [param].
        directions: One or two.
        facts: Further facts for the caption.

    Raises:
        ValueError: If there are more, they are parallel, zero or not finite, or of another model.
    """
    if len(directions) not in (1, 2):
        raise ValueError(f"a plane needs 1 or 2 directions, got {len(directions)}")
    for direction in directions:
        _check_direction(direction, origin)
    rows = torch.stack([d.vector.detach().cpu().double() for d in directions])
    norms = rows.norm(dim=1)
    found: dict[str, Any] = {
        "plane": " and ".join(dict.fromkeys(direction.name for direction in directions)),
        "normalization": "none",
        "direction_norms": norms.tolist(),
        "directions": [{"label": d.label, **d.facts} for d in directions],
    }
    orthonormal = bool(((norms - 1).abs() < 1e-6).all())
    if len(rows) == 2:
        found["direction_cosine"] = float(rows[0] @ rows[1] / norms.prod())
        _check_angle(found["direction_cosine"], directions)
        orthonormal = orthonormal and abs(found["direction_cosine"]) < 1e-6
    if orthonormal:
        found["unit"] = "weight distance"
    return Plane(
        origin,
        rows.to(origin),
        labels=tuple(direction.label for direction in directions),
        facts=found | dict(facts or {}),
        marks=_marks(directions),
    )


def _marks(directions: Sequence[Direction]) -> tuple[Mark, ...]:
    """The origin as w and the ends that have a name; nothing where none has."""
    axes = len(directions)
    ends = [
        (direction.mark, tuple(float(axis == own) for axis in range(axes)))
        for own, direction in enumerate(directions)
        if direction.mark
    ]
    return (("w", (0.0,) * axes), *ends) if ends else ()


def _check_direction(direction: Direction, origin: Tensor) -> None:
    vector = direction.vector
    if vector.shape != origin.shape:
        raise ValueError(
            f"{direction.label} must be in the layout of theta, {tuple(origin.shape)}, got shape "
            f"{tuple(vector.shape)}; is it of another model?"
        )
    if not vector.isfinite().all() or not vector.any():
        what = "zero" if vector.isfinite().all() else "NaN or infinity"
        raise ValueError(f"{direction.label} must be finite and not zero, got {what}")


def _check_angle(cosine: float, directions: Sequence[Direction]) -> None:
    if 1 - cosine**2 < _PARALLEL:
        first, second = (direction.label for direction in directions)
        raise ValueError(
            f"two directions of a plane must not be parallel, got a cosine of {cosine:.8f} between "
            f"{first} and {second}; measure a profile along one, or take another batch or direction"
        )


def _difference(first: Weights, last: Weights) -> Tensor:
    """θ_last − θ_first [param], float64, on the CPU."""
    a, b = first.theta.detach(), last.theta.detach()
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"weights on one plane must be of one model, got {first.name} with shape "
            f"{tuple(a.shape)} and {last.name} with {tuple(b.shape)}"
        )
    step = b.cpu().double() - a.cpu().double()
    if not step.isfinite().all():
        raise ValueError(
            f"weights must be finite, got NaN or infinity in {first.name} or {last.name}; did "
            "training diverge?"
        )
    if not step.any():
        raise ValueError(
            f"weights on one plane must differ, got the same in {first.name} and {last.name}"
        )
    return step


def _changes(first: Weights, last: Weights) -> dict[str, Tensor]:
    """What is added to the first's floating-point buffers to reach the last's, float64."""
    wrong = first.buffers.keys() ^ last.buffers.keys()
    wrong |= {
        name
        for name in first.buffers.keys() & last.buffers.keys()
        if first.buffers[name].shape != last.buffers[name].shape
    }
    if wrong:
        raise ValueError(
            f"weights on one plane must have the same buffers, got a difference between "
            f"{first.name} and {last.name} in {', '.join(sorted(wrong)[:4])}"
        )
    changes = {}
    for name, start in first.buffers.items():
        if start.is_floating_point():
            start, end = start.cpu().double(), last.buffers[name].cpu().double()
            changes[name] = torch.where(start == end, 0.0, end - start)  # -inf in masks: no change
    return changes


def _on_cpu(weights: Weights) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in weights.buffers.items()}


def _told_buffers(first: Weights, *others: Weights) -> dict[str, Any]:
    if not first.buffers:
        return {}
    kept = [
        name
        for name, value in _on_cpu(first).items()
        if not value.is_floating_point()
        and name.rpartition(".")[2] != "num_batches_tracked"
        and any(not torch.equal(value, other.buffers[name].cpu()) for other in others)
    ]
    told: dict[str, Any] = {"buffers": _STATISTICS}
    return told | ({"buffers_of_origin": kept} if kept else {})
