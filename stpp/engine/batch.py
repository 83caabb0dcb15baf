"""What a step is handed: the images of a batch, and the moment of the training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stpp.common.labels import CERTAIN, IGNORE
from stpp.engine.distributed import Team
from stpp.engine.inference import maps_input, network_input
from stpp.engine.losses import SupervisedLoss, cross_entropy
from stpp.models.network import Maps, Normalisation

Draws = Callable[[str, int, str], np.random.Generator]
"""From "labeled" or "unlabeled", an image's place in the batch and the name of a part to the generator of that part."""


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch, on its device.

    `images` are normalised, float32 (N, bands, H, W), or their stored maps; `masks` are uint8 (N, H, W), 255 = ignore:
    of labeled images, and in self-training of pseudo-labeled ones. `confidence`, float32 (N, H, W) where the method
    asks for it, is 1 for a true label and less for a pseudo-label. `views` has the unlabeled images, by the names of
    their views, each like `images`; `valid`, bool (U, H, W), says which of their pixels are the image's, and neither
    padding nor CutOut.
    `draws` gives generators that depend on the image and the epoch, not on the place in the batch, so what is drawn is
    the same in whatever process the image is.
    """

    images: Tensor | Maps
    masks: Tensor
    draws: Draws
    views: Mapping[str, Any] = field(default_factory=dict)
    valid: Mapping[str, Tensor] = field(default_factory=dict)
    confidence: Tensor | None = None

    def placed(self, drawn: NDArray[Any]) -> Tensor:
        """What was drawn for its images, as a tensor on its device; for a copy to a GPU nothing waits."""
        values, device = torch.from_numpy(drawn), self.images.device
        return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def on_device(
    loaded: Sequence[Sequence[Any]],
    views: Sequence[str],
    device: torch.device,
    normalisation: Normalisation,
    rng: Callable[[str, int, int, str], np.random.Generator],
) -> Batch:
    """The batch of what `stpp.data.streams` gives: images, masks and keys, then those of each view, as uint8.

    In place of images there may be a list of their maps, float16 (N, h, w, channels).

    `rng(stream, epoch, index, part)` gives the generators of `Batch.draws`.
    """
    keys = {name: stream[-1].tolist() for name, stream in zip(("labeled", "unlabeled"), loaded)}

    def draws(stream: str, number: int, part: str) -> np.random.Generator:
        epoch, index = keys[stream][number]
        return rng(stream, epoch, index, part)

    def seen_by_networks(given: Any, masks: Tensor) -> Tensor | Maps:
        if isinstance(given, list):
            return maps_input(given, (masks.shape[1], masks.shape[2]), device)
        return network_input(given, device, normalisation)

    given, masks, _ = loaded[0]
    images = seen_by_networks(given, masks)
    masks, confidence = masks.to(device, non_blocking=True), None
    if masks.ndim == 4:
        masks, confidence = masks[..., 0], masks[..., 1] / CERTAIN
    seen = loaded[1] if views else ()
    pictures = {view: seen_by_networks(seen[2 * k], seen[2 * k + 1]) for k, view in enumerate(views)}
    valid = {view: seen[2 * k + 1].to(device, non_blocking=True) != IGNORE for k, view in enumerate(views)}
    return Batch(images, masks, draws, pictures, valid, confidence)


def together(*images: Any) -> Any:
    """The images (N, bands, H, W) of all, or their stored maps, one after the other."""
    first, *others = images
    if isinstance(first, Maps):
        return first.each(lambda *maps: torch.cat(maps), *others)
    return torch.cat(images)


@dataclass(frozen=True)
class Moment:
    """When in a training a step is: `iteration` counts from 0, an epoch has `per_epoch` of the `total` iterations.

    `supervised_loss(logits, masks, team)` is what the training asks for on labels. A step may leave numbers that are no
    losses in `notes`, scalars by name, such as the share of pixels that count.
    """

    iteration: int
    per_epoch: int
    total: int
    team: Team
    supervised_loss: SupervisedLoss = cross_entropy
    notes: dict[str, Tensor] = field(default_factory=dict)

    def supervised(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss of `logits`, float (N, C, H, W), on labels, integers (N, H, W), 255 = ignore; a scalar."""
        return self.supervised_loss(logits, masks, self.team)
