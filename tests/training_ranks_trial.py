"""What tests/test_training_ranks.py has one process and two ranks do: the same runs, in a folder.

Under torchrun the argument is the folder.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from landscape.problems import Problem
from landscape.ranks import Ranks, ranks_of_environment
from training.config import TrainConfig
from training.loop import train
from training.presets import PRESETS

DIGITS = replace(PRESETS["digits-sgd"](), steps=20, checkpoint_every=5, train_samples=320)
PLAIN = replace(DIGITS, model="mlp8")  # without BatchNorm
OWN = replace(DIGITS, method="sam", data="own", model="own", augment=False)
SETTINGS: dict[str, TrainConfig] = {
    "sgd": replace(PLAIN, update_label_smoothing=0.1),
    "sam": replace(PLAIN, method="sam", ascent_steps=2),
    "aace": replace(PLAIN, method="sam+aace"),
    "vasso": replace(PLAIN, method="vasso"),
    "chunks": replace(PLAIN, method="sam+aace", m=16),
    "apart": replace(DIGITS, method="gsam", m=32),
    "batchnorm": replace(DIGITS, method="sam", sync_batchnorm=True),
    "own": OWN,
}


class Partly(nn.Module):
    """A net with a layer that is never used, and a running statistic of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.unused, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, inputs):
        if self.training:
            self.seen.lerp_(inputs.mean(0), 0.1)
        return self.last(self.first(inputs).relu())


def make_own(seed: int = 0) -> Problem:
    """Weights are drawn from the global generator: the first rank's count."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(320, 4, generator=generator)
    targets = torch.randint(3, (320,), generator=generator)
    return Problem(Partly(), functional.cross_entropy, (inputs, targets), test=(inputs, targets))


def make_runs(folder: Path, rank: int = 0) -> None:
    """All settings, one after the other; what another rank than the first writes is elsewhere."""
    for name, config in SETTINGS.items():
        torch.manual_seed(rank)
        own = ("tests:own", make_own()) if config.data == "own" else None
        train(config, folder / f"{rank}" / name, own=own)


def refuse_what_differs(folder: Path, ranks: Ranks) -> None:
    """Data that are another in each rank."""
    try:
        train(OWN, folder / "differing", own=("tests:own", make_own(seed=ranks.rank)))
    except ValueError as error:
        (folder / f"refused-{ranks.rank}").write_text(str(error))


def start_again(folder: Path, ranks: Ranks) -> None:
    """A finished run, as the ranks of two nodes would after one of the second had died."""
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(ranks.rank)
    try:
        train(SETTINGS["sgd"], folder / "0" / "sgd")
    except (ValueError, FileExistsError) as error:
        (folder / f"again-{ranks.rank}").write_text(str(error))


if __name__ == "__main__":
    with ranks_of_environment() as joined:
        make_runs(Path(sys.argv[1]), joined.rank)
        refuse_what_differs(Path(sys.argv[1]), joined)
        start_again(Path(sys.argv[1]), joined)
