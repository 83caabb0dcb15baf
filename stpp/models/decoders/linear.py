"""A linear classifier of each place of the feature maps, as DINOv2 measures encoders (Oquab et al., TMLR 2024)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stpp.common.description import NetworkDescription
from stpp.common.errors import StppError
from stpp.models.blocks import resize
from stpp.models.enlarging import enlarged
from stpp.models.network import Backbone, Decoder

NAMES = ("linear",)
RATES = 0
READS = "linear_maps"


class LinearHead(Decoder):
    """Logits at the resolution of the finest of the last `len(channels)` maps, the only ones that are used.

    They are resized to that, joined, and normalised by batch norm before a 1x1 convolution, whose weights are drawn
    from N(0, 0.01) as DINOv2's; its bias is 0.
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.maps = len(channels)
        self.norm = nn.BatchNorm2d(sum(channels))
        self.score = nn.Conv2d(sum(channels), classes, 1)
        if not self.score.weight.is_meta:
            nn.init.normal_(self.score.weight, std=0.01)
            nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        finest, *others = maps[-self.maps :]
        joined = torch.cat([finest, *(resize(each, finest) for each in others)], dim=1)
        normalised: Tensor = self.norm(joined)
        return normalised

    def enlarged(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        return enlarged(logits, size)


def decoder(network: NetworkDescription, encoder: Backbone, classes: int) -> LinearHead:
    """The head of the network that is described. Raises StppError where the encoder has fewer maps than it asks for."""
    if network.linear_maps > (given := len(encoder.channels)):
        raise StppError(
            f"network.linear_maps: {network.linear_maps} feature maps are asked for, but {network.backbone} gives "
            f"{given}; ask for no more"
        )
    return LinearHead(encoder.channels[-network.linear_maps :], classes)
