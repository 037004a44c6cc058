import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from curvature_samples import curvature, sharpness, stability
from figure_samples import consistency, spectrum
from samples import LAYOUT
from scipy import stats

from landscape.comparisons import compare_groups, compare_readings
from landscape.groups import Group, Pairs, find_group, pair_groups, settings_apart
from landscape.intervals import sign_flip_probability, t_quantile, welch_interval
from landscape.runs import Run, RunFileError
from landscape.scalars import Reading, list_scalars, read_scalar
from landscape.writers import RunWriter

A = np.array([0.52, 0.55, 0.49, 0.58])
B = np.array([0.50, 0.51, 0.48, 0.53])


def made(path, seed, loss=0.5, *, method="sgd", losses=(), **settings):
    """A finished run of few rows, two to an epoch."""
    config = {"seed": seed, "method": method, "lr": 0.1, **settings}
    writer = RunWriter.create(
        path,
        config={k: v for k, v in config.items() if v is not None},
        problem={"name": "x", "options": {}},
        layout=LAYOUT,
        method=method.upper(),
    )
    for step, value in enumerate(losses):
        norm = 1.0 + step if step % 2 else math.nan
        writer.append({"step": step, "epoch": step / 2, "loss": value, "gradient_norm": norm})
        writer.add_evaluation(step + 1, 10 * value, 0.5)
    size = np.zeros(LAYOUT.size, np.float32)
    writer.save_checkpoint(len(losses), size, {})
    summary = {"data": "x", "cleaned": True, "recording_waited": 0.1}
    writer.finish({**summary, "test_loss": loss, "test_accuracy": 1.0})
    return Run(path)


@pytest.fixture
def groups(tmp_path):
    """Four runs of each of two methods."""
    for name, values, rho in (("sgd", B, None), ("sam", A, 0.05)):
        for seed, value in enumerate(values):
            made(tmp_path / f"{name}-{seed}", seed, value, method=name, rho=rho)
    return find_group(f"{tmp_path}/sam-*"), find_group(f"{tmp_path}:sgd")


def compared(a, b, margin=math.nan, *, paired=True):
    """Two arrays as the values of one scalar."""
    seeds = tuple(range(len(a))) if paired else ()
    reading = Reading(name="x", unit="", values=np.concatenate([a, b]))
    pairs = Pairs(a=(NoSettings(),) * len(a), b=(NoSettings(),) * len(b), seeds=seeds)
    margins = {} if math.isnan(margin) else {"x": margin}
    return compare_readings([reading], pairs, labels=("A", "B"), margins=margins)


class NoSettings:
    id, name, config = "r", "r", {}


# known answers


def test_a_difference_of_pairs_is_that_worked_by_hand_and_of_scipy():
    found = compared(A, B)
    # differences .02 .04 .01 .05: mean .03, sum of squares about it .001, so s² = .001 / 3
    assert found.difference[0] == pytest.approx(0.03)
    half = 3.182446305 * math.sqrt(0.001 / 3 / 4)
    assert found.interval_high[0] == pytest.approx(0.03 + half)
    exact = stats.ttest_rel(A, B).confidence_interval(0.95)
    ends = found.interval_low[0], found.interval_high[0]
    np.testing.assert_allclose(ends, tuple(exact), rtol=1e-9)
    assert found.verdicts == ("differs",)


@pytest.mark.parametrize("size", [3, 7])
def test_an_unpaired_difference_has_the_interval_of_welch(size):
    rng = np.random.default_rng(size)
    a, b = rng.normal(1, 1, size), rng.normal(0, 3, 5)
    found = compared(a, b, paired=False)
    test = stats.ttest_ind(a, b, equal_var=False)
    for level, ends in (
        (0.95, (found.interval_low[0], found.interval_high[0])),
        (0.9, (found.equivalence_low[0], found.equivalence_high[0])),
    ):
        np.testing.assert_allclose(ends, tuple(test.confidence_interval(level)), rtol=1e-7)
    assert math.isnan(found.probability[0])


@pytest.mark.parametrize("freedom", [1.2, 2.5, 7.3, 100.5, 5000.5])
def test_quantiles_between_whole_degrees_of_freedom_are_those_of_student(freedom):
    for probability in (0.05, 0.5, 0.6, 0.95, 0.975):
        exact = stats.t.ppf(probability, freedom)
        assert t_quantile(probability, freedom) == pytest.approx(exact, rel=1e-8, abs=1e-12)


def test_the_probability_counts_all_signs_and_is_a_quarter_at_least_for_three_pairs():
    differences = np.random.default_rng(0).normal(0.5, 1, 9)
    means = [abs(np.mean(differences * signs)) for signs in product((1, -1), repeat=9)]
    share = np.mean(np.array(means) >= abs(differences.mean()) * (1 - 1e-12))
    assert sign_flip_probability(differences) == share > 0.01
    assert sign_flip_probability(np.array([5.0, 6.0, 7.0])) == 0.25
    assert sign_flip_probability(np.array([5.0, -5.0])) == 1
    tied = np.array([0.1, 0.2, -0.3, 0.6])  # as 1, 2, -3, 6, whose signs reach 6 in 10 of 16
    assert sign_flip_probability(tied) == sign_flip_probability(np.round(10 * tied)) == 0.625
    assert math.isnan(sign_flip_probability(np.ones(21)))
    assert math.isnan(sign_flip_probability(np.array([1.0, math.nan])))


@pytest.mark.parametrize("paired", [True, False])
def test_equivalence_is_that_of_two_one_sided_tests_of_scipy(paired):
    rng = np.random.default_rng(3)
    verdicts = []
    for margin in np.linspace(0.1, 3, 30):
        a, b = rng.normal(0.3, 1, (2, 6))
        if paired:
            below = stats.ttest_rel(a + margin, b, alternative="greater")
            above = stats.ttest_rel(a - margin, b, alternative="less")
        else:
            below = stats.ttest_ind(a + margin, b, equal_var=False, alternative="greater")
            above = stats.ttest_ind(a - margin, b, equal_var=False, alternative="less")
        verdicts.append(compared(a, b, margin, paired=paired).verdicts[0] in ("equivalent", "both"))
        assert verdicts[-1] == (max(below.pvalue, above.pvalue) < 0.05)
    assert 3 < sum(verdicts) < 27


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ([0.9, 1.0, 1.1], math.nan, "differs"),
        ([0.9, 1.0, 1.1], 0.5, "differs"),
        ([0.9, 1.0, 1.1], 2.0, "both"),
        ([-0.1, 0.0, 0.1], 0.5, "equivalent"),
        ([-0.1, 0.0, 0.1], 0.1, "undecided"),
        ([-0.1, 0.0, 0.1], math.nan, "undecided"),
        ([1.0], 2.0, "one run"),
        ([0.3, 0.1 + 0.2], 0.5, "no spread"),
        ([0.0, 0.0, 0.0], 0.5, "no spread"),
        ([0.1, math.nan, 0.2], 0.5, "not finite"),
        ([0.1, math.inf, 0.2], 0.5, "not finite"),
    ],
)
def test_planted_groups_get_their_verdict(differences, margin, verdict):
    found = compared(np.array(differences), np.zeros(len(differences)), margin)
    assert found.verdicts == (verdict,)
    has_interval = verdict in ("differs", "both", "equivalent", "undecided")
    assert math.isfinite(found.interval_low[0]) == has_interval
    assert math.isfinite(found.difference[0]) == (verdict != "not finite")


@pytest.mark.parametrize("paired", [True, False])
def test_the_fewest_runs_are_the_first_with_which_the_interval_is_so_narrow(paired):
    a, b = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, -0.5, 1.2, 0.1])
    found = compared(a, b, 2.0, paired=paired)
    assert found.verdicts == ("undecided",)
    spread = np.std(a - b, ddof=1) if paired else math.hypot(np.std(a, ddof=1), np.std(b, ddof=1))
    first, second = np.var(a, ddof=1), np.var(b, ddof=1)
    share = 1 if paired else (first + second) ** 2 / (first**2 + second**2)
    for fewest, room, level in (
        (found.runs_to_differ[0], abs(found.difference[0]), 0.975),
        (found.runs_to_equal[0], 2.0 - abs(found.difference[0]), 0.95),
    ):
        half = [stats.t.ppf(level, share * (n - 1)) * spread / n**0.5 for n in range(2, 99)]
        assert fewest == 2 + int(np.argmax(np.array(half) < room)) > 2


def test_no_number_of_runs_shows_that_a_difference_beyond_the_margin_is_none():
    found = compared(np.array([1.0, 1.5, 0.9]), np.zeros(3), 1.0)
    assert math.isnan(found.runs_to_equal[0])
    assert found.runs_to_differ[0] == 3
    assert math.isnan(compared(np.array([-1.0, 0.0, 1.0]), np.zeros(3)).runs_to_differ[0])


def test_welch_has_no_interval_of_one_run_or_without_spread():
    for a, b in ((np.ones(1), np.arange(3.0)), (np.ones(3), np.zeros(3))):
        assert all(math.isnan(end) for end in welch_interval(a, b))


# groups


def test_a_group_is_a_pattern_a_folder_a_list_or_a_method_of_a_folder(tmp_path, groups):
    a, b = groups
    assert (a.label, list(a.seeds)) == ("SAM", [0, 1, 2, 3])
    assert (b.label, len(b.runs)) == ("SGD", 4)
    (tmp_path / "sgd").mkdir()
    for seed in (0, 1):
        (tmp_path / f"sgd-{seed}").rename(tmp_path / "sgd" / f"sgd-{seed}")
    assert len(find_group(str(tmp_path / "sgd")).runs) == 2
    listed = find_group(f"{tmp_path}/sgd-2, {tmp_path}/sgd-3")
    assert [run.name for run in listed.runs] == ["sgd-2", "sgd-3"]


def test_what_is_no_group_is_refused_and_says_why(tmp_path, groups):
    made(tmp_path / "again", 1, method="sam", rho=0.05)
    failed = {"config": {}, "problem": {"name": "x", "options": {}}, "layout": LAYOUT}
    RunWriter.create(tmp_path / "open", method="SGD", **failed).fail("no reason")
    for text, error in (
        ("*-0", "method sam or sgd, rho 0.05 or –; name fewer"),
        ("sam-1,{}/again", "seed 1 in sam-1, again"),
        ("open", "expected a finished run, got one that is failed"),
        ("none-*", "expected runs, got none"),
        ("missing", "no such folder"),
    ):
        with pytest.raises((ValueError, RunFileError), match=error):
            find_group(f"{tmp_path}/{text.format(tmp_path)}")
    with pytest.raises(ValueError, match="'aace', got those of SAM, SGD"):
        find_group(f"{tmp_path}:aace")


def test_runs_pair_by_seed_and_those_without_partner_are_named(groups):
    a, b = groups
    pairs = pair_groups(Group("A", a.runs[1:]), Group("B", b.runs[:3][::-1]))
    assert pairs.seeds == (1, 2)
    assert [run.name for run in (*pairs.a, *pairs.b)] == ["sam-1", "sam-2", "sgd-1", "sgd-2"]
    assert pairs.left_out == ("sam-3", "sgd-0")
    every = pair_groups(a, b, paired=False)
    assert (len(every.a), len(every.b), every.seeds, every.left_out) == (4, 4, (), ())


def test_groups_that_cannot_be_paired_are_refused(groups):
    a, b = groups
    with pytest.raises(ValueError, match="seeds 0, 1 in A and 2, 3 in B; take --unpaired"):
        pair_groups(Group("A", a.runs[:2]), Group("B", b.runs[2:]))
    with pytest.raises(ValueError, match="sam-0 in both"):
        pair_groups(a, Group("B", (*b.runs, a.runs[0])), paired=False)


def test_settings_that_differ_are_the_treatment(groups):
    a, b = groups
    expected = {"method": ["sam", "sgd"], "rho": ["0.05", "–"]}
    assert settings_apart(a.runs, b.runs[:2]) == expected
    assert compare_groups(a, b).facts["settings_apart"] == expected


# scalars


def test_summaries_are_compared_unasked_without_what_they_cost(groups):
    found = compare_groups(*groups, margins={"test_loss": 0.01})
    assert found.names == ("test_accuracy", "test_loss")
    assert found.units == ("fraction", "nats")
    assert found.labels == ("SAM", "SGD")
    np.testing.assert_array_equal(found.a[1], A)
    np.testing.assert_array_equal(found.b[1], B)
    np.testing.assert_array_equal(found.seeds, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.margin, [math.nan, 0.01])
    assert found.verdicts == ("no spread", "differs")
    (cost,) = compare_groups(*groups, ["recording_waited"]).difference
    assert cost == 0


def test_recorded_columns_are_means_over_the_last_epoch_a_window_or_a_row(tmp_path):
    run = made(tmp_path / "a", 0, losses=[8.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    for name, value in (
        ("steps.loss", 0.375),
        ("steps.loss@1:4", 7 / 3),
        ("steps.loss@2", 2.0),
        ("steps.gradient_norm@0:4", 3.0),  # rows in which it was not measured are left out
        ("evaluations.test_loss", 2.5),
        ("evaluations.test_loss@2:4", 30.0),
    ):
        reading = read_scalar(name, [run])
        assert reading.values[0] == pytest.approx(value), name
    assert read_scalar("steps.loss", [run]).unit == "nats"
    assert math.isnan(read_scalar("steps.displacement_norm", [run]).values[0])


def test_a_loss_that_was_not_finite_stays_so(tmp_path):
    run = made(tmp_path / "a", 0, losses=[1.0, math.nan])
    assert math.isnan(read_scalar("steps.loss", [run]).values[0])


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("test_los", "no scalar 'test_los' .did you mean 'test_loss'"),
        ("data", "no scalar 'data'"),
        ("steps.los", "no column 'los' .did you mean 'loss'"),
        ("steps.loss@9", "no row of steps at 9; they go from 0 to 1"),
        ("steps.loss@a", "must stand a step as 100, or 100:200, got 'a'"),
        ("steps.loss@1:", "must stand a step"),
        ("trace.trace", "a stored result for 'trace.trace', got none; .* `landscape spectrum"),
    ],
)
def test_a_scalar_that_is_not_there_is_refused(tmp_path, name, error):
    run = made(tmp_path / "a", 0, losses=[1.0, 1.0])
    with pytest.raises(ValueError, match=error):
        read_scalar(name, [run])


def test_an_imported_run_has_no_rows(tmp_path):
    with pytest.raises(ValueError, match="has no rows of steps; was it imported"):
        read_scalar("steps.loss", [made(tmp_path / "a", 0)])


def store(run, result, at, **options):
    """Store a result of a run, so many seconds after the first."""
    facts = {"run": run.id, "checkpoint": options.get("checkpoint", 0), "bn": "frozen"}
    made_at = {"created": f"2026-01-01T00:00:{at:02d}Z"}
    result = replace(result, facts=facts, options=options, provenance=made_at)
    result.save(run.path / "results" / f"{result.kind}-{at:012d}.h5")


def test_numbers_of_results_are_of_the_newest_that_was_measured_as_the_first_runs(tmp_path):
    a, b = made(tmp_path / "a", 0, losses=[1.0]), made(tmp_path / "b", 1, losses=[1.0, 1.0])
    store(a, spectrum(9.0), 0, samples=100, checkpoint=1)
    store(a, spectrum(8.0), 1, samples=100, checkpoint=1)
    store(b, spectrum(7.0), 2, samples=100, checkpoint=2)  # its last, as the other's
    store(b, spectrum(6.0), 3, samples=500, checkpoint=2)
    reading = read_scalar("spectrum.eigenvalue_1", [a, b])
    np.testing.assert_array_equal(reading.values, [8.0, 7.0])
    assert reading.settings == {"samples": 100, "checkpoint": "last", "bn": "frozen"}
    store(a, spectrum(8.0), 4, samples=500, checkpoint=0)
    with pytest.raises(ValueError, match=r"checkpoint 0 and last in .*/a and .*/b; measure again"):
        read_scalar("spectrum.eigenvalue_1", [a, b])
    with pytest.raises(ValueError, match=r"has no scalar 'spectrum.eigenvalue_99'"):
        read_scalar("spectrum.eigenvalue_99", [a, b])


def test_consistencies_are_told_apart_and_sharpness_has_its_rows(tmp_path):
    run = made(tmp_path / "a", 0, losses=[1.0])
    sam = replace(consistency(), mean_cosine=0.1)
    store(run, sam, 0, protocol="frozen", perturbation="SAM ρ=0.05")
    store(run, replace(sam, mean_cosine=0.7), 1, protocol="frozen", perturbation="AACE ρ=0.2")
    store(run, replace(sam, mean_cosine=0.4), 2, protocol="online", window=64)
    table = sharpness()
    table = replace(table, names=(table.names[1], *table.names[1:]))
    store(run, table, 3)
    for name, value in (
        ("consistency.frozen.sam.mean_cosine", 0.1),
        ("consistency.frozen.aace.mean_cosine", 0.7),
        ("consistency.online.mean_cosine", 0.4),
        (f"sharpness.{table.names[0]}", table.value[0]),
        (f"sharpness.{table.names[1]}, {table.settings[1]}", table.value[1]),
        ("sharpness.loss", table.loss),
    ):
        assert read_scalar(name, [run]).values[0] == value
        assert name in list_scalars(run)
    assert {"test_loss", "recording_waited", "steps.loss"} <= set(list_scalars(run))
    assert "steps.displacement_norm" not in list_scalars(run)


def test_what_a_run_has_of_its_own_is_no_difference_of_settings(tmp_path):
    a, b = made(tmp_path / "a", 0, losses=[1.0]), made(tmp_path / "b", 1, losses=[1.0, 1.0])
    for run, last, update in ((a, 1, "SGD"), (b, 2, "SAM ρ=0.05")):
        store(run, stability(), 0, checkpoint=last, update=update)
        store(run, curvature(), 1, checkpoints=[0, last], k=3)
    assert read_scalar("stability.multiplier", [a, b]).values[0] == stability().multiplier
    found = read_scalar("curvature.eigenvalue_2", [a, b]).values
    np.testing.assert_array_equal(found, [curvature().eigenvalues[-1, 1]] * 2)


def test_every_scalar_that_is_listed_can_be_compared(groups):
    for run in (*groups[0].runs, *groups[1].runs):
        store(run, spectrum(1.0 + run.summary["test_loss"]), 0, samples=100)
    names = list_scalars(groups[0].runs[0])
    found = compare_groups(*groups, names)
    assert found.names == tuple(names)
    at = names.index("spectrum.eigenvalue_1")
    assert found.difference[at] == pytest.approx(0.03)
    assert "spectrum.eigenvalue_1" in found.facts["measured_with"]


@pytest.mark.parametrize(
    ("margins", "error"),
    [({"x": 1.0}, "got 'x'; compared are"), ({"test_loss": 0.0}, "above 0, got 0.0 of test_loss")],
)
def test_a_margin_is_a_positive_number_of_what_is_compared(groups, margins, error):
    with pytest.raises(ValueError, match=error):
        compare_groups(*groups, margins=margins)
