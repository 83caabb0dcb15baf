"""Networks against a second account of them: functional forwards over the state dict, and torchvision's."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stpp.common.errors import StppError
from stpp.models import build
from stpp.models.dilated import DilatedConv2d
from stpp.models.folding import for_prediction
from stpp.models.packing import PackedConv2d

State = dict[str, Tensor]

CLASSES = 5
# Small heads on narrow or shallow backbones: the definition is the same, the test is fast.
SPEC = {
    "architecture": "deeplabv3plus",
    "backbone": "tiny",
    "output_stride": 8,
    "rates": None,
    "head_channels": None,
    "decoder_channels": 256,
    "low_level_channels": 48,
    "dropout": 1.0,
}
BACKBONES = ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "tiny"]
ARCHITECTURES = ["deeplabv3plus", "pspnet", "deeplabv2"]


def network(**changes):
    """A network whose batch norms and biases are no longer at 1 and 0, so that each of them matters."""
    torch.manual_seed(0)
    net = build({**SPEC, **changes}, CLASSES)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean") or tensor.dim() == 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return net.eval()


def shapes_only(**changes):
    """A network without values: names, shapes and settings at no cost."""
    with torch.device("meta"):
        return build({**SPEC, **changes}, CLASSES).eval()


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


# The second account, after the papers, with nothing but torch.nn.functional. `batch` takes batch norm's statistics
# from the batch, as in training.


def conv_bn(s: State, conv: str, bn: str, x: Tensor, stride=1, dilation=1, groups=1, batch=False) -> Tensor:
    weight = s[f"{conv}.weight"]
    x = F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, groups)
    mean, var = s[f"{bn}.running_mean"].clone(), s[f"{bn}.running_var"].clone()
    return F.batch_norm(x, mean, var, s[f"{bn}.weight"], s[f"{bn}.bias"], training=batch)


def unit(s: State, name: str, x: Tensor, **how) -> Tensor:
    return F.relu(conv_bn(s, f"{name}.0", f"{name}.1", x, **how))


def grow(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def resnet(s: State, x: Tensor, depths, dilations, stem_stride=2, batch=False) -> tuple[Tensor, Tensor]:
    """`dilations`: for each stage its stride, the dilation of its first block's (first) 3x3, and of all its others."""
    x = F.relu(conv_bn(s, "backbone.conv1", "backbone.bn1", x, stem_stride, batch=batch))
    x = F.max_pool2d(x, 3, 2, 1)
    features = []
    for stage, (depth, (stride, first, others)) in enumerate(zip(depths, dilations), start=1):
        for index in range(depth):
            b = f"backbone.layer{stage}.{index}"
            step, rate = (stride, first) if index == 0 else (1, others)
            if f"{b}.conv3.weight" in s:
                y = F.relu(conv_bn(s, f"{b}.conv1", f"{b}.bn1", x, batch=batch))
                y = F.relu(conv_bn(s, f"{b}.conv2", f"{b}.bn2", y, step, rate, batch=batch))
                y = conv_bn(s, f"{b}.conv3", f"{b}.bn3", y, batch=batch)
            else:
                y = F.relu(conv_bn(s, f"{b}.conv1", f"{b}.bn1", x, step, rate, batch=batch))
                y = conv_bn(s, f"{b}.conv2", f"{b}.bn2", y, dilation=others, batch=batch)
            if f"{b}.downsample.0.weight" in s:
                x = conv_bn(s, f"{b}.downsample.0", f"{b}.downsample.1", x, step, batch=batch)
            x = F.relu(x + y)
        features.append(x)
    return features[0], features[-1]


STRIDE_8 = [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]
STRIDE_16 = [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]


def mobilenet(s: State, x: Tensor, output_stride: int) -> tuple[Tensor, Tensor]:
    def relu6(name: str, x: Tensor, **how) -> Tensor:
        return F.relu6(conv_bn(s, f"{name}.0", f"{name}.1", x, **how))

    x = relu6("backbone.features.0", x, stride=2)
    # Per block: stride and dilation of the depthwise convolution; the first of each group of the MobileNetV2 paper
    # halves the grid, or where that is traded away keeps the dilation of the group before.
    late = {8: [(1, 1)] + 6 * [(1, 2)] + [(1, 2)] + 3 * [(1, 4)], 16: [(2, 1)] + 6 * [(1, 1)] + [(1, 1)] + 3 * [(1, 2)]}
    how = [(1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), *late[output_stride]]
    for block, (stride, dilation) in enumerate(how, start=1):
        name = f"backbone.features.{block}.conv"
        y, depthwise = (x, 0) if block == 1 else (relu6(f"{name}.0", x), 1)
        y = relu6(f"{name}.{depthwise}", y, stride=stride, dilation=dilation, groups=y.shape[1])
        y = conv_bn(s, f"{name}.{depthwise + 1}", f"{name}.{depthwise + 2}", y)
        x = x + y if block in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16) else y
        if block == 3:
            low = x
    return low, x


def deeplabv3plus(s: State, low: Tensor, last: Tensor, rates=(12, 24, 36), batch=False) -> Tensor:
    aspp = "classifier.aspp"
    pooled = unit(s, f"{aspp}.pool.1", last.mean(dim=(2, 3), keepdim=True), batch=batch)
    branches = [unit(s, f"{aspp}.branches.0", last, batch=batch)]
    branches += [unit(s, f"{aspp}.branches.{i}", last, dilation=r, batch=batch) for i, r in enumerate(rates, start=1)]
    x = unit(s, f"{aspp}.project.0", torch.cat([*branches, grow(pooled, last)], 1), batch=batch)
    x = torch.cat([unit(s, "classifier.reduce", low, batch=batch), grow(x, low)], 1)
    x = unit(s, "classifier.fuse.1", unit(s, "classifier.fuse.0", x, batch=batch), batch=batch)
    return F.conv2d(x, s["classifier.score.weight"], s["classifier.score.bias"])


def pspnet(s: State, low: Tensor, last: Tensor) -> Tensor:
    pyramid = [last]
    for index, bins in enumerate((1, 2, 3, 6)):
        pooled = F.adaptive_avg_pool2d(last, bins)
        pyramid.append(grow(unit(s, f"classifier.scales.{index}.1", pooled), last))
    x = unit(s, "classifier.fuse.0", torch.cat(pyramid, 1))
    return F.conv2d(x, s["classifier.score.weight"], s["classifier.score.bias"])


def deeplabv2(s: State, low: Tensor, last: Tensor) -> Tensor:
    return sum(
        F.conv2d(last, s[f"classifier.{i}.weight"], s[f"classifier.{i}.bias"], padding=rate, dilation=rate)
        for i, rate in enumerate((6, 12, 18, 24))
    )


HEADS = {"deeplabv3plus": deeplabv3plus, "pspnet": pspnet, "deeplabv2": deeplabv2}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_head_agrees_with_its_definition_on_a_dilated_bottleneck_resnet(architecture):
    net = network(architecture=architecture, backbone="resnet50")
    x = torch.randn(1, 3, 49, 65)
    with torch.no_grad():
        s = net.state_dict()
        expected = grow(HEADS[architecture](s, *resnet(s, x, (3, 4, 6, 3), STRIDE_8)), x)
        assert relative_error(net(x), expected) < 1e-4


@pytest.mark.parametrize(("backbone", "depths"), [("resnet18", (2, 2, 2, 2)), ("tiny", (1, 1, 1, 1))])
@pytest.mark.parametrize(("output_stride", "dilations"), [(8, STRIDE_8), (16, STRIDE_16)])
def test_basic_block_resnets_agree_with_their_definition(backbone, depths, output_stride, dilations):
    net = network(backbone=backbone, output_stride=output_stride)
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        for found, expected in zip(net.backbone(x), resnet(net.state_dict(), x, depths, dilations)):
            assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("output_stride", [8, 16])
def test_mobilenet_agrees_with_its_definition(output_stride):
    net = network(backbone="mobilenet_v2", output_stride=output_stride)
    x = 30 * torch.randn(1, 3, 65, 65)  # bright enough for ReLU6 to cut at 6
    with torch.no_grad():
        for found, expected in zip(net.backbone(x), mobilenet(net.state_dict(), x, output_stride)):
            assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
def test_dilated_features_subsampled_are_those_of_torchvisions_strided_network(backbone, output_stride):
    """What "à trous" means: dilation computes more positions, and the same value at those that the stride keeps."""
    import torchvision

    net = network(backbone=backbone, output_stride=output_stride)
    strided = getattr(torchvision.models, backbone)(weights=None).eval()
    strided.load_state_dict(net.backbone.state_dict(), strict=False)
    if backbone == "mobilenet_v2":
        reference = strided.features[:-1]
    else:
        reference = torch.nn.Sequential(*list(strided.children())[:-2])
    x = torch.randn(1, 3, 65, 97)
    step = 32 // output_stride
    with torch.no_grad():
        assert relative_error(net.backbone(x)[1][:, :, ::step, ::step], reference(x)) < 1e-4


def test_training_mode_gradients_agree_with_the_definition_when_nothing_is_dropped():
    net = network(rates=[2, 4, 6], head_channels=8, decoder_channels=16, low_level_channels=8, dropout=0.0).train()
    x, target = torch.randn(2, 3, 33, 49), torch.randint(CLASSES, (2, 33, 49))
    s = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    names = [name for name, _ in net.named_parameters()]
    for name in names:
        s[name].requires_grad_()
    low, last = resnet(s, x, (1, 1, 1, 1), STRIDE_8, batch=True)
    expected = F.cross_entropy(grow(deeplabv3plus(s, low, last, (2, 4, 6), batch=True), x), target)
    found = F.cross_entropy(net(x), target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    gradients = torch.autograd.grad(expected, [s[name] for name in names])
    found.backward()
    difference = sum((p.grad - g).square().sum() for (_, p), g in zip(net.named_parameters(), gradients))
    size = sum(g.square().sum() for g in gradients)
    assert (difference / size).sqrt() < 1e-4


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_features_have_the_promised_strides_and_channels(backbone, output_stride):
    net = shapes_only(backbone=backbone, output_stride=output_stride)
    encoder = net.backbone
    assert encoder.strides == (4, output_stride) and encoder.bands == 3 and encoder.multiple_of == 1
    maps = encoder(torch.empty(1, encoder.bands, 64, 96, device="meta"))
    assert [tuple(each.shape) for each in maps] == [
        (1, channels, 64 // stride, 96 // stride) for channels, stride in zip(encoder.channels, encoder.strides)
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decoders_pick_the_finest_and_the_coarsest_of_any_number_of_maps(architecture):
    net, x = network(architecture=architecture), torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        expected = net(x)
        own = net.backbone.forward
        net.backbone.forward = lambda images: [(maps := own(images))[0], torch.full((1, 7, 9, 9), torch.nan), maps[1]]
        assert torch.equal(net(x), expected)


def test_channels_are_the_papers():
    backbones = {name: shapes_only(backbone=name).backbone for name in BACKBONES}
    channels = {name: backbone.channels for name, backbone in backbones.items()}
    assert channels["resnet50"] == channels["resnet101"] == (256, 2048)
    assert channels["resnet18"] == channels["resnet34"] == (64, 512)
    assert channels["mobilenet_v2"] == (24, 320)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(65, 97), (33, 33), (50, 31)])
def test_logits_have_the_inputs_size_whatever_it_is(architecture, size):
    net = network(architecture=architecture)
    with torch.no_grad():
        assert net(torch.randn(2, 3, *size)).shape == (2, CLASSES, *size)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_parameter_groups_are_disjoint_and_complete(architecture, backbone):
    net = shapes_only(architecture=architecture, backbone=backbone)
    body, head = ({id(p) for p in group} for group in (net.backbone_parameters(), net.head_parameters()))
    assert body and head
    assert not body & head
    assert body | head == {id(p) for p in net.parameters()}


def test_no_convolution_before_a_batch_norm_has_a_bias():
    for architecture in ("deeplabv3plus", "pspnet"):
        net = shapes_only(architecture=architecture)
        biased = [name for name, m in net.named_modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None]
        assert biased == ["classifier.score"]


def test_settings_reach_the_head():
    net = shapes_only(rates=[2, 4], head_channels=10, decoder_channels=12, low_level_channels=14)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.classifier.named_parameters() if tensor.dim() == 4}
    low, last = net.backbone.channels
    assert list(shapes.values()) == [
        (10, last, 1, 1),
        (10, last, 3, 3),
        (10, last, 3, 3),
        (10, last, 1, 1),
        (10, 40, 1, 1),
        (14, low, 1, 1),
        (12, 24, 3, 3),
        (12, 12, 3, 3),
        (CLASSES, 12, 1, 1),
    ]
    dilations = [m.dilation[0] for m in net.classifier.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [d for d in dilations if d > 1] == [2, 4]
    assert shapes_only(architecture="pspnet", head_channels=10).classifier.score.in_channels == 10
    assert [conv.dilation[0] for conv in shapes_only(architecture="deeplabv2", rates=[3, 5]).classifier] == [3, 5]


@pytest.mark.parametrize(("architecture", "rates"), [("deeplabv3plus", [0.5, 0.1]), ("pspnet", [0.1])])
def test_dropout_has_the_papers_rates_times_the_setting(architecture, rates):
    for factor in (0.0, 1.0, 1.5):
        modules = shapes_only(architecture=architecture, dropout=factor).modules()
        drops = [m for m in modules if isinstance(m, torch.nn.Dropout | torch.nn.Dropout2d)]
        assert [m.p for m in drops] == pytest.approx([factor * rate for rate in rates])
    if architecture == "deeplabv3plus":
        assert isinstance(drops[0], torch.nn.Dropout2d) and isinstance(drops[1], torch.nn.Dropout)


def test_convolutions_of_a_backbone_start_at_he_initialisation_and_batch_norms_at_one_and_zero():
    torch.manual_seed(0)
    backbone = build({**SPEC, "backbone": "resnet18"}, CLASSES).backbone
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 10000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_deeplabv2_classifiers_start_at_a_deviation_of_one_hundredth():
    torch.manual_seed(0)
    for conv in build({**SPEC, "architecture": "deeplabv2", "backbone": "resnet18"}, 21).classifier:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(conv.weight.mean().item()) < 2e-4
        assert conv.bias is not None


def test_equal_seeds_build_equal_networks():
    first, second = (network().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_embedded_demos_network_has_half_a_million_parameters():
    net = shapes_only(rates=[2, 4, 6], head_channels=48, decoder_channels=64, low_level_channels=24)
    assert 0.5e6 < sum(p.numel() for p in net.parameters()) < 0.6e6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_stays_near_float32_and_gives_float32_logits(architecture):
    net = network(architecture=architecture, rates=[2, 4, 6])
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            cast = net(x)
        pure = net.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert exact.dtype == cast.dtype == pure.dtype == torch.float32
    assert relative_error(cast, exact) < 0.05
    assert relative_error(pure, exact) < 0.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "backbone",
    # The longest one has no layer that a shorter one has not.
    [pytest.param(name, marks=[pytest.mark.manual] * (name == "resnet101")) for name in BACKBONES],
)
def test_for_prediction_all_batch_norms_are_folded_and_nothing_else_changes(architecture, backbone):
    net = network(architecture=architecture, backbone=backbone).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    ready = for_prediction(net, "fp32")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in ready.modules())
    x = torch.randn(1, 3, 40, 32)
    with torch.no_grad():
        found = ready(x)
        assert net.training and not ready.training
        assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
        assert relative_error(found, net.eval()(x)) < 1e-5


def test_for_prediction_bfloat16_stays_near_float32():
    net, x = network(rates=[2, 4, 6]), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = for_prediction(net, "bf16")(x.to(torch.bfloat16))
        assert found.dtype == torch.float32
        assert relative_error(found, net(x)) < 0.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "backbone", ["resnet18", pytest.param("resnet50", marks=pytest.mark.manual), "mobilenet_v2", "tiny"]
)
def test_packed_weights_give_the_same_bits_whatever_sizes_follow_each_other(architecture, backbone):
    ready = for_prediction(network(architecture=architecture, backbone=backbone, rates=[2, 4, 6]), "bf16")
    plain = deepcopy(ready)
    packed = {name: module for name, module in plain.named_modules() if isinstance(module, PackedConv2d)}
    for name, module in packed.items():
        plain.set_submodule(name, module.convolution)
    assert bool(packed) == (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    for size in [(1, 32, 24), (1, 32, 24), (1, 17, 33), (2, 17, 33), (1, 32, 24)]:
        x = torch.randn(size[0], 3, *size[1:]).to(torch.bfloat16)
        with torch.no_grad():
            assert torch.equal(ready(x), plain(x))


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rate=st.integers(1, 16),
    bias=st.booleans(),
)
def test_a_dilated_convolution_has_torchs_outputs_and_gradients(sizes, channels, rate, bias):
    torch.manual_seed(0)
    count, height, width = sizes
    plain = torch.nn.Conv2d(*channels, 3, padding=rate, dilation=rate, bias=bias).double()
    ours = DilatedConv2d(*channels, rate, bias=bias).double()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(count, channels[0], height, width, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [conv(input) for conv, input in zip((ours, plain), inputs)]
    assert torch.equal(*outputs)
    upstream = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(upstream)
    pairs = [(a.grad, b.grad) for a, b in zip([inputs[0], *ours.parameters()], [inputs[1], *plain.parameters()])]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(ours(x), plain(x))


def test_a_dilated_convolution_learns_in_bfloat16_as_torchs_does():
    torch.manual_seed(0)
    gradients = []
    for made in (DilatedConv2d(8, 6, 4, bias=False), torch.nn.Conv2d(8, 6, 3, padding=4, dilation=4, bias=False)):
        with torch.no_grad():
            made.weight.copy_(torch.linspace(-1, 1, made.weight.numel()).view_as(made.weight))
        x = torch.linspace(-2, 3, 2 * 8 * 9 * 11).sin().view(2, 8, 9, 11)
        with torch.autocast("cpu", torch.bfloat16):
            y = made(x)
        assert y.dtype == torch.bfloat16
        y.float().square().mean().backward()
        gradients.append(made.weight.grad)
    assert gradients[0].dtype == torch.float32
    assert relative_error(*gradients) < 0.02


def test_unknown_names_and_strides_are_refused_with_what_was_expected():
    with pytest.raises(StppError, match=r"backbone is 'resnet9000'; expected .*'resnet18', .*'tiny'"):
        network(backbone="resnet9000")
    with pytest.raises(StppError, match=r"architecture is 'unet'; expected 'deeplabv2', 'deeplabv3plus', .*'pspnet'"):
        network(architecture="unet")
    for backbone in ("tiny", "resnet50", "mobilenet_v2"):
        with pytest.raises(StppError, match="output_stride is 32; expected 8 or 16"):
            network(backbone=backbone, output_stride=32)


def test_no_network_imports_torchvision_and_none_without_values_the_compiler():
    program = f"""
import itertools
import sys
import stpp.models
assert "torch" not in sys.modules
import stpp.models.weights, torch
with torch.device("meta"):
    for backbone, architecture in itertools.product({BACKBONES!r}, {ARCHITECTURES!r}):
        stpp.models.build({{**{SPEC!r}, "backbone": backbone, "architecture": architecture}}, 2)
assert not {{"torchvision", "torch._dynamo"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
