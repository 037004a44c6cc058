"""What the passes of training go through: the model, compiled, and joined with those of ranks."""

import inspect
import os
import shlex
import shutil
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from landscape.ranks import Ranks

from .config import OWN, TrainConfig


def network_of(config: TrainConfig, model: nn.Module, ranks: Ranks) -> nn.Module:
    """Return what gives the logits of a batch in training; its parameters are the model's.

    Among ranks each backward leaves the mean gradient of all, but inside `no_sync`. All then have
    the weights and buffers of the first.

    Compiled, it has one graph for passes at the weights and one for those in which BatchNorm keeps
    its statistics.

    Raises:
        ValueError: There is nothing to compile with.
    """
    if config.compile:
        model = _compiled(model)
    if ranks.world == 1:
        return model
    device = next(model.parameters()).device
    options = inspect.signature(DistributedDataParallel).parameters
    newer = "forward_sync_buffers"  # of newer torch
    synced = newer if newer in options else "broadcast_buffers"
    return DistributedDataParallel(
        model,
        device_ids=None if device.type == "cpu" else [device],
        find_unused_parameters=config.data == OWN,
        **{synced: False},  # they count in evaluations alone, which take their mean
    )


def _compiled(model: nn.Module) -> nn.Module:
    if next(model.parameters()).device.type == "cpu":
        _check_compiler()
    # sizes that may vary would round otherwise after a run of another batch size in this process
    return torch.compile(model, dynamic=False)


def _check_compiler() -> None:
    """Find out now, and not in the first update, that torch has no compiler to call."""
    command = shlex.split(os.environ.get("CXX", "g++")) or [""]
    if shutil.which(command[0]) is None:
        raise ValueError(
            f"compile needs a C++ compiler on a CPU, got none: there is no {command[0]!r}; install "
            "g++, set CXX to another one, or train without --compile"
        )


def synchronize_batchnorm(model: nn.Module) -> nn.Module:
    """Return the model with BatchNorm statistics that are taken over the batches of all ranks.

    Parameters and buffers stay the same objects, and keep their names.
    """
    if next(model.parameters()).device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return _converted(model)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return _synchronized(module)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module


class CpuSyncBatchNorm(_BatchNorm):
    """What torch.nn.SyncBatchNorm is, on a CPU, where that does not compute."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"inputs must have 2 dimensions or more, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [sample, channel, …]; all ranks must have as many samples."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        dims = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        mean = _MeanOverRanks.apply(input.mean(dims))
        centered = input - mean.view(shape)
        variance = _MeanOverRanks.apply(centered.square().mean(dims))
        if self.track_running_stats and self.running_mean is not None:
            samples = input.numel() // input.shape[1] * distributed.get_world_size()
            self._follow(mean.detach(), variance.detach() * samples / (samples - 1))
        normalized = centered * (variance + self.eps).rsqrt().view(shape)
        if not self.affine:
            return normalized
        return normalized * self.weight.view(shape) + self.bias.view(shape)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics; without a momentum they are means of all batches."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _MeanOverRanks(torch.autograd.Function):
    """The mean over ranks; each rank's backward has the gradients of the losses of all."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        return _mean_over_ranks(own)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _mean_over_ranks(gradient)


def _mean_over_ranks(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _synchronized(layer: _BatchNorm) -> CpuSyncBatchNorm:
    """A layer with the parameters and buffers of another."""
    made = CpuSyncBatchNorm(
        layer.num_features,
        layer.eps,
        layer.momentum,
        affine=layer.affine,
        track_running_stats=layer.track_running_stats,
        device="meta",
    )
    made._parameters, made._buffers = layer._parameters, layer._buffers
    return made.train(layer.training)
