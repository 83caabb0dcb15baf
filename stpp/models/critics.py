"""Small networks that look at segmentations: they judge them, find their flaws, correct them, or tell how they lie.

All take maps of any size. Those whose strides leave nothing of a small map see it with zeros below and to its right.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stpp.models.blocks import conv_bn_relu, resize


class PixelDiscriminator(nn.Module):
    """That of AdvSemiSeg: from a map of labels to how true it is at each pixel, as logits (N, 1, H, W).

    It sees `channels`, which are probabilities or 0 and 1. Four convolutions 4x4 of stride 2, and one that judges.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.layers = _strided([channels, width, 2 * width, 4 * width, 8 * width])
        self.score = nn.Conv2d(8 * width, 1, 4, stride=2, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return _scores(self.score, self.layers, maps, least=32)


class ImageDiscriminator(nn.Module):
    """That of S4GAN: from images and maps of labels to how true these are, as logits (N,), and features (N, 8 `width`).

    It sees `channels`, the bands of the image and the classes. `dropout` is that of whole channels.
    """

    def __init__(self, channels: int, dropout: float, width: int = 64) -> None:
        super().__init__()
        self.layers = _strided([channels, width, 2 * width, 4 * width, 8 * width], dropout)
        self.score = nn.Linear(8 * width, 1)

    def forward(self, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(_at_least(torch.cat([images, maps], dim=1), 16)).mean(dim=(2, 3))
        return self.score(features)[:, 0], features


class FlawDetector(nn.Module):
    """That of GCT: from images and probabilities to how wrong these are at each pixel, (N, H, W), about 0 to 1.

    Half of the channels of each layer have batch norm, the others instance norm. Its convolutions of stride 1 take a
    pixel each, so that a map of 96 pixels a side is the smallest one of which it says more than one number.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        sizes = [width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after, stride in zip([channels, *sizes], sizes, (2, 2, 1, 2, 1, 2, 1)):
            layers += [nn.Conv2d(before, after, 4, stride, padding=1), HalfNorm(after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Conv2d(8 * width, 1, 4, stride=2, padding=1)

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        return _scores(self.score, self.layers, torch.cat([images, maps], dim=1), least=96)[:, 0]


class HalfNorm(nn.Module):
    """Batch norm of the first half of the channels, instance norm of the others, which has nothing to learn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batch = nn.BatchNorm2d(channels // 2)
        self.instance = nn.InstanceNorm2d(channels - channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.tensor_split([self.batch.num_features], dim=1)
        return torch.cat([self.batch(first), self.instance(second)], dim=1)


class Corrector(nn.Module):
    """Our reading of that of ECS: from images and probabilities to logits (N, classes + 1, H, W).

    The first `classes` say what should be at a pixel, the last one that what is there is right.
    """

    def __init__(self, bands: int, classes: int, width: int = 64, rates: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        down = [bands + classes, width, 2 * width]
        self.down = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(n, m, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(m), nn.ReLU())
                for n, m in pairwise(down)
            )
        )
        self.around = nn.Sequential(*(conv_bn_relu(2 * width, 2 * width, 3, dilation=rate) for rate in rates))
        self.score = nn.Conv2d(2 * width, classes + 1, 1)

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        def layers(x: Tensor) -> Tensor:
            features: Tensor = self.around(self.down(x))
            return features

        return _scores(self.score, layers, torch.cat([images, maps], dim=1), least=4)


class RotationHead(nn.Module):
    """That of S4L: from logits (N, classes, H, W) to those of four quarter turns, (N, 4)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for outputs in (classes, 2 * classes):
            layers += [nn.Conv2d(classes, outputs, 4, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(2 * classes, 4)

    def forward(self, logits: Tensor) -> Tensor:
        turns: Tensor = self.score(self.layers(_at_least(logits, 4)).mean(dim=(2, 3)))
        return turns


def _strided(channels: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Convolutions 4x4 of stride 2 with leaky ReLUs, and dropout of channels after all but the last one."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        if dropout and after != channels[-1]:
            layers.append(nn.Dropout2d(dropout))
    return nn.Sequential(*layers)


def _scores(score: nn.Module, layers: Callable[[Tensor], Tensor], maps: Tensor, least: int) -> Tensor:
    """What `score` makes of the features that `layers` give, resized to the size of `maps`."""
    seen = _at_least(maps, least)
    height, width = maps.shape[-2:]
    return resize(score(layers(seen)).float(), seen)[..., :height, :width]


def _at_least(maps: Tensor, side: int) -> Tensor:
    """`maps` (N, C, H, W), with zeros where they are smaller than `side`."""
    height, width = maps.shape[-2:]
    return F.pad(maps, (0, max(0, side - width), 0, max(0, side - height)))
