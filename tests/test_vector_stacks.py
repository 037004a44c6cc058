import numpy as np
import pytest

from landscape.directions import inner_products
from landscape.vector_stacks import VectorStack

PARTS = [slice(0, 3), slice(3, 40), slice(40, 50)]


@pytest.mark.parametrize("budget", [1e6, 0.0])
def test_products_are_those_of_the_vectors_wherever_they_lie(budget):
    vectors = np.random.default_rng(0).normal(size=(2, 6, 50)).astype(np.float32)
    stacks = [VectorStack(range(6), 50, np.float32, budget=budget) for _ in "ab"]
    for stack, rows in zip(stacks, vectors, strict=True):
        assert stack.in_memory == (budget > 0)
        for row, vector in enumerate(rows):
            stack[row] = vector
    found = stacks[0].products(stacks[1], PARTS)
    expected = [inner_products(vectors[0][:, p], vectors[1][:, p]) for p in PARTS]
    np.testing.assert_array_equal(found, expected)
    whole = vectors[0].astype(float) @ vectors[1].astype(float).T
    np.testing.assert_allclose(found.sum(0), whole, atol=1e-12)


def test_vectors_without_room_are_refused_before_anything_is_measured():
    with pytest.raises(ValueError, match="need room in"):
        VectorStack(range(1000), 10**15, np.float32, budget=0)


def test_a_share_of_the_vectors_goes_by_their_own_numbers():
    stack = VectorStack(range(1, 6, 2), 4, np.float32, budget=1e6)
    stack[3] = np.arange(4)
    assert stack.rows.shape == (3, 4)
    assert stack[3].tolist() == stack.rows[1].tolist() == [0, 1, 2, 3]
