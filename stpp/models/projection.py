"""Heads beside the one that segments, whose features of places are compared with each other."""

import torch.nn.functional as F
from torch import Tensor, nn

from stpp.models.blocks import conv_bn_relu


class Representation(nn.Sequential):
    """That of U2PL: from features (N, `inputs`, h, w) to (N, `outputs`, h, w), by two 3x3 convolutions and one 1x1."""

    def __init__(self, inputs: int, dropout: float, outputs: int = 256) -> None:
        layers: list[nn.Module] = []
        for before in (inputs, outputs):
            layers += [conv_bn_relu(before, outputs, 3), nn.Dropout2d(dropout)]
        super().__init__(*layers, nn.Conv2d(outputs, outputs, 1))


class Projection(nn.Module):
    """From features (N, `inputs`, h, w) to directions, (N, `outputs`, h, w) of length 1: two 1x1 convolutions."""

    def __init__(self, inputs: int, hidden: int = 256, outputs: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features), dim=1)
