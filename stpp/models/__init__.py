"""Segmentation networks: a backbone and a classifier, built from a plain description.

`build` is the only entrance. Nothing here knows files or configuration, and a backbone's or an architecture's module is
imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stpp.errors import StppError
from stpp.registry import DECODERS, ENCODERS, component, modules

if TYPE_CHECKING:
    from stpp.models.network import SegmentationNetwork


def build(spec: Mapping[str, Any], classes: int) -> SegmentationNetwork:
    """The network that `spec` describes, freshly initialised from torch's global random state (seed it before).

    `spec` holds plain values, all keys required; an architecture ignores the keys that it has no use for:

    - `architecture`: a name in `stpp.models.decoders`
    - `backbone`: a name in `stpp.models.encoders`
    - `output_stride`: 8 or 16, input size over the size of the backbone's last features
    - `rates`: dilation rates of the atrous convolutions (DeepLab), or None for the paper's
    - `head_channels`: channels of each ASPP branch or of PSPNet's head, or None for the paper's C/8 and C/4, where C is
      the number of channels of the backbone's last features
    - `decoder_channels`, `low_level_channels`: DeepLabv3+'s decoder (the paper: 256 and 48)
    - `dropout`: what the paper's dropout rates are multiplied by; 1.0 is the paper, 0.0 no dropout, 2.0 the most

    Raises StppError for an unknown architecture or backbone and for another output stride.
    """
    from stpp.models.network import SegmentationNetwork

    encoder = _part(ENCODERS, "backbone", spec).encoder(spec["backbone"], spec["output_stride"])
    return SegmentationNetwork(encoder, _part(DECODERS, "architecture", spec).decoder(spec, encoder, classes))


def _part(folder: str, what: str, spec: Mapping[str, Any]) -> ModuleType:
    """The module of the backbone or the architecture of `spec`."""
    known = modules(folder)
    if spec[what] not in known:
        raise StppError(f"network: unknown {what} {spec[what]!r}; expected {', '.join(known)}")
    return component(folder, spec[what])
