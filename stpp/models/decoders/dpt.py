"""DPT (Ranftl et al., ICCV 2021) in UniMatch V2's form: four maps are brought to four resolutions and fused upwards."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from stpp.common.description import NetworkDescription
from stpp.models.blocks import resize
from stpp.models.network import Backbone, Decoder

NAMES = ("dpt",)
RATES = 0
MAPS = 4
WIDE = 1024
"""From so many channels on, as in ViT-L, the head is wider."""


class DPTHead(Decoder):
    """Logits at twice the resolution of the finest map, once that is brought to its own.

    `channels` and `strides` are those of the maps. Map k is projected to `projected[k]` channels and brought to the
    stride of the third map times 1/4, 1/2, 1 and 2: of a ViT's maps, all of stride 14, to 3.5, 7, 14 and 28; those of
    a CNN stay at 4, 8, 16 and 32. `width` are the channels of the fusion. There is no batch norm. Weights start at
    torch's defaults, as in UniMatch V2. The first unit of the coarsest fusion is left out: nothing would enter it.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, *, projected: Sequence[int], width: int
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(given, made, 1) for given, made in zip(channels, projected))
        wanted = [strides[2] / 4, strides[2] / 2, strides[2], 2 * strides[2]]
        self.resamplers = nn.ModuleList(
            _resampler(made, stride / want) for made, stride, want in zip(projected, strides, wanted)
        )
        self.levels = nn.ModuleList(nn.Conv2d(made, width, 3, padding=1, bias=False) for made in projected)
        self.skips = nn.ModuleList(ResidualUnit(width) for _ in range(MAPS - 1))
        self.units = nn.ModuleList(ResidualUnit(width) for _ in range(MAPS))
        self.outs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(MAPS))
        self.hidden = nn.Conv2d(width, width, 3, padding=1)
        self.score = nn.Conv2d(width, classes, 1)

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        parts = zip(self.projections, self.resamplers, self.levels, maps)
        levels = [level(resampler(projection(each))) for projection, resampler, level, each in parts]
        x = levels[-1]
        for number in reversed(range(MAPS)):
            if number < MAPS - 1:
                x = x + self.skips[number](levels[number])
            x = self.units[number](x)
            if number:
                x = resize(x, levels[number - 1])
            else:
                size = (2 * x.shape[-2], 2 * x.shape[-1])
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
            x = self.outs[number](x)
        return F.relu(self.hidden(x))


class ResidualUnit(nn.Module):
    """ReLU, 3x3 convolution, ReLU, 3x3 convolution, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + y


def decoder(network: NetworkDescription, encoder: Backbone, classes: int) -> DPTHead:
    """The head of the network that is described.

    For the maps of a ViT, UniMatch V2's numbers of channels: to 1/8, 1/4, 1/2 and all of its own, and 1/6 of them in
    the fusion; of ViT-L 1/4, 1/2, 1, 1, and 1/4. A CNN's maps keep theirs; the fusion has a quarter of the last one's,
    256 at most. `network.head_channels` are those of the fusion instead.
    """
    own = encoder.channels
    if len(set(encoder.strides)) > 1:
        projected, width = list(own), min(256, own[-1] // 4)
    elif own[-1] < WIDE:
        projected, width = [own[0] // 8, own[1] // 4, own[2] // 2, own[3]], own[-1] // 6
    else:
        projected, width = [own[0] // 4, own[1] // 2, own[2], own[3]], own[-1] // 4
    return DPTHead(own, encoder.strides, classes, projected=projected, width=network.head_channels or width)


def _resampler(channels: int, factor: float) -> nn.Module:
    """What makes a map `factor` times as fine: 4, 2, 1, or 1/2 and less, by strided convolutions."""
    if factor > 1:
        return nn.ConvTranspose2d(channels, channels, int(factor), stride=int(factor))
    return nn.Conv2d(channels, channels, 3, stride=round(1 / factor), padding=1) if factor < 1 else nn.Identity()
