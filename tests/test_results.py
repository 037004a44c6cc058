"""Results: what they hold, and their files, whole or refused."""

import dataclasses
import json
from pathlib import Path

import curvature_samples
import direction_samples
import h5py
import numpy as np
import pytest
from samples import claim_of, comparison_of

from landscape.result_files import (
    SCHEMA_VERSION,
    load_result,
    read_header,
    result_key,
    save_result,
)
from landscape.results import (
    KINDS,
    Barrier,
    Consistency,
    Curve,
    Density,
    Profile,
    Spectrum,
    Surface,
    Trajectory,
)
from landscape.storage import RunFileError, digest_of

NAN = float("nan")
COMMON = {
    "facts": {"bn": "frozen", "seed": 0, "data": "Fashion, α", "variance": [0.5, NAN]},
    "options": {"points": 3, "extent": None},
    "provenance": {"created": "2026-01-01T00:00:00Z", "seconds": 1.5},
}


def surface(**other):
    values = {
        "alpha": [-1.0, 0.0, 1.0],
        "beta": [-1.0, 1.0],
        "loss": [[1.0, NAN], [0.1, np.inf], [2.0, 3.0]],
        "accuracy": [[0.5, NAN], [0.9, 0.1], [0.2, 0.3]],
        "evaluated": [[True, False], [True, True], [True, True]],
    }
    return Surface(**COMMON | values | other)


def examples():
    rng = np.random.default_rng(0)
    yield surface()
    yield surface(
        path_step=[0, 30],
        path_position=[[0.1, 0.2], [0.0, 0.0]],
        path_off_plane=[0.5, 0.0],
        path_loss=[2.3, NAN],
    )
    yield Profile(
        alpha=[0.0, 1.0],
        loss=[[1.0, 2.0], [1.0, NAN], [1.0, np.inf]],
        accuracy=np.full((3, 2), NAN),
        evaluated=np.ones((3, 2), bool),
        **COMMON,
    )
    pairs = {"eigenvalues": [9.0, 4.0], "residuals": [1e-4, 2e-4]}
    yield Spectrum(**pairs, matvecs=20, converged=True, which="LA", tolerance=1e-4, **COMMON)
    yield Spectrum(**pairs, eigenvectors=rng.normal(size=(2, 7)), **COMMON)
    yield Density(
        nodes=[[1.0, 2.0], [3.0, NAN]],
        weights=[[0.5, 0.5], [1.0, NAN]],
        size=7,
        sigma=0.1,
        matvecs=4,
        **COMMON,
    )
    yield Consistency(
        protocol="online",
        perturbation="AACE ρ=0.2",
        step=[3, 4, 5],
        cosines=np.eye(3),
        norms=[0.1, 0.2, 0.3],
        consecutive=[0.0, 0.0],
        loss_rise=[NAN, 0.1, -0.1],
        cosine_gradient=[NAN] * 3,
        mean_cosine=0.0,
        null_low=-0.1,
        null_high=0.1,
        **COMMON,
    )
    yield Trajectory(
        step=[0, 30, 60, 90],
        position=rng.normal(size=(4, 2)),
        off_plane=np.zeros(4),
        explained=[0.9, 0.1],
        explained_null=[0.7, 0.2],
        distance_start=np.arange(4),
        distance_end=np.arange(4)[::-1],
        step_length=np.ones(3),
        turning_angle=[90.0, 80.0],
        loss=np.ones(4),
        accuracy=np.ones(4),
        axis_labels=("PC 1 (90 %)", "PC 2 (10 %)"),
        **COMMON,
    )
    yield curvature_samples.ends_spectrum()
    yield curvature_samples.deflated_density()
    yield curvature_samples.trace()
    yield curvature_samples.sharpness()
    yield curvature_samples.stability()
    yield curvature_samples.curvature()
    yield direction_samples.frozen()
    yield direction_samples.directions()
    yield direction_samples.rise()
    yield direction_samples.offset()
    yield comparison_of()
    yield claim_of()
    yield barrier()
    yield barrier(test_loss=np.ones((2, 2, 3)), test_accuracy=np.zeros((2, 2, 3)))
    yield curve()
    yield curve(
        shape="polygon",
        bend_position=[[0.5, 1.0], [1.5, 0.5]],
        bends=rng.normal(size=(2, 7)),
        test_loss=[1.0, NAN, 3.0],
        test_accuracy=[0.1, 0.2, 0.3],
        line_test_loss=[1.0, np.inf, 3.0],
        line_test_accuracy=[0.1, 0.0, 0.3],
    )


def barrier(**other):
    pair = np.array([[0.0, 1.0], [1.0, 0.0]])
    line = np.array([[[1.0] * 3, [1.0, 4.0, 2.0]], [[2.0, 4.0, 1.0], [2.0] * 3]])
    values = {
        "t": [0.0, 0.5, 1.0],
        "loss": line,
        "accuracy": np.full((2, 2, 3), NAN),
        "evaluated": np.ones((2, 2, 3), bool),
        "height": 2.5 * pair,
        "height_over_line": 2.5 * pair,
        "error_height": NAN * pair,
        "error_height_over_line": NAN * pair,
        "distance": 3 * pair,
        "names": ("a", "b"),
    }
    return Barrier(**COMMON | values | other)


def curve(**other):
    values = {
        "t": [0.0, 0.5, 1.0],
        "loss": [1.0, 1.1, 1.0],
        "accuracy": [0.5, NAN, 0.5],
        "line_loss": [1.0, NAN, 1.0],
        "line_accuracy": [0.5, 0.1, 0.5],
        "position": [[0.0, 0.0], [1.0, 0.5], [2.0, 0.0]],
        "bend_position": [[1.0, 1.0]],
        "off_plane": [0.0, 0.0, 0.0],
        "training_loss": [2.0, 1.5, 1.2, 1.1],
        "names": ("a", "b"),
    }
    return Curve(**COMMON | values | other)


EVERY = pytest.mark.parametrize("result", [*examples()], ids=lambda result: result.kind)


def fields_of(result):
    return {item.name: getattr(result, item.name) for item in dataclasses.fields(result)}


def array_names(result):
    return [name for name, value in fields_of(result).items() if isinstance(value, np.ndarray)]


def rewrite(path, *, header=None, arrays=None, honest=True):
    """Change a result file; with `honest`, give it the digest of what it then holds."""
    with h5py.File(path) as file:
        stored = {name: item[()] for name, item in file.items()}
    told = json.loads(bytes(stored.pop("header")).decode())
    stored = {**stored, **(arrays or {})}
    stored = {name: array for name, array in stored.items() if array is not None}
    if honest:
        value = [told[name] for name in ("kind", "scalars", "facts", "options")]
        told["digest"] = digest_of(value, stored)
    told = {**told, **(header or {})}
    told = {name: value for name, value in told.items() if value is not None}
    with h5py.File(path, "w") as file:
        file["header"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        for name, array in stored.items():
            file[name] = array
    return path


def test_there_is_an_example_of_every_kind():
    assert {result.kind for result in examples()} == set(KINDS)


@EVERY
def test_a_result_comes_back_from_its_file_as_it_was(result, tmp_path):
    path = result.save(tmp_path / "new" / "r.h5")
    loaded = load_result(path)
    assert type(loaded) is type(result)
    assert loaded.digest == result.digest
    for name, value in fields_of(result).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(loaded, name), value)
            assert getattr(loaded, name).dtype == value.dtype
        else:
            np.testing.assert_equal(getattr(loaded, name), value)
            assert type(getattr(loaded, name)) is type(value)


def test_nan_inf_and_points_not_evaluated_stay_what_they_are(tmp_path):
    loaded = load_result(surface().save(tmp_path / "r.h5"))
    assert np.isnan(loaded.loss[0, 1])
    assert not loaded.evaluated[0, 1]
    assert np.isposinf(loaded.loss[1, 1])
    assert loaded.evaluated[1, 1]


@EVERY
def test_arrays_of_a_result_cannot_be_written_and_are_its_own(result, tmp_path):
    for read in (result, load_result(result.save(tmp_path / "r.h5"))):
        for name in array_names(read):
            with pytest.raises(ValueError, match="read-only"):
                getattr(read, name)[...] = 0
    mine = np.array([-1.0, 0.0, 1.0])
    held = surface(alpha=mine)
    mine[0] = 77
    assert held.alpha[0] == -1
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.facts = {}


def test_numbers_are_float64_flags_bool_and_steps_whole():
    made = surface(loss=np.zeros((3, 2), np.float32), path_step=[0], path_position=[[0, 0]])
    assert made.loss.dtype == np.float64
    assert made.evaluated.dtype == bool
    assert made.path_step.dtype == int


def test_equal_answers_have_equal_digests_whatever_their_provenance(tmp_path):
    first, other = surface(), surface(provenance={"created": "later", "seconds": 99})
    assert first.digest == other.digest
    assert load_result(other.save(tmp_path / "r.h5")).digest == first.digest


@pytest.mark.parametrize(
    "change",
    [
        {"loss": [[1.0, NAN], [0.1, np.inf], [2.0, 3.0 + 1e-15]]},
        {"alpha": [-1.0, 0.0, 2.0]},
        {"axis_labels": ("v1", "v2")},
        {"facts": {"bn": "batch"}},
        {"options": {"points": 5}},
        {"path_step": [0]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_answer_has_another_digest(change):
    assert surface(**change).digest != surface().digest


def test_the_digest_of_a_known_result_is_the_same_on_every_machine():
    spectrum = Spectrum(eigenvalues=[2.0, 1.0], residuals=[0.0, 0.0], facts={"seed": 0})
    assert spectrum.digest == "eda0a44c1d31868333eb4cd15c409cc6d979c54ed0d91cbb7d77f4fade938fde"


def test_a_saved_result_is_never_overwritten(tmp_path):
    path = surface().save(tmp_path / "r.h5")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"r\.h5 exists and results are never overwritten"):
        surface(facts={}).save(path)
    assert path.read_bytes() == before
    save_result(surface(facts={}), path, replace=True)
    assert load_result(path).facts == {}


def test_a_result_that_cannot_be_written_leaves_no_file_and_spoils_none(tmp_path):
    bad = surface(facts={"model": object()})
    with pytest.raises(TypeError):
        save_result(bad, tmp_path / "r.h5")
    assert list(tmp_path.iterdir()) == []
    surface().save(tmp_path / "r.h5")
    with pytest.raises(TypeError):
        save_result(bad, tmp_path / "r.h5", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["r.h5"]
    assert load_result(tmp_path / "r.h5").digest == surface().digest


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"loss": np.zeros((2, 3))}, "is it transposed"),
        ({"loss": np.zeros(6)}, r"must have axes \[a, b\], got shape \(6,\)"),
        ({"beta": np.zeros(3)}, "along axis 'b'"),
        ({"path_step": [0, 30], "path_position": [[0, 0]]}, "along axis 'c'"),
        ({"path_step": [0], "path_position": [[0, 0, 0]]}, "must have 2 along axis '2'"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        surface(**wrong)


def test_differences_of_neighbors_are_one_or_two_fewer():
    trajectory = next(result for result in examples() if result.kind == "trajectory")
    with pytest.raises(ValueError, match="step_length must have 3 along axis 'c-1', got 4"):
        dataclasses.replace(trajectory, step_length=np.ones(4))
    one = {name: getattr(trajectory, name)[:1] for name in ("step", "position", "off_plane")}
    one |= {name: [0.0] for name in ("distance_start", "distance_end", "loss", "accuracy")}
    dataclasses.replace(trajectory, **one, step_length=[], turning_angle=[])


def test_the_header_tells_kind_schema_and_how_it_was_measured_without_the_arrays(tmp_path):
    path = surface().save(tmp_path / "r.h5")
    header = read_header(path)
    assert (header["kind"], header["schema_version"]) == ("surface", SCHEMA_VERSION)
    assert header["options"] == COMMON["options"]
    assert header["provenance"] == COMMON["provenance"]
    assert header["scalars"] == {"axis_labels": ["α", "β"]}
    assert header["digest"] == surface().digest


REFUSED = {
    "another major schema": {"header": {"schema_version": "2.0"}},
    "an unknown kind": {"header": {"kind": "sculpture"}},
    "a kind that is a list": {"header": {"kind": ["surface"]}},
    "no kind": {"header": {"kind": None}},
    "no digest": {"header": {"digest": None}},
    "no facts": {"header": {"facts": None}},
    "options that are no table": {"header": {"options": [1]}},
    "scalars that are no table": {"header": {"scalars": "x"}},
    "a header of another result": {"header": {"facts": {"bn": "batch"}}},
    "a header of another kind": {"header": {"kind": "profile"}},
    "a changed number": {"arrays": {"alpha": np.array([-1.0, 0.0, 9.0])}, "honest": False},
    "an array too many": {"arrays": {"gamma": np.zeros(2)}, "honest": False},
    "a transposed array": {"arrays": {"loss": np.zeros((2, 3))}},
    "a missing array": {"arrays": {"loss": None}},
}


@pytest.mark.parametrize("damage", REFUSED.values(), ids=REFUSED)
def test_a_damaged_result_is_refused_by_name(damage, tmp_path):
    path = rewrite(surface().save(tmp_path / "r.h5"), **damage)
    with pytest.raises(RunFileError, match=r"r\.h5"):
        load_result(path)


def test_schema_and_kind_are_looked_at_before_anything_else(tmp_path):
    path = surface().save(tmp_path / "r.h5")
    rewrite(path, header={"schema_version": "2.0"})
    with pytest.raises(
        RunFileError, match=rf"schema 2\.0, expected {SCHEMA_VERSION}; read it with"
    ):
        read_header(path)
    rewrite(path, header={"schema_version": SCHEMA_VERSION, "kind": "sculpture"})
    with pytest.raises(RunFileError, match="unknown kind 'sculpture', expected one of"):
        read_header(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_header_that_is_not_json_is_refused_by_name(text, tmp_path):
    path = tmp_path / "r.h5"
    with h5py.File(path, "w") as file:
        file["header"] = np.frombuffer(text, np.uint8)
    for read in (read_header, load_result):
        with pytest.raises(RunFileError, match=r"r\.h5"):
            read(path)


def test_a_file_without_a_header_or_with_numbers_for_it_is_no_result(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1.0
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["header"] = np.arange(10.0)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["header/x"] = 1.0
    for name in "abc":
        with pytest.raises(RunFileError, match=rf"{name}\.h5"):
            load_result(tmp_path / f"{name}.h5")


@pytest.mark.parametrize(
    ("make", "wrong", "told"),
    [
        (barrier, {"height": np.zeros((3, 3))}, "along axis 'm'"),
        (barrier, {"loss": np.zeros((2, 2, 4))}, "along axis 't'"),
        (curve, {"line_loss": np.zeros(2)}, "along axis 't'"),
        (curve, {"position": np.zeros((3, 3))}, "must have 2 along axis '2'"),
        (curve, {"bends": np.zeros((2, 7))}, "along axis 'bend'"),
    ],
)
def test_lines_and_curves_that_do_not_belong_together_are_refused(make, wrong, told):
    with pytest.raises(ValueError, match=told):
        make(**wrong)


def test_transposing_a_square_surface_in_its_file_is_noticed(tmp_path):
    square = surface(
        beta=[-1.0, 0.0, 1.0],
        loss=np.arange(9.0).reshape(3, 3),
        accuracy=np.zeros((3, 3)),
        evaluated=np.ones((3, 3), bool),
    )
    path = square.save(tmp_path / "r.h5")
    rewrite(path, arrays={"loss": square.loss.T}, honest=False)
    with pytest.raises(RunFileError, match="digest differs"):
        load_result(path)


def test_no_flipped_bit_gives_another_answer(tmp_path):
    result = surface(provenance={})
    path = result.save(tmp_path / "r.h5")
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = []
    for place in rng.choice(len(content), 120, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            outcomes.append(load_result(path).digest)
        except RunFileError as error:
            outcomes.append("refused" if str(path) in str(error) else str(error))
    assert set(outcomes) == {result.digest, "refused"}


def test_a_later_minor_version_is_read_without_what_it_added(tmp_path):
    path = surface().save(tmp_path / "r.h5")
    with h5py.File(path) as file:
        told = json.loads(bytes(file["header"][()]).decode())
    scalars = {**told["scalars"], "temperature": 1.0}
    value = [told["kind"], scalars, told["facts"], told["options"]]
    with h5py.File(path) as file:
        arrays = {name: item[()] for name, item in file.items() if name != "header"}
    arrays["path_error"] = np.zeros(4)
    rewrite(
        path,
        header={
            "schema_version": "1.7",
            "scalars": scalars,
            "digest": digest_of(value, arrays),
        },
        arrays={"path_error": np.zeros(4)},
    )
    assert load_result(path).digest == surface().digest


def test_an_earlier_minor_version_is_read_with_defaults_for_what_it_lacks(tmp_path):
    path = surface().save(tmp_path / "r.h5")
    missing = ("path_step", "path_position", "path_off_plane", "path_loss")
    rewrite(path, arrays=dict.fromkeys(missing))
    assert load_result(path).path_loss.shape == (0,)


def test_the_key_of_a_result_is_that_of_its_question():
    asked = {"run": "abc", "checkpoint": 480, "data_digest": "d"}
    key = result_key("surface", {"points": 21, "seed": 0}, **asked)
    assert len(key) == 12
    assert key == result_key("surface", {"seed": 0, "points": 21}, **asked)
    others = [
        result_key("profile", {"points": 21, "seed": 0}, **asked),
        result_key("surface", {"points": 21, "seed": 1}, **asked),
        *(
            result_key("surface", {"points": 21, "seed": 0}, **asked | {name: other})
            for name, other in (("run", "abd"), ("checkpoint", 450), ("data_digest", "e"))
        ),
    ]
    assert len({key, *others}) == 6


def test_the_schema_page_names_every_field_of_every_kind():
    page = (Path(__file__).parent.parent / "docs" / "schema.md").read_text(encoding="utf-8")
    parts = page.split("\n**")
    for kind, cls in KINDS.items():
        (part,) = [part for part in parts if part.startswith(f"{kind}** —")]
        own = {item.name for item in dataclasses.fields(cls)}
        missing = {name for name in own - set(COMMON) if f"`{name}`" not in part}
        assert not missing, f"docs/schema.md lacks {missing} of {kind}"
