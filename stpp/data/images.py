"""Images and masks from files, as the rest of the program wants them: 8 bits, classes 0..C-1, 255 = ignore."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.bands import Bands
from stpp.common.errors import StppError
from stpp.common.labels import IGNORE, LARGEST_VALUE
from stpp.common.registry import READERS, component, modules
from stpp.data import banded, raster
from stpp.data.multiband import ranges_of, refuse_others, sample, scaled, taken
from stpp.data.readers import RGB, ImageError, Picture, Stored, picture

LARGE = 2**25
"""Pixels from which on an image is read by windows where that can be done."""
TIFF = (".tif", ".tiff")
MOST_ROWS = 1024
"""Of a strip or tile of a file that is read by windows: of higher ones, too much would be read in vain."""


def read_image(path: str | Path, content: bytes | None = None, bands: Bands | None = None) -> NDArray[np.uint8]:
    """An image, uint8 (H, W, 3) of 0..255, RGB, upright; `content` is the file's bytes where they are at hand.

    With `bands`, uint8 (H, W, B), the bands that these say, scaled. Raises ImageError where the file cannot be read, or
    has other bands.
    """
    if bands is not None:
        if content is None and (large := large_image(path, bands)):
            return large[:, :]
        return scaled(stored_bands(path, content, bands, has_scale=bands.scale is not None), bands)
    found: Picture = reader_of(path).image(path, content)
    if found.bands != RGB:
        remedy = "Convert it to an image of these three"
        raise ImageError(path, f"bands {', '.join(found.bands)} instead of {', '.join(RGB)}", remedy)
    return found.pixels


def stored_bands(path: str | Path, content: bytes | None, bands: Bands, *, has_scale: bool) -> NDArray[Any]:
    """The `bands` of an image as its file stores them, (H, W, B), of any type; `has_scale` says that a scale is known.

    Raises ImageError for what `stpp.data.multiband` refuses, and where the file cannot be read.
    """
    values: NDArray[Any] = _banded(path).stored(path, content, bands.pages)
    refuse_others(
        path, Stored(values.shape[0], values.shape[1], values.shape[2], values.dtype), bands, has_scale=has_scale
    )
    return taken(path, values, bands)


def stored_as(path: str | Path, content: bytes | None, bands: Bands, *, has_scale: bool) -> Stored:
    """How the file of an image with these `bands` stores it, from its header. Raises ImageError as `stored_bands`, but
    for damaged values.
    """
    found: Stored = _banded(path).stored_as(path, content, bands.pages)
    refuse_others(path, found, bands, has_scale=has_scale)
    return found


@dataclass(frozen=True)
class LargeImage:
    """An image of which no more is read than is asked for; its `shape` is (H, W, number of bands)."""

    path: str | Path
    bands: Bands | None
    shape: tuple[int, int, int]

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Some rows and columns, as `read_image` gives them. Raises ImageError."""
        (top, bottom, _), (left, right, _) = place[0].indices(self.shape[0]), place[1].indices(self.shape[1])
        found = np.empty((bottom - top, right - left, self.shape[2]), np.uint8)
        for first in range(top, bottom, MOST_ROWS):
            last = min(bottom, first + MOST_ROWS)
            values = raster.window(self.path, slice(first, last), place[1])
            if self.bands is not None:
                values = scaled(taken(self.path, values, self.bands), self.bands)
            found[first - top : last - top] = values
        return found

    def lines(self, first: int, last: int) -> NDArray[np.uint8]:
        """The rows from `first` to before `last`."""
        return self[first:last, :]


def large_image(path: str | Path, bands: Bands | None) -> LargeImage | None:
    """A large image that is read by windows; None for a smaller one, or one that has to be read whole.

    Raises ImageError as `stored_as`.
    """
    if bands is None:
        if Path(path).suffix.lower() not in TIFF or not raster.has_windows_of_rgb(path, MOST_ROWS):
            return None
        found = raster.stored_as(path)
    else:
        found = stored_as(path, None, bands, has_scale=bands.scale is not None)
    if found.height * found.width < LARGE:
        return None
    if bands is not None and (_banded(path) is not banded or not raster.has_windows(path, MOST_ROWS)):
        return None
    return LargeImage(path, bands, (found.height, found.width, len(bands.numbers) if bands else found.bands))


def labeled_ranges(paths: Sequence[str], bands: Bands, percentiles: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """For each of the `bands` its values at two percentiles over images, but for pixels that the files call no data.

    Of many pixels some are taken, evenly spaced. Raises StppError for a band in which both are one value, and
    ImageError.
    """
    samples = []
    for path in paths:
        values = stored_bands(path, None, bands, has_scale=True)
        samples.append(sample(values, len(paths), _banded(path).no_data(path)))
    return ranges_of(samples, bands.numbers, percentiles)


def _banded(path: str | Path) -> ModuleType:
    """What gives the bands of a file: its reader, or for pictures `stpp.data.banded`."""
    reader = reader_of(path)
    if reader is not picture and not hasattr(reader, "stored"):
        raise ImageError(path, "a format whose bands cannot be chosen", "Leave `data.bands` out, or convert the file")
    return banded if reader is picture else reader


def read_mask(path: str | Path, encoding: Mapping[str, Any], content: bytes | None = None) -> NDArray[np.uint8]:
    """A mask as uint8 (H, W), class 0..C-1 or 255 = ignore, upright. `class_of` says what `encoding` means, `content`
    is the file's bytes where they are at hand.

    With a `palette_map`, masks that have both values and colours are read by their colours. Raises ImageError where
    the file cannot be read, and StppError where a pixel has no class.
    """
    raw = raw_values(path, encoding, content)
    colours = raw.dtype == np.uint32
    known, classes = _decoder(json.dumps(dict(encoding)), 0 if colours else 256 ** min(raw.dtype.itemsize, 2))
    if colours:
        place = _places(raw, known, encoding.get("palette_tolerance") or 0)
    elif raw.dtype.itemsize > 1:
        wide = raw.astype(np.int64)
        place = np.where((wide >= 0) & (wide < 65536), wide, 65536)
    else:
        place = raw
    decoded = classes[place]
    if decoded.min() < 0:
        strange = np.unique(raw[decoded < 0])[:5]
        names = ", ".join(f"#{value:06x}" if colours else str(value) for value in strange.tolist())
        raise StppError(
            f"{path}: {'colour' if colours else 'value'} {names} is not a class: expected {expected(encoding)}. "
            "Correct the mask, or classes, ignore_value, label_map, first_label, threshold, palette_map or "
            "palette_tolerance in the configuration; "
            "`stpp index` reports all such masks"
        )
    return decoded.astype(np.uint8)


def raw_values(path: str | Path, encoding: Mapping[str, Any], content: bytes | None = None) -> NDArray[Any]:
    """The labels of a mask as its file has them, (H, W), before they become classes; see `stpp.data.readers`."""
    by_colour = bool(encoding.get("palette_map"))
    found: NDArray[Any] = reader_of(path).labels(path, content, by_colour, forgives_noise(encoding))
    return found


# --- readers ----------------------------------------------------------------------------------------------------------


def suffix(path: str | Path) -> str:
    """The suffix by which a reader is found, in lower case; empty for one that no reader names."""
    found = Path(path).suffix.lower()
    return found if found in modules(READERS) else ""


def reader_of(path: str | Path) -> ModuleType:
    """The reader of a file."""
    # That of pictures is part of the code of all that reads images; the others are named in recipes.
    return component(READERS, found) if (found := suffix(path)) else picture


def other_readers(paths: Iterable[str]) -> list[str]:
    """The modules of the readers of these files, but for that of pictures, sorted."""
    found = {modules(READERS)[ending] for ending in {suffix(path) for path in paths} if ending}
    return sorted(found - {picture.__name__})


# --- encodings --------------------------------------------------------------------------------------------------------


def class_of(raw: str, encoding: Mapping[str, Any]) -> int | None:
    """What a raw mask value ("17") or colour ("#80ff00") stands for: class 0..C-1, 255 = ignore, None = nothing.

    `encoding` has `classes` (C); `palette_map` (colour -> class or "ignore") where masks are to be read by colour, with
    a `palette_tolerance` where the nearest colour counts, up to that `distance`; else `label_map` (-> class or
    "ignore") and `ignore_value` (the value that means ignore, or None). A label map has values, ranges such as
    "1-255", and "default"; the first of these counts that has the value, the ignored value before the default. Without
    a `label_map` a value is its class.
    """
    target: Any
    if by_colour := encoding.get("palette_map"):
        by_colour = {colour.lower(): class_ for colour, class_ in by_colour.items()}
        target = by_colour.get(raw)
        if target is None and raw.startswith("#") and (tolerance := encoding.get("palette_tolerance")):
            nearest = min(sorted(by_colour), key=lambda colour: distance(colour, raw))
            target = by_colour[nearest] if distance(nearest, raw) <= tolerance else None
    elif raw.startswith("#"):
        target = None
    elif by_value := encoding.get("label_map"):
        target = by_value.get(raw)
        if target is None:
            target = next(
                (by_value[key] for low, high, key in _ranges(tuple(by_value)) if low <= int(raw) <= high), None
            )
        if target is None and 0 <= int(raw) <= LARGEST_VALUE:
            target = "ignore" if int(raw) == encoding.get("ignore_value") else by_value.get("default")
    else:
        target = "ignore" if int(raw) == encoding.get("ignore_value") else int(raw)
    if target == "ignore":
        return IGNORE
    return target if target is not None and 0 <= target < encoding["classes"] else None


def distance(colour: str, other: str) -> int:
    """How far two colours "#rrggbb" are from each other: the largest difference of a channel, 0..255."""
    return max(abs(int(colour[at : at + 2], 16) - int(other[at : at + 2], 16)) for at in (1, 3, 5))


def forgives_noise(encoding: Mapping[str, Any]) -> bool:
    """Whether masks may hold more values or colours than there are classes, as JPEG files and smoothed ones do."""
    return bool(encoding.get("palette_tolerance")) or any(
        "-" in key or key == "default" for key in encoding.get("label_map") or ()
    )


@lru_cache(maxsize=8)
def _ranges(keys: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """The ranges among the keys of a label map: first value, last value, key."""
    return [(int(low), int(high), key) for key in keys for low, dash, high in [key.partition("-")] if dash]


def _places(raw: NDArray[np.uint32], known: NDArray[np.uint32], tolerance: int) -> NDArray[np.intp]:
    """For each colour 0xrrggbb its place among the `known`, sorted ones, else the nearest one's; their number if none.

    Nearest is the one of the least `distance`, the first of equals, up to the `tolerance`.
    """
    place = np.minimum(np.searchsorted(known, raw), len(known) - 1)
    strange = known[place] != raw
    if not tolerance or not strange.any():
        place[strange] = len(known)  # where the table says: no class
        return place
    colours, back = np.unique(raw[strange], return_inverse=True)
    shifts = np.array([16, 8, 0], np.uint32)
    found, given = ((packed[:, None] >> shifts & 255).astype(np.int16) for packed in (colours, known))
    nearest = np.empty(len(colours), np.intp)
    for start in range(0, len(colours), 4096):  # a photograph has a million colours
        apart = np.abs(found[start : start + 4096, None] - given).max(axis=2)
        best = apart.argmin(axis=1)
        nearest[start : start + 4096] = np.where(apart.min(axis=1) <= tolerance, best, len(known))
    place[strange] = nearest[back]
    return place


def expected(encoding: Mapping[str, Any]) -> str:
    """The raw values that have a class, in words."""
    ignore = encoding.get("ignore_value")
    also = "" if ignore is None else f" or {ignore} (ignore)"
    if encoding.get("palette_map"):
        return "the colours of palette_map"
    if encoding.get("label_map"):
        return f"the values of label_map{also}"
    return f"0 to {encoding['classes'] - 1}{also}"


@lru_cache(maxsize=8)
def _decoder(encoding: str, size: int) -> tuple[NDArray[np.uint32], NDArray[np.int16]]:
    """Tables for `read_mask`: the classes of the values 0..size-1, or with size 0 sorted colours and their classes.

    -1 stands for no class; it is also the last entry, one more than there are values or colours.
    """
    settings = json.loads(encoding)
    names = sorted(colour.lower() for colour in settings.get("palette_map") or ["#000000"])
    known = np.array([int(name[1:], 16) for name in names], np.uint32)
    found = [class_of(raw, settings) for raw in (map(str, range(size)) if size else names)]
    return known, np.array([-1 if class_ is None else class_ for class_ in [*found, None]], np.int16)
