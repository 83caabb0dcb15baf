"""Segmentation networks: a backbone and a classifier, built from a plain description.

`build` is the only entrance. Nothing here knows files or configuration, and a backbone's or an architecture's module is
imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stpp.common.bands import RGB_PLACES, Bands
from stpp.common.description import described
from stpp.common.registry import DECODERS, ENCODERS, component

if TYPE_CHECKING:
    from stpp.models.network import SegmentationNetwork


def build(spec: Mapping[str, Any], classes: int, bands: Bands | None = None) -> SegmentationNetwork:
    """The network that `spec` describes, freshly initialised from torch's global random state (seed it before).

    `spec` holds fields of `NetworkDescription`; those that it lacks take their defaults. Images have three bands, red,
    green and blue, or these `bands`. Raises StppError for what is no description of a network.
    """
    from stpp.models.network import SegmentationNetwork

    network, colours = described(spec), RGB_PLACES if bands is None else bands.colours
    encoder = component(ENCODERS, network.backbone).encoder(network.backbone, network.output_stride, len(colours))
    if colours != RGB_PLACES:
        encoder.take_bands(colours)
    return SegmentationNetwork(encoder, component(DECODERS, network.architecture).decoder(network, encoder, classes))
