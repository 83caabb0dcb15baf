"""A network as a graph that other programs run: from the pixels of images of any size to masks and probabilities."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from stpp.common.bands import Bands
from stpp.models.blocks import replace_modules
from stpp.models.network import SegmentationNetwork

LEAST_SIDE = 32
"""Shorter sides than the networks' strides make graphs of their own."""


def least_side(network: SegmentationNetwork) -> int:
    """The shortest side, in px, of the images that the graph of a network takes.

    A map of a single place, after halves of the coarsest one, would be a case of its own.
    """
    return max(LEAST_SIDE, 3 * network.backbone.multiple_of)


class Exportable(nn.Module):
    """`network`, in float32, after its normalisation and before the argmax.

    `forward` maps RGB images, uint8 (N, H, W, 3), or those of other `bands`, (N, H, W, bands), to masks, uint8
    (N, H, W), the class of each pixel, and to probabilities, float32 (N, C, H, W), 0..1. Where the bands have a scale,
    images are float32 with the values of files, and the graph scales them to whole numbers of 0..255.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, network: SegmentationNetwork, bands: Bands | None = None) -> None:
        super().__init__()
        self.scaled = bands is not None and bands.scale is not None
        if bands is not None and bands.scale is not None:
            low, high = torch.tensor(bands.scale, dtype=torch.float32).t()
            self.register_buffer("low", low)
            self.register_buffer("width", (high - low).clamp(min=torch.finfo(torch.float32).tiny))
        self.network = deepcopy(network).to(memory_format=torch.contiguous_format)
        replace_modules(self.network, _plain_pooling)
        self.register_buffer("mean", 255 * torch.tensor(network.normalisation.mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(network.normalisation.std).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.scaled:
            images = (255 * ((images - self.low) / self.width).clamp(0, 1)).round()
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits = self.network(x)
        return logits.argmax(dim=1).to(torch.uint8), logits.softmax(dim=1)


class Pooling(nn.Module):
    """Adaptive average pooling to `bins` x `bins`, as two matrix products: ONNX has it for no image of unknown size."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self._share(x.shape[2]), self._share(x.shape[3])
        pooled: Tensor = rows @ x @ columns.t()
        return pooled

    def _share(self, length: int) -> Tensor:
        """(bins, length): with which weight each of the pixels counts in each bin; bins may overlap by a pixel."""
        index, pixel = torch.arange(self.bins)[:, None], torch.arange(length)[None]
        within = (pixel >= index * length // self.bins) & (pixel * self.bins < (index + 1) * length)
        weights = within.float()
        return weights / weights.sum(dim=1, keepdim=True)


class MaxPooling(nn.Module):
    """Max pooling of stride 2 as one of stride 1, of whose rows and columns every second is taken: the same values.

    For one of stride 2, torch 2.11 takes it that all images have as odd a size as the example.
    """

    def __init__(self, pooling: nn.MaxPool2d) -> None:
        super().__init__()
        self.dense = nn.MaxPool2d(pooling.kernel_size, stride=1, padding=pooling.padding)

    def forward(self, x: Tensor) -> Tensor:
        dense = self.dense(x)
        rows, columns = (torch.arange(0, length, 2) for length in dense.shape[2:])
        pooled: Tensor = dense.index_select(2, rows).index_select(3, columns)
        return pooled


def _plain_pooling(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.AdaptiveAvgPool2d) and isinstance(module.output_size, int) and module.output_size > 1:
        return Pooling(module.output_size)
    if isinstance(module, nn.MaxPool2d) and module.stride == 2:
        return MaxPooling(module)
    return module
