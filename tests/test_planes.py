import numpy as np
import pytest
import torch
from torch import nn

from landscape.layouts import Entry, Layout
from landscape.objectives import Objective, layout_of
from landscape.paths import measure_joint_path, measure_path, random_walk_variance
from landscape.planes import Plane, hessian_plane, joint_plane, random_plane, trajectory_plane
from landscape.runs import Run
from landscape.writers import RunWriter


class Zoo(nn.Module):
    """One tensor of every kind that filters are cut from."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.conv = nn.Conv1d(4, 6, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm1d(6)
        self.up = nn.ConvTranspose1d(6, 8, 2, groups=2)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.conv(self.embedding(tokens).transpose(1, 2))
        return self.head(self.up(self.norm(x)).mean(2))


def zoo_objective(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Zoo()
    tokens = torch.arange(24).view(6, 4) % 5
    return Objective(model, nn.CrossEntropyLoss(), (tokens, torch.arange(6) % 3), **options)


def by_name(objective, vector):
    return {e.name: vector[e.slice].view(e.shape).double() for e in objective.layout}


def quadratic_objective(eigenvalues, seed=0):
    """The mean of ½ Σ λ_i θ_i² as a model: its Hessian is diagonal with these eigenvalues."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            start = torch.linspace(0.3, 1.1, len(eigenvalues), dtype=torch.float64)
            self.weight = nn.Parameter(start)

        def forward(self, x):
            return 0.5 * (torch.tensor(eigenvalues) * self.weight**2).sum() + 0 * x

    inputs = torch.zeros(4, 1, dtype=torch.float64)
    return Objective(Quadratic(), lambda output, _: output.mean(), (inputs, inputs))


def write_run(path, thetas, steps=None, name="weight"):
    size = thetas.shape[1]
    layout = Layout((Entry(name=name, shape=(size,), offset=0, kind="weight"),))
    writer = RunWriter.create(
        path, config={"seed": 0}, problem={"name": "x", "options": {}}, layout=layout, method="SGD"
    )
    for step, theta in zip(steps or range(len(thetas)), thetas, strict=True):
        writer.save_checkpoint(step, theta, {})
    writer.finish()
    return Run(path)


def random_walk(count=12, size=40, seed=0):
    generator = np.random.default_rng(seed)
    moves = generator.standard_normal((count, size)) * np.linspace(1, 0.2, count)[:, None]
    return (5 + np.cumsum(moves, axis=0)).astype(np.float32)


# Planes


def test_points_are_origin_plus_multiples_of_the_directions():
    plane = Plane(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0, 0, 0], [0, 2.0, 1.0]]))
    assert plane.point(2.0, -1.0).tolist() == [3.0, 0.0, 2.0]
    assert torch.equal(plane.point(0.0, 0.0), plane.origin)
    assert plane.labels == ("direction 1", "direction 2")


def test_projection_undoes_point_for_slanted_directions():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(50, generator=generator, dtype=torch.float64)
    second = first + 1e-4 * torch.randn(50, generator=generator, dtype=torch.float64)
    origin = 100 * torch.randn(50, generator=generator, dtype=torch.float64)
    plane = Plane(origin, torch.stack([3 * first, second]))
    wanted = np.array([[0.5, -2.0], [0.0, 0.0], [7.0, 7.1]])
    position, off_plane = plane.project(torch.stack([plane.point(*p) for p in wanted]))
    np.testing.assert_allclose(position, wanted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(off_plane, 0, atol=1e-12)


def test_distance_off_the_plane_is_that_of_least_squares():
    generator = np.random.default_rng(1)
    origin, rows = generator.standard_normal(20), generator.standard_normal((2, 20))
    rows[1] += 2 * rows[0]
    thetas = generator.standard_normal((5, 20))
    plane = Plane(torch.from_numpy(origin), torch.from_numpy(rows))
    position, off_plane = plane.project(thetas)
    expected, squares, *_ = np.linalg.lstsq(rows.T, (thetas - origin).T, rcond=None)
    np.testing.assert_allclose(position, expected.T, rtol=1e-10)
    np.testing.assert_allclose(off_plane, np.sqrt(squares), rtol=1e-10)


@pytest.mark.parametrize(
    ("origin", "directions", "message"),
    [
        (torch.zeros(3), torch.zeros(2, 4), r"shapes \(3,\) and \(2, 4\)"),
        (torch.zeros(3), torch.eye(3), "1 or 2 directions, got 3"),
        (torch.zeros(3), torch.zeros(1, 3), "non-zero"),
        (torch.zeros(3), torch.tensor([[1.0, 2, 3], [-2.0, -4, -6]]), "not parallel"),
        (torch.tensor([0.0, torch.nan]), torch.eye(2), "finite"),
        (torch.zeros(2), torch.tensor([[torch.inf, 0.0]]), "finite"),
    ],
)
def test_what_spans_no_plane_is_refused(origin, directions, message):
    with pytest.raises(ValueError, match=message):
        Plane(origin, directions)


def test_projection_of_another_layout_is_refused():
    with pytest.raises(ValueError, match=r"\[n, 3\], got shape \(2, 4\)"):
        Plane(torch.zeros(3), torch.eye(3)[:2]).project(torch.zeros(2, 4))


# Random planes


def test_every_filter_of_a_direction_has_the_norm_of_its_weights():
    objective = zoo_objective()
    weights = by_name(objective, objective.theta)
    for row in random_plane(objective, seed=0).directions:
        drawn = by_name(objective, row)
        for name in ("embedding.weight", "conv.weight", "head.weight"):
            torch.testing.assert_close(
                drawn[name].flatten(1).norm(dim=1), weights[name].flatten(1).norm(dim=1)
            )
        for half in (slice(0, 3), slice(3, 6)):  # two groups, whose filters lie on axis 1
            torch.testing.assert_close(
                drawn["up.weight"][half].norm(dim=(0, 2)),
                weights["up.weight"][half].norm(dim=(0, 2)),
            )
        for name in ("conv.bias", "norm.weight", "norm.bias", "up.bias", "head.bias"):
            assert not drawn[name].any()


def test_filters_of_a_grouped_transposed_convolution_are_not_its_first_axis():
    objective = zoo_objective()
    weight = by_name(objective, objective.theta)["up.weight"]
    drawn = by_name(objective, random_plane(objective, seed=0).directions[0])["up.weight"]
    assert not torch.allclose(drawn.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))


def test_directions_are_the_seeded_draw_rescaled():
    """Within a filter, a direction is proportional to N(0, 1) numbers of its seed and axis."""
    objective = zoo_objective()
    plane = random_plane(objective, seed=7)
    raw = random_plane(objective, normalization="none", ignore=(), seed=7)
    for axis in range(2):
        drawn, loose = (by_name(objective, p.directions[axis])["head.weight"] for p in (plane, raw))
        ratio = drawn / loose
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
        numbers = np.random.default_rng((7, axis)).standard_normal(objective.layout.size)
        sign = np.sign(numbers[np.abs(numbers).argmax()])
        np.testing.assert_allclose(raw.directions[axis], sign * numbers, rtol=1e-6)


def test_ignore_nothing_moves_vectors_as_one_filter():
    objective = zoo_objective()
    weights = by_name(objective, objective.theta)
    drawn = by_name(objective, random_plane(objective, ignore=(), seed=0).directions[0])
    for name in ("conv.bias", "norm.weight", "up.bias", "head.bias"):
        torch.testing.assert_close(drawn[name].norm(), weights[name].norm())
    assert not drawn["norm.bias"].any()  # its weights are zero


def test_layer_normalization_gives_every_tensor_its_norm():
    objective = zoo_objective()
    weights = by_name(objective, objective.theta)
    plane = random_plane(objective, normalization="layer", seed=0)
    drawn = by_name(objective, plane.directions[0])
    for name in ("embedding.weight", "conv.weight", "up.weight", "head.weight"):
        torch.testing.assert_close(drawn[name].norm(), weights[name].norm())
    rows = drawn["head.weight"].norm(dim=1) / weights["head.weight"].norm(dim=1)
    assert rows.std() > 0.01


def test_model_normalization_gives_all_that_moves_its_norm():
    objective = zoo_objective()
    moving = torch.cat([objective.theta[e.slice] for e in objective.layout if "bias" not in e.name])
    everything = random_plane(objective, normalization="model", ignore=(), seed=0)
    assert float(everything.directions[0].norm()) == pytest.approx(float(objective.theta.norm()))
    plane = random_plane(objective, normalization="model", ignore=("bias",), seed=0)
    scale = [by_name(objective, plane.directions[0])["norm.bias"], moving.double()]
    assert float(plane.directions[0].norm()) == pytest.approx(float(torch.cat(scale[1:]).norm()))
    assert scale[0].any()


def test_same_seed_gives_the_same_bits_and_another_seed_others():
    state = torch.random.get_rng_state()
    first, again = (random_plane(zoo_objective(), seed=3) for _ in range(2))
    assert torch.equal(first.directions, again.directions)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = random_plane(zoo_objective(), seed=4)
    assert not torch.allclose(first.directions, other.directions)
    assert not torch.allclose(first.directions[1], other.directions[0])


def test_directions_do_not_depend_on_the_type_of_theta():
    exact = random_plane(zoo_objective(dtype=torch.float64), seed=0)
    torch.testing.assert_close(
        random_plane(zoo_objective(), seed=0).directions, exact.directions.float()
    )


def test_one_axis_is_the_first_of_two():
    objective = zoo_objective()
    both, single = (random_plane(objective, seed=5, axes=axes) for axes in (2, 1))
    assert torch.equal(single.directions, both.directions[:1])


def test_pair_of_random_directions_is_nearly_orthogonal():
    """PEERS §5, 5 and 7: U[0, 1] draws have cosine 0.75, a wrong projection 0.9999."""
    model = nn.Linear(300, 200)
    objective = Objective(model, nn.MSELoss(), (torch.ones(2, 300), torch.ones(2, 200)))
    plane = random_plane(objective, seed=0)
    first, second = plane.directions.double()
    cosine = float(first @ second / first.norm() / second.norm())
    assert abs(cosine) < 5 / np.sqrt(60_000)
    assert plane.facts["direction_cosine"] == pytest.approx(cosine, abs=1e-6)
    assert plane.facts["direction_norms"] == pytest.approx(
        [float(model.weight.detach().norm())] * 2, rel=1e-5
    )


@pytest.mark.parametrize("seed", range(4))
def test_largest_component_of_a_direction_is_positive(seed):
    for row in random_plane(zoo_objective(), seed=seed).directions:
        assert row[row.abs().argmax()] > 0


def test_facts_of_a_random_plane_are_enough_to_draw_it_again():
    objective = zoo_objective()
    plane = random_plane(
        objective,
        normalization="layer",
        ignore=("norm",),
        orthogonalize=True,
        parameters=("*.weight",),
        seed=9,
    )
    chosen = {name: plane.facts[name] for name in ("normalization", "ignore", "seed")}
    chosen["orthogonalize"] = plane.facts["orthogonalized"]
    chosen["parameters"] = plane.facts["parameters_moved"]
    assert plane.facts["plane"] == "random"
    assert torch.equal(random_plane(objective, **chosen).directions, plane.directions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "filters", "seed": 0}, "got 'filters' \\(did you mean 'filter'"),
        ({"ignore": "bias", "seed": 0}, "tuple of some of weight, bias, norm, embedding"),
        ({"ignore": ("biases",), "seed": 0}, "got .'biases'"),
        ({"seed": -1}, "whole number from 0 on, got -1"),
        ({"seed": 0.5}, "got 0.5"),
        ({"axes": 3, "seed": 0}, "axes must be 1 or 2, got 3"),
        ({"orthogonalize": "yes", "seed": 0}, "True or False, got 'yes'"),
        ({"parameters": ("heads.weight",), "seed": 0}, "did you mean 'head.weight'"),
        ({"ignore": ("weight", "bias", "norm", "embedding"), "seed": 0}, "move something"),
    ],
)
def test_wrong_arguments_of_a_random_plane_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        random_plane(zoo_objective(), **options)


# Trajectory planes


def test_trajectory_plane_is_the_singular_vectors_of_the_centred_checkpoints(tmp_path):
    thetas = random_walk()
    plane = trajectory_plane(write_run(tmp_path / "run", thetas))
    centered = thetas.astype(float) - thetas.astype(float).mean(axis=0)
    _, scale, rows = np.linalg.svd(centered, full_matrices=False)
    for row, expected in zip(plane.directions.numpy(), rows, strict=False):
        np.testing.assert_allclose(row, expected * np.sign(expected @ row), atol=1e-6)
        assert row[np.abs(row).argmax()] > 0
    shares = scale**2 / (scale**2).sum()
    np.testing.assert_allclose(plane.facts["variance"], shares[:2], rtol=1e-9)
    assert torch.equal(plane.origin, torch.from_numpy(thetas[-1]))
    assert plane.facts["checkpoints"] == list(range(12))


def test_blocks_of_checkpoints_give_the_same_plane(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", random_walk())
    whole, path = trajectory_plane(run), measure_path(run)
    largest = []
    import landscape.paths

    read = landscape.paths._read_blocks

    def watched(*args, **options):
        for rows, block in read(*args, **options):
            largest.append(len(block))
            yield rows, block

    monkeypatch.setattr(landscape.paths, "_BLOCK_BYTES", 5 * 8 * 40)
    monkeypatch.setattr(landscape.paths, "_read_blocks", watched)
    np.testing.assert_allclose(measure_path(run).gram, path.gram, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trajectory_plane(run).directions, whole.directions)
    assert max(largest) == 5


def test_random_walk_of_equal_steps_explains_60_and_15_percent():
    """Case 16: 60.79, 15.20, 6.75, 3.80 %."""
    shares = random_walk_variance(np.ones(400))
    np.testing.assert_allclose(100 * shares[:4], [60.79, 15.20, 6.75, 3.80], atol=0.02)
    assert shares.sum() == pytest.approx(1)


def test_random_walk_of_a_decaying_schedule_explains_more():
    """SCIENCE §0.15: 74 + 11 % for the paper's schedule, x 0.2 at 30, 60 and 80 %."""
    shares = random_walk_variance(np.repeat([1, 0.2, 0.04, 0.008], [60, 60, 40, 40]))
    np.testing.assert_allclose(100 * shares[:2], [74, 11], atol=0.6)


def test_random_walk_in_high_dimension_meets_its_null(tmp_path):
    generator = np.random.default_rng(0)
    lengths = np.repeat([1.0, 0.2], 10)
    moves = generator.standard_normal((20, 4000)) * lengths[:, None]
    thetas = np.concatenate([np.zeros((1, 4000)), np.cumsum(moves, axis=0)]).astype(np.float32)
    plane = trajectory_plane(write_run(tmp_path / "run", thetas))
    np.testing.assert_allclose(plane.facts["variance"], plane.facts["variance_null"], rtol=0.05)


@pytest.mark.parametrize(
    ("thetas", "message"),
    [
        (random_walk(2), "at least 3 checkpoints, got 2"),
        (np.outer(np.arange(5), np.ones(4)).astype(np.float32), "span 2 directions, got 1"),
        (np.ones((4, 6), np.float32), "span 2 directions, got 0"),
        (np.where(np.arange(5)[:, None] == 3, np.nan, random_walk(5)), "NaN or infinity at step 3"),
    ],
)
def test_paths_that_span_no_plane_are_refused(tmp_path, thetas, message):
    with pytest.raises(ValueError, match=message):
        trajectory_plane(write_run(tmp_path / "run", thetas))


def test_two_blocks_of_checkpoints_are_in_memory_at_once(tmp_path, monkeypatch):
    import tracemalloc

    import landscape.paths

    size, block = 20_000, 4
    run = write_run(tmp_path / "run", random_walk(20, size))
    monkeypatch.setattr(landscape.paths, "_BLOCK_BYTES", block * 8 * size)
    tracemalloc.start()
    try:
        trajectory_plane(run)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    vectors = peak / (8 * size)  # of the size of theta in float64
    assert 2 * block < vectors < 2 * block + 4


# Joint planes


def walks(tmp_path, *thetas):
    return [write_run(tmp_path / f"run{i}", part) for i, part in enumerate(thetas)]


def test_joint_plane_is_the_singular_vectors_of_all_checkpoints(tmp_path):
    parts = random_walk(7, seed=1), random_walk(5, seed=2), random_walk(1, seed=3)
    runs = walks(tmp_path, *parts)
    plane = joint_plane(runs)
    thetas = np.concatenate(parts).astype(float)
    _, scale, rows = np.linalg.svd(thetas - thetas.mean(axis=0), full_matrices=False)
    for row, expected in zip(plane.directions.numpy(), rows, strict=False):
        np.testing.assert_allclose(row, expected * np.sign(expected @ row), atol=1e-6)
    np.testing.assert_allclose(plane.facts["variance"], (scale**2 / (scale**2).sum())[:2])
    assert torch.equal(plane.origin, torch.from_numpy(parts[0][-1]))
    assert plane.facts["checkpoints"] == [list(range(7)), list(range(5)), [0]]
    assert plane.facts["plane_runs"] == [run.id for run in runs]
    assert plane.facts["unit"] == "weight distance"


def test_the_last_checkpoint_of_every_run_is_marked_on_a_joint_plane(tmp_path):
    parts = random_walk(7, seed=1), random_walk(5, seed=2)
    plane = joint_plane(walks(tmp_path, *parts))
    assert [name for name, _ in plane.marks] == ["run0", "run1"]
    assert plane.marks[0][1] == (0.0, 0.0)
    exact = plane.directions.double().numpy() @ (parts[1][-1].astype(float) - parts[0][-1])
    np.testing.assert_allclose(plane.marks[1][1], exact, rtol=1e-5)
    again = joint_plane([write_run(tmp_path / f"{i}/x", part) for i, part in enumerate(parts)])
    ids = again.facts["plane_runs"]
    assert [name for name, _ in again.marks] == [f"x ({ids[0]})", f"x ({ids[1]})"]


def test_blocks_of_checkpoints_give_the_same_joint_plane(tmp_path, monkeypatch):
    import landscape.paths

    runs = walks(tmp_path, random_walk(7, seed=1), random_walk(6, seed=2))
    whole = joint_plane(runs)
    monkeypatch.setattr(landscape.paths, "_BLOCK_BYTES", 3 * 8 * 40)
    torch.testing.assert_close(joint_plane(runs).directions, whole.directions)


def arms(*lengths, size=500):
    """Walks of orthogonal steps of these lengths from one start."""
    total, taken, thetas = np.eye(size, dtype=np.float32), 0, []
    for own in lengths:
        moves = total[taken : taken + len(own)] * np.array(own)[:, None]
        taken += len(own)
        path = np.concatenate([np.zeros((1, size)), np.cumsum(moves, axis=0)])
        thetas.append(path.astype(np.float32))
    return thetas


def test_two_arms_of_equal_steps_explain_what_one_walk_does(tmp_path):
    """Case 16 for two runs from one start: 60.8 and 15.2 %."""
    path = measure_joint_path(walks(tmp_path, *arms(np.ones(120), np.ones(120))))
    np.testing.assert_allclose(100 * path.explained_null[:2], [60.8, 15.2], atol=0.3)
    np.testing.assert_allclose(path.explained[:20], path.explained_null[:20], rtol=1e-6)


def test_joint_null_has_the_runs_own_starts_and_step_lengths(tmp_path):
    first, second, third = arms(np.linspace(1, 0.2, 9), np.ones(4), np.full(6, 0.1))
    second = second + np.eye(500, dtype=np.float32)[-1] * 5  # from another start
    path = measure_joint_path(walks(tmp_path, first, second, third))
    assert path.explained[0] > 0.5
    np.testing.assert_allclose(path.explained, path.explained_null, rtol=1e-5, atol=1e-9)


def test_runs_that_drift_explain_more_than_the_joint_null(tmp_path):
    drift = np.outer(np.arange(10), np.ones(300) / 10).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal((2, 10, 300)).astype(np.float32) / 10
    path = measure_joint_path(walks(tmp_path, drift + noise[0], -drift + noise[1]))
    assert path.explained[0] > path.explained_null[0] + 0.2


def test_runs_that_share_no_plane_are_refused(tmp_path):
    first, second = walks(tmp_path, random_walk(4), random_walk(4, seed=1))
    other = write_run(tmp_path / "other", random_walk(4, size=30))
    renamed = write_run(tmp_path / "renamed", random_walk(4), name="bias")
    nan = np.where(np.arange(4)[:, None] == 2, np.nan, random_walk(4, seed=2))
    diverged = write_run(tmp_path / "diverged", nan)
    line = walks(tmp_path / "line", *(np.outer([i, i + 1], np.ones(4)) for i in range(2)))
    for runs, message in (
        ([first], "at least 2 different runs, got .*run0"),
        ([], "got none"),
        ([first, second, first], "2 different runs"),
        ([first, other], "one layout, got 40 parameters .* 30 in 1, or"),
        ([first, renamed], "or under other names"),
        ([first, diverged], "NaN or infinity at step 2 of .*diverged"),
        (line, "span 2 directions, got 1 in .*run0, .*run1"),
    ):
        with pytest.raises(ValueError, match=message):
            joint_plane(runs)


# Hessian planes


def test_hessian_plane_is_spanned_by_the_top_eigenvectors():
    objective = quadratic_objective([0.5, 4.0, -6.0, 2.0])
    plane = hessian_plane(objective, tolerance=1e-6, seed=0)
    np.testing.assert_allclose(plane.directions, np.eye(4)[[1, 3]], atol=1e-5)
    np.testing.assert_allclose(plane.facts["eigenvalues"], [4, 2, 0.5], atol=1e-5)
    np.testing.assert_allclose(plane.facts["eigengap"], [2, 1.5], atol=1e-5)
    assert torch.equal(plane.origin, objective.theta)
    assert plane.facts["plane"] == "hessian"


def test_hessian_plane_of_one_parameter_is_refused():
    with pytest.raises(ValueError, match="at least 2 parameters, got 1"):
        hessian_plane(quadratic_objective([1.0]), seed=0)


def test_layout_kinds_of_the_zoo():
    assert [entry.kind for entry in layout_of(Zoo())] == (
        ["embedding", "weight", "bias", "norm", "norm", "weight", "bias", "weight", "bias"]
    )
