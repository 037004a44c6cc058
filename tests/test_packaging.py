"""The wheel: every command in it, and nothing that collides with a user's own packages."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_installs_no_package_called_app_or_training(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    packages = {name for name in names if not name.endswith(".dist-info")}
    assert packages == {"landscape", "landscape_app", "landscape_training"}


def test_the_wheel_trains_and_serves_beside_packages_of_the_same_name(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    work = tmp_path / "work"
    for package in ("app", "training"):
        (work / package).mkdir(parents=True)
        (work / package / "__init__.py").write_text("raise RuntimeError('the user\\'s own')")
    code = (
        "import sys\n"
        "from landscape.__main__ import companion\n"
        "for name in ('training.config', 'training.problems', 'app.main'):\n"
        "    assert companion(name).__file__.startswith(sys.argv[1]), name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_checkout_never_imports_a_users_own_packages(tmp_path):
    for package in ("app", "training"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('the user\\'s own')")
    code = (
        "from landscape.__main__ import companion\n"
        "print(companion('training.config').__file__, companion('app.main').__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout
