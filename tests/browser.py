"""A real browser on a real server: what the tests of the dashboard's pages share."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SOFTWARE_GL = [
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-sandbox",
]
NOISE = ("willReadFrequently", "GPU stall")


def launch_arguments() -> dict:
    """Arguments for the browser; skips, loudly, where there is none, and fails with CI set."""
    if CHROMIUM is None:
        reason = "NO BROWSER TEST RUNS: chromium is not installed (`apt-get install chromium`)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return {"executable_path": CHROMIUM, "args": SOFTWARE_GL}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder in a process of its own; gives the URL."""
    code = (
        "import sys; from app.main import serve; "
        "serve(sys.argv[1], on_ready=lambda url: print(url, flush=True))"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip().rstrip("/")
        finally:
            server.terminate()


class Watch:
    """Collects what a page must not do: complain, or ask another machine for anything."""

    def __init__(self, page, url: str) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self._said(message))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url, url))

    def _said(self, message) -> None:
        quiet = any(noise in message.text for noise in NOISE)
        if message.type in ("error", "warning") and not quiet:
            self.complaints.append(message.text)

    def _asked(self, address: str, url: str) -> None:
        if not address.startswith((url, "data:", "blob:")):
            self.asked.append(address)


DRAWN = """() => {
  const graphs = [...document.querySelectorAll('.graph')];
  return document.querySelector('h1') && graphs.every((g) => {
    const plot = g.querySelector('.js-plotly-plot');
    return plot && plot._fullLayout && g.querySelector('.main-svg');
  });
}"""


def open_page(page, address: str, title: str) -> None:
    page.goto(address)
    page.wait_for_selector(f"h1:text-is('{title}')")
    settle(page)


def settle(page) -> None:
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(250)


def pixels(page) -> np.ndarray:
    """The whole page as an image [y, x, 3]."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB"))


def colors_in(image: np.ndarray, locator) -> int:
    """How many colors a part of the page shows: a blank pane has one or two."""
    box = {name: round(value) for name, value in locator.bounding_box().items()}
    part = image[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
    assert part.size
    return len(np.unique(part.reshape(-1, 3), axis=0))


PAGES = ("Runs", "Compare", "Overview", "Surface", "Spectrum", "Consistency")


def blank_panels(page, url: str, run_id: str) -> list[str]:
    """Go through all pages by the navigation; the panels that show no figure."""
    blank = []
    open_page(page, f"{url}/run/{run_id}", "Overview")
    for title in PAGES:
        page.click(f".nav-item:has-text('{title}')")
        page.wait_for_selector(f"h1:text-is('{title}')")
        settle(page)
        image = pixels(page)
        for pane in page.locator(".pane").all():
            name = pane.get_attribute("data-pane")
            body = pane.locator(".pane-body")
            if not body.locator(".graph, table, .ag-root").count():
                blank.append(f"{title}: {name}")
            elif colors_in(image, body) < (400 if name == "scene" else 20):
                blank.append(f"{title}: {name} is drawn in one color")
    return blank
