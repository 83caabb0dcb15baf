"""From a decoded image and its mask to one training sample: the order of all parts, and the weak augmentation of ST++.

The weak augmentation A^w (geometry) is here, the strong one A^s (colour and CutOut) in `stpp.data.strong`. Each part is
a pure function of its input and a random generator; `augment` gives every part a generator of its own, so that two
experiments that differ in one part see the same random numbers in all others.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from stpp.data.strong import Mask, Pixels, colour_jitter, cutout, gaussian_blur, to_grayscale
from stpp.metrics import IGNORE


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
    image: Image.Image,
    mask: Mask,
    settings: Mapping[str, Any],
    *,
    crop: int,
    base_size: int,
    seed: int,
    role: str,
    epoch: int,
    index: int,
) -> tuple[Pixels, Mask]:
    """One augmented sample: pixels uint8 (crop, crop, 3), not yet normalised, and mask uint8 (crop, crop).

    `image` is RGB, `mask` uint8 (height, width) with 255 = ignore. The parts run in the order of ST++: rescale, pad and
    crop, flip; jitter, grayscale, blur, CutOut. Every value of the new mask is one of the old mask or 255; the colour
    parts leave it alone. `settings` holds plain JSON values; a part that is absent or None is off:

    - "scale": [low, high], the long side in multiples of `base_size`; off means that it is `base_size`
    - "flip": probability of a horizontal flip
    - "jitter", "grayscale", "blur", "cutout": the keyword arguments of `colour_jitter`, `to_grayscale`,
      `gaussian_blur` and `cutout`, each with its probability "p"

    `seed`, `role`, `epoch` and `index` decide all randomness (see `sample_rng`). Neither input is changed. Raises
    ValueError if the image is not RGB or the mask has another shape, StppError if no CutOut box can fit.
    """
    if image.mode != "RGB" or mask.shape != (image.height, image.width):
        found = f"a {image.mode} image of {image.height} x {image.width} and a mask of shape {mask.shape}"
        raise ValueError(f"augment needs an RGB image and a mask of the same height and width, not {found}")

    def rng(part: str) -> np.random.Generator:
        return sample_rng(seed, role, epoch, index, part)

    size = rescale_size(image.size, rng("scale"), scale=settings.get("scale"), base_size=base_size)
    image, mask = rescale(image, mask, size)
    image, mask = pad_and_crop(image, mask, rng("crop"), crop=crop)
    if probability := settings.get("flip"):
        image, mask = flip(image, mask, rng("flip"), p=probability)

    if jitter := settings.get("jitter"):
        image = colour_jitter(image, rng("jitter"), **jitter)
    if grayscale := settings.get("grayscale"):
        image = to_grayscale(image, rng("grayscale"), **grayscale)
    if blur := settings.get("blur"):
        image = gaussian_blur(image, rng("blur"), **blur)
    pixels = np.array(image)
    if box := settings.get("cutout"):
        pixels, mask = cutout(pixels, mask, rng("cutout"), **box)
    return pixels, mask


def rescale_size(
    size: tuple[int, int], rng: np.random.Generator, *, scale: Sequence[float] | None, base_size: int
) -> tuple[int, int]:
    """The new (width, height) for an image of `size` = (width, height).

    The long side is an integer drawn uniformly from int(low * base_size) to int(high * base_size), both ends included,
    for `scale` = (low, high), and `base_size` itself for None. The short side keeps the aspect, rounded half up (the
    authors' implementation), and no side falls below 1.
    """
    if scale is None:
        long_side = base_size
    else:
        low, high = (int(base_size * factor) for factor in scale)
        long_side = max(1, int(rng.integers(low, high, endpoint=True)))
    width, height = size
    short_side = max(1, int(min(size) * long_side / max(size) + 0.5))
    return (short_side, long_side) if height > width else (long_side, short_side)


def rescale(image: Image.Image, mask: Mask, size: tuple[int, int]) -> tuple[Image.Image, Mask]:
    """Image and mask at `size` = (width, height).

    The image is bilinear as Pillow does it (antialiased when it shrinks), the mask takes the nearest pixel, so that no
    class appears that was not there.
    """
    if size == image.size:
        return image, mask
    new_mask = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.BILINEAR), np.asarray(new_mask)


def pad_and_crop(image: Image.Image, mask: Mask, rng: np.random.Generator, *, crop: int) -> tuple[Image.Image, Mask]:
    """A random square of `crop` x `crop` pixels, every position equally likely.

    An image smaller than that is first padded on the right and at the bottom: image with 0, mask with 255.
    """
    # Always two draws from [0, 1): the row does not depend on whether the width left a choice of columns.
    across, down = rng.random(2)
    left = int(across * (max(image.width - crop, 0) + 1))
    top = int(down * (max(image.height - crop, 0) + 1))
    window = mask[top : top + crop, left : left + crop]
    new_mask = np.full((crop, crop), IGNORE, dtype=np.uint8)
    new_mask[: window.shape[0], : window.shape[1]] = window
    # Pillow fills what lies outside of the image with 0.
    return image.crop((left, top, left + crop, top + crop)), new_mask


def flip(image: Image.Image, mask: Mask, rng: np.random.Generator, *, p: float) -> tuple[Image.Image, Mask]:
    """Image and mask mirrored left to right with probability `p`."""
    if rng.random() >= p:
        return image, mask
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), np.ascontiguousarray(mask[:, ::-1])
