import numpy as np
import pytest
import torch
from torch import nn

from landscape.modules import Weights, buffers_of, flatten
from landscape.objectives import Objective
from landscape.plane import Plane
from landscape.spans import Direction, line_plane, span_plane, three_point_plane


class Net(nn.Module):
    """BatchNorm, a mask of infinities, a counter and a mask of bits."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("kept", torch.tensor([True, False]))

    def forward(self, x):
        return self.layers(x)


def minimum(name, seed, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Net()
        model.layers[1].running_mean.normal_()
        model.layers[1].running_var.uniform_(1e-6, 1e3)
        model.layers[1].num_batches_tracked += seed
    return Weights(name, flatten(model), buffers_of(model), **options)


def plain(name, *numbers):
    return Weights(name, torch.tensor(numbers))


A, B, C = minimum("a", 1), minimum("b", 2), minimum("c", 3)
VARIANCE = "layers.1.running_var"


def assert_at(plane, position, weights):
    torch.testing.assert_close(plane.point(*position), weights.theta, rtol=0, atol=3e-7)
    found = plane.buffers_at(*position)
    assert found.keys() == weights.buffers.keys()
    for name, expected in weights.buffers.items():
        if expected.is_floating_point():  # also a variance of 1e-6 beside one of 1e3
            torch.testing.assert_close(found[name], expected, rtol=1e-7, atol=0)


# Through two


def test_line_has_the_minima_at_0_and_1():
    plane = line_plane(A, B)
    assert plane.marks == (("a", (0.0,)), ("b", (1.0,)))
    for name, position in plane.marks:
        assert_at(plane, position, {"a": A, "b": B}[name])
    middle = plane.buffers_at(0.5)[VARIANCE]
    torch.testing.assert_close(middle, (A.buffers[VARIANCE] + B.buffers[VARIANCE]) / 2)
    assert plane.facts["plane"] == "minima"
    assert plane.facts["through"] == ["a", "b"]
    assert plane.facts["distance"] == pytest.approx(float((B.theta - A.theta).norm()))
    assert "unit" not in plane.facts


def test_buffers_keep_types_counters_masks_and_infinities():
    plane = line_plane(A, B)
    for a in (0.0, 0.3, 1.0, -2.0):
        found = plane.buffers_at(a)
        assert found["mask"].tolist() == [0.0, -np.inf]
        assert found["kept"].tolist() == [True, False]
        assert found["layers.1.num_batches_tracked"] == 1
        for name, value in found.items():
            assert value.dtype == A.buffers[name].dtype
    found["mask"] += 1
    found["kept"].logical_not_()
    assert A.buffers["mask"][0] == 0
    assert plane.buffers_at(0.0)["kept"].tolist() == [True, False]


def test_variances_that_would_be_negative_outside_the_minima_are_zero():
    plane = line_plane(A, B)
    low, high = plane.buffers_at(-20.0)[VARIANCE], plane.buffers_at(20.0)[VARIANCE]
    change = (B.buffers[VARIANCE] - A.buffers[VARIANCE]).double()
    for found, a in ((low, -20.0), (high, 20.0)):
        exact = (A.buffers[VARIANCE] + a * change).clamp(min=0)
        torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-6)
    assert (low == 0).any()
    assert (high == 0).any()
    assert (plane.buffers_at(20.0)["layers.1.running_mean"] < 0).any()
    assert "at least 0" in plane.facts["buffers"]


def test_other_buffers_that_differ_are_told():
    other = minimum("b", 2)
    other.buffers["kept"] = torch.tensor([True, True])
    plane = line_plane(A, other)
    assert plane.buffers_at(1.0)["kept"].tolist() == [True, False]
    assert plane.facts["buffers_of_origin"] == ["kept"]
    assert "buffers_of_origin" not in line_plane(A, B).facts


def test_ends_of_a_line_have_the_loss_of_the_minima_with_their_own_statistics():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)
    objective = Objective(Net(), nn.MSELoss(), data)
    plane = line_plane(A, B)
    for a, weights in ((0.0, A), (1.0, B)):
        expected = objective.evaluate(weights.theta, buffers=weights.buffers).loss
        found = objective.evaluate(plane.point(a), buffers=plane.buffers_at(a)).loss
        assert found == pytest.approx(expected, rel=1e-5)
        assert objective.evaluate(plane.point(a)).loss != pytest.approx(expected, rel=1e-2)


# Through three


def test_every_minimum_lies_on_its_mark_with_its_own_buffers():
    plane = three_point_plane(A, B, C)
    for (name, position), weights in zip(plane.marks, (A, B, C), strict=True):
        assert name == weights.name
        assert_at(plane, position, weights)
        where, off_plane = plane.project(weights.theta[None])
        np.testing.assert_allclose(where[0], position, atol=1e-6)
        assert off_plane[0] < 1e-6


def test_axes_of_three_minima_have_equal_units():
    """Distances on the picture are distances of weights, whatever the triangle."""
    plane = three_point_plane(A, B, C)
    np.testing.assert_allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-6)
    assert plane.facts["unit"] == "weight distance"
    places = np.array([position for _, position in plane.marks])
    for i, j, told in ((0, 1, 0), (0, 2, 1), (1, 2, 2)):
        exact = float(((A, B, C)[i].theta - (A, B, C)[j].theta).double().norm())
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(exact)
        assert plane.facts["distances"][told] == pytest.approx(exact)


def test_three_points_known_by_hand():
    """(0,0,1), (4,0,1), (1,3,1): a right-angled picture of a flat triangle."""
    plane = three_point_plane(
        plain("a", 0.0, 0.0, 1.0), plain("b", 4.0, 0.0, 1.0), plain("c", 1.0, 3.0, 1.0)
    )
    assert plane.marks == (("a", (0.0, 0.0)), ("b", (4.0, 0.0)), ("c", (1.0, 3.0)))
    assert plane.directions.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert plane.buffers_at(1.0, 1.0) is None


def test_buffers_between_three_minima_are_their_affine_combination():
    plane = three_point_plane(A, B, C)
    (_, (width, _)), (_, (along, height)) = plane.marks[1:]
    middle = ((width + along) / 3, height / 3)
    mean = sum(weights.buffers[VARIANCE] for weights in (A, B, C)) / 3
    torch.testing.assert_close(plane.buffers_at(*middle)[VARIANCE], mean)


def test_three_minima_on_a_line_are_refused():
    middle = Weights("middle", (A.theta + B.theta) / 2, A.buffers)
    beyond = Weights("beyond", A.theta + 1.7 * (B.theta - A.theta), A.buffers)
    for third in (middle, beyond):
        with pytest.raises(ValueError, match="must not lie on a line, got a, b and"):
            three_point_plane(A, B, third)
    with pytest.raises(ValueError, match="must not lie on a line"):
        three_point_plane(plain("a", 0.0), plain("b", 1.0), plain("c", 3.0))
    far = [
        Weights(name, 1000 + w * (B.theta - A.theta))
        for name, w in zip("abc", (0, 1, 0.3), strict=True)
    ]
    with pytest.raises(ValueError, match="must not lie on a line"):  # but for their rounding
        three_point_plane(*far)
    off = Weights("off", (A.theta + B.theta) / 2 + 1e-3 * C.theta, A.buffers)
    assert three_point_plane(A, B, off).marks[2][1][1] > 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (plain("b", 1.0, 2.0), r"one model, got a with shape \(34,\) and b with \(2,\)"),
        (Weights("b", A.theta.clone(), A.buffers), "must differ, got the same in a and b"),
        (Weights("b", A.theta * torch.nan, A.buffers), "finite, got NaN or infinity in a or b"),
        (Weights("b", B.theta), "same buffers, got a difference between a and b in kept, layers.1"),
        (Weights("b", B.theta, B.buffers | {"mask": torch.zeros(3)}), "between a and b in mask"),
        (Weights("b", B.theta, B.buffers | {"mask": torch.zeros(2)}), "infinity in 'mask'"),
    ],
)
def test_weights_of_different_models_or_none_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        line_plane(A, other)
    with pytest.raises(ValueError, match=message):
        three_point_plane(A, other, C)


# Along directions


def test_a_unit_of_an_axis_is_the_direction_itself():
    origin = torch.tensor([1.0, 1.0, 1.0])
    slanted = [
        Direction("gradient", "uphill", torch.tensor([1.0, 0.0, 0.0])),
        Direction("sam", "ε", torch.tensor([0.3, 0.4, 0.0]), {"seed": 3}, mark="w + ε"),
    ]
    plane = span_plane(origin, slanted, facts={"origin": "step 3"})
    assert plane.point(2.0, 1.0).tolist() == pytest.approx([3.3, 1.4, 1.0])
    assert plane.labels == ("uphill", "ε")
    assert plane.facts["plane"] == "gradient and sam"
    assert plane.facts["direction_cosine"] == pytest.approx(0.6)
    assert plane.facts["direction_norms"] == pytest.approx([1.0, 0.5])
    assert plane.facts["directions"] == [{"label": "uphill"}, {"label": "ε", "seed": 3}]
    assert plane.facts["origin"] == "step 3"
    assert plane.marks == (("w", (0.0, 0.0)), ("w + ε", (0.0, 1.0)))
    assert "unit" not in plane.facts


def test_one_direction_spans_a_line_and_two_of_a_kind_are_named_once():
    origin = torch.zeros(3)
    first = Direction("given", "x", torch.tensor([0.0, 1.0, 0.0]))
    line = span_plane(origin, [first])
    assert line.directions.tolist() == [[0, 1, 0]]
    assert line.facts["unit"] == "weight distance"
    assert line.marks == ()
    plane = span_plane(origin, [first, Direction("given", "y", torch.tensor([0.6, 0.0, 0.8]))])
    assert plane.facts["plane"] == "given"
    assert plane.facts["unit"] == "weight distance"
    slanted = Direction("given", "z", torch.tensor([0.6, 0.8, 0.0]))
    assert "unit" not in span_plane(origin, [first, slanted]).facts


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([], "1 or 2 directions, got 0"),
        ([torch.eye(3)[0]] * 3, "1 or 2 directions, got 3"),
        ([torch.zeros(3)], "d0 must be finite and not zero, got zero"),
        ([torch.eye(3)[0], torch.tensor([torch.nan, 0, 0])], "d1 .* got NaN or infinity"),
        ([torch.eye(2)[0]], r"d0 must be in the layout of theta, \(3,\), got shape \(2,\)"),
        ([torch.eye(3)[0], -2 * torch.eye(3)[0]], "cosine of -1.00000000 between d0 and d1"),
        ([torch.eye(3)[0], torch.tensor([1.0, 5e-5, 0.0])], "not be parallel"),
    ],
)
def test_directions_that_span_no_plane_are_refused(vectors, message):
    directions = [Direction("given", f"d{i}", vector) for i, vector in enumerate(vectors)]
    with pytest.raises(ValueError, match=message):
        span_plane(torch.zeros(3), directions)


# What a plane carries


def test_a_plane_on_another_device_or_type_carries_buffers_and_marks():
    plane = three_point_plane(A, B, C)
    moved = plane.like(torch.zeros(34, dtype=torch.float64))
    assert moved.origin.dtype == torch.float64
    assert moved.marks == plane.marks
    torch.testing.assert_close(moved.buffers_at(0.4, 2.0), plane.buffers_at(0.4, 2.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffers": ({}, {}, {})}, "2 in all, got 3"),
        ({"buffers": ({"x": torch.ones(2)}, {})}, "a difference in x"),
        ({"buffers": ({"x": torch.ones(2)}, {"x": torch.ones(3)})}, "a difference in a shape"),
        ({"buffers": ({"x": torch.ones(2)}, {"x": torch.ones(2) / 0})}, "infinity in 'x'"),
        ({"marks": (("m", (0.0, 1.0)),)}, "mark 'm' must have 1 finite coordinates"),
        ({"marks": (("m", (np.nan,)),)}, "finite coordinates"),
        ({"labels": ("a", "b")}, "as many labels"),
    ],
)
def test_wrong_buffers_marks_and_labels_of_a_plane_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Plane(torch.zeros(3), torch.eye(3)[:1], **options)
