"""Kept points: killed, torn, shared out, locked, on a full disk and read only."""

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import h5py
import numpy as np
import pytest
from kill_trials import finish, kept_in, kill, kill_along, points_of, wait_until, watch

from landscape import points as point_files
from landscape.locks import BusyError
from landscape.storage import RunFileError, write_arrays
from landscape.work import Work, discard_stale, parse_shard, shard_of_environment

COLUMNS = ("loss", "accuracy")

# Measures `count` points of known values, one every `cost` seconds, saves and says the result's
# bytes, like an analysis does. Each evaluation is logged before it is made.
DRIVER = """
import os, resource, sys, time
from pathlib import Path
import numpy as np
from landscape import storage
from landscape.work import Work, parse_shard

folder, shard, count, cost, limit = Path(sys.argv[1]), parse_shard(sys.argv[2]), *sys.argv[3:6]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    storage.SPARE_BYTES = -(1 << 40)  # as if another program filled the disk after a look at it
if "nobody" in sys.argv and os.geteuid() == 0:
    os.seteuid(65534)
count, columns = int(count), ("loss", "accuracy")
log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

def measure(index):
    os.write(log, b"%d\\n" % index)
    time.sleep(float(cost))
    if index % 7 == 3:
        return -np.float64(np.nan), np.inf  # the sign of a NaN is one of its bits
    return np.sin(index) + offset, plane[index % len(plane)]

def announce():
    os.write(log, b"settled\\n")
    return {"offset": 0.1}

try:
    with Work(folder, shard=shard) as work:
        offset = work.settle("how", announce)["offset"]
        plane = work.settle_arrays("plane", lambda: {"d": np.arange(5) / 3})["d"]
        finished = work.finished(columns)
        for position, index in enumerate(np.random.default_rng(0).permutation(count)):
            if work.mine(position) and index not in finished:
                work.keep(index, measure(index))
        with work.merging() as here:
            finished = work.finished(columns)
            if here and len(finished) == count:
                values = np.stack([finished[index] for index in range(count)])
                folder.with_suffix(".result").write_bytes(values.tobytes())
                work.remove()
                print("merged")
except (OSError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
assert "torch" not in sys.modules
"""


def start(folder, *, shard="0/1", count=40, cost=0.0, limit=0, also=()):
    words = [str(folder), shard, str(count), str(cost), str(limit), *also]
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(process):
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1, error
    assert "Traceback" not in error
    return error


def evaluations(folder):
    words = folder.with_suffix(".log").read_text().split()
    assert words.count("settled") == 1
    return [int(word) for word in words if word != "settled"]


@pytest.fixture
def part(tmp_path):
    return tmp_path / "surface-0123456789ab.part"


def fill(part, indices, *, shard=(0, 1), columns=COLUMNS):
    """Keep a few points, each with values of its own; the file they lie in."""
    with Work(part, shard=shard) as work:
        work.finished(columns)
        for index in indices:
            work.keep(index, [index + i / 8 for i in range(len(columns))])
    return max(part.glob(f"{shard[0]}-of-*.points"), key=lambda path: path.name)


def read(part, columns=COLUMNS):
    with Work(part) as work:
        return work.finished(columns)


def test_a_work_killed_at_any_moment_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    whole, killed = (tmp_path / name / "surface-0123456789ab.part" for name in ("a", "b"))
    whole.parent.mkdir()
    killed.parent.mkdir()
    settings = {"count": 150, "cost": 0.008}
    line = watch(lambda: start(whole, **settings), lambda: kept_in(whole.parent))
    moments = np.random.default_rng(5).uniform(0, line.length, 3).tolist()
    trials = kill_along(lambda: start(killed, **settings), killed.parent, line, moments)
    assert trials.killed == 3
    assert trials.share_between(150) >= 0.8
    assert finish(start(killed, **settings)) == "merged\n"
    assert sorted(evaluations(whole)) == [*range(150)]
    again = evaluations(killed)
    assert set(again) == set(range(150))
    assert len(again) <= 150 + trials.killed
    assert not killed.exists()
    expected, got = (part.with_suffix(".result").read_bytes() for part in (whole, killed))
    assert got == expected
    assert len(got) == 150 * 16


@pytest.mark.parametrize("lost", [False, True])
def test_shares_of_two_processes_make_the_bits_of_one_and_the_last_one_merges(tmp_path, lost):
    alone, shared = tmp_path / "alone.part", tmp_path / "shared.part"
    finish(start(alone))
    if lost:  # a share that was killed is taken up by whoever comes
        process = start(shared, shard="0/2", cost=0.02)
        wait_until(lambda: kept_in(tmp_path) >= 5)
        kill(process)
        assert finish(start(shared, shard="1/2")) == ""
        assert 20 < kept_in(tmp_path) < 40
        said = [finish(start(shared))]
    else:
        said = [finish(process) for process in [start(shared, shard=f"{i}/2") for i in (0, 1)]]
    assert said.count("merged\n") == 1
    evaluated = evaluations(shared)
    assert set(evaluated) == set(range(40))
    assert len(evaluated) <= 40 + lost
    assert shared.with_suffix(".result").read_bytes() == alone.with_suffix(".result").read_bytes()
    assert not shared.exists()


def test_a_second_process_is_told_who_measures_and_the_first_goes_on(part):
    first = start(part, cost=0.05)
    wait_until(lambda: kept_in(part.parent) > 0)
    expected = f"{part.with_name('surface-0123456789ab')} is being measured by process {first.pid};"
    for shard in ((0, 2), (1, 2)):
        with pytest.raises(BusyError, match=expected):
            Work(part, shard=shard).__enter__()
    assert expected in refusal(start(part))
    assert finish(first) == "merged\n"


def test_shares_exclude_the_same_share_and_other_divisions_while_they_are_measured(part):
    with Work(part, shard=(0, 2)), Work(part, shard=(1, 2)):
        with pytest.raises(BusyError, match=rf"share 1/2 of .* by process {os.getpid()}; wait"):
            Work(part, shard=(1, 2)).__enter__()
        for other in ((0, 1), (0, 3), (2, 3)):
            with pytest.raises(BusyError, match=r"in 2 shares, share [01]/2 by process"):
                Work(part, shard=other).__enter__()
    with Work(part, shard=(2, 3)):
        pass
    assert issubclass(BusyError, ValueError)


def test_the_lock_of_a_killed_process_is_free(part):
    process = start(part, cost=0.02)
    wait_until(lambda: kept_in(part.parent) > 0)
    kill(process)
    with Work(part) as work:
        assert len(work.finished(COLUMNS)) > 0


def test_another_host_is_named(part):
    with Work(part):
        (part / ".0-of-1.lock").write_text("77 node12\n")
        with pytest.raises(BusyError, match="by process 77 on node12;"):
            Work(part).__enter__()
        (part / ".0-of-1.lock").write_text("")
        with pytest.raises(BusyError, match="by another process;"):
            Work(part).__enter__()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_refused(part, monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"no locks between processes.*local disk") as caught:
        Work(part).__enter__()
    assert caught.value.errno == code


def test_a_point_is_in_the_file_when_keep_returns_and_files_of_the_dead_stay_as_they_are(part):
    old = fill(part, [4])
    content = old.read_bytes()
    with Work(part) as work:
        assert [*work.finished(COLUMNS)] == [4]
        for index in (9, 2):
            work.keep(index, (index, np.nan))
            (new,) = set(part.glob("*.points")) - {old}
            assert points_of(new)[index][0] == index
    assert old.read_bytes() == content
    assert [path.name for path in (old, new)] == ["0-of-1.0.points", "0-of-1.1.points"]
    assert sorted(read(part)) == [2, 4, 9]


def test_values_come_back_bit_by_bit(part):
    values = np.array([[np.nan, -np.nan], [np.inf, -0.0], [5e-324, 1 / 3]])
    with Work(part) as work:
        work.finished(COLUMNS)
        for index, row in enumerate(values):
            work.keep(10**12 + index, row)
    got = read(part)
    assert [*got] == [10**12, 10**12 + 1, 10**12 + 2]
    assert np.stack([*got.values()]).tobytes() == values.tobytes()


def test_a_reader_sees_whole_points_of_a_process_that_writes(part):
    process, counts = start(part, count=4000), []
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # the folder goes away in the end
            found = point_files.read_points(part, "surface-0123456789ab", COLUMNS)
            assert all(
                np.isnan(values[0]) if index % 7 == 3 else values[0] == np.sin(index) + 0.1
                for index, values in found.items()
            )
            counts.append(len(found))
    finish(process)
    assert len({*counts}) > 3


def test_every_position_is_in_exactly_one_share():
    works = [Work("x.part", shard=(i, 3)) for i in range(3)]
    for position in range(20):
        assert [work.mine(position) for work in works].count(True) == 1
    assert all(Work("x.part").mine(position) for position in range(20))


def test_values_that_do_not_fit_the_columns_are_refused(part):
    with Work(part) as work:
        with pytest.raises(ValueError, match="must be 0 numbers"):
            work.keep(0, [1.0])
        work.finished(COLUMNS)
        with pytest.raises(ValueError, match=r"2 numbers .*'loss', 'accuracy'.*got 3"):
            work.keep(0, [1.0, 2.0, 3.0])


# What a kill, a power cut, an accident or another program leaves behind ----------------------


@pytest.mark.parametrize("cut", [1, 4, 12, 27])
def test_half_a_last_row_is_no_point(part, cut):
    file = fill(part, [0, 1, 2])
    os.truncate(file, file.stat().st_size - cut)
    assert [*read(part)] == [0, 1]
    fill(part, [2])
    assert sorted(read(part)) == [0, 1, 2]


def test_room_that_a_power_cut_left_unfilled_holds_no_points(part):
    file = fill(part, [0, 1])
    os.truncate(file, file.stat().st_size + 2 * 28 + 5)
    assert [*read(part)] == [0, 1]


@pytest.mark.parametrize("place", [-1, -5, -28, -29, 100])
def test_a_flipped_bit_in_a_row_is_refused_with_the_file_to_delete(part, place):
    file = fill(part, [0, 1, 2])
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunFileError, match=rf"{file.name}: .*; delete this file"):
        read(part)
    file.unlink()
    assert read(part) == {}


def test_rows_of_another_file_are_not_believed(part):
    mine, other = fill(part, [0]), fill(part.with_name("surface-cdef.part"), [1])
    rows = other.read_bytes().partition(b"\n")[2]
    mine.write_bytes(mine.read_bytes() + rows)
    with pytest.raises(RunFileError, match="row 1 is damaged"):
        read(part)


def test_a_file_of_other_work_columns_or_version_is_refused(part, monkeypatch):
    other = fill(part.with_name("surface-cdef.part"), [1])
    foreign = part / "0-of-1.0.points"
    part.mkdir()
    shutil.copy(other, foreign)
    with pytest.raises(RunFileError, match=r"work 'surface-cdef', expected 'surface-0123456789ab'"):
        read(part)
    foreign.unlink()
    fill(part, [1], columns=("loss",))
    with pytest.raises(RunFileError, match=r"columns \['loss'\], expected .*'accuracy'.*delete"):
        read(part)
    foreign.unlink()
    fill(part, [1])
    monkeypatch.setattr(point_files, "_VERSION", 2)
    with pytest.raises(RunFileError, match="version 1, expected 2"):
        read(part)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"loss,accuracy\n1,2\n", b"[1]\n", b"{}\n"])
def test_what_is_no_file_of_points_is_refused(part, content):
    part.mkdir()
    (part / "0-of-1.0.points").write_bytes(content)
    with pytest.raises(RunFileError, match="is no file of points, or damaged; delete this file"):
        read(part)


def test_a_flipped_bit_in_the_header_is_refused(part):
    file = fill(part, [0])
    content = file.read_bytes()
    for place in range(content.index(b"\n") + 1):
        file.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        with pytest.raises(RunFileError, match="delete this file"):
            read(part)


# Decisions -----------------------------------------------------------------------------------

SETTLER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from landscape.work import Work

def make():
    Path(sys.argv[1], f"made-{os.getpid()}").touch()
    time.sleep(0.2)
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"a": os.getpid(), "b": [1 / 3, float("nan")]}

with Work(Path(sys.argv[1]), shard=(int(sys.argv[2]), 3)) as work:
    print(work.settle("how", make))
    arrays = work.settle_arrays("plane", lambda: {"d": np.full(3, os.getpid())})
    print(arrays["d"].tolist())
"""


def settler(part, *words):
    return subprocess.Popen(
        [sys.executable, "-c", SETTLER, str(part), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_settled_is_decided_by_one_process_even_after_one_was_killed_deciding(part):
    first = settler(part, 0, "die")
    wait_until(lambda: [*part.glob("made-*")])
    others = [settler(part, shard) for shard in (1, 2)]
    first.communicate()
    assert first.returncode == -9
    said = [finish(process) for process in others]
    assert said[0] == said[1]
    makers = {int(path.name.partition("-")[2]) for path in part.glob("made-*")}
    assert first.pid in makers
    assert len(makers) == 2
    with Work(part) as work:
        assert work.settle("how", lambda: pytest.fail("settled before"))["b"][0] == 1 / 3


def test_settled_arrays_are_equal_to_the_bit_for_whoever_made_or_read_them(part):
    made = {
        "d1": np.random.default_rng(0).normal(size=70_000).astype(np.float32),
        "buffer.bn.num": np.array(7),
        "mask": np.array([True, False]),
        "none": np.zeros((0, 2)),
    }
    with Work(part) as work:
        first = work.settle_arrays("plane", lambda: made)
        second = work.settle_arrays("plane", lambda: pytest.fail("settled before"))
    for got in (first, second):
        assert got.keys() == made.keys()
        for name, array in made.items():
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
            assert got[name].tobytes() == array.tobytes()


def test_a_decision_that_fails_is_left_to_the_next(part):
    with Work(part) as work:
        for fail in (
            lambda: work.settle("how", lambda: 1 // 0),
            lambda: work.settle_arrays("plane", lambda: 1 // 0),
        ):
            with pytest.raises(ZeroDivisionError):
                fail()
        assert work.settle("how", lambda: {"a": (1, 2)}) == {"a": [1, 2]}
        with pytest.raises(ValueError, match=r"plain, got 'a/b'"):
            work.settle_arrays("plane", lambda: {"a/b": np.zeros(1)})
        with pytest.raises(ValueError, match=r"got '\.\./how'"):
            work.settle("../how", dict)


def test_a_damaged_or_foreign_decision_is_refused_with_the_folder_to_delete(part):
    with Work(part) as work:
        work.settle("how", lambda: {"chunk": 8})
        work.settle_arrays("plane", lambda: {"d": np.ones(1000)})
        how, plane = part / "how.json", part / "plane.h5"
        for content in (b"", b"{", b"[]", b'{"work": "surface-cdef", "value": {"chunk": 8}}'):
            how.write_bytes(content)
            with pytest.raises(RunFileError, match=rf"how.json: .*delete {part}"):
                work.settle("how", dict)
        content = bytearray(plane.read_bytes())
        with h5py.File(plane) as file:
            place = file["d"].id.get_chunk_info(0).byte_offset
        content[place + 5] ^= 1
        plane.write_bytes(content)
        with pytest.raises(RunFileError, match=rf"plane.h5: .*delete {part}"):
            work.settle_arrays("plane", dict)
        plane.write_bytes(content[:300])
        with pytest.raises(RunFileError, match=rf"plane.h5: .*delete {part}"):
            work.settle_arrays("plane", dict)
        write_arrays(plane, {"work": "surface-cdef"}, {"d": np.ones(1000)})
        with pytest.raises(RunFileError, match=rf"of other work; .*delete {part}"):
            work.settle_arrays("plane", dict)


# The end -------------------------------------------------------------------------------------


def test_work_is_merged_once_and_stays_until_the_last_process_has_left_it(part):
    with Work(part, shard=(0, 2)) as first, Work(part, shard=(1, 2)) as second:
        first.finished(COLUMNS)
        first.keep(0, (1, 2))
        with first.merging() as here:
            assert here
            first.remove()
        first.__exit__()
        assert [*second.finished(COLUMNS)] == [0]
        with second.merging() as here:
            assert not here
        with Work(part, shard=(0, 2)) as late:
            assert [*late.finished(COLUMNS)] == [0]
            with late.merging() as here:
                assert not here
        assert part.exists()
    assert [path.name for path in part.parent.iterdir()] == [".work.lock"]


def test_work_whose_result_was_saved_is_begun_anew(part):
    fill(part, [0, 1])
    (part / ".done").touch()  # and then its process was killed
    with Work(part) as work:
        assert work.finished(COLUMNS) == {}
        with work.merging() as here:
            assert here
    assert part.exists()


def test_one_process_at_a_time_is_merging(part):
    with Work(part, shard=(0, 2)) as work:
        with work.merging():
            other = start(part, shard="1/2", count=2)
            wait_until(lambda: kept_in(part.parent) == 1)
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.3)
        finish(other)


def test_work_left_after_its_result_was_saved_is_discarded_unless_it_is_being_done_again(part):
    result = part.with_suffix(".h5")
    file = fill(part, [0])
    result.touch()
    os.utime(file, ns=(0, 10**9))
    os.utime(result, ns=(0, 10**9 - 1))
    discard_stale(part, result)  # a point is younger: it is measured again
    assert part.exists()
    os.utime(result, ns=(0, 10**9))
    with Work(part):
        discard_stale(part, result)
        assert part.exists()
    discard_stale(part, result)
    assert not part.exists()
    discard_stale(part, result)


# Disks ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 64 kB of space, and the largest file allowed in it."""
    folder, mounted = tmp_path / "disk", False
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder, -1 if mounted else 32 << 10
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_the_finished_points_and_the_rest_is_measured_later(small_disk):
    folder, limit = small_disk
    part = folder / "surface-abc.part"
    error = refusal(start(part, count=5000, limit=limit))
    assert "same command goes on with the rest" in error
    kept = kept_in(part.parent)
    assert 100 < kept < 5000
    (file,) = part.glob("*.points")
    assert (file.stat().st_size - len(file.read_bytes().partition(b"\n")[0]) - 1) % 28 == 0
    if limit == -1:
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
    assert finish(start(part, count=5000)) == "merged\n"
    evaluated = evaluations(part)
    assert set(evaluated) == set(range(5000))
    assert len(evaluated) == 5001


def test_a_nearly_full_disk_is_an_error_before_anything_is_lost(part, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with Work(part) as work:
        work.finished(COLUMNS)
        work.keep(0, (1, 2))
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**5))
            with pytest.raises(OSError, match=r"the disk is full.*finished are safe") as caught:
                work.keep(1, (1, 2))
            assert caught.value.errno == errno.ENOSPC
            with pytest.raises(OSError, match=r"the disk is full.*finished are safe"):
                work.settle_arrays("plane", lambda: {"d": np.ones(3)})
        work.keep(1, (3, 4))
        assert work.settle_arrays("plane", lambda: {"d": np.ones(3)})["d"].sum() == 3
    assert {index: values.tolist() for index, values in read(part).items()} == {
        0: [1, 2],
        1: [3, 4],
    }


def test_half_a_row_is_taken_back_so_that_later_rows_stay_whole(part):
    with Work(part) as work:
        work.finished(COLUMNS)
        work.keep(0, (1, 2))
        size = (part / "0-of-1.0.points").stat().st_size
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 13, hard))
        try:
            for _ in range(2):
                with pytest.raises(OSError, match="finished are safe"):
                    work.keep(1, (1, 2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert (part / "0-of-1.0.points").stat().st_size == size
        work.keep(1, (3, 4))
    assert {index: values.tolist() for index, values in read(part).items()} == {
        0: [1, 2],
        1: [3, 4],
    }


def test_a_folder_that_may_not_be_written_is_an_error_that_says_so():
    with tempfile.TemporaryDirectory() as folder:  # where others than its owner may look
        Path(folder).chmod(0o755)
        part = Path(folder) / "surface-abc.part"
        part.with_suffix(".log").touch()
        part.with_suffix(".log").chmod(0o666)
        Path(folder).chmod(0o555)
        error = refusal(start(part, also=("nobody",)))
    assert "PermissionError" in error
    assert "points are kept here while they are measured" in error
    assert folder in error


# Shares --------------------------------------------------------------------------------------


def test_shares_are_counted_from_zero():
    assert parse_shard("0/1") == (0, 1)
    assert parse_shard("7/8") == (7, 8)
    with pytest.raises(ValueError, match=r"from 0: of 8 they are 0/8 to 7/8, got 8/8.*=0-7"):
        parse_shard("8/8")
    with pytest.raises(ValueError, match="at least one share, got 0/0"):
        parse_shard("0/0")
    for text in ("2", "2/", "-1/8", "1/8/2", "a/b", " 1/8", "", "1.0/2"):
        with pytest.raises(ValueError, match="like 0/8, the first of 8 shares"):
            parse_shard(text)
    for shard in ((2, 2), (-1, 2)):
        with pytest.raises(ValueError, match="from 0"):
            Work("x.part", shard=shard)


def test_the_share_under_torchrun_is_its_rank(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert shard_of_environment() == (0, 1)
    monkeypatch.setenv("RANK", "3")
    assert shard_of_environment() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert shard_of_environment() == (3, 4)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(ValueError, match="from 0"):
        shard_of_environment()
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ValueError, match="RANK and WORLD_SIZE must be whole numbers"):
        shard_of_environment()
