import numpy as np
import pytest
import torch
from dense import attention, classes, conv_batchnorm, dense_hessian, mlp, quadratic, symmetric, tied
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from landscape import Objective, find_eigenpairs
from landscape.layouts import Layout
from landscape.operators import Operator


def diagonal_operator(diagonal):
    """An operator too large to build as a matrix."""
    return Operator(
        product=lambda v: diagonal * v, origin=torch.zeros_like(diagonal), layout=Layout(())
    )


def expected_order(values, which, k):
    if which == "LM":
        return values[np.argsort(-np.abs(values))][:k]
    ascending = np.sort(values)
    if which == "BE":
        low = ascending[: k // 2]
        return np.concatenate([ascending[::-1][: k - len(low)], low[::-1]])
    return ascending[:k] if which == "SA" else ascending[::-1][:k]


@pytest.mark.parametrize("net", [mlp, conv_batchnorm, tied, attention])
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_eigenpairs_of_a_net_are_those_of_its_dense_hessian(net, which):
    model, loss_fn, data = net()
    dense = dense_hessian(model, loss_fn, data)
    objective = Objective(model, loss_fn, data)
    spectrum = find_eigenpairs(objective, k=5, which=which, tolerance=1e-6, seed=0)
    values = np.linalg.eigvalsh(dense)
    scale = np.abs(values).max()
    assert spectrum.converged
    np.testing.assert_allclose(
        spectrum.eigenvalues, expected_order(values, which, 5), rtol=0, atol=1e-8 * scale
    )
    assert spectrum.facts["largest_magnitude"] == pytest.approx(scale, rel=1e-8)
    assert spectrum.facts["operator"] == "Hessian of the mean loss"
    assert spectrum.facts["data_digest"] == objective.facts["data_digest"]


def test_residuals_are_those_of_the_returned_vectors():
    model, loss_fn, data = mlp()
    dense = dense_hessian(model, loss_fn, data)
    spectrum = find_eigenpairs(Objective(model, loss_fn, data), k=4, tolerance=1e-2, seed=0)
    vectors = spectrum.eigenvectors.astype(float)  # stored as float32
    true = np.linalg.norm(vectors @ dense - spectrum.eigenvalues[:, None] * vectors, axis=1)
    np.testing.assert_allclose(spectrum.residuals, true, atol=1e-6)
    assert (spectrum.residuals > 1e-5).any()
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-6)


def test_largest_component_of_an_eigenvector_is_positive():
    for seed in range(4):
        vectors = find_eigenpairs(quadratic(symmetric(9)), k=9, seed=seed).eigenvectors
        assert (vectors[np.arange(9), np.abs(vectors).argmax(1)] > 0).all()


def test_multiple_eigenvalue_of_softmax_regression_comes_back_with_its_multiplicity():
    features, labels = classes(50, (6,), 5)
    model = nn.Linear(6, 5, bias=False).double()
    nn.init.zeros_(model.weight)
    objective = Objective(model, nn.CrossEntropyLoss(), (features, labels))
    covariance = np.linalg.eigvalsh(features.numpy().T @ features.numpy() / 50)
    spectrum = find_eigenpairs(objective, k=4, tolerance=1e-6, seed=0)
    np.testing.assert_allclose(spectrum.eigenvalues, covariance[-1] / 5, rtol=1e-9)
    everything = find_eigenpairs(objective, k=30, which="LA", tolerance=1e-6, seed=0)
    expected = np.sort(np.concatenate([np.repeat(covariance / 5, 4), np.zeros(6)]))[::-1]
    np.testing.assert_allclose(everything.eigenvalues, expected, atol=1e-9)
    assert everything.converged


def test_multiplicity_is_found_where_a_random_start_hardly_sees_it():
    diagonal = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 1e-4
    diagonal[:3], diagonal[3:10] = 1.0, 0.5
    spectrum = find_eigenpairs(diagonal_operator(diagonal), k=5, tolerance=1e-2, seed=0)
    np.testing.assert_allclose(spectrum.eigenvalues, [1, 1, 1, 0.5, 0.5], rtol=1e-4)
    vectors = spectrum.eigenvectors.astype(float)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 5e-4])
def test_values_that_tie_within_tolerance_are_not_chased(spread):
    diagonal = torch.zeros(300, dtype=torch.float64)
    diagonal[:40] = 1 + spread * torch.linspace(0, 1, 40)
    for seed in range(6):
        spectrum = find_eigenpairs(diagonal_operator(diagonal), k=1, tolerance=1e-3, seed=seed)
        assert spectrum.converged
        assert spectrum.matvecs <= 8


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_multiple_of_the_identity_has_one_eigenvalue_as_often_as_there_are_parameters(value):
    spectrum = find_eigenpairs(quadratic(value * np.eye(7)), k=7, seed=0)
    np.testing.assert_allclose(spectrum.eigenvalues, value, atol=1e-15)
    assert spectrum.converged


@pytest.mark.parametrize("size", [1, 2, 3, 13])
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_all_eigenvalues_of_a_small_matrix_come_in_the_order_asked_for(size, which):
    matrix = symmetric(size, seed=size)
    spectrum = find_eigenpairs(quadratic(matrix), k=size, which=which, tolerance=1e-9, seed=0)
    expected = expected_order(np.linalg.eigvalsh(matrix), which, size)
    np.testing.assert_allclose(spectrum.eigenvalues, expected, atol=1e-11)


def test_close_eigenvalues_of_opposite_sign_keep_their_signs():
    values = np.concatenate([[5, 4, -3, 2], [-0.643, 0.642], np.linspace(-0.5, 0.5, 94)])
    rotation = np.linalg.qr(symmetric(100))[0]
    objective = quadratic(rotation.T * values @ rotation)
    spectrum = find_eigenpairs(objective, k=6, which="LM", tolerance=1e-4, seed=0)
    assert spectrum.converged
    np.testing.assert_allclose(spectrum.eigenvalues, [5, 4, -3, 2, -0.643, 0.642], atol=1e-4)
    ends = find_eigenpairs(objective, k=5, which="BE", tolerance=1e-4, seed=0)
    np.testing.assert_allclose(ends.eigenvalues, [5, 4, 2, -0.643, -3], atol=1e-4)


def test_eigenvalues_agree_with_arpack():
    matrix = symmetric(300)
    spectrum = find_eigenpairs(quadratic(matrix), k=8, which="LA", tolerance=1e-8, seed=0)
    operator = LinearOperator((300, 300), matvec=lambda v: matrix @ v)
    reference = eigsh(operator, 8, which="LA", return_eigenvectors=False, tol=1e-12)
    np.testing.assert_allclose(spectrum.eigenvalues, np.sort(reference)[::-1], rtol=1e-10)


def test_a_ragged_split_of_the_data_changes_nothing():
    model, loss_fn, (inputs, targets) = mlp()
    whole = find_eigenpairs(
        Objective(model, loss_fn, (inputs, targets)), k=3, tolerance=1e-7, seed=0
    )
    batches = [(inputs[:32], targets[:32]), (inputs[32:], targets[32:])]
    split = find_eigenpairs(Objective(model, loss_fn, batches), k=3, tolerance=1e-7, seed=0)
    np.testing.assert_allclose(split.eigenvalues, whole.eigenvalues, rtol=1e-12)


def test_an_unused_parameter_adds_eigenvalue_zero():
    class WithUnused(nn.Module):
        def __init__(self, used):
            super().__init__()
            self.used, self.unused = used, nn.Linear(2, 1).double()

        def forward(self, inputs):
            return self.used(inputs)

    model, loss_fn, data = mlp()
    values = np.linalg.eigvalsh(dense_hessian(model, loss_fn, data))
    objective = Objective(WithUnused(model), loss_fn, data)
    spectrum = find_eigenpairs(objective, k=46, which="LA", tolerance=1e-9, seed=0)
    expected = np.sort(np.concatenate([values, np.zeros(3)]))[::-1]
    np.testing.assert_allclose(spectrum.eigenvalues, expected, atol=1e-10)


@pytest.mark.parametrize(("factors", "top"), [((1, 1, 1, 1), 4.0), ((2, 0.5, 4, 0.25), 20.3125)])
def test_deep_scalar_net_has_one_eigenvalue_the_sum_of_inverse_squares(factors, top):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.factors = nn.Parameter(torch.tensor(factors, dtype=torch.float64))

        def forward(self, inputs):
            return inputs * self.factors.prod()

    one = torch.ones(3, 1, dtype=torch.float64)
    objective = Objective(Product(), lambda o, t: (o - t).square().mean() / 2, (one, one))
    spectrum = find_eigenpairs(objective, k=4, tolerance=1e-9, seed=0)
    np.testing.assert_allclose(spectrum.eigenvalues, [top, 0, 0, 0], atol=1e-12)


def test_linear_regression_has_marchenko_pastur_edges():
    features = np.random.default_rng(0).standard_normal((800, 200))
    model = nn.Linear(200, 1, bias=False).double()
    objective = Objective(model, nn.MSELoss(), (features, np.zeros((800, 1))), batch_size=300)
    spectrum = find_eigenpairs(objective, k=2, which="BE", tolerance=1e-5, seed=0)
    exact = 2 * np.linalg.eigvalsh(features.T @ features / 800)[[-1, 0]]
    np.testing.assert_allclose(spectrum.eigenvalues, exact, rtol=1e-8)
    np.testing.assert_allclose(spectrum.eigenvalues, [4.5, 0.5], atol=0.2)


def test_too_few_products_are_said_to_be_too_few():
    objective = quadratic(symmetric(80))
    spectrum = find_eigenpairs(objective, k=6, tolerance=1e-6, seed=0, max_matvecs=14)
    assert not spectrum.converged
    assert not spectrum.facts["complete"]
    assert spectrum.matvecs == 14
    assert (spectrum.residuals > 1e-6 * spectrum.facts["largest_magnitude"]).any()
    assert np.isfinite(spectrum.eigenvalues).all()


def test_pairs_whose_multiplicity_could_not_be_checked_are_not_called_converged():
    full = find_eigenpairs(quadratic(symmetric(80)), k=2, tolerance=1e-3, seed=0)
    cut = find_eigenpairs(
        quadratic(symmetric(80)), k=2, tolerance=1e-3, seed=0, max_matvecs=full.matvecs - 3
    )
    assert (cut.residuals <= 1e-3 * cut.facts["largest_magnitude"]).all()
    assert (full.converged, cut.converged) == (True, False)


def test_a_tolerance_below_the_precision_is_said_to_be_missed():
    model, loss_fn, (inputs, targets) = mlp()
    objective = Objective(model, loss_fn, (inputs, targets), dtype=torch.float32)
    spectrum = find_eigenpairs(objective, k=43, tolerance=1e-12, seed=0)
    assert not spectrum.converged
    assert spectrum.matvecs == 43  # nothing is to be gained by going on


def test_same_seed_gives_same_bits():
    model, loss_fn, data = mlp()
    objective = Objective(model, loss_fn, data)
    first, again, other = (find_eigenpairs(objective, k=3, seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest
    assert (first.residuals != other.residuals).all()


def test_model_and_random_state_are_untouched():
    model, loss_fn, data = conv_batchnorm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    objective = Objective(model, loss_fn, data)
    find_eigenpairs(objective, k=1, seed=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must lie between 1 and the number of parameters, 5, got 0"),
        ({"k": 6}, "between 1 and the number of parameters, 5, got 6"),
        ({"k": 1, "which": "SM"}, "which must be one of LM, LA, SA, BE, got 'SM'"),
        ({"k": 1, "tolerance": 0.0}, "tolerance must be above 0"),
        ({"k": 2, "max_matvecs": 1}, "max_matvecs must be at least k = 2"),
    ],
)
def test_impossible_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        find_eigenpairs(quadratic(np.eye(5)), seed=0, **options)


def test_a_product_that_is_not_finite_is_refused_and_placed():
    matrix = np.diag([1.0, 2.0, np.nan, 4.0])
    objective = quadratic(np.eye(4))
    objective.model.matrix.copy_(torch.tensor(matrix))
    with pytest.raises(ValueError, match=r"of 4 entries of product 1, first in 'theta'"):
        find_eigenpairs(objective, k=1, seed=0)


def test_progress_counts_products_up_to_the_end():
    seen = []
    objective = quadratic(symmetric(20))
    spectrum = find_eigenpairs(objective, k=2, seed=0, progress=lambda *now: seen.append(now[:2]))
    assert [done for done, _ in seen[:-1]] == list(range(1, spectrum.matvecs + 1))
    assert seen[-1] == (spectrum.matvecs, spectrum.matvecs)
