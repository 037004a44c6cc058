"""Directions of whole runs, against all vectors at once."""

import tracemalloc

import numpy as np
import pytest
import torch

from landscape import directions, recorded_vectors, window_statistics
from landscape.__main__ import main
from landscape.layouts import Entry, Layout
from landscape.runs import Run
from landscape.sketches import Sketcher
from landscape.whole_runs import measure_directions
from landscape.writers import RunWriter

SIZE = 400


def planted(count, share=0.5, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, size)) / np.sqrt(size)
    noise[:, 0] += np.sqrt(share / (1 - share))
    return (noise * rng.uniform(1, 2, (count, 1))).astype(np.float32)


def recorded(path, vectors, *, full=True, sketch=0, epoch=20, columns=(), end="finish", skip=()):
    """A run that was written by hand; `columns` of exact cosines are measured as training does."""
    size = vectors.shape[1]
    sketcher = Sketcher(size, sketch, 0, "cpu") if sketch else None
    writer = RunWriter.create(
        path,
        config={"model": "planted", "seed": 0},
        problem={"name": None, "options": {}},
        layout=Layout((Entry(name="w", shape=(size,), offset=0, kind="weight"),)),
        method="SAM",
        recording={"sketch": sketcher.numbers if sketcher else 1},
        provenance={"perturbation": "SAM ρ=0.05"},
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    for step, vector in enumerate(vectors):
        row = {"step": step, "epoch": step / epoch, "lr": 0.1}
        if step not in skip:
            row["displacement_norm"] = float(np.linalg.norm(vector.astype(float)))
            row["effective_samples"] = 0.5
            for lag, name in ((1, "cosine_previous"), (10, "cosine_lag_10")):
                if name in columns and step >= lag and step % lag == 0:
                    row[name] = float(unit[step] @ unit[step - lag])
            if full:
                writer.add_displacement(step, vector)
            if sketcher:
                writer.describe_displacement(
                    step, sketcher(torch.from_numpy(vector)).numpy(), np.ones(1)
                )
        writer.append(row)
    if end == "finish":
        writer.finish()
    elif end == "fail":
        writer.fail("a kill")
    else:
        writer.flush_all()
        return writer
    return Run(path)


def brute(vectors):
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    return unit @ unit.T


def mean_of_pairs(cosines):
    count = len(cosines)
    return (cosines.sum() - count) / (count * (count - 1))


def test_full_vectors_give_the_numbers_of_all_pairs(tmp_path):
    vectors = planted(500)
    result = measure_directions(recorded(tmp_path / "a", vectors), window=60, lags=(1, 7), seed=0)
    cosines = brute(vectors)
    assert result.start.tolist() == list(range(0, 500, 60))
    assert result.stop[-1] == 500
    assert result.count.tolist() == [60] * 8 + [20]
    assert result.vectors == 500
    assert result.run_mean_cosine == pytest.approx(mean_of_pairs(cosines), abs=1e-6)
    for w, part in enumerate(slice(a, b) for a, b in zip(result.start, result.stop, strict=True)):
        own = cosines[part, part]
        assert result.mean_cosine[w] == pytest.approx(mean_of_pairs(own), abs=1e-6)
        assert result.resultant_length[w] == pytest.approx(np.sqrt(own.mean()), abs=1e-6)
        later = np.arange(max(part.start, 7), part.stop)
        np.testing.assert_allclose(
            [result.lag_cosine[w, 1], result.lag_low[w, 1]],
            [cosines[later, later - 7].mean(), np.quantile(cosines[later, later - 7], 0.05)],
            atol=1e-6,
        )
    between = cosines[60:120, 300:360]
    assert result.pairs[1, 5] == pytest.approx(between.mean(), abs=1e-6)
    lengths = [np.sqrt(cosines[part, part].mean()) for part in (slice(60, 120), slice(300, 360))]
    assert result.matrix[1, 5] == pytest.approx(between.mean() / np.prod(lengths), abs=1e-6)
    np.testing.assert_allclose(np.diag(result.pairs), result.mean_cosine)
    norms = np.linalg.norm(vectors[:60], axis=1)
    assert result.norm[0] == pytest.approx(np.median(norms), rel=1e-5)
    assert result.norm_high[0] == pytest.approx(np.quantile(norms, 0.95), rel=1e-5)
    assert result.effective_share.tolist() == [0.5] * 9
    for errors in (result.mean_cosine_error, result.matrix_error, result.lag_error):
        assert not errors.any()
    assert result.facts["vectors"] == "full vectors"


def test_the_nulls_are_those_of_all_pairs(tmp_path):
    vectors = planted(120, share=0.2)
    result = measure_directions(recorded(tmp_path / "a", vectors), window=60, seed=0)
    cosines = brute(vectors)
    for low, high, of in (
        (result.null_low[1], result.null_high[1], cosines[60:, 60:]),
        (result.run_null_low, result.run_null_high, cosines),
    ):
        expected = np.array(directions._null_band(of, 5))
        np.testing.assert_allclose([low, high], expected, atol=0.12 * np.ptp(expected))


def test_sketches_agree_with_full_vectors_within_their_stated_errors(tmp_path):
    vectors = planted(160, size=3000)
    exact = measure_directions(recorded(tmp_path / "full", vectors), seed=0)
    run = recorded(tmp_path / "sketch", vectors, full=False, sketch=256)
    found = measure_directions(run, seed=0)
    assert found.facts["vectors"] == "sketches of 256 numbers"
    names = ("mean_cosine", "matrix", "pairs", "lag_cosine", "run_mean_cosine")
    for name in names:
        error = getattr(found, name.replace("lag_cosine", "lag") + "_error")
        off = np.abs(np.array(getattr(found, name)) - getattr(exact, name))
        known = np.isfinite(off) & (np.asarray(error) > 1e-9)
        assert known.any()
        assert (off[known] < 4.5 * np.asarray(error)[known]).all(), name
        assert (off[known] > 0).any()
    np.testing.assert_allclose(found.participation, exact.participation, rtol=0.15)
    whole = measure_directions(
        recorded(tmp_path / "whole", vectors, full=False, sketch=3000), seed=0
    )
    np.testing.assert_allclose(whole.matrix, exact.matrix, atol=1e-5)
    assert not whole.matrix_error.any()


def test_cosines_that_training_measured_go_before_those_of_sketches(tmp_path):
    vectors = planted(80, size=3000)
    columns = ("cosine_previous", "cosine_lag_10")
    run = recorded(tmp_path / "a", vectors, full=False, sketch=128, columns=columns, epoch=40)
    result = measure_directions(run, seed=0)
    cosines, later = brute(vectors), np.arange(40, 80)
    assert result.lag_cosine[1, 0] == pytest.approx(cosines[later, later - 1].mean(), abs=1e-6)
    assert result.lag_error[1, 0] == 0
    exact = later % 10 == 0
    _, sketches = run.sketches()
    short = brute(sketches)[later, later - 10]
    expected = np.where(exact, cosines[later, later - 10], short).mean()
    assert result.lag_cosine[1, 1] == pytest.approx(expected, abs=1e-6)
    alone = measure_directions(
        recorded(tmp_path / "b", vectors, full=False, sketch=128, epoch=40), seed=0
    )
    assert 0 < result.lag_error[1, 1] < 0.95 * alone.lag_error[1, 1]
    assert np.isnan(result.lag_cosine[0, 2])


def test_windows_are_epochs_and_equal_or_permuted_windows_say_so(tmp_path):
    first, second = planted(20, seed=1), planted(20, seed=2, share=0.2)
    a = measure_directions(recorded(tmp_path / "a", np.concatenate([first, first, second])), seed=0)
    b = measure_directions(recorded(tmp_path / "b", np.concatenate([second, first, first])), seed=0)
    assert a.start.tolist() == [0, 20, 40]
    assert a.matrix[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert a.matrix[0, 2] < 0.9
    order = [2, 0, 1]
    np.testing.assert_allclose(b.matrix, a.matrix[np.ix_(order, order)], atol=1e-6)
    np.testing.assert_allclose(b.pairs, a.pairs[np.ix_(order, order)], atol=1e-6)
    np.testing.assert_allclose(b.mean_cosine, a.mean_cosine[order], atol=1e-6)
    assert a.perturbation == "SAM ρ=0.05"


def test_vectors_without_direction_missing_steps_and_short_windows_are_counted(tmp_path):
    vectors = planted(80)
    vectors[3], vectors[25] = 0, np.inf
    gone = (10, *range(41, 60))
    result = measure_directions(
        recorded(tmp_path / "a", vectors, skip=gone, end="fail"), block=2, seed=0
    )
    assert result.count.tolist() == [18, 19, 1, 20]
    told = {"vanished": 1, "not_finite": 1, "missing_steps": 20, "short_windows": 1}
    assert {name: result.facts[name] for name in told} == told
    assert result.facts["status"] == "failed"
    assert np.isnan(result.mean_cosine).tolist() == [False, False, True, False]
    assert np.isnan(result.interval_low).tolist() == [False, False, True, False]
    kept = [i for i in range(20) if i not in (3, 10)]
    expected = mean_of_pairs(brute(vectors[kept]))
    assert result.mean_cosine[0] == pytest.approx(expected, abs=1e-6)
    assert np.isfinite(result.run_mean_cosine)
    assert result.matrix[2, 2] == 1


def test_a_run_that_is_still_written_is_measured_as_far_as_it_goes(tmp_path, capsys):
    writer = recorded(tmp_path / "a", planted(50), end="open")
    assert main(["directions", str(tmp_path / "a"), "--lags", "1,5"]) == 0
    told = capsys.readouterr().out
    assert "directions of a at step 50" in told
    assert "vectors 50, windows 3" in told
    assert main(["directions", str(tmp_path / "a"), "--lags", "1,5"]) == 0
    assert "measured before" in capsys.readouterr().out
    (stored,) = Run(tmp_path / "a").results("directions")
    assert stored.facts["status"] == "running"
    writer.finish()


def test_mistakes_are_said_with_what_to_do(tmp_path, capsys):
    empty = recorded(tmp_path / "none", planted(4), full=False)
    with pytest.raises(ValueError, match="--protocol frozen"):
        measure_directions(empty, seed=0)
    run = recorded(tmp_path / "a", planted(40), epoch=1)
    with pytest.raises(ValueError, match="windows of more steps"):
        measure_directions(run, seed=0)
    for wrong in ({"window": 1}, {"lags": (0, 1)}, {"lags": (1, 1)}, {"lags": ()}, {"block": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            measure_directions(run, **({"window": 10} | wrong), seed=0)
    assert main(["directions"]) == 2
    assert main(["directions", str(run.path), "--lags", "ten"]) == 2
    assert "lags must be whole numbers" in capsys.readouterr().err


def test_what_does_not_fit_memory_is_refused(tmp_path, monkeypatch):
    run = recorded(tmp_path / "a", planted(40))
    monkeypatch.setattr(recorded_vectors, "_HELD", 10 * SIZE)
    measure_directions(run, window=10, seed=0)
    with pytest.raises(ValueError, match="fewer steps"):
        measure_directions(run, window=11, seed=0)
    monkeypatch.setattr(recorded_vectors, "_WINDOWS", 3)
    with pytest.raises(ValueError, match="windows of 14 steps"):
        measure_directions(run, window=10, seed=0)
    monkeypatch.setattr(recorded_vectors, "_WIDEST", SIZE - 1)
    with pytest.raises(ValueError, match="record sketches"):
        measure_directions(run, window=20, seed=0)


def test_memory_does_not_grow_with_the_number_of_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded_vectors, "_BLOCK", 64)
    monkeypatch.setattr(window_statistics, "DRAWS", 256)
    peaks = []
    for count in (128, 1024):
        run = recorded(tmp_path / str(count), planted(count, size=2000), full=False, sketch=1024)
        tracemalloc.start()
        measure_directions(run, window=64, lags=(1, 10), seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    vectors = 1024 * 1024 * 4
    assert peaks[1] - peaks[0] < 0.25 * vectors
