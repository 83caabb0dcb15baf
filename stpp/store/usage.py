"""How a model is used: the settings with which it reads images, and the colours of its classes."""

from stpp.runtime.faults import LEAST_SIDE, LEAST_TILE
from stpp.store.tensorfile import is_count

PRECISIONS = ("fp32", "bf16")
LARGEST = 1 << 20
"""Pixels of `long_side` and `tile`."""


def is_prediction(value: object) -> bool:
    """Whether it is the settings `prediction` of a configuration, or none."""
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) != {"precision", "long_side", "tile", "overlap"}:
        return False
    long_side, tile, overlap = value["long_side"], value["tile"], value["overlap"]
    return (
        value["precision"] in PRECISIONS
        and (long_side is None or is_count(long_side, LEAST_SIDE, LARGEST))
        and (tile is None or is_count(tile, LEAST_TILE, LARGEST))
        and ((overlap is None and tile is None) or is_count(overlap, 0, LARGEST if tile is None else tile - 1))
    )


def is_palette(value: object, classes: int) -> bool:
    """Whether it is a list of [r, g, b] of 0..255, one for each class, or none."""
    return value is None or (
        isinstance(value, list)
        and len(value) == classes
        and all(isinstance(colour, list) and len(colour) == 3 for colour in value)
        and all(is_count(part, 0, 255) for colour in value for part in colour)
    )
