"""The commands that measure lines, planes and curves, as a user types them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from landscape.result_files import load_result

SMALL = ("--samples", "100", "--points", "3")


def stored(done):
    """The reports of a command called with --json."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def result(done):
    (report,) = stored(done)
    return load_result(report["path"])


def test_a_bare_flag_measures_the_test_set(run, landscape):
    surface = result(landscape("surface", run.path, *SMALL, "--test", "--json"))
    assert np.isfinite(surface.test_loss).all()
    assert surface.options["test"] is True
    plain = result(landscape("surface", run.path, *SMALL, "--test", "false", "--json"))
    assert plain.test_loss.size == 0


def test_eigenvalues_are_found_at_every_point(run, landscape):
    words = ("--samples", "50", "--points", "2", "--eigenvalues", "--json")
    surface = result(landscape("surface", run.path, *words))
    assert (surface.lambda_max >= surface.lambda_min).all()


@pytest.mark.parametrize("plane", ["gradient,asam", "sam,aace", "aace,sharpest", "hessian"])
def test_planes_of_one_run(run, landscape, plane):
    surface = result(landscape("surface", run.path, *SMALL, "--plane", plane, "--json"))
    assert surface.facts["plane"] == plane.replace(",", " and ")
    assert surface.options["plane"] == plane
    assert len(surface.path_step) == len(run.checkpoints)
    assert surface.facts["center_loss"] == pytest.approx(surface.loss[1, 1], rel=1e-12)


def test_a_profile_along_a_perturbation_reaches_w_plus_epsilon(run, landscape):
    words = ("--samples", "100", "--points", "3", "--plane", "aace", "--json")
    profile = result(landscape("profile", run.path, *words))
    assert profile.loss.shape == (1, 3)
    assert profile.mark_labels == ("w", "w + ε AACE")
    assert profile.mark_position.tolist() == [0.0, 1.0]
    assert profile.alpha[-1] > 1


def test_directions_of_ones_own_come_from_a_file(run, landscape, tmp_path):
    size = run.layout.size
    save_file({"direction_1": torch.ones(size)}, tmp_path / "ones.safetensors")
    words = ("--samples", "100", "--points", "3", "--json", "--plane")
    profile = result(landscape("profile", run.path, *words, "ones.safetensors"))
    assert np.isfinite(profile.loss).all()
    save_file({"direction_1": 2 * torch.ones(size)}, tmp_path / "ones.safetensors")
    other = result(landscape("profile", run.path, *words, "ones.safetensors"))
    assert not np.array_equal(other.loss, profile.loss)
    save_file({"direction_1": torch.ones(size + 1)}, tmp_path / "wrong.safetensors")
    done = landscape("profile", run.path, *words, "wrong.safetensors")
    assert done.returncode == 2
    assert "wrong.safetensors" in done.stderr


def test_three_runs_are_marked_on_their_plane_with_their_own_losses(three, landscape):
    paths = [run.path for run in three]
    words = ("--samples", "100", "--plane", "minima", "--points", "9", "--json")
    surface = result(landscape("surface", *paths, *words, "--bn", "interpolated"))
    assert [name.split()[0] for name in surface.mark_labels] == ["a", "b", "c"]
    assert surface.facts["unit"] == "weight distance"
    assert surface.facts["runs"] == [run.id for run in three]
    ends = [i for i in range(len(surface.path_step)) if surface.path_step[i] == 30]
    assert np.allclose(surface.path_position[ends], surface.mark_position, atol=1e-4)
    assert np.allclose(surface.path_off_plane[ends], 0, atol=1e-3)
    assert surface.path_labels == ("a", "b", "c")


def test_paths_of_several_runs_lie_on_their_joint_plane(three, landscape):
    paths = [run.path for run in three[:2]]
    surface = result(landscape("surface", *paths, *SMALL, "--plane", "joint", "--json"))
    assert surface.path_run.tolist() == [0] * 4 + [1] * 4
    low, high = surface.path_position.min(0), surface.path_position.max(0)
    assert surface.alpha[0] < low[0] < high[0] < surface.alpha[-1]
    assert surface.beta[0] < low[1] < high[1] < surface.beta[-1]


def test_barriers_and_curve_lie_in_the_folder_joint_and_are_found_again(three, landscape):
    paths = [run.path for run in three]
    barrier = stored(landscape("barrier", *paths, "--samples", "100", "--points", "3", "--json"))
    words = ("--samples", "100", "--points", "5", "--updates", "5", "--json")
    curve = stored(landscape("curve", *paths[:2], *words))
    for report in (*barrier, *curve):
        assert report["path"].startswith(str(three[0].path.parent / "joint"))
        assert not report["found"]
    again = stored(landscape("barrier", *paths, "--samples", "100", "--points", "3", "--json"))
    assert again[0]["found"]
    assert again[0]["digest"] == barrier[0]["digest"]
    swapped = stored(
        landscape("barrier", *paths[::-1], "--samples", "100", "--points", "3", "--json")
    )
    assert not swapped[0]["found"]


def test_a_dry_run_tells_points_time_and_memory_and_measures_nothing(run, landscape):
    done = landscape("surface", run.path, "--points", "11", "--samples", "100", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "121 points of 1 batches (100 samples)" in done.stdout
    assert "MB of memory" in done.stdout
    assert not list((run.path / "results").glob("*"))
    (cost,) = stored(
        landscape("profile", run.path, "--samples", "100", "--dry-run", "--json", "--test")
    )
    assert cost["points"] == 21 * 5
    assert cost["samples"] == 200
    assert cost["seconds"] >= cost["points"] * cost["seconds_point"] - 0.1


def test_a_profile_along_one_direction_costs_no_repeats(run, landscape):
    words = ("--samples", "100", "--plane", "aace", "--dry-run", "--json")
    (cost,) = stored(landscape("profile", run.path, *words))
    assert cost["points"] == 21


def test_the_chunk_of_a_barrier_is_heard(three, landscape):
    done = landscape("barrier", three[0].path, three[1].path, "--chunk", "0")
    assert done.returncode == 2
    assert "chunk must be at least 1" in done.stderr


def test_rise_finds_the_extent(run, landscape):
    surface = result(landscape("surface", run.path, *SMALL, "--rise", "3", "--json"))
    center = surface.facts["center_loss"]
    assert max(surface.loss[0, 1], surface.loss[2, 1]) == pytest.approx(3 * center, rel=0.3)


def test_two_shares_make_the_surface_of_one_process(run, landscape):
    words = ("--samples", "100", "--points", "5", "--chunk", "50", "--json")
    whole = stored(landscape("surface", run.path, *words))
    for path in (run.path / "results").glob("surface-*.h5"):
        path.unlink()
    (half,) = stored(landscape("surface", run.path, *words, "--shard", "0/2"))
    assert half["points"] == 13
    assert half["of"] == 25
    done = stored(landscape("surface", run.path, *words, "--shard", "1/2"))
    assert done[0]["digest"] == whole[0]["digest"]
    assert not list((run.path / "results").glob("*.part"))


def test_a_share_says_that_others_measure_theirs(run, landscape):
    done = landscape("surface", run.path, "--samples", "100", "--points", "5", "--shard", "0/2")
    assert done.returncode == 0
    assert "13 of 25 points are there; other processes measure theirs" in done.stdout


def test_weights_of_ones_own_have_barriers_too(landscape, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom landscape import Problem\n\n\n"
        "def make():\n"
        "    inputs = torch.arange(6.0).reshape(6, 1)\n"
        "    return Problem(torch.nn.Linear(1, 1), torch.nn.MSELoss(), (inputs, inputs))\n"
    )
    for name, value in (("low", -1.0), ("high", 3.0)):
        state = {"weight": torch.tensor([[value]]), "bias": torch.zeros(1)}
        save_file(state, tmp_path / f"{name}.safetensors")
    words = ("--state", "low.safetensors", "high.safetensors", "--points", "3", "--json")
    (report,) = stored(landscape("barrier", "--problem", "mine.py:make", *words))
    barrier = load_result(tmp_path / report["path"])
    assert barrier.names == ("low", "high")
    assert barrier.loss[0, 1, 2] == pytest.approx(0, abs=1e-9)  # between -1 and 3 lies 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("surface", "RUN", "--plane", "gradent,aace"), "got 'gradent' (did you mean 'gradient'?)"),
        (("surface", "RUN", "--plane", "vasso,sam"), "plane can't be of vasso, whose direction"),
        (("surface", "RUN", "--plane", "usam,sam"), "and usam with a radius, got 'usam'"),
        (("surface", "RUN", "--plane", "gradient"), "two directions, as gradient,aace"),
        (("profile", "RUN", "--plane", "trajectory"), "landscape surface"),
        (("surface", "RUN", "--plane", "minima"), "needs 3 runs"),
        (("barrier", "RUN"), "at least 2 runs, got 1"),
        (("curve", "RUN"), "curve needs 2 runs"),
        (("barrier", "RUN", "RUN"), "each run may stand once"),
        (("surface", "RUN", "--rise", "0.5"), "rise must be a factor above 1"),
        (("surface", "RUN", "--rise", "2", "--extent", "1"), "extent or rise, not both"),
        (("surface", "RUN", "--extent", "0"), "extent must be above 0"),
        (("surface", "RUN", "--ignore", "biass"), "did you mean 'bias'?"),
        (("surface", "RUN", "--parameters", "layer9.*"), "layer9.*"),
        (("surface", "RUN", "--bn", "interpolated"), "running statistics of their own"),
        (("surface", "RUN", "--shard", "2/2"), "0/2 to 1/2"),
        (("surface", "RUN", "--shard", "half"), "like 0/8"),
        (("surface", "RUN", "--tolerance", "0.1", "--shard", "0/2"), "can't be shared out"),
        (("surface", "RUN", "--chunk", "0"), "chunk must be"),
        (("surface", "RUN", "--device", "cuda:77"), "--device must be one that is here"),
        (("surface", "RUN", "--precision", "bf16"), "bfloat16"),
        (("surface", "--problem", "nowhere.py:make", "--plane", "minima"), "3 files by --state"),
        (("import", "nowhere.h5"), "nowhere.h5"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_left(run, landscape, words, told):
    done = landscape(*(str(run.path) if word == "RUN" else word for word in words))
    assert done.returncode == 2, done.stdout
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((run.path / "results").glob("*.h5"))
