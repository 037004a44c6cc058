"""The perturbations of the SAM family: which loss is followed, in which direction, how far.

What is added to the weights is a radius of a metric of a direction of a loss's gradient. A
`Perturbation` owns all of it together, so no setting can be half right: SAM climbs the task loss,
AACE (adaptive adversarial cross-entropy) goes down its own. The functions of
`landscape.displacements` turn a gradient into what is added; the optimizer and the analyses call
the same ones.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from landscape.adversarial import (
    Mode,
    aace_loss,
    at_least_float32,
    check_mode,
    check_number,
    check_threshold,
)

_SPOKEN = {"vasso": "VaSSO"}


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What is done to the weights before the gradient of an update is taken.

    Composed of
    - a loss, and a sign that follows from it;
    - a direction d: its gradient g, or one made of g and a running mean of earlier ones;
    - a metric T, elementwise;
    - a radius: the displacement is `sign * rho * T² d / ‖T d‖` when normalized, else
      `sign * rho * T² d`, norms running over all parameters; it may follow a schedule.

    Use `sam`, `usam`, `asam`, `aace`, `vasso`, `friendly_sam`, `gsam` or `le_sam`, and
    `dataclasses.replace` for what else is wanted, as `replace(asam(), ascent_steps=3)`.
    """

    # Loss that is followed: "cross_entropy" is climbed, "aace" is descended.
    loss_name: Literal["cross_entropy", "aace"]
    # Radius: length of the displacement when normalized, factor on the gradient otherwise; > 0.
    rho: float
    # Whether the direction is divided by its global norm.
    normalize: bool
    # Largest target mass AACE leaves on the true class, in [0, 1]; 0 for cross-entropy.
    threshold: float = 0.0
    # How AACE shares its target among the wrong classes.
    mode: Mode = "ada"
    # "gradient": d = g. "mean": d = M′. "residual": d = g − sigma M. With the running mean
    # M′ = (1 − new_weight) M + new_weight g, which begins with M = g; the first residual is g.
    direction: Literal["gradient", "mean", "residual"] = "gradient"
    # Weight of the new gradient in the running mean, in (0, 1].
    new_weight: float = 1.0
    # Multiple of the running mean that "residual" takes off.
    sigma: float = 0.0
    # "weights": T = |w| + eta in the tensors named weight, 1 in others. "identity": T = 1.
    metric: Literal["identity", "weights"] = "identity"
    # Added to |w| in the metric "weights".
    eta: float = 0.0
    # Rise of the followed loss to first order, in nats: the radius is min(budget / ‖g‖, rho); 0
    # for a radius of rho.
    budget: float = 0.0
    # Factor f on the radius, rho_min + f (rho − rho_min), or on the budget where there is one:
    # "lr": the learning rate over that at the start. "cosine": from 1 to 0 in schedule_steps.
    schedule: Literal["constant", "lr", "cosine"] = "constant"
    # Radius at factor 0.
    rho_min: float = 0.0
    # Updates of the cosine.
    schedule_steps: int = 0
    # Steps of rho / ascent_steps each, along the gradient at the point reached.
    ascent_steps: int = 1
    # What GSAM takes off the update's gradient g′: alpha times the part of g at right angles to g′.
    alpha: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.loss_name not in ("cross_entropy", "aace"):
            raise ValueError(
                f"loss_name must be 'cross_entropy' or 'aace', got {self.loss_name!r}; "
                "use sam(), usam() or aace()"
            )
        check_number("rho", self.rho)
        if not self.rho > 0:
            raise ValueError(f"rho must be above 0, got {self.rho}; for no perturbation use SGD")
        if not isinstance(self.normalize, bool):
            raise TypeError(f"normalize must be True or False, got {self.normalize!r}")
        check_threshold(self.threshold)
        check_mode(self.mode)
        if self.threshold and self.loss_name != "aace":
            raise ValueError(f"only AACE has a threshold, got {self.threshold} with cross-entropy")
        if self.mode != "ada" and self.loss_name != "aace":
            raise ValueError(f"only AACE has a mode, got {self.mode!r} with cross-entropy")
        self._check_direction()
        self._check_radius()
        self._check_schedule()

    def _check_direction(self) -> None:
        _one_of("direction", self.direction, ("gradient", "mean", "residual"))
        _one_of("metric", self.metric, ("identity", "weights"))
        _within("new_weight", self.new_weight, 0 < self.new_weight <= 1, "in (0, 1]")
        _within("sigma", self.sigma, self.sigma >= 0, "0 or more")
        _within("eta", self.eta, self.eta >= 0, "0 or more")
        _within("alpha", self.alpha, 0 <= self.alpha <= 1, "in [0, 1]")
        for name, holds in (
            ("new_weight", self.direction != "gradient" or self.new_weight == 1),
            ("sigma", self.direction == "residual" or self.sigma == 0),
            ("eta", self.metric == "weights" or self.eta == 0),
        ):
            if not holds:
                raise ValueError(
                    f"{name} is of another perturbation, got {getattr(self, name)} with direction "
                    f"{self.direction!r} and metric {self.metric!r}"
                )
        if self.alpha and self.has_own_loss:
            raise ValueError("alpha needs g and g′ of one loss, got AACE, which follows its own")

    def _check_radius(self) -> None:
        _within("budget", self.budget, self.budget >= 0, "0 or more")
        if self.budget and not (self.normalize and self.metric == "identity"):
            raise ValueError("a budget needs a normalized perturbation without a metric")
        if self.budget and self.has_memory:
            raise ValueError("a budget is a rise along the gradient, got a direction with memory")
        if not _whole(self.ascent_steps) or self.ascent_steps < 1:
            raise ValueError(
                f"ascent_steps must be a whole number from 1 on, got {self.ascent_steps!r}"
            )
        if self.ascent_steps > 1 and (self.has_memory or self.alpha or self.budget):
            raise ValueError(
                f"{self.ascent_steps} ascent steps need a direction without memory, alpha and "
                f"budget, which are defined for one, got {self.word}"
            )

    def _check_schedule(self) -> None:
        _one_of("schedule", self.schedule, ("constant", "lr", "cosine"))
        _within("rho_min", self.rho_min, 0 <= self.rho_min <= self.rho, f"0 .. rho ({self.rho})")
        if self.rho_min and (self.schedule == "constant" or self.budget):
            raise ValueError(f"rho_min needs a schedule of rho, got {self.rho_min}")
        steps = self.schedule_steps
        if not _whole(steps) or (steps < 1 if self.schedule == "cosine" else steps != 0):
            raise ValueError(
                "schedule_steps is the number of updates of schedule 'cosine', and 0 for others, "
                f"got {steps!r} with {self.schedule!r}"
            )

    @property
    def name(self) -> str:
        """Short name, as "sam" or "f-sam"; parts joined by +, as "aace+vasso"."""
        has = {
            "aace": self.has_own_loss,
            "vasso": self.direction == "mean",
            "f-sam": self.direction == "residual",
            "asam": self.metric == "weights",
            "le-sam": self.budget > 0,
            "gsam": self.alpha > 0,
        }
        plain = "sam" if self.normalize else "usam"
        return "+".join(name for name, holds in has.items() if holds) or plain

    @property
    def word(self) -> str:
        """Name as figures write it, as "SAM"."""
        return "+".join(_SPOKEN.get(part, part.upper()) for part in self.name.split("+"))

    @property
    def label(self) -> str:
        """Name with its settings, for legends and captions, as "SAM ρ=0.05"."""
        words = [self.word]
        plain = self.name in ("sam", "usam")
        if self.has_own_loss and self.normalize:
            words.append("normalized")
        elif not (self.has_own_loss or self.normalize or plain):
            words.append("unnormalized")
        words.append(f"ρ={self.rho:g}")
        settings = (
            (bool(self.threshold), f"th={self.threshold:g}"),
            (self.mode != "ada", self.mode),
            (self.direction == "mean", f"θ={self.new_weight:g}"),
            (self.direction == "residual", f"σ={self.sigma:g} λ={1 - self.new_weight:g}"),
            (self.metric == "weights", f"η={self.eta:g}"),
            (bool(self.budget), f"budget={self.budget:g}"),
            (bool(self.alpha), f"α={self.alpha:g}"),
            (bool(self.rho_min), f"ρmin={self.rho_min:g}"),
            (self.schedule != "constant", self.schedule),
            (self.ascent_steps > 1, f"{self.ascent_steps} steps"),
        )
        return " ".join([*words, *(word for holds, word in settings if holds)])

    @property
    def sign(self) -> int:
        """+1 where the loss is climbed (SAM), -1 where it is descended (AACE)."""
        return -1 if self.loss_name == "aace" else 1

    @property
    def has_own_loss(self) -> bool:
        """Whether its gradient is not that of the task loss and takes a backward of its own."""
        return self.loss_name == "aace"

    @property
    def has_memory(self) -> bool:
        """Whether its direction depends on the gradients of earlier updates."""
        return self.direction != "gradient"

    @property
    def is_random(self) -> bool:
        """Whether its loss draws random targets."""
        return self.mode == "rand"

    def loss(
        self, logits: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the batch mean of the loss whose gradient the displacement takes.

        Args:
            logits: Scores `[batch, class]`; fp16 and bf16 are computed in float32.
            targets: True classes `[batch]`.
            generator: Where AACE's mode "rand" draws from; others need none.
        """
        if self.loss_name == "aace":
            return aace_loss(
                logits, targets, threshold=self.threshold, mode=self.mode, generator=generator
            )
        return functional.cross_entropy(at_least_float32(logits), targets)

    def factor(self, step: int, learning_rate_share: float = 1.0) -> float:
        """Return the schedule's factor for an update.

        Args:
            step: Updates made before.
            learning_rate_share: The update's learning rate over that at the start.
        """
        if self.schedule == "lr":
            return learning_rate_share
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * min(step / self.schedule_steps, 1))) / 2
        return 1.0

    def at(self, factor: float) -> "Perturbation | None":
        """Return what it is while the schedule's factor holds, None where it adds nothing."""
        settled: dict[str, Any] = {"schedule": "constant", "schedule_steps": 0, "rho_min": 0.0}
        if self.budget:
            budget = factor * self.budget
            return replace(self, budget=budget, **settled) if budget > 0 else None
        rho = scheduled_radius(self, factor)
        return replace(self, rho=rho, **settled) if rho > 0 else None


def scheduled_radius(perturbation: Perturbation, factor: float) -> float:
    """Return rho under a factor of the schedule; a budget, where there is one, takes the factor."""
    if perturbation.schedule == "constant" or perturbation.budget:
        return perturbation.rho
    low = perturbation.rho_min
    return low + factor * (perturbation.rho - low)


def check_function_of_weights(perturbation: Perturbation, what: str) -> None:
    """Raise ValueError unless ε is a function of weights and batch alone.

    Args:
        perturbation: Which one.
        what: Who needs that, as "an alignment".
    """
    if perturbation.has_memory:
        raise ValueError(
            f"{what} needs an ε that weights and batch decide, got {perturbation.label}, which "
            "depends on the gradients of earlier updates; take one without memory (consistency "
            "measures it after a burn-in)"
        )
    if perturbation.is_random:
        raise ValueError(
            f"{what} needs an ε that weights and batch decide, got {perturbation.label}, whose "
            'targets are drawn at random; take mode "ada" or "const"'
        )


def sam(rho: float = 0.05) -> Perturbation:
    """Return SAM: ascent on the task loss to the sphere of radius rho.

    Source: Foret et al., Sharpness-Aware Minimization, ICLR 2021, equation 2; rho is their default.
    """
    return Perturbation(loss_name="cross_entropy", rho=rho, normalize=True)


def usam(rho: float) -> Perturbation:
    """Return unnormalized SAM: ascent on the task loss by rho times its gradient.

    Source: Andriushchenko and Flammarion, Towards Understanding SAM, ICML 2022.
    """
    return Perturbation(loss_name="cross_entropy", rho=rho, normalize=False)


def asam(rho: float = 0.5, *, eta: float = 0.01) -> Perturbation:
    """Return adaptive SAM: ε = ρ T² g / ‖T g‖, T = |w| + eta in tensors named weight, 1 in others.

    The weight of a BatchNorm is named so and counts; biases do not. Other implementations take
    T = |w| for all parameters and no eta, which is another method.

    Source: Kwon et al., ASAM, ICML 2021, and their code for which tensors; the defaults are theirs.
    """
    return replace(sam(rho), metric="weights", eta=eta)


def aace(
    rho: float = 0.2, *, normalize: bool = False, threshold: float = 0.0, mode: Mode = "ada"
) -> Perturbation:
    """Return AACE: descent on the adaptive adversarial cross-entropy, towards the wrong classes.

    Source: Ratchatorn and Tanaka, ICIP 2024; the defaults, unnormalized, are those of their code.
    """
    return Perturbation(
        loss_name="aace", rho=rho, normalize=normalize, threshold=threshold, mode=mode
    )


def vasso(rho: float = 0.2, *, theta: float = 0.9) -> Perturbation:
    """Return VaSSO: ε = ρ d / ‖d‖, d = (1 − theta) d_before + theta g, beginning with d = g.

    Source: Li and Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression,
        NeurIPS 2023; the defaults are those of their CIFAR-100 script.
    """
    return replace(sam(rho), direction="mean", new_weight=theta)


def friendly_sam(rho: float = 0.2, *, sigma: float = 1.0, decay: float = 0.9) -> Perturbation:
    """Return friendly SAM (F-SAM): ε = ρ d / ‖d‖, d = g − sigma M, M the mean before this update.

    Afterwards M becomes decay M + (1 − decay) g, with the gradient g itself. At the first update
    d = g, and M becomes g, as in the authors' code.

    Source: Li et al., Friendly Sharpness-Aware Minimization, CVPR 2024; defaults of their code.
    """
    return replace(sam(rho), direction="residual", new_weight=1 - decay, sigma=sigma)


def gsam(rho: float = 0.05, *, rho_min: float = 0.0, alpha: float = 0.4) -> Perturbation:
    """Return GSAM: SAM's ε with ρ from rho down to rho_min as the learning rate falls to 0.

    The update's gradient is g′ − alpha g⊥, with g⊥ the part of g at right angles to g′.

    Source: Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training, ICLR 2022;
        alpha is the default of their code.
    """
    return replace(sam(rho), schedule="lr", rho_min=rho_min, alpha=alpha)


def le_sam(budget: float, rho: float) -> Perturbation:
    """Return the radius rule of LE-SAM: ε = min(budget / ‖g‖, rho) g / ‖g‖.

    To first order the loss rises by the budget, in nats, unless rho stops it. The budget's cosine
    to 0 is `replace(le_sam(…), schedule="cosine", schedule_steps=…)`.

    Source: LE-SAM, arXiv 2605.10183, after the formula that others give of it.
    """
    return replace(sam(rho), budget=budget)


def _within(name: str, value: float, holds: bool, expected: str) -> None:
    check_number(name, value)
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {value}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
