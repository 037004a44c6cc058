"""Statistics of unit vectors against brute force, simulation and planted series."""

import numpy as np
import pytest
import torch

from landscape import directions
from landscape import window_statistics as of_window
from landscape.directions import sketch_mean_error
from landscape.sketches import Sketcher

SIZE, NUMBERS = 3000, 100


def units(rows):
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def series(count, size, share, memory, seed, turn=0.0):
    """Vectors with a mean that may turn, and noise that remembers."""
    rng = np.random.default_rng(seed)
    first, second = np.linalg.qr(rng.normal(size=(size, 2)))[0].T
    noise = rng.normal(size=(count, size)) / np.sqrt(size)
    for t in range(1, count):
        noise[t] = memory * noise[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    angle = np.linspace(0, turn, count)[:, None]
    mean = np.cos(angle) * first + np.sin(angle) * second
    return units(np.sqrt(share) * mean + np.sqrt(1 - share) * noise)


def sketched(rows, seed):
    sketcher = Sketcher(rows.shape[1], NUMBERS, seed, "cpu")
    return of_window.unit_vectors(np.stack([sketcher(row).numpy() for row in torch.tensor(rows)]))[
        0
    ]


def test_rows_without_a_direction_are_left_out():
    unit, norms = of_window.unit_vectors(np.array([[3, 4], [0, 0], [np.nan, 1], [0, 2]], "f4"))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 1]])
    assert norms[:2].tolist() == [5, 0]
    assert np.isnan(norms[2])


def test_the_null_is_that_of_the_gram_matrix_and_of_all_windows_together():
    unit = series(40, 60, 0.3, 0.5, seed=1)
    flips = of_window.SignFlips(60, seed=2)
    first, second = flips.add(unit[:25]), flips.add(unit[25:])
    for rows, band in ((unit[:25], first), (unit[25:], second), (unit, flips.band(40))):
        expected = np.array(directions._null_band(rows @ rows.T.astype(float), 3))
        np.testing.assert_allclose(band, expected, atol=0.12 * np.ptp(expected))


def test_the_participation_ratio_is_that_of_the_gram_matrix_and_sketches_do_not_lower_it():
    unit = series(60, SIZE, 0.1, 0.0, seed=1)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T.astype(float))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert of_window.participation_ratio(unit, exact=True) == pytest.approx(expected, rel=1e-5)
    short = [sketched(unit, seed) for seed in range(20)]
    corrected = [of_window.participation_ratio(s, exact=False) for s in short]
    raw = [of_window.participation_ratio(s, exact=True) for s in short]
    assert np.mean(corrected) == pytest.approx(expected, rel=0.04)
    assert np.mean(raw) < 0.85 * expected
    assert of_window.participation_ratio(np.eye(5, dtype="f4"), exact=True) == pytest.approx(5)


def test_a_block_drawn_twice_does_not_count_as_agreement():
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(8, dtype="f4"), 2, axis=0)  # neighbours agree, blocks don't
    low, high = of_window.block_interval(rows, 2, random)
    assert low >= 1 / 15 - 1e-9  # all blocks once
    assert high < 0.12
    same = np.ones((9, 3), "f4") / np.float32(np.sqrt(3))
    np.testing.assert_allclose(of_window.block_interval(same, 3, random), 1, atol=1e-6)
    assert np.isnan(of_window.block_interval(rows, 8, random)).all()


def test_blocks_grow_with_the_memory_of_the_directions():
    lengths = [of_window.block_length(series(400, 50, 0.3, m, seed=1)) for m in (0.0, 0.9)]
    assert lengths[0] == 8
    slow = np.sqrt(0.5) * (1 + 0.5 * np.sin(np.arange(400) / 8))[:, None] * np.eye(50)[0]
    slow = units(slow + series(400, 50, 0.0, 0.0, seed=2))
    assert of_window.block_length(slow) > 12
    assert of_window.block_length(slow[:16]) <= 2
    assert of_window.block_length(np.ones((5, 1), "f4")) == 1


def test_the_interval_over_blocks_covers_a_series_with_memory_and_that_of_single_vectors_does_not(
    monkeypatch,
):
    monkeypatch.setattr(of_window, "DRAWS", 300)
    means, blocks, single = [], [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        strength = np.empty(150)  # of the common direction, autoregressive
        strength[0] = rng.normal()
        for t in range(1, 150):
            strength[t] = 0.7 * strength[t - 1] + np.sqrt(1 - 0.49) * rng.normal()
        rows = rng.normal(size=(150, 40)) / np.sqrt(40)
        rows[:, 0] += 0.8 + 0.4 * strength
        unit = units(rows)
        total = unit.sum(0, dtype=float)
        means.append(of_window.mean_of_pairs(total @ total, 150))
        length = of_window.block_length(unit)
        blocks.append(of_window.block_interval(unit, length, rng))
        single.append(of_window.block_interval(unit, 1, rng))
    truth = np.mean(means)
    cover = [np.mean([a <= truth <= b for a, b in found]) for found in (blocks, single)]
    assert 0.87 <= cover[0] <= 1
    assert cover[1] < 0.8


@pytest.mark.parametrize(
    ("share", "memory", "turn"), [(0.0, 0.0, 0.0), (0.6, 0.8, 0.0), (0.6, 0.0, 1.5)]
)
def test_stated_errors_are_those_of_many_sketches(share, memory, turn):
    windows, count = 4, 30
    whole = series(windows * count, SIZE, share, memory, seed=4, turn=turn)
    found, stated = [], []
    for seed in range(60):
        unit = sketched(whole, seed)
        means = unit.reshape(windows, count, -1).mean(1).astype(float)
        pairs, lengths = means @ means.T, np.linalg.norm(means, axis=1)
        own = (count * lengths**2 - 1) / (count - 1)
        total = unit.sum(0, dtype=float)
        run = of_window.mean_of_pairs(total @ total, len(unit))
        later, earlier = unit[5:count], unit[: count - 5]
        matrix = pairs[0, 3] / lengths[0] / lengths[3]
        found.append([own[0], pairs[0, 3], matrix, run, (later * earlier).sum(1).mean()])
        counts = np.full(windows, count)
        between = of_window.pairs_error(pairs, lengths, counts, NUMBERS)[0, 3]
        np.fill_diagonal(pairs, own)
        stated.append(
            [
                sketch_mean_error(own[0], count, NUMBERS),
                between,
                (1 - matrix**2) / np.sqrt(NUMBERS),
                of_window.run_error(pairs, counts, run, NUMBERS),
                of_window.mean_lag_error(later, earlier, np.random.default_rng(0)),
            ]
        )
    np.testing.assert_allclose(np.mean(stated, axis=0), np.std(found, axis=0), rtol=0.35)


def test_the_error_of_the_run_is_that_of_one_window_where_all_have_one_direction():
    pairs, counts = np.full((5, 5), 0.4), np.full(5, 20)
    assert of_window.run_error(pairs, counts, 0.4, 64) == pytest.approx(
        sketch_mean_error(0.4, 100, 64)
    )
    assert np.isnan(of_window.run_error(np.full((1, 1), np.nan), np.ones(1), np.nan, 64))


def test_one_pair_of_sketches_is_off_as_a_single_cosine_is():
    u, v = units(np.array([[1.0, 0, 0], [1, 1, 0]]))
    error = of_window.mean_lag_error(u[None], v[None], np.random.default_rng(0))
    assert error == pytest.approx((1 - 0.5) / np.sqrt(3))
