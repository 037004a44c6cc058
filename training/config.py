"""What a training run is told: one frozen dataclass, and the presets that fill it.

Nothing heavy is imported here, so that the command line can show every setting at once.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .methods import LABELS, settings_of

# Settings that name a run, or say where it computes, and leave what is learned alone.
_NOT_SETTINGS = ("preset", "seed", "device", "checkpoint_every", "evaluation_samples")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run; the whole of it is stored with the run.

    Attributes:
        preset: Settings to begin with: a data set and a method, as fashion-sgd, fashion-sam,
            fashion-aace, digits-vasso, digits-f-sam, digits-asam or digits-gsam.
        data: Data set: fashion (28×28, 10 classes) or digits (8×8, 10 classes).
        model: Network, by the name in training/models.py; the number is its images' side.
        method: sgd, adamw, sam (normalized ascent on the task loss), usam (not normalized), asam
            (scaled by the weights), sam+aace (descent on AACE), vasso, f-sam, gsam or le-sam. The
            settings below belong to the methods that they name, and by default are its own.
        rho: Radius of the perturbation, in weight units; by default 0.05 for sam and gsam, 0.5 for
            asam, 0.2 for sam+aace, vasso and f-sam; usam and le-sam (the largest) need one.
        rho_schedule: constant, lr (in proportion to the learning rate) or cosine (to rho_min at the
            end of the training); by default lr for gsam, cosine for le-sam, else constant.
        rho_min: Radius at the end of a schedule; 0 by default.
        ascent_steps: Steps of rho / n to the perturbed weights, of sam, usam, asam and sam+aace.
        m: Samples that have a perturbation of their own (m-sharpness), a divisor of batch_size;
            by default 0, the whole batch. BatchNorm sees m samples at a time.
        aace_normalize: Divide the AACE gradient by its norm, as SAM does.
        aace_threshold: Target mass AACE may leave on the true class, a probability.
        aace_mode: How AACE shares its target among the wrong classes: ada (by their
            probabilities), rand (at random) or const (equally).
        asam_eta: Added to the size of each weight by asam.
        vasso_theta: Weight of the new gradient in vasso's running mean.
        f_sam_sigma: Multiple of its running mean that f-sam takes off the gradient.
        f_sam_lambda: Weight of the old mean in f-sam's.
        gsam_alpha: What gsam takes off the update, a share of the gradient across it.
        le_sam_sigma: Rise of the loss that le-sam goes for, in nats, where rho allows.
        update_label_smoothing: Smoothing of the update's loss, any method; torch's form, s / C on
            every class. Losses recorded and perturbations are without it.
        seed: Seed of weights, order of the samples and augmentation.
        steps: Updates.
        batch_size: Samples of a batch.
        lr: Learning rate at the start.
        lr_drops: Fractions of the training at which the learning rate drops, as [0.3,0.6].
        lr_factor: What the learning rate is multiplied by at each drop.
        momentum: Momentum of SGD, also inside SAM; β₁ of AdamW.
        weight_decay: L2 penalty of SGD, or decay of AdamW, on all parameters, per unit of weight.
        train_samples: Size of the class-balanced training subset; 0 takes all there is.
        augment: Change the training images at random: mirror fashion, shift digits by a pixel.
        precision: float32, or bfloat16 autocast of the forward passes.
        device: auto takes a GPU where there is one; else a torch device, as cpu or cuda:1.
        checkpoint_every: Updates between checkpoints; 0 and the last are always kept.
        evaluation_samples: Size of the class-balanced part of the test set that is evaluated at
            checkpoints, 0 for all; the end of the run is measured on the whole test set.
    """

    preset: str = ""
    data: Literal["fashion", "digits"] = "fashion"
    model: Literal["conv28", "conv8", "mlp8"] = "conv28"
    method: Literal[
        "sgd", "adamw", "sam", "usam", "asam", "sam+aace", "vasso", "f-sam", "gsam", "le-sam"
    ] = "sgd"
    rho: float | None = None
    rho_schedule: Literal["constant", "lr", "cosine"] | None = None
    rho_min: float | None = None
    ascent_steps: int | None = None
    m: int | None = None
    aace_normalize: bool = False
    aace_threshold: float = 0.0
    aace_mode: Literal["ada", "rand", "const"] | None = None
    asam_eta: float | None = None
    vasso_theta: float | None = None
    f_sam_sigma: float | None = None
    f_sam_lambda: float | None = None
    gsam_alpha: float | None = None
    le_sam_sigma: float | None = None
    update_label_smoothing: float = 0.0
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
        _check("lr", 0 < self.lr < math.inf, "above 0 and finite", self.lr)
        _check("lr_factor", 0 < self.lr_factor <= 1, "in (0, 1]", self.lr_factor)
        rising = list(self.lr_drops) == sorted(self.lr_drops)
        inside = all(0 < drop < 1 for drop in self.lr_drops)
        _check("lr_drops", rising and inside, "rising fractions between 0 and 1", self.lr_drops)
        _check("momentum", 0 <= self.momentum < 1, "in [0, 1)", self.momentum)
        _check("weight_decay", 0 <= self.weight_decay < math.inf, ">= 0", self.weight_decay)
        smoothing = self.update_label_smoothing
        _check("update_label_smoothing", 0 <= smoothing < 1, "in [0, 1)", smoothing)
        if self.method != "sam+aace" and (self.aace_normalize or self.aace_threshold):
            raise ValueError(
                f"aace_normalize and aace_threshold need method sam+aace, got {self.method}"
            )
        threshold = self.aace_threshold
        _check("aace_threshold", 0 <= threshold <= 1, "between 0 and 1", threshold)
        m = self.method_settings().get("m", 0)
        divides = m == 0 or (m >= 2 and self.batch_size % m == 0)
        _check("m", divides, f"0, or a divisor of batch_size {self.batch_size} from 2 on", m)

    @property
    def resolved_rho(self) -> float | None:
        """The radius, the method's own where none is set; None for SGD."""
        return self.method_settings().get("rho")

    def method_settings(self) -> dict[str, Any]:
        """The settings that belong to the method, its own defaults filled in."""
        return settings_of(self.method, asdict(self))

    def lr_at(self, step: int) -> float:
        """Learning rate of update `step`, dropped at fixed fractions of the training.

        Source: Ratchatorn and Tanaka, ICIP 2024: x0.2 at 30, 60 and 80 % of the training.
        """
        drops = sum(step >= drop * self.steps for drop in self.lr_drops)
        return self.lr * self.lr_factor**drops

    def to_json(self) -> dict[str, Any]:
        """The settings as they are stored: defaults that depend on the method filled in."""
        return {**asdict(self), **self.method_settings()}


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


def digits_vasso() -> TrainConfig:
    """Return `digits_sgd` trained with VaSSO."""
    return replace(digits_sgd(), preset="digits-vasso", method="vasso")


def digits_f_sam() -> TrainConfig:
    """Return `digits_sgd` trained with F-SAM."""
    return replace(digits_sgd(), preset="digits-f-sam", method="f-sam")


def digits_asam() -> TrainConfig:
    """Return `digits_sgd` trained with ASAM."""
    return replace(digits_sgd(), preset="digits-asam", method="asam")


def digits_gsam() -> TrainConfig:
    """Return `digits_sgd` trained with GSAM."""
    return replace(digits_sgd(), preset="digits-gsam", method="gsam")


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


def fashion_vasso() -> TrainConfig:
    """Return `fashion_sgd` trained with VaSSO."""
    return replace(fashion_sgd(), preset="fashion-vasso", method="vasso")


def fashion_f_sam() -> TrainConfig:
    """Return `fashion_sgd` trained with F-SAM."""
    return replace(fashion_sgd(), preset="fashion-f-sam", method="f-sam")


def fashion_asam() -> TrainConfig:
    """Return `fashion_sgd` trained with ASAM."""
    return replace(fashion_sgd(), preset="fashion-asam", method="asam")


def fashion_gsam() -> TrainConfig:
    """Return `fashion_sgd` trained with GSAM."""
    return replace(fashion_sgd(), preset="fashion-gsam", method="gsam")


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "digits-sgd": digits_sgd,
    "digits-sam": digits_sam,
    "digits-aace": digits_aace,
    "digits-vasso": digits_vasso,
    "digits-f-sam": digits_f_sam,
    "digits-asam": digits_asam,
    "digits-gsam": digits_gsam,
    "fashion-sgd": fashion_sgd,
    "fashion-sam": fashion_sam,
    "fashion-aace": fashion_aace,
    "fashion-vasso": fashion_vasso,
    "fashion-f-sam": fashion_f_sam,
    "fashion-asam": fashion_asam,
    "fashion-gsam": fashion_gsam,
}
"""The presets by the name that the command line takes."""


def _check(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(name, value in allowed, f"one of {', '.join(allowed)}", repr(value))
