import numpy as np
import pytest
import torch
from recorded_runs import Memory

from landscape.arnoldi import find_leading


def random_matrix(size, seed=0):
    return np.random.default_rng(seed).standard_normal((size, size)) / np.sqrt(size)


def lead(matrix, *, ends=((np.abs, 1),), tolerance=1e-9, products=2000, **options):
    matrix = torch.as_tensor(matrix)
    start = torch.randn(
        len(matrix), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return find_leading(
        lambda v: matrix.to(v) @ v,
        start.to(options.pop("dtype", torch.float64)),
        ends=ends,
        tolerance=tolerance,
        seed=0,
        max_products=products,
        **options,
    )


def largest(matrix, count):
    values = np.linalg.eigvals(matrix)
    return values[np.lexsort((-values.imag, -np.abs(values)))][:count]


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def distance_from_one(values):
    return np.abs(values - 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_vectors", [20, 300])
def test_leading_eigenvalues_are_those_of_the_dense_matrix(seed, max_vectors):
    matrix = random_matrix(120, seed)
    found = lead(matrix, ends=((np.abs, 5),), max_vectors=max_vectors)
    assert found.converged
    expected = largest(matrix, len(found.values))
    np.testing.assert_allclose(found.values, expected, atol=1e-7)
    pair = abs(expected[4] - largest(matrix, 6)[5].conj()) < 1e-9
    assert len(found.values) == (6 if pair else 5)


def test_residuals_are_those_of_the_vectors_returned():
    matrix = random_matrix(80)
    found = lead(matrix, ends=((np.abs, 3),), tolerance=1e-2)
    vectors = found.vectors.numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-12)
    errors = vectors @ matrix.T - found.values[:, None] * vectors
    np.testing.assert_allclose(found.residuals, np.linalg.norm(errors, axis=1), rtol=1e-8)
    assert found.residuals.max() <= 1e-2 * abs(found.values[0])
    assert found.residuals.max() > 1e-8


def test_both_of_a_conjugate_pair_are_returned():
    turn, q = np.array([[0.3, -0.9], [0.9, 0.3]]), rotation(30)
    matrix = np.diag(np.linspace(-0.5, 0.5, 30))
    matrix[:2, :2] = turn
    found = lead(q @ matrix @ q.T)
    np.testing.assert_allclose(found.values, [0.3 + 0.9j, 0.3 - 0.9j], atol=1e-8)
    np.testing.assert_allclose(found.vectors[0].numpy(), found.vectors[1].numpy().conj())


def test_several_ends_are_wanted_at_once():
    q = rotation(200)
    values = np.concatenate([[1.2, -0.8], np.linspace(0.9, 1.1, 198)])
    found = lead(
        q @ np.diag(values) @ q.T, ends=((np.abs, 1), (distance_from_one, 1)), max_vectors=16
    )
    np.testing.assert_allclose(found.values, [1.2, -0.8], atol=1e-10)
    assert found.converged


def test_restarts_bound_the_basis_and_change_nothing_else():
    q = rotation(300)
    matrix = q @ np.diag(np.geomspace(1e-3, 1, 300)) @ q.T
    whole, bounded = (lead(matrix, ends=((np.abs, 4),), max_vectors=m) for m in (300, 14))
    np.testing.assert_allclose(bounded.values, whole.values, atol=1e-9)
    assert bounded.products > whole.products
    assert bounded.products < 10 * whole.products


def test_a_matrix_that_is_far_from_normal_is_no_matter():
    matrix = np.triu(random_matrix(40, 3) * 5)
    np.fill_diagonal(matrix, np.linspace(0, 1, 40) ** 3)
    found = lead(matrix, tolerance=1e-12)
    assert found.values[0].real == pytest.approx(1, abs=1e-6)


def test_copies_of_an_exhausted_space_are_found():
    matrix = np.diag([0.5] * 3 + [0.2] * 9)
    found = lead(matrix, ends=((np.abs, 3),))
    np.testing.assert_allclose(found.values[:3], [0.5, 0.5, 0.5], atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_small_matrices_are_exhausted(size):
    matrix = random_matrix(size, 1)
    found = lead(matrix, ends=((np.abs, size),), tolerance=1e-13)
    np.testing.assert_allclose(found.values, largest(matrix, size), atol=1e-9)
    assert found.products <= 2 * size + 2


def test_float32_products_give_float32_answers():
    matrix = random_matrix(100)
    found = lead(matrix, tolerance=1e-3, dtype=torch.float32)
    assert found.converged
    assert abs(found.values[0]) == pytest.approx(abs(largest(matrix, 1)[0]), rel=1e-2)
    assert found.vectors.dtype == torch.complex64
    assert not lead(matrix, tolerance=1e-12, dtype=torch.float32, products=300).converged


def test_too_few_products_are_said_to_be_too_few():
    found = lead(random_matrix(200), products=16)
    assert not found.converged
    assert found.products == 16


def test_same_seed_gives_the_same_bits():
    matrix = random_matrix(60)
    first, again = (lead(matrix, max_vectors=12) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert torch.equal(first.vectors, again.vectors)


class Interrupting:
    """A matrix whose products are interrupted at one of them."""

    def __init__(self, matrix, at):
        self.matrix, self.at, self.count = torch.as_tensor(matrix), at, 0

    def __call__(self, v):
        self.count += 1
        if self.count == self.at:
            raise KeyboardInterrupt
        return self.matrix @ v


def interrupted(matrix, at, savepoint=None, **options):
    matvec, start = Interrupting(matrix, at), torch.ones(len(matrix), dtype=torch.float64)
    options |= {"tolerance": 1e-9, "seed": 0, "max_products": 500, "max_vectors": 14}
    return find_leading(matvec, start, savepoint=savepoint, **options), matvec


def test_an_interrupt_gives_what_is_known_by_then():
    matrix = random_matrix(100)
    found, _ = interrupted(matrix, at=30)
    assert (found.interrupted, found.converged, found.products) == (True, False, 29)
    vectors = found.vectors.numpy()
    errors = vectors @ matrix.T - found.values[:, None] * vectors
    np.testing.assert_allclose(found.residuals, np.linalg.norm(errors, axis=1), rtol=1e-6)
    with pytest.raises(KeyboardInterrupt):
        interrupted(matrix, at=1)


@pytest.mark.parametrize("at", [5, 40, 77])
def test_a_killed_search_goes_on_to_the_same_bits(at):
    matrix, kept = random_matrix(100), Memory()
    undisturbed, _ = interrupted(matrix, at=-1)
    assert undisturbed.products > 77
    interrupted(matrix, at, kept)
    found, matvec = interrupted(matrix, -1, kept)
    assert matvec.count == undisturbed.products - at + 1
    np.testing.assert_array_equal(found.values, undisturbed.values)
    np.testing.assert_array_equal(found.residuals, undisturbed.residuals)
    assert (found.products, found.converged) == (undisturbed.products, True)


def test_a_killed_search_goes_on_with_the_same_random_vectors():
    matrix, kept = np.diag([0.5] * 3 + [0.2] * 12), Memory()  # spaces of two dimensions
    options = {"ends": ((np.abs, 4),)}
    undisturbed, _ = interrupted(matrix, -1, **options)
    interrupted(matrix, 5, kept, **options)
    found, _ = interrupted(matrix, -1, kept, **options)
    assert torch.equal(found.vectors, undisturbed.vectors)


def test_a_state_of_another_size_is_refused():
    kept = Memory()
    interrupted(random_matrix(100), 5, kept)
    with pytest.raises(ValueError, match="must be of 14 vectors with 90 entries, got 14 with 100"):
        interrupted(random_matrix(90), -1, kept)


def test_what_is_known_is_told():
    told = []
    found = lead(random_matrix(40), note=told.append)
    assert told[-1].startswith(f"|μ| {abs(found.values[0]):.4g}, residual ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ends": ((np.abs, 11),)}, "between 1 and 10 eigenvalues"),
        ({"ends": ()}, "between 1 and 10 eigenvalues"),
        ({"tolerance": 0.0}, "a tolerance above 0"),
        ({"ends": ((np.abs, 2),), "max_vectors": 7}, "max_vectors must be at least 8"),
        ({"products": 3}, "max_products must be at least 4"),
    ],
)
def test_impossible_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lead(random_matrix(10), **options)
