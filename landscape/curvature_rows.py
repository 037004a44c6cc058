"""What is measured of curvature at one checkpoint of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from landscape.alignment import measure_alignment
from landscape.objectives import Objective
from landscape.operators import NotFiniteError, Operator
from landscape.perturbations import Perturbation
from landscape.results import Spectrum
from landscape.runs import Run
from landscape.sample_slopes import mean_probability
from landscape.spectra import find_eigenpairs
from landscape.stability import measure_stability
from landscape.traces import estimate_trace
from landscape.update_maps import NoJacobianError
from landscape.updates import Update, learning_rate_at, update_of_run

Row = dict[str, np.ndarray]
"""Values by the names of `landscape.results.Curvature`'s fields; what was not measured is left out.

Also "swing_real", of the multiplier farthest from 1.
"""

_MULTIPLIER = ("multiplier", "multiplier_residual", "swing_real", "swing")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured at each checkpoint, as told to `measure_curvature`."""

    k: int
    tolerance: float
    probes: int
    perturbations: tuple[Perturbation, ...]
    stability: bool
    batches: str
    seed: int
    operator: Callable[[Objective], Operator]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One checkpoint."""

    row: Row
    vectors: np.ndarray | None = None
    """Eigenvectors of the largest eigenvalues `[k, param]`; None where it has diverged."""
    notes: dict[str, Any]
    """Facts of operator and update, names and sizes of layers."""


def measure_row(
    run: Run,
    objective: Objective,
    step: int,
    asked: Asked,
    *,
    start: np.ndarray | None = None,
    tell: Callable[[str], None],
) -> Measured:
    """Measure a checkpoint; eigenvalues are NaN, and nothing else is measured, if it has diverged.

    Args:
        run: The run, with a checkpoint at this step.
        objective: The loss of its problem.
        step: Which checkpoint.
        asked: What of it.
        start: Eigenvectors of the checkpoint before.
        tell: Told what is at hand.

    Raises:
        KeyboardInterrupt: Ctrl-C, also where a part had been found by then.
    """
    checkpoint = run.checkpoint(step)
    here = objective.at(checkpoint.theta, checkpoint.buffers)
    row = {
        "step": np.array(step),
        "loss": np.array(here()),
        "mean_probability": np.array(mean_probability(here)),
        "learning_rate": np.array(learning_rate_at(run, step)),
        "gradient_norm": np.array(np.nan),
        "eigenvalues": np.full(asked.k, np.nan),
        "residuals": np.full(asked.k, np.nan),
        "matvecs": np.array(0),
        "converged": np.array(False),
    }
    try:
        operator = asked.operator(here)
        found, parts = _spectral(here, operator, asked, start, tell)
        notes: dict[str, Any] = {"operator": operator.facts}
        if asked.probes:
            parts.append(_traced(operator, asked, notes, tell))
        if asked.stability:
            parts.append(_multiplied(update_of_run(run, step), here, operator, asked, notes, tell))
    except NotFiniteError:
        return Measured(row=row, notes={})
    total = sum(int(part.pop("matvecs", 0)) for part in parts)
    settled = all(bool(part.pop("converged", True)) for part in parts)
    for part in parts:
        row |= {name: np.asarray(value) for name, value in part.items()}
    row |= {"matvecs": np.array(total), "converged": np.array(settled)}
    return Measured(row=row, vectors=found.eigenvectors, notes=notes)


def _spectral(
    here: Objective,
    operator: Operator,
    asked: Asked,
    start: np.ndarray | None,
    tell: Callable[[str], None],
) -> tuple[Spectrum, list[dict[str, Any]]]:
    """Both ends of the spectrum, and directions beside the upper one's eigenvectors."""
    search = {"tolerance": asked.tolerance, "seed": asked.seed}
    found = _whole(
        find_eigenpairs(
            operator,
            k=asked.k,
            which="LA",
            start=None if start is None else torch.tensor(start),
            progress=_within(tell, f"{asked.k} largest"),
            **search,
        )
    )
    low = _whole(
        find_eigenpairs(
            operator,
            k=1,
            which="SA",
            copies=False,
            progress=_within(tell, "smallest"),
            **search,
        )
    )
    directions = measure_alignment(here, found.eigenvectors, asked.perturbations, operator=operator)
    upper = {
        "eigenvalues": found.eigenvalues,
        "residuals": found.residuals,
        "matvecs": found.matvecs,
        "converged": found.converged,
    }
    lower = {
        "lowest": low.eigenvalues[0],
        "lowest_residual": low.residuals[0],
        "matvecs": low.matvecs,
        "converged": low.converged,
    }
    aligned = {
        "gradient_norm": directions.norms[0],
        "alignment": directions.cosines,
        "rayleigh": directions.rayleigh,
        "matvecs": directions.products,
    }
    return found, [upper, lower, aligned]


def _traced(
    operator: Operator, asked: Asked, notes: dict[str, Any], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Trace and norm, of the layers too."""
    progress = _within(tell, "trace")
    found = _whole(
        estimate_trace(operator, probes=asked.probes, seed=asked.seed, progress=progress)
    )
    notes["layer_names"] = list(found.layer_names)
    notes["layer_size"] = found.layer_size.tolist()
    return {
        "trace": found.trace,
        "trace_error": found.standard_error,
        "frobenius": found.frobenius,
        "frobenius_error": found.frobenius_error,
        "layer_trace": found.layer_trace,
        "layer_error": found.layer_error,
        "matvecs": found.matvecs,
    }


def _multiplied(
    update: Update,
    here: Objective,
    operator: Operator,
    asked: Asked,
    notes: dict[str, Any],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """The multiplier of the run's update; NaN where that has no Jacobian."""
    try:
        found = _whole(
            measure_stability(
                here,
                update,
                tolerance=asked.tolerance,
                seed=asked.seed,
                batches=asked.batches,
                operator=operator,
                progress=_within(tell, "multiplier"),
            )
        )
    except NoJacobianError:
        return {**dict.fromkeys(_MULTIPLIER, np.nan), "converged": False}
    told = ("batches", "multiplier_means", "left_out", "caution")
    notes["update"] = {name: found.facts[name] for name in told if name in found.facts}
    return {
        "multiplier": found.multiplier,
        "multiplier_residual": found.residuals[0],
        "swing_real": found.facts["swing"]["real"],
        "swing": found.facts["swing"]["magnitude"],
        "converged": found.converged,
    }


def _whole(result: Any) -> Any:
    """The result, unless it was cut short: a checkpoint counts when all of it is measured."""
    if result.facts.get("interrupted"):
        raise KeyboardInterrupt
    return result


def _within(tell: Callable[[str], None], what: str) -> Callable[[int, int, str], None]:
    def progress(done: int, allowed: int, note: str) -> None:
        tell(f"{what}: {done} products{', ' * bool(note)}{note}")

    return progress
