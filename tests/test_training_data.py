import gzip
import struct

import numpy as np
import pytest
import torch

from training import data, vision
from training.problems import PROBLEMS, make_problem


def _idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(np.uint8).tobytes()


def _torchvision(monkeypatch, mirror, fetch=None):
    """Put a torchvision in place whose FashionMNIST(root, download=True) calls `fetch(root)`."""

    class FashionMNIST:
        mirrors = (mirror.as_uri(),)

        def __init__(self, root, download):
            fetch(data.Path(root))

    module = type("module", (), {"FashionMNIST": FashionMNIST})
    monkeypatch.setattr(data, "import_torchvision", lambda name: module)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No data on this machine and no network; returns a folder that $LANDSCAPE_DATA names."""
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "debian")
    _torchvision(monkeypatch, tmp_path / "unreachable")
    monkeypatch.setattr(data, "__file__", str(tmp_path / "site" / "training" / "data.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.fixture
def small_fashion(monkeypatch):
    """Write a Fashion-MNIST of 40 + 20 images: `small_fashion(folder, packed=True)`."""
    sizes = {"train": 40, "test": 20}
    parts = {split: (*names[:2], sizes[split]) for split, names in data._PARTS.items()}
    monkeypatch.setattr(data, "_PARTS", parts)
    rng = np.random.default_rng(0)

    def write(folder, packed=True):
        folder.mkdir(parents=True)
        for images, labels, count in parts.values():
            pixels = rng.integers(0, 256, (count, 28, 28))
            for name, values in ((images, pixels), (labels, np.arange(count) % 10)):
                content = gzip.compress(_idx(values)) if packed else _idx(values)
                (folder / f"{name}{'.gz' if packed else ''}").write_bytes(content)
        return folder

    return write


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_idx_files_give_back_what_was_written(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    path = tmp_path / name
    path.write_bytes(gzip.compress(_idx(values)) if name.endswith(".gz") else _idx(values))
    read = data.read_idx(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, values)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut-short", _idx(np.zeros((3, 4, 5)))[:-1]),
        ("too-long", _idx(np.zeros((3, 4, 5))) + b"\0"),
        ("no-head", b"\0\0"),
        ("cut-in-its-head", _idx(np.zeros((3, 4, 5)))[:9]),
        ("floats", b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"\0" * 4),
        ("page.gz", b"<html>not here</html>"),
        ("cut-short.gz", gzip.compress(_idx(np.zeros((30, 40))))[:-12]),
    ],
)
def test_damaged_idx_files_are_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*fetch it again"):
        data.read_idx(tmp_path / name)


@pytest.mark.parametrize("below", ["", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_fashion_is_found_where_debian_or_torchvision_lay_it(nowhere, small_fashion, below, packed):
    folder = small_fashion(nowhere / below, packed)
    found = data.load_data("fashion")
    assert found.name == "Fashion-MNIST"
    assert found.source == str(folder)
    assert str(folder) in found.why
    assert found.train[0].shape == (40, 1, 28, 28)
    assert found.test[1].tolist() == [n % 10 for n in range(20)]


def test_ones_own_folder_is_taken_before_the_systems(nowhere, small_fashion):
    small_fashion(data.DEBIAN)
    assert data.load_data("fashion").source == str(data.DEBIAN)
    mine = small_fashion(nowhere)
    assert data.load_data("fashion").source == str(mine)


def test_missing_fashion_is_refused_with_where_it_was_looked_for_and_what_to_do(nowhere, tmp_path):
    with pytest.raises(ValueError, match="Fashion-MNIST is in none of") as caught:
        data.load_data("fashion")
    for told in (str(nowhere), str(data.DEBIAN), "no answer from", "LANDSCAPE_DATA", "digits-*"):
        assert told in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_digits_stand_in_for_missing_fashion_and_say_why(nowhere):
    chosen = data.choose_data()
    assert chosen.name == "digits"
    assert "Fashion-MNIST is in none of" in chosen.why
    assert "no answer from" in chosen.why


def test_damaged_fashion_is_not_passed_over_in_silence(nowhere, small_fashion):
    folder = small_fashion(nowhere)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(np.zeros(19))))
    for load in (lambda: data.load_data("fashion"), data.choose_data):
        with pytest.raises(ValueError, match="test set must be 20 images"):
            load()


def test_a_download_ends_in_the_data_folder_whole_or_not_at_all(
    nowhere, small_fashion, monkeypatch, tmp_path
):
    def broken(root):
        small_fashion(root / "FashionMNIST" / "raw")
        raise RuntimeError("File not found or corrupted.")

    (tmp_path / "mirror").touch()
    _torchvision(monkeypatch, tmp_path / "mirror", broken)
    with pytest.raises(ValueError, match="not found or corrupted"):
        data.load_data("fashion")
    assert [path for path in nowhere.rglob("*") if path.is_file()] == []

    def whole(root):
        small_fashion(root / "FashionMNIST" / "raw")

    _torchvision(monkeypatch, tmp_path / "mirror", whole)
    assert data.load_data("fashion").why == f"downloaded to {nowhere / 'fashion-mnist'}"
    assert data.load_data("fashion").why == f"found in {nowhere / 'fashion-mnist'}"
    assert len(list(nowhere.rglob("*"))) == 5


def test_data_folder_is_the_first_that_can_be_written(nowhere, monkeypatch, tmp_path):
    assert data.data_folder() == nowhere
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("LANDSCAPE_DATA", str(file / "below"))
    assert data.data_folder() == tmp_path / "cache" / "aace-landscape"


def test_whichever_data_this_machine_has_are_whole(monkeypatch, tmp_path):
    _torchvision(monkeypatch, tmp_path / "unreachable")
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
    with pytest.raises(ValueError, match="fashion or digits, got 'cifar'"):
        data.load_data("cifar")


@pytest.mark.parametrize("samples", [7, 30, 31])
def test_class_sizes_of_a_balanced_subset_differ_by_one_at_most(samples):
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 11)[torch.randperm(81)]
    index = data.balanced_subset(labels, samples, seed=0)
    sizes = labels[index].bincount(minlength=3)
    assert len(index.unique()) == samples
    assert sizes.max() - sizes.min() <= 1


def test_a_balanced_subset_is_drawn_from_the_seed_alone():
    labels = torch.arange(100) % 4
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = data.balanced_subset(labels, 20, seed=3)
    assert torch.get_rng_state().equal(before)
    assert first.equal(data.balanced_subset(labels, 20, seed=3))
    assert not first.equal(data.balanced_subset(labels, 20, seed=4))


def test_too_large_a_subset_is_refused_with_the_largest_that_works():
    labels = torch.tensor([0] * 50 + [1] * 20)
    with pytest.raises(ValueError, match="class 1 has 20 of the 70; use at most 40"):
        data.balanced_subset(labels, 41 + 1, seed=0)
    assert len(data.balanced_subset(labels, 40, seed=0)) == 40


def test_normalized_training_images_have_mean_zero_and_deviation_one_in_each_channel():
    generator = torch.Generator().manual_seed(0)
    by = torch.randint(0, 256, (50, 2, 6, 7), dtype=torch.uint8, generator=generator)
    by[:, 1] //= 4
    images = by.float().numpy()
    mean, std = images.mean((0, 2, 3), keepdims=True), images.std((0, 2, 3), keepdims=True)
    assert np.allclose(data.normalize(by, by=by), (images - mean) / std, atol=1e-5)
    other = data.normalize(by[:3] // 2, by=by)
    assert np.allclose(other, (images[:3] // 2 - mean) / std, atol=1e-5)


def _shifted(image: torch.Tensor, down: int, right: int, background: float) -> torch.Tensor:
    """Move the image one pixel at a time, as one would by hand."""
    moved = torch.full_like(image, background)
    height, width = image.shape[-2:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                moved[:, y, x] = image[:, y - down, x - right]
    return moved


def test_augmented_images_are_shifted_or_mirrored_originals_and_all_occur():
    image = torch.arange(1.0, 25.0).view(2, 3, 4)
    images = image.expand(600, 2, 3, 4)
    generator = torch.Generator().manual_seed(0)
    made = data.augment_batch(images, generator, shift=1, flip=True, background=-7.0)
    possible = [
        _shifted(base, down, right, -7.0)
        for base in (image, image.flip(-1))
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    counts = [sum(row.equal(candidate) for row in made) for candidate in possible]
    assert sum(counts) == 600
    assert min(counts) > 10  # 33 expected of each


def test_augmentation_without_shift_and_mirror_changes_nothing():
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    made = data.augment_batch(images, generator, shift=0, flip=False, background=0.0)
    assert made.equal(images)


def test_augmentation_comes_from_its_generator_alone():
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def made(seed):
        generator = torch.Generator().manual_seed(seed)
        return data.augment_batch(images, generator, shift=2, flip=True, background=0.0)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert made(1).equal(made(1))
    assert not made(1).equal(made(2))
    assert torch.get_rng_state().equal(before)


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
