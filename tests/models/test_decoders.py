"""The decoders that are not the paper's against a second account of them, in torch.nn.functional alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stpp.common.errors import StppError
from stpp.models import build
from stpp.models.decoders.deeplabv3plus import DeepLabV3PlusHead
from stpp.models.decoders.dpt import DPTHead
from stpp.models.decoders.linear import LinearHead

CLASSES = 5
State = dict[str, Tensor]


def conv(s: State, name: str, x: Tensor, **how: int) -> Tensor:
    return F.conv2d(x, s[f"{name}.weight"], s.get(f"{name}.bias"), **how)


def grow(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def dpt(s: State, maps: list[Tensor], factors: list[float]) -> Tensor:
    """UniMatch V2's head, from its coarsest map upwards."""

    def unit(name: str, x: Tensor) -> Tensor:
        y = conv(s, f"{name}.conv1", F.relu(x), padding=1)
        return x + conv(s, f"{name}.conv2", F.relu(y), padding=1)

    levels = []
    for k, (x, factor) in enumerate(zip(maps, factors)):
        x = conv(s, f"projections.{k}", x)
        if factor > 1:
            x = F.conv_transpose2d(x, s[f"resamplers.{k}.weight"], s[f"resamplers.{k}.bias"], stride=int(factor))
        elif factor < 1:
            x = conv(s, f"resamplers.{k}", x, stride=2, padding=1)
        levels.append(conv(s, f"levels.{k}", x, padding=1))
    fused = unit("units.3", levels[3])
    for k in (2, 1, 0):
        fused = conv(s, f"outs.{k + 1}", grow(fused, levels[k].shape[-2:]))  # type: ignore[arg-type]
        fused = unit(f"units.{k}", fused + unit(f"skips.{k}", levels[k]))
    fused = conv(s, "outs.0", grow(fused, (2 * fused.shape[2], 2 * fused.shape[3])))
    return conv(s, "score", F.relu(conv(s, "hidden", fused, padding=1)))


@pytest.mark.parametrize(
    ("strides", "factors"),
    [
        ((14, 14, 14, 14), [4, 2, 1, 0.5]),
        ((4, 8, 16, 32), [1, 1, 1, 1]),
        ((4, 8, 16, 16), [1, 1, 1, 0.5]),
        ((4, 8, 8, 8), [2, 2, 1, 0.5]),
    ],
)
def test_dpt_agrees_with_its_definition(strides: tuple[int, ...], factors: list[float]) -> None:
    torch.manual_seed(0)
    head = DPTHead((6, 8, 10, 12), strides, CLASSES, projected=(4, 6, 8, 10), width=7)
    longest = max(strides)
    maps = [torch.randn(2, c, 3 * longest // s, 5 * longest // s) for c, s in zip((6, 8, 10, 12), strides)]
    with torch.no_grad():
        torch.testing.assert_close(head(maps), dpt(head.state_dict(), maps, factors), rtol=1e-4, atol=1e-5)


def test_dpts_levels_are_unimatchs_and_all_of_it_learns() -> None:
    """At 518 px, a ViT of patch 14 has 37 x 37 places; the levels have 148, 74, 37 and 19, the output 296."""
    head = DPTHead((8,) * 4, (14,) * 4, CLASSES, projected=(1, 2, 4, 8), width=4)
    sizes: list[int] = []
    for level in head.levels:
        level.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    logits = head([torch.randn(1, 8, 37, 37) for _ in range(4)])
    assert sizes == [148, 74, 37, 19] and logits.shape == (1, CLASSES, 296, 296)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    ("name", "projected", "width"),
    [
        ("vit_small_patch14_dinov2", [48, 96, 192, 384], 64),
        ("vit_base_patch14_dinov2", [96, 192, 384, 768], 128),
        ("vit_large_patch14_dinov2", [256, 512, 1024, 1024], 256),
        ("resnet50", [256, 512, 1024, 2048], 256),
    ],
)
def test_dpts_channels_are_unimatchs(name: str, projected: list[int], width: int) -> None:
    with torch.device("meta"):
        head = build({"architecture": "dpt", "backbone": f"timm/{name}", "output_stride": 32}, CLASSES).classifier
        wide = build({"architecture": "dpt", "backbone": f"timm/{name}", "output_stride": 32, "head_channels": 5}, 2)
    assert [layer.out_channels for layer in head.projections] == projected  # type: ignore[union-attr]
    assert head.hidden.in_channels == width and wide.classifier.hidden.in_channels == 5  # type: ignore[union-attr]


@pytest.mark.parametrize("maps", [1, 2])
def test_linear_is_a_normalised_1x1_convolution_of_the_last_maps_joined(maps: int) -> None:
    torch.manual_seed(0)
    head = LinearHead((6, 8)[-maps:], CLASSES).eval()
    with torch.no_grad():
        head.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        head.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        head.score.bias.uniform_(-1, 1)  # type: ignore[union-attr]
    fine, coarse = torch.randn(2, 6, 9, 7), torch.randn(2, 8, 5, 4)
    x = coarse if maps == 1 else torch.cat([fine, grow(coarse, (9, 7))], 1)
    s = head.state_dict()
    scaled = (x - s["norm.running_mean"].view(-1, 1, 1)) / (s["norm.running_var"].view(-1, 1, 1) + 1e-5).sqrt()
    expected = torch.einsum("kc,nchw->nkhw", s["score.weight"][:, :, 0, 0], scaled) + s["score.bias"].view(-1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(head([fine, coarse]), expected, rtol=1e-4, atol=1e-5)


def test_linear_asks_for_no_more_maps_than_there_are() -> None:
    with pytest.raises(StppError, match=r"linear_maps: 3 feature maps .* tiny gives 2"):
        build({"architecture": "linear", "backbone": "tiny", "linear_maps": 3}, CLASSES)


def separable(s: State, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """segmentation_models.pytorch's separable convolution, and what follows it there: batch norm and ReLU."""
    x = F.conv2d(x, s[f"{name}.0.weight"], padding=dilation, dilation=dilation, groups=x.shape[1])
    return normalised(s, f"{name}.2", F.conv2d(x, s[f"{name}.1.weight"]))


def normalised(s: State, name: str, x: Tensor) -> Tensor:
    mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
    return F.relu(F.batch_norm(x, mean, var, s[f"{name}.weight"], s[f"{name}.bias"]))


def test_separable_deeplabv3plus_agrees_with_its_definition() -> None:
    torch.manual_seed(0)
    sizes = {"rates": [2, 4], "aspp_channels": 8, "decoder_channels": 10, "reduced_channels": 4}
    head = DeepLabV3PlusHead(12, 6, CLASSES, separable=True, **sizes).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, tensor in head.state_dict().items():
            if name.endswith("running_mean"):
                tensor.uniform_(-1, 1)
    low, last = torch.randn(2, 6, 16, 12), torch.randn(2, 12, 8, 6)
    s = head.state_dict()
    branches = [normalised(s, "aspp.branches.0.1", conv(s, "aspp.branches.0.0", last))]
    branches += [separable(s, f"aspp.branches.{k}", last, rate) for k, rate in enumerate((2, 4), start=1)]
    pooled = normalised(s, "aspp.pool.1.1", conv(s, "aspp.pool.1.0", last.mean(dim=(2, 3), keepdim=True)))
    x = torch.cat([*branches, pooled.expand(-1, -1, 8, 6)], 1)
    x = grow(normalised(s, "aspp.project.0.1", conv(s, "aspp.project.0.0", x)), (16, 12))
    x = torch.cat([normalised(s, "reduce.1", conv(s, "reduce.0", low)), x], 1)
    x = separable(s, "fuse.1", separable(s, "fuse.0", x))
    with torch.no_grad():
        torch.testing.assert_close(head([low, last]), conv(s, "score", x), rtol=1e-4, atol=1e-5)


def test_a_separable_head_has_the_weights_of_its_kind() -> None:
    """With 256 channels throughout, the count of segmentation_models.pytorch's decoder, less its final 1x1 layer."""
    with torch.device("meta"):
        heads = [
            build(
                {"backbone": "resnet50", "output_stride": 16, "head_channels": 256, "separable": separable}, CLASSES
            ).classifier
            for separable in (False, True)
        ]
    full, light = (sum(parameter.numel() for parameter in head.parameters()) for head in heads)

    def apart(inputs: int, outputs: int) -> int:
        return 9 * inputs + inputs * outputs + 2 * outputs

    aspp = 2 * (2048 * 256 + 512) + 3 * apart(2048, 256) + 5 * 256 * 256 + 512
    assert light == aspp + 256 * 48 + 96 + apart(304, 256) + apart(256, 256) + 256 * CLASSES + CLASSES
    assert light < 0.25 * full
