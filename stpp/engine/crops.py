"""Two overlapping crops of one image, as DCC has them: where they are, and which places they share."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stpp.engine.batch import Batch
from stpp.engine.contrast import CELL


class CropPair(NamedTuple):
    """Two squares of `side` pixels, a multiple of CELL: their (top, left) corners, which differ by multiples of CELL.

    `mirrored` says which of them are seen from left to right.
    """

    side: int
    corners: tuple[tuple[int, int], tuple[int, int]]
    mirrored: tuple[bool, bool]


def pairs(batch: Batch, share: float, part: str) -> list[CropPair]:
    """Two crops of each unlabeled image, `share` as wide and high as it; they share at least a tenth of their union.

    As in DCC's code, the second one is drawn up to 50 times, and is the first one else.
    """
    height, width = batch.views[next(iter(batch.views))].shape[-2:]
    side = max(CELL, int(share * min(height, width)) // CELL * CELL)
    found = []
    for number in range(len(batch.views[next(iter(batch.views))])):
        rng = batch.draws("unlabeled", number, part)
        first = (int(rng.integers(height - side, endpoint=True)), int(rng.integers(width - side, endpoint=True)))
        second = first
        for _ in range(50):
            corner = (int(rng.integers(height - side, endpoint=True)), int(rng.integers(width - side, endpoint=True)))
            near = tuple(a + int((b - a) / CELL) * CELL for a, b in zip(first, corner))
            both = np.prod([side - abs(a - b) for a, b in zip(first, near)])
            if both > 0 and both / (2 * side**2 - both) >= 0.1:
                second = (near[0], near[1])
                break
        found.append(CropPair(side, (first, second), (bool(rng.integers(2)), bool(rng.integers(2)))))
    return found


def cut(values: Tensor, found: list[CropPair], number: int) -> Tensor:
    """The first (0) or the second (1) crop of each of `values` (U, ..., H, W), as it is seen."""
    crops = []
    for each, pair in zip(values, found, strict=True):
        top, left = pair.corners[number]
        crop = each[..., top : top + pair.side, left : left + pair.side]
        crops.append(crop.flip(-1) if pair.mirrored[number] else crop)
    return torch.stack(crops)


def shared(values: tuple[Tensor, Tensor], found: list[CropPair]) -> tuple[Tensor, Tensor]:
    """What both crops have of the places that they share, in the same order: each (P, ...).

    `values` (U, h, w, ...) are of the places of the first and of the second crops.
    """
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for image, pair in enumerate(found):
        for number in (0, 1):
            own = values[number][image]
            own = own.flip(1) if pair.mirrored[number] else own
            (top, left), (y, x) = pair.corners[number], pair.corners[1 - number]
            rows, columns = (_overlap((b - a) // CELL, len(own)) for a, b in ((top, y), (left, x)))
            kept[number].append(own[rows, columns].flatten(0, 1))
    return torch.cat(kept[0]), torch.cat(kept[1])


def _overlap(shift: int, count: int) -> slice:
    """Of `count` places of a side, those that a crop has as well which begins `shift` places later."""
    return slice(max(0, shift), count + min(0, shift))
