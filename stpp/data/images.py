"""Images and masks from files, as the rest of the program wants them: RGB, classes 0..C-1, 255 = ignore.

JPEG, PNG, TIFF and WebP are read, and of a file with several frames or pages the first. A file is turned upright as
its EXIF orientation says (a PNG's only where it stands before the pixels), masks like images.
"""

import io
import json
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stpp.errors import StppError, of_a_dead_loader
from stpp.labels import IGNORE

# Pillow warns of large images (below its hard limit, which holds), odd metadata and the like; what matters is an error.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
MASK_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "I;16N")
TRANSPOSE = {  # EXIF orientation -> what brings the image upright (Exif 2.3, tag 0x0112)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(StppError):
    """One file that cannot be used: `what` is wrong with it, the `detail` of this file, and the `remedy`."""

    def __init__(self, path: str | Path, what: str, remedy: str, detail: str = "") -> None:
        self.what, self.remedy, self.detail = what, remedy, detail
        super().__init__(f"{path}: {what}{f' ({detail})' if detail else ''}. {remedy}")


def read_image(path: str | Path, content: bytes | None = None) -> Image.Image:
    """An image as Pillow RGB, upright. Grey and palette images are converted, transparency is dropped.

    `content` is the file's bytes where they are at hand.

    Raises ImageError where the file is missing, damaged, of another format, larger than Pillow's limit against
    decompression bombs (179 million pixels), or has more than 8 bits a channel.
    """
    with open_image(path, content) as image:
        return upright(image, orientation(image)).convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image once upright, from its header alone. Raises ImageError as `read_image` does."""
    with open_image(path) as image:
        return upright_size(image)


def read_mask(path: str | Path, encoding: Mapping[str, Any], content: bytes | None = None) -> NDArray[np.uint8]:
    """A mask as uint8 (H, W), class 0..C-1 or 255 = ignore, upright. `class_of` says what `encoding` means, `content`
    is the file's bytes where they are at hand.

    Grey (1 to 16 bits) and palette masks hold values, RGB ones colours (transparency is dropped). With a
    `palette_map`, 8-bit grey and palette masks are read by their colours, too. Raises ImageError where the file cannot
    be read, and StppError where a pixel has no class.
    """
    with open_mask(path, content) as image:
        raw = raw_labels(image, by_colour=bool(encoding.get("palette_map")))
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
                    raise ImageError(path, "image without pixels", "Take it off the list")
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        remedy = "Convert it; other formats are not read"
        raise ImageError(path, "not a readable JPEG, PNG, TIFF or WebP file", remedy) from None
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


def open_stream(path: str | Path) -> BinaryIO:
    """A file's bytes. Raises ImageError for a pipe or a device, which may have no end, and OSError."""
    if not stat.S_ISREG(kind := Path(path).stat().st_mode) and not stat.S_ISDIR(kind):
        raise ImageError(path, "no file but a pipe or a device", "Put the image itself there")
    return Path(path).open("rb")


def unreadable(path: str | Path, error: OSError) -> ImageError:
    """What the system's refusal to give the bytes of a file comes to."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ImageError(path, "no such file", "Correct the list or `root`, or copy the file there")
    return ImageError(path, "unreadable file", "Correct its permissions or place", error.strerror or "")


def _damaged(path: str | Path, error: Exception) -> ImageError:
    return ImageError(path, "truncated or damaged file", "Copy or download it again", str(error))


@contextmanager
def open_image(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """`open_file` for an image that becomes 8-bit RGB. Raises ImageError for the others."""
    with open_file(path, content) as image:
        if image.mode not in IMAGE_MODES or ";16" in _stored_mode(image):
            remedy = "Convert it to 8 bits a channel; how its values are scaled is for you to choose"
            raise ImageError(path, "not an 8-bit image", remedy, f"Pillow mode {_stored_mode(image)}")
        yield image


@contextmanager
def open_mask(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """`open_file` for a mask whose labels `raw_labels` can give. Raises ImageError for the others."""
    with open_file(path, content) as image:
        if image.format in ("JPEG", "MPO"):
            remedy = "JPEG blurs labels into each other: make the masks again as PNG"
            raise ImageError(path, "JPEG file as a mask", remedy)
        if image.mode not in MASK_MODES or (";16" in _stored_mode(image) and not image.mode.startswith("I")):
            remedy = "Masks are grey, palette or 8-bit RGB images"
            raise ImageError(path, "mask of an unknown kind", remedy, f"Pillow mode {_stored_mode(image)}")
        yield image


def raw_labels(image: Image.Image, *, by_colour: bool) -> NDArray[Any]:
    """The labels of an opened mask as stored, upright, (H, W): uint32 0xrrggbb for colours, another type for values.

    `by_colour` reads 8-bit grey and palette masks by their colours; RGB(A) ones always are.
    """
    stored, turn = _stored_mode(image), orientation(image)
    if is_coloured(image, by_colour):
        rgb = np.asarray(upright(image, turn).convert("RGB"), np.uint32)
        return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    picture = upright(image, turn)
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


def _stored_mode(image: Image.Image) -> str:
    """How the pixels of an opened file are stored: "RGB;16B", "L;4" ...; the mode where the decoder does not say."""
    tiles = getattr(image, "tile", None)
    if not tiles or not tiles[0][3]:
        return image.mode
    arguments = tiles[0][3]
    return str(arguments if isinstance(arguments, str) else arguments[0])
