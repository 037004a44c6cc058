"""What a run tells of the optimizer that made its updates."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from landscape.optimizers import SAM

_TENSORS = ("params", "param_names")  # of a parameter group, beside its options


def optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimizer's class and options, and the perturbation of a SAM."""
    inner = optimizer.base_optimizer if isinstance(optimizer, SAM) else optimizer
    group = optimizer.param_groups[0]
    options = {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items()}
    plain = (bool, int, float, str, list, tuple, type(None))
    settings = {
        "optimizer": type(inner).__name__,
        "options": {k: v for k, v in options.items() if k not in _TENSORS and isinstance(v, plain)},
    }
    if isinstance(optimizer, SAM):
        settings["perturbation"] = asdict(optimizer.perturbation)
    return settings


def perturbation_label(optimizer: torch.optim.Optimizer) -> str | None:
    """Return the label of a SAM's perturbation, None for another optimizer."""
    return optimizer.perturbation.label if isinstance(optimizer, SAM) else None


def method_label(optimizer: torch.optim.Optimizer) -> str:
    """Return the method's name for people: "SAM", "SAM+AACE", or the optimizer's class."""
    if not isinstance(optimizer, SAM):
        return type(optimizer).__name__
    word = optimizer.perturbation.word
    return "SAM+AACE" if word == "AACE" else word
