import re
import signal

import numpy as np
import pytest
import torch
from dense import mlp, symmetric

from landscape import Objective, find_eigenpairs, searches, spectra
from landscape.basis import Basis
from landscape.lanczos import lanczos
from landscape.operators import Operator


def operator_of(matrix, dtype=torch.float64, calls=None):
    """An operator with this matrix, or diagonal; `calls(count)` is called before each product."""
    A, count = torch.as_tensor(np.asarray(matrix), dtype=dtype), [0]

    def product(v):
        count[0] += 1
        if calls is not None:
            calls(count[0])
        return A * v if A.ndim == 1 else A @ v

    return Operator(product=product, origin=torch.zeros(len(A), dtype=dtype), layout=())


class Savepoint:
    """Keeps the last state in memory; due at every `every`-th time asked."""

    def __init__(self, every=1):
        self.state, self.every, self.asked = None, every, 0

    def load(self):
        return self.state

    def due(self):
        self.asked += 1
        return self.asked % self.every == 0

    def save(self, state):
        self.state = {name: np.array(value) for name, value in state.items()}


class KilledError(Exception):
    """Stands for a process that is gone."""


def stopping_at(number, error):
    def calls(count):
        if count == number:
            raise error

    return calls


OUTLIERS = np.concatenate([[9, 7, 6, 5, 4.5, -3, -2], np.linspace(-1, 1, 293)])


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
@pytest.mark.parametrize("vectors", [7, 12])
def test_few_vectors_find_what_many_find(which, vectors, monkeypatch):
    matrix, used, right = symmetric(80), [], Basis.__getitem__
    whole = find_eigenpairs(operator_of(matrix), k=4, which=which, tolerance=1e-6, seed=0)
    monkeypatch.setattr(Basis, "__getitem__", lambda s, row: used.append(row) or right(s, row))
    cut = find_eigenpairs(
        operator_of(matrix),
        k=4,
        which=which,
        tolerance=1e-6,
        seed=0,
        max_vectors=vectors,
        max_matvecs=3000,
    )
    assert cut.converged
    assert max(used) + 1 == vectors == cut.facts["max_vectors"]
    np.testing.assert_allclose(cut.eigenvalues, whole.eigenvalues, atol=1e-9)


def test_restarts_cost_few_products():
    operator = operator_of(np.linspace(0, 1, 300) ** 2)
    asks = {"k": 3, "which": "LA", "tolerance": 1e-6, "seed": 0, "copies": False}
    whole = find_eigenpairs(operator, **asks)
    assert whole.matvecs > 60
    for vectors, share in ((14, 1.25), (20, 1.1)):
        cut = find_eigenpairs(operator, max_vectors=vectors, **asks)
        assert cut.converged
        assert cut.matvecs <= share * whole.matvecs


def test_one_sweep_takes_no_product_more_than_lanczos_needs():
    operator = operator_of(OUTLIERS)
    spectrum = find_eigenpairs(operator, k=5, tolerance=1e-3, seed=3, copies=False)
    start = torch.randn(300, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def enough(known):
        values, residuals, _ = known.ritz()
        best = np.argsort(-np.abs(values))[:5]
        return len(values) >= 5 and (residuals[best] <= 1e-3 * np.abs(values).max()).all()

    assert spectrum.matvecs == len(lanczos(operator, start, 300, stop=enough).alpha)
    assert spectrum.converged
    assert spectrum.facts["complete"] is None


def test_one_sweep_sees_a_multiple_eigenvalue_once_and_copies_are_found_when_asked_for():
    operator = operator_of([4.0, 4.0, 4.0, 3.0, 2.0, 1.5, *np.linspace(0, 0.3, 60)])
    once = find_eigenpairs(operator, k=2, which="LA", seed=0, copies=False)
    np.testing.assert_allclose(once.eigenvalues, [4, 3], atol=1e-5)
    often = find_eigenpairs(operator, k=4, which="LA", seed=0)
    np.testing.assert_allclose(often.eigenvalues, [4, 4, 4, 3], atol=1e-5)
    assert often.facts["complete"] is True
    assert 2e-3 <= often.facts["complete_margin"] <= 3e-3
    assert often.facts["confidence"] == 0.99


def test_copies_are_missed_no_more_often_than_stated(monkeypatch):
    monkeypatch.setattr(searches, "CONFIDENCE", 0.5)
    diagonal = torch.tensor([1.0, 1.0, *np.linspace(0, 0.9, 998)], dtype=torch.float64)
    asks = {"k": 2, "which": "LA", "tolerance": 2e-2}
    missed = [
        find_eigenpairs(operator_of(diagonal), seed=seed, **asks).eigenvalues[1] < 0.95
        for seed in range(60)
    ]
    assert sum(missed) <= 0.5 * 60


def test_pairs_that_come_with_those_wanted_spare_the_next_sweep_products(monkeypatch):
    def products():
        asks = {"k": 3, "which": "LA", "tolerance": 1e-4}
        return [find_eigenpairs(operator_of(OUTLIERS), seed=s, **asks).matvecs for s in range(8)]

    spared = products()
    monkeypatch.setattr(searches.Search, "_bystanders", lambda self, free, *pairs: free & False)
    assert sum(spared) < sum(products())


def test_the_margin_of_what_may_be_missing_counts_residuals():
    for tolerance in (1e-6, 0.1):
        margins = [
            find_eigenpairs(
                operator_of(OUTLIERS), k=4, which="LA", tolerance=tolerance, seed=seed
            ).facts["complete_margin"]
            for seed in range(8)
        ]
        assert min(margins) >= 2 * tolerance * (1 - 1e-9)
        assert max(margins) <= 4 * tolerance
        assert max(margins) > 2.02 * tolerance


def test_k_pairs_come_back_from_one_start_even_if_its_space_has_fewer():
    found = find_eigenpairs(operator_of(2 * np.ones(7)), k=3, seed=0, copies=False)
    np.testing.assert_allclose(found.eigenvalues, [2, 2, 2], atol=1e-15)
    assert found.converged
    assert found.matvecs == 3


def test_an_eigenvalue_that_the_start_hardly_holds_is_waited_for():
    diagonal = np.zeros(40_000)
    diagonal[:20_000], diagonal[-1] = 1.0, 1.5
    for seed in range(10):
        found = find_eigenpairs(
            operator_of(diagonal), k=1, which="LA", tolerance=1e-2, seed=seed, copies=False
        )
        assert found.eigenvalues[0] == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_every_residual_bounds_the_distance_to_an_eigenvalue(which):
    matrix = symmetric(90, seed=5)
    found = find_eigenpairs(
        operator_of(matrix), k=6, which=which, tolerance=1e-6, seed=0, max_matvecs=20
    )
    distance = np.abs(np.linalg.eigvalsh(matrix)[:, None] - found.eigenvalues).min(0)
    assert (distance <= found.residuals + 1e-12).all()
    slack = 1e-6 * found.facts["largest_magnitude"]
    np.testing.assert_array_equal(found.within, found.residuals <= slack)
    assert not found.within.all()
    assert not found.converged
    assert found.matvecs == 20


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
@pytest.mark.parametrize("most", [10, 200])
def test_the_largest_eigenvalue_lies_between_its_bounds(which, most):
    matrix = symmetric(120, seed=6)
    found = find_eigenpairs(
        operator_of(matrix), k=2, which=which, tolerance=1e-4, seed=1, max_matvecs=most
    )
    largest = np.linalg.eigvalsh(matrix)[-1]
    assert found.lambda_max_low <= largest + 1e-12
    assert largest <= found.lambda_max_high < 3 * largest
    if which in ("LA", "BE") and most == 200:
        assert found.lambda_max_high - found.lambda_max_low < 0.02 * largest


def perturbed(matrix, size):
    """A matrix and one a little way from it."""
    noise = symmetric(len(matrix), seed=9)
    return matrix, matrix + size * np.linalg.norm(matrix, 2) / np.linalg.norm(noise, 2) * noise


def test_vectors_of_a_matrix_nearby_save_products():
    rotation = np.linalg.qr(symmetric(300, seed=7))[0]
    before, after = perturbed(rotation.T * OUTLIERS @ rotation, 0.02)
    asks = {"k": 5, "which": "LA", "tolerance": 1e-3, "copies": False}
    known = find_eigenpairs(operator_of(before), seed=0, **asks)
    cold = find_eigenpairs(operator_of(after), seed=1, **asks)
    warm = find_eigenpairs(operator_of(after), seed=1, start=known.eigenvectors, **asks)
    assert warm.converged
    np.testing.assert_allclose(warm.eigenvalues, cold.eigenvalues, atol=1e-3)
    assert warm.matvecs <= cold.matvecs - 3
    assert warm.facts["start"] != cold.facts["start"]
    assert np.isnan(warm.lambda_max_high)


@pytest.mark.parametrize("copies", [False, True])
def test_a_start_that_is_an_eigenvector_hides_no_other(copies):
    start = torch.eye(300, dtype=torch.float64)[[2, 3]]
    for given in (start, start[0], start[0].float().numpy(), torch.stack([start[0], -start[0]])):
        found = find_eigenpairs(
            operator_of(OUTLIERS), k=2, which="LA", seed=0, start=given, copies=copies
        )
        np.testing.assert_allclose(found.eigenvalues, [9, 7], atol=1e-4)


def test_the_lengths_of_given_vectors_do_not_matter():
    start = torch.randn(2, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    asks = {"k": 2, "seed": 0, "copies": False}
    found = [
        find_eigenpairs(operator_of(OUTLIERS), start=start * scale, **asks)
        for scale in (torch.ones(2, 1), torch.tensor([[1e-3], [1e3]]))
    ]
    assert found[0].matvecs == found[1].matvecs
    np.testing.assert_allclose(found[0].residuals, found[1].residuals, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(2, 300), "vectors of start must be finite and not zero, got length 0"),
        (torch.full((300,), torch.nan), "must be finite and not zero, got length nan"),
        (torch.ones(2, 299), r"start must have shape \[300\] or \[j, 300\], .* got \[2, 299\]"),
        (torch.ones(0, 300), r"got \[0, 300\]"),
    ],
)
def test_starts_without_a_direction_are_refused(start, message):
    with pytest.raises(ValueError, match=message):
        find_eigenpairs(operator_of(OUTLIERS), k=2, seed=0, start=start)


ASKS = {"k": 4, "which": "LM", "tolerance": 1e-5, "seed": 2, "max_vectors": 9}


@pytest.mark.parametrize("every", [1, 7])
def test_a_killed_search_goes_on_from_its_savepoint_to_the_same_bits(every):
    diagonal = [5.0, 5.0, 5.0, -4.0, 3.0, 2.5, *np.linspace(0, 1, 74)]
    whole = find_eigenpairs(operator_of(diagonal), **ASKS)
    assert whole.converged
    for number in range(2, whole.matvecs + 1, 5):
        point = Savepoint(every)
        with pytest.raises(KilledError):
            find_eigenpairs(
                operator_of(diagonal, calls=stopping_at(number, KilledError)),
                savepoint=point,
                **ASKS,
            )
        after = []
        again = find_eigenpairs(operator_of(diagonal, calls=after.append), savepoint=point, **ASKS)
        assert again.digest == whole.digest
        np.testing.assert_array_equal(again.eigenvectors, whole.eigenvectors)
        assert len(after) <= whole.matvecs - number + every
    assert "rows 0" in point.state


@pytest.mark.parametrize(
    "other", [{"k": 3}, {"seed": 3}, {"which": "LA"}, {"tolerance": 1e-4}, {"copies": False}]
)
def test_a_savepoint_of_another_request_is_refused(other):
    point = Savepoint()
    find_eigenpairs(operator_of(OUTLIERS), savepoint=point, **ASKS)
    with pytest.raises(ValueError, match="a saved state of eigenpairs must be of the same request"):
        find_eigenpairs(operator_of(OUTLIERS), savepoint=point, **{**ASKS, **other})


@pytest.mark.parametrize("number", [3, 12, 18])
def test_ctrl_c_returns_what_is_known_and_saves_it(number):
    whole = find_eigenpairs(operator_of(OUTLIERS), **ASKS)
    point = Savepoint(every=1000)
    stop = stopping_at(number, KeyboardInterrupt)
    found = find_eigenpairs(operator_of(OUTLIERS, calls=stop), savepoint=point, **ASKS)
    assert found.facts["interrupted"] is True
    assert not found.converged
    assert len(found.eigenvalues) == min(4, number - 1)
    distance = np.abs(OUTLIERS[:, None] - found.eigenvalues).min(0)
    assert (distance <= found.residuals + 1e-12).all()
    after = []
    again = find_eigenpairs(operator_of(OUTLIERS, calls=after.append), savepoint=point, **ASKS)
    assert again.digest == whole.digest
    assert len(after) == whole.matvecs - (number - 1)
    assert "interrupted" not in again.facts


def test_ctrl_c_before_anything_is_known_goes_through():
    stop = stopping_at(1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        find_eigenpairs(operator_of(OUTLIERS, calls=stop), **ASKS)


def test_ctrl_c_waits_until_a_basis_is_whole(monkeypatch):
    right, sent = Basis.rotate, []

    def interrupted(self, matrix):
        if not sent:
            sent.append(signal.raise_signal(signal.SIGINT))
        right(self, matrix)

    monkeypatch.setattr(Basis, "rotate", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = find_eigenpairs(operator_of(OUTLIERS), **ASKS)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert sent
    assert found.facts["interrupted"] is True
    distance = np.abs(OUTLIERS[:, None] - found.eigenvalues).min(0)
    assert (distance <= found.residuals + 1e-12).all()


def test_progress_says_in_a_few_words_what_is_known():
    notes = []
    find_eigenpairs(
        operator_of(OUTLIERS), k=5, seed=0, progress=lambda done, total, note: notes.append(note)
    )
    assert re.fullmatch(r"λ1 8\.\d+ ± \de-\d, [0-4] of 5 within", notes[5])
    assert re.fullmatch(r"λ1 9 ± \de-\d+, seeking copies", notes[-1])
    assert max(map(len, notes)) <= 36


def test_products_that_differ_from_call_to_call_show_in_the_residuals():
    generator = torch.Generator().manual_seed(0)
    exact = torch.tensor(OUTLIERS)

    def product(v):
        return exact * v + 1e-3 * torch.randn(300, generator=generator, dtype=torch.float64)

    operator = Operator(product=product, origin=torch.zeros_like(exact), layout=())
    found = find_eigenpairs(operator, k=3, tolerance=1e-6, seed=0, copies=False)
    assert not found.within.any()
    assert (found.residuals > 1e-3).all()
    assert found.matvecs < 60  # nothing is to be gained by going on


def test_residuals_that_vectors_found_apart_give_each_other_are_computed_again():
    diagonal = np.sort(np.random.default_rng(0).standard_normal(40))
    asks = {"k": 4, "which": "LA", "tolerance": 0.1}
    converged = 0
    for seed in range(40):
        products = []
        found = find_eigenpairs(operator_of(diagonal, calls=products.append), seed=seed, **asks)
        vectors = found.eigenvectors.astype(float)
        true = np.linalg.norm(vectors * diagonal - found.eigenvalues[:, None] * vectors, axis=1)
        np.testing.assert_allclose(found.residuals, true, atol=1e-6)
        converged += found.converged
        assert found.matvecs == len(products)
    assert converged >= 38


def test_pairs_that_are_not_wanted_are_never_computed_again(monkeypatch):
    monkeypatch.setattr(spectra, "_recompute", None)
    tail, low = 1.5 * np.exp(-np.arange(150) / 30), -0.5 * np.exp(-np.arange(100) / 20)
    diagonal = np.concatenate([[10, 7, 5.5, 4.5, 3.7, 3], tail, low, np.zeros(1000)])
    for seed in range(3):
        assert find_eigenpairs(operator_of(diagonal), k=2, which="BE", seed=seed).converged


def test_starts_are_the_same_in_every_precision():
    found = [
        find_eigenpairs(operator_of(OUTLIERS, dtype), k=2, seed=0, max_matvecs=4)
        for dtype in (torch.float32, torch.float64)
    ]
    np.testing.assert_allclose(found[0].eigenvalues, found[1].eigenvalues, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_eigenvalues_agree_with_curvlinops():
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    model, loss_fn, data = mlp()
    theirs = HessianLinearOperator(model, loss_fn, list(model.parameters()), [data])

    def product(v):
        return (theirs @ torch.from_numpy(v)).detach().numpy()

    linear = LinearOperator((43, 43), matvec=product, dtype=np.float64)
    reference = eigsh(linear, 5, which="LA", return_eigenvectors=False, tol=1e-12)
    found = find_eigenpairs(
        Objective(model, loss_fn, data), k=5, which="LA", tolerance=1e-6, seed=0
    )
    np.testing.assert_allclose(found.eigenvalues, np.sort(reference)[::-1], rtol=1e-9)


def test_too_few_vectors_are_refused():
    with pytest.raises(ValueError, match=r"max_vectors must be at least k \+ 3 = 7, .* got 6"):
        find_eigenpairs(operator_of(OUTLIERS), **{**ASKS, "max_vectors": 6})
