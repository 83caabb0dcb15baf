"""Images of other bands than red, green and blue: which bands are taken, scaled to 8 bits, and shown.

An image is uint8 (H, W, B) in the program, whatever its file holds: 256 levels of a range that was chosen are what
screens show of it, and a third of the memory and of the time of numbers of 32 bits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stpp.common.bands import RGB_PLACES, Bands
from stpp.common.errors import StppError
from stpp.data.readers import ImageError, Stored

LEAST = np.finfo(np.float32).tiny
"""Of a range whose ends are one number in float32."""
AT_ONCE = 2**22
"""Values that are scaled at once, about."""
SAMPLE = 2**22
"""Pixels of all images together from which percentiles are taken, about."""


def refuse_others(path: str | Path, found: Stored, bands: Bands, *, has_scale: bool) -> None:
    """Raise ImageError for a file that lacks a band, has another number than it is to have, or values without a scale.

    `has_scale` says that one is given.
    """
    has = f"it has {found.bands}"
    if bands.of not in (None, found.bands):
        remedy = (
            "Correct `data.bands`, or let it list the numbers of those that are taken, such as "
            f"`bands: {list(range(1, min(found.bands, 3) + 1))}`"
        )
        raise ImageError(path, f"not the {bands.of} bands of data.bands", remedy, has)
    if missing := [number for number in bands.numbers if number > found.bands]:
        what = f"no band {', '.join(map(str, missing))}, which data.bands asks for"
        raise ImageError(path, what, "Correct `data.bands`, or leave such files out", has)
    if found.dtype.kind not in "uif" or found.dtype.itemsize > 8:
        remedy = "Write numbers: integers or floating-point values"
        raise ImageError(path, "values that are no real numbers", remedy, str(found.dtype))
    if found.dtype != np.uint8 and not has_scale:
        remedy = (
            "Say which values become 0 and 255, such as `data.scale: [0, 3000]`, or take them from the labeled images "
            "by `data.percentiles: [2, 98]`"
        )
        raise ImageError(path, f"values of {8 * found.dtype.itemsize} bits without a scale", remedy, str(found.dtype))


def taken(path: str | Path, values: NDArray[Any], bands: Bands) -> NDArray[Any]:
    """The bands of an image, (H, W, B), of those of its file, (H, W, number of bands), still of the file's type.

    Raises ImageError where values are not finite.
    """
    places = [number - 1 for number in bands.numbers]
    found = values if places == list(range(values.shape[2])) else values[..., places]
    if found.dtype.kind == "f" and not (finite := np.isfinite(found)).all():
        remedy = "Write a number in their place, and leave these pixels out in the mask"
        wrong = found.size - int(np.count_nonzero(finite))
        raise ImageError(path, "values that are no finite numbers (NaN)", remedy, f"{wrong:,} of {found.size:,}")
    return found


def scaled(values: NDArray[Any], bands: Bands) -> NDArray[np.uint8]:
    """Values of any type, (H, W, B), as uint8: 255 (v - low) / (high - low) in float32, cut off at 0 and 255, rounded
    half to even. Without a scale they are uint8 and stay as they are.
    """
    if bands.scale is None:
        return np.ascontiguousarray(values, np.uint8)
    low, high = np.array(bands.scale, np.float32).T
    found = np.empty(values.shape, np.uint8)
    rows = max(1, AT_ONCE * len(values) // max(1, values.size))
    for first in range(0, len(values), rows):  # the numbers of a whole large image take four times its memory
        with np.errstate(over="ignore"):  # infinite is above the range, too
            shares = (values[first : first + rows].astype(np.float32) - low) / np.maximum(high - low, LEAST)
        found[first : first + rows] = np.rint(255 * np.clip(shares, 0, 1))
    return found


def ranges_of(
    samples: Sequence[NDArray[Any]], numbers: Sequence[int], percentiles: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """For each band the values at two percentiles (NumPy's, linear) of pixels, (N, B) each. Raises StppError for a band
    in which both are one value.
    """
    pixels = np.concatenate([sample.astype(np.float64) for sample in samples])
    if not len(pixels):
        raise StppError("data.percentiles: no pixel of the labeled images has data: give `data.scale`")
    low, high = np.percentile(pixels, percentiles, axis=0)
    if flat := [number for number, first, last in zip(numbers, low, high) if not first < last]:
        raise StppError(
            f"data.percentiles: band {', '.join(map(str, flat))} of the labeled images has one value, "
            f"{low[list(numbers).index(flat[0])]:g}, at both percentiles {percentiles[0]:g} and {percentiles[1]:g}: "
            "give `data.scale`, or leave the band out"
        )
    return tuple(zip(low.tolist(), high.tolist()))


def sample(values: NDArray[Any], images: int, nothing: float | None) -> NDArray[Any]:
    """Evenly spaced pixels, (N, B), of one of so many images, without those of which all bands are `nothing`."""
    pixels = values.reshape(-1, values.shape[2])
    pixels = pixels[:: max(1, -(-len(pixels) * images // SAMPLE))]
    return pixels if nothing is None else pixels[(pixels != nothing).any(axis=1)]


def shown(image: NDArray[np.uint8], bands: Bands | None) -> NDArray[np.uint8]:
    """An image uint8 (H, W, B) as people see it, RGB, uint8 (H, W, 3)."""
    places = RGB_PLACES if bands is None else bands.shown
    if places == tuple(range(image.shape[2])):
        return image if image.shape[2] == 3 else image.repeat(3, axis=2)
    return np.ascontiguousarray(image[..., places if len(places) == 3 else places * 3])


def glance_of(values: NDArray[Any]) -> str:
    """The `glance` of `stpp.data.readers` of the mean of all bands, of any type, (H, W, B)."""
    grey = Image.fromarray(values.mean(axis=2, dtype=np.float32))
    cells = np.asarray(grey.resize((17, 16), Image.Resampling.BOX))
    return np.packbits(cells[:, 1:] < cells[:, :-1]).tobytes().hex()
