"""The strict opener against files made to mislead it, and writing whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
from collections import namedtuple

import h5py
import numpy as np
import pytest

from landscape import storage
from landscape.storage import (
    RunFileError,
    canonical,
    open_strict,
    plain,
    read_arrays,
    require_array,
    require_space,
    short_hash,
    write_arrays,
    write_json,
    write_whole,
)


def soft_link(file):
    file["real"] = np.arange(3)
    file["bad"] = h5py.SoftLink("/real")


def external_link(file):
    file["bad"] = h5py.ExternalLink("secret.h5", "/real")


def external_link_in_a_group(file):
    file["group/bad"] = h5py.ExternalLink("secret.h5", "/real")


def external_storage(file):
    file.create_dataset("bad", (3,), "u1", external=[("/etc/hostname", 0, 3)])


def virtual_data_set(file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "real", shape=(3,))
    file.create_virtual_dataset("bad", layout)


def forty_terabytes_in_chunks(file):
    file.create_dataset("bad", (5 * 10**12,), "f8", chunks=(1024,))


def forty_terabytes_in_one_piece(file):
    file.create_dataset("bad", (5 * 10**12,), "f8")


def terabytes_in_a_sparse_file(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((2**38,))
    h5py.h5d.create(file.id, b"bad", h5py.h5t.IEEE_F64LE, space, plist)


def gigabytes_with_one_chunk_written(file):
    data = file.create_dataset("bad", (2**32,), "u1", chunks=(2**16,), compression="gzip")
    data[:10] = 1


def half_a_gigabyte_in_one_chunk(file):
    data = file.create_dataset(
        "bad", (1,), "f8", maxshape=(None,), chunks=(2**26,), compression="gzip"
    )
    data.id.write_direct_chunk((0,), b"x" * 2**19)


def text_of_any_length(file):
    file.create_dataset("bad", data=["text"], dtype=h5py.string_dtype())


def lists_of_any_length(file):
    file.create_dataset("bad", (2,), dtype=h5py.vlen_dtype(np.float64))


def reference(file):
    file.create_dataset("bad", (1,), dtype=h5py.ref_dtype)


def compound(file):
    file["bad"] = np.zeros(2, [("a", "f8"), ("b", "i4")])


def array_elements(file):
    file.create_dataset("bad", (2,), dtype=np.dtype((np.float64, (10**6,))))


def opaque(file):
    file["bad"] = np.array([b"abc"], dtype="V3")


def time_that_numpy_lacks(file):
    space = h5py.h5s.create_simple((1,))
    h5py.h5d.create(file.id, b"bad", h5py.h5t.UNIX_D32LE, space)


def no_shape(file):
    file["bad"] = h5py.Empty("f8")


def named_kind(file):
    file["bad"] = np.dtype("f8")


def filter_lzf(file):
    file.create_dataset("bad", data=np.zeros(10), compression="lzf")


def filter_scale_offset(file):
    file.create_dataset("bad", data=np.zeros(10, int), scaleoffset=0)


def filter_nobody_knows(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32765, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"bad", h5py.h5t.IEEE_F64LE, space, plist)


def deep_nesting(file):
    file["/".join("g" * 60) + "/bad"] = 1.0


def group_in_itself(file):
    group = file.create_group("bad")
    group["again"] = group


HOSTILE = {
    soft_link: "SoftLink",
    external_link: "ExternalLink",
    external_link_in_a_group: "ExternalLink",
    external_storage: "external storage",
    virtual_data_set: "virtual",
    forty_terabytes_in_chunks: "declares 40000000000000 bytes but stores 0",
    forty_terabytes_in_one_piece: "declares 40000000000000 bytes but stores 0",
    terabytes_in_a_sparse_file: "declares 2199023255552 bytes",
    gigabytes_with_one_chunk_written: "declares 4294967296 bytes",
    half_a_gigabyte_in_one_chunk: "chunks of 536870912 bytes",
    text_of_any_length: "got object",
    lists_of_any_length: "got object",
    reference: "got object",
    compound: "must hold numbers",
    array_elements: "must hold numbers",
    opaque: "must hold numbers",
    time_that_numpy_lacks: "No NumPy equivalent",
    no_shape: "must hold numbers",
    named_kind: "neither group nor data set",
    filter_lzf: "filter 32000",
    filter_scale_offset: "filter 6",
    filter_nobody_knows: "filter 32765",
    deep_nesting: "nest deeper than 8",
    group_in_itself: "nest deeper than 8",
}


def make(path, fill):
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        fill(file)
    return path


@pytest.mark.parametrize("fill", HOSTILE, ids=lambda fill: fill.__name__)
def test_a_hostile_file_is_refused_by_name_before_anything_is_read(fill, tmp_path):
    make(tmp_path / "secret.h5", lambda file: file.create_dataset("real", data=[1.0, 2.0, 3.0]))
    path = make(tmp_path / "hostile.h5", fill)
    with pytest.raises(RunFileError) as caught, open_strict(path):
        pytest.fail("the file was opened")
    assert str(path) in str(caught.value)
    assert HOSTILE[fill] in str(caught.value)


def test_text_of_any_length_passes_where_it_is_not_read_and_nothing_else_does(tmp_path):
    path = make(tmp_path / "text.h5", text_of_any_length)
    with open_strict(path, unread_text=True) as file:
        assert "bad" in file
    for fill in (lists_of_any_length, reference, compound, external_link, external_storage):
        hostile = make(tmp_path / f"{fill.__name__}.h5", fill)
        with pytest.raises(RunFileError), open_strict(hostile, unread_text=True):
            pytest.fail("the file was opened")


def test_a_live_file_cut_off_in_its_data_is_refused_before_zeros_are_read_for_them(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("x", data=np.ones(100_000), chunks=(50_000,))
        file.swmr_mode = True
        file.flush()
        content = path.read_bytes()
    path.write_bytes(content[:-1000])
    with (
        pytest.raises(RunFileError, match=r"a\.h5: .*the file ends at"),
        open_strict(path, swmr=True),
    ):
        pass


def test_a_live_file_that_is_damaged_is_refused_at_once(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("x", data=np.ones(100), maxshape=(None,), chunks=(10,))
        file.swmr_mode = True
        file.flush()
        content = path.read_bytes()
    refused = 0
    for place in range(48, 2000, 40):  # behind the superblock
        path.write_bytes(content[:place] + b"\xaa\x55" + content[place + 2 :])
        try:
            with open_strict(path, swmr=True) as file:
                file["x"][()]
        except RunFileError:
            refused += 1
    assert refused > 10


def test_a_file_of_very_many_objects_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_LARGEST_TREE", 20)
    for objects in (20, 21):
        names = {f"x{number}": np.zeros(1) for number in range(objects - 2)}
        path = make(tmp_path / f"{objects}.h5", lambda file, names=names: file.update(names))
        with h5py.File(path, "a") as file:
            file["group/inner"] = 1.0
    with open_strict(tmp_path / "20.h5"):
        pass
    with pytest.raises(RunFileError, match="more than 20 objects"), open_strict(path):
        pass


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(kept, tmp_path):
    path = tmp_path / "a.h5"
    write_arrays(path, {}, {"x": np.arange(5000.0)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(RunFileError, match=r"a\.h5"), open_strict(path) as file:
        file["x"][()]


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + b"\x00" * 500])
def test_what_is_not_hdf5_is_refused_by_name(content, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=r"a\.h5: not a readable HDF5 file"), open_strict(path):
        pass


def test_folders_pipes_and_missing_files_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    for name in ("pipe.h5", "folder.h5", "missing.h5"):
        with (
            pytest.raises(RunFileError, match=f"{name}: no such file"),
            open_strict(tmp_path / name),
        ):
            pass


def test_everything_the_toolkit_stores_is_accepted(tmp_path):
    arrays = {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.ones(2, np.float16),
        "count": np.array(7),
        "flags": np.array([True, False]),
        "phases": np.array([1j, 2.0]),
        "text": np.array([b"abc"]),
        "nothing": np.empty((0, 2)),
    }
    path = tmp_path / "a.h5"
    write_arrays(path, {"kind": "α"}, arrays)
    with open_strict(path) as file:
        read = read_arrays(file)
        assert json.loads(bytes(read.pop("header")).decode()) == {"kind": "α"}
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_a_data_set_of_another_kind_or_shape_is_refused_naming_both(tmp_path):
    path = make(tmp_path / "a.h5", lambda file: file.create_dataset("x", data=np.zeros((2, 3))))
    with open_strict(path) as file:
        assert require_array(file, "x", np.float64, 2, None).shape == (2, 3)
        for wrong in [(np.float32, 2, 3), (np.float64, 3, 2), (np.float64, 6)]:
            with pytest.raises(RunFileError, match=r"a\.h5: 'x' must be .* got float64 \[2, 3\]"):
                require_array(file, "x", *wrong)
        with pytest.raises(RunFileError, match="lacks the data set 'y'"):
            require_array(file, "y", np.float64, 2)
        with pytest.raises(RunFileError, match="lacks the data set '/'"):
            require_array(file, "/", np.float64, 2)
        with pytest.raises(RunFileError, match="lacks the group 'x'"):
            read_arrays(file, "x")


def test_what_is_missing_inside_is_told_with_the_file(tmp_path):
    path = make(tmp_path / "a.h5", lambda file: file.create_group("g"))
    with (
        pytest.raises(RunFileError, match=r"a\.h5: damaged or incomplete"),
        open_strict(path) as file,
    ):
        file["absent"]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_half_written_leaves_nothing_and_the_old_one_stays(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with contextlib.suppress(ZeroDivisionError), write_whole(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert names_in(tmp_path) == ["a.json"]
    assert json.loads(path.read_text()) == {"a": 1}


def test_arrays_that_cannot_be_written_leave_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_arrays(tmp_path / "a.h5", {}, {"x": np.array([{}, {}], dtype=object)})
    assert names_in(tmp_path) == []


def test_a_full_disk_is_told_before_hdf5_meets_it(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2 << 20))
    require_space(tmp_path, 1 << 20)
    with pytest.raises(OSError, match="the disk is full") as caught:
        write_arrays(tmp_path / "a.h5", {}, {"x": np.zeros(200_000)})
    assert caught.value.errno == errno.ENOSPC
    assert names_in(tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    require_space(tmp_path, 1 << 40)


def test_json_forms_of_arrays_tuples_and_paths_are_their_values(tmp_path):
    value = {"a": np.float32(0.5), "b": (1, np.arange(2)), "c": tmp_path, 4: np.True_}
    assert plain(value) == {"a": 0.5, "b": [1, [0, 1]], "c": str(tmp_path), "4": True}


def test_a_hash_depends_on_values_alone_not_on_their_order_or_kind():
    assert canonical({"b": 1, "a": (1, 2)}) == canonical({"a": [1, np.int64(2)], "b": 1})
    assert short_hash({"b": 1, "a": 2}) == short_hash({"a": 2, "b": 1})
    assert short_hash({"a": 1}) != short_hash({"a": 2})
    assert len(short_hash(None)) == 12
