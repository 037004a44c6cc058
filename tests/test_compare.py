import json
import math
from dataclasses import replace
from itertools import product

import direction_samples
import numpy as np
import pytest
from curvature_samples import curvature, sharpness, stability
from figure_samples import consistency, spectrum
from samples import LAYOUT, comparison_of
from scipy import stats

from landscape import figures
from landscape.comparisons import compare_groups, compare_readings, keep_joint
from landscape.figures import paper
from landscape.figures.captions import caption
from landscape.figures.comparison_words import chance_words, change_words, comparison_grid
from landscape.figures.facts import facts_rows
from landscape.figures.tables import columns_of
from landscape.groups import Group, Pairs, find_group, pair_groups, settings_apart
from landscape.intervals import sign_flip_probability, t_quantile, welch_interval
from landscape.reports import report
from landscape.result_files import load_result
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
    same = compare_groups(Group("SGD", groups[0].runs), groups[1])
    assert same.labels == ("SGD (A)", "SGD (B)")
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


def test_what_is_measured_of_perturbations_can_be_compared(tmp_path):
    run = made(tmp_path / "a", 0, losses=[1.0])
    named = {"perturbation": "AACE ρ=0.2"}
    along, line = direction_samples.rise(), direction_samples.offset(0.7)
    whole = direction_samples.directions()
    store(run, direction_samples.frozen(), 0, protocol="frozen", **named)
    store(run, along, 1, **named)
    store(run, line, 2, **named)
    store(run, whole, 3)
    for name, value, unit in (
        ("consistency.frozen.aace.noise_scale", 128 * 0.4 / 0.6, ""),
        ("rise.aace.same batch", along.rise[0, 0].mean(), "nats"),
        ("rise.aace.test batch, radius 0.05", along.rise[2, 1].mean(), "nats"),
        ("rise.aace.rayleigh", along.rayleigh.mean(), ""),
        ("offset.aace.minimum, training loss", 0.7, "mean ε"),
        ("offset.aace.gain, test loss", line.gain[1], "nats"),
        ("directions.mean_cosine", whole.mean_cosine[-1], ""),
    ):
        reading = read_scalar(name, [run])
        assert (reading.values[0], reading.unit) == (pytest.approx(value), unit)
        assert name in list_scalars(run)


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
    assert ": samples 100, bn frozen." in caption(found)


@pytest.mark.parametrize(
    ("margins", "error"),
    [({"x": 1.0}, "got 'x'; compared are"), ({"test_loss": 0.0}, "above 0, got 0.0 of test_loss")],
)
def test_a_margin_is_a_positive_number_of_what_is_compared(groups, margins, error):
    with pytest.raises(ValueError, match=error):
        compare_groups(*groups, margins=margins)


# words and figures


def test_many_intervals_come_with_the_number_that_chance_would_give():
    found = comparison_of()
    told = "Of 2 intervals 1 leaves out zero; if nothing differed, 0.10 would be expected to."
    assert chance_words(found) == told
    said = caption(found)
    for part in (told, "at least 0.25", "rho 0.2 / 0.05", "partner: sam-3", "seeds 0, 1, 2"):
        assert part in said
    both = compared(np.array([0.9, 1.0, 1.1]), np.zeros(3), 2.0)
    assert chance_words(both).startswith("Of 1 interval 1 leaves out zero")
    assert chance_words(compared(np.ones(1), np.zeros(1))) == ""
    assert "at least" not in caption(compared(A, B, paired=False))
    assert "4 and 4 runs, not paired, with Welch intervals" in caption(compared(A, B, paired=False))
    assert dict(facts_rows(found))["Groups"] == "SAM+AACE and SAM"


def test_what_is_undecided_says_how_many_runs_would_decide_it():
    undecided = replace(compared(np.array([-0.1, 0.0, 0.1]), np.zeros(3), 0.1), runs_to_differ=[9])
    assert undecided.runs_to_equal[0] == 5
    assert change_words(undecided, 0) == "9 runs each to leave out zero or 5 to stay within ±0.1"
    never = replace(undecided, runs_to_differ=[math.nan], runs_to_equal=[math.nan])
    assert change_words(never, 0) == "no number of runs would decide it"
    assert change_words(comparison_of(), 0) == ""


def test_the_table_has_the_digits_that_intervals_tell():
    heads, rows = comparison_grid(comparison_of())
    assert heads == ["scalar", "SAM+AACE", "SAM", "difference", "95 %", "p", "verdict"]
    assert rows[1] == [
        "test_accuracy, fraction", "0.5013", "0.5000", "0.0013", "−0.0021 to 0.0047", "0.50",
        "equivalent within ±0.005",
    ]  # fmt: skip
    assert rows[2][3:] == ["0.0100", "–", "0.25", "no interval: no spread"]
    assert rows[3][-1] == "not finite"


def test_tables_hold_every_number_and_every_run():
    result = comparison_of()
    scalars, values = columns_of(result), columns_of(result, "values")
    np.testing.assert_array_equal(scalars["mean_a"], result.a.mean(axis=1))
    np.testing.assert_array_equal(scalars["difference"], result.difference)
    assert (values["scalar"][3], values["group"][3], values["run"][3]) == ("test_loss", "b", 0)
    of_a = (values["scalar"] == "test_accuracy") & (values["group"] == "a")
    np.testing.assert_array_equal(values["value"][of_a], result.a[1])


def test_the_figure_has_a_row_in_its_own_unit_for_each_scalar():
    result = comparison_of()
    figure = paper.draw_comparison(result)
    assert len(figure.axes) == 4
    for i, axes in enumerate(figure.axes):
        lines = {line.get_gid(): line.get_xdata() for line in axes.lines}
        np.testing.assert_array_equal(lines["difference"], [result.difference[i]])
        ends = [result.interval_low[i], result.interval_high[i]]
        np.testing.assert_array_equal(lines["interval"], ends)
        assert lines["equivalence"][0] == pytest.approx(result.equivalence_low[i], nan_ok=True)
        low, high = axes.get_xlim()
        assert low == -high
        assert not any(x < low or x > high for x in ends)
    (band,) = [patch for patch in figure.axes[1].patches if patch.get_gid() == "margin"]
    assert (band.get_x(), band.get_width()) == (-0.005, 0.01)
    tall = replace(result, margin=[math.nan] * 4, interval_high=result.interval_high + 1)
    for axes, end in zip(paper.draw_comparison(tall).axes[:2], tall.interval_high, strict=False):
        assert axes.get_xlim()[1] > end
    fills = [axes.lines[-1].get_markerfacecolor() for axes in figure.axes]
    assert [fill == "white" for fill in fills] == [False, True, True, True]


def test_on_the_screen_rows_are_in_shares_of_their_reach():
    figure = figures.plot(comparison_of(), theme="dark")
    (trace,) = figure.data
    assert trace.x[0] == pytest.approx(-0.052 / 0.065)
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(-1)
    (band,) = figure.layout.shapes
    assert (band.x0, band.x1, band.y0) == (-1, 1, 0.7)
    assert "equivalent within" in trace.customdata[1]


# the command


def test_a_comparison_is_stored_beside_the_runs_found_again_and_drawn(tmp_path, groups, landscape):
    wanted = [f"{tmp_path}/sam-*", f"{tmp_path}/sgd-*", "--margin", "test_loss=0.2"]
    done = landscape("compare", *wanted)
    assert done.returncode == 0, done.stderr
    assert "comparison of SAM and SGD" in done.stdout
    assert "test_loss, nats: differs, but equivalent within ±0.2" in done.stdout
    (path,) = (tmp_path / "joint").glob("comparison-*.h5")
    result = load_result(path)
    assert result.facts["run_names"][4] == "sgd-0"
    assert result.provenance["versions"]["numpy"] == np.__version__
    assert "measured before" in landscape("compare", *wanted).stdout
    done = landscape(
        "figure", tmp_path / "sam-0", "comparison", "--format", "tex,png", "--out", tmp_path / "f"
    )
    assert done.returncode == 0, done.stderr
    assert (
        r"test\_loss, nats & 0.535 & 0.505 & 0.030 & 0.001 to 0.059 & 0.12 &"
        in (tmp_path / "f.tex").read_text()
    )
    assert len(find_group(str(tmp_path / "sam-*")).runs) == 4


def test_the_command_takes_scalars_and_speaks_json(tmp_path, groups, landscape):
    where = (f"{tmp_path}:sam", f"{tmp_path}:sgd")
    done = landscape("compare", *where, "--unpaired", "--json", "--scalar", "test_loss")
    told = json.loads(done.stdout)
    assert told["pairs"] == 0
    assert told["scalars"]["test_loss"]["difference"] == pytest.approx(0.03)
    assert told["facts"]["settings_apart"]["rho"] == ["0.05", "–"]
    listed = landscape("compare", *where, "--list").stdout.splitlines()
    assert ["test_loss", "4", "of", "4", "4", "of", "4"] in [row.split() for row in listed]
    listed = landscape("compare", *where, "--list", "--json").stdout
    assert json.loads(listed)["test_loss"] == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--margin", "test_loss"], "--margin must be NAME=NUMBER, as test_loss=0.01"),
        (["--margin", "=1"], "--margin must be NAME=NUMBER"),
        (["--margin", "x=1"], "compared are test_accuracy"),
        (["--scalar", "loss"], "has no scalar 'loss'"),
    ],
)
def test_a_mistake_is_said_without_traceback(tmp_path, groups, landscape, more, error):
    done = landscape("compare", f"{tmp_path}:sam", f"{tmp_path}:sgd", *more)
    assert done.returncode == 2
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "joint").exists()


@pytest.mark.parametrize("columns", ["80", "160"])
def test_the_report_fits_the_terminal(monkeypatch, columns, tmp_path, groups):
    monkeypatch.setenv("COLUMNS", columns)
    for run, value in zip(groups[0].runs + groups[1].runs, (-3, 5, -2, 4, 0, 0, 0, 0), strict=True):
        result = replace(consistency(), mean_cosine=0.01 * value)
        store(run, result, 0, protocol="frozen", perturbation="AACE ρ=0.2")
    names = ["test_loss", "test_accuracy", "consistency.frozen.aace.mean_cosine"]
    found = compare_groups(*groups, names, margins={names[2]: 0.0201})
    kept = keep_joint(found, tmp_path, {})
    lines = report(kept, "SAM and SGD").split("\n")[:-1]  # without the path
    assert max(map(len, lines)) <= int(columns)
    assert any(line.startswith("  consistency.frozen.aace.mean_cosine: und") for line in lines)
    assert not any("not shown" in line for line in lines)
