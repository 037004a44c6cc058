"""Residual networks for 32×32 images: the nets of the field's papers, without dropout."""

from torch import Tensor, nn


def _convolution(width_in: int, width_out: int, side: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the image's side but for its stride; BatchNorm has the shift."""
    return nn.Conv2d(width_in, width_out, side, stride, padding=side // 2, bias=False)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, each with BatchNorm, ReLU after the sum (He et al.)."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(width_in, width_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(width_out, width_out, 3)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if width_in != width_out:
            self.shortcut = nn.Sequential(
                _convolution(width_in, width_out, 1, stride), nn.BatchNorm2d(width_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(residual + self.shortcut(x))


class _WideBlock(nn.Module):
    """BatchNorm and ReLU before each convolution; a widening shortcut starts behind the first."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.relu1 = nn.ReLU()
        self.conv1 = _convolution(width_in, width_out, 3, stride)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.relu2 = nn.ReLU()
        self.conv2 = _convolution(width_out, width_out, 3)
        widens = width_in != width_out
        self.shortcut = _convolution(width_in, width_out, 1, stride) if widens else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return residual + (x if self.shortcut is None else self.shortcut(active))


def _groups(block: type[nn.Module], blocks: int, width: int, widths: list[int]) -> list[nn.Module]:
    """Groups of blocks, one for each width; all but the first halve the image."""
    layers = []
    for group, wider in enumerate(widths):
        for index in range(blocks):
            stride = 2 if group and not index else 1
            layers.append(block(width, wider, stride))
            width = wider
    return layers


def resnet(depth: int, classes: int, channels: int) -> nn.Sequential:
    """Return ResNet-`depth` for 32×32 images, weights not yet drawn.

    Where the width changes the shortcut is a 1×1 convolution with BatchNorm (option B of the
    paper, whose CIFAR nets pad with zeros, option A: 2,752 parameters fewer).

    Args:
        depth: Layers with weights, 6 n + 2.
        classes: Number of outputs.
        channels: Channels of the images.

    Source: He et al., Deep Residual Learning, CVPR 2016, section 4.2.
    """
    return nn.Sequential(
        _convolution(channels, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *_groups(_Block, (depth - 2) // 6, 16, [16, 32, 64]),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def resnet_18(classes: int, channels: int) -> nn.Sequential:
    """Return ResNet-18 for 32×32 images, weights not yet drawn.

    The net for ImageNet with its first layers changed, as is usual on CIFAR: a 3×3 convolution
    without stride and no pooling behind it.

    Args:
        classes: Number of outputs.
        channels: Channels of the images.

    Source: He et al., Deep Residual Learning, CVPR 2016, table 1.
    """
    return nn.Sequential(
        _convolution(channels, 64, 3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        *_groups(_Block, 2, 64, [64, 128, 256, 512]),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, classes),
    )


def wide_resnet(depth: int, factor: int, classes: int, channels: int) -> nn.Sequential:
    """Return WRN-`depth`-`factor` for 32×32 images, without dropout, weights not yet drawn.

    Args:
        depth: Layers with weights, 6 n + 4.
        factor: How much wider than a ResNet.
        classes: Number of outputs.
        channels: Channels of the images.

    Source: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, table 1.
    """
    widths = [16 * factor, 32 * factor, 64 * factor]
    return nn.Sequential(
        _convolution(channels, 16, 3),
        *_groups(_WideBlock, (depth - 4) // 6, 16, widths),
        nn.BatchNorm2d(widths[-1]),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], classes),
    )
