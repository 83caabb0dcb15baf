"""Images and masks from files, as the rest of the program wants them: RGB, classes 0..C-1, 255 = ignore."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.data.readers import RGB, ImageError, Picture, picture
from stpp.errors import StppError
from stpp.labels import IGNORE
from stpp.registry import READERS, component, modules


def read_image(path: str | Path, content: bytes | None = None) -> NDArray[np.uint8]:
    """An image, uint8 (H, W, 3) of 0..255, RGB, upright; `content` is the file's bytes where they are at hand.

    Raises ImageError where the file cannot be read, or has other bands.
    """
    found: Picture = reader_of(path).image(path, content)
    if found.bands != RGB:
        remedy = "Convert it to an image of these three"
        raise ImageError(path, f"bands {', '.join(found.bands)} instead of {', '.join(RGB)}", remedy)
    return found.pixels


def read_mask(path: str | Path, encoding: Mapping[str, Any], content: bytes | None = None) -> NDArray[np.uint8]:
    """A mask as uint8 (H, W), class 0..C-1 or 255 = ignore, upright. `class_of` says what `encoding` means, `content`
    is the file's bytes where they are at hand.

    With a `palette_map`, masks that have both values and colours are read by their colours. Raises ImageError where
    the file cannot be read, and StppError where a pixel has no class.
    """
    raw = reader_of(path).labels(path, content, bool(encoding.get("palette_map")))
    colours = raw.dtype == np.uint32
    known, classes = _decoder(json.dumps(dict(encoding)), 0 if colours else 256 ** min(raw.dtype.itemsize, 2))
    if colours:
        place = np.minimum(np.searchsorted(known, raw), len(known) - 1)
        place[known[place] != raw] = len(known)  # where the table says: no class
    elif raw.dtype.itemsize > 1:
        place = np.where((raw >= 0) & (raw < 65536), raw, 65536)
    else:
        place = raw
    decoded = classes[place]
    if decoded.min() < 0:
        strange = np.unique(raw[decoded < 0])[:5]
        names = ", ".join(f"#{value:06x}" if colours else str(value) for value in strange.tolist())
        raise StppError(
            f"{path}: {'colour' if colours else 'value'} {names} is no class: expected {expected(encoding)}. "
            "Correct the mask, or classes, ignore_value, label_map or palette_map in the configuration; "
            "`stpp index` reports all such masks"
        )
    return decoded.astype(np.uint8)


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

    `encoding` has `classes` (C); `palette_map` (colour -> class or "ignore") where masks are to be read by colour; else
    `label_map` (value -> class or "ignore", which goes before) and `ignore_value` (the value that means ignore, or
    None). Without a `label_map` a value is its class.
    """
    target: Any
    if by_colour := encoding.get("palette_map"):
        target = {colour.lower(): class_ for colour, class_ in by_colour.items()}.get(raw)
    elif raw.startswith("#"):
        target = None
    else:
        by_value = {int(value): class_ for value, class_ in (encoding.get("label_map") or {}).items()}
        default = "ignore" if int(raw) == encoding.get("ignore_value") else None if by_value else int(raw)
        target = by_value.get(int(raw), default)
    if target == "ignore":
        return IGNORE
    return target if target is not None and 0 <= target < encoding["classes"] else None


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
