"""A backbone for small scenes and a CPU: the shape of ResNet-10, a quarter of its width, trained from scratch."""

from stpp.models.encoders.resnet import BasicBlock, ResNet

NAMES = ("tiny",)
PUBLISHED = "none"
# With DeepLabv3+ at rates 2, 4, 6, 48 ASPP channels and a decoder of 64 + 24: 0.58 million parameters.
WIDTHS = (16, 32, 64, 128)


def encoder(name: str, output_stride: int, bands: int = 3) -> ResNet:
    """One BasicBlock a stage and a 3x3 stem: scenes of 96 pixels have no room for 7x7. It has no ImageNet weights."""
    return ResNet(BasicBlock, (1, 1, 1, 1), output_stride, widths=WIDTHS, stem_kernel=3, bands=bands)
