"""ResNet backbones with torchvision's layout and names, so that its ImageNet weights load by name.

Written out rather than taken from torchvision because torchvision's BasicBlock refuses dilation, and because
importing torchvision costs every training and prediction job seconds.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from stpp.models.blocks import init_convolutions, limit_stride
from stpp.models.network import Backbone


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (ResNet-18 and -34). The stride is the first convolution's."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (ResNet-50 and -101). The stride is the 3x3 convolution's."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return self.relu(y)


NAMES = ("resnet18", "resnet34", "resnet50", "resnet101")
VARIANTS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(Backbone):
    """A stem of stride 4, then four stages of `depths` blocks; the last one or two are dilated instead of strided.

    `widths` are the inner channels of the stages' blocks, of which they put out `block.expansion` times as many.
    """

    imagenet_only = ("fc.",)

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        output_stride: int,
        widths: Sequence[int] = (64, 128, 256, 512),
        stem_kernel: int = 7,
        bands: int = 3,
    ) -> None:
        super().__init__()
        early, middle, late, last = (width * block.expansion for width in widths)
        self.channels, self.strides = (early, last), (4, output_stride)
        self.conv1 = nn.Conv2d(bands, widths[0], stem_kernel, stride=2, padding=stem_kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, widths[0], widths[0], depths[0], stride=1)
        self.layer2 = _stage(block, early, widths[1], depths[1], stride=2)
        self.layer3 = _stage(block, middle, widths[2], depths[2], stride=2)
        self.layer4 = _stage(block, late, widths[3], depths[3], stride=2)
        limit_stride(self.layer3, self.layer4, output_stride)
        init_convolutions(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        low = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        return [low, self.layer4(self.layer3(self.layer2(low)))]


def encoder(name: str, output_stride: int, bands: int = 3) -> ResNet:
    """ResNet-18, -34, -50 or -101 by its torchvision `name`, at output stride 8 (the paper's) or 16."""
    block, depths = VARIANTS[name]
    return ResNet(block, depths, output_stride, bands=bands)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    outputs = width * block.expansion
    return nn.Sequential(block(inputs, width, stride), *(block(outputs, width, 1) for _ in range(depth - 1)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity where shapes agree, else a 1x1 convolution and batch norm."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
