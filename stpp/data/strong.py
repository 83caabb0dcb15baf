"""The strong augmentation A^s of ST++: colour jitter, grayscale, Gaussian blur, CutOut; and AugSeg's operations.

The colour parts do what torchvision's ColorJitter and RandomGrayscale do to a Pillow image, pixel for pixel, without
importing torchvision. Pictures are of mode RGB, or grey, L, for a band that is no colour: such a band has no hue and no
saturation. Only CutOut touches the mask. Each part happens with its own probability `p`.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter, ImageOps, ImageStat

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE

Pixels = npt.NDArray[np.uint8]  # (height, width, bands)
Mask = npt.NDArray[np.uint8]  # (height, width), class or IGNORE

# With the paper's settings 28 % of the draws fit; this many suffice even for boxes of 90 % of the image (0.3 %).
CUTOUT_DRAWS = 10_000


def colour_jitter(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    p: float,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> Image.Image:
    """The image with jittered colours, with probability `p`; strengths as in `draw_jitter`."""
    if rng.random() >= p:
        return image
    for name, factor in draw_jitter(rng, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue):
        image = adjust(image, name, factor)
    return image


def draw_jitter(
    rng: np.random.Generator, *, brightness: float, contrast: float, saturation: float, hue: float
) -> list[tuple[str, float]]:
    """The adjustments of one colour jitter, (name, factor) in the order in which they apply.

    The factor is uniform in [max(0, 1 - x), 1 + x] for a brightness, contrast or saturation of strength x >= 0, and in
    [-x, x] for a hue of strength x in [0, 0.5]. All orders are equally likely. Strength 0 leaves the adjustment out.
    (torchvision's ColorJitter.)
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    order = rng.permutation(list(strengths))
    # All four are drawn, whatever their strengths, so that switching one off leaves the factors of the others.
    factors = {}
    for name, strength in strengths.items():
        center = 0.0 if name == "hue" else 1.0
        low = center - strength if name == "hue" else max(0.0, center - strength)
        factors[name] = rng.uniform(low, center + strength)
    return [(str(name), factors[name]) for name in order if strengths[name] > 0]


def adjust(image: Image.Image, name: str, factor: float) -> Image.Image:
    """The image with its "brightness", "contrast", "saturation" or "hue" changed; a grey one keeps the last two.

    The first three blend the image with black, with its mean grey and with its own grey version: factor 1 is the image
    itself, 0 the other. A hue factor in [-0.5, 0.5] turns the hue by that share of the circle.
    """
    if image.mode == "L" and name in ("saturation", "hue"):
        return image
    match name:
        case "brightness":
            return _blended(image, 0, factor)
        case "contrast":
            return _blended(image, int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5), factor)
        case "saturation":
            return ImageEnhance.Color(image).enhance(factor)
        case "hue":
            # The step is rounded towards zero, as in torchvision.
            return _turned(image, int(factor * 255))
    raise ValueError(f"unknown colour adjustment {name!r}")


def _blended(image: Image.Image, grey: int, factor: float) -> Image.Image:
    """`grey` + `factor` * (the image - `grey`), by a table of what Pillow makes of each value: half the time."""
    values = Image.frombytes("L", (256, 1), bytes(range(256)))
    return image.point(
        list(Image.blend(Image.new("L", (256, 1), grey), values, factor).tobytes()) * len(image.getbands())
    )


def _turned(image: Image.Image, step: int) -> Image.Image:
    """The image with `step` added to its hue, a byte that wraps around."""
    to_hsv, to_rgb = hue_tables()
    hsv = to_hsv.take(np.frombuffer(image.tobytes("raw", "RGBX"), "<u4") & 0xFFFFFF)
    hsv.view(np.uint8)[::4] += np.uint8(step % 256)
    return Image.frombytes("RGB", image.size, to_rgb.take(hsv).tobytes(), "raw", "RGBX")


@cache
def hue_tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """What Pillow makes of each RGB colour in HSV, and of each HSV colour in RGB: uint32 (2**24,), red or hue lowest.

    To look a colour up takes 40 % of the time that computing it does. They are 134 MB, made in half a second;
    processes forked after the first call share them.
    """
    to_hsv, to_rgb = np.zeros((2, 2**24, 4), dtype=np.uint8)
    for start in range(0, 2**24, 2**16):
        colours = np.arange(start, start + 2**16, dtype="<u4").view(np.uint8).reshape(256, 256, 4)[..., :3].copy()
        chunk = np.s_[start : start + 2**16, :3]
        to_hsv[chunk] = np.asarray(Image.frombytes("RGB", (256, 256), colours).convert("HSV")).reshape(-1, 3)
        to_rgb[chunk] = np.asarray(Image.frombytes("HSV", (256, 256), colours).convert("RGB")).reshape(-1, 3)
    return to_hsv.view("<u4")[:, 0], to_rgb.view("<u4")[:, 0]


def random_operations(image: Image.Image, rng: np.random.Generator, *, most: int) -> Image.Image:
    """The image after 1 to `most` operations of `OPERATIONS`, drawn uniformly with replacement (AugSeg)."""
    for name in rng.choice(OPERATIONS, rng.integers(1, most, endpoint=True)):
        image = operation(image, str(name), rng.random(), rng.random() < 0.5)
    return image


OPERATIONS = (
    *("identity", "autocontrast", "equalize", "blur", "contrast", "brightness", "colour", "sharpness"),
    *("posterize", "solarize", "hue"),
)


def operation(image: Image.Image, name: str, strength: float, negative: bool) -> Image.Image:
    """The image after one of `OPERATIONS`, `strength` in [0, 1) (AugSeg, the released code); a grey one has no colour.

    Contrast, brightness, colour and sharpness are enhanced by 0.95 - 0.9 `strength`, so always lowered. A blur has a
    radius of 0.1 to 2; posterizing keeps 7 to 4 bits; solarizing inverts values from 255 down to 1 on; the hue is
    turned by up to half of the circle, the other way where `negative`.
    """
    if image.mode == "L" and name in ("colour", "hue"):
        return image
    match name:
        case "autocontrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
        case "blur":
            return image.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * strength))
        case "contrast" | "brightness" | "colour" | "sharpness":
            enhancer = getattr(ImageEnhance, {"colour": "Color"}.get(name, name.capitalize()))
            enhanced: Image.Image = enhancer(image).enhance(0.95 - 0.9 * strength)
            return enhanced
        case "posterize":
            return ImageOps.posterize(image, 8 - max(1, math.ceil(4 * strength)))
        case "solarize":
            return ImageOps.solarize(image, 256 - max(1, math.ceil(255 * strength)))
        case "hue":
            return _turned(image, int((-0.5 if negative else 0.5) * strength * 255))
    return image


def to_grayscale(image: Image.Image, rng: np.random.Generator, *, p: float) -> Image.Image:
    """The image's luma (ITU-R 601), in mode L, with probability `p`; else the image itself.

    One band and not three equal ones: whatever comes next has a third of the work.
    """
    return image.convert("L") if rng.random() < p else image


def gaussian_blur(image: Image.Image, rng: np.random.Generator, *, p: float, sigma: Sequence[float]) -> Image.Image:
    """The image blurred by Pillow's GaussianBlur, radius uniform in `sigma` = (low, high), with probability `p`."""
    if rng.random() >= p:
        return image
    low, high = sigma
    blur = ImageFilter.GaussianBlur(rng.uniform(low, high))
    # Band by band takes 9 % less: Pillow's RGB has a fourth, unused one.
    return Image.merge(image.mode, [band.filter(blur) for band in image.split()])


def cutout(
    pixels: Pixels,
    mask: Mask,
    rng: np.random.Generator,
    *,
    p: float,
    area: Sequence[float],
    ratio: Sequence[float],
    fill: int | Literal["random"],
) -> tuple[Pixels, Mask]:
    """Copies of pixels and mask with one box erased, with probability `p` (else the inputs themselves).

    The box is that of `cutout_box`. Its pixels become `fill`, an integer in 0..255, or uniform integers in 0..254, one
    per pixel and channel, for "random"; its mask becomes 255. Raises StppError if no box fits.
    """
    if rng.random() >= p:
        return pixels, mask
    top, left, height, width = cutout_box(mask.shape[0], mask.shape[1], rng, area=area, ratio=ratio)
    box = np.s_[top : top + height, left : left + width]
    pixels, mask = pixels.copy(), mask.copy()
    pixels[box] = rng.integers(255, size=(height, width, pixels.shape[2]), dtype=np.uint8) if fill == "random" else fill
    mask[box] = IGNORE
    return pixels, mask


def cutout_box(
    height: int, width: int, rng: np.random.Generator, *, area: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int]:
    """A random box (top, left, height, width) inside of an image of `height` x `width` pixels.

    Its share of the image is uniform in `area` = (low, high), its height / width uniform (not log-uniform) in `ratio`,
    both sides are rounded down, its top left corner is any pixel; all of it is drawn anew until the box fits (ST++, the
    authors' implementation). Large boxes fit rarely, so that the accepted ones are smaller than `area` suggests: 0.14
    of the image on average, 9 % of them above 0.3, for the paper's area of 0.02 to 0.4.

    Raises StppError if no box fits: area and ratio then ask for boxes larger than the image.
    """
    smallest, largest = area
    widest, tallest = ratio
    for _ in range(CUTOUT_DRAWS):
        size = rng.uniform(smallest, largest) * height * width
        aspect = rng.uniform(widest, tallest)
        box_height, box_width = int((size * aspect) ** 0.5), int((size / aspect) ** 0.5)
        left, top = int(rng.integers(width)), int(rng.integers(height))
        if left + box_width <= width and top + box_height <= height:
            return top, left, box_height, box_width
    raise StppError(
        f"CutOut: none of {CUTOUT_DRAWS} boxes with an area of {smallest} to {largest} of the image and height / width "
        f"of {widest} to {tallest} fits in a crop of {height} x {width}. Lower the area or bring the ratio closer to 1."
    )
