"""The auxiliary decoders of CCT: from features of the encoder to logits, by 1x1 convolutions and pixel shuffles."""

from collections.abc import Sequence
from math import ceil, log2

import torch
from torch import Tensor, nn

from stpp.models.blocks import takes_values


class UpsamplingDecoder(nn.Sequential):
    """Logits of features (N, channels, H, W), at 2 ** k times their resolution, the first power from `stride` on.

    A 1x1 convolution to `classes` channels, and k times one to four times as many, a ReLU and a pixel shuffle. At first
    each doubling is that of the nearest neighbour (ICNR: Aitken et al., 2017).
    """

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        first = nn.Conv2d(channels, classes, 1, bias=False)
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        layers: list[nn.Module] = [first]
        for _ in range(ceil(log2(stride))):
            layers += [_even_convolution(classes), nn.ReLU(), nn.PixelShuffle(2)]
        super().__init__(*layers)


class UpsamplingDecoders(nn.ModuleList):
    """So many of these: a call gives each its own features, in a list, and gives their logits in a tuple."""

    def __init__(self, count: int, channels: int, classes: int, stride: int) -> None:
        super().__init__(UpsamplingDecoder(channels, classes, stride) for _ in range(count))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(decoder(each) for decoder, each in zip(self, features, strict=True))


def _even_convolution(channels: int) -> nn.Conv2d:
    """A 1x1 convolution to four times the channels, of which each four that a pixel shuffle joins are equal."""
    conv = nn.Conv2d(channels, 4 * channels, 1)
    if takes_values(conv):
        own = torch.empty(channels, channels, 1, 1)
        nn.init.kaiming_normal_(own, nonlinearity="relu")
        with torch.no_grad():
            conv.weight.copy_(own.repeat_interleave(4, dim=0))
            conv.bias.zero_()  # type: ignore[union-attr]
    return conv
