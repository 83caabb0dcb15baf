"""Checkpoints: everything that is needed to use a network again, as tensors and plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stpp.common.bands import Bands
from stpp.common.description import said_in_checkpoints
from stpp.common.errors import StppError, shortened
from stpp.common.files import replacing
from stpp.common.labels import MOST_CLASSES
from stpp.common.terminal import is_line
from stpp.models import build
from stpp.models.network import Normalisation, SegmentationNetwork
from stpp.runtime.faults import explained
from stpp.store.tensorfile import read_tensors, write_tensors
from stpp.store.usage import is_palette, is_prediction

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A network with the names of its classes in label order, and the `bands` of its images where they are not RGB.

    Where the file says how the model is used: the settings `prediction` with which it reads images, and the `palette`
    of the data set, [r, g, b] of 0..255 for each class.
    """

    network: SegmentationNetwork
    classes: Sequence[str]
    bands: Bands | None = None
    prediction: Mapping[str, Any] | None = None
    palette: Sequence[Sequence[int]] | None = None


def save_checkpoint(
    path: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any], epoch: int, normalisation: Normalisation
) -> None:
    """Write a checkpoint whole or not at all. `state` is the network's state dict, `normalisation` its own.

    `settings` has `network`, the mapping that `build` takes, `classes`, and `bands` where images are not RGB. The bytes
    depend on the values alone, not on the path or the device.
    """
    content = {
        "format": FORMAT,
        "network": said_in_checkpoints(settings["network"]),
        "classes": list(settings["classes"]),
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
        "epoch": epoch,
        **({"bands": settings["bands"]} if "bands" in settings else {}),
        "state_dict": {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()
        },
    }
    with replacing(path) as temporary:
        write_tensors(content, temporary)


def load_checkpoint(path: Path, device: torch.device) -> Model:
    """Read a checkpoint; the network is in evaluation mode, on `device`, in channels_last memory.

    Raises StppError if the file is no checkpoint of this program, or its weights are not those of its network.
    """
    try:
        with explained(f"close other programs, or read {path} on a machine with more"):
            network, content, bands = _read(path)
    except StppError as error:
        raise StppError(f"{path}: {error}") from None
    except Exception as error:  # torch's readers and builders meet damaged files with a dozen kinds of exceptions
        found = f"{type(error).__name__}: {shortened(str(error), 400)}"
        raise StppError(
            f"{path} is no checkpoint of stpp, or a damaged one ({found}); delete it and run the "
            "training that writes it again"
        ) from None
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    return Model(network, content["classes"], bands, content.get("prediction"), content.get("palette"))


def _read(path: Path) -> tuple[SegmentationNetwork, Mapping[str, Any], Bands | None]:
    """The network and the content of a checkpoint, and the bands of its images.

    The network lives in the memory of the weights that are there, whatever size it claims to have.
    """
    content = read_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"it has no format {FORMAT}")
    description, classes, state = content["network"], content["classes"], content["state_dict"]
    if not isinstance(classes, list) or not all(isinstance(name, str) and is_line(name) for name in classes):
        raise TypeError("its classes are no list of names")
    if not 0 < len(classes) <= MOST_CLASSES:
        raise ValueError(f"it has {len(classes)} classes, expected 1 to {MOST_CLASSES}")
    bands = Bands.said(content.get("bands"))
    if not is_prediction(content.get("prediction")):
        raise ValueError("its prediction is not the settings of that name")
    if not is_palette(content.get("palette"), len(classes)):
        raise ValueError("its palette is not a colour for each class")
    try:
        with torch.device("meta"):
            network = build(description, len(classes), bands)
    except StppError as error:  # here it is the file that is wrong, not a setting
        raise ValueError(str(error)) from None
    if (content["mean"], content["std"]) != tuple(map(list, network.normalisation)):
        raise ValueError("another normalisation than that of its backbone")
    for name, own in network.state_dict().items():
        given = state[name]
        if (given.shape, given.dtype, given.layout) != (own.shape, own.dtype, own.layout):
            raise ValueError(f"{name} is {given.dtype} {tuple(given.shape)}, expected {own.dtype} {tuple(own.shape)}")
        if not given.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")
    network.load_state_dict(state, assign=True)
    return network, content, bands
