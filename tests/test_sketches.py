"""Sketches of vectors whose cosines are known."""

import numpy as np
import pytest
import torch

from landscape.directions import consistency_of, sketch_cosines, sketch_mean_error
from landscape.sketches import Sketcher


def pair(size, cosine, rng):
    """Two vectors of Gaussian numbers, turned so that their cosine is exactly this."""
    one, other = rng.normal(size=(2, size))
    one /= np.linalg.norm(one)
    other -= (other @ one) * one
    other /= np.linalg.norm(other)
    return one, cosine * one + np.sqrt(1 - cosine**2) * other


def errors(vectors, numbers, trials):
    """Errors of the cosine of two vectors, each from a map of its own."""
    one, other = (torch.tensor(v, dtype=torch.float32) for v in vectors)
    truth = float(np.dot(*vectors) / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]))
    found = []
    for seed in range(trials):
        sketch = Sketcher(len(one), numbers, seed, "cpu")
        both = torch.stack([sketch(one), sketch(other)]).numpy()
        found.append(sketch_cosines(both, len(one))[0][0, 1] - truth)
    return np.array(found)


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.3, 0.9])
def test_the_stated_error_of_a_cosine_is_its_standard_deviation(cosine):
    numbers, trials = 64, 1500
    found = errors(pair(1500, cosine, np.random.default_rng(0)), numbers, trials)
    stated = (1 - cosine**2) / np.sqrt(numbers)
    assert found.std() == pytest.approx(stated, rel=0.1)
    assert abs(found.mean()) < stated / 5  # a ratio has a bias of order 1/m


def test_the_error_of_4096_numbers_is_as_stated_for_half_a_million_parameters():
    found = errors(pair(500_000, 0.2, np.random.default_rng(1)), 4096, 60)
    assert found.std() == pytest.approx(0.96 / 64, rel=0.3)


def test_numbers_at_equal_places_of_all_rows_cancel_as_any_others():
    """Without turns, vectors with energy at every 64th number only would meet far too often."""
    rng = np.random.default_rng(2)
    one, other = np.zeros((2, 64 * 400))
    one[::64], other[::64] = rng.normal(size=(2, 400))
    other -= (other @ one) / (one @ one) * one
    found = errors((one, other), 64, 1500)
    assert found.std() == pytest.approx(1 / 8, rel=0.1)


def test_a_sketch_is_linear_and_keeps_products_on_average():
    rng = np.random.default_rng(3)
    x, y = (torch.tensor(v, dtype=torch.float32) for v in rng.normal(size=(2, 1000)))
    sketch = Sketcher(1000, 32, 5, "cpu")
    torch.testing.assert_close(sketch(2 * x - y), 2 * sketch(x) - sketch(y), atol=1e-4, rtol=1e-4)
    products = [
        float(s(x) @ s(y)) for s in (Sketcher(1000, 32, seed, "cpu") for seed in range(2000))
    ]
    error = np.std(products) / np.sqrt(len(products))
    assert abs(np.mean(products) - float(x @ y)) < 4 * error


def test_a_vector_no_longer_than_its_sketch_is_kept_whole():
    rng = np.random.default_rng(4)
    vectors = torch.tensor(rng.normal(size=(3, 40)), dtype=torch.float32)
    sketch = Sketcher(40, 4096, 0, "cpu")
    assert sketch.numbers == 40
    cosines, error = sketch_cosines(torch.stack([sketch(v) for v in vectors]).numpy(), 40)
    unit = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(cosines, unit @ unit.T, atol=1e-6)
    assert (error == 0).all()


def test_a_seed_means_one_map_for_ever():
    """Sketches of runs that were recorded years apart must compare."""
    sketch = Sketcher(10, 4, 7, "cpu")
    found = [sketch(torch.eye(10)[i]).tolist() for i in range(10)]
    raw = np.random.PCG64([7, 4])
    turns = [int(word) % 4 for word in raw.random_raw(3)]
    word = int(raw.random_raw(1)[0])
    for i, column in enumerate(found):
        byte, bit = divmod(i, 8)
        sign = 1 if (word >> (8 * byte) >> (7 - bit)) & 1 else -1
        expected = [0.0] * 4
        expected[(i % 4 + turns[i // 4]) % 4] = float(sign)
        assert column == expected, i


@pytest.mark.parametrize("size", [63, 64, 65, 64 * 64, 64 * 64 + 1, 64 * 130 - 3])
def test_every_number_is_counted_once_whatever_the_size(size):
    sketch = Sketcher(size, 64, 1, "cpu")
    found = torch.stack([sketch(torch.eye(size)[i]) for i in range(0, size, max(size // 50, 1))])
    assert ((found != 0).sum(1) == 1).all()
    assert (found.abs().sum(1) == 1).all()
    last = torch.zeros(size)
    last[-1] = 1
    assert sketch(last).abs().sum() == 1


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.8])
def test_the_error_of_a_mean_cosine_is_what_sketching_adds(cosine):
    size, count, numbers = 1000, 20, 64
    rng = np.random.default_rng(5)
    vectors = np.sqrt(1 - cosine) * rng.normal(size=(count, size))
    vectors += np.sqrt(cosine) * rng.normal(size=size)
    mean = {"step": np.arange(count), "protocol": "online", "perturbation": "", "seed": 0}
    truth = consistency_of(vectors, **mean).mean_cosine
    given = torch.tensor(vectors, dtype=torch.float32)
    found = []
    for seed in range(400):
        sketch = Sketcher(size, numbers, seed, "cpu")
        cosines, _ = sketch_cosines(torch.stack([sketch(v) for v in given]).numpy(), size)
        found.append((cosines.sum() - count) / (count * (count - 1)) - truth)
    assert np.std(found) == pytest.approx(sketch_mean_error(truth, count, numbers), rel=0.25)


def test_rows_added_one_by_one_or_together_make_one_sketch():
    sketch = Sketcher(64 * 200, 64, 1, "cpu")
    rows = torch.tensor(np.random.default_rng(6).normal(size=(64, 64)), dtype=torch.float32)
    one, other = torch.zeros(2, 128)
    sketch._add_one_by_one(one, rows, 100)
    sketch._add_together(other, rows, 100)
    folded = one[:64] + one[64:], other[:64] + other[64:]
    torch.testing.assert_close(*folded, atol=1e-5, rtol=1e-5)
    assert folded[0].abs().max() > 1
