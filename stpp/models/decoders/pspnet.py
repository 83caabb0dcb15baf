"""PSPNet (Zhao et al., CVPR 2017) in the ST++ authors' form: pooling at four scales, no auxiliary loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stpp.common.description import NetworkDescription
from stpp.models.blocks import conv_bn_relu, resize
from stpp.models.network import Backbone, Decoder

NAMES = ("pspnet",)
RATES = 0
READS = (-1,)
BINS = (1, 2, 3, 6)


class PSPNetHead(Decoder):
    """Logits at the resolution of the coarsest map, the only one that is used.

    `channels` of each pooled scale and of the last hidden layer; None: the paper's `inputs` / 4. `dropout` multiplies
    the paper's rate 0.1. Weights start at torch's defaults, as the authors'.
    """

    def __init__(self, inputs: int, classes: int, *, channels: int | None = None, dropout: float = 1.0) -> None:
        super().__init__()
        channels = inputs // 4 if channels is None else channels
        self.scales = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), conv_bn_relu(inputs, channels, 1)) for bins in BINS
        )
        self.fuse = nn.Sequential(
            conv_bn_relu(inputs + len(BINS) * channels, channels, 3),
            nn.Dropout(0.1 * dropout),
        )
        self.score = nn.Conv2d(channels, classes, 1)

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        last = maps[-1]
        pyramid = torch.cat([last, *(resize(scale(last), last) for scale in self.scales)], dim=1)
        fused: Tensor = self.fuse(pyramid)
        return fused


def decoder(network: NetworkDescription, encoder: Backbone, classes: int) -> PSPNetHead:
    """The head of the network that is described."""
    return PSPNetHead(encoder.channels[-1], classes, channels=network.head_channels, dropout=network.dropout)
