"""Whether an ε is adversarial: how far the loss rises along it, on which data, and how sharply."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.alignment import absolute_cosines, along_gradient, rayleigh_quotient
from landscape.batches import Batch
from landscape.displacements import Memory
from landscape.displacers import make_displacer
from landscape.frozen import Displacer, draw_batches
from landscape.objectives import Objective
from landscape.operators import Operator, hessian
from landscape.perturbations import Perturbation
from landscape.results import Rise, Spectrum
from landscape.spectra import find_eigenpairs
from landscape.stability import has_batch_norm
from landscape.terminal import Progress

_KEPT = ("model", "parameters", "loss", "mode", "samples", "dtype", "data_digest")


def measure_rise(
    objective: Objective,
    perturbation: Perturbation,
    *,
    batches: int = 32,
    batch_size: int = 128,
    seed: int,
    bn: str = "batch",
    test: Objective | None = None,
    radii: Sequence[float] = (0.05, 1.0),
    eigenvectors: int = 3,
    transfer: int = 12,
    operator: Operator | None = None,
    spectrum: Spectrum | None = None,
    memory: Memory | None = None,
    step: int = 0,
    progress: Progress | None = None,
) -> Rise:
    """Measure how the loss rises along the ε of many batches at the objective's weights.

    The batches are those of `measure_consistency` for the same seed. Each ε is tried on its own
    batch, on the next one drawn (for the last one the first) and on a batch of test data, drawn
    alike: at its own length, and at given ones along ε / ‖ε‖, which tells direction from length.

    The reference for curvature is the gradient of the same batch; random directions are none, as
    nearly all of them are flat. An ε of length 0 has no direction: NaN. Objective and model are not
    touched.

    Args:
        objective: Weights, loss and data.
        perturbation: As `sam()` or `aace()`.
        batches: Batches to draw, at least 2.
        batch_size: Samples in each.
        seed: Seed of the batches and of the search for eigenvectors.
        bn: "batch", as trained, or "frozen": of all losses, gradients and the Hessian.
        test: The same loss over the test data, where there are.
        radii: Lengths along ε / ‖ε‖, in weight units.
        eigenvectors: How many leading ones to hold ε against; 0 leaves out all curvature.
        transfer: First batches whose ε are each tried on each of these batches; 0 for none.
        operator: Whose eigenvectors and quotients; the Hessian of the objective by default.
        spectrum: Its eigenpairs, largest first, with vectors, where they are known already.
        memory: Of VaSSO and F-SAM; by default what 50 other batches leave.
        step: Updates made before, noted in the result.
        progress: Called with batches done and in total, after the eigenvectors are found.

    Raises:
        ValueError: An argument is out of range, or does not fit the model.
        TypeError: AACE on targets that are not classes.
    """
    _check(batches, batch_size, radii, eigenvectors, transfer)
    displacer, burnt = make_displacer(
        objective, perturbation, bn=bn, batch_size=batch_size, seed=seed, memory=memory
    )
    curved = None
    if eigenvectors:
        curved = _curvature(objective, bn, operator, spectrum, eigenvectors, seed)
    drawn = list(draw_batches(objective, batches, batch_size, seed))
    places = {"same batch": drawn, "another batch": drawn[1:] + drawn[:1]}
    if test is not None:
        places["test batch"] = list(draw_batches(test, batches, batch_size, seed))
    series = _Series(displacer, tuple(radii), drawn[:transfer], curved)
    for done, spots in enumerate(zip(*places.values(), strict=True), start=1):
        series.measure(spots)
        if progress is not None:
            progress(done, batches)
    facts: dict[str, Any] = {name: objective.facts[name] for name in _KEPT} | {
        "bn": bn,
        "batches": batches,
        "batch_size": batch_size,
        "sampling": "samples drawn with replacement, batches independent",
        "seed": seed,
        "settings": asdict(perturbation) | {"sign": perturbation.sign},
        **burnt,
    }
    if test is not None:
        facts |= {f"test_{name}": test.facts[name] for name in ("samples", "data_digest")}
    if curved is not None:
        facts |= curved.facts
    return Rise(
        perturbation=perturbation.label,
        step=step,
        radii=np.array([math.nan, *radii]),
        places=tuple(places),
        facts=facts,
        **series.fields(),
    )


@dataclass(frozen=True, kw_only=True)
class _Curvature:
    """The Hessian, and its leading eigenpairs."""

    operator: Operator
    spectrum: Spectrum
    vectors: Tensor

    @property
    def facts(self) -> dict[str, Any]:
        """How curvature was taken; the weight decay would raise all values by itself alone."""
        of = self.operator.facts
        decay = of.get("weight_decay", 0.0)
        return {
            "operator": of["operator"],
            "curvature_samples": of["samples"],
            "curvature_batch_size": of["batch_size"],
            "curvature_data_digest": of["data_digest"],
            "weight_decay": decay,
            "matvecs": self.spectrum.matvecs,
            "converged": self.spectrum.converged,
        }


def _curvature(
    objective: Objective,
    bn: str,
    operator: Operator | None,
    spectrum: Spectrum | None,
    eigenvectors: int,
    seed: int,
) -> _Curvature:
    """The operator asked for and its eigenpairs, or why they do not belong to these rises."""
    policy = objective.facts["bn"] if operator is None else operator.facts["bn"]
    if has_batch_norm(objective) and policy != bn:
        raise ValueError(
            f"rises and Hessian must be of one BatchNorm policy, got bn={bn!r} and a Hessian with "
            f"{policy!r}; make the Objective with bn={bn!r}, or take eigenvectors=0"
        )
    operator = hessian(objective) if operator is None else operator
    size = objective.theta.numel()
    if operator.size != size:
        raise ValueError(f"operator must be over all {size} parameters, got {operator.size}")
    if spectrum is None:
        spectrum = find_eigenpairs(operator, k=eigenvectors, which="LA", seed=seed)
    rows = spectrum.eigenvectors
    if rows is None or rows.shape != (eigenvectors, size) or spectrum.which != "LA":
        raise ValueError(
            f"spectrum must hold {eigenvectors} eigenvectors of {size} parameters, largest first, "
            f"got {'none' if rows is None else list(rows.shape)} of {spectrum.which!r}; take "
            f"find_eigenpairs(operator, k={eigenvectors}, which='LA', …)"
        )
    return _Curvature(
        operator=operator, spectrum=spectrum, vectors=torch.tensor(rows).to(objective.theta)
    )


@dataclass
class _Series:
    """What is measured of one batch's ε after another; no ε is kept."""

    displacer: Displacer
    radii: tuple[float, ...]
    crossed: list[Batch]
    curved: _Curvature | None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, spots: Sequence[Batch]) -> None:
        """Add the row of the batch that comes first among its places."""
        found = self.displacer(*spots[0])
        length = math.sqrt(_product(found.moves, found.moves))
        tried = [found.moves, *(_scaled(found.moves, length, radius) for radius in self.radii)]
        row: dict[str, Any] = {"norms": length}
        slopes = [_task_gradient(self.displacer, *spot) for spot in spots]
        row["rise"] = [
            [self.displacer.loss_at(moves, *spot) - loss for moves in tried]
            for spot, (loss, _) in zip(spots, slopes, strict=True)
        ]
        row["first_order"] = [[_product(slope, moves) for moves in tried] for _, slope in slopes]
        if len(self.rows) < len(self.crossed):
            row["transfer"] = self._transfer(found.moves)
        if self.curved is not None:
            row |= self._curvature(found.moves, found.gradient)
        self.rows.append(row)

    def _transfer(self, moves: list[Tensor]) -> list[float]:
        pairs = zip(self.crossed, self._before, strict=True)
        return [self.displacer.loss_at(moves, *batch) - before for batch, before in pairs]

    @cached_property
    def _before(self) -> list[float]:
        """Losses of the batches of the transfer at the weights themselves."""
        still = [torch.zeros_like(weight) for weight in self.displacer.weights]
        return [self.displacer.loss_at(still, *batch) for batch in self.crossed]

    def _curvature(self, moves: list[Tensor], gradient: list[Tensor]) -> dict[str, Any]:
        assert self.curved is not None
        vectors, operator = self.curved.vectors, self.curved.operator
        flat, slope = (_flat(tensors).to(vectors) for tensors in (moves, gradient))
        quotient = rayleigh_quotient(operator, slope)
        same = along_gradient(self.displacer.perturbation)
        return {
            "alignment": absolute_cosines(vectors, flat),
            "gradient_alignment": absolute_cosines(vectors, slope),
            "rayleigh": quotient if same else rayleigh_quotient(operator, flat),
            "gradient_rayleigh": quotient,
        }

    def fields(self) -> dict[str, Any]:
        """Fields of the result, [place, r, n] and [n, k] as they are there."""
        fields = {
            name: np.array([row[name] for row in self.rows if name in row]) for name in self.rows[0]
        }
        for name in ("rise", "first_order"):
            fields[name] = np.moveaxis(fields[name], 0, -1)
        if self.curved is not None:
            spectrum = self.curved.spectrum
            fields |= {"eigenvalues": spectrum.eigenvalues, "residuals": spectrum.residuals}
        return fields


def _task_gradient(
    displacer: Displacer, inputs: Tensor, targets: Tensor
) -> tuple[float, tuple[Tensor, ...]]:
    """Return mean task loss of a batch, in nats, and its gradient, at the weights."""
    loss = displacer.loss_fn(displacer.model(inputs), targets)
    gradient = torch.autograd.grad(
        loss, displacer.weights, allow_unused=True, materialize_grads=True
    )
    return float(loss.detach()), gradient


def _product(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the inner product over all tensors, in float64."""
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))


def _scaled(moves: Sequence[Tensor], length: float, radius: float) -> list[Tensor]:
    """Return them at another length; NaN where they have none."""
    factor = radius / length if length else math.nan
    return [move * factor for move in moves]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _check(
    batches: int, batch_size: int, radii: Sequence[float], eigenvectors: int, transfer: int
) -> None:
    if batches < 2 or batch_size < 1:
        raise ValueError(
            "a rise on another batch needs 2 batches of 1 sample or more, got "
            f"{batches} of {batch_size}"
        )
    if any(not 0 < radius < math.inf for radius in radii):
        raise ValueError(f"radii must be numbers above 0, got {list(radii)}")
    if not 0 <= transfer <= batches:
        raise ValueError(
            f"transfer must be some of the {batches} batches, 0 .. {batches}, got {transfer}"
        )
    if eigenvectors < 0:
        raise ValueError(f"eigenvectors must be 0 or more, got {eigenvectors}")
