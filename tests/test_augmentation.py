"""Augmentation against plain loops over pixels, and by counting."""

import numpy as np
import pytest
import torch

from training.augmentation import RECIPES, Recipe, augment_batch
from training.config import _RECIPES, TrainConfig


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(samples: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(samples, channels, height, width, generator=_generator(9))


def _moved(image: np.ndarray, down: int, right: int, background: list[float]) -> np.ndarray:
    """Move the image one pixel at a time, as one would by hand."""
    made = np.empty_like(image)
    channels, height, width = image.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                inside = 0 <= y - down < height and 0 <= x - right < width
                made[c, y, x] = image[c, y - down, x - right] if inside else background[c]
    return made


def test_augmented_images_are_shifted_or_mirrored_originals_and_all_occur():
    image = torch.arange(1.0, 25.0).view(2, 3, 4)
    black = torch.tensor([-7.0, -8.0])
    recipe = Recipe(shift=1, flip=True)
    made = augment_batch(image.expand(600, 2, 3, 4), _generator(), recipe, background=black)
    possible = [
        torch.from_numpy(_moved(base.numpy(), down, right, black.tolist()))
        for base in (image, image.flip(-1))
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    counts = [sum(row.equal(candidate) for row in made) for candidate in possible]
    assert sum(counts) == 600
    assert min(counts) > 10  # 33 expected of each


def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs():
    image = torch.arange(1.0, 3 * 8 * 8 + 1).view(3, 8, 8)
    recipe = RECIPES["crop-flip"]
    made = augment_batch(
        image.expand(3000, 3, 8, 8), _generator(), recipe, background=torch.zeros(3)
    )
    padded = np.zeros((3, 16, 16), np.float32)
    padded[:, 4:12, 4:12] = image
    windows = {
        (top, left, mirrored): padded[:, top : top + 8, left : left + 8][:, :, :: 1 - 2 * mirrored]
        for top in range(9)
        for left in range(9)
        for mirrored in (0, 1)
    }
    seen = {window.tobytes(): place for place, window in windows.items()}
    found = [seen[row.contiguous().numpy().tobytes()] for row in made]  # KeyError: no window
    assert len(set(found)) == len(windows) == 162
    assert np.mean([mirrored for _, _, mirrored in found]) == pytest.approx(0.5, abs=0.04)


def test_mirroring_twice_gives_the_image_back():
    images = _images(50, 3, 6, 5)
    black, recipe = torch.zeros(3), RECIPES["flip"]
    once = augment_batch(images, _generator(3), recipe, background=black)
    assert not once.equal(images)
    assert augment_batch(once, _generator(3), recipe, background=black).equal(images)


def test_a_recipe_that_does_nothing_changes_nothing():
    images = _images(5, 2, 4, 4)
    assert augment_batch(images, _generator(), Recipe(), background=torch.zeros(2)).equal(images)


def _squares(samples: int, height: int, width: int, recipe: Recipe) -> np.ndarray:
    """Where images of ones have been filled [sample, y, x]."""
    ones = torch.ones(samples, 2, height, width)
    made = augment_batch(ones, _generator(1), recipe, background=torch.ones(2))
    assert set(made.unique().tolist()) <= {0.0, 1.0}
    assert made[:, 0].equal(made[:, 1])
    return made[:, 0].numpy() == 0


def test_cutout_fills_half_of_the_images_with_zero():
    recipe = RECIPES["cutout"]
    assert (recipe.cutout, recipe.cutout_probability) == (16, 0.5)
    filled = _squares(4000, 32, 32, recipe)
    share = filled.any((1, 2)).mean()
    assert share == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))
    assert not _squares(100, 32, 32, Recipe(cutout=16, cutout_probability=0.0)).any()
    assert _squares(100, 32, 32, Recipe(cutout=16, cutout_probability=1.0)).any((1, 2)).all()


def test_cutout_is_a_square_about_any_pixel_of_which_the_border_takes_its_part():
    filled = _squares(6000, 8, 6, Recipe(cutout=4, cutout_probability=1.0))
    possible = {}
    for y in range(8):
        for x in range(6):
            square = np.zeros((8, 6), bool)
            for down in range(y - 2, y + 2):
                for right in range(x - 2, x + 2):
                    if 0 <= down < 8 and 0 <= right < 6:
                        square[down, right] = True
            possible[square.tobytes()] = (y, x)
    counts: dict[tuple[int, int], int] = {}
    for row in filled:
        place = possible[row.tobytes()]  # KeyError: no such square
        counts[place] = counts.get(place, 0) + 1
    assert len(possible) == len(counts) == 48
    assert min(counts.values()) > 75  # 125 expected of each
    assert max(counts.values()) < 180


def test_cutout_takes_the_area_that_follows_from_its_border():
    area = np.mean([len(set(range(c - 8, c + 8)) & set(range(32))) for c in range(32)]) ** 2
    filled = _squares(4000, 32, 32, Recipe(cutout=16, cutout_probability=1.0))
    assert filled.sum((1, 2)).mean() == pytest.approx(area, rel=0.02)
    assert filled.sum((1, 2)).max() == 256


@pytest.mark.parametrize("name", list(RECIPES))
def test_augmentation_comes_from_its_generator_alone(name):
    images = _images(64, 1, 8, 8)

    def made(seed):
        black = torch.full((1,), -1.0)
        return augment_batch(images, _generator(seed), RECIPES[name], background=black)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert made(1).equal(made(1))
    assert not made(1).equal(made(2))
    assert torch.get_rng_state().equal(before)


def test_recipes_of_the_paper_are_those_of_its_code():
    told = {
        data: RECIPES[TrainConfig(data=data).resolved_recipe] for data in ("cifar10", "food101")
    }
    assert told["cifar10"] == Recipe(shift=4, flip=True, cutout=16, cutout_probability=0.5)
    assert told["food101"] == Recipe(shift=0, flip=True, cutout=16, cutout_probability=0.5)
    assert RECIPES["cutout"] == Recipe(shift=0, flip=False, cutout=16, cutout_probability=0.5)
    assert set(_RECIPES.values()) <= set(RECIPES)
