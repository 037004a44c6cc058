"""What each rank of tests/test_ranks.py does, started by torchrun: products, written to a folder.

Arguments: the folder, and "work" or, for ranks above 0 to end before their time, "fail".
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from landscape import Objective, find_eigenpairs
from landscape.gauss_newton import gauss_newton, gradient_moment
from landscape.operators import Operator, hessian
from landscape.ranks import Ranks, ranks_of_environment

MAKERS = {"hessian": hessian, "gauss_newton": gauss_newton, "gradient_moment": gradient_moment}


def objective() -> Objective:
    """A net in float32 with batches of 20, 7 and 6 samples."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(33, 1, 5, 5, generator=generator)
    targets = torch.randint(3, (33,), generator=generator)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(27, 3)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    sizes = (20, 7, 6)
    batches = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    return Objective(model, nn.CrossEntropyLoss(), batches)


def products(ranks: Ranks) -> dict[str, np.ndarray]:
    """Products and eigenvalues of each operator of all data."""
    net = objective()
    v = torch.randn(net.layout.size, generator=torch.Generator().manual_seed(1))
    found = {}
    for name, make in MAKERS.items():
        operator: Operator = make(net, ranks=ranks)
        found[name] = operator(v).numpy()
        pairs = find_eigenpairs(operator, k=3, tolerance=1e-5, seed=0)
        found[f"{name} values"], found[f"{name} vectors"] = pairs.eigenvalues, pairs.eigenvectors
    part = hessian(net, parameters="4.*", ranks=ranks)
    found["part"] = part(v[: part.size]).numpy()
    return found


def alike(ranks: Ranks) -> dict[str, np.ndarray]:
    """Sums of many lengths, of numbers that differ between the ranks, and what was agreed."""
    generator = torch.Generator().manual_seed(ranks.rank)
    found = {}
    for size in (1, 2, 3, 17, 1000, 65_537, 300_000):
        own = torch.randn(size, generator=generator)
        total = ranks.sum(own)
        assert total is own
        found[str(size)] = own.numpy()
    found["agreed"] = np.array(json.dumps(ranks.agree({"said by": ranks.rank})))
    found["share"] = np.array(ranks.share(5))
    return found


if __name__ == "__main__":
    folder, what = Path(sys.argv[1]), sys.argv[2]
    with ranks_of_environment() as joined:
        if what == "fail" and not joined.first:
            raise SystemExit("this rank fails")
        answer = alike(joined) | products(joined)
        np.savez(folder / f"{joined.rank}.npz", **answer)
    if torch.distributed.is_initialized():
        raise SystemExit("the others were not left")
