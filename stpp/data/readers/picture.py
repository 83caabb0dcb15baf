"""JPEG, PNG, TIFF, WebP, BMP and GIF, by Pillow: of a file with several frames the first, of a TIFF with several pages
none.

A file is turned upright as its EXIF orientation says (a PNG's only where it stands before the pixels), masks like
images.
"""

import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from stpp.common.errors import of_a_dead_loader
from stpp.data import signatures
from stpp.data.readers import ImageError, Picture, open_stream, unreadable

NAMES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")

# Pillow warns of large images (below its hard limit, which holds), odd metadata and the like; what matters is an error.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
MASK_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "I;16N")
SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4  # what a page of a TIFF file is: a tag, and bits of its value (TIFF 6.0)
SAMPLES = 277  # the tag with the number of bands
COLOURS = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "RGBX": 3}  # how many bands of an image are read
GREY = 40  # the largest difference of the channels of a pixel that JPEG makes of grey
TRANSPOSE = {  # EXIF orientation -> what brings the image upright (Exif 2.3, tag 0x0112)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image(path: str | Path, content: bytes | None = None) -> Picture:
    """An image as RGB. Grey and palette images are converted, transparency is dropped.

    Raises ImageError where the file is missing, damaged, of another format, larger than Pillow's limit against
    decompression bombs (179 million pixels), or has more than 8 bits a channel.
    """
    with open_image(path, content) as opened:
        return Picture(np.array(upright(opened, orientation(opened)).convert("RGB")))


def image_size(path: str | Path, content: bytes | None = None) -> tuple[int, int, str]:
    """Height and width of an image, and what of it is not read; it is decoded where its end does not tell that it is
    whole.
    """
    with open_image(path, content) as opened:
        remark = _unread_bands(opened)
        size = upright_size(opened)
        if not _seems_whole(opened):
            opened.load()  # which says for sure
        return *size, remark


def labels(
    path: str | Path, content: bytes | None = None, by_colour: bool = False, noisy: bool = False
) -> NDArray[Any]:
    """The labels of a mask: values of grey (1 to 16 bits) and palette masks, colours of RGB ones.

    `by_colour` asks for the colours of 8-bit grey and palette masks. A `noisy` mask may be a JPEG file, and where it is
    not read by colour, an RGB one without colours is taken as grey. Raises ImageError for what is no mask.
    """
    with open_mask(path, content, noisy) as opened:
        if noisy and not by_colour and opened.mode in ("RGB", "RGBA"):
            rgb = np.asarray(upright(opened, orientation(opened)).convert("RGB"))
            if np.ptp(rgb, axis=2).max() <= GREY:
                return np.asarray(rgb[..., 1])
        return raw_labels(opened, by_colour=by_colour)


def mask_size(path: str | Path, content: bytes | None = None, noisy: bool = False) -> tuple[int, int]:
    """Height and width of a mask; where its bytes are given, ImageError if they do not reach to its last row."""
    with open_mask(path, content, noisy) as opened:
        if content is not None and opened.format == "PNG" and not _has_all_rows(content):
            raise ImageError(path, "truncated or damaged file", "Copy or download it again", "rows are missing")
        return upright_size(opened)


def glance(path: str | Path, content: bytes | None = None) -> str:
    """What an image looks like, in 256 bits (hex): whether grey falls from each of 16 x 17 cells to the next one.

    Copies of another size or format differ in few of them. The whole file is decoded.
    """
    with open_image(path, content) as opened:
        turn = orientation(opened)
        opened.draft("L", (64, 64))  # which JPEG files are decoded smaller for
        small = upright(opened, turn).convert("L").resize((17, 16), Image.Resampling.BOX)
    cells = np.asarray(small)
    return np.packbits(cells[:, 1:] < cells[:, :-1]).tobytes().hex()


def colours(path: str | Path, content: bytes | None = None) -> dict[int, str]:
    """The colours "#rrggbb" of the values of a palette mask; nothing for other masks."""
    with open_file(path, content) as opened:
        if opened.mode not in ("P", "PA") or _is_grey_gif(opened):
            return {}
        packed = opened.getpalette("RGB") or []
        return {at // 3: f"#{bytes(packed[at : at + 3]).hex()}" for at in range(0, len(packed) - 2, 3)}


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def open_file(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """An image file, opened but not decoded; `content` is its bytes where they are at hand.

    Whatever goes wrong with it, here or while the block decodes it, becomes an ImageError.
    """
    try:
        with open_stream(path) if content is None else io.BytesIO(content) as stream:
            if stream.read(1) == b"":
                raise ImageError(path, "empty file", "Copy or download it again")
            with Image.open(stream, formats=FORMATS) as image:
                if 0 in image.size:
                    raise ImageError(path, "image without pixels", "Remove it from the list")
                if (pages := _pages(image)) > 1:
                    remedy = (
                        "Save each page as a file of its own, as `stpp import tiff-pages MASKS --images IMAGES --out "
                        "my-images` does; one page of several would be read alone"
                    )
                    raise ImageError(path, "TIFF file of several pages", remedy, f"{pages} pages")
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(path, content) from None
    except Image.DecompressionBombError:
        remedy = "Cut it into smaller images"
        raise ImageError(path, "more than 179 million pixels", remedy) from None
    except MemoryError:
        raise ImageError(path, "too large for the memory", "Cut it into smaller images") from None
    except OSError as error:
        if error.errno is not None:
            raise unreadable(path, error) from None
        raise _damaged(path, error) from error
    except Exception as error:  # Pillow's decoders meet damaged files with a dozen kinds of exceptions
        if of_a_dead_loader(error):
            raise
        raise _damaged(path, error) from error


def _unidentified(path: str | Path, content: bytes | None) -> ImageError:
    """What to say of a file that Pillow takes for no image."""
    if content is None:
        with open_stream(path) as stream:
            content = stream.read(signatures.HEAD)
            if content[:2] in (b"II", b"MM"):
                content += stream.read()  # the tags may lie at the end
    if (tiff := signatures.bands_of_tiff(content)) and tiff > (1, 8):
        bands, bits = tiff
        remedy = (
            f"Say which bands are read, such as `data.bands: {bands}`, and with more than 8 bits how they are scaled, "
            "such as `data.percentiles: [2, 98]`"
        )
        return ImageError(path, f"a TIFF file of {bands} {'band' if bands == 1 else 'bands'} of {bits} bits", remedy)
    if found := signatures.identified(content[: signatures.HEAD]):
        return ImageError(path, *found)
    remedy = "Convert it; other formats are not read"
    return ImageError(path, "not a readable JPEG, PNG, TIFF, WebP, BMP or GIF file", remedy)


def _damaged(path: str | Path, error: Exception) -> ImageError:
    return ImageError(path, "truncated or damaged file", "Copy or download it again", str(error))


@contextmanager
def open_image(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """`open_file` for an image that becomes 8-bit RGB. Raises ImageError for the others."""
    with open_file(path, content) as image:
        if image.mode not in IMAGE_MODES or ";16" in stored_mode(image):
            remedy = (
                "Say how many bands it has and how its values are scaled, such as `data.bands: 1` and "
                "`data.scale: [0, 4095]`; or convert it to 8 bits a channel"
            )
            raise ImageError(path, "not an 8-bit image", remedy, f"Pillow mode {stored_mode(image)}")
        yield image


@contextmanager
def open_mask(path: str | Path, content: bytes | None = None, noisy: bool = False) -> Iterator[Image.Image]:
    """`open_file` for a mask whose labels `raw_labels` can give. Raises ImageError for the others."""
    with open_file(path, content) as image:
        if image.format in ("JPEG", "MPO") and not noisy:
            remedy = (
                "JPEG blurs labels into each other: make the masks again as PNG from what they were drawn in. If you "
                "cannot: for masks in black and white write `threshold: 128`, for coloured ones a palette_map and "
                "`palette_tolerance: 32`"
            )
            raise ImageError(path, "JPEG file as a mask", remedy)
        if image.mode not in MASK_MODES or (";16" in stored_mode(image) and not image.mode.startswith("I")):
            remedy = "Masks are grey, palette or 8-bit RGB images"
            raise ImageError(path, "mask of an unknown kind", remedy, f"Pillow mode {stored_mode(image)}")
        yield image


def raw_labels(image: Image.Image, *, by_colour: bool) -> NDArray[Any]:
    """The labels of an opened mask as stored, upright, (H, W): uint32 0xrrggbb for colours, another type for values.

    `by_colour` reads 8-bit grey and palette masks by their colours; RGB(A) ones always are.
    """
    stored, turn = stored_mode(image), orientation(image)
    if is_coloured(image, by_colour):
        rgb = np.asarray(upright(image, turn).convert("RGB"), np.uint32)
        return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    picture = upright(image, turn)
    if _is_grey_gif(image):
        picture = picture.convert("L")
    values = np.asarray(picture.getchannel(0) if picture.mode in ("LA", "PA") else picture)
    # Pillow stretches grey values of 2 and 4 bits to 0..255 for display; a label is the number that was stored.
    if values.dtype == np.uint8 and image.mode == "L" and stored[1:] in (";2", ";4"):
        values = values // {";2": 85, ";4": 17}[stored[1:]]
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def is_coloured(image: Image.Image, by_colour: bool) -> bool:
    """Whether the labels of an opened mask are its colours."""
    return image.mode in ("RGB", "RGBA") or (by_colour and not image.mode.startswith("I"))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8, that is still to be applied to an image that is opened but not decoded."""
    if image.format == "TIFF":
        return 1  # Pillow itself turns these while decoding, and gives the turned size beforehand
    try:
        # The method of the base class: that of PNG images decodes all pixels in search of a late EXIF block.
        found = Image.Image.getexif(image).get(0x0112, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels; viewers ignore it as well
        return 1
    return found if found in TRANSPOSE else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The decoded image, without transparency, turned as an EXIF orientation says."""
    image.load()
    image.info.pop("transparency", None)
    return image.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened image once upright."""
    return image.size if orientation(image) >= 5 else (image.height, image.width)


def _is_grey_gif(image: Image.Image) -> bool:
    """Whether an image is a GIF file with nothing but grey in its palette: programs renumber these as they like."""
    if image.format != "GIF" or image.mode != "P":
        return False
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((np.ptp(palette, axis=1) == 0).all())


def _pages(image: Image.Image) -> int:
    """How many pictures of one size a TIFF file has; smaller versions of the first and masks of it do not count."""
    if not isinstance(image, TiffImageFile) or not image.is_animated:
        return 1
    size, pages = image.size, 1
    try:
        for page in range(1, image.n_frames):
            image.seek(page)
            pages += image.size == size and not image.tag_v2.get(SUBFILE_TYPE, 0) & (REDUCED | MASK)
    finally:
        image.seek(0)
    return pages


def _unread_bands(image: Image.Image) -> str:
    """What becomes of the bands of a TIFF file beyond grey or red, green and blue."""
    if (
        not isinstance(image, TiffImageFile)
        or not (extra := image.tag_v2.get(SAMPLES, 1) - COLOURS.get(image.mode, 99)) > 0
    ):
        return ""
    read = "first alone is" if COLOURS[image.mode] == 1 else "first three alone are"
    return f"{COLOURS[image.mode] + extra} bands, of which the {read} read"


def stored_mode(image: Image.Image) -> str:
    """How the pixels of an opened file are stored: "RGB;16B", "L;4" ...; the mode where the decoder does not say."""
    tiles = getattr(image, "tile", None)
    if not tiles or not tiles[0][3]:
        return image.mode
    arguments = tiles[0][3]
    return str(arguments if isinstance(arguments, str) else arguments[0])


def _has_all_rows(png: bytes) -> bool:
    """Whether the pixels of a PNG file reach to its last row; Pillow fills up with zeros, and zero is a class."""
    width, height, depth, colour, interlaced = (*struct.unpack_from(">IIBB", png, 16), png[28])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    parts, at = [], 8  # joined at the end: a file may have a million of them
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name == b"IDAT":
            parts.append(png[at + 8 : at + 8 + length])
        at += length + 12
    packed = b"".join(parts)
    # (first column, first row, step to the next column, to the next row) of the passes of an interlaced image
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    sizes = [
        (-(-(width - left) // right), -(-(height - top) // down))
        for left, top, right, down in (adam7 if interlaced else ((0, 0, 1, 1),))
    ]
    expected = sum((1 + -(-columns * bits // 8)) * rows for columns, rows in sizes if columns > 0 and rows > 0)
    return len(zlib.decompressobj().decompress(packed, expected)) == expected


def _seems_whole(image: Image.Image) -> bool:
    """Whether an opened file reaches as far as files of its format do; one that does not may still be whole."""
    stream = getattr(image, "fp", None)
    if stream is None:
        return image.format == "WEBP"  # which is read to its end when it is opened
    position = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - 16))
    tail: bytes = stream.read()
    stream.seek(position)
    if image.format == "PNG":
        return b"IEND" in tail
    if image.format == "GIF":
        return tail.rstrip(b"\0").endswith(b";")
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2  # offsets and lengths of strips, or of tiles
        offsets, lengths = (tags.get(strips, tags.get(tiles, ())) for strips, tiles in ((273, 324), (279, 325)))
        return len(offsets) > 0 and max(map(sum, zip(offsets, lengths))) <= end
    return tail.rstrip(b"\0").endswith(b"\xff\xd9")
