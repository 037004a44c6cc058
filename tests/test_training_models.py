import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.objectives import Objective
from training.models import MODELS, build_model
from training.vision import import_torchvision


def _same_bits(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)


# Seconds to build and run; their kinds are tested on smaller siblings, their sizes on their own.
LARGE = ("wrn-28-10", "pyramidnet-272-200")
SMALL = [name for name in MODELS if name not in LARGE]


def _size(name: str, classes: int) -> int:
    with torch.device("meta"):
        model = MODELS[name].make(classes, 3)
    return sum(p.numel() for p in model.parameters())


def _images(samples: int, side: int = 32) -> torch.Tensor:
    return torch.randn(samples, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_models_give_one_logit_per_class_for_images_of_their_sides(name, channels):
    model = build_model(name, classes=7, channels=channels, seed=0)
    for side in MODELS[name].sides:
        assert model(torch.zeros(2, channels, side, side)).shape == (2, 7)
    assert model.training


@pytest.mark.parametrize("name", list(MODELS))
def test_models_begin_with_a_finite_loss_not_far_from_that_of_guessing(name):
    model = build_model(name, classes=10, channels=3, seed=0)
    with torch.no_grad():
        logits = model(_images(8, MODELS[name].sides[0]))
    loss = functional.cross_entropy(logits, torch.arange(8)).item()
    assert 0.5 < loss / math.log(10) < 4


@pytest.mark.parametrize("name", ["resnet-18", "wrn-28-2", "pyramidnet-110", "vit-tiny"])
def test_a_head_of_zeros_gives_every_class_the_same_probability_and_changes_nothing_else(name):
    zero = build_model(name, classes=10, channels=3, seed=0, zero_head=True).eval()
    usual = build_model(name, classes=10, channels=3, seed=0)
    assert zero(_images(2)).eq(0).all()
    usual[-1].weight.data.zero_()
    assert _same_bits(zero, usual)


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
        ("resnet-18", 11_173_962),
        ("resnet-20", 272_474),
        ("resnet-56", 855_770),
        ("wrn-16-4", 2_748_890),
        ("wrn-28-2", 1_467_610),
        ("wrn-28-10", 36_479_194),
        ("pyramidnet-110", 3_904_446),
        ("pyramidnet-272-200", 26_210_842),
    ],
)
def test_residual_nets_have_the_published_number_of_parameters(name, parameters):
    assert _size(name, 10) == parameters


@pytest.mark.parametrize("classes", [10, 100])
def test_pyramidnets_have_as_many_parameters_as_their_widths_say(classes):
    """Counted from the formula of the widths, in whole numbers: rounding of 16 + k α / N."""
    # N = 3 · 30 bottlenecks: 200 k / 90 = 20 k / 9; N = 3 · 18 basic blocks: 84 k / 54 = 14 k / 9.
    bottlenecks = [16 + (2 * 20 * k + 9) // 18 for k in range(1, 91)]
    size, before = 27 * 16 + 2 * 16, 16
    for width in bottlenecks:
        size += 2 * before + before * width + 2 * width + 9 * width**2 + 2 * width
        size += 4 * width**2 + 2 * 4 * width
        before = 4 * width
    assert bottlenecks[-1] == 216
    assert _size("pyramidnet-272-200", classes) == size + 2 * before + (before + 1) * classes
    basics = [16 + (2 * 14 * k + 9) // 18 for k in range(1, 55)]
    size, before = 27 * 16 + 2 * 16, 16
    for width in basics:
        size += 2 * before + 9 * before * width + 2 * width + 9 * width**2 + 2 * width
        before = width
    assert basics[-1] == 100
    assert _size("pyramidnet-110", classes) == size + 2 * before + (before + 1) * classes


@pytest.mark.parametrize(
    "name", ["resnet-20", "resnet-56", "wrn-16-4", "wrn-28-2", "pyramidnet-110"]
)
def test_residual_nets_are_as_deep_as_their_name_says_and_end_on_8_by_8_images(name):
    """He counts 3×3 convolutions and the last layer; Zagoruyko all convolutions, shortcuts too."""
    model = build_model(name, classes=10, channels=3, seed=0)
    sides = []
    counted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if name.startswith("wrn"):
        counted.pop()
    elif name.startswith("resnet"):
        counted = [m for m in counted if getattr(m, "kernel_size", None) != (1, 1)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: sides.append(tuple(call[2].shape[2:])))
    model(torch.zeros(2, 3, 32, 32))
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


def test_a_pyramidal_block_adds_nothing_of_the_input_to_its_new_channels():
    """The shortcut is the input, halved by the mean over 2×2 where the image halves."""
    model = build_model("pyramidnet-110", classes=10, channels=3, seed=0).eval()
    blocks = [m for m in model if hasattr(m, "residual")]
    generator = torch.Generator().manual_seed(0)
    for index, side in ((0, 32), (18, 32), (36, 15)):
        block = blocks[index]
        nn.init.zeros_(block.residual[-1].weight)
        width_in, width_out = block.residual[0].num_features, block.residual[-1].num_features
        x = torch.randn(2, width_in, side, side, generator=generator)
        made = block(x)
        expected = x
        if index:
            rest = nn.functional.pad(x, (0, side % 2, 0, side % 2), value=float("nan"))
            expected = rest.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).nanmean((3, 5))
        assert width_out > width_in
        assert torch.allclose(made[:, :width_in], expected, atol=1e-6)
        assert made[:, width_in:].eq(0).all()


def test_a_pyramidal_block_sees_and_gives_negative_numbers():
    """BatchNorm, but no ReLU, before its first convolution; BatchNorm behind its last."""
    model = build_model("pyramidnet-110", classes=10, channels=3, seed=0).eval()
    block = next(m for m in model if hasattr(m, "residual"))
    kinds = [type(layer).__name__ for layer in block.residual]
    assert kinds == ["BatchNorm2d", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
    x = -torch.rand(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    first = block.residual[1](block.residual[0](x))
    assert torch.allclose(first, block.residual[1](x), atol=1e-4)
    assert block.residual(x).std() > 0
    assert block(x).lt(0).any()
    with torch.device("meta"):
        large = MODELS["pyramidnet-272-200"].make(10, 3)
    last = next(m for m in reversed(list(large)) if hasattr(m, "residual"))
    kinds = [type(layer).__name__ for layer in last.residual]
    assert kinds == [
        *("BatchNorm2d", "Conv2d", "BatchNorm2d", "ReLU"),
        *("Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"),
    ]


def test_the_vision_transformer_is_torchvisions_with_the_same_weights():
    own = build_model("vit-tiny", classes=10, channels=3, seed=0).eval()
    theirs = import_torchvision("torchvision.models").VisionTransformer(
        image_size=32,
        patch_size=4,
        num_layers=12,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
        num_classes=10,
    )
    state = own.state_dict()
    copied = {
        "class_token": state["0.class_token"],
        "encoder.pos_embedding": state["0.positions"],
        "conv_proj.weight": state["0.patches.weight"],
        "conv_proj.bias": state["0.patches.bias"],
    }
    pairs = {
        "ln_1": "norm1",
        "self_attention.out_proj": "attention.output",
        "ln_2": "norm2",
        "mlp.0": "linear1",
        "mlp.3": "linear2",
    }
    for kind in ("weight", "bias"):
        for index in range(12):
            layer = f"encoder.layers.encoder_layer_{index}."
            for name, ours in pairs.items():
                copied[f"{layer}{name}.{kind}"] = state[f"{index + 1}.{ours}.{kind}"]
            inputs = state[f"{index + 1}.attention.inputs.{kind}"]
            copied[f"{layer}self_attention.in_proj_{kind}"] = inputs
        copied[f"encoder.ln.{kind}"] = state[f"13.{kind}"]
        copied[f"heads.head.{kind}"] = state[f"15.{kind}"]
    theirs.load_state_dict(copied)
    images = _images(3)
    assert torch.allclose(own(images), theirs.eval()(images), atol=1e-5)
    assert own(images).std() > 0.05
    # 48·192 + 192 of the patches, 66·192 of the tokens, 12 blocks, the last norm, the head.
    block = 4 * 192 + 4 * 192**2 + 4 * 192 + 8 * 192**2 + 5 * 192
    assert _size("vit-tiny", 10) == 49 * 192 + 66 * 192 + 12 * block + 2 * 192 + 1930 == 5_362_762


def test_resnet_18_is_torchvisions_with_the_first_layers_of_small_images():
    own = build_model("resnet-18", classes=10, channels=3, seed=0)
    theirs = import_torchvision("torchvision.models").resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    values = list(own.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    images = _images(3)
    assert torch.allclose(own(images), theirs(images), atol=1e-4)


@pytest.mark.parametrize("name", ["resnet-18", "pyramidnet-110", "vit-tiny"])
def test_the_hessian_product_of_nets_is_the_slope_of_the_gradient(name):
    """Along one direction: a central difference of gradients, in float64, between kinks of ReLU."""
    model = build_model(name, classes=10, channels=3, seed=0).double()
    data = (_images(2).double(), torch.tensor([3, 4]))
    objective = Objective(model, functional.cross_entropy, data, bn="batch")
    generator = torch.Generator().manual_seed(1)
    theta = objective.theta
    v = torch.randn(theta.numel(), dtype=torch.float64, generator=generator)
    v /= v.norm()
    product = objective.hessian_vector(v)
    step = 1e-8
    ahead, behind = (objective.gradient(theta + sign * step * v) for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    assert (product - slope).norm() < 1e-3 * product.norm()


@pytest.mark.parametrize("name", ["resnet-20", "wrn-28-2", "pyramidnet-110", "vit-tiny"])
def test_nets_can_be_traced(name):
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


def test_the_vision_transformer_begins_with_the_spread_that_is_told():
    model = build_model("vit-tiny", classes=10, channels=3, seed=0)
    # A normal variable cut at two deviations has 0.8796 of its deviation.
    spread = 0.02 * 0.8796
    for name, tensor in model.state_dict().items():
        if name.endswith("bias"):
            assert tensor.eq(0).all()
        elif "norm" in name or name == "13.weight":
            assert tensor.eq(1).all()
        elif name == "0.patches.weight":
            assert tensor.std().item() == pytest.approx(48**-0.5, rel=0.05)
        else:
            error = 4 / math.sqrt(2 * tensor.numel())
            assert tensor.std().item() == pytest.approx(spread, rel=error)
            assert tensor.abs().max() <= 0.04


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
