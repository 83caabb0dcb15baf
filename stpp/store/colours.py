"""One colour scheme for classes, wherever masks are drawn: in the report, by `stpp segment` and as files."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE
from stpp.store.masks import IGNORE_COLOUR, voc_palette

_SAFE = ["202024", "e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7"]
"""Okabe and Ito's colours."""


def class_colours(palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """uint8 (256, 3): the palette of the data set if it has its own; else, for up to 24 classes, colours that
    colour-blind readers tell apart, in three lightnesses. 255 has VOC's colour for it."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    if [list(colour) for colour in palette] == voc_palette(len(palette)) and len(palette) <= 3 * len(_SAFE):
        safe = np.array([list(bytes.fromhex(code)) for code in _SAFE], float)
        all_safe = np.concatenate([safe, safe * 0.4 + 255 * 0.6, safe * 0.55])
        colours[: len(palette)] = all_safe[: len(palette)].round()
    colours[IGNORE] = IGNORE_COLOUR
    return colours
