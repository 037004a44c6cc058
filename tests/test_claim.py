"""Statements held against planted runs: verdicts, intervals, what would change them, the report."""

import json
import math
from dataclasses import replace

import direction_samples
import numpy as np
import pytest
import scipy.stats
from samples import claim_of
from test_compare import made

from landscape.claim_report import write_report
from landscape.claims import measure_claim, nested_interval
from landscape.evidence import AACE, SAM, Evidence, group_runs
from landscape.figures import interactive, paper
from landscape.figures.captions import caption
from landscape.figures.claim_words import claim_grid
from landscape.reports import headline, report
from landscape.runs import Run
from landscape.statements import STATEMENTS, Row, Statement

SEEDS = (0, 1, 2)
CLAIMED = {  # what holds if the paper and all explanations are right
    "aace": 0.7,
    "sam": 0.01,
    "early": 0.65,
    "online": {"SAM": 0.0, "SAM+AACE": 0.7},
    "up": 1.0,
    "errors": {"SAM": 0.10, "SAM+AACE": 0.08, "SGD": 0.12},
    "minimum": 0.7,
}


def planted(tmp_path, seeds=SEEDS, **changed) -> Evidence:
    """Runs of SGD, SAM and AACE whose results say what is planted, a little apart by seed."""
    truth = CLAIMED | changed
    groups: dict[str, dict[int, Run]] = {}
    results = {}
    for method in ("SGD", SAM, AACE):
        for seed in seeds:
            error = truth["errors"][method] + 1e-3 * seed
            run = made(tmp_path / f"{method}-{seed}", seed, method=method)
            run.summary["test_accuracy"] = 1 - error
            groups.setdefault(method, {})[seed] = run
            results |= _planted_results(run, method, seed, truth)
    return Evidence(groups, results)


def _planted_results(run, method, seed, truth):
    apart = 0.01 * (seed - 1)
    found = {
        (run.id, "frozen", name): direction_samples.frozen(
            truth[name] + apart * (name == "aace"), seed=seed
        )
        for name in ("sam", "aace")
    }
    found[run.id, "early", "aace"] = direction_samples.frozen(truth["early"], seed=seed)
    if method == "SGD":
        return found
    online = truth["online"][method] + apart
    found[run.id, "directions", ""] = direction_samples.directions(online / 1.1)
    for name in ("sam", "aace"):
        up = truth["up"] if name == "aace" else 1.0
        along = direction_samples.rise(up=up * (1.0 + 0.02 * seed))
        if up < 0:
            along = replace(along, rise=along.rise - 2e-3)
        found[run.id, "rise", name] = along
        found[run.id, "offset", name] = direction_samples.offset(truth["minimum"] + apart)
    return found


def verdicts(claim):
    return dict(zip(claim.statements, claim.verdicts, strict=True))


# verdicts


def test_runs_planted_as_the_paper_says_support_it(tmp_path):
    found = verdicts(measure_claim(planted(tmp_path), seed=0))
    paper_says = [s.name for s in STATEMENTS if s.source == "paper"]
    assert {found[name] for name in paper_says} == {"supports"}
    assert found["offset"] == found["sharpness"] == found["noise scale"] == "supports"


@pytest.mark.parametrize(
    ("changed", "contradicted"),
    [
        ({"aace": 0.03, "sam": 0.01}, {"frozen", "cross-over", "kept"}),
        ({"sam": 0.6, "aace": 0.62}, {"frozen", "cross-over", "noise"}),
        ({"online": {"SAM": 0.7, "SAM+AACE": 0.7}}, {"online"}),
        ({"up": -1.0}, {"adversarial", "matched"}),
        ({"errors": {"SAM": 0.08, "SAM+AACE": 0.10, "SGD": 0.1}}, {"generalizes"}),
        ({"minimum": -0.5}, {"offset", "shift"}),
    ],
)
def test_runs_planted_against_a_statement_contradict_it_and_no_other(
    tmp_path, changed, contradicted
):
    found = verdicts(measure_claim(planted(tmp_path, **changed), seed=0))
    assert {name for name, verdict in found.items() if verdict == "contradicts"} == contradicted


def test_one_method_whose_weights_do_not_show_it_contradicts_a_statement_about_all(tmp_path):
    evidence = planted(tmp_path)
    for run in evidence.runs("SGD").values():
        evidence.results[run.id, "frozen", "aace"] = evidence.results[run.id, "frozen", "sam"]
    claim = measure_claim(evidence, seed=0)
    assert verdicts(claim)["frozen"] == "supports"
    assert verdicts(claim)["cross-over"] == "contradicts"
    told = dict(zip(claim.row_names, claim.row_verdicts, strict=True))
    assert told["SGD runs"] == "contradicts"


def test_one_seed_decides_nothing(tmp_path):
    claim = measure_claim(planted(tmp_path, seeds=(4,)), seed=0)
    assert set(claim.verdicts) == {"undecided"}
    assert all("one seed" in change for change in claim.changes)
    assert np.isnan(claim.interval_low).all()
    assert np.isfinite(claim.estimate).all()


def test_what_was_not_measured_is_undecided_and_named(tmp_path):
    evidence = planted(tmp_path)
    run = next(iter(evidence.runs(SAM).values()))
    del evidence.results[run.id, "directions", ""]
    groups = {method: runs for method, runs in evidence.groups.items() if method != AACE}
    claim = measure_claim(Evidence(evidence.groups, evidence.results), seed=0)
    at = claim.statements.index("online")
    (row,) = np.flatnonzero(claim.row_statement == at)
    assert claim.verdicts[at] == "undecided"
    assert run.name in claim.row_names[row]
    assert math.isnan(claim.estimate[row])
    without = measure_claim(Evidence(groups, evidence.results), seed=0)
    assert "there are no runs of SAM+AACE" in without.row_names


def test_an_effect_that_is_not_finite_stays_so_and_decides_nothing(tmp_path):
    evidence = planted(tmp_path)
    run = next(iter(evidence.runs(AACE).values()))
    run.summary["test_accuracy"] = math.nan
    claim = measure_claim(evidence, seed=0)
    assert verdicts(claim)["generalizes"] == "undecided"
    (row,) = np.flatnonzero(claim.row_statement == claim.statements.index("generalizes"))
    assert math.isnan(claim.estimate[row])
    assert "not finite" in claim.changes[row]


def _statement(relation, margin, values):
    def rows(evidence):
        del evidence
        yield Row(label="runs", values=dict(enumerate(values)))

    return Statement(
        name="x",
        source="paper",
        text="",
        effect="",
        unit="",
        relation=relation,
        margin=margin,
        rows=rows,
    )


@pytest.mark.parametrize(
    ("relation", "margin", "values", "verdict"),
    [
        ("above", 0.1, [0.7, 0.72, 0.69], "supports"),
        ("above", 0.1, [0.01, 0.02, 0.0], "contradicts"),
        ("above", 0.1, [0.0, 0.3, 0.2], "undecided"),
        ("below", 1.0, [0.2, 0.3, 0.25], "supports"),
        ("below", 1.0, [1.5, 1.6, 1.55], "contradicts"),
        ("below", 1.0, [0.5, 1.5, 0.9], "undecided"),
        ("within", 0.05, [0.01, 0.012, 0.008], "supports"),
        ("within", 0.05, [-0.2, -0.21, -0.19], "contradicts"),
        ("within", 0.05, [0.3, 0.31, 0.29], "contradicts"),
        ("within", 0.05, [-0.05, 0.01, 0.07], "undecided"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(tmp_path, relation, margin, values, verdict):
    evidence = Evidence({SAM: {0: made(tmp_path / "a", 0)}}, {})
    claim = measure_claim(evidence, [_statement(relation, margin, values)], seed=0)
    assert claim.row_verdicts == (verdict,)
    expected = scipy.stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert np.allclose([claim.interval_low[0], claim.interval_high[0]], expected)


@pytest.mark.parametrize(
    ("relation", "values"),
    [
        ("above", [0.7, 0.72, 0.69]),
        ("above", [0.01, 0.02, 0.0]),
        ("below", [0.02, 0.03, 0.01]),
        ("below", [1.5, 1.6, 1.55]),
        ("within", [0.01, 0.012, 0.008]),
        ("within", [-0.3, -0.31, -0.29]),
    ],
)
def test_the_margin_that_would_change_a_verdict_does_and_one_short_of_it_does_not(
    tmp_path, relation, values
):
    evidence = Evidence({SAM: {0: made(tmp_path / "a", 0)}}, {})

    def at(margin):
        return measure_claim(evidence, [_statement(relation, margin, values)], seed=0)

    first = at(0.1)
    words = first.changes[0].split()
    bound, way = float(words[3].replace("−", "-")), 1 if words[-1] == "more" else -1
    assert at(bound).row_verdicts == ("undecided",)
    assert at(bound - way * 0.01 * abs(bound)).row_verdicts == first.row_verdicts


def test_undecided_says_how_many_seeds_would_decide(tmp_path):
    values = [0.0, 0.3, 0.2]
    evidence = Evidence({SAM: {0: made(tmp_path / "a", 0)}}, {})
    claim = measure_claim(evidence, [_statement("above", 0.1, values)], seed=0)
    seeds = int(claim.changes[0].split()[0])
    spread, room = np.std(values, ddof=1), abs(np.mean(values) - 0.1)

    def half(n):
        return scipy.stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    assert half(seeds) < room <= half(seeds - 1)


# intervals


def test_the_nested_interval_covers_the_truth_of_planted_groups():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        means = 0.5 + 0.05 * rng.normal(size=8)
        draws = {
            s: m + 0.02 * rng.normal() + 0.02 * rng.normal(size=400) for s, m in enumerate(means)
        }
        values = {s: float(d.mean()) for s, d in draws.items()}
        low, high = nested_interval(Row(label="", values=values, draws=draws), trial, draws=500)
        hits += low <= 0.5 <= high
    assert 170 <= hits <= 199  # 95 % of 200, with eight seeds somewhat less


def test_the_nested_interval_holds_the_spread_of_batches_where_seeds_are_alike():
    draws = {seed: np.random.default_rng(seed).normal(0.5, 0.1, 2000) for seed in range(4)}
    row = Row(label="", values=dict.fromkeys(draws, 0.5), draws=draws)
    low, high = nested_interval(row, 0)
    assert (low, high) == pytest.approx((0.5 - 0.098, 0.5 + 0.098), abs=0.01)  # 1.96 × 0.1 / √4


def test_there_is_no_nested_interval_of_one_seed_or_without_batches():
    row = Row(label="", values={0: 1.0}, draws={0: np.ones(10)})
    assert all(map(math.isnan, nested_interval(row, 0)))
    assert all(map(math.isnan, nested_interval(Row(label="", values={0: 1.0, 1: 2.0}), 0)))


# groups


def test_runs_are_grouped_by_method_and_seed(tmp_path):
    for name, method in (("a", "sam"), ("b", "sam"), ("c", "sgd")):
        made(tmp_path / name, ord(name), method=method)
    groups = group_runs([str(tmp_path)])
    assert {m: list(runs) for m, runs in groups.items()} == {"SAM": [97, 98], "SGD": [99]}


def test_a_method_in_two_settings_is_refused(tmp_path):
    made(tmp_path / "a", 0, method="sam", rho=0.05)
    made(tmp_path / "b", 1, method="sam", rho=0.1)
    with pytest.raises(ValueError, match=r"the runs of SAM: .*rho 0\.05 or 0\.1"):
        group_runs([str(tmp_path)])


def test_no_runs_and_runs_without_seed_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected runs, got none"):
        group_runs([str(tmp_path)])
    made(tmp_path / "a", None, method="sam")
    with pytest.raises(ValueError, match="must say its seed"):
        group_runs([str(tmp_path)])


# words and figures


def test_the_table_has_every_row_and_the_report_fits_the_terminal(monkeypatch):
    claim = claim_of()
    heads, rows = claim_grid(claim)
    assert len(rows) == 4
    assert all(len(row) == len(heads) for row in rows)
    assert rows[0][2:4] == ["0.703", "0.665 to 0.741"]
    assert "2 supported" not in caption(claim)
    assert "of 2, 1 supported, 1 contradicted and 0 undecided" in caption(claim)
    for columns in (60, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        stored = type("Kept", (), {"result": claim, "path": "x.h5", "found": True})
        assert max(map(len, report(stored, "runs").split("\n"))) <= columns
    told = headline(claim)["statements"]
    assert told["matched"]["verdict"] == "contradicts"
    assert [row["runs"] for row in told["matched"]["rows"]] == ["SAM runs", "SAM+AACE runs"]


def test_the_paper_figure_draws_interval_margin_and_seeds_of_every_row():
    claim = claim_of()
    figure = paper.draw_claim(claim)
    assert len(figure.axes) == 4
    for i, axes in enumerate(figure.axes):
        drawn = {line.get_gid(): line.get_xdata() for line in axes.lines}
        assert np.allclose(drawn["interval"], [claim.interval_low[i], claim.interval_high[i]])
        assert np.allclose(drawn["seeds"], claim.values[i])
        low, high = axes.get_xlim()
        assert low < claim.interval_low[i] < claim.interval_high[i] < high


def test_the_screen_figure_puts_an_effect_on_the_side_of_its_verdict():
    claim = claim_of()
    figure = interactive.plot_claim(claim, theme="dark")
    (trace,) = figure.data
    assert len(trace.x) == 4
    for i, shape in enumerate(figure.layout.shapes):
        inside = shape.x0 <= trace.x[i] <= shape.x1
        assert inside == (claim.row_verdicts[i] != "contradicts")
    assert [s.endswith("-open") for s in trace.marker.symbol] == [False, False, False, True]


# report


def test_the_report_is_one_page_a_pdf_and_tables(tmp_path):
    evidence = planted(tmp_path / "runs")
    claim = replace(
        measure_claim(evidence, seed=0), provenance={"command": ["landscape", "claim", "<runs>"]}
    )
    written = write_report(claim, evidence, tmp_path / "out")
    assert [path.name for path in written] == [
        "report.html",
        "report.pdf",
        "effects.csv",
        "verdicts.csv",
        "values.csv",
    ]
    page = written[0].read_text()
    for part in (*claim.statements, *claim.row_names, "&lt;runs&gt;", "data:image/svg+xml"):
        assert part in page
    assert "<runs>" not in page
    assert not any(f"{scheme}://" in page for scheme in ("http", "https"))
    assert written[1].read_bytes().startswith(b"%PDF")
    before = [path.read_bytes() for path in written]
    assert [p.read_bytes() for p in write_report(claim, evidence, tmp_path / "out")] == before
    json.dumps(headline(claim))


def test_a_report_is_not_written_over_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    evidence = planted(tmp_path / "runs")
    with pytest.raises(ValueError, match=r"must be a folder to write to, got .*: File exists"):
        write_report(measure_claim(evidence, seed=0), evidence, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
