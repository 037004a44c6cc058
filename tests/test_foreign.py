"""Old files of other tools: values land where they were measured, and what is wrong is said.

The files are written as those tools write them, from losses whose minimum is known.
"""

import hashlib
import io
import struct
import zipfile

import h5py
import numpy as np
import pytest

from landscape.foreign import import_file, import_files, read_foreign
from landscape.result_files import load_result
from landscape.results import Profile, Surface
from landscape.storage import RunFileError

X, Y = np.linspace(-1.0, 1.0, 5), np.linspace(-0.6, 0.9, 4)
LOWEST = (0.5, -0.1)
NAME = (
    "model_300.t7_weights_xignore=biasbn_xnorm=filter_yignore=biasbn_ynorm=filter.h5"
    "_[-1.0,1.0,5]x[-0.6,0.9,4].h5"
)


def bowl(x, y):
    return 0.25 + 2 * (x - LOWEST[0]) ** 2 + 7 * (y - LOWEST[1]) ** 2


def percent(x, y):
    return 90 - 10 * abs(x - LOWEST[0]) - 20 * abs(y - LOWEST[1])


def is_lowest_at(result, x, y):
    i, j = np.unravel_index(np.nanargmin(result.loss), result.loss.shape)
    assert (result.alpha[i], result.beta[j]) == pytest.approx((x, y))


def told(result, *words):
    """Whether one warning has all of the words."""
    warnings = result.facts["imported_from"]["warnings"]
    return any(all(word in warning for word in words) for warning in warnings)


def tomgoldstein(path, values, *, x=X, y=Y, left=(), marks=None):
    """Evaluate functions of (x, y) as plot_surface.py does; points in `left` stay unfilled."""
    marks = marks or {}
    with h5py.File(path, "a") as file:
        file["dir_file"] = "models/" + path.name.split("_[")[0]
        file["xcoordinates"] = x
        if y is not None:
            file["ycoordinates"] = y
        shape = x.shape if y is None else (len(x), len(y))
        if y is None:
            points = [x.ravel()]
        else:
            points = [mesh.ravel() for mesh in np.meshgrid(x, y)]
        for name, function in values.items():
            filled = np.full(shape, marks.get(name, -1.0))
            for index in set(range(filled.size)) - set(left):
                filled.ravel()[index] = function(*(axis[index] for axis in points))
            file[name] = filled
    return path


@pytest.fixture
def surface_file(tmp_path):
    return tomgoldstein(tmp_path / NAME, {"train_loss": bowl, "train_acc": percent})


def test_a_non_square_surface_has_each_value_where_it_was_measured(surface_file):
    result = read_foreign(surface_file)
    assert isinstance(result, Surface)
    np.testing.assert_allclose(result.loss, bowl(X[:, None], Y[None, :]))
    np.testing.assert_allclose(result.accuracy, percent(X[:, None], Y[None, :]) / 100)
    is_lowest_at(result, *LOWEST)
    assert result.evaluated.all()
    assert told(result, "declared 5 × 4", "row by row")
    assert result.facts["imported_from"]["format"] == "tomgoldstein/loss-landscape surface"
    assert result.facts["imported_from"]["file"] == NAME
    digest = hashlib.sha256(surface_file.read_bytes()).hexdigest()
    assert result.facts["imported_from"]["sha256"] == digest


def test_a_square_surface_is_read_the_same_way_without_a_warning_of_its_order(tmp_path):
    path = tomgoldstein(tmp_path / "a.h5", {"train_loss": bowl}, x=X, y=X)
    result = read_foreign(path)
    np.testing.assert_allclose(result.loss, bowl(X[:, None], X[None, :]))
    assert not told(result, "declared")


def test_coordinates_that_fall_are_turned_around_with_their_values(tmp_path):
    path = tomgoldstein(tmp_path / "a.h5", {"train_loss": bowl}, x=X[::-1].copy())
    result = read_foreign(path)
    np.testing.assert_allclose(result.alpha, X)
    np.testing.assert_allclose(result.loss, bowl(X[:, None], Y[None, :]))


def test_the_files_name_tells_normalization_and_batch_norm_and_that_is_said(tmp_path):
    facts = {}
    for name in (
        NAME,
        "m_states_xnorm=filter_ynorm=layer.h5_[0,1,5]x[0,1,4].h5",
        "renamed.h5",
        "PCA_weights_ignore=biasbn_save_epoch=1/directions.h5_[0,1,5]x[0,1,4].h5",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        result = read_foreign(tomgoldstein(tmp_path / name, {"train_loss": bowl}))
        facts[name] = [result.facts.get(key) for key in ("bn", "normalization", "ignore")]
        assert told(result, "taken from the file's name") == (name != "renamed.h5")
        assert result.facts["plane"] == "given"
    assert list(facts.values()) == [
        ["frozen", "filter", ["bias", "norm"]],
        ["interpolated", "filter and layer", None],
        [None, None, None],
        ["frozen", None, ["bias", "norm"]],
    ]


def test_points_never_filled_are_not_evaluated_and_real_losses_of_minus_one_stay(tmp_path):
    def hinge(x, y):
        return -1.0 if (x, y) == (X[0], Y[0]) else bowl(x, y)

    values = {"train_loss": hinge, "train_acc": percent}
    result = read_foreign(tomgoldstein(tmp_path / "a.h5", values, left=range(13, 20)))
    expected = np.ones((4, 5), bool)
    expected.ravel()[13:] = False
    np.testing.assert_array_equal(result.evaluated, expected.T)
    np.testing.assert_array_equal(np.isnan(result.loss), ~expected.T)
    np.testing.assert_array_equal(np.isnan(result.accuracy), ~expected.T)
    assert result.loss[0, 0] == -1
    assert told(result, "7 of 20 points were never filled")


def test_without_accuracies_a_loss_of_minus_one_is_taken_as_never_filled_and_said(tmp_path):
    result = read_foreign(tomgoldstein(tmp_path / "a.h5", {"train_loss": bowl}, left=[0, 1]))
    assert (~result.evaluated).sum() == 2
    assert np.isnan(result.accuracy).all()
    assert told(result, "exactly -1 can't be told")
    whole = read_foreign(tomgoldstein(tmp_path / "b.h5", {"train_loss": bowl}))
    assert not told(whole, "exactly -1")


def test_a_loss_kept_before_its_accuracy_by_a_killed_process_is_kept(surface_file):
    with h5py.File(surface_file, "a") as file:
        file["train_acc"][4, 3] = -1.0
    result = read_foreign(surface_file)
    assert result.evaluated.all()
    assert np.isnan(result.accuracy).sum() == 1


def test_a_loss_that_diverged_is_evaluated_and_stays_nan(tmp_path):
    def broken(x, y):
        return np.nan if x == X[0] else bowl(x, y)

    result = read_foreign(tomgoldstein(tmp_path / "a.h5", {"train_loss": broken}))
    assert result.evaluated.all()
    np.testing.assert_array_equal(np.isnan(result.loss[:, 0]), X == X[0])


def test_accuracies_that_cannot_be_percent_are_told(tmp_path):
    for number, (factor, words) in enumerate([(0.01, "100 times too small"), (2.0, "left out")]):

        def accuracy(x, y, factor=factor):
            return factor * percent(x, y)

        values = {"train_loss": bowl, "train_acc": accuracy}
        result = read_foreign(tomgoldstein(tmp_path / f"{number}.h5", values))
        assert told(result, words)
        assert np.isnan(result.accuracy).all() == (factor > 1)


def test_the_test_set_is_read_beside_the_training_set_and_alone(tmp_path):
    def other(x, y):
        return bowl(x, y) + 1

    values = {"train_loss": bowl, "train_acc": percent, "test_loss": other, "test_acc": percent}
    both = read_foreign(tomgoldstein(tmp_path / "a.h5", values))
    np.testing.assert_allclose(both.test_loss, both.loss + 1)
    np.testing.assert_allclose(both.test_accuracy, both.accuracy)
    alone = read_foreign(tomgoldstein(tmp_path / "b.h5", {"test_loss": other, "test_acc": percent}))
    np.testing.assert_allclose(alone.loss, both.test_loss)
    assert alone.facts["data"].startswith("test set")
    assert told(alone, "test set's")


def test_a_hessian_map_gives_eigenvalues_where_they_were_measured(tmp_path):
    def low(x, y):
        return -x - 2 * y - 3

    marks = {"min_eig": 1.0}
    values = {"max_eig": bowl, "min_eig": low}
    path = tomgoldstein(tmp_path / "a.h5", values, left=[19], marks=marks)
    result = read_foreign(path)
    expected = bowl(X[:, None], Y[None, :])
    expected[-1, -1] = np.nan
    np.testing.assert_allclose(result.lambda_max, expected)
    assert result.lambda_min[1, 2] == pytest.approx(low(X[1], Y[2]))
    assert np.isnan(result.lambda_min[-1, -1])
    assert not result.evaluated.any()
    assert np.isnan(result.loss).all()
    assert told(result, "sums over the batches")
    with h5py.File(path, "a") as file:
        file["train_loss"] = np.ones((5, 4))
    assert read_foreign(path).evaluated.all()


def test_a_line_is_a_profile(tmp_path):
    def line(x):
        return (x - 0.5) ** 2

    path = tomgoldstein(tmp_path / "a.h5", {"train_loss": line, "train_acc": abs}, y=None)
    result = read_foreign(path)
    assert isinstance(result, Profile)
    np.testing.assert_allclose(result.loss, [line(X)])
    np.testing.assert_allclose(result.accuracy, [abs(X) / 100])
    assert result.evaluated.shape == (1, 5)
    with pytest.raises(ValueError, match="projections need a surface"):
        read_foreign(path, projections=path)


def directions(path, x, y, variance=None):
    """Write directions as h5_util.py does, each a list of tensors."""
    with h5py.File(path, "w") as file:
        for name, tensors in (("xdirection", x), ("ydirection", y)):
            group = file.create_group(name)
            for number, tensor in enumerate(tensors):
                group.create_dataset(str(number), data=tensor)
        if variance is not None:
            file["explained_variance_ratio_"] = np.array(variance)
            file["singular_values_"] = np.array([3.0, 1.0])
    return path


def projections(path, position):
    with h5py.File(path, "w") as file:
        file["proj_xcoord"] = np.array(position)[:, 0]
        file["proj_ycoord"] = np.array(position)[:, 1]
    return path


PATH = [(-0.9, 0.8), (-0.2, 0.3), (0.0, 0.0)]


def test_a_projected_path_lies_on_the_surface_with_the_variance_of_its_plane(
    surface_file, tmp_path
):
    halves = np.float32(np.sqrt(0.5)) * np.array([[1, 1], [1, -1]], np.float32)
    counter = np.array(7, np.int64)
    directions(tmp_path / "d.h5", [halves[0], counter], [halves[1], counter], [0.9, 0.07])
    path = projections(tmp_path / "d.h5_proj_cos.h5", PATH)
    result = read_foreign(surface_file, projections=path)
    np.testing.assert_allclose(result.path_position, PATH)
    np.testing.assert_array_equal(result.path_step, [0, 1, 2])
    assert np.isnan(result.path_off_plane).all()
    assert np.isnan(result.path_loss).all()
    assert result.facts["variance"] == [0.9, 0.07]
    assert result.facts["unit"] == "weight distance"
    assert result.axis_labels == ("PC 1", "PC 2")
    assert told(result, "mean", "relative to the last weights")
    assert not told(result, "not at 0")


def test_a_path_in_lengths_is_converted_to_multiples_of_the_surfaces_directions(
    surface_file, tmp_path
):
    rng = np.random.default_rng(0)
    x, y = [3 * rng.normal(size=(4, 3))], [rng.normal(size=(4, 3)) + 1]
    dx, dy = x[0].ravel(), y[0].ravel()
    moves = [a * dx + b * dy for a, b in PATH]
    stored = [(m @ dx / np.linalg.norm(dx), m @ dy / np.linalg.norm(dy)) for m in moves]
    path = projections(tmp_path / "path.h5", stored)
    plain = read_foreign(surface_file, projections=path)
    np.testing.assert_allclose(plain.path_position, stored)
    assert told(plain, "give the direction file too")
    paths = [path, directions(tmp_path / "d.h5", x, y)]
    for order in (paths, paths[::-1]):
        result = read_foreign(surface_file, projections=order)
        np.testing.assert_allclose(result.path_position, PATH, atol=1e-12)
        assert told(result, "converted to the surface's")
        assert "unit" not in result.facts
    parallel = directions(tmp_path / "p.h5", x, x)
    result = read_foreign(surface_file, projections=[path, parallel])
    np.testing.assert_allclose(result.path_position, stored)
    assert told(result, "parallel")


def test_a_path_that_ends_elsewhere_than_at_the_last_weights_is_told(surface_file, tmp_path):
    path = projections(tmp_path / "p.h5", PATH[:2])
    assert told(read_foreign(surface_file, projections=path), "not at 0")


def test_projections_that_hold_no_path_are_refused_in_words(surface_file, tmp_path):
    one = [np.ones(3)]
    wrong = {
        "no projected path": directions(tmp_path / "d.h5", one, one),
        "expected projections": surface_file,
        "equal length": projections(tmp_path / "n.h5", [(0.0, np.nan)]),
    }
    for words, path in wrong.items():
        with pytest.raises(RunFileError, match=words):
            read_foreign(surface_file, projections=path)
    with pytest.raises(ValueError, match="a file or several"):
        read_foreign(surface_file, projections=[])
    path = projections(tmp_path / "p.h5", PATH)
    for pair in ((one, [np.ones(2)]), (one, [*one, *one]), (one, [np.array([b"a"])])):
        with pytest.raises(RunFileError, match=r"d\.h5: .*both directions|same tensors"):
            read_foreign(surface_file, projections=[path, directions(tmp_path / "d.h5", *pair)])


ALPHAS, BETAS = np.linspace(-0.2, 1.2, 6), np.linspace(-0.2, 1.2, 4)
LENGTHS = (8.0, 3.0)


def plane_file(path, **changed):
    """Write a plane of values known at each point, as plane.py does."""
    shape = (len(ALPHAS), len(BETAS))
    arrays = {name: np.zeros(shape) for name in ("tr_loss", "tr_nll", "tr_acc", "tr_err")}
    arrays |= {name: np.zeros(shape) for name in ("te_loss", "te_nll", "te_acc", "te_err")}
    grid = np.zeros((*shape, 2))
    for i, alpha in enumerate(ALPHAS):
        for j, beta in enumerate(BETAS):
            x, y = alpha * LENGTHS[0], beta * LENGTHS[1]
            grid[i, j] = [x, y]
            for which, shift in (("tr", 0.0), ("te", 0.5)):
                arrays[f"{which}_nll"][i, j] = shift + (x - 6.72) ** 2 + (y - 0.8) ** 2
                arrays[f"{which}_loss"][i, j] = 100 - x
                arrays[f"{which}_acc"][i, j] = 50 + x - shift
                arrays[f"{which}_err"][i, j] = 100.0 - arrays[f"{which}_acc"][i, j]
    arrays |= {
        "ts": np.linspace(0.0, 1.0, 7),
        "bend_coordinates": np.array([[0.0, 0.0], [3.0, LENGTHS[1]], [LENGTHS[0], 0.0]]),
        "curve_coordinates": np.stack([np.linspace(0, 8, 7), np.zeros(7)], axis=1),
        "alphas": ALPHAS,
        "betas": BETAS,
        "grid": grid,
    }
    arrays |= changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_plane_through_minima_is_read_in_weight_distance_with_its_pure_loss(tmp_path):
    result = read_foreign(plane_file(tmp_path / "plane.npz"))
    np.testing.assert_allclose(result.alpha, ALPHAS * 8)
    np.testing.assert_allclose(result.beta, BETAS * 3)
    x, y = np.meshgrid(ALPHAS * 8, BETAS * 3, indexing="ij")
    np.testing.assert_allclose(result.loss, (x - 6.72) ** 2 + (y - 0.8) ** 2)
    is_lowest_at(result, ALPHAS[4] * 8, BETAS[1] * 3)
    np.testing.assert_allclose(result.accuracy, (50 + x) / 100)
    np.testing.assert_allclose(result.test_loss, result.loss + 0.5)
    np.testing.assert_allclose(result.test_accuracy, (49.5 + x) / 100)
    np.testing.assert_allclose(result.mark_position, [[0, 0], [3, 3], [8, 0]])
    assert result.mark_labels == ("start", "bend", "end")
    np.testing.assert_allclose(result.path_position[:, 0], np.linspace(0, 8, 7))
    np.testing.assert_array_equal(result.path_off_plane, np.zeros(7))
    assert result.facts["bn"] == "recomputed"
    assert result.facts["unit"] == "weight distance"
    assert told(result, "tr_nll", "half the weight decay", "not of their squares")
    assert told(result, "augmented")
    assert told(result, "--use_test")


def test_arrays_that_lie_column_by_column_are_read_alike(tmp_path):
    plain = read_foreign(plane_file(tmp_path / "plane.npz"))
    turned = {"tr_nll": np.asfortranarray(plain.loss)}
    np.testing.assert_array_equal(
        read_foreign(plane_file(tmp_path / "turned.npz", **turned)).loss, plain.loss
    )


def test_a_curve_with_more_bends_than_the_plane_goes_through_is_at_unknown_distance(tmp_path):
    bends = np.array([[0.0, 0.0], [3.0, 3.0], [8.0, 0.0], [5.0, 1.0]])
    result = read_foreign(plane_file(tmp_path / "plane.npz", bend_coordinates=bends))
    assert np.isnan(result.path_off_plane).all()
    assert result.mark_labels == ("start", "bend 1", "bend 2", "end")
    assert told(result, "first three of 4 bends")


def test_a_plane_without_test_set_and_curve_is_read(tmp_path):
    gone = dict.fromkeys(("te_loss", "te_nll", "te_acc", "te_err", "curve_coordinates", "ts"))
    result = read_foreign(plane_file(tmp_path / "plane.npz", **gone))
    assert result.test_loss.size == result.test_accuracy.size == result.path_step.size == 0
    assert not told(result, "--use_test")


def test_a_plane_that_is_transposed_or_no_grid_is_refused(tmp_path):
    whole = plane_file(tmp_path / "plane.npz")
    with np.load(whole) as file:
        grid = file["grid"]
    skewed = grid.copy()
    skewed[2, 1, 0] += 0.1
    for words, changed in (
        ("no such grid", {"grid": grid.transpose(1, 0, 2), "alphas": BETAS, "betas": ALPHAS}),
        ("no such grid", {"grid": skewed}),
        ("'tr_nll' must be", {"tr_nll": np.zeros((4, 6))}),
        ("lacks the array 'tr_nll'", {"tr_nll": None}),
        ("'alphas' must be", {"alphas": BETAS}),
        ("no such grid", {"grid": np.full_like(grid, np.nan)}),
        ("rising order", {"grid": grid[::-1]}),
        ("empty", {"grid": np.empty((0, 4, 2)), "alphas": np.empty(0)}),
    ):
        with pytest.raises(RunFileError, match=words):
            read_foreign(plane_file(tmp_path / "changed.npz", **changed))


def landscaper_file(path, steps, dimensions, *, distance=0.01, minimum=(2, 1)):
    """Write a landscape as Landscaper does, lowest at the given numbers of steps off center."""
    coordinates = [np.linspace(-distance, distance, steps) for _ in range(dimensions)]
    loss = np.zeros([steps] * dimensions)
    for point in np.ndindex(*loss.shape):
        off = [k - steps // 2 - m for k, m in zip(point, (*minimum, 0), strict=False)]
        loss[point] = sum((2 - axis) * o**2 for axis, o in enumerate(off)) + 0.1
    np.savez(path, loss=loss, coordinates=coordinates)
    return path


@pytest.mark.parametrize("steps", [5, 6, 41])
def test_a_landscape_lies_where_the_weights_were_and_its_center_at_zero(steps, tmp_path):
    result = read_foreign(landscaper_file(tmp_path / "a.npz", steps, 2))
    step = 2 * 0.01 / (steps - 1) * (steps - 1) / steps
    np.testing.assert_allclose(result.alpha, step * (np.arange(steps) - steps // 2), atol=1e-15)
    assert result.alpha[steps // 2] == result.beta[steps // 2] == 0
    is_lowest_at(result, 2 * step, step)
    assert result.loss[steps // 2, steps // 2] == pytest.approx(0.1 + 2 * 4 + 1)
    assert result.evaluated.all()
    assert np.isnan(result.accuracy).all()
    assert told(result, "direction 1 corrected", "0.01")
    assert told(result, "NaN by the mean", "noise")


def test_a_landscape_along_one_direction_is_a_profile(tmp_path):
    result = read_foreign(landscaper_file(tmp_path / "a.npz", 6, 1))
    assert isinstance(result, Profile)
    assert result.alpha[np.argmin(result.loss[0])] == pytest.approx(2 * 0.02 / 6)
    assert result.axis_label == "direction 1, in ‖w‖"


def test_a_landscape_of_three_directions_is_refused_with_the_slice_to_take(tmp_path):
    path = landscaper_file(tmp_path / "a.npz", 6, 3)
    with pytest.raises(RunFileError, match=r"loss\[:, :, 3\].*coordinates\[:2\]"):
        read_foreign(path)
    with np.load(path) as file:
        np.savez(path, loss=file["loss"][:, :, 3], coordinates=file["coordinates"][:2])
    assert read_foreign(path).loss.shape == (6, 6)


def test_the_half_that_an_early_landscaper_never_moved_to_is_not_evaluated(tmp_path):
    path = landscaper_file(tmp_path / "a.npz", 5, 2)
    with np.load(path) as file:
        loss, coordinates = file["loss"].copy(), file["coordinates"]
    loss[:2] = loss[2]
    np.savez(path, loss=loss, coordinates=coordinates)
    result = read_foreign(path)
    np.testing.assert_array_equal(result.evaluated.all(axis=1), [False, False, True, True, True])
    assert np.isnan(result.loss[:2]).all()
    assert told(result, "below 0, direction 1")
    np.savez(path, loss=np.ones((5, 5)), coordinates=coordinates)
    assert read_foreign(path).evaluated.all()


def test_coordinates_that_landscaper_does_not_write_are_taken_as_they_are(tmp_path):
    path = landscaper_file(tmp_path / "a.npz", 5, 2)
    with np.load(path) as file:
        np.savez(path, loss=file["loss"], coordinates=file["coordinates"] + 0.5)
    result = read_foreign(path)
    np.testing.assert_allclose(result.alpha, np.linspace(0.49, 0.51, 5))
    assert told(result, "taken as they are")


def npy(shape, *, descr="<f8", data=b"\0" * 200, version=(1, 0)):
    """One .npy member with any header."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + data


def archive(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def objects():
    stream = io.BytesIO()
    np.save(stream, np.array([np.zeros(2), np.zeros(3)], dtype=object), allow_pickle=True)
    return stream.getvalue()


HOSTILE_NPZ = {
    "unpickled": {"coordinates": objects()},
    "does not store them": {"coordinates": npy((1 << 40,))},
    "of shape": {"coordinates": npy((-5, -5))},
    "must hold numbers": {"coordinates": npy((50,), descr="<U1")},
    "must hold numbers, got": {"coordinates": npy((25,), descr=[("a", "<f8")])},
    "version": {"coordinates": npy((25,), version=(3, 0))},
    "not a whole": {"coordinates": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 5000},
    "not a whole .npz": {"coordinates": b"no header"},
    "'loss' must have one axis": {"coordinates": npy((0, 0), data=b"")},
    "one axis per row": {"coordinates": npy((1, 5), data=b"\0" * 40)},
    "one axis per row of": {"coordinates": npy((1, 0), data=b""), "loss": npy((0,), data=b"")},
}


@pytest.mark.parametrize("words", HOSTILE_NPZ)
def test_a_hostile_archive_is_refused_in_words(words, tmp_path):
    members = {"loss": npy((25,))} | HOSTILE_NPZ[words]
    path = archive(tmp_path / "a.npz", **members)
    with pytest.raises(RunFileError, match=words) as caught:
        read_foreign(path)
    assert str(path) in str(caught.value)


def test_an_archive_that_swells_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    big = npy((1 << 21,), data=b"\0" * (1 << 24))
    path = archive(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, loss=npy((25,)), coordinates=big)
    content = bytearray(path.read_bytes())
    place = content.rindex(struct.pack("<I", len(big)))  # the size in the archive's directory
    content[place : place + 4] = struct.pack("<I", 1 << 27)
    path.write_bytes(content)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args: pytest.fail("unpacked"))
    with pytest.raises(RunFileError, match="declares 134217728 bytes but stores"):
        read_foreign(path)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
def test_a_truncated_or_damaged_archive_is_refused(kept, tmp_path):
    path = plane_file(tmp_path / "plane.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(RunFileError, match=r"plane\.npz: not a whole"):
        read_foreign(path)
    flipped = bytearray(content)
    flipped[content.index(b"tr_nll.npy") + 200] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(RunFileError, match="CRC"):
        read_foreign(path)


def test_other_archives_are_refused_naming_what_they_are(tmp_path):
    np.savez(tmp_path / "curve.npz", ts=np.zeros(3), tr_nll=np.zeros(3))
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as file:
        file.writestr("model/data.pkl", b"pickle")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, words in {
        "curve.npz": "not a plane",
        "other.npz": "got weights",
        "model.pt": "got no arrays",
        "array.npy": "got neither",
        "missing.npz": "no such file",
        ".": "no such file",
    }.items():
        with pytest.raises(RunFileError, match=words):
            read_foreign(tmp_path / name)


def test_other_hdf5_files_are_refused_saying_what_to_do_with_them(surface_file, tmp_path):
    own = import_file(surface_file, tmp_path / "own.h5")
    one = [np.ones(3)]
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.zeros(3)
    for path, words in {
        own: "`landscape figure` draws it",
        directions(tmp_path / "d.h5", one, one): "landscape surface RUN --plane FILE",
        projections(tmp_path / "p.h5", PATH): "as `projections` beside the surface",
        tmp_path / "other.h5": "got weights",
    }.items():
        with pytest.raises(RunFileError, match=words):
            read_foreign(path)


def test_a_surface_that_is_hostile_or_unfinished_is_refused(tmp_path):
    def changed(name, **data):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["dir_file"] = "a"
            file["xcoordinates"], file["ycoordinates"] = X, Y
            for key, value in data.items():
                if key in file:
                    del file[key]
                file[key] = value
        return path

    for name, (words, data) in enumerate(
        {
            "nothing was evaluated": {},
            "as the coordinates say": {"train_loss": np.zeros((5, 5))},
            "coordinates say, got": {"train_loss": np.zeros((2, 10))},
            "with 2 axes": {"train_loss": np.zeros(20)},
            "must be numbers": {"train_loss": np.full((5, 4), b"a")},
            "rising order": {"train_loss": np.zeros((1, 4)), "xcoordinates": np.zeros(1)},
            "ExternalLink": {"train_loss": h5py.ExternalLink("other.h5", "/x")},
            "must hold numbers or": {"train_loss": np.zeros((5, 4), [("a", "f8")])},
        }.items()
    ):
        with pytest.raises(RunFileError, match=words):
            read_foreign(changed(name, **data))
    twice = changed("twice", train_loss=np.zeros((5, 4)), xcoordinates=np.zeros(5))
    endless = changed("endless", train_loss=np.zeros((5, 4)), xcoordinates=[0, 1, 2, 3, np.inf])
    for path in (twice, endless):
        with pytest.raises(RunFileError, match="different finite numbers"):
            read_foreign(path)


def test_forty_terabytes_in_a_surface_are_refused_before_they_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["xcoordinates"] = X
        file.create_dataset("train_loss", (5 * 10**12,), "f8")
    with pytest.raises(RunFileError, match="declares 40000000000000 bytes"):
        read_foreign(tmp_path / "a.h5")


def test_every_kind_is_saved_loaded_and_drawn_on_screen_and_paper(surface_file, tmp_path):
    import matplotlib.pyplot as plt

    path = projections(tmp_path / "p.h5", PATH)
    line = tomgoldstein(tmp_path / "line.h5", {"train_loss": abs, "train_acc": abs}, y=None)
    lines = list(import_files([surface_file], tmp_path / "out", path))
    others = [line, plane_file(tmp_path / "plane.npz")]
    others += [landscaper_file(tmp_path / "ls.npz", 5, 2)]
    lines += list(import_files(others, tmp_path / "out"))
    made = sorted((tmp_path / "out").glob("*.h5"))
    assert len(made) == 4
    for text, old in zip(lines, [surface_file, *others], strict=True):
        target = text.splitlines()[0].partition(": ")[0]
        result = load_result(target)
        assert result.facts["imported_from"]["file"] == old.name
        assert result.digest == read_again(old, path if old == surface_file else None).digest
        assert all(warning in text for warning in result.facts["imported_from"]["warnings"])
        assert f"next: landscape figure {target}" in text
        figure = result.figure()
        figure.savefig(tmp_path / "figure.png", dpi=40)
        plt.close("all")
        assert result.plot().to_json()


def read_again(path, extra):
    return read_foreign(path, projections=extra)


def test_an_import_lies_beside_the_old_file_under_a_name_of_its_own(surface_file, tmp_path):
    made = import_file(surface_file)
    assert made.parent == tmp_path
    assert made.name.startswith("surface-model_300.t7_weights_xignore=biasbn")
    assert made.stem.count("-") == 1
    assert import_file(plane_file(tmp_path / "plane.npz")).name == "surface-plane.h5"
    assert import_file(plane_file(tmp_path / f"{'x' * 246}.npz")).is_file()


def test_an_import_never_overwrites(surface_file, tmp_path):
    before = surface_file.read_bytes()
    for out in (surface_file, import_file(surface_file, tmp_path / "new" / "a.h5")):
        with pytest.raises(FileExistsError, match="never overwritten"):
            import_file(surface_file, out)
    assert surface_file.read_bytes() == before


def test_several_files_need_a_folder_and_no_projections(surface_file, tmp_path):
    both = [surface_file, plane_file(tmp_path / "plane.npz")]
    with pytest.raises(ValueError, match="several files need a folder"):
        list(import_files(both, tmp_path / "a.h5"))
    with pytest.raises(ValueError, match="one by one"):
        list(import_files(both, projections=surface_file))
    with pytest.raises(ValueError, match="got none"):
        list(import_files([]))
