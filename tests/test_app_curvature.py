"""The page of curvature, the comparison of it, and what lists know of it."""

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from run_curvature import HESSIAN, SHAPE
from samples import CHECKPOINTS, make_runs

from app import main, shell
from app.measured import Measured, operator_of
from app.pages import spectrum_inspector, spectrum_panes
from app.store import Store
from app.summaries import largest_eigenvalue, summarize
from app.view_state import VIEWS, ViewState, decode, encode, showing
from landscape.results import Spectrum

THEME, LAST = "light", CHECKPOINTS[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("curved") / "runs", ("sgd", "sam", "aace"))


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store(folder)


@pytest.fixture
def alone(tmp_path: Path, folder: Path) -> Store:
    """A run whose results a test may change."""
    shutil.copytree(folder / "sam", tmp_path / "runs" / "sam")
    return Store(tmp_path / "runs")


def run_named(store: Store, name: str):
    return next(run for run in store.runs() if run.name == name)


def look(store: Store, name: str = "sam", **state) -> shell.View:
    page = ViewState(page="spectrum", run=run_named(store, name).id, **state)
    return shell.view_of(page, store, THEME, main.PAGES)


def bodies(view: shell.View) -> dict:
    return {pane.name: pane.body for pane in view.panes}


def text_of(component: object) -> str:
    def plain(part: object) -> object:
        return part.to_plotly_json() if hasattr(part, "to_plotly_json") else str(part)

    return json.dumps(component, default=plain, ensure_ascii=False)


def rows_of(table) -> list[list[str]]:
    """The text of a table's cells."""
    (inner,) = [table.children] if not isinstance(table.children, list) else [table.children[0]]
    inner = inner.children if not hasattr(inner.children, "__iter__") else inner
    body = inner.children[1]
    return [[cell.children for cell in row.children] for row in body.children]


def remove(store: Store, *kinds: str) -> None:
    (run,) = store.runs()
    for kind in kinds:
        for stored in store.results(run, kind):
            stored.path.unlink()


def change(store: Store, kind: str, **fields) -> None:
    """Put another result of a kind in the place of the newest one."""
    (run,) = store.runs()
    stored = Measured(store=store, run=run).results(kind)[-1]
    changed = replace(store.load(stored), **fields)
    stored.path.unlink()
    changed.save(stored.path.with_name(f"{kind}-0changed.h5"))


# the address


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_curvature_stands_in_the_address(view: str) -> None:
    state = ViewState(
        page="spectrum", run="a", view=view, operator="ggn", axis="log", width=0.25, variant="b1"
    )
    path, _, query = encode(state).partition("?")
    assert decode(path, "?" + query) == state


def test_a_width_that_is_not_offered_falls_back(store: Store) -> None:
    assert decode("/run/a/spectrum", "?width=3.3&axis=cubic&view=score").width == 1.0
    assert encode(ViewState(page="spectrum", run="a")) == "/run/a/spectrum"


@pytest.mark.parametrize(
    ("kind", "page", "view"),
    [
        ("curvature", "spectrum", "training"),
        ("sharpness", "spectrum", "sharpness"),
        ("trace", "spectrum", "spectrum"),
        ("trajectory", "surface", "spectrum"),
        ("consistency", "consistency", "spectrum"),
    ],
)
def test_a_kind_is_shown_on_its_page(kind: str, page: str, view: str) -> None:
    state = showing(kind, "a")
    assert (state.page, state.view) == (page, view)


# the views


@pytest.mark.parametrize("name", ["sgd", "aace"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_pane_of_every_view_is_filled(store: Store, view: str, name: str) -> None:
    shown = look(store, name, view=view)
    tables = {"eigenvalues", "sharpness", "multiplier list"}
    empty = {n for n, body in bodies(shown).items() if not isinstance(body, go.Figure)} - tables
    assert empty == set()
    assert "Reading it" in text_of(list(shown.inspector))


def test_operators_are_not_mixed(store: Store) -> None:
    hessian, other = look(store), look(store, operator="ggn")
    tops = [bodies(view)["scree"].data[0].customdata[0][0] for view in (hessian, other)]
    assert tops == pytest.approx([4.0, 3.8])
    told = text_of(list(other.panes))
    assert "No density of the generalized Gauss–Newton matrix measured yet." in told
    assert "--operator ggn" in told
    measured = Measured(store=store, run=run_named(store, "sam"), operator="ggn")
    assert {operator_of(stored) for stored in measured.results("spectrum")} == {"ggn"}


def test_an_operator_that_was_never_measured_names_its_command_once(store: Store) -> None:
    shown = look(store, operator="moment")
    assert list(bodies(shown)) == ["nothing"]
    told = text_of(list(shown.panes))
    assert "second moment of the samples' gradients" in told
    assert told.count("--operator moment") == 2  # as text, and on the button that copies it


def test_an_operator_is_known_by_its_fact_where_no_option_says_it(store: Store) -> None:
    stored = Measured(store=store, run=run_named(store, "sam")).results("spectrum")[0]
    said = {"hessian": HESSIAN, "ggn": "generalized Gauss-Newton", "moment": "second moment of g"}
    for operator, fact in said.items():
        assert operator_of(replace(stored, options={}, facts={"operator": fact})) == operator


def test_a_part_of_the_net_is_offered_apart_from_the_whole(alone: Store) -> None:
    (run,) = alone.runs()
    stored = Measured(store=alone, run=run).stored("spectrum", None)
    whole = alone.load(stored)
    asked = {**stored.options, "parameters": "conv.*"}
    part = replace(whole, eigenvalues=0.1 * whole.eigenvalues, options=asked)
    part.save(stored.path.with_name("spectrum-0part.h5"))
    measured = Measured(store=alone, run=run)
    assert measured.load("spectrum", LAST).eigenvalues[0] == whole.eigenvalues[0]
    (name,) = [name for name in measured.variants() if name]
    of_part = look(alone, variant=name)
    assert bodies(of_part)["scree"].data[0].customdata[0][0] == pytest.approx(0.4)
    assert "conv.*" in text_of(list(of_part.toolbar))
    assert largest_eigenvalue(run, alone) == whole.eigenvalues.max()


def test_width_and_axis_change_the_drawing_and_nothing_else(store: Store) -> None:
    plain, wide, log = look(store), look(store, width=4.0), look(store, axis="log")
    peaks = [np.max(bodies(view)["density"].data[-1].y) for view in (plain, wide)]
    assert bodies(wide)["density"] != bodies(plain)["density"]
    assert peaks[0] > 0
    assert bodies(log)["density"].layout.xaxis.type == "log"
    assert bodies(log)["scree"] == bodies(plain)["scree"]
    first = shell.mount(plain, {}, {})
    update = shell.mount(wide, first.mounted, {})
    assert set(update.figures) == {"density"}


def test_the_cosine_stands_beside_the_eigenvalue_it_belongs_to(store: Store) -> None:
    run = run_named(store, "aace")
    measured = Measured(store=store, run=run)
    curvature, spectrum = measured.curvature(), measured.load("spectrum", LAST)
    cosines, name = spectrum_panes.cosines_of(spectrum, curvature, LAST, run.method)
    assert name == "aace"
    np.testing.assert_array_equal(cosines[:5], curvature.alignment[-1, 2])
    assert np.isnan(cosines[5:]).all()  # found in the spectrum alone
    other, _ = spectrum_panes.cosines_of(spectrum, curvature, 1, run.method)
    assert np.isnan(other).all()
    double = replace(spectrum, eigenvalues=np.array([*spectrum.eigenvalues[:1]] * 8))
    doubled, _ = spectrum_panes.cosines_of(double, curvature, LAST, run.method)
    assert np.isnan(doubled).all()  # which of eight equal ones it is, nobody knows
    equal = replace(curvature, eigenvalues=np.full((9, 5), spectrum.eigenvalues[0]))
    assert np.isnan(spectrum_panes.cosines_of(spectrum, equal, LAST, run.method)[0]).all()
    table = bodies(look(store, "aace"))["eigenvalues"]
    assert [row[3] for row in rows_of(table)][5:] == ["–"] * 3


def test_pairs_that_did_not_converge_are_marked_and_told(alone: Store) -> None:
    within = np.ones(8, bool)
    within[[2, 7]] = False
    change(alone, "spectrum", within=within, converged=False)
    shown = look(alone)
    table = bodies(shown)["eigenvalues"]
    assert "* not converged" in text_of(table)
    assert text_of(table).count('*"') == 2
    assert "6 of 8 converged" in text_of([pane.note for pane in shown.panes])
    assert "Not converged: the residual of 2 of 8" in text_of(list(shown.inspector))
    missing = np.ones(8, bool)
    change(alone, "spectrum", within=missing, converged=False)
    assert "copies of a multiple eigenvalue" in text_of(list(look(alone).inspector))


def test_an_interrupted_measurement_says_so(alone: Store) -> None:
    (run,) = alone.runs()
    facts = Measured(store=alone, run=run).load("trace", None).facts
    assert "was interrupted" not in text_of(list(look(alone).inspector))
    change(alone, "trace", facts=facts | {"interrupted": True})
    assert "The trace was interrupted" in text_of(list(look(alone).inspector))


def test_an_edge_is_drawn_where_there_is_one_and_else_the_reason_is_told(store: Store) -> None:
    edged, bare = look(store, "sam", view="training"), look(store, "aace", view="training")
    assert "edge" in [trace.name for trace in bodies(edged)["largest"].data]
    assert "edge" not in [trace.name for trace in bodies(bare)["largest"].data]
    assert "edge" in [trace.name for trace in bodies(look(store, "sam"))["largest"].data]
    assert "no edge is known for AACE" in text_of(list(bare.inspector))
    assert "No edge is drawn" in text_of(list(bare.inspector))


def test_a_run_that_was_not_followed_shows_its_spectra_and_names_the_command(alone: Store) -> None:
    remove(alone, "curvature")
    largest = bodies(look(alone))["largest"]
    assert list(largest.data[-1].x) == list(CHECKPOINTS[::2])
    followed = bodies(look(alone, view="training"))
    assert not any(isinstance(body, go.Figure) for body in followed.values())
    assert "landscape curvature " in text_of(list(followed.values()))


def test_a_trace_at_one_checkpoint_gives_way_to_the_one_that_was_followed(alone: Store) -> None:
    assert len(bodies(look(alone))["trace"].data[-1].x) == 5
    (run,) = alone.runs()
    for stored in alone.results(run, "trace")[:-1]:
        stored.path.unlink()
    assert "followed trace" in bodies(look(alone))


def test_a_multiplier_that_was_not_followed_names_the_option(alone: Store) -> None:
    change(alone, "curvature", multiplier=np.empty(0), multiplier_residual=np.empty(0))
    told = text_of(bodies(look(alone, view="training"))["multiplier"])
    assert "No stability multiplier measured" in told
    assert "--stability" in told


def test_every_part_without_results_names_the_command_that_measures_it(alone: Store) -> None:
    remove(alone, "spectrum", "density", "trace", "curvature", "sharpness", "stability")
    commands = {
        "spectrum": "landscape spectrum ",
        "training": "landscape curvature ",
        "layers": "landscape curvature ",
        "sharpness": "landscape sharpness ",
        "stability": "landscape stability ",
    }
    for view, command in commands.items():
        shown = look(alone, view=view)
        assert not any(isinstance(body, go.Figure) for body in bodies(shown).values())
        assert command in text_of(list(shown.panes))
        assert "Reading it" not in text_of(list(shown.inspector))


def test_the_sharpness_table_has_bounds_intervals_and_the_audit(store: Store) -> None:
    shown = look(store, view="sharpness")
    text = text_of(bodies(shown)["sharpness"]).replace("\N{THIN SPACE}", " ")
    for word in ("≥ 0.0204", "× 3.70", "neurons × 2", "12.80 ± 0.28", "12.21 to 13.39"):
        assert word in text
    assert "5 of 6 measures" in text_of(list(shown.inspector))
    for word in ("best", "score", "rank"):
        assert word not in text


def test_a_measure_is_moved_by_over_one_percent_and_unknown_is_not_moved(store: Store) -> None:
    table = Measured(store=store, run=run_named(store, "sam")).load("sharpness", LAST)
    ratios = np.array([[1.0, np.nan], [1.004, 1.0], [1.0, 0.9], [np.nan] * 2, [2, 1], [1, 1]])
    moved = spectrum_inspector.moved_by_audit(replace(table, audit=ratios))
    assert list(moved) == [False, False, True, False, True, False]


def test_summary_bounds_the_largest_eigenvalue_and_counts_what_is_negative(store: Store) -> None:
    told = text_of(list(look(store).inspector))
    assert "4.000 to 4.120, 95" in told
    density = Measured(store=store, run=run_named(store, "sam")).load("density", LAST)
    below = np.where(density.nodes < -density.sigma, density.weights, 0).sum(axis=1).mean()
    share = spectrum_panes.negative_mass(density)
    assert share == pytest.approx(below * (density.size - 4) / density.size)
    negative = replace(density, outliers=-density.outliers)
    assert spectrum_panes.negative_mass(negative) == pytest.approx(share + 4 / density.size)


def test_every_figure_and_table_that_the_page_or_the_comparison_offers_opens(
    folder: Path, store: Store
) -> None:
    client = main.create_app(folder).server.test_client()
    views = [look(store, view=view) for view in VIEWS[1:]]
    views.append(shell.view_of(ViewState(page="compare"), store, THEME, main.PAGES))
    links = re.findall(r'"href": "(/(?:data|figure)/[^"]+)"', text_of([v.buttons for v in views]))
    wanted = {"curvature", "sharpness", "stability", "trace", "layers", "density"}
    opened = {link for link in links if wanted & set(re.split(r"[/.]", link))}
    opened = {link for link in opened if ".pdf" in link or ".csv" in link}
    assert wanted <= {part for link in opened for part in re.split(r"[/.]", link)}
    for link in opened:
        answer = client.get(html.unescape(link))
        assert answer.status_code == 200, (link, answer.text)


# lists and comparison


def test_lists_count_the_kinds_of_curvature_and_one_icon_tells_them(store: Store) -> None:
    run = run_named(store, "sam")
    summary = summarize(run, store)
    assert summary.measured["curvature"] == summary.measured["sharpness"] == 1
    listed = shell.view_of(ViewState(page="runs"), store, THEME, main.PAGES)
    (row,) = [r for r in listed.panes[0].body.children[0].rowData if r["name"] == "sam"]
    assert "1 × sharpness" in row["measured"]["spectrum"]
    assert "1 × curvature through training" in row["measured"]["spectrum"]
    overview = shell.view_of(ViewState(page="overview", run=run.id), store, THEME, main.PAGES)
    assert f"/run/{run.id}/spectrum?view=sharpness" in text_of(list(overview.inspector))


def test_the_largest_eigenvalue_of_a_run_is_its_hessians_at_the_last_step(alone: Store) -> None:
    (run,) = alone.runs()
    measured = Measured(store=alone, run=run)
    top = measured.load("spectrum", LAST).eigenvalues.max()
    assert largest_eigenvalue(run, alone) == top
    for stored in measured.results("spectrum"):
        if stored.facts["checkpoint"] == LAST:
            stored.path.unlink()
    curvature = measured.curvature()
    assert largest_eigenvalue(run, alone) == curvature.eigenvalues[-1, 0]  # later than the spectra
    values = curvature.eigenvalues.copy()
    values[-4:] = np.nan
    change(alone, "curvature", eigenvalues=values)
    expected = measured.load("spectrum", None).eigenvalues.max()
    assert largest_eigenvalue(run, alone) == expected
    remove(alone, "spectrum")
    assert largest_eigenvalue(run, alone) == values[4, 0]
    remove(alone, "curvature")
    assert np.isnan(largest_eigenvalue(run, alone))


def test_a_search_of_the_low_end_alone_tells_no_largest_eigenvalue(alone: Store) -> None:
    (run,) = alone.runs()
    remove(alone, "spectrum", "curvature")
    low = Spectrum(
        eigenvalues=SHAPE[-1:],
        residuals=np.zeros(1),
        which="SA",
        facts={"run": run.id, "checkpoint": LAST},
        options={"which": "SA"},
    )
    low.save(run.path / "results" / "spectrum-0low.h5")
    assert np.isnan(largest_eigenvalue(run, alone))


def test_runs_are_compared_over_equal_axes_with_the_last_density_of_each(store: Store) -> None:
    view = shell.view_of(ViewState(page="compare"), store, THEME, main.PAGES)
    drawn = bodies(view)
    names = {trace.name for trace in drawn["densities"].data}
    assert {"sgd", "sam", "aace"} <= names
    lines = {trace.name: trace for trace in drawn["largest"].data}
    for name, line in lines.items():
        curvature = Measured(store=store, run=run_named(store, name)).curvature()
        assert list(line.y) == list(curvature.eigenvalues[:, 0])
    assert set(lines) == {"sgd", "sam", "aace"}


def test_sharpness_of_runs_stands_by_measure_with_what_it_depends_on(store: Store) -> None:
    view = shell.view_of(ViewState(page="compare"), store, THEME, main.PAGES)
    rows = rows_of(bodies(view)["sharpness"])
    assert [len(row) for row in rows] == [5] * 9
    assert rows[0][0] == "λmax"
    assert rows[0][1].count("/") == 2  # each run's own residual
    assert [row[0] for row in rows[-3:]] == ["train loss", "mean p of the true class", "checkpoint"]
    assert all(cell.startswith("≥") for cell in rows[2][2:])


def test_values_measured_under_other_statistics_are_said_not_to_compare(
    tmp_path: Path, folder: Path
) -> None:
    for name in ("sgd", "sam"):
        shutil.copytree(folder / name, tmp_path / "runs" / name)
    both = Store(tmp_path / "runs")
    run = run_named(both, "sam")
    (stored,) = both.results(run, "sharpness")
    table = both.load(stored)
    stored.path.unlink()
    replace(table, facts=table.facts | {"bn": "batch"}).save(stored.path)
    view = shell.view_of(ViewState(page="compare"), both, THEME, main.PAGES)
    notes = {pane.name: pane.note for pane in view.panes}
    assert "batch norm differ" in notes["sharpness"]
    assert "differ" not in notes["densities"]


def test_a_folder_of_sharpness_alone_opens_on_it(tmp_path: Path, store: Store) -> None:
    (stored,) = store.results(run_named(store, "sam"), "sharpness")
    store.load(stored).save(tmp_path / "sharpness-one.h5")
    loose = Store(tmp_path)
    state = shell.address(loose, "/", "")
    assert (state.page, state.view) == ("spectrum", "sharpness")
    view = shell.view_of(state, loose, THEME, main.PAGES)
    assert isinstance(bodies(view)["measures"], go.Figure)
