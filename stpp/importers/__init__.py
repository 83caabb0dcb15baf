"""Importers: what annotation tools export, as images and masks; a file for each format.

An importer names its format, `NAMES = ("labelme",)`, says in a line `SUMMARY = "..."` what it reads, and has
`find(source, classes)`, which gives an `Export`. Only the command line knows importers: what they write is a data set
like any other.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BACKGROUND = "background"
"""The class of pixels that nobody annotated, where the export does not name it."""


class Annotated(NamedTuple):
    """An image and its mask.

    `name` is the path of both below their folders, without a suffix, "/" between folders; `image` the file, or what
    gives its bytes where the export holds them; `suffix` that of the image's name. `draw` gives the mask, uint8 (H, W),
    class 0..C-1 or 255 = ignore.
    """

    name: str
    image: Path | Callable[[], bytes]
    suffix: str
    draw: Callable[[], NDArray[np.uint8]]


class Export(NamedTuple):
    """What an importer found: the `classes` in label order, the annotated images, and the files that it read.

    `left_out` says what was found and is in no mask, a noun phrase with its number each.
    """

    classes: Sequence[str]
    images: Sequence[Annotated]
    files: Sequence[Path]
    left_out: Sequence[str]
