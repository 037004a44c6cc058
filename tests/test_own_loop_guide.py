"""Every block of the guide on one's own loop runs and records what it says."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from landscape import Run

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "guides" / "own-loop.md").read_text()
SETTING = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
loss_fn = nn.CrossEntropyLoss()
generator = torch.Generator().manual_seed(1)
inputs, targets = torch.randn(96, 4, generator=generator), torch.arange(96) % 3
batches = list(zip(inputs.split(24), targets.split(24)))
"""
NET = """
import torch
from torch import nn
from landscape import Problem

def make_problem():
    return Problem(nn.Linear(2, 1), nn.MSELoss(), (torch.ones(4, 2), torch.zeros(4, 1)))
"""


def blocks(kind, heading):
    """The code blocks of a kind under a heading."""
    (section,) = (part for part in re.split(r"^#+ ", GUIDE, flags=re.M) if part.startswith(heading))
    found = re.findall(rf"^```{kind}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found
    return found


def run_script(folder, code, *command):
    (folder / "script.py").write_text(code)
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
    done = subprocess.run(
        [sys.executable, *command, "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def losses_by_hand(size):
    """Losses of SGD on batches of this size, one row each."""
    names = {}
    exec(SETTING, names)
    model, loss_fn = names["model"], names["loss_fn"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for inputs, targets in zip(
        names["inputs"].split(size), names["targets"].split(size), strict=True
    ):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_plain_loop(tmp_path, monkeypatch):
    loop, ending = blocks("python", "A plain loop")
    monkeypatch.chdir(tmp_path)
    exec(SETTING + loop, {})
    run = Run("runs/mine")
    assert run.status == "finished"
    assert run.checkpoints == (0, 2, 4)
    assert run.summary["test_accuracy"] == 0.93
    assert np.isfinite(run.steps["gradient_norm"]).all()
    assert run.steps["lr"] == pytest.approx(0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)))

    code = f"{SETTING}\nimport os\n{ending}\n" + loop.replace(
        "        scheduler.step()\n",
        "        scheduler.step()\n        os.kill(os.getpid(), signal.SIGTERM)\n",
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path / "other",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 128 + signal.SIGTERM
    run = Run(tmp_path / "other" / "runs" / "mine")
    assert (run.status, run.reason) == ("failed", "SystemExit: 143")
    assert len(run.steps["step"]) == 1


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, monkeypatch):
    (code,) = blocks("python", "Gradient accumulation")
    monkeypatch.chdir(tmp_path)
    exec(SETTING + code, {})
    run = Run("runs/parts")
    assert run.steps["loss"] == pytest.approx(losses_by_hand(48), rel=1e-5)
    assert run.checkpoints == (0, 2)


def test_two_ranks_record_what_one_process_with_all_data_does(tmp_path):
    (code,) = blocks("python", "DistributedDataParallel")
    share = (
        "\nimport os\nrank = int(os.environ['RANK'])\n"
        "batches = [(x[rank::2], y[rank::2]) for x, y in batches]\n"
    )
    code = code.replace("init_process_group()", 'init_process_group("gloo")')
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run_script(tmp_path, SETTING + share + code, *launch)
    run = Run(tmp_path / "runs" / "ddp")
    assert run.status == "finished"
    assert [entry.name for entry in run.layout][:1] == ["0.weight"]
    assert run.steps["loss"] == pytest.approx(losses_by_hand(24), rel=1e-5)
    assert run.checkpoints == (0, 2, 4)


def test_callbacks_are_called_as_the_guide_says(tmp_path):
    lightning, transformers = blocks("python", "Lightning and Transformers")
    module = """
from training.vision import import_torchvision
import_torchvision()
import lightning

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = model
    def training_step(self, batch, index):
        return loss_fn(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

module = Module()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), 24)
"""
    trainer = """
from transformers import TrainingArguments

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)
    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": loss_fn(logits, labels), "logits": logits}

model = Net()
samples = [{"x": x, "labels": y} for x, y in zip(inputs, targets)]
arguments = TrainingArguments(
    "out", max_steps=4, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True
)
"""
    run_script(tmp_path, SETTING + module + lightning + trainer + transformers)
    for name in ("lightning", "transformers"):
        run = Run(tmp_path / "runs" / name)
        assert run.status == "finished"
        assert run.checkpoints == (0, 2, 4)
        assert np.isfinite(run.steps["loss"]).all()
    assert run.method == "AdamW"


def test_old_checkpoints_are_imported_and_measured_as_the_guide_says(landscape, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    for name in ("epoch-0.pt", "epoch-2.pt", "epoch-10.pt", "init.pt", "last.pt"):
        torch.save({"model": nn.Linear(2, 1).state_dict()}, tmp_path / name)
    (commands,) = blocks("", "Old checkpoints")
    for command in commands.splitlines():
        first, *words = command.split()
        assert first == "landscape"
        words = [
            str(path) if "*" in word else word
            for word in words
            for path in (sorted(tmp_path.glob(word)) if "*" in word else [word])
        ]
        done = landscape(*words)
        assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "runs" / "old").checkpoints == (0, 2, 10)
    two = Run(tmp_path / "runs" / "two")
    assert (two.checkpoints, two.method) == ((0, 7800), "SGD")
    (code,) = blocks("python", "Old checkpoints")
    run_script(tmp_path, code)
    again = Run(tmp_path / "runs" / "again")
    assert np.array_equal(again.checkpoint(7800).theta, two.checkpoint(7800).theta)
    (first, _) = blocks("", "Your own loop, and old checkpoints")[0].splitlines()
    done = landscape(*first.replace("runs/mine", "runs/old").split()[1:], "--points", 3)
    assert done.returncode == 0, done.stderr
