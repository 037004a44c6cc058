"""The networks by name: small ones that train in seconds on two cores, and those of the papers.

None has dropout. All but the linear one and the transformer have BatchNorm.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from .pyramidnets import pyramidnet
from .resnets import resnet, resnet_18, wide_resnet
from .vits import draw_vit, vit_tiny


def _convolution(width_in: int, width_out: int, stride: int) -> list[nn.Module]:
    """Return convolution, BatchNorm and ReLU; BatchNorm's shift makes a bias of its own useless."""
    return [
        nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(),
    ]


def _conv28(classes: int, channels: int) -> nn.Sequential:
    """28×28 images; early strides keep it cheap, the 2×2 map left over keeps it accurate.

    A larger map makes the AACE gradient of the last layer, and so the displacement, much longer.
    """
    return nn.Sequential(
        *_convolution(channels, 16, 2),
        *_convolution(16, 32, 2),
        *_convolution(32, 64, 2),
        *_convolution(64, 64, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, classes),
    )


def _conv8(classes: int, channels: int) -> nn.Sequential:
    """8×8 images."""
    return nn.Sequential(
        *_convolution(channels, 16, 1),
        *_convolution(16, 32, 2),
        *_convolution(32, 32, 2),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, classes),
    )


def _mlp8(classes: int, channels: int) -> nn.Sequential:
    """8×8 images; no BatchNorm, so every policy for its statistics gives the same numbers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64 * channels, 32), nn.ReLU(), nn.Linear(32, classes)
    )


class Network(NamedTuple):
    """A model as `build_model` makes it."""

    # Sides of the square images that it takes, pixels.
    sides: tuple[int, ...]
    # make(classes, channels): the model without weights, its last layer the one that gives logits.
    make: Callable[[int, int], nn.Sequential]


_ANY = (32, 28)  # nets that average over what is left of the image

MODELS = {
    "conv28": Network((28,), _conv28),
    "conv8": Network((8,), _conv8),
    "mlp8": Network((8,), _mlp8),
    "resnet-18": Network(_ANY, resnet_18),
    "resnet-20": Network(_ANY, partial(resnet, 20)),
    "resnet-56": Network(_ANY, partial(resnet, 56)),
    "wrn-16-4": Network(_ANY, partial(wide_resnet, 16, 4)),
    "wrn-28-2": Network(_ANY, partial(wide_resnet, 28, 2)),
    "wrn-28-10": Network(_ANY, partial(wide_resnet, 28, 10)),
    "pyramidnet-110": Network(_ANY, partial(pyramidnet, 110, 84, False)),
    "pyramidnet-272-200": Network(_ANY, partial(pyramidnet, 272, 200, True)),
    "vit-tiny": Network((32,), vit_tiny),
}
"""The models by the name that configurations and runs use; PyramidNet-110 is the one with α 84."""


def build_model(
    name: str, *, classes: int, channels: int, seed: int, zero_head: bool = False
) -> nn.Module:
    """Return a freshly initialized model in training mode, float32, on the CPU.

    Weights are Kaiming-normal with the gain of the layer's nonlinearity, biases zero; those of
    vision transformers are as `draw_vit` says. They come from a generator of their own: the same
    seed gives the same bits, and the global random state is not touched.

    Args:
        name: One of `MODELS`, which says the sides of its images in pixels.
        classes: Number of outputs.
        channels: Channels of the images.
        seed: Seed of the weights.
        zero_head: Whether the last layer is zero instead, so that every class has the same
            probability at first. The nets of the AACE paper's WRN begin so.

    Raises:
        ValueError: The name is unknown.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015, equation 10.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, got {name!r}")
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = MODELS[name].make(classes, channels)
    model = model.to_empty(device="cpu")
    if name.startswith("vit"):
        draw_vit(model, generator)
    else:
        _draw_kaiming(model, classes, generator)
    if zero_head:
        nn.init.zeros_(model[-1].weight)
    return model


def _draw_kaiming(model: nn.Module, classes: int, generator: torch.Generator) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            gain = 1.0 if isinstance(module, nn.Linear) and module.out_features == classes else 2.0
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=math.sqrt(gain / fan_in), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
