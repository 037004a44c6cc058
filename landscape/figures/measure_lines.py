"""Measures of perturbations over checkpoints as lines, for screen and paper. Numbers and words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.figures.items import items_of
from landscape.figures.numbers import short
from landscape.figures.summaries import Curve, cosine_curve
from landscape.intervals import t_interval
from landscape.results import Consistency, Rise

Whole = tuple[str, int, list[Any]]
"""Label, color index and results of one perturbation in order of steps."""

COMPONENTS = ("components", "agreement", "radial", "gradient")
LENGTHS = ("norms", "relative")
_BINS = 25
QUANTITIES = ("share", "cosine", "rayleigh")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measure of one perturbation over checkpoints."""

    label: str
    color: int
    curve: Curve
    reference: bool = False
    """Whether it is what others are read against: drawn dotted, with hollow markers."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines over one axis of steps."""

    title: str
    axis: str
    """Title of the value axis, with its unit."""
    lines: tuple[Line, ...]
    key: str = ""
    """What tells lines of one color apart."""
    span: tuple[np.ndarray, ...] = ()
    """Further values that the axis has to hold: those of panels that share it."""

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return any(np.isfinite(line.curve.middle).any() for line in self.lines)

    @property
    def named(self) -> list[Line]:
        """Lines that are called by a name of their own."""
        own = {line.label for line in self.lines if not line.reference}
        return [x for x in self.lines if x.label and (not x.reference or x.label not in own)]

    @property
    def values(self) -> list[np.ndarray]:
        """All that the value axis has to hold, 0 included."""
        curves = [part for line in self.lines for part in _ends(line.curve)]
        return [*curves, *self.span, np.zeros(1)]


def _ends(curve: Curve) -> tuple[np.ndarray, ...]:
    return curve.middle, curve.low, curve.high


def groups_of(runs: Any, color: int = 0) -> list[Whole]:
    """(label, color, results in order of steps) of a result, of a run's results, or of several."""
    return [
        (label, index, sorted(found if isinstance(found, list | tuple) else [found], key=_step))
        for label, index, found in items_of(runs, color)
    ]


def _step(result: Consistency | Rise) -> float:
    return float(np.mean(result.step)) if np.size(result.step) else float("nan")


def over_batches(results: Sequence[Any], measure: Callable[[Any], np.ndarray]) -> Curve:
    """Mean over batches at every checkpoint, with its 95 % t-interval.

    Args:
        results: In order of steps.
        measure: Gives the values of a result's batches [n]; empty where they were not measured.
    """
    rows = [np.asarray(measure(result), dtype=np.float64) for result in results]
    rows = [row if np.isfinite(row).all() else np.full(len(row), np.nan) for row in rows]
    ends = [t_interval(row) for row in rows]
    return Curve(
        x=np.array([_step(result) for result in results]),
        middle=np.array([row.mean() if len(row) else np.nan for row in rows]),
        low=np.array([low for low, _ in ends]),
        high=np.array([high for _, high in ends]),
    )


def _of(name: str) -> Callable[[Any], np.ndarray]:
    return lambda result: getattr(result, name)


def _relative(result: Consistency) -> np.ndarray:
    """‖ε‖ / ‖w‖ of every batch; empty where the lengths of the layers are not known."""
    whole = float(np.sqrt(np.sum(result.layer_weight**2)))
    return result.norms / whole if whole > 0 else np.empty(0)


_PLAIN: dict[str, tuple[str, str, Callable[[Any], np.ndarray]]] = {
    "radial": ("Radial share", "cos(ε, w)", _of("radial")),
    "norms": ("Length", "‖ε‖", _of("norms")),
    "relative": ("Relative length", "‖ε‖ / ‖w‖", _relative),
}


def share_panel(runs: Sequence[Whole]) -> Panel:
    """Effective share of a batch's samples by the weights of the loss that is followed."""
    lines = [
        Line(label=n, color=i, curve=over_batches(g, _of("effective_share"))) for n, i, g in runs
    ]
    return Panel(
        title="Effective share",
        axis="effective share of samples",
        lines=tuple(lines),
        span=(np.ones(1),),
    )


def probability_shares(result: Consistency) -> tuple[np.ndarray, np.ndarray, int]:
    """Share of samples in each bin of the probability of the true class, edges, and samples."""
    found = result.true_probability[np.isfinite(result.true_probability)]
    counts, edges = np.histogram(found, bins=_BINS, range=(0.0, 1.0))
    return counts / max(len(found), 1), edges, len(found)


def component_panel(runs: Sequence[Whole], part: str) -> Panel:
    """What ε is made of, or how long it is: one of `COMPONENTS` or `LENGTHS`.

    Raises:
        ValueError: If there is no such part.
    """
    if part not in (*COMPONENTS, *LENGTHS):
        known = ", ".join((*COMPONENTS, *LENGTHS))
        raise ValueError(f"part must be one of {known}, got {part!r}")
    if part in _PLAIN:
        title, axis, measure = _PLAIN[part]
        lines = [Line(label=n, color=i, curve=over_batches(g, measure)) for n, i, g in runs]
        return Panel(title=title, axis=axis, lines=tuple(lines))
    if part == "gradient":
        lines = [
            Line(
                label=n, color=i, curve=over_batches(g, _of(name)), reference=name == "cosine_full"
            )
            for n, i, g in runs
            for name in ("cosine_gradient", "cosine_full")
        ]
        key = "solid: own batch, dotted: all data"
        return Panel(title="Gradient", axis="cos(ε, ∇L)", lines=tuple(lines), key=key)
    made = [(n, i, g, part_names(g)) for n, i, g in runs]
    alone = sum(bool(names) for *_, names in made) == 1
    lines = [
        Line(
            label=name if alone else f"{label.split(' ')[0]} {name}",
            color=index,
            curve=_part_curve(group, at, part),
            reference=at > 0,
        )
        for label, index, group, names in made
        for at, name in enumerate(names)
    ]
    names = max((names for *_, names in made), key=len, default=())
    key = ", ".join(f"{how}: {n}" for how, n in zip(("solid", "dotted"), names, strict=False))
    if part == "components":
        return Panel(title="Parts of ε", axis="cos(ε, its part)", lines=tuple(lines), key=key)
    return Panel(title="Parts alone", axis="mean pairwise cosine", lines=tuple(lines), key=key)


def part_names(results: Sequence[Consistency]) -> tuple[str, ...]:
    """Parts that ε was taken apart into; none where no result has them."""
    return max((result.component_names for result in results), key=len, default=())


def _part_curve(results: Sequence[Consistency], at: int, part: str) -> Curve:
    def of_batches(result: Consistency) -> np.ndarray:
        return result.component_cosines[at] if result.component_cosines.size else np.empty(0)

    if part == "components":
        return over_batches(results, of_batches)
    known = [r.component_mean_cosine for r in results]
    blank = np.full(len(results), np.nan)
    middle = np.array([float(row[at]) if row.size else np.nan for row in known])
    return Curve(x=cosine_curve(results)[0].x, middle=middle, low=blank, high=blank)


def places_of(runs: Sequence[Whole]) -> list[str]:
    """Whose loss was measured along ε, in the order of the results."""
    return list(dict.fromkeys(p for _, _, g in runs for result in g for p in result.places))


def radius_text(radius: float) -> str:
    """How long ε is; as training uses it where that is no common length."""
    return "‖ε‖ as trained" if np.isnan(radius) else f"‖ε‖ = {short(float(radius))}"


def radii_of(runs: Sequence[Whole]) -> list[float]:
    """Lengths of ε at which rises were measured; NaN is its own."""
    found = {radius for _, _, g in runs for result in g for radius in result.radii.tolist()}
    return [np.nan, *sorted(r for r in found if np.isfinite(r))]


def rise_rows(result: Rise, place: str, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """True rise and that to first order of every batch [n], in nats; empty if not measured."""
    at = [
        i for i, r in enumerate(result.radii) if r == radius or (np.isnan(r) and np.isnan(radius))
    ]
    if place not in result.places or not at:
        return np.empty(0), np.empty(0)
    where = result.places.index(place), at[0]
    return result.rise[where], result.first_order[where]


def rise_panel(runs: Sequence[Whole], place: str, radius: float) -> Panel:
    """The loss rise at one place over checkpoints; the axis holds the rises at all places.

    Raises:
        ValueError: If it was measured nowhere.
    """
    places = places_of(runs)
    if place not in places:
        raise ValueError(f"place must be one of {', '.join(places) or 'none'}, got {place!r}")
    everywhere = {p: _rise_lines(runs, p, radius) for p in places}
    return Panel(
        title=place[0].upper() + place[1:],
        axis="L(w + ε) − L(w), nats",
        lines=everywhere[place],
        key="solid: true, dotted: to first order",
        span=tuple(end for lines in everywhere.values() for x in lines for end in _ends(x.curve)),
    )


def _rise_lines(runs: Sequence[Whole], place: str, radius: float) -> tuple[Line, ...]:
    return tuple(
        Line(
            label=label,
            color=index,
            curve=over_batches(group, lambda r, at=at: rise_rows(r, place, radius)[at]),
            reference=at == 1,
        )
        for label, index, group in runs
        for at in (1, 0)
    )


def steep_rows(result: Rise, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """How far every batch's ε [n], and its gradient [n], lie along the largest curvature.

    Args:
        result: With eigenvalues.
        quantity: "share" of the squared length in the space of all eigenvectors found, "cosine"
            for |cos| to the first, "rayleigh" for uᵀHu over λ1.
    """
    if not result.eigenvalues.size:
        return np.empty(0), np.empty(0)
    if quantity == "rayleigh":
        top = float(result.eigenvalues[0]) if result.eigenvalues[0] > 0 else np.nan
        return result.rayleigh / top, result.gradient_rayleigh / top
    found = result.alignment, result.gradient_alignment
    if quantity == "cosine":
        return found[0][:, 0], found[1][:, 0]
    return np.sum(found[0] ** 2, axis=1), np.sum(found[1] ** 2, axis=1)


def steep_words(runs: Sequence[Whole], quantity: str) -> tuple[str, str]:
    """Title and axis of one of `QUANTITIES`.

    Raises:
        ValueError: If there is no such quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    most = max((len(r.eigenvalues) for _, _, g in runs for r in g), default=0)
    return {
        "share": ("Top eigenspace", f"share of ε² in {most} eigenvectors"),
        "cosine": ("First eigenvector", "|cos| to eigenvector 1"),
        "rayleigh": ("Rayleigh quotient", "uᵀHu / λ₁"),
    }[quantity]


def steep_panel(runs: Sequence[Whole], quantity: str) -> Panel:
    """How far ε lies along the largest curvature, beside the gradient of the same batches.

    Raises:
        ValueError: If there is no such quantity.
    """
    title, axis = steep_words(runs, quantity)
    lines = [
        Line(
            label=label,
            color=index,
            curve=over_batches(group, lambda r, at=at: steep_rows(r, quantity)[at]),
            reference=at == 1,
        )
        for label, index, group in runs
        for at in (1, 0)
    ]
    key = "solid: ε, dotted: gradient of its batch"
    return Panel(title=title, axis=axis, lines=tuple(lines), key=key)
