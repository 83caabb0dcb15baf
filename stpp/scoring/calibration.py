"""How right predictions are, by class and confidence, and what that says of predictions whose truth nobody knows.

Where a network of the same kind was compared with true masks that it had not learned from, the share of right pixels of
each class at each confidence is known. Weighted by how often another set of predictions has this class at this
confidence, it is an estimate of how many of those are right.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stpp.common.labels import IGNORE

LEVELS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Where each level of confidence begins; it ends where the next one begins, and the last one at 1."""
PRIOR = 1000
"""Pixels of a class that a level is taken to have beside its own, as right as the class is on the whole."""
_LEVEL = np.searchsorted(np.array(LEVELS) * 255, np.arange(256), side="right") - 1


def pixels_by_confidence(mask: NDArray[np.uint8], confidence: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """How many pixels of a mask are of each class at each level of confidence: int64 (classes, levels).

    Mask and confidence are uint8 (H, W), the latter in steps of 1/255; pixels that are 255 in the mask do not count.
    """
    joint = mask.astype(np.intp) * len(LEVELS) + _LEVEL[confidence]
    counts = np.bincount(joint.reshape(-1), minlength=(IGNORE + 1) * len(LEVELS))
    return counts.reshape(-1, len(LEVELS))[:classes]


def empty_counts(classes: int) -> NDArray[np.int64]:
    """What `pixels_by_confidence` gives for no pixel."""
    return np.zeros((classes, len(LEVELS)), np.int64)


def precision(right: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of right pixels of each class at each level, float64 (C, L) in [0, 1]; NaN for a class with no pixel.

    `pixels` and those that are `right` are of `pixels_by_confidence`. A level with few pixels is drawn towards the
    share of its class, as if it had `PRIOR` pixels more of that share.
    """
    of_class = _share(right.sum(axis=1), pixels.sum(axis=1))[:, None]
    shares: NDArray[np.float64] = (right + PRIOR * of_class) / (pixels + PRIOR)
    return shares


def expected_precision(pixels: NDArray[np.int64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of right pixels to be expected of each class, float64 (C,); NaN where nothing tells.

    `pixels` (C, L) are those of the predictions that are judged, `known` (C, L) what `precision` gave for others.
    """
    return _share((pixels * np.where(pixels > 0, known, 0)).sum(axis=1), pixels.sum(axis=1))


def level_names() -> list[str]:
    """What the levels are called, such as `0.5 to 0.6`."""
    return [f"{low:g} to {high:g}" for low, high in pairwise([*LEVELS, 1.0])]


def _share(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    """`part` of `whole`, NaN where that is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
