"""What each rank of tests/test_consistency_ranks.py does, started by torchrun.

Arguments: the folder to write to, and a run, of which the command line measures the consistency.
"""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

from test_consistency import make_objective

from landscape import Consistency
from landscape.__main__ import main
from landscape.frozen_protocol import measure_consistencies
from landscape.perturbations import aace, asam, sam, vasso
from landscape.ranks import Ranks, ranks_of_environment

FAMILY = [
    sam(0.3),
    aace(0.2),
    vasso(0.3),
    aace(0.2, mode="rand"),
    replace(aace(0.2), metric="weights", eta=0.01),
    asam(0.5),
]


def measured(ranks: Ranks, budget: float = 1e9) -> list[Consistency]:
    """Several perturbations on 5 batches, so that the shares of two ranks differ."""
    settings = {"batches": 5, "batch_size": 9, "seed": 3, "burn_in": 3}
    return measure_consistencies(make_objective(), FAMILY, **settings, ranks=ranks, budget=budget)


if __name__ == "__main__":
    folder, run = Path(sys.argv[1]), sys.argv[2]
    with ranks_of_environment() as joined:
        kept, spilled = ([vars(r) for r in measured(joined, budget)] for budget in (1e9, 0))
        (folder / f"{joined.rank}.pickle").write_bytes(pickle.dumps((kept, spilled)))
        raise SystemExit(main(["consistency", run, "--batches", "4", "--json"]))
