"""What the passes of training go through: the model, or what wraps it."""

from collections.abc import Callable

from torch import Tensor, nn

from .config import TrainConfig


def network_of(config: TrainConfig, model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what gives the logits of a batch in training; its parameters are the model's."""
    return model
