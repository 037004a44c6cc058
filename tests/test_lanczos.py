import numpy as np
import pytest
import torch
from dense import symmetric

from landscape.basis import Basis, norm
from landscape.lanczos import Krylov, lanczos


def krylov_of(matrix, most, *, locked=None, seed=0):
    """A Krylov space of a matrix from a random start, and its product."""
    A = torch.as_tensor(matrix)
    count = 0 if locked is None else len(locked)
    space = Krylov(Basis(A[0], block=3, first=locked), len(A), most, locked=count)
    generator = torch.Generator().manual_seed(seed)
    space.start(torch.randn(len(A), generator=generator, dtype=A.dtype))
    return space, lambda v: A @ v


def rows_of(space, count):
    return torch.cat([rows for _, rows in space.rows.blocks(count)]).double().numpy()


def restarted(matrix, *, locked=None, steps=30):
    """A space of at most 10 steps, cut back to its 5 largest Ritz vectors whenever it is full."""
    space, product = krylov_of(matrix, 10, locked=locked)
    for _ in range(steps):
        if space.steps == space.most:
            known = space.ritz()
            space.restart(known, np.arange(10) >= 5)
        space.extend(product(space.last))
    return space


def test_norm_of_a_long_float32_vector_has_the_precision_of_its_entries():
    vector = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    assert norm(vector) == pytest.approx(np.linalg.norm(vector.double().numpy()), rel=1e-12)


def test_lanczos_satisfies_its_relation_and_stays_orthonormal_for_ever():
    matrix = torch.tensor(np.diag(np.geomspace(1e-8, 1, 120)))
    start = torch.ones(120, dtype=torch.float64)
    known = lanczos(lambda v: matrix @ v, start, 60)
    basis = known.basis.numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(60), atol=1e-13)
    inner = known.beta[:-1]
    tridiagonal = np.diag(known.alpha) + np.diag(inner, 1) + np.diag(inner, -1)
    np.testing.assert_allclose(basis @ matrix.numpy() @ basis.T, tridiagonal, atol=1e-13)
    values, bounds, vectors = known.ritz()
    ritz = vectors.T @ basis
    true = np.linalg.norm(ritz @ matrix.numpy() - values[:, None] * ritz, axis=1)
    np.testing.assert_allclose(bounds, true, atol=1e-13)


def test_lanczos_stays_orthogonal_to_locked_vectors():
    matrix = torch.tensor(symmetric(30))
    locked = torch.linalg.eigh(matrix).eigenvectors.T[-3:]
    start = torch.ones(30, dtype=torch.float64)
    known = lanczos(lambda v: matrix @ v, start, 100, locked=locked)
    assert known.exhausted
    assert len(known.alpha) == 27
    assert float((known.basis @ locked.T).abs().max()) < 1e-12
    values = torch.linalg.eigvalsh(matrix).numpy()
    np.testing.assert_allclose(known.ritz()[0], values[:-3], atol=1e-12)


@pytest.mark.parametrize("count", [0, 3])
def test_the_relation_holds_after_restarts(count):
    matrix = symmetric(60)
    locked = torch.tensor(np.linalg.qr(symmetric(60, seed=1))[0][:count])
    space = restarted(matrix, locked=locked)
    m = space.steps
    rows = rows_of(space, count + m + 1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(count + m + 1), atol=1e-13)
    fixed, basis, rest = rows[:count], rows[count:-1], rows[-1]
    images = basis @ matrix
    inner, link, split = space.inner[:m, :m], space.inner[m, :m], space.split[:, :m]
    expected = inner.T @ basis + split.T @ fixed + np.outer(link, rest)
    np.testing.assert_allclose(images, expected, atol=1e-12)


def test_a_restart_keeps_the_ritz_pairs_it_is_told_to():
    space, product = krylov_of(symmetric(40), 12)
    for _ in range(12):
        space.extend(product(space.last))
    before = space.ritz()
    keep = np.isin(np.arange(12), [0, 7, 11])
    space.restart(before, keep)
    after = space.ritz()
    np.testing.assert_allclose(after.values, before.values[keep], atol=1e-13)
    np.testing.assert_allclose(after.residuals, before.residuals[keep], atol=1e-13)
    np.testing.assert_array_equal(after.sight.dropped, before.values[~keep])


def test_restarts_converge_to_the_largest_eigenvalues():
    matrix = np.diag(np.concatenate([np.linspace(0, 1, 95), [2, 2.5, 3, 4, 5]]))
    known = restarted(matrix, steps=60).ritz()
    np.testing.assert_allclose(known.values[-5:], [2, 2.5, 3, 4, 5], atol=1e-12)


@pytest.mark.parametrize("restarts", [False, True])
def test_residuals_are_those_of_products_that_are_not_symmetric(restarts):
    uneven = np.random.default_rng(2).standard_normal((50, 50)) * 1e-3
    matrix = np.diag(np.linspace(0, 1, 50) ** 3) + uneven - uneven.T
    if restarts:
        space = restarted(matrix, steps=24)
    else:
        space, product = krylov_of(matrix, 20)
        for _ in range(20):
            space.extend(product(space.last))
    known, m = space.ritz(), space.steps
    vectors = known.vectors.T @ rows_of(space, m)
    true = np.linalg.norm(vectors @ matrix.T - known.values[:, None] * vectors, axis=1)
    if restarts:  # what they drop is bounded
        assert (known.residuals >= true - 1e-12).all()
        assert (known.residuals[-5:] <= 3 * true[-5:]).all()
    else:
        np.testing.assert_allclose(known.residuals, true, atol=1e-12)
    assert (known.noise[-5:] > 1e-4).all()


def test_an_operator_may_return_its_argument():
    space, _ = krylov_of(np.eye(6), 3)
    before = rows_of(space, 1)
    space.extend(space.last)
    np.testing.assert_array_equal(rows_of(space, 1), before)
    assert space.exhausted
    np.testing.assert_allclose(space.ritz().values, [1.0], atol=1e-15)


def test_a_basis_grows_and_turns_where_it_is():
    basis = Basis(torch.zeros(5, dtype=torch.float64), block=2)
    for row in range(5):
        basis[row].copy_(torch.eye(5, dtype=torch.float64)[row])
        if row == 0:
            place = basis[0].data_ptr()
    matrix = np.arange(15.0).reshape(5, 3)
    basis.rotate(matrix)
    assert basis[0].data_ptr() == place
    np.testing.assert_array_equal(basis.cut(3).numpy(), matrix.T)


def test_what_is_left_of_a_long_float32_vector_is_orthogonal():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(1_000_000, 5, generator=generator, dtype=torch.float64) / 1000
    drawn[:5] += 1 + 2 * torch.eye(5)  # sums over such rows lose the most
    rows = torch.linalg.qr(drawn).Q.T.float().contiguous()
    vector = rows[0] + 1e-3 * rows[-1]
    rest, parts = Basis(vector, block=1, first=rows[:4]).project_out(vector, 4)
    left = rows[:4].double() @ rest.double() / norm(rest)
    assert float(left.abs().max()) < 2e-6
    assert parts[0] == pytest.approx(float(rows[0].double() @ vector.double()), rel=2e-7)


def test_rows_nearly_orthonormal_become_so():
    exact = np.linalg.qr(symmetric(30))[0][:4]
    basis = Basis(torch.zeros(30, dtype=torch.float64), block=3)
    for row in range(4):
        basis[row].copy_(torch.tensor(exact[row] + 1e-4 * exact[row - 1]))
    basis.straighten(4)
    rows = basis.cut(4).numpy()
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-7)
