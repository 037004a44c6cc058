"""Random changes of training images, a batch at a time on their device, from a seed."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to each training image, in this order."""

    # Largest shift along each axis, pixels: a random crop of the image padded by as much.
    shift: int = 0
    # Whether to mirror left and right with probability ½.
    flip: bool = False
    # Side of the square that Cutout fills, pixels; 0 for none.
    cutout: int = 0
    # Probability of Cutout.
    cutout_probability: float = 0.5


RECIPES = {
    "flip": Recipe(flip=True),
    "shift": Recipe(shift=1),
    "cutout": Recipe(cutout=16),
    "crop-flip": Recipe(shift=4, flip=True),
    "crop-cutout": Recipe(shift=4, cutout=16),
    "flip-cutout": Recipe(flip=True, cutout=16),
    "crop-flip-cutout": Recipe(shift=4, flip=True, cutout=16),
}
"""The recipes by name; `training.config` says which data set has which.

Source: those with Cutout but crop-cutout are of the AACE paper's code: crop-flip-cutout on CIFAR,
flip-cutout on Food-101, cutout on Fashion-MNIST.
"""


def augment_batch(
    images: Tensor, generator: torch.Generator, recipe: Recipe, *, background: Tensor
) -> Tensor:
    """Return the images as the recipe changes them.

    Random numbers are drawn on the CPU, so every device sees the same images; none is waited for.
    What Cutout fills becomes 0, the mean of normalized images.

    Args:
        images: Normalized `[sample, channel, y, x]`, on any device.
        generator: CPU generator; the only source of randomness.
        recipe: What to do.
        background: Value `[channel]` of the pixels that a shift moves in.
    """
    moved = _shift_and_flip(images, generator, recipe, background)
    if not recipe.cutout:
        return moved
    return _cutout(moved, generator, recipe.cutout, recipe.cutout_probability)


def _shift_and_flip(
    images: Tensor, generator: torch.Generator, recipe: Recipe, background: Tensor
) -> Tensor:
    samples, channels, height, width = images.shape
    shift, device = recipe.shift, images.device
    offset = torch.randint(0, 2 * shift + 1, (2, samples, 1), generator=generator).to(
        device, non_blocking=True
    )
    columns = torch.arange(width, device=device).expand(samples, width)
    if recipe.flip:
        mirrored = torch.rand(samples, 1, generator=generator) < 0.5
        columns = torch.where(mirrored.to(device, non_blocking=True), columns.flip(1), columns)
    rows = torch.arange(height, device=device) + offset[0]
    shape = (samples, channels, height + 2 * shift, width + 2 * shift)
    padded = background.view(1, -1, 1, 1).expand(shape).contiguous()
    padded[:, :, shift : shift + height, shift : shift + width] = images
    sample = torch.arange(samples, device=device)[:, None, None]
    picked = padded[sample, :, rows[:, :, None], (columns + offset[1])[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _cutout(images: Tensor, generator: torch.Generator, side: int, probability: float) -> Tensor:
    """Fill a square of each image with 0, with this probability.

    The center is any pixel with equal probability; what of the square lies outside the image is
    lost. Of an even side the center is the first pixel behind the middle.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with
        Cutout, 2017, section 3.2.
    """
    samples, _, height, width = images.shape
    chosen = torch.rand(samples, generator=generator) < probability
    inside = chosen.to(images.device, non_blocking=True)[:, None, None]
    for axis, length in ((1, height), (2, width)):
        center = torch.randint(0, length, (samples, 1), generator=generator)
        center = center.to(images.device, non_blocking=True)
        from_center = torch.arange(length, device=images.device) - center
        along = (from_center >= -(side // 2)) & (from_center < side - side // 2)
        inside = inside & along.unsqueeze(3 - axis)
    return images.masked_fill(inside.unsqueeze(1), 0.0)
