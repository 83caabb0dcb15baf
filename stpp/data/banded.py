"""The bands of an image as its file stores them, of any number and type: TIFF by tifffile, the others by Pillow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stpp.data import raster
from stpp.data.readers import ImageError, Stored, open_stream, unreadable
from stpp.data.readers.picture import open_file, orientation, stored_mode, upright, upright_size

BAND_MODES = {  # mode -> the mode whose bands are taken, if another; how many these are; their type
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), ("", 1, "uint16")),
    **dict.fromkeys(("P", "PA", "YCbCr"), ("RGB", 3, "uint8")),
    "1": ("L", 1, "uint8"),
    "L": ("", 1, "uint8"),
    "LA": ("", 2, "uint8"),
    "RGB": ("", 3, "uint8"),
    "RGBA": ("", 4, "uint8"),
    "CMYK": ("", 4, "uint8"),
}


def stored(path: str | Path, content: bytes | None = None, pages: bool = False) -> NDArray[Any]:
    """The bands of an image as they are stored, upright, (H, W, number of bands), of any type; palettes are RGB.

    Transparency is a band. TIFF files are read by `stpp.data.raster`, with `pages`; others have one page. Raises
    ImageError for what cannot be read, and where Pillow would give 8 of 16 bits.
    """
    if _is_tiff(path, content):
        return raster.stored(path, content, pages)
    with _open_bands(path, content) as opened:
        mode, _, _ = BAND_MODES[opened.mode]
        picture = upright(opened, orientation(opened))
        values = np.array(picture.convert(mode) if mode else picture)
        return values[..., None] if values.ndim == 2 else values


def stored_as(path: str | Path, content: bytes | None = None, pages: bool = False) -> Stored:
    """What `stored` gives, from the header."""
    if _is_tiff(path, content):
        return raster.stored_as(path, content, pages)
    with _open_bands(path, content) as opened:
        _, bands, kind = BAND_MODES[opened.mode]
        return Stored(*upright_size(opened), bands, np.dtype(kind))


def no_data(path: str | Path) -> float | None:
    """The value that stands for nothing, where a file names one, as GeoTIFF files may."""
    return raster.no_data(path) if _is_tiff(path, None) else None


def _is_tiff(path: str | Path, content: bytes | None) -> bool:
    if content is not None:
        return raster.is_tiff(content)
    try:
        with open_stream(path) as stream:
            return raster.is_tiff(stream.read(4))
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def _open_bands(path: str | Path, content: bytes | None) -> Iterator[Image.Image]:
    """`open_file` for an image whose bands `stored` can give. Raises ImageError for the others."""
    with open_file(path, content) as image:
        if image.mode not in BAND_MODES or (";16" in stored_mode(image) and image.mode[0] != "I"):
            remedy = "Save it as a TIFF file, of which all bits are read"
            raise ImageError(path, "an image of several bands of 16 bits", remedy, f"Pillow mode {stored_mode(image)}")
        yield image
