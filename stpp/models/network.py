"""What all networks share: a backbone makes features, a classifier makes logits, and these grow to the input's size."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stpp.models.blocks import resize, to_multiple


class Normalisation(NamedTuple):
    """What a network takes off the values of each band, and what it divides them by; values are in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


OF_IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of R, G, B, as torchvision's weights expect."""


class Backbone(nn.Module):
    """An encoder: it turns images into features of several resolutions.

    `forward` maps images (N, bands, H, W), normalised by `normalisation`, H and W multiples of `multiple_of`, to maps
    from fine to coarse, at least two: map k is (N, channels[k], about H / strides[k], about W / strides[k]).

    `imagenet_only` are the name prefixes of those entries of an ImageNet weight file that belong to its classifier
    and have no place in the backbone. In every module a batch norm is registered right after its convolution.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    bands = 3
    multiple_of = 1
    normalisation = OF_IMAGENET
    imagenet_only: tuple[str, ...] = ()

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of a published state dict is for this encoder, by its own names: all but `imagenet_only`.

        Names that it does not know are kept as they are.
        """
        return {name: tensor for name, tensor in state.items() if not name.startswith(self.imagenet_only)}


class SegmentationNetwork(nn.Module):
    """`backbone`, then `classifier`: everything after the backbone, a module that maps the list of its maps to logits
    at a resolution of its choice."""

    def __init__(self, backbone: Backbone, classifier: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, images: Tensor, dropped: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (N, classes, H, W), float32, of normalised images (N, 3, H, W) of any size.

        The encoder sees them resized to the nearest multiples of its `multiple_of`; the logits are of the images' size.
        With `dropped`, factors (N, channels) for the channels of each map of features, (2 N, classes, H, W): from the
        features as they are, and then from their products with these factors.

        In training mode PSPNet and DeepLabv3+ need a batch of at least 2: their global pooling leaves one value per
        image and channel, of which batch norm cannot take the variance (torch raises ValueError for a single one).
        """
        maps = self.backbone(to_multiple(images, self.backbone.multiple_of))
        if dropped is not None:
            maps = [
                torch.cat([map, map * factors[:, :, None, None].to(map.dtype)]) for map, factors in zip(maps, dropped)
            ]
        # In float32 before they grow: resized in bfloat16, neighbouring classes would tie.
        return resize(self.classifier(maps).float(), images)

    @property
    def normalisation(self) -> Normalisation:
        """That of its backbone, for whoever makes its input."""
        return self.backbone.normalisation

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the backbone."""
        return self.backbone.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """All the other parameters: those that DeepLabv3+ and PSPNet train at ten times the learning rate."""
        return self.classifier.parameters()
