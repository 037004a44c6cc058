"""Ranks that meet on a store that others have used before, as torchrun's is after a restart."""
# pyright: reportPrivateImportUsage=false

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from landscape.rendezvous import meeting_place

PATIENCE = timedelta(seconds=60)


@pytest.fixture
def stores():
    """A store as three processes see it, each by a connection of its own."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return [server, *(TCPStore("127.0.0.1", server.port, is_master=False) for _ in range(2))]


def meet(stores):
    """The place that each of the ranks of a new start is given."""
    ranks = range(len(stores))
    with ThreadPoolExecutor(len(stores)) as pool:
        return list(pool.map(lambda r: meeting_place(stores[r], r, len(stores), PATIENCE), ranks))


def test_ranks_started_again_share_what_those_before_have_not_seen(stores):
    before = meet(stores)
    before[0].set("address", "of a process that is gone")
    assert before[2].get("address") == b"of a process that is gone"
    again = meet(stores)
    assert not any(place.check(["address"]) for place in again)
    again[1].set("address", "new")
    assert [place.get("address") for place in again] == [b"new"] * 3


def test_a_start_whose_ranks_died_while_they_met_does_not_mislead_the_next(stores):
    for rank in (1, 2):
        stores[0].set(f"here/{rank}", "gone")
    with pytest.raises(RuntimeError, match=r"rank 1, 2 of 3 did not come within 0\.1 s"):
        meeting_place(stores[0], 0, 3, timedelta(seconds=0.1))
    places = meet(stores)
    places[0].set("address", "new")
    assert places[2].get("address") == b"new"


def test_where_the_first_rank_does_not_come_the_others_say_so(stores):
    with pytest.raises(RuntimeError, match=r"rank 0 did not come within 0\.1 s"):
        meeting_place(stores[1], 1, 2, timedelta(seconds=0.1))
