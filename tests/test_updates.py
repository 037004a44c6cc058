import numpy as np
import pytest
import torch
from torch import nn

from landscape import SAM
from landscape.modules import flatten, layout_of
from landscape.perturbations import aace, asam, gsam, le_sam, sam, vasso
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.updates import Update, learning_rate_at, perturbation_of_run, update_of_run
from landscape.writers import RunWriter


def test_update_is_that_of_the_runs_training(run):
    update = update_of_run(run, 15)
    assert update.perturbation == aace(0.2)
    assert update.learning_rate == run.steps["lr"][15] == 0.05
    assert (update.momentum, update.weight_decay) == (0.9, 5e-4)
    assert (update.dampening, update.nesterov) == (0.0, False)
    assert update.left_out == ("augmentation",)
    assert update.label == "AACE ρ=0.2, lr 0.05, momentum 0.9, weight decay 0.0005"
    assert update_of_run(run, 18).learning_rate == run.steps["lr"][18] < run.steps["lr"][17]
    assert update_of_run(run, 60).learning_rate == run.steps["lr"][59]
    assert np.isnan(learning_rate_at(run, 62))
    with pytest.raises(ValueError, match="learning rate at step 62 must be known"):
        update_of_run(run, 62)


@pytest.mark.parametrize(
    "perturbation", [None, sam(0.3), aace(0.1, threshold=0.2), vasso(), asam(), le_sam(0.1, 0.5)]
)
def test_update_of_a_run_of_ones_own_is_what_its_optimizer_was_told(tmp_path, perturbation):
    model = nn.Linear(2, 2)
    options = {"lr": 0.3, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}
    optimizer = torch.optim.SGD(model.parameters(), **options)
    if perturbation is not None:
        optimizer = SAM(
            model.named_parameters(), torch.optim.SGD, perturbation=perturbation, **options
        )
    with Recorder(tmp_path / "run", model, optimizer, checkpoint_every=1) as recorder:
        recorder.step(1.0)
    assert perturbation_of_run(Run(tmp_path / "run")) == perturbation
    update = update_of_run(Run(tmp_path / "run"), 0)
    assert update == Update(
        learning_rate=0.3,
        momentum=0.8,
        nesterov=True,
        weight_decay=0.01,
        perturbation=perturbation,
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"method": "sgd", "momentum": 0.9, "weight_decay": 0.1}, None),
        ({"method": "sam", "rho": 0.1, "momentum": 0.9, "weight_decay": 0.1}, sam(0.1)),
        (
            {
                "method": "sam+aace",
                "rho": 0.4,
                "aace_normalize": True,
                "aace_threshold": 0.1,
                "momentum": 0.9,
                "weight_decay": 0.1,
            },
            aace(0.4, normalize=True, threshold=0.1),
        ),
    ],
)
def test_update_of_a_run_without_record_of_its_optimizer_is_its_config(tmp_path, config, expected):
    run = written(tmp_path / "run", config)
    assert update_of_run(run, 0) == Update(
        learning_rate=0.25, momentum=0.9, weight_decay=0.1, perturbation=expected
    )


def test_optimizers_whose_map_is_unknown_are_refused(tmp_path):
    model = nn.Linear(2, 2)
    for name, optimizer in (
        ("adam", torch.optim.Adam(model.parameters())),
        ("up", torch.optim.SGD(model.parameters(), lr=0.1, maximize=True)),
    ):
        with Recorder(tmp_path / name, model, optimizer, checkpoint_every=1) as recorder:
            recorder.step(1.0)
    with pytest.raises(ValueError, match="known for SGD, bare or inside SAM, got Adam in"):
        update_of_run(Run(tmp_path / "adam"), 0)
    with pytest.raises(ValueError, match="got SGD with maximize"):
        update_of_run(Run(tmp_path / "up"), 0)
    with pytest.raises(ValueError, match="got neither an optimizer nor a method"):
        update_of_run(written(tmp_path / "bare", {"lr": 0.1}), 0)


def written(path, config):
    """A run of one step at learning rate 0.25, by hand."""
    model = nn.Linear(2, 2)
    writer = RunWriter.create(
        path,
        config=config,
        problem={"name": "x", "options": {}},
        layout=layout_of(model),
        method="x",
    )
    writer.append({"step": 0, "lr": 0.25})
    writer.save_checkpoint(0, flatten(model).numpy(), {})
    writer.finish()
    return Run(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": 0.1, "momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"learning_rate": 0.1, "weight_decay": -1}, "weight_decay must be >= 0"),
        ({"learning_rate": 0.1, "dampening": 2.0}, "dampening must be in"),
        ({"learning_rate": 0.1, "nesterov": True}, "Nesterov's momentum needs momentum"),
    ],
)
def test_updates_that_torch_refuses_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Update(**settings)


def test_the_radius_of_an_update_is_that_of_its_step(tmp_path):
    model = nn.Linear(2, 2)
    optimizer = SAM(model.parameters(), torch.optim.SGD, perturbation=gsam(0.5), lr=0.4)
    with Recorder(tmp_path / "run", model, optimizer, checkpoint_every=1) as recorder:
        for rate in (0.4, 0.1, 0.0):
            optimizer.param_groups[0]["lr"] = rate
            recorder.step(1.0)
    run = Run(tmp_path / "run")
    radii = [update_of_run(run, step).perturbation.rho for step in (0, 1)]
    assert radii == pytest.approx([0.5, 0.125])
    assert perturbation_of_run(run) == gsam(0.5)
