import math

import numpy as np
import pytest
import torch
from dense import attention, conv_batchnorm, dense_hessian, mlp, symmetric, tied
from scipy import stats

from landscape import Objective
from landscape.layouts import Entry, Layout
from landscape.operators import Operator
from landscape.traces import estimate_trace


def operator(matrix, dtype=torch.float64, names=("a.weight", "a.bias", "b.weight")):
    """A matrix as an operator, its rows split over tensors."""
    matrix = torch.as_tensor(matrix, dtype=dtype)
    bounds = [len(matrix) * i // len(names) for i in range(len(names) + 1)]
    entries = [
        Entry(name=name, shape=(stop - start,), offset=start, kind="weight")
        for name, start, stop in zip(names, bounds, bounds[1:], strict=False)
    ]
    return Operator(
        product=lambda v: matrix @ v,
        origin=torch.zeros(len(matrix), dtype=dtype),
        layout=Layout(tuple(entries)),
    )


def layer_traces(matrix, sizes):
    ends = np.cumsum(sizes)
    return np.array(
        [
            np.trace(matrix[stop - size : stop, stop - size : stop])
            for size, stop in zip(sizes, ends, strict=True)
        ]
    )


def decaying(size=120, power=1.5, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    return basis @ np.diag(np.arange(1, size + 1.0) ** -power) @ basis.T


def test_samples_have_the_mean_and_variance_of_hutchinson():
    matrix = symmetric(30)
    found = estimate_trace(operator(matrix), probes=4000, seed=0)
    variance = 2 * ((matrix**2).sum() - (np.diag(matrix) ** 2).sum())
    assert found.samples.var(ddof=1) == pytest.approx(variance, rel=0.1)
    assert found.standard_error == pytest.approx(math.sqrt(variance / 4000), rel=0.05)
    assert abs(found.trace - np.trace(matrix)) < 3 * found.standard_error
    ends = stats.t.interval(0.95, 3999, found.samples.mean(), stats.sem(found.samples))
    np.testing.assert_allclose([found.interval_low, found.interval_high], ends, rtol=1e-10)
    assert found.matvecs == len(found.samples) == 4000
    assert found.size == 30


def test_a_diagonal_takes_one_probe_and_one_probe_tells_no_error():
    values = np.array([3.0, -1.0, 0.5, 4.0])
    found = estimate_trace(operator(np.diag(values)), probes=1, seed=5)
    assert found.trace == pytest.approx(6.5, rel=1e-15)
    assert found.frobenius == pytest.approx(np.linalg.norm(values), rel=1e-15)
    assert found.effective_rank == pytest.approx(6.5**2 / (values**2).sum())
    np.testing.assert_allclose(found.layer_trace, [2.0, 4.5])
    errors = [found.standard_error, found.interval_low, found.interval_high]
    errors += [found.frobenius_error, found.effective_rank_error, *found.layer_error]
    assert np.isnan(errors).all()


@pytest.mark.parametrize("seed", range(3))
def test_hutch_plus_plus_is_exact_up_to_a_rank_of_a_third_of_its_products(seed):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((50, 5)))[0]
    matrix = basis @ np.diag([9.0, 4.0, -7.0, 1.0, -0.2]) @ basis.T
    found = estimate_trace(operator(matrix), probes=15, method="hutch++", seed=seed)
    assert found.trace == pytest.approx(6.8, rel=1e-12)
    assert found.frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
    assert found.standard_error < 1e-12
    np.testing.assert_allclose(found.layer_trace, layer_traces(matrix, [33, 17]), atol=1e-12)
    fewer = estimate_trace(operator(matrix), probes=12, method="hutch++", seed=seed)
    assert abs(fewer.trace - 6.8) > 1e-6


def test_hutch_plus_plus_spends_just_its_products():
    found = estimate_trace(operator(symmetric(40)), probes=20, method="hutch++", seed=0)
    assert found.matvecs == 20
    assert found.facts["sketch"] == 6
    assert len(found.samples) == found.facts["probes"] == 8
    # What a sketch of rank 1 leaves over goes into probes.
    low = estimate_trace(operator(np.ones((9, 9))), probes=20, method="hutch++", seed=0)
    assert (low.facts["sketch"], low.matvecs, len(low.samples)) == (1, 20, 13)


def test_hutch_plus_plus_is_nearer_where_eigenvalues_decay():
    matrix = decaying()
    errors = {
        method: [
            estimate_trace(operator(matrix), probes=60, method=method, seed=s).trace
            - np.trace(matrix)
            for s in range(30)
        ]
        for method in ("hutchinson", "hutch++")
    }
    plain, sketched = (np.sqrt(np.mean(np.square(errors[m]))) for m in ("hutchinson", "hutch++"))
    assert sketched < plain / 8


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_every_estimate_is_unbiased_and_its_error_is_its_spread(method):
    matrix = decaying(40, 0.5, seed=3) + 0.1 * symmetric(40, seed=4)
    found = [
        estimate_trace(operator(matrix), probes=60, method=method, seed=seed) for seed in range(200)
    ]
    trace, norm = np.trace(matrix), np.linalg.norm(matrix)
    layers = layer_traces(matrix, [26, 14])
    for values, errors, exact in [
        ([f.trace for f in found], [f.standard_error for f in found], trace),
        ([f.frobenius for f in found], [f.frobenius_error for f in found], norm),
        (
            [f.effective_rank for f in found],
            [f.effective_rank_error for f in found],
            trace**2 / norm**2,
        ),
        ([f.layer_trace[0] for f in found], [f.layer_error[0] for f in found], layers[0]),
        ([f.layer_trace[1] for f in found], [f.layer_error[1] for f in found], layers[1]),
    ]:
        spread = np.std(values, ddof=1)
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.15)
        assert abs(np.mean(values) - exact) < 3.5 * spread / math.sqrt(200) + 0.1 * spread


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_the_interval_holds_the_trace_as_often_as_it_says(method):
    matrix = symmetric(24)
    inside = 0
    for seed in range(700):
        found = estimate_trace(operator(matrix), probes=18, method=method, seed=seed)
        inside += found.interval_low <= np.trace(matrix) <= found.interval_high
    assert 0.93 <= inside / 700 <= 0.97


@pytest.mark.parametrize("net", [mlp, conv_batchnorm, tied, attention])
@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_layers_of_a_net_have_the_traces_of_their_blocks(net, method):
    model, loss_fn, data = net()
    exact = dense_hessian(model, loss_fn, data)
    found = estimate_trace(Objective(model, loss_fn, data), probes=60, method=method, seed=0)
    owners = {}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        owners[owner] = owners.get(owner, 0) + parameter.numel()
    assert dict(zip(found.layer_names, found.layer_size, strict=True)) == owners
    blocks = layer_traces(exact, list(owners.values()))
    assert (np.abs(found.layer_trace - blocks) < 4 * found.layer_error + 1e-12).all()
    assert abs(found.trace - np.trace(exact)) < 4 * found.standard_error
    assert found.layer_trace.sum() == pytest.approx(found.trace, rel=1e-13)
    assert found.facts["operator"] == "Hessian of the mean loss"


def test_tensors_of_one_module_are_one_layer_wherever_they_lie():
    names = ("a.weight", "b.weight", "a.bias", "alone")
    found = estimate_trace(operator(np.diag([1.0, 2.0, 4.0, 8.0]), names=names), probes=2, seed=0)
    assert found.layer_names == ("a", "b", "alone")
    np.testing.assert_allclose(found.layer_trace, [5, 2, 8])
    assert found.layer_size.tolist() == [2, 1, 1]


@pytest.mark.filterwarnings("ignore")
def test_curvlinops_agrees_in_expectation():
    from curvlinops import hutchinson_trace, hutchpp_trace

    matrix = torch.as_tensor(decaying(30, 0.7))
    peers = {"hutchinson": hutchinson_trace, "hutch++": hutchpp_trace}
    for method, peer in peers.items():
        torch.manual_seed(0)
        theirs = [float(peer(matrix, num_matvecs=12)) for _ in range(150)]
        found = [
            estimate_trace(operator(matrix), probes=12, method=method, seed=s) for s in range(150)
        ]
        ours = [f.trace for f in found]
        spread = math.hypot(np.std(ours), np.std(theirs)) / math.sqrt(150)
        assert abs(np.mean(ours) - np.mean(theirs)) < 3.5 * spread
        assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.25)


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_nothing_is_nothing(method):
    found = estimate_trace(operator(np.zeros((6, 6))), probes=6, method=method, seed=0)
    assert found.trace == found.standard_error == found.frobenius == found.frobenius_error == 0
    assert math.isnan(found.effective_rank)
    assert math.isnan(found.effective_rank_error)
    assert found.matvecs == 6


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_float32_gives_the_same_to_its_rounding(method):
    matrix = decaying()
    exact, single = (
        estimate_trace(operator(matrix, dtype), probes=30, method=method, seed=0)
        for dtype in (torch.float64, torch.float32)
    )
    np.testing.assert_allclose(single.samples, exact.samples, rtol=1e-5)


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ({"probes": 0}, "probes must be at least 1 for hutchinson, got 0"),
        ({"probes": 2, "method": "hutch++"}, "probes must be at least 3 for hutch"),
        ({"probes": 2, "method": "xtrace"}, "method must be one of hutchinson, hutch"),
    ],
)
def test_what_cannot_be_estimated_is_refused(named, text):
    with pytest.raises(ValueError, match=text):
        estimate_trace(operator(np.eye(3)), seed=0, **named)


def test_progress_tells_the_trace_with_its_error():
    seen = []
    found = estimate_trace(
        operator(symmetric(20)), probes=5, seed=0, progress=lambda *now: seen.append(now)
    )
    assert [now[:2] for now in seen] == [(i, 5) for i in (1, 2, 3, 4, 5, 5)]
    assert seen[0][2] == ""
    assert seen[-1][2] == f"trace {found.trace:.4g} ± {found.standard_error:.2g}"


class Kept:
    """A savepoint in memory, due after every vector."""

    def __init__(self):
        self.state, self.saves = None, 0

    def load(self):
        return self.state

    def due(self):
        return True

    def save(self, state):
        self.state, self.saves = {k: np.array(v) for k, v in state.items()}, self.saves + 1


def stopped(source, after, error):
    """The operator, which fails in the product after so many."""
    left = iter(range(after))

    def product(v):
        if next(left, None) is None:
            raise error
        return source.product(v)

    return Operator(product=product, origin=source.origin, layout=source.layout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_a_killed_estimate_goes_on_to_the_same_bits_and_repeats_no_product(method, dtype):
    source = operator(symmetric(30), dtype)
    asked = {"probes": 9, "method": method, "seed": 2}
    whole = estimate_trace(source, **asked)
    for after in range(9):
        kept = Kept()
        with pytest.raises(RuntimeError, match="killed"):
            estimate_trace(stopped(source, after, RuntimeError("killed")), savepoint=kept, **asked)
        assert kept.saves == after
        rest = stopped(source, 9 - after, RuntimeError("too many"))
        assert estimate_trace(rest, savepoint=kept, **asked).digest == whole.digest


def test_progress_goes_on_from_what_was_saved():
    source, kept, seen = operator(symmetric(30)), Kept(), []
    estimate_trace(source, probes=2, seed=0, savepoint=kept)
    estimate_trace(
        source, probes=4, seed=0, savepoint=kept, progress=lambda *now: seen.append(now[0])
    )
    assert seen == [3, 4, 4]


def test_a_saved_state_of_another_question_is_left_alone():
    source = operator(symmetric(30))
    for other in ({"seed": 3}, {"method": "hutch++"}, {"source": operator(symmetric(9))}):
        kept = Kept()
        estimate_trace(**{"source": source, "probes": 9, "seed": 2, "savepoint": kept, **other})
        found = estimate_trace(source, probes=9, seed=2, savepoint=kept)
        assert found.digest == estimate_trace(source, probes=9, seed=2).digest


def test_more_probes_go_on_from_fewer_and_fewer_take_the_first():
    source, kept = operator(symmetric(30)), Kept()
    estimate_trace(source, probes=6, seed=2, savepoint=kept)
    for probes in (9, 4):
        found = estimate_trace(source, probes=probes, seed=2, savepoint=kept)
        assert found.digest == estimate_trace(source, probes=probes, seed=2).digest


@pytest.mark.parametrize(("method", "after"), [("hutchinson", 4), ("hutch++", 10)])
def test_ctrl_c_gives_the_probes_that_are_finished_and_keeps_them(method, after):
    source, kept = operator(symmetric(30)), Kept()
    kept.due = lambda: False
    asked = {"probes": 12, "method": method, "seed": 2, "savepoint": kept}
    found = estimate_trace(stopped(source, after, KeyboardInterrupt()), **asked)
    whole = estimate_trace(source, **{**asked, "savepoint": None})
    done = len(found.samples)
    assert found.facts["interrupted"] is True
    assert found.facts["probes"] == done
    assert found.matvecs == after
    assert done == (4 if method == "hutchinson" else 2)
    np.testing.assert_array_equal(found.samples, whole.samples[:done])
    assert "interrupted" not in whole.facts
    assert estimate_trace(source, **asked).digest == whole.digest


def test_ctrl_c_before_anything_is_known_goes_through_and_keeps_the_sketch():
    source, kept = operator(symmetric(30)), Kept()
    kept.due = lambda: False
    asked = {"probes": 12, "method": "hutch++", "seed": 2, "savepoint": kept}
    with pytest.raises(KeyboardInterrupt):
        estimate_trace(stopped(source, 6, KeyboardInterrupt()), **asked)
    assert len(kept.state["basis"]) == 4
    assert len(kept.state["inside"]) == 2
