from dataclasses import replace

import numpy as np
import pytest
from direction_samples import LAYERS
from direction_samples import frozen as sample

from landscape.directions import agreement_of, summarize
from landscape.layer_directions import agreement_by_layer, blocks_of, largest_layers


def measured(vectors, parts, names):
    """A result of vectors [n, param] that are cut into tensors at these columns."""
    products = np.stack([vectors[:, p] @ vectors[:, p].T for p in parts])
    return summarize(
        products.sum(0),
        step=np.zeros(len(vectors), int),
        protocol="frozen",
        perturbation="SAM",
        seed=0,
        fields={"layer_names": names, "layer_products": products},
    )


def test_a_layer_has_the_agreement_of_its_own_part_and_a_part_in_that_of_the_whole():
    rng = np.random.default_rng(0)
    vectors = np.hstack(
        [np.tile([3.0, 4.0], (8, 1)), rng.normal(size=(8, 500)) / 50, np.zeros((8, 2))]
    )
    parts = [slice(0, 2), slice(2, 502), slice(502, 504)]
    result = measured(vectors, parts, ("same", "noise", "still"))
    found = agreement_by_layer(result)
    assert found.names == ("same", "noise", "still")
    assert found.mean_cosine[0] == pytest.approx(1.0)
    alone = agreement_of(vectors[:, parts[1]] @ vectors[:, parts[1]].T, 0)
    assert [getattr(found, name)[1] for name in alone._fields] == pytest.approx(list(alone))
    assert np.isnan(found.mean_cosine[2])
    squares = [(vectors[:, p] ** 2).sum() for p in parts]
    np.testing.assert_allclose(found.share, np.array(squares) / sum(squares))
    assert found.contribution.sum() == pytest.approx(result.mean_cosine, abs=1e-14)
    norms = np.linalg.norm(vectors, axis=1)
    pairs = [25 / norms[i] / norms[j] for i in range(8) for j in range(8) if i != j]
    assert found.contribution[0] == pytest.approx(np.mean(pairs))
    assert [name for name, *_ in largest_layers(result, 2)] == ["same", "noise"]
    assert largest_layers(result, 1)[0][1:] == pytest.approx(
        (found.share[0], found.contribution[0])
    )


def test_permuting_tensors_changes_nothing_global():
    vectors = np.random.default_rng(1).normal(size=(6, 30))
    parts, names = [slice(0, 4), slice(4, 20), slice(20, 30)], ("a", "b", "c")
    one, other = (measured(vectors, parts[::k], names[::k]) for k in (1, -1))
    np.testing.assert_allclose(one.cosines, other.cosines, atol=1e-14)
    for name in ("mean_cosine", "null_low", "interval_high", "participation"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-14)
    for left, right in zip(largest_layers(one), largest_layers(other), strict=True):
        assert left[0] == right[0]
        assert left[1:] == pytest.approx(right[1:])


def test_blocks_end_at_the_first_number_of_a_name_or_are_its_first_module():
    names = {
        "conv1.weight": "conv1",
        "layer1.0.conv1.weight": "layer1.0",
        "layer1.0.bn1.bias": "layer1.0",
        "layer1.1.conv1.weight": "layer1.1",
        "stages.0.2.conv.weight": "stages.0.2",
        "blocks.3.attn.qkv.bias": "blocks.3",
        "0.weight": "0",
        "head.weight": "head",
        "head.bias": "head",
        "scale": "scale",
    }
    expected = {}
    for row, block in enumerate(names.values()):
        expected.setdefault(block, []).append(row)
    assert blocks_of(tuple(names)) == expected


def test_blocks_join_their_tensors():
    result = sample()
    assert result.layer_names == LAYERS
    found = agreement_by_layer(result, blocks=True)
    assert found.names == ("conv1", "bn1", "head")
    joined = result.layer_products[[3, 4]].sum(0)
    assert found.mean_cosine[2] == pytest.approx(agreement_of(joined, 0).mean_cosine)
    assert found.share.sum() == pytest.approx(1.0)


def test_results_without_layers_are_refused():
    empty = replace(sample(), layer_products=np.empty((0, 0, 0)), layer_names=())
    with pytest.raises(ValueError, match="measure the frozen protocol"):
        agreement_by_layer(empty)
