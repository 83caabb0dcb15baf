"""From an image to a mask: plain, in tiles, and with test-time augmentation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stpp.checkpoint import MEAN, STD
from stpp.errors import StppError
from stpp.models.folding import PRECISIONS
from stpp.models.network import SegmentationNetwork


def pick_device(wanted: str) -> torch.device:
    """The device for `wanted`: "cpu", "cuda", or "auto", a GPU where there is one.

    Raises StppError if a GPU is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise StppError("runtime.device is cuda, but PyTorch sees no GPU here; set it to auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def network_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, H, W, 3), RGB -> float32 (N, 3, H, W) in channels_last memory, ImageNet-normalised, on `device`."""
    count, height, width, _ = images.shape
    # As rows of 3 W values: torch is several times slower where the last dimension is 3.
    values = images.to(device, non_blocking=True).reshape(count, height, 3 * width).float().div_(255)
    mean, std = (torch.tensor(v, device=device).repeat(width) for v in (MEAN, STD))
    return values.sub_(mean).div_(std).view(count, height, width, 3).permute(0, 3, 1, 2)


WINDOW = {"cpu": 1, "cuda": 32}
"""How many images `predict_masks` is best given, by type of device.

Several of one size at once spare a GPU the waiting for many small orders. On a CPU that gains little, and the last bits
would depend on which images meet, and so on the number of shards.
"""
BATCH_PIXELS = 2**21
"""Of the images that the network takes at once: 12 of 480 x 360, or one of Cityscapes' 2048 x 1024."""


def predict_mask(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """The mask uint8 (H, W), values 0 .. C-1, of an RGB image uint8 (H, W, 3), from `predict_scores`."""
    ((mask, _),) = predict_masks(network, [image], device, prediction, tta)
    return mask


@torch.inference_mode()
def predict_masks(
    network: SegmentationNetwork,
    images: Sequence[NDArray[np.uint8]],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
    *,
    confident: bool = False,
) -> list[tuple[NDArray[np.uint8], NDArray[np.float32] | None]]:
    """The mask of each of the RGB `images`, as `predict_mask` has it, and where `confident` that of each pixel.

    The confidence, float32 (H, W) in [0, 1], is the probability of the pixel's class: that of the softmax, or with
    `tta` its mean over all scales and flips. Images of one size go through the network together.
    """
    found: dict[int, tuple[NDArray[np.uint8], NDArray[np.float32] | None]] = {}
    for numbers in batches([image.shape for image in images]):
        scores = predict_scores(network, [images[number] for number in numbers], device, prediction, tta)
        confidences: Sequence[NDArray[np.float32] | None] = [None] * len(numbers)
        if confident:
            softmax = scores.softmax(dim=1) if tta is None else scores / (len(tta["scales"]) * (1 + tta["flip"]))
            confidences = list(softmax.amax(dim=1).clamp(0, 1).cpu().numpy())
        found |= zip(numbers, zip(masks_of(scores), confidences))
    return [found[number] for number in range(len(images))]


def batches(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """The numbers of the images that go through the network together, of the images of these (height, width, ...)."""
    same: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        same.setdefault(shape, []).append(number)
    for (height, width, *_), numbers in same.items():
        most = max(1, BATCH_PIXELS // (height * width))
        yield from (numbers[first : first + most] for first in range(0, len(numbers), most))


def masks_of(scores: Tensor) -> NDArray[np.uint8]:
    """The class with the highest of the scores (N, C, H, W) at each pixel, uint8 (N, H, W)."""
    masks: NDArray[np.uint8] = scores.argmax(dim=1).to(torch.uint8).cpu().numpy()
    return masks


@torch.inference_mode()
def predict_scores(
    network: SegmentationNetwork,
    images: Sequence[NDArray[np.uint8]],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> Tensor:
    """The logits float32 (N, C, H, W), on `device`, of N RGB images of one size, uint8 (H, W, 3).

    `prediction` holds `precision`, `long_side` (px or None: resize the image first, as training does), `tile` (px or
    None) and `overlap` (px). With `tta`, `scales` and `flip`, they are no logits but the sum of the softmax maps of all
    scales, mirrored or not, resized to the image (the paper's pseudo-labelling). `network` comes from
    `for_prediction`, with the same precision.
    """
    height, width = images[0].shape[:2]
    shrunk = np.stack([_shrunk(image, prediction["long_side"]) for image in images])
    x = network_input(torch.from_numpy(shrunk), device)
    scores = _logits(network, x, prediction) if tta is None else _augmented(network, x, prediction, tta)
    return _resized(scores, height, width)


def _shrunk(image: NDArray[np.uint8], long_side: int | None) -> NDArray[np.uint8]:
    """The image with that long side; resized by Pillow's antialiased bilinear filter, like the training images."""
    height, width = image.shape[:2]
    if long_side is None or long_side == max(height, width):
        return image
    factor = long_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _augmented(
    network: SegmentationNetwork, x: Tensor, prediction: Mapping[str, Any], tta: Mapping[str, Any]
) -> Tensor:
    """Sum of the softmax maps (N, C, H, W) over scales and flips."""
    height, width = x.shape[-2:]
    total = torch.zeros((), device=x.device)
    for scale in tta["scales"]:
        scaled = _resized(x, max(1, int(height * scale)), max(1, int(width * scale)))
        both = torch.zeros((), device=x.device)
        for mirrored in (False, True) if tta["flip"] else (False,):
            # The copy keeps the mirrored image in channels_last memory.
            image = scaled.flip(3).contiguous(memory_format=torch.channels_last) if mirrored else scaled
            softmax = _logits(network, image, prediction).softmax(dim=1)
            both = both + (softmax.flip(3) if mirrored else softmax)
        total = total + _resized(both, height, width)  # resizing is linear: once for both
    return total


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


def _logits(network: SegmentationNetwork, x: Tensor, prediction: Mapping[str, Any]) -> Tensor:
    """Logits (N, C, H, W) of images of one size, whole or as the mean over overlapping tiles."""
    tile, overlap = prediction["tile"], prediction["overlap"]
    x = x.to(PRECISIONS[prediction["precision"]])
    height, width = x.shape[-2:]
    if tile is None or max(height, width) <= tile:
        whole: Tensor = network(x)
        return whole
    total, count = torch.zeros((), device=x.device), torch.zeros(1, 1, height, width, device=x.device)
    for top in tile_starts(height, tile, overlap):
        for left in tile_starts(width, tile, overlap):
            window = (..., slice(top, top + tile), slice(left, left + tile))
            logits = network(x[window])
            if total.ndim == 0:
                total = logits.new_zeros(len(x), logits.shape[1], height, width)
            total[window] += logits
            count[window] += 1
    return total / count


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover `length` pixels; neighbours overlap by at least `overlap`."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]
