import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from data_files import idx, served, write_fashion

from training import data, data_folders, formats, vision
from training.data import balanced_subset, held_out_subset, training_subset
from training.problems import PROBLEMS, make_problem


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No data on this machine and no network; returns a folder that $LANDSCAPE_DATA names."""
    monkeypatch.setattr(data_folders, "DEBIAN", tmp_path / "debian")
    _mirror(monkeypatch, UNREACHABLE, [])
    monkeypatch.setattr(data_folders, "__file__", str(tmp_path / "site" / "training" / "data.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "mine"))
    return tmp_path / "mine"


UNREACHABLE = "file:///nowhere/"


def _mirror(monkeypatch, address, files):
    """Let torchvision's mirror of Fashion-MNIST be this address, with these files."""
    fashion = vision.import_torchvision("torchvision.datasets").FashionMNIST
    resources = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in files]
    monkeypatch.setattr(fashion, "mirrors", [address])
    monkeypatch.setattr(fashion, "resources", resources or fashion.resources)


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_idx_files_give_back_what_was_written(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx(values)) if name.endswith(".gz") else idx(values))
    read = formats.read_idx(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, values)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut-short", idx(np.zeros((3, 4, 5)))[:-1]),
        ("too-long", idx(np.zeros((3, 4, 5))) + b"\0"),
        ("no-head", b"\0\0"),
        ("cut-in-its-head", idx(np.zeros((3, 4, 5)))[:9]),
        ("floats", b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"\0" * 4),
        ("page.gz", b"<html>not here</html>"),
        ("cut-short.gz", gzip.compress(idx(np.zeros((30, 40))))[:-12]),
    ],
)
def test_damaged_idx_files_are_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*fetch it again"):
        formats.read_idx(tmp_path / name)


@pytest.mark.parametrize("below", ["", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_fashion_is_found_where_debian_or_torchvision_lay_it(nowhere, below, packed):
    folder = write_fashion(nowhere / below, packed)
    found = data.load_data("fashion")
    assert found.name == "Fashion-MNIST"
    assert found.source == str(folder)
    assert str(folder) in found.why
    assert found.train[0].shape == (40, 1, 28, 28)
    assert found.test[1].tolist() == [n % 10 for n in range(20)]


def test_ones_own_folder_is_taken_before_the_systems(nowhere):
    debian = write_fashion(data_folders.DEBIAN / "fashion-mnist")
    assert data.load_data("fashion").source == str(debian)
    mine = write_fashion(nowhere)
    assert data.load_data("fashion").source == str(mine)


def test_missing_fashion_is_refused_with_where_it_was_looked_for_and_what_to_do(nowhere, tmp_path):
    with pytest.raises(ValueError, match="Fashion-MNIST is in none of") as caught:
        data.load_data("fashion")
    debian = str(data_folders.DEBIAN)
    for told in (str(nowhere), debian, "no answer from", "LANDSCAPE_DATA", "dataset-fashion-mnist"):
        assert told in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_digits_stand_in_for_missing_fashion_and_say_why(nowhere):
    chosen = data.choose_data()
    assert chosen.name == "digits"
    assert "Fashion-MNIST is in none of" in chosen.why
    assert "no answer from" in chosen.why


def test_damaged_fashion_is_not_passed_over_in_silence(nowhere):
    folder = write_fashion(nowhere)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(19))))
    for load in (lambda: data.load_data("fashion"), data.choose_data):
        with pytest.raises(ValueError, match="t10k must be images of 28×28 with a label each"):
            load()


def test_labels_of_another_data_set_are_refused(nowhere):
    folder = write_fashion(nowhere)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(40))))
    with pytest.raises(ValueError, match=r"labels must be 0 \.\. 9, got 0 \.\. 39"):
        data.load_data("fashion")


def test_a_download_ends_in_the_data_folder_whole_or_not_at_all(nowhere, monkeypatch, tmp_path):
    files = sorted(write_fashion(tmp_path / "mirror").iterdir())
    with served(tmp_path / "mirror") as address:
        _mirror(monkeypatch, address, files)
        good = files[-1].read_bytes()
        files[-1].write_bytes(good[:-1])
        with pytest.raises(ValueError, match=r"can't be downloaded.*not found or corrupted"):
            data.load_data("fashion")
        assert [path for path in nowhere.rglob("*") if path.is_file()] == []
        files[-1].write_bytes(good)
        assert data.load_data("fashion").why == f"downloaded to {nowhere / 'fashion-mnist'}"
    assert data.load_data("fashion").why == f"found in {nowhere / 'fashion-mnist'}"
    assert len(list(nowhere.rglob("*"))) == 5


def test_data_folder_is_the_first_that_can_be_written(nowhere, monkeypatch, tmp_path):
    assert data_folders.data_folder() == nowhere
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("LANDSCAPE_DATA", str(file / "below"))
    assert data_folders.data_folder() == tmp_path / "cache" / "aace-landscape"


def test_whichever_data_this_machine_has_are_whole(monkeypatch):
    _mirror(monkeypatch, UNREACHABLE, [])
    found = data.choose_data()
    pixels = found.train[0].double()
    if found.name == "Fashion-MNIST":
        assert found.train[1].bincount().tolist() == [6000] * 10
        assert found.test[1].bincount().tolist() == [1000] * 10
        # The statistics everybody normalizes Fashion-MNIST with: 0.2860 and 0.3530 of 255.
        assert pixels.mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)
        assert pixels.std().item() / 255 == pytest.approx(0.3530, abs=5e-5)
    else:
        assert "no answer from" in found.why
        assert pixels.max() == 16


def test_digits_are_split_once_and_balanced():
    first, again = data.load_data("digits"), data.load_data("digits")
    assert first.test[1].bincount().tolist() == [36] * 10
    assert (len(first.train[1]), len(first.test[1])) == (1437, 360)
    assert first.train[0].equal(again.train[0])
    seen = {image.numpy().tobytes() for image in first.train[0]}
    assert not seen & {image.numpy().tobytes() for image in first.test[0]}


def test_an_unknown_data_set_is_refused():
    with pytest.raises(
        ValueError, match=r"digits, fashion, cifar10, .* or folder:PATH, got 'cifar'"
    ):
        data.load_data("cifar")


@pytest.mark.parametrize("samples", [7, 30, 31])
def test_class_sizes_of_a_balanced_subset_differ_by_one_at_most(samples):
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 11)[torch.randperm(81)]
    index = balanced_subset(labels, samples, seed=0)
    sizes = labels[index].bincount(minlength=3)
    assert len(index.unique()) == samples
    assert sizes.max() - sizes.min() <= 1


def test_a_balanced_subset_is_drawn_from_the_seed_alone():
    labels = torch.arange(100) % 4
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = balanced_subset(labels, 20, seed=3)
    assert torch.get_rng_state().equal(before)
    assert first.equal(balanced_subset(labels, 20, seed=3))
    assert not first.equal(balanced_subset(labels, 20, seed=4))


def test_too_large_a_subset_is_refused_with_the_largest_that_works():
    labels = torch.tensor([0] * 50 + [1] * 20)
    with pytest.raises(ValueError, match="class 1 has 20 of the 70; use at most 40"):
        balanced_subset(labels, 41 + 1, seed=0)
    assert len(balanced_subset(labels, 40, seed=0)) == 40


@pytest.fixture
def numbered():
    """A data set whose images are all different, with 30 to 50 of each of three classes."""
    labels = torch.tensor([0] * 50 + [1] * 40 + [2] * 30)
    images = torch.arange(120, dtype=torch.uint8).view(120, 1, 1, 1)
    split = (images, labels)
    return data.Dataset(name="made", train=split, test=split, classes=3, source="", why="")


def test_held_out_images_are_balanced_and_none_of_them_is_trained_on(numbered):
    trained, _ = training_subset(numbered, 60)
    images, labels = held_out_subset(numbered, 30, train_samples=60)
    assert labels.bincount().tolist() == [10, 10, 10]
    assert not set(images.flatten().tolist()) & set(trained.flatten().tolist())
    assert len(images.unique()) == 30
    both = labels.tolist(), images.flatten().tolist()
    assert both[0] == numbered.train[1][both[1]].tolist()
    assert images.equal(held_out_subset(numbered, 30, train_samples=60)[0])


def test_what_can_not_be_held_out_is_told(numbered):
    with pytest.raises(ValueError, match="class 2 has 10 of the 60; use at most 30"):
        held_out_subset(numbered, 33, train_samples=60)
    with pytest.raises(ValueError, match="must leave images out to hold out, got 0"):
        held_out_subset(numbered, 30, train_samples=0)


def test_normalized_training_images_have_mean_zero_and_deviation_one_in_each_channel():
    generator = torch.Generator().manual_seed(0)
    by = torch.randint(0, 256, (50, 2, 6, 7), dtype=torch.uint8, generator=generator)
    by[:, 1] //= 4
    images = by.float().numpy()
    mean, std = images.mean((0, 2, 3), keepdims=True), images.std((0, 2, 3), keepdims=True)
    assert np.allclose(data.normalize(by, by=by), (images - mean) / std, atol=1e-5)
    other = data.normalize(by[:3] // 2, by=by)
    assert np.allclose(other, (images[:3] // 2 - mean) / std, atol=1e-5)


def test_problems_are_normalized_by_their_training_images_and_not_augmented():
    problem = PROBLEMS["digits"](seed=4, train_samples=100)
    inputs, targets = problem.train
    assert targets.bincount().tolist() == [10] * 10
    assert inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    raw, labels = data.training_subset(data.load_data("digits"), 100)
    assert labels.equal(targets)
    scale = (inputs.max() - inputs.min()) / 16
    assert torch.allclose((inputs - inputs.min()) / scale, raw.float(), atol=1e-4)
    test_raw, _ = data.load_data("digits").test
    assert torch.allclose((problem.test[0] - inputs.min()) / scale, test_raw.float(), atol=1e-4)


def test_a_problem_is_rebuilt_to_the_bit_and_its_data_do_not_depend_on_the_seed():
    first, again, other = (PROBLEMS["digits"](seed=s, train_samples=200) for s in (1, 1, 2))
    bits, same = first.model.state_dict(), again.model.state_dict()
    assert all(bits[name].equal(same[name]) for name in bits)
    assert first.train[0].equal(again.train[0])
    assert first.train[0].equal(other.train[0])
    assert not next(first.model.parameters()).equal(next(other.model.parameters()))


def test_a_model_for_images_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"conv28 takes images of 28×28.*conv8 or mlp8"):
        make_problem(data.load_data("digits"), model="conv28", seed=0, train_samples=0)


def test_torchvision_imports_beside_any_build_of_torch():
    vision.import_torchvision("torchvision.transforms.v2")
    assert vision.import_torchvision("torchvision.datasets").FashionMNIST.mirrors
    assert vision.import_torchvision().__version__


def test_a_torchvision_that_imports_is_left_alone(monkeypatch):
    before = list(vision._fragments)
    monkeypatch.setattr(vision, "import_module", lambda name: f"{name} as it came")
    assert vision.import_torchvision("torchvision") == "torchvision as it came"
    assert vision._fragments == before


def test_other_failures_of_torchvision_are_not_hidden(monkeypatch):
    def broken(name):
        raise RuntimeError("disk on fire")

    before = list(vision._fragments)
    monkeypatch.setattr(vision, "import_module", broken)
    with pytest.raises(RuntimeError, match="disk on fire"):
        vision.import_torchvision()
    assert vision._fragments == before
