"""What a training run is told: one frozen dataclass, and the presets that fill it.

Nothing heavy is imported here, so that the command line can show every setting at once.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from landscape.recording import BUDGET, BYTES, stride_of

LABELS = {"sgd": "SGD", "sam": "SAM", "sam+aace": "SAM+AACE"}
"""The methods, and how legends and captions call them."""

_RHO = {"sgd": None, "sam": 0.05, "sam+aace": 0.2}  # defaults of landscape.perturbations
# Settings that name a run, or say where it computes, and leave what is learned alone.
_NOT_SETTINGS = ("preset", "seed", "device", "checkpoint_every", "evaluation_samples")
_NOT_SETTINGS += ("record", "record_budget", "record_dtype", "on_record_error")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run; the whole of it is stored with the run.

    Attributes:
        preset: Settings to begin with: fashion-sgd, fashion-sam, fashion-aace, digits-sgd,
            digits-sam or digits-aace.
        data: Data set: fashion (28×28, 10 classes) or digits (8×8, 10 classes).
        model: Network, by the name in training/models.py; the number is its images' side.
        method: sgd, sam (normalized ascent on the task loss) or sam+aace (descent on AACE).
        rho: Radius of the perturbation, in weight units; by default 0.05 for sam, 0.2 for sam+aace.
        aace_normalize: Divide the AACE gradient by its norm, as SAM does.
        aace_threshold: Target mass AACE may leave on the true class, a probability.
        seed: Seed of weights, order of the samples and augmentation.
        steps: Updates.
        batch_size: Samples of a batch.
        lr: Learning rate at the start.
        lr_drops: Fractions of the training at which the learning rate drops, as [0.3,0.6].
        lr_factor: What the learning rate is multiplied by at each drop.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty of SGD, on all parameters, per unit of weight.
        train_samples: Size of the class-balanced training subset; 0 takes all there is.
        augment: Change the training images at random: mirror fashion, shift digits by a pixel.
        precision: float32, or bfloat16 autocast of the forward passes.
        device: auto takes a GPU where there is one; else a torch device, as cpu or cuda:1.
        checkpoint_every: Updates between checkpoints; 0 and the last are always kept.
        evaluation_samples: Size of the class-balanced part of the test set that is evaluated at
            checkpoints, 0 for all; the end of the run is measured on the whole test set.
        record: Full perturbations kept: full, every:K, sketch (none), or auto: all while the whole
            run fits the budget, else every K-th. Scalars and a sketch are kept of every step.
        record_budget: Bytes that auto plans with.
        record_dtype: Kind of number of full perturbations; those of two bytes are rounded.
        on_record_error: What a full disk or a read-only folder does: stop the training, or let it
            continue unrecorded.
    """

    preset: str = ""
    data: Literal["fashion", "digits"] = "fashion"
    model: Literal["conv28", "conv8", "mlp8"] = "conv28"
    method: Literal["sgd", "sam", "sam+aace"] = "sgd"
    rho: float | None = None
    aace_normalize: bool = False
    aace_threshold: float = 0.0
    seed: int = 0
    steps: int = 600
    batch_size: int = 128
    lr: float = 0.2
    lr_drops: tuple[float, ...] = (0.3, 0.6, 0.8)
    lr_factor: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    train_samples: int = 10_000
    augment: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    checkpoint_every: int = 30
    evaluation_samples: int = 2000
    record: str = "auto"
    record_budget: int = BUDGET
    record_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    on_record_error: Literal["stop", "continue"] = "stop"

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        _one_of("data", self.data, ("fashion", "digits"))
        _one_of("model", self.model, ("conv28", "conv8", "mlp8"))
        _one_of("method", self.method, tuple(LABELS))
        _one_of("precision", self.precision, ("float32", "bfloat16"))
        for name in ("steps", "checkpoint_every"):
            _check(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        _check("batch_size", self.batch_size >= 2, "at least 2 (BatchNorm)", self.batch_size)
        for name in ("seed", "train_samples", "evaluation_samples"):
            _check(name, getattr(self, name) >= 0, "at least 0", getattr(self, name))
        stride_of(self.record)
        _check("record_budget", self.record_budget >= 1, "at least 1 byte", self.record_budget)
        _one_of("record_dtype", self.record_dtype, tuple(BYTES))
        _one_of("on_record_error", self.on_record_error, ("stop", "continue"))
        _check("lr", 0 < self.lr < math.inf, "above 0 and finite", self.lr)
        _check("lr_factor", 0 < self.lr_factor <= 1, "in (0, 1]", self.lr_factor)
        rising = list(self.lr_drops) == sorted(self.lr_drops)
        inside = all(0 < drop < 1 for drop in self.lr_drops)
        _check("lr_drops", rising and inside, "rising fractions between 0 and 1", self.lr_drops)
        _check("momentum", 0 <= self.momentum < 1, "in [0, 1)", self.momentum)
        _check("weight_decay", 0 <= self.weight_decay < math.inf, ">= 0", self.weight_decay)
        if self.method == "sgd" and self.rho is not None:
            raise ValueError(f"sgd has no perturbation, got rho {self.rho}; choose --method sam")
        if self.method != "sam+aace" and (self.aace_normalize or self.aace_threshold):
            raise ValueError(
                f"aace_normalize and aace_threshold need method sam+aace, got {self.method}"
            )
        rho, threshold = self.resolved_rho, self.aace_threshold
        _check("rho", rho is None or 0 < rho < math.inf, "above 0 and finite", rho)
        _check("aace_threshold", 0 <= threshold <= 1, "between 0 and 1", threshold)

    @property
    def resolved_rho(self) -> float | None:
        """The radius, the method's own where none is set; None for SGD."""
        return _RHO[self.method] if self.rho is None else self.rho

    def lr_at(self, step: int) -> float:
        """Learning rate of update `step`, dropped at fixed fractions of the training.

        Source: Ratchatorn and Tanaka, ICIP 2024: x0.2 at 30, 60 and 80 % of the training.
        """
        drops = sum(step >= drop * self.steps for drop in self.lr_drops)
        return self.lr * self.lr_factor**drops

    def to_json(self) -> dict[str, Any]:
        """The settings as they are stored: defaults that depend on the method filled in."""
        return {**asdict(self), "rho": self.resolved_rho}


def settings_group(config: TrainConfig) -> str:
    """Return a short stable hash of what a run was told to do, the seed left out.

    Runs that differ only by seed, device, checkpoint interval or preset name are repeats of one
    experiment and share it.
    """
    from landscape.storage import short_hash  # h5py, which settings alone don't need

    settings = config.to_json()
    return short_hash({name: settings[name] for name in settings if name not in _NOT_SETTINGS})


def digits_sgd() -> TrainConfig:
    """Return scikit-learn's digits with SGD: under two seconds on a laptop."""
    return TrainConfig(
        preset="digits-sgd",
        data="digits",
        model="conv8",
        steps=240,
        batch_size=64,
        lr=0.05,
        train_samples=0,
        checkpoint_every=15,
    )


def digits_sam() -> TrainConfig:
    """Return `digits_sgd` trained with SAM."""
    return replace(digits_sgd(), preset="digits-sam", method="sam")


def digits_aace() -> TrainConfig:
    """Return `digits_sgd` trained with SAM on the AACE perturbation."""
    return replace(digits_sgd(), preset="digits-aace", method="sam+aace")


def fashion_sgd() -> TrainConfig:
    """Return 10,000 Fashion-MNIST images with SGD; schedule and decay as in the AACE paper.

    The learning rate is twice the paper's: 600 updates are 8 epochs, not 200.
    """
    return TrainConfig(preset="fashion-sgd")


def fashion_sam() -> TrainConfig:
    """Return `fashion_sgd` trained with SAM."""
    return replace(fashion_sgd(), preset="fashion-sam", method="sam")


def fashion_aace() -> TrainConfig:
    """Return `fashion_sgd` trained with SAM on the AACE perturbation."""
    return replace(fashion_sgd(), preset="fashion-aace", method="sam+aace")


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "digits-sgd": digits_sgd,
    "digits-sam": digits_sam,
    "digits-aace": digits_aace,
    "fashion-sgd": fashion_sgd,
    "fashion-sam": fashion_sam,
    "fashion-aace": fashion_aace,
}
"""The presets by the name that the command line takes."""


def _check(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(name, value in allowed, f"one of {', '.join(allowed)}", repr(value))
