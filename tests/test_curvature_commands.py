"""The commands of curvature, as a user types them: what they store, refuse, and survive."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from landscape.objectives import Objective
from landscape.result_files import load_result
from landscape.subjects import select_samples
from training.problems import PROBLEMS

FEW = ("--samples", "60", "--json")
SPECTRUM = (*FEW, "--k", "2", "--probes", "0", "--trace-probes", "0")


def results(done):
    """The results of a command called with --json, by kind."""
    assert done.returncode == 0, done.stderr
    return {report["kind"]: load_result(report["path"]) for report in json.loads(done.stdout)}


def refused(done, *words):
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def in_a_process(run, *words, patch="pass"):
    """A command in a process of its own, which saves at every turn if patched so."""
    code = f"import sys; from landscape.__main__ import main; {patch}; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(pattern, folder, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not list(Path(folder).glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no {pattern} in {folder}"
        time.sleep(0.02)


def test_a_spectrum_is_eigenpairs_density_and_trace_of_one_operator(run, landscape):
    words = (*FEW, "--k", "3", "--probes", "2", "--steps", "6", "--trace-probes", "4")
    found = results(landscape("spectrum", run.path, *words))
    assert list(found) == ["spectrum", "density", "trace"]
    spectrum, density, trace = found.values()
    assert spectrum.eigenvectors.shape == (3, run.layout.size)
    kept = spectrum.eigenvalues[spectrum.within]
    np.testing.assert_allclose(density.outliers, kept, rtol=1e-5)
    assert density.nodes.shape == (2, 6)
    assert len(trace.samples) == 4
    assert len({result.facts["operator"] for result in found.values()}) == 1
    assert spectrum.facts["product"]
    assert abs(density.facts["trace"] - trace.trace) < 5 * np.hypot(
        density.facts["trace_error"], trace.standard_error
    )


def test_without_deflation_the_density_does_not_ask_for_eigenpairs(run, landscape):
    words = (*FEW, "--probes", "1", "--steps", "4", "--trace-probes", "0", "--deflate", "false")
    first = json.loads(landscape("spectrum", run.path, *words, "--k", "1").stdout)
    other = json.loads(landscape("spectrum", run.path, *words, "--k", "2").stdout)
    assert [report["found"] for report in other] == [False, True]
    assert first[1]["path"] == other[1]["path"]
    assert load_result(other[1]["path"]).outliers.size == 0


def test_operators_differ_and_are_stored_apart(run, landscape, tmp_path):
    tops = {}
    for operator in ("hessian", "ggn", "moment"):
        found = results(landscape("spectrum", run.path, *SPECTRUM, "--operator", operator))
        tops[found["spectrum"].facts["operator"].split()[0]] = found["spectrum"].eigenvalues[0]
    assert set(tops) == {"Hessian", "generalized", "gradient"}
    for operator, word in (("hessian", "Hessian of"), ("ggn", "Gauss-Newton")):
        words = ("--operator", operator, "--out", tmp_path / operator, "--format", "svg")
        assert landscape("figure", run.path, "spectrum", *words).returncode == 0
        assert word in (tmp_path / f"{operator}.json").read_text()
    assert len(set(np.round(list(tops.values()), 6))) == 3


def test_the_block_of_named_parameters_is_smaller(run, landscape):
    whole = results(landscape("spectrum", run.path, *SPECTRUM))["spectrum"]
    name = run.layout.entries[-1].name
    part = results(landscape("spectrum", run.path, *SPECTRUM, "--parameters", name))["spectrum"]
    assert part.eigenvectors.shape == (2, run.layout.entries[-1].size)
    assert part.facts["parameters_of"] == name
    assert part.eigenvalues[0] < whole.eigenvalues[0]


def test_weight_decay_moves_every_eigenvalue(run, landscape):
    plain = results(landscape("spectrum", run.path, *SPECTRUM, "--which", "LA"))["spectrum"]
    words = ("--which", "LA", "--weight-decay", "2.5")
    moved = results(landscape("spectrum", run.path, *SPECTRUM, *words))["spectrum"]
    np.testing.assert_allclose(moved.eigenvalues, plain.eigenvalues + 2.5, rtol=2e-3)


def test_the_aace_surface_has_a_hessian_of_its_own(run, landscape):
    task = results(landscape("spectrum", run.path, *SPECTRUM))["spectrum"]
    aace = results(landscape("spectrum", run.path, *SPECTRUM, "--loss", "aace"))["spectrum"]
    assert aace.facts["loss"] != task.facts["loss"]
    assert abs(aace.eigenvalues[0] - task.eigenvalues[0]) > 0.01 * task.eigenvalues[0]


def test_adam_preconditions_by_its_own_state(run, landscape, tmp_path):
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    optimizer = torch.optim.Adam(problem.model.parameters())
    inputs, targets = problem.train
    problem.loss_fn(problem.model(inputs[:8]), targets[:8]).backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "adam.pt")
    words = ("--adam", tmp_path / "adam.pt")
    found = results(landscape("spectrum", run.path, *SPECTRUM, *words))["spectrum"]
    assert "preconditioned" in found.facts["operator"]
    refused(landscape("spectrum", run.path, *SPECTRUM, "--adam", "no.pt"), "no.pt: no such file")
    (tmp_path / "text.pt").write_text("no state")
    refused(landscape("spectrum", run.path, *SPECTRUM, "--adam", tmp_path / "text.pt"), "text.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--operator", "fisher"), "--operator must be one of hessian, ggn, moment"),
        (("--parameters", "fc9.*"), "fc9.*"),
        (("--tolerance", "0"), "tolerance must be a number above 0"),
        (("--weight-decay", "-1"), "weight_decay must be 0 or a number above"),
        (("--trace-probes", "2", "--trace-method", "hutch++"), "at least 3"),
        (("--k", "0"), "k must be at least 1"),
        (("--bn", "recomputed"), "--bn must be one of frozen, batch"),
        (("--method", "retain"), "method must be one of"),
        (("--memory", "-5"), "memory must be"),
        (("--max-vectors", "1"), "max_vectors must"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_stored(run, landscape, words, said):
    refused(landscape("spectrum", run.path, *SPECTRUM, *words), said)
    assert not list(run.path.glob("results/*.h5"))


def test_sharpness_prints_one_table_with_bounds_and_audit(run, landscape):
    words = ("--samples", "60", "--ascent-steps", "2", "--pairs", "2", "--probes", "2")
    done = landscape("sharpness", run.path, *words, "--chunks", "1", "--m", "30")
    assert done.returncode == 0, done.stderr
    (file,) = run.path.glob("results/sharpness-*.h5")
    sharpness = load_result(file)
    for name, bound in zip(sharpness.names, sharpness.lower_bound, strict=True):
        assert name in done.stdout
        assert bound == any(word in name for word in ("SAM", "m-sharpness", "worst case")), name
    assert len(re.findall(r"^ +≥", done.stdout, re.MULTILINE)) == sharpness.lower_bound.sum()
    assert "audit 1: " in done.stdout
    assert "score" not in done.stdout.lower()


def test_stability_is_that_of_the_run_and_needs_one(run, landscape, tmp_path):
    words = ("--samples", "60", "--tolerance", "0.05", "--json")
    found = results(landscape("stability", run.path, *words))["stability"]
    assert found.update.startswith("AACE ρ=")
    assert found.facts["bn"] == "batch"
    assert found.facts["batch_size"] == run.config["batch_size"] or found.facts["batch_size"] == 60
    (tmp_path / "own.py").write_text(
        "from training.problems import PROBLEMS\n"
        f"def make(): return PROBLEMS[{run.problem['name']!r}](**{run.problem['options']!r})\n"
    )
    own = ("--problem", f"{tmp_path / 'own.py'}:make")
    refused(landscape("stability", *own, *words), "a run and its optimizer")


def test_curvature_follows_the_run(run, landscape):
    words = ("--samples", "60", "--k", "2", "--probes", "2", "--checkpoints", "first,last")
    found = results(landscape("curvature", run.path, *words, "--json"))["curvature"]
    assert found.step.tolist() == [0, 60]
    assert found.direction_names == ("gradient", "sam", "aace")
    assert found.edge.size == 0
    assert "AACE" in found.edge_label
    assert found.trace.shape == (2,)
    printed = landscape("curvature", run.path, *words).stdout
    assert "measured before" in printed
    assert re.search(r"^ *step +λ1", printed, re.MULTILINE)


def test_eigenvalues_of_a_run_are_those_of_the_plain_product(run, landscape):
    spectrum = results(landscape("spectrum", run.path, *SPECTRUM))["spectrum"]
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    data = select_samples(problem.train, samples=60, seed=0)
    objective = Objective(problem.model, problem.loss_fn, data)
    checkpoint = run.checkpoint(run.checkpoints[-1])
    objective = objective.at(
        checkpoint.theta, {n: torch.as_tensor(b) for n, b in checkpoint.buffers.items()}
    )
    for value, vector in zip(spectrum.eigenvalues, spectrum.eigenvectors, strict=True):
        product = objective.hessian_vector(torch.tensor(vector))
        rest = float((product - value * torch.tensor(vector)).norm())
        assert rest <= 2e-3 * abs(spectrum.eigenvalues[0])


LONG = ("--samples", "200", "--k", "30", "--tolerance", "1e-5", "--probes", "0")
SAVING = "from landscape import savepoints; savepoints._EVERY = 0; savepoints._SHARE = 1e9"


def test_a_killed_spectrum_goes_on_and_ends_with_the_same_bits(run, tmp_path):
    words = ("spectrum", run.path, *LONG, "--trace-probes", "0", "--json")
    killed = in_a_process(run, *words, patch=SAVING)
    wait_for("results/spectrum-*.part/savepoint.h5", run.path, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not list(run.path.glob("results/spectrum-*.h5"))
    resumed = in_a_process(run, *words)
    (report,) = json.loads(resumed.communicate()[0])
    assert not report["found"]
    assert not list(run.path.glob("results/*.part"))
    undisturbed = in_a_process(run, *words, "--again")
    (again,) = json.loads(undisturbed.communicate()[0])
    assert report["digest"] == again["digest"]


def test_after_ctrl_c_what_is_known_is_shown_and_not_stored(run):
    words = ("spectrum", run.path, *LONG, "--trace-probes", "0")
    process = in_a_process(run, *words, patch=SAVING)
    wait_for("results/spectrum-*.part/savepoint.h5", run.path, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "interrupted and not stored" in out
    assert "converged False" in out
    assert "Traceback" not in err
    assert not list(run.path.glob("results/*.h5"))
    done = in_a_process(run, *words)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert len(list(run.path.glob("results/spectrum-*.h5"))) == 1


def test_two_ranks_find_what_one_finds(run, tmp_path):
    words = ["spectrum", run.path, "--samples", "300", "--k", "2", "--bn", "batch", "--probes", "0"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launch, "landscape", *map(str, words), "--trace-probes", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("spectrum of a at step 60") == 1
    shared = {kind: load_result(file) for kind, file in stored(run).items()}
    alone = in_a_process(run, *words, "--trace-probes", "3", "--again")
    _, err = alone.communicate()
    assert alone.returncode == 0, err
    single = {kind: load_result(file) for kind, file in stored(run).items()}
    np.testing.assert_allclose(
        shared["spectrum"].eigenvalues, single["spectrum"].eigenvalues, rtol=1e-5
    )
    np.testing.assert_allclose(shared["trace"].samples, single["trace"].samples, rtol=1e-5)
    assert shared["spectrum"].facts["ranks"] == 2


def stored(run):
    return {file.name.partition("-")[0]: file for file in run.path.glob("results/*.h5")}


def test_ranks_are_refused_where_they_would_measure_the_same_twice(run, landscape):
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    done = landscape("sharpness", run.path, "--samples", "60", env={**env, "MASTER_PORT": "29511"})
    refused(done, "start sharpness as one process")
