import math

import pytest
import torch
from torch import nn

from training.models import MODELS, build_model


def _same_bits(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)


# Half a gigabyte to build; its kind is tested on its smaller siblings, its size on its own.
SMALL = [name for name in MODELS if name != "wrn-28-10"]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_models_give_one_logit_per_class_for_their_images(name, channels):
    side = MODELS[name][0]
    model = build_model(name, classes=7, channels=channels, seed=0)
    assert model(torch.zeros(5, channels, side, side)).shape == (5, 7)
    assert model.training


@pytest.mark.parametrize("name", SMALL)
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


@pytest.mark.parametrize(
    ("name", "parameters"),
    # Published counts; ResNets with option A have 2,752 fewer: 269,722 and 853,018.
    [
        ("resnet-20", 272_474),
        ("resnet-56", 855_770),
        ("wrn-16-4", 2_748_890),
        ("wrn-28-2", 1_467_610),
        ("wrn-28-10", 36_479_194),
    ],
)
def test_residual_nets_have_the_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = MODELS[name][1](10, 3)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", ["resnet-20", "resnet-56", "wrn-16-4", "wrn-28-2"])
def test_residual_nets_are_as_deep_as_their_name_says_and_end_on_8_by_8_images(name):
    """He counts 3×3 convolutions and the last layer; Zagoruyko all convolutions, shortcuts too."""
    model = build_model(name, classes=10, channels=3, seed=0)
    sides = []
    counted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if name.startswith("wrn"):
        counted.pop()
    else:
        counted = [m for m in counted if getattr(m, "kernel_size", None) != (1, 1)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: sides.append(tuple(call[2].shape[2:])))
    model(torch.zeros(1, 3, 32, 32))
    assert len(counted) == int(name.split("-")[1])
    assert sides[0] == (32, 32)
    assert sides[-1] == (8, 8)


def test_a_residual_block_whose_second_convolution_is_zero_is_its_shortcut():
    """Both kinds add what the convolutions find to what came in; He's has a ReLU behind it."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, behind in (("resnet-20", torch.relu), ("wrn-28-2", torch.clone)):
        model = build_model(name, classes=10, channels=3, seed=0).eval()
        blocks = [m for m in model if hasattr(m, "conv2")]
        block = next(m for m in blocks if m.conv1.in_channels == m.conv1.out_channels)
        nn.init.zeros_(block.conv2.weight)
        x = nn.functional.conv2d(images, torch.ones(block.conv1.in_channels, 3, 1, 1))
        assert block(x).equal(behind(x))


def test_a_widening_block_of_a_wide_resnet_sees_its_input_behind_batchnorm_and_relu_alone():
    model = build_model("wrn-28-2", classes=10, channels=3, seed=0).eval()
    block = next(m for m in model if getattr(m, "shortcut", None) is not None)
    nn.init.constant_(block.bn1.bias, -100.0)
    nn.init.zeros_(block.bn2.bias)
    x = torch.randn(2, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    assert block(x).eq(0).all()


@pytest.mark.parametrize("name", ["resnet-20", "wrn-28-2"])
def test_residual_nets_can_be_traced(name):
    model = build_model(name, classes=10, channels=3, seed=0).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.fx.symbolic_trace(model)(images).equal(model(images))


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
    with pytest.raises(ValueError, match=r"conv28, conv8, mlp8, .*, got 'conv82'"):
        build_model("conv82", classes=10, channels=1, seed=0)
