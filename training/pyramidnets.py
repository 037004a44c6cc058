"""Pyramidal residual networks for 32×32 images: every block is a little wider than the last."""

from torch import Tensor, nn
from torch.nn import functional


class _Block(nn.Module):
    """Convolutions beside a shortcut that has no weights; no ReLU before the first nor the sum."""

    def __init__(self, width_in: int, width_out: int, stride: int, residual: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        # The last row and column of an odd image have a mean of their own, as convolutions do.
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.new = width_out - width_in

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.pad(self.pool(x), (0, 0, 0, 0, 0, self.new))
        return self.residual(x) + shortcut


def _convolution(width_in: int, width_out: int, side: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution and the BatchNorm behind it, which has the shift."""
    return [
        nn.Conv2d(width_in, width_out, side, stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(width_out),
    ]


def _basic(width_in: int, width: int, stride: int) -> nn.Module:
    """Two convolutions of 3×3."""
    layers = [
        nn.BatchNorm2d(width_in),
        *_convolution(width_in, width, 3, stride),
        nn.ReLU(),
        *_convolution(width, width, 3),
    ]
    return _Block(width_in, width, stride, nn.Sequential(*layers))


def _bottleneck(width_in: int, width: int, stride: int) -> nn.Module:
    """Convolutions of 1×1, 3×3 and 1×1, the last of which is four times as wide."""
    layers = [
        nn.BatchNorm2d(width_in),
        *_convolution(width_in, width, 1),
        nn.ReLU(),
        *_convolution(width, width, 3, stride),
        nn.ReLU(),
        *_convolution(width, 4 * width, 1),
    ]
    return _Block(width_in, 4 * width, stride, nn.Sequential(*layers))


def pyramidnet(
    depth: int, alpha: int, bottleneck: bool, classes: int, channels: int
) -> nn.Sequential:
    """Return the additive PyramidNet-`depth` for 32×32 images, weights not yet drawn.

    Of N blocks the k-th has width 16 + k α / N, rounded. The paper's equation 2 rounds down at
    every block, so that its own nets would not reach their width 16 + α. Where the width grows the
    shortcut is padded with zeros; where the image halves it is averaged over 2×2.

    Args:
        depth: Layers with weights, 6 n + 2 for blocks of two convolutions, 9 n + 2 for bottlenecks.
        alpha: How much wider than the first the last block is, before a bottleneck's factor 4.
        bottleneck: Whether blocks are bottlenecks.
        classes: Number of outputs.
        channels: Channels of the images.

    Source: Han, Kim and Kim, Deep Pyramidal Residual Networks, CVPR 2017: figure 6 d is the block,
        table 1 the net; α and kind of the nets in table 4.
    """
    block, per_group = (_bottleneck, (depth - 2) // 9) if bottleneck else (_basic, (depth - 2) // 6)
    blocks = 3 * per_group
    layers: list[nn.Module] = _convolution(channels, 16, 3)
    width_in = 16
    for index in range(blocks):
        width = round(16 + (index + 1) * alpha / blocks)
        stride = 2 if index in (per_group, 2 * per_group) else 1
        layers.append(block(width_in, width, stride))
        width_in = 4 * width if bottleneck else width
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(width_in),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width_in, classes),
    )
