import pytest

from landscape.layouts import Entry, Layout

LAYOUT = Layout(
    (
        Entry(name="conv.weight", shape=(2, 3), offset=0, kind="weight"),
        Entry(name="norm.weight", shape=(4,), offset=6, kind="norm"),
        Entry(name="scale", shape=(), offset=10, kind="bias"),
    )
)


def test_the_size_of_theta_is_that_of_its_tensors_a_scalar_counting_one():
    assert LAYOUT.size == 11
    assert [entry.size for entry in LAYOUT] == [6, 4, 1]
    assert len(LAYOUT) == 3
    assert Layout(()).size == 0


def test_slices_cut_theta_into_its_tensors_without_gap_or_overlap():
    theta = list(range(LAYOUT.size))
    assert [theta[entry.slice] for entry in LAYOUT] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10]]


def test_a_layout_is_read_back_as_it_was_written():
    assert Layout.from_json(LAYOUT.to_json()) == LAYOUT
    assert Layout.from_json(LAYOUT.to_json()) != Layout(LAYOUT.entries[:2])


@pytest.mark.parametrize(
    "damage", [{"offset": 5}, {"offset": 7}, {"offset": -6}, {"shape": [-4]}, {"shape": [3]}]
)
def test_an_index_table_that_does_not_tile_theta_is_refused(damage):
    rows = LAYOUT.to_json()
    rows[1].update(damage)
    with pytest.raises(ValueError, match=r"layout entry .* must begin at"):
        Layout.from_json(rows)


def test_a_negative_side_is_refused_even_where_offsets_agree():
    rows = LAYOUT.to_json()
    rows[1]["shape"], rows[2]["offset"] = [-4], 2
    with pytest.raises(ValueError, match=r"layout entry 'norm.weight'"):
        Layout.from_json(rows)
