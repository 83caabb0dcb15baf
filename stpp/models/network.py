"""What all networks share: a backbone makes features, a classifier makes logits, and these grow to the input's size."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from stpp.models.blocks import resize


class Backbone(nn.Module):
    """A feature extractor.

    `forward` maps images (N, 3, H, W) to the low-level features (N, low_channels, about H/4, W/4) of stage 1 and to the
    features (N, channels, about H/s, W/s) of the last stage, s the output stride.

    `imagenet_only` are the name prefixes of those entries of an ImageNet weight file that belong to its classifier
    and have no place in the backbone. In every module a batch norm is registered right after its convolution.
    """

    channels: int
    low_channels: int
    imagenet_only: tuple[str, ...] = ()


class SegmentationNetwork(nn.Module):
    """`backbone`, then `classifier`: everything after the backbone, a module that maps the low-level and the last
    features to logits at a resolution of its choice."""

    def __init__(self, backbone: Backbone, classifier: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, images: Tensor, dropped: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (N, classes, H, W), float32, of normalised images (N, 3, H, W) of any size.

        With `dropped`, factors (N, channels) for the channels of the low-level and of the last features, (2 N, classes,
        H, W): from the features as they are, and then from their products with these factors.

        In training mode PSPNet and DeepLabv3+ need a batch of at least 2: their global pooling leaves one value per
        image and channel, of which batch norm cannot take the variance (torch raises ValueError for a single one).
        """
        low, last = self.backbone(images)
        if dropped is not None:
            low, last = (
                torch.cat([map, map * factors[:, :, None, None].to(map.dtype)])
                for map, factors in zip((low, last), dropped)
            )
        # In float32 before they grow: resized in bfloat16, neighbouring classes would tie.
        return resize(self.classifier(low, last).float(), images)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the backbone."""
        return self.backbone.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """All the other parameters: those that DeepLabv3+ and PSPNet train at ten times the learning rate."""
        return self.classifier.parameters()
