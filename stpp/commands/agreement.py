"""How two sets of pseudo-labels of the same images differ, pixel by pixel."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from stpp.scoring.metrics import Confusion, iou, joint_histogram
from stpp.store.masks import MaskStore, first_labels


class Agreement(NamedTuple):
    """The pixels of the masks that are in A and in B, and the number of masks in `both` and in one `a` or `b` alone.

    `pixels` counts by label in A (row) and in B (column): int64 (C + 1, C + 1), the last for pixels without a label.
    """

    pixels: Confusion
    classes: Sequence[str]
    both: int
    a: int
    b: int


def compare_stores(a: Sequence[Path], b: Sequence[Path]) -> Agreement | None:
    """Compare the labels that the mask stores `a` give with those that `b` give; None if their classes differ.

    Several stores of one side complete one another: a pixel has the label of the first one that does not ignore it.
    Masks of one image that differ in size count as those of different images. One image is in memory at a time.
    Raises StppError for what is no mask store.
    """
    with ExitStack() as opened:
        sides = [[opened.enter_context(MaskStore(path)) for path in paths] for paths in (a, b)]
        classes = sides[0][0].classes
        if any(store.classes != classes for stores in sides for store in stores):
            return None
        where = [_by_image(stores) for stores in sides]
        common = [image for image in where[0] if image in where[1]]
        pixels = np.zeros((len(classes) + 1,) * 2, np.int64)
        both = 0
        for image in tqdm(common, desc="pseudo-labels", unit="img", delay=2, leave=False):
            masks = [first_labels([store[image] for store in side[image]]) for side in where]
            if masks[0].shape == masks[1].shape:
                both += 1
                pixels += joint_histogram(masks, len(classes))
        return Agreement(pixels, classes, both, len(where[0]) - both, len(where[1]) - both)


def _by_image(stores: Sequence[MaskStore]) -> dict[str, list[MaskStore]]:
    found: dict[str, list[MaskStore]] = {}
    for store in stores:
        for image in store.ids:
            found.setdefault(image, []).append(store)
    return found


def share_that_differs(pixels: Confusion) -> float:
    """Share of the pixels that have another label in B than in A, in [0, 1]."""
    return 1 - float(np.trace(pixels) / pixels.sum())


def by_class(pixels: Confusion, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """For each class its share of all pixels in `a` and in `b`, and the `iou` of these two sets of pixels, in [0, 1].

    `iou` is None where neither has the class. The last entry, `ignored`, is for pixels without a label, if any.
    """
    agreement = iou(pixels)
    for k, name in enumerate([*classes, "ignored"]):
        known = not np.isnan(agreement[k])
        if known or k < len(classes):
            shares = (float(counts.sum() / pixels.sum()) for counts in (pixels[k], pixels[:, k]))
            yield {"name": name, **dict(zip("ab", shares)), "iou": float(agreement[k]) if known else None}
