"""One annotated image for the tests of importers: a tree, and a house that is drawn over a part of it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny_data import photo, save

from stpp.importers import Export

SIZE = HEIGHT, WIDTH = 8, 10
TREE = [(1.0, 1.0), (6.0, 1.0), (6.0, 5.0), (1.0, 5.0)]
HOUSE = [(4.0, 2.0), (8.0, 2.0), (8.0, 3.0), (4.0, 3.0)]


def image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A photograph."""
    return save(path, photo(size=size))


def tree_pixels() -> NDArray[np.bool_]:
    """What the tree covers."""
    pixels = np.zeros(SIZE, bool)
    pixels[1:6, 1:7] = True
    return pixels


def house_pixels() -> NDArray[np.bool_]:
    """What the house covers."""
    pixels = np.zeros(SIZE, bool)
    pixels[2:4, 4:9] = True
    return pixels


def mask(tree: int = 1, house: int = 2, ground: int = 0) -> NDArray[np.uint8]:
    """The mask that both make, with these numbers."""
    return np.where(house_pixels(), house, np.where(tree_pixels(), tree, ground)).astype(np.uint8)


def masks(export: Export) -> dict[str, NDArray[np.uint8] | None]:
    """The masks of an export by the names of their images; None where there is none."""
    return {item.name: item.draw() if item.draw else None for item in export.images}


def flat(ring: list[tuple[float, float]]) -> list[float]:
    """x, y, x, y, ..."""
    return [value for corner in ring for value in corner]
