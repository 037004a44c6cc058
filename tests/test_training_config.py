import json
import subprocess
import sys
from dataclasses import asdict, fields, replace

import pytest

from landscape import perturbations
from training.config import PRESETS, TrainConfig, settings_group
from training.methods import LABELS
from training.optimizers import perturbation_of


def test_every_preset_carries_its_own_name_and_method():
    for name, preset in PRESETS.items():
        data, _, method = name.partition("-")
        config = preset()
        assert (config.preset, config.data) == (name, data)
        assert config.method == {"aace": "sam+aace"}.get(method, method)


@pytest.mark.parametrize("data", ["digits", "fashion"])
def test_presets_of_one_data_set_differ_by_method_alone(data):
    sgd, sam, aace = (PRESETS[f"{data}-{method}"]() for method in ("sgd", "sam", "aace"))
    assert replace(sam, preset="", method="sgd") == replace(sgd, preset="")
    assert replace(aace, preset="", method="sgd") == replace(sgd, preset="")


def test_fashion_presets_are_large_enough_to_show_something():
    for method in ("sgd", "sam", "aace"):
        config = PRESETS[f"fashion-{method}"]()
        assert config.train_samples >= 10_000
        assert config.steps >= 400
        assert config.steps // config.checkpoint_every >= 15


def test_settings_without_a_radius_mean_that_of_the_perturbation_itself():
    sgd = PRESETS["fashion-sgd"]()
    assert perturbation_of(sgd) is None
    assert perturbation_of(replace(sgd, method="sam")) == perturbations.sam()
    assert perturbation_of(replace(sgd, method="sam+aace")) == perturbations.aace()


def test_radius_and_form_of_the_perturbation_reach_it():
    config = TrainConfig(method="sam+aace", rho=0.7, aace_normalize=True, aace_threshold=0.25)
    expected = perturbations.aace(0.7, normalize=True, threshold=0.25)
    assert perturbation_of(config) == expected
    assert perturbation_of(TrainConfig(method="sam", rho=0.1)) == perturbations.sam(0.1)


def test_changing_the_method_never_keeps_the_radius_of_the_other():
    assert replace(PRESETS["fashion-sam"](), method="sam+aace").resolved_rho == 0.2
    assert replace(PRESETS["fashion-aace"](), method="sam").resolved_rho == 0.05


def test_lr_drops_by_its_factor_at_its_fractions_of_the_training():
    config = TrainConfig(steps=100, lr=1.0, lr_drops=(0.3, 0.6, 0.8), lr_factor=0.2)
    by_step = {step: config.lr_at(step) for step in (0, 29, 30, 59, 60, 79, 80, 99)}
    assert by_step == pytest.approx(
        {0: 1, 29: 1, 30: 0.2, 59: 0.2, 60: 0.04, 79: 0.04, 80: 0.008, 99: 0.008}
    )
    assert {replace(config, lr_drops=()).lr_at(step) for step in range(100)} == {1.0}


def test_runs_that_differ_by_seed_alone_are_one_group():
    config = PRESETS["digits-sam"]()
    group = settings_group(config)
    assert len(group) == 12
    assert settings_group(replace(config, seed=3)) == group
    assert settings_group(replace(config, device="cpu", preset="")) == group
    assert settings_group(replace(config, rho=0.05)) == group


@pytest.mark.parametrize(
    "change",
    [
        {"rho": 0.1},
        {"method": "sam+aace"},
        {"steps": 10},
        {"lr": 0.3},
        {"lr_drops": (0.5,)},
        {"weight_decay": 0.0},
        {"train_samples": 500},
        {"augment": False},
        {"precision": "bfloat16"},
        {"model": "mlp8"},
        {"batch_size": 32},
    ],
)
def test_any_setting_that_changes_what_is_learned_makes_another_group(change):
    config = PRESETS["digits-sam"]()
    assert settings_group(replace(config, **change)) != settings_group(config)


def test_stored_settings_are_plain_json_and_hold_every_field():
    stored = json.loads(json.dumps(PRESETS["digits-aace"]().to_json()))
    assert set(stored) == {field.name for field in fields(TrainConfig)}
    assert stored["rho"] == 0.2
    stored["lr_drops"] = tuple(stored["lr_drops"])
    assert asdict(TrainConfig(**stored)) == stored


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": "cifar"}, "fashion, digits"),
        ({"model": "resnet"}, "conv28"),
        ({"method": "adam"}, "sgd, sam, sam\\+aace"),
        ({"precision": "float16"}, "bfloat16"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"batch_size": 1}, "at least 2"),
        ({"seed": -1}, "seed"),
        ({"train_samples": -5}, "train_samples"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"lr_factor": 1.5}, "lr_factor"),
        ({"lr_drops": (0.6, 0.3)}, "rising"),
        ({"lr_drops": (0.5, 1.0)}, "between 0 and 1"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"rho": 0.1}, "sgd has no perturbation"),
        ({"method": "sam", "rho": 0.0}, "rho must be above 0"),
        ({"method": "sam", "aace_normalize": True}, "need method sam\\+aace"),
        ({"method": "sam+aace", "aace_threshold": 2.0}, "aace_threshold"),
    ],
)
def test_settings_that_can_not_be_trained_with_are_refused_by_name(change, told):
    with pytest.raises(ValueError, match=told):
        TrainConfig(**change)


def test_every_method_has_the_label_that_runs_show():
    assert LABELS == {"sgd": "SGD", "sam": "SAM", "sam+aace": "SAM+AACE"}


def test_settings_load_without_torch():
    code = (
        "import sys; from training.config import PRESETS; "
        "[preset() for preset in PRESETS.values()]; "
        "assert not {'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
