"""Checkpoints: everything that is needed to use a network again, as tensors and plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stpp.errors import StppError
from stpp.models import build
from stpp.models.network import SegmentationNetwork

FORMAT = 1
MEAN = (0.485, 0.456, 0.406)
"""ImageNet mean of R, G, B in [0, 1], as torchvision's weights expect."""
STD = (0.229, 0.224, 0.225)
"""ImageNet standard deviation of R, G, B in [0, 1]."""


@dataclass(frozen=True)
class Model:
    """A network with what it needs to read an image: class names in label order, normalisation."""

    network: SegmentationNetwork
    classes: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]


def save_checkpoint(
    path: Path,
    state: Mapping[str, Tensor],
    network: Mapping[str, Any],
    classes: Sequence[str],
    epoch: int,
) -> None:
    """Write a checkpoint. `state` is the network's state dict, `network` the mapping that `build` takes.

    The bytes depend on the values alone, not on the path or the device.
    """
    content = {
        "format": FORMAT,
        "network": dict(network),
        "classes": list(classes),
        "mean": list(MEAN),
        "std": list(STD),
        "epoch": epoch,
        "state_dict": {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()
        },
    }
    with path.open("wb") as file:  # a path instead of a file would enter the bytes
        torch.save(content, file)


def load_checkpoint(path: Path, device: torch.device) -> Model:
    """Read a checkpoint; the network is in evaluation mode, on `device`, in channels_last memory.

    Raises StppError if the file is no checkpoint of this program.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        known = isinstance(content, dict) and content.get("format") == FORMAT
        network = build(content["network"], len(content["classes"])) if known else None
        if network is not None:
            network.load_state_dict(content["state_dict"])
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        raise StppError(f"cannot read the checkpoint {path}: {error}") from error
    except Exception as error:  # the unpickler's own error has no public base class
        if type(error).__name__ != "UnpicklingError":
            raise
        raise StppError(f"{path} is no checkpoint of stpp: {error}") from error
    if network is None:
        raise StppError(f"{path} is no checkpoint of stpp: it has no format {FORMAT}")
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    return Model(network, content["classes"], content["mean"], content["std"])
