import math

import pytest
import torch
from torch import nn

from training.models import MODELS, build_model


def _same_bits(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_models_give_one_logit_per_class_for_their_images(name, channels):
    side = MODELS[name][0]
    model = build_model(name, classes=7, channels=channels, seed=0)
    assert model(torch.zeros(5, channels, side, side)).shape == (5, 7)
    assert model.training


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    models = [build_model(name, classes=10, channels=1, seed=seed) for seed in (5, 5, 6)]
    assert torch.get_rng_state().equal(before)
    assert _same_bits(models[0], models[1])
    assert not _same_bits(models[0], models[2])


def test_the_fashion_net_has_batchnorm_and_50000_parameters_and_no_dropout():
    model = build_model("conv28", classes=10, channels=1, seed=0)
    assert sum(p.numel() for p in model.parameters()) >= 50_000
    kinds = [type(module).__name__ for module in model.modules()]
    assert "BatchNorm2d" in kinds
    assert not any("Dropout" in kind for kind in kinds)


def test_weights_have_the_spread_of_he_initialization_and_biases_are_zero():
    model = build_model("conv28", classes=10, channels=1, seed=0)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers[1:]:
        gain = 1 if layer is layers[-1] else 2
        expected = math.sqrt(gain / layer.weight[0].numel())
        error = 4 / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=error)
    assert layers[-1].bias.abs().max() == 0


def test_batchnorm_starts_with_fresh_statistics():
    model = build_model("conv8", classes=10, channels=1, seed=0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean.eq(0).all()
            assert module.running_var.eq(1).all()
            assert module.weight.eq(1).all()
            assert module.num_batches_tracked == 0


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="conv28, conv8, mlp8, got 'conv82'"):
        build_model("conv82", classes=10, channels=1, seed=0)
