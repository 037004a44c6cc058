"""Captions, rows, tables and numbers of curvature: what figures and exports say of it."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from figure_samples import (
    CURVATURE_FACTS,
    curvature,
    deflated_density,
    density,
    ends_spectrum,
    sharpness,
    spectrum,
    stability,
    three,
    trace,
)

from landscape.exports import record
from landscape.figures.alignments import direction_colors, random_cosine, spoken, trained_with
from landscape.figures.captions import caption, facts_rows
from landscape.figures.densities import density_curve, shared_axes
from landscape.figures.estimate_words import interval, plus_minus, value_and_error
from landscape.figures.sharpness_tables import latex_of, sharpness_table
from landscape.figures.subjects import Drawing
from landscape.figures.summaries import edge_segments, scree
from landscape.figures.tables import TABLES, columns_of, csv_of

MAKERS = (ends_spectrum, deflated_density, trace, sharpness, stability, curvature)


def plain(text: str) -> str:
    """The text with ordinary spaces for thin and no-break ones."""
    return " ".join(text.split())


def with_facts(result, **facts):
    return replace(result, facts={**result.facts, **facts})


# -- estimates in words -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (93.52, 4.2, "93.5 ± 4.2"),
        (0.0312, np.nan, "0.0312"),
        (0.125, 0.004, "0.1250 ± 0.0040"),
        (1248, 27, "1 248 ± 27"),
        (9.99, 0.0996, "9.99 ± 0.10"),
        (-0.001, 0.4, "0.00 ± 0.40"),
        (1.2345e-6, 2e-8, "1.23e−6 ± 2.0e−8"),
        (np.nan, 1.0, "–"),
        (5.0, 0.0, "5.00 ± 0"),
        (np.inf, 1.0, "∞ ± 1.0"),
    ],
)
def test_a_value_has_the_decimals_of_its_error(value, error, words):
    assert plain(plus_minus(value, error)) == words


def test_a_lower_bound_begins_with_its_sign_and_nothing_known_does_not():
    assert plus_minus(0.03, lower_bound=True) == "≥ 0.0300"
    assert plus_minus(np.nan, lower_bound=True) == "–"


def test_an_interval_has_the_decimals_of_the_error_beside_it():
    assert interval(95.1983, 104.8017, 2.294) == "95.2 to 104.8"
    assert interval(95.1983, 104.8017) == "95.2 to 105"
    assert interval(np.nan, 1.0) == ""
    assert value_and_error(104.8, 2.294) == ("104.8", "2.3")


# -- captions ---------------------------------------------------------------------------------

SAID = {
    ends_spectrum: (
        "The 10 eigenvalues (both ends) of the Hessian of the mean loss of ConvNet (SAM) at step",
        "not converged. Crossed out: 2 above the tolerance. Hollow: negative.",
        "λmax is at least 20.0 for certain, at most 20.8 with probability 95 %.",
        "λ1/λ5 = 5.00.",
    ),
    deflated_density: (
        "with 4 steps and 3 probes (Gaussians of width σ = 0.0500)",
        "5 eigenvalues found one by one (residuals at most 0.00200) and deflated",
        "the curve is of the other 995.",
        "Trace 93.5 ± 4.2 (standard error over probes), λ1 = 20.0, λ1/λ5 = 5.00.",
        "the choice of data is in no error given.",
    ),
    trace: (
        "100.0 ± 2.3 (95 % 95.2 to 104.8), by Hutchinson with 20 probes.",
        "Frobenius norm 31.0 ± 1.5, effective rank 10.4 ± 1.1.",
        "standard errors over probes, which cover neither data nor training.",
    ),
    sharpness: (
        "(loss 0.112, mean probability of the true class 0.941).",
        "≥: a lower bound only.",
        "1 is invariant.",
        "not the choice of data.",
    ),
    stability: (
        "The 6 largest multipliers of the update map of SAM ρ=0.05, momentum 0.9",
        "residuals at most 2.00e−4. The leading one has |μ| = 1.040.",
        "Circle: |μ| = 1, the edge of stability",
    ),
    curvature: (
        "through training, 9 checkpoints, steps 0 to 480.",
        "Lines: the 5 largest eigenvalues, and the lowest. Hollow: 1 checkpoint above the",
        "Dashed: edge of stability 2 (1 + β) / η.",
        "Trace: ± standard error over probes.",
        "|cosine| of gradient, SAM and AACE to the first eigenvector",
    ),
}


@pytest.mark.parametrize("make", SAID, ids=lambda make: make.__name__)
def test_a_caption_says_what_was_measured_and_what_its_error_covers(make):
    words = plain(caption(make()))
    for part in SAID[make]:
        assert part in words, words
    how = "2 000 samples of fashion training set; batch norm: statistics of each batch; float32"
    assert how in words
    assert "double backward" not in words


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_what_is_interrupted_is_said_so_and_without_facts_nothing_is_made_up(make):
    assert "Interrupted" not in caption(make())
    assert "Interrupted" in caption(with_facts(make(), interrupted=True))
    assert dict(facts_rows(with_facts(make(), interrupted=True)))["Interrupted"]
    bare = replace(make(), facts={})
    words = caption(bare)
    assert words.endswith(".")
    assert not any(wrong in words for wrong in ("None", "nan", "  "))
    rows = facts_rows(bare)
    assert all(label and value for label, value in rows)
    assert not {"Operator", "Products by", "Batch norm"} & set(dict(rows))


def test_the_operator_and_what_it_is_restricted_to_is_named():
    facts = {"operator": "generalized Gauss-Newton (= Fisher for cross-entropy)"}
    words = caption(with_facts(trace(), **facts, parameters_of=["conv*", "fc"], weight_decay=5e-4))
    assert (
        "Trace of the generalized Gauss-Newton (= Fisher for cross-entropy) in the parameters "
        "conv* and fc, weight decay 5e−4 included of ConvNet" in words
    )


def test_no_ratio_is_claimed_with_fewer_than_five_or_of_another_end():
    some = replace(ends_spectrum(), which="LA", within=[])
    few = replace(some, eigenvalues=np.arange(4.0, 0, -1), residuals=[0] * 4)
    assert "λ5" not in caption(few)
    assert "λ1/λ5" not in dict(facts_rows(few))
    five = replace(few, eigenvalues=np.arange(5.0, 0, -1), residuals=[0] * 5)
    assert "λ1/λ5 = 5.00." in caption(five)
    smallest = replace(five, which="SA")
    assert "λ5" not in caption(smallest)
    ends = replace(five, which="BE", eigenvalues=np.arange(9.0, 4, -1))
    assert "λ5" not in caption(ends)  # two of the five are of the lower end


def test_a_deflated_eigenvalue_below_a_node_is_not_called_the_largest():
    shown = deflated_density()
    hidden = replace(shown, nodes=np.where(shown.nodes == 0.5, 15.0, shown.nodes))
    assert "λ1 = 20.0" in caption(hidden)
    assert "λ5" not in caption(hidden)
    above = replace(shown, nodes=np.where(shown.nodes == 0.5, 25.0, shown.nodes))
    assert "λ1" not in caption(above)


def test_a_bound_of_the_density_is_said_where_it_says_something():
    near = with_facts(deflated_density(), w1_share=0.12)
    assert "within a Wasserstein distance of 12 % of the range" in plain(caption(near))
    assert "says nothing of the tails" in caption(near)
    assert "give no bound" in caption(with_facts(near, w1_share=1.0))
    assert plain(dict(facts_rows(near))["W1 bound"]) == "12 % of the range (95 %)"
    own = replace(density(), nodes=np.zeros((50, 100)), weights=np.full((50, 100), 0.01))
    assert "within a Wasserstein" in caption(replace(own, size=10**6))


def test_the_trace_of_a_density_is_that_of_nodes_and_outliers_where_none_is_stored():
    shown = replace(deflated_density(), facts={})
    rest = 995 * (shown.nodes * shown.weights).sum(axis=1)
    error = rest.std(ddof=1) / np.sqrt(3)
    assert dict(facts_rows(shown))["Trace"] == plus_minus(50 + rest.mean(), error)


def test_an_edge_says_its_formula_or_why_there_is_none():
    none = caption(curvature(edge=False))
    assert "No edge of stability is drawn: no line is known for AACE" in none
    assert "Dashed" not in none
    guide = with_facts(curvature(), edge_holds="of full-batch training")
    assert "Dashed: edge of stability 2 (1 + β) / η, of full-batch training." in caption(guide)


def test_a_stability_of_another_objective_is_cautioned_and_its_swing_is_said():
    shown = with_facts(stability(), caution="not the objective that is trained", swing={})
    assert "Not the objective that is trained." in caption(shown)
    assert "Farthest" not in caption(shown)
    assert "|μ| = 0.4000" in caption(with_facts(stability(), swing={"magnitude": 0.4}))


def test_a_caption_tells_of_the_panels_that_are_drawn_only():
    shown = curvature()
    captions = record(Drawing(function="draw_curvature", subject=shown))[0]["captions"]
    assert captions == [caption(shown, panels=("eigenvalues", "trace"))]
    assert "Alignment" not in captions[0]
    style = {"panels": ["multiplier"]}
    (own,) = record(Drawing(function="draw_curvature", subject=shown, style=style))[0]["captions"]
    assert "Multiplier:" in own
    assert "Trace:" not in own
    (layers,) = record(Drawing(function="draw_layers", subject=shown))[0]["captions"]
    assert "Layers:" in layers
    assert "eigenvalues" not in layers
    items = [("a", 0, shown), ("b", 1, shown)]
    for told in record(Drawing(function="draw_curvature", subject=items))[0]["captions"]:
        assert "Line: λ1." in told
        assert "lowest" not in told
    drawing = Drawing(function="draw_density", subject=deflated_density(), style={"scale": "log"})
    assert "per decade of |λ|" in record(drawing)[0]["captions"][0]


def test_rows_hold_the_product_and_its_reason_which_a_caption_leaves_out():
    rows = dict(facts_rows(with_facts(trace(), product_error=3e-7)))
    assert rows["Products by"] == "double backward (fastest of those that agree)"
    assert rows["Product error"] == "3.0e−7"
    assert rows["Estimator"] == "Hutchinson"
    assert dict(facts_rows(sharpness()))["adaptive worst case"] == "≥ 0.0517 ± 0.0011"
    assert dict(facts_rows(curvature()))["Converged"] == "8 of 9 checkpoints"
    assert dict(facts_rows(ends_spectrum()))["Converged"] == "no, 2 of 10 pairs above tolerance"


# -- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_every_table_is_rectangular_also_where_nothing_optional_was_measured(make):
    result = make()
    optional = (
        "outliers outlier_residuals layer_trace layer_error layer_size alignment rayleigh edge"
    )
    names = [*optional.split(), "multiplier", "audit", "within", "lowest"]
    empty = {name: np.empty(0) for name in names if hasattr(result, name)}
    for shown in (result, replace(result, **empty)):
        for table in TABLES[result.kind]:
            rows = list(csv.reader(io.StringIO(csv_of(shown, table))))
            assert len({len(row) for row in rows}) == 1
            assert rows[0]


def test_tables_hold_the_numbers_by_name():
    found = columns_of(curvature(), "layers")
    at = (found["step"] == 240) & (found["layer"] == "conv3")
    assert found["trace"][at].tolist() == [curvature().layer_trace[4, 3]]
    found = columns_of(curvature(), "directions")
    at = (found["step"] == 480) & (found["direction"] == "sam")
    assert found["cosine_2"][at].tolist() == [pytest.approx(0.36)]
    assert found["rayleigh"][at].tolist() == [curvature().rayleigh[8, 1]]
    found = columns_of(curvature(), "eigenvalues")
    at = (found["step"] == 0) & (found["rank"] == 3)
    assert found["eigenvalue"][at].tolist() == [curvature().eigenvalues[0, 2]]
    found = columns_of(trace())
    assert found["block"][0] == "whole"
    assert found["trace"][1:].sum() == pytest.approx(found["trace"][0])
    found = columns_of(stability())
    assert found["magnitude"][1] == pytest.approx(np.hypot(0.8, 0.5))
    assert columns_of(sharpness())["neurons × 2"].tolist() == sharpness().audit[:, 0].tolist()
    assert columns_of(deflated_density(), "outliers")["eigenvalue"].tolist() == [20, 12, 8, 6, 4]


def test_the_sharpness_table_as_latex():
    latex = latex_of(sharpness_table([("SGD_1", 0, sharpness()), ("SAM", 1, sharpness(0.5))]))
    assert r"measure & setting & SGD\_1 & SGD\_1, 95 \% & SAM & SAM, 95 \% \\" in latex
    assert r"trace & 20 probes & 100.0 $\pm$ 2.3 & 95.2 to 104.8 & 50.0 $\pm$ 1.1" in latex
    assert r"$\geq$ 0.0312" in latex
    assert latex.isascii()


def test_measures_of_runs_meet_by_name_and_what_one_lacks_is_a_dash():
    one = sharpness()
    other = replace(
        one,
        names=(*one.names[:5], "m-sharpness"),
        settings=("residual 2e−4", *one.settings[1:]),
    )
    table = sharpness_table([("a", 0, one), ("b", 1, other)])
    beside = ["mean loss", "mean true-class probability"]
    assert [name for name, _ in table.measures] == [*one.names, "m-sharpness", *beside]
    assert [[cell.text for cell in row] for row in table.cells[-2:]] == [
        ["0.112"] * 2,
        ["0.941"] * 2,
    ]
    assert table.measures[0] == ("λmax", "residual 1e−3 / 2e−4")
    assert [cell.text for cell in table.cells[5]] == ["≥ 0.0517 ± 0.0011", "–"]
    assert [cell.text for cell in table.cells[6]] == ["–", "≥ 0.0517 ± 0.0011"]
    assert table.audit == ()
    assert table.measures[1:6] == tuple(zip(one.names[1:], one.settings[1:], strict=True))
    unknown = replace(one, loss=math.nan, mean_probability=math.nan)
    assert [name for name, _ in sharpness_table(unknown).measures] == list(one.names)
    alone = sharpness_table(one)
    assert alone.audit[-2:] == (("–", "–"), ("–", "–"))
    assert len(alone.audit) == len(alone.cells) == len(alone.measures)
    same = table.cells[3]
    assert [cell.value for cell in same] == ["0.0401", "0.0401"]


def test_numbers_of_settings_that_differ_stand_beside_each_other_and_other_words_apart():
    runs = [
        (label, 0, replace(sharpness(), settings=(setting, *sharpness().settings[1:])))
        for label, setting in (("a", "ρ 0.5, 2 pairs ±e"), ("b", "ρ 0.5, 12 pairs ±e"))
    ]
    assert sharpness_table(runs).measures[0][1] == "ρ 0.5, 2 / 12 pairs ±e"
    third = replace(sharpness(), settings=("box 0.5", *sharpness().settings[1:]))
    table = sharpness_table([*runs, ("c", 0, third)])
    assert table.measures[0][1] == "ρ 0.5, 2 pairs ±e / ρ 0.5, 12 pairs ±e / box 0.5"


# -- numbers ----------------------------------------------------------------------------------


def test_equal_axes_hold_every_density():
    curves = [density_curve(d) for _, _, d in three(deflated_density, (40, 20, 10))]
    shared = shared_axes(curves)
    assert shared.reach[0] == min(c.reach[0] for c in curves)
    assert shared.reach[1] == max(c.reach[1] for c in curves)
    assert shared.levels[1] >= max(c.high.max() for c in curves)


def test_deflated_outliers_are_stems_whatever_other_pairs_were_found():
    curve = density_curve(deflated_density(), spectrum())
    assert curve.stems.tolist() == [4, 6, 8, 12, 20]
    assert np.trapezoid(curve.middle, curve.x) == pytest.approx(995, rel=1e-3)


def test_an_edge_holds_to_its_next_level_and_the_last_one_to_the_end():
    shown = replace(curvature(), edge_step=[0, 60, 240, 330], edge_level=[38, np.nan, 40, 400])
    first, second = edge_segments(shown, 500.0)
    assert first.tolist() == [[0, 38], [60, 38]]
    assert second.tolist() == [[240, 40], [330, 40], [330, 400], [500, 400]]
    assert edge_segments(shown, 100.0)[1][-1].tolist() == [330, 400]
    assert edge_segments(curvature(edge=False), 500.0) == []


def test_the_scree_is_sorted_by_magnitude_or_sign_and_knows_what_is_within():
    found = scree(ends_spectrum())
    assert found.magnitudes.tolist() == sorted(found.magnitudes, reverse=True)
    assert found.within.tolist() == [True] * 8 + [False] * 2
    signed = scree(ends_spectrum(), signed=True)
    assert signed.values.tolist() == sorted(signed.values, reverse=True)
    untold = scree(replace(ends_spectrum(), within=[]))
    assert untold.within.tolist() == found.within.tolist()


def test_directions_keep_their_colors_and_the_null_is_of_all_parameters():
    assert direction_colors(("sam", "AACE", "usam", "gradient")) == [0, 1, 2, 3]
    assert direction_colors(("gradient", "SAM ρ=0.05", "SAM ρ=0.1")) == [3, 0, 4]
    assert [spoken(name) for name in ("sam", "gradient")] == ["SAM", "gradient"]
    assert random_cosine(curvature()) == pytest.approx(
        1.96 / np.sqrt(CURVATURE_FACTS["parameters"])
    )
    bare = replace(curvature(), facts={})
    assert random_cosine(bare) == pytest.approx(1.96 / np.sqrt(bare.layer_size.sum()))
    assert np.isnan(random_cosine(replace(bare, layer_size=[])))


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("SGD", ()),
        ("SAM", ("SAM",)),
        ("SAM+AACE", ("AACE", "SAM")),
        ("ASAM", ("ASAM",)),
        ("F-SAM", ("F-SAM",)),
        ("VaSSO", ("VASSO",)),
        ("LE-SAM ρ=0.5", ("LE-SAM",)),
    ],
)
def test_a_method_whose_name_ends_in_sam_is_not_sam(method, names):
    assert trained_with(method) == names
