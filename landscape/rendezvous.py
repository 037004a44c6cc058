"""Where the ranks of one start meet, on a store that earlier starts have left their words in."""
# pyright: reportPrivateImportUsage=false

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from torch import distributed

if TYPE_CHECKING:
    from torch.distributed import Store

_PAUSE = 0.01  # seconds between two looks of the first rank


def meeting_place(store: "Store", rank: int, world: int, patience: timedelta) -> "Store":
    """Return the part of a store that the ranks of this very start share.

    torchrun starts ranks again on the store of those that were killed, whose addresses still lie in
    it: who reads them tries to reach a process that is gone. Counts of restarts can't tell starts
    apart, as only the node whose rank has died counts one. So the first rank makes up a name for
    the place, and tells it to each other rank under a name that this one has made up. Nobody reads
    what it answers to ranks that are gone.

    Args:
        store: What all ranks can reach.
        rank: This process, counted from 0.
        world: How many there are.
        patience: How long ranks wait for each other.

    Raises:
        RuntimeError: Some did not come in time.
    """
    name = uuid.uuid4().hex
    if rank == 0:
        _await_others(store, world, name, patience.total_seconds())
        return distributed.PrefixStore(name, store)
    store.set(f"here/{rank}", name)
    told = f"told/{name}"
    try:
        store.wait([told], patience)
    except RuntimeError as error:
        waited = patience.total_seconds()
        raise RuntimeError(f"rank 0 did not come within {waited:g} s") from error
    place = store.get(told).decode()
    store.set(f"heard/{place}/{rank}", "")
    return distributed.PrefixStore(place, store)


def _await_others(store: "Store", world: int, name: str, seconds: float) -> None:
    """Tell the place's name to all that say they are here, until those of this start have heard."""
    deadline, missing = time.monotonic() + seconds, list(range(1, world))
    while missing:
        for rank in missing:
            if store.check([f"here/{rank}"]):
                store.set(f"told/{store.get(f'here/{rank}').decode()}", name)
        time.sleep(_PAUSE)
        missing = [rank for rank in missing if not store.check([f"heard/{name}/{rank}"])]
        if missing and time.monotonic() > deadline:
            named = ", ".join(map(str, missing[:6])) + (" and more" if missing[6:] else "")
            raise RuntimeError(f"rank {named} of {world} did not come within {seconds:g} s")
