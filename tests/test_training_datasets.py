"""Readers and fetching of data sets, on files made in their real formats."""

import hashlib
import json
import pickle
import tarfile

import data_files
import numpy as np
import pytest
import torch
from PIL import Image

from training import data_folders, images
from training.config import DATA, MODELS, TrainConfig
from training.data import load_data, normalize_for
from training.datasets import SOURCES, fetch_data, find_data, list_data
from training.models import MODELS as NETWORKS
from training.problems import PROBLEMS, make_problem, problem_of
from training.vision import import_torchvision

datasets = import_torchvision("torchvision.datasets")


@pytest.fixture
def mine(monkeypatch, tmp_path):
    """The only folder that data are looked for in; there is no network."""
    monkeypatch.setattr(data_folders, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(data_folders, "__file__", str(tmp_path / "site" / "training" / "x.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "mine"))
    nowhere = (tmp_path / "unreachable").as_uri()
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [f"{nowhere}/"])
    for name, attribute in (("CIFAR10", "url"), ("CIFAR100", "url"), ("Food101", "_URL")):
        monkeypatch.setattr(getattr(datasets, name), attribute, f"{nowhere}/a.tar.gz")
    places = {split: [f"{nowhere}/{split}", split, "0"] for split in ("train", "test")}
    monkeypatch.setattr(datasets.SVHN, "split_list", places)
    return tmp_path / "mine"


def _md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar10_gives_back_the_images_and_labels_of_its_six_files(mine):
    written = data_files.write_cifar10(mine / "cifar-10-batches-py")
    found = load_data("cifar10")
    train, test = written["data_batch_1"], written["test_batch"]
    assert (found.name, found.classes) == ("CIFAR-10", 10)
    assert found.train[0].shape == (20, 3, 32, 32)
    assert (found.train[0].dtype, found.train[1].dtype) == (torch.uint8, torch.int64)
    assert found.test[1].tolist() == test[1]
    labels = [label for n in range(1, 6) for label in written[f"data_batch_{n}"][1]]
    assert found.train[1].tolist() == labels
    # A row holds red, then green, then blue, each line by line.
    assert found.train[0][2, 1, 5, 7] == train[0][2, 1024 + 5 * 32 + 7]


@pytest.mark.filterwarnings("ignore:dtype.. align should be passed:DeprecationWarning")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_what_torchvision_reads(mine, monkeypatch, name):
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    folder = mine / kind.base_folder
    (data_files.write_cifar10 if name == "cifar10" else data_files.write_cifar100)(folder)
    if name == "cifar100":
        names = {"fine_label_names": [str(n) for n in range(100)]}
        (folder / "meta").write_bytes(pickle.dumps(names, 2))
    for listed in ("train_list", "test_list"):
        sums = [[file, _md5(folder / file)] for file, _ in getattr(kind, listed)]
        monkeypatch.setattr(kind, listed, sums)
    meta = kind.meta | {"md5": _md5(folder / kind.meta["filename"])}
    monkeypatch.setattr(kind, "meta", meta)
    found = load_data(name)
    for split, (pixels, labels) in (("train", found.train), ("test", found.test)):
        theirs = kind(mine, train=split == "train")
        assert np.array_equal(pixels.permute(0, 2, 3, 1), theirs.data)
        assert labels.tolist() == theirs.targets


class _Shout:
    def __reduce__(self):
        return print, ("run by a pickle",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pickle.dumps({b"data": _Shout(), b"labels": []}), "names builtins.print"),
        (pickle.dumps({b"data": np.zeros(3), b"labels": []}), "data are no bytes"),
        (b"not a pickle", "UnpicklingError"),
        (b"", "EOFError"),
        (pickle.dumps([1, 2]), "TypeError"),
        (pickle.dumps({b"labels": [1]}), "KeyError"),
        (data_files.cifar_batch(np.zeros((2, 3072), np.uint8), [1]), "for each of its 1 labels"),
        (data_files.cifar_batch(np.zeros((1, 3072), np.uint8), [10]), r"labels must be 0 \.\. 9"),
        (data_files.cifar_batch(np.zeros((2, 3072), np.uint8), [1, 2])[:-40], "fetch it again"),
    ],
)
def test_a_pickle_that_is_no_batch_of_cifar_is_refused_and_runs_nothing(
    mine, content, told, capsys
):
    data_files.write_cifar10(mine / "cifar-10-batches-py")
    (mine / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        load_data("cifar10")
    assert capsys.readouterr().out == ""


def test_svhn_is_what_torchvision_reads_and_its_tens_are_zeros(mine, monkeypatch):
    written = data_files.write_svhn(mine / "svhn")
    places = {
        split: ["", f"{split}_32x32.mat", _md5(mine / "svhn" / f"{split}_32x32.mat")]
        for split in ("train", "test")
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", places)
    found = load_data("svhn")
    assert found.train[1].tolist() == [4, 5, 6, 7, 8, 9, 0]
    assert found.train[0][6, 2, 3, 4] == written["train"][0][3, 4, 2, 6]
    for split, (pixels, labels) in (("train", found.train), ("test", found.test)):
        theirs = datasets.SVHN(mine / "svhn", split)
        assert np.array_equal(pixels, theirs.data)
        assert labels.tolist() == theirs.labels.tolist()


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + bytes(300)])
def test_a_damaged_mat_file_is_refused_by_name(mine, content):
    data_files.write_svhn(mine / "svhn")
    (mine / "svhn" / "test_32x32.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"test_32x32\.mat must be a MATLAB file with X and y"):
        load_data("svhn")


def _squared(path) -> np.ndarray:
    """Padded and resized by torchvision's transforms."""
    transforms = import_torchvision("torchvision.transforms")
    image = Image.open(path).convert("RGB")
    width, height = image.size
    across, down = (max(image.size) - width), (max(image.size) - height)
    padding = [across // 2, down // 2, across - across // 2, down - down // 2]
    square = transforms.Resize(32)(transforms.Pad(padding)(image))
    return np.asarray(square).transpose(2, 0, 1)


def test_food_is_read_once_and_is_what_torchvision_reads_squared(mine):
    folder = data_files.write_food(mine / "food-101")
    assert find_data("food101") is None
    calls = []
    fetch_data("food101", lambda done, total: calls.append((done, total)))
    assert calls == [(n, 6) for n in range(1, 7)]
    found = load_data("food101")
    for split, (pixels, labels) in (("train", found.train), ("test", found.test)):
        theirs = datasets.Food101(mine, split)
        order = sorted(range(len(theirs)), key=lambda n: theirs._labels[n])
        assert labels.tolist() == sorted(theirs._labels)
        for row, index in enumerate(order):
            assert np.array_equal(pixels[row], _squared(theirs._image_files[index]))
    assert found.train[0].double().std() > 20
    for path in folder.rglob("*.jpg"):
        path.unlink()
    assert load_data("food101").train[0].equal(found.train[0])


def test_food_is_normalized_with_the_statistics_of_imagenet(mine):
    data_files.write_food(mine / "food-101")
    fetch_data("food101")
    found = load_data("food101")
    transforms = import_torchvision("torchvision.transforms")
    usual = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    made = normalize_for(found, found.test[0], by=found.train[0])
    assert torch.allclose(made, usual(found.test[0] / 255), atol=1e-5)


def test_damaged_food_is_refused_by_name(mine):
    folder = data_files.write_food(mine / "food-101")
    (folder / "images" / "pho" / "3.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3\.jpg can't be read as an image"):
        fetch_data("food101")
    assert not list(mine.rglob("*.npz"))
    (folder / "meta" / "test.json").write_text(json.dumps({"pho": ["../../secret"]}))
    with pytest.raises(ValueError, match=r"test\.json must list images as class/number"):
        fetch_data("food101")
    (folder / images.PACKED_FOOD).write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="remove it and run `landscape data food101`"):
        load_data("food101")


def test_a_folder_of_ones_own_gives_its_classes_by_name(tmp_path):
    folder = data_files.write_image_folder(tmp_path / "pets")
    found = load_data(f"folder:{folder}")
    assert (found.name, found.classes) == ("pets", 2)
    assert found.train[1].tolist() == [0, 0, 1]
    assert found.test[1].tolist() == [0, 1]
    names = ("train/cat/a", "train/cat/b", "train/dog/a")
    for row, name in enumerate(names):
        assert np.array_equal(found.train[0][row], _squared(folder / f"{name}.png"))
    assert np.array_equal(found.test[0][1], _squared(folder / "test/dog/deeper/x.png"))


def test_a_folder_that_can_not_be_used_is_refused_with_what_it_must_have(tmp_path):
    with pytest.raises(ValueError, match=r"must have train/ and test/ .* got no train/"):
        load_data(f"folder:{tmp_path}")
    folder = data_files.write_image_folder(tmp_path / "pets")
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    with pytest.raises(ValueError, match="same classes, 2 at least, got cat, dog and cat, wolf"):
        load_data(f"folder:{folder}")
    (folder / "test" / "wolf" / "deeper" / "x.png").unlink()
    with pytest.raises(ValueError, match="must hold images by class"):
        load_data(f"folder:{folder}")


def test_a_padded_image_is_black_beside_the_picture(tmp_path):
    Image.new("RGB", (64, 32), (200, 100, 50)).save(tmp_path / "a.png")
    pixels = images.square_pixels(tmp_path / "a.png")
    assert pixels.shape == (3, 32, 32)
    assert (pixels[:, 9:23, 16].T == (200, 100, 50)).all()
    assert (pixels[:, :7] == 0).all()
    assert (pixels[:, 25:] == 0).all()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_archive_is_fetched_unpacked_and_found_again(mine, monkeypatch, tmp_path, name):
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    write = data_files.write_cifar10 if name == "cifar10" else data_files.write_cifar100
    write(tmp_path / "made" / kind.base_folder)
    archive = data_files.pack(tmp_path / "made" / kind.base_folder, tmp_path / kind.filename)
    monkeypatch.setattr(kind, "tgz_md5", "0" * 32)
    with data_files.served(tmp_path) as address:
        monkeypatch.setattr(kind, "url", f"{address}{archive.name}")
        with pytest.raises(ValueError, match="not found or corrupted"):
            fetch_data(name)
        assert list(mine.rglob("*")) == []
        monkeypatch.setattr(kind, "tgz_md5", _md5(archive))
        assert fetch_data(name) == mine / kind.base_folder
    assert {path.name for path in mine.iterdir()} == {kind.base_folder}
    assert load_data(name).why == f"found in {mine / kind.base_folder}"


def test_an_archive_that_leaves_its_folder_is_refused(mine, monkeypatch, tmp_path):
    archive = tmp_path / datasets.CIFAR10.filename
    (tmp_path / "secret").write_text("x")
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "secret", "../../../escaped")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", _md5(archive))
    with data_files.served(tmp_path) as address:
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}{archive.name}")
        with pytest.raises(ValueError, match=r"can't be downloaded .*outside the destination"):
            fetch_data("cifar10")
    assert not list(tmp_path.rglob("escaped"))


def test_svhn_and_food_are_fetched_too(mine, monkeypatch, tmp_path):
    data_files.write_svhn(tmp_path / "made")
    places = {}
    for split in ("train", "test"):
        path = tmp_path / "made" / f"{split}_32x32.mat"
        places[split] = [path.name, path.name, _md5(path)]
    with data_files.served(tmp_path / "made") as address:
        listed = {split: [address + name, *rest] for split, (name, *rest) in places.items()}
        monkeypatch.setattr(datasets.SVHN, "split_list", listed)
        assert fetch_data("svhn") == mine / "svhn"
    assert load_data("svhn").train[0].shape == (7, 3, 32, 32)
    data_files.write_food(tmp_path / "food-101")
    archive = data_files.pack(tmp_path / "food-101", tmp_path / "food-101.tar.gz")
    monkeypatch.setattr(datasets.Food101, "_MD5", _md5(archive))
    with data_files.served(tmp_path) as address:
        monkeypatch.setattr(datasets.Food101, "_URL", f"{address}{archive.name}")
        assert fetch_data("food101") == mine / "food-101"
    assert [path.name for path in (mine / "food-101").iterdir()] == [images.PACKED_FOOD]
    assert load_data("food101").train[0].shape == (4, 3, 32, 32)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "food101"])
def test_missing_data_are_not_fetched_unasked_and_the_error_says_how_to_get_them(mine, name):
    with pytest.raises(ValueError, match=f"`landscape data {name}` fetches it") as caught:
        load_data(name)
    assert str(mine) in str(caught.value)
    with pytest.raises(ValueError, match=r"can't be downloaded .no answer from") as caught:
        fetch_data(name)
    for told in (str(mine), "LANDSCAPE_DATA", "http", "unreachable"):
        assert told in str(caught.value)
    assert not mine.exists()


def test_the_list_says_what_is_where(mine):
    data_files.write_svhn(mine)
    rows = {name: (about, where) for name, about, where in list_data()}
    assert set(rows) == set(DATA)
    assert rows["svhn"][1].endswith(f"MB in {mine}")
    assert rows["cifar10"] == (
        "CIFAR-10: 50,000 + 10,000 images of 32×32, 10 classes",
        "not here; 170 MB to fetch",
    )


def test_names_of_data_and_models_are_those_that_settings_know():
    assert set(DATA) == {*SOURCES, "digits"} == {*PROBLEMS} - {"folder"}
    assert set(MODELS) == set(NETWORKS)


def test_models_take_images_of_their_sides_alone(mine, tmp_path):
    data_files.write_cifar10(mine)
    found = load_data("cifar10")
    with pytest.raises(ValueError, match=r"conv28 takes images of 28×28 pixels, but CIFAR-10 has"):
        make_problem(found, model="conv28", seed=0, train_samples=0)
    folder = data_files.write_fashion(mine / "fashion-mnist")
    with pytest.raises(ValueError, match=r"vit-tiny takes images of 32×32.*choose --model conv28"):
        PROBLEMS["fashion"](model="vit-tiny", train_samples=0)
    assert PROBLEMS["fashion"](model="resnet-20", train_samples=0).model is not None
    assert folder.is_dir()


def test_a_run_on_a_folder_is_rebuilt_from_what_it_stores(tmp_path):
    folder = data_files.write_image_folder(tmp_path / "pets")
    config = TrainConfig(data=f"folder:{folder}", model="resnet-20", train_samples=0, seed=3)
    problem, origin, told = problem_of(config)
    assert told == {"data": "pets", "data_source": str(folder)}
    again = PROBLEMS[origin["name"]](**json.loads(json.dumps(origin["options"])))
    first, second = problem.model.state_dict(), again.model.state_dict()
    assert all(first[name].equal(second[name]) for name in first)
    assert problem.train[0].equal(again.train[0])
