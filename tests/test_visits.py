import numpy as np

from landscape.visits import Memory, visit

COLUMNS = ("loss",)


class Half(Memory):
    """Measures every second point of the order."""

    def mine(self, position):
        return position % 2 == 0


def row(index):
    return np.array([10.0 * index])


def test_every_point_is_measured_once_in_the_order_given():
    asked = []

    def measure(index):
        asked.append(index)
        return row(index)

    found = visit([3, 1, 2, 0], measure, COLUMNS, Memory(), total=4)
    assert asked == [3, 1, 2, 0]
    assert {index: values.tolist() for index, values in found.items()} == {
        index: [10.0 * index] for index in range(4)
    }


def test_kept_points_are_not_measured_again():
    keeper, asked = Memory(), []
    keeper.keep(1, [7.0])

    def measure(index):
        asked.append(index)
        return row(index)

    found = visit([0, 1, 2], measure, COLUMNS, keeper, total=3)
    assert asked == [0, 2]
    assert found[1].tolist() == [7.0]


def test_a_share_is_every_second_point_of_the_order():
    found = visit([5, 4, 3, 2], row, COLUMNS, Half(), total=4)
    assert sorted(found) == [3, 5]


def test_every_point_is_kept_before_the_next_is_measured():
    keeper = Memory()

    def measure(index):
        assert sorted(keeper.finished(COLUMNS)) == list(range(index))
        return row(index)

    visit(range(3), measure, COLUMNS, keeper, total=3)


def test_progress_counts_what_was_there_before():
    keeper, told = Memory(), []
    keeper.keep(0, [0.0])
    visit(range(3), row, COLUMNS, keeper, total=3, progress=lambda *done: told.append(done))
    assert told == [(2, 3), (3, 3)]
    visit(range(3), row, COLUMNS, keeper, total=3, progress=lambda *done: told.append(done))
    assert told[2:] == [(3, 3)]


def test_what_is_settled_is_made_once():
    keeper = Memory()
    made = [keeper.settle("path", lambda i=i: {"number": i}) for i in range(3)]
    assert made == [{"number": 0}] * 3
