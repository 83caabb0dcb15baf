"""From a decoded image and its mask to one training sample: the order of all parts, and the weak augmentation of ST++.

The weak augmentation A^w (geometry) is here, the strong one A^s (colour and CutOut) in `stpp.data.strong`. Each part is
a pure function of its input and a random generator; `augment` gives every part a generator of its own, so that two
experiments that differ in one part see the same random numbers in all others.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from stpp.common.bands import RGB_PLACES
from stpp.common.labels import IGNORE
from stpp.common.resizing import resized_by_pillow
from stpp.data.strong import Mask, Pixels, colour_jitter, cutout, gaussian_blur, random_operations, to_grayscale


class Windows(Protocol):
    """An image, (height, width, bands), of which rows and columns are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, place: tuple[slice, slice], /) -> Pixels: ...


def sample_rng(seed: int, role: str, epoch: int, index: int, part: str) -> np.random.Generator:
    """The random generator of one part of one sample.

    It depends on the arguments alone, not on the process, the worker or the order of calls. `seed`, `epoch` and `index`
    are integers >= 0; `role` names the stream of samples (such as "student"), `part` the augmentation ("scale", "crop",
    "flip", "jitter", "grayscale", "blur", "cutout"). Negative numbers raise ValueError.
    """
    # crc32 and not hash(): Python salts the hash of strings anew in every process.
    key = [seed, crc32(role.encode()), epoch, index, crc32(part.encode())]
    return np.random.Generator(np.random.PCG64(key))


def augment(
    image: Windows,
    mask: Mask,
    settings: Mapping[str, Any],
    views: Sequence[str] = ("strong",),
    *,
    crop: int,
    base_size: int,
    seed: int,
    role: str,
    epoch: int,
    index: int,
    rgb: Sequence[int] | None = RGB_PLACES,
) -> list[tuple[Pixels, Mask]]:
    """One augmented sample: of each view the pixels uint8 (crop, crop, bands), not yet normalised, and the mask uint8
    (crop, crop).

    `image` is uint8 (height, width, bands), of which no more is asked for than the crop needs. `rgb` are the places of
    red, green and blue among the bands, if there are any. These are an RGB picture for the colour parts, and every
    other band is a grey one, to which the same is done: hue, saturation and grayscale change nothing of it. `mask` is
    uint8 (height, width) with 255 = ignore; a mask of several planes, (height, width, planes), keeps them. The parts
    run in the order of ST++: rescale, pad and crop, flip; jitter, grayscale, blur, CutOut. Every value of the new mask
    is one of the old mask or 255; the colour parts leave it alone. `settings` holds plain JSON values; a part that is
    absent or None is off:

    - "scale": [low, high], the long side in multiples of `base_size`; off means that it is `base_size`
    - "rare_crop": probability of a crop by `rare_box`, instead of one by `crop_box`
    - "flip": probability of a horizontal flip
    - "jitter", "grayscale", "blur", "cutout": the keyword arguments of `colour_jitter`, `to_grayscale`,
      `gaussian_blur` and `cutout`, each with its probability "p"
    - "operations": those of `random_operations`, which run before all of these

    All `views` share one draw of the geometry, up to the flip, which is all of the view "weak". A "strong" view has the
    other parts as well. What follows "strong" in a view's name, as in "strong2", is in the names of its random
    numbers, so that it has draws of its own.

    `seed`, `role`, `epoch` and `index` decide all randomness (see `sample_rng`). Neither input is changed. Raises
    ValueError if image and mask do not fit each other, StppError if no CutOut box can fit.
    """
    if len(image.shape) != 3 or image.shape[:2] != mask.shape[:2] or image.shape[2] <= max(rgb or (0,)):
        bands = f"bands {', '.join(map(str, rgb))}" if rgb else "bands"
        raise ValueError(
            f"augment needs an image with {bands} and a mask of the same height and width, not {image.shape} and "
            f"{mask.shape}"
        )

    def rng(part: str) -> np.random.Generator:
        return sample_rng(seed, role, epoch, index, part)

    size = rescale_size(mask.shape[:2], rng("scale"), scale=settings.get("scale"), base_size=base_size)
    box = crop_box(size, rng("crop"), crop=crop)
    if probability := settings.get("rare_crop"):
        box = rare_box(mask, size, box, rng("rare_crop"), crop=crop, p=probability)
    pixels, mask = rescaled_crop(image, mask, size, box, crop=crop)
    if probability := settings.get("flip"):
        pixels, mask = flip(pixels, mask, rng("flip"), p=probability)
    return [
        (pixels, mask) if view == "weak" else _strong(pixels, mask, settings, rng, view.removeprefix("strong"), rgb)
        for view in views
    ]


def augmented_mask(
    mask: Mask,
    settings: Mapping[str, Any],
    *,
    crop: int,
    base_size: int,
    seed: int,
    role: str,
    epoch: int,
    index: int,
    views: Sequence[str] = ("strong",),
) -> list[Mask]:
    """The masks that `augment` gives of the `views`, without the image; not with "rare_crop"."""

    def rng(part: str) -> np.random.Generator:
        return sample_rng(seed, role, epoch, index, part)

    size = rescale_size(mask.shape[:2], rng("scale"), scale=settings.get("scale"), base_size=base_size)
    mask = cropped_mask(mask, size, crop_box(size, rng("crop"), crop=crop), crop=crop)
    nothing = np.empty((crop, crop, 0), np.uint8)
    if probability := settings.get("flip"):
        _, mask = flip(nothing, mask, rng("flip"), p=probability)
    box = settings.get("cutout")

    def of_view(view: str) -> Mask:
        if view == "weak" or not box:
            return mask
        return cutout(nothing, mask, rng(f"cutout{view.removeprefix('strong')}"), **{**box, "fill": 0})[1]

    return [of_view(view) for view in views]


def _strong(
    pixels: Pixels,
    mask: Mask,
    settings: Mapping[str, Any],
    rng: Callable[[str], np.random.Generator],
    draw: str,
    rgb: Sequence[int] | None,
) -> tuple[Pixels, Mask]:
    """The parts of `augment` after the geometry; `draw` ends the names of their random numbers."""

    def recoloured(picture: Image.Image) -> Image.Image:
        mode = picture.mode
        if operations := settings.get("operations"):
            picture = random_operations(picture, rng(f"operations{draw}"), **operations)
        if jitter := settings.get("jitter"):
            picture = colour_jitter(picture, rng(f"jitter{draw}"), **jitter)
        if grayscale := settings.get("grayscale"):
            picture = to_grayscale(picture, rng(f"grayscale{draw}"), **grayscale)
        if blur := settings.get("blur"):
            picture = gaussian_blur(picture, rng(f"blur{draw}"), **blur)
        return picture.convert(mode)

    if any(settings.get(part) for part in ("operations", "jitter", "grayscale", "blur")):
        changed = np.empty_like(pixels)
        for bands in _pictures(pixels.shape[2], rgb):
            # Each draws the same numbers: `rng` begins anew.
            changed[..., bands] = np.asarray(recoloured(Image.fromarray(pixels[..., bands])))
        pixels = changed
    if box := settings.get("cutout"):
        pixels, mask = cutout(pixels, mask, rng(f"cutout{draw}"), **box)
    return pixels, mask


def _pictures(bands: int, rgb: Sequence[int] | None) -> Iterator[Any]:
    """What selects each picture from an image of so many bands: red, green and blue together, and each other band."""
    if rgb is not None:
        yield slice(None) if tuple(rgb) == tuple(range(bands)) else list(rgb)
    yield from (band for band in range(bands) if band not in (rgb or ()))


def rescale_size(
    shape: tuple[int, ...], rng: np.random.Generator, *, scale: Sequence[float] | None, base_size: int
) -> tuple[int, int]:
    """The new (width, height) for a mask of `shape` = (height, width).

    The long side is an integer drawn uniformly from int(low * base_size) to int(high * base_size), both ends included,
    for `scale` = (low, high), and `base_size` itself for None. The short side keeps the aspect, rounded half up (the
    authors' implementation), and no side falls below 1.
    """
    if scale is None:
        long_side = base_size
    else:
        low, high = (int(base_size * factor) for factor in scale)
        long_side = max(1, int(rng.integers(low, high, endpoint=True)))
    height, width = shape
    short_side = max(1, int(min(shape) * long_side / max(shape) + 0.5))
    return (short_side, long_side) if height > width else (long_side, short_side)


def crop_box(size: tuple[int, int], rng: np.random.Generator, *, crop: int) -> tuple[int, int, int, int]:
    """A random square of `crop` x `crop` pixels in an image of `size` = (width, height), every position equally likely.

    (left, top, right, bottom), ends excluded; where the image is smaller than the square, the box ends with the image.
    """
    # Always two draws from [0, 1): the row does not depend on whether the width left a choice of columns.
    across, down = rng.random(2)
    width, height = size
    left = int(across * (max(width - crop, 0) + 1))
    top = int(down * (max(height - crop, 0) + 1))
    return left, top, min(left + crop, width), min(top + crop, height)


def rare_box(
    mask: Mask,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    rng: np.random.Generator,
    *,
    crop: int,
    p: float,
) -> tuple[int, int, int, int]:
    """With probability `p` a box around a pixel of a class that is drawn from those of the mask, else `box`.

    Each class is equally likely, and so is each of its pixels, and each place of the pixel in the box that leaves the
    box within the image of `size` = (width, height). `mask` is that of the image before it is resized, (height, width)
    or (height, width, planes), whose first plane has the classes. A mask of 255 alone has no such box.
    """
    labels = mask if mask.ndim == 2 else mask[..., 0]
    classes = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=IGNORE + 1)[:IGNORE])
    if rng.random() >= p or not len(classes):
        return box
    rows, columns = np.nonzero(labels == rng.choice(classes))
    chosen = rng.integers(len(rows))
    corner = []
    for place, old, new in zip((columns[chosen], rows[chosen]), labels.shape[::-1], size):
        at = int((place + 0.5) * new / old)
        corner.append(int(rng.integers(max(0, at - crop + 1), min(at, max(0, new - crop)), endpoint=True)))
    left, top = corner
    return left, top, min(left + crop, size[0]), min(top + crop, size[1])


def rescaled_crop(
    image: Windows, mask: Mask, size: tuple[int, int], box: tuple[int, int, int, int], *, crop: int
) -> tuple[Pixels, Mask]:
    """What `box` cuts out of image and mask at `size` = (width, height), padded right and below to `crop` x `crop`.

    The image is bilinear as Pillow does it (antialiased when it shrinks; rounding may differ by 2), the mask takes the
    nearest pixel, so that no class appears that was not there. Padding is 0 in the image, 255 in the mask.
    """
    left, top, right, bottom = box
    inside = np.s_[: bottom - top, : right - left]
    new_image = np.zeros((crop, crop, image.shape[2]), dtype=np.uint8)
    if size[0] * size[1] <= WORTH_THE_WHOLE * crop**2:
        new_image[inside] = resized(image[:, :], size)[top:bottom, left:right]
    else:
        new_image[inside] = _resized_part(image, size, box)
    return new_image, cropped_mask(mask, size, box, crop=crop)


def cropped_mask(mask: Mask, size: tuple[int, int], box: tuple[int, int, int, int], *, crop: int) -> Mask:
    """The mask of `rescaled_crop`."""
    left, top, right, bottom = box
    new_mask = np.full((crop, crop, *mask.shape[2:]), IGNORE, dtype=np.uint8)
    rows, columns = nearest(mask.shape[0], size[1])[top:bottom], nearest(mask.shape[1], size[0])[left:right]
    new_mask[: bottom - top, : right - left] = mask.take(rows, axis=0).take(columns, axis=1)
    return new_mask


WORTH_THE_WHOLE = 6
"""PyTorch resizes bytes six times faster than Pillow, but only Pillow can leave out what lies outside of the crop."""


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """The image at `size` = (width, height), bilinear, antialiased when it shrinks."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    channels_first = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    new = F.interpolate(channels_first, (height, width), mode="bilinear", antialias=True)
    pixels: Pixels = new[0].permute(1, 2, 0).numpy()
    return pixels


def _resized_part(image: Windows, size: tuple[int, int], box: tuple[int, int, int, int]) -> Pixels:
    """What `box` cuts out of the image at `size`; no more of the image is read than has a share in it."""
    left, top, right, bottom = box
    height, width, _ = image.shape
    (x, across), (y, down) = _source(left, right, size[0], width), _source(top, bottom, size[1], height)
    exactly = (across[0] - x.start, down[0] - y.start, across[1] - x.start, down[1] - y.start)
    return resized_by_pillow(image[y, x], (right - left, bottom - top), exactly)


def nearest(old: int, new: int) -> NDArray[np.intp]:
    """Index of the old pixel that each of `new` pixels takes: int (new,), the numbers of Pillow's own resize."""
    # Pillow adds up the steps; a product would round otherwise where two pixels are equally near.
    steps = np.full(new, old / new)
    steps[0] /= 2
    return np.minimum(np.add.accumulate(steps).astype(np.intp), old - 1)


def _source(first: int, end: int, new: int, old: int) -> tuple[slice, tuple[float, float]]:
    """Where the pixels first..end - 1 of a side that is resized from `old` to `new` pixels come from.

    The old pixels that have a share in them, and the exact range.
    """
    step = old / new
    reach = math.ceil(max(step, 1)) + 1
    low, high = first * step, end * step
    return slice(max(0, int(low) - reach), min(old, math.ceil(high) + reach)), (low, high)


def flip(image: Pixels, mask: Mask, rng: np.random.Generator, *, p: float) -> tuple[Pixels, Mask]:
    """Image and mask mirrored left to right with probability `p`."""
    if rng.random() >= p:
        return image, mask
    return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
