"""A density from which eigenpairs that are known have been taken out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, dense_hessian, symmetric

from landscape import Objective, estimate_density, find_eigenpairs
from landscape.layouts import Entry, Layout
from landscape.operators import Operator
from landscape.quadrature import power_sums
from landscape.results import Spectrum


def operator(matrix, dtype=torch.float64, seen=None):
    """A matrix as an operator that keeps the vectors it was given."""
    matrix = torch.as_tensor(matrix, dtype=dtype)

    def product(v):
        if seen is not None:
            seen.append(v.clone())
        return matrix @ v

    entry = Entry(name="w", shape=(len(matrix),), offset=0, kind="weight")
    return Operator(
        product=product, origin=torch.zeros(len(matrix), dtype=dtype), layout=Layout((entry,))
    )


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def spectrum_of(values, vectors, residuals=None, tolerance=1e-3, **named):
    residuals = np.zeros(len(values)) if residuals is None else residuals
    return Spectrum(
        eigenvalues=values,
        residuals=residuals,
        tolerance=tolerance,
        eigenvectors=np.asarray(vectors, np.float32),
        **named,
    )


def bulk_and_outliers(bulk, outliers, *, aligned=False):
    """A matrix and the eigenpairs of its outliers, exact but for float32; wholly so on axes."""
    values, count = np.concatenate([outliers, bulk]), len(outliers)
    basis = rotation(len(values))
    if aligned:
        basis = np.eye(len(values))
        basis[count:, count:] = rotation(len(bulk))
    return basis @ np.diag(values) @ basis.T, spectrum_of(values[:count], basis[:, :count].T)


OUTLIERS = np.array([30.0, 12.0, -8.0])


def test_nodes_are_of_the_bulk_and_their_moments_exact_to_degree_2m_minus_1():
    matrix, known = bulk_and_outliers(np.linspace(-1, 1, 60), OUTLIERS, aligned=True)
    seen = []
    found = estimate_density(operator(matrix, seen=seen), probes=3, steps=5, seed=0, deflate=known)
    assert found.nodes.min() > -1 - 1e-9
    assert found.nodes.max() < 1 + 1e-9
    assert found.matvecs == len(seen) == 3 + 3 * 5
    probes = [v.numpy() for v in seen[3::5]]
    for probe, nodes, weights in zip(probes, found.nodes, found.weights, strict=True):
        np.testing.assert_allclose(probe[:3], 0, atol=1e-15)
        assert np.ptp(np.abs(probe[3:])) > 0.1  # of the sphere: no entries ±1
        assert weights.sum() == pytest.approx(1, rel=1e-13)
        for degree in range(11):
            exact = probe @ np.linalg.matrix_power(matrix, degree) @ probe
            error = abs((weights * nodes**degree).sum() - exact)
            assert (error < 1e-13) if degree < 10 else (error > 1e-4)


def test_outliers_and_a_bulk_of_few_values_are_found_exactly():
    bulk = np.repeat([-0.5, 0.0, 0.25], [10, 50, 20])
    matrix, known = bulk_and_outliers(bulk, OUTLIERS, aligned=True)
    found = estimate_density(operator(matrix), probes=2, steps=9, seed=0, deflate=known)
    np.testing.assert_allclose(found.outliers, OUTLIERS, rtol=1e-12)
    assert (found.outlier_residuals < 1e-5).all()
    np.testing.assert_allclose(found.nodes[:, :3], [[-0.5, 0, 0.25]] * 2, atol=1e-10)
    assert np.isnan(found.nodes[:, 3:]).all()
    assert found.size == 83
    facts = found.facts
    assert (facts["deflated"], facts["not_deflated"], facts["probe"]) == (3, 0, "sphere")
    assert facts["deflation_error"] < 1e-5


def test_the_trace_is_whole_whatever_the_probes_when_the_bulk_is_one_value():
    matrix, known = bulk_and_outliers(np.full(40, -0.3), OUTLIERS)
    found = estimate_density(operator(matrix), probes=4, steps=6, seed=0, deflate=known)
    assert found.facts["trace"] == pytest.approx(34 - 12, rel=1e-12)
    assert found.facts["trace_error"] < 1e-12
    np.testing.assert_allclose(power_sums(found, 2), (OUTLIERS**2).sum() + 40 * 0.09)


def test_the_trace_is_unbiased_and_its_error_no_longer_that_of_the_outliers():
    matrix, known = bulk_and_outliers(np.linspace(-1, 3, 25), OUTLIERS)
    found = estimate_density(operator(matrix), probes=1500, steps=1, seed=0, deflate=known)
    bulk = np.linspace(-1, 3, 25)
    variance = 2 * (25 * (bulk**2).sum() - bulk.sum() ** 2) / 27  # of probes from the sphere
    error = found.facts["trace_error"]
    assert error == pytest.approx(math.sqrt(variance / 1500), rel=0.05)
    assert abs(found.facts["trace"] - np.trace(matrix)) < 3 * error
    plain = estimate_density(operator(matrix), probes=1500, steps=1, seed=0)
    assert plain.facts["trace_error"] > 3 * error


def test_eigenpairs_found_by_lanczos_leave_a_net_its_trace_and_its_other_eigenvalues():
    model, loss_fn, data = conv_batchnorm()
    exact = dense_hessian(model, loss_fn, data)
    values = np.linalg.eigvalsh(exact)
    objective = Objective(model, loss_fn, data)
    known = find_eigenpairs(objective, k=4, seed=0, tolerance=1e-4)
    found = estimate_density(objective, probes=8, steps=20, seed=0, deflate=known)
    rest = np.delete(values, [np.abs(values - outlier).argmin() for outlier in found.outliers])
    assert len(rest) == 116
    slack = found.facts["deflation_error"]
    assert slack < 4e-4 * values.max()
    assert found.nodes.max() == pytest.approx(rest.max(), abs=0.01)
    assert found.nodes.max() <= rest.max() + slack
    assert found.nodes.min() >= rest.min() - slack
    assert abs(found.facts["trace"] - np.trace(exact)) < 4 * found.facts["trace_error"]


def test_the_deflation_error_is_what_couples_the_span_to_the_rest():
    rng = np.random.default_rng(1)
    matrix, known = bulk_and_outliers(np.linspace(-1, 1, 30), OUTLIERS)
    rough = known.eigenvectors + 1e-4 * rng.standard_normal((3, 33)).astype(np.float32)
    stated = np.full(3, 0.02)
    found = estimate_density(
        operator(matrix),
        probes=1,
        steps=30,
        seed=0,
        deflate=spectrum_of(OUTLIERS, rough, stated),
    )
    span = np.linalg.qr(rough.astype(float).T)[0]
    images = matrix @ span
    coupling = images - span @ (span.T @ images)
    assert found.facts["deflation_error"] == pytest.approx(np.linalg.norm(coupling), rel=1e-6)
    moved = np.sort(np.concatenate([found.outliers, found.nodes[0]]))
    shifts = np.abs(moved - np.linalg.eigvalsh(matrix))
    assert 1e-9 < shifts.max() < found.facts["deflation_error"]
    assert moved.sum() == pytest.approx(np.trace(matrix), abs=1e-8)
    own = [np.linalg.norm(matrix @ v - (v @ matrix @ v) * v) for v in span.T]
    np.testing.assert_allclose(found.outlier_residuals, own, rtol=1e-5)


def test_vectors_stored_in_float32_cost_no_digit_of_the_trace():
    matrix, known = bulk_and_outliers(np.full(40, 0.5), np.array([1e4, -3e3]))
    found = estimate_density(operator(matrix), probes=2, steps=3, seed=0, deflate=known)
    assert found.facts["trace"] == pytest.approx(7020, rel=1e-12)


def test_pairs_that_are_not_within_tolerance_stay_in_the_density():
    matrix, known = bulk_and_outliers(np.linspace(-1, 1, 30), OUTLIERS)
    within = np.array([True, False, True])
    source = operator(matrix)
    for partial in (
        replace(known, within=within),
        replace(known, residuals=np.array([0.0, 0.1, 0.0])),
    ):
        found = estimate_density(source, probes=2, steps=12, seed=0, deflate=partial)
        np.testing.assert_allclose(found.outliers, [30, -8], rtol=1e-9)
        np.testing.assert_allclose(found.nodes.max(axis=1), 12, rtol=1e-6)
        assert (found.facts["deflated"], found.facts["not_deflated"]) == (2, 1)
        assert found.nodes.shape == (2, 12)


@pytest.mark.parametrize(
    ("values", "residuals", "within", "deflated"),
    [
        ([9.0, 5.0, 4.9], [0.1, 0.06, 0.06], [1, 1, 1], [9, 5, 4.9]),  # a cluster, whole
        ([9.0, 5.0, 4.9], [0.1, 0.06, 0.06], [1, 1, 0], [9]),  # mixed with one that is not found
        ([9.0, 5.1, 5.0, 4.9], [0.1, 0.06, 0.06, 0.06], [1, 1, 1, 0], [9]),  # and through a third
        ([9.0, 5.0, 0.05], [0.1, 0.06, 0.06], [1, 1, 1], [9, 5]),  # its sign is not known
        ([5.0, 5.0, 5.0], [0.0, 0.0, 0.0], [1, 1, 1], [5, 5, 5]),  # copies
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1, 1, 1], []),
    ],
)
def test_pairs_that_their_residuals_do_not_separate_stay_too(values, residuals, within, deflated):
    rest = np.linspace(-0.5, 0.5, 20)
    matrix = np.diag(np.concatenate([values, rest]))
    known = spectrum_of(
        np.array(values),
        np.eye(len(matrix))[: len(values)],
        np.array(residuals),
        within=np.array(within, bool),
    )
    found = estimate_density(operator(matrix), probes=1, steps=4, seed=0, deflate=known)
    assert found.outliers.tolist() == deflated
    assert found.facts["probe"] == ("sphere" if deflated else "Rademacher")
    assert found.facts["trace"] == pytest.approx(np.sum(values), abs=3.0)


def test_one_eigenvalue_is_left_when_all_are_known():
    matrix = np.diag([3.0, -2.0, 1.0])
    found = estimate_density(
        operator(matrix),
        probes=2,
        steps=3,
        seed=0,
        deflate=spectrum_of(np.array([3.0, -2.0, 1.0]), np.eye(3)),
    )
    assert found.outliers.tolist() == [3, -2]
    np.testing.assert_allclose(found.nodes, [[1], [1]], atol=1e-14)


def test_a_bulk_of_zeros_has_the_width_of_rounding():
    matrix, known = bulk_and_outliers(np.zeros(30), OUTLIERS)
    found = estimate_density(operator(matrix), probes=2, steps=5, seed=0, deflate=known)
    assert 1e-15 < found.sigma < 1e-8
    single = estimate_density(
        operator(matrix, torch.float32), probes=2, steps=5, seed=0, deflate=known
    )
    assert 30 * 2.0**-23 <= single.sigma < 1e-4


def test_the_bound_holds_for_the_rest():
    bulk = np.linspace(-1, 1, 300)
    matrix, known = bulk_and_outliers(bulk, OUTLIERS)
    found = estimate_density(operator(matrix), probes=2, steps=40, seed=0, deflate=known)
    assert found.facts["w1_share"] == pytest.approx(
        12 / 79 + math.sqrt(math.log(600 / 0.05) / (302 * 2))
    )
    reach = found.nodes.max() - found.nodes.min()
    assert found.facts["w1_bound"] == pytest.approx(found.facts["w1_share"] * reach)
    assert reach == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda s: replace(s, eigenvectors=None), "must hold eigenvectors, got a spectrum without"),
        (lambda s: replace(s, eigenvectors=s.eigenvectors[:, :9]), "of 33 entries .* got 9"),
        (
            lambda s: replace(s, eigenvectors=np.roll(s.eigenvectors, 1, axis=1)),
            "eigenpairs of this operator, got λ = 12 with a residual of .* the same BatchNorm",
        ),
    ],
)
def test_what_are_no_eigenpairs_of_the_operator_is_refused(spoil, text):
    matrix, known = bulk_and_outliers(np.linspace(-1, 1, 30), OUTLIERS)
    with pytest.raises(ValueError, match=text):
        estimate_density(operator(matrix), probes=1, steps=3, seed=0, deflate=spoil(known))


def test_an_empty_deflation_changes_no_node():
    matrix = symmetric(20)
    plain = estimate_density(operator(matrix), probes=2, steps=5, seed=0)
    known = spectrum_of(np.ones(1), np.eye(20)[:1], within=np.array([False]))
    found = estimate_density(operator(matrix), probes=2, steps=5, seed=0, deflate=known)
    np.testing.assert_array_equal(found.nodes, plain.nodes)
    assert found.facts["deflated"] == 0
    assert "deflated" not in plain.facts
