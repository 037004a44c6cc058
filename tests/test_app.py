import csv
import html
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from dash import Patch, no_update
from samples import CHECKPOINTS, make_runs

from app import main, panes, shell
from app.measured import Measured
from app.pages import compare, runs, surface
from app.store import MissingError, Store
from app.view_state import RUN_PAGES, ViewState, decode, encode
from landscape.exports import redraw
from landscape.figures import palette
from landscape.result_files import load_result
from landscape.results import KINDS
from landscape.runs import Run

THEME = "light"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("app") / "runs")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store(folder)


@pytest.fixture(scope="module")
def client(folder: Path):
    return main.create_app(folder).server.test_client()


def run_named(store: Store, name: str):
    return next(run for run in store.runs() if run.name == name)


def look(state: ViewState, store: Store) -> shell.View:
    return shell.view_of(state, store, THEME, main.PAGES)


def figures_of(view: shell.View) -> dict[str, go.Figure]:
    return {pane.name: pane.body for pane in view.panes if isinstance(pane.body, go.Figure)}


def text_of(component: object) -> str:
    def plain(part: object) -> object:
        return part.to_plotly_json() if hasattr(part, "to_plotly_json") else str(part)

    return json.dumps(component, default=plain)


# the address


@pytest.mark.parametrize(
    "state",
    [
        ViewState(),
        ViewState(page="runs", select=("abc", "def"), run="abc"),
        ViewState(page="runs", select=()),
        ViewState(page="compare", select=("abc",), plane="trajectory", quantity="top 5", run="z"),
        ViewState(page="overview", run="abc", step=0),
        ViewState(page="surface", run="abc", surface="k1", show="scene", scale="linear", step=30),
        ViewState(page="spectrum", run="abc", step=120),
        ViewState(page="consistency", run="abc", protocol="online"),
    ],
)
def test_an_address_gives_back_the_view_it_was_made_from(state: ViewState) -> None:
    path, _, query = encode(state).partition("?")
    assert decode(path, "?" + query) == state


def test_what_an_address_can_not_mean_falls_back_to_its_default() -> None:
    state = decode("/run/abc/surface", "?scale=cubic&step=-1&value=../x&surface=%2Fetc&show=3")
    assert state == ViewState(page="surface", run="abc")
    assert decode("/run/abc/nonsense", "").page == "unknown"
    assert decode(None, None) == ViewState()


def test_fields_of_other_pages_do_not_stand_in_an_address() -> None:
    assert encode(ViewState(page="spectrum", run="a", scale="linear", select=("b",))) == (
        "/run/a/spectrum"
    )


# the store


def test_the_store_takes_a_run_a_folder_of_runs_or_a_folder_of_results(folder: Path) -> None:
    assert {run.name for run in Store(folder).runs()} == {"sgd", "sam", "aace"}
    assert [run.name for run in Store(folder / "sam").runs()] == ["sam"]
    assert Store(folder / "sam").is_run
    loose = Store(folder / "sam" / "results")
    (only,) = loose.runs()
    joint = Store(folder).joint()
    kinds = [stored.kind for stored in Store(folder).results(joint)]
    assert sorted(kinds) == ["barrier", "claim", "comparison", "curve", "surface"]
    assert {stored.kind for stored in loose.results(only)} | set(kinds) == set(KINDS)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_runs_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="landscape train"):
        Store(tmp_path / name)


def test_a_new_result_appears_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    store = Store(make_runs(tmp_path / "runs", ("sam",)))
    (run,) = store.runs()
    before = store.results(run, "surface")
    copy = before[0].path.with_name("surface-0123456789ab.h5")
    copy.write_bytes(before[0].path.read_bytes())
    assert len(store.results(run, "surface")) == len(before) + 1
    copy.write_bytes(copy.read_bytes()[:2000])
    assert len(store.results(run, "surface")) == len(before)
    (told,) = store.damaged(run)
    assert copy.name in told
    assert str(tmp_path) not in told


def test_a_damaged_run_is_told_while_the_others_are_shown(tmp_path: Path) -> None:
    root = make_runs(tmp_path / "runs", ("sam", "sgd"))
    (root / "sgd" / "run.json").write_text("{")
    store = Store(root)
    assert [run.name for run in store.runs()] == ["sam"]
    view = look(ViewState(page="runs"), store)
    assert "sgd" in text_of(view.panes[0].body)
    assert list(store.unreadable) == ["sgd"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = make_runs(tmp_path / "outside", ("sgd",))
    root = make_runs(tmp_path / "runs", ("sam",))
    (root / "out").symlink_to(outside / "sgd", target_is_directory=True)
    assert [run.name for run in Store(root).runs()] == ["sam"]


def test_what_is_missing_is_named_with_the_command_that_makes_it(store: Store) -> None:
    run = run_named(store, "sam")
    with pytest.raises(MissingError) as missing:
        store.at(run, "spectrum", CHECKPOINTS[1])
    assert missing.value.command.startswith("landscape spectrum ")
    assert f"--checkpoint {CHECKPOINTS[1]}" in missing.value.command


# the pages


@pytest.mark.parametrize("name", ["sgd", "sam", "aace"])
@pytest.mark.parametrize("kind", RUN_PAGES)
def test_every_pane_of_a_measured_run_holds_a_figure(store: Store, kind: str, name: str) -> None:
    run = run_named(store, name)
    view = look(ViewState(page=kind, run=run.id), store)
    empty = {p.name for p in view.panes if not isinstance(p.body, go.Figure)} - {"eigenvalues"}
    assert empty == set()
    for figure in figures_of(view).values():
        assert any(trace.x is not None and len(trace.x) for trace in figure.data)


def test_library_pages_show_every_run(store: Store) -> None:
    listed = look(ViewState(page="runs"), store)
    assert {trace.name for trace in figures_of(listed)["losses"].data} >= {"sgd", "sam", "aace"}
    compared = look(ViewState(page="compare"), store)
    assert {p.title for p in compared.panes} >= {"sgd", "sam", "aace"}
    assert compared.inspector is None


@pytest.mark.parametrize(("name", "own"), [("sam", "SAM"), ("aace", "AACE")])
def test_the_list_of_runs_shows_their_numbers(store: Store, name: str, own: str) -> None:
    view = look(ViewState(page="runs"), store)
    grid = view.panes[0].body.children[0]
    rows = {row["name"]: row for row in grid.rowData}
    run = run_named(store, name)
    last = [
        s for s in store.results(run, "consistency") if s.facts["checkpoint"] == CHECKPOINTS[-1]
    ]
    frozen = [store.load(s) for s in last if s.options["protocol"] == "frozen"]
    (expected,) = [r.mean_cosine for r in frozen if r.perturbation.startswith(own)]
    assert rows[name]["cosine"] == expected
    spectrum = Measured(store=store, run=run).load("spectrum", None)
    assert rows[name]["eigenvalue"] == spectrum.eigenvalues.max()
    assert rows["sgd"]["cosine"] is None
    assert rows["sgd"]["test_accuracy"] == 0.878


def test_compared_surfaces_share_one_color_range(store: Store) -> None:
    view = look(ViewState(page="compare"), store)
    drawn = [f for name, f in figures_of(view).items() if name.startswith("map ")]
    ranges = {(t.zmin, t.zmax) for f in drawn for t in f.data if t.name == "field"}
    assert len(drawn) == 3
    assert len(ranges) == 1


def test_results_of_several_runs_are_shown_under_the_comparison(store: Store) -> None:
    view = look(ViewState(page="compare"), store)
    drawn = figures_of(view)
    joint = store.joint()
    assert joint is not None
    points = {t.marker.line.color for t in drawn["joint"].data if t.name == "points"}
    assert len(points) == 3
    expected = [palette.run_color(store.colors([name])[0]).light for name in ("sgd", "sam", "aace")]
    assert points == set(expected)
    (stored,) = store.results(joint, "barrier")
    heat = next(t for t in drawn["barrier"].data if t.name == "barriers")
    assert heat.z[1, 0] == store.load(stored).height[1, 0]
    assert {"curve along", "curve error", "curve plane"} <= set(drawn)
    links = links_in([view.buttons, [panes.pane_head(pane) for pane in view.panes]])
    assert f"/data/{joint.id}/curve/{store.results(joint, 'curve')[0].key}.csv" in links


def test_without_results_of_several_runs_the_commands_are_named(tmp_path: Path) -> None:
    root = make_runs(tmp_path / "runs", ("sgd", "sam"))
    shutil.rmtree(root / "joint")
    store = Store(root)
    view = look(ViewState(page="compare"), store)
    told = text_of([pane.body for pane in view.panes])
    for command in ("landscape barrier ", "landscape curve ", "landscape surface "):
        assert command in told
    assert "--plane joint" in told
    alone = Store(root / "sgd")
    assert alone.joint() is None
    assert "barrier" not in {p.name for p in look(ViewState(page="compare"), alone).panes}


def test_the_newest_result_of_several_runs_is_shown_and_another_by_its_key(tmp_path: Path) -> None:
    store = Store(make_runs(tmp_path / "runs", ("sgd", "sam")))
    joint = store.joint()
    (first,) = store.results(joint, "barrier")
    newer = replace(store.load(first), options={"points": 5}, provenance={"created": "2027"})
    newer.save(first.path.with_name("barrier-0newer0.h5"))
    view = look(ViewState(page="compare"), store)
    assert "barrier/0newer0" in text_of([panes.pane_head(pane) for pane in view.panes])
    assert "barrier" in text_of(view.toolbar)
    older = look(ViewState(page="compare", barrier=first.key), store)
    assert f"barrier/{first.key}" in text_of([panes.pane_head(pane) for pane in older.panes])


def test_a_joint_surface_has_a_page_with_every_path_and_no_panes_of_one_run(store: Store) -> None:
    joint = store.joint()
    view = look(ViewState(page="surface", run=joint.id), store)
    assert {pane.name for pane in view.panes} == {"contour", "scene", "path-loss", "path-distance"}
    assert len(figures_of(view)) == 4
    footer = text_of([card.footer for card in view.cards])
    assert all(name in footer for name in ("sgd", "sam", "aace", "marked"))
    assert "--plane joint" in text_of(list(view.inspector))
    assert "checkpoint" not in text_of(view.chips)


def random_surface(store: Store) -> ViewState:
    run = run_named(store, "sam")
    stored = next(s for s in store.results(run, "surface") if s.options["plane"] == "random")
    return ViewState(page="surface", run=run.id, surface=stored.key)


def test_the_control_of_quantities_offers_what_the_surface_has(store: Store) -> None:
    control = text_of(look(random_surface(store), store).toolbar)
    for word in ("train loss", "test loss", "test accuracy", "error rate", "quantity=convexity"):
        assert word in control
    on_path = look(ViewState(page="surface", run=run_named(store, "sam").id), store)
    assert "train accuracy" in text_of(on_path.toolbar)
    assert "test loss" not in text_of(on_path.toolbar)


@pytest.mark.parametrize("quantity", ["test_loss", "convexity", "error rate"])
def test_a_chosen_quantity_is_drawn_named_and_handed_to_the_download(
    store: Store, client, quantity: str
) -> None:
    state = random_surface(store).to(quantity=quantity)
    assert decode(*encode(state).split("?")) == state
    view = look(state, store)
    assert figures_of(view)["contour"].layout.meta["quantity"] == quantity
    (drawn,) = [link for link in links_in(list(view.inspector)) if ".svg?" in link]
    assert f"quantity={quantity}".replace(" ", "+") in drawn
    assert client.get(drawn).status_code == 200
    name = {"test_loss": "Test loss", "convexity": "|λmin/λmax|", "error rate": "Error rate"}
    footer = json.loads(text_of([card.footer for card in view.cards]))
    assert name[quantity] in str(footer)


def test_a_quantity_that_a_surface_lacks_is_told_in_its_pane(store: Store) -> None:
    state = ViewState(page="surface", run=run_named(store, "sam").id, quantity="test_loss")
    bodies = {pane.name: text_of(pane.body) for pane in look(state, store).panes}
    assert "test loss must be measured" in bodies["contour"]


def test_a_loose_surface_is_served_alone_with_what_is_wrong_with_it(tmp_path: Path) -> None:
    folder = make_runs(tmp_path / "runs", ("sgd",)) / "sgd" / "results"
    (path,) = [p for p in folder.glob("surface-*.h5") if load_result(p).path_step.size]
    origin = {"file": "old.h5", "format": "tomgoldstein", "warnings": ["rows were mixed up"]}
    bare = replace(load_result(path), facts={"plane": "given", "imported_from": origin}, options={})
    bare.save(tmp_path / "surface-old.h5")
    (tmp_path / "other.h5").write_bytes(b"not one of ours")
    store = Store(tmp_path / "surface-old.h5")
    (only,) = store.runs()
    assert only.name == "surface-old"
    assert store.damaged(only) == []
    view = look(ViewState(page="surface", run=only.id), store)
    assert {"contour", "scene"} <= set(figures_of(view))
    told = text_of(list(view.inspector))
    assert "rows were mixed up" in told
    assert "landscape import old.h5" in told
    assert "landscape figure" in told
    client = main.create_app(tmp_path / "surface-old.h5").server.test_client()
    for link in links_in(list(view.inspector)):
        assert client.get(link).status_code == 200


def test_own_planes_are_said_to_differ(store: Store) -> None:
    def told(plane: str) -> str:
        view = look(ViewState(page="compare", plane=plane), store)
        return text_of([card.footer for card in view.cards])

    assert "planes differ" in told("trajectory")
    assert "planes differ" not in told("random")


def test_the_plane_of_the_path_is_shown_first(store: Store) -> None:
    run = run_named(store, "sam")
    stored = surface.chosen(ViewState(page="surface", run=run.id), run, store)
    assert stored.options["plane"] == "trajectory"
    other = next(s for s in store.results(run, "surface") if s.options["plane"] == "random")
    state = ViewState(page="surface", run=run.id, surface=other.key)
    assert surface.chosen(state, run, store).key == other.key


def test_the_inspector_counts_cells_that_are_not_plain(store: Store) -> None:
    run = run_named(store, "sam")
    other = next(s for s in store.results(run, "surface") if s.options["plane"] == "random")
    view = look(ViewState(page="surface", run=run.id, surface=other.key), store)
    assert "4 points diverged, 6 not evaluated" in text_of(list(view.inspector))


def test_the_scrubber_chooses_the_spectrum_and_the_point_on_the_path(store: Store) -> None:
    run = run_named(store, "sam")
    step = CHECKPOINTS[2]
    spectra = look(ViewState(page="spectrum", run=run.id, step=step), store)
    expected = store.load(store.at(run, "spectrum", step)).eigenvalues.max()
    assert f"{expected:.3g}" in text_of(list(spectra.inspector))
    on_surface = look(ViewState(page="surface", run=run.id, step=step), store)
    assert f"{step} of {CHECKPOINTS[-1]}" in text_of(list(on_surface.inspector))


def test_a_truncated_result_is_told_in_its_pane_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = Store(make_runs(tmp_path / "runs", ("sam",)))
    (run,) = store.runs()
    for stored in store.results(run, "density"):
        data = bytearray(stored.path.read_bytes())
        at = data.find(load_result(stored.path).nodes.tobytes()[:64])
        data[at : at + 8] = b"\x00" * 8
        stored.path.write_bytes(bytes(data))
    view = look(ViewState(page="spectrum", run=run.id), store)
    bodies = {pane.name: pane.body for pane in view.panes}
    assert "density-" in text_of(bodies["density"])
    assert "err" in text_of(bodies["density"])
    assert isinstance(bodies["scree"], go.Figure)


@pytest.mark.parametrize("state", [ViewState(page="unknown"), ViewState(page="surface", run="no")])
def test_what_does_not_exist_gets_a_readable_page(store: Store, state: ViewState) -> None:
    view = look(state, store)
    assert view.title == "Not found"
    assert "/runs" in text_of(view.panes[0].body)


def test_a_run_without_results_names_the_commands(tmp_path: Path) -> None:
    store = Store(make_runs(tmp_path / "runs", ("sgd",)))
    (run,) = store.runs()
    for stored in store.results(run):
        stored.path.unlink()
    for page in ("surface", "spectrum", "consistency"):
        view = look(ViewState(page=page, run=run.id), store)
        assert not figures_of(view)
        assert f"landscape {page} " in text_of([pane.body for pane in view.panes])


def test_commands_name_a_problem_that_is_not_the_toolkits_own(tmp_path: Path) -> None:
    root = make_runs(tmp_path / "runs", ("sgd",))
    file = root / "sgd" / "run.json"
    header = json.loads(file.read_text())
    for name, option in (
        ("my net.py:make", " --problem 'my net.py:make'"),
        (None, " --problem MODULE:FUNCTION"),
        ("digits", ""),
    ):
        file.write_text(json.dumps(header | {"problem": {"name": name, "options": {}}}))
        store = Store(root)
        (run,) = [run for run in store.runs() if isinstance(run, Run)]
        path = store.path_of(run)
        assert store.command("surface", run, "--test") == f"landscape surface {path}{option} --test"
        assert store.command("density", run) == f"landscape spectrum {path}{option}"
        joint = store.joint_command("barrier", [run, run])
        assert joint == f"landscape barrier {path} {path}{option}"
        assert store.command("figure", run, "surface") == f"landscape figure {path} surface"


def test_markup_in_a_name_stays_text(tmp_path: Path) -> None:
    store = Store(make_runs(tmp_path / "runs", ("<script>alert(1)<script>",)))
    (run,) = store.runs()
    for state in (ViewState(), ViewState(page="overview", run=run.id)):
        assert "DangerouslySetInnerHTML" not in text_of(shell.build(look(state, store)))


# what is sent to the browser


def mounted(state: ViewState, store: Store, before: dict | None = None) -> shell.Update:
    return shell.mount(look(state, store), before or {}, {})


def test_the_same_view_again_changes_nothing(store: Store) -> None:
    state = ViewState(page="surface", run=run_named(store, "sam").id)
    first = mounted(state, store)
    again = mounted(state, store, first.mounted)
    assert first.page is not no_update
    assert again.page is no_update
    assert (again.slots, again.figures) == ({}, {})


def test_another_scale_redraws_the_maps_and_keeps_the_page(store: Store) -> None:
    state = ViewState(page="surface", run=run_named(store, "sam").id)
    first = mounted(state, store)
    update = mounted(state.to(scale="linear"), store, first.mounted)
    assert update.page is no_update
    assert set(update.figures) == {"contour", "scene"}
    assert isinstance(update.figures["scene"], Patch)
    changes = [o["location"] for o in update.figures["scene"].to_plotly_json()["operations"]]
    assert ["data"] in changes
    assert not any("camera" in location for location in changes)
    assert not any(location in (["layout"], ["layout", "scene"]) for location in changes)


def test_a_pane_that_becomes_empty_rebuilds_its_card_alone(store: Store) -> None:
    state = ViewState(page="spectrum", run=run_named(store, "sam").id)
    first = mounted(state, store)
    update = mounted(state.to(step=CHECKPOINTS[1]), store, first.mounted)
    assert update.page is no_update
    assert {"card 0", "card 2"} <= set(update.slots)
    assert "card 1" not in update.slots  # follows the run through training
    assert not {"density", "scree"} & set(update.figures)


def test_another_run_builds_the_page_anew(store: Store) -> None:
    first = mounted(ViewState(page="overview", run=run_named(store, "sam").id), store)
    other = ViewState(page="overview", run=run_named(store, "sgd").id)
    assert mounted(other, store, first.mounted).page is not no_update


def test_runs_chosen_before_anyone_chooses_are_the_newest_of_each_method(store: Store) -> None:
    assert set(runs.default_selection(store.runs())) == {run.id for run in store.runs()}
    assert compare.view(ViewState(page="compare", select=()), store, THEME).title == "Compare"


# what is loaded down


SIGNS = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml", "zip": b"PK", "h5": b"\x89HDF"}


def links_in(content: object) -> set[str]:
    found = re.findall(r'"href": "(/(?:data|figure)/[^"]+)"', text_of(content))
    return {html.unescape(link) for link in found}


@pytest.mark.parametrize("kind", [*RUN_PAGES, "compare"])
def test_every_download_a_page_offers_opens(client, store: Store, kind: str) -> None:
    run = run_named(store, "aace")
    view = look(ViewState(page=kind, run=None if kind == "compare" else run.id), store)
    links = links_in([view.buttons, view.inspector, [panes.pane_head(p) for p in view.panes]])
    assert links
    opened = set()
    for link in sorted(links):
        path, _, form = link.partition("?")[0].rpartition(".")
        if (path.split("/")[3], form) in opened:
            continue
        opened.add((path.split("/")[3], form))
        answer = client.get(link)
        assert answer.status_code == 200, answer.text
        assert answer.data.startswith(SIGNS.get(form, b""))
        assert "attachment" in answer.headers["Content-Disposition"]


def test_the_table_of_a_surface_holds_what_was_measured(client, store: Store) -> None:
    run = run_named(store, "sam")
    stored = next(s for s in store.results(run, "surface") if s.options["plane"] == "random")
    table = read_table(client.get(f"/data/{run.id}/surface/{stored.key}.csv").text)
    measured = store.load(stored)
    assert len(table["loss"]) == measured.loss.size
    for alpha, beta, loss in zip(table["alpha"], table["beta"], table["loss"], strict=True):
        i, j = measured.alpha.tolist().index(alpha), measured.beta.tolist().index(beta)
        np.testing.assert_equal(loss, measured.loss[i, j])


def read_table(text: str) -> dict[str, np.ndarray]:
    head, *rows = list(csv.reader(text.splitlines()))
    columns = np.array(
        [[float(x == "True") if x in ("True", "False") else float(x) for x in row] for row in rows]
    ).T
    return dict(zip(head, columns, strict=True))


def test_directions_are_taken_away_as_curves_matrix_and_numbers(client, store: Store) -> None:
    run = run_named(store, "aace")
    (stored,) = store.results(run, "directions")
    made = [
        client.get(f"/figure/{run.id}/{kind}/{stored.key}.svg")
        for kind in ("directions", "rotation")
    ]
    assert [answer.status_code for answer in made] == [200, 200]
    assert "lr 0.02" in made[0].text
    assert made[0].data != made[1].data
    table = client.get(f"/data/{run.id}/directions/{stored.key}.csv").text
    assert table.startswith("start,stop,count,mean_cosine,")


def test_a_figure_comes_with_a_recipe_that_draws_it_again(client, store: Store, tmp_path) -> None:
    run = run_named(store, "sam")
    (stored,) = store.results(run, "profile")
    answer = client.get(f"/figure/{run.id}/profile/{stored.key}.zip")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        archive.extractall(tmp_path)
    (recipe,) = tmp_path.glob("*.json")
    again = redraw(recipe, out=tmp_path / "again", formats="pdf")
    assert again[0].read_bytes() == recipe.with_suffix(".pdf").read_bytes()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/data/nobody/surface/x.csv", 404),
        ("/data/{id}/surface/nokey.csv", 404),
        ("/data/{id}/surface/{key}.exe", 400),
        ("/data/{id}/../run.json", 404),
        ("/figure/{id}/surface/{key}.gif", 400),
        ("/figure/{id}/surface/{key}.pdf?limits=1", 400),
        ("/figure/{id}/surface/{key}.pdf?venue=nowhere", 400),
        ("/figure/{id}/pie.pdf", 400),
        ("/figure/compare/steps.pdf?select=nobody", 404),
    ],
)
def test_what_can_not_be_loaded_down_is_refused_in_words(
    client, store: Store, path: str, status: int
) -> None:
    run = run_named(store, "sam")
    names = {"id": run.id, "key": store.results(run, "surface")[0].key}
    answer = client.get(path.format(**names))
    if path.endswith("run.json"):  # not an address of data: the app's own page answers
        assert b"schema_version" not in answer.data
        return
    assert answer.status_code == status
    assert b"Traceback" not in answer.data
    assert str(store.root) not in answer.text


# over HTTP


def test_a_page_carries_a_strict_policy_and_names_nothing_outside(client) -> None:
    answer = client.get("/", base_url="http://127.0.0.1:8050")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in scripts
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    text = answer.get_data(as_text=True)
    assert "https://" not in text
    assert "http://" not in text


def test_the_theme_is_chosen_before_anything_is_drawn(client) -> None:
    text = client.get("/").get_data(as_text=True)
    assert text.index("theme.js") < text.index("</head>") < text.index("react-entry-point")
    assert text.count("theme.js") == 1


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8050", "127.0.0.1.evil.example"])
def test_another_host_name_is_refused(client, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 400
    assert client.get("/", headers={"Host": "localhost:8050"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/runs", "/run/nobody/surface", "/no/such/page"])
def test_every_address_is_answered(client, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/assets/../main.py", "/assets/%2e%2e/main.py"])
def test_files_beside_the_assets_are_not_served(client, path: str) -> None:
    assert b"create_app" not in client.get(path).data


def test_the_page_arrives_by_one_callback(client, store: Store) -> None:
    outputs = [
        {"id": "page", "property": "children"},
        [],
        [],
        {"id": "inspector", "property": "children"},
        {"id": "nav", "property": "children"},
        {"id": "scrubber", "property": "children"},
        {"id": "folder", "property": "children"},
        {"id": "mounted", "property": "data"},
    ]
    dependencies = client.get("/_dash-dependencies").get_json()
    output = next(d["output"] for d in dependencies if "page.children" in d["output"])
    run = run_named(store, "aace")
    answer = client.post(
        "/_dash-update-component",
        json={
            "output": output,
            "outputs": outputs,
            "changedPropIds": ["url.pathname"],
            "inputs": [
                {"id": "url", "property": "pathname", "value": f"/run/{run.id}/spectrum"},
                {"id": "url", "property": "search", "value": ""},
                {"id": "theme", "property": "data", "value": "dark"},
            ],
            "state": [{"id": "mounted", "property": "data", "value": None}],
        },
    )
    assert answer.status_code == 200
    response = answer.get_json()["response"]
    assert response["mounted"]["data"]["title"] == "Spectrum"
    assert "Eigenvalues" in json.dumps(response["page"]["children"])
    assert run.id in json.dumps(response["nav"]["children"])


def test_a_malformed_callback_is_answered_without_a_traceback(client) -> None:
    answer = client.post("/_dash-update-component", json={"output": "..nonsense..", "inputs": []})
    assert answer.status_code >= 400
    assert b"Traceback" not in answer.data


# serving


def test_a_port_in_use_is_said_before_serving(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} must be free"):
            main.serve(folder, port=port)


def test_the_world_is_not_served(folder: Path) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        main.serve(folder, host="0.0.0.0")


def test_the_app_never_loads_torch() -> None:
    code = "import sys, app.main; assert 'torch' not in sys.modules, 'torch was imported'"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
