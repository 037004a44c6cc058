"""Training with `compile`: the same updates to rounding, two graphs, names and files as ever."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training_methods import make_problem
from torch._dynamo.utils import counters

from landscape.ranks import Ranks
from landscape.runs import Run
from training.config import TrainConfig, settings_group
from training.jobs import prepare
from training.loop import resume, train
from training.updates import make_update

pytestmark = pytest.mark.filterwarnings(  # torch's own, when it first compiles
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)

CONFIG = TrainConfig(
    data="own",
    model="own",
    augment=False,
    method="sam",
    batch_size=12,
    steps=8,
    checkpoint_every=4,
    compile=True,
    device="cpu",
)


def make_job(**changes):
    return prepare(replace(CONFIG, **changes), ("small", make_problem()), Ranks())[0]


def make_updates(job, count):
    rows = []
    for _ in range(count):
        rows.append(make_update(job, *next(job.batches)[1:]))
        job.step += 1
    return rows


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_passes_at_the_weights_and_beside_them_have_one_graph_each(precision):
    torch.compiler.reset()
    counters.clear()
    job = make_job(precision=precision)
    make_updates(job, 1)
    assert counters["stats"]["unique_graphs"] == 2
    job.problem.model.eval()
    with torch.no_grad():
        job.problem.model(job.problem.test[0])  # an evaluation goes past what is compiled
    job.problem.model.train()
    make_updates(job, 4)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_compiled_updates_are_the_eager_ones_to_rounding():
    jobs = [make_job(compile=compiled) for compiled in (True, False)]
    rows = [make_updates(job, 4) for job in jobs]
    for compiled, eager in zip(*rows, strict=True):
        for name in ("loss", "perturbed_loss", "displacement", "gradient"):
            torch.testing.assert_close(compiled[name], eager[name], rtol=1e-4, atol=1e-5)
    states = [job.problem.model.state_dict() for job in jobs]
    assert list(states[0]) == list(states[1])  # no _orig_mod
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


def test_a_compiled_run_that_is_taken_up_again_has_the_bits_of_an_undisturbed_one(tmp_path):
    def stop(done, total):
        if done == 6:
            raise KeyboardInterrupt

    own = ("small", make_problem())
    whole = Run(train(CONFIG, tmp_path / "whole", own=own))
    make_updates(make_job(batch_size=8), 1)  # leaves no trace in what is compiled after it
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path / "parts", own=("small", make_problem()), progress=stop)
    parts = Run(resume(tmp_path / "parts", own=("small", make_problem())))
    assert whole.config["compile"] is True
    for name, column in whole.steps.items():
        np.testing.assert_array_equal(parts.steps[name], column, err_msg=name)
    for step in (0, 4, 8):
        np.testing.assert_array_equal(parts.checkpoint(step).theta, whole.checkpoint(step).theta)


def test_without_a_compiler_it_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler --fast")
    with pytest.raises(ValueError, match=r"compile needs a C\+\+ compiler.*no-such-compiler"):
        train(CONFIG, tmp_path / "run", own=("small", make_problem()))
    assert not (tmp_path / "run").exists()


def test_compiled_runs_repeat_the_same_experiment():
    assert settings_group(CONFIG) == settings_group(replace(CONFIG, compile=False))
