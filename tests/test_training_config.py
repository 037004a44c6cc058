import json
import subprocess
import sys
from dataclasses import asdict, fields, replace
from typing import get_args, get_type_hints

import pytest

from landscape import perturbations
from training.config import TrainConfig, settings_group
from training.methods import LABELS, SETTINGS
from training.optimizers import perturbation_of
from training.presets import PRESETS

NEEDED = {"usam": {"rho": 0.1}, "le-sam": {"rho": 0.5, "le_sam_sigma": 0.1}}


def test_every_preset_carries_its_own_name_and_method():
    for name, preset in PRESETS.items():
        data, _, rest = name.partition("-")
        method = rest.removeprefix("wrn-").removeprefix("pyramidnet-")
        config = preset()
        assert (config.preset, config.data) == (name, {"study": "fashion"}.get(data, data))
        assert config.method == {"aace": "sam+aace"}.get(method, method)


@pytest.mark.parametrize("data", ["digits", "fashion", "study"])
def test_presets_of_one_data_set_differ_by_method_alone(data):
    sgd = PRESETS[f"{data}-sgd"]()
    more = () if data == "study" else ("asam", "gsam")
    for method in ("sam", "aace", "vasso", "f-sam", *more):
        config = PRESETS[f"{data}-{method}"]()
        assert replace(config, preset="", method="sgd") == replace(sgd, preset="")


def test_fashion_presets_are_large_enough_to_show_something():
    for method in ("sgd", "sam", "aace"):
        config = PRESETS[f"fashion-{method}"]()
        assert config.train_samples >= 10_000
        assert config.steps >= 400
        assert config.steps // config.checkpoint_every >= 15


def test_presets_of_the_study_are_one_net_for_sixty_epochs_with_the_papers_schedule():
    config = PRESETS["study-aace"]()
    resolved = config.with_steps(config.train_samples)
    assert (resolved.steps, resolved.checkpoint_every) == (60 * 78, 78)
    assert (config.train_samples, config.model, config.batch_size) == (10_000, "conv28", 128)
    assert (config.lr, config.weight_decay, config.lr_drops) == (0.1, 5e-4, (0.3, 0.6, 0.8))
    assert (config.resolved_recipe, config.record) == ("flip", "every:10")
    radii = {m: PRESETS[f"study-{m}"]().resolved_rho for m in ("sgd", "sam", "aace", "vasso")}
    assert radii == {"sgd": None, "sam": 0.05, "aace": 0.2, "vasso": 0.2}


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "fashion", "food101"])
@pytest.mark.parametrize(
    ("net", "model", "batch_size"),
    [("wrn", "wrn-28-10", 256), ("pyramidnet", "pyramidnet-272-200", 64)],
)
def test_presets_of_the_paper_have_its_settings(data, net, model, batch_size):
    presets = {m: PRESETS[f"{data}-{net}-{m}"]() for m in ("sgd", "sam", "aace")}
    assert {m: preset.epochs for m, preset in presets.items()} == {
        "sgd": 400,
        "sam": 200,
        "aace": 200,
    }
    assert {m: preset.resolved_rho for m, preset in presets.items()} == {
        "sgd": None,
        "sam": 0.05,
        "aace": 0.2,
    }
    for preset in presets.values():
        assert (preset.model, preset.batch_size) == (model, batch_size)
        assert (preset.lr, preset.momentum, preset.weight_decay) == (0.1, 0.9, 5e-4)
        assert preset.train_samples == preset.evaluation_samples == 0
        assert preset.zero_head is (net == "wrn")
        assert preset.augment
        assert not preset.aace_normalize
        resolved = preset.with_steps(50_000)
        per_epoch = 50_000 // batch_size
        assert resolved.steps == preset.epochs * per_epoch
        drops = [0, 0.3, 0.6, 0.8]
        rates = [resolved.lr_at(round(drop * resolved.steps)) for drop in drops]
        assert rates == pytest.approx([0.1, 0.02, 0.004, 0.0008])
    recipes = {
        "cifar10": "crop-flip-cutout",
        "cifar100": "crop-flip-cutout",
        "fashion": "cutout",
        "food101": "flip-cutout",
    }
    assert {preset.resolved_recipe for preset in presets.values()} == {recipes[data]}


def test_small_presets_keep_their_recipes():
    assert PRESETS["fashion-sam"]().resolved_recipe == "flip"
    assert PRESETS["digits-sam"]().resolved_recipe == "shift"
    assert TrainConfig(data="folder:pets", model="resnet-18").resolved_recipe == "crop-flip"


def test_epochs_become_steps_of_full_batches():
    config = TrainConfig(steps=0, epochs=3, batch_size=64)
    resolved = config.with_steps(1000)
    assert (resolved.steps, resolved.epochs) == (3 * 15, 0)
    assert resolved.with_steps(5) == resolved


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


def test_methods_without_settings_mean_the_defaults_of_their_perturbations():
    vasso = perturbation_of(TrainConfig(method="vasso"))
    assert vasso == perturbations.vasso()
    assert perturbation_of(TrainConfig(method="f-sam")) == perturbations.friendly_sam()
    assert perturbation_of(TrainConfig(method="asam")) == perturbations.asam()
    assert perturbation_of(TrainConfig(method="gsam")) == perturbations.gsam()
    assert perturbation_of(TrainConfig(method="usam", rho=0.1)) == perturbations.usam(0.1)
    assert perturbation_of(TrainConfig(method="adamw")) is None
    falling = perturbation_of(TrainConfig(method="le-sam", rho=0.5, le_sam_sigma=0.1, steps=50))
    expected = perturbations.le_sam(0.1, 0.5)
    assert falling == replace(expected, schedule="cosine", schedule_steps=50)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method": "vasso", "vasso_theta": 0.4}, {"new_weight": 0.4}),
        ({"method": "f-sam", "f_sam_sigma": 0.5, "f_sam_lambda": 0.75}, {"sigma": 0.5}),
        ({"method": "f-sam", "f_sam_lambda": 0.75}, {"new_weight": 0.25}),
        ({"method": "asam", "asam_eta": 0.1}, {"eta": 0.1, "metric": "weights"}),
        ({"method": "gsam", "gsam_alpha": 0.1, "rho_min": 0.01}, {"alpha": 0.1, "rho_min": 0.01}),
        ({"method": "sam+aace", "aace_mode": "rand"}, {"mode": "rand"}),
        ({"method": "sam", "ascent_steps": 3}, {"ascent_steps": 3, "schedule": "constant"}),
        ({"method": "sam", "rho_schedule": "cosine", "steps": 70}, {"schedule_steps": 70}),
        ({"method": "gsam", "rho_schedule": "constant"}, {"schedule": "constant"}),
    ],
)
def test_settings_of_a_method_reach_its_perturbation(settings, expected):
    made = asdict(perturbation_of(TrainConfig(**settings)))
    assert {name: made[name] for name in expected} == expected


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
        {"zero_head": True},
        {"recipe": "flip"},
        {"batch_size": 32},
        {"method": "vasso"},
        {"m": 8},
        {"ascent_steps": 2},
        {"rho_schedule": "cosine"},
        {"update_label_smoothing": 0.1},
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
        ({"data": "cifar"}, "fashion, digits.*did you mean 'cifar10'"),
        ({"data": "folder:"}, "folder:PATH"),
        ({"data": "own", "model": "own"}, "augment must be false for own data"),
        ({"model": "own", "augment": False}, "must be both own or none"),
        ({"model": "resnet-19"}, "conv28.*did you mean 'resnet-1"),
        ({"steps": 5, "epochs": 5}, "exclude each other, got 5 and 5"),
        ({"steps": 0, "epochs": -1}, "epochs must be at least 0"),
        ({"method": "adam"}, "sgd, adamw, sam, usam, asam, sam\\+aace"),
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
        ({"method": "adamw", "rho": 0.1}, "adamw has no perturbation"),
        ({"method": "sam", "rho": 0.0}, "rho must be above 0"),
        ({"method": "sam", "rho": float("inf")}, "above 0 and finite"),
        ({"method": "usam"}, "usam has no default of rho"),
        ({"method": "le-sam", "rho": 0.1}, "le-sam has no default of le_sam_sigma"),
        ({"method": "sam", "vasso_theta": 0.9}, "vasso_theta does not belong to sam.*method vasso"),
        ({"method": "sam", "asam_eta": 0.1}, "needs method asam"),
        ({"method": "sgd", "m": 8}, "m does not belong to sgd"),
        ({"method": "vasso", "m": 8}, "m does not belong to vasso"),
        ({"method": "f-sam", "ascent_steps": 2}, "ascent_steps does not belong to f-sam"),
        ({"method": "vasso", "vasso_theta": 0.0}, r"vasso_theta must be in \(0, 1\]"),
        ({"method": "f-sam", "f_sam_lambda": 1.0}, r"f_sam_lambda must be in \[0, 1\)"),
        ({"method": "gsam", "gsam_alpha": 2.0}, "gsam_alpha"),
        ({"method": "gsam", "rho_min": 0.2}, "rho_min must be at most rho, 0.05"),
        ({"method": "sam", "rho_min": 0.01}, "rho_min needs rho_schedule"),
        ({"method": "sam", "rho_schedule": "step"}, "constant, lr or cosine"),
        ({"method": "sam+aace", "aace_mode": "random"}, "ada, rand or const"),
        ({"method": "sam", "m": 5}, "divisor of batch_size 128"),
        ({"method": "sam", "m": 1}, "divisor of batch_size 128 from 2 on"),
        ({"update_label_smoothing": 1.0}, "update_label_smoothing"),
        ({"method": "sam", "aace_normalize": True}, "need method sam\\+aace"),
        ({"method": "sam+aace", "aace_threshold": 2.0}, "aace_threshold"),
    ],
)
def test_settings_that_can_not_be_trained_with_are_refused_by_name(change, told):
    with pytest.raises(ValueError, match=told):
        TrainConfig(**change)


def test_every_method_has_the_label_that_runs_show():
    assert LABELS["sam+aace"] == "SAM+AACE"
    assert set(LABELS) == set(SETTINGS) == set(get_args(get_type_hints(TrainConfig)["method"]))
    for method in LABELS.keys() - {"sgd", "adamw", "sam+aace"}:
        made = perturbation_of(TrainConfig(method=method, **NEEDED.get(method, {})))
        assert LABELS[method] == made.word


def test_settings_load_without_torch():
    code = (
        "import sys; from training.presets import PRESETS; "
        "[preset() for preset in PRESETS.values()]; "
        "assert not {'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
