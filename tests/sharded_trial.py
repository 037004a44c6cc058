"""What tests/test_recorders_sharded.py has one process and two ranks do: SAM on a sharded net.

Under torchrun the argument is the folder.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from landscape.optimizers import SAM
from landscape.perturbations import (
    Perturbation,
    aace,
    asam,
    friendly_sam,
    gsam,
    sam,
    usam,
    vasso,
)
from landscape.ranks import Ranks, ranks_of_environment
from landscape.recorders import Recorder

FAMILY: dict[str, Perturbation] = {
    "sam": sam(0.1),
    "usam": usam(0.1),
    "aace": aace(0.1),
    "asam": asam(0.5),
    "vasso": vasso(0.1),
    "f-sam": friendly_sam(0.1),
    "gsam": gsam(0.1),
}
STEPS, EVERY = 6, 2


def sharded(model: nn.Sequential, ranks: Ranks) -> nn.Sequential:
    """The model with its parameters divided among the ranks, by FSDP2."""
    if ranks.world == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (ranks.world,))
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def make_run(name: str, out: Path, ranks: Ranks) -> None:
    """A loop of the user's own; each rank has a part of the batch, and a layer has no gradient."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        inputs, targets = torch.randn(8, 5), torch.arange(8) % 3
    inputs, targets = (part.tensor_split(ranks.world)[ranks.rank] for part in (inputs, targets))
    model = sharded(model, ranks)
    model[0].bias.requires_grad_(False)
    perturbation = FAMILY[name]
    optimizer = SAM(
        model.named_parameters(), torch.optim.SGD, perturbation=perturbation, lr=0.2, momentum=0.9
    )
    with Recorder(out, model, optimizer, checkpoint_every=EVERY, record="full") as recorder:
        for _ in range(STEPS):
            perturbation.loss(model(inputs), targets).backward()
            gradient = [p.grad for p in model.parameters()]
            optimizer.first_step(zero_grad=True)
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.second_step(zero_grad=True)
            recorder.step(1.0, displacement=optimizer.displacement, gradient=gradient)


def make_runs(folder: Path, ranks: Ranks) -> None:
    """Every perturbation; what another rank than the first writes is elsewhere."""
    for name in FAMILY:
        make_run(name, folder / str(ranks.rank) / name, ranks)


if __name__ == "__main__":
    with ranks_of_environment() as joined:
        make_runs(Path(sys.argv[1]), joined)
