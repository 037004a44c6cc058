"""The dashboard in a real browser, on synthetic runs and with a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import (
    Watch,
    blank_panels,
    colors_in,
    launch_arguments,
    open_page,
    pixels,
    served,
    settle,
)
from samples import CHECKPOINTS, make_runs

from app.store import Store

playwright = pytest.importorskip("playwright.sync_api")

MARKUP = "<script>window.hurt = 1<script>"


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict:
    return launch_arguments()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("browser") / "runs", ("sgd", "aace", MARKUP))


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def run_id(folder: Path) -> str:
    return json.loads((folder / "aace" / "run.json").read_text())["id"]


@pytest.fixture(scope="module")
def window(browser) -> Iterator:
    """One window for all tests, so that the browser reads the libraries once."""
    with browser.new_context(color_scheme="light") as context:
        yield context


@pytest.fixture
def watched(window, url: str) -> Iterator:
    page = window.new_page()
    page.set_viewport_size({"width": 1290, "height": 720})
    watch = Watch(page, url)
    yield page
    page.evaluate("localStorage.clear()")
    page.close()
    assert watch.complaints == []
    assert watch.asked == []


def test_every_panel_of_every_page_is_drawn(watched, url: str, run_id: str) -> None:
    assert blank_panels(watched, url, run_id) == []


def test_hover_tells_the_measured_loss_on_a_grid_that_is_not_square(
    watched, url: str, run_id: str, folder: Path
) -> None:
    store = Store(folder)
    run = store.run(run_id)
    stored = next(s for s in store.results(run, "surface") if s.options["plane"] == "random")
    surface = store.load(stored)
    open_page(watched, f"{url}/run/{run_id}/surface?surface={stored.key}", "Surface")
    for a, b in ((2, 6), (9, 3)):
        at = watched.evaluate(
            """([x, y]) => {
              const plot = document.querySelector('[data-pane=contour] .js-plotly-plot');
              const {xaxis, yaxis} = plot._fullLayout;
              const box = plot.getBoundingClientRect();
              return [box.x + xaxis._offset + xaxis.l2p(x), box.y + yaxis._offset + yaxis.l2p(y)];
            }""",
            [surface.alpha[a], surface.beta[b]],
        )
        watched.mouse.move(at[0] + 3, at[1] + 3)
        watched.mouse.move(*at)
        told = f"loss {float(f'{surface.loss[a, b]:.3g}'):g}"
        watched.locator("[data-pane=contour] .hovertext", has_text=told).wait_for()
    points = _hovered_in_3d(watched)
    for x, y, loss in points:
        a, b = np.argmin(np.abs(surface.alpha - x)), np.argmin(np.abs(surface.beta - y))
        assert loss == pytest.approx(surface.loss[a, b], rel=1e-6)


def _hovered_in_3d(page) -> list:
    """Position and told loss of points of the 3D surface under a moving pointer."""
    page.evaluate(
        """() => {
          window.told = [];
          document.querySelector('[data-pane=scene] .js-plotly-plot').on('plotly_hover', (e) => {
            const p = e.points[0];
            if (p.data.name === 'surface') window.told.push([p.x, p.y, p.customdata[0]]);
          });
        }"""
    )
    box = page.locator("[data-pane=scene] .pane-body").bounding_box()
    for step in range(12):
        page.mouse.move(
            box["x"] + box["width"] * (0.3 + 0.03 * step), box["y"] + box["height"] * 0.42
        )
        page.wait_for_timeout(60)
    points = page.evaluate("window.told")
    assert len(points) >= 3
    return points


def test_the_address_is_the_view_and_back_and_forward_work(watched, url: str, run_id: str) -> None:
    open_page(watched, f"{url}/run/{run_id}/surface?show=contour", "Surface")
    watched.click("[aria-label=Scale]")
    watched.click("[role=option]:has-text('linear')")
    watched.wait_for_url("**/surface?show=contour&scale=linear")
    watched.wait_for_selector(".note:has-text('linear scale')")
    watched.go_back()
    watched.wait_for_selector(".note:has-text('log scale')")
    watched.go_forward()
    watched.wait_for_selector(".note:has-text('linear scale')")
    watched.reload()
    watched.wait_for_selector(".segment.chosen:text-is('Contour')")
    watched.wait_for_selector(".note:has-text('linear scale')")
    watched.click(".nav-item:has-text('Consistency')")
    watched.click(".segment:text-is('Online')")
    watched.wait_for_selector("[data-pane=recorded]")
    assert watched.url == f"{url}/run/{run_id}/consistency?protocol=online"
    watched.go_back()
    watched.wait_for_selector("[data-pane=recorded]", state="detached")
    assert watched.title() == "Consistency · Landscape"


def test_the_scrubber_moves_through_checkpoints_by_key(watched, url: str, run_id: str) -> None:
    open_page(watched, f"{url}/run/{run_id}/spectrum", "Spectrum")
    watched.focus("[role=slider]")
    for _ in range(2):
        watched.keyboard.press("ArrowLeft")
        watched.wait_for_timeout(100)
    watched.wait_for_url(f"**/spectrum?step={CHECKPOINTS[-3]}")
    watched.wait_for_selector(f".chip:has-text('{CHECKPOINTS[-3]}')")
    watched.go_back()
    watched.wait_for_selector(f".chip:has-text('{CHECKPOINTS[-2]}')")
    assert watched.get_attribute("[role=slider]", "aria-valuenow") == str(CHECKPOINTS[-2])


def test_every_part_of_the_page_of_curvature_is_drawn_by_its_segment(
    watched, url: str, run_id: str
) -> None:
    open_page(watched, f"{url}/run/{run_id}/spectrum", "Spectrum")
    parts = {
        "Through training": "rayleigh",
        "Layers": "layer means",
        "Sharpness": "measures",
        "Stability": "multipliers",
    }
    for part, pane in parts.items():
        watched.click(f".segment:text-is('{part}')")
        watched.wait_for_selector(f"[data-pane='{pane}'] .js-plotly-plot")
        settle(watched)
        image = pixels(watched)
        for graph in watched.locator(".graph").all():
            assert colors_in(image, graph) >= 20
    assert watched.locator("[aria-label=multipliers] tbody tr").count() == 4
    plane = watched.evaluate(
        """() => {
          const plot = document.querySelector("[data-pane=multipliers] .js-plotly-plot");
          const {xaxis, yaxis} = plot._fullLayout;
          return [xaxis._length / (xaxis.range[1] - xaxis.range[0]),
                  yaxis._length / (yaxis.range[1] - yaxis.range[0])];
        }"""
    )
    assert plane[0] == pytest.approx(plane[1], rel=0.01)  # a circle is round


DENSITY = """() => {
  const plot = document.querySelector('[data-pane=density] .js-plotly-plot');
  const points = (name) => plot._fullData.find((trace) => trace.name === name).x.length;
  return [points('density'), points('stems')];
}"""


def test_another_width_draws_the_density_again_and_leaves_the_stems(
    watched, url: str, run_id: str
) -> None:
    open_page(watched, f"{url}/run/{run_id}/spectrum", "Spectrum")
    before = watched.evaluate(DENSITY)
    watched.click("[aria-label=Width]")
    watched.locator("[role=option]:visible").first.click()
    watched.wait_for_url("**/spectrum?width=0.25")
    watched.wait_for_function(f"(before) => ({DENSITY})()[0] !== before", arg=before[0])
    assert watched.evaluate(DENSITY)[1] == before[1] == 4
    watched.click(".segment:text-is('Gradient moment')")
    watched.wait_for_selector("[data-pane=nothing] code:has-text('--operator moment')")


CAMERA = """() => JSON.stringify(
  document.querySelector('[data-pane=scene] .js-plotly-plot')._fullLayout.scene._scene.getCamera()
)"""


def test_the_camera_stays_where_it_was_put(watched, url: str, run_id: str) -> None:
    open_page(watched, f"{url}/run/{run_id}/surface?show=scene", "Surface")
    first = watched.evaluate(CAMERA)
    box = watched.locator("[data-pane=scene] .pane-body").bounding_box()
    center = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    watched.mouse.move(*center)
    watched.mouse.down()
    watched.mouse.move(center[0] + 90, center[1] + 30, steps=4)
    watched.mouse.up()
    turned = watched.evaluate(CAMERA)
    assert turned != first
    watched.click("[aria-label=Scale]")
    watched.click("[role=option]:has-text('linear')")
    watched.wait_for_selector(".note:has-text('loss, linear')")
    settle(watched)
    assert _eye(watched.evaluate(CAMERA)) == pytest.approx(_eye(turned), abs=1e-6)
    watched.click("#theme-button")
    settle(watched)
    assert _eye(watched.evaluate(CAMERA)) == pytest.approx(_eye(turned), abs=1e-6)
    watched.click("[data-action=home]")
    watched.wait_for_timeout(300)
    assert _eye(watched.evaluate(CAMERA)) == pytest.approx(_eye(first), abs=1e-6)


def _eye(camera: str) -> list[float]:
    eye = json.loads(camera)["eye"]
    return [eye["x"], eye["y"], eye["z"]]


GROUND = "getComputedStyle(document.querySelector('.card')).backgroundColor"
SCHEME = "document.documentElement.dataset.mantineColorScheme"


def test_dark_is_dark_from_the_first_moment_and_is_kept(watched, url: str) -> None:
    open_page(watched, url, "Runs")
    assert watched.evaluate(GROUND) == "rgb(255, 255, 255)"
    watched.click("#theme-button")
    watched.wait_for_function(f"() => {GROUND} === 'rgb(22, 27, 33)'")
    settle(watched)
    assert colors_in(pixels(watched), watched.locator("[data-pane=losses] .graph")) > 20
    watched.goto(url + "/compare", wait_until="commit")
    watched.wait_for_function("() => document.body !== null")
    assert watched.evaluate(SCHEME) == "dark"
    watched.wait_for_selector("h1:text-is('Compare')")
    assert watched.evaluate(SCHEME) == "dark"


def test_ticking_runs_stands_in_the_address_and_fills_the_curves(
    watched, url: str, run_id: str
) -> None:
    open_page(watched, url, "Runs")
    assert watched.locator(".ag-row-selected").count() == 2
    watched.locator("[row-id='" + run_id + "'] input[type=checkbox]").click()
    watched.wait_for_url("**select=*")
    watched.wait_for_selector(".button.primary:has-text('Compare 1 run')")
    watched.go_back()
    watched.wait_for_selector(".button.primary:has-text('Compare 2 runs')")
    watched.wait_for_function("() => document.querySelectorAll('.ag-row-selected').length === 2")
    watched.fill("#runs-filter", "aace")
    watched.wait_for_function("() => document.querySelectorAll('.ag-row').length === 1")
    watched.click("[row-id='" + run_id + "'] a")
    watched.wait_for_selector("h1:text-is('Overview')")
    assert watched.url.endswith(f"/run/{run_id}")


def test_markup_in_the_name_of_a_run_is_text(watched, url: str) -> None:
    open_page(watched, url, "Runs")
    cell = watched.locator(".cell-run a", has_text="<script>")
    assert cell.inner_text() == MARKUP
    cell.click()
    watched.wait_for_selector("h1:text-is('Overview')")
    assert MARKUP in watched.locator(".chip").first.inner_text()
    assert watched.evaluate("window.hurt") is None


@pytest.mark.parametrize("width", [1240, 700])
def test_a_narrow_window_stacks_and_opens_the_inspector_as_a_drawer(
    watched, url: str, run_id: str, width: int
) -> None:
    watched.set_viewport_size({"width": width, "height": 800})
    open_page(watched, f"{url}/run/{run_id}", "Overview")
    assert watched.evaluate("document.documentElement.scrollWidth") <= width
    hidden = watched.locator("#inspector h2", has_text="Environment")
    assert not hidden.is_visible() or hidden.bounding_box()["x"] >= width
    watched.click("#drawer-button")
    watched.wait_for_timeout(200)
    assert hidden.bounding_box()["x"] < width
