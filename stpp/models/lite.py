"""EfficientNet-Lite in the names of the package `efficientnet_lite_pytorch`, and in timm's."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

MARK = "_conv_stem.weight"
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Of the blocks of the first stage, which have no expansion."""
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def in_names_of_timm(state: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """`state` in the names of `model`, an EfficientNet of timm's, where it has those of that package; else as it is."""
    if MARK not in state or not hasattr(model, "blocks"):
        return dict(state)
    stages = [blocks for blocks in model.blocks if isinstance(blocks, nn.Sequential)]
    places = [(stage, block) for stage, blocks in enumerate(stages) for block in range(len(blocks))]

    def translated(name: str) -> str:
        layer, _, rest = name.partition(".")
        if layer != "_blocks":
            return f"{OUTER.get(layer, layer)}.{rest}"
        number, layer, rest = rest.split(".", 2)
        if int(number) >= len(places):
            return name
        stage, block = places[int(number)]
        return f"blocks.{stage}.{block}.{(OTHERS if stage else FIRST)[layer]}.{rest}"

    return {translated(name): tensor for name, tensor in state.items()}
