"""How stable the prediction for an image is over the checkpoints of one training (ST++, Algorithm 2).

An image whose predicted mask hardly changes between checkpoints is probably labeled well. Its score compares the masks
of the earlier checkpoints with that of the last one, K:

    s = sum over j = 1..K-1 of meanIoU(mask_j, mask_K)

Three definitions of the score are known: "sum" (the paper), "mean" (the same divided by K-1, hence the same ranking)
and "all_pairs" (the mean of meanIoU over all pairs of checkpoints). Checkpoints are counted from 1.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stpp.errors import StppError
from stpp.labels import IGNORE
from stpp.scoring.metrics import confusion_matrix, joint_histogram, mean_iou

if TYPE_CHECKING:
    import pandas as pd

DEFINITIONS = ("sum", "mean", "all_pairs")

_MOST_BINS = 2**16
"""Largest joint histogram (3 checkpoints of 39 classes); beyond it, counting pair by pair is faster."""


def mask_mean_iou(a: NDArray[np.uint8], b: NDArray[np.uint8], classes: int) -> float:
    """Mean IoU of two uint8 masks over the classes that are present in either, in [0, 1].

    Pixels that are 255 in either mask are left out; NaN if no pixel remains. Symmetric. ValueError for values outside
    0..classes-1 and for masks of different shape.
    """
    return mean_iou(confusion_matrix(a, np.where(a == IGNORE, a, b), classes))


def pairs(checkpoints: int, definition: str) -> list[tuple[int, int]]:
    """The pairs of checkpoints, counted from 1, that a definition of the score compares.

    "sum" and "mean": (j, K) for every j < K. "all_pairs": (i, j) for every i < j.
    """
    if definition not in DEFINITIONS:
        raise StppError(f"Unknown stability score {definition!r}: use one of {', '.join(DEFINITIONS)}.")
    if checkpoints < 2:
        raise StppError(
            f"A stability score compares checkpoints, so it needs at least 2, and there is {checkpoints}: "
            "let the teacher save more."
        )
    return [
        (earlier, later)
        for earlier in range(1, checkpoints)
        for later in range(earlier + 1, checkpoints + 1)
        if definition == "all_pairs" or later == checkpoints
    ]


def stability_scores(
    masks: Sequence[NDArray[np.uint8]], classes: int, pair_list: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], int]:
    """`mask_mean_iou` of pairs of the K masks (H, W) of one image, float64 (len(pair_list),); classes of the last mask.

    The pixels are counted once, in a joint histogram of all K masks, whose marginals are the confusion matrices of all
    pairs. Values, left-out pixels and errors are those of `mask_mean_iou`.
    """
    if (classes + 1) ** len(masks) <= _MOST_BINS:
        joint = joint_histogram(masks, classes)
        others = [tuple(axis for axis in range(len(masks)) if axis not in (i - 1, j - 1)) for i, j in pair_list]
        histograms = [joint.sum(axis=axes) for axes in others]
    else:
        histograms = [joint_histogram([masks[i - 1], masks[j - 1]], classes) for i, j in pair_list]
    # The last bin is for the pixels that are 255 in a mask. The last pair ends with the last mask.
    scores = [mean_iou(histogram[:classes, :classes]) for histogram in histograms]
    return np.array(scores), int(np.count_nonzero(histograms[-1].sum(axis=0)[:classes]))


def scores_of(rows: NDArray[np.float64], checkpoints: int, definition: str) -> dict[str, NDArray[np.float64]]:
    """`sum` and `mean` of the comparisons with the last checkpoint, and `score`: float64 (N,) each.

    `rows` (N, 1 + pairs) are those of `compare_masks`.
    """
    compared = pairs(checkpoints, definition)
    values = rows[:, 1:]
    total = values[:, [column for column, (_, later) in enumerate(compared) if later == checkpoints]].sum(axis=1)
    mean = total / (checkpoints - 1)
    score = {"sum": total, "mean": mean, "all_pairs": values.mean(axis=1)}[definition]
    return {"sum": total, "mean": mean, "score": score}


def score_table(
    ids: Sequence[str], rows: NDArray[np.float64], ranks: NDArray[np.int64], checkpoints: int, definition: str
) -> "pd.DataFrame":
    """The scores of some images, from the rows (N, 1 + pairs) of `compare_masks` and their ranks among all.

    Columns: `id`; `classes`: the number of classes in the last checkpoint's mask; one `iou_{j}_{k}` for each of
    `pairs(K, definition)`; `sum` and `mean` of the comparisons with the last checkpoint, whatever the definition;
    `score`: what the definition says; `rank`: 1 for the most stable image, ties in the order of the list.
    """
    import pandas as pd

    compared = {f"iou_{i}_{j}": rows[:, column] for column, (i, j) in enumerate(pairs(checkpoints, definition), 1)}
    columns = {"classes": rows[:, 0].astype(np.int64)} | compared | scores_of(rows, checkpoints, definition)
    return pd.DataFrame({"id": list(ids)} | columns | {"rank": ranks})


def most_stable_first(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of `scores` (N,) from the highest to the lowest, ties in list order: int64 (N,)."""
    return np.argsort(-scores, kind="stable").astype(np.int64)


def ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each of `scores` (N,), from 1 for the highest, ties in list order: int64 (N,)."""
    result = np.empty(len(scores), np.int64)
    result[most_stable_first(scores)] = np.arange(1, len(scores) + 1)
    return result


def ahead(scores: NDArray[np.float64], others: NDArray[np.float64], *, earlier: bool) -> NDArray[np.int64]:
    """How many of `others` (M,) rank before each of `scores` (N,): int64 (N,).

    Those that are higher; and those that are as high, if the others come `earlier` in the list of images.
    """
    lower = np.searchsorted(np.sort(others), scores, side="left" if earlier else "right")
    return len(others) - lower.astype(np.int64)
