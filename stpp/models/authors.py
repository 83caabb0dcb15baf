"""Networks of the ST++ authors' code: what a state dict of theirs describes, and its names in ours."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stpp.common.errors import StppError, shortened
from stpp.common.labels import MOST_CLASSES
from stpp.models.weights import without_prefix

BACKBONES = {6: "resnet50", 23: "resnet101"}
"""The backbone by the number of blocks of its third stage."""

NAMES = {
    "deeplabv3plus": {
        **{f"head.b{branch}": f"classifier.aspp.branches.{branch}" for branch in range(4)},
        "head.b4.gap.1": "classifier.aspp.pool.1.0",
        "head.b4.gap.2": "classifier.aspp.pool.1.1",
        "head.project": "classifier.aspp.project.0",
        "reduce": "classifier.reduce",
        "fuse.0": "classifier.fuse.0.0",
        "fuse.1": "classifier.fuse.0.1",
        "fuse.3": "classifier.fuse.1.0",
        "fuse.4": "classifier.fuse.1.1",
        "classifier": "classifier.score",
    },
    "pspnet": {
        **{f"head.conv5.0.conv{scale + 1}": f"classifier.scales.{scale}.1" for scale in range(4)},
        "head.conv5.1": "classifier.fuse.0.0",
        "head.conv5.2": "classifier.fuse.0.1",
        "head.conv5.5": "classifier.score",
    },
    "deeplabv2": {},  # the same as ours
}
"""The authors' names of layers after the backbone, and ours, by architecture."""


def from_authors(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], int, dict[str, Tensor]]:
    """The description that `build` takes, the number of classes, and the weights in our names.

    `state` is a state dict of the authors' PSPNet, DeepLabv3+ or DeepLabv2 on a ResNet-50 or -101, also one saved from
    DataParallel. Raises StppError for another network.
    """
    if strange := next((repr(name) for name, value in state.items() if not is_usable(name, value)), None):
        raise StppError(f"its entry {shortened(strange)} is no tensor of finite numbers with a name")
    state = without_prefix(state)
    blocks = {int(found[1]) for name in state if (found := re.match(r"backbone\.layer3\.(\d+)\.conv3\.", name))}
    backbone = BACKBONES.get(len(blocks))
    marks = {
        "head.b0.0.weight": ("deeplabv3plus", "classifier.weight"),
        "head.conv5.5.weight": ("pspnet", "head.conv5.5.weight"),
        "classifier.0.weight": ("deeplabv2", "classifier.0.weight"),
    }
    architecture, scores = next((found for mark, found in marks.items() if mark in state), ("", ""))
    if backbone is None or scores not in state:
        raise StppError(
            "its names are not those of a network of the ST++ authors' code (PSPNet, DeepLabv3+ or DeepLabv2 on a "
            f"ResNet-50 or -101), but such as {next(iter(state), 'none')!r}"
        )
    if state[scores].ndim != 4 or not 0 < len(state[scores]) <= MOST_CLASSES:
        raise StppError(f"{scores} is {tuple(state[scores].shape)}, expected weights for 1 to {MOST_CLASSES} classes")
    description = {"architecture": architecture, "backbone": backbone}  # and all else at its default, the paper's
    return description, len(state[scores]), {our_name(name, architecture): tensor for name, tensor in state.items()}


def is_usable(name: object, value: object) -> bool:
    """Whether an entry of a state dict has a name and is a tensor of finite numbers."""
    return isinstance(name, str) and isinstance(value, Tensor) and bool(value.isfinite().all())


def our_name(name: str, architecture: str) -> str:
    """Our name of an entry of a state dict of the authors'."""
    for theirs, ours in NAMES[architecture].items():
        if name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name
