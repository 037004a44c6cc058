"""`landscape data`, and `landscape train` on data of one's own, as a user calls them."""

import data_files
import pytest

from landscape.runs import Run
from training import data_folders
from training.config import DATA
from training.vision import import_torchvision


@pytest.fixture
def mine(monkeypatch, tmp_path):
    """The only folder that data are looked for in; there is no network."""
    datasets = import_torchvision("torchvision.datasets")
    address = (tmp_path / "unreachable" / "cifar-10-python.tar.gz").as_uri()
    monkeypatch.setattr(datasets.CIFAR10, "url", address)
    monkeypatch.setattr(data_folders, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(data_folders, "__file__", str(tmp_path / "site" / "training" / "x.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "mine"))
    return tmp_path / "mine"


def test_data_lists_every_set_and_where_it_is(landscape, mine):
    data_files.write_svhn(mine / "svhn")
    done = landscape("data")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert sorted(names) == sorted(DATA)
    assert lines[1 + lines.index(next(x for x in lines if x.startswith("svhn")))].endswith(
        f"MB in {mine / 'svhn'}"
    )
    assert "CIFAR-10: 50,000 + 10,000 images of 32×32" in done.stdout
    assert "not here; 170 MB to fetch" in done.stdout


def test_data_without_a_network_says_what_was_tried_and_what_to_do_by_hand(landscape, mine):
    done = landscape("data", "cifar10")
    assert done.returncode == 2
    for told in (
        "CIFAR-10 is in none of",
        str(mine),
        "no answer from file:",
        "cifar-10-python.tar.gz",
        "put the folder cifar-10-batches-py with data_batch_1 to data_batch_5 and test_batch",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        f"into {mine}",
        "LANDSCAPE_DATA",
    ):
        assert told in done.stderr
    assert done.stdout == ""
    assert not mine.exists()


def test_data_finds_what_is_there_and_knows_its_names(landscape, mine):
    data_files.write_cifar10(mine / "cifar-10-batches-py")
    done = landscape("data", "cifar10")
    assert done.returncode == 0, done.stderr
    assert f"in {mine / 'cifar-10-batches-py'}" in done.stdout
    assert "SVHN" not in done.stdout
    assert "scikit-learn" in landscape("data", "digits").stdout
    wrong = landscape("data", "cifr10")
    assert wrong.returncode == 2
    assert "did you mean 'cifar10'" in wrong.stderr


def test_food_is_made_small_by_the_command(landscape, mine):
    data_files.write_food(mine / "food-101")
    done = landscape("data", "food101")
    assert done.returncode == 0, done.stderr
    assert f"in {mine / 'food-101'}" in done.stdout
    assert (mine / "food-101" / "food101-32.npz").is_file()


SHORT = ("--steps", 2, "--batch-size", 2, "--train-samples", 0, "--checkpoint-every", 2)


def test_a_folder_of_images_is_trained_on_and_measured(landscape, tmp_path):
    data_files.write_image_folder(tmp_path / "pets")
    options = ("--data", "folder:pets", "--model", "resnet-20", *SHORT, "--method", "sam")
    done = landscape("train", *options, "--out", "a")
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "a")
    assert run.summary["data"] == "pets"
    assert run.config["recipe"] == "crop-flip"
    measured = landscape("profile", "a", "--points", 3, "--repeats", 1, "--samples", 0)
    assert measured.returncode == 0, measured.stderr


def test_a_problem_of_ones_own_is_trained_and_has_to_be_named_again(landscape, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from landscape import Problem\n\n\n"
        "def make():\n"
        "    generator = torch.Generator().manual_seed(0)\n"
        "    inputs = torch.randn(64, 3, generator=generator)\n"
        "    data = (inputs, (inputs.sum(1) > 0).long())\n"
        "    return Problem(\n"
        "        torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, data, data\n"
        "    )\n"
    )
    own = ("--problem", "mine.py:make")
    done = landscape("train", *own, "--steps", 60, "--batch-size", 16, "--out", "a")
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "a")
    assert run.summary["test_accuracy"] > 0.9
    assert run.problem == {"name": "mine.py:make", "options": {}}
    assert (run.config["data"], run.config["model"]) == ("own", "own")
    small = ("--points", 3, "--repeats", 1)
    refused = landscape("profile", "a", *small)
    assert refused.returncode == 2
    assert "name code of your own with --problem" in refused.stderr
    measured = landscape("profile", "a", *own, *small)
    assert measured.returncode == 0, measured.stderr
    wrong = landscape("train", *own, "--data", "digits", "--out", "b")
    assert wrong.returncode == 2
    assert "--data and --problem exclude each other" in wrong.stderr
