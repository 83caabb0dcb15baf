"""Masks as the files of a data set have them: the other way round than reading."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.data.images import class_of, expected


def encoded(mask: NDArray[np.uint8], encoding: Mapping[str, Any]) -> NDArray[np.uint8]:
    """A mask, uint8 (H, W), class 0..C-1 or 255, as files of this encoding have it, so that `read_mask` gives it back.

    Values uint8 (H, W), or with a `palette_map` colours uint8 (H, W, 3). Raises StppError for a class that the encoding
    gives no value up to 255 or no colour.
    """
    by_colour = encoding.get("palette_map")
    first: dict[int | None, str] = {}
    for value in by_colour or map(str, (255, *range(255))):  # 255 first: it is black and white's second class
        first.setdefault(class_of(value.lower(), encoding), value)
    table = np.zeros((256, 3 if by_colour else 1), np.uint8)
    for label in np.unique(mask).tolist():
        if label not in first:
            named = "left out" if label == IGNORE else f"of class {label}"
            raise StppError(f"no mask value or colour stands for a pixel {named}: expected {expected(encoding)}")
        value = first[label]
        table[label] = list(bytes.fromhex(value[1:])) if by_colour else int(value)
    found = table[mask]
    return found if by_colour else found[..., 0]
