"""TIFF files with any number of bands, of any type, by tifffile: one page, or all pages where these are bands.

tifffile is an extra: it is pure Python, reads what microscopes, scanners and GDAL write, and hands the values out as
they are stored. Most compressed files need imagecodecs beside it, which the extra installs as well.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import of_a_dead_loader
from stpp.data.readers import ImageError, Stored, open_stream, unreadable

INSTALL = "Install the extra: `pip install 'stpp[geotiff]'`"
MIN_IS_WHITE, RGB, PALETTE = 0, 2, 3  # how values are to be seen (TIFF 6.0, PhotometricInterpretation)
ALPHA = (1, 2)  # what further bands are (TIFF 6.0, ExtraSamples)
EXACT = (1, 5, 8, 32773, 32946, 50000)  # compressions without loss: none, LZW, Deflate, PackBits, Deflate, Zstandard
TURNS = {  # orientation (TIFF 6.0) -> whether to swap rows and columns, then turn the rows around, the columns
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is an error


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is a TIFF file, of either byte order, a BigTIFF file included."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def stored_as(path: str | Path, content: bytes | None = None, pages: bool = False) -> Stored:
    """How a file stores its image, from its header; ImageError, too, where it ends before its last strip or tile."""
    return _read(path, content, pages, header=True)[0]


def stored(path: str | Path, content: bytes | None = None, pages: bool = False) -> NDArray[Any]:
    """The bands of an image as they are stored, upright, (H, W, number of bands); with `pages` those of all pages.

    Pages that are smaller versions of the first one, or masks of it, do not count. Raises ImageError for a file of
    several pages without `pages`, for one with a palette, and for what cannot be read.
    """
    return _read(path, content, pages, header=False)[1]


def window(path: str | Path, rows: slice, columns: slice) -> NDArray[Any]:
    """Some rows and columns of an image, as `stored` has them, of a file that `has_windows`.

    Only the strips or tiles that hold them are read. Raises ImageError.
    """
    import tifffile

    with read_errors(path), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        handle = file.filehandle
        height, width = page.imagelength, page.imagewidth
        (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
        long, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        down, across, planes = -(-height // long), -(-width // wide), page.shaped[0]
        found = np.empty((bottom - top, right - left, page.samplesperpixel), page.dtype)
        blocks = range(top // long, -(-bottom // long)), range(left // wide, -(-right // wide))
        for plane, row, column in product(range(planes), *blocks):
            number = (plane * down + row) * across + column
            handle.seek(page.dataoffsets[number])
            data = handle.read(page.databytecounts[number])
            part, *_ = page.decode(data or None, number, jpegtables=page.jpegtables)
            y, x = row * long, column * wide
            first, last, start, end = max(top, y), min(bottom, y + long), max(left, x), min(right, x + wide)
            bands = slice(plane, plane + 1) if planes > 1 else slice(None)
            target = found[first - top : last - top, start - left : end - left, bands]
            target[:] = page.nodata if part is None else part[0, first - y : last - y, start - x : end - x]
        return _bright(found, page)


def has_windows(path: str | Path, most: int) -> bool:
    """Whether a file is a TIFF file of one upright page, in strips or tiles of `most` rows at most."""
    return _windowed(path, most, rgb=False)


def has_windows_of_rgb(path: str | Path, most: int) -> bool:
    """The same of a file of red, green and blue, 8 bits each, stored without loss: it is read as Pillow reads it."""
    return _windowed(path, most, rgb=True)


def _windowed(path: str | Path, most: int, *, rgb: bool) -> bool:
    try:
        import tifffile

        with tifffile.TiffFile(path) as file:
            found = _whole(file)
            page = found[0]
            long = page.tilelength if page.is_tiled else page.rowsperstrip
            upright = len(found) == 1 and page is file.pages[0] and _orientation(page) == 1 and long <= most
            kind = (page.photometric, page.samplesperpixel, page.dtype, page.compression in EXACT)
            return upright and (not rgb or kind == (RGB, 3, np.uint8, True))
    except Exception:  # whoever reads the whole file says what is wrong with it
        return False


def colours(path: str | Path) -> tuple[bool, int]:
    """Whether a file says that its first bands are red, green and blue, and how many of its bands are no transparency.

    Raises ImageError.
    """
    import tifffile

    with read_errors(path), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        return page.photometric == RGB, page.samplesperpixel - sum(extra in ALPHA for extra in page.extrasamples)


def no_data(path: str | Path, content: bytes | None = None) -> float | None:
    """The value that stands for nothing, where the file names one as GDAL does. Raises ImageError."""
    return _read(path, content, pages=True, header=True)[2]


def _read(
    path: str | Path, content: bytes | None, pages: bool, *, header: bool
) -> tuple[Stored, NDArray[Any], float | None]:
    """How the image is stored, its bands (without pixels where the `header` is asked for), and its value for none."""
    try:
        import tifffile
    except ImportError:
        raise ImageError(path, "a TIFF file whose bands are declared, which tifffile reads", INSTALL) from None
    with (
        read_errors(path),
        open_stream(path) if content is None else io.BytesIO(content) as stream,
        tifffile.TiffFile(stream) as file,
    ):
        size = stream.seek(0, io.SEEK_END)
        found = _whole(file)
        _refuse(path, found, pages, size)
        first = found[0]
        empty = np.empty(0, first.dtype)
        parts = [empty] if header else [_upright(page) for page in found]
        count = sum(page.samplesperpixel for page in found)
        height, width = first.imagelength, first.imagewidth
        if TURNS.get(_orientation(first), (False,))[0]:
            height, width = width, height
        how = Stored(height, width, count, np.dtype(first.dtype))
        none = first.tags.get("GDAL_NODATA")
        return how, parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2), _number(none)


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """What tifffile raises in the block becomes an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(path, "too large for the memory", "Cut it into smaller images") from None
    except Exception as error:  # tifffile and its decoders meet damaged files with a dozen kinds of exceptions
        if of_a_dead_loader(error):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from None
        if "imagecodecs" in str(error):
            raise ImageError(path, "a compression that imagecodecs reads", INSTALL, str(error)) from None
        raise ImageError(path, "truncated or damaged file", "Copy or download it again", str(error)) from error


def _whole(file: Any) -> list[Any]:
    """The pages that are no smaller versions of others, and no masks of them."""
    return [page for page in file.pages if not (page.is_reduced or page.is_mask)]


def _refuse(path: str | Path, found: list[Any], pages: bool, size: int) -> None:
    """Raises ImageError for pages that make no image, and for a file that ends too early."""
    if not found:
        raise ImageError(path, "image without pixels", "Remove it from the list")
    if len(found) > 1 and not pages:
        remedy = "Set `data.pages: true` if each page is a band; else save each page as a file of its own"
        raise ImageError(path, "TIFF file of several pages", remedy, f"{len(found)} pages")
    kinds = {(page.imagelength, page.imagewidth, str(page.dtype)) for page in found}
    if len(kinds) > 1:
        remedy = "Save each page as a file of its own"
        raise ImageError(path, "pages of different sizes or types, which are no bands of one image", remedy)
    for page in found:
        if page.dtype is None or page.imagedepth > 1 or page.photometric == PALETTE:
            what = "a palette" if page.photometric == PALETTE else "a volume or unknown values"
            raise ImageError(path, f"TIFF file with {what}", "Save it as bands of numbers")
        ends = map(sum, zip(page.dataoffsets, page.databytecounts))
        if max(ends, default=0) > size:
            raise ImageError(path, "truncated or damaged file", "Copy or download it again", "pixels are missing")


def _upright(page: Any) -> NDArray[Any]:
    """The bands of a page, (H, W, number of bands), turned as its orientation says, bright where it is bright."""
    separate, _, height, width, contiguous = page.shaped
    values = page.asarray().reshape(separate, height, width, contiguous)
    values = values.transpose(1, 2, 0, 3).reshape(height, width, separate * contiguous)
    values = _bright(values, page)
    swap, rows, columns = TURNS.get(_orientation(page), (False, False, False))
    values = values.swapaxes(0, 1) if swap else values
    return values[:: -1 if rows else 1, :: -1 if columns else 1]


def _bright(values: NDArray[Any], page: Any) -> NDArray[Any]:
    """The values of a page, higher ones where it is brighter."""
    inverted = page.photometric == MIN_IS_WHITE and values.dtype.kind == "u"
    return np.iinfo(values.dtype).max - values if inverted else values


def _orientation(page: Any) -> int:
    tag = page.tags.get("Orientation")
    return 1 if tag is None else int(tag.value)


def _number(tag: Any) -> float | None:
    """The number in a tag, which is text; None for none."""
    try:
        return None if tag is None else float(str(tag.value).rstrip("\0 "))
    except ValueError:
        return None
