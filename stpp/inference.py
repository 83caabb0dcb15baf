"""From an image to a mask: plain, in tiles, and with test-time augmentation."""

from collections.abc import Mapping
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


def predict_mask(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """The mask uint8 (H, W), values 0 .. C-1, of an RGB image uint8 (H, W, 3), from `predict_scores`."""
    return mask_of(predict_scores(network, image, device, prediction, tta))


def mask_of(scores: Tensor) -> NDArray[np.uint8]:
    """The class with the highest of the scores (1, C, H, W) at each pixel, uint8 (H, W)."""
    mask: NDArray[np.uint8] = scores.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    return mask


@torch.inference_mode()
def predict_scores(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> Tensor:
    """The logits float32 (1, C, H, W), on `device`, of an RGB image uint8 (H, W, 3).

    `prediction` holds `precision`, `long_side` (px or None: resize the image first, as training does), `tile` (px or
    None) and `overlap` (px). With `tta`, `scales` and `flip`, they are no logits but the sum of the softmax maps of all
    scales, mirrored or not, resized to the image (the paper's pseudo-labelling). `network` comes from
    `for_prediction`, with the same precision.
    """
    height, width = image.shape[:2]
    x = network_input(torch.from_numpy(_shrunk(image, prediction["long_side"]))[None], device)
    scores = _logits(network, x, prediction) if tta is None else _augmented(network, x, prediction, tta)
    return _resized(scores, height, width)


def _shrunk(image: NDArray[np.uint8], long_side: int | None) -> NDArray[np.uint8]:
    """The image with that long side; resized by Pillow's antialiased bilinear filter, like the training images."""
    height, width = image.shape[:2]
    if long_side is None or long_side == max(height, width):
        return np.array(image, copy=True)  # torch wants memory that it may write to
    factor = long_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _augmented(
    network: SegmentationNetwork, x: Tensor, prediction: Mapping[str, Any], tta: Mapping[str, Any]
) -> Tensor:
    """Sum of the softmax maps (1, C, H, W) over scales and flips."""
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
    """Logits (1, C, H, W) of one image, whole or as the mean over overlapping tiles."""
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
                total = logits.new_zeros(1, logits.shape[1], height, width)
            total[window] += logits
            count[window] += 1
    return total / count


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover `length` pixels; neighbours overlap by at least `overlap`."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]
