"""How stable the prediction for an image is over the checkpoints of one training (ST++, Algorithm 2).

An image whose predicted mask hardly changes between checkpoints is probably labeled well. Its score compares the masks
of the earlier checkpoints with that of the last one, K:

    s = sum over j = 1..K-1 of meanIoU(mask_j, mask_K)

Three definitions of the score are known: "sum" (the paper), "mean" (the same divided by K-1, hence the same ranking)
and "all_pairs" (the mean of meanIoU over all pairs of checkpoints). Checkpoints are counted from 1.

The mean IoU of two masks of one and the same class is 1, whether the class is right or wrong. So there are other ways
to compare two masks (`COMPARISONS`), which take the place of meanIoU above.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stpp.common.errors import StppError
from stpp.common.labels import IGNORE
from stpp.scoring.metrics import Confusion, confusion_matrix, iou, joint_histogram, mean_iou

if TYPE_CHECKING:
    import pandas as pd

DEFINITIONS = ("sum", "mean", "all_pairs")

COMPARISONS = ("miou", "foreground", "per_class", "soft")
"""How two masks are compared: by their mean IoU, the paper's way; by that of all classes but the first; class by class,
against what is usual for the class; or by a mean IoU in which a pixel counts by its confidence."""

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


def pair_confusions(
    masks: Sequence[NDArray[np.uint8]], classes: int, pair_list: Sequence[tuple[int, int]]
) -> tuple[list[Confusion], int]:
    """The confusion matrix of each pair of the K masks (H, W) of one image; the number of classes of the last mask.

    The pixels are counted once, in a joint histogram of all K masks, whose marginals are the confusion matrices of all
    pairs. Left-out pixels and errors are those of `mask_mean_iou`.
    """
    if (classes + 1) ** len(masks) <= _MOST_BINS:
        joint = joint_histogram(masks, classes)
        others = [tuple(axis for axis in range(len(masks)) if axis not in (i - 1, j - 1)) for i, j in pair_list]
        histograms = [joint.sum(axis=axes) for axes in others]
    else:
        histograms = [joint_histogram([masks[i - 1], masks[j - 1]], classes) for i, j in pair_list]
    # The last bin is for the pixels that are 255 in a mask. The last pair ends with the last mask.
    present = int(np.count_nonzero(histograms[-1].sum(axis=0)[:classes]))
    return [histogram[:classes, :classes] for histogram in histograms], present


def foreground_iou(confusion: Confusion) -> float:
    """Mean IoU over the classes that occur in either mask, but for the first class, the background; in [0, 1].

    0 where neither mask has another class: such masks say nothing of the foreground. NaN if no pixel was counted.
    """
    if not confusion.any():
        return float("nan")
    values = iou(confusion)[1:]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else 0.0


def soft_iou(
    confusion: Confusion,
    masks: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    confidences: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> float:
    """Mean over the classes in either of two masks of how surely they agree on the class, over its union; in [0, 1].

    As the mean IoU, but a pixel of the intersection counts by the lower of its two confidences, which are uint8 (H, W),
    n for n / 255. So masks of one and the same class score no more than the network was sure of them. `confusion` is
    that of the masks. NaN if no pixel was counted.
    """
    first, second = masks
    agreed = (first == second) & (first != IGNORE)
    lower = np.minimum(*confidences)[agreed]
    sure = np.bincount(first[agreed], weights=lower, minlength=len(confusion)) / 255
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diagonal(confusion)
    return float((sure / either.clip(min=1))[either > 0].mean()) if either.any() else float("nan")


def class_ious(confusions: Sequence[Confusion]) -> NDArray[np.float64]:
    """The IoU of each class, its mean over the pairs of masks in which it occurs: float64 (C,), NaN for no pair."""
    return _known_mean(np.array([iou(confusion) for confusion in confusions]), axis=0)


def usual_ious(parts: Iterable[NDArray[np.float64]], classes: int) -> NDArray[np.float64]:
    """The mean of `class_ious` over the images that have the class, float64 (C,); NaN where none has it.

    `parts` are the rows (N, C) of some images each.
    """
    total, count = np.zeros((2, classes))
    for rows in parts:
        # Image by image: the result does not depend on where a part ends.
        total = np.add.accumulate(np.vstack([total, np.nan_to_num(rows)]))[-1]
        count += np.count_nonzero(~np.isnan(rows), axis=0)
    return np.divide(total, count, out=np.full(classes, np.nan), where=count > 0)


def relative_scores(ious: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much more stable the classes of an image are than usual: the mean of (1 + IoU - usual) / 2, float64 (N,).

    `ious` (N, C) are rows of `class_ious`, `usual` (C,) is `usual_ious`. In [0, 1]; 0.5 is as stable as usual. Neither
    the number of classes nor which ones they are decides.
    """
    return _known_mean((1 + ious - usual) / 2, axis=1)


def _known_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean along an axis of the values that are not NaN; NaN where there are none."""
    count = np.count_nonzero(~np.isnan(values), axis=axis)
    total = np.nansum(values, axis=axis)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def scores_of(
    rows: NDArray[np.float64], checkpoints: int, definition: str, usual: NDArray[np.float64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """`sum` and `mean` of the comparisons with the last checkpoint, and `score`: float64 (N,) each.

    `rows` (N, 1 + pairs) are those of `compare_masks`. Where they have the IoU of each class, too, (N, 1 + pairs + C),
    `usual` says what is usual, and `score` is that of `relative_scores`.
    """
    compared = pairs(checkpoints, definition)
    values = rows[:, 1 : 1 + len(compared)]
    total = values[:, [column for column, (_, later) in enumerate(compared) if later == checkpoints]].sum(axis=1)
    mean = total / (checkpoints - 1)
    score = {"sum": total, "mean": mean, "all_pairs": values.mean(axis=1)}[definition]
    if usual is not None:
        score = relative_scores(rows[:, 1 + len(compared) :], usual)
    return {"sum": total, "mean": mean, "score": score}


def score_table(
    ids: Sequence[str],
    rows: NDArray[np.float64],
    ranks: NDArray[np.int64],
    compared: Sequence[tuple[int, int]],
    scores: Mapping[str, NDArray[np.float64]],
) -> "pd.DataFrame":
    """The scores of some images: their rows of `compare_masks`, their ranks among all, and what `scores_of` says.

    Columns: `id`; `classes`: the number of classes in the last checkpoint's mask; one `iou_{j}_{k}` for each of
    `pairs(K, definition)`; `sum` and `mean` of the comparisons with the last checkpoint, whatever the definition;
    `score`: what the definition says; `rank`: 1 for the most stable image, ties in the order of the list.
    """
    import pandas as pd

    alike = {f"iou_{i}_{j}": rows[:, column] for column, (i, j) in enumerate(compared, 1)}
    columns = {"classes": rows[:, 0].astype(np.int64), **alike, **scores}
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
