"""DeepLabv3+ (Chen et al., ECCV 2018) in the ST++ authors' form: spatial pyramid of dilations, stride-4 decoder."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stpp.common.description import NetworkDescription
from stpp.common.errors import StppError
from stpp.models.blocks import conv_bn_relu, resize
from stpp.models.network import Backbone, Decoder
from stpp.models.separable import separable_bn_relu

NAMES = ("deeplabv3plus",)
RATES = 3
READS = (0, -1)
PAPER_RATES = (12, 24, 36)
Around = Callable[..., nn.Sequential]
"""Makes a 3x3 convolution with batch norm and ReLU, from the channels before and behind it and a `dilation`."""


class DeepLabV3PlusHead(Decoder):
    """Logits at the resolution of the finest map (of stride 4 in the paper), from that and the coarsest.

    `rates` None: the paper's 12, 24, 36, meant for output stride 8; `aspp_channels` None: the paper's `channels` / 8.
    `dropout` multiplies the paper's rates, 0.5 of the ASPP's channels and 0.1 of the decoder's values. With `separable`
    each 3x3 convolution is depthwise and then 1x1, as in Chen et al. and in segmentation_models.pytorch.
    Weights start at torch's defaults, as the authors'.
    """

    def __init__(
        self,
        channels: int,
        low_channels: int,
        classes: int,
        *,
        rates: Sequence[int] | None = None,
        aspp_channels: int | None = None,
        decoder_channels: int = 256,
        reduced_channels: int = 48,
        dropout: float = 1.0,
        separable: bool = False,
    ) -> None:
        super().__init__()
        aspp_channels = channels // 8 if aspp_channels is None else aspp_channels
        around = separable_bn_relu if separable else partial(conv_bn_relu, kernel=3)
        self.aspp = ASPP(channels, aspp_channels, PAPER_RATES if rates is None else rates, dropout, around)
        self.reduce = conv_bn_relu(low_channels, reduced_channels, 1)
        self.fuse = nn.Sequential(
            around(aspp_channels + reduced_channels, decoder_channels),
            around(decoder_channels, decoder_channels),
            nn.Dropout(0.1 * dropout),
        )
        self.score = nn.Conv2d(decoder_channels, classes, 1)

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        low, last = maps[0], maps[-1]
        context = resize(self.aspp(last), low)
        fused: Tensor = self.fuse(torch.cat([self.reduce(low), context], dim=1))
        return fused


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution, one of 3x3 per rate, made by `around`, and global pooling,
    each to `outputs` channels, joined and projected to `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, rates: Sequence[int], dropout: float, around: Around) -> None:
        super().__init__()
        dilated = (around(inputs, outputs, dilation=rate) for rate in rates)
        self.branches = nn.ModuleList([conv_bn_relu(inputs, outputs, 1), *dilated])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(inputs, outputs, 1))
        self.project = nn.Sequential(
            conv_bn_relu((len(rates) + 2) * outputs, outputs, 1),
            nn.Dropout2d(0.5 * dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        # Bilinear resizing of a single value is that value everywhere.
        everywhere = self.pool(x).expand(-1, -1, *x.shape[-2:])
        projected: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), everywhere], dim=1))
        return projected


def decoder(network: NetworkDescription, encoder: Backbone, classes: int) -> DeepLabV3PlusHead:
    """The head of the network that is described. Raises StppError for an encoder whose maps are of one resolution."""
    if encoder.strides[0] == encoder.strides[-1]:
        raise StppError(
            f"network.architecture: deeplabv3plus needs a finer feature map than the last one, but all those of "
            f"{network.backbone} have the stride {encoder.strides[0]}; take `architecture: dpt` or `linear`"
        )
    return DeepLabV3PlusHead(
        encoder.channels[-1],
        encoder.channels[0],
        classes,
        rates=network.rates,
        aspp_channels=network.head_channels,
        decoder_channels=network.decoder_channels,
        reduced_channels=network.low_level_channels,
        dropout=network.dropout,
        separable=network.separable,
    )
