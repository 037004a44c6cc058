"""The update that a run was trained with: what its optimizer was told.

Its map of weights and momentum is `landscape.update_maps.UpdateMap`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.perturbations import Perturbation, aace, sam
from landscape.runs import Run


@dataclass(frozen=True, kw_only=True)
class Update:
    """One training step, as far as its map of (weights, momentum) is known by a formula.

    g is the gradient at w + ε(w), both of the same batch, plus `weight_decay` w; then
    m′ = β m + (1 − τ) g and w′ = w − η m′, or w − η (g + β m′) with Nesterov's momentum.
    """

    # η, above 0.
    learning_rate: float
    # β, in [0, 1).
    momentum: float = 0.0
    # τ: how much less than g enters the momentum; torch leaves it out without momentum.
    dampening: float = 0.0
    # Nesterov's momentum, which takes momentum and no dampening.
    nesterov: bool = False
    # L2 penalty, added to the gradient at w, not at w + ε.
    weight_decay: float = 0.0
    # What displaces the weights before the gradient is taken; None for SGD.
    perturbation: Perturbation | None = None
    # What the run did besides and the map leaves out, as "augmentation".
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what torch.optim.SGD refuses."""
        _check("learning_rate", 0 < self.learning_rate < np.inf, "above 0", self.learning_rate)
        _check("momentum", 0 <= self.momentum < 1, "in [0, 1)", self.momentum)
        _check("weight_decay", 0 <= self.weight_decay < np.inf, ">= 0", self.weight_decay)
        _check("dampening", 0 <= self.dampening <= 1, "in [0, 1]", self.dampening)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "Nesterov's momentum needs momentum above 0 and no dampening, got momentum "
                f"{self.momentum} and dampening {self.dampening}"
            )

    @property
    def label(self) -> str:
        """All of it for captions, as "SAM ρ=0.05, lr 0.1, momentum 0.9"."""
        words = [self.perturbation.label if self.perturbation else "SGD"]
        words.append(f"lr {self.learning_rate:g}")
        if self.momentum:
            words.append(f"{'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}")
        if self.momentum and self.dampening:
            words.append(f"dampening {self.dampening:g}")
        if self.weight_decay:
            words.append(f"weight decay {self.weight_decay:g}")
        return ", ".join(words)


def update_of_run(run: Run, step: int) -> Update:
    """The update that a run made at a step, from what it recorded of its optimizer.

    The learning rate is that of the step's row; at the end of the run, that of the last update.
    Of parameter groups the first one's settings are known.

    Args:
        run: A run that was trained with torch.optim.SGD, bare or inside `landscape.SAM`.
        step: Updates made before.

    Raises:
        ValueError: If the optimizer is not recorded, or is one whose map is not known here.
    """
    rate = learning_rate_at(run, step)
    if not np.isfinite(rate):
        raise ValueError(
            f"the learning rate at step {step} must be known, got no row of it in {run.path}; "
            "describe the step with Update(learning_rate=…) instead"
        )
    settings = _settings(run)
    options, perturbation = settings["options"], settings["perturbation"]
    augmented, precision = run.config.get("augment"), run.config.get("precision", "float32")
    smoothed = run.config.get("update_label_smoothing")
    return Update(
        learning_rate=rate,
        momentum=float(options.get("momentum", 0.0)),
        dampening=float(options.get("dampening", 0.0)),
        nesterov=bool(options.get("nesterov", False)),
        weight_decay=float(options.get("weight_decay", 0.0)),
        perturbation=_at_step(perturbation, step, rate, options),
        left_out=("augmentation",) * bool(augmented)
        + ("label smoothing",) * bool(smoothed)
        + (f"{precision} autocast",) * (precision != "float32"),
    )


def perturbation_of_run(run: Run) -> Perturbation | None:
    """The perturbation that a run recorded; None for SGD, and where nothing is recorded of it."""
    for source in (run.provenance.get("optimizer"), run.config):
        if isinstance(source, dict) and isinstance(source.get("options"), dict):
            given = source.get("perturbation")
            return Perturbation(**given) if given else None
    return _of_config(run.config)


def _at_step(
    perturbation: Perturbation | None, step: int, rate: float, options: dict[str, Any]
) -> Perturbation | None:
    """The perturbation with the radius that its schedule has at a step."""
    if perturbation is None or perturbation.schedule == "constant":
        return perturbation
    return perturbation.at(perturbation.factor(step, rate / float(options["lr"])))


def learning_rate_at(run: Run, step: int) -> float:
    """The learning rate of the update at a step, or of the one just before it; else NaN."""
    rows = run.steps
    for wanted in (step, step - 1):
        found = rows["lr"][rows["step"] == wanted]
        if found.size:
            return float(found[0])
    return float("nan")


def _settings(run: Run) -> dict[str, Any]:
    """Options of the optimizer and its perturbation, as recorded or as the config says."""
    for source in (run.provenance.get("optimizer"), run.config):
        if isinstance(source, dict) and isinstance(source.get("options"), dict):
            return _of_optimizer(run, source)
    method = str(run.config.get("method", ""))
    if method not in ("sgd", "sam", "sam+aace"):
        raise ValueError(
            "the update of a run must be recorded to be known, got neither an optimizer nor a "
            f"method in {run.path}; record with landscape.Recorder, or describe it with Update(…)"
        )
    return {"options": run.config, "perturbation": _of_config(run.config)}


def _of_config(config: dict[str, Any]) -> Perturbation | None:
    """The perturbation that a config names, where there is no record of the optimizer."""
    if config.get("method") == "sam":
        return sam(float(config["rho"]))
    if config.get("method") != "sam+aace":
        return None
    return aace(
        float(config["rho"]),
        normalize=bool(config.get("aace_normalize", False)),
        threshold=float(config.get("aace_threshold", 0.0)),
    )


def _of_optimizer(run: Run, source: dict[str, Any]) -> dict[str, Any]:
    options, name = source["options"], source.get("optimizer")
    if name != "SGD" or options.get("maximize"):
        what = f"{name} with maximize" if name == "SGD" else str(name)
        raise ValueError(
            f"the update map is known for SGD, bare or inside SAM, got {what} in {run.path}: its "
            "state is more than weights and momentum"
        )
    given = source.get("perturbation")
    return {"options": options, "perturbation": Perturbation(**given) if given else None}


def _check(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got}")
