"""Readers: how the bytes of a file become pixels; a file for each family of formats.

A reader names the suffixes of its files, `NAMES = (".jpg", ".png", ...)`, in lower case. A file is read by the reader
that has its suffix, else as a `picture`, whose own bytes tell what it is. A reader has, where `content` is the file's
bytes if they are at hand,

- `image(path, content)`: a `Picture`
- `image_size(path, content)`: height and width of it, without decoding more than it must to say that it is whole, and
  a remark on what of it is not read, or ""
- `labels(path, content, by_colour, noisy)`: the labels of a mask as stored, (H, W): uint32 0xrrggbb for colours,
  another type for values; `by_colour` asks for colours where the format has both; a `noisy` mask may be one whose
  format does not keep labels exactly
- `mask_size(path, content, noisy)`: height and width of a mask, from its header; with `content`, whether all of it is
  there

and perhaps

- `glance(path, content)`: 256 bits (hex) that tell an image from others, and not from copies in other sizes or formats
- `colours(path, content)`: the colours "#rrggbb" of the values of a mask, where it has such
- `stored(path, content, pages)`: the bands of an image as they are stored, (H, W, number of bands), of any type; with
  `pages`, those of all pages of the file
- `stored_as(path, content, pages)`: what these are, from the header, as `Stored`
- `no_data(path)`: the value that stands for nothing in them, or None

All is upright. What cannot be read is an ImageError.
"""

import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError

RGB = ("red", "green", "blue")


class Picture(NamedTuple):
    """An image: `pixels` uint8 (H, W, number of bands), 0..255, writable, and what its `bands` are."""

    pixels: NDArray[np.uint8]
    bands: tuple[str, ...] = RGB


class Stored(NamedTuple):
    """How a file stores an image: its size once upright, the number of its bands, and the type of its values."""

    height: int
    width: int
    bands: int
    dtype: np.dtype[Any]


class ImageError(StppError):
    """One file that cannot be used: `what` is wrong with it, the `detail` of this file, and the `remedy`."""

    def __init__(self, path: str | Path, what: str, remedy: str, detail: str = "") -> None:
        self.what, self.remedy, self.detail = what, remedy, detail
        super().__init__(f"{path}: {what}{f' ({detail})' if detail else ''}. {remedy}")


def open_stream(path: str | Path) -> BufferedReader:
    """A file's bytes. Raises ImageError for a pipe or a device, which may have no end, and OSError."""
    if not stat.S_ISREG(kind := Path(path).stat().st_mode) and not stat.S_ISDIR(kind):
        raise ImageError(path, "no file but a pipe or a device", "Put the image itself there")
    return Path(path).open("rb")


def unreadable(path: str | Path, error: OSError) -> ImageError:
    """What the system's refusal to give the bytes of a file comes to."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ImageError(path, "no such file", "Correct the list or `root`, or copy the file there")
    return ImageError(path, "unreadable file", "Correct its permissions or place", error.strerror or "")
