"""Encoders of timm against timm's own networks, with random weights: what they give, take and are called."""

from typing import Any

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from stpp.common.errors import Problems, StppError
from stpp.engine.initial import refuse_unfit
from stpp.models import build
from stpp.models.blocks import to_multiple
from stpp.models.folding import for_prediction
from stpp.models.network import SegmentationNetwork
from stpp.models.weights import load_weights, published_weights

VIT, CNNS = "test_vit", ["test_resnet", "test_efficientnet", "test_convnext"]
CLASSES = 5


def network(name: str, **changes: Any) -> SegmentationNetwork:
    """A network on an encoder of timm whose norms are no longer at 1 and 0."""
    torch.manual_seed(0)
    net = build({"architecture": "linear", "backbone": f"timm/{name}", "output_stride": 32, **changes}, CLASSES)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.dim() == 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return net.eval()


def own(name: str, net: SegmentationNetwork, **how: Any) -> nn.Module:
    """timm's network of that name with the weights of the encoder of `net`."""
    model: nn.Module = timm.create_model(name, **how).eval()
    theirs = {ours: key for key, ours in net.backbone.own_names.items()}  # type: ignore[attr-defined,operator]
    model.load_state_dict({theirs[key]: value for key, value in net.backbone.state_dict().items()}, strict=False)
    return model


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) == 4
    for map, other in zip(found, expected):
        torch.testing.assert_close(map, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CNNS)
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_a_cnn_gives_the_features_that_timm_extracts(name: str, output_stride: int) -> None:
    net = network(name, output_stride=output_stride)
    model = own(name, net, output_stride=output_stride)
    x = torch.randn(2, 3, 64, 96)
    levels = [info["module"] for info in model.feature_info][-4:]  # type: ignore[union-attr,index,misc]
    seen: dict[str, Tensor] = {}
    for module in levels:
        model.get_submodule(module).register_forward_hook(
            lambda _, __, output, module=module: seen.update({module: output})
        )
    with torch.no_grad():
        model.forward_features(x)  # type: ignore[operator]
        found = net.backbone(x)
    assert_same(found, list(seen.values()))
    strides = net.backbone.strides
    assert strides == tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
    shapes = [(2, width, 64 // stride, 96 // stride) for width, stride in zip(net.backbone.channels, strides)]
    assert [tuple(map.shape) for map in found] == shapes


@pytest.mark.parametrize("size", [(160, 160), (96, 128), (176, 64)])
def test_a_vit_gives_the_blocks_of_each_quarter_at_positions_of_any_size(size: tuple[int, int]) -> None:
    """timm's network for images of that size alone has the positions interpolated when it is made."""
    net = network(VIT)
    model = own(VIT, net, num_classes=0, dynamic_img_size=False)
    model.set_input_size(img_size=size)  # type: ignore[operator]
    x = torch.randn(2, 3, *size)
    hidden: list[Tensor] = []
    for block in model.blocks:  # type: ignore[union-attr]
        block.register_forward_hook(lambda _, __, output: hidden.append(output))
    with torch.no_grad():
        model.forward_features(x)  # type: ignore[operator]
        found = net.backbone(x)
    rows, columns = size[0] // 16, size[1] // 16
    skipped = model.num_prefix_tokens  # type: ignore[union-attr]
    quarters = [int(len(hidden) * part / 4) - 1 for part in (1, 2, 3, 4)]
    expected = [
        model.norm(hidden[block])[:, skipped:].transpose(1, 2).unflatten(2, (rows, columns))  # type: ignore[operator]
        for block in quarters
    ]
    assert_same(found, expected)
    assert net.backbone.strides == (16,) * 4 and net.backbone.multiple_of == 16


def test_positions_for_images_of_another_size_are_interpolated() -> None:
    """By timm's own function, as a file of its ViT for 96 px images is read for images of 160 px."""
    torch.manual_seed(3)
    other = timm.create_model(VIT, img_size=96)
    net = network(VIT)
    load_weights(net, other.state_dict(), "vit96.pth")
    state = {key.removeprefix("model."): value for key, value in net.backbone.state_dict().items()}
    expected = resample_abs_pos_embed(other.pos_embed, [10, 10], num_prefix_tokens=other.num_prefix_tokens)
    torch.testing.assert_close(state["pos_embed"], expected)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in state.items() if key != "pos_embed")


def test_images_are_resized_to_the_nearest_multiple_and_logits_to_the_image() -> None:
    net = network(VIT)
    for height, width, rows, columns in [(50, 71, 3, 4), (5, 24, 1, 2), (40, 23, 3, 1)]:
        x = torch.randn(1, 3, height, width)
        size = (16 * rows, 16 * columns)
        resized = nn.functional.interpolate(x, size, mode="bilinear", align_corners=True)
        assert torch.equal(to_multiple(x, 16), resized)
        with torch.no_grad():
            logits = net.classifier(net.backbone(resized))
            assert logits.shape[-2:] == (rows, columns)
            expected = nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=True)
            torch.testing.assert_close(net(x), expected)
    same = torch.randn(1, 3, 32, 48)
    assert torch.equal(to_multiple(same, 16), same) and to_multiple(x, 1) is x


@pytest.mark.parametrize("name", [VIT, *CNNS])
def test_an_encoder_carries_timms_normalisation(name: str) -> None:
    config = timm.get_pretrained_cfg(name)
    assert network(name).normalisation == (tuple(config.mean), tuple(config.std))


@pytest.mark.parametrize("name", [VIT, *CNNS])
def test_layers_are_all_parameters_from_the_stem_to_the_last_block(name: str) -> None:
    backbone = network(name).backbone
    layers = backbone.layers()
    names = [parameter for layer in layers for parameter in layer]
    assert sorted(names) == sorted(parameter for parameter, _ in backbone.named_parameters())
    assert any("patch_embed" in each or "stem" in each or "conv1" in each for each in layers[0])
    if name == VIT:
        depth = len(backbone.model.blocks)  # type: ignore[union-attr,arg-type]
        assert len(layers) == 1 + depth
        assert "model.norm.weight" in layers[-1] and "model.cls_token" in layers[0]
        assert backbone.undecayed >= {"model.cls_token", "model.pos_embed"}


@pytest.mark.parametrize("architecture", ["linear", "dpt", "deeplabv3plus", "pspnet", "deeplabv2"])
@pytest.mark.parametrize("name", [VIT, *CNNS])
def test_for_prediction_nothing_changes(name: str, architecture: str) -> None:
    if (name, architecture) == (VIT, "deeplabv3plus"):
        with pytest.raises(StppError, match=r"deeplabv3plus needs a finer feature map .* the stride 16; take"):
            network(name, architecture=architecture)
        return
    net = network(name, architecture=architecture, rates=None, head_channels=8)
    x = torch.randn(1, 3, 64, 50)
    with torch.no_grad():
        torch.testing.assert_close(for_prediction(net, "fp32")(x), net(x), rtol=1e-4, atol=1e-4)
        assert (for_prediction(net, "bf16")(x.bfloat16()) - net(x)).abs().max() < 0.1 * net(x).abs().max()


def test_a_convolution_that_pads_by_itself_does_so_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the network without packed weights; its encoder has TensorFlow's padding."""
    net = network("tf_efficientnet_lite0").eval()
    images = torch.rand(1, 3, 64, 96)
    found = for_prediction(net, "bf16").backbone(images.bfloat16())
    monkeypatch.setattr("stpp.models.folding.packed", lambda network: network)
    expected = for_prediction(net, "bf16").backbone(images.bfloat16())
    assert [each.shape for each in found] == [each.shape for each in expected]
    assert all(torch.equal(each, own) for each, own in zip(found, expected))


def test_batch_norms_are_torchs_own_so_that_a_team_can_replace_them() -> None:
    norms = [module for module in network("test_efficientnet").modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 5 and {type(module) for module in norms} == {nn.BatchNorm2d}


# --- weights ----------------------------------------------------------------------------------------------------------


def dinov2(width: int, depth: int = 12, registers: int = 0) -> dict[str, Tensor]:
    """Random values under the names of DINOv2's published ViTs of patch 14, at 518 px."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + 37 * 37, width)}
    shapes |= {"register_tokens": (1, registers, width)} if registers else {}
    shapes |= {
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(depth):
        parts: dict[str, tuple[int, ...]] = {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ls1.gamma": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
            "ls2.gamma": (width,),
        }
        shapes |= {f"blocks.{block}.{name}": shape for name, shape in parts.items()}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    return {name: torch.rand(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def small() -> SegmentationNetwork:
    """A network on DINOv2's ViT-S."""
    return build({"architecture": "linear", "backbone": "timm/vit_small_patch14_dinov2", "output_stride": 8}, CLASSES)


@pytest.mark.parametrize("training", [False, True])
def test_a_file_of_dinov2_loads_by_name(small: SegmentationNetwork, training: bool) -> None:
    """The published one, or what the training of such a model leaves, with a head."""
    state: dict[str, Any] = dinov2(384)
    teacher = {f"backbone.{name}": value for name, value in state.items()} | {"dino_head.mlp.0.weight": torch.zeros(2)}
    file = {"teacher": teacher, "iteration": 3} if training else state
    assert small.backbone.multiple_of == 14 and small.backbone.strides == (14,) * 4
    said = load_weights(small, file, "dinov2_vits14_pretrain.pth")
    assert said.startswith("Loaded the backbone, 174 tensors, from dinov2_vits14_pretrain.pth, without ")
    loaded = small.backbone.state_dict()
    assert loaded.keys() == {f"model.{name}" for name in state} - {"model.mask_token"}
    assert all(torch.equal(value, state[name.removeprefix("model.")]) for name, value in loaded.items())


def test_dinov2_with_registers_loads_as_timm_translates_it() -> None:
    spec = {"architecture": "dpt", "backbone": "timm/vit_small_patch14_reg4_dinov2"}
    state = dinov2(384, registers=4)
    net = build(spec, CLASSES)
    load_weights(net, state, "reg4.pth")
    loaded = net.backbone.state_dict()
    assert torch.equal(loaded["model.reg_token"], state["register_tokens"])
    assert torch.equal(loaded["model.pos_embed"], state["pos_embed"][:, 1:])
    assert torch.equal(loaded["model.cls_token"], state["cls_token"] + state["pos_embed"][:, :1])


def test_another_dinov2_lists_its_mismatches(small: SegmentationNetwork) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    wrong = dinov2(768)
    del wrong["blocks.3.ls1.gamma"]
    with pytest.raises(Problems, match="do not fit the backbone") as caught:
        load_weights(small, {**wrong, "extra": torch.zeros(3)}, "dinov2_vitb14_pretrain.pth")
    assert "model.cls_token: (1, 1, 768) -> (1, 1, 384)" in caught.value.problems
    assert "model.blocks.3.ls1.gamma: missing -> (384,)" in caught.value.problems
    assert "extra: (3,) -> unexpected" in caught.value.problems
    assert len(caught.value.problems) == 175
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


@pytest.mark.parametrize("name", [VIT, *CNNS])
@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "model.", "model.module.", "teacher.backbone."])
def test_timms_own_files_load_without_their_classifier(name: str, prefix: str) -> None:
    net, source = network(name), timm.create_model(name)
    state = {f"{prefix}{key}": value for key, value in source.state_dict().items()}
    said = load_weights(net, {"state_dict": state}, "timm.pth")
    assert "others, such as ImageNet's classifier" in said
    loaded, theirs = net.backbone.state_dict(), source.state_dict()
    names: dict[str, str] = net.backbone.own_names  # type: ignore[assignment]
    assert loaded.keys() == set(names.values())
    assert all(torch.equal(loaded[ours], theirs[key]) for key, ours in names.items())


def test_timms_weights_are_fetched_by_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    source = timm.create_model("test_resnet")
    asked: dict[str, Any] = {}

    def create(name: str, **how: Any) -> nn.Module:
        asked.update(how, name=name)
        return source

    with monkeypatch.context() as patch:
        patch.setattr(timm, "create_model", create)
        state = published_weights("timm/test_resnet.r160_in1k")
    assert asked == {"name": "test_resnet.r160_in1k", "pretrained": True}
    assert state.keys() == source.state_dict().keys()

    def offline(name: str, **how: Any) -> nn.Module:
        raise OSError("no route to host")

    with monkeypatch.context() as patch:
        patch.setattr(timm, "create_model", offline)
        with pytest.raises(StppError, match=r"could not fetch .* OSError: no route to host.*`network.weights`"):
            published_weights("timm/test_resnet.r160_in1k")


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    {
        "unknown": ({"backbone": "timm/resnet5O"}, r"timm .* has no encoder resnet5O; did you mean resnet50"),
        "tag": ({"backbone": "timm/test_resnet.r16_in1k"}, r"no weights r16_in1k of test_resnet; did you mean r160"),
        "stride": ({"backbone": "timm/ghostnet_100", "output_stride": 8}, "timm does not dilate ghostnet_100"),
        "size": ({"backbone": "timm/mixer_s16_224", "output_stride": 32}, "mixer_s16_224 takes images of one size"),
        "maps": (
            {"backbone": "timm/test_vit", "linear_maps": 4, "architecture": "deeplabv3plus"},
            "needs a finer feature map",
        ),
    }.values(),
)
def test_what_cannot_be_is_said_before_a_training(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(StppError, match=message):
        refuse_unfit({"architecture": "linear", **spec}, CLASSES)


@pytest.mark.parametrize("name", [VIT, *CNNS, "vit_small_patch14_dinov2", "vit_large_patch14_dinov2", "resnet50"])
def test_what_can_be_is_accepted(name: str) -> None:
    refuse_unfit({"architecture": "dpt", "backbone": f"timm/{name}", "output_stride": 32}, CLASSES)
