"""What all networks share: a backbone makes features, a classifier makes logits, and these grow to the input's size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from stpp.common.bands import RGB_PLACES
from stpp.common.errors import StppError
from stpp.models.blocks import resize_to, to_multiple


class Normalisation(NamedTuple):
    """What a network takes off the values of each band, and what it divides them by; values are in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


OF_IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of R, G, B, as torchvision's weights expect."""


@dataclass(frozen=True)
class Maps:
    """What an encoder has made of N images of `size` (H, W): maps from fine to coarse, each (N, channels, h, w).

    They may be those alone that the decoder reads.
    """

    maps: Sequence[Tensor]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.maps[0])

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.maps[0].device

    def to(self, dtype: torch.dtype) -> "Maps":
        """The same in another dtype."""
        return self.each(lambda values: values.to(dtype))

    def each(self, change: Callable[..., Tensor], *others: "Maps") -> "Maps":
        """What `change` makes of each of the maps, and of those of the `others` in its place."""
        return Maps([change(*same) for same in zip(self.maps, *(other.maps for other in others))], self.size)


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
    colours: tuple[int | None, ...] = RGB_PLACES
    """For each band of an image the place in RGB whose weights and statistics it takes; None: the mean of all three."""
    multiple_of = 1
    normalisation = OF_IMAGENET
    imagenet_only: tuple[str, ...] = ()
    undecayed: frozenset[str] = frozenset()
    """The names of positions and tokens, which no weight decay should pull to 0, as it should not norms and biases."""

    def take_bands(self, colours: Sequence[int | None]) -> None:
        """Be the encoder of images of these bands, of which its first convolution has as many."""
        self.colours, self.bands = tuple(colours), len(colours)
        self.normalisation = Normalisation(
            *(
                tuple(sum(values) / len(values) if colour is None else values[colour] for colour in colours)
                for values in self.normalisation
            )
        )

    def layers(self) -> list[list[str]]:
        """The names of its parameters in the order of their depth: those of the stem, then those of each block."""
        stem: list[str] = []
        blocks: list[list[str]] = []
        for name, child in self.named_children():
            parts = child.named_children() if isinstance(child, nn.Sequential) else [("", child)]
            for number, part in parts:
                place = f"{name}.{number}." if number else f"{name}."
                (blocks.append if number else stem.extend)([place + own for own, _ in part.named_parameters()])
        return [layer for layer in (stem, *blocks) if layer]

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of a published state dict is for this encoder, by its own names: all but `imagenet_only`.

        Names that it does not know are kept as they are.
        """
        return {name: tensor for name, tensor in state.items() if not name.startswith(self.imagenet_only)}


class Decoder(nn.Module):
    """What maps the list of an encoder's maps to logits, at a resolution of its choice.

    These are what the last layer, `score`, makes of its `features`, float (N, width, h, w).
    """

    score: nn.Module

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        """What the last layer sees."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """The logits of these features."""
        logits: Tensor = self.score(features)
        return logits

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classify(self.features(maps))

    def enlarged(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """The logits, float (N, classes, h, w), bilinearly resized to `size` (H, W)."""
        return resize_to(logits, size)

    @property
    def width(self) -> int:
        """The channels of its features."""
        return int(self.score.in_channels)  # type: ignore[arg-type]


class SegmentationNetwork(nn.Module):
    """`backbone`, then `classifier`: everything after the backbone."""

    def __init__(self, backbone: Backbone, classifier: "Decoder") -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.still: list[str] = []

    def freeze(self, tune: str | int) -> None:
        """Let "all" of the encoder's blocks learn, "none", or the last `tune`, and keep the others as they are.

        These are in evaluation mode, whatever the mode of the network. Raises StppError where there are no more blocks
        than that.
        """
        layers = self.backbone.layers()
        if tune == "all":
            return
        if tune == "none":
            self.still = [name for name, _ in self.backbone.named_modules()]
            self.backbone.requires_grad_(False)
            return
        if int(tune) >= len(layers):
            raise StppError(
                f"tune is {tune}, but the encoder has {len(layers) - 1} blocks behind its stem; set a lower number, "
                "or to all"
            )
        names = [name for layer in layers[: -int(tune)] for name in layer]
        for name in names:
            self.backbone.get_parameter(name).requires_grad_(False)
        self.still = sorted({name.rpartition(".")[0] for name in names})

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for what is frozen, or evaluation mode."""
        super().train(mode)
        for name in self.still:
            self.backbone.get_submodule(name).training = False
        return self

    def encoded(self, images: Tensor) -> Maps:
        """What the encoder makes of normalised images (N, bands, H, W) of any size.

        It sees them resized to the nearest multiples of its `multiple_of`.
        """
        maps = self.backbone(to_multiple(images, self.backbone.multiple_of))
        return Maps(maps, (images.shape[-2], images.shape[-1]))

    def forward(
        self,
        images: Tensor | Maps,
        dropped: Sequence[Tensor] | None = None,
        clean: bool = True,
        *,
        with_features: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor], Tensor]:
        """Logits (N, classes, H, W), float32, of normalised images (N, bands, H, W) of any size, or of their maps.

        The logits are of the images' size.
        With `dropped`, factors (N, channels) for the channels of each feature map, (2 N, classes, H, W): from the
        features as they are, and then from their products with these factors; unless `clean`, from the latter alone.
        `with_features` gives the maps of the encoder and the features of the decoder beside the logits.

        In training mode PSPNet and DeepLabv3+ need a batch of at least 2: their global pooling leaves one value per
        image and channel, of which batch norm cannot take the variance (torch raises ValueError for a single one).
        """
        seen = images if isinstance(images, Maps) else self.encoded(images)
        maps, size = seen.maps, seen.size
        if dropped is not None:
            products = [map * factors[:, :, None, None].to(map.dtype) for map, factors in zip(maps, dropped)]
            maps = [torch.cat(pair) for pair in zip(maps, products)] if clean else products
        # In float32 before they grow: resized in bfloat16, neighbouring classes would tie.
        if with_features:
            features = self.classifier.features(maps)
            return self.classifier.enlarged(self.classifier.classify(features).float(), size), list(maps), features
        return self.classifier.enlarged(self.classifier(maps).float(), size)

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
