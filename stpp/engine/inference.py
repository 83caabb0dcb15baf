"""From an image to a mask: plain, in tiles, and with test-time augmentation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stpp.common.errors import StppError
from stpp.common.resizing import resized_by_pillow
from stpp.engine.scoremaps import ScoreBands, ScoreRows, joined_bands, resized_to, summed
from stpp.models.folding import PRECISIONS
from stpp.models.network import Maps, Normalisation, SegmentationNetwork
from stpp.store.maps import StoredImage, whole_view

Shown = Callable[[float, tuple[int, int], bool], list[ScoreBands]]
"""From a scale, its size (H, W) and whether the mirror image is asked for, too, to the logits of that and of those."""


def pick_device(wanted: str) -> torch.device:
    """The device for `wanted`: "cpu", "cuda", or "auto", a GPU where there is one.

    Raises StppError if a GPU is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise StppError("runtime.device is cuda, but PyTorch sees no GPU here; set it to auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


class Lines(Protocol):
    """An image of which only some rows are in memory: its `shape`, (H, W, bands), and its rows, uint8 (rows, W, bands),
    from `first` to before `last`."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def lines(self, first: int, last: int) -> NDArray[np.uint8]: ...


Pixels = NDArray[np.uint8] | Lines
WholeImage = Pixels | StoredImage
"""Its pixels, (H, W, bands), rows of them when asked for, or what an encoder has made of it."""


def network_input(images: Tensor, device: torch.device, normalisation: Normalisation) -> Tensor:
    """uint8 (N, H, W, bands) -> normalised float32 (N, bands, H, W) in channels_last memory, on `device`."""
    count, height, width, bands = images.shape
    # As rows of 3 W values: torch is several times slower where the last dimension is 3.
    values = images.to(device, non_blocking=True).reshape(count, height, bands * width).float().div_(255)
    mean, std = _in_rows(normalisation, width, device)
    return values.sub_(mean).div_(std).view(count, height, width, bands).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _in_rows(normalisation: Normalisation, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation for rows of `width` pixels, float32 (3 width,); kept, since each copy to a GPU would wait."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(v, device=device).repeat(width) for v in normalisation)
    return mean, std


def maps_input(maps: Sequence[Tensor], size: tuple[int, int], device: torch.device) -> Maps:
    """Stored maps of images of `size` (H, W), float16 (N, h, w, C) -> float32 (N, C, h, w) in channels_last memory, on
    `device`."""
    return Maps([each.to(device, non_blocking=True).float().permute(0, 3, 1, 2) for each in maps], size)


WINDOW = {"cpu": 1, "cuda": 32}
"""How many images `predict_masks` is best given, by type of device.

Several of one size at once spare a GPU the waiting for many small orders. On a CPU that gains little, and the last bits
would depend on which images meet, and so on the number of shards.
"""
BATCH_PIXELS = 2**21
"""Of the images that the network takes at once: 12 of 480 x 360, or one of Cityscapes' 2048 x 1024."""


def images_at_once(height: int, width: int) -> int:
    """How many images of that size, in px, the network takes at once: at least one."""
    return max(1, BATCH_PIXELS // (height * width))


def predict_mask(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """The mask uint8 (H, W), values 0 .. C-1, of an image uint8 (H, W, bands), from `predict_scores`."""
    ((mask, _),) = predict_masks(network, [image], device, prediction, tta)
    return mask


@torch.inference_mode()
def predict_masks(
    network: SegmentationNetwork,
    images: Sequence[WholeImage],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
    *,
    confident: bool = False,
) -> list[tuple[NDArray[np.uint8], NDArray[np.float32] | None]]:
    """The mask of each of the `images`, as `predict_mask` has it, and where `confident` that of each pixel.

    The confidence, float32 (H, W) in [0, 1], is the probability of the pixel's class: that of the softmax, or with
    `tta` its mean over all scales and flips. Images of one size go through the network together.
    """
    found: dict[int, tuple[NDArray[np.uint8], NDArray[np.float32] | None]] = {}
    for numbers in batches([image.shape for image in images]):
        together = [images[number] for number in numbers]
        shape = (len(numbers), *together[0].shape[:2])
        masks = np.empty(shape, np.uint8)
        confidences = np.empty(shape, np.float32) if confident else None
        for rows, scores in score_bands(network, together, device, prediction, tta):
            masks[:, rows] = masks_of(scores)
            if confidences is not None:
                softmax = scores.softmax(dim=1) if tta is None else scores / (len(tta["scales"]) * (1 + tta["flip"]))
                confidences[:, rows] = softmax.amax(dim=1).clamp(0, 1).cpu().numpy()
        found |= zip(numbers, zip(masks, [None] * len(numbers) if confidences is None else confidences))
    return [found[number] for number in range(len(images))]


def batches(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """The numbers of the images that go through the network together, of the images of these (height, width, ...)."""
    same: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        same.setdefault(shape, []).append(number)
    for (height, width, *_), numbers in same.items():
        most = images_at_once(height, width)
        yield from (numbers[first : first + most] for first in range(0, len(numbers), most))


def masks_of(scores: Tensor) -> NDArray[np.uint8]:
    """The class with the highest of the scores (N, C, H, W) at each pixel, uint8 (N, H, W)."""
    masks: NDArray[np.uint8] = scores.argmax(dim=1).to(torch.uint8).cpu().numpy()
    return masks


@torch.inference_mode()
def predict_scores(
    network: SegmentationNetwork,
    images: Sequence[WholeImage],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> Tensor:
    """All rows of `score_bands` in one tensor, float32 (N, C, H, W): 4 bytes a class and pixel."""
    return joined_bands(score_bands(network, images, device, prediction, tta), images[0].shape[0])


@torch.inference_mode()
def score_bands(
    network: SegmentationNetwork,
    images: Sequence[WholeImage],
    device: torch.device,
    prediction: Mapping[str, Any],
    tta: Mapping[str, Any] | None = None,
) -> ScoreBands:
    """The logits of N images of one size, from top to bottom: rows, and float32 (N, C, rows, W).

    They lie on `device`, and are valid until the next rows are asked for.

    `prediction` holds `precision`, `long_side` (px or None: resize the image first, as training does), `tile` (px or
    None) and `overlap` (px). With `tta`, `scales` and `flip`, they are no logits but the sum of the softmax maps of all
    scales, mirrored or not, resized to the image (the paper's pseudo-labelling). `network` comes from
    `for_prediction`, with the same precision.

    Images that are read in tiles, at their own size and without `tta`, come in bands about as high as a tile. All
    others come whole, or where they have more than MOST_SCORES values, in bands of about AT_ONCE values. Of what the
    network sees in tiles, only the rows that a band needs are held then. At their own size and without `tta`, no more
    than the rows of one row of tiles are asked for, and turned into numbers, at a time.
    """
    height, width = images[0].shape[:2]
    seen = reduced_size((height, width), prediction["long_side"])
    stored = [image for image in images if isinstance(image, StoredImage)]
    given = [image for image in images if not isinstance(image, StoredImage)]
    if given and tta is None and seen == (height, width):
        yield from _tiled(network, partial(_rows_of, given, device, network.normalisation), seen, prediction)
        return
    if stored:
        shown: Shown = partial(_decoded, network, stored, device, prediction)
    else:
        shrunk = np.stack([reduced(_lines(image, 0, height), prediction["long_side"]) for image in given])
        x = network_input(torch.from_numpy(shrunk), device, network.normalisation)
        shown = partial(_seen, network, x, prediction)
    bands = shown(1.0, seen, False)[0] if tta is None else _augmented(shown, seen, prediction, tta)
    if seen == (height, width):
        yield from bands
    else:
        yield from summed([ScoreRows(bands, seen)], (height, width))


def reduced(image: NDArray[np.uint8], long_side: int | None) -> NDArray[np.uint8]:
    """The image with that long side; resized by Pillow's antialiased bilinear filter, like the training images."""
    height, width = reduced_size(image.shape[:2], long_side)
    if image.shape[:2] == (height, width):
        return image
    return resized_by_pillow(image, (width, height))


def reduced_size(shape: tuple[int, ...], long_side: int | None) -> tuple[int, int]:
    """The (height, width) of an image of `shape` once it has that long side."""
    height, width = shape
    if long_side is None or long_side == max(height, width):
        return height, width
    factor = long_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The (H, W) of an image of `size` (H, W) at that scale."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def scaled_views(x: Tensor, size: tuple[int, int], flip: bool) -> list[Tensor]:
    """Images (N, 3, H, W) resized to that size, and with `flip` mirrored ones, too."""
    scaled = resized_to(x, size)
    # The copy keeps the mirrored image in channels_last memory.
    return [scaled, *([scaled.flip(3).contiguous(memory_format=torch.channels_last)] if flip else [])]


def _seen(
    network: SegmentationNetwork,
    x: Tensor,
    prediction: Mapping[str, Any],
    scale: float,
    size: tuple[int, int],
    flip: bool,
) -> list[ScoreBands]:
    """`Shown` of normalised images (N, 3, H, W)."""
    return [_bands(network, view, prediction) for view in scaled_views(x, size, flip)]


def _decoded(
    network: SegmentationNetwork,
    images: Sequence[StoredImage],
    device: torch.device,
    prediction: Mapping[str, Any],
    scale: float,
    size: tuple[int, int],
    flip: bool,
) -> list[ScoreBands]:
    """`Shown` of images whose maps are stored, from which the decoder goes on; never in tiles."""

    def whole(name: str) -> ScoreBands:
        maps = [torch.from_numpy(np.stack(each)) for each in zip(*(image.maps[name] for image in images))]
        yield slice(0, size[0]), network(maps_input(maps, size, device).to(PRECISIONS[prediction["precision"]]))

    return [whole(whole_view(scale, mirrored)) for mirrored in ((False, True) if flip else (False,))]


def _augmented(
    shown: Shown, seen: tuple[int, int], prediction: Mapping[str, Any], tta: Mapping[str, Any]
) -> ScoreBands:
    """Sum of the softmax maps (N, C, H, W) over scales and flips of images that the network sees at that size."""
    sizes = [(scale, scaled_size(seen, scale)) for scale in tta["scales"]]
    maps = [ScoreRows(_softmax(shown, scale, size, tta["flip"]), size) for scale, size in sizes]
    return summed(maps, seen, banded=prediction["tile"] is not None)


def _softmax(shown: Shown, scale: float, size: tuple[int, int], flip: bool) -> ScoreBands:
    """The softmax maps (N, C, *size) of images at that scale, or the sum of those of the image and its mirror image."""
    plain, *mirrored = shown(scale, size, flip)
    softmaxes = ((rows, logits.softmax(dim=1)) for rows, logits in plain)
    if not mirrored:
        yield from softmaxes
        return
    for (rows, softmax), (_, logits) in zip(softmaxes, mirrored[0]):
        softmax += logits.softmax(dim=1).flip(3)
        yield rows, softmax


BAND_ROWS = 16
"""Bands begin at multiples of it: of so many rows, a vector of the processor's holds no pixels of two bands. PyTorch's
softmax rounds the last pixels otherwise where they fill no vector."""


def _bands(network: SegmentationNetwork, x: Tensor, prediction: Mapping[str, Any]) -> ScoreBands:
    """Logits of images of one size, (N, bands, H, W), as `_tiled` gives them."""
    x = x.to(PRECISIONS[prediction["precision"]])
    height, width = x.shape[-2:]
    return _tiled(network, lambda first, last: x[..., first:last, :], (height, width), prediction)


def _rows_of(
    images: Sequence[Pixels], device: torch.device, normalisation: Normalisation, first: int, last: int
) -> Tensor:
    """Rows of images of one size, as the network takes them."""
    rows = np.stack([_lines(image, first, last) for image in images])
    return network_input(torch.from_numpy(rows), device, normalisation)


def _lines(image: Pixels, first: int, last: int) -> NDArray[np.uint8]:
    """The rows of an image from `first` to before `last`."""
    return image[first:last] if isinstance(image, np.ndarray) else image.lines(first, last)


def _tiled(
    network: SegmentationNetwork,
    rows: Callable[[int, int], Tensor],
    size: tuple[int, int],
    prediction: Mapping[str, Any],
) -> Iterator[tuple[slice, Tensor]]:
    """Logits of images of one size, whole or as the mean over overlapping tiles, as `score_bands` gives them.

    `rows` gives those from one to before another of what the network takes, (N, bands, rows, W). Of the tiles no more
    than one band is held: the sums of the rows that tiles to come still add to.
    """
    tile, overlap, precision = prediction["tile"], prediction["overlap"], PRECISIONS[prediction["precision"]]
    height, width = size
    if tile is None or max(height, width) <= tile:
        yield slice(0, height), network(rows(0, height).to(precision))
        return
    tops, lefts = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    sums, first = torch.zeros(()), 0
    for top, following in zip(tops, [*tops[1:], height]):
        x = rows(top, top + tile).to(precision)
        for left in lefts:
            logits = network(x[..., left : left + tile])
            if sums.ndim == 0:
                sums = logits.new_zeros(len(x), logits.shape[1], min(tile + BAND_ROWS, height), width)
                tiles_down = _covering(tops, tile, height, x.device)
                tiles_across = _covering(lefts, tile, width, x.device)
            sums[..., top - first : top - first + tile, left : left + tile] += logits
        done = height if following == height else following // BAND_ROWS * BAND_ROWS
        if done > first:
            band = sums[:, :, : done - first]
            waiting = sums[:, :, done - first :].clone()
            yield slice(first, done), band.div_(tiles_down[first:done, None] * tiles_across)
            sums[:, :, : waiting.shape[2]] = waiting
            sums[:, :, waiting.shape[2] :] = 0
            first = done


def _covering(starts: Sequence[int], tile: int, length: int, device: torch.device) -> Tensor:
    """How many of the tiles that start there cover each of `length` pixels, float32 (length,)."""
    count = torch.zeros(length, device=device)
    for start in starts:
        count[start : start + tile] += 1
    return count


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover `length` pixels; neighbours overlap by at least `overlap`."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]
