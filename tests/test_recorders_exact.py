"""What the recorder measures of every step, against the full vectors and numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from landscape import step_measures, step_writing
from landscape.directions import inner_products
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.step_measures import PRODUCTS, StepMeasures

SIZES = (12, 4, 4, 4, 8, 2)
STEPS, EVERY = 230, 40


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def drawn(count, seed=0):
    """Vectors with a common direction, [count, 34]."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=34) / 2 + rng.normal(size=(count, 34))).astype(np.float32)


def recorder_of(path, **options):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return Recorder(path, net, optimizer, **{"checkpoint_every": EVERY} | options)


def record(path, vectors, **options):
    with recorder_of(path, **options) as recorder:
        for vector in vectors:
            recorder.step(1.0, displacement=None if vector is None else torch.tensor(vector))
    return Run(path)


def unit(vectors):
    wide = vectors.astype(float)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    vectors = drawn(STEPS)
    return record(tmp_path_factory.mktemp("exact") / "a", vectors), vectors


def test_cosines_of_lag_1_10_and_100_are_exact_where_they_are_measured(recorded):
    run, vectors = recorded
    cosines = unit(vectors) @ unit(vectors).T
    for lag, column in ((1, "cosine_previous"), (10, "cosine_lag_10"), (100, "cosine_lag_100")):
        expected = np.full(STEPS, np.nan)
        for step in range(lag, STEPS, lag):
            expected[step] = cosines[step, step - lag]
        np.testing.assert_allclose(run.steps[column], expected, atol=1e-12, err_msg=column)


def test_the_running_mean_is_that_of_the_earlier_steps_of_the_window(recorded):
    run, vectors = recorded
    expected = np.full(STEPS, np.nan)
    for step in range(STEPS):
        before = unit(vectors)[step // EVERY * EVERY : step].sum(0)
        if before.any():
            expected[step] = unit(vectors)[step] @ before / np.linalg.norm(before)
    np.testing.assert_allclose(run.steps["cosine_mean"], expected, atol=1e-6)


def test_windows_hold_the_mean_over_all_pairs_though_no_pair_was_formed(recorded):
    run, vectors = recorded
    windows = run.windows
    assert windows["start"].tolist() == [0, 40, 80, 120, 160, 200]
    assert windows["stop"].tolist() == [40, 80, 120, 160, 200, 230]
    assert windows["count"].tolist() == [40] * 5 + [30]
    for row, (start, stop) in enumerate(zip(windows["start"], windows["stop"], strict=True)):
        u = unit(vectors[int(start) : int(stop)])
        pairs = (u @ u.T)[~np.eye(len(u), dtype=bool)]
        assert windows["mean_cosine"][row] == pytest.approx(pairs.mean(), abs=1e-6)
        length = np.linalg.norm(u.mean(0))
        assert windows["resultant_length"][row] == pytest.approx(length, abs=1e-6)


def test_norms_by_tensor_are_those_of_the_layout_s_tensors(recorded):
    run, vectors = recorded
    steps, norms = run.tensor_norms()
    assert steps.tolist() == list(range(STEPS))
    parts = np.split(vectors, np.cumsum(SIZES)[:-1], axis=1)
    expected = np.stack([np.linalg.norm(part, axis=1) for part in parts], 1)
    np.testing.assert_allclose(norms, expected, rtol=1e-6)
    assert [entry.size for entry in run.layout] == list(SIZES)
    np.testing.assert_allclose(
        np.linalg.norm(norms, axis=1), run.steps["displacement_norm"], rtol=1e-6
    )


def test_sketches_are_kept_of_every_step_whatever_is_kept_in_full(tmp_path):
    vectors = drawn(25)
    for record_, kept in (("full", range(25)), ("every:10", (0, 10, 20)), ("sketch", ())):
        run = record(tmp_path / record_.replace(":", "-"), vectors, record=record_)
        assert run.displacement_steps.tolist() == list(kept)
        steps, sketches = run.sketches()
        assert steps.tolist() == run.recorded_steps.tolist() == list(range(25))
        # 34 parameters: the sketch is a turn of the vector with signs, which keeps all products
        np.testing.assert_allclose(
            inner_products(sketches, sketches),
            inner_products(vectors, vectors),
            rtol=1e-5,
            atol=1e-4,
        )
        assert run.recording["asked"] == record_
    assert np.array_equal(run.sketches(3, 7)[1], sketches[3:7])


def test_a_shorter_sketch_has_the_asked_length_and_another_seed_another_map(tmp_path):
    vectors = drawn(3)
    one, same, other = (
        record(tmp_path / str(i), vectors, sketch=8, sketch_seed=seed).sketches()[1]
        for i, seed in enumerate((0, 0, 1))
    )
    assert one.shape == (3, 8)
    assert one.dtype == np.float32
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_steps_without_direction_are_left_out_of_a_window_and_nan_stays(tmp_path):
    vectors = list(drawn(12))
    vectors[2], vectors[3] = np.zeros(34, np.float32), None
    vectors[9] = np.full(34, np.nan, np.float32)
    run = record(tmp_path / "a", vectors, checkpoint_every=6)
    assert run.windows["count"].tolist() == [4, 5]
    u = unit(np.stack([vectors[i] for i in (0, 1, 4, 5)]))
    expected = (u @ u.T)[~np.eye(4, dtype=bool)].mean()
    assert run.windows["mean_cosine"][0] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(run.windows["mean_cosine"][1])
    assert run.sketches()[0].tolist() == [0, 1, 2, *range(4, 12)]
    assert np.isnan(run.steps["displacement_norm"][9])
    assert np.isnan(run.steps["cosine_previous"][[0, 2, 3, 4, 9, 10]]).all()
    assert np.isfinite(run.steps["cosine_previous"][[1, 5, 6, 7, 8, 11]]).all()


def test_one_vector_in_a_window_has_no_pairs(tmp_path):
    run = record(tmp_path / "a", drawn(3), checkpoint_every=2)
    assert run.windows["count"].tolist() == [2, 1]
    assert run.windows["resultant_length"][1] == pytest.approx(1, abs=1e-6)
    assert math.isnan(run.windows["mean_cosine"][1])


def test_effective_samples_are_a_share_of_the_batch(tmp_path):
    with recorder_of(tmp_path / "a") as recorder:
        recorder.step(1.0, sample_weights=torch.ones(7))
        recorder.step(1.0, sample_weights=torch.tensor([0.0, 3.0, 0.0, 0.0]))
        recorder.step(1.0, sample_weights=torch.tensor([1.0, 2.0]))
        recorder.step(1.0, sample_weights=torch.zeros(3))
        recorder.step(1.0)
    found = Run(tmp_path / "a").steps["effective_samples"]
    np.testing.assert_allclose(found, [1, 0.25, 9 / 10, np.nan, np.nan])


def test_what_is_given_may_change_at_once(tmp_path):
    vector = torch.arange(34.0)
    loss, weights = torch.tensor(1.0), torch.ones(4)
    with recorder_of(tmp_path / "a") as recorder:
        recorder.step(loss, displacement=vector, sample_weights=weights)
        for tensor in (vector, loss, weights):
            tensor.fill_(math.nan)
        with torch.no_grad():
            for parameter in recorder._model.parameters():
                parameter.fill_(math.nan)
    run = Run(tmp_path / "a")
    assert run.displacements()[1][0].tolist() == list(range(34))
    assert run.steps["loss"].tolist() == run.steps["effective_samples"].tolist() == [1.0]
    assert np.isfinite(run.checkpoint(0).theta).all()


def test_rows_can_be_read_while_training_goes_on(tmp_path):
    with recorder_of(tmp_path / "a") as recorder:
        for vector in drawn(7):
            recorder.step(1.0, displacement=torch.tensor(vector))
        recorder.flush()
        run = Run(tmp_path / "a")
        assert run.steps["step"].tolist() == run.displacement_steps.tolist() == list(range(7))
        assert len(run.sketches()[0]) == 7


def test_memory_stays_bounded_by_waiting_and_the_waiting_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(step_writing, "_QUEUE_BYTES", 1)
    with recorder_of(tmp_path / "a") as recorder:
        for vector in drawn(100):
            recorder.step(1.0, displacement=torch.tensor(vector))
        waited = recorder._writing.waited
    run = Run(tmp_path / "a")
    assert 0 < waited <= run.summary["recording_waited"] < 60
    assert run.displacement_steps.tolist() == list(range(100))


@pytest.mark.parametrize(("kind", "bound"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
@pytest.mark.parametrize("length", [1.0, 1e-7, 1e7])
def test_rounding_to_two_bytes_is_as_small_as_stated_whatever_the_length(
    kind, bound, length, tmp_path
):
    vectors = drawn(20) * np.float32(length)
    run = record(tmp_path / "a", vectors, record_dtype=kind)
    _, kept = run.displacements()
    relative = np.abs(kept - vectors) / np.abs(vectors)
    assert 0 < np.median(relative) < relative.max() <= bound
    assert run.recording["dtype"] == kind
    assert "rounded" in run.recording["reason"]
    exact = record(tmp_path / "b", vectors)
    for column, values in exact.steps.items():  # scalars and sketches are of what was added
        np.testing.assert_array_equal(run.steps[column], values)
    assert np.array_equal(run.sketches()[1], exact.sketches()[1])
    size = {r.path.name: sum(f.stat().st_size for f in r.path.rglob("disp*")) for r in (run, exact)}
    assert size["a"] < size["b"]


def test_a_half_precision_model_is_measured_in_full(tmp_path):
    net = make_net().bfloat16()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    vector = torch.full((34,), 1 / 3).bfloat16()
    with Recorder(tmp_path / "a", net, optimizer, checkpoint_every=9) as recorder:
        recorder.step(1.0, displacement=vector)
    expected = vector.double().norm().item()
    assert Run(tmp_path / "a").steps["displacement_norm"][0] == pytest.approx(expected, rel=1e-12)


def test_products_of_long_vectors_are_summed_part_by_part(monkeypatch):
    monkeypatch.setattr(step_measures, "_COLUMNS", 15)
    e, g, h = torch.from_numpy(drawn(3))
    measures = StepMeasures(34, torch.device("cpu"))
    assert measures.close_window().tolist() == [0, 0]  # before anything was added
    measures.measure(0, e, g, h)
    found = dict(zip(PRODUCTS, measures.measure(1, g, h, e).tolist(), strict=True))
    a, b, c = (vector.double().numpy() for vector in (g, h, e))
    unit = c / np.linalg.norm(c)
    expected = {"ee": a @ a, "gg": b @ b, "hh": c @ c, "eg": a @ b, "eh": a @ c, "ep": a @ c}
    expected |= {"pp": c @ c, "em": a @ unit, "mm": 1.0}
    for name, value in expected.items():
        tolerance = 1e-6 if name in ("em", "mm") else 1e-12  # the sum is kept in float32
        assert found[name] == pytest.approx(value, rel=tolerance), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_run_on_a_gpu_reads_as_one_on_the_cpu(dtype, tmp_path):
    vectors, runs = drawn(130), {}
    for device in ("cpu", "cuda"):
        net = make_net().to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        options = {"checkpoint_every": EVERY, "record_dtype": dtype, "sketch": 8}
        with Recorder(tmp_path / device, net, optimizer, **options) as recorder:
            for vector in vectors:
                moved = torch.tensor(vector, device=device)
                recorder.step(moved.sum(), displacement=moved, gradient=2 * moved)
                moved.zero_()
        runs[device] = Run(tmp_path / device)
    cpu, gpu = runs["cpu"], runs["cuda"]
    assert gpu.provenance["device"].startswith("cuda")
    for column, values in cpu.steps.items():
        np.testing.assert_allclose(gpu.steps[column], values, rtol=1e-5, atol=1e-6, err_msg=column)
    assert np.array_equal(gpu.displacements()[1], cpu.displacements()[1])
    np.testing.assert_allclose(gpu.sketches()[1], cpu.sketches()[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gpu.windows["mean_cosine"], cpu.windows["mean_cosine"], atol=1e-6)
