"""DeepLabv2 (Chen et al., TPAMI 2018) in the ST++ authors' form: parallel atrous classifiers, summed."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from stpp.common.description import NetworkDescription
from stpp.models.blocks import takes_values
from stpp.models.dilated import DilatedConv2d
from stpp.models.network import Backbone, Decoder

NAMES = ("deeplabv2",)
RATES = 4
READS = (-1,)
PAPER_RATES = (6, 12, 18, 24)


class DeepLabV2Head(nn.ModuleList, Decoder):
    """Logits at the resolution of the coarsest map, the only one that is used.

    One 3x3 classifier with bias per rate (None: the paper's 6, 12, 18, 24), weights drawn from N(0, 0.01), biases at
    torch's default. The list is the module itself so that names are `classifier.0.weight` and so on, as in the
    authors' COCO-pretrained weights.
    """

    def __init__(self, channels: int, classes: int, *, rates: Sequence[int] | None = None) -> None:
        rates = PAPER_RATES if rates is None else rates
        classifiers = [DilatedConv2d(channels, classes, rate, bias=True) for rate in rates]
        for conv in filter(takes_values, classifiers):
            nn.init.normal_(conv.weight, std=0.01)
        super().__init__(classifiers)

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        return maps[-1]

    def classify(self, features: Tensor) -> Tensor:
        return reduce(torch.add, (conv(features) for conv in self))

    @property
    def width(self) -> int:
        return int(self[0].in_channels)  # type: ignore[arg-type]


def decoder(network: NetworkDescription, encoder: Backbone, classes: int) -> DeepLabV2Head:
    """The head of the network that is described."""
    return DeepLabV2Head(encoder.channels[-1], classes, rates=network.rates)
