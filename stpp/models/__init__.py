"""Segmentation networks: a backbone and a classifier, built from a plain description.

`build` is the only entrance. Nothing here knows files or configuration, and a backbone's or an architecture's module is
imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stpp.errors import StppError

if TYPE_CHECKING:
    from torch import nn

    from stpp.models.network import Backbone, SegmentationNetwork


def build(spec: Mapping[str, Any], classes: int) -> SegmentationNetwork:
    """The network that `spec` describes, freshly initialised from torch's global random state (seed it before).

    `spec` holds plain values, all keys required; an architecture ignores the keys that it has no use for:

    - `architecture`: "deeplabv3plus", "pspnet" or "deeplabv2"
    - `backbone`: "resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2" or "tiny"
    - `output_stride`: 8 or 16, input size over the size of the backbone's last features
    - `rates`: dilation rates of the atrous convolutions (DeepLab), or None for the paper's
    - `head_channels`: channels of each ASPP branch or of PSPNet's head, or None for the paper's C/8 and C/4, where C is
      the number of channels of the backbone's last features
    - `decoder_channels`, `low_level_channels`: DeepLabv3+'s decoder (the paper: 256 and 48)
    - `dropout`: what the paper's dropout rates are multiplied by; 1.0 is the paper, 0.0 no dropout, 2.0 the most

    Raises StppError for an unknown architecture or backbone and for another output stride.
    """
    backbone = _backbone(spec["backbone"], spec["output_stride"])
    from stpp.models.network import SegmentationNetwork

    return SegmentationNetwork(backbone, _classifier(spec, backbone, classes))


def _backbone(name: str, output_stride: int) -> Backbone:
    match name:
        case "tiny":
            from stpp.models.tiny import tiny

            return tiny(output_stride)
        case "resnet18" | "resnet34" | "resnet50" | "resnet101":
            from stpp.models.resnet import resnet

            return resnet(name, output_stride)
        case "mobilenet_v2":
            from stpp.models.mobilenet import MobileNetV2

            return MobileNetV2(output_stride)
        case _:
            raise StppError(
                f"network: unknown backbone {name!r}; expected resnet18, resnet34, resnet50, resnet101, "
                "mobilenet_v2 or tiny"
            )


def _classifier(spec: Mapping[str, Any], backbone: Backbone, classes: int) -> nn.Module:
    match spec["architecture"]:
        case "deeplabv3plus":
            from stpp.models.deeplabv3plus import DeepLabV3PlusHead

            return DeepLabV3PlusHead(
                backbone.channels,
                backbone.low_channels,
                classes,
                rates=spec["rates"],
                aspp_channels=spec["head_channels"],
                decoder_channels=spec["decoder_channels"],
                reduced_channels=spec["low_level_channels"],
                dropout=spec["dropout"],
            )
        case "pspnet":
            from stpp.models.pspnet import PSPNetHead

            return PSPNetHead(backbone.channels, classes, channels=spec["head_channels"], dropout=spec["dropout"])
        case "deeplabv2":
            from stpp.models.deeplabv2 import DeepLabV2Head

            return DeepLabV2Head(backbone.channels, classes, rates=spec["rates"])
        case other:
            raise StppError(f"network: unknown architecture {other!r}; expected deeplabv3plus, pspnet or deeplabv2")
