"""Draw the README's pictures from the demo's runs: `make pictures`.

Photographs of the dashboard are taken in headless Chromium at 1440 x 900, twice the pixels.
"""

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from landscape.runs import find_runs
from training.data_folders import data_folder

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]


def main() -> int:
    demo = data_folder() / "demo"
    PICTURES.mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "landscape", "app", str(demo)], stdout=subprocess.PIPE, text=True
    )
    try:
        url = re.search(r"http://\S+", server.stdout.readline())[0]
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(
                viewport={"width": 1440, "height": 900}, device_scale_factor=1.5
            )
            for name, address in addresses(demo).items():
                page.goto(url.rstrip("/") + address, wait_until="networkidle")
                page.wait_for_timeout(4000)  # software rendering of the 3D panes
                page.screenshot(path=PICTURES / f"{name}.png")
                print(PICTURES / f"{name}.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    return 0


def addresses(demo: Path) -> dict[str, str]:
    """The pages photographed, by the picture's name."""
    runs = {run.method: run.id for run in find_runs(demo)}
    return {"compare": f"/compare?select={','.join(runs.values())}&plane=trajectory"}


if __name__ == "__main__":
    sys.exit(main())
