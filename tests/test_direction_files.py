import io
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape.direction_files import read_directions
from landscape.modules import layout_of
from landscape.spans import span_plane
from landscape.storage import RunFileError

MODEL = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, 3))
LAYOUT = layout_of(MODEL)
ROWS = np.random.default_rng(0).standard_normal((2, LAYOUT.size)).astype(np.float32)


def by_name(row):
    return {entry.name: row[entry.slice].reshape(entry.shape) for entry in LAYOUT}


def write_h5(path, rows, groups=("xdirection", "ydirection"), **options):
    """As `h5_util.write_list` of tomgoldstein/loss-landscape does."""
    with h5py.File(path, "w") as file:
        for group, row in zip(groups, rows, strict=False):
            for index, array in enumerate(by_name(row).values()):
                file.create_dataset(f"{group}/{index}", data=array, **options)
    return path


def write(path, rows):
    """One direction by parameter names, two as flat vectors."""
    arrays = (
        by_name(rows[0]) if len(rows) == 1 else {"direction_1": rows[0], "direction_2": rows[1]}
    )
    if path.suffix == ".safetensors":
        save_file({name: torch.tensor(array) for name, array in arrays.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, rows[0] if len(rows) == 1 else rows)
    else:
        write_h5(path, rows)
    return path


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".npy", ".h5"])
def test_directions_come_back_as_they_were_written(tmp_path, suffix, count):
    found = read_directions(write(tmp_path / f"mine{suffix}", ROWS[:count]), LAYOUT)
    assert len(found) == count
    for direction, row in zip(found, ROWS, strict=False):
        np.testing.assert_array_equal(direction.vector, row.astype(float))
        assert direction.facts["file"] == f"mine{suffix}"
    plane = span_plane(torch.zeros(LAYOUT.size), found)
    np.testing.assert_array_equal(plane.directions, ROWS[:count])
    assert plane.facts["plane"] == "given"
    assert plane.labels == (("mine",) if count == 1 else ("mine 1", "mine 2"))


def test_digest_tells_directions_apart_whatever_the_file(tmp_path):
    first, again = (
        read_directions(write(tmp_path / name, ROWS), LAYOUT) for name in ("a.npz", "b.h5")
    )
    other = read_directions(write(tmp_path / "c.npy", 2 * ROWS), LAYOUT)
    assert first[0].facts["digest"] == again[0].facts["digest"] != other[0].facts["digest"]


def test_flat_and_half_precision_directions_are_read(tmp_path):
    path = tmp_path / "flat.safetensors"
    save_file({"direction_1": torch.tensor(ROWS[0]).bfloat16()}, path)
    (direction,) = read_directions(path, LAYOUT)
    np.testing.assert_array_equal(direction.vector, torch.tensor(ROWS[0]).bfloat16().double())


def test_what_older_tools_add_to_a_file_is_no_matter(tmp_path):
    path = write_h5(tmp_path / "pca.h5", ROWS)
    with h5py.File(path, "a") as file:
        file["explained_variance_ratio_"] = np.ones(2)
    assert len(read_directions(path, LAYOUT)) == 2


def damaged(path, kind):
    rows = by_name(ROWS[0])
    if kind == "missing name":
        np.savez(path, **{name: rows[name] for name in list(rows)[1:]})
    elif kind == "shape":
        np.savez(path, **rows | {"0.weight": np.ones((2, 9))})
    elif kind == "flat size":
        np.savez(path, direction_1=np.ones(3))
    elif kind == "nan":
        np.savez(path, direction_1=np.full(LAYOUT.size, np.nan))
    elif kind == "zero":
        np.savez(path, direction_1=np.zeros(LAYOUT.size))
    elif kind == "text":
        np.savez(path, direction_1=np.array(["x"] * LAYOUT.size))
    elif kind == "complex":
        np.savez(path, direction_1=np.ones(LAYOUT.size, complex))
    elif kind == "objects":
        np.savez(path, direction_1=np.array([print] * LAYOUT.size, object))
    elif kind == "large":
        np.savez(path, direction_1=np.zeros(100_000))
    elif kind == "bytes":
        path.write_bytes(b"not an archive")
    elif kind == "forged":  # a header that claims far more than follows
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)}
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("direction_1.npy", header.getvalue())
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing name", "got a difference in 0.weight"),
        ("shape", r"'0.weight' must have shape \[2, 1, 3, 3\], got \[2, 9\]"),
        ("flat size", r"'direction_1' must have the layout of theta, \[35\], got \[3\]"),
        ("nan", "finite and not zero, got NaN"),
        ("zero", "finite and not zero, got zero"),
        ("text", "real numbers, got <U1"),
        ("complex", "real numbers, got complex128"),
        ("objects", "not a readable archive .*pickle"),
        ("large", "declares 800128 bytes"),
        ("bytes", "not a readable archive"),
        ("forged", "not a readable archive"),
    ],
)
def test_wrong_archives_are_refused(tmp_path, kind, message):
    with pytest.raises(RunFileError, match=message):
        read_directions(damaged(tmp_path / "bad.npz", kind), LAYOUT)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"a row must have the layout of theta, \[35\], got \[3\]"),
        (np.ones((3, 35)), r"got shape \(3, 35\)"),
        (np.ones((2, 2, 35)), r"got shape \(2, 2, 35\)"),
        (np.array([print], object), "not a readable array"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(RunFileError, match=message):
        read_directions(tmp_path / "bad.npy", LAYOUT)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(RunFileError, match="no such file"):
        read_directions(tmp_path / "none.npy", LAYOUT)
    torch.save({"direction_1": torch.ones(35)}, tmp_path / "bad.pt")
    with pytest.raises(RunFileError, match=r"a file of .safetensors, .npz, .npy, .h5, got '.pt'"):
        read_directions(tmp_path / "bad.pt", LAYOUT)
    for suffix, message in ((".safetensors", "safetensors file"), (".h5", "not a readable HDF5")):
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(b"\x00" * 100)
        with pytest.raises(RunFileError, match=message):
            read_directions(path, LAYOUT)


def test_directions_of_states_or_of_another_model_are_refused(tmp_path):
    states = write_h5(tmp_path / "states.h5", ROWS[:1])
    with h5py.File(states, "a") as file:
        file["xdirection/4"] = np.ones(2)
    with pytest.raises(RunFileError, match=r"4 data sets '0', '1', .* got 5; .*dir_type='weights'"):
        read_directions(states, LAYOUT)
    with pytest.raises(RunFileError, match=r"'2.weight' must have shape"):
        read_directions(
            write_h5(tmp_path / "x.h5", ROWS),
            layout_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(3, 3))),
        )
    with h5py.File(tmp_path / "surface.h5", "w") as file:
        file["train_loss"] = np.ones((2, 2))
    with pytest.raises(RunFileError, match="lie in the group 'xdirection', got train_loss"):
        read_directions(tmp_path / "surface.h5", LAYOUT)


def test_links_out_of_a_file_are_not_followed(tmp_path):
    write_h5(tmp_path / "other.h5", ROWS)
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["xdirection"] = h5py.ExternalLink("other.h5", "/xdirection")
    with pytest.raises(RunFileError, match="refusing to follow"):
        read_directions(tmp_path / "bad.h5", LAYOUT)
