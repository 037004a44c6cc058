"""BatchNorm in passes that are not of training."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_batchnorm(model: nn.Module) -> Iterator[None]:
    """Keep BatchNorm buffers as they are while the block runs; batch statistics are still used.

    For the second pass of SAM: running means and variances and `num_batches_tracked` belong to the
    batches seen at w. Layers in eval mode and layers without running statistics behave as always.

    Args:
        model: The model, or any part of it. Only torch's BatchNorm layers are known.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracking = [layer.track_running_stats for layer in layers]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer, track in zip(layers, tracking, strict=True):
            layer.track_running_stats = track
