"""What a training run is told: one frozen dataclass.

Nothing heavy is imported here, so that the command line can show every setting at once.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from landscape.recording import BUDGET, BYTES, stride_of
from landscape.terminal import near

from .methods import LABELS, settings_of

DATA = ("fashion", "digits", "cifar10", "cifar100", "svhn", "food101")
"""The data sets by name; folder:PATH is one of the user's own."""

MODELS = (
    *("conv28", "conv8", "mlp8", "resnet-18", "resnet-20", "resnet-56"),
    *("wrn-16-4", "wrn-28-2", "wrn-28-10", "pyramidnet-110", "pyramidnet-272-200", "vit-tiny"),
)
"""The names in training/models.py, which this module does not import: it needs torch."""

OWN = "own"
"""Data and model of a problem of one's own."""

_RECIPES = {
    "fashion": "flip",  # shifts cost 1 to 3 points in a few epochs
    "digits": "shift",  # a digit's mirror image is no digit
    "cifar10": "crop-flip-cutout",
    "cifar100": "crop-flip-cutout",
    "svhn": "crop-cutout",
    "food101": "flip-cutout",
    "folder": "crop-flip",
}


# Settings that name a run, or say where it computes, and leave what is learned alone.
_NOT_SETTINGS = ("preset", "seed", "compile", "device", "checkpoint_every", "evaluation_samples")
_NOT_SETTINGS += ("record", "record_budget", "record_dtype", "on_record_error")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run; the whole of it is stored with the run.

    Attributes:
        preset: Settings to begin with: digits-METHOD or fashion-METHOD, which are small,
            study-METHOD, a run of `make study`, or the paper's DATA-wrn-METHOD and
            DATA-pyramidnet-METHOD for cifar10, cifar100, fashion and food101. METHOD is sgd, sam or
            aace, of all but the paper's also vasso or f-sam, of the small ones asam or gsam.
        data: Data set: fashion (28×28), digits (8×8), cifar10, cifar100, svhn, food101 (32×32), or
            folder:PATH with train/ and test/ of one's own, a folder of images per class in both.
        model: Network: conv8 and mlp8 for digits, conv28 for fashion; resnet-18, resnet-20,
            resnet-56, wrn-16-4, wrn-28-2, wrn-28-10, pyramidnet-110 and pyramidnet-272-200 for all
            others, vit-tiny for 32×32.
        zero_head: Begin with a last layer of zeros, as the paper's wrn-28-10.
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
            by default 0, the whole batch, under torchrun that of all ranks. BatchNorm sees m
            samples at a time. batch_size / ranks gives each rank a perturbation of its own.
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
        steps: Updates; 0 where epochs are set.
        epochs: Passes over the training set instead of steps; 0 where steps are set.
        batch_size: Samples of a batch.
        lr: Learning rate at the start.
        lr_drops: Fractions of the training at which the learning rate drops, as [0.3,0.6].
        lr_factor: What the learning rate is multiplied by at each drop.
        momentum: Momentum of SGD, also inside SAM; β₁ of AdamW.
        weight_decay: L2 penalty of SGD, or decay of AdamW, on all parameters, per unit of weight.
        train_samples: Size of the class-balanced training subset; 0 takes all there is.
        augment: Change the training images at random, as the recipe says.
        recipe: What is done to them: shift by a pixel, crop with a margin of 4 pixels, flip
            (mirror), cutout of 16×16 pixels from every second; auto takes that of the data set.
        sync_batchnorm: Under torchrun, take BatchNorm's statistics over the batches of all ranks,
            not of each rank alone.
        precision: float32, or bfloat16 autocast of the forward passes.
        compile: Compile the passes of training by torch.compile: faster after a minute or so, and
            rounded otherwise. Evaluations stay as they are.
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
    data: str = "fashion"
    model: str = "conv28"
    zero_head: bool = False
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
    epochs: int = 0
    batch_size: int = 128
    lr: float = 0.2
    lr_drops: tuple[float, ...] = (0.3, 0.6, 0.8)
    lr_factor: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    train_samples: int = 10_000
    augment: bool = True
    recipe: Literal[
        "auto",
        "flip",
        "shift",
        "cutout",
        "crop-flip",
        "crop-cutout",
        "flip-cutout",
        "crop-flip-cutout",
    ] = "auto"
    sync_batchnorm: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    device: str = "auto"
    checkpoint_every: int = 30
    evaluation_samples: int = 2000
    record: str = "auto"
    record_budget: int = BUDGET
    record_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    on_record_error: Literal["stop", "continue"] = "stop"

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        self._check_data_and_model()
        _one_of("method", self.method, tuple(LABELS))
        _one_of("precision", self.precision, ("float32", "bfloat16"))
        _check("checkpoint_every", self.checkpoint_every >= 1, "at least 1", self.checkpoint_every)
        _check("epochs", self.epochs >= 0, "at least 0", self.epochs)
        if self.epochs and self.steps:
            raise ValueError(
                f"steps and epochs exclude each other, got {self.steps} and {self.epochs}; set one "
                "of them to 0"
            )
        _check("steps", self.steps >= 1 or self.epochs, "at least 1, or epochs set", self.steps)
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
        if m and self.sync_batchnorm:
            raise ValueError(
                f"m and sync_batchnorm exclude each other, got m {m}: BatchNorm sees m samples at "
                "a time; leave one out"
            )

    def _check_data_and_model(self) -> None:
        if OWN in (self.data, self.model):
            both = (self.data, self.model)
            _check("data and model", both == (OWN, OWN), f"both {OWN} or none", both)
            _check("augment", not self.augment, "false for own data", self.augment)
            return
        if not (self.data.startswith("folder:") and self.data != "folder:"):
            _one_of("data", self.data, (*DATA, "folder:PATH"))
        _one_of("model", self.model, MODELS)

    @property
    def resolved_recipe(self) -> str:
        """The recipe's name in `training.augmentation`, the data set's own where none is set."""
        if self.recipe != "auto" or self.data == OWN:
            return self.recipe
        return _RECIPES[self.data.partition(":")[0]]

    def check_ranks(self, ranks: int) -> None:
        """Refuse a number of ranks that can't share a batch equally.

        Raises:
            ValueError: batch_size, or m where it is set, does not divide.
        """
        size, m = self.batch_size, self.method_settings().get("m", 0)
        if size % ranks or (size // ranks < 2 and ranks > 1):
            raise ValueError(
                f"batch_size must be a multiple of the {ranks} ranks, with 2 samples or more for "
                f"each, got {size}"
            )
        if m and (size // ranks) % m:
            raise ValueError(
                f"m must divide the {size // ranks} samples that each of {ranks} ranks has of a "
                f"batch of {size}, got {m}"
            )

    def with_steps(self, samples: int) -> "TrainConfig":
        """Return the same with epochs turned into steps; an epoch has full batches only.

        Args:
            samples: Size of the training set.
        """
        if not self.epochs:
            return self
        return replace(self, steps=self.epochs * (samples // self.batch_size), epochs=0)

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
        """The settings as they are stored: defaults that depend on others filled in."""
        return {**asdict(self), **self.method_settings(), "recipe": self.resolved_recipe}


def settings_group(config: TrainConfig) -> str:
    """Return a short stable hash of what a run was told to do, the seed left out.

    Runs that differ only by seed, device, checkpoint interval or preset name are repeats of one
    experiment and share it.
    """
    from landscape.storage import short_hash  # h5py, which settings alone don't need

    settings = config.to_json()
    return short_hash({name: settings[name] for name in settings if name not in _NOT_SETTINGS})


def _check(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    told = f"{value!r}{near(value, allowed)}"
    _check(name, value in allowed, f"one of {', '.join(allowed)}", told)
