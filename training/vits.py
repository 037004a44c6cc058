"""The vision transformer for 32×32 images."""

import math

import torch
from torch import Tensor, nn

_SPREAD = 0.02  # of the weights at the start


class _Attention(nn.Module):
    """Self-attention, written out: the fused kernels can't be differentiated twice."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = 1 / math.sqrt(width // heads)
        self.inputs = nn.Linear(width, 3 * width)  # queries, keys and values
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inputs(x).unflatten(2, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
        weights = (query * self.scale @ key.transpose(2, 3)).softmax(3)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Attention, then two linear layers, each behind LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.linear1 = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.linear2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.linear2(self.gelu(self.linear1(self.norm2(x))))


class _Tokens(nn.Module):
    """Patches as vectors, a class token before them, and where each patch lies."""

    def __init__(self, channels: int, width: int, side: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + (side // patch) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        token = self.class_token.expand(x.shape[0], -1, -1)
        return torch.cat([token, patches], dim=1) + self.positions


class _First(nn.Module):
    """The class token, which the last layer reads."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def vit_tiny(classes: int, channels: int) -> nn.Sequential:
    """Return ViT-Tiny for 32×32 images, weights not yet drawn.

    Patches of 4×4 make 64 tokens and the class token; width 192, 12 blocks, 3 heads, linear layers
    of 768; LayerNorm before each part, learned positions, no dropout.

    Args:
        classes: Number of outputs.
        channels: Channels of the images.

    Source: Dosovitskiy et al., An Image is Worth 16×16 Words, ICLR 2021, section 3.1; the size is
        that of Touvron et al., Training data-efficient image transformers, ICML 2021, table 1.
    """
    width, side, patch = 192, 32, 4
    return nn.Sequential(
        _Tokens(channels, width, side, patch),
        *(_Block(width, heads=3) for _ in range(12)),
        nn.LayerNorm(width, eps=1e-6),
        _First(),
        nn.Linear(width, classes),
    )


def draw_vit(model: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of a vision transformer in place.

    Linear layers, class token and positions are normal with standard deviation 0.02, cut at two
    deviations, which is how data-efficient transformers begin; the patches' convolution keeps the
    variance of its input; biases are zero.
    """
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            _draw(module.weight, _SPREAD, generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(
                module.weight, std=module.weight[0].numel() ** -0.5, generator=generator
            )
            nn.init.zeros_(module.bias)
        elif isinstance(module, _Tokens):
            _draw(module.class_token, _SPREAD, generator)
            _draw(module.positions, _SPREAD, generator)


def _draw(tensor: Tensor, spread: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(tensor, std=spread, a=-2 * spread, b=2 * spread, generator=generator)
