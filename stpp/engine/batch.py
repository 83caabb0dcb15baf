"""What a step is handed: the images of a batch, and the moment of the training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stpp.engine.distributed import Team
from stpp.engine.inference import network_input
from stpp.labels import IGNORE


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch, on its device.

    `images` are normalised, float32 (N, 3, H, W), `masks` uint8 (N, H, W), 255 = ignore: of labeled images, and in
    self-training of pseudo-labeled ones. `views` has the unlabeled images, by the names of their views, each float32
    (U, 3, H, W); `valid`, bool (U, H, W), says which of their pixels are the image's, and neither padding nor CutOut.
    """

    images: Tensor
    masks: Tensor
    views: Mapping[str, Tensor] = field(default_factory=dict)
    valid: Mapping[str, Tensor] = field(default_factory=dict)


def on_device(loaded: Sequence[Sequence[Tensor]], views: Sequence[str], device: torch.device) -> Batch:
    """The batch of what `stpp.data.streams` gives: images and masks, then images and masks of each view, as uint8."""
    images, masks = loaded[0]
    if not views:
        return Batch(network_input(images, device), masks.to(device, non_blocking=True))
    pictures = {view: network_input(loaded[1][2 * k], device) for k, view in enumerate(views)}
    valid = {view: loaded[1][2 * k + 1].to(device, non_blocking=True) != IGNORE for k, view in enumerate(views)}
    return Batch(network_input(images, device), masks.to(device, non_blocking=True), pictures, valid)


@dataclass(frozen=True)
class Moment:
    """When in a training a step is: `iteration` counts from 0, an epoch has `per_epoch` of the `total` iterations."""

    iteration: int
    per_epoch: int
    total: int
    team: Team
