import numpy as np
import pytest

from landscape import savepoints
from landscape.savepoints import FileSavepoint


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(savepoints.time, "monotonic", lambda: now[0])
    return now


def test_a_saved_state_comes_back_with_its_kinds_and_the_last_one_wins(tmp_path):
    point = FileSavepoint(tmp_path / "a.h5")
    assert point.load() is None
    point.save({"basis": np.ones((2, 3), np.float32), "count": np.array(4)})
    point.save({"basis": np.full((2, 3), 2, np.float32), "count": np.array(5)})
    state = FileSavepoint(tmp_path / "a.h5").load()
    assert state is not None
    assert set(state) == {"basis", "count"}
    assert state["basis"].dtype == np.float32
    assert (state["basis"] == 2).all()
    assert int(state["count"]) == 5


def test_an_empty_array_and_a_truth_value_are_kept(tmp_path):
    point = FileSavepoint(tmp_path / "a.h5")
    point.save({"none": np.empty((0, 7)), "complete": np.array(True)})
    state = point.load()
    assert state is not None
    assert state["none"].shape == (0, 7)
    assert bool(state["complete"]) is True


def test_a_damaged_file_is_no_state(tmp_path):
    point = FileSavepoint(tmp_path / "a.h5")
    point.save({"basis": np.ones(1000)})
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    assert point.load() is None


def test_saving_is_due_after_ten_seconds_and_takes_a_twentieth_of_the_time(
    tmp_path, clock, monkeypatch
):
    point = FileSavepoint(tmp_path / "a.h5")
    assert not point.due()
    clock[0] += 10
    assert point.due()

    def slow(*_):
        clock[0] += 2

    monkeypatch.setattr(savepoints, "write_arrays", slow)
    point.save({})
    clock[0] += 39
    assert not point.due()
    clock[0] += 2
    assert point.due()


def test_only_the_process_that_keeps_it_writes(tmp_path, clock):
    other = FileSavepoint(tmp_path / "a.h5", keep=False)
    clock[0] += 100
    assert not other.due()
    other.save({"a": np.ones(2)})
    assert other.load() is None
    assert list(tmp_path.iterdir()) == []
