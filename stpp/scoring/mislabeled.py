"""Which labeled pixels are probably labeled wrong: those that a network which has not seen them contradicts for sure.

As in confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research, 2021), what counts
as sure is learned for each class: as sure as the network is, on average, of the pixels of this class that it gets
right. Thin lines do not count, because borders are never drawn to the pixel.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stpp.common.labels import IGNORE

BORDER = 2
"""Width (px) of what is taken off each side of a doubted region."""


class Suspect(NamedTuple):
    """The pixels of one image with the label `labeled` that are probably of class `predicted`.

    `share` is that of the image's pixels, without `BORDER` on each side of the regions, `confidence` their mean in
    [0, 1], and `box` what surrounds them: left, top, and one more than right and bottom.
    """

    labeled: int
    predicted: int
    share: float
    confidence: float
    box: tuple[int, int, int, int]

    @property
    def weight(self) -> float:
        """By which suspects are ranked: how much is doubted, and how surely."""
        return self.share * self.confidence


def confidence_sums(
    true: NDArray[np.uint8], predicted: NDArray[np.uint8], confidence: NDArray[np.float32], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The sum of the confidence of the right pixels of each class, and their number: both (classes,)."""
    right = (true == predicted) & (true != IGNORE)
    labels = true[right]
    sums = np.bincount(labels, confidence[right], minlength=classes).astype(np.float64)
    return sums, np.bincount(labels, minlength=classes).astype(np.int64)


def sure_from(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The confidence from which on each class is sure, float64 (classes,); infinite for one that is never right."""
    return np.divide(sums, counts, out=np.full(len(sums), np.inf), where=counts > 0)


def suspects(
    true: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    sure: NDArray[np.float64],
) -> list[Suspect]:
    """The suspects of one image, by labeled and predicted class; masks uint8 (H, W), confidence float32 (H, W).

    Pixels that are 255 in `true` are not doubted. `sure` is that of `sure_from`.
    """
    doubted = (true != IGNORE) & (true != predicted) & (confidence >= sure[np.minimum(predicted, len(sure) - 1)])
    found = []
    pairs = np.unique(np.stack([true[doubted], predicted[doubted]], axis=1), axis=0)
    for labeled, other in pairs.tolist():
        region = _without_border(doubted & (true == labeled) & (predicted == other))
        if region.any():
            rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
            box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
            found.append(Suspect(labeled, other, float(region.mean()), float(confidence[region].mean()), box))
    return found


def _without_border(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is left of a region, bool (H, W), `BORDER` px inside of its borders; the image's own are none."""
    padded = np.pad(region, BORDER, mode="edge")
    eroded = Image.fromarray(padded.astype(np.uint8)).filter(ImageFilter.MinFilter(2 * BORDER + 1))
    inside: NDArray[np.bool_] = np.asarray(eroded)[BORDER:-BORDER, BORDER:-BORDER] > 0
    return inside
