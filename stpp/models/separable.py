"""Depthwise-separable convolutions: of each channel alone, and then 1x1, as in Chen et al. (ECCV 2018)."""

from torch import nn

from stpp.models.depthwise import DepthwiseConv2d, DilatedDepthwiseConv2d


def separable_bn_relu(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """A separable 3x3 convolution of stride 1 that keeps the size, with nothing between its two; batch norm, ReLU."""
    alone = DepthwiseConv2d(inputs) if dilation == 1 else DilatedDepthwiseConv2d(inputs, dilation)
    one = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(alone, one, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
