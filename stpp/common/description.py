"""What describes a network, in one place: a section of the configuration, a part of recipes and of checkpoints.

A field that is added here with a default is one of all three. An older checkpoint lacks it, so it takes the default; a
new one has it only where it is not that, see `LATER`.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from stpp.common.errors import StppError, shortened
from stpp.common.registry import DECODERS, ENCODERS, modules
from stpp.common.section import Section, setting

if TYPE_CHECKING:
    Encoder: TypeAlias = str
    Decoder: TypeAlias = str
else:  # the names that there are, and those of families of encoders, such as `timm/resnet18`
    Decoder = Literal[tuple(modules(DECODERS))]
    Encoder = (
        Literal[tuple(name for name in modules(ENCODERS) if not name.endswith("/"))]
        | Annotated[str, AfterValidator(lambda name: _of_family(name))]
    )

LATER = ("separable", "linear_maps")
"""Fields that checkpoints lack where they are at their defaults: so the bytes are those of before there were these."""
MOST_CHANNELS = 1 << 16
"""So many weights would not fit into any memory; a damaged checkpoint may claim them."""


class NetworkDescription(Section):
    """A segmentation network; its names of encoders and decoders are those of the registry.

    A decoder ignores what it has no use for. Where a field is None, the decoder takes the paper's value.
    """

    architecture: Decoder = setting("deeplabv3plus", "Segmentation head.")
    backbone: Encoder = setting(
        "resnet50",
        "Feature extractor; `tiny` is for demos and tests; `timm/NAME` is a CNN or a ViT of timm's, see encoders.md.",
    )
    output_stride: Literal[8, 16, 32] = setting(
        8,
        "Input size over size of the last feature map; 32 with encoders of timm's alone. A ViT has its patches'.",
        "px/px",
    )
    weights: str = setting("none", "Where its first weights came from; the network is the same with others.")
    rates: list[Annotated[int, Field(ge=1, le=1024)]] | None = setting(
        None, "Dilation rates of the head; default: the paper's (12, 24, 36 or 6, 12, 18, 24).", "px", max_length=8
    )
    head_channels: int | None = setting(
        None, "Channels of a head branch; default: the paper's share of the backbone's.", ge=1, le=MOST_CHANNELS
    )
    decoder_channels: int = setting(256, "DeepLabv3+: channels of the decoder.", ge=1, le=MOST_CHANNELS)
    low_level_channels: int = setting(48, "DeepLabv3+: channels of the low-level features.", ge=1, le=MOST_CHANNELS)
    separable: bool = setting(
        False, "DeepLabv3+: 3x3 convolutions are depthwise and then 1x1, as in segmentation_models.pytorch."
    )
    linear_maps: int = setting(1, "Linear: of how many feature maps, the last ones.", ge=1, le=4)
    dropout: float = setting(1.0, "Factor on the paper's dropout rates; 0 switches dropout off.", ge=0, le=1.9)


def _of_family(name: str) -> str:
    """Refuses what is no name of an encoder in a family, such as `timm/resnet18`."""
    families = [family for family in modules(ENCODERS) if family.endswith("/")]
    if not any(name.startswith(family) and re.fullmatch(r"[\w.]+", name.removeprefix(family)) for family in families):
        raise PydanticCustomError("family", " or ".join(f"`{family}NAME`" for family in families))
    return name


def said_in_checkpoints(network: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of a network: all fields, but for those of `LATER` that are at their defaults."""
    defaults = {name: NetworkDescription.model_fields[name].default for name in LATER}
    return {name: value for name, value in network.items() if name not in defaults or value != defaults[name]}


def described(content: Mapping[str, Any]) -> NetworkDescription:
    """The network that a recipe or a checkpoint describes; what `content` lacks takes its default.

    Raises StppError for unknown parts, and for parts of another kind or range.
    """
    if not isinstance(content, Mapping):
        raise StppError(f"network: expected its parts by name, but got {type(content).__name__}")
    if unknown := sorted(str(key) for key in content if key not in NetworkDescription.model_fields):
        raise StppError(
            f"network: unknown parts: {shortened(', '.join(unknown))}; expected those of this version of stpp: "
            + ", ".join(NetworkDescription.model_fields)
        )
    try:
        return NetworkDescription.model_validate(
            {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}
        )
    except ValidationError as error:
        raise StppError(f"network: {'; '.join(map(_sentence, error.errors()[:5]))}") from None


def _sentence(problem: Any) -> str:
    """What one of pydantic's errors says: the part, what it is, what was expected."""
    said = problem["msg"].removeprefix("Input should be ")
    return f"{problem['loc'][0]} is {shortened(repr(problem['input']), 100)}; expected {said}"
