"""The page of consistency: every row, what it says where something is missing, linked steps."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from samples import CHECKPOINTS, make_runs
from test_app import figures_of, links_in, look, text_of

from app import main
from app.store import Store
from app.view_state import ViewState, decode, encode, showing
from landscape.results import KINDS

STEP = CHECKPOINTS[4]
ROWS = (
    *("agreement", "part components", "part agreement", "part radial"),
    *("rise same batch", "rise another batch", "rise test batch"),
    *("steep share", "steep cosine", "steep rayleigh", "norms", "relative", "cosine_gradient"),
    *("shares", "probability", "matrix SAM ρ=0.05", "matrix AACE ρ=0.2"),
    *("transfer SAM ρ=0.05", "transfer AACE ρ=0.2", "offset training", "offset test"),
    *("tensors SAM ρ=0.05", "tensors AACE ρ=0.2"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("directions") / "runs", ("aace",))


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store(folder)


def page(store: Store, **state):
    (run,) = store.runs()
    return look(ViewState(page="consistency", run=run.id, **state), store)


def trace(figure: go.Figure, name: str):
    return next(t for t in figure.data if t.name == name)


def commands(view) -> list[str]:
    told = text_of([pane.body for pane in view.panes if not isinstance(pane.body, go.Figure)])
    return re.findall(r'"data-copy": "landscape (\w+) ', told)


def copied(folder: Path, target: Path, *left_out: str) -> Store:
    """The folder without results of some kinds."""
    root = shutil.copytree(folder, target / "runs")
    for kind in left_out:
        for path in (root / "aace" / "results").glob(f"{kind}-*.h5"):
            path.unlink()
    return Store(root)


def test_the_rows_stand_in_the_order_in_which_they_argue(store: Store) -> None:
    view = page(store)
    assert [pane.name for pane in view.panes] == list(ROWS)
    assert all(isinstance(pane.body, go.Figure) for pane in view.panes)


def test_choosing_a_step_moves_every_panel(store: Store) -> None:
    figures = figures_of(page(store, step=STEP))
    marked = [name for name, f in figures.items() if any(s.x0 == STEP for s in f.layout.shapes)]
    over_steps = [
        n for n in ROWS if n.split()[0] not in ("matrix", "transfer", "offset", "tensors")
    ]
    assert set(marked) == set(over_steps) - {"probability"}
    (run,) = store.runs()
    here = [s for s in store.results(run, "offset") if s.facts["checkpoint"] == STEP]
    aace = next(store.load(s) for s in here if s.options["perturbation"].startswith("AACE"))
    assert trace(figures["offset training"], "AACE, minimum").x[0] == aace.minimum[0]
    later = figures_of(page(store, step=CHECKPOINTS[-1]))
    probabilities = [np.array(f["probability"].data[0].y) for f in (figures, later)]
    assert not np.array_equal(*probabilities, equal_nan=True)
    assert figures["tensors AACE ρ=0.2"].layout.shapes[0].x0 == 1.5


def test_panels_of_one_card_have_equal_scales(store: Store) -> None:
    figures = figures_of(page(store))
    places = [figures[f"rise {p}"] for p in ("same batch", "another batch", "test batch")]
    assert len({tuple(f.layout.yaxis.range) for f in places}) == 1
    for kind, name in (("transfer", "transfer"), ("tensors", "cosines")):
        maps = [trace(figures[f"{kind} {p}"], name) for p in ("SAM ρ=0.05", "AACE ρ=0.2")]
        assert len({(m.zmin, m.zmax) for m in maps}) == 1
        assert maps[0].zmin == -maps[0].zmax


def test_the_length_of_the_perturbation_is_chosen_and_said(store: Store) -> None:
    (run,) = store.runs()
    state = ViewState(page="consistency", run=run.id, radius=1)
    assert decode(*encode(state).split("?")) == state
    view = look(state, store)
    assert "‖ε‖ = 0.05" in str(view.cards[2].footer)
    shown = trace(figures_of(view)["rise same batch"], "SAM ρ=0.05, true")
    results = [store.load(s) for s in store.results(run, "rise")]
    sam = next(r for r in results if r.perturbation.startswith("SAM"))
    assert shown.y[0] == pytest.approx(sam.rise[0, 1].mean())
    assert decode("/run/a/consistency", "?radius=x").radius == 0


def test_each_thing_that_is_missing_names_its_own_command_once(
    tmp_path: Path, folder: Path
) -> None:
    bare = copied(folder, tmp_path, "consistency", "rise", "offset", "directions")
    assert sorted(commands(page(bare))) == ["consistency", "offset", "rise"]
    assert commands(page(bare, protocol="online")) == ["consistency", "directions"]
    only = copied(folder, tmp_path / "b", "rise")
    assert commands(page(only)) == ["rise"]
    away = page(only, step=CHECKPOINTS[1])
    assert sorted(commands(away)) == ["offset", "rise"]
    told = text_of([pane.body for pane in away.panes])
    assert f"--checkpoint {CHECKPOINTS[1]}" in told


def test_results_of_an_older_version_are_shown_as_far_as_they_go(
    tmp_path: Path, folder: Path
) -> None:
    root = copied(folder, tmp_path).root
    (run,) = Store(root).runs()
    fields = ("radial", "cosine_full", "effective_share", "true_probability", "layer_products")
    blank = {name: np.empty(0) for name in fields} | {"layer_products": np.empty((0, 16, 16))}
    blank |= {name: np.empty((0, 16)) for name in ("layer_gradient", "layer_radial")}
    blank |= {"component_norms": np.empty((0, 16)), "component_cosines": np.empty((0, 16))}
    blank |= {"component_names": (), "component_mean_cosine": np.empty(0)}
    blank |= {"layer_names": (), "layer_weight": np.empty(0)}
    for stored in Store(root).results(run, "consistency"):
        old = replace(stored.load(), **blank)
        stored.path.unlink()
        old.save(stored.path)
    view = look(ViewState(page="consistency", run=run.id), Store(root))
    names = {pane.name for pane in view.panes}
    assert "parts" in names
    assert not names & {"shares", "probability", "part radial", "tensors AACE ρ=0.2"}
    assert {"agreement", "norms", "matrix AACE ρ=0.2"} <= set(figures_of(view))
    assert commands(view) == ["consistency"]


def test_a_rise_without_eigenvectors_says_how_to_find_them(tmp_path: Path, folder: Path) -> None:
    root = copied(folder, tmp_path).root
    (run,) = Store(root).runs()
    none = {name: np.empty((12, 0)) for name in ("alignment", "gradient_alignment")}
    none |= {name: np.empty(0) for name in ("eigenvalues", "residuals", "rayleigh")}
    for stored in Store(root).results(run, "rise"):
        plain = replace(stored.load(), transfer=np.empty((0, 0)), **none)
        stored.path.unlink()
        replace(plain, gradient_rayleigh=np.empty(0)).save(stored.path)
    view = look(ViewState(page="consistency", run=run.id), Store(root))
    told = text_of([pane.body for pane in view.panes if pane.name in ("steep", "transfer")])
    assert "No eigenvectors were found" in told
    assert "No transfer of loss rises" in told


def test_numbers_stand_beside_their_reference(store: Store) -> None:
    view = page(store, step=STEP)
    told = text_of(list(view.inspector))
    for words in (
        "effective share",
        "to first order",
        "of the gradient",
        "minimum, training",
        "gain, test",
    ):
        assert words in told
    assert "minimum" not in text_of(list(page(store, protocol="online").inspector))


def test_everything_can_be_loaded_down(store: Store, folder: Path) -> None:
    client = main.create_app(folder).server.test_client()
    links = [link for link in links_in(page(store).buttons) if link.startswith("/figure/")]
    kinds = {re.split(r"[/.]", link)[3] for link in links if link.endswith(".pdf")}
    assert kinds >= {"shares", "components", "tensors", "rise", "transfer", "alignment", "offset"}
    for kind in ("rise", "offset", "tensors"):
        (link,) = [link for link in links if re.fullmatch(rf"/figure/\w+/{kind}\.pdf", link)]
        assert client.get(link).status_code == 200
    (run,) = store.runs()
    for kind in ("rise", "offset"):
        stored = store.results(run, kind)[0]
        for form in (
            f"figure/{run.id}/{kind}/{stored.key}.svg",
            f"data/{run.id}/{kind}/{stored.key}.csv",
        ):
            assert client.get(f"/{form}").status_code == 200


def test_a_kind_of_result_is_shown_by_the_page_it_is_on() -> None:
    for kind in ("consistency", "rise", "offset", "directions"):
        assert kind in KINDS
        assert showing(kind, "a").page == "consistency"
