import numpy as np
import pytest

from landscape import directions
from landscape.directions import consistency_of, gradient_noise


def measure(vectors, seed=0, **more):
    steps = np.arange(len(vectors))
    return consistency_of(
        np.asarray(vectors, float),
        step=steps,
        protocol="frozen",
        perturbation="SAM ρ=0.05",
        seed=seed,
        **more,
    )


def planted(snr, count, size, seed):
    """Return mu + isotropic noise with |mu|² = snr and a noise of squared length 1."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=size)
    mean *= np.sqrt(snr) / np.linalg.norm(mean)
    return mean + rng.normal(size=(count, size)) / np.sqrt(size)


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0])
def test_mean_cosine_of_a_planted_direction_is_snr_over_one_plus_snr(snr):
    result = measure(planted(snr, count=64, size=4000, seed=1))
    share = snr / (1 + snr)
    assert result.mean_cosine == pytest.approx(share, abs=0.01)
    assert result.resultant_length == pytest.approx(np.sqrt((1 + 63 * share) / 64), abs=0.01)
    assert result.consecutive.mean() == pytest.approx(share, abs=0.02)
    assert result.interval_low < share < result.interval_high
    assert result.null_high < result.interval_low


def test_mean_cosine_of_a_partition_of_one_epoch_with_zero_mean_is_minus_one_over_n_minus_one():
    count, size = 12, 5
    rng = np.random.default_rng(2)
    batches = np.linalg.qr(rng.normal(size=(count * size, count)))[0].T  # orthonormal sums
    batches = batches - batches.mean(0)
    result = measure(batches)
    assert result.mean_cosine == pytest.approx(-1 / (count - 1), abs=1e-14)
    assert result.resultant_length == pytest.approx(0.0, abs=1e-7)


def test_numbers_equal_those_computed_pair_by_pair():
    vectors = planted(0.5, count=9, size=30, seed=3) * np.arange(1, 10)[:, None]
    result = measure(vectors, loss_rise=np.arange(9.0), cosine_gradient=np.ones(9))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(9) for j in range(9) if i != j]
    assert result.mean_cosine == pytest.approx(np.mean(pairs), abs=1e-14)
    assert result.resultant_length == pytest.approx(np.linalg.norm(unit.mean(0)), abs=1e-14)
    np.testing.assert_allclose(result.cosines, unit @ unit.T, atol=1e-14)
    assert (np.diag(result.cosines) == 1).all()
    np.testing.assert_allclose(result.norms, np.linalg.norm(vectors, axis=1))
    expected = [unit[i] @ unit[i + 1] for i in range(8)]
    np.testing.assert_allclose(result.consecutive, expected, atol=1e-14)
    assert result.step.tolist() == list(range(9))
    assert result.loss_rise.tolist() == list(range(9))
    assert (result.cosine_gradient == 1).all()


def test_a_vector_is_as_long_as_it_is_and_columns_are_taken_in_parts(monkeypatch):
    vectors = planted(0.5, count=6, size=50, seed=4).astype(np.float32)
    whole = measure(vectors)
    monkeypatch.setattr(directions, "_COLUMNS", 7)
    np.testing.assert_allclose(measure(vectors).cosines, whole.cosines, atol=1e-14)


def test_random_directions_have_a_resultant_length_of_one_over_root_n():
    rng = np.random.default_rng(5)
    result = measure(rng.normal(size=(100, 20000)))
    assert result.resultant_length == pytest.approx(0.1, abs=0.005)
    assert result.mean_cosine == pytest.approx(0.0, abs=1e-3)
    above = result.cosines[np.triu_indices(100, 1)]
    assert np.abs(above).mean() == pytest.approx(np.sqrt(2 / (np.pi * 20000)), rel=0.05)


def test_the_null_holds_95_percent_of_anisotropic_vectors_without_a_mean():
    rng = np.random.default_rng(6)
    spread = np.arange(1, 101) ** -1.0  # a few directions carry almost all
    inside, width = [], []
    for repeat in range(200):
        result = measure(rng.normal(size=(16, 100)) * spread, seed=repeat)
        inside.append(result.null_low <= result.mean_cosine <= result.null_high)
        width.append(result.null_high - result.null_low)
    assert 0.90 <= np.mean(inside) <= 0.985
    isotropic = 2 * 1.96 * np.sqrt(2 / (16 * 15 * 100))
    assert np.mean(width) > 3 * isotropic


def test_the_bootstrap_interval_covers_the_truth_most_of_the_time():
    covered = []
    for repeat in range(100):
        result = measure(planted(1.0, count=32, size=1000, seed=repeat), seed=repeat)
        covered.append(result.interval_low <= 0.5 <= result.interval_high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_a_vector_drawn_twice_by_the_bootstrap_does_not_count_as_agreement():
    result = measure(np.eye(10))
    assert (result.mean_cosine, result.interval_low, result.interval_high) == (0.0, 0.0, 0.0)
    result = measure(np.ones((10, 4)))
    assert result.mean_cosine == pytest.approx(1.0)
    assert result.interval_low == pytest.approx(1.0)


def test_null_and_interval_depend_on_the_seed_alone():
    vectors = planted(0.2, count=12, size=40, seed=7)
    assert measure(vectors, seed=3).digest == measure(vectors, seed=3).digest
    one, other = measure(vectors, seed=3), measure(vectors, seed=4)
    assert one.null_high != other.null_high
    assert one.interval_high != other.interval_high
    assert one.mean_cosine == other.mean_cosine


def test_vectors_without_direction_are_nan_and_counted():
    vectors = planted(1.0, count=8, size=50, seed=8)
    vectors[2], vectors[5, 3] = 0.0, np.inf
    result = measure(vectors)
    assert (result.facts["vanished"], result.facts["not_finite"]) == (1, 1)
    lost = np.isnan(result.cosines)
    assert lost[[2, 5]].all()
    assert lost[:, [2, 5]].all()
    assert lost.sum() == 64 - 36
    assert np.isnan(result.consecutive).tolist() == [False, True, True, False, True, True, False]
    assert result.norms[2] == 0
    rest = measure(np.delete(vectors, [2, 5], axis=0))
    assert result.mean_cosine == rest.mean_cosine
    assert result.null_high == rest.null_high


def test_no_direction_at_all_gives_nan():
    result = measure(np.zeros((3, 4)))
    assert np.isnan(result.mean_cosine)
    assert np.isnan([result.null_low, result.interval_high, result.resultant_length]).all()
    assert result.facts["vanished"] == 3


def test_two_vectors_have_a_cosine_but_no_interval():
    result = measure([[1.0, 0.0], [1.0, 1.0]])
    assert result.mean_cosine == pytest.approx(np.sqrt(0.5))
    assert np.isnan(result.interval_low)
    assert (result.null_low, result.null_high) == pytest.approx((-np.sqrt(0.5), np.sqrt(0.5)))


@pytest.mark.parametrize("vectors", [np.ones(4), np.ones((1, 4)), np.ones((2, 2, 2))])
def test_fewer_than_two_vectors_are_refused(vectors):
    with pytest.raises(ValueError, match=r"must be \[n, param\]"):
        measure(vectors)


def test_one_direction_participates_for_constant_vectors_and_all_for_orthogonal_ones():
    constant = measure(np.ones((7, 4)))
    assert constant.participation == pytest.approx(1.0)
    np.testing.assert_allclose(constant.leave_one_out, 1.0)
    orthogonal = measure(np.diag([1.0, 2.0, 3.0, 4.0]))
    assert orthogonal.participation == pytest.approx(4.0)
    np.testing.assert_allclose(orthogonal.leave_one_out, 0.0, atol=1e-12)


def test_each_vector_is_compared_with_the_mean_of_the_others():
    vectors = planted(0.5, count=6, size=40, seed=9) * np.arange(1, 7)[:, None]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    result = measure(np.vstack([vectors, np.zeros(40)]))
    for i, found in enumerate(result.leave_one_out[:6]):
        others = np.delete(unit, i, axis=0).mean(0)
        assert found == pytest.approx(unit[i] @ others / np.linalg.norm(others), abs=1e-12)
    assert np.isnan(result.leave_one_out[6])
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T)
    assert result.participation == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def test_the_mean_of_others_that_cancel_has_no_direction():
    result = measure([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert np.isnan(result.leave_one_out[2])
    assert result.leave_one_out[0] == pytest.approx(-np.sqrt(0.5))


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0])
def test_the_noise_of_gradients_predicts_their_mean_cosine(snr):
    vectors = planted(snr, count=64, size=4000, seed=10)
    noise, cosine = gradient_noise(vectors @ vectors.T, batch_size=32)
    assert cosine == pytest.approx(snr / (1 + snr), abs=0.01)
    assert noise == pytest.approx(32 / snr, rel=0.15)
    mean, spread = vectors.mean(0), vectors.var(0, ddof=1).sum()
    expected = mean @ mean / spread - 1 / 64
    assert (noise, cosine) == pytest.approx((32 / expected, expected / (1 + expected)))


def test_gradients_without_a_mean_have_no_noise_scale_and_equal_ones_no_noise():
    eye = np.eye(8) - 1 / 8
    noise, cosine = gradient_noise(eye @ eye.T, batch_size=4)
    assert np.isnan(noise)
    assert cosine == pytest.approx(-1 / 7)
    assert gradient_noise(np.full((5, 5), 2.0), batch_size=4) == (0.0, 1.0)
    broken = np.pad(np.eye(3) + 1, (0, 1), constant_values=np.nan)
    assert gradient_noise(broken, 4) == gradient_noise(np.eye(3) + 1, 4)
