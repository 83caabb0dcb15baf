"""MobileNetV2 (Sandler et al., CVPR 2018) with torchvision's layout and names: its ImageNet weights load by name.

Written out rather than taken from torchvision because importing that costs every job seconds.
"""

from torch import Tensor, nn

from stpp.models.blocks import init_convolutions, limit_stride
from stpp.models.depthwise import DepthwiseConv2d
from stpp.models.network import Backbone

NAMES = ("mobilenet_v2",)
# Table 2 of the paper: expansion, output channels, number of blocks, stride of the first block.
SETTINGS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion (none at factor 1), 3x3 depthwise, linear 1x1; beside the identity where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_conv_bn_relu6(inputs, width, 1)] if expansion != 1 else []),
            _bn_relu6(DepthwiseConv2d(width, stride)),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(Backbone):
    """The 17 inverted residual blocks: low-level features of 24 channels, last features of 320.

    As usual for DeepLab on MobileNetV2, without the final 1x1 convolution to 1280 channels, which serves ImageNet's
    classifier. Output stride 8 or 16, by dilation of the depthwise convolutions.
    """

    imagenet_only = ("features.18.", "classifier.")
    channels = (24, 320)

    def __init__(self, output_stride: int, bands: int = 3) -> None:
        super().__init__()
        self.strides = (4, output_stride)
        inputs = 32
        layers: list[nn.Module] = [_conv_bn_relu6(bands, inputs, 3, stride=2)]
        for expansion, outputs, blocks, stride in SETTINGS:
            for index in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, expansion, stride if index == 0 else 1))
                inputs = outputs
        self.features = nn.Sequential(*layers)
        # Blocks 4, 7 and 14 are the first at strides 8, 16 and 32.
        limit_stride(self.features[7:14], self.features[14:], output_stride)
        init_convolutions(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        low = self.features[:4](images)
        return [low, self.features[4:](low)]


def encoder(name: str, output_stride: int, bands: int = 3) -> MobileNetV2:
    """MobileNetV2 at output stride 8 or 16."""
    return MobileNetV2(output_stride, bands)


def _conv_bn_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return _bn_relu6(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False))


def _bn_relu6(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU6(inplace=True))
