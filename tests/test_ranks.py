"""Data shared between the ranks of a real torchrun, and a process that is alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks_trial import MAKERS, objective, products

from landscape.operators import hessian
from landscape.products import choose_product
from landscape.ranks import Ranks, local_device, ranks_of_environment, shared

TRIAL = Path(__file__).with_name("ranks_trial.py")


def torchrun(folder, what):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, str(TRIAL), str(folder), what],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(folder, "work")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return [dict(np.load(folder / f"{rank}.npz")) for rank in (0, 1)]


def test_two_ranks_find_what_one_finds(two):
    alone = products(Ranks())
    for name, expected in alone.items():
        tolerance = 1e-3 if name.endswith("vectors") else 1e-6
        error = np.abs(two[0][name] - expected).max() / np.abs(expected).max()
        assert error <= tolerance, name


def test_all_ranks_find_the_same_bits(two):
    assert two[0].keys() == two[1].keys()
    for name in two[0].keys() - {"share"}:
        assert two[0][name].tobytes() == two[1][name].tobytes(), name


def test_sums_are_over_all_ranks_and_the_first_one_decides(two):
    draws = [torch.Generator().manual_seed(rank) for rank in (0, 1)]
    for name in ("1", "2", "3", "17", "1000", "65537", "300000"):
        expected = sum(torch.randn(int(name), generator=draw) for draw in draws)
        assert np.allclose(two[0][name], expected, rtol=1e-6)
    assert str(two[0]["agreed"]) == '{"said by": 0}'
    assert [two[0]["share"].tolist(), two[1]["share"].tolist()] == [[0, 2, 4], [1, 3]]


def test_where_one_rank_fails_the_job_ends_as_failed(tmp_path):
    done = torchrun(tmp_path, "fail")
    assert done.returncode != 0
    assert "this rank fails" in done.stderr


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with ranks_of_environment() as ranks:
        tensor = torch.ones(3)
        assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
        assert ranks.sum(tensor) is tensor
        assert tensor.tolist() == [1, 1, 1]
        assert ranks.agree("so") == "so"
        assert list(ranks.share(3)) == [0, 1, 2]
    assert not torch.distributed.is_initialized()


def test_ranks_that_cannot_be_and_ranks_that_cannot_meet_are_refused(monkeypatch):
    for rank, world in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="rank must lie between 0 and world - 1"):
            Ranks(rank, world)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"2 processes could not meet: .*start them with torchrun"):
        ranks_of_environment()


def test_an_operator_is_shared_only_where_there_are_others():
    class Pair(Ranks):
        def sum(self, tensor):
            return tensor.mul_(2)

    operator = hessian(objective())
    v = torch.ones(operator.size)
    assert shared(operator, None) is operator
    assert shared(operator, Ranks()) is operator
    pair = shared(operator, Pair(0, 2))
    assert torch.allclose(pair(v), 2 * operator(v))
    assert pair.facts["ranks"] == 2
    assert "ranks" not in operator.facts


def test_a_rank_without_batches_adds_nothing():
    class Last(Ranks):
        def sum(self, tensor):
            return tensor

        def agree(self, value):
            assert value is None
            return choose_product(objective()).settled

    for make in MAKERS.values():
        operator = make(objective(), ranks=Last(3, 4))
        assert not operator(torch.ones(operator.size)).any()


def test_products_are_taken_in_all_ranks_the_way_the_first_one_chose():
    class Second(Ranks):
        def agree(self, value):
            assert value is None
            return choose_product(objective(), method="finite difference").settled

    assert hessian(objective(), ranks=Second(1, 2)).facts["product"] == "finite difference"


def test_the_device_of_a_rank_is_that_of_its_place_on_the_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_device("cuda") == torch.device("cuda:1")
    assert local_device("cuda:0") == torch.device("cuda:0")
    assert local_device("cpu") == torch.device("cpu")
