import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from landscape.filters import filter_shape, moving_entries
from landscape.formulas import mean_output
from landscape.objectives import Objective, layout_of
from landscape.planes import Plane, random_plane


class Attention(nn.Module):
    """Self-attention with heads, and a projection of another width."""

    def __init__(self, width=8, heads=2, kdim=None):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, kdim=kdim, batch_first=True)
        self.kdim = kdim

    def forward(self, x):
        other = x if self.kdim is None else x[..., : self.kdim]
        return self.attention(x, other, x, need_weights=False)[0].mean(1)


class LowRank(nn.Module):
    """A frozen layer with a low-rank adapter, B A."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(6, 5).requires_grad_(False)
        self.A = nn.Parameter(torch.randn(2, 6))
        self.B = nn.Parameter(torch.randn(5, 2))

    def forward(self, x):
        return self.base(x) + x @ self.A.T @ self.B.T


def seeded(make, *args, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*args, **options)


def objective_of(model, inputs, **options):
    with torch.no_grad():
        output = model.eval()(inputs)
    return Objective(model, nn.MSELoss(), (inputs, torch.zeros_like(output)), **options)


def named(objective, vector):
    return {e.name: vector[e.slice].view(e.shape).double() for e in objective.layout}


def filter_norms(objective, vector):
    """Norms of the filters of every tensor, as the module cuts them."""
    norms = {}
    for entry in objective.layout:
        shape, within = filter_shape(entry, objective.model)
        norms[entry.name] = vector[entry.slice].double().view(shape).norm(dim=within)
    return norms


def cosine(plane):
    first, second = plane.directions.double()
    return float(first @ second / first.norm() / second.norm())


# Filters


@pytest.mark.parametrize(
    ("layer", "name", "filters"),
    [
        (nn.Linear(4, 3), "weight", 3),
        (nn.Conv2d(4, 6, 3), "weight", 6),
        (nn.Conv2d(4, 6, 3, groups=2), "weight", 6),
        (nn.Conv2d(6, 6, 3, groups=6), "weight", 6),
        (nn.Embedding(5, 4), "weight", 5),
        (nn.GRU(3, 4), "weight_ih_l0", 12),
        (nn.Bilinear(2, 3, 4), "weight", 4),
        (nn.LayerNorm((3, 4)), "bias", 3),
        (nn.LayerNorm(4), "weight", 1),
        (nn.MultiheadAttention(8, 2), "in_proj_weight", 6),
        (nn.MultiheadAttention(8, 2), "out_proj.weight", 8),
        (nn.MultiheadAttention(8, 4, kdim=5), "q_proj_weight", 4),
        (nn.MultiheadAttention(8, 4, kdim=5), "k_proj_weight", 4),
        (nn.MultiheadAttention(8, 4, vdim=5), "v_proj_weight", 4),
    ],
)
def test_layers_have_a_filter_for_each_output_and_attention_one_for_each_head(layer, name, filters):
    entry = next(entry for entry in layout_of(layer) if entry.name == name)
    shape, within = filter_shape(entry, layer)
    assert torch.zeros(entry.shape).view(shape).norm(dim=within).numel() == filters


def test_filters_of_a_transposed_convolution_are_its_output_channels():
    """Each output channel of either group is made by one slice of axis 1 alone."""
    layer = nn.ConvTranspose1d(4, 6, 2, groups=2, bias=False)
    entry = layout_of(layer).entries[0]
    shape, within = filter_shape(entry, layer)
    for output in range(6):
        weight = torch.zeros(entry.shape)
        weight[slice(0, 2) if output < 3 else slice(2, 4), output % 3] = 1
        layer.weight.data = weight
        made = layer(torch.ones(1, 4, 3))[0].abs().sum(1)
        assert made.nonzero().tolist() == [[output]]
        norms = weight.view(shape).norm(dim=within).flatten()
        assert norms.nonzero().tolist() == [[output]]


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_filters_are_seen_through_parametrizations(wrap):
    plain = nn.ConvTranspose1d(4, 6, 2, groups=2)
    expected = filter_shape(layout_of(plain).entries[0], plain)
    wrapped = nn.Sequential(wrap(nn.ConvTranspose1d(4, 6, 2, groups=2)))
    entries = {entry.name: entry for entry in layout_of(wrapped)}
    entry = next(e for name, e in entries.items() if name.endswith(("original", "original1")))
    assert filter_shape(entry, wrapped) == expected
    bare = wrap(nn.ConvTranspose1d(4, 6, 2, groups=2))
    entry = next(e for e in layout_of(bare) if e.name.endswith(("original", "original1")))
    assert filter_shape(entry, bare) == expected


def test_every_head_of_query_key_and_value_keeps_its_norm():
    model = seeded(Attention)
    objective = objective_of(model, torch.randn(4, 3, 8, generator=torch.Generator()))
    weight = named(objective, objective.theta)["attention.in_proj_weight"]
    drawn = named(objective, random_plane(objective, seed=0).directions[0])
    heads = drawn["attention.in_proj_weight"].view(3, 2, 4, 8)
    torch.testing.assert_close(heads.norm(dim=(2, 3)), weight.view(3, 2, 4, 8).norm(dim=(2, 3)))
    rows = drawn["attention.in_proj_weight"].norm(dim=1) / weight.norm(dim=1)
    assert rows.std() > 0.01
    out = named(objective, objective.theta)["attention.out_proj.weight"]
    torch.testing.assert_close(drawn["attention.out_proj.weight"].norm(dim=1), out.norm(dim=1))


def test_tied_weights_move_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(self.embedding(tokens))

    objective = objective_of(seeded(Tied), torch.arange(5))
    plane = random_plane(objective, seed=0)
    assert plane.directions.shape == (2, 20)
    drawn = named(objective, plane.directions[0])["embedding.weight"]
    weight = named(objective, objective.theta)["embedding.weight"]
    torch.testing.assert_close(drawn.norm(dim=1), weight.norm(dim=1))


def test_factors_of_a_low_rank_adapter_move_by_their_rows_and_the_base_rests():
    objective = objective_of(seeded(LowRank), torch.ones(3, 6))
    drawn = named(objective, random_plane(objective, seed=0).directions[0])
    weights = named(objective, objective.theta)
    assert set(drawn) == {"A", "B"}
    for name in drawn:
        torch.testing.assert_close(drawn[name].norm(dim=1), weights[name].norm(dim=1))


# What moves


def three_layers():
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 5), nn.Linear(5, 3)]
    return objective_of(seeded(lambda: nn.Sequential(*layers)), torch.randn(8, 4))


@pytest.mark.parametrize(
    ("patterns", "ignore", "moving"),
    [
        ((), ("bias", "norm"), {"0.weight", "2.weight", "3.weight"}),
        (("2.*",), ("bias", "norm"), {"2.weight"}),
        (("2.*",), (), {"2.weight", "2.bias"}),
        (("*.weight",), ("norm",), {"0.weight", "2.weight", "3.weight"}),
        (("[02].weight", "3.bias"), ("norm",), {"0.weight", "2.weight", "3.bias"}),
        (("1.weight",), (), {"1.weight"}),
    ],
)
def test_only_tensors_that_match_a_pattern_move(patterns, ignore, moving):
    objective = three_layers()
    plane = random_plane(objective, parameters=patterns, ignore=ignore, seed=0)
    for row in plane.directions:
        drawn = named(objective, row)
        assert {name for name, part in drawn.items() if part.any()} == moving
    sizes = {entry.name: entry.size for entry in objective.layout}
    assert plane.facts["parameters_moved"] == list(patterns)
    assert plane.facts["weights_moved"] == sum(sizes[name] for name in moving)


def test_a_subspace_is_the_part_of_the_whole_direction():
    objective = three_layers()
    whole = named(objective, random_plane(objective, seed=3).directions[0])["2.weight"]
    part = random_plane(objective, parameters=("2.*",), seed=3).directions[0]
    part = named(objective, part)["2.weight"]
    torch.testing.assert_close(part.abs(), whole.abs(), rtol=0, atol=0)  # the sign is of the whole


@pytest.mark.parametrize(
    ("patterns", "ignore", "message"),
    [
        (("2.weigth",), (), r"got '2.weigth', which matches none of .*did you mean '2.weight'"),
        (("2",), (), r"for all of a module write '2\.\*'"),
        (("2.*", "9.*"), (), r"got '9\.\*'"),
        (("0.weight", "1.*"), ("norm",), r"got '1\.\*', which names only what is ignored \(norm\)"),
        ("2.*", (), "tuple of patterns, got the text"),
    ],
)
def test_patterns_that_move_nothing_are_refused(patterns, ignore, message):
    with pytest.raises(ValueError, match=message):
        moving_entries(three_layers().layout, ignore=ignore, parameters=patterns)


# Orthogonal pairs


@pytest.mark.parametrize("normalization", ["filter", "layer", "model", "none"])
def test_orthogonalized_pairs_are_orthogonal_and_keep_the_norms_of_their_filters(normalization):
    objective = three_layers()
    near, plane = (
        random_plane(objective, normalization=normalization, orthogonalize=flag, seed=1)
        for flag in (False, True)
    )
    assert abs(cosine(near)) > 1e-3
    assert abs(cosine(plane)) < 1e-6
    assert plane.facts["direction_cosine"] == pytest.approx(cosine(plane), abs=1e-7)
    assert plane.facts["orthogonalized"]
    assert not near.facts["orthogonalized"]
    assert torch.equal(plane.directions[0], near.directions[0])
    if normalization == "filter":
        norms = [filter_norms(objective, row) for row in (near.directions[1], plane.directions[1])]
        for name, expected in norms[0].items():
            torch.testing.assert_close(norms[1][name], expected)
    if normalization in ("layer", "model"):
        assert float(plane.directions[1].norm()) == pytest.approx(float(near.directions[1].norm()))


def test_orthogonalizing_changes_the_draw_little():
    model = seeded(lambda: nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 30)))
    objective = objective_of(model, torch.ones(2, 40))
    near, plane = (random_plane(objective, orthogonalize=flag, seed=1) for flag in (False, True))
    change = plane.directions[1] - near.directions[1]
    share = float(change.norm() / near.directions[1].norm())
    assert share == pytest.approx(abs(near.facts["direction_cosine"]), rel=0.1)


def test_orthogonal_directions_of_filters_of_one_number_are_refused():
    model = nn.Linear(1, 3, bias=False)
    model.weight.data = torch.tensor([[1.0], [2.0], [4.0]])
    objective = objective_of(model, torch.ones(2, 1))
    with pytest.raises(ValueError, match="filters of several numbers"):
        random_plane(objective, orthogonalize=True, seed=0)
    plane = random_plane(objective, orthogonalize=True, normalization="layer", seed=0)
    assert abs(cosine(plane)) < 1e-6


def test_one_parameter_has_a_line_but_no_plane():
    objective = objective_of(nn.Linear(1, 1, bias=False), torch.ones(2, 1))
    assert random_plane(objective, axes=1, seed=0).directions.shape == (1, 1)
    for orthogonalize in (False, True):
        with pytest.raises(ValueError, match="at least 2 parameters that move, got 1"):
            random_plane(objective, orthogonalize=orthogonalize, seed=0)


# Laws


def aligned(plane):
    """The plane with its first number positive: rescaling may flip which component is largest."""
    signs = plane.directions[:, :1].sign()
    return Plane(plane.origin, plane.directions * signs)


def test_mean_slice_curvature_of_a_quadratic_is_the_weighted_trace():
    """Case 22: E[dᵀ A d] = Σ_f (‖w_f‖² / n_f) tr(A_ff), for filters of every kind."""

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, bias=False)
            self.up = nn.ConvTranspose1d(4, 2, 2, groups=2, bias=False)
            self.conv = nn.Conv1d(4, 2, 3, groups=2, bias=False)

        def forward(self, x):
            return sum((p**2).sum() for p in self.parameters()).expand(len(x))

    model = seeded(Layers)
    objective = Objective(model, mean_output, (torch.zeros(2, 1), torch.zeros(2)))
    # by hand: (name, indices that make one filter)
    filters = [("attention.in_proj_weight", np.arange(48).reshape(6, 8))]
    filters += [("attention.out_proj.weight", np.arange(16).reshape(4, 4))]
    filters += [("up.weight", np.arange(8).reshape(2, 2, 1, 2).transpose(0, 2, 1, 3).reshape(2, 4))]
    filters += [("conv.weight", np.arange(12).reshape(2, 6))]
    place = {entry.name: entry.offset for entry in objective.layout}
    generator = np.random.default_rng(0)
    scale = generator.uniform(0.3, 3, objective.layout.size)
    matrix = generator.standard_normal((len(scale), len(scale))) * 0.3 + np.diag(scale**2)
    weights = objective.theta.double().numpy()
    expected = sum(
        (weights[index + place[name]] ** 2).sum()
        / len(index)
        * np.diag(matrix)[index + place[name]].sum()
        for name, rows in filters
        for index in rows
    )
    rows = np.concatenate(
        [random_plane(objective, seed=seed).directions.double().numpy() for seed in range(400)]
    )
    curvature = np.einsum("si,ij,sj->s", rows, matrix, rows)
    error = curvature.std(ddof=1) / np.sqrt(len(curvature))
    assert abs(curvature.mean() - expected) < 4 * error
    assert error < 0.02 * expected


def test_rescaling_relu_layers_leaves_filter_normalized_slices():
    """Case 19, whole layers: (a W1, W2 / a) has the same slices for the same seed."""
    inputs = torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slices = []
    for factor in (1.0, 10.0):
        layers = [nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)]
        model = seeded(lambda layers=layers: nn.Sequential(*layers).double())
        with torch.random.fork_rng():
            torch.manual_seed(1)
            for layer in (layers[0], layers[2]):
                nn.init.normal_(layer.weight)
        layers[0].weight.data *= factor
        layers[2].weight.data /= factor
        objective = objective_of(model, inputs)
        filtered = aligned(random_plane(objective, seed=2))
        loose = aligned(random_plane(objective, normalization="none", seed=2))
        points = [(a, b) for a in (-1.0, 0.3, 1.0) for b in (-0.7, 0.0, 1.0)]
        slices.append([[objective(p.point(*at)) for at in points] for p in (filtered, loose)])
    np.testing.assert_allclose(slices[1][0], slices[0][0], rtol=1e-9)
    assert not np.allclose(slices[1][1], slices[0][1], rtol=0.1)


def test_rescaling_query_against_key_of_a_head_leaves_filter_normalized_slices():
    inputs = torch.randn(4, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = []
    for factor in (1.0, 5.0):
        model = seeded(Attention).double()
        weight = model.attention.in_proj_weight.data
        weight[4:8] *= factor  # the second head's query
        weight[12:16] /= factor  # and its key
        objective = objective_of(model, inputs)
        plane = aligned(random_plane(objective, seed=4))
        losses.append([objective(plane.point(a, 0.5)) for a in (-1.0, 0.0, 0.8)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)
