"""Formats of annotation tools: what they export, as images and masks, and back; a file for each format.

A file names its format, `NAMES = ("coco",)`, and says in a line `SUMMARY = "..."` what it reads. `find(source, classes,
images)` gives an `Export`. A format that can be written, too, says in a line `WRITES = "..."` what is written, and has
`files(labels, tolerance)`, which gives by the name of each file what writes it. Lines of their own let files be
recognised: `SIGNS = {...}` has, by suffix, patterns that all occur in the first or last part of a file; `FILE = True`
says that one file is a whole export; `MASKS_NAMED = "..."` is a pattern of the names of masks. Only the command line
knows these files: what they make is a data set like any other.

    parsing     JSON and XML, and what is wrong with them
    pictures    the images that an export speaks of
    drawing     from polygons, runs and bitmaps to masks
    gathering   from shapes with labels to an `Export`
    pairing     from masks that are pictures to an `Export`
    outlining   from masks to polygons
    mapping     where the pixels of a mask lie on a map
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BACKGROUND = "background"
"""The class of pixels that nobody annotated, where the export does not name it."""
GROUNDS = (BACKGROUND, "_background_", "Background", "BACKGROUND")
"""Labels that stand for class 0 wherever no class has their name."""
IGNORED = "__ignore__"
"""The label of pixels that are left out of everything, 255 in masks."""


class Annotated(NamedTuple):
    """An image and its mask.

    `name` is the path of both below their folders, without a suffix, "/" between folders; `image` the file, or what
    gives its bytes where the export holds them; `suffix` that of the image's name. `draw` gives the mask, uint8 (H, W),
    class 0..C-1 or 255 = ignore; it is None for an image that nobody annotated.
    """

    name: str
    image: Path | Callable[[], bytes]
    suffix: str
    draw: Callable[[], NDArray[np.uint8]] | None


class Export(NamedTuple):
    """What an importer found: the `classes` in label order, the images, and the files that it read.

    `left_out` says what was found and is in no mask, and `remarks` what was taken for granted: a noun phrase or a
    sentence each. `palette` has [r, g, b] of 0..255 for each class, or nothing where the export has no colours.
    """

    classes: Sequence[str]
    images: Sequence[Annotated]
    files: Sequence[Path]
    left_out: Sequence[str]
    palette: Sequence[Sequence[int]] = ()
    remarks: Sequence[str] = ()


class Labels(NamedTuple):
    """Masks to be written in a format.

    `classes` and `palette` are as in an `Export`. `images` has the file name of each image, "/" between folders, by the
    id of its mask, and `mask(id)` gives it: uint8 (H, W), class 0..C-1 or 255. `files` are the images, or other files
    with their georeference, by id, where they are known.
    """

    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    images: Mapping[str, str]
    mask: Callable[[str], NDArray[np.uint8]]
    files: Mapping[str, Path] = {}
