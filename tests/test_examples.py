"""What the README and the examples tell people to type."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from landscape import Run

ROOT = Path(__file__).parent.parent


def test_the_five_lines_of_the_readme_run(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(from landscape import Objective.*?)```", text, re.DOTALL)[1]
    generator = torch.Generator().manual_seed(0)
    names = {
        "model": nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)),
        "loss_fn": nn.CrossEntropyLoss(),
        "data": (
            torch.randn(60, 4, generator=generator),
            torch.randint(0, 3, (60,), generator=generator),
        ),
    }
    monkeypatch.chdir(tmp_path)
    exec(code + '\nsurface.figure()\nsurface.save("s.h5")', names)
    assert names["surface"].loss.shape == (21, 21)
    assert names["spectrum"].converged
    assert (tmp_path / "s.h5").is_file()


def test_the_training_loop_of_the_readme_records_a_run(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(from landscape import SAM.*?)```", text, re.DOTALL)[1]
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    batches = [(torch.randn(16, 4), torch.randint(0, 3, (16,))) for _ in range(3)]
    monkeypatch.chdir(tmp_path)
    exec(
        code, {"torch": torch, "model": model, "loss_fn": nn.CrossEntropyLoss(), "batches": batches}
    )
    run = Run(tmp_path / "runs" / "mine")
    assert run.status == "finished"
    assert run.method == "SAM+AACE"
    assert run.displacement_steps.tolist() == [0, 1, 2]


def test_the_example_of_ones_own_model_runs_and_its_weights_are_measured(tmp_path, landscape):
    example = ROOT / "examples" / "own_model.py"
    subprocess.run([sys.executable, str(example)], cwd=tmp_path, check=True, capture_output=True)
    done = landscape(
        "surface",
        *("--problem", f"{example}:make_problem"),
        *("--state", tmp_path / "own_model.safetensors", "--points", 3, "--samples", 100),
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results").glob("surface-*.h5"))) == 1


def test_the_plain_loop_records_a_run_that_is_measured(tmp_path, landscape):
    example = ROOT / "examples" / "plain_loop.py"
    runpy.run_path(str(example))["main"](tmp_path / "runs/plain", epochs=1)
    run = Run(tmp_path / "runs/plain")
    assert (run.status, run.method, run.checkpoints) == ("finished", "SAM+AACE", (0, 7, 14))
    assert np.isfinite(run.steps["displacement_norm"]).all()
    done = landscape(
        *("surface", run.path, "--problem", f"{example}:make_problem"),
        *("--plane", "trajectory", "--points", 3, "--samples", 100),
    )
    assert done.returncode == 0, done.stderr
    done = landscape("surface", run.path)
    assert done.returncode == 2
    assert "name the function that makes them: --problem" in done.stderr
