"""The optimizer and the update's loss that a config asks for."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape.optimizers import SAM
from landscape.perturbations import (
    Perturbation,
    aace,
    asam,
    friendly_sam,
    gsam,
    le_sam,
    sam,
    usam,
    vasso,
)
from landscape.problems import Problem

from .config import OWN, TrainConfig


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the method's optimizer of the model's parameters."""
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if _can_fuse(config, model):
        options["fused"] = True
    if config.method == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(model.parameters(), betas=betas, **options)
    options["momentum"] = config.momentum
    perturbation = perturbation_of(config)
    if perturbation is None:
        return torch.optim.SGD(model.parameters(), **options)
    named = perturbation.metric == "weights"
    params = list(model.named_parameters()) if named else model.parameters()
    return SAM(params, torch.optim.SGD, perturbation=perturbation, **options)


def _can_fuse(config: TrainConfig, model: nn.Module) -> bool:
    """Whether the update may be one kernel.

    Not on a CPU, where it saves next to nothing and mixes up elements of a gradient whose memory
    format is not that of its parameter. Nor with a model of one's own, which may leave a parameter
    without a gradient in some updates: torch's fused SGD fails there.
    """
    return config.model != OWN and next(model.parameters()).device.type == "cuda"


def perturbation_of(config: TrainConfig) -> Perturbation | None:
    """Return the perturbation that the config trains with; None for SGD and AdamW."""
    own = config.method_settings()
    if not own:
        return None
    rho = own["rho"]
    made = {
        "sam": lambda: sam(rho),
        "usam": lambda: usam(rho),
        "asam": lambda: asam(rho, eta=own["asam_eta"]),
        "sam+aace": lambda: aace(
            rho,
            normalize=config.aace_normalize,
            threshold=config.aace_threshold,
            mode=own["aace_mode"],
        ),
        "vasso": lambda: vasso(rho, theta=own["vasso_theta"]),
        "f-sam": lambda: friendly_sam(rho, sigma=own["f_sam_sigma"], decay=own["f_sam_lambda"]),
        "gsam": lambda: gsam(rho, alpha=own["gsam_alpha"]),
        "le-sam": lambda: le_sam(own["le_sam_sigma"], rho),
    }[config.method]()
    schedule = own["rho_schedule"]
    return replace(
        made,
        schedule=schedule,
        schedule_steps=config.steps if schedule == "cosine" else 0,
        rho_min=own.get("rho_min", 0.0),
        ascent_steps=own.get("ascent_steps", 1),
    )


def update_loss(config: TrainConfig, problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss whose gradient the update takes: the task's, with label smoothing if asked.

    Smoothing s is torch's: every class has target mass s / C, the true one 1 − s more. Where
    others share s among the wrong classes alone, s / (C − 1) each, that is C / (C − 1) times as
    much here.
    """
    smoothing = config.update_label_smoothing
    if not smoothing:
        return problem.loss_fn
    return partial(functional.cross_entropy, label_smoothing=smoothing)
